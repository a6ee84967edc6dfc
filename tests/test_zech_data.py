"""Zech's data sets: several labels an image, either split list, three collections as hospitals, predictions."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from catalogue_contract import CatalogueContract, picture, real_data, reasons

from helpers.data.catalogue import FINDINGS, Catalogue, CatalogueError, join_findings, split_findings
from helpers.zech import data, numbers

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
FOUND = ("No Finding", "Pneumonia|Effusion", "Consolidation", "Cardiomegaly|Effusion")


def name(patient: int, visit: int = 0) -> str:
    return f"{patient:08d}_{visit:03d}.png"


def nih(folder: Path, patients: int = 8, train: str = "train_val_list.txt") -> Path:
    """Two images per patient; the first half trains. Findings go round `FOUND` by patient."""
    root = folder / data.LAYOUT
    root.mkdir(parents=True, exist_ok=True)
    rows, lists = [HEADER], {train: [], "test_list.txt": []}
    for patient in range(patients):
        for visit in (0, 1):
            view = "AP" if visit else "PA"
            rows.append(f"{name(patient, visit)},{FOUND[patient % 4]},{visit},{patient},50,F,{view}")
            lists[train if patient < patients // 2 else "test_list.txt"].append(name(patient, visit))
            picture(root / "images" / name(patient, visit), 10 * patient + visit)
    (root / "Data_Entry_2017_v2020.csv").write_text("\n".join(rows) + "\n")
    for list_name, names in lists.items():
        (root / list_name).write_text("\n".join(names) + "\n")
    return root


def read(folder: Path) -> Catalogue:
    return data.read_nih(folder, folder / "cache", 1)


class TestNih(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        if not any(folder.iterdir()):
            nih(folder)
        return read(folder)


@real_data
def test_the_real_images_are_read(tmp_path):
    catalogue = data.read_nih(Path(os.environ["REAL_DATA_DIR"]), tmp_path)
    able, sentence = data.describe_nih(catalogue)
    assert not able and "of the 112,120 images of ChestX-ray14" in sentence


def test_an_image_may_have_several_findings_and_texts_and_columns_say_the_same(tmp_path):
    nih(tmp_path)
    frame = read(tmp_path).frame
    found = split_findings(frame["labels"])
    assert list(found.columns) == list(FINDINGS) and found["Effusion"].sum() == 8 and not found["Hernia"].any()
    pd.testing.assert_series_equal(join_findings(found), frame["labels"], check_names=False)
    assert frame["label"].eq("No Finding").equals(~found.any(axis=1)) and set(frame["view"]) == {"PA", "AP"}
    entries = data.read_entries(tmp_path / data.LAYOUT)
    assert len(entries) == 16 and entries["Effusion"].sum() == 8


@pytest.mark.parametrize("train", ["train_val_list.txt", "train_list.txt"])
def test_either_split_list_is_read_and_images_may_lie_in_the_folders_of_their_archives(tmp_path, train):
    root = nih(tmp_path, train=train)
    if train == "train_list.txt":  # validation counts as training
        lines = (root / train).read_text().split()
        (root / train).write_text("\n".join(lines[2:]))
        (root / "val_list.txt").write_text("\n".join(lines[:2]))
        (root / "images_001").mkdir()
        (root / "images").rename(root / "images_001" / "images")
    parts = read(tmp_path).frame.groupby("published_split")["patient_id"].unique().map(sorted).to_dict()
    assert parts == {"train": ["0", "1", "2", "3"], "test": ["4", "5", "6", "7"]}


def test_what_is_not_used_is_listed_with_the_reason(tmp_path):
    root = nih(tmp_path)
    (root / "images" / name(0)).unlink()
    (root / "images" / name(1)).write_bytes(b"")
    picture(root / "images" / name(99), 1)
    (root / "test_list.txt").write_text((root / "test_list.txt").read_text().replace(name(7, 1), ""))
    assert reasons(read(tmp_path)) == {
        f"images/{name(0)}": "the file is absent",
        f"images/{name(1)}": "0 bytes",
        f"images/{name(99)}": "not in Data_Entry_2017_v2020.csv",
        f"images/{name(7, 1)}": "in no split list",
    }


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("test_list.txt", lambda text: text + name(0), "in a training list and in a test list"),
        ("test_list.txt", lambda text: "", "needs test_list.txt"),
        ("Data_Entry_2017_v2020.csv", lambda text: text.replace("Effusion", "Effusions"), "unknown findings Effusions"),
        ("Data_Entry_2017_v2020.csv", lambda text: text.replace("Patient ID", "Patient"), "no column Patient ID"),
    ],
)
def test_tables_and_lists_that_cannot_be_right_are_refused(tmp_path, file, change, message):
    path = nih(tmp_path) / file
    path.write_text(change(path.read_text()))
    with pytest.raises(CatalogueError, match=message):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere, which does not exist.*Data_Entry_2017_v2020.csv"):
        read(tmp_path / "nowhere")


# --- three collections as hospitals ---


def collections(folder: Path) -> Path:
    """A few images of each of the three, in the layouts that their archives unpack to."""
    nih(folder)
    for part in ("train", "test"):
        for k in range(3):
            picture(folder / "chest_xray" / part / "NORMAL" / f"IM-{k:04d}-0001.jpeg", 500 + k + 10 * len(part))
            picture(folder / "chest_xray" / part / "PNEUMONIA" / f"person{k}_virus_{k}.jpeg", 600 + k + 10 * len(part))
    rows = []
    for k in range(12):
        picture(folder / "covid-chestxray-dataset" / "images" / f"c{k}.png", 700 + k)
        rows.append({"patientid": k, "finding": ("COVID-19", "No Finding", "Streptococcus")[k % 3], "view": "PA"})
        rows[-1] |= {"modality": "X-ray", "folder": "images", "filename": f"c{k}.png"}
    pd.DataFrame(rows).to_csv(folder / "covid-chestxray-dataset" / "metadata.csv", index=False)
    return folder


class TestSites(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        raw = folder / "raw"
        return data.read_sites(raw if raw.exists() else collections(raw), folder / "cache", 1)

    def test_pneumonia_of_any_cause_counts_and_other_findings_do_not(self, catalogue):
        counts = pd.crosstab(catalogue.frame["site"], catalogue.frame["label"])
        assert counts.loc["NIH"].to_dict() == {"No pneumonia": 12, "Pneumonia": 4}
        assert counts.loc["Kermany"].to_dict() == {"No pneumonia": 6, "Pneumonia": 6}
        assert counts.loc["Cohen"].to_dict() == {"No pneumonia": 4, "Pneumonia": 8}
        departments = catalogue.frame.groupby("site")["department"].unique()
        assert set(departments["NIH"]) == {"PA", "AP"} and set(departments["Kermany"]) == {""}
        able, sentence = data.describe_sites(catalogue)
        assert not able and "Mount Sinai" in sentence and "NIH 16 images (4 with pneumonia)" in sentence

    def test_every_hospital_has_validation_patients_of_its_own(self, catalogue):
        made = data.split_sites(catalogue, SimpleNamespace(split="patient-disjoint", seed=1)).frame
        assert all(set(part) == {"train", "validation", "test"} for part in made.groupby("site")["split"].unique())
        assert (made.groupby("patient_id")["split"].nunique() == 1).all()
        assert list(made["image_id"]) == list(catalogue.frame["image_id"])


def test_a_missing_collection_is_named_and_what_is_read_is_listed(tmp_path):
    with pytest.raises(FileNotFoundError, match="ChestX-ray14"):
        data.read_sites(tmp_path, tmp_path / "cache", 1)
    settings = SimpleNamespace(sites_source="real", data_dir=collections(tmp_path))
    names = {path.relative_to(tmp_path).as_posix() for path in data.folders_sites(settings)}
    assert {"nih-chestxray14/images", "chest_xray/train", "covid-chestxray-dataset/metadata.csv"} <= names
    assert data.folders_sites(SimpleNamespace(sites_source="phantom_chest")) == []


# --- published predictions ---


def predictions(folder: Path) -> Path:
    """Made-up predictions of NIH's images, as the two archives lie."""
    nih(folder)
    place = folder / data.PREDICTIONS_LAYOUT
    place.mkdir(parents=True)
    images = [name(patient, visit) for patient in range(8) for visit in (0, 1)]
    chances = np.random.default_rng(0).random((16, 14))
    table = pd.DataFrame(chances, columns=[f"prob_{label}" for label in FINDINGS]).assign(**{"Image Index": images})
    table.to_csv(place / "preds.csv", index=False)
    pd.DataFrame({"label": FINDINGS, "auc": 0.5}).to_csv(place / "aucs.csv", index=False)
    return place


