"""The late layers on what the box changed, not on the values themselves, so that bfloat16 is exact enough.

bfloat16 keeps 8 bits. Of an image's values that is too few: what is rounded off is as large as what the box changes.
Of the *difference* from the unoccluded image 8 bits are plenty, since the error then is a share of the box's own
effect. With x = base + d, and base known in float32:

- a convolution (without its bias), a batch normalisation (without its shift), an average, a sum: the same of d;
- ReLU: max(d + b - c, -c), where b is the base before it and c = relu(b); below a ceiling likewise;
- a maximum over a window: the maximum of d + (b - m) over it, where m is the base's maximum there.

No small difference of large numbers is taken in bfloat16. In float32 the same graph gives the network's own values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.explain.occlusion_local import copied
from helpers.explain.occlusion_plan import Step

if TYPE_CHECKING:
    import keras

LINEAR = ("AveragePooling2D", "ZeroPadding2D", "Concatenate", "Add", "Dropout")


class NoDifferenceError(ValueError):
    """A layer whose differences are not known here."""


@dataclass(frozen=True)
class Late:
    """The network after step `last`, on differences.

    `model`: differences of step `last`'s output (b, rows, columns, channels), and what is known of the base (1, ...),
    to those of the pooled features (b, features). `known`: base of step `last` (1, ...) to that knowledge, in float32,
    and last the pooled features. `tail`: pooled features to probabilities.
    """

    model: keras.Model
    known: keras.Model
    tail: keras.Model


def late(steps: list[Step], last: int) -> Late | None:
    """Differences after step `last`, or None where a layer, or a part that is not one pooled vector, forbids it."""
    import keras

    pooled = [number for number, step in enumerate(steps) if step.kind in ("average", "maximum")]
    if len(pooled) != 1 or pooled[0] <= last or steps[pooled[0]].kind != "average":
        return None
    start = keras.Input(tuple(steps[last].tensor.shape[1:]), name="difference")
    builder = _Builder(steps, {last: start}, [], [])
    try:
        for number in range(last + 1, pooled[0] + 1):
            builder.values[number] = builder.step(number)
    except NoDifferenceError:
        return None
    end, output = steps[pooled[0]].tensor, steps[-1].tensor
    # Keras cannot make a model of an inner tensor that is both its input and an output: hence the copy.
    about = [1.0 * one if one is steps[last].tensor else one for one in builder.known]
    known = keras.Model(steps[last].tensor, [*about, end], name="known")
    model = keras.Model([start, *builder.inputs], builder.values[pooled[0]], name="differences")
    return Late(model, known, keras.Model(end, output, name="tail"))


@dataclass
class _Builder:
    """The graph while it grows: differences by step, inputs for what is known of the base, and that as tensors."""

    steps: list[Step]
    values: dict[int, Any]
    inputs: list[Any]
    known: list[Any]

    def step(self, number: int) -> Any:
        step = self.steps[number]
        if any(one not in self.values for one in step.inputs):
            raise NoDifferenceError(step.layer.name)
        given, name = [self.values[one] for one in step.inputs], type(step.layer).__name__
        if name in ("Conv2D", "DepthwiseConv2D", "SeparableConv2D") and _linear(step.layer):
            weights = step.layer.get_weights()
            weights = weights[:-1] if step.layer.use_bias else weights
            return copied(step.layer, weights, use_bias=False)(given[0])
        if name == "BatchNormalization":
            return _scaling(step.layer)(given[0])
        if name == "ReLU" or (name == "Activation" and step.layer.activation.__name__ in ("relu", "linear")):
            return self._relu(step, given[0])
        if name in ("MaxPooling2D",):
            return self._maximum(step, given[0])
        if step.kind == "average" or name in LINEAR:
            return step.layer(given if len(given) > 1 else given[0])
        raise NoDifferenceError(step.layer.name)

    def _relu(self, step: Step, difference: Any) -> Any:
        import keras

        if getattr(getattr(step.layer, "activation", None), "__name__", "") == "linear":
            return difference
        if getattr(step.layer, "negative_slope", 0) or getattr(step.layer, "threshold", 0):
            raise NoDifferenceError(step.layer.name)
        base = self._base(self.steps[step.inputs[0]].tensor)
        top = getattr(step.layer, "max_value", None)
        kept = keras.ops.relu(base) if top is None else keras.ops.clip(base, 0.0, top)
        found = keras.ops.maximum(difference + (base - kept), -kept)
        return found if top is None else keras.ops.minimum(found, top - kept)

    def _maximum(self, step: Step, difference: Any) -> Any:
        """Of each window of the base, how far each value lies below the highest: taken in float32, outside."""
        import keras

        if step.padded:
            raise NoDifferenceError(step.layer.name)
        source, highest = self.steps[step.inputs[0]].tensor, step.tensor
        found = None
        for row, column in np.ndindex(step.kernel):
            below = self._base(_every(source, step, row, column) - highest)
            one = _every(difference, step, row, column) + below
            found = one if found is None else keras.ops.maximum(found, one)
        return found

    def _base(self, tensor: Any) -> Any:
        import keras

        self.inputs.append(keras.Input(batch_shape=(1, *tensor.shape[1:])))
        self.known.append(tensor)
        return self.inputs[-1]


def _every(values: Any, step: Step, row: int, column: int) -> Any:
    """The values that stand at `row`, `column` of each of a pooling's windows."""
    (rows, columns), (down, across) = step.size, step.stride
    return values[:, row : row + (rows - 1) * down + 1 : down, column : column + (columns - 1) * across + 1 : across]


def _linear(layer: Any) -> bool:
    return layer.activation.__name__ == "linear"


def _scaling(layer: Any) -> Any:
    """A batch normalisation that scales and does not shift."""
    copy = copied(layer, layer.get_weights())
    copy.moving_mean.assign(np.zeros(copy.moving_mean.shape))
    if layer.center:
        copy.beta.assign(np.zeros(copy.beta.shape))
    return copy
