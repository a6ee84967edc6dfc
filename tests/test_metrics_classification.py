"""Confusion tables, rates, urgent referral: against scikit-learn and by hand."""

import numpy as np
import pandas as pd
import pytest

from helpers.metrics.classification import (
    accuracy,
    confusion,
    is_urgent,
    predicted_labels,
    rates,
    urgent_score,
)

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")


def random_labels(seed, n=200):
    rng = np.random.default_rng(seed)
    return rng.choice(CLASSES, n), rng.choice(CLASSES, n)


def test_confusion_agrees_with_scikit_learn_with_true_classes_in_rows():
    from sklearn.metrics import confusion_matrix

    true, predicted = random_labels(0)
    table = confusion(true, predicted, CLASSES)
    np.testing.assert_array_equal(table.to_numpy(), confusion_matrix(true, predicted, labels=CLASSES))
    assert list(table.index) == list(table.columns) == list(CLASSES)
    assert (table.index.name, table.columns.name) == ("true", "predicted")


def test_confusion_keeps_a_class_that_never_occurs():
    assert confusion(["CNV"], ["DME"], CLASSES).to_numpy().sum() == 1
    assert confusion([], [], CLASSES).shape == (4, 4)


@pytest.mark.parametrize(
    ("true", "predicted", "told"),
    [
        (["CNV", "cnv"], ["CNV", "CNV"], "cnv not one of"),
        (["CNV"], ["CNV", "DME"], "lengths differ: labels has 1, predicted has 2"),
        (["CNV", None], ["CNV", "CNV"], "labels: 1 of 2 values are missing"),
    ],
)
def test_confusion_refuses_labels_it_cannot_place(true, predicted, told):
    with pytest.raises(ValueError, match=told):
        confusion(true, predicted, CLASSES)


def test_accuracy_agrees_with_scikit_learn():
    from sklearn.metrics import accuracy_score

    true, predicted = random_labels(1)
    estimate = accuracy(pd.Series(true), predicted)
    assert estimate.value == pytest.approx(accuracy_score(true, predicted)) and estimate.n == 200
    assert estimate.low < estimate.value < estimate.high


def test_accuracy_of_nothing_is_undefined():
    assert not accuracy([], []).defined


def test_rates_divide_each_by_its_own_class_total():
    # 4 of 5 urgent found, 2 of 3 others left alone; by the paper's words the first would be 4 / 8
    truth = [True] * 5 + [False] * 3
    called = [True] * 4 + [False] + [True] + [False] * 2
    found = rates(truth, called)
    assert {name: (e.value, e.n) for name, e in found.items()} == {
        "sensitivity": (4 / 5, 5),
        "specificity": (2 / 3, 3),
        "ppv": (4 / 5, 5),
        "npv": (2 / 3, 3),
        "accuracy": (6 / 8, 8),
    }


def test_rates_agree_with_scikit_learn():
    from sklearn.metrics import precision_score, recall_score

    true, predicted = (is_urgent(labels) for labels in random_labels(2))
    found = rates(true, predicted)
    assert found["sensitivity"].value == pytest.approx(recall_score(true, predicted))
    assert found["specificity"].value == pytest.approx(recall_score(~true, ~predicted))
    assert found["ppv"].value == pytest.approx(precision_score(true, predicted))
    assert found["npv"].value == pytest.approx(precision_score(~true, ~predicted))


def test_rates_of_one_class_leave_the_other_undefined_with_the_reason():
    found = rates([1, 1], [1, 0])
    assert found["sensitivity"].value == 0.5
    assert not found["specificity"].defined and "no negatives" in found["specificity"].note
    assert all(not estimate.defined for estimate in rates([], []).values())


@pytest.mark.parametrize("truth", [[0.2, 1.0], ["True", "False"], [1.0, np.nan], [[True], [False]], [None, True]])
def test_rates_refuse_what_is_not_yes_or_no(truth):
    with pytest.raises(ValueError, match="truth"):
        rates(truth, [True, False])


def scores(rows):
    return pd.DataFrame(rows, columns=[f"p_{name}" for name in CLASSES])


def test_predicted_label_is_the_most_probable_class_and_the_first_of_equals():
    frame = scores([[0.1, 0.2, 0.3, 0.4], [0.4, 0.4, 0.1, 0.1], [0.0, 0.0, 1.0, 0.0]])
    assert list(predicted_labels(frame, CLASSES)) == ["NORMAL", "CNV", "DRUSEN"]


def test_predicted_labels_follow_names_not_column_order():
    frame = scores([[0.1, 0.2, 0.3, 0.4]])[["p_NORMAL", "p_CNV", "p_DRUSEN", "p_DME"]]
    assert list(predicted_labels(frame, CLASSES)) == ["NORMAL"]


def test_urgent_score_is_the_sum_of_cnv_and_dme():
    np.testing.assert_allclose(urgent_score(scores([[0.1, 0.2, 0.3, 0.4]])), [0.3])
    assert list(is_urgent(CLASSES)) == [True, True, False, False]


def test_scores_without_a_class_or_with_nan_are_refused():
    with pytest.raises(ValueError, match="no column p_DME"):
        urgent_score(scores([[0.1, 0.2, 0.3, 0.4]]).drop(columns="p_DME"))
    with pytest.raises(ValueError, match="p_CNV: 1 of 1 values are missing"):
        predicted_labels(scores([[np.nan, 0.2, 0.3, 0.4]]), CLASSES)
