"""Cohen's COVID-19 image data collection: radiographs and CT slices of pneumonia, gathered from publications.

Citation: Cohen, Morrison, Dao, Roth, Duong, Ghassemi, "COVID-19 Image Data Collection: Prospective Predictions Are the
    Future" (2020). Data: the git repository ieee8023/covid-chestxray-dataset.
Licence: an image's own, in the column `license` of metadata.csv; many are CC BY-NC-SA, many are not stated.
Size: some 750 rows in mid-2020, 950 at the end; a few hundred megabytes.
How to get it: clone the repository into DATA_DIR and note the commit, since images vanish over time.
Images: JPEG and PNG of any size, cut from papers and web sites, with their arrows, letters and rulers; mostly adults.
Labels: `view` of the metadata: PA, AP, AP Supine (and in later commits AP Erect, AP semi erect) are frontal, L is
    lateral. Or `finding`, a text: "COVID-19", "COVID-19, ARDS", "Streptococcus", "No Finding"; in later commits a path,
    "Pneumonia/Viral/COVID-19". `todo` and `Unknown` mean nothing.
Patients: `patientid`. "311a" and "311b" are two patients of one publication. One file may stand in two rows under two
    patients (285 and 339, 287 and 340 in mid-2020), and one film may have been collected twice, from two sources and
    under two numbers (97 and 178: four films, re-encoded). Patients who share a file, its bytes or a near copy (see
    `copies`) are taken for one; of two rows for one file the first is read. A patient's rows may differ in finding.
Split: none is published. One is drawn from a hash of the patient's name, `TEST_SHARE` of the patients of each kind
    (with and without a lateral; of each finding), so it depends neither on the order of the rows nor on a seed.
Traps: rows whose file is absent; CT slices and volumes (Axial, Coronal); no view, or "?". The class goes with the
    source: what is COVID-19 comes from other hospitals, years and ages than what is not, and a network may read that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.copies import connected, duplicates
from helpers.data.scan import catalogue_of, existing, find_folder, scan
from helpers.data.splits import shuffled

VIEW_CLASSES = ("frontal", "lateral")
FRONTAL_VIEWS = {"PA", "AP", "AP Supine", "AP Erect", "AP semi erect", "AP semi-erect"}
LATERAL_VIEWS = {"L"}
FINDING_CLASSES = ("NORMAL", "BACTERIA", "VIRUS", "COVID-19")
# What a finding means, in either spelling. Fungi, aspiration, tuberculosis, and pneumonia and ARDS without a cause
# belong to no class. A finding that names two causes ("Influenza, Streptococcus") is left out as well.
CAUSES = {
    "COVID-19": ("covid-19",),
    "VIRUS": ("viral", "sars", "mers-cov", "influenza", "varicella", "herpes"),
    "BACTERIA": (
        "bacterial",
        "streptococcus",
        "klebsiella",
        "legionella",
        "e.coli",
        "mycoplasma",
        "chlamydophila",
        "nocardia",
        "staphylococcus",
    ),
    "NORMAL": ("no finding",),
}
# Of the patients of each kind. Few patients have a lateral (27 of 125 whose images lie open): 40 % of them are enough
# for an interval, and leave some to learn from.
TEST_SHARE = 0.4
SALT = "cohen/published_split"
LAYOUT = "covid-chestxray-dataset"


def load_views(data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """Radiographs labelled frontal or lateral by the metadata's `view`, which stays in the column `view`.

    `excluded` lists every row and file that is not used, with the reason: not an X-ray, no view, no file, unreadable.
    Raises FileNotFoundError where there is no such data, `CatalogueError` for a metadata.csv without the columns.
    """
    root = find_root(data_dir)
    rows = _read(root)
    label = rows["view"].map(_view_class)
    reason = pd.Series("", index=rows.index)
    reason[label == ""] = "view " + rows["view"].replace("", "not stated")
    return _catalogue("cohen_views", root, rows.assign(label=label, reason=reason), VIEW_CLASSES, cache, workers)


def load_findings(data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """Frontal radiographs labelled by their finding: normal, bacterial, viral (COVID-19 apart), COVID-19.

    A finding that names no class, or two, is excluded with the reason, as is all that `load_views` excludes. Classes
    without an image are left out of `classes`. Raises as `load_views`.
    """
    root = find_root(data_dir)
    rows = _read(root)
    label = rows["finding"].map(finding_class)
    reason = pd.Series("", index=rows.index)
    reason[label == ""] = "finding " + rows["finding"].replace("", "not stated")
    reason[rows["view"].map(_view_class) != "frontal"] = "not frontal: view " + rows["view"].replace("", "not stated")
    return _catalogue("cohen_findings", root, rows.assign(label=label, reason=reason), FINDING_CLASSES, cache, workers)


def find_root(data_dir: Path) -> Path:
    """The folder that holds metadata.csv and images/: `data_dir` itself, or `LAYOUT` in it."""

    def holds(root: Path) -> bool:
        return (root / "metadata.csv").is_file() and (root / "images").is_dir()

    remedy = "Clone github.com/ieee8023/covid-chestxray-dataset there, and note the commit"
    return find_folder(data_dir, (LAYOUT,), holds, "COVID-19 images", "metadata.csv and images/", remedy)


def folders(data_dir: Path) -> list[Path]:
    """What the loaders read."""
    return existing(data_dir, (LAYOUT,), ("metadata.csv", "images"))


def finding_class(finding: str) -> str:
    """The class of `CAUSES` that a finding names, or "" for none and for more than one cause.

    Of a path ("Pneumonia/Viral/COVID-19") the last part that names a cause counts. COVID-19 with ARDS is COVID-19.
    """
    found = set()
    for cause in finding.lower().split(","):
        for part in reversed(cause.strip().split("/")):
            of = next(
                (name for name, words in CAUSES.items() if any(part == w or w in part.split() for w in words)), ""
            )
            if of:
                found.add(of)
                break
    return found.pop() if len(found) == 1 else ""


def _view_class(view: str) -> str:
    return "frontal" if view in FRONTAL_VIEWS else "lateral" if view in LATERAL_VIEWS else ""


def _read(root: Path) -> pd.DataFrame:
    """The metadata as text: patientid, finding, view, modality, folder, filename. Column order and others vary."""
    columns = ["patientid", "finding", "view", "modality", "folder", "filename"]
    rows = pd.read_csv(root / "metadata.csv", dtype=str, keep_default_na=False)
    missing = [column for column in columns if column not in rows]
    if missing:
        raise CatalogueError(f"{root / 'metadata.csv'}: no column {', '.join(missing)}")
    return rows[columns].apply(lambda column: column.str.strip())


def _catalogue(
    name: str, root: Path, rows: pd.DataFrame, classes: tuple[str, ...], cache: Path, workers: int
) -> Catalogue:
    """Rows with `label` and `reason`, joined with what lies in images/, one row per file, split by patient."""
    frame, unreadable = scan(root, cache, workers, under=["images"])
    no_xray = "no X-ray: " + rows["modality"] + ", view " + rows["view"]
    reason = rows["reason"].mask(rows["modality"] != "X-ray", no_xray).mask(rows["patientid"] == "", "no patientid")
    rows = rows.assign(path=rows["folder"] + "/" + rows["filename"], image_id=rows["filename"], reason=reason)
    rows = rows.merge(frame, on="path", how="left")
    rows = rows.assign(patient_id=rows["patientid"].map(_patients(root, rows, workers)))
    absent = rows["digest"].isna() & (rows["reason"] == "")
    why = rows["path"].map(unreadable.set_index("path")["reason"]).fillna("the file is absent")
    rows = _once(rows.assign(reason=rows["reason"].mask(absent, why)))
    used = rows[rows["reason"] == ""].sort_values("path")
    used = used.assign(published_split=_published_split(used, classes)).astype({"width": "int32", "height": "int32"})
    return catalogue_of(name, root, used, classes, _excluded(rows, frame, unreadable))


def _once(rows: pd.DataFrame) -> pd.DataFrame:
    """A file's second row is set aside; a file whose rows disagree about its label is not used at all."""
    used = rows["reason"] == ""
    disagree = used & (rows[used].groupby("path")["label"].nunique().reindex(rows["path"]).to_numpy() > 1)
    rows.loc[disagree, "reason"] = "its rows give it two labels"
    again = (rows["reason"] == "") & rows[used].duplicated("path").reindex(rows.index, fill_value=False)
    return rows[~again].reset_index(drop=True)


