"""Zech's data sets: several labels an image, either split list, three collections as hospitals, predictions."""

import re
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_data import REAL, REAL_DATA, nih_archive, nih_name, picture, reasons, three_hospitals

from helpers.data.catalogue import FINDINGS, Catalogue, CatalogueError, join_findings, split_findings
from helpers.zech import data, numbers


def read(folder) -> Catalogue:
    return data.read_nih(folder, folder / "cache", 1)


def test_an_image_may_have_several_findings_and_texts_and_columns_say_the_same(tmp_path):
    root = nih_archive(tmp_path)
    frame = read(tmp_path).frame
    found = split_findings(frame["labels"])
    assert list(found.columns) == list(FINDINGS) and found["Effusion"].sum() == 8 and not found["Hernia"].any()
    pd.testing.assert_series_equal(join_findings(found), frame["labels"], check_names=False)
    assert frame["label"].eq("No Finding").equals(~found.any(axis=1)) and set(frame["view"]) == {"PA", "AP"}
    entries = data.read_entries(root)
    assert len(entries) == 16 and entries["Effusion"].sum() == 8
    able, sentence = data.describe_nih(read(tmp_path))
    assert not able and "16 of the 112,120 images of ChestX-ray14" in sentence


@pytest.mark.parametrize("train", ["train_val_list.txt", "train_list.txt"])
def test_either_split_list_is_read_and_images_may_lie_in_the_folders_of_their_archives(tmp_path, train):
    root = nih_archive(tmp_path, train=train)
    if train == "train_list.txt":  # validation counts as training
        lines = (root / train).read_text().split()
        (root / train).write_text("\n".join(lines[2:]))
        (root / "val_list.txt").write_text("\n".join(lines[:2]))
        (root / "images_001").mkdir()
        (root / "images").rename(root / "images_001" / "images")
    parts = read(tmp_path).frame.groupby("published_split")["patient_id"].unique().map(sorted).to_dict()
    assert parts == {"train": ["0", "1", "2", "3"], "test": ["4", "5", "6", "7"]}


def test_the_table_of_2017_colour_images_and_a_list_from_windows_are_read(tmp_path):
    root = nih_archive(tmp_path)
    table = pd.read_csv(root / "Data_Entry_2017_v2020.csv", dtype=str)
    old = table.assign(**{"Patient Age": ["058Y", "414"] * 8, "Patient Gender": "M", "": ""})
    old.to_csv(root / "Data_Entry_2017.csv", index=False, lineterminator="\r\n")
    (root / "Data_Entry_2017_v2020.csv").unlink()
    picture(root / "images" / nih_name(1), "RGBA")
    (root / "test_list.txt").write_text((root / "test_list.txt").read_text(), encoding="utf-16")
    frame = read(tmp_path).frame
    assert len(frame) == 16 and frame["labels"].str.contains("Effusion").sum() == 8
    assert frame["patient_id"].tolist() == [str(k // 2) for k in range(16)]


def test_of_two_sizes_one_is_read_and_the_other_is_named(tmp_path):
    root = nih_archive(tmp_path)
    for k, name in enumerate(sorted(path.name for path in (root / "images").iterdir())):
        small = Image.open(root / "images" / name).resize((12, 10))
        for folder in ("images-224/images-224", "images_224") if k else ("images-224/images-224",):
            (root / folder).mkdir(parents=True, exist_ok=True)
            small.save(root / folder / name)
    with pytest.warns(UserWarning, match=r"images \(16.*, images-224 \(16.*, images_224 \(15 files\): only"):
        assert set(read(tmp_path).frame["width"]) == {24}
    for folder in ("images-224", "images_224"):
        shutil.rmtree(root / folder)
    (root / "images_002").mkdir()
    (root / "images" / nih_name(1)).rename(root / "images_002" / nih_name(1))
    small.save(root / "images" / nih_name(2))
    catalogue = read(tmp_path)  # one archive is unpacked beside the others, and one image is of another size
    assert len(catalogue) == 15 and reasons(catalogue) == {
        f"images/{nih_name(2)}": "another size than most, which are 24 pixels wide"
    }


def test_what_is_not_used_is_listed_with_the_reason(tmp_path):
    root = nih_archive(tmp_path)
    (root / "images" / nih_name(0)).unlink()
    (root / "images" / nih_name(1)).write_bytes(b"")
    picture(root / "images" / nih_name(99))
    (root / "test_list.txt").write_text((root / "test_list.txt").read_text().replace(nih_name(7, 1), ""))
    assert reasons(read(tmp_path)) == {
        f"images/{nih_name(0)}": "the file is absent",
        f"images/{nih_name(1)}": "0 bytes",
        f"images/{nih_name(99)}": "not in Data_Entry_2017_v2020.csv",
        f"images/{nih_name(7, 1)}": "in no split list",
    }


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("test_list.txt", lambda text: text + nih_name(0), "in a training list and in a test list"),
        ("test_list.txt", lambda text: "", "needs test_list.txt"),
        (
            "Data_Entry_2017_v2020.csv",
            lambda text: text.replace("Effusion", "Effusions"),
            "findings, such as Effusions",
        ),
        ("Data_Entry_2017_v2020.csv", lambda text: text.replace("Patient ID", "Patient"), "no column Patient ID"),
    ],
)
def test_tables_and_lists_that_cannot_be_right_are_refused(tmp_path, file, change, message):
    path = nih_archive(tmp_path) / file
    path.write_text(change(path.read_text()))
    with pytest.raises(CatalogueError, match=message):
        read(tmp_path)


