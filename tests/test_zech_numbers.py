"""F1 and AUROCs of several labels, and the talk's numbers beside ours."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from helpers.metrics.classification import f1_threshold
from helpers.metrics.estimate import Estimate
from helpers.run.claims import compare, load_published
from helpers.zech import numbers
from helpers.zech.data import FINDINGS, Predictions


def scores(n=400, patients=100, seed=0, labels=("Mass", "Nodule")):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"image_id": [f"i{k}" for k in range(n)], "patient_id": rng.integers(0, patients, n).astype(str)}
    )
    for k, label in enumerate(labels):
        truth = rng.random(n) < 0.2 + 0.04 * k
        frame[f"y_{label}"] = truth
        frame[f"p_{label}"] = 1 / (1 + np.exp(-rng.normal(1.5 * truth - 1, 1)))
    return frame


def test_areas_are_those_of_scikit_learn_label_by_label():
    frame = scores()
    found = numbers.label_aurocs(frame)
    for label, estimate in found.items():
        assert estimate.value == pytest.approx(roc_auc_score(frame[f"y_{label}"], frame[f"p_{label}"]))
        assert estimate.low < estimate.value < estimate.high and estimate.n == len(frame)
    assert numbers.compare_scores(frame, frame[::-1], ("a", "b"))["p"].tolist() == [1, 1]


def test_a_patient_whose_images_are_copies_of_one_another_counts_once():
    single = scores(patients=10**9)
    twice = pd.concat([single, single.assign(image_id=single["image_id"] + "b")], ignore_index=True)
    other = twice.assign(p_Mass=twice["p_Mass"] + 5 * np.tile(scores(seed=3)["p_Mass"], 2))
    once, both = (numbers.compare_scores(a, other, ("a", "b")).iloc[0] for a in (single, twice))
    assert both["p"] == pytest.approx(once["p"]) and both["p by image"] < both["p"]
    assert both["design effect"] == pytest.approx(2, rel=0.02) and both["p_holm"] == pytest.approx(2 * both["p"])
    published = Predictions({"a": {"2020": twice}}, {"a": pd.Series({"Mass": 0.5, "Nodule": 0.5})}, 0, [])
    table = numbers.rescored_tables(published)["rescored"].iloc[0]
    alone = numbers.label_aurocs(single)["Mass"]
    assert (table["low"], table["high"]) == pytest.approx((alone.low, alone.high), rel=1e-3)
    assert table["low by image"] > table["low"] and not table["equal"] and table["p_holm"] >= table["p"]


def test_the_threshold_comes_from_validation_and_the_interval_from_the_test_patients():
    validation, test = scores(seed=1), scores(seed=2)
    found = numbers.f1_of_labels(validation, test)["Mass"]
    cut = f1_threshold(validation["y_Mass"], validation["p_Mass"])
    assert found.value == pytest.approx(f1_score(test["y_Mass"], test["p_Mass"] >= cut))
    assert found.low < found.value < found.high and "by patient" in found.method


def test_when_halves_are_crossed_then_no_image_is_judged_at_a_threshold_of_its_own_half():
    frame = scores()
    found = numbers.f1_crossed(frame, "Mass", 1)
    best = f1_score(frame["y_Mass"], frame["p_Mass"] >= f1_threshold(frame["y_Mass"], frame["p_Mass"]))
    assert 0.8 * best < found.value <= best and found.n == len(frame)


# --- the talk --------------------------------------------------------------------------------------------------------


def areas(value=0.7651, n=22_433):
    return {label: Estimate(value, value - 0.01, value + 0.01, n, "DeLong, logit") for label in FINDINGS}


@pytest.mark.parametrize(
    ("level", "n", "verdict", "words"),
    [
        ("re-scored", 22_433, "reproduced", ""),
        ("re-scored", 9_000, "not comparable", "9,000 of the 22,433"),
        ("re-scored, network of 2022", 22_433, "not comparable", "retrained then"),
    ],
)
def test_the_talks_own_predictions_are_held_against_it_and_another_networks_are_not(level, n, verdict, words):
    levels = {level: areas(n=n), "phantom": areas(0.6)}
    claims = numbers.chexnet_claims(levels, "phantom", False, 112_120, 50)
    obtained = {
        name: value if isinstance(value, Estimate) else Estimate(value, value, value, 0, "")
        for name, (value, _) in claims.items()
    }
    grounds = {name: grounds for name, (_, grounds) in claims.items() if grounds}
    table = compare(load_published("zech2018"), obtained, {"images": "phantoms"}, grounds).set_index("id")
    row = table.loc["zech2018.auroc.retrained.pneumonia"]
    assert row["verdict"] == verdict and words in row["explanation"] and bool(row["alone"]) == bool(words)
    assert table.loc["zech2018.data.nih_images", "verdict"] == "reproduced"
    alone = numbers.chexnet_claims({"phantom": areas()}, "phantom", False, None, 50)
    assert alone["zech2018.auroc.retrained.pneumonia"][1] is None and alone["zech2018.data.nih_images"][0] == 50


def test_the_table_names_the_level_of_every_number():
    table = numbers.auroc_table({"phantom": areas()}, {"phantom": {"Mass": 3}})
    row = table.set_index("label").loc["Mass"]
    assert (row["talk: retrained"], row["phantom"], row["phantom: positives"]) == (0.8308, 0.7651, 3)


def test_readers_stand_as_printed_and_ours_with_their_prevalence():
    frame = scores(labels=("Pneumonia",))
    table = numbers.f1_table(numbers.published_f1(), {"phantom": (None, frame)}, "Pneumonia")
    assert table["where from"].value_counts().to_dict() == {"printed in the talk": 6, "this run": 1}
    last = table.iloc[-1]
    assert np.isnan(last["value"]) and last["prevalence"] == pytest.approx(frame["y_Pneumonia"].mean())
