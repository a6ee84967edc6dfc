"""What of a radiograph the frozen network is shown: all of it, few pixels of it, the lungs, or a region found first.

whole   all of it, at the network's size
low     first brought down to 32 x 32 pixels, then to the network's size: the same network, less to see
high    likewise from 224 x 224 pixels
lungs   the box around the lungs alone, with a margin; without a lung mask (real images) `CROP` of every image

The talk's way forward is tried as well (`train_region_models`): find the region, keep its resolution, then classify.
Gale et al.'s network first had to "locate head of femur" at full resolution; Chang et al.'s proposed regions. Here a
small finder is trained to point at the right lung's apex on the image at low resolution, and the same frozen network
sees the whole image at the crop's number of pixels ("whole, low") or at full resolution ("whole, full"), the crop at
full resolution where the finder points ("found region"), or where the region truly is ("true region").
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import find_objects

from helpers.data.catalogue import Catalogue
from helpers.data.images import read_grey, read_square, slices_of
from helpers.model.backbones import Backbone, load_backbone
from helpers.model.engine import choose, compile_backbone
from helpers.model.experiment import Inputs, Results, scores_of
from helpers.model.features import extract
from helpers.model.head import fit_head
from helpers.phantoms.chest_findings import right_apex
from helpers.phantoms.chest_plans import REGIONS
from helpers.run.profile import Profile
from helpers.run.provenance import available_cores

VARIANTS = ("whole", "low", "high", "lungs")
SIDES = {"low": 32, "high": 224}  # pixels a side; slides: "32 x 32", "224 x 224"
MARGIN = 0.02  # of the image's side, about the box around the lungs
# Rows and columns kept of a real image, as shares: below the shoulders and above the abdomen of a frontal chest film
# as it is usually framed. It cuts the corners, where side markers stand.
CROP = ((0.12, 0.84), (0.12, 0.88))
BATCH = 64

PENALTIES = (0.003, 0.03, 0.3, 3.0)  # of the squared weights, tried by every head of Zech's frozen networks
REGION_VARIANTS = ("whole, low", "whole, full", "found region", "true region")
REGION_SIDE = 128  # pixels a side of the crop, of 512, and of the whole image at low resolution
FINDER_SIDE = 32  # pixels a side of the image that the finder sees
FINDER_PENALTIES = (1.0, 10.0, 100.0, 1000.0)


# --- an image's variants ---------------------------------------------------------------------------------------------


def load_site_backbone(settings: Profile, size: int = 0) -> Backbone:
    """The frozen network of the sites' study, for images of `size` pixels (0: as the profile has it)."""
    name, size = settings.sites_backbone or settings.backbone, size or settings.sites_size or settings.image_size
    return load_backbone(name, settings.weights, size, settings.seed)


def features_of(
    catalogue: Catalogue, frame: pd.DataFrame, variant: str, backbone: Backbone, settings: Profile
) -> np.ndarray:
    """float32 (n, features) of the frame's rows as `variant` shows them. Whole images' are kept in the cache."""
    if variant == "whole" or SIDES.get(variant) == backbone.image_size:
        return extract(settings, catalogue, backbone).of(frame["image_id"])
    run, parts = compile_backbone(backbone, choose(settings.engine, "float32"), BATCH, settings.workers), []
    for first in range(0, len(frame), 8 * BATCH):
        part = frame.iloc[first : first + 8 * BATCH]
        parts.append(run(read_variant(catalogue, part, backbone.image_size, variant, settings.workers)))
    return np.concatenate(parts)


def read_variant(catalogue: Catalogue, frame: pd.DataFrame, size: int, variant: str, workers: int = 0) -> np.ndarray:
    """The frame's images as one of `VARIANTS`, uint8 (n, size, size)."""
    masks = frame["lung_mask"] if "lung_mask" in frame else [None] * len(frame)

    def read(path: str, mask: str | None) -> np.ndarray:
        if variant != "lungs":
            image = read_square(catalogue.file(path), SIDES.get(variant, size))
            return resized(image, size) if variant in SIDES else image
        grey = read_grey(catalogue.file(path))
        box = slices_of(CROP, grey.shape) if mask is None else box_of(read_grey(catalogue.file(mask)) > 127)
        return resized(grey[box], size)

    with ThreadPoolExecutor(workers or available_cores()) as pool:
        return np.stack(list(pool.map(read, frame["path"], masks)))


def resized(grey: np.ndarray, size: int) -> np.ndarray:
    """uint8 (size, size), bilinear; squashed where it is no square."""
    return np.array(Image.fromarray(grey).resize((size, size), Image.Resampling.BILINEAR))


def box_of(lung: np.ndarray) -> tuple[slice, ...]:
    """Rows and columns of the box around a lung mask, bool (h, w), with its margin."""
    found = find_objects(lung.astype(np.uint8))[0]
    wide = [round(MARGIN * size) for size in lung.shape]
    return tuple(slice(max(0, one.start - more), one.stop + more) for one, more in zip(found, wide, strict=True))


