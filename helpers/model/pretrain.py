"""Pre-trains SmallNet on images made from formulas: `python -m helpers.model.pretrain`.

Writes helpers/model/weights/: three small files, and digests.json, which says how each was made and how well it tells
held-out images apart. *colour* and *grey* see the same images in colour and as their luma; *subset* is grey with a
quarter of the images (Rajkomar 2017 compares such three: ImageNet in colour, in grey, and a grey subset).
About 25 minutes on two cores. Threads add in no fixed order, so a rerun agrees closely, not to the bit; hence the
weights are committed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helpers.data.formula import formula_classes, formula_images
from helpers.model import formula_weights

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretraining:
    """How one file of weights is made."""

    seed: int = 1
    colour: bool = True
    per_class: int = 160  # training images a class
    held_out: int = 12  # images a class that are never trained on
    size: int = 96  # pixels a side of the images; crops are smaller
    crops: tuple[int, ...] = (64, 80, 96)  # one a batch, drawn at random
    batch: int = 96
    steps: int = 1500
    peak_rate: float = 0.004  # of AdamW, reached after a tenth of the steps, then down a cosine
    weight_decay: float = 0.02
    smoothing: float = 0.1  # of labels
    workers: int = 2


RECIPES = {
    "formula": Pretraining(),
    "formula-grey": Pretraining(colour=False),
    "formula-subset": Pretraining(colour=False, per_class=40),
}


def pretrain(recipe: Pretraining) -> tuple[keras.Model, dict[str, float]]:
    """SmallNet with a classifier of the formulas' classes, trained; and its held-out accuracy and other figures."""
    import keras

    images, labels = formula_images(recipe.per_class, recipe.seed, recipe.size, recipe.colour, workers=recipe.workers)
    held, held_labels = formula_images(
        recipe.held_out, recipe.seed, recipe.size, recipe.colour, first=recipe.per_class, workers=recipe.workers
    )
    keras.utils.set_random_seed(recipe.seed)
    model = classifier(len(formula_classes()))
    warm = recipe.steps // 10
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, recipe.steps - warm, warmup_target=recipe.peak_rate, warmup_steps=warm
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.smoothing),
        metrics=["accuracy"],
    )
    started, accuracy = time.perf_counter(), []
    for step, (batch, target) in enumerate(batches(images, labels, recipe), start=1):
        result = model.train_on_batch(batch, np.eye(len(formula_classes()), dtype=np.float32)[target], return_dict=True)
        accuracy.append(float(result["accuracy"]))
        if step % 100 == 0:
            log.info("step %d of %d: accuracy %.3f, %.0f s", step, recipe.steps, accuracy[-1], time.perf_counter() - started)
    predicted = model.predict(scaled(held), batch_size=128, verbose=0).argmax(1)
    figures = {
        "held_out_accuracy": round(float((predicted == held_labels).mean()), 4),
        "held_out_images": len(held_labels),
        "classes": len(formula_classes()),
        "training_images": len(labels),
        "training_seconds": round(time.perf_counter() - started),
    }
    return model, figures


def classifier(classes: int) -> keras.Model:
    """SmallNet on (batch, any, any, 3) scaled to -1..1, and logits of the classes."""
    import keras

    from helpers.model.smallnet import smallnet_features

    image = keras.Input((None, None, 3), name="image")
    return keras.Model(image, keras.layers.Dense(classes, name="classes")(smallnet_features(image)), name="SmallNet")


def scaled(images: np.ndarray) -> np.ndarray:
    """uint8 (n, size, size, 1 or 3) as the backbone's own layers would scale it: float32 (n, size, size, 3), -1..1."""
    return np.broadcast_to(images, (*images.shape[:3], 3)).astype(np.float32) / 127.5 - 1


def batches(images: np.ndarray, labels: np.ndarray, recipe: Pretraining) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`recipe.steps` augmented batches: epochs of shuffled images, each batch cropped to one of the crop sizes."""
    rng = np.random.default_rng([recipe.seed, 7])
    order = np.empty(0, int)
    for _ in range(recipe.steps):
        if len(order) < recipe.batch:
            order = np.concatenate([order, rng.permutation(len(labels))])
        chosen, order = order[: recipe.batch], order[recipe.batch :]
        yield scaled(augment(images[chosen], rng, int(rng.choice(recipe.crops)))), labels[chosen]


def augment(images: np.ndarray, rng: np.random.Generator, crop: int) -> np.ndarray:
    """Crop, flips, quarter turns, contrast, brightness, speckle and noise: float32 (n, crop, crop, channels), 0..255."""
    n, size = images.shape[:2]
    top, left = rng.integers(0, size - crop + 1, 2)
    x = images[:, top : top + crop, left : left + crop].astype(np.float32)
    for axis in (1, 2):
        flipped = rng.random(n) < 0.5
        x[flipped] = np.flip(x[flipped], axis)
    turned = rng.random(n) < 0.5
    x[turned] = x[turned].swapaxes(1, 2)
    gain, shift = rng.uniform(0.5, 1.2, (n, 1, 1, 1)), rng.uniform(-40, 40, (n, 1, 1, 1))
    x = (x - 127.5) * gain.astype(np.float32) + 127.5 + shift.astype(np.float32)
    speckle = rng.standard_normal((*x.shape[:3], 1), dtype=np.float32)  # grey, as a sensor's is
    amount = (rng.uniform(0, 0.35, (n, 1, 1, 1)) * (rng.random((n, 1, 1, 1)) < 0.5)).astype(np.float32)
    noise = (rng.uniform(0, 25, (n, 1, 1, 1)) * (rng.random((n, 1, 1, 1)) < 0.5)).astype(np.float32)
    return np.clip(x * (1 + amount * speckle) + noise * speckle, 0, 255)
