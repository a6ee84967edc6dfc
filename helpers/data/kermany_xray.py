"""Kermany chest X-rays: 5,856 radiographs of children, normal, bacterial pneumonia and viral pneumonia.

Citation: Kermany, Goldbaum, Cai et al., "Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep
    Learning", Cell 172 (2018). Data: Mendeley Data, doi 10.17632/rscbjbr9sj, versions 2 and 3.
Licence: CC BY 4.0.
Size: version 2 is ChestXRay2017.zip, 1.2 GB; version 3 is ZhangLabData.zip, about 8.4 GB, with the OCT images.
How to get it: `make data PROFILE=paper`, or download by hand and point DATA_DIR at the folder you unpacked it in.
Images: frontal (anterior-posterior) radiographs of children from one hospital in Guangzhou, JPEG of many sizes, mostly
    grey; a part of the pneumonia images is stored as RGB.
Labels: NORMAL by the folder; the folder PNEUMONIA holds both kinds, and the name distinguishes them: BACTERIA from
    `person<p>_bacteria_<n>` (version 3: `BACTERIA-<patient>-<n>`), VIRUS likewise. How the kind was established is not
    said.
Patients: the number after `person`, `IM-` or `NORMAL2-IM-` (also `IM-<p>-<m>-<n>`, several exposures). Within a folder,
    a number is taken for one patient, whichever kind follows it and with or without `NORMAL2-`: the choice that cannot
    leak. Most likely it is too careful: among 2,521 training images, pairs of one number with `bacteria` and `virus`
    were no more alike than chance (0.50, 0.46 to 0.55; two images of one `bacteria` number: 0.65), and each kind counts
    its images on its own (person1004_bacteria_2935, person1004_virus_1686).
    Version 2's numbers restart in each folder, so the patient carries it: `train/person12` is not `test/person12`.
    `audit.shared_id_evidence` puts it to the test. Of version
    3's longer numbers nothing of the kind is reported: one of them in both folders is taken for one patient.
Traps: networks score far better on images held out of the train folder than on the test folder. A widespread copy of
    version 2 has moved 16 training images (8 NORMAL, 8 BACTERIA) to a folder `val`: they count as training here, as
    published, and keep their image ids. The paper's text has more patients than training images (`PAPER_COUNTS`).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.scan import Place, catalogue_of, first_reason, scan

CLASSES = ("NORMAL", "BACTERIA", "VIRUS")
CLASS_FOLDERS = {"NORMAL": "NORMAL", "BACTERIA": "PNEUMONIA", "VIRUS": "PNEUMONIA"}
FOLDERS = {"train": "train", "val": "train", "test": "test"}  # folder: published split
VIEW = "AP"  # "Chest X-ray images (anterior-posterior)", says the description that goes with the copies
PATH = r"^(?P<folder>[^/]+)/(?P<inside>[^/]+)/(?P<name>[^/]+)$"
# Of version 2's pneumonia and normal images, and of version 3's: the kind is the label, the number the patient.
NAME = (
    r"(?i)^(?:(?P<person>person)(?P<number2>\d+)_(?P<kind2>bacteria|virus)_\d+"
    r"|(?:NORMAL2-)?(?P<series>IM-)(?P<number1>\d+)-\d+(?:-\d+)?"
    r"|(?P<kind3>BACTERIA|VIRUS|NORMAL)-(?P<number3>\d+)-\d+)\.\w+$"
)
PLACE = Place(
    "Kermany chest X-rays",
    ("chest_xray", "CellData/chest_xray", "chest_xray/chest_xray"),  # versions 2 and 3; one copy repeats itself inside
    tuple(f"{folder}/PNEUMONIA/" for folder in FOLDERS),  # the OCT images have a folder NORMAL too
    tuple(FOLDERS),
    "train/ and test/ with folders NORMAL, PNEUMONIA",
)

# What the paper prints (Results, "Application of the AI System to Pneumonia Detection Using Chest X-Ray Images"):
# "a total of 5,232 chest X-ray images from children, including 3,883 characterized as depicting pneumonia (2,538
# bacterial and 1,345 viral) and 1,349 normal, from a total of 5,856 patients to train the AI system. The model was then
# tested with 234 normal images and 390 pneumonia images (242 bacterial and 148 viral) from 624 patients."
# 5,856 is the number of images in both folders, and 624 that of the test images: hardly numbers of patients.
PAPER_COUNTS = {
    "images": {
        "train": {"NORMAL": 1_349, "BACTERIA": 2_538, "VIRUS": 1_345},
        "test": {"NORMAL": 234, "BACTERIA": 242, "VIRUS": 148},
    },
    "patients": {"train": 5_856, "test": 624},
}
# Version 2 holds the paper's images, as its users report. (The copy with `val` has 5,216 in train and 16 there.)


def load(data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """The catalogue of the archive unpacked in `data_dir` (or of `data_dir` itself, see `PLACE`).

    Reads every file once (see `scan`; the result is kept in `cache`). Files that are unreadable, lie outside the class
    folders, or have a name that does not parse or contradicts its folder, are in the catalogue's `excluded`. Raises
    FileNotFoundError where there is no such data, `CatalogueError` where there are two versions of it.
    """
    root = PLACE.find(data_dir)
    frame, unreadable = scan(root, cache, workers, FOLDERS)
    path = frame["path"].str.extract(PATH)
    split, named = path["folder"].map(FOLDERS), _parse(path["name"])
    reason = first_reason(
        frame.index,
        (~path["inside"].isin(CLASS_FOLDERS.values()), "not in a class folder"),
        (named["label"].isna(), "its name is not one of the data set's"),
        (
            named["label"].map(CLASS_FOLDERS) != path["inside"],
            "its name says " + named["label"] + ", its folder " + path["inside"],
        ),
    )
    frame = frame.assign(
        label=named["label"],
        patient_id=named["patient"].mask(named["restarts"], split + "/" + named["patient"]),
        published_split=split,
        image_id=split + "/" + path["name"],
        view=VIEW,
        reason=reason,
    )
    return catalogue_of("kermany_xray", root, frame, CLASSES, unreadable)


def _parse(names: pd.Series) -> pd.DataFrame:
    """label, patient, and whether its number restarts in each folder (version 2); missing where no pattern fits."""
    parts = names.str.extract(NAME)
    series = parts["person"].str.lower().fillna(parts["series"].str.upper())
    number = parts["number2"].fillna(parts["number1"]).fillna(parts["number3"])
    label = parts["kind2"].fillna(parts["kind3"]).str.upper().mask(parts["series"].notna(), "NORMAL")
    patient = series.fillna("") + number.str.replace(r"^0+(?=\d)", "", regex=True)
    return pd.DataFrame({"label": label, "patient": patient, "restarts": series.notna()})
