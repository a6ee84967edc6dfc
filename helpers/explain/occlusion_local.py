"""The graph that recomputes only the windows a plan names, and what it is given for each block of positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.explain.occlusion_plan import Plan, Step, Window

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Extra:
    """An array that the graph needs for each block, the same for all its positions.

    `kind`: "ring", the unoccluded values of step `step` in `window` with zeros in `inside`, which the changed window
    fills; "mask", 1 on what is inside the image and 0 beyond; "rest", the sum of unoccluded values outside `window`;
    "share", what corrects an average at the image's border for the padding that does not count.
    """

    kind: str
    step: int
    window: Window
    inside: Window | None = None


def build(steps: list[Step], plan: Plan) -> tuple[keras.Model, list[Extra]]:
    """The windowed network: occluded patch (b, rows, columns, 1) and the extras (1, ...) to step `plan.last`'s window.

    Its layers are copies of the network's, with the same weights, without padding.
    """
    import keras

    patch = keras.Input((*_shape(plan.outputs[0]), 1), name="patch")
    builder = _Builder(steps, plan, {0: patch}, [], [])
    for number in range(1, plan.last + 1):
        builder.values[number] = builder.step(number)
    return keras.Model([patch, *builder.inputs], builder.values[plan.last], name="windows"), builder.extras


@dataclass
class _Builder:
    """The graph while it grows: symbolic values by step, inputs for the extras, and their descriptions."""

    steps: list[Step]
    plan: Plan
    values: dict[int, Any]
    inputs: list[Any]
    extras: list[Extra]

    def step(self, number: int) -> Any:
        step = self.steps[number]
        if step.kind == "plain":
            values = [self.values[one] for one in step.inputs]
            return _copy(step.layer)(values if len(values) > 1 else values[0])
        if step.kind == "average":
            return self._average(step)
        reads = self.plan.reads[number]
        given = [self._spliced(one, reads, step.padded) for one in step.inputs]
        if step.kind == "shift":
            return given[0]
        if step.kind == "merge":
            return _copy(step.layer)(given)
        if step.kind == "point":
            return _copy(step.layer)(given[0])
        value = _copy(step.layer, padding="valid")(given[0])
        if step.padded and type(step.layer).__name__ == "AveragePooling2D":
            value = value * self._extra(Extra("share", number, self.plan.outputs[number]), 1)
        return value

    def _spliced(self, number: int, window: Window, masked: bool) -> Any:
        """Step `number`'s changed window, put among unoccluded values to fill `window`."""
        import keras

        value, inside = self.values[number], self.plan.outputs[number]
        if masked:
            value = value * self._extra(Extra("mask", number, inside), 1)
        if window == inside:
            return value
        before = [a[0] - b[0] for a, b in zip(inside, window, strict=True)]
        after = [b[1] - a[1] for a, b in zip(inside, window, strict=True)]
        if any(x < 0 for x in before + after):  # a strided layer may not read all that changed
            (top, left), (bottom, right) = ([max(-x, 0) for x in ends] for ends in (before, after))
            value = value[:, top : value.shape[1] - bottom, left : value.shape[2] - right, :]
        pads = [(max(x, 0), max(y, 0)) for x, y in zip(before, after, strict=True)]
        if not any(sum(pads, ())):
            return value
        value = keras.ops.pad(value, [(0, 0), *pads, (0, 0)])
        return value + self._extra(Extra("ring", number, window, inside), int(value.shape[3]))

    def _average(self, step: Step) -> Any:
        import keras

        source = step.inputs[0]
        window, size = self.plan.outputs[source], self.steps[source].size
        value = self._spliced(source, window, True)
        rest = keras.Input(batch_shape=(1, int(value.shape[3])))
        self.inputs.append(rest)
        self.extras.append(Extra("rest", source, window))
        return (keras.ops.sum(value, axis=(1, 2)) + rest) * (1.0 / (size[0] * size[1]))

    def _extra(self, extra: Extra, channels: int) -> Any:
        """The graph's input for it, one a distinct extra."""
        import keras

        if extra not in self.extras:
            self.inputs.append(keras.Input(batch_shape=(1, *_shape(extra.window), channels)))
            self.extras.append(extra)
        return self.inputs[self.extras.index(extra)]


