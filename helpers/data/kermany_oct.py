"""Kermany OCT: 109,312 retinal B-scans of four classes, the paper's main data set.

Citation: Kermany, Goldbaum, Cai et al., "Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep
    Learning", Cell 172 (2018). Data: Mendeley Data, doi 10.17632/rscbjbr9sj, versions 2 and 3.
Licence: CC BY 4.0.
Size: version 2 is OCT2017.tar.gz, 5.8 GB (with the stray `._*` files of the Mac that packed it); version 3 is
    ZhangLabData.zip, about 8.4 GB, and holds the chest X-rays as well.
How to get it: `make data PROFILE=paper`, or download by hand and point DATA_DIR at the folder you unpacked it in.
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
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.scan import catalogue_of, existing, find_folder, scan

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
FOLDERS = {"train": "train", "test": "test", "val": "test"}  # folder: published split
LAYOUTS = ("OCT2017", "CellData/OCT", "OCT")  # version 2, version 3, and version 3 with CellData itself given
NAME = rf"^(?P<named>{'|'.join(CLASSES)})-(?P<patient>\d+)-(?P<number>\d+)\.\w+$"

# What the paper prints (Results, "Patient and Image Characteristics").
PAPER_COUNTS = {
    "images": {
        "train": {"CNV": 37_206, "DME": 11_349, "DRUSEN": 8_617, "NORMAL": 51_140},
        "test": dict.fromkeys(CLASSES, 250),
    },
    "patients": {"train": 4_686, "test": 633},
}
# What the archives hold in their train folders, as their users report; the test folders are as the paper says.
ARCHIVE_TRAIN_IMAGES = {
    "version 2": {"CNV": 37_205, "DME": 11_348, "DRUSEN": 8_616, "NORMAL": 26_315},
    "version 3": {"CNV": 37_205, "DME": 11_348, "DRUSEN": 8_616, "NORMAL": 51_140},
}


def load(data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """The catalogue of the archive unpacked in `data_dir` (or of `data_dir` itself, see `find_root`).

    Reads every file once (see `scan`; the result is kept in `cache`). Files that are unreadable, lie outside the class
    folders, or have a name that does not parse or contradicts its folder, are in the catalogue's `excluded`. Raises
    FileNotFoundError where there is no such data, `CatalogueError` where there are two versions of it.
    """
    root = find_root(data_dir)
    frame, unreadable = scan(root, cache, workers, under=[f for f in FOLDERS if (root / f).is_dir()])
    return catalogue_of("kermany_oct", root, _describe(frame), CLASSES, unreadable)


def find_root(data_dir: Path) -> Path:
    """The folder that holds train/ and test/: `data_dir` itself, or one of `LAYOUTS` in it."""

    def holds(root: Path) -> bool:  # NORMAL does not count: the chest X-rays have such a folder too
        return any((root / split / label).is_dir() for split in FOLDERS for label in CLASSES[:3])

    looked_for = f"train/ and test/ with folders {', '.join(CLASSES)}"
    return find_folder(
        data_dir, LAYOUTS, holds, "Kermany OCT images", looked_for, "Get them with: make data PROFILE=paper"
    )


def folders(data_dir: Path) -> list[Path]:
    """The folders that `load` reads."""
    return existing(data_dir, LAYOUTS, tuple(FOLDERS))


def _describe(frame: pd.DataFrame) -> pd.DataFrame:
    """The scan with what its paths say; `reason` is empty, or why a file cannot be used."""
    parts = frame["path"].str.extract(r"^(?P<folder>[^/]+)/(?P<label>[^/]+)/(?P<name>[^/]+)$")
    name = parts["name"].str.extract(NAME)
    reason = pd.Series("", index=frame.index)
    contradicts = name["named"] != parts["label"]
    reason[contradicts] = "its name says " + name["named"] + ", its folder " + parts["label"]
    reason[name["patient"].isna()] = "its name is not <CLASS>-<patient>-<number>"
    reason[~parts["label"].isin(CLASSES)] = "not in a class folder"
    return frame.assign(
        label=parts["label"],
        patient_id=name["patient"],
        published_split=parts["folder"].map(FOLDERS),
        image_id=parts["folder"] + "/" + parts["name"],
        reason=reason,
    )