def _excluded(rows: pd.DataFrame, frame: pd.DataFrame, unreadable: pd.DataFrame) -> pd.DataFrame:
    """path and reason of what is not used: rows of the metadata, and files that no row names."""
    used = rows.loc[rows["reason"] == "", "path"]
    aside = rows.loc[(rows["reason"] != "") & ~rows["path"].isin(used), ["path", "reason"]]
    files = pd.concat([frame[["path"]].assign(reason="no row of metadata.csv"), unreadable])
    rest = files[~files["path"].isin(rows["path"])]
    return pd.concat([aside, rest]).drop_duplicates().sort_values("path", kind="stable", ignore_index=True)


def _patients(root: Path, rows: pd.DataFrame, workers: int) -> dict[str, str]:
    """patientid: the first of those that share a film, by file name, bytes or near copy."""
    links: list[tuple[str, str]] = []
    for column in ("path", "digest"):
        for _, ids in rows[rows[column].notna()].groupby(column)["patientid"]:
            links += [(ids.iloc[0], other) for other in ids]
    films = rows[(rows["modality"] == "X-ray") & rows["digest"].notna() & (rows["patientid"] != "")]
    films = films.drop_duplicates("path").reset_index(drop=True)
    if len(films) > 1:
        frame = films.assign(
            image_id=films["path"], label="film", patient_id=films["patientid"], published_split="train"
        )
        pairs = duplicates(Catalogue("cohen", root, frame, ("film",)), workers=workers)
        links += zip(pairs["patient_a"], pairs["patient_b"], strict=True)
    return connected(rows["patientid"], links)


def _published_split(rows: pd.DataFrame, classes: tuple[str, ...]) -> np.ndarray:
    """train or test of each row: of the patients of each kind, the first `TEST_SHARE` in the order of a hash.

    A patient's kind is the rarest class among his images, so that every class is shared out.
    """
    sizes = rows["label"].value_counts()
    rarest = sorted(classes, key=lambda label: (sizes.get(label, 0), label))
    kind = rows.groupby("patient_id")["label"].agg(lambda labels: next(c for c in rarest if c in set(labels)))
    test: set[str] = set()
    for _, patients in kind.groupby(kind):
        order = shuffled(patients.index, SALT)
        test.update(order[: min(max(round(TEST_SHARE * len(order)), 1), len(order) - 1)])  # a single patient trains
    return np.where(rows["patient_id"].isin(test), "test", "train")
