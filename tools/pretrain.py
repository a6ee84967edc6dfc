"""Pre-trains SmallNet on images made from formulas: `python -m tools.pretrain`.

Writes helpers/model/weights/: three small files, and digests.json, which says how each was made and how well it tells
held-out images apart. Rajkomar 2017, Model Creation and Selection, compares three such pre-trainings: ImageNet in
colour; all of it in grey; and "retraining color ImageNet with a greyscale subset of 100 image classes from five
categories [...] that we felt were most similar to our images". Here *formula_colour* and *formula* (also called
*formula_grey*) see the same images in colour and as their luma, and *formula_subset* is *formula_colour* trained on
with the grey images of a quarter of the classes. Unlike the paper's full-grey model, *formula* starts from nothing.
About 10 minutes on two cores. Threads add in no fixed order, so a rerun agrees closely, not to the bit; hence the
weights are committed.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from helpers.run.profile import nearest
from tools.formula import formula_classes, formula_images
from tools.formula_packing import copy_body, package, packaged, round_kernels

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
    crops: tuple[int, ...] = (48, 64)  # one a batch, drawn at random
    batch: int = 96
    steps: int = 1500
    peak_rate: float = 0.004  # of AdamW, reached after a tenth of the steps, then down a cosine
    weight_decay: float = 0.02
    workers: int = 2
    start: str = ""  # packaged weights that it goes on from; none: random ones
    families: tuple[str, ...] = ()  # how the names of the classes used begin; none: all classes
    mantissa: int = 10  # bits of a kernel's fraction that are kept; fewer make a smaller file

    def labels(self) -> list[int]:
        """The classes used, as positions in `formula_classes`."""
        return [i for i, name in enumerate(formula_classes()) if not self.families or name.startswith(self.families)]


# What a radiograph has: texture, soft folded layers, soft blobs, grain, a spot on plain ground. Chosen by what they
# draw, before any result was seen.
RADIOGRAPH_LIKE = (
    "noise",
    "bands soft",
    "bands folded",
    "spots soft",
    "spots balls",
    "spots bubbles",
    "turing",
    "plain",
)
RECIPES = {
    "formula": Pretraining(colour=False),
    "formula_colour": Pretraining(mantissa=7),
    "formula_subset": Pretraining(
        colour=False, start="formula_colour", families=RADIOGRAPH_LIKE, steps=500, peak_rate=0.001, mantissa=7
    ),
}


def pretrain(recipe: Pretraining) -> tuple[keras.Model, dict[str, object]]:
    """SmallNet with a classifier of the formulas' classes, trained; and its held-out accuracy and other figures."""
    import keras

    images, labels = drawn(recipe, recipe.per_class)
    held, held_labels = drawn(recipe, recipe.held_out, first=recipe.per_class)
    keras.utils.set_random_seed(recipe.seed)
    model = classifier(len(recipe.labels()))
    if recipe.start:
        copy_body(packaged(recipe.start), model)
    warm = recipe.steps // 10
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, recipe.steps - warm, warmup_target=recipe.peak_rate, warmup_steps=warm
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    started, accuracy = time.perf_counter(), []
    for step, (batch, target) in enumerate(batches(images, labels, recipe), start=1):
        result = model.train_on_batch(batch, target, return_dict=True)
        accuracy.append(float(result["accuracy"]))
        if step % 100 == 0:
            log.info("step %d of %d: accuracy %.3f", step, recipe.steps, np.mean(accuracy[-100:]))
    round_kernels(model, recipe.mantissa)
    predicted = model.predict(scaled(held), batch_size=128, verbose=0).argmax(1)
    figures = {
        "held_out_accuracy": round(float((predicted == held_labels).mean()), 4),
        "held_out_images": len(held_labels),
        "classes": len(recipe.labels()),
        "training_images": len(labels),
        "training_seconds": round(time.perf_counter() - started),
    }
    if recipe.families:
        figures["class_names"] = [formula_classes()[label] for label in recipe.labels()]
    return model, figures


