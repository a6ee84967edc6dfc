"""A classifier to be explained: grey pixels in, logits and probabilities out, whatever it was put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from helpers.model.backbones import Backbone, weights_digest
from helpers.model.head import Head

if TYPE_CHECKING:
    import keras

# uint8 or float32 (b, size, size), grey 0..255, to float32 (b, classes), for any b
Predictor = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Classifier:
    """A network and the names of its classes.

    `model` maps float32 (b, image_size, image_size, 1), grey 0..255, to probabilities (b, classes); `logits_model` to
    what goes into the softmax. Both share layers and weights, and gradients flow through both. `key`: 16 hex digits
    over all weights; it is taken once, so a model that is trained further needs a new Classifier.
    """

    model: keras.Model
    logits_model: keras.Model
    classes: tuple[str, ...]
    image_size: int
    key: str

    def predictor(self, engine: str = "auto", precision: str = "auto", batch_size: int = 64) -> Predictor:
        """The probabilities on the fastest engine of this machine; see `helpers.explain.runner`.

        Takes whole numbers or fractions of a grey level. `batch_size`: images at once on a GPU.
        """
        from helpers.explain.runner import predictor

        return predictor(self, engine, precision, batch_size)


def from_head(backbone: Backbone, head: Head) -> Classifier:
    """A frozen backbone with a softmax head trained on its bottlenecks, as one network.

    Raises `ValueError` where the head was trained on another number of features.
    """
    import keras

    if len(head.kernel) != backbone.features:
        raise ValueError(f"{backbone.name} gives {backbone.features} features, the head takes {len(head.kernel)}")
    last = keras.layers.Dense(len(head.classes), dtype="float32", name="logits")
    logits = last(backbone.model.output)
    last.set_weights([head.kernel, head.bias])
    return _put_together(backbone.model.input, logits, head.classes, backbone.image_size)


def from_model(model: keras.Model, classes: Sequence[str]) -> Classifier:
    """A trained network, such as a fine-tuned one, whose last layer is a softmax over `classes`.

    The softmax may be its own layer, a dense layer's activation, or the end of a model used as a layer. Raises
    `ValueError` for another ending, another number of classes, or an input other than (b, size, size, 1).
    """
    shape = tuple(model.input_shape)
    if len(shape) != 4 or shape[1] is None or shape[1] != shape[2] or shape[3] != 1:
        raise ValueError(f"{model.name} takes {shape}; an explained network takes (batch, size, size, 1)")
    if model.output_shape[-1] != len(classes):
        raise ValueError(f"{model.name} gives {model.output_shape[-1]} probabilities for {len(classes)} classes")
    return _put_together(model.inputs[0], _before_softmax(model.outputs[0]), classes, int(shape[1]))


def _put_together(inputs, logits, classes: Sequence[str], size: int) -> Classifier:
    import keras

    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
    model = keras.Model(inputs, probabilities, name="classifier")
    return Classifier(model, keras.Model(inputs, logits, name="logits"), tuple(classes), size, weights_digest(model))


def _before_softmax(output):
    """The symbolic tensor that the softmax behind `output` is taken of."""
    import keras

    last, node, _ = output._keras_history  # the layer that made it, and which of the layer's calls
    given = last._inbound_nodes[node].input_tensors[0]
    if isinstance(last, keras.Model):  # a model used as a layer
        return keras.Model(last.inputs[0], _before_softmax(last.outputs[0]), name=f"{last.name}_logits")(given)
    softmax = getattr(last, "activation", None) is keras.activations.softmax
    if isinstance(last, keras.layers.Softmax) or (softmax and isinstance(last, keras.layers.Activation)):
        return given
    if softmax and isinstance(last, keras.layers.Dense):
        config = last.get_config() | {"activation": "linear", "name": f"{last.name}_logits"}
        linear = keras.layers.Dense.from_config(config)
        logits = linear(given)
        linear.set_weights(last.get_weights())
        return logits
    raise ValueError(f"a network to explain ends in a softmax, not in {type(last).__name__} '{last.name}'")
