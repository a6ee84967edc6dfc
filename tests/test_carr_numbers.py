"""Class averages with intervals, what a start is worth, laterality in the patient's terms, and controls."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from helpers.carr import figures, numbers
from helpers.metrics.classification import predicted_labels

CLASSES = ("NORMAL", "BACTERIA", "COVID-19")


def scores_of(n=120, signal=1.5, seed=0, patients=None):
    rng = np.random.default_rng(seed)
    codes = rng.integers(len(CLASSES), size=n)
    logits = rng.normal(size=(n, 3)) + signal * np.eye(3)[codes]
    given = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    frame = pd.DataFrame(given, columns=[f"p_{c}" for c in CLASSES])
    names = [f"p{i}" for i in range(n)] if patients is None else patients
    return frame.assign(label=np.array(CLASSES)[codes], patient_id=names, image_id=[f"i{i:03d}" for i in range(n)])


def test_class_averages_are_scikit_learns_and_lie_in_their_intervals():
    scores = scores_of()
    predicted = predicted_labels(scores, CLASSES).astype(str)
    found = numbers.average_numbers(scores, CLASSES)
    labels = scores["label"].to_numpy().astype(str)
    assert found["sensitivity"].value == pytest.approx(recall_score(labels, predicted, average="macro"))
    assert found["f1"].value == pytest.approx(f1_score(labels, predicted, average="macro"))
    areas = [roc_auc_score(labels == c, scores[f"p_{c}"]) for c in CLASSES]
    assert found["auroc"].value == pytest.approx(np.mean(areas))
    assert all(found[name].low < found[name].value < found[name].high for name in numbers.QUANTITIES)
    each = recall_score(labels, predicted, average=None, labels=list(CLASSES))
    assert found["sensitivity spread"].value == pytest.approx(np.ptp(each) / 2)
    ids = numbers.average_claims("covid", found)
    assert ids["carr2020.covid.f1.spread"] == found["f1 spread"] and len(ids) == 6
    table = numbers.class_numbers(scores, CLASSES).set_index(["class", "quantity"])
    assert table.loc[("BACTERIA", "auroc"), "value"] == pytest.approx(areas[1])


def grid_of(gain):
    """Two starts; the second separates the classes by `gain[size]` more."""
    parts = []
    for seed in (1, 2, 3):
        for size, more in gain.items():
            for start, signal in (("natural", 1.0), ("natural, then bridge", 1.0 + more)):
                scores = scores_of(200, signal, seed=7)
                parts.append(scores.assign(start=start, per_class=size, seed=seed))
    return pd.concat(parts, ignore_index=True)


def test_what_a_bridge_is_worth_and_that_it_shrinks():
    points = numbers.grid_points(grid_of({5: 2.0, 50: 0.0}), CLASSES)
    gains = numbers.grid_differences(points, [("natural, then bridge", "natural")]).set_index("per_class")
    assert gains.loc[5, "low"] > 0 and gains.loc[50, "value"] == 0
    assert gains.loc["fewest less most", "low"] > 0
    assert "shrinks with more images" in numbers.describe_gain(gains.reset_index())
    even = numbers.grid_points(grid_of({5: 1.0, 50: 1.0}), CLASSES)
    even = numbers.grid_differences(even, [("natural, then bridge", "natural")])
    assert "is not shown to shrink" in numbers.describe_gain(even)


# Laterality


def test_the_index_is_in_the_patients_terms_and_a_mirror_image_keeps_it():
    maps = np.zeros((2, 4, 6))
    maps[0, :, 0] = 1.0  # the picture's left: the patient's right
    maps[1, :, :3], maps[1, :, 3:] = -3.0, 1.0  # size counts, not sign
    assert numbers.laterality_index(maps) == pytest.approx([1.0, 0.5])
    np.testing.assert_allclose(numbers.laterality_index(maps[..., ::-1], mirrored=True), numbers.laterality_index(maps))
    assert np.isnan(numbers.laterality_index(np.zeros((1, 4, 4)))).all()


@pytest.mark.parametrize("follows, words", [("patient", "turns with the patient"), ("picture", "side of the picture")])
def test_a_bias_of_the_network_and_one_of_the_patient_part_ways_in_the_mirror(follows, words):
    rng = np.random.default_rng(0)
    maps = rng.random((40, 8, 8))
    maps[..., :4] += 1
    maps = [maps, maps**1.1]  # of two trainings
    mirror = [one[..., ::-1] for one in maps] if follows == "patient" else maps
    patients, labels = np.arange(40).astype(str), ["a"] * 20 + ["b"] * 20
    found = numbers.laterality_by_class({"image": maps, "mirror image": mirror}, labels, patients, ("a", "b"))
    assert found["image"]["all"].low > 0
    assert words in numbers.describe_side(found["image"]["all"], found["mirror image"]["all"])
    table = numbers.laterality_table({"image": maps, "mirror image": mirror}, labels, patients, ("a", "b"))
    single = table[table["class"] != "all"]
    assert set(table["class"]) == {"all", "a", "b"} and (single["p"] < 0.05).all()
    assert single["p_holm"].min() == pytest.approx(4 * single["p"].min())  # two classes, two images
    assert table.loc[table["class"] == "all", "p_holm"].isna().all()


def test_an_empty_map_has_no_side_and_a_class_of_empty_maps_no_index():
    maps = np.zeros((6, 4, 4))
    maps[:3, :, 0] = 1.0
    both, classes = {"image": [maps, maps], "mirror image": [0 * maps, 0 * maps]}, ("a", "b")
    found = numbers.laterality_by_class(both, ["a", "a", "a", "a", "b", "b"], list("pqrstu"), classes)
    assert found["image"]["a"].value == 1.0 and found["image"]["a"].n == 3
    assert "1 of 4 maps are empty" in found["image"]["a"].note and not found["image"]["b"].defined
    assert "no side to speak of" in numbers.describe_side(found["image"]["all"], found["mirror image"]["all"])
    assert len(figures.laterality(found).axes[0].get_yticklabels()) == 3


# The source


def controls_of(signals, site_of):
    """A controls table whose scores separate COVID-19 by `signals`."""
    rng, parts = np.random.default_rng(2), []
    labels = np.repeat(["NORMAL", "VIRUS", "COVID-19"], 60)
    rows = pd.DataFrame({"image_id": [f"i{n}" for n in range(180)], "label": labels, "split": "test"})
    rows = rows.assign(patient_id=rows["image_id"], site=[site_of(label, n) for n, label in enumerate(labels)])
    for name, signal in signals.items():
        score = rng.normal(size=180) + signal * (labels == "COVID-19")
        parts.append(rows.assign(control=name, setting="tied", **{"p_COVID-19": 1 / (1 + np.exp(-score))}))
    frame = rows.assign(age=np.where(labels == "COVID-19", 60.0, 3.0))
    return pd.concat(parts, ignore_index=True), frame


def test_where_the_source_is_tied_to_the_disease_the_control_exposes_it():
    table, frame = controls_of(
        {"whole image": 4.0, "box blacked out": 3.5}, lambda label, n: "B" if label == "COVID-19" else "A"
    )
    found = numbers.control_aurocs(table, frame, "tied")
    concluded = numbers.conclude_on_source(found)
    assert "no evidence that the disease is seen" in concluded
    assert found["age alone"].value == 1.0
    published = table[table["control"] == "whole image"].drop(columns="site")
    beside = numbers.control_aurocs(table, frame, "tied", published)
    assert list(beside)[0] == "published recipe" and beside["published recipe"] == beside["whole image"]
    assert not found["same source"].defined and "nothing to compare with" in concluded


def test_where_it_is_not_the_control_is_silent_and_the_same_source_speaks_for_the_disease():
    table, frame = controls_of({"whole image": 2.0, "box blacked out": 0.0}, lambda label, n: "AB"[n % 2])
    found = numbers.control_aurocs(table, frame.assign(age=np.nan), "tied")
    concluded = numbers.conclude_on_source(found)
    assert "lies in the lungs" in concluded
    assert "does not explain" in concluded
    assert found["same source"].n == 90 and not found["age alone"].defined


def test_a_box_stands_in_where_lungs_are_not_known_and_the_outline_is_named_where_they_are():
    names = {"whole image": 3.0, "box blacked out": 3.0}
    table, frame = controls_of(names, lambda label, n: "AB"[n % 2])
    boxed = numbers.conclude_on_source(numbers.control_aurocs(table, frame, "tied"))
    assert "a box over the lungs blacked out" in boxed and "outline" not in boxed
    names |= {numbers.WITH_MASKS: 1.0, "lungs blacked out": 0.0, "outline of the lungs": 2.0}
    table, frame = controls_of(names, lambda label, n: "AB"[n % 2])
    found = numbers.control_aurocs(table, frame, "tied")
    exact = numbers.conclude_on_source(found)
    assert f"with the whole image {found[numbers.WITH_MASKS].value:.3f}" in exact and "outline of the lungs" in exact
