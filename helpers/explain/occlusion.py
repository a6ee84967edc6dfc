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
from helpers.explain.occlusion_plan import best_plan, trace
from helpers.explain.occlusion_sweep import FullSweep, WindowSweep, occluded
from helpers.model.engine import EngineError, choose
from helpers.run.cache import make_key
from helpers.run.provenance import write_atomically

PAPER_BOX, PAPER_SIZE = 20, 299  # pixels: "A blank 20x20 pixel box", on InceptionV3's images
LARGEST_STRIDE = 4  # beyond it, windows are used only where they save more than half of the arithmetic
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
    box: int = 0,
    fill: str = "black",
    stride: int = 1,
    engine: str = "auto",
    cache: Path | None = None,
) -> Maps:
    """Occlusion maps of `images`, uint8 (n, size, size), for `target`, a class name or one per image.

    `box`: pixels a side; 0: the paper's, in proportion. `fill`: "black", or "mean" (of the image). `stride`: pixels
    between positions; the last possible one is always among them. Where the network is built of layers that allow it,
    only what the box changes is recomputed; the probabilities are those of Keras to float32's rounding all the same.

    A map's pixel is the mean drop in probability over all boxes that cover it. `Maps.extra` keeps what the paper
    recorded: `probabilities` float32 (n, r, r, classes) at every position, `starts` int (r,) the positions' first
    pixels, `unoccluded` float32 (n, classes), and `peak` int (n, 2), row and column of the centre of the box with the
    highest drop.

    In `cache`, a folder, finished images are kept under a key of their pixels, weights, settings and this code. Raises
    `ValueError` for settings and images that do not fit the classifier, `EngineError` for an engine that is inexact.
    """
    images, began = classifier.check(images), monotonic()
    codes, size = classifier.codes(target, len(images)), classifier.image_size
    side = box or default_box(size)
    starts = positions(size, side, stride)
    if fill not in ("black", "mean"):
        raise ValueError(f"fill = '{fill}'; it is black or mean")
    settings, sweep, maps, peaks = {"box": side, "fill": fill, "stride": stride}, None, [], []
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
            sweep = sweep or make_sweep(classifier, side, stride, engine, image)
            unoccluded[i] = sweep.take(image)
            probabilities[i] = sweep.at(0.0 if fill == "black" else float(image.mean()), corners)
            if stored:
                parts = {"unoccluded": unoccluded[i], "probabilities": probabilities[i]}
                write_atomically(stored, lambda file, parts=parts: np.savez(file, **parts))
        drops = (unoccluded[i, codes[i]] - probabilities[i, :, codes[i]]).reshape(len(starts), len(starts))
        peaks.append(corners[drops.argmax()] + side // 2)
        maps.append(mean_drop(drops, starts, side, size))
    extra = {"probabilities": probabilities.reshape(len(images), len(starts), len(starts), -1), "starts": starts}
    extra |= {"unoccluded": unoccluded, "peak": np.array(peaks)}
    return classifier.maps(began, codes, np.array(maps), "occlusion", "probability", extra, **settings)


def make_sweep(
    classifier: Classifier, side: int, stride: int, engine: str, image: np.ndarray
) -> FullSweep | WindowSweep:
    """The cheaper way to the probabilities, compared with Keras at `CHECKED` positions of `image`."""
    steps, chosen = trace(classifier.model), choose(engine, "float32")
    plan = best_plan(steps, side)
    if plan and (stride <= LARGEST_STRIDE or plan.cost < 0.5 * plan.full):
        sweep = WindowSweep(classifier, side, chosen, steps, plan, stride)
    else:
        sweep = FullSweep(classifier, side, chosen)
    corners = np.random.default_rng(0).integers(0, classifier.image_size - side + 1, (CHECKED, 2))
    expected = classifier.model.predict_on_batch(occluded(image, side, 0.0, corners))
    sweep.take(image)
    if not (off := float(np.abs(sweep.at(0.0, corners) - expected).max())) <= TRUST:
        raise EngineError(f"occlusion by {chosen} is {off:.2g} off Keras in probability; set ENGINE=keras")
    return sweep
