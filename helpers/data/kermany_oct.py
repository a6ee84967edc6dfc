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

from helpers.data.catalogue import Catalogue
from helpers.data.scan import Place, catalogue_of, first_reason, scan

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
FOLDERS = {"train": "train", "test": "test", "val": "test"}  # folder: published split
PATH = r"^(?P<folder>[^/]+)/(?P<label>[^/]+)/(?P<name>[^/]+)$"
NAME = rf"^(?P<says>{'|'.join(CLASSES)})-(?P<patient>\d+)-\d+\.\w+$"
PLACE = Place(
    "Kermany OCT images",
    ("OCT2017", "CellData/OCT", "OCT"),  # version 2, version 3, and version 3 with CellData itself given
    tuple(f"{folder}/{label}/" for folder in FOLDERS for label in CLASSES[:3]),  # the chest X-rays have NORMAL too
    tuple(FOLDERS),
    f"train/ and test/ with folders {', '.join(CLASSES)}",
)

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
    """The catalogue of the archive unpacked in `data_dir` (or of `data_dir` itself, see `PLACE`).

    Reads every file once (see `scan`; the result is kept in `cache`). Files that are unreadable, lie outside the class
    folders, or have a name that does not parse or contradicts its folder, are in the catalogue's `excluded`. Raises
    FileNotFoundError where there is no such data, `CatalogueError` where there are two versions of it.
    """
    root = PLACE.find(data_dir)
    frame, unreadable = scan(root, cache, workers, FOLDERS)
    path = frame["path"].str.extract(PATH)
    name = path["name"].str.extract(NAME)
    reason = first_reason(
        frame.index,
        (~path["label"].isin(CLASSES), "not in a class folder"),
        (name["patient"].isna(), "its name is not <CLASS>-<patient>-<number>"),
        (name["says"] != path["label"], "its name says " + name["says"] + ", its folder " + path["label"]),
    )
    frame = frame.assign(
        label=path["label"],
        patient_id=name["patient"],
        published_split=path["folder"].map(FOLDERS),
        image_id=path["folder"] + "/" + path["name"],
        reason=reason,
    )
    return catalogue_of("kermany_oct", root, frame, CLASSES, unreadable)
