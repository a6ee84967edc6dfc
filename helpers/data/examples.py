"""A few images of each class for a figure, each of another patient, from training data only."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.images import read_grey


def choose_examples(catalogue: Catalogue, per_class: int, seed: int, clearest: bool = True) -> pd.DataFrame:
    """`per_class` rows of each class, each of another patient of the train folder, in an order fixed by the seed.

    With `clearest`, and where the source knows `severity` and `quality` (phantoms), the draw is from the plainer half,
    as the paper's figure 2A is of plain cases.
    """
    train = catalogue.frame[catalogue.frame["published_split"] == "train"]
    if clearest and {"severity", "quality"} <= set(train.columns):
        plain = train["severity"].astype(float) + train["quality"].astype(float)
        normal = (train["label"] == "NORMAL") * train["quality"].astype(float) * 2
        rank = plain.where(train["label"] != "NORMAL", normal).groupby(train["label"]).rank(pct=True)
        train = train[rank > 0.5]
    order = train["image_id"].map(lambda name: hashlib.blake2b(f"{seed}/{name}".encode()).hexdigest())
    drawn = train.assign(order=order).sort_values("order").drop_duplicates(["label", "patient_id"])
    return drawn.groupby("label").head(per_class).drop(columns="order").reset_index(drop=True)


def read_examples(
    catalogue: Catalogue, rows: pd.DataFrame
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]] | None]:
    """The rows' images by class, grey uint8 (h, w), and their lesion masks (bool) where the source has them."""
    images: dict[str, list[np.ndarray]] = {}
    masks: dict[str, list[np.ndarray]] = {}
    for label in catalogue.classes:
        mine = rows[rows["label"] == label]
        images[label] = [read_grey(catalogue.file(path)) for path in mine["path"]]
        if "mask" in mine.columns:
            masks[label] = [read_grey(catalogue.file(path)) > 0 for path in mine["mask"]]
    return images, masks or None
