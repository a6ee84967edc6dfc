"""The test images that are explained: pixels, what is known of their lesions, and where their retina is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.images import read_square
from helpers.explain.maps import Maps
from helpers.explain.marks import lesion_masks, load_marks, mark_masks
from helpers.explain.retina import retina_mask

LABELS = ("DRUSEN", "CNV", "DME")  # table S3's classes; a normal retina has no lesion to find


@dataclass(frozen=True)
class Cases:
    """Images to explain, class by class in turn.

    `rows` has image_id, patient_id and label; `images` uint8, `masks` and `retina` bool, all (n, size, size). Where
    nothing is known of a lesion its mask is empty; `lesions` says whose masks they are, "" for nobody's.
    """

    rows: pd.DataFrame
    images: np.ndarray
    masks: np.ndarray
    retina: np.ndarray
    lesions: str

    @property
    def labels(self) -> list[str]:
        return self.rows["label"].tolist()

    @property
    def patients(self) -> np.ndarray:
        return self.rows["patient_id"].to_numpy()

    def first(self, per_class: int, order: Sequence[str] = LABELS) -> np.ndarray:
        """Positions of the first `per_class` images of each class of `order`, class after class. Nobody picked them:
        a hash of their names did.
        """
        labels = self.rows["label"].to_numpy()
        return np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in order])

    def take(self, positions: np.ndarray) -> Cases:
        """Only the images at these positions."""
        kept = {name: getattr(self, name)[positions] for name in ("images", "masks", "retina")}
        return replace(self, rows=self.rows.iloc[positions].reset_index(drop=True), **kept)


def choose_cases(
    catalogue: Catalogue, size: int, count: int = 0, seed: int = 1, marks_file: str = "", labels: Sequence[str] = LABELS
) -> Cases:
    """`count` images of the test folder (0: all), as many of each label as there are, in an order fixed by the seed.

    Lesions are the phantoms' own masks, or the marks in `marks_file` (see `helpers.explain.marks`); marked images then
    come first. Raises `MarksError` for marks that cannot be used.
    """
    frame = catalogue.frame
    test = frame[(frame["published_split"] == "test") & frame["label"].isin(list(labels))]
    marks = load_marks(marks_file, catalogue) if marks_file else None
    marked = test["image_id"].isin(set(marks["image_id"]) if marks is not None else set())
    drawn = test["image_id"].map(lambda name: hashlib.blake2b(f"{seed}/{name}".encode()).hexdigest())
    ordered = test.assign(unmarked=~marked, drawn=drawn).sort_values(["unmarked", "drawn"])
    turn = ordered.groupby("label").cumcount()
    place = ordered["label"].map({label: k for k, label in enumerate(labels)})
    rows = ordered.assign(turn=turn, place=place).sort_values(["turn", "place"])
    rows = rows.head(count or len(rows)).drop(columns=["unmarked", "drawn", "turn", "place"]).reset_index(drop=True)
    images = np.stack([read_square(catalogue.file(path), size) for path in rows["path"]])
    masks, lesions = np.zeros(images.shape, bool), ""
    if marks is not None:
        masks, lesions = mark_masks(marks, catalogue, rows["image_id"], size), f"the marks in {marks_file}"
    elif "mask" in rows:
        masks, lesions = lesion_masks(catalogue, rows, size), "the phantoms' own masks"
    return Cases(rows, images, masks, retina_mask(images), lesions)


def take(maps: Maps, positions: np.ndarray) -> Maps:
    """The maps at these positions, with their share of the time."""
    n = len(maps.maps)
    extra = {
        name: value[positions] if isinstance(value, np.ndarray) and name != "starts" and len(value) == n else value
        for name, value in maps.extra.items()
    }
    target = tuple(maps.target[i] for i in positions)
    return replace(
        maps, maps=maps.maps[positions], target=target, seconds=maps.seconds * len(positions) / max(n, 1), extra=extra
    )
