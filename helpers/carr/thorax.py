"""Radiographs with the lungs blacked out, with nothing but the lungs, and with nothing but the border.

Maguolo and Nanni 2020 ("A critic evaluation of methods for COVID-19 automatic detection from X-ray images") showed that
a classifier can tell COVID-19 collections apart with the middle of every image blacked out: what it used was no lung.
One box is cut from all images of a data set, whatever is in them: a mask of each image's own lungs would give away by
its shape what it is to hide.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.images import read_square

BOX = (0.08, 0.9, 0.06, 0.94)  # top, bottom, left, right of frontal lungs, as shares, where no mask is known
COVERED = 0.995  # share of all lungs' pixels that a box from masks holds, along each axis
BORDER = 0.08  # width of the border, as a share of the side


def lungs_box(catalogue: Catalogue, size: int) -> tuple[int, int, int, int]:
    """Rows and columns (first, last + 1; first, last + 1) of the box that holds the lungs, in images of `size` pixels.

    Where lungs are known (phantoms), the smallest that leaves out no more than a two-hundredth of their pixels along
    either axis; else `BOX`, a rough one: real lungs differ in place, and what is left outside of it may hold some.
    """
    frame = catalogue.frame
    if "lung_mask" not in frame or frame["lung_mask"].isna().any():
        top, bottom, left, right = (round(share * size) for share in BOX)
        return top, bottom, left, right
    share = np.zeros((size, size))
    for path in frame["lung_mask"]:
        share += read_square(catalogue.file(path), size) > 127
    return *_extent(share.sum(axis=1)), *_extent(share.sum(axis=0))


def _extent(weights: np.ndarray) -> tuple[int, int]:
    """First and last + 1 place that hold `COVERED` of the weight, as much being left out at either end."""
    inside = np.cumsum(weights) / weights.sum()
    out = (1 - COVERED) / 2
    return int(np.searchsorted(inside, out)), int(np.searchsorted(inside, 1 - out)) + 1


def views(pixels: np.ndarray, box: tuple[int, int, int, int]) -> dict[str, np.ndarray]:
    """The images, uint8 (n, size, size), as they are and in three ways to hide a part: "whole image", "lungs blacked
    out", "lungs only" (its complement), "border only"."""
    top, bottom, left, right = box
    inside = np.zeros(pixels.shape[1:], bool)
    inside[top:bottom, left:right] = True
    edge = max(1, round(BORDER * pixels.shape[1]))
    middle = np.zeros_like(inside)
    middle[edge:-edge, edge:-edge] = True
    hidden = {"lungs blacked out": inside, "lungs only": ~inside, "border only": middle}
    return {"whole image": pixels} | {name: np.where(mask, np.uint8(0), pixels) for name, mask in hidden.items()}


def masks_of(catalogue: Catalogue, frame: pd.DataFrame, size: int) -> np.ndarray:
    """bool (n, size, size): each image's lungs where they are known, else the box (see `lungs_box`) for all."""
    if "lung_mask" in frame and frame["lung_mask"].notna().all():
        return np.stack([read_square(catalogue.file(path), size) > 127 for path in frame["lung_mask"]])
    made = np.zeros((len(frame), size, size), bool)
    top, bottom, left, right = lungs_box(catalogue, size)
    made[:, top:bottom, left:right] = True
    return made