def drawn(recipe: Pretraining, per_class: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The images of the recipe's classes, as `formula_images` gives them, and positions among those classes."""
    images, labels = formula_images(per_class, recipe.seed, recipe.size, recipe.colour, first, recipe.workers)
    if not recipe.families:
        return images, labels
    used = np.isin(labels, recipe.labels())
    return images[used], np.searchsorted(recipe.labels(), labels[used])


def classifier(classes: int) -> keras.Model:
    """SmallNet on (batch, any, any, 3) scaled to -1..1, and logits of the classes."""
    import keras

    from helpers.model.smallnet import smallnet_stages

    image = keras.Input((None, None, 3), name="image")
    pooled = [keras.layers.GlobalAveragePooling2D()(maps) for maps in smallnet_stages(image)[-2:]]
    logits = keras.layers.Dense(classes, name="classes")(keras.layers.Concatenate()(pooled))
    return keras.Model(image, logits, name="SmallNet")


def scaled(images: np.ndarray) -> np.ndarray:
    """uint8 (n, size, size, 1 or 3) as the backbone's own layers would scale it: float32 (n, size, size, 3), -1..1."""
    return np.broadcast_to(images, (*images.shape[:3], 3)).astype(np.float32) / 127.5 - 1


def batches(images: np.ndarray, labels: np.ndarray, recipe: Pretraining) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`recipe.steps` augmented batches and their classes' shares (n, classes): epochs of shuffled images.

    Each batch is cropped to one of the crop sizes, and half of its images get patches of another.
    """
    rng = np.random.default_rng([recipe.seed, 7])
    shares = np.eye(len(recipe.labels()), dtype=np.float32)
    order = np.empty(0, int)
    for _ in range(recipe.steps):
        if len(order) < recipe.batch:
            order = np.concatenate([order, rng.permutation(len(labels))])
        chosen, order = order[: recipe.batch], order[recipe.batch :]
        pixels = augment(images[chosen], rng, int(rng.choice(recipe.crops)))
        pixels, target = patched(pixels, shares[labels[chosen]], rng)
        yield scaled(noisy(pixels, rng)), target


def augment(images: np.ndarray, rng: np.random.Generator, crop: int) -> np.ndarray:
    """Crop, flips, quarter turns, contrast and brightness: float32 (n, crop, crop, channels), about 0..255."""
    n, size = images.shape[:2]
    top, left = rng.integers(0, size - crop + 1, 2)
    x = images[:, top : top + crop, left : left + crop].astype(np.float32)
    for axis in (1, 2):
        flipped = rng.random(n) < 0.5
        x[flipped] = np.flip(x[flipped], axis)
    turned = rng.random(n) < 0.5
    x[turned] = x[turned].swapaxes(1, 2)
    gain, shift = rng.uniform(0.4, 1.2, (n, 1, 1, 1)), rng.uniform(-50, 50, (n, 1, 1, 1))
    return (x - 127.5) * gain.astype(np.float32) + 127.5 + shift.astype(np.float32)


def patched(x: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ovals of another image set into half of the images, and the classes' shares by area (after CutMix: Yun 2019).

    So a small patch of another texture must show in features that are averaged over the image, as a lesion must.
    """
    n, side = x.shape[:2]
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j].astype(np.float32)
    inside = np.zeros((n, side, side), bool)
    for _ in range(3):
        place = rng.uniform(-1, 1, (2, n, 1, 1)).astype(np.float32)
        radius = rng.uniform(0.12, 0.5, (2, n, 1, 1)).astype(np.float32)
        drawn = rng.random((n, 1, 1)) < 0.3
        inside |= drawn & (((rows - place[0]) / radius[0]) ** 2 + ((columns - place[1]) / radius[1]) ** 2 < 1)
    other = rng.permutation(n)
    share = inside.mean((1, 2), dtype=np.float32)[:, None]
    return np.where(inside[..., None], x[other], x), (1 - share) * target + share * target[other]


def noisy(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Speckle (multiplied) and noise (added), fine or coarse by two pixels, each on half of the images: 0..255."""
    n, side = x.shape[:2]
    grain = rng.standard_normal((n, side, side, 1), dtype=np.float32)
    coarse = rng.random(n) < 0.3
    half = grain[coarse, : side // 2, : side // 2]
    grain[coarse] = np.repeat(np.repeat(half, 2, 1), 2, 2)
    speckle, added = (rng.uniform(0, most, (n, 1, 1, 1)) * (rng.random((n, 1, 1, 1)) < 0.5) for most in (0.4, 30))
    return np.clip(x * (1 + speckle.astype(np.float32) * grain) + added.astype(np.float32) * grain, 0, 255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="*", default=list(RECIPES), help=f"which of {', '.join(RECIPES)}; all of them")
    parser.add_argument("--steps", type=int, help="fewer, to try it out")
    given = parser.parse_args()
    if unknown := [word for word in given.weights if word not in RECIPES]:
        parser.error(f"unknown weights {unknown[0]}{nearest(unknown[0], RECIPES)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for word in given.weights:
        recipe = replace(RECIPES[word], steps=given.steps) if given.steps else RECIPES[word]
        model, figures = pretrain(recipe)
        log.info("%s: %s", package(model, word, recipe, figures), figures)


if __name__ == "__main__":
    main()
