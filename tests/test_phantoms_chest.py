"""Phantom chest radiographs: findings where their masks are, signatures of hospitals, and who has what where."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from catalogue_contract import check_catalogue
from scipy.stats import kruskal

from helpers.phantoms import chest_plans as plans
from helpers.phantoms.chest import SIGNATURES, draw
from helpers.phantoms.chest_findings import FINDINGS, SHAPES, right_apex

LOCAL = ("BACTERIA", "COVID-19", "Mass", "Nodule", "Effusion", "Pneumothorax", "Atelectasis")
NIH = {"images": 1500, "seed": 1, "test_share": 0.2}
LABELS = list(plans.LABELS)


def one(finding: str, severity: float, seed: int, site: str | tuple[str, ...] = "A", **settings):
    """A radiograph as each site shows it (an array for one site), its lesion mask and its lung mask."""
    row = {"findings": finding, "severity": severity, "view": "PA", "quality": 0.8, "age": 45.0, "width": 256}
    row |= {"patient_id": str(settings.pop("patient", 0)), "number": settings.pop("image", 1)} | settings
    pictures, masks = draw(seed, [row | {"signature": name} for name in ((site,) if isinstance(site, str) else site)])
    return pictures[0] if isinstance(site, str) else pictures, masks["mask"], masks["lung_mask"]


@pytest.mark.parametrize(
    ("phantoms", "how"),
    [
        (plans.PNEUMONIA, {"train": 12, "test": 4, "seed": 0}),
        (plans.NIH, {"images": 30, "seed": 3, "test_share": 0.3, "label_noise": 0.1}),
        (plans.SITES, {"bodies": 40, "seed": 3}),
    ],
)
def test_every_set_keeps_the_contract_and_images_of_a_body_share_their_masks(tmp_path, phantoms, how):
    catalogue = phantoms.load(tmp_path, 1, **how)
    check_catalogue(catalogue, lambda: phantoms.load(tmp_path, 1, **how))
    if "body" in catalogue.frame:
        bodies = catalogue.frame.groupby("body")
        assert (bodies.size() == 2).all() and (bodies[["mask", "lung_mask"]].nunique() == 1).all(axis=None)


# One image


@pytest.mark.parametrize("finding", [label for label in FINDINGS if label != "NORMAL"])
def test_every_finding_has_a_mask_even_where_it_is_subtle(finding):
    grey, mask, lung = one(finding, 0.0, 3, age=50.0)
    assert grey.shape == mask.shape == lung.shape == (256, 256)
    assert grey.dtype == np.uint8 and mask.dtype == lung.dtype == bool
    assert mask.any() and 0.1 < lung.mean() < 0.6


def test_the_same_seed_gives_the_same_image_and_another_seed_patient_or_image_does_not():
    first = one("VIRUS", 0.5, 1, age=3.0)
    assert all(np.array_equal(a, b) for a, b in zip(first, one("VIRUS", 0.5, 1, age=3.0), strict=True))
    for other in ({"seed": 2}, {"seed": 1, "patient": 1}, {"seed": 1, "image": 2}):
        assert not np.array_equal(first[0], one("VIRUS", 0.5, **other, age=3.0)[0]), other
    assert not one("NORMAL", 0.7, 3)[1].any()


@pytest.mark.parametrize("finding", LOCAL)
@pytest.mark.parametrize("view", ("AP", "lateral"))
def test_a_finding_changes_the_image_inside_its_mask_and_hardly_outside(finding, view):
    assert finding not in SHAPES
    healthy, ill = one("NORMAL", 0, 4, view=view)[0].astype(int), one(finding, 0.8, 4, view=view)
    change, mask = np.abs(ill[0] - healthy), ill[1]
    assert change[mask].mean() > 5 * change[~mask].mean() and change[~mask].mean() < 1
    assert change[~mask].max() < 30 < change.max() + 15


def test_bacterial_lesions_are_focal_and_viral_ones_in_both_lungs():
    shares = {}
    for finding in ("BACTERIA", "VIRUS"):
        masks = [one(finding, 0.6, 20, patient=k, age=4.0)[1:] for k in range(5)]
        shares[finding] = np.median([(mask & lung).sum() / lung.sum() for mask, lung in masks])
        weaker = [min((mask & lung)[:, :128].sum(), (mask & lung)[:, 128:].sum()) / lung.sum() for mask, lung in masks]
        shares[finding, "weaker side"] = np.median(weaker)
    assert shares["BACTERIA"] < 0.6 * shares["VIRUS"]
    assert shares["BACTERIA", "weaker side"] < 0.05 < 0.15 < shares["VIRUS", "weaker side"]


def test_findings_can_be_combined_each_at_its_own_severity():
    both, faint = (one("Mass|Effusion", 0.7, 9, severities=f"{level}|0.7") for level in (0.7, 0.1))
    mass, fluid = one("Mass", 0.7, 9), one("Effusion", 0.7, 9)
    assert both[1].sum() > max(mass[1].sum(), fluid[1].sum(), faint[1].sum())
    assert (both[1] & mass[1]).sum() > 0.9 * mass[1].sum()


def test_in_a_frontal_view_the_heart_lies_to_the_patients_left_and_is_larger_in_ap():
    def widths(view):
        # Cardiomegaly's mask is the heart; its two halves are measured from the image's middle.
        masks = [one("Cardiomegaly", 0.0, 30, patient=k, view=view)[1] for k in range(4)]
        return np.mean([[m[:, :128].sum(), m[:, 128:].sum()] for m in masks], axis=0)

    right, left = widths("PA")
    assert left > 1.3 * right
    assert widths("AP").sum() > 1.04 * (right + left)


# Signatures


def test_a_signature_puts_its_marker_text_and_border_on_the_image(monkeypatch):
    ways = {
        "bare": {},
        "R": {"marker": "R"},
        "L": {"marker": "L"},
        "text": {"text": "AP"},
        "border": {"collimation": 0.1},
    }
    for name, way in ways.items():
        monkeypatch.setitem(SIGNATURES, name, replace(SIGNATURES["neutral"], **way))
    pictures, _, _ = one("NORMAL", 0, 2, tuple(ways))
    bare, right, left, text, border = (picture.astype(int) for picture in pictures)
    change = np.argwhere(np.abs(right - bare) > 40)
    assert len(change) > 15 and change[:, 1].max() < 45 and change[:, 0].max() < 50  # the patient's right is the left
    assert np.argwhere(np.abs(left - bare) > 40)[:, 1].min() > 210
    assert (np.abs(text - bare) > 40).sum() > 30 and (border == 0).mean() > 0.1


def test_hospitals_differ_in_their_contrast_and_a_body_differs_in_nothing_else():
    names = ("A", "A2", "B", "neutral")
    pictures, _, lung = one("Mass", 0.5, 2, names)
    grey = dict(zip(names, (picture.astype(float) for picture in pictures), strict=True))
    assert grey["B"].mean() + 5 < grey["A"].mean() < grey["A2"].mean() - 5
    assert (grey["A"] != grey["neutral"]).any()
    assert np.corrcoef(grey["A"][lung], grey["neutral"][lung])[0, 1] > 0.98


def test_the_right_apex_is_on_the_images_left():
    lung = np.zeros((100, 100), bool)
    lung[10:90, 10:40] = lung[10:90, 60:90] = True
    row, column = right_apex(lung)
    assert 10 < row < 30 and 20 < column < 30


# The plans


def test_pneumonia_has_the_published_proportions_and_no_patient_in_both_folders():
    counts = plans.plan_pneumonia(train=5232, test=624, seed=0).groupby(["published_split", "label"]).size()
    assert {split: counts[split].to_dict() for split in plans.SHARES} == plans.SHARES
    rows = plans.plan_pneumonia(train=400, test=80, seed=0)
    patients = rows.groupby("patient_id")
    assert (patients["published_split"].nunique() == 1).all() and (patients["label"].nunique() == 1).all()
    assert patients.size().between(1, 5).all() and patients.size().max() > 2
    assert rows["image_id"].is_unique and rows["age"].between(1, 5).all()
    assert rows.loc[rows["label"] == "VIRUS", "path"].str.fullmatch(r"\w+/PNEUMONIA/person\d+_virus_\d+\.jpeg").all()
    assert rows.loc[rows["label"] == "NORMAL", "path"].str.fullmatch(r"\w+/NORMAL/IM-\d+-\d+\.jpeg").all()


def test_portable_images_quality_age_and_number_tell_nothing_about_the_label():
    rows = plans.plan_pneumonia(train=2000, test=30, seed=1).drop_duplicates("patient_id")
    portable = (rows["signature"] == "portable").groupby(rows["label"] != "NORMAL").mean()
    assert abs(portable[True] - portable[False]) < 0.06 and 0.05 < portable.mean() < 0.2
    rows = rows.assign(name=rows["patient_id"].astype(int))
    for column in ("quality", "age", "name"):
        assert kruskal(*(group for _, group in rows.groupby("label")[column])).pvalue > 0.01, column


def test_views_have_the_asked_numbers_and_sites_and_no_patient_in_two_places():
    rows = plans.plan_views(train=200, test=60, public=40, seed=0)
    counts = rows.groupby(["published_split", "site"]).size().to_dict()
    assert counts == {("train", "hospital"): 200, ("test", "hospital"): 60, ("test", "public"): 40}
    assert (rows["label"] == "frontal").mean() == pytest.approx(0.55, abs=0.01)
    assert ((rows["view"] == "lateral") == (rows["label"] == "lateral")).all()
    assert set(rows["view"]) == {"PA", "AP", "lateral"} and rows["age"].min() >= 18
    patients = rows.groupby("patient_id")
    assert (patients["published_split"].nunique() == 1).all() and (patients["site"].nunique() == 1).all()
    assert 0.2 < (rows["hard"] > 0).mean() < 0.65 and 0.3 < (rows["findings"] != "NORMAL").mean() < 0.6
    hospital = set(rows.loc[rows["site"] == "hospital", "signature"])
    assert hospital == {"A", "B", "portable"} and "C" in set(rows.loc[rows["site"] == "public", "signature"])


def test_covid_goes_with_site_and_age_and_half_as_many_images_do_not():
    plan = plans.plan_covid(train=8, test=4, seed=1)
    assert len(plan) == 4 * (8 + 4 + 4 + 2) and plan["patient_id"].is_unique
    cells = plan.groupby(["label", "site", "published_split"]).size()
    for label, site in (("COVID-19", "B"), ("VIRUS", "A")):
        other = "AB".replace(site, "")
        assert cells[label, site, "train"] == 8 and cells[label, other, "train"] == 4
    ages = plan.groupby("site")["age"].agg(["min", "max"])
    assert ages.loc["A", "max"] <= 5 and ages.loc["B", "min"] >= 20
    assert (plan.loc[plan["site"] == "B", "signature"] == "B").all()


def table(texts: pd.Series) -> pd.DataFrame:
    return texts.str.get_dummies().reindex(columns=LABELS, fill_value=0).astype(bool)


def test_nih_shares_out_patients_and_has_prevalences_in_the_order_of_the_real_ones():
    plan = plans.plan_nih(**NIH, label_noise=0.0)
    found, patients = table(plan["findings"]), plan.groupby("patient_id")
    assert len(plan) == 1500 and plan["image_id"].is_unique
    assert (patients["published_split"].nunique() == 1).all()
    assert plan.drop_duplicates("patient_id")["published_split"].eq("test").mean() == pytest.approx(0.2, abs=0.005)
    first = ~plan["patient_id"].duplicated()  # on follow-ups some findings have passed
    assert np.abs(found[first].mean() - pd.Series(plans.PREVALENCE)).max() < 0.04
    assert max(plans.PREVALENCE, key=plans.PREVALENCE.get) == "Infiltration" and (found.sum(axis=1) > 1).mean() > 0.15
    assert found[plan["published_split"] == "test"].sum().min() >= 5
    lasting = found[["Cardiomegaly", "Hernia", "Mass"]].groupby(plan["patient_id"])
    assert (lasting.nunique() == 1).all(axis=None)


def test_nih_labels_are_what_is_drawn_but_for_the_noise_asked_for():
    clean, noisy = (plans.plan_nih(**NIH, label_noise=noise) for noise in (0.0, 0.2))
    found, read = table(noisy["findings"]), table(noisy["labels"])
    assert table(clean["labels"]).equals(found) and (clean["findings"] == noisy["findings"]).all()
    assert 1 - (read & found).to_numpy().sum() / found.to_numpy().sum() == pytest.approx(0.2, abs=0.03)
    assert read.mean().sum() == pytest.approx(found.mean().sum(), rel=0.1)
    assert ((noisy["label"] == "Finding") == read.any(axis=1)).all()


def test_hospitals_have_the_planned_prevalences_and_patients_who_are_alike():
    plan = plans.plan_sites(bodies=plans.BODIES, seed=1)
    natural = plan[(plan["cohort"] == "natural") & (plan["markers"] == "on")]
    rate = (natural["label"] == "Pneumonia").groupby(natural["site"]).mean()
    assert rate.round(2).to_dict() == {"IU-like": 0.08, "MSH-like": 0.35, "NIH-like": 0.08}
    bodies = plan.groupby("body")
    assert (bodies.size() == 2).all() and (bodies[["label", "signature"]].nunique() == [1, 2]).all(axis=None)
    patients = plan.groupby("patient_id")
    assert (patients["published_split"].nunique() == 1).all() and set(plan["view"]) == {"AP"}
    assert np.ptp(patients[["site", "age"]].first().groupby("site")["age"].mean()) < 5
