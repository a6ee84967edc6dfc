"""What is explained, a classifier of grey images, and what every explainer returns, one map for each image.

Every method has one signature, `method(classifier, images, target, **settings) -> Maps`: `images` are uint8
(n, size, size), `target` is one class name for all of them or a sequence of one name per image, and the maps lie on the
pixels of these images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.model.backbones import Backbone, weights_digest
from helpers.model.engine import Function, choose, compile_model
from helpers.model.head import Head
from helpers.run.profile import nearest

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Maps:
    """One map per image.

    `maps`: float32 (n, height, width), on the pixels of the explained images; higher means that the pixel is more
    important for the target. `units` names the unit: "probability" for occlusion's drop, for example. `target`: the
    explained class of each image. `settings`: what would make the same maps again. `seconds`: the time they took.
    `extra`: what else a method returns, such as occlusion's probabilities at every position.
    """

    maps: np.ndarray
    method: str
    units: str
    target: tuple[str, ...]
    settings: dict[str, Any]
    seconds: float
    extra: dict[str, Any] = field(default_factory=dict)

    def take(self, positions: np.ndarray) -> Maps:
        """The maps at these positions, with what `extra` keeps of them and their share of the time."""
        n = len(self.maps)
        per_image = {name for name, value in self.extra.items() if name != "starts" and len(value) == n}
        extra = {name: value[positions] if name in per_image else value for name, value in self.extra.items()}
        target = tuple(self.target[i] for i in positions)
        seconds = self.seconds * len(positions) / max(n, 1)
        return replace(self, maps=self.maps[positions], target=target, seconds=seconds, extra=extra)


@dataclass(frozen=True)
class Classifier:
    """A network and the names of its classes.

    `model` maps float32 (b, image_size, image_size, 1), grey 0..255, to probabilities (b, classes); `logits_model` to
    the logits. Both share layers and weights, and gradients flow through both. `key`: 16 hexadecimal digits over all
    weights, computed once: a model that is trained further needs a new Classifier.
    """

    model: keras.Model
    logits_model: keras.Model
    classes: tuple[str, ...]
    image_size: int
    key: str

    def predictor(self) -> Function:
        """uint8 or float32 (b, size, size), grey 0..255, to probabilities, float32 (b, classes), for any b, in float32
        on the fastest engine of this machine; see `helpers.model.engine`.
        """
        function = compile_model(self.model, choose("auto", "float32"))
        return lambda images: function(np.asarray(images, np.float32)[..., None])

    def codes(self, target: str | Sequence[str], count: int) -> np.ndarray:
        """int (count,) positions in `classes` of one class name for all images, or of one name per image.

        Raises `ValueError` for an unknown name and for another number of names than images.
        """
        names = [target] * count if isinstance(target, str) else [str(name) for name in target]
        if len(names) != count:
            raise ValueError(f"{len(names)} targets for {count} images; pass one class name, or one per image")
        for name in names:
            if name not in self.classes:
                raise ValueError(f"there is no class '{name}'{nearest(name, self.classes)}")
        return np.array([self.classes.index(name) for name in names], int)

    def check(self, images: np.ndarray) -> np.ndarray:
        """`images` unchanged if they are uint8 (n, size, size) of the classifier's size; else a `ValueError`."""
        images, size = np.asarray(images), self.image_size
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (size, size):
            raise ValueError(
                f"images are {images.dtype} {images.shape}; the classifier takes uint8 (n, {size}, {size})"
            )
        return images

    def maps(self, began: float, codes: np.ndarray, maps: np.ndarray, method: str, units: str, **kept) -> Maps:
        """`Maps` of classes `codes`, made since `began` (a reading of `monotonic`) with the settings `kept`."""
        target = tuple(self.classes[code] for code in codes)
        return Maps(maps, method, units, target, {"classifier": self.key, **kept}, monotonic() - began)


def from_head(backbone: Backbone, head: Head) -> Classifier:
    """A frozen backbone with a softmax head trained on its bottleneck features, as one network."""
    import keras

    last = keras.layers.Dense(len(head.classes), dtype="float32", name="logits")
    model = keras.Model(backbone.model.input, last(backbone.model.output))
    last.set_weights([head.kernel, head.bias])
    return from_logits(model, head.classes)


def from_logits(logits: keras.Model, classes: Sequence[str], activation: str = "softmax") -> Classifier:
    """A network from float32 (b, size, size, 1), grey 0..255, to logits (b, classes); its probabilities are their
    softmax, or, for a network of several labels, their "sigmoid"."""
    import keras

    last = keras.layers.Activation(activation, dtype="float32", name="probabilities")
    model = keras.Model(logits.inputs[0], last(logits.outputs[0]), name="classifier")
    return Classifier(model, logits, tuple(classes), int(logits.input_shape[1]), weights_digest(model))
