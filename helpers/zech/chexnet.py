"""CheXNet's way with chest radiographs: one network, fourteen findings (Rajpurkar et al. 2017, as Zech 2018 has it).

"Pre-trained DenseNet-121, 224 x 224 pixels", "112,120 NIH chest x-rays, 70% train, 10% tune, 20% test", "14 diagnoses,
including pneumonia". How it is trained is said in `multilabel`.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.model.multilabel import Schedule, finetune_multilabel
from helpers.model.multilabel_head import MultilabelHead, train_multilabel_head
from helpers.model.networks import Given, Made, affordable, pixels_of
from helpers.zech.data import FINDINGS, split_labels

if TYPE_CHECKING:
    from helpers.model.backbones import Backbone
    from helpers.model.finetune_network import Scaling
    from helpers.run.profile import Profile

FEW = 5  # training images of a label, below which it is left out: nothing can be learnt from them


class Mirrored:
    """Training images, half of them exchanged left for right, others in each epoch: "RandomHorizontalFlip"."""

    def __init__(self, pixels: np.ndarray, seed: int) -> None:
        """`pixels`: uint8 (n, h, w), held, not copied."""
        self._pixels, self._seed = pixels, seed
        content = hashlib.blake2b(np.ascontiguousarray(pixels), digest_size=8).hexdigest()
        self.key = f"mirrored {content} {seed}"

    def batch(self, epoch: int, rows: np.ndarray) -> np.ndarray:
        """uint8 (b, h, w); the same for the same epoch and row, in whatever batch."""
        turned = np.random.default_rng((self._seed, epoch, 14)).random(len(self._pixels)) < 0.5
        given = self._pixels[rows]
        return np.where(turned[rows][:, None, None], given[..., ::-1], given)


def chexnet(given: Given) -> Made:
    """The fourteen-label network: a head on frozen features, then all layers; the epoch that tuning patients chose.

    Scores hold, for every image that was not learnt from, `y_<label>` and `p_<label>`; selection "validation" is the
    network to use, "frozen" the head on the frozen features. A label with fewer than `FEW` training images is left out
    with a warning, and scores then lack it.
    """
    from helpers.model.backbones import load_backbone
    from helpers.model.depths import averaged
    from helpers.model.features import extract_for

    catalogue, frame, profile = given.own.catalogue, given.own.frame.reset_index(drop=True), given.profile
    backbone = load_backbone(
        profile.chexnet_backbone or profile.backbone, profile.weights, profile.chexnet_size, profile.seed
    )
    backbone = averaged(backbone, profile.chexnet_depths)
    labels, truth = learnable(frame)
    features = extract_for(profile, catalogue, backbone).of(frame["image_id"])
    head = train_multilabel_head(features, truth, frame["split"], labels, profile.chexnet_l2)
    learnt = np.flatnonzero(frame["split"].isin(("train", "validation")))
    pixels = pixels_of(catalogue, frame.iloc[learnt], backbone.image_size, profile.workers)
    scaling = _scaling(features[learnt], frame["split"].to_numpy()[learnt], profile)
    run = finetune_multilabel(
        backbone, *_sources(pixels, profile), truth[learnt], frame["split"].to_numpy()[learnt], head,
        schedule_of(profile, int((frame["split"] == "train").sum())), scaling, given.unfinished,
    )  # fmt: skip
    run = replace(run, depths=profile.chexnet_depths)
    run.save(given.fresh / "network")
    held_out = (frame["split"] != "train").to_numpy()
    rows, known = frame[held_out], truth[held_out]
    pixels = pixels_of(catalogue, rows, backbone.image_size, profile.workers)  # in the place of the training images
    scores = [
        multilabel_scores(rows, known, run.predict(pixels), labels, "validation"),
        multilabel_scores(rows, known, head.predict(features[held_out]), labels, "frozen"),
    ]
    history = run.history.assign(accuracy=np.nan)
    return Made(
        labels, {"scores": pd.concat(scores, ignore_index=True), "history": history}, _said(run, backbone, head)
    )


def learnable(frame: pd.DataFrame) -> tuple[tuple[str, ...], np.ndarray]:
    """The labels with enough training images, and the truth, bool (n, labels), of a split frame with `labels`."""
    found = split_labels(frame["labels"])
    count = found[frame["split"] == "train"].sum()
    labels = tuple(label for label in FINDINGS if count[label] >= FEW)
    if left_out := [f"{label} ({count[label]})" for label in FINDINGS if label not in labels]:
        told = f"labels with fewer than {FEW} training images are not learnt: {', '.join(left_out)}"
        warnings.warn(told, UserWarning, stacklevel=3)
    if not labels:
        raise ValueError(f"no label has {FEW} training images")
    return labels, found[list(labels)].to_numpy(bool)


def schedule_of(profile: Profile, images: int) -> Schedule:
    """The profile's recipe, cut where there is no GPU."""
    epochs, images = affordable(
        "the network of fourteen labels",
        profile.chexnet_epochs,
        images,
        profile.chexnet_cpu_images,
        "chexnet_cpu_images",
    )
    return Schedule(
        epochs=epochs,
        batch=profile.chexnet_batch,
        learning_rate=profile.chexnet_learning_rate,
        momentum=profile.chexnet_momentum,
        weight_decay=profile.chexnet_weight_decay,
        patience=profile.chexnet_patience,
        layers=profile.chexnet_layers,
        images_per_epoch=images,
        clip_norm=profile.chexnet_clip_norm,
        seed=profile.seed,
    )


def multilabel_scores(
    rows: pd.DataFrame, truth: np.ndarray, given: np.ndarray, labels: tuple[str, ...], selection: str
) -> pd.DataFrame:
    """image_id, patient_id, label, split, selection, then `y_<label>` (bool) and `p_<label>` of each label."""
    kept = rows[["image_id", "patient_id", "label", "split"]].reset_index(drop=True).assign(selection=selection)
    known = pd.DataFrame(truth, columns=[f"y_{label}" for label in labels])
    return pd.concat([kept, known, pd.DataFrame(given, columns=[f"p_{label}" for label in labels])], axis=1)


def _sources(pixels: np.ndarray, profile: Profile):
    from helpers.data.augment import LightAugmentation
    from helpers.model.finetune import ArraySource

    kind = {"mirror": Mirrored, "light": LightAugmentation}[profile.chexnet_augmentation]
    return kind(pixels, profile.seed), ArraySource(pixels)


def _scaling(features: np.ndarray, split: np.ndarray, profile: Profile) -> Scaling | None:
    """SmallNet's features differ in size, see `finetune_network.Scaling`; the profile says where that is so."""
    if not profile.head_standardise:
        return None
    from helpers.model.finetune_network import Scaling
    from helpers.model.head_training import moments

    return Scaling(*moments(features, np.flatnonzero(split == "train")))


def _said(run, backbone: Backbone, head: MultilabelHead) -> dict:
    return {
        "backbone": backbone.name,
        "image size": backbone.image_size,
        "labels": len(run.labels),
        "chosen epoch": run.epoch,
        "epochs": int(run.history["epoch"].max()),
        "images an epoch": run.settings["images_per_epoch"],
        "weight penalties of the first head": ", ".join(f"{value:g}" for value in sorted(set(head.l2))),
    }
