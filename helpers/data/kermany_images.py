"""Kermany's two data sets: 109,312 retinal B-scans of four classes, and 5,856 radiographs of children of three.

Citation: Kermany, Goldbaum, Cai et al., "Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep
    Learning", Cell 172 (2018). Data: Mendeley Data, doi 10.17632/rscbjbr9sj, versions 2 and 3.
Licence: CC BY 4.0.
How to get it: `make data PROFILE=paper`, or download by hand and point DATA_DIR at the folder you unpacked it in.

OCT B-scans, `load_oct`, the paper's main data set.

Size: version 2 is OCT2017.tar.gz, 5.8 GB (with the stray `._*` files of the Mac that packed it); version 3 is
    ZhangLabData.zip, about 8.4 GB, and holds the chest X-rays as well.
Images: horizontal foveal cuts from Heidelberg Spectralis scanners, grey JPEG, mostly 496 pixels high and 512 to 1,536
    wide, some with white corners where the scan was straightened. Five centres in the United States and China, adults,
    2013 to 2017.
Labels: CNV (choroidal neovascularization), DME (diabetic macular edema), DRUSEN, NORMAL: the folder, and the file name
    `<CLASS>-<patient>-<number>.jpeg`.
Patients: the number in the name is the patient, whatever the class. The same number occurs under two classes (the other
    eye, another visit, or a number given twice, who knows), and is then taken for one patient, the choice
    that cannot leak.
Traps: the paper says that its test patients are independent of the training patients, but most patient numbers of the
    published test folder are reported to occur in the train folder too. Version 2 holds about half the normal training
    images. Copies of version 2 exist that moved 8 test images per class into a folder `val`; they count as test images
    here, as published. Many files are byte for byte copies of another file of the same patient.

Chest X-rays, `load_xray`: normal, bacterial pneumonia and viral pneumonia.

Size: version 2 is ChestXRay2017.zip, 1.2 GB; version 3 is ZhangLabData.zip, about 8.4 GB, with the OCT images.
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
    `shared_id_evidence` (in the paper's numbers) puts it to the test. Of version
    3's longer numbers nothing of the kind is reported: one of them in both folders is taken for one patient.
Traps: networks score far better on images held out of the train folder than on the test folder. A widespread copy of
    version 2 has moved 16 training images (8 NORMAL, 8 BACTERIA) to a folder `val`: they count as training here, as
    published, and keep their image ids. The paper's text has more patients than training images (`XRAY_COUNTS`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.scan import Place, catalogue_of, first_reason, matching, scan

PATH = r"^(?P<part>[^/]+)/(?P<inside>[^/]+)/(?P<name>[^/]+)$"
TWICE = "a second file of this name"

# --- OCT ---

OCT_CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
OCT_FOLDERS = {"train": "train", "test": "test", "val": "test"}  # folder: published split
OCT_NAME = rf"(?i)^(?P<says>{'|'.join(OCT_CLASSES)})-(?P<patient>\d+)-\d+\.\w+$"
OCT = Place(
    "Kermany OCT images",
    # Not NORMAL, which the chest X-rays have too.
    tuple(f"{folder}/{label.lower()}/" for folder in OCT_FOLDERS for label in OCT_CLASSES[:3]),
    tuple(f"{folder}/" for folder in OCT_FOLDERS),
    f"train/ and test/ with folders {', '.join(OCT_CLASSES)}",
    part=("cnv/", "drusen/"),
    cards=("kermany-v2-oct", "kermany-v3"),
    patients="4,686 and 633",
)

# What the paper prints (Results, "Patient and Image Characteristics").
OCT_COUNTS = {
    "images": {
        "train": {"CNV": 37_206, "DME": 11_349, "DRUSEN": 8_617, "NORMAL": 51_140},
        "test": dict.fromkeys(OCT_CLASSES, 250),
    },
    "patients": {"train": 4_686, "test": 633},
}
# What the archives hold in their train folders, as their users report; the test folders are as the paper says.
OCT_ARCHIVES = {
    "version 2": {"CNV": 37_205, "DME": 11_348, "DRUSEN": 8_616, "NORMAL": 26_315},
    "version 3": {"CNV": 37_205, "DME": 11_348, "DRUSEN": 8_616, "NORMAL": 51_140},
}
OCT_TEST_WITHOUT_VAL = 242  # test images per class of the copy that moved eight more to a folder val

# --- chest X-rays ---

XRAY_CLASSES = ("NORMAL", "BACTERIA", "VIRUS")
XRAY_INSIDE = {"NORMAL": "NORMAL", "BACTERIA": "PNEUMONIA", "VIRUS": "PNEUMONIA"}
XRAY_FOLDERS = {"train": "train", "val": "train", "test": "test"}  # folder: published split
VIEW = "AP"  # "Chest X-ray images (anterior-posterior)", says the description that goes with the copies
# Of version 2's pneumonia and normal images, and of version 3's: the kind is the label, the number the patient.
XRAY_NAME = (
    r"(?i)^(?:(?P<person>person)(?P<number2>\d+)_(?P<kind2>bacteria|virus)_\d+"
    r"|(?:NORMAL2-)?(?P<series>IM-)(?P<number1>\d+)-\d+(?:-\d+)?"
    r"|(?P<kind3>BACTERIA|VIRUS|NORMAL)-(?P<number3>\d+)-\d+)\.\w+$"
)
XRAY = Place(
    "Kermany chest X-rays",
    tuple(f"{folder}/pneumonia/" for folder in XRAY_FOLDERS),  # the OCT images have a folder NORMAL too
    tuple(f"{folder}/" for folder in XRAY_FOLDERS),
    "train/ and test/ with folders NORMAL, PNEUMONIA",
    part=("pneumonia/", "normal/"),
    cards=("kermany-v2-xray", "kermany-v3"),
)

# What the paper prints (Results, "Application of the AI System to Pneumonia Detection Using Chest X-Ray Images"):
# "a total of 5,232 chest X-ray images from children, including 3,883 characterized as depicting pneumonia (2,538
# bacterial and 1,345 viral) and 1,349 normal, from a total of 5,856 patients to train the AI system. The model was then
# tested with 234 normal images and 390 pneumonia images (242 bacterial and 148 viral) from 624 patients."
# 5,856 is the number of images in both folders, and 624 that of the test images: hardly numbers of patients.
XRAY_COUNTS = {
    "images": {
        "train": {"NORMAL": 1_349, "BACTERIA": 2_538, "VIRUS": 1_345},
        "test": {"NORMAL": 234, "BACTERIA": 242, "VIRUS": 148},
    },
    "patients": {"train": 5_856, "test": 624},
}
# Version 2 holds the paper's images, as its users report. (The copy with `val` has 5,216 in train and 16 there.)


def load_oct(data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """The catalogue of the B-scans unpacked in `data_dir` (or of `data_dir` itself, see `OCT`).

    Reads every file once (see `scan`; the result is kept in `cache`). Files that are unreadable, lie outside the class
    folders, or have a name that does not parse or contradicts its folder, are in the catalogue's `excluded`. Raises
    FileNotFoundError where there is no such data, `CatalogueError` where there are two versions of it.
    """
    root = OCT.find(data_dir)
    files, unreadable = _scan(root, cache, workers, OCT_FOLDERS)
    name = files["name"].str.extract(OCT_NAME)
    rows = files.assign(label=name["says"].str.upper(), patient_id=name["patient"])
    rows["reason"] = _misfits(rows, rows["label"], OCT_CLASSES, "its name is not <CLASS>-<patient>-<number>")
    return catalogue_of("kermany_oct", root, rows, OCT_CLASSES, unreadable)


def load_xray(data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """As `load_oct`, of the radiographs in `data_dir` (see `XRAY`).

    Raises `CatalogueError` too where the training images are named as one version's and the test images as the other's.
    """
    root = XRAY.find(data_dir)
    files, unreadable = _scan(root, cache, workers, XRAY_FOLDERS)
    named, split = _parse(files["name"]), files["published_split"]
    rows = files.assign(
        label=named["label"],
        patient_id=named["patient"].mask(named["restarts"], split + "/" + named["patient"]),
        view=VIEW,
    )
    inside = rows["label"].map(XRAY_INSIDE)
    rows["reason"] = _misfits(rows, inside, XRAY_INSIDE.values(), "its name is not one of the data set's")
    second = named["restarts"].map({True: "2", False: "3"})
    versions = second[rows["reason"] == ""].groupby(split).agg(lambda of: of.mode().iloc[0])
    if versions.nunique() > 1:
        raise CatalogueError(
            f"{root}: its training images are named as version {versions['train']}'s, its test images as version "
            f"{versions['test']}'s: patients in both cannot be recognised. Take both folders from one version"
        )
    return catalogue_of("kermany_xray", root, rows, XRAY_CLASSES, unreadable)


def _scan(root: Path, cache: Path, workers: int, folders: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`scan`, with the parts of each path (part/inside/name), the split that `folders` give the first, and image_id.

    Class folders are given as published, however a copy spells them.
    """
    here = {path.name: folder for folder in folders for path in matching(root, f"{folder}/")}
    files, unreadable = scan(root, cache, workers, here)
    files = files.join(files["path"].str.extract(PATH))
    split = files["part"].map(here).map(folders)
    files = files.assign(published_split=split, inside=files["inside"].str.strip().str.upper())
    return files.assign(image_id=split + "/" + files["name"]), unreadable


def _misfits(rows: pd.DataFrame, belongs: pd.Series, folders: Iterable[str], unnamed: str) -> pd.Series:
    """Why a file is set aside: its folder is none of the classes', its name says nothing, or `belongs` elsewhere."""
    return first_reason(
        rows.index,
        (~rows["inside"].isin(folders), "not in a class folder"),
        (rows["label"].isna(), unnamed),
        (belongs != rows["inside"], "its name says " + rows["label"] + ", its folder " + rows["inside"]),
        (rows["image_id"].duplicated(), TWICE),
    )


def _parse(names: pd.Series) -> pd.DataFrame:
    """label, patient, and whether its number restarts in each folder (version 2); missing where no pattern fits."""
    parts = names.str.extract(XRAY_NAME)
    series = parts["person"].str.lower().fillna(parts["series"].str.upper())
    number = parts["number2"].fillna(parts["number1"]).fillna(parts["number3"])
    label = parts["kind2"].fillna(parts["kind3"]).str.upper().mask(parts["series"].notna(), "NORMAL")
    patient = series.fillna("") + number.str.replace(r"^0+(?=\d)", "", regex=True)
    return pd.DataFrame({"label": label, "patient": patient, "restarts": series.notna()})
