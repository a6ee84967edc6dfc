"""The graph that recomputes only the windows a plan names, and what it is given for each block of positions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.explain.occlusion_plan import Plan, Step, Window

if TYPE_CHECKING:
    import keras


LOWEST = -1e30  # below any value of a layer


@dataclass(frozen=True)
class Extra:
    """An array that the graph needs for each block, the same for all its positions.

    `kind`: "ring", the unoccluded values of step `step` in `window` with zeros in `inside`, which the changed window
    fills; "mask", 1 on what is inside the image and 0 beyond; "rest" and "most", the sum and the maximum of unoccluded
    values outside `window`; "share", what corrects an average at the image's border for padding that does not count.
    """

    kind: str
    step: int
    window: Window
    inside: Window | None = None


@dataclass(frozen=True)
class Layer:
    """One step's unoccluded output, `values` (rows, columns, channels), and what is asked of it again and again."""

    values: np.ndarray

    def outside(self, kind: str, spans: Window) -> np.ndarray:
        """The sum ("rest") or the maximum ("most") of the values outside `spans`, (channels,)."""
        (rows, columns), _ = overlap(spans, self.values.shape[:2])
        if kind == "rest":
            return self._total - self.values[rows, columns].sum(axis=(0, 1), dtype=np.float64)
        band = self.values[rows]
        sides = [side.max(axis=(0, 1), initial=LOWEST) for side in (band[:, : columns.start], band[:, columns.stop :])]
        return np.max([self._above[rows.start], self._below[rows.stop], *sides], axis=0)

    @cached_property
    def _total(self) -> np.ndarray:
        """float64 (channels,): the sum of all values."""
        return self.values.sum(axis=(0, 1), dtype=np.float64)

    @cached_property
    def _above(self) -> np.ndarray:
        """(rows + 1, channels): the maximum of all rows before each."""
        return np.maximum.accumulate(np.vstack([np.full((1, self.values.shape[2]), LOWEST), self.values.max(axis=1)]))

    @cached_property
    def _below(self) -> np.ndarray:
        """(rows + 1, channels): the maximum of each row and all after it."""
        last = np.full((1, self.values.shape[2]), LOWEST)
        return np.maximum.accumulate(np.vstack([last, self.values.max(axis=1)[::-1]]))[::-1]


def build(steps: list[Step], plan: Plan, shared: bool = True) -> tuple[keras.Model, list[Extra]]:
    """The windowed network: occluded patch (b, rows, columns, 1) and the extras to step `plan.last`'s window.

    `shared`: extras are (1, ...), the same for all patches, which then are of one block; else (b, ...), each its own.

    Its layers are copies of the network's, with the same weights, without padding.
    """
    import keras

    patch = keras.Input((*_shape(plan.outputs[0]), 1), name="patch")
    builder = _Builder(steps, plan, {0: patch}, [], [], 1 if shared else None)
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
    batch: int | None

    def step(self, number: int) -> Any:
        step = self.steps[number]
        if step.kind == "plain":
            values = [self.values[one] for one in step.inputs]
            return copied(step.layer, step.layer.get_weights())(values if len(values) > 1 else values[0])
        if step.kind in ("average", "maximum"):
            return self._whole(step)
        reads = self.plan.reads[number]
        given = [self._spliced(one, reads, step.padded) for one in step.inputs]
        if step.kind == "shift":
            return given[0]
        if step.kind == "merge":
            return copied(step.layer, step.layer.get_weights())(given)
        if step.kind == "point":
            return copied(step.layer, step.layer.get_weights())(given[0])
        value = copied(step.layer, step.layer.get_weights(), padding="valid")(given[0])
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

    def _whole(self, step: Step) -> Any:
        """A global average or maximum: the window's own, with what lies around it."""
        import keras

        source = step.inputs[0]
        window, size = self.plan.outputs[source], self.steps[source].size
        value = self._spliced(source, window, True)
        kind = "rest" if step.kind == "average" else "most"
        rest = keras.Input(batch_shape=(self.batch, int(value.shape[3])))
        self.inputs.append(rest)
        self.extras.append(Extra(kind, source, window))
        if kind == "rest":
            return (keras.ops.sum(value, axis=(1, 2)) + rest) * (1.0 / (size[0] * size[1]))
        beyond = self._extra(Extra("mask", source, window), 1) - 1.0  # 0 inside the image, -1 beyond it
        return keras.ops.maximum(keras.ops.max(value + LOWEST * -beyond, axis=(1, 2)), rest)

    def _extra(self, extra: Extra, channels: int) -> Any:
        """The graph's input for it, one a distinct extra."""
        import keras

        if extra not in self.extras:
            self.inputs.append(keras.Input(batch_shape=(self.batch, *_shape(extra.window), channels)))
            self.extras.append(extra)
        return self.inputs[self.extras.index(extra)]


def copied(layer: Any, weights: list[np.ndarray], **changes: Any) -> Any:
    """A layer of its own with `weights`, so that the explained network's graph stays as it was."""
    copy = layer.__class__.from_config(layer.get_config() | changes)
    if layer.weights:
        copy.build(layer._build_shapes_dict["input_shape"])
        copy.set_weights(weights)
    return copy


def fill(
    extras: list[Extra],
    steps: list[Step],
    plan: Plan,
    base: dict[int, Layer],
    block: tuple[int, int],
    borders: dict[tuple[int, tuple[int, int]], np.ndarray],
) -> list[np.ndarray]:
    """The extras of the block whose origin is `block` (multiples of the plan's stride), float32 (1, ...) each.

    `base`: the unoccluded output of every step that a ring, a rest or a most is taken of. `borders` keeps masks and
    shares, which no image changes, from one call to the next.
    """
    made = []
    for number, extra in enumerate(extras):
        if (number, block) in borders:
            made.append(borders[number, block])
            continue
        spans = shifted(plan, extra.step, extra.window, block)
        if extra.kind in ("mask", "share"):
            values = _border(extra, steps, spans)
        elif extra.kind in ("rest", "most"):
            values = base[extra.step].outside(extra.kind, spans)
        else:
            values = crop(base[extra.step].values, spans)
            (top, bottom), (left, right) = (
                (i[0] - w[0], i[1] - w[0]) for i, w in zip(extra.inside, extra.window, strict=True)
            )
            values[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = 0
        made.append(np.ascontiguousarray(values, np.float32)[None])
        if extra.kind in ("mask", "share"):
            borders[number, block] = made[-1]
    return made


def _border(extra: Extra, steps: list[Step], spans: Window) -> np.ndarray:
    """A mask or a share, (rows, columns, 1)."""
    step = steps[extra.step]
    if extra.kind == "mask":
        rows, columns = (_inside(span, n) for span, n in zip(spans, step.size, strict=True))
    else:
        rows, columns = (_share(step, steps, span, axis) for axis, span in enumerate(spans))
    return (rows[:, None] * columns)[..., None]


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
