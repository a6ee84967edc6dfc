"""Deletion and insertion (Petsiuk et al. 2018): does the score fall where the map says, and come back with it?

They need no mask, so they serve on real images as well. Their weakness: an image with holes is unlike any training
image. The same curves with pixels in random order show what the holes alone do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from helpers.explain.classifier import Classifier, Predictor
    from helpers.explain.maps import Maps

BLUR = 0.06  # deviation of the blur that stands for "no detail", as a share of the image's side


def deletion_insertion(
    classifier: Classifier,
    images: np.ndarray,
    maps: Maps,
    *,
    steps: int = 16,
    predict: Predictor | None = None,
    random_order: int | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The areas of each image, and the curves: (areas, curves).

    From the most important pixel on, 1/`steps` of the pixels at a time are replaced by the blurred image (`deletion`),
    or brought back into the blurred image (`insertion`), and the probability of the map's target is asked. `areas` has
    `deletion` (low is good) and `insertion` (high is good), means of the probability over the path, 0 to 1, one row an
    image; `curves` has image (its position), share (of pixels changed), deletion, insertion. With `random_order`, a
    seed, pixels go in random order instead.
    """
    from helpers.explain.maps import checked_images, class_codes

    images = checked_images(classifier, images)
    if maps.maps.shape != images.shape or steps < 1:
        raise ValueError(f"images {images.shape}, maps {maps.maps.shape}, steps = {steps} (1 or more)")
    codes, run = class_codes(classifier, maps.target, len(images)), predict or classifier.predictor()
    shares = np.linspace(0, 1, steps + 1)
    parts = []
    for i, image in enumerate(images):
        order = _order(maps.maps[i], None if random_order is None else random_order + i)
        path = [_paths(image, order, shares, delete=delete) for delete in (True, False)]
        chance = run(np.concatenate(path))[:, codes[i]].reshape(2, -1)
        parts.append(pd.DataFrame({"image": i, "share": shares, "deletion": chance[0], "insertion": chance[1]}))
    curves = pd.concat(parts, ignore_index=True)
    areas = {
        name: [float(np.trapezoid(part[name], part["share"])) for part in parts] for name in ("deletion", "insertion")
    }
    return pd.DataFrame(areas), curves


def _order(values: np.ndarray, seed: int | None) -> np.ndarray:
    """Rank of each pixel (h, w), 0 for the most important. Equals come in a fixed random order, not row by row."""
    from scipy.stats import rankdata

    random = np.random.default_rng(0 if seed is None else seed).random(values.size)
    if seed is not None:
        return rankdata(random, method="ordinal").reshape(values.shape) - 1
    order = np.lexsort((random, -values.ravel().astype(np.float64)))
    ranks = np.empty(values.size, np.int64)
    ranks[order] = np.arange(values.size)
    return ranks.reshape(values.shape)


def _paths(image: np.ndarray, order: np.ndarray, shares: np.ndarray, delete: bool) -> np.ndarray:
    """The images along the way, uint8 (steps + 1, h, w)."""
    from scipy.ndimage import gaussian_filter

    blank = np.round(gaussian_filter(image.astype(np.float32), BLUR * len(image))).astype(np.uint8)
    changed = order < np.round(shares * order.size)[:, None, None]
    return np.where(changed, blank, image) if delete else np.where(changed, image, blank)
