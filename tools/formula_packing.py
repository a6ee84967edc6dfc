"""Trained features put into SmallNet's packaged files: small, and each with a record of how it was made."""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helpers.model import formula_weights
from tools.formula import classes_digest

if TYPE_CHECKING:
    import keras

    from tools.pretrain import Pretraining


def package(model: keras.Model, word: str, recipe: Pretraining, figures: dict) -> Path:
    """Write the trained features of `model` as the packaged file of `word`, and its line in the record."""
    from helpers.model.backbones import load_backbone, weights_digest

    body = load_backbone("SmallNet", "none").model
    copy_body(model, body)
    formula_weights.FOLDER.mkdir(exist_ok=True)
    path = formula_weights.FOLDER / formula_weights.FILES[word]
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
    known = json.loads(formula_weights.DIGESTS.read_text(encoding="utf-8")) if formula_weights.DIGESTS.exists() else {}
    text = json.dumps(known | {path.name: entry}, indent=2, sort_keys=True)
    formula_weights.DIGESTS.write_text(text + "\n", encoding="utf-8")
    return path


def packaged(word: str) -> keras.Model:
    from helpers.model.backbones import load_backbone

    return load_backbone("SmallNet", word).model


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