# --- the region, found first -----------------------------------------------------------------------------------------


def train_region_models(inputs: Inputs) -> Results:
    """Fit a head on each of `REGION_VARIANTS` of phantoms with and without a small nodule.

    Tables: scores (see `scores_of`, with way, one of the variants), finder (its error in pixels on every image).
    """
    catalogue, frame = inputs.others["regions"].catalogue, inputs.others["regions"].frame
    images = np.array([read_grey(catalogue.file(path)) for path in frame["path"]])
    true = np.array([right_apex(read_grey(catalogue.file(path)) > 127) for path in frame["lung_mask"]])
    found = find_regions(images, true, frame["split"].to_numpy())
    low = np.array([resized(image, REGION_SIDE) for image in images])
    shown = dict(zip(REGION_VARIANTS, (low, images, crops(images, found), crops(images, true)), strict=True))
    scores = [_score_variant(shown[way], frame, inputs.settings).assign(way=way) for way in shown]
    finder = frame[["image_id", "patient_id", "label", "split"]].assign(
        found_row=found[:, 0], found_column=found[:, 1], true_row=true[:, 0], true_column=true[:, 1],
        error=np.hypot(*(found - true).T),
    )  # fmt: skip
    return Results(catalogue.classes, {"scores": pd.concat(scores, ignore_index=True), "finder": finder})


def find_regions(images: np.ndarray, true: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """Middles of the regions, (n, 2) rows and columns, as a ridge regression on images (n, h, w) at low resolution
    finds them; its penalty is chosen on the validation images."""
    from sklearn.linear_model import Ridge

    seen = np.array([resized(image, FINDER_SIDE).ravel() for image in images], np.float32) / 255
    train, validation = splits == "train", splits == "validation"
    found = [Ridge(penalty).fit(seen[train], true[train]).predict(seen) for penalty in FINDER_PENALTIES]
    return min(found, key=lambda one: np.square(one - true)[validation].mean())


def crops(images: np.ndarray, centres: np.ndarray, side: int = REGION_SIDE) -> np.ndarray:
    """uint8 (n, side, side) about the centres (n, 2), moved inwards where they would pass the border."""
    corners = corners_of(images.shape[1:], centres, side)
    return np.array([image[r : r + side, c : c + side] for image, (r, c) in zip(images, corners, strict=True)])


def corners_of(shape: tuple[int, int], centres: np.ndarray, side: int = REGION_SIDE) -> np.ndarray:
    """int (n, 2): the upper left corners of `crops` in images of this shape."""
    return np.clip(np.rint(centres).astype(int) - side // 2, 0, np.array(shape) - side)


def _score_variant(images: np.ndarray, frame: pd.DataFrame, settings: Profile) -> pd.DataFrame:
    backbone = load_site_backbone(settings, images.shape[1])
    features = compile_backbone(backbone, choose(settings.engine, "float32"), BATCH, settings.workers)(images)
    head = fit_head(features, frame["label"], frame["split"], REGIONS.classes, PENALTIES).best
    held_out = (frame["split"] != "train").to_numpy()
    return scores_of(frame[held_out], head.predict(features[held_out]), head.classes, "validation")


# --- images for figures ----------------------------------------------------------------------------------------------


def site_examples(catalogue: Catalogue, frame: pd.DataFrame, size: int = 256) -> dict[str, np.ndarray]:
    """The first test image, by name, of every site and department (of phantoms) with its markers; its name: uint8
    (size, size)."""
    rows = frame[(frame["split"] == "test") & (frame["markers"] == "on")].sort_values("image_id")
    names = (rows["site"] + " " + rows["department"]).str.strip() if catalogue.phantom else rows["site"]
    rows = rows.assign(title=names).drop_duplicates("title")
    rows = rows.iloc[pd.Categorical(rows["site"], frame["site"].unique()).argsort(kind="stable")]
    return {row.title: read_square(catalogue.file(row.path), size) for row in rows.itertuples(index=False)}


def region_example(catalogue: Catalogue, finder: pd.DataFrame) -> tuple[np.ndarray, dict, dict[str, np.ndarray]]:
    """The first test image with a nodule, by name: the image, the upper left corners of the crops, and what the network
    sees."""
    row = finder[(finder["split"] == "test") & (finder["label"] == "Nodule")].sort_values("image_id").iloc[0]
    path = catalogue.frame.set_index("image_id").loc[row["image_id"], "path"]
    image = read_grey(catalogue.file(path))
    centres = {name: np.array([[row[f"{name}_row"], row[f"{name}_column"]]]) for name in ("found", "true")}
    corners = {f"{name} region": tuple(corners_of(image.shape, centre)[0].tolist()) for name, centre in centres.items()}
    seen = {"whole, low": resized(image, REGION_SIDE), "found region": crops(image[None], centres["found"])[0]}
    return image, corners, seen