def test_boxes_are_shares_of_the_side_and_an_infiltrate_is_an_infiltration(tmp_path):
    assert data.read_boxes(tmp_path)[0].empty
    rows = f"{nih_name(1)},Infiltrate,256.0,512,128,1e2,,,\n{nih_name(2)},Mass,0,0,1024,1024,,,\n"
    (tmp_path / data.BOXES).write_text(f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n{rows}")
    first, second = data.read_boxes(tmp_path)[0].to_numpy().tolist()
    assert first == [nih_name(1), "Infiltration", 0.25, 0.5, 0.125, 100 / 1024] and second[2:] == [0, 0, 1, 1]
    odd = {"Mass,x,0,1,1": "four numbers", "Mass,1000,0,25,9": "leaves", "Mass,0,0,0,9": "empty", "Gap,0,0,1,1": "Gap"}
    odd["Mass,0,-1,9,9"] = "leaves the image of 1024 pixels"
    lines = "".join(f"{nih_name(3)},{line},,,\n" for line in odd)
    (tmp_path / data.BOXES).write_text(f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n{rows}{lines}")
    boxes, aside = data.read_boxes(tmp_path)
    assert len(boxes) == 2 and aside["path"][0] == f"{data.BOXES}, line 4: {nih_name(3)}"
    assert all(text in reason for text, reason in zip(odd.values(), aside["reason"], strict=True))
    (tmp_path / data.BOXES).write_text(f"Image Index,Finding Label\n{nih_name(1)},Mass\n")
    with pytest.raises(CatalogueError, match="four numbers in each line"):
        data.read_boxes(tmp_path)


# --- three collections as hospitals ---


def test_pneumonia_of_any_cause_counts_and_every_hospital_has_validation_patients_of_its_own(tmp_path):
    catalogue = data.read_sites(three_hospitals(tmp_path), tmp_path / "cache", 1)
    counts = pd.crosstab(catalogue.frame["site"], catalogue.frame["label"])
    assert counts.loc["NIH"].to_dict() == {"No pneumonia": 12, "Pneumonia": 4}  # other findings do not count
    assert counts.loc["Kermany"].to_dict() == {"No pneumonia": 6, "Pneumonia": 12}
    assert counts.loc["Cohen"].to_dict() == {"No pneumonia": 6, "Pneumonia": 18}
    departments = catalogue.frame.groupby("site")["department"].unique()
    assert set(departments["NIH"]) == {"PA", "AP"} and set(departments["Kermany"]) == {""}
    able, sentence = data.describe_sites(catalogue)
    assert not able and "Mount Sinai" in sentence and "NIH 16 images (4 with pneumonia)" in sentence
    made = data.split_sites(catalogue, SimpleNamespace(split="patient-disjoint", seed=1)).frame
    assert all(set(part) == {"train", "validation", "test"} for part in made.groupby("site")["split"].unique())
    assert (made.groupby("patient_id")["split"].nunique() == 1).all()
    assert list(made["image_id"]) == list(catalogue.frame["image_id"])
    settings = SimpleNamespace(sites_source="real", data_dir=tmp_path)
    read = [path for place in data.places_sites(settings) for path in place.read_from(tmp_path)]
    names = {path.relative_to(tmp_path).as_posix() for path in read}
    assert {"nih-chestxray14/images", "chest_xray/train", "covid-chestxray-dataset/metadata.csv"} <= names
    assert data.places_sites(SimpleNamespace(sites_source="phantom_chest")) == ()


# --- published predictions ---


@pytest.fixture
def clone(tmp_path):
    """The clone of today with made-up predictions of 16 images, of which the labels of 2017 call one otherwise."""
    root, rng = tmp_path / "reproduce-chexnet", np.random.default_rng(0)
    images = [nih_name(patient, visit) for patient in range(8) for visit in (0, 1)]
    for folder, columns in {"pretrained": ["auc"], "pretrained-old": ["retrained auc", "chexnet auc"]}.items():
        (root / folder).mkdir(parents=True)
        chances = pd.DataFrame(rng.random((16, 14)), columns=[f"prob_{label}" for label in FINDINGS])
        chances.assign(**{"Image Index": images}).to_csv(root / folder / "preds.csv", index=False)
        areas = pd.DataFrame({"label": FINDINGS[::-1], **dict.fromkeys(columns, 0.5)})
        areas.to_csv(root / folder / "aucs.csv", index=False)
    for name in data.LABELS.values():
        labels = pd.DataFrame(rng.integers(0, 2, (16, 14)), columns=list(FINDINGS[::-1])).assign(Mass=[0, 1] * 8)
        labels.loc[0, "Mass"] = int("2017" in name)
        labels = labels.assign(fold="test", **{"Patient ID": [k // 2 for k in range(16)], "Image Index": images})
        labels.to_csv(root / name, index=False)
    return root


def test_both_networks_are_scored_on_the_labels_of_either_year_that_lie_in_the_clone(clone, tmp_path):
    made = data.load_predictions(tmp_path)
    versions = {network: list(found) for network, found in made.scores.items()}
    assert versions == {"re-scored": ["2017", "2020"], "re-scored, network of 2022": ["2020", "2017"]}
    assert made.entries == 16 and all((found == 0.5).all() for found in made.aucs.values())
    assert all("16 of the 22,433" in note for note in made.notes) and len(made.notes) == 2
    old, new = made.own().values()
    assert old["y_Mass"].sum() == 9 and new["y_Mass"].sum() == 8 and not old["p_Hernia"].equals(new["p_Hernia"])
    assert old["patient_id"].tolist() == [str(k // 2) for k in range(16)]
    relabelled = numbers.compare_scores(*made.scores["re-scored"].values(), ("2017", "2020")).set_index("label")
    assert (
        relabelled.loc["Mass", "difference"] != 0 and (relabelled["p_holm"].dropna() >= relabelled["p"].dropna()).all()
    )
    read = {path.name for path in data.folders_predictions(SimpleNamespace(data_dir=tmp_path))}
    assert read == {"preds.csv", "aucs.csv", "nih_labels.csv", "nih_labels_2017.csv"}


def test_nihs_own_table_serves_where_the_clone_has_no_labels_and_without_any_it_says_so(clone, tmp_path):
    for name in data.LABELS.values():
        (clone / name).unlink()
    with pytest.raises(FileNotFoundError, match="no labels: neither nih_labels_2017.csv nor nih_labels.csv in"):
        data.load_predictions(tmp_path)
    table = nih_archive(tmp_path) / "Data_Entry_2017_v2020.csv"
    made = data.load_predictions(tmp_path)
    assert {tuple(found) for found in made.scores.values()} == {("2020",)} and "no nih_labels.csv" in made.notes[1]
    assert list(numbers.rescored_tables(made)) == ["rescored", "two_trainings"]
    table.rename(table.with_name("Data_Entry_2017.csv"))
    assert {tuple(found) for found in data.load_predictions(tmp_path).scores.values()} == {("2017",)}
    for folder in ("pretrained", "pretrained-old"):
        (clone / folder / "preds.csv").unlink()
    with pytest.raises(FileNotFoundError, match="no published predictions.*pretrained/preds.csv.*reproduce-chexnet"):
        data.load_predictions(tmp_path)


def test_a_clone_of_before_2022_has_the_talks_network_in_the_other_folder(clone, tmp_path):
    shutil.rmtree(clone / "pretrained")
    (clone / "pretrained-old").rename(clone / "pretrained")
    assert list(data.load_predictions(tmp_path).scores) == ["re-scored"]


@pytest.mark.parametrize(
    ("file", "change", "note", "scored"),
    [
        ("pretrained/preds.csv", lambda table: table.assign(prob_Hernia=2.0), "no probability", 0),
        ("pretrained/preds.csv", lambda table: pd.concat([table, table.head(1)]), "an image is there twice", 0),
        ("pretrained/preds.csv", lambda table: table.drop(columns="prob_Hernia"), "no column prob_Hernia", 0),
        ("pretrained/preds.csv", lambda table: table.head(9), "9 of the 22,433", 9),
        ("pretrained/preds.csv", lambda table: table.replace(nih_name(3), "x.png"), "1 images without labels", 15),
        ("pretrained/aucs.csv", lambda table: table.rename(columns={"auc": "area"}), "are not shown", 16),
        ("nih_labels.csv", lambda table: table.drop(index=[3, 4]), "2 images", 14),
        ("nih_labels.csv", lambda table: table.drop(columns="Mass"), "no column Mass", 16),
    ],
)
def test_a_table_that_is_cut_scores_what_is_there_and_one_that_is_wrong_is_left_out(
    clone, tmp_path, file, change, note, scored
):
    change(pd.read_csv(clone / file)).to_csv(clone / file, index=False)
    made = data.load_predictions(tmp_path)
    assert len(made.own().get("re-scored, network of 2022", ())) == scored and "re-scored" in made.scores
    assert any(re.search(note, one) for one in made.notes)
    shutil.rmtree(clone / "pretrained-old")
    if not scored:
        with pytest.raises(CatalogueError, match=note):
            data.load_predictions(tmp_path)


@REAL
@pytest.mark.real_data
def test_the_real_predictions_give_the_areas_that_their_folder_prints():
    made = data.load_predictions(REAL_DATA)
    (table,) = numbers.rescored_tables(made).values()
    assert (table["n"] == 22_433).all() and made.entries == 112_120 and table["equal"].all() and len(made.notes) == 2
    assert (table["high"] - table["low"] > 0).all() and table["difference"].abs().max() < 0.02
    assert table["design effect"].max() > 3 and (table["p_holm"] > 0.9).all()
