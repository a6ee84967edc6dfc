"""The COVID-19 target: two collections in one table, subjects that leave the bridge, phantoms that can be untied."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from catalogue_contract import CatalogueContract
from PIL import Image

from helpers.carr import data as covid
from helpers.carr import thorax
from helpers.carr.models import without_target
from helpers.data import cohen, kermany_xray
from helpers.data.catalogue import Catalogue
from helpers.data.splits import SplitError, leaks, split
from helpers.model.networks import Images
from helpers.phantoms.chest_plans import COVID, plan_covid

HEADER = ["patientid", "age", "finding", "view", "modality", "folder", "filename"]


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 24), dtype=np.uint8)).save(path)


def collections(folder: Path, ill: int = 12, children: int = 15) -> Path:
    """Cohen's: `ill` patients with COVID-19, five with another finding. Kermany's: `children` a class in train, two
    images each, and one child of two kinds."""
    findings = ["COVID-19"] * ill + ["Streptococcus"] * 3 + ["No Finding", "SARS"]
    rows = [[str(p), 40 + p, f, "PA", "X-ray", "images", f"{p}.png"] for p, f in enumerate(findings)]
    rows.append(["0", "", "No Finding", "AP", "X-ray", "images", "0-later.png"])  # a patient of COVID-19, healthy
    root = folder / cohen.LAYOUT
    root.mkdir(parents=True)
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
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


def real(folder: Path, **settings) -> Catalogue:
    return covid.load(folder, folder / "cache", 1, **settings)


class TestComposite(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        return real(folder if any(folder.iterdir()) else collections(folder))


def test_every_class_has_as_many_subjects_and_class_goes_with_source_and_age(tmp_path):
    frame = real(collections(tmp_path)).frame
    main = frame[~covid.aside(frame)]
    subjects = main.groupby(["label", "published_split"])["patient_id"].nunique().unstack()
    assert (subjects["test"] == 3).all() and (subjects["train"] == 9).all()  # 12 subjects, 40 of 142 held back
    assert set(main.loc[main["label"] == "COVID-19", "site"]) == {"cohen"}
    assert main.loc[main["label"] == "COVID-19", "age"].min() >= 40
    assert set(main.loc[main["label"] != "COVID-19", "age"]) == {covid.CHILD_AGE}
    assert not main["patient_id"].str.contains("person999").any()
    told, sentence = covid.describes_paper(real(tmp_path))
    assert not told and "12 subjects a class" in sentence and "142" in sentence


def test_with_enough_subjects_the_poster_has_its_numbers_and_validation_takes_further_ones(tmp_path):
    catalogue = real(collections(tmp_path), subjects=6, validation=0.25)
    main = catalogue.frame[~covid.aside(catalogue.frame)]
    subjects = main.groupby(["label", "published_split"])["patient_id"].nunique().unstack()
    assert (subjects["test"] == 2).all() and (subjects["train"] == 8).all()
    made = covid.split_of(catalogue, "patient-disjoint", 0.25, 1).frame
    learnt = made[made["split"] == "train"].groupby("label")["patient_id"].nunique()
    assert (learnt == 6).all()


def test_other_findings_of_the_same_source_are_held_out_and_share_no_patient(tmp_path):
    catalogue = real(collections(tmp_path))
    made = covid.split_of(catalogue, "patient-disjoint", 0.25, 1)
    held_out = made.frame[made.frame["split"] == "held-out"]
    assert set(held_out["site"]) == {"cohen"} and set(held_out["label"]) == {"BACTERIA", "VIRUS", "NORMAL"}
    assert leaks(made.frame)["patients"].sum() == 0 and len(made.frame) + len(made.dropped) == len(catalogue)
    assert not held_out["patient_id"].eq("cohen/0").any()  # his later, normal image is not in the table


def test_no_subject_of_the_target_is_left_in_the_bridge(tmp_path):
    own = real(collections(tmp_path))
    bridge = kermany_xray.load(tmp_path, tmp_path / "cache", 1)
    frames = covid.split_of(own, "patient-disjoint", 0.25, 1).frame, split(bridge, "patient-disjoint", 0.1, 1).frame
    made, removed = without_target(Images(bridge, frames[1]), Images(own, frames[0]), same_names=True)
    assert not set(made.frame["patient_id"]) & set(own.frame["patient_id"])
    assert removed.groupby("label")["patient_id"].nunique().to_dict() == {"NORMAL": 12, "BACTERIA": 12, "VIRUS": 12}
    assert len(removed) == 72  # both images of each of them


def test_too_few_subjects_are_refused(tmp_path):
    with pytest.raises(SplitError, match="3 subjects of the smallest class"):
        real(collections(tmp_path, ill=3))


# Phantoms


def frame_of(plan: pd.DataFrame) -> Catalogue:
    rows = plan.assign(digest=plan["image_id"].map(lambda name: f"{hash(name):x}"))
    return Catalogue("phantom_covid", Path(), rows, covid.CLASSES, phantom=True)


def test_untied_every_class_comes_from_both_sites_alike_and_tied_from_one():
    catalogue = frame_of(plan_covid(train=16, test=8, seed=1))
    assert covid.can_be_untied(catalogue.frame)
    frame = covid.untied(catalogue, 0.25, 1)
    cells = frame.groupby([frame["split"] == "test", "label", "site"]).size()
    assert set(cells[True]) == {4} and set(cells[False]) == {8}
    assert leaks(frame)["patients"].sum() == 0 and not (frame["split"] == "held-out").any()
    tied = covid.split_of(catalogue, "patient-disjoint", 0.25, 1).frame
    assert (tied.groupby(["split", "label"])["site"].nunique() == 1).all()
    assert covid.aside(tied).eq(tied["split"] == "held-out").all()


def test_what_cannot_be_untied_says_so():
    catalogue = frame_of(plan_covid(train=16, test=8, seed=1))
    main = catalogue.subset(catalogue.frame[~covid.aside(catalogue.frame)])
    assert not covid.can_be_untied(main.frame)
    with pytest.raises(SplitError, match="cannot be untied"):
        covid.untied(main, 0.25, 1)


def test_blacking_out_hides_lungs_and_findings_and_its_complement_shows_nothing_else(tmp_path):
    catalogue = COVID.load(tmp_path, 1, train=4, test=4, seed=2)
    box = thorax.lungs_box(catalogue, 128)
    masks = thorax.masks_of(catalogue, catalogue.frame, 128)
    white = np.full((1, 128, 128), 200, np.uint8)
    shown = thorax.views(white, box)
    assert masks[:, shown["lungs blacked out"][0] > 0].mean() < 0.01
    ill = catalogue.frame[catalogue.frame["label"] != "NORMAL"]
    lesions = thorax.masks_of(catalogue, ill.assign(lung_mask=ill["mask"]), 128)
    assert lesions[:, shown["lungs blacked out"][0] > 0].sum() < 0.03 * lesions.sum()
    np.testing.assert_array_equal(shown["lungs only"].astype(int) + shown["lungs blacked out"], white)
    assert shown["border only"][0, 64, 64] == 0 and shown["border only"][0, 0, 0] == 200
    assert shown["whole image"] is white


def test_without_masks_the_box_is_the_documented_one(tmp_path):
    catalogue = real(collections(tmp_path))
    assert thorax.lungs_box(catalogue, 100) == tuple(round(100 * share) for share in thorax.BOX)
    assert thorax.masks_of(catalogue, catalogue.frame.head(2), 100).shape == (2, 100, 100)
