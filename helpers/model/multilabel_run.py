"""What a multi-label fine-tuning leaves: the network, how it came about, its predictions, and its files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from helpers.model.finetune_network import assemble
from helpers.model.finetuned import BATCH
from helpers.run.provenance import read_json, write_atomically, write_json

if TYPE_CHECKING:
    import keras

    from helpers.model.backbones import Backbone

FILE = "multilabel.json"


@dataclass(frozen=True)
class MultilabelRun:
    """A network with a sigmoid a label. `weights` are those of `epoch`, which validation chose (0: nothing below the
    last layer learnt); `history` has columns epoch, step, split, cross_entropy, learning_rate.
    """

    backbone: Backbone
    labels: tuple[str, ...]
    weights: list[np.ndarray]
    epoch: int
    history: pd.DataFrame
    settings: dict[str, Any]
    key: str
    depths: int = 0  # of `depths.averaged`

    def logits(self) -> keras.Model:
        """float32 (b, size, size, 1), grey 0..255, to logits (b, labels); its last layer is named 'logits'."""
        model, _ = assemble(self.backbone, len(self.labels))
        model.set_weights(self.weights)
        model.trainable = False
        return model

    def predict(self, images: np.ndarray) -> np.ndarray:
        """A probability a label, float32 (n, labels), of uint8 (n, size, size), by this machine's float32 engine."""
        import keras

        from helpers.model.engine import choose, compile_backbone

        size = self.backbone.image_size
        if images.dtype != np.uint8 or images.shape[1:] != (size, size):
            raise ValueError(f"images are {images.dtype} {images.shape}; this network takes uint8 (n, {size}, {size})")
        logits = self.logits()
        given = keras.layers.Activation("sigmoid", dtype="float32", name="probabilities")(logits.output)
        whole = replace(self.backbone, model=keras.Model(logits.input, given), features=len(self.labels))
        return compile_backbone(whole, choose("auto", "float32"), BATCH)(images)

    def save(self, folder: Path) -> None:
        """Write multilabel.json and weights.npz, each whole or not at all."""
        parts = {f"weights-{i:05d}": value for i, value in enumerate(self.weights)}
        write_atomically(Path(folder) / "weights.npz", lambda file: np.savez(file, **parts))
        body = {"name": self.backbone.name, "image_size": self.backbone.image_size, "depths": self.depths}
        told = {"labels": self.labels, "epoch": self.epoch, "settings": self.settings, "key": self.key}
        history = self.history.to_dict("records")
        write_json(Path(folder) / FILE, told | {"backbone": body, "history": history})

    @classmethod
    def load(cls, folder: Path) -> MultilabelRun:
        """What `save` wrote. Raises `FileNotFoundError` where nothing was saved."""
        from helpers.model.backbones import load_backbone
        from helpers.model.depths import averaged

        told = read_json(Path(folder) / FILE)
        body, depths = told["backbone"], told["backbone"]["depths"]
        backbone = averaged(load_backbone(body["name"], "none", body["image_size"]), depths)
        with np.load(Path(folder) / "weights.npz", allow_pickle=False) as parts:
            weights = [parts[name] for name in sorted(parts.files)]
        history = pd.DataFrame(told["history"])
        return cls(
            backbone, tuple(told["labels"]), weights, told["epoch"], history, told["settings"], told["key"], depths
        )
