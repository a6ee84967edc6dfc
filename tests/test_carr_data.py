"""The poster's targets: two collections in one table, copies that count as one patient, ten augmentations an image."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_data import cohen_archive, cohen_row, face, octid_archive, picture, reasons, sized, xray_archive

from helpers.carr import controls, data
from helpers.carr.models import without_target
from helpers.data import kermany_images
from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.copies import duplicates
from helpers.data.masks import read_masks
from helpers.data.splits import SplitError, leaks, split
from helpers.model.experiment import Images
from helpers.run.profile import load_profile

DISJOINT = SimpleNamespace(split="patient-disjoint", seed=1)


# --- COVID-19 ---


def covid(folder: Path, ill: int = 12, **settings) -> Catalogue:
    """Cohen's: `ill` patients with COVID-19, five with another finding. Kermany's: 15 children per class in train, two
    images each, and one child of two kinds."""
    findings = ["COVID-19"] * ill + ["Streptococcus"] * 3 + ["No Finding", "SARS"]
    rows = [cohen_row(str(p), f"{p}.png", finding=finding, age=40 + p) for p, finding in enumerate(findings)]
    rows.append(cohen_row("0", "0-later.png", "AP", "No Finding"))  # a patient of COVID-19, healthy
    cohen_archive(folder, rows)
    xray_archive(folder / "chest_xray", patients=15, images=2)
    for kind in ("bacteria", "virus"):
        picture(folder / "chest_xray" / "train" / "PNEUMONIA" / f"person999_{kind}_1.jpeg")
    return data.read_covid(folder, folder / "cache", 1, **settings)


def subjects(frame: pd.DataFrame, part: str) -> dict[str, set[int]]:
    counts = frame.groupby([part, "label"])["patient_id"].nunique()
    return counts.groupby(part).unique().map(set).to_dict()


def test_every_class_has_as_many_subjects_and_class_goes_with_source_and_age(tmp_path):
    catalogue = covid(tmp_path)
    main = catalogue.frame[~data.aside(catalogue.frame)]
    assert subjects(main, "published_split") == {"test": {3}, "train": {9}}  # 12 subjects, 40 of 142 held back
    ill = main["label"] == "COVID-19"
    assert set(main.loc[ill, "site"]) == {"cohen"} and main.loc[ill, "age"].min() >= 40
    assert set(main.loc[~ill, "age"]) == {data.CHILD_AGE}
    assert not main["patient_id"].str.contains("person999").any()
    able, sentence = data.describe_covid(catalogue)
    assert not able and "12 subjects per class" in sentence and "142" in sentence


def test_other_findings_of_the_same_source_are_held_out_and_no_subject_is_left_in_the_bridge(tmp_path):
    catalogue = covid(tmp_path)
    made = data.split_covid(catalogue, DISJOINT)
    held_out = made.frame[made.frame["split"] == "held-out"]
    assert set(held_out["site"]) == {"cohen"} and set(held_out["label"]) == {"BACTERIA", "VIRUS", "NORMAL"}
    assert leaks(made.frame)["patients"].sum() == 0 and len(made.frame) + len(made.dropped) == len(catalogue)
    assert not held_out["patient_id"].eq("cohen/0").any()  # his later, normal image is not in the table
    bridge = kermany_images.load_xray(tmp_path, tmp_path / "cache", 1)
    frame = split(bridge, "patient-disjoint", 0.1, 1).frame
    kept, removed = without_target(Images(bridge, frame), Images(catalogue, made.frame), same_names=True)
    assert not set(kept.frame["patient_id"]) & set(catalogue.frame["patient_id"])
    assert removed.groupby("label")["patient_id"].nunique().to_dict() == {"NORMAL": 12, "BACTERIA": 12, "VIRUS": 12}


def test_untied_every_class_comes_from_both_sites_alike_and_tied_from_one():
    plain = sized(dict.fromkeys(data.COVID_CLASSES, 16), dict.fromkeys(data.COVID_CLASSES, 8), True)
    frame = pd.concat([plain.frame.assign(site=site) for site in "AB"], ignore_index=True)
    names = frame.index.astype(str)
    catalogue = plain.subset(frame.assign(image_id=names, patient_id=names, digest=names))
    frame = data.untied(catalogue, 1)
    assert frame.groupby([frame["split"] == "test", "label", "site"]).size().nunique() == 2
    assert leaks(frame)["patients"].sum() == 0 and not (frame["split"] == "held-out").any()
    tied = data.split_covid(catalogue, DISJOINT).frame
    assert (tied.groupby(["split", "label"])["site"].nunique() == 1).all()
    assert data.aside(tied).eq(tied["split"] == "held-out").all()
    main = catalogue.subset(catalogue.frame[~data.aside(catalogue.frame)])
    assert data.can_be_untied(catalogue.frame) and not data.can_be_untied(main.frame)
    with pytest.raises(SplitError, match="cannot be untied"):
        data.untied(main, 1)


# --- rare retinal disease ---


def octid(folder: Path, drawn: int = 3) -> Catalogue:
    return data.read_octid(folder, folder / "cache", 1, drawn=drawn)


def test_four_classes_are_read_and_what_does_not_fit_is_set_aside_with_the_reason(tmp_path):
    root = octid_archive(tmp_path, 4)
    picture(root / "DR" / "inner" / "DR77.jpeg")
    picture(root / "DR" / "CSR78.jpeg")
    (root / "MH" / "MH9.jpeg").write_bytes(b"")
    catalogue = octid(tmp_path, 2)
    assert catalogue.classes == ("NORMAL", "MH", "DR", "CSR") and len(catalogue) == 17
    assert "DR/inner/DR77.jpeg" in set(catalogue.frame["image_id"])
    amd = {f"AMD/AMD{k}.jpeg": "AMD: none of the poster's diagnoses" for k in range(1, 5)}
    assert reasons(catalogue) == amd | {"DR/CSR78.jpeg": "its name says CSR, its folder DR", "MH/MH9.jpeg": "0 bytes"}


def test_of_every_class_the_asked_number_is_drawn_whatever_else_is_there(tmp_path):
    octid_archive(tmp_path, 9)
    few, more = (octid(tmp_path, drawn).frame.query("published_split == 'train'") for drawn in (3, 5))
    assert set(few["label"].value_counts()) == {3} and set(more["label"].value_counts()) == {5}
    assert set(few["image_id"]) < set(more["image_id"])
    with pytest.raises(CatalogueError, match="has 9 images, and 9 were to be drawn.*BRIDGE_OCTID_IMAGES"):
        octid(tmp_path, 9)


def test_copies_count_as_one_patient_and_with_two_diagnoses_are_not_used(tmp_path):
    root = octid_archive(tmp_path, 8)
    for seed, names in {1: ("MH/MH4", "MH/MH20", "MH/MH21", "MH/MH22"), 2: ("MH/MH1", "DR/DR40")}.items():
        for k, name in enumerate(names):
            Image.fromarray(face(seed)).resize((96 + 10 * k, 96 + 8 * k)).save(
                root / f"{name}.jpeg", quality=90 - 10 * k
            )
    (root / "CSR" / "CSR30.jpeg").write_bytes((root / "CSR" / "CSR1.jpeg").read_bytes())
    catalogue = octid(tmp_path, 4)
    same = catalogue.frame[catalogue.frame["image_id"].isin([f"MH/MH{n}.jpeg" for n in (4, 20, 21, 22)])]
    assert len(same) == 4 and same["patient_id"].nunique() == 1 and same["published_split"].nunique() == 1
    assert not (duplicates(catalogue)["where"] == "train and test").any()
    torn = {path for path, reason in reasons(catalogue).items() if reason == "copies of it have another diagnosis"}
    assert torn == {"DR/DR40.jpeg", "MH/MH1.jpeg"}


def test_the_published_number_of_images_describes_the_paper_and_fewer_do_not():
    train = dict.fromkeys(data.OCTID_CLASSES, 60)
    test = {label: n - 60 for label, n in data.OCTID_COUNTS.items()}
    yes, sentence = data.describe_octid(sized(train, test))
    assert yes and "240 training and 277 test images" in sentence
    assert not data.describe_octid(sized(train, test | {"NORMAL": 90}))[0]


# --- a target made larger, and lungs hidden ---


def target(train: int = 102, other: int = 4) -> pd.DataFrame:
    rows = [(f"i{n}", f"p{n}", "COVID-19", "train" if n < train else "test") for n in range(train + other)]
    return pd.DataFrame(rows, columns=["image_id", "patient_id", "label", "split"])


def test_102_subjects_become_1122_images_and_children_inherit_from_their_parents():
    made = data.expand(target())
    assert (made["split"] == "train").sum() == 1122 and (made["split"] == "test").sum() == 4
    assert made["image_id"].is_unique and set(made.loc[made["child"] > 0, "split"]) == {"train"}
    inherited = ["label", "patient_id", "split"]
    parents = made.set_index("image_id").loc[made["parent"], inherited].reset_index(drop=True)
    pd.testing.assert_frame_equal(parents, made[inherited])
    rows = target(3, 2)
    rows.loc[4, "patient_id"] = "p0"
    with pytest.raises(ValueError, match="patient_id: 1 are in train and in another split too, first p0"):
        data.expand(rows)


def test_a_child_follows_from_seed_parent_and_number_alone():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 24, 24), np.uint8)
    rows, names = data.expand(target(3, 2), 4), [f"i{n}" for n in range(5)]
    every = data.Expanded(rows, pixels, names, 1).batch(0, np.arange(len(rows)))
    np.testing.assert_array_equal(every[:5], pixels)
    other = data.Expanded(rows[::-1], pixels[::-1], names[::-1], 1).batch(7, np.arange(len(rows)))
    np.testing.assert_array_equal(other[::-1], every)
    assert len({image.tobytes() for image in every}) == len(rows)
    assert (data.Expanded(rows, pixels, names, 2).batch(0, [6]) != every[6]).any()


def test_blacking_out_hides_lungs_and_its_complement_shows_nothing_else(tmp_path):
    lung = np.zeros((128, 128), np.uint8)
    lung[20:100, 10:50] = lung[20:100, 70:110] = 255
    Image.fromarray(lung).save(tmp_path / "lung.png")
    catalogue = sized({"NORMAL": 2}, {"NORMAL": 2}, lung_mask=str(tmp_path / "lung.png"))
    masks = read_masks(catalogue, catalogue.frame, 128, load_profile())
    white = np.full((1, 128, 128), 200, np.uint8)
    shown = controls.hide_parts(white, controls.lungs_box(masks, 128)) | controls.hide_lungs(white, masks.pixels[:1])
    assert masks.pixels[:, shown["box blacked out"][0] > 0].mean() < 0.01
    assert not masks.pixels[:, shown["lungs blacked out"][0] > 0].any() and shown["lungs blacked out"][0, 64, 60] == 200
    for part in ("box", "lungs"):
        np.testing.assert_array_equal(shown[f"{part} only"].astype(int) + shown[f"{part} blacked out"], white)
    assert shown["border only"][0, 64, 64] == 0 and shown["border only"][0, 0, 0] == 200
    none = replace(masks, rows=masks.rows[:0], pixels=masks.pixels[:0])
    assert controls.lungs_box(none, 100) == (slice(8, 90), slice(6, 94))
