"""Occlusion maps: how much the probability of a class falls when a blank box hides a place.

Kermany 2018, STAR Methods, Occlusion Test: "A blank 20x20 pixel box was systematically moved across every possible
position in the image and the probabilities of the disease were recorded. The highest drop in the probability
represents the region of interest that contributed the highest importance to the deep learning algorithm."

Every possible position lies wholly inside the image: an image of s pixels has s - side + 1 a side, 280 for 299 and 20.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.explain.maps import Maps, checked_images, class_codes
from helpers.explain.occlusion_coarse import coarse_to_fine
from helpers.explain.occlusion_plan import best_plan
from helpers.explain.occlusion_sweep import Box, FullSweep, Sweep, WindowSweep
from helpers.run.provenance import digest_of, write_atomically

if TYPE_CHECKING:
    from helpers.explain.classifier import Classifier

PAPER_BOX, PAPER_SIZE = 20, 299  # pixels: "A blank 20x20 pixel box", on InceptionV3's images
LARGEST_STRIDE = 4  # beyond it, windows are used only where they save more than half of the arithmetic
VERSION = 2  # of the stored files' meaning


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


def spread(drops: np.ndarray, starts: np.ndarray, side: int, size: int) -> np.ndarray:
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
    fill: str | float = "black",
    stride: int = 1,
    coarse: int = 0,
    tolerance: float = 0.01,
    mode: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    cache: Path | None = None,
    progress: bool = True,
) -> Maps:
    """Occlusion maps of `images`, uint8 (n, size, size), for `target`, a class name or one an image.

    `box`: pixels a side; 0: the paper's, in proportion. `fill`: "black", "mean" (of the image), or a grey level.
    `stride`: pixels between positions; the last possible one is always among them. `mode`:

    - "full": every occluded image through the whole network;
    - "windows": only what the box changes is recomputed, where the network is built of layers that allow it;
    - "auto": windows where they save anything, else full.

    `precision` "float32" gives the probabilities of Keras to float32's rounding, in every mode. "auto" takes the
    machine's fastest where it is within `occlusion_sweep.TRUST` of that at positions of each image that are checked.

    `coarse`, 2 or more, computes every so-many-th position and those where probabilities change by more than
    `tolerance`, and interpolates the others; `Maps.extra["told"]` then says, an image, what share was skipped and how
    large the error was where it was measured (see `occlusion_coarse`). 0: nothing is skipped.

    A map's pixel is the mean drop in probability over all boxes that cover it. `Maps.extra` keeps what the paper
    recorded: `probabilities` float32 (n, r, r, classes) at every position, `starts` int (r,) the positions' first
    pixels, `unoccluded` float32 (n, classes), and `peak` int (n, 2), row and column of the centre of the box with the
    highest drop.

    With `cache`, a folder, what is done is kept there: finished images by their pixels, the network's weights and the
    settings, an interrupted one by its rows of positions. Only `CHUNK` occluded images are held at a time.
    Raises `ValueError` for settings and images that do not fit the classifier.
    """
    images, began = checked_images(classifier, images), time.monotonic()
    codes = class_codes(classifier, target, len(images))
    size, side = classifier.image_size, box or default_box(classifier.image_size)
    starts = positions(size, side, stride)
    settings = {"box": side, "fill": fill, "stride": stride, "mode": mode, "engine": engine, "precision": precision}
    settings |= {"coarse": coarse, "tolerance": tolerance} if coarse else {}
    work = _Work(classifier, settings, starts, cache, progress)
    done = [work.one(image) for image in images]
    probabilities = np.array([one[0] for one in done], np.float32).reshape(
        len(done), len(starts), len(starts), len(classifier.classes)
    )
    unoccluded = np.array([one[1] for one in done], np.float32).reshape(len(done), len(classifier.classes))
    rows = np.arange(len(done))
    drops = unoccluded[rows, codes, None, None] - probabilities[rows, :, :, codes]
    extra = {"probabilities": probabilities, "starts": starts, "unoccluded": unoccluded}
    extra["told"] = tuple(one[2] for one in done)
    extra["peak"] = np.array([_peak(one, starts, side) for one in drops], int).reshape(-1, 2)
    maps = np.array([spread(one, starts, side, size) for one in drops], np.float32).reshape(-1, size, size)
    names = tuple(classifier.classes[code] for code in codes)
    return Maps(maps, "occlusion", "probability", names, settings, time.monotonic() - began, extra)


def _peak(drops: np.ndarray, starts: np.ndarray, side: int) -> tuple[int, int]:
    row, column = np.unravel_index(drops.argmax(), drops.shape)
    return int(starts[row]) + side // 2, int(starts[column]) + side // 2


def fill_level(fill: str | float, image: np.ndarray) -> float:
    """The grey level 0..255 that `fill` means for `image`."""
    if isinstance(fill, str):
        if fill not in ("black", "mean"):
            raise ValueError(f"fill = '{fill}'; it is black, mean or a grey level")
        return 0.0 if fill == "black" else float(image.mean())
    if not 0 <= fill <= 255:
        raise ValueError(f"fill = {fill}; a grey level is 0 to 255")
    return float(fill)


@dataclass
class _Work:
    """One call's images, one after another. The network is compiled for the first that the cache does not hold."""

    classifier: Classifier
    settings: dict[str, Any]
    starts: np.ndarray
    cache: Path | None
    progress: bool
    sweep: Sweep | None = None

    def one(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
        """Probabilities (r, r, classes) of one image, its own (classes,), and what was skipped."""
        level = fill_level(self.settings["fill"], image)
        name = self._name(image)
        stored = self.cache and self.cache / f"{name}.npz"
        if stored and stored.is_file():
            return _load(stored)
        box = Box(self.settings["box"], level, self.starts)
        self.sweep = self.sweep or make_sweep(self.classifier, **self.settings)
        unoccluded = self.sweep.image(image)
        told: dict[str, float] = {}
        if coarse := self.settings.get("coarse"):
            probabilities, told = coarse_to_fine(self.sweep, box, coarse, self.settings["tolerance"])
        else:
            probabilities = np.concatenate(list(self._bands(box, name)))
        if stored:
            parts = {"probabilities": probabilities, "unoccluded": unoccluded, "told": json.dumps(told)}
            write_atomically(stored, lambda file: np.savez(file, **parts))
            for part in self.cache.glob(f"{name}-*.npy"):
                part.unlink()
        return probabilities, unoccluded, told

    def _bands(self, box: Box, name: str):
        """Yields rows of positions, from disk where they lie there."""
        from tqdm.auto import tqdm

        # Bands end where the sweep's blocks do, so that no block is begun twice.
        edges = np.searchsorted(self.starts, np.arange(0, self.starts[-1] + self.sweep.rows + 1, self.sweep.rows))
        bands = [self.starts[a:b] for a, b in zip(edges, edges[1:], strict=False) if b > a]
        total = len(self.starts) ** 2
        with tqdm(total=total, unit="position", desc="occlusion", disable=not self.progress, leave=False) as bar:
            for rows in bands:
                path = self.cache and self.cache / f"{name}-{rows[0]:04d}-{rows[-1]:04d}.npy"
                if path and path.is_file():
                    found = _load(path)
                else:
                    found = self.sweep.band(box, rows)
                    if path:
                        write_atomically(path, lambda file, found=found: np.save(file, found))
                bar.update(len(rows) * len(self.starts))
                yield found

    def _name(self, image: np.ndarray) -> str:
        """The cache's key: all that makes the probabilities."""
        pixels = hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
        return digest_of({"version": VERSION, "pixels": pixels, "model": self.classifier.key, **self.settings})


def make_sweep(
    classifier: Classifier, box: int, stride: int, mode: str, engine: str, precision: str, **_: Any
) -> Sweep:
    """The sweep that `mode` means; see `occlusion`."""
    if mode not in ("auto", "full", "windows"):
        raise ValueError(f"mode = '{mode}'; it is auto, full or windows")
    plan = best_plan(classifier.model, box)[1] if mode == "auto" else None
    if mode == "windows" or (plan and (stride <= LARGEST_STRIDE or plan.cost < 0.5 * plan.full)):
        return WindowSweep(classifier, box, engine, precision, stride)
    return FullSweep(classifier, box, engine, precision)


def _load(path: Path):
    """A stored band or a finished image; a `ValueError` that names a damaged file."""
    try:
        found = np.load(path, allow_pickle=False)
        if path.suffix == ".npy":
            return found
        return found["probabilities"], found["unoccluded"], json.loads(str(found["told"]))
    except Exception as error:  # numpy and zipfile each have their own
        raise ValueError(f"{path} is damaged ({error}); delete it and run again") from None
