"""Phantom chest radiographs: what `one`, the plans and the loaders promise."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from catalogue_contract import CatalogueContract
from PIL import Image

from helpers.data.catalogue import CatalogueError
from helpers.phantoms import chest as phantom_chest
from helpers.phantoms.chest import load_pneumonia, load_views, one
from helpers.phantoms.chest_findings import FINDINGS, SHAPES
from helpers.phantoms.chest_imaging import SIGNATURES
from helpers.phantoms.chest_plans import SHARES, plan_pneumonia, plan_views
from helpers.zech.nih import FINDINGS as LABELS14

SMALL = {"train": 7, "test": 3, "seed": 5}
LOCAL = ("BACTERIA", "COVID-19", "Mass", "Nodule", "Effusion", "Pneumothorax", "Atelectasis")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return load_pneumonia(tmp_path_factory.mktemp("one_process"), **SMALL, workers=1)


# One image


@pytest.mark.parametrize("finding", ("BACTERIA", "VIRUS", "COVID-19", *LABELS14))
def test_every_finding_has_a_mask_even_where_it_is_subtle(finding):
    grey, mask, lung = one(finding, 0.0, 3, age=50.0)
    assert grey.shape == mask.shape == lung.shape == (256, 256)
    assert grey.dtype == np.uint8 and mask.dtype == lung.dtype == bool
    assert mask.any() and 0.1 < lung.mean() < 0.6


def test_all_labels_of_chestxray14_are_known_and_a_normal_image_has_no_lesion():
    assert len(LABELS14) == 14 and set(LABELS14) <= set(FINDINGS)
    assert not one("NORMAL", 0.7, 3)[1].any()


def test_the_same_seed_gives_the_same_image_and_another_seed_patient_or_image_does_not():
    first = one("VIRUS", 0.5, 1, age=3.0)
    assert all(np.array_equal(a, b) for a, b in zip(first, one("VIRUS", 0.5, 1, age=3.0), strict=True))
    for other in ({"seed": 2}, {"seed": 1, "patient": 1}, {"seed": 1, "image": 2}):
        assert not np.array_equal(first[0], one("VIRUS", 0.5, **other, age=3.0)[0]), other


@pytest.mark.parametrize("finding", LOCAL)
@pytest.mark.parametrize("view", ("AP", "lateral"))
def test_a_finding_changes_the_image_inside_its_mask_and_hardly_outside(finding, view):
    assert finding not in SHAPES
    healthy, ill = one("NORMAL", 0, 4, view=view)[0].astype(int), one(finding, 0.8, 4, view=view)
    change, mask = np.abs(ill[0] - healthy), ill[1]
    assert change[mask].mean() > 5 * change[~mask].mean() and change[~mask].mean() < 1
    assert change[~mask].max() < 30 < change.max() + 15


def test_a_severer_finding_changes_more():
    for finding in ("BACTERIA", "VIRUS", "COVID-19"):
        healthy = [one("NORMAL", 0, seed, age=4.0)[0].astype(int) for seed in range(2)]
        change = [
            np.mean([np.abs(one(finding, s, k, age=4.0)[0] - healthy[k]).mean() for k in range(2)]) for s in (0, 0.5, 1)
        ]
        assert change[0] < change[1] < change[2], finding


def test_bacterial_lesions_are_focal_and_viral_ones_in_both_lungs():
    shares = {}
    for finding in ("BACTERIA", "VIRUS"):
        masks = [one(finding, 0.6, 20, patient=k, age=4.0)[1:] for k in range(5)]
        shares[finding] = np.median([(mask & lung).sum() / lung.sum() for mask, lung in masks])
        weaker = [min((mask & lung)[:, :128].sum(), (mask & lung)[:, 128:].sum()) / lung.sum() for mask, lung in masks]
        shares[finding, "weaker side"] = np.median(weaker)
    assert shares["BACTERIA"] < 0.6 * shares["VIRUS"]
    assert shares["BACTERIA", "weaker side"] < 0.05 < 0.15 < shares["VIRUS", "weaker side"]


def test_findings_can_be_combined():
    both, mass, fluid = (one(f, 0.7, 9) for f in (("Mass", "Effusion"), "Mass", "Effusion"))
    assert both[1].sum() > max(mass[1].sum(), fluid[1].sum())
    assert (both[1] & mass[1]).sum() > 0.9 * mass[1].sum()


def test_lungs_are_dark_and_the_middle_and_the_belly_are_bright_and_air_is_black():
    for age in (2.0, 60.0):
        grey, _, lung = one("NORMAL", 0, 11, age=age, quality=1.0)
        assert np.median(grey[lung]) + 60 < np.median(grey[150:200, 118:138])
        assert np.median(grey[lung]) + 60 < np.median(grey[244:, 90:160])
        assert grey[4:20, :12].min() < 30


def test_in_a_frontal_view_the_heart_lies_to_the_patients_left_and_is_larger_in_ap():
    def widths(view):
        # Cardiomegaly's mask is the heart; its two halves are measured from the image's middle.
        masks = [one("Cardiomegaly", 0.0, 30, patient=k, view=view)[1] for k in range(4)]
        return np.mean([[m[:, :128].sum(), m[:, 128:].sum()] for m in masks], axis=0)

    right, left = widths("PA")
    assert left > 1.3 * right
    assert widths("AP").sum() > 1.04 * (right + left)


def test_a_lateral_view_has_one_lung_field_and_looks_to_either_side():
    lungs = [one("NORMAL", 0, seed, view="lateral")[2] for seed in range(6)]
    fronts = [one("NORMAL", 0, seed, view="PA")[2] for seed in range(6)]

    def gap(lung):  # share of rows in which the lung is left and entered again
        rows = lung[lung.any(axis=1)]
        return (np.diff(rows.astype(int), axis=1) == 1).sum(axis=1).mean()

    assert np.mean([gap(lung) for lung in lungs]) < 1.3 < 1.6 < np.mean([gap(lung) for lung in fronts])
    sides = {one("NORMAL", 0, seed, view="lateral")[0][40:200, :60].mean() > 60 for seed in range(8)}
    assert sides == {True, False} or len({lung[:, :128].sum() > lung[:, 128:].sum() for lung in lungs}) == 2


def test_a_poor_image_is_noisier_than_a_clean_one():
    def noise(quality):
        grey, _, lung = one("NORMAL", 0, 7, quality=quality)
        grey = grey.astype(float)
        fine = grey[:, 2:] - 2 * grey[:, 1:-1] + grey[:, :-2]
        return fine[lung[:, 1:-1]].std()

    assert noise(0.0) > 1.1 * noise(1.0)


def test_a_signature_puts_its_marker_text_and_border_on_the_image():
    plain = replace(SIGNATURES["A"], marker="")
    bare = one("NORMAL", 0, 2, signature=plain)[0].astype(int)
    marked = one("NORMAL", 0, 2, signature=replace(plain, marker="R"))[0]
    change = np.argwhere(np.abs(marked - bare) > 40)
    assert len(change) > 15 and change[:, 1].max() < 45 and change[:, 0].max() < 50  # the patient's right is the left
    left = np.argwhere(np.abs(one("NORMAL", 0, 2, signature=replace(plain, marker="L"))[0] - bare) > 40)
    assert left[:, 1].min() > 210
    text = one("NORMAL", 0, 2, signature=replace(plain, text="AP ERECT"))[0]
    assert (np.abs(text - bare) > 40).sum() > 30
    border = one("NORMAL", 0, 2, signature=replace(plain, collimation=0.1))[0]
    assert (border == 0).mean() > 0.1


def test_sites_differ_in_their_contrast_curve_and_each_has_a_signature():
    assert {"A", "B", "C", "portable"} <= set(SIGNATURES)
    grey = [one("NORMAL", 0, 2, site=site)[0].mean() for site in ("A", "A2", "B")]
    assert grey[2] + 5 < grey[0] < grey[1] - 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"finding": "SCURVY"}, "known: NORMAL"),
        ({"finding": ()}, "known: NORMAL"),
        ({"severity": 1.5}, "severity 1.5"),
        ({"quality": -0.1}, "quality -0.1"),
        ({"view": "oblique"}, "known: PA"),
        ({"site": "Z"}, "known: A"),
        ({"age": -1.0}, "age -1"),
        ({"size": 10}, "64 pixels"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_refused(changed, message):
    arguments = {"finding": "BACTERIA", "severity": 0.5, "seed": 0} | changed
    with pytest.raises(ValueError, match=message):
        one(**arguments)


# The plans


def test_pneumonia_has_the_published_proportions_and_no_patient_in_both_folders():
    counts = plan_pneumonia(train=5232, test=624, seed=0).groupby(["published_split", "label"]).size()
    assert {split: counts[split].to_dict() for split in SHARES} == SHARES
    rows = plan_pneumonia(train=400, test=80, seed=0)
    patients = rows.groupby("patient_id")
    assert (patients["published_split"].nunique() == 1).all() and (patients["label"].nunique() == 1).all()
    assert patients.size().between(1, 5).all() and patients.size().max() > 2
    assert rows["image_id"].is_unique and rows["age"].between(1, 5).all()
    assert rows.loc[rows["label"] == "VIRUS", "path"].str.fullmatch(r"\w+/PNEUMONIA/person\d+_virus_\d+\.jpeg").all()
    assert rows.loc[rows["label"] == "NORMAL", "path"].str.fullmatch(r"\w+/NORMAL/IM-\d+-\d+\.jpeg").all()


def test_a_signature_is_tied_to_the_label_only_as_strongly_as_asked():
    def portable(tied):
        rows = plan_pneumonia(train=1500, test=30, seed=1, tied=tied).drop_duplicates("patient_id")
        return (rows["signature"] == "portable").groupby(rows["label"] != "NORMAL").mean()

    loose, half, tight = portable(0.0), portable(0.5), portable(1.0)
    assert abs(loose[True] - loose[False]) < 0.06 and 0.05 < loose.mean() < 0.2
    assert 0.3 < half[True] - half[False] < 0.7
    assert tight[True] == 1 and tight[False] == 0


def test_quality_age_and_number_tell_nothing_about_the_label():
    from scipy.stats import kruskal

    rows = plan_pneumonia(train=2000, test=30, seed=1).drop_duplicates("patient_id")
    rows = rows.assign(name=rows["patient_id"].astype(int))
    for column in ("quality", "age", "name"):
        assert kruskal(*(group for _, group in rows.groupby("label")[column])).pvalue > 0.01, column


def test_views_have_the_asked_numbers_and_sites_and_no_patient_in_two_places():
    rows = plan_views(train=200, test=60, public=40, seed=0)
    assert rows.groupby(["published_split", "site"]).size().to_dict() == {
        ("train", "hospital"): 200,
        ("test", "hospital"): 60,
        ("test", "public"): 40,
    }
    assert (rows["label"] == "frontal").mean() == pytest.approx(0.55, abs=0.01)
    assert ((rows["view"] == "lateral") == (rows["label"] == "lateral")).all()
    assert set(rows["view"]) == {"PA", "AP", "lateral"} and rows["age"].min() >= 18
    patients = rows.groupby("patient_id")
    assert (patients["published_split"].nunique() == 1).all() and (patients["site"].nunique() == 1).all()
    assert 0.2 < (rows["hard"] > 0).mean() < 0.5 and 0.3 < (rows["findings"] != "NORMAL").mean() < 0.6
    hospital = set(rows.loc[rows["site"] == "hospital", "signature"])
    assert hospital == {"A", "B", "portable"} and "C" in set(rows.loc[rows["site"] == "public", "signature"])


# Data sets on disk


class TestPneumonia(CatalogueContract):
    def load(self, folder):
        return load_pneumonia(folder, train=16, test=6, seed=0, workers=1)


class TestViews(CatalogueContract):
    def load(self, folder):
        return load_views(folder, train=12, test=4, public=4, seed=0, workers=1)


def test_the_catalogue_says_what_lies_on_disk(made):
    frame = made.frame
    assert made.classes == ("NORMAL", "BACTERIA", "VIRUS") and made.phantom and len(made) == 10
    assert {"mask", "lung_mask", "severity", "quality", "site", "view", "age"} <= set(frame.columns)
    for row in frame.itertuples():
        mask, lung = (np.asarray(Image.open(made.file(path))) for path in (row.mask, row.lung_mask))
        assert set(np.unique(mask)) <= {0, 255} and mask.any() == (row.label != "NORMAL") and lung.any()
        assert np.isnan(row.severity) == (row.label == "NORMAL")


def test_any_number_of_processes_gives_the_same_bytes(made, tmp_path):
    other = load_pneumonia(tmp_path, **SMALL, workers=2)
    pd.testing.assert_frame_equal(other.frame, made.frame)
    assert other.root.name == made.root.name


def test_a_generation_that_was_cut_off_is_never_read_and_is_resumed(made, tmp_path, monkeypatch):
    whole, calls = phantom_chest.make_patient, []

    def cut_off(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(arguments)
        return whole(*arguments)

    monkeypatch.setattr(phantom_chest, "make_patient", cut_off)
    with pytest.raises(KeyboardInterrupt):
        load_pneumonia(tmp_path, **SMALL, workers=1)
    assert not (tmp_path / made.root.name).exists()
    part = tmp_path / f"{made.root.name}.part"
    first = next(part.rglob("*.jpeg"))
    stamp = first.stat().st_mtime_ns
    next(part.rglob("masks/**/*.png")).unlink()  # a patient whose files were written in part

    monkeypatch.setattr(phantom_chest, "make_patient", whole)
    resumed = load_pneumonia(tmp_path, **SMALL, workers=1)
    pd.testing.assert_frame_equal(resumed.frame, made.frame)
    assert len(list(resumed.root.rglob("*.jpeg"))) == 10 and not part.exists()
    kept = [p.stat().st_mtime_ns for p in resumed.root.rglob("*.jpeg")]
    assert stamp in kept or len(calls) == 1


def test_a_damaged_data_set_is_an_error_that_says_what_to_do(tmp_path):
    catalogue = load_pneumonia(tmp_path, train=3, test=3, seed=0, workers=1)
    catalogue.file(catalogue.frame["lung_mask"][0]).unlink()
    with pytest.raises(CatalogueError, match=r"1 files are missing.*delete the folder"):
        load_pneumonia(tmp_path, train=3, test=3, seed=0)


def test_impossible_numbers_are_refused(tmp_path):
    for bad in ({"train": 2}, {"test": 0}, {"seed": -1}, {"tied": 2}):
        with pytest.raises(ValueError, match="at least 3"):
            load_pneumonia(tmp_path, **{**SMALL, **bad})
    with pytest.raises(ValueError, match="at least 4"):
        load_views(tmp_path, train=0, test=4, public=0, seed=0)
