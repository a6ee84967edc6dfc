"""What an occluder changes inside a network: windows of each layer's output, and where recomputing only them pays.

A box that blanks a few pixels changes, in each convolution's output, only a window around itself. Positions are taken
in blocks of `stride` x `stride` neighbours, `stride` being the network's total stride up to there: all of a block share
one window per layer, so that one small static graph serves every block. A window is int [[first row, past-last row],
[first column, past-last column]] in the coordinates of its layer, counted from the block's own origin there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

POINTWISE = ("BatchNormalization", "ReLU", "Activation", "Rescaling", "Dropout", "LeakyReLU")
MERGES = ("Concatenate", "Add", "Multiply")
SLIDES = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "MaxPooling2D", "AveragePooling2D")
WHOLE = {"GlobalAveragePooling2D": "average", "GlobalMaxPooling2D": "maximum"}  # over the whole image
LATE = {"average", "maximum", "plain"}  # kinds whose output has no rows and columns


@dataclass(frozen=True)
class Step:
    """One layer's call. `kind`: input, point, merge, slide, shift (padding), average and maximum (global), plain (after
    these), other (not known to be local).

    `inputs` number earlier steps. A slide reads, for output o, inputs o * stride - pad .. + kernel (each by axis).
    """

    kind: str
    layer: Any
    inputs: tuple[int, ...]
    tensor: Any
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    padded: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of its output; (1, 1) where it has none."""
        shape = self.tensor.shape
        return (int(shape[1]), int(shape[2])) if len(shape) == 4 else (1, 1)

    @property
    def cost(self) -> float:
        """Multiplications of one image's whole output: weights times output pixels, one per value for pooling."""
        if self.kind not in ("slide", "other") or len(self.tensor.shape) != 4:
            return 0.0
        weights = sum(int(np.prod(one.shape)) for one in self.layer.weights if len(one.shape) == 4)
        return float(np.prod(self.size)) * (weights or int(self.tensor.shape[3]))


def trace(model: keras.Model) -> list[Step]:
    """Every layer call between `model`'s input and output, inputs before their consumers."""
    order: dict[int, int] = {id(model.inputs[0]): 0}
    steps, pending = [Step("input", None, (), model.inputs[0])], [model.outputs[0]]
    while pending:
        tensor = pending[-1]
        if id(tensor) in order:
            pending.pop()
            continue
        layer, node, _ = tensor._keras_history
        sources = layer._inbound_nodes[node].input_tensors
        if missing := [one for one in reversed(sources) if id(one) not in order]:
            pending += missing
            continue
        order[id(tensor)] = len(steps)
        inputs = tuple(order[id(one)] for one in sources)
        steps.append(_step(layer, inputs, tensor, [steps[one] for one in inputs]))
    return steps


def _step(layer: Any, inputs: tuple[int, ...], tensor: Any, sources: list[Step]) -> Step:
    name, kinds, call = type(layer).__name__, {one.kind for one in sources}, (layer, inputs, tensor)
    if kinds <= LATE:
        return Step("plain", *call)
    if kinds & {"other", *LATE} or getattr(layer, "data_format", "channels_last") != "channels_last":
        return Step("other", *call)
    by_channel = getattr(layer, "axis", -1) in (-1, 3)  # of a normalisation or a concatenation
    if name in POINTWISE and by_channel:
        return Step("point", *call)
    if name in MERGES and by_channel:
        return Step("merge", *call)
    if name == "ZeroPadding2D":
        return Step("shift", *call, pad=(layer.padding[0][0], layer.padding[1][0]), padded=True)
    if name in WHOLE and not layer.keepdims:
        return Step(WHOLE[name], *call, padded=True)
    if name not in SLIDES or tuple(getattr(layer, "dilation_rate", (1, 1))) != (1, 1):
        return Step("other", *call)
    kernel, stride = tuple(getattr(layer, "pool_size", None) or layer.kernel_size), tuple(layer.strides)
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(sources[0].size, stride, kernel, strict=True)]
    if layer.padding == "valid" or not any(totals):
        return Step("slide", *call, kernel, stride)
    if name == "MaxPooling2D":  # it pads with minus infinity, the windows with zero
        return Step("other", *call)
    return Step("slide", *call, kernel, stride, (totals[0] // 2, totals[1] // 2), True)


@dataclass(frozen=True)
class Plan:
    """Which part of a network is recomputed in windows, for blocks of `stride` x `stride` positions.

    `last`: the step whose window is passed to the rest of the network; the final step where all is local. By step,
    `outputs`: the window that changes, `reads`: the window of the input that it is computed from, `scales`: pixels per
    output row and column. `cost`: multiplications per position, the rest of the network included; `full`: those of a
    whole image.
    """

    last: int
    stride: int
    outputs: dict[int, np.ndarray]
    reads: dict[int, np.ndarray]
    scales: dict[int, np.ndarray]
    cost: float
    full: float


def make_plan(steps: list[Step], last: int, box: int) -> Plan:
    """Windows of all steps up to `last` for a box of `box` pixels."""
    reach = [1]  # the product of strides from the image to each step, along the most reduced path
    for step in steps[1 : last + 1]:
        reach.append(max(reach[one] for one in step.inputs) * max(step.stride))
    stride, cost = max(reach), sum(step.cost for step in steps[last + 1 :])
    outputs, reads, scales = {0: np.array([[0, stride - 1 + box]] * 2)}, {}, {0: np.array([1, 1])}
    for number, step in enumerate(steps[1 : last + 1], start=1):
        if step.kind == "plain":
            continue
        changed = np.stack([outputs[one] for one in step.inputs])
        hull = np.stack([changed[..., 0].min(axis=0), changed[..., 1].max(axis=0)], axis=1)
        outputs[number], reads[number] = _through(step, hull)
        scales[number] = scales[step.inputs[0]] * step.stride
        cost += step.cost * np.prod(np.diff(outputs[number])) / np.prod(step.size)
    return Plan(last, stride, outputs, reads, scales, cost, sum(step.cost for step in steps))


def _through(step: Step, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The outputs that a change of the inputs in `window` reaches, and all inputs that these are computed from."""
    kernel, stride, pad = np.array(step.kernel), np.array(step.stride), np.array(step.pad)
    if step.kind == "shift":
        return window + pad[:, None], window
    if step.kind != "slide":
        return window, window
    first, past = (window[:, 0] + pad - kernel) // stride + 1, -(-(window[:, 1] + pad) // stride)
    read = np.stack([first * stride - pad, (past - 1) * stride - pad + kernel], axis=1)
    return np.stack([first, past], axis=1), read


def cuts(steps: list[Step]) -> list[int]:
    """Steps that all after them is computed from alone, and all before them is local; the final one where all is."""
    users = {one: number for number, step in enumerate(steps) for one in step.inputs}  # the last user of each
    found = []
    for number, step in enumerate(steps):
        if step.kind == "other":
            return found
        alive = [one for one in range(number + 1) if users.get(one, -1) > number or one == number]
        if alive == [number] and (number == len(steps) - 1 or step.kind in ("point", "merge", "slide")):
            found.append(number)
    return found


def best_plan(steps: list[Step], box: int) -> Plan | None:
    """The plan with the fewest multiplications per position, None where none saves any."""
    plans = [make_plan(steps, last, box) for last in cuts(steps)]
    least = min((plan.cost for plan in plans), default=0.0)
    # Windows grow with depth: of plans that cost about the same, the earliest copies and pads least.
    best = next((plan for plan in plans if plan.cost < 1.05 * least), None)
    return best if best is not None and best.cost < 0.9 * best.full else None
