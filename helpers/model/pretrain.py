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
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helpers.data.formula import classes_digest, formula_classes, formula_images
from helpers.model import formula_weights
from helpers.profile import nearest

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


RECIPES = {"formula": Pretraining(colour=False)}


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
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    started, accuracy = time.perf_counter(), []
    for step, (batch, target) in enumerate(batches(images, labels, recipe), start=1):
        result = model.train_on_batch(batch, target, return_dict=True)
        accuracy.append(float(result["accuracy"]))
        if step % 100 == 0:
            log.info("step %d of %d: accuracy %.3f", step, recipe.steps, np.mean(accuracy[-100:]))
    _round_kernels(model)
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
    shares = np.eye(len(formula_classes()), dtype=np.float32)
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


def package(model: keras.Model, word: str, recipe: Pretraining, figures: dict) -> Path:
    """Write the trained features of `model` as the packaged file of `word`, and its line in the record."""
    from helpers.model.backbones import load_backbone, weights_digest

    body = load_backbone("SmallNet", "none").model
    for layer in body.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    formula_weights.FOLDER.mkdir(exist_ok=True)
    path = formula_weights.FOLDER / formula_weights.FILES[word]
    with tempfile.TemporaryDirectory() as folder:
        body.save_weights(Path(folder) / "whole.weights.h5")
        _compact(Path(folder) / "whole.weights.h5", path)
    entry = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "weights_digest": weights_digest(body),
        "made_by": "python -m helpers.model.pretrain",
        "recipe": asdict(recipe),
        "classes_digest": classes_digest(),
        **figures,
        "versions": {name: version(name) for name in ("tensorflow", "keras", "numpy", "scipy", "pillow")},
        "python": platform.python_version(),
    }
    known = json.loads(formula_weights.DIGESTS.read_text(encoding="utf-8")) if formula_weights.DIGESTS.exists() else {}
    text = json.dumps(known | {path.name: entry}, indent=2, sort_keys=True)
    formula_weights.DIGESTS.write_text(text + "\n", encoding="utf-8")
    return path


def _round_kernels(model: keras.Model) -> None:
    """Kernels to what half precision holds, before anything is measured: the packaged file is half as large for it."""
    model.set_weights([w.astype(np.float16).astype(w.dtype) if w.ndim == 4 else w for w in model.get_weights()])


def _compact(source: Path, target: Path) -> None:
    """Keras's own layout, with kernels stored in half precision and everything compressed."""
    import h5py

    with h5py.File(source) as whole, h5py.File(target, "w", libver="latest") as small:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group):
                made = small.require_group(name)
            else:
                dtype = np.float16 if item.ndim == 4 else item.dtype
                packing = {"compression": "gzip", "compression_opts": 9, "shuffle": True} if item.size > 64 else {}
                made = small.create_dataset(name, data=item[()].astype(dtype), **packing)
            made.attrs.update(item.attrs)

        small.attrs.update(whole.attrs)
        whole.visititems(copy)


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
