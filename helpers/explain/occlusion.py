"""Occlusion maps: how much the probability of a class falls when a blank box hides a place.

Kermany 2018, STAR Methods, Occlusion Test: "A blank 20x20 pixel box was systematically moved across every possible
position in the image and the probabilities of the disease were recorded. The highest drop in the probability
represents the region of interest that contributed the highest importance to the deep learning algorithm."

Every possible position lies wholly inside the image: s - side + 1 per side of s pixels, 280 for 299 and 20.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

import numpy as np

from helpers.explain.maps import Classifier, Maps
from helpers.explain.occlusion_windows import Base, Plan, WindowGraph, best_plan, crop, overlap, trace
from helpers.model.engine import Engine, EngineError, choose, compile_model
from helpers.run.cache import make_key
from helpers.run.provenance import write_atomically

PAPER_BOX, PAPER_SIZE = 20, 299  # pixels: "A blank 20x20 pixel box", on InceptionV3's images
CHUNK = 64  # occluded images, or their parts, held at once where blocks are small
WINDOW_REQUEST = 32  # windows per engine request: they are small
SHARING = 4  # positions a block holds on one axis, from which on its surroundings are sent once for all of them
CHECKED = 16  # positions at which the first image's probabilities are compared with those of Keras
TRUST = 1e-3  # the largest difference in probability there
MAKER = "helpers.explain.occlusion:occlusion"  # whose code is part of what is kept


def default_box(size: int) -> int:
    """The paper's box in proportion to an image of `size` pixels a side; at least 1."""
    return max(1, round(PAPER_BOX * size / PAPER_SIZE))


def positions(size: int, side: int, stride: int = 1) -> np.ndarray:
    """First pixels of the box on one axis: every `stride`-th, and the last possible one, so that no border is left out.

    Raises `ValueError` for a box larger than the image, and for strides that would leave pixels uncovered.
    """
    if not 1 <= side <= size:
        raise ValueError(f"a box of {side} pixels does not fit into an image of {size}")
    if not 1 <= stride <= side:
        raise ValueError(f"stride = {stride}; with a box of {side} pixels it is 1 to {side}")
    return np.unique(np.append(np.arange(0, size - side + 1, stride), size - side))


def mean_drop(drops: np.ndarray, starts: np.ndarray, side: int, size: int) -> np.ndarray:
    """float32 (size, size): at each pixel the mean of `drops` (positions, positions) over all boxes that cover it."""
    total, count = np.zeros((size + 1, size + 1)), np.zeros((size + 1, size + 1))
    for values, into in ((drops, total), (np.ones_like(drops), count)):
        for sign, rows, columns in ((1, 0, 0), (-1, 0, side), (-1, side, 0), (1, side, side)):
            into[np.ix_(starts + rows, starts + columns)] += sign * values
    total, count = (one.cumsum(axis=0).cumsum(axis=1)[:size, :size] for one in (total, count))
    return (total / count.round()).astype(np.float32)


