"""The probabilities at any position of the box: every occluded image in full, or only what the box changes.

Both hold `CHUNK` occluded images at a time, however many positions there are, and compute in float32.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from helpers.explain.occlusion_plan import Plan, Step
from helpers.model.engine import Engine, compile_model

if TYPE_CHECKING:
    from helpers.explain.maps import Classifier

CHUNK = 64  # occluded images, or their parts, held at once
WINDOW_REQUEST = 32  # windows per engine request: they are small
SHARING = 4  # positions a block holds on one axis, from which on its surroundings are sent once for all of them
LOWEST = -1e30  # below any value of a layer


def occluded(image: np.ndarray, side: int, level: float, corners: np.ndarray) -> np.ndarray:
    """float32 (b, rows, columns, 1): `image` with a box at each of `corners` (b, 2), which may lie beyond it."""
    out = np.repeat(image[None].astype(np.float32), len(corners), axis=0)
    for one, (top, left) in zip(out, corners, strict=True):
        one[top : top + side, left : left + side] = level
    return out[..., None]


class FullSweep:
    """Every occluded image through the whole network."""

    def __init__(self, classifier: Classifier, side: int, engine: Engine) -> None:
        self._side, self._function = side, compile_model(classifier.model, engine, CHUNK)

    def take(self, image: np.ndarray) -> np.ndarray:
        """Set the image to occlude, uint8 (size, size); returns its own probabilities (classes,)."""
        self._image = image
        return self._function(image[None, ..., None].astype(np.float32))[0]

    def at(self, level: float, corners: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (b, classes), of boxes whose top left pixels are `corners`, int (b, 2)."""
        chunks = np.split(corners, range(CHUNK, len(corners), CHUNK))
        return np.concatenate([self._function(occluded(self._image, self._side, level, one)) for one in chunks])


