"""CheXNet's way with chest radiographs: one network, fourteen findings (Rajpurkar et al. 2017, as Zech 2018 has it).

"Pre-trained DenseNet-121, 224 x 224 pixels", "112,120 NIH chest x-rays, 70% train, 10% tune, 20% test", "14 diagnoses,
including pneumonia". Zech 2018 shows the head of the function that trained it: "loss criterion (binary cross entropy
loss, BCELoss)", "optimizer to use in training (SGD)", and it returns the "epoch on which best model val loss was
obtained". The rest is from its repository (jrzech/reproduce-chexnet, retrain.py and model.py): images mirrored at
random, a learning rate divided by ten after each epoch whose tuning loss is above the lowest yet, and an end after
three epochs without a lower one. Unlike there, the last layer starts from one that was learnt on the frozen features,
and batch normalisation keeps the statistics of the pre-training: with the few images that a machine without a GPU can
learn from, either makes the difference between a network that learns and one that does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.data.augment import Mirrored
from helpers.data.catalogue import FINDINGS, split_findings
from helpers.model.backbones import load_backbone, with_depths
from helpers.model.experiment import Inputs, Results, affordable, pixels_of, scores_of
from helpers.model.features import extract
from helpers.model.finetune import FinetuneSettings, finetune_ensemble, history_of, keep_networks
from helpers.model.head import fit_head
from helpers.run.profile import Profile

FEW = 5  # training images of a label, below which it is left out: nothing can be learnt from them
# The repository's: images a step, weight decay, and epochs without a lower tuning loss until training stops.
IMAGES_PER_STEP, WEIGHT_DECAY, PATIENCE = 16, 0.0001, 3
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)  # of the mean squared weight of the first head, tried for every label


@dataclass(frozen=True)
class MultilabelHead:
    """A sigmoid per label: float32 `kernel` (d, labels) and `bias` (labels,); `l2` (labels,) are the penalties."""

    kernel: np.ndarray
    bias: np.ndarray
    l2: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """A probability per label, float32 (n, labels), of features (n, d)."""
        return (0.5 * (1 + np.tanh(0.5 * (features @ self.kernel + self.bias)))).astype(np.float32)


def train_chexnet(inputs: Inputs) -> Results:
    """The fourteen-label network: a head on frozen features, then all layers, several times; the epoch that tuning
    patients chose.

    Scores hold, for every image that was not learnt from, `y_<label>` and `p_<label>`; selection "validation" is the
    network to use, with the `seed` of its training, "frozen" the one head on the frozen features. A label with fewer
    than `FEW` training images is left out with a warning, and scores then lack it.
    """
    catalogue, frame, settings = inputs.own.catalogue, inputs.own.frame.reset_index(drop=True), inputs.settings
    name, size = settings.chexnet_backbone or settings.backbone, settings.chexnet_size
    body = load_backbone(name, settings.weights, size, settings.seed)
    backbone = with_depths(body, settings.chexnet_depths, averages_only=True)
    labels, truth = learnable(frame)
    features = extract(settings, catalogue, backbone).of(frame["image_id"])
    penalties = [penalty / features.shape[1] for penalty in PENALTIES]
    head = fit_labels(features, truth, frame["split"], labels, penalties)
    learnt = np.flatnonzero(frame["split"].isin(("train", "validation")))
    pixels = pixels_of(catalogue, frame.iloc[learnt], backbone.image_size, settings.workers)
    split, given = frame["split"].iloc[learnt], (pixels, truth[learnt], frame["split"].iloc[learnt], labels)
    how = {"settings": recipe(settings, backbone.name, int((split == "train").sum())), "folder": inputs.unfinished}
    trained = finetune_ensemble(
        settings.trainings, backbone, lambda seed: Mirrored(pixels, seed), *given, **how, head=head
    ).networks
    summary = keep_networks(trained, inputs.fresh, settings.chexnet_depths, averages_only=True)
    held_out = (frame["split"] != "train").to_numpy()
    shown = pixels_of(catalogue, frame[held_out], backbone.image_size, settings.workers)
    found = [("validation", network.settings.seed, network.predict(shown)) for network in trained]
    found.append(("frozen", settings.seed, head.predict(features[held_out])))
    known = pd.DataFrame(truth[held_out], columns=[f"y_{label}" for label in labels])
    scores = [scores_of(frame[held_out], p, labels, name).join(known).assign(seed=seed) for name, seed, p in found]
    return Results(labels, {"scores": pd.concat(scores, ignore_index=True), "history": history_of(trained)}, summary)


def fit_labels(
    features: np.ndarray,
    truth: np.ndarray,
    split: pd.Series,
    labels: Sequence[str],
    penalties: Sequence[float],
) -> MultilabelHead:
    """One-vs-rest logistic regressions, one per label of `truth`, bool (n, labels), each as `fit_head` makes it.

    A label without positives in validation takes the penalty that is best for all labels together.
    """
    fits = [
        fit_head(features, np.where(known, label, f"no {label}"), split, (f"no {label}", label), penalties)
        for label, known in zip(labels, truth.T, strict=True)
    ]
    entropies = np.array([fit.entropies for fit in fits])
    chosen = entropies.argmin(axis=1)
    chosen[~truth[np.asarray(split) == "validation"].any(axis=0)] = entropies.mean(axis=0).argmin()
    heads = [fit.heads[k] for fit, k in zip(fits, chosen, strict=True)]
    kernel = np.stack([head.kernel[:, 1] - head.kernel[:, 0] for head in heads], axis=1)
    bias = np.array([head.bias[1] - head.bias[0] for head in heads])
    return MultilabelHead(kernel, bias, np.array([head.l2 for head in heads]))


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


def recipe(settings: Profile, backbone: str, images: int) -> FinetuneSettings:
    """The repository's recipe, cut where there is no GPU.

    SmallNet learns by Adam: in so few steps, gradient descent hardly lowers the tuning loss.
    """
    limit = (settings.chexnet_cpu_images, "chexnet_cpu_images")
    epochs, images = affordable("the network of fourteen labels", settings.chexnet_epochs, images, *limit)
    return FinetuneSettings(
        loss="sigmoid",
        schedule="plateau",
        trainable=settings.chexnet_layers or "all",
        epochs=epochs,
        batch=IMAGES_PER_STEP,
        learning_rate=settings.chexnet_learning_rate,
        weight_decay=WEIGHT_DECAY,
        patience=PATIENCE,
        standardise=settings.head_standardise,
        images_per_epoch=images,
        **({"optimizer": "adam", "clip_norm": 1.0} if backbone == "SmallNet" else {}),
        seed=settings.seed,
    )
