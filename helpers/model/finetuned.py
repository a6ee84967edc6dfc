"""What a fine-tuning leaves: the network, how it came about, its predictions, and its files."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from helpers.model.finetune_loop import Images, prefetched
from helpers.model.finetune_network import assemble
from helpers.run.provenance import read_json, write_atomically, write_json

if TYPE_CHECKING:
    import keras

    from helpers.model.backbones import Backbone
    from helpers.model.engine import Function

AGREEMENT = 0.002  # the largest difference in probability from Keras in float32 that an engine may show
PROBES = 4  # random images it is measured on
BATCH = 64  # images a source is asked for at a time


@dataclass(frozen=True)
class FinetuneRun:
    """A fine-tuned network.

    `weights` and `epochs` are by selection: "validation", the epoch with the lowest cross-entropy on validation
    patients (the last one, where the settings keep that), is the one to use; "test", where test rows were given, what
    choosing the epoch on the test set gives, the papers' way: highest accuracy, then lowest cross-entropy. Epoch 0 is
    the network before it learnt.
    `history` has columns epoch, step, split, accuracy, cross_entropy, learning_rate; its train rows are means over an
    epoch's batches, each before its update. `backbone` is the architecture; its own weights are not the tuned ones.
    `settings` are the recipe and what it was applied to, `key` stands for all that went in.
    """

    backbone: Backbone
    classes: tuple[str, ...]
    weights: dict[str, list[np.ndarray]]
    epochs: dict[str, int]
    history: pd.DataFrame
    settings: dict[str, Any]
    key: str

    @property
    def best_epoch(self) -> int:
        """The epoch that validation chose."""
        return self.epochs["validation"]

    @property
    def by_validation(self) -> list[np.ndarray]:
        """The weights to use, in the order of `model`'s."""
        return self.weights["validation"]

    @property
    def by_test(self) -> list[np.ndarray] | None:
        """The weights that choosing the epoch on the test set gives; None where there were no test rows."""
        return self.weights.get("test")

    @cached_property
    def model(self) -> keras.Model:
        """The network to use: float32 (b, size, size, 1), grey 0..255, to probabilities (b, classes), in float32."""
        return self.model_of("validation")

    def model_of(self, selection: str) -> keras.Model:
        """As `model`, for "validation" or "test". A flat graph of plain layers that ends in a softmax layer."""
        if selection not in self.weights:
            raise ValueError(f"there are no weights chosen on {selection}; there are {', '.join(self.weights)}")
        _, model = assemble(self.backbone, len(self.classes))
        model.set_weights(self.weights[selection])
        model.trainable = False
        return model

    def predict(self, images: np.ndarray, selection: str = "validation") -> np.ndarray:
        """Probabilities, float32 (n, classes), of uint8 (n, size, size)."""
        size = self.backbone.image_size
        if images.dtype != np.uint8 or images.shape[1:] != (size, size):
            raise ValueError(f"images are {images.dtype} {images.shape}; this network takes uint8 (n, {size}, {size})")
        return self.predictor(selection)(images)

    def predict_rows(self, source: Images, rows: np.ndarray, selection: str = "validation") -> np.ndarray:
        """As `predict`, of images that a source gives for row numbers (asked with epoch 0), a batch at a time."""
        source = getattr(source, "batch", source)
        return over_rows(self.predictor(selection), source, rows, self.backbone.image_size, len(self.classes))

    def predictor(self, selection: str = "validation") -> Function:
        """Predictions on the fastest engine that agrees with Keras in float32: uint8 (b, size, size) to (b, classes).

        To be kept where several calls are made, since compiling takes seconds. See `helpers.model.engine`.
        """
        return fast_predictor(self.backbone, self.model_of(selection), len(self.classes))

    def save(self, folder: Path) -> None:
        """Write finetuned.json, history.csv and one .weights.h5 a selection, each whole or not at all."""
        folder = Path(folder)
        for selection in self.weights:
            model = self.model_of(selection)
            write_atomically(folder / f"{selection}.weights.h5", lambda file, model=model: _save_weights(model, file))
        write_atomically(folder / "history.csv", lambda file: self.history.to_csv(file, index=False))
        body = {"name": self.backbone.name, "image_size": self.backbone.image_size}
        told = {"classes": self.classes, "epochs": self.epochs, "settings": self.settings, "key": self.key}
        write_json(folder / "finetuned.json", told | {"backbone": body})

    @classmethod
    def load(cls, folder: Path, backbone: Backbone | None = None) -> FinetuneRun:
        """What `save` wrote. `backbone`: its architecture, where that is not in the registry under its name.

        Raises `FileNotFoundError` where nothing was saved, `ValueError` for files that do not fit.
        """
        from helpers.model.backbones import load_backbone

        folder = Path(folder)
        told = read_json(folder / "finetuned.json")
        body, classes = told["backbone"], tuple(told["classes"])
        backbone = backbone or load_backbone(body["name"], "none", body["image_size"])
        _, model = assemble(backbone, len(classes))
        weights = {}
        for selection in told["epochs"]:
            model.load_weights(folder / f"{selection}.weights.h5")
            weights[selection] = model.get_weights()
        history = pd.read_csv(folder / "history.csv")
        return cls(backbone, classes, weights, told["epochs"], history, told["settings"], told["key"])


def over_rows(run: Function, images: Images, rows: np.ndarray, size: int, width: int) -> np.ndarray:
    """What `run` gives, float32 (n, width), for the images of these rows, which a source makes `BATCH` at a time."""
    parts = [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)]
    given = [run(made) for _, made in prefetched(images, 0, parts, size)]
    return np.concatenate(given) if given else np.empty((0, width), np.float32)


def _save_weights(model: keras.Model, file: Path) -> None:
    """Keras refuses names that do not end in .weights.h5, such as those of temporary files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "whole.weights.h5"
        model.save_weights(path)
        shutil.copyfile(path, file)


def fast_predictor(backbone: Backbone, model: keras.Model, classes: int) -> Function:
    """`model`, uint8 (b, size, size) to float32 (b, classes), on the first engine that agrees with Keras.

    One that does not is told of by an `EngineWarning`. On another backend of Keras than TensorFlow, Keras itself runs.
    """
    import keras

    from helpers.model.engine import EngineError, EngineWarning, candidates, compile_backbone

    if keras.backend.backend() != "tensorflow":
        return _plain_predictor(model, classes)
    whole = replace(backbone, model=model, features=classes)
    size = backbone.image_size
    probes = np.random.default_rng(0).integers(0, 256, (PROBES, size, size), np.uint8)
    expected = _plain_predictor(model, classes)(probes)
    for engine in candidates():
        run = compile_backbone(whole, engine, BATCH)
        difference = float(np.abs(run(probes) - expected).max())
        if difference <= AGREEMENT:
            return run
        warnings.warn(f"{engine} is {difference:.2g} off Keras in float32", EngineWarning, stacklevel=3)
    raise EngineError(f"no engine gives this network's probabilities to within {AGREEMENT}")


def _plain_predictor(model: keras.Model, classes: int) -> Function:
    def run(images: np.ndarray) -> np.ndarray:
        out = np.empty((len(images), classes), np.float32)
        for first in range(0, len(images), BATCH):
            part = images[first : first + BATCH, ..., None].astype(np.float32)
            out[first : first + len(part)] = model.predict_on_batch(part)
        return out

    return run
