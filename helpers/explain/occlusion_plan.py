"""What an occluder changes inside a network: windows of each layer's output, and where recomputing only them pays.

A box that blanks a few pixels changes, in each convolution's output, only a window around itself. Positions are taken
in blocks of `block` x `block` neighbours: all of a block share one window a layer, so that one small static graph
serves every block. Windows are in the coordinates of their layer, counted from the block's own origin there; all
blocks have the same, as long as their origins are whole multiples of the network's total stride apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras

POINTWISE = ("BatchNormalization", "ReLU", "Activation", "Rescaling", "Dropout", "LeakyReLU")
MERGES = ("Concatenate", "Add", "Multiply")
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
POOLS = ("MaxPooling2D", "AveragePooling2D")
WHOLE = {"GlobalAveragePooling2D": "average", "GlobalMaxPooling2D": "maximum"}  # over the whole image
LATE = ("average", "maximum", "plain")  # kinds whose output has no rows and columns

Span = tuple[int, int]  # first and past-last index on one axis
Window = tuple[Span, Span]  # rows, columns


@dataclass(frozen=True)
class Step:
    """One layer's call. `kind`: input, point, merge, slide, shift, average and maximum (global), plain (after), other.

    `inputs` number earlier steps. A slide reads, for output o, inputs o * stride - pad .. + kernel (each by axis).
    `cost`: multiplications of one image's whole output.
    """

    kind: str
    layer: Any
    inputs: tuple[int, ...]
    tensor: Any
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)
    padded: bool = False
    cost: float = 0.0

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of its output; (1, 1) where it has none."""
        shape = self.tensor.shape
        return (int(shape[1]), int(shape[2])) if len(shape) == 4 else (1, 1)


def trace(model: keras.Model) -> list[Step]:
    """Every layer call between `model`'s input and output, inputs before their consumers."""
    order: dict[int, int] = {id(model.inputs[0]): 0}
    steps = [Step("input", None, (), model.inputs[0])]
    pending = [model.outputs[0]]
    while pending:
        tensor = pending[-1]
        if id(tensor) in order:
            pending.pop()
            continue
        layer, node, _ = tensor._keras_history
        given = layer._inbound_nodes[node].input_tensors
        if missing := [one for one in reversed(given) if id(one) not in order]:
            pending += missing
            continue
        order[id(tensor)] = len(steps)
        steps.append(_step(layer, tuple(order[id(one)] for one in given), tensor, [steps[order[id(t)]] for t in given]))
    return steps


def _step(layer: Any, inputs: tuple[int, ...], tensor: Any, sources: list[Step]) -> Step:
    """The layer as a step; kind "other" where it is not known to be local."""
    name = type(layer).__name__
    if all(one.kind in LATE for one in sources):
        return Step("plain", layer, inputs, tensor)
    local = all(one.kind not in ("other", *LATE) for one in sources)
    if not local or getattr(layer, "data_format", "channels_last") != "channels_last":
        return Step("other", layer, inputs, tensor, cost=_cost(layer, tensor))
    if name in POINTWISE and _is_pointwise(layer):
        return Step("point", layer, inputs, tensor)
    if name in MERGES and (name != "Concatenate" or layer.axis in (-1, 3)):
        return Step("merge", layer, inputs, tensor)
    if name == "ZeroPadding2D":
        return Step("shift", layer, inputs, tensor, pad=(layer.padding[0][0], layer.padding[1][0]), padded=True)
    if name in WHOLE and not layer.keepdims:
        return Step(WHOLE[name], layer, inputs, tensor, padded=True)
    if name in CONVOLUTIONS + POOLS and (step := _slide(layer, inputs, tensor, sources[0].size)):
        return step
    return Step("other", layer, inputs, tensor, cost=_cost(layer, tensor))


def _is_pointwise(layer: Any) -> bool:
    """Whether it treats each pixel alone, as a normalisation by channel does."""
    return getattr(layer, "axis", -1) in (-1, 3) if type(layer).__name__ == "BatchNormalization" else True


