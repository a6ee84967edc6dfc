"""Kermany chest X-rays: the layouts and names of every version, patients that cannot leak, and what shared ids mean."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from catalogue_contract import CatalogueContract
from PIL import Image

from helpers.data import audit, kermany_oct
from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.kermany_xray import CLASSES, PAPER_COUNTS, describes_paper, load, with_shared_numbers
from helpers.data.splits import dropped, leaks, split


def write(path: Path, seed: int = 0, mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (30, 40) if mode == "L" else (30, 40, 3)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)).save(path, "JPEG")
    return path


def names(version: int, patient: int) -> list[str]:
    """One patient's files: normal, bacterial and viral."""
    if version == 2:
        pneumonia = [f"person{patient}_bacteria_{patient}7.jpeg", f"person{patient + 50}_virus_{patient}8.jpeg"]
        return [f"NORMAL/IM-{patient:04d}-0001.jpeg", *(f"PNEUMONIA/{name}" for name in pneumonia)]
    pneumonia = [f"PNEUMONIA/{kind}-{patient}{k}-0001.jpeg" for k, kind in enumerate(("BACTERIA", "VIRUS"))]
    return [f"NORMAL/NORMAL-{patient}9-0001.jpeg", *pneumonia]


def archive(root: Path, version: int = 2, patients: int = 3) -> Path:
    for split_name, offset in (("train", 100), ("test", 200)):
        for patient in range(offset, offset + patients):
            for k, name in enumerate(names(version, patient)):
                write(root / split_name / name, 10 * patient + k, "RGB" if patient % 2 else "L")
    return root


def ids(catalogue: Catalogue) -> pd.Series:
    return catalogue.frame.set_index("image_id")["patient_id"]


