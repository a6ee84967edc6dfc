"""The talk's way forward, tried: find the region, keep its resolution, then classify.

Gale et al.'s network first had to "locate head of femur" at full resolution; Chang et al.'s proposed regions. Here a
small finder is trained to point at the right lung's apex on the image at low resolution, and the same frozen network
sees

    whole, low     the whole image at the crop's number of pixels
    whole, full    the whole image at full resolution
    found region   the crop at full resolution where the finder points
    true region    the crop where the region truly is: what a perfect finder would give
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.images import read_grey
from helpers.data.splits import split
from helpers.model.linear import fit
from helpers.phantoms.chest_findings import right_apex
from helpers.phantoms.chest_plans import REGIONS
from helpers.zech.site_pixels import resized

if TYPE_CHECKING:
    from helpers.model.networks import Given, Made
    from helpers.run.profile import Profile

CROP = 128  # pixels a side of the crop, of 512, and of the whole image at low resolution
SEEN = 32  # pixels a side of the image that the finder sees
FINDER_PENALTIES = (1.0, 10.0, 100.0, 1000.0)
WAYS = ("whole, low", "whole, full", "found region", "true region")
VALIDATION = 0.25  # of the training patients


def region_models(given: Given) -> Made:
    """Tables: scores (image_id, patient_id, label, split, selection, way, p_Nodule), finder (its error in pixels on the
    held-out images), crops (rows and columns of the found and true centre), history."""
    from helpers.model.networks import Made

    catalogue, profile = given.others["regions"].catalogue, given.profile
    frame = split(catalogue, "patient-disjoint", VALIDATION, profile.seed).frame
    images = np.array([read_grey(catalogue.file(path)) for path in frame["path"]])
    true = np.array([right_apex(read_grey(catalogue.file(path)) > 127) for path in frame["lung_mask"]])
    found, penalty = find_regions(images, true, frame["split"].to_numpy())
    shown = {"whole, low": np.array([resized(image, CROP) for image in images]), "whole, full": images}
    shown |= {"found region": crops(images, found), "true region": crops(images, true)}
    scores, history = [], []
    for way in WAYS:
        table, told = _scored(shown[way], frame, profile, way)
        scores.append(table)
        history += told
    error = np.hypot(*(found - true).T)
    finder = frame[["image_id", "patient_id", "label", "split"]].assign(
        found_row=found[:, 0], found_column=found[:, 1], true_row=true[:, 0], true_column=true[:, 1], error=error
    )
    tables = {"scores": pd.concat(scores, ignore_index=True), "finder": finder, "history": pd.DataFrame(history)}
    summary = {"images": len(frame), "finder's penalty": penalty, "crop": CROP, "image": images.shape[1]}
    return Made(catalogue.classes, tables, summary)


def find_regions(images: np.ndarray, true: np.ndarray, splits: np.ndarray) -> tuple[np.ndarray, float]:
    """Where a ridge regression on images (n, h, w), seen at low resolution, says that the regions' middles are, (n, 2)
    rows and columns; and its penalty, chosen on the validation images."""
    from sklearn.linear_model import Ridge

    seen = np.array([resized(image, SEEN).ravel() for image in images], np.float32) / 255
    train, validation = splits == "train", splits == "validation"
    tried = []
    for penalty in FINDER_PENALTIES:
        said = Ridge(penalty).fit(seen[train], true[train]).predict(seen)
        tried.append((float(np.square(said - true)[validation].mean()), penalty, said))
    _, penalty, said = min(tried, key=lambda one: one[:2])
    return said, penalty


def crops(images: np.ndarray, centres: np.ndarray, side: int = CROP) -> np.ndarray:
    """uint8 (n, side, side) about the centres (n, 2), moved inwards where they would pass the border."""
    limit = np.array(images.shape[1:]) - side
    corners = np.clip(np.rint(centres).astype(int) - side // 2, 0, limit)
    return np.array([image[r : r + side, c : c + side] for image, (r, c) in zip(images, corners, strict=True)])


def _scored(images: np.ndarray, frame: pd.DataFrame, profile: Profile, way: str) -> tuple[pd.DataFrame, list[dict]]:
    from helpers.model.backbones import load_backbone
    from helpers.model.engine import choose, compile_backbone

    name = profile.sites_backbone or profile.backbone
    backbone = load_backbone(name, profile.weights, images.shape[1], profile.seed)
    features = compile_backbone(backbone, choose(profile.engine, "float32"), 32, profile.workers)(images)
    rows = {part: np.flatnonzero(frame["split"] == part) for part in ("train", "validation")}
    made = fit(features, frame["label"], *rows.values(), REGIONS.classes, profile.sites_penalties)
    held_out = np.flatnonzero(frame["split"] != "train")
    kept = frame.iloc[held_out][["image_id", "patient_id", "label", "split"]].reset_index(drop=True)
    given = made.best.predict(features[held_out])[:, 0]
    told = [
        {"way": way, "penalty": head.l2, "cross_entropy": entropy, "chosen": head is made.best}
        for head, entropy in zip(made.heads, made.entropies, strict=True)
    ]
    return kept.assign(selection="validation", way=way, p_Nodule=given), told


def example(catalogue: Catalogue, finder: pd.DataFrame) -> tuple[np.ndarray, dict, dict[str, np.ndarray]]:
    """The first test image with a nodule, by name: the image, the upper left corners of the crops, and what the network
    sees."""
    row = finder[(finder["split"] == "test") & (finder["label"] == "Nodule")].sort_values("image_id").iloc[0]
    path = catalogue.frame.set_index("image_id").loc[row["image_id"], "path"]
    image, corners, shown = read_grey(catalogue.file(path)), {}, {}
    for name in ("found", "true"):
        centre = np.array([[row[f"{name}_row"], row[f"{name}_column"]]])
        corner = np.clip(np.rint(centre[0]).astype(int) - CROP // 2, 0, np.array(image.shape) - CROP)
        corners[f"{name} region"] = (int(corner[0]), int(corner[1]))
        shown[f"{name} region"] = crops(image[None], centre)[0]
    return image, corners, {"whole, low": resized(image, CROP), "found region": shown["found region"]}
