"""Retrain a colour ImageNet network in grey, where you have ImageNet: `python -m tools.pretrain_grey`.

Rajkomar 2017: "we converted all images in the ILSVRC 2015 repository to greyscale and used these to retrain the
initial model. We also created a "subset-greyscale ImageNet" model by retraining color ImageNet with a greyscale subset
of 100 image classes from five categories [...] we retrained the initial GoogLeNet model for 30 epochs with a base
learning rate of 0.0005 that was reduced tenfold every ten epochs. The parameters were optimized using a Nesterov solver
with a minibatch size of 24, momentum of 0.9, and weight decay of 0.0005. We allowed all layers to be fine-tuned."

    python -m tools.pretrain_grey IMAGENET GREY.weights.h5 --backbone InceptionV3
    python -m tools.pretrain_grey IMAGENET SUBSET.weights.h5 --backbone InceptionV3 --classes subset.txt
    make reproduce PROFILE=paper VIEW_GREY=GREY.weights.h5 VIEW_SUBSET=SUBSET.weights.h5

IMAGENET holds train/<class>/*.JPEG and val/<class>/*.JPEG; `--classes` names a file with a class folder a line. Which
100 classes the paper took is not said. The classifier's own last layer is not published with Keras's weights, so it
starts anew. This takes days without a GPU; a killed run goes on from its last checkpoint, beside the target.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from helpers.data.images import read_square
from helpers.model.finetune import FinetuneSettings, finetune
from helpers.run.provenance import digest_of, write_json

log = logging.getLogger(__name__)
SUFFIXES = (".jpeg", ".jpg", ".png")
PUBLISHED = FinetuneSettings(nesterov=True, checkpoint_every=2000)


class FolderSource:
    """Images of a list of files, turned grey and squashed to `size`, read when they are asked for."""

    def __init__(self, files: list[Path], size: int) -> None:
        self.files, self.size = files, size
        self.key = digest_of([size, *(f"{path.parent.name}/{path.name}" for path in files)])

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

    Raises `FileNotFoundError` where train/ or val/ or a class is missing, and `BackboneError` for the backbone.
    """
    from helpers.model.backbones import load_backbone

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
    run = finetune(colour, source, source, codes, split, names, settings, checkpoints=target.with_suffix(".unfinished"))
    colour.model.set_weights(run.by_validation[:-2])  # all but the classifier's kernel and bias
    target.parent.mkdir(parents=True, exist_ok=True)
    colour.model.save_weights(target)
    last = run.history[run.history["split"] == "validation"].iloc[run.best_epoch]
    told = {"accuracy": float(last["accuracy"]), "images": len(found), "classes": len(names), "settings": run.settings}
    write_json(target.with_suffix(".json"), told)
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
    parser.add_argument("imagenet", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--backbone", default="InceptionV3")
    parser.add_argument("--classes", type=Path, help="a file with the subset's class folders, one a line; all of them")
    parser.add_argument("--epochs", type=int, default=PUBLISHED.epochs)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    classes = given.classes.read_text(encoding="utf-8").split() if given.classes else None
    settings = replace(PUBLISHED, epochs=given.epochs)
    log.info("wrote %s", retrain(given.imagenet, given.target, given.backbone, classes, settings))


if __name__ == "__main__":
    main()