class WindowSweep:
    """Early layers recomputed only around the box (see `occlusion_plan`), the others in full.

    Positions are taken in blocks that share all that lies around them; where `stride`, the pixels between positions,
    leaves only a few in a block, each is sent with its own surroundings instead, so that batches stay full.
    """

    def __init__(
        self, classifier: Classifier, side: int, engine: Engine, steps: list[Step], plan: Plan, stride: int = 1
    ) -> None:
        import keras

        held = len(range(0, plan.stride, stride))  # positions that a block holds on one axis
        self._side, self.plan, self._shared = side, plan, held >= SHARING
        self._graph = _WindowGraph(steps, plan, self._shared)
        request = min(WINDOW_REQUEST, held**2) if self._shared else WINDOW_REQUEST
        self._before = compile_model(self._graph.model, engine, CHUNK, request)
        needed, output, self._after = {extra.step for extra in self._graph.extras}, classifier.model.outputs[0], None
        if plan.last < len(steps) - 1:
            needed |= {plan.last}
            self._after = compile_model(keras.Model(steps[plan.last].tensor, output, name="rest"), engine, CHUNK)
        self._needed = sorted(needed)
        self._known = keras.Model(classifier.model.inputs[0], [*(steps[one].tensor for one in self._needed), output])

    def take(self, image: np.ndarray) -> np.ndarray:
        """As `FullSweep.take`."""
        *base, probabilities = self._known.predict_on_batch(image[None, ..., None].astype(np.float32))
        self._image = image.astype(np.float32)
        self._base = {step: _Base(values[0]) for step, values in zip(self._needed, base, strict=True)}
        return probabilities[0]

    def at(self, level: float, corners: np.ndarray) -> np.ndarray:
        """As `FullSweep.at`; positions of one block are taken together."""
        blocks, mine = np.unique(corners // self.plan.stride, axis=0, return_inverse=True)
        order = np.argsort(mine.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(mine.ravel()))[:-1] if self._shared else []
        out = None
        for group in np.split(order, ends):
            for rows in np.split(group, range(CHUNK, len(group), CHUNK)):
                found = self._chunk(level, corners[rows], blocks[mine.ravel()[rows]])
                out = np.empty((len(corners), found.shape[1]), np.float32) if out is None else out
                out[rows] = found
        return out

    def _chunk(self, level: float, corners: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        """Probabilities (b, classes) of a few positions, `corners` (b, 2), each in its block (b, 2)."""
        places, mine = np.unique(blocks, axis=0, return_inverse=True)
        spans = [self._graph.moved(0, self.plan.outputs[0], place) for place in places]
        crops = [crop(self._image, span) for span in spans]
        patches = [
            occluded(crops[k], self._side, level, one[None] - spans[k][:, 0])
            for k, one in zip(mine.ravel(), corners, strict=True)
        ]
        filled = [self._graph.fill(self._base, place) for place in places]
        extras = (
            filled[0] if self._shared else [np.concatenate(each)[mine.ravel()] for each in zip(*filled, strict=True)]
        )
        windows = self._before(np.concatenate(patches), *extras)
        return windows if self._after is None else self._after(self._whole(windows, blocks))

    def _whole(self, windows: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        """The windows (b, rows, columns, channels) of the plan's last step among its unoccluded values."""
        last = self.plan.last
        whole = np.repeat(self._base[last].values[None], len(windows), axis=0)
        for one, window, place in zip(whole, windows, blocks, strict=True):
            there, here = overlap(self._graph.moved(last, self.plan.outputs[last], place), one.shape[:2])
            one[there] = window[here]
        return whole


class _Extra(NamedTuple):
    """An array that the graph needs for each block, the same for all its positions.

    `kind`: "ring", the unoccluded values of step `step` in `window` with zeros where the changed window comes; "mask",
    1 inside the image and 0 beyond; "rest" and "most", the sum and the maximum of unoccluded values outside `window`;
    "share", what corrects an average at the image's border for padding that does not count.
    """

    kind: str
    step: int
    window: tuple[tuple[int, int], tuple[int, int]]


class _WindowGraph:
    """The network that recomputes only a plan's windows.

    `model` maps an occluded patch (b, rows, columns, 1) and the `extras` to the window of the plan's last step. Extras
    are (1, ...) where `shared`, the same for all patches, which then are of one block; else (b, ...), each its own. Its
    layers are copies of the network's, with the same weights, without padding.
    """

    def __init__(self, steps: list[Step], plan: Plan, shared: bool) -> None:
        import keras

        self._steps, self._plan, self._batch = steps, plan, 1 if shared else None
        self._inputs: dict[_Extra, Any] = {}
        self._borders: dict[tuple[_Extra, tuple[int, int]], np.ndarray] = {}  # masks and shares, which no image changes
        patch = keras.Input((*(plan.outputs[0][:, 1] - plan.outputs[0][:, 0]).tolist(), 1), name="patch")
        self._values = {0: patch}
        for number in range(1, plan.last + 1):
            self._values[number] = self._computed(number, steps[number])
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
        value = _copied(step)(values if len(values) > 1 else values[0])
        if step.padded and type(step.layer).__name__ == "AveragePooling2D":
            value = value * self._extra("share", number, self._plan.outputs[number], 1)
        return value

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

        source, (rows, columns) = step.inputs[0], self._steps[step.inputs[0]].size
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

    def moved(self, step: int, window: np.ndarray, block: np.ndarray) -> np.ndarray:
        """A window of step `step` in that step's own coordinates, for the block `block` (a multiple of the stride)."""
        return np.asarray(window) + (np.asarray(block) * self._plan.stride // self._plan.scales[step])[:, None]

    def fill(self, base: dict[int, _Base], block: np.ndarray) -> list[np.ndarray]:
        """The extras of a block, float32 (1, ...) each, from the unoccluded outputs of the steps."""
        values = []
        for extra in self.extras:
            spans, place = self.moved(extra.step, extra.window, block), (extra, tuple(block.tolist()))
            if extra.kind in ("mask", "share"):
                if place not in self._borders:
                    self._borders[place] = self._border(extra.kind, self._steps[extra.step], spans)
                values.append(self._borders[place])
                continue
            if extra.kind == "ring":
                value = crop(base[extra.step].values, spans)
                changed = self._plan.outputs[extra.step] - np.array(extra.window)[:, :1]
                (top, bottom), (left, right) = np.maximum(changed, 0)
                value[top:bottom, left:right] = 0
            else:
                value = base[extra.step].outside(extra.kind, spans)
            values.append(np.ascontiguousarray(value, np.float32)[None])
        return values

    def _border(self, kind: str, step: Step, spans: np.ndarray) -> np.ndarray:
        """A mask, or a share: kernel size over the number of inputs that are not padding; (1, rows, columns, 1)."""
        sides = []
        for axis, span in enumerate(spans):
            places, kernel = np.arange(*span), step.kernel[axis]
            if kind == "mask":
                sides.append((places >= 0) & (places < step.size[axis]))
                continue
            first, size = places * step.stride[axis] - step.pad[axis], self._steps[step.inputs[0]].size[axis]
            sides.append(kernel / np.maximum(np.minimum(first + kernel, size) - np.maximum(first, 0), 1))
        return np.outer(*sides).astype(np.float32)[None, ..., None]


class _Base:
    """One step's unoccluded output, `values` (rows, columns, channels), and what lies outside windows of it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def outside(self, kind: str, spans: np.ndarray) -> np.ndarray:
        """The sum ("rest") or the maximum ("most") of the values outside `spans`, (channels,)."""
        (rows, columns), _ = overlap(spans, self.values.shape[:2])
        if kind == "rest":
            return self._total - self.values[rows, columns].sum(axis=(0, 1), dtype=np.float64)
        band, (above, below) = self.values[rows], self._maxima
        sides = [side.max(axis=(0, 1), initial=LOWEST) for side in (band[:, : columns.start], band[:, columns.stop :])]
        return np.max([above[rows.start], below[rows.stop], *sides], axis=0)

    @cached_property
    def _total(self) -> np.ndarray:
        return self.values.sum(axis=(0, 1), dtype=np.float64)

    @cached_property
    def _maxima(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows + 1, channels) each: the maximum of all rows before each, and of each row and all after it."""
        rows, lowest = self.values.max(axis=1), np.full((1, self.values.shape[2]), LOWEST)
        above = np.maximum.accumulate(np.vstack([lowest, rows]))
        return above, np.maximum.accumulate(np.vstack([lowest, rows[::-1]]))[::-1]


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
    """A copy of `values` (rows, columns, ...) in `spans`, with zeros where these reach beyond it."""
    out = np.zeros((*(spans[:, 1] - spans[:, 0]), *values.shape[2:]), values.dtype)
    there, here = overlap(spans, values.shape[:2])
    out[here] = values[there]
    return out


def overlap(spans: np.ndarray, size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where `spans` meet an array of `size`: as slices of the array, and as slices of the window."""
    there, here = [], []
    for (first, past), n in zip(spans.tolist(), size, strict=True):
        start = min(max(first, 0), n)
        stop = max(min(past, n), start)
        there.append(slice(start, stop))
        here.append(slice(start - first, stop - first) if stop > start else slice(0, 0))
    return tuple(there), tuple(here)
