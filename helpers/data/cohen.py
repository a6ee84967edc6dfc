"""Cohen's COVID-19 image data collection: radiographs and CT slices of pneumonia, gathered from publications.

Citation: Cohen, Morrison, Dao, Roth, Duong, Ghassemi, "COVID-19 Image Data Collection: Prospective Predictions Are the
    Future" (2020). Data: the git repository ieee8023/covid-chestxray-dataset.
Licence: an image's own, in the column `license` of metadata.csv; many are CC BY-NC-SA, many are not stated.
Size: some 750 rows in mid-2020, 950 at the end; a few hundred megabytes.
How to get it: clone the repository into DATA_DIR and note the commit, since images vanish over time.
Images: JPEG and PNG of any size, cut from papers and web sites, with their arrows, letters and rulers; mostly adults.
Labels: `view` of the metadata: PA, AP, AP Supine (APS), AP Erect and AP semi erect are frontal, L is lateral. A file
    whose name says another view ("...-L.png" with view PA) is doubtful and set aside. Or `finding`, a text:
    "COVID-19", "COVID-19, ARDS", "Streptococcus", "No Finding"; in later commits a path, "Pneumonia/Viral/COVID-19".
    `todo` and `Unknown` mean nothing.
Patients: `patientid`. "311a" and "311b" are two patients of one publication. One file may stand in two rows under two
    patients (285 and 339, 287 and 340 in mid-2020), and one film may have been collected twice, from two sources and
    under two numbers (97 and 178: four films, re-encoded). Patients who share a file, its bytes or a near copy (see
    `copies`) are taken for one; of two rows for one file the first is read. A patient's rows may differ in finding.
Split: none is published. One is drawn from a hash of the patient's name, `TEST_SHARE` of the patients of each kind
    (with and without a lateral; of each finding), so it depends neither on the order of the rows nor on a seed.
Versions: the first metadata.csv has `Patientid`, and neither `modality` nor `folder`: the view tells CT from X-ray.
Traps: rows whose file is absent; CT slices and volumes (Axial, Coronal); no view, or "?". The class goes with the
    source: what is COVID-19 comes from other hospitals, years and ages than what is not, and a network may read that.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.catalogue import ABSENT, Catalogue, read_table
from helpers.data.copies import connected, linked_images
from helpers.data.scan import Place, catalogue_of, first_reason, scan
from helpers.data.splits import draw_share

VIEW_CLASSES = ("frontal", "lateral")
VIEWS = {  # of the metadata, in small letters, hyphens as blanks
    **dict.fromkeys(("pa", "ap", "ap supine", "aps", "ap erect", "ap semi erect"), "frontal"),
    **dict.fromkeys(("l", "lateral"), "lateral"),
}
NAMED = {"frontal": r"(?i)[-_ ](?:pa|ap)\.\w+$", "lateral": r"(?i)[-_ ](?:l|lat|lateral)\.\w+$"}  # by the file's name
SLICES = ("axial", "coronal", "sagittal")  # views of CT, where no modality is stated
FINDING_CLASSES = ("NORMAL", "BACTERIA", "VIRUS", "COVID-19")
# What a finding means, in either spelling. Fungi, aspiration, tuberculosis, and pneumonia and ARDS without a cause
# belong to no class. A finding that names two causes ("Influenza, Streptococcus") is left out as well.
CAUSES = {
    "COVID-19": "covid-19",
    "VIRUS": "viral, sars, mers-cov, influenza, varicella, herpes",
    "BACTERIA": "bacterial, streptococcus, klebsiella, legionella, e.coli, mycoplasma, chlamydophila, nocardia, "
    "staphylococcus",
    "NORMAL": "no finding",
}
# Of the patients of each kind. Few patients have a lateral (27 of 125 whose images lie open): 40 % of them are enough
# for an interval, and leave some to learn from.
TEST_SHARE = 0.4
SALT = "cohen/published_split"
COLUMNS = ["patientid", "finding", "view", "filename"]  # the others vary
LATER = ["modality", "folder"]  # columns that the first metadata.csv does not have
PLACE = Place(
    "COVID-19 images",
    (("metadata.csv", "images/"),),
    ("metadata.csv", "images/"),
    "metadata.csv and images/",
    "Clone github.com/ieee8023/covid-chestxray-dataset there, and note the commit",
    cards=("cohen-covid",),
)


def load_views(data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """Radiographs labelled frontal or lateral by the metadata's `view`, which stays in the column `view`.

    `excluded` lists every row and file that is not used, with the reason: not an X-ray, no view, no file, unreadable.
    Raises FileNotFoundError where there is no such data, `CatalogueError` for a metadata.csv without the columns.
    """
    rows = _read_rows(data_dir)
    reason = first_reason(rows.index, (rows["kind"].isna(), "view " + rows["view"].replace("", "not stated")))
    rows = rows.assign(label=rows["kind"], reason=reason)
    return _catalogue("cohen_views", data_dir, rows, VIEW_CLASSES, cache, workers)


def load_findings(data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """Frontal radiographs labelled by their finding: normal, bacterial, viral (COVID-19 apart), COVID-19.

    A finding that names no class, or two, is excluded with the reason, as is all that `load_views` excludes. Classes
    without an image are left out of `classes`. Raises as `load_views`.
    """
    rows = _read_rows(data_dir)
    label = rows["finding"].map(finding_class)
    view, finding = (rows[name].replace("", "not stated") for name in ("view", "finding"))
    reason = first_reason(
        rows.index,
        (rows["kind"] != "frontal", "not frontal: view " + view),
        (label == "", "finding " + finding),
    )
    rows = rows.assign(label=label, reason=reason)
    return _catalogue("cohen_findings", data_dir, rows, FINDING_CLASSES, cache, workers)


def _read_rows(data_dir: Path) -> pd.DataFrame:
    """The rows of metadata.csv, of any version, with the `kind` of their view: frontal, lateral, or missing.

    `doubtful`: whether the file's name says another.
    """
    rows = read_table(PLACE.find(data_dir) / "metadata.csv", COLUMNS).rename(columns=str.lower)
    rows = rows.reindex(columns=[*COLUMNS, *LATER], fill_value="")
    view = rows["view"].str.lower().str.replace(r"[-_ ]+", " ", regex=True)
    kind, named = view.map(VIEWS), {name: rows["filename"].str.contains(words) for name, words in NAMED.items()}
    doubtful = named["lateral"] & (kind == "frontal") | named["frontal"] & (kind == "lateral")
    likely = pd.Series(np.where(view.isin(SLICES), "CT", "X-ray"), rows.index)
    modality = rows["modality"].where(rows["modality"] != "", likely)
    return rows.assign(kind=kind, doubtful=doubtful, modality=modality, folder=rows["folder"].replace("", "images"))


def finding_class(finding: str) -> str:
    """The class of `CAUSES` that a finding names, or "" for none and for more than one cause.

    Of a path ("Pneumonia/Viral/COVID-19") the last part that names a cause counts. COVID-19 with ARDS is COVID-19.
    """
    found = set()
    for cause in finding.lower().split(","):
        parts = [part.strip() for part in reversed(cause.split("/"))]
        named = (
            name for part in parts for name, words in CAUSES.items() if {part, *part.split()} & {*words.split(", ")}
        )
        found.add(next(named, ""))
    found.discard("")
    return found.pop() if len(found) == 1 else ""


def _catalogue(
    name: str, data_dir: Path, rows: pd.DataFrame, classes: tuple[str, ...], cache: Path, workers: int
) -> Catalogue:
    """Rows with `label` and `reason`, joined with what lies in images/, one row per file, split by patient."""
    root = PLACE.find(data_dir)
    files, unreadable = scan(root, cache, workers, under=["images"])
    rows = rows.assign(path=rows["folder"] + "/" + rows["filename"], image_id=rows["filename"])
    rows = rows.merge(files, on="path", how="left")
    reason = first_reason(
        rows.index,
        (rows["patientid"] == "", "no patientid"),
        (rows["modality"] != "X-ray", "no X-ray: " + rows["modality"] + ", view " + rows["view"]),
        (rows["doubtful"], "doubtful: view " + rows["view"] + ", which its name contradicts"),
        (rows["reason"] != "", rows["reason"]),
        (rows["digest"].isna(), rows["path"].map(unreadable.set_index("path")["reason"]).fillna(ABSENT)),
    )
    rows = rows.assign(reason=reason, patient_id=rows["patientid"].map(_patients(root, rows, workers)))
    labels = rows[reason == ""].groupby("path")["label"].nunique()
    torn = (reason == "") & (rows["path"].map(labels) > 1)
    rows["reason"] = reason.mask(torn, "its rows give it two labels")
    used = rows[rows["reason"] == ""].drop_duplicates("path").sort_values("path")
    used = used.assign(published_split=_published_split(used, classes)).astype({"width": "int32", "height": "int32"})
    files = pd.concat([files[["path"]].assign(reason="no row of metadata.csv"), unreadable])
    aside = pd.concat([rows.loc[rows["reason"] != "", ["path", "reason"]], files[~files["path"].isin(rows["path"])]])
    aside = aside[~aside["path"].isin(used["path"])].drop_duplicates()
    return catalogue_of(name, root, used, classes, aside)


def _patients(root: Path, rows: pd.DataFrame, workers: int) -> dict[str, str]:
    """patientid: the first of those that share a film, by file name, bytes or near copy."""
    links: list[tuple[str, str]] = []
    for column in ("path", "digest"):
        known = rows[rows[column].notna()]
        links += zip(known["patientid"], known.groupby(column)["patientid"].transform("first"), strict=True)
    films = rows[(rows["modality"] == "X-ray") & rows["digest"].notna() & (rows["patientid"] != "")]
    films = films.drop_duplicates("path").assign(image_id=films["path"])
    patient = films.set_index("path")["patientid"]
    links += [(patient[a], patient[b]) for a, b in linked_images(root, films, workers)]
    return connected(rows["patientid"], links)


def _published_split(rows: pd.DataFrame, classes: tuple[str, ...]) -> np.ndarray:
    """train or test of each row: of the patients of each kind, the first `TEST_SHARE` in the order of a hash.

    A patient's kind is the rarest class among his images, so that every class is shared out.
    """
    sizes = rows["label"].value_counts()
    rarest = sorted(classes, key=lambda label: (sizes.get(label, 0), label))
    kind = rows.groupby("patient_id")["label"].agg(lambda labels: next(c for c in rarest if c in set(labels)))
    test = draw_share(kind, TEST_SHARE, SALT)
    return np.where(rows["patient_id"].isin(test), "test", "train")
