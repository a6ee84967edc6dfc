"""Pre-trainings that are run once: SmallNet on images made from formulas, and an ImageNet network again in grey.

    python -m tools.pretrain                     SmallNet's packaged weights, about 10 minutes on two cores
    python -m tools.pretrain grey IMAGENET GREY.weights.h5 --backbone InceptionV3
    python -m tools.pretrain grey IMAGENET SUBSET.weights.h5 --backbone InceptionV3 --classes subset.txt
    make reproduce PROFILE=paper VIEW_GREY=GREY.weights.h5 VIEW_SUBSET=SUBSET.weights.h5

Rajkomar 2017, Model Creation and Selection, compares three pre-trainings: ImageNet in colour; "we converted all images
in the ILSVRC 2015 repository to greyscale and used these to retrain the initial model. We also created a
"subset-greyscale ImageNet" model by retraining color ImageNet with a greyscale subset of 100 image classes from five
categories [...] that we felt were most similar to our images". SmallNet's *formula_colour* and *formula* (also called
*formula_grey*) see the same images in colour and as their luma, and *formula_subset* is *formula_colour* trained on
with the grey images of a quarter of the classes. Unlike the paper's full-grey model, *formula* starts from nothing.
They lie in helpers/model/weights/, with digests.json, which says how each was made and how well it classifies held-out
images. Threads add in no fixed order, so a rerun agrees closely, not to the bit; hence the weights are committed.

IMAGENET holds train/<class>/*.JPEG and val/<class>/*.JPEG; `--classes` names a file with one class folder per
line. Which 100 classes the paper took is not known. The classifier's own last layer is not published with Keras's
weights, so it starts anew. Without a GPU this takes days; a killed run goes on from its last checkpoint, beside the
target.
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

import keras
import numpy as np

from helpers.data.images import read_square
from helpers.model import backbones
from helpers.model.architectures import smallnet_stages
from helpers.model.backbones import load_backbone, weights_digest
from helpers.model.finetune import FinetuneSettings, finetune
from helpers.run.profile import nearest
from helpers.run.provenance import write_json
from tools.formula import classes_digest, formula_classes, formula_images

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretraining:
    """How one file of weights is made."""

    seed: int = 1
    colour: bool = True
    per_class: int = 160  # training images per class
    held_out: int = 12  # images per class that are never trained on
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
    images, labels = drawn(recipe, recipe.per_class)
    held, held_labels = drawn(recipe, recipe.held_out, first=recipe.per_class)
    keras.utils.set_random_seed(recipe.seed)
    model = classifier(len(recipe.labels()))
    if recipe.start:
        copy_body(load_backbone("SmallNet", recipe.start).model, model)
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


# --- the packaged files ---


def package(model: keras.Model, word: str, recipe: Pretraining, figures: dict) -> Path:
    """Write the trained features of `model` as the packaged file of `word`, and its line in the record."""
    body = load_backbone("SmallNet", "none").model
    copy_body(model, body)
    path, record = backbones.WEIGHTS_FOLDER / backbones.FORMULA_WEIGHTS[word], backbones.WEIGHTS_FOLDER / "digests.json"
    with tempfile.TemporaryDirectory() as folder:
        body.save_weights(Path(folder) / "whole.weights.h5")
        _compact(Path(folder) / "whole.weights.h5", path)
    entry = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "weights_digest": weights_digest(body),
        "made_by": "python -m tools.pretrain",
        "recipe": asdict(recipe),
        "classes_digest": classes_digest(),
        **figures,
        "versions": {name: version(name) for name in ("tensorflow", "keras", "numpy", "scipy", "pillow")},
        "python": platform.python_version(),
    }
    known = json.loads(record.read_text(encoding="utf-8"))
    record.write_text(json.dumps(known | {path.name: entry}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return path


def copy_body(source: keras.Model, target: keras.Model) -> None:
    """The weights of SmallNet's own layers, from a backbone to a classifier or back."""
    for layer in target.layers:
        if layer.weights and layer.name != "classes":
            layer.set_weights(source.get_layer(layer.name).get_weights())


def round_kernels(model: keras.Model, mantissa: int) -> None:
    """Kernels to what the packaged file will hold, before anything is measured: half precision, or fewer bits of it."""
    spare = 10 - mantissa
    half = (1 << spare) >> 1

    def rounded(kernel: np.ndarray) -> np.ndarray:
        bits = (kernel.astype(np.float16).view(np.uint16) + np.uint16(half)) >> spare << spare
        return bits.view(np.float16).astype(kernel.dtype)

    model.set_weights([rounded(w) if w.ndim == 4 else w for w in model.get_weights()])


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


