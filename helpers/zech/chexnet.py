"""CheXNet's way with chest radiographs: one network, fourteen findings (Rajpurkar et al. 2017, as Zech 2018 has it).

"Pre-trained DenseNet-121, 224 x 224 pixels", "112,120 NIH chest x-rays, 70% train, 10% tune, 20% test", "14 diagnoses,
including pneumonia". How it is trained is said in `multilabel`.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from helpers.data.augment import Mirrored
from helpers.data.catalogue import FINDINGS, split_findings
from helpers.model.backbones import load_backbone
from helpers.model.depths import averaged
from helpers.model.experiment import Inputs, Results, affordable, pixels_of
from helpers.model.features import extract_for
from helpers.model.finetune import ArraySource
from helpers.model.finetune_network import Scaling
from helpers.model.head_training import moments
from helpers.model.linear import MultilabelHead, fit_labels
from helpers.model.multilabel import Schedule, finetune_multilabel
from helpers.model.multilabel_run import MultilabelRun
from helpers.run.profile import Profile

FEW = 5  # training images of a label, below which it is left out: nothing can be learnt from them
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)  # of the mean squared weight of the first head, tried for every label


def train_chexnet(inputs: Inputs) -> Results:
    """The fourteen-label network: a head on frozen features, then all layers; the epoch that tuning patients chose.

    Scores hold, for every image that was not learnt from, `y_<label>` and `p_<label>`; selection "validation" is the
    network to use, "frozen" the head on the frozen features. A label with fewer than `FEW` training images is left out
    with a warning, and scores then lack it.
    """
    catalogue, frame, settings = inputs.own.catalogue, inputs.own.frame.reset_index(drop=True), inputs.settings
    name, size = settings.chexnet_backbone or settings.backbone, settings.chexnet_size
    backbone = averaged(load_backbone(name, settings.weights, size, settings.seed), settings.chexnet_depths)
    labels, truth = learnable(frame)
    features = extract_for(settings, catalogue, backbone).of(frame["image_id"])
    train, validation = (np.flatnonzero(frame["split"] == part) for part in ("train", "validation"))
    penalties = [penalty / features.shape[1] for penalty in PENALTIES]
    head = fit_labels(features, truth, train, validation, labels, penalties)
    learnt = np.sort(np.concatenate([train, validation]))
    pixels = pixels_of(catalogue, frame.iloc[learnt], backbone.image_size, settings.workers)
    scaling = Scaling(*moments(features, train)) if settings.head_standardise else None
    run = finetune_multilabel(
        backbone, Mirrored(pixels, settings.seed), ArraySource(pixels), truth[learnt], frame["split"].iloc[learnt],
        head, recipe(settings, backbone.name, len(train)), scaling, inputs.unfinished,
    )  # fmt: skip
    run = replace(run, depths=settings.chexnet_depths)
    run.save(inputs.fresh / "network")
    held_out = (frame["split"] != "train").to_numpy()
    pixels = pixels_of(catalogue, frame[held_out], backbone.image_size, settings.workers)  # replaces training images
    probabilities = {"validation": run.predict(pixels), "frozen": head.predict(features[held_out])}
    scores = [label_scores(frame[held_out], truth[held_out], p, labels, name) for name, p in probabilities.items()]
    tables = {"scores": pd.concat(scores, ignore_index=True), "history": run.history.assign(accuracy=np.nan)}
    return Results(labels, tables, _summary(run, head))


def learnable(frame: pd.DataFrame) -> tuple[tuple[str, ...], np.ndarray]:
    """The labels with enough training images, and the truth, bool (n, labels), of a split frame with `labels`."""
    found = split_findings(frame["labels"])
    count = found[frame["split"] == "train"].sum()
    labels = tuple(label for label in FINDINGS if count[label] >= FEW)
    if left_out := [f"{label} ({count[label]})" for label in FINDINGS if label not in labels]:
        text = f"labels with fewer than {FEW} training images are not learnt: {', '.join(left_out)}"
        warnings.warn(text, UserWarning, stacklevel=3)
    if not labels:
        raise ValueError(f"no label has {FEW} training images")
    return labels, found[list(labels)].to_numpy(bool)


def recipe(settings: Profile, backbone: str, images: int) -> Schedule:
    """The repository's recipe (`Schedule`), cut where there is no GPU.

    SmallNet diverges at its rate unless gradients are shortened; the repository shortens none.
    """
    limit = (settings.chexnet_cpu_images, "chexnet_cpu_images")
    epochs, images = affordable("the network of fourteen labels", settings.chexnet_epochs, images, *limit)
    return Schedule(
        epochs=epochs,
        learning_rate=settings.chexnet_learning_rate,
        layers=settings.chexnet_layers,
        images_per_epoch=images,
        clip_norm=1.0 if backbone == "SmallNet" else 0.0,
        seed=settings.seed,
    )


def label_scores(
    rows: pd.DataFrame, truth: np.ndarray, probabilities: np.ndarray, labels: tuple[str, ...], selection: str
) -> pd.DataFrame:
    """image_id, patient_id, label, split, selection, then `y_<label>` (bool) and `p_<label>` of each label."""
    kept = rows[["image_id", "patient_id", "label", "split"]].reset_index(drop=True).assign(selection=selection)
    known = pd.DataFrame(truth, columns=[f"y_{label}" for label in labels])
    return pd.concat([kept, known, pd.DataFrame(probabilities, columns=[f"p_{label}" for label in labels])], axis=1)


def _summary(run: MultilabelRun, head: MultilabelHead) -> dict[str, Any]:
    return {
        "backbone": run.backbone.name,
        "image size": run.backbone.image_size,
        "labels": len(run.labels),
        "chosen epoch": run.epoch,
        "epochs": int(run.history["epoch"].max()),
        "images an epoch": run.settings["images_per_epoch"],
        "weight penalties of the first head": ", ".join(f"{l2:g}" for l2 in sorted(set(head.l2 * len(head.kernel)))),
    }
