"""Where a network looks when it tells the hospital: occlusion maps, and how much of them lies outside the lungs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.data.images import read_grey
from helpers.explain.classifier import from_head
from helpers.explain.occlusion import default_box, occlusion
from helpers.explain.scores import importance
from helpers.model.head import Head
from helpers.zech import regions

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.data.catalogue import Catalogue
    from helpers.explain.maps import Maps
    from helpers.run.profile import Profile


COUNT = 24  # test images whose site is explained


def chosen(frame: pd.DataFrame, count: int = COUNT) -> pd.DataFrame:
    """About `count` test images with their hospital's markers, as many of each hospital, one a patient, by name."""
    rows = frame[(frame["split"] == "test") & (frame["markers"] == "on") & (frame["cohort"] == "natural")]
    order = list(dict.fromkeys(frame["site"]))
    rows = rows.sort_values("image_id").drop_duplicates("patient_id")
    kept = rows.groupby("site", sort=False).head(-(-count // rows["site"].nunique()))
    return kept.sort_values("site", key=lambda sites: sites.map(order.index), kind="stable").reset_index(drop=True)


def explain(catalogue: Catalogue, frame: pd.DataFrame, head: Path, profile: Profile) -> tuple[Maps, np.ndarray]:
    """Occlusion maps of the true hospital's probability for each row of `frame`, with a box of the image's own mean,
    and the images, uint8 (n, size, size). `head`: the file of the hospital's head."""
    backbone = regions.load_site_backbone(profile)
    images = regions.read_variant(catalogue, frame, backbone.image_size, "whole", profile.workers)
    box = default_box(backbone.image_size)
    classifier = from_head(backbone, Head.load(head))
    return occlusion(classifier, images, list(frame["site"]), box=box, fill="mean", stride=box, progress=False), images


def lungs_of(catalogue: Catalogue, frame: pd.DataFrame, size: int) -> np.ndarray:
    """Where the lungs are, bool (n, size, size): of phantoms their masks, of real images `regions.CROP`."""
    made = np.zeros((len(frame), size, size), bool)
    for k in range(len(frame)):
        if "lung_mask" in frame:
            made[k] = regions.resized(read_grey(catalogue.file(frame["lung_mask"].iloc[k])), size) > 127
        else:
            made[k][regions.crop_of((size, size))] = True
    return made


def outside(frame: pd.DataFrame, maps: np.ndarray, lungs: np.ndarray) -> pd.DataFrame:
    """Of each image the share of its map outside the lungs, and the share of the image that lies there: columns site,
    patient_id, outside, by_chance, excess. A map without anything that speaks for the hospital has no share (NaN)."""
    speaks = importance(maps)
    total = speaks.sum(axis=(1, 2))
    share = np.divide((speaks * ~lungs).sum(axis=(1, 2)), total, out=np.full(len(maps), np.nan), where=total > 0)
    chance = (~lungs).mean(axis=(1, 2))
    kept = frame[["image_id", "patient_id", "site"]].reset_index(drop=True)
    return kept.assign(outside=share, by_chance=chance, excess=share - chance)