# --- ImageNet in grey ---

SUFFIXES = (".jpeg", ".jpg", ".png")
# "we retrained the initial GoogLeNet model for 30 epochs with a base learning rate of 0.0005 that was reduced tenfold
# every ten epochs. The parameters were optimized using a Nesterov solver with a minibatch size of 24, momentum of 0.9,
# and weight decay of 0.0005. We allowed all layers to be fine-tuned."
PUBLISHED = FinetuneSettings(nesterov=True)


class FolderSource:
    """Images of a list of files, turned grey and squashed to `size`, read when they are asked for."""

    def __init__(self, files: list[Path], size: int) -> None:
        self.files, self.size = files, size

    def batch(self, epoch: int, rows: np.ndarray) -> np.ndarray:
        """uint8 (b, size, size), the same in every epoch. Raises `UnreadableImage` for a broken file."""
        return np.stack([read_square(self.files[row], self.size) for row in rows])


def retrain(
    imagenet: Path,
    target: Path,
    backbone: str,
    classes: list[str] | None = None,
    settings: FinetuneSettings = PUBLISHED,
) -> Path:
    """Write the retrained backbone's weights to `target` (.weights.h5), with a record of how they came about beside it.

    Raises `FileNotFoundError` where train/, val/ or the folder of a class is missing, and what `load_backbone` raises.
    """
    if not target.name.endswith(".weights.h5"):
        raise ValueError(f"{target}: the name of a weights file ends in .weights.h5")
    colour = load_backbone(backbone, "imagenet")
    names = classes or sorted(path.name for path in _folder(imagenet, "train").iterdir() if path.is_dir())
    found = [
        (part, name, path) for part in ("train", "val") for name in names for path in _images(imagenet, part, name)
    ]
    source = FolderSource([path for _, _, path in found], colour.image_size)
    codes = np.array([names.index(name) for _, name, _ in found])
    split = np.array(["train" if part == "train" else "validation" for part, _, _ in found])
    run = finetune(colour, source, source, codes, split, names, settings, target.with_suffix(".unfinished"))
    colour.model.set_weights(run.weights[:-2])  # all but the classifier's kernel and bias
    target.parent.mkdir(parents=True, exist_ok=True)
    colour.model.save_weights(target)
    last = run.history[run.history["split"] == "validation"].iloc[run.epoch]
    accuracy = float(last["accuracy"])
    record = {"accuracy": accuracy, "images": len(found), "classes": len(names), "settings": asdict(run.settings)}
    write_json(target.with_suffix(".json"), record)
    return target


def _folder(imagenet: Path, part: str) -> Path:
    folder = imagenet / part
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} is missing: ImageNet's images are looked for in train/<class>/ and val/<class>/"
        )
    return folder


def _images(imagenet: Path, part: str, name: str) -> list[Path]:
    folder = _folder(imagenet, part) / name
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise FileNotFoundError(f"no images in {folder}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command")
    smallnet = commands.add_parser("smallnet", help="SmallNet's packaged weights, as without a command")
    smallnet.add_argument("weights", nargs="*", help=f"which of {', '.join(RECIPES)}; all of them")
    smallnet.add_argument("--steps", type=int, help="fewer, to try it out")
    grey = commands.add_parser("grey", help="retrain a colour ImageNet network in grey")
    grey.add_argument("imagenet", type=Path)
    grey.add_argument("target", type=Path)
    grey.add_argument("--backbone", default="InceptionV3")
    grey.add_argument("--classes", type=Path, help="a file with the subset's class folders, one a line; all of them")
    grey.add_argument("--epochs", type=int, default=PUBLISHED.epochs)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.command == "grey":
        classes = options.classes.read_text(encoding="utf-8").split() if options.classes else None
        settings = replace(PUBLISHED, epochs=options.epochs)
        log.info("wrote %s", retrain(options.imagenet, options.target, options.backbone, classes, settings))
        return
    for word in getattr(options, "weights", None) or RECIPES:
        if word not in RECIPES:
            parser.error(f"unknown weights {word}{nearest(word, RECIPES)}")
        steps = getattr(options, "steps", None) or RECIPES[word].steps
        recipe = replace(RECIPES[word], steps=steps)
        model, figures = pretrain(recipe)
        log.info("%s: %s", package(model, word, recipe, figures), figures)


if __name__ == "__main__":
    main()
