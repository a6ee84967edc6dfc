"""A user's own chest radiographs, as `dicom_folder.convert_folder` leaves them: which views are in one's own archive?

Labels: the view position of the DICOM header, where it has one of the standard's words. It is often missing and
    sometimes wrong, which is what a view classifier is wanted for: images without one are excluded here and can still
    be scored (their names are in images.csv). A column `label` (frontal or lateral) that the user adds to the table
    replaces it.
Patients: the table's pseudonyms.
Split: all images are "test": a network trained elsewhere meets them for the first time. A column `split` (train or
    test) that the user adds replaces that.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.dicom_folder import IMAGES, TABLE
from helpers.data.scan import scan

CLASSES = ("frontal", "lateral")
VIEWS = {
    **dict.fromkeys(("PA", "AP"), "frontal"),
    **dict.fromkeys(("LL", "RL", "LATERAL", "LAT"), "lateral"),
}  # decubitus and oblique films (LLD, RLO, ...) are neither
COLUMNS = ["image_id", "path", "label", "patient_id", "published_split", "digest", "view", "width", "height"]


def load(folder: Path, cache: Path, workers: int = 0) -> Catalogue:
    """The catalogue of a converted folder. Excluded, with the reason: no view, another view, no file, unreadable.

    Raises FileNotFoundError where there is no table, `CatalogueError` for one without its columns, with another word as
    label or split, or without a usable row.
    """
    if not (folder / TABLE).is_file():
        raise FileNotFoundError(f"no {TABLE} in {folder}: make it from DICOM files with dicom_folder.convert_folder")
    rows = _read(folder / TABLE)
    frame, unreadable = scan(folder, cache, workers, under=[IMAGES])
    rows = rows.assign(path=f"{IMAGES}/" + rows["image"]).merge(frame, on="path", how="left")
    absent = rows["path"].map(unreadable.set_index("path")["reason"]).fillna("the file is absent")
    reason = pd.Series("", index=rows.index)
    reason[rows["label"] == ""] = "view " + rows["view"].replace("", "not stated")
    reason[rows["digest"].isna()] = absent[rows["digest"].isna()]
    aside = rows.assign(reason=reason).loc[reason != "", ["path", "reason"]]
    strangers = frame.loc[~frame["path"].isin(rows["path"]), ["path"]].assign(reason=f"not in {TABLE}")
    excluded = pd.concat([aside, strangers]).sort_values("path", ignore_index=True)
    usable = rows[reason == ""].sort_values("path", ignore_index=True)
    if usable.empty:
        raise CatalogueError(f"no usable image in {folder}")
    usable = usable.astype({"width": "int32", "height": "int32"}).rename(
        columns={"image": "image_id", "patient": "patient_id", "split": "published_split"}
    )
    present = tuple(label for label in CLASSES if label in set(usable["label"]))
    return Catalogue("user_xray", folder, usable[[*COLUMNS, "average_hash"]], present, excluded)


def _read(path: Path) -> pd.DataFrame:
    """image, view, patient, label and split as text; the label may be empty."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [column for column in ("image", "view", "patient") if column not in table]
    if missing:
        raise CatalogueError(f"{path}: no column {', '.join(missing)}")
    if table["image"].duplicated().any():
        raise CatalogueError(f"{path}: {table.loc[table['image'].duplicated(), 'image'].iloc[0]} stands in two rows")
    if "label" not in table:
        table["label"] = table["view"].map(VIEWS).fillna("")
    if "split" not in table:
        table["split"] = "test"
    for column, known in (("label", {*CLASSES, ""}), ("split", {"train", "test"})):
        bad = set(table[column]) - known
        if bad:
            raise CatalogueError(
                f"{path}: '{min(bad)}' in the column {column}; known: {', '.join(sorted(known - {''}))}"
            )
    return table[["image", "view", "patient", "label", "split"]]
