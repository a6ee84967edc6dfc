"""The probabilities at every position of the box: every image in full, or only what the box changes.

Both hold a few dozen occluded images at a time, however many positions there are.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from helpers.explain import occlusion_local as local
from helpers.explain.occlusion_plan import Plan, Step, best_plan
from helpers.explain.occlusion_rest import rest_of
from helpers.explain.runner import compile_model
from helpers.model.engine import Engine, EngineError, EngineWarning, candidates

if TYPE_CHECKING:
    from helpers.explain.classifier import Classifier

CHUNK = 64  # occluded images, or their parts, held at once
WINDOW_REQUEST = 32  # windows an engine request: they are small
SHARING = 4  # positions a block holds on one axis, from which on its surroundings are sent once for all of them
CHECKED = 16  # positions at which an image's probabilities are compared with those of Keras
TRUST = 0.005  # the largest difference in probability there; half of what a map may be off anywhere


@dataclass(frozen=True)
class Box:
    """`side` pixels of grey level `level`; its top left corners: `starts`, the same for rows and columns."""

    side: int
    level: float
    starts: np.ndarray


class Sweep(Protocol):
    """A way to get the probabilities. `engine` runs it; `rows` is how many rows of positions it does best at once."""

    engine: Engine
    rows: int

    def image(self, image: np.ndarray) -> np.ndarray:
        """Takes uint8 (size, size) as the image to occlude; returns its own probabilities (classes,)."""

    def at(self, box: Box, corners: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (b, classes), of boxes whose top left pixels are `corners`, int (b, 2)."""

    def band(self, box: Box, rows: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (len(rows), len(box.starts), classes), for top edges `rows`."""


def occluded(image: np.ndarray, box: Box, corners: np.ndarray) -> np.ndarray:
    """float32 (b, rows, columns, 1): `image` with the box at each of `corners` (b, 2), which may lie beyond it."""
    out = np.repeat(image[None].astype(np.float32), len(corners), axis=0)
    for one, (top, left) in zip(out, corners, strict=True):
        one[top : top + box.side, left : left + box.side] = box.level
    return out[..., None]


class _Checked:
    """An engine held against Keras in float32 on the images themselves: a first one always, each where its precision is
    reduced, at `CHECKED` positions. Beyond `trust` the next engine is taken, with an `EngineWarning`.
    """

    def _begin(self, classifier: Classifier, side: int, engines: list[Engine], trust: float) -> None:
        self._classifier, self._side, self._trust = classifier, side, trust
        self._engines, self._checked = iter(engines), False
        self._next_engine()

    def _next_engine(self) -> None:
        chosen = next(self._engines, None)
        if chosen is None:
            raise EngineError(f"no engine gives this network's probabilities to within {self._trust}")
        self.engine = chosen
        self._compile(chosen)

    def image(self, image: np.ndarray) -> np.ndarray:
        """As `Sweep.image`."""
        probabilities = self._take(image)
        if self.engine.precision == "float32" and self._checked:
            return probabilities
        last = self._classifier.image_size - self._side
        box = Box(self._side, 0.0, np.arange(last + 1))
        corners = np.random.default_rng(0).integers(0, last + 1, (CHECKED, 2))
        expected = np.asarray(self._classifier.model(occluded(image, box, corners), training=False))
        while not (off := float(np.abs(self.at(box, corners) - expected).max())) <= self._trust:
            warnings.warn(f"{self.engine} is {off:.2g} off Keras in float32", EngineWarning, stacklevel=2)
            self._next_engine()
            probabilities = self._take(image)
        self._checked = True
        return probabilities

    def band(self, box: Box, rows: np.ndarray) -> np.ndarray:
        """As `Sweep.band`."""
        return self.at(box, _corners(rows, box.starts)).reshape(len(rows), len(box.starts), -1)


class FullSweep(_Checked):
    """Every occluded image through the whole network."""

    rows = 8

    def __init__(
        self, classifier: Classifier, side: int, engine: str = "auto", precision: str = "auto", trust: float = TRUST
    ) -> None:
        self._begin(classifier, side, candidates(engine, precision), trust)

    def _compile(self, engine: Engine) -> None:
        self._function = compile_model(self._classifier.model, engine, CHUNK)

    def _take(self, image: np.ndarray) -> np.ndarray:
        self._image = image
        return self._function(image[None, ..., None].astype(np.float32))[0]

    def at(self, box: Box, corners: np.ndarray) -> np.ndarray:
        """Probabilities (b, classes) at any positions `corners` (b, 2)."""
        starts = range(0, len(corners), CHUNK)
        parts = [self._function(occluded(self._image, box, corners[one : one + CHUNK])) for one in starts]
        return np.concatenate(parts)


class WindowSweep(_Checked):
    """Early layers recomputed only around the box (see `occlusion_plan`), the others in full.

    Positions are taken in blocks that share all that lies around them; where a stride leaves only a few in a block,
    each is sent with its own surroundings instead, so that batches stay full. Where the engine has a faster precision
    than float32, the late layers run in it on differences (see `occlusion_difference`), and the windows in float32.
    Raises `ValueError` where the network has no part that could be recomputed so.
    """

    def __init__(
        self,
        classifier: Classifier,
        side: int,
        engine: str = "auto",
        precision: str = "auto",
        stride: int = 1,
        trust: float = TRUST,
    ) -> None:
        self._steps, plan = best_plan(classifier.model, side)
        if plan is None:
            raise ValueError("recomputing windows saves nothing in this network")
        self.plan: Plan = plan
        self.rows, held = plan.block, len(range(0, plan.block, stride))  # positions a block holds on one axis
        self._shared = held >= SHARING
        self._request = min(WINDOW_REQUEST, held**2) if self._shared else WINDOW_REQUEST
        self._borders: dict = {}  # what `local.fill` keeps
        self._windows, self._extras = local.build(self._steps, plan, self._shared)
        self._known = _known_outputs(classifier, self._extras, self._steps, plan)
        self._begin(classifier, side, _engines(engine, precision, plan.last == len(self._steps) - 1), trust)

    def _compile(self, engine: Engine) -> None:
        self._after = rest_of(self._classifier, self._steps, self.plan, engine, CHUNK)
        windows = replace(engine, precision="float32") if self._after and self._after.differences else engine
        self._before = compile_model(self._windows, windows, CHUNK, self._request)

    def _take(self, image: np.ndarray) -> np.ndarray:
        *base, probabilities = self._known(image[None, ..., None].astype(np.float32))
        self._image = image.astype(np.float32)
        self._base = {step: local.Layer(np.asarray(value)[0]) for step, value in base}
        if self._after:
            self._after.take(self._base[self.plan.last].values)
        return np.asarray(probabilities)[0]

    def at(self, box: Box, corners: np.ndarray) -> np.ndarray:
        """Probabilities (b, classes) at any positions; those of one block are taken together."""
        out = np.empty((len(corners), len(self._classifier.classes)), np.float32)
        blocks, mine = np.unique(corners // self.plan.stride, axis=0, return_inverse=True)
        order, mine = np.argsort(mine.ravel(), kind="stable"), mine.ravel()
        if self._shared:
            chunks = [rows for number in range(len(blocks)) for rows in _chunks(np.flatnonzero(mine == number))]
        else:
            chunks = _chunks(order)
        for rows in chunks:
            out[rows] = self._chunk(box, corners[rows], blocks[mine[rows]])
        return out

    def _chunk(self, box: Box, corners: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        """Probabilities (b, classes) of `CHUNK` positions at most, `corners` (b, 2), each in its block (b, 2)."""
        places, mine = np.unique(blocks, axis=0, return_inverse=True)
        places, mine = [tuple(int(one) for one in place) for place in places], mine.ravel()
        spans = [local.shifted(self.plan, 0, self.plan.outputs[0], place) for place in places]
        patches = np.concatenate(
            [
                occluded(local.crop(self._image, spans[k]), box, one[None] - _first(spans[k]))
                for k, one in zip(mine, corners, strict=True)
            ]
        )
        filled = [
            local.fill(self._extras, self._steps, self.plan, self._base, place, self._borders) for place in places
        ]
        extras = filled[0] if self._shared else [np.concatenate(each) for each in zip(*filled, strict=True)]
        if not self._shared and len(places) < len(mine):  # some share a block: each has its own row all the same
            extras = [each[mine] for each in extras]
        windows = self._before(patches, *extras)
        return windows if self._after is None else self._after(windows, [places[k] for k in mine])


def _known_outputs(classifier: Classifier, extras: list[local.Extra], steps: list[Step], plan: Plan):
    """A function of an image (1, size, size, 1): (step, output) where that is needed, and last the probabilities."""
    import keras
    import tensorflow as tf

    needed = {extra.step for extra in extras if extra.kind in ("ring", "rest", "most")}
    needed = sorted(needed | ({plan.last} if plan.last < len(steps) - 1 else set()))
    model = keras.Model(
        classifier.model.inputs[0], [*(steps[one].tensor for one in needed), classifier.model.outputs[0]]
    )

    traced = tf.function(lambda image: model(image, training=False), autograph=False)

    def known(image: np.ndarray) -> list:
        *values, probabilities = traced(tf.constant(image))
        return [*zip(needed, values, strict=True), probabilities]

    return known


def _engines(engine: str, precision: str, all_windows: bool) -> list[Engine]:
    """The engines to try. Windows alone are too small a work to gain by a reduced precision, and lose exactness."""
    if all_windows and precision == "auto":
        return [replace(one, reason="windows are small") for one in candidates(engine, "float32")]
    return candidates(engine, precision)


def _chunks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[first : first + CHUNK] for first in range(0, len(rows), CHUNK)]


def _first(spans) -> np.ndarray:
    return np.array([span[0] for span in spans])


def _corners(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """int (rows * columns, 2), row by row."""
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
