"""How a radiograph is shown to the frozen network of the hospitals' study, and the features that gives.

whole   all of it, at the network's size
low     first brought down to 32 x 32 pixels, then to the network's size: the same network, less to see
high    likewise from 224 x 224 pixels
lungs   the box around the lungs alone, with a margin; without a lung mask (real images) `CROP` of every image
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from helpers.data.catalogue import Catalogue
from helpers.data.images import read_grey, read_square, worker_count

if TYPE_CHECKING:
    from helpers.model.backbones import Backbone
    from helpers.run.profile import Profile

WAYS = ("whole", "low", "high", "lungs")
MARGIN = 0.02  # of the image's side, about the box around the lungs
# Rows and columns kept of a real image, as shares: below the shoulders and above the abdomen of a frontal chest film
# as it is usually framed. It cuts the corners, where side markers stand.
CROP = ((0.12, 0.84), (0.12, 0.88))
BATCH = 64


def backbone_of(profile: Profile) -> Backbone:
    """The frozen network of the study."""
    from helpers.model.backbones import load_backbone

    name = profile.sites_backbone or profile.backbone
    return load_backbone(name, profile.weights, profile.sites_size or profile.image_size, profile.seed)


def box_of(lung: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the box around the lungs, a bool mask (h, w), with its margin; the whole where it is
    empty."""
    if not lung.any():
        return slice(0, lung.shape[0]), slice(0, lung.shape[1])
    found = []
    for axis, size in ((1, lung.shape[0]), (0, lung.shape[1])):
        held = np.flatnonzero(lung.any(axis=axis))
        wide = round(MARGIN * size)
        found.append(slice(max(0, int(held[0]) - wide), min(size, int(held[-1]) + 1 + wide)))
    return found[0], found[1]


def crop_of(shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of `CROP` in an image of this shape."""
    return tuple(slice(round(low * n), round(high * n)) for (low, high), n in zip(CROP, shape, strict=True))


def shown(path: Path, size: int, way: str, profile: Profile, lung_mask: Path | None = None) -> np.ndarray:
    """One image as one of `WAYS` shows it, uint8 (size, size). Raises `ValueError` for another way."""
    if way == "whole":
        return read_square(path, size)
    if way in ("low", "high"):
        side = profile.sites_low if way == "low" else profile.sites_high
        return resized(read_square(path, side), size)
    if way != "lungs":
        raise ValueError(f"no way '{way}'; known: {', '.join(WAYS)}")
    grey = read_grey(path)
    box = crop_of(grey.shape) if lung_mask is None else box_of(read_grey(lung_mask) > 127)
    return resized(grey[box], size)


def resized(grey: np.ndarray, size: int) -> np.ndarray:
    """uint8 (size, size), bilinear; squashed where it is no square."""
    return np.array(Image.fromarray(grey).resize((size, size), Image.Resampling.BILINEAR))


def pixels(catalogue: Catalogue, frame: pd.DataFrame, size: int, way: str, profile: Profile) -> np.ndarray:
    """uint8 (n, size, size) of the frame's rows."""
    masks = frame["lung_mask"] if "lung_mask" in frame else [None] * len(frame)
    made = np.empty((len(frame), size, size), np.uint8)

    def fill(k: int, path: str, mask: str | None) -> None:
        made[k] = shown(catalogue.file(path), size, way, profile, mask and catalogue.file(mask))

    with ThreadPoolExecutor(worker_count(profile.workers)) as pool:
        list(pool.map(fill, range(len(frame)), frame["path"], masks))
    return made


def features(catalogue: Catalogue, frame: pd.DataFrame, way: str, backbone: Backbone, profile: Profile) -> np.ndarray:
    """float32 (n, features) of the frame's rows as `way` shows them. Whole images' are kept in the cache."""
    from helpers.model.engine import choose, compile_backbone
    from helpers.model.features import extract_for

    if way == "whole":
        return extract_for(profile, catalogue, backbone).of(frame["image_id"])
    run, made = compile_backbone(backbone, choose(profile.engine, "float32"), BATCH, profile.workers), []
    for first in range(0, len(frame), 8 * BATCH):
        part = frame.iloc[first : first + 8 * BATCH]
        made.append(run(pixels(catalogue, part, backbone.image_size, way, profile)))
    return np.concatenate(made)


def examples(catalogue: Catalogue, frame: pd.DataFrame, size: int = 256) -> dict[str, np.ndarray]:
    """The first test image, by name, of every hospital and department (of phantoms) with its markers; its name: uint8
    (size, size)."""
    rows = frame[(frame["split"] == "test") & (frame["markers"] == "on")].sort_values("image_id")
    names = (rows["site"] + " " + rows["department"]).str.strip() if catalogue.phantom else rows["site"]
    order = list(dict.fromkeys(frame["site"]))
    found = rows.assign(name=names).drop_duplicates("name")
    found = found.sort_values("site", key=lambda sites: sites.map(order.index), kind="stable")
    return {
        row.name_: read_square(catalogue.file(row.path), size)
        for row in found.rename(columns={"name": "name_"}).itertuples()
    }
