"""Kermany's numbers: urgent referral, weighted error, pneumonia from three classes, and the cost of decisions."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from tiny_data import sized

from helpers.kermany import numbers
from helpers.kermany.data import is_urgent, urgent_score
from helpers.metrics.estimate import proportion

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")


def scores_of(classes, n=400, seed=0):
    """A scores frame whose labels are drawn from its own probabilities; two images per patient."""
    rng = np.random.default_rng(seed)
    probabilities = softmax(rng.normal(0, 1.2, (n, len(classes))), axis=1)
    drawn = (probabilities.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    names = {"patient_id": np.arange(n) // 2, "image_id": np.arange(n)}
    frame = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes])
    return frame.assign(label=np.array(classes, object)[drawn], split="test", selection="validation", **names)


def error_of(labels, predicted):
    return numbers.weighted_error(labels, predicted, numbers.PENALTIES, np.arange(len(labels))).estimate()


def test_the_weighted_error_is_the_mean_penalty_per_image():
    labels = ["CNV", "DME", "NORMAL", "CNV", "DRUSEN"] + ["NORMAL"] * 95
    predicted = ["NORMAL", "DRUSEN", "CNV", "DME", "DRUSEN"] + ["NORMAL"] * 95
    estimate = error_of(labels, predicted)
    assert estimate.value == pytest.approx((4 + 2 + 1 + 1) / 100)  # printed as 8.0 %
    assert estimate.low < estimate.value < estimate.high and estimate.n == 100
    assert (error_of(["CNV"] * 4, ["NORMAL"] * 4).value, error_of(["NORMAL"] * 4, ["CNV"] * 4).value) == (4, 1)
    for away, words in ((proportion(48, 80), " (4."), (proportion(48, 80).without_interval("one"), ", without")):
        assert numbers.describe_shift(proportion(56, 70), away).startswith(f"a drop of 20.0 points{words}")


def test_no_error_at_all_has_an_upper_bound_and_an_unknown_label_is_refused():
    estimate = error_of(["CNV"] * 100, ["CNV"] * 100)
    assert estimate.value == estimate.low == 0 and estimate.high == pytest.approx(4 * proportion(0, 100).high)
    with pytest.raises(ValueError, match="PNEUMONIA"):
        error_of(["CNV"], ["PNEUMONIA"])


def test_numbers_of_the_four_class_model_are_those_of_urgent_referral():
    from sklearn.metrics import recall_score, roc_auc_score

    scores = scores_of(CLASSES)
    found = numbers.four_class_numbers(scores, CLASSES)
    urgent = scores["label"].isin(["CNV", "DME"])
    predicted = scores[[f"p_{name}" for name in CLASSES]].idxmax(axis=1).str[2:]
    assert list(is_urgent(scores["label"])) == list(urgent)
    assert found["sensitivity"].value == pytest.approx(recall_score(urgent, predicted.isin(["CNV", "DME"])))
    assert found["accuracy"].value == found["accuracy_by_image"].value == (predicted == scores["label"]).mean()
    area = roc_auc_score(urgent, scores["p_CNV"] + scores["p_DME"])
    assert found["auroc"].value == found["auroc_by_image"].value == pytest.approx(area)
    np.testing.assert_allclose(urgent_score(scores), scores["p_CNV"] + scores["p_DME"])


def test_three_classes_answer_both_questions_of_pneumonia():
    scores = scores_of(numbers.PNEUMONIA)
    for question, (positive, negative) in numbers.QUESTIONS.items():
        asked = numbers.pneumonia_scores(scores, question)
        assert set(asked["label"]) == {positive, negative}
        assert (asked[f"p_{positive}"] + asked[f"p_{negative}"]).to_numpy() == pytest.approx(1)
        assert 0.5 < numbers.binary_numbers(asked, (positive, negative))["auroc"].value < 1
    assert len(numbers.pneumonia_scores(scores, "bacteria_virus")) == (scores["label"] != "NORMAL").sum()


def test_images_are_counted_by_kind_and_patients_where_they_are_known():
    catalogue = sized({"NORMAL": 5, "BACTERIA": 4, "VIRUS": 3}, {"NORMAL": 1, "BACTERIA": 1, "VIRUS": 2})
    counts = numbers.pneumonia_counts(catalogue)
    assert (counts["train_pneumonia"], counts["train_images"], counts["train_patients"]) == (7, 12, 12)
    assert counts["test_viral"] == 2 and list(numbers.questions_of(catalogue)) == ["pneumonia", "bacteria_virus"]
    unnamed = replace(sized({"NORMAL": 5, "PNEUMONIA": 4}, {"NORMAL": 1, "PNEUMONIA": 2}), patients_known=False)
    assert list(numbers.questions_of(unnamed)) == ["pneumonia"]
    counts = {f"{part}_{kind}" for part in ("train", "test") for kind in ("normal", "pneumonia")}
    assert set(numbers.pneumonia_counts(unnamed)) == counts | {"train_images"}
    evidence = numbers.shared_id_evidence(unnamed, 1)
    assert evidence.shared_ids == 0 and "No patients are named" in evidence.conclusion


def test_the_cheapest_decision_is_worked_out_by_hand():
    frame = pd.DataFrame({"p_NORMAL": [0.7, 0.9, 0.1], "p_BACTERIA": [0.3, 0.05, 0.2], "p_VIRUS": [0.0, 0.05, 0.7]})
    # First: observing costs 4 x 0.3, referring 0.7, so the less probable class is the cheaper care.
    assert list(numbers.cheapest_decisions(frame)) == ["BACTERIA", "NORMAL", "VIRUS"]


def test_the_cheapest_rule_costs_least_where_probabilities_are_true():
    frame = scores_of(numbers.PNEUMONIA, 2000)
    found = numbers.referral_costs(frame)
    rule, plain = found["least expected cost"], found["most probable class"]
    assert rule.value < plain.value < found["observe all"].value and rule.low < rule.value < rule.high
    assert found["refer all urgently"].value == pytest.approx((frame["label"] != "BACTERIA").mean())
    assert "by patient" in plain.method and found[numbers.SAVED].value == pytest.approx(plain.value - rule.value)


def test_numbers_of_several_trainings_are_their_means_and_each_has_its_own_temperature():
    each = [scores_of(numbers.PNEUMONIA, seed=seed).assign(seed=seed) for seed in (0, 1)]
    trained = pd.concat([*each, *(one.assign(split="validation") for one in each)])
    tuned, heats = numbers.temper(trained, numbers.PNEUMONIA)
    assert list(heats) == [0, 1] and heats[0] != heats[1] and len(tuned) == len(trained)
    both, one = numbers.referral_costs(tuned), numbers.referral_costs(tuned[tuned["seed"] == 0])
    other = numbers.referral_costs(tuned[tuned["seed"] == 1])
    for name, found in both.items():
        assert found.value == pytest.approx((one[name].value + other[name].value) / 2)
        assert found.method == "test patients and 2 trainings" and not one[name].bounded
    asked = numbers.binary_numbers(numbers.pneumonia_scores(tuned, "pneumonia"), ("PNEUMONIA", "NORMAL"))
    assert set(asked) == {"accuracy", "sensitivity", "specificity", "auroc"}
