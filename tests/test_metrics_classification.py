"""Confusion tables, rates and thresholds: against scikit-learn and by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers.metrics import classification

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")


def random_labels(seed, n=200):
    rng = np.random.default_rng(seed)
    return rng.choice(CLASSES, n), rng.choice(CLASSES, n)


def test_confusion_agrees_with_scikit_learn_with_true_classes_in_rows():
    from sklearn.metrics import confusion_matrix

    true, predicted = random_labels(0)
    table = classification.confusion(true, predicted, CLASSES)
    np.testing.assert_array_equal(table.to_numpy(), confusion_matrix(true, predicted, labels=CLASSES))
    assert list(table.index) == list(table.columns) == list(CLASSES)
    assert classification.confusion([], [], CLASSES).shape == (4, 4)
    with pytest.raises(ValueError, match="cnv not one of"):
        classification.confusion(["CNV", "cnv"], ["CNV", "CNV"], CLASSES)


def test_rates_agree_with_scikit_learn():
    from sklearn.metrics import precision_score, recall_score

    true, predicted = (labels == "CNV" for labels in random_labels(2))
    found = classification.rates(true, predicted)
    assert found["sensitivity"].value == pytest.approx(recall_score(true, predicted))
    assert found["specificity"].value == pytest.approx(recall_score(~true, ~predicted))
    assert found["ppv"].value == pytest.approx(precision_score(true, predicted))
    assert found["npv"].value == pytest.approx(precision_score(~true, ~predicted))


def test_rates_of_one_class_leave_the_other_undefined_with_the_reason():
    found = classification.rates([1, 1], [1, 0])
    assert found["sensitivity"].value == 0.5
    assert not found["specificity"].defined and "no negatives" in found["specificity"].note
    assert all(not estimate.defined for estimate in classification.rates([], []).values())


def scores(rows):
    return pd.DataFrame(rows, columns=[f"p_{name}" for name in CLASSES])


def test_predicted_label_is_the_most_probable_class_and_the_first_of_equals():
    frame = scores([[0.1, 0.2, 0.3, 0.4], [0.4, 0.4, 0.1, 0.1], [0.0, 0.0, 1.0, 0.0]])
    assert list(classification.predicted_labels(frame, CLASSES)) == ["NORMAL", "CNV", "DRUSEN"]


# --- thresholds -------------------------------------------------------------------------------------------------------


def graded(seed=1, n=300):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.4
    return truth, np.round(rng.normal(size=n) + 1.2 * truth, 1)


def test_the_youden_threshold_is_the_best_point_of_scikit_learns_curve():
    from sklearn.metrics import roc_curve

    truth, score = graded()
    fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
    called = score >= classification.youden_threshold(truth, score)
    assert called[truth].mean() - called[~truth].mean() == pytest.approx((tpr - fpr).max())


def test_the_most_sensitive_of_equal_youden_thresholds_is_taken():
    assert (
        classification.youden_threshold([1, 0, 1, 0], [4.0, 3.0, 2.0, 1.0]) == 2.0
    )  # 4 and 2 both give an index of one half
    assert classification.youden_threshold([1, 1, 0, 0], [0.5] * 4) == 0.5
    assert math.isnan(classification.youden_threshold([1, 1], [0.1, 0.2]))


def test_the_f1_threshold_gives_the_best_f1_that_scikit_learn_finds():
    from sklearn.metrics import f1_score

    truth, score = graded(2)
    best = f1_score(truth, score >= classification.f1_threshold(truth, score))
    assert best == pytest.approx(max(f1_score(truth, score >= cut) for cut in score))
    assert classification.f1_threshold(np.zeros(3, bool), [0.1, 0.2, 0.3]) == np.inf


def test_a_threshold_chosen_on_validation_is_judged_on_the_test():
    validation = [False, False, True, True], [0.1, 0.3, 0.6, 0.9]
    found = classification.transferred_point(*validation, [False, False, True, True], [0.2, 0.7, 0.5, 0.8])
    assert found.threshold == 0.6
    assert (found.sensitivity.value, found.specificity.value, found.accuracy.value) == (0.5, 0.5, 0.5)


def test_the_youden_curve_counts_at_every_cutoff():
    truth = np.array([True, True, False, False])
    score = np.array([0.9, 0.4, 0.4, 0.1])
    curve = classification.youden_curve(truth, score, steps=10).set_index("cutoff")
    assert len(curve) == 11
    for cutoff, row in curve.iterrows():
        called = score >= cutoff
        assert (row["sensitivity"], row["specificity"]) == (called[truth].mean(), (~called[~truth]).mean())
    assert curve.loc[0.5, "index"] == 0.5


def test_the_cutoff_is_the_higher_end_of_the_range_that_does_best():
    found = classification.youden_plateau([True, True, False, False], [0.9961, 1.0, 0.1421, 0.0])
    assert (found.low, found.high, found.index) == (0.143, 0.996, 1.0)
    assert (found.largest_negative, found.smallest_positive) == (0.1421, 0.9961)
    assert math.isnan(classification.youden_plateau([True], [0.9]).high)
