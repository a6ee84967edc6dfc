"""Heads on several hospitals, the region finder, and maps of what tells the hospital."""

import numpy as np
import pandas as pd
import pytest

from helpers.model.linear import fit
from helpers.run.profile import ProfileError, load_profile
from helpers.zech import regions, site_maps
from helpers.zech.sites import Study, candidates_of, combinations_of, engineered_of, told_apart

SITES, CLASSES = ("N", "M", "I"), ("Pneumonia", "No pneumonia")


def two_classes(n=200, d=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(n) < 0.5, *CLASSES)
    features = rng.normal(10, 3, (n, d)).astype(np.float32)
    features[:, 0] += 4 * (labels == "Pneumonia")
    return features, labels, np.arange(n // 2), np.arange(n // 2, n)


def test_a_head_equals_scikit_learns_probabilities_on_standardised_features():
    from sklearn.linear_model import LogisticRegression

    features, labels, train, validation = two_classes()
    made = fit(features, labels, train, validation, CLASSES, (0.01,)).best
    z = (features - features[train].mean(0)) / features[train].std(0)
    model = LogisticRegression(C=1 / (2 * 0.01 * len(train)), tol=1e-3).fit(z[train], labels[train] != "Pneumonia")
    assert made.predict(features)[:, 0] == pytest.approx(model.predict_proba(z)[:, 0], abs=1e-3)


def test_validation_chooses_the_penalty_and_a_class_without_images_is_refused():
    features, labels, train, validation = two_classes()
    made = fit(features, labels, train, validation, CLASSES, (0.001, 0.1, 100.0))
    assert made.best.l2 == made.heads[int(np.argmin(made.entropies))].l2 and made.heads[0].l2 == 100.0
    with pytest.raises(ValueError, match="no training image of Other"):
        fit(features, labels, train, validation, (*CLASSES, "Other"), (0.1,))
    with pytest.raises(ValueError, match="is none of"):
        fit(features, np.append(labels[:-1], "Third"), train, validation, CLASSES, (0.1,))


def test_three_classes_give_probabilities_that_sum_to_one():
    features, _, train, validation = two_classes()
    names = np.array(SITES)[np.arange(len(features)) % 3]
    given = fit(features, names, train, validation, SITES, (0.1,)).best.predict(features)
    assert given.shape == (200, 3) and given.sum(axis=1) == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def study():
    """Three hospitals that a feature gives away, and a disease that another shows."""
    rng, rows = np.random.default_rng(0), []
    for site, rate in zip(SITES, (0.2, 0.4, 0.2), strict=True):
        for k in range(240):
            split = ("train", "train", "validation", "test", "test")[k % 5]
            label = CLASSES[int(rng.random() >= rate)]
            rows.append({"image_id": f"{site}{k}", "patient_id": f"{site}{k}", "site": site, "label": label})
            rows[-1] |= {"split": split, "cohort": "natural", "department": ("a", "b")[k % 2] if site == "M" else ""}
    frame = pd.DataFrame(rows)
    features = rng.normal(size=(len(frame), 4)).astype(np.float32)
    features[:, 0] += 1.2 * (frame["label"] == "Pneumonia")
    features[:, 1] += 5.0 * frame["site"].map(SITES.index)
    return Study(frame, {"whole": features, "lungs": features[:, [0, 2, 3]]}, CLASSES, "on", (0.01, 0.1, 1.0))


def test_every_set_of_hospitals_is_scored_on_every_hospital_and_nothing_learnt_from_is(study):
    scores = combinations_of(study, SITES)
    assert set(scores["split"]) == {"validation", "test"}
    assert scores["trained_on"].nunique() == 7 and set(scores["site"]) == set(SITES)
    assert set(scores.loc[scores["weighting"] == "prevalence balanced", "trained_on"].str.count(r"\+")) == {1, 2}
    assert sum(row["chosen"] for row in study.history) >= scores.groupby(["trained_on", "pixels", "weighting"]).ngroups


def test_candidates_are_every_penalty_and_framing_of_each_hospital(study):
    found = candidates_of(study, SITES)
    assert found.groupby("trained_on")["candidate"].nunique().to_dict() == dict.fromkeys(SITES, 6)


def test_a_hospital_that_shows_is_told_and_one_that_does_not_is_not(study):
    table, head = told_apart(study, "site", SITES)
    right = (table["truth"] == table["said"]).groupby(table["pixels"]).mean()
    assert right["whole"] > 0.95 and right["lungs"] < 0.5 and head.classes == SITES
    departments, _ = told_apart(study, "department", ["a", "b"])
    assert set(departments["site"]) == {"M"}


def test_engineered_draws_are_the_same_bodies_with_markers_on_and_off(study):
    off = Study(study.frame, {"whole": study.features["whole"][:, [0, 2, 3]]}, CLASSES, "off", (0.1,))
    given = {"sites_draws": 2, "sites_ratios": (1.0, 4.0), "sites_prevalence": 0.25}
    table = engineered_of({"on": study, "off": off}, load_profile("phantom", given))
    of = {
        markers: part.drop(columns=["p", "markers"]).reset_index(drop=True)
        for markers, part in table.groupby("markers")
    }
    pd.testing.assert_frame_equal(of["on"], of["off"])
    assert set(table["trained_on"]) == {"joint", "high", "low"} and table["prevalence"].isna().any()


def test_ratios_and_penalties_that_cannot_be_are_refused():
    for bad in ({"sites_ratios": (0.5,)}, {"sites_ratios": (2.0, 1.0)}, {"sites_penalties": (0.0,)}):
        with pytest.raises(ProfileError):
            load_profile("phantom", bad)


def test_the_finder_follows_a_bright_spot_and_a_crop_stays_inside():
    rng = np.random.default_rng(0)
    true, images = rng.uniform(60, 196, (120, 2)), np.zeros((120, 256, 256), np.uint8)
    for image, (row, column) in zip(images, true, strict=True):
        image[int(row) - 24 : int(row) + 24, int(column) - 24 : int(column) + 24] = 200
    splits = np.array(["train"] * 80 + ["validation"] * 20 + ["test"] * 20)
    found, penalty = regions.find_regions(images, true, splits)
    assert np.hypot(*(found - true)[splits == "test"].T).mean() < 15 and penalty in regions.FINDER_PENALTIES
    cut = regions.crops(images[:2], np.array([[0.0, 0.0], [255.0, 255.0]]), 64)
    assert (cut[0] == images[0][:64, :64]).all() and (cut[1] == images[1][192:, 192:]).all()


def test_the_share_outside_the_lungs_counts_what_speaks_for_the_hospital_alone():
    maps, lungs = np.full((2, 4, 4), -1.0, np.float32), np.zeros((2, 4, 4), bool)
    lungs[:, :, :2] = True
    maps[0, 0, 0], maps[0, 0, 3] = 1.0, 3.0
    frame = pd.DataFrame({"image_id": ["a", "b"], "patient_id": ["a", "b"], "site": ["N", "M"]})
    found = site_maps.outside(frame, maps, lungs)
    assert found["outside"][0] == pytest.approx(0.75) and found["by_chance"][0] == 0.5 and np.isnan(found["outside"][1])


def test_explained_images_are_test_images_of_every_hospital_one_a_patient(study):
    frame = study.frame.assign(markers="on")
    rows = site_maps.chosen(frame, 9)
    assert rows["site"].value_counts().to_dict() == dict.fromkeys(SITES, 3) and set(rows["split"]) == {"test"}