def _slide(layer: Any, inputs: tuple[int, ...], tensor: Any, size: tuple[int, int]) -> Step | None:
    """A convolution or pooling, or None for a variant that windows do not cover."""
    pooling = hasattr(layer, "pool_size")
    kernel = tuple(layer.pool_size if pooling else layer.kernel_size)
    stride = tuple(layer.strides)
    if not pooling and tuple(layer.dilation_rate) != (1, 1):
        return None
    if layer.padding == "valid":
        return Step("slide", layer, inputs, tensor, kernel, stride, (0, 0), False, _cost(layer, tensor))
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(size, stride, kernel, strict=True)]
    if type(layer).__name__ == "MaxPooling2D" and any(totals):
        return None  # it pads with minus infinity, the windows with zero
    pad = (totals[0] // 2, totals[1] // 2)
    return Step("slide", layer, inputs, tensor, kernel, stride, pad, any(totals), _cost(layer, tensor))


def _cost(layer: Any, tensor: Any) -> float:
    """Multiplications of one image: weights times output pixels, a few a value for pooling."""
    if len(tensor.shape) != 4:
        return 0.0
    pixels = int(tensor.shape[1]) * int(tensor.shape[2])
    if type(layer).__name__ in CONVOLUTIONS:
        return float(pixels * sum(int(np.prod(w.shape)) for w in layer.weights if len(w.shape) == 4))
    return float(pixels * int(tensor.shape[3]))


def total_stride(steps: list[Step], last: int) -> int:
    """The product of strides from the image to step `last`, along the most reduced path."""
    reach = [1] * (last + 1)
    for number, step in enumerate(steps[: last + 1]):
        if step.inputs:
            reach[number] = max(reach[one] for one in step.inputs) * max(step.stride)
    return max(reach)


@dataclass(frozen=True)
class Plan:
    """Which part is recomputed in windows, for blocks of `block` positions whose origin is `phase` after a multiple of
    `stride` pixels.

    `last`: the step whose window is handed to the rest of the network; the final step where all is local. `outputs`
    and `reads`: by step, the window that changes and the window of the input that it is computed from. `cost`:
    multiplications a position, the rest of the network included; `full`: those of a whole image.
    """

    last: int
    stride: int
    block: int
    phase: tuple[int, int]
    outputs: dict[int, Window]
    reads: dict[int, Window]
    scales: dict[int, tuple[int, int]]
    cost: float
    full: float


def make_plan(steps: list[Step], last: int, box: int, block: int, phase: tuple[int, int]) -> Plan:
    """Windows of all steps up to `last` for a box of `box` pixels."""
    outputs: dict[int, Window] = {0: tuple((p, p + block - 1 + box) for p in phase)}
    reads: dict[int, Window] = {}
    scales = {0: (1, 1)}
    cost = 0.0
    for number, step in enumerate(steps[1 : last + 1], start=1):
        if step.kind == "plain":
            continue
        source = step.inputs[0]
        scales[number] = tuple(a * b for a, b in zip(scales[source], step.stride, strict=True))
        hull = _hull([outputs[one] for one in step.inputs])
        spans = [_through(step, hull[axis], axis) for axis in (0, 1)]
        outputs[number], reads[number] = tuple(s[0] for s in spans), tuple(s[1] for s in spans)
        if step.cost:
            cost += step.cost * area(outputs[number]) / np.prod(step.size)
    rest = sum(step.cost for step in steps[last + 1 :])
    stride = total_stride(steps, last)
    return Plan(last, stride, block, phase, outputs, reads, scales, cost + rest, sum(step.cost for step in steps))


def _through(step: Step, span: Span, axis: int) -> tuple[Span, Span]:
    """The outputs that a change of the inputs in `span` reaches, and all inputs that these are computed from."""
    kernel, stride, pad = step.kernel[axis], step.stride[axis], step.pad[axis]
    if step.kind == "shift":
        return (span[0] + pad, span[1] + pad), span
    if step.kind != "slide":
        return span, span
    first = (span[0] + pad - kernel) // stride + 1
    past = -(-(span[1] + pad) // stride)
    return (first, past), (first * stride - pad, (past - 1) * stride - pad + kernel)


def _hull(windows: list[Window]) -> Window:
    return tuple((min(w[axis][0] for w in windows), max(w[axis][1] for w in windows)) for axis in (0, 1))


def area(window: Window) -> int:
    return int(np.prod([past - first for first, past in window]))


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


def best_plan(model: keras.Model, box: int, block: int = 0) -> tuple[list[Step], Plan | None]:
    """The steps of `model`, and the plan with the fewest multiplications a position, None where none saves any."""
    steps = trace(model)
    plans = []
    for last in cuts(steps):
        stride = total_stride(steps, last)
        plans.append(make_plan(steps, last, box, min(block or stride, stride), (0, 0)))
    best = min(plans, key=lambda plan: plan.cost, default=None)
    # Windows grow with depth: of plans that cost about the same, the earliest copies and pads least.
    best = next((plan for plan in plans if plan.cost < 1.05 * best.cost), None)
    return steps, best if best is not None and best.cost < 0.9 * best.full else None
