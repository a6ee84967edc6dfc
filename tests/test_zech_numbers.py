"""F1 and AUROCs of several labels, and the talk's numbers beside ours."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from helpers.metrics.classification import f1_threshold
from helpers.metrics.estimate import Estimate
from helpers.run.claims import compare, load_published
from helpers.zech import numbers
from helpers.zech.data import FINDINGS


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
    assert numbers.compare_networks(frame, frame)["Mass"].p == 1
    with pytest.raises(ValueError, match="same images"):
        numbers.compare_networks(frame, frame[::-1].reset_index(drop=True))


def test_the_threshold_comes_from_validation_and_the_interval_from_the_test_patients():
    validation, test = scores(seed=1), scores(seed=2)
    found = numbers.f1_of_labels(validation, test, 200, 1)["Mass"]
    cut = f1_threshold(validation["y_Mass"], validation["p_Mass"])
    assert found.value == pytest.approx(f1_score(test["y_Mass"], test["p_Mass"] >= cut))
    assert found.low < found.value < found.high and "by patient" in found.method


def test_when_halves_are_crossed_then_no_image_is_judged_at_a_threshold_of_its_own_half():
    frame = scores()
    found = numbers.f1_crossed(frame, "Mass", 200, 1)
    best = f1_score(frame["y_Mass"], frame["p_Mass"] >= f1_threshold(frame["y_Mass"], frame["p_Mass"]))
    assert 0.8 * best < found.value <= best and found.n == len(frame)


# --- the talk --------------------------------------------------------------------------------------------------------


def areas(value=0.7651):
    return {label: Estimate(value, value - 0.03, value + 0.03, 100, "DeLong, logit") for label in FINDINGS}


def test_rescored_areas_are_held_against_the_talk_and_phantoms_are_not():
    levels = {"re-scored": areas(), "phantom": areas(0.6)}
    claims = numbers.chexnet_claims(levels, "phantom", False, 112_120, 50)
    obtained = {
        name: value if isinstance(value, Estimate) else Estimate(value, value, value, 0, "")
        for name, (value, _) in claims.items()
    }
    grounds = {name: grounds for name, (_, grounds) in claims.items() if grounds}
    table = compare(load_published("zech2018"), obtained, {"images": "phantoms"}, grounds).set_index("id")
    row = table.loc["zech2018.auroc.retrained.pneumonia"]  # another network's predictions are not the talk's
    assert row["verdict"] == "not comparable" and "retrained then" in row["explanation"] and row["alone"]
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
