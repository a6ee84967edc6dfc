"""The plain type every source leaves: one row an image, checked on the way in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

REQUIRED = {
    "image_id": "unique name of the image within its data set",
    "path": "where the file lies, relative to the catalogue's root",
    "label": "one of the catalogue's classes, spelt as the data set spells it",
    "patient_id": "images of one patient share it; empty strings are not allowed",
    "published_split": "train or test, as published",
    "digest": "SHA-256 of the file's bytes",
}
OPTIONAL = {
    "site": "hospital or scanner",
    "view": "projection or scan direction",
    "department": "of the hospital, or what stands for it",
    "body": "what the image shows; images of one body differ in their signature alone",
    "markers": "on: it bears its site's signature; off: a neutral one",
    "cohort": "natural, or reserve: patients for sets of another prevalence",
    "mask": "lesion mask, a PNG relative to the root (phantoms only)",
    "lung_mask": "mask of the lungs, a PNG relative to the root (phantoms only)",
    "age": "years",
    "labels": "all that the data set says of an image with several labels, joined by |",
    "findings": "what the image shows beside its label, joined by | (phantoms only)",
    "signature": "whose markers, borders and contrast it bears (phantoms only)",
    "severity": "0 (subtle) to 1 (plain) (phantoms only)",
    "quality": "0 (noisy) to 1 (clean) (phantoms only)",
    "width": "pixels",
    "height": "pixels",
    "average_hash": "64-bit perceptual hash as 16 hex digits, for near duplicates",
}


class CatalogueError(ValueError):
    """A catalogue that breaks its promises; the message names the column and the first rows."""


@dataclass(frozen=True)
class Catalogue:
    """A data set on disk.

    `frame` has one row an image (columns of `REQUIRED`, any of `OPTIONAL`), `classes` the labels in the order that
    figures and scores use, `excluded` the files set aside: a frame of `path` and `reason`.
    """

    name: str
    root: Path
    frame: pd.DataFrame
    classes: tuple[str, ...]
    excluded: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"path": [], "reason": []}, dtype=str))
    phantom: bool = False

    def __post_init__(self) -> None:
        frame = self.frame
        missing = [column for column in REQUIRED if column not in frame.columns]
        if missing:
            raise CatalogueError(f"{self.name}: no column {', '.join(missing)}")
        if frame.empty:
            raise CatalogueError(f"{self.name}: no usable image under {self.root}")
        for column in REQUIRED:
            bad = frame[column].isna() | (frame[column].astype(str) == "")
            self._refuse(bad, f"empty {column}")
        self._refuse(frame["image_id"].duplicated(keep=False), "image_id not unique")
        self._refuse(~frame["label"].isin(self.classes), f"label not one of {', '.join(self.classes)}")
        self._refuse(~frame["published_split"].isin(("train", "test")), "published_split neither train nor test")

    def _refuse(self, bad: pd.Series, what: str) -> None:
        if bad.any():
            rows = ", ".join(self.frame.loc[bad, "path"].astype(str).head(3))
            raise CatalogueError(f"{self.name}: {what} in {int(bad.sum())} rows, first {rows}")

    def __len__(self) -> int:
        return len(self.frame)

    def file(self, path: str) -> Path:
        """The absolute place of one row's `path` (or `mask`)."""
        return self.root / path

    def subset(self, rows: pd.DataFrame) -> Catalogue:
        """The same data set with only these rows of its frame (a boolean filter's result, say)."""
        return replace(self, frame=rows.reset_index(drop=True))

    def fingerprint(self) -> str:
        """16 hex digits that change when any image, label, patient or split does."""
        columns = ["image_id", "label", "patient_id", "published_split", "digest"]
        text = self.frame[columns].sort_values("image_id").to_csv(index=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
