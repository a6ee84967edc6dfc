"""The poster's targets: two collections in one table, copies that count as one patient, ten augmentations an image."""

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from catalogue_contract import CatalogueContract, picture, reasons, sized
from PIL import Image

from helpers.carr import controls, data
from helpers.carr.models import without_target
from helpers.data import cohen, kermany_xray
from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.copies import duplicates
from helpers.data.splits import SplitError, leaks, split
from helpers.model.experiment import Images
from helpers.run.profile import load_profile

DISJOINT = SimpleNamespace(split="patient-disjoint", seed=1)


# --- COVID-19 ---


def collections(folder: Path, ill: int = 12, children: int = 15) -> Path:
    """Cohen's: `ill` patients with COVID-19, five with another finding. Kermany's: `children` per class in train, two
    images each, and one child of two kinds."""
    header = ["patientid", "age", "finding", "view", "modality", "folder", "filename"]
    findings = ["COVID-19"] * ill + ["Streptococcus"] * 3 + ["No Finding", "SARS"]
    rows = [[str(p), 40 + p, f, "PA", "X-ray", "images", f"{p}.png"] for p, f in enumerate(findings)]
    rows.append(["0", "", "No Finding", "AP", "X-ray", "images", "0-later.png"])  # a patient of COVID-19, healthy
    root = folder / cohen.LAYOUT
    root.mkdir(parents=True)
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    for k, row in enumerate(rows):
        picture(root / "images" / row[6], k)
    names = {"NORMAL": "NORMAL/IM-{}-000{}.jpeg", "BACTERIA": "PNEUMONIA/person1{}_bacteria_{}.jpeg"}
    names["VIRUS"] = "PNEUMONIA/person2{}_virus_{}.jpeg"
    for k, (_, name) in enumerate(sorted(names.items())):
        for part, count in (("train", children), ("test", 3)):
            for n in range(2 * count):
                picture(folder / "chest_xray" / part / name.format(100 + n // 2, n % 2), 1000 * k + n + 500 * len(part))
    for n, kind in enumerate(("bacteria", "virus")):
        picture(folder / "chest_xray" / "train" / "PNEUMONIA" / f"person999_{kind}_{n}.jpeg", 90_000 + n)
    return folder


def covid(folder: Path, **settings) -> Catalogue:
    return data.read_covid(folder, folder / "cache", 1, **settings)


class TestCovid(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        return covid(folder if any(folder.iterdir()) else collections(folder))


def test_every_class_has_as_many_subjects_and_class_goes_with_source_and_age(tmp_path):
    catalogue = covid(collections(tmp_path))
    main = catalogue.frame[~data.aside(catalogue.frame)]
    subjects = main.groupby(["label", "published_split"])["patient_id"].nunique().unstack()
    assert (subjects["test"] == 3).all() and (subjects["train"] == 9).all()  # 12 subjects, 40 of 142 held back
    ill = main["label"] == "COVID-19"
    assert set(main.loc[ill, "site"]) == {"cohen"} and main.loc[ill, "age"].min() >= 40
    assert set(main.loc[~ill, "age"]) == {data.CHILD_AGE}
    assert not main["patient_id"].str.contains("person999").any()
    able, sentence = data.describe_covid(catalogue)
    assert not able and "12 subjects per class" in sentence and "142" in sentence


def test_with_enough_subjects_the_poster_has_its_numbers_and_validation_takes_further_ones(tmp_path):
    catalogue = covid(collections(tmp_path), subjects=6)
    main = catalogue.frame[~data.aside(catalogue.frame)]
    subjects = main.groupby(["label", "published_split"])["patient_id"].nunique().unstack()
    assert (subjects["test"] == 2).all() and (subjects["train"] == 8).all()
    made = data.split_covid(catalogue, DISJOINT).frame
    assert (made[made["split"] == "train"].groupby("label")["patient_id"].nunique() == 6).all()


def test_other_findings_of_the_same_source_are_held_out_and_share_no_patient(tmp_path):
    catalogue = covid(collections(tmp_path))
    made = data.split_covid(catalogue, DISJOINT)
    held_out = made.frame[made.frame["split"] == "held-out"]
    assert set(held_out["site"]) == {"cohen"} and set(held_out["label"]) == {"BACTERIA", "VIRUS", "NORMAL"}
    assert leaks(made.frame)["patients"].sum() == 0 and len(made.frame) + len(made.dropped) == len(catalogue)
    assert not held_out["patient_id"].eq("cohen/0").any()  # his later, normal image is not in the table


def test_no_subject_of_the_target_is_left_in_the_bridge(tmp_path):
    own = covid(collections(tmp_path))
    bridge = kermany_xray.load(tmp_path, tmp_path / "cache", 1)
    frames = data.split_covid(own, DISJOINT).frame, split(bridge, "patient-disjoint", 0.1, 1).frame
    made, removed = without_target(Images(bridge, frames[1]), Images(own, frames[0]), same_names=True)
    assert not set(made.frame["patient_id"]) & set(own.frame["patient_id"])
    assert removed.groupby("label")["patient_id"].nunique().to_dict() == {"NORMAL": 12, "BACTERIA": 12, "VIRUS": 12}


def test_too_few_subjects_are_refused(tmp_path):
    with pytest.raises(SplitError, match="3 subjects of the smallest class"):
        covid(collections(tmp_path, ill=3))


def two_sites(per_pair: int = 8) -> Catalogue:
    """Every class at both sites, as of phantoms."""
    parts = [sized(dict.fromkeys(data.COVID_CLASSES, 2 * per_pair), dict.fromkeys(data.COVID_CLASSES, per_pair), True)]
    frames = [one.frame.assign(site=site) for one in parts for site in "AB"]
    frame = pd.concat(frames, ignore_index=True)
    names = frame.index.astype(str)
    return parts[0].subset(frame.assign(image_id=names, patient_id=names, digest=names))


def test_untied_every_class_comes_from_both_sites_alike_and_tied_from_one():
    catalogue = two_sites()
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


def scan(path: Path, seed: int, size: tuple[int, int] = (75, 50), quality: int = 90) -> Path:
    """A made scan; one seed is one eye, whatever its size and compression."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, "JPEG", quality=quality)
    return path


def archive(folder: Path, images: int = 6) -> Path:
    for c, label in enumerate(data.OCTID_FOLDERS):
        for k in range(images):
            scan(folder / "octid" / label / f"{label}{k + 1}.jpeg", 100 * c + k)
    return folder / "octid"


def octid(folder: Path, drawn: int = 3) -> Catalogue:
    return data.read_octid(folder, folder / "cache", 1, drawn=drawn)


class TestOctid(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        if not any(folder.iterdir()):
            archive(folder)
        return octid(folder)


def test_four_classes_are_read_and_what_does_not_fit_is_set_aside_with_the_reason(tmp_path):
    root = archive(tmp_path, 4)
    scan(root / "DR" / "inner" / "DR77.jpeg", 900)
    scan(root / "DR" / "CSR78.jpeg", 901)
    (root / "MH" / "MH9.jpeg").write_bytes(b"")
    catalogue = octid(tmp_path, 2)
    assert catalogue.classes == ("NORMAL", "MH", "DR", "CSR") and len(catalogue) == 17
    assert "DR/inner/DR77.jpeg" in set(catalogue.frame["image_id"])
    amd = {f"AMD/AMD{k}.jpeg": "AMD: none of the poster's diagnoses" for k in range(1, 5)}
    assert reasons(catalogue) == amd | {"DR/CSR78.jpeg": "its name says CSR, its folder DR", "MH/MH9.jpeg": "0 bytes"}


def test_of_every_class_the_asked_number_is_drawn_whatever_else_is_there(tmp_path):
    archive(tmp_path, 9)

    def train(drawn):
        frame = octid(tmp_path, drawn).frame
        counts = frame.groupby(["label", "published_split"]).size().unstack()
        assert set(counts["train"]) == {drawn} and set(counts["test"]) == {9 - drawn}
        return set(frame.loc[frame["published_split"] == "train", "image_id"])

    assert train(3) < train(5)
    with pytest.raises(CatalogueError, match="has 9 images, and 9 were to be drawn.*BRIDGE_OCTID_IMAGES"):
        octid(tmp_path, 9)


def test_copies_count_as_one_patient_and_with_two_diagnoses_are_not_used(tmp_path):
    root = archive(tmp_path, 8)
    for k in range(4):
        scan(root / "MH" / f"MH{20 + k}.jpeg", 103, (75 + 10 * k, 50 + 8 * k), 80 - 10 * k)  # MH4 again
    (root / "CSR" / "CSR30.jpeg").write_bytes((root / "CSR" / "CSR1.jpeg").read_bytes())
    scan(root / "DR" / "DR40.jpeg", 100, (90, 60), 70)  # MH1's eye
    catalogue = octid(tmp_path, 4)
    same = catalogue.frame[catalogue.frame["image_id"].isin([f"MH/MH{n}.jpeg" for n in (4, 20, 21, 22, 23)])]
    assert len(same) == 5 and same["patient_id"].nunique() == 1 and same["published_split"].nunique() == 1
    assert not (duplicates(catalogue)["where"] == "train and test").any()
    torn = {path for path, reason in reasons(catalogue).items() if reason == "copies of it have another diagnosis"}
    assert torn == {"DR/DR40.jpeg", "MH/MH1.jpeg"}


def test_the_published_number_of_images_describes_the_paper_and_fewer_do_not():
    train = dict.fromkeys(data.OCTID_CLASSES, 60)
    test = {label: n - 60 for label, n in data.OCTID_COUNTS.items()}
    yes, sentence = data.describe_octid(sized(train, test))
    assert yes and "240 images to learn and choose from, 277 to assess" in sentence
    assert not data.describe_octid(sized(train, test | {"NORMAL": 90}))[0]


def test_the_split_keeps_the_posters_images_to_learn_from_beside_those_that_choose(tmp_path, monkeypatch):
    archive(tmp_path, 20)
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    profile = load_profile("phantom", {"octid_source": "octid", "data_dir": tmp_path, "bridge_octid_images": 5})
    frame = data.split_octid(data.load_octid(profile), profile).frame
    counts = frame.groupby(["split", "label"]).size().unstack()
    assert (counts.loc["train"] == 5).all() and (counts.loc["validation"] == 10).all()
    assert {path.name for path in data.folders_octid(profile)} == set(data.OCTID_FOLDERS)
    with pytest.raises(FileNotFoundError, match="no OCTID images in.*octid for folders NORMAL, MH.*dataverse"):
        data.read_octid(tmp_path / "nowhere", tmp_path)


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
    with pytest.raises(ValueError, match="no pixels for parent i0"):
        data.Expanded(rows, pixels[1:], names[1:], 1)


def test_blacking_out_hides_lungs_and_its_complement_shows_nothing_else(tmp_path):
    lung = np.zeros((128, 128), np.uint8)
    lung[20:100, 10:110] = 255
    Image.fromarray(lung).save(tmp_path / "lung.png")
    catalogue = sized({"NORMAL": 2}, {"NORMAL": 2}, lung_mask=str(tmp_path / "lung.png"))
    masks = controls.lung_masks(catalogue, catalogue.frame, 128)
    white = np.full((1, 128, 128), 200, np.uint8)
    shown = controls.hide_parts(white, controls.lungs_box(catalogue, 128))
    assert masks[:, shown["lungs blacked out"][0] > 0].mean() < 0.01
    np.testing.assert_array_equal(shown["lungs only"].astype(int) + shown["lungs blacked out"], white)
    assert shown["border only"][0, 64, 64] == 0 and shown["border only"][0, 0, 0] == 200
    unknown = sized({"NORMAL": 2}, {"NORMAL": 2})
    assert controls.lungs_box(unknown, 100) == tuple(round(100 * share) for share in controls.BOX)
    assert controls.lung_masks(unknown, unknown.frame, 100).shape == (4, 100, 100)