class TestVersion2(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        root = folder / "chest_xray"
        return load(folder if root.exists() else archive(root).parent, folder / "cache", workers=1)


class TestVersion3(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        root = folder / "CellData" / "chest_xray"
        return load(folder if root.exists() else archive(root, 3).parents[1], folder / "cache", workers=1)


@pytest.mark.real_data
@pytest.mark.skipif("REAL_DATA_DIR" not in os.environ, reason="REAL_DATA_DIR names no folder of real images")
class TestRealImages(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        return load(Path(os.environ["REAL_DATA_DIR"]), folder / "cache")


@pytest.mark.parametrize(
    ("file", "label", "patient"),
    [
        ("NORMAL/IM-0115-0001.jpeg", "NORMAL", "train/IM-115"),
        ("NORMAL/IM-0429-0001-0002.jpeg", "NORMAL", "train/IM-429"),
        ("NORMAL/NORMAL2-IM-0429-0001.jpeg", "NORMAL", "train/IM-429"),
        ("NORMAL/NORMAL2-IM-1103-0001-0002.jpeg", "NORMAL", "train/IM-1103"),
        ("PNEUMONIA/person1_bacteria_1.jpeg", "BACTERIA", "train/person1"),
        ("PNEUMONIA/person1_virus_6.jpeg", "VIRUS", "train/person1"),
        ("NORMAL/NORMAL-1003233-0001.jpeg", "NORMAL", "1003233"),
        ("PNEUMONIA/BACTERIA-1008087-0001.jpeg", "BACTERIA", "1008087"),
        ("PNEUMONIA/VIRUS-28501-0004.jpeg", "VIRUS", "28501"),
    ],
)
def test_label_and_patient_come_from_the_name(tmp_path, file, label, patient):
    write(archive(tmp_path / "chest_xray", patients=1) / "train" / file)
    row = load(tmp_path, tmp_path / "cache").frame.set_index("path").loc[f"train/{file}"]
    assert (row["label"], row["patient_id"], row["published_split"], row["view"]) == (label, patient, "train", "AP")


def test_the_same_number_in_train_and_in_test_is_two_patients_unless_the_caller_says_otherwise(tmp_path):
    root = archive(tmp_path / "chest_xray")
    write(root / "test/PNEUMONIA/person101_virus_1.jpeg", 1)
    catalogue = load(tmp_path, tmp_path / "cache")
    assert ids(catalogue)["test/person101_virus_1.jpeg"] != ids(catalogue)["train/person101_bacteria_1017.jpeg"]
    assert len(dropped(catalogue, "patient-disjoint")) == 0
    careful = dropped(with_shared_numbers(catalogue), "patient-disjoint")
    assert list(careful["image_id"]) == ["train/person101_bacteria_1017.jpeg"]


def test_within_a_folder_bacteria_and_virus_of_one_number_never_part(tmp_path):
    root = archive(tmp_path / "chest_xray")
    for number in range(30):
        write(root / f"train/PNEUMONIA/person{number}_bacteria_{number}.jpeg", number)
        write(root / f"train/PNEUMONIA/person{number}_virus_{number}.jpeg", 100 + number)
    frame = split(load(tmp_path, tmp_path / "cache"), "published", 0.4, seed=3).frame
    assert leaks(frame)["patients"].sum() == 0
    assert set(frame["split"]) == {"train", "validation", "test"}


def test_a_folder_val_counts_as_training_and_keeps_its_image_ids(tmp_path):
    whole = load(archive(tmp_path / "a" / "chest_xray"), tmp_path / "cache")
    moved = archive(tmp_path / "b" / "chest_xray")
    for file in ("NORMAL/IM-0100-0001.jpeg", "PNEUMONIA/person100_bacteria_1007.jpeg"):
        (moved / "val" / file).parent.mkdir(parents=True)
        (moved / "train" / file).rename(moved / "val" / file)
    copy = load(moved, tmp_path / "cache")
    assert copy.fingerprint() == whole.fingerprint()
    assert set(copy.frame.loc[copy.frame["path"].str.startswith("val/"), "published_split"]) == {"train"}


def test_the_copy_that_repeats_itself_inside_itself_is_read_once(tmp_path):
    archive(tmp_path / "chest_xray", patients=1)
    archive(tmp_path / "chest_xray" / "chest_xray", patients=1)
    write(tmp_path / "chest_xray/__MACOSX/train/NORMAL/IM-0001-0001.jpeg")
    assert len(load(tmp_path, tmp_path / "cache")) == 6


def test_what_does_not_fit_is_set_aside_with_the_reason(tmp_path):
    root = archive(tmp_path / "chest_xray", patients=1)
    write(root / "train/NORMAL/person1_bacteria_1.jpeg")
    write(root / "train/PNEUMONIA/IM-0001-0001.jpeg")
    write(root / "train/PNEUMONIA/person1_fungus_1.jpeg")
    write(root / "train/OTHER/person1_virus_1.jpeg")
    (root / "test/NORMAL/IM-0002-0001.jpeg").write_bytes(b"")
    (root / "test/NORMAL/.DS_Store").write_bytes(b"Mac OS X")
    catalogue = load(tmp_path, tmp_path / "cache")
    assert dict(zip(catalogue.excluded["path"], catalogue.excluded["reason"], strict=True)) == {
        "train/NORMAL/person1_bacteria_1.jpeg": "its name says BACTERIA, its folder NORMAL",
        "train/PNEUMONIA/IM-0001-0001.jpeg": "its name says NORMAL, its folder PNEUMONIA",
        "train/PNEUMONIA/person1_fungus_1.jpeg": "its name is not one of the data set's",
        "train/OTHER/person1_virus_1.jpeg": "not in a class folder",
        "test/NORMAL/IM-0002-0001.jpeg": "0 bytes",
    }
    assert len(catalogue) == 6


def test_when_both_versions_are_there_it_asks_which(tmp_path):
    archive(tmp_path / "chest_xray", 2, 1)
    archive(tmp_path / "CellData/chest_xray", 3, 1)
    with pytest.raises(CatalogueError, match="Which one.*DATA_DIR="):
        load(tmp_path, tmp_path / "cache")
    assert len(load(tmp_path / "CellData", tmp_path / "cache")) == 6


def test_when_there_is_no_data_it_says_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.*does not exist.*chest_xray.*PNEUMONIA.*make data"):
        load(tmp_path / "nowhere", tmp_path / "cache")


def test_the_oct_images_of_version_3_are_not_taken_for_x_rays(tmp_path):
    write(tmp_path / "CellData/OCT/train/NORMAL/NORMAL-1-1.jpeg")
    write(tmp_path / "CellData/OCT/train/CNV/CNV-1-1.jpeg")
    archive(tmp_path / "CellData/chest_xray", 3, 1)
    assert load(tmp_path, tmp_path / "cache").root.name == "chest_xray"
    assert kermany_oct.find_root(tmp_path).name == "OCT"


def sized(train: dict[str, int], test: dict[str, int], phantom: bool = False) -> Catalogue:
    rows = [(s, c) for s, n in (("train", train), ("test", test)) for c in CLASSES for _ in range(n[c])]
    frame = pd.DataFrame(rows, columns=["published_split", "label"])
    text = frame.index.astype(str)
    frame = frame.assign(image_id=text, path=text, patient_id=text, digest=text)
    return Catalogue("sized", Path(), frame, CLASSES, phantom=phantom)


TRAIN, TEST = PAPER_COUNTS["images"]["train"], PAPER_COUNTS["images"]["test"]


def test_only_the_published_images_describe_the_paper():
    assert describes_paper(sized(TRAIN, TEST)) == (
        True,
        "The published images: 5,232 training and 624 test images; the paper prints 5,232 and 624.",
    )
    assert describes_paper(sized(TRAIN | {"VIRUS": 1_340}, TEST))[0]
    assert not describes_paper(sized(TRAIN | {"VIRUS": 1_300}, TEST))[0]
    assert not describes_paper(sized(TRAIN, TEST | {"VIRUS": 147}))[0]
    assert not describes_paper(sized(TRAIN, TEST, phantom=True))[0]
    yes, sentence = describes_paper(sized(dict.fromkeys(CLASSES, 5), dict.fromkeys(CLASSES, 2)))
    assert not yes and "15 training and 6 test images of the published 5,232 and 624" in sentence


def test_the_papers_numbers_add_up_to_its_images_not_to_its_patients():
    assert sum(TRAIN.values()) == 5_232 and TRAIN["BACTERIA"] + TRAIN["VIRUS"] == 3_883
    assert sum(TEST.values()) == 624 and TEST["BACTERIA"] + TEST["VIRUS"] == 390
    assert sum(TRAIN.values()) + sum(TEST.values()) == PAPER_COUNTS["patients"]["train"]


def test_the_general_audit_reads_it_too(tmp_path):
    catalogue = load(archive(tmp_path / "chest_xray"), tmp_path / "cache")
    table = audit.counts(catalogue, PAPER_COUNTS)
    assert list(table["label"]) == [*CLASSES, "all"] * 2
    assert table["paper_images"].max() == 5_232