def _copy(layer: Any, **changes: Any) -> Any:
    """A layer of its own with the same weights, so that the explained network's graph stays as it was."""
    copy = layer.__class__.from_config(layer.get_config() | changes)
    if layer.weights:
        copy.build(layer._build_shapes_dict["input_shape"])
        copy.set_weights(layer.get_weights())
    return copy


def fill(extras: list[Extra], steps: list[Step], plan: Plan, base: dict[int, np.ndarray], block: tuple[int, int]):
    """The extras of the block whose origin is `block` (multiples of the plan's stride), float32 (1, ...) each.

    `base`: unoccluded output (rows, columns, channels) of every step that a ring or a rest is taken of.
    """
    made = []
    for extra in extras:
        size = steps[extra.step].size
        spans = shifted(plan, extra.step, extra.window, block)
        if extra.kind == "mask":
            rows, columns = [_inside(span, n) for span, n in zip(spans, size, strict=True)]
            values = (rows[:, None] * columns)[..., None]
        elif extra.kind == "share":
            rows, columns = (_share(steps[extra.step], steps, span, axis) for axis, span in enumerate(spans))
            values = (rows[:, None] * columns)[..., None]
        elif extra.kind == "rest":
            whole = base[extra.step]
            values = whole.sum(axis=(0, 1), dtype=np.float64) - crop(whole, spans).sum(axis=(0, 1), dtype=np.float64)
        else:
            values = crop(base[extra.step], spans)
            (top, bottom), (left, right) = (
                (i[0] - w[0], i[1] - w[0]) for i, w in zip(extra.inside, extra.window, strict=True)
            )
            values[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 0
        made.append(np.ascontiguousarray(values, np.float32)[None])
    return made


def shifted(plan: Plan, step: int, window: Window, block: tuple[int, int]) -> Window:
    """A window of step `step` in that step's own coordinates, for the block `block`."""
    return tuple(
        (first + b * plan.stride // scale, past + b * plan.stride // scale)
        for (first, past), b, scale in zip(window, block, plan.scales[step], strict=True)
    )


def crop(values: np.ndarray, spans: Window) -> np.ndarray:
    """A copy of `values` (rows, columns, ...) in `spans`, with zeros where these reach beyond it."""
    out = np.zeros((*_shape(spans), *values.shape[2:]), values.dtype)
    there, here = overlap(spans, values.shape[:2])
    out[here] = values[there]
    return out


def overlap(spans: Window, size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where `spans` meet an array of `size`: as slices of the array, and as slices of the window."""
    there, here = [], []
    for (first, past), n in zip(spans, size, strict=True):
        start = min(max(first, 0), n)
        stop = max(min(past, n), start)
        there.append(slice(start, stop))
        here.append(slice(start - first, stop - first) if stop > start else slice(0, 0))
    return tuple(there), tuple(here)


def _shape(window: Window) -> tuple[int, int]:
    return tuple(past - first for first, past in window)


def _inside(span: tuple[int, int], size: int) -> np.ndarray:
    places = np.arange(*span)
    return ((places >= 0) & (places < size)).astype(np.float32)


def _share(step: Step, steps: list[Step], span: tuple[int, int], axis: int) -> np.ndarray:
    """Kernel size over the number of inputs that are not padding, for each output in `span`."""
    size, kernel = steps[step.inputs[0]].size[axis], step.kernel[axis]
    first = np.arange(*span) * step.stride[axis] - step.pad[axis]
    counted = np.minimum(first + kernel, size) - np.maximum(first, 0)
    return kernel / np.maximum(counted, 1).astype(np.float32)
