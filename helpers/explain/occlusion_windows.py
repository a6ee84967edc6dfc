"""What an occluder changes inside a network: windows of each layer's output, and a network that recomputes only them.

A box that blanks a few pixels changes, in each convolution's output, only a window around itself. Positions are taken
in blocks of `stride` x `stride` neighbours, `stride` being the network's total stride up to there: all of a block share
one window per layer, so that one small static graph serves every block. A window is int [[first row, past-last row],
[first column, past-last column]] in the coordinates of its layer, counted from the block's own origin there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

POINTWISE = ("BatchNormalization", "ReLU", "Activation", "Rescaling", "Dropout")
MERGES = ("Concatenate", "Add", "Multiply")
SLIDES = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "MaxPooling2D", "AveragePooling2D")
WHOLE = {"GlobalAveragePooling2D": "average", "GlobalMaxPooling2D": "maximum"}  # over the whole image
LATE = {"average", "maximum", "plain"}  # kinds whose output has no rows and columns
LOWEST = -1e30  # below any value of a layer


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


def trace(model: Any) -> list[Step]:
    """Every layer call between a Keras `model`'s input and output, inputs before their consumers."""
    nodes = [node for _, same in sorted(model._nodes_by_depth.items(), reverse=True) for node in same]
    order, steps = {id(node.outputs[0]): number for number, node in enumerate(nodes)}, []
    for node in nodes:
        inputs = tuple(order[id(one)] for one in node.input_tensors)
        steps.append(_step(node.operation, inputs, node.outputs[0], [steps[one] for one in inputs]))
    return steps