def test_published_predictions_stand_beside_their_labels(tmp_path):
    predictions(tmp_path)
    made = data.load_predictions(tmp_path)
    assert made.entries == len(made.scores) == 16 and list(made.aucs.index) == list(FINDINGS)
    row = made.scores.set_index("image_id").loc[name(1)]
    assert row["patient_id"] == "1" and row["y_Pneumonia"] and not row["y_Hernia"] and 0 <= row["p_Hernia"] <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.assign(prob_Hernia=2.0), "no probability"),
        (lambda table: pd.concat([table, table.head(1)]), "an image is there twice"),
        (lambda table: table.replace(name(3), "x0.png"), "not in NIH's table, first x0"),
        (lambda table: table.drop(columns="prob_Hernia"), "no column prob_Hernia"),
    ],
)
def test_predictions_that_cannot_be_right_are_refused(tmp_path, change, message):
    path = predictions(tmp_path) / "preds.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(CatalogueError, match=message):
        data.load_predictions(tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="reproduce-chexnet/pretrained/preds.csv"):
        data.load_predictions(tmp_path)


@real_data
def test_the_real_predictions_give_the_areas_that_their_folder_prints():
    made = data.load_predictions(Path(os.environ["REAL_DATA_DIR"]))
    table = numbers.rescored_table(numbers.label_aurocs(made.scores), made.aucs)
    assert len(made.scores) == 22_433 and made.entries == 112_120 and table["equal"].all()
    assert (table["high"] - table["low"] > 0).all() and table["difference"].abs().max() < 0.02