def occlusion(
    classifier: Classifier,
    images: np.ndarray,
    target: str | Sequence[str],
    box: int,
    stride: int = 1,
    cache: Path | None = None,
) -> Maps:
    """Occlusion maps of `images`, uint8 (n, size, size), for `target`, a class name or one per image.

    `box`: pixels a side, black. `stride`: pixels between positions; the last
    possible one is always among them. Where the network is built of layers that allow it, only what the box changes is
    recomputed; the probabilities are those of Keras to float32's rounding all the same.

    A map's pixel is the mean drop in probability over all boxes that cover it. `Maps.extra` keeps what the paper
    recorded: `probabilities` float32 (n, r, r, classes) at every position, `starts` int (r,) the positions' first
    pixels, `unoccluded` float32 (n, classes), and `peak` int (n, 2), row and column of the centre of the box with the
    highest drop.

    In `cache`, a folder, finished images are kept under a key of their pixels, weights, settings and this code. Raises
    `ValueError` for settings and images that do not fit the classifier, `EngineError` for an engine that is inexact.
    """
    images, began = classifier.check(images), monotonic()
    codes, size = classifier.codes(target, len(images)), classifier.image_size
    starts = positions(size, box, stride)
    settings, sweep, maps, peaks = {"box": box, "stride": stride}, None, [], []
    corners = np.stack(np.meshgrid(starts, starts, indexing="ij"), axis=-1).reshape(-1, 2)
    unoccluded = np.empty((len(images), len(classifier.classes)), np.float32)
    probabilities = np.empty((len(images), len(corners), len(classifier.classes)), np.float32)
    key = make_key(MAKER, settings, [classifier.key]) if cache else ""
    for i, image in enumerate(images):
        stored = cache and cache / f"{key}-{hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:16]}.npz"
        if stored and stored.is_file():
            with np.load(stored, allow_pickle=False) as found:
                unoccluded[i], probabilities[i] = found["unoccluded"], found["probabilities"]
        else:
            sweep = sweep or make_sweep(classifier, box, stride, image)
            unoccluded[i] = sweep.take(image)
            probabilities[i] = sweep.at(0.0, corners)
            if stored:
                parts = {"unoccluded": unoccluded[i], "probabilities": probabilities[i]}
                write_atomically(stored, lambda file, parts=parts: np.savez(file, **parts))
        drops = (unoccluded[i, codes[i]] - probabilities[i, :, codes[i]]).reshape(len(starts), len(starts))
        peaks.append(corners[drops.argmax()] + box // 2)
        maps.append(mean_drop(drops, starts, box, size))
    extra = {"probabilities": probabilities.reshape(len(images), len(starts), len(starts), -1), "starts": starts}
    extra |= {"unoccluded": unoccluded, "peak": np.array(peaks)}
    return Maps(np.array(maps), "occlusion", "probability", monotonic() - began, extra)


def make_sweep(classifier: Classifier, side: int, stride: int, image: np.ndarray) -> Sweep:
    """The probabilities at any position, compared with those of Keras at `CHECKED` positions of `image`."""
    chosen, random = choose("auto", "float32"), np.random.default_rng(0)
    sweep = Sweep(classifier, side, stride, chosen, best_plan(trace(classifier.model), side))
    corners = random.integers(0, classifier.image_size - side + 1, (CHECKED, 2))
    expected = classifier.model.predict_on_batch(occluded(image, side, 0.0, corners))
    sweep.take(image)
    if not (off := float(np.abs(sweep.at(0.0, corners) - expected).max())) <= TRUST:
        raise EngineError(f"occlusion by {chosen} is {off:.2g} off Keras in probability; set ENGINE=keras")
    return sweep


def occluded(image: np.ndarray, side: int, level: float, corners: np.ndarray) -> np.ndarray:
    """float32 (b, rows, columns, 1): `image` with a box at each of `corners` (b, 2), which may lie beyond it."""
    out = np.repeat(image[None].astype(np.float32), len(corners), axis=0)
    for one, (top, left) in zip(out, corners, strict=True):
        one[top : top + side, left : left + side] = level
    return out[..., None]


class Sweep:
    """The probabilities at any position of the box, in float32: a plan's early layers are recomputed only around the
    box (see `occlusion_windows`), the others in full.

    Positions are taken in blocks that share all that lies around them; where `stride`, the pixels between positions,
    leaves only a few in a block, each is sent with its own surroundings instead, so that batches stay full.
    """

    def __init__(self, classifier: Classifier, side: int, stride: int, engine: Engine, plan: Plan) -> None:
        import keras

        held, steps, output = len(range(0, plan.stride, stride)), plan.steps, classifier.model.outputs[0]
        self._side, self.plan, self._shared, self._after = side, plan, held >= SHARING, None
        self._graph = WindowGraph(plan, self._shared)
        self._before = compile_model(self._graph.model, engine, CHUNK, min(WINDOW_REQUEST, max(held**2, 16)))
        if plan.last < len(steps) - 1:
            self._after = compile_model(keras.Model(steps[plan.last].tensor, output, name="rest"), engine, CHUNK)
        self._needed = sorted({extra.step for extra in self._graph.extras} | {0, *([plan.last] if self._after else [])})
        self._known = keras.Model(steps[0].tensor, [*(steps[one].tensor for one in self._needed), output])

    def take(self, image: np.ndarray) -> np.ndarray:
        """Set the image to occlude, uint8 (size, size); returns its own probabilities (classes,)."""
        *base, probabilities = self._known.predict_on_batch(image[None, ..., None].astype(np.float32))
        self._base = {step: Base(values[0]) for step, values in zip(self._needed, base, strict=True)}
        return probabilities[0]

    def at(self, level: float, corners: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (b, classes), of boxes whose top left pixels are `corners`, int (b, 2)."""
        _, mine, counts = np.unique(corners // self.plan.stride, axis=0, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)[:-1] if self._shared else range(CHUNK, len(corners), CHUNK)
        order = np.argsort(mine.ravel(), kind="stable")
        found = [self._chunk(level, corners[rows]) for rows in np.split(order, ends)]
        return np.concatenate(found)[np.argsort(order)]

    def _chunk(self, level: float, corners: np.ndarray) -> np.ndarray:
        """Probabilities (b, classes) of a few positions, `corners` (b, 2); of one block where blocks share."""
        blocks = corners // self.plan.stride
        spans = self.plan.moved(0, self.plan.outputs[0], blocks)
        patches = crop(self._base[0].values, spans)
        for patch, (top, left) in zip(patches, corners - spans[..., 0], strict=True):
            patch[top : top + self._side, left : left + self._side] = level
        filled = self._graph.fill(self._base, blocks[:1] if self._shared else blocks)
        windows = self._before(patches, *filled)
        return self._after(self._whole(windows, blocks)) if self._after else windows

    def _whole(self, windows: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        """The windows (b, rows, columns, channels) of the plan's last step among its unoccluded values."""
        last = self.plan.last
        whole = np.repeat(self._base[last].values[None], len(windows), axis=0)
        for one, window, place in zip(whole, windows, blocks, strict=True):
            there, here = overlap(self.plan.moved(last, self.plan.outputs[last], place), one.shape[:2])
            one[there] = window[here]
        return whole