def _step(layer: Any, inputs: tuple[int, ...], tensor: Any, sources: list[Step]) -> Step:
    name, kinds, call = type(layer).__name__, {one.kind for one in sources}, (layer, inputs, tensor)
    if not sources:
        return Step("input", *call)
    if kinds <= LATE:
        return Step("plain", *call)
    if kinds & {"other", *LATE} or tuple(getattr(layer, "dilation_rate", (1, 1))) != (1, 1):
        return Step("other", *call)
    if name in POINTWISE or name in MERGES:
        return Step("point" if name in POINTWISE else "merge", *call)
    if name == "ZeroPadding2D":
        return Step("shift", *call, pad=(layer.padding[0][0], layer.padding[1][0]), padded=True)
    if name in WHOLE:
        return Step(WHOLE[name], *call, padded=True)
    if name not in SLIDES:
        return Step("other", *call)
    kernel, stride = tuple(getattr(layer, "pool_size", None) or layer.kernel_size), tuple(layer.strides)
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in zip(sources[0].size, stride, kernel, strict=True)]
    if layer.padding == "valid" or not any(totals):
        return Step("slide", *call, kernel, stride)
    if "Pooling" in name:  # its padding counts in no maximum or mean, whereas the windows are padded with zeros
        return Step("other", *call)
    return Step("slide", *call, kernel, stride, (totals[0] // 2, totals[1] // 2), True)


@dataclass(frozen=True)
class Plan:
    """Which part of a network is recomputed in windows, for blocks of `stride` x `stride` positions.

    `last`: the step whose window is passed to the rest of the network: 0, the image itself, where the whole network is
    run again; the final step where all is local. By step, `outputs`: the window that changes, `reads`: the window of
    the input that it is computed from, `scales`: pixels per output row and column. `cost`: multiplications per
    position, the rest of the network included; `full`: those of a whole image.
    """

    steps: list[Step]
    last: int
    stride: int
    outputs: dict[int, np.ndarray]
    reads: dict[int, np.ndarray]
    scales: dict[int, np.ndarray]
    cost: float
    full: float

    def moved(self, step: int, window: np.ndarray, block: np.ndarray) -> np.ndarray:
        """A window of step `step` in that step's own coordinates, for the block `block` (a multiple of the stride), or
        for each of several, (b, 2)."""
        return np.asarray(window) + (np.asarray(block) * self.stride // self.scales[step])[..., None]


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
    return Plan(steps, last, stride, outputs, reads, scales, cost, sum(step.cost for step in steps))


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
        if alive == [number] and (number == len(steps) - 1 or step.kind in ("input", "point", "merge", "slide")):
            found.append(number)
    return found


def best_plan(steps: list[Step], box: int) -> Plan:
    """The plan with the fewest multiplications per position; the whole network where windows save under a tenth."""
    plans = [make_plan(steps, last, box) for last in cuts(steps)]
    least = min(plan.cost for plan in plans)
    if least > 0.9 * plans[0].full:
        return plans[0]
    # Windows grow with depth: of plans that cost about the same, the earliest copies and pads least.
    return next(plan for plan in plans if plan.cost < 1.05 * least)


class _Extra(NamedTuple):
    """An array that the graph needs for each block, the same for all its positions.

    `kind`: "ring", the unoccluded values of step `step` in `window` with zeros where the changed window comes; "mask",
    1 inside the image and 0 beyond; "rest" and "most", the sum and the maximum of unoccluded values outside `window`.
    """

    kind: str
    step: int
    window: tuple[tuple[int, int], tuple[int, int]]


class Base:
    """One step's unoccluded output, `values` (rows, columns, channels), and what lies outside windows of it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self._most = values, []
        self._sums = np.pad(values, [(1, 0), (1, 0), (0, 0)]).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
        for axis in (0, 1):  # the maximum of all rows (columns) before each, and from each on
            ends = np.pad(values.max(axis=1 - axis), [(1, 1), (0, 0)], constant_values=LOWEST)
            self._most += [np.maximum.accumulate(ends)[:-1], np.maximum.accumulate(ends[::-1])[-2::-1]]

    def rest(self, spans: np.ndarray) -> np.ndarray:
        """The sum of the values outside each of `spans` (b, 2, 2): (b, channels)."""
        (top, bottom), (left, right) = self._within(spans)
        inside = self._sums[bottom, right] - self._sums[top, right] - self._sums[bottom, left] + self._sums[top, left]
        return self._sums[-1, -1] - inside

    def most(self, spans: np.ndarray) -> np.ndarray:
        """Their maximum."""
        return np.max([most[end] for most, end in zip(self._most, self._within(spans).reshape(4, -1), strict=True)], 0)

    def _within(self, spans: np.ndarray) -> np.ndarray:
        """The spans' ends, cut to the image: (2, 2, b)."""
        return np.clip(spans, 0, np.array(self.values.shape[:2])[:, None]).transpose(1, 2, 0)


class WindowGraph:
    """The network that recomputes only a plan's windows.

    `model` maps an occluded patch (b, rows, columns, 1) and the `extras` to the window of the plan's last step. Extras
    are (1, ...) where `shared`, the same for all patches, which then are of one block; else (b, ...), each its own. Its
    layers are copies of the network's, with the same weights, without padding.
    """

    def __init__(self, plan: Plan, shared: bool) -> None:
        import keras

        self._plan, self._batch = plan, 1 if shared else None
        self._inputs: dict[_Extra, Any] = {}
        patch = keras.Input((*np.diff(plan.outputs[0])[:, 0].tolist(), 1), name="patch")
        self._values = {0: patch}
        for number in range(1, plan.last + 1):
            self._values[number] = self._computed(number, plan.steps[number])
        self.extras = list(self._inputs)
        self.model = keras.Model([patch, *self._inputs.values()], self._values[plan.last], name="windows")

    def _computed(self, number: int, step: Step) -> Any:
        """The symbolic window of a step."""
        if step.kind in ("average", "maximum"):
            return self._pooled(step)
        if step.kind == "plain":
            values = [self._values[one] for one in step.inputs]
        else:
            values = [self._spliced(one, self._plan.reads[number], step.padded) for one in step.inputs]
        if step.kind == "shift":
            return values[0]
        return _copied(step)(values if len(values) > 1 else values[0])

    def _spliced(self, number: int, window: np.ndarray, masked: bool) -> Any:
        """Step `number`'s changed window, put among unoccluded values to fill `window`."""
        import keras

        value, inside = self._values[number], self._plan.outputs[number]
        if masked:
            value = value * self._extra("mask", number, inside, 1)
        lacking = np.stack([inside[:, 0] - window[:, 0], window[:, 1] - inside[:, 1]], axis=1)
        if (lacking < 0).any():  # a strided layer may not read all that changed
            (top, bottom), (left, right) = np.maximum(-lacking, 0).tolist()
            value = value[:, top : value.shape[1] - bottom, left : value.shape[2] - right, :]
        if (lacking > 0).any():
            value = keras.ops.pad(value, [(0, 0), *np.maximum(lacking, 0).tolist(), (0, 0)])
            value = value + self._extra("ring", number, window, int(value.shape[3]))
        return value

    def _pooled(self, step: Step) -> Any:
        """A global average or maximum: the window's own, combined with what lies around it."""
        import keras

        source, (rows, columns) = step.inputs[0], self._plan.steps[step.inputs[0]].size
        window = self._plan.outputs[source]
        value = self._spliced(source, window, True)
        around = self._extra("rest" if step.kind == "average" else "most", source, window, int(value.shape[3]))
        if step.kind == "average":
            return (keras.ops.sum(value, axis=(1, 2)) + around) * (1.0 / (rows * columns))
        beyond = 1.0 - self._extra("mask", source, window, 1)  # 0 inside the image, 1 beyond it
        return keras.ops.maximum(keras.ops.max(value + LOWEST * beyond, axis=(1, 2)), around)

    def _extra(self, kind: str, step: int, window: np.ndarray, channels: int) -> Any:
        """The graph's input for it, one per distinct extra."""
        import keras

        extra = _Extra(kind, step, tuple(map(tuple, window.tolist())))
        if extra not in self._inputs:
            shape = () if kind in ("rest", "most") else (window[:, 1] - window[:, 0]).tolist()
            self._inputs[extra] = keras.Input(batch_shape=(self._batch, *shape, channels))
        return self._inputs[extra]

    def fill(self, base: dict[int, Base], blocks: np.ndarray) -> list[np.ndarray]:
        """The extras of blocks (b, 2), float32 (b, ...) each, from the unoccluded outputs of the steps."""
        values = []
        for extra in self.extras:
            spans = self._plan.moved(extra.step, extra.window, blocks)
            if extra.kind == "mask":
                value = crop(np.ones((*self._plan.steps[extra.step].size, 1)), spans)
            elif extra.kind == "ring":
                value = crop(base[extra.step].values, spans)
                changed = self._plan.outputs[extra.step] - np.array(extra.window)[:, :1]
                (top, bottom), (left, right) = np.maximum(changed, 0)
                value[:, top:bottom, left:right] = 0
            else:
                value = getattr(base[extra.step], extra.kind)(spans)
            values.append(np.ascontiguousarray(value, np.float32))
        return values


def _copied(step: Step) -> Any:
    """A layer of its own with the same weights, so that the explained network's graph stays as it was."""
    changes = {"padding": "valid"} if step.kind == "slide" else {}
    copy = step.layer.__class__.from_config(step.layer.get_config() | changes)
    if step.layer.weights:
        shape = step.layer._build_shapes_dict["input_shape"]
        copy.build((*[None] * (len(shape) - 1), shape[-1]))  # of any size: windows may be larger than the image
        copy.set_weights(step.layer.get_weights())
    return copy


def crop(values: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Copies of `values` (rows, columns, ...) in each of `spans` (b, 2, 2), which are of one size, with zeros where
    these reach beyond it."""
    edged = np.pad(values, [(1, 1), (1, 1), *[(0, 0)] * (values.ndim - 2)])
    sides = zip(spans.transpose(1, 0, 2), values.shape, strict=False)
    rows, columns = (np.clip(one[:, :1] + np.arange(np.ptp(one[0])), -1, most) + 1 for one, most in sides)
    return edged[rows[:, :, None], columns[:, None, :]]


def overlap(spans: np.ndarray, size: tuple[int, int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where `spans` meet an array of `size`: as slices of the array, and as slices of the window."""
    there = np.clip(spans, 0, np.array(size)[:, None])
    here = there - spans[:, :1]
    return tuple(slice(*one) for one in there.tolist()), tuple(slice(*one) for one in here.tolist())
