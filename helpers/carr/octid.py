"""OCTID: 572 retinal B-scans of five classes, of which Carr 2020 takes four; a small target for transfer.

Citation: Gholami, Roy, Parthasarathy, Lakshminarayanan, "OCTID: Optical Coherence Tomography Image Database", Computers
    and Electrical Engineering 81 (2020). Data: Scholars Portal Dataverse, dataverse OCTID.
Licence: the host's terms.
Size: NORMAL 206, MH 102 (macular hole), AMD 55 (age-related macular degeneration), DR 107 (diabetic retinopathy),
    CSR 102 (central serous retinopathy).
How to get it: one zip a class, downloaded by hand; `make data PROFILE=paper` says where to and unpacks them.
Images: JPEG from a Cirrus HD-OCT scanner, whereas Kermany's are from Spectralis scanners; one chosen scan through the
    fovea each.
Labels: the folder, `octid/<CLASS>/`, at whatever depth below it a zip puts its files.
Patients: none are named, so nobody can tell whether two scans are of one patient's two eyes or visits. What can be seen
    is seen to: exact and near copies (see `copies`) count as one patient. Beyond that a patient may be on both sides of
    the split, and an interval "by patient" is one by image: optimistic, as the poster's own split must have been.
Split: none is published. The poster took 50 samples a diagnosis and assessed "against unseen data"; here those to learn
    and to choose from are the first in the order of a hash of their names, and all others are for assessment: the draw
    depends neither on a seed nor on what else lies there. NORMAL, twice as frequent, stays so in the assessment.
Traps: AMD is left out, as in the poster; near copies with two diagnoses are not used at all.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.copies import duplicates
from helpers.data.scan import scan

CLASSES = ("NORMAL", "MH", "DR", "CSR")  # the poster's
FOLDERS = ("NORMAL", "MH", "AMD", "DR", "CSR")
PAPER_COUNTS = {"NORMAL": 206, "MH": 102, "AMD": 55, "DR": 107, "CSR": 102}
LAYOUT = "octid"
VALIDATION = 10  # B-scans per class beside those to learn from; they choose penalties and epochs
SALT = "octid/published_split"
COLUMNS = ["image_id", "path", "label", "patient_id", "published_split", "digest", "width", "height", "average_hash"]


def load(data_dir: Path, cache: Path, workers: int = 0, *, drawn: int = 60) -> Catalogue:
    """The four classes of the poster; of each, `drawn` images are published_split train, to learn and choose from.

    `excluded` lists all that is not used, with the reason. Raises FileNotFoundError where there is no such data, and
    `CatalogueError` for a class that `drawn` images would leave without any to be assessed on.
    """
    root = find_root(data_dir)
    frame, unreadable = scan(root, cache, workers, under=[name for name in FOLDERS if (root / name).is_dir()])
    frame = _grouped(root, _described(frame), workers)
    aside = frame.loc[frame["reason"] != "", ["path", "reason"]]
    usable = frame[frame["reason"] == ""].reset_index(drop=True)
    if missing := [label for label in CLASSES if label not in set(usable["label"])]:
        raise CatalogueError(f"OCTID in {root}: no usable image of {', '.join(missing)}")
    usable = usable.assign(published_split=_drawn(usable, drawn, root))
    excluded = pd.concat([unreadable, aside]).sort_values("path", ignore_index=True)
    return Catalogue("octid", root, usable[COLUMNS], CLASSES, excluded)


def find_root(data_dir: Path) -> Path:
    """The folder that holds the classes' folders: `data_dir` itself, or `LAYOUT` in it."""
    for root in (data_dir, data_dir / LAYOUT):
        if all((root / label).is_dir() for label in CLASSES):
            return root
    state = "" if data_dir.is_dir() else ", which does not exist"
    raise FileNotFoundError(
        f"no OCTID images in {data_dir}{state}: looked there and in {LAYOUT} for folders {', '.join(CLASSES)}. "
        f"Download a zip a class from dataverse.scholarsportal.info/dataverse/OCTID, and unpack each into "
        f"{LAYOUT}/<CLASS>/"
    )


def describes_paper(catalogue: Catalogue) -> tuple[bool, str]:
    """Whether all published images are there, and a sentence for reports. The draw is our own either way."""
    here = catalogue.frame["label"].value_counts().to_dict()
    test = int((catalogue.frame["published_split"] == "test").sum())
    sizes = f"{len(catalogue) - test:,} images to learn and choose from, {test:,} to assess"
    # A few may have been set aside: copies with two diagnoses, files that cannot be read.
    if all(abs(here[label] - PAPER_COUNTS[label]) <= 0.03 * PAPER_COUNTS[label] for label in CLASSES):
        return True, f"OCTID as published: {sizes}, in a draw of our own, for the poster's is not published."
    return False, f"A subset or variant of OCTID: {sizes}, of the published {sum(PAPER_COUNTS[c] for c in CLASSES)}."


def _described(frame: pd.DataFrame) -> pd.DataFrame:
    """The scan with what its paths say; `reason` is empty, or why a file cannot be used."""
    label, name = frame["path"].str.split("/").str[0], frame["path"].str.split("/").str[-1]
    named = name.str.extract(rf"^({'|'.join(FOLDERS)})(?![A-Za-z])", expand=False).fillna(label)
    reason = pd.Series("", index=frame.index)
    reason[label == "AMD"] = "AMD: none of the poster's diagnoses"
    reason[named != label] = "its name says " + named + ", its folder " + label
    return frame.assign(label=label, image_id=frame["path"], reason=reason)


def _grouped(root: Path, frame: pd.DataFrame, workers: int) -> pd.DataFrame:
    """With `patient_id`, the first of an image's exact and near copies; copies of two labels are set aside."""
    used = frame[frame["reason"] == ""].assign(published_split="train", patient_id="unknown").reset_index(drop=True)
    group = {name: name for name in frame["image_id"]}
    if used["image_id"].nunique() > 1:
        pairs = duplicates(Catalogue("octid", root, used, tuple(sorted(set(used["label"])))), workers=workers)
        for a, b in zip(pairs["image_a"], pairs["image_b"], strict=True):
            first, second = sorted((group[a], group[b]))
            group = {name: first if top == second else top for name, top in group.items()}
    frame = frame.assign(patient_id=frame["image_id"].map(group))
    labels = frame[frame["reason"] == ""].groupby("patient_id")["label"].nunique()
    torn = (frame["reason"] == "") & (frame["patient_id"].map(labels) > 1)
    return frame.assign(reason=frame["reason"].mask(torn, "copies of it have another diagnosis"))


def _drawn(frame: pd.DataFrame, drawn: int, root: Path) -> list[str]:
    """train or test of each row: of each class the first `drawn` in the order of a hash, copies counting as one."""
    chosen: set[str] = set()
    for label, rows in frame.groupby("label"):
        names = sorted(set(rows["patient_id"]), key=lambda name: hashlib.blake2b(f"{SALT}/{name}".encode()).digest())
        if len(names) <= drawn:
            raise CatalogueError(
                f"OCTID in {root}: {label} has {len(names)} images, and {drawn} were to be drawn to learn and choose "
                "from; with fewer, set BRIDGE_OCTID_IMAGES and OCTID_VALIDATION lower"
            )
        chosen.update(names[:drawn])
    return ["train" if name in chosen else "test" for name in frame["patient_id"]]
