"""ChestX-ray14: several labels an image, entries without files, and either of the two split lists."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from catalogue_contract import CatalogueContract
from PIL import Image

from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.zech import data as nih
from helpers.zech.data import FINDINGS, labels, load, read_entries

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def name(patient: int, visit: int) -> str:
    return f"{patient:08d}_{visit:03d}.png"


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 24), dtype=np.uint8)).save(path)


def collection(folder: Path, patients: int = 8, train: str = "train_val_list.txt") -> Path:
    """Two images a patient; the first half trains. Odd patients have two findings, even ones none."""
    root = folder / nih.LAYOUT
    root.mkdir(parents=True, exist_ok=True)
    rows, lists = [HEADER], {train: [], "test_list.txt": []}
    for patient in range(patients):
        for visit in (0, 1):
            found = "Cardiomegaly|Effusion" if patient % 2 else "No Finding"
            rows.append(
                f"{name(patient, visit)},{found},{visit},{patient},50,F,{'AP' if visit else 'PA'},2682,2749,0.1,0.1"
            )
            lists[train if patient < patients // 2 else "test_list.txt"].append(name(patient, visit))
            picture(root / "images" / name(patient, visit), 10 * patient + visit)
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(rows) + "\n")
    for list_name, names in lists.items():
        (root / list_name).write_text("\n".join(names) + "\n")
    return folder


class TestNih(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        return load(folder if any(folder.iterdir()) else collection(folder), folder / "cache", workers=1)


@pytest.mark.real_data
@pytest.mark.skipif("REAL_DATA_DIR" not in os.environ, reason="REAL_DATA_DIR names no folder of real images")
class TestRealImages(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        return load(Path(os.environ["REAL_DATA_DIR"]), folder / "cache")


def test_an_image_may_have_several_findings(tmp_path):
    catalogue = load(collection(tmp_path), tmp_path / "cache")
    table = labels(catalogue)
    assert list(table.columns) == ["image_id", *FINDINGS] and list(table["image_id"]) == list(
        catalogue.frame["image_id"]
    )
    row = table.set_index("image_id").loc[name(1, 0)]
    assert {finding for finding in FINDINGS if row[finding]} == {"Cardiomegaly", "Effusion"}
    assert catalogue.frame.set_index("image_id")["label"].loc[[name(0, 0), name(1, 0)]].tolist() == [
        "No Finding",
        "Finding",
    ]
    assert set(catalogue.frame["view"]) == {"PA", "AP"}


@pytest.mark.parametrize("train", ["train_val_list.txt", "train_list.txt"])
def test_either_split_list_is_read_and_validation_counts_as_training(tmp_path, train):
    root = collection(tmp_path, train=train) / nih.LAYOUT
    if train == "train_list.txt":
        lines = (root / train).read_text().split()
        (root / train).write_text("\n".join(lines[2:]))
        (root / "val_list.txt").write_text("\n".join(lines[:2]))
    frame = load(tmp_path, tmp_path / "cache").frame
    assert frame.groupby("published_split")["patient_id"].unique().map(sorted).to_dict() == {
        "train": ["0", "1", "2", "3"],
        "test": ["4", "5", "6", "7"],
    }


def test_images_may_lie_in_the_folders_of_their_archives(tmp_path):
    root = collection(tmp_path) / nih.LAYOUT
    (root / "images_001").mkdir()
    (root / "images").rename(root / "images_001" / "images")
    assert len(load(tmp_path, tmp_path / "cache")) == 16


def test_what_is_not_used_is_listed_with_the_reason(tmp_path):
    root = collection(tmp_path) / nih.LAYOUT
    (root / "images" / name(0, 0)).unlink()
    (root / "images" / name(1, 0)).write_bytes(b"")
    picture(root / "images" / name(99, 0), 1)
    (root / "test_list.txt").write_text((root / "test_list.txt").read_text().replace(name(7, 1), ""))
    catalogue = load(tmp_path, tmp_path / "cache")
    assert dict(zip(catalogue.excluded["path"], catalogue.excluded["reason"], strict=True)) == {
        f"images/{name(0, 0)}": "the file is absent",
        f"images/{name(1, 0)}": "0 bytes",
        f"images/{name(99, 0)}": "not in Data_Entry_2017_v2020.csv",
        f"images/{name(7, 1)}": "in no split list",
    }
    assert len(catalogue) == 13


def test_entries_are_read_without_any_image(tmp_path):
    root = collection(tmp_path) / nih.LAYOUT
    entries = read_entries(root)
    assert len(entries) == 16 and entries["Effusion"].sum() == 8 and not entries["Hernia"].any()


def test_lists_that_contradict_or_are_missing_are_refused(tmp_path):
    root = collection(tmp_path) / nih.LAYOUT
    with (root / "train_val_list.txt").open("a") as file:
        file.write(name(7, 0))
    with pytest.raises(CatalogueError, match="in a training list and in a test list"):
        load(tmp_path, tmp_path / "cache")
    (root / "test_list.txt").unlink()
    with pytest.raises(CatalogueError, match="needs test_list.txt"):
        load(tmp_path, tmp_path / "cache")


def test_an_unknown_finding_or_a_missing_column_is_refused(tmp_path):
    table = collection(tmp_path) / nih.LAYOUT / "Data_Entry_2017_v2020.csv"
    text = table.read_text()
    table.write_text(text.replace("Effusion", "Effusions"))
    with pytest.raises(CatalogueError, match="unknown findings Effusions"):
        load(tmp_path, tmp_path / "cache")
    table.write_text(text.replace("Patient ID", "Patient"))
    with pytest.raises(CatalogueError, match="no column Patient ID"):
        load(tmp_path, tmp_path / "cache")


def test_when_there_is_no_data_it_says_what_was_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere, which does not exist.*Data_Entry_2017_v2020.csv"):
        load(tmp_path / "nowhere", tmp_path / "cache")


def test_texts_of_labels_and_tables_of_labels_are_the_same_thing():
    texts = pd.Series(["Effusion|Mass", "No Finding", "Hernia"])
    assert nih.joined(nih.split_labels(texts)).tolist() == texts.tolist()
    assert nih.label_of(texts).tolist() == ["Finding", "No Finding", "Finding"]
    with pytest.raises(CatalogueError, match="Gout"):
        nih.split_labels(pd.Series(["Gout|Mass"]))
