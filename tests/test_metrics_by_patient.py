"""Means, ratios and differences by patient: right values by hand and by scipy, and where there is no interval."""

import math

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import t as student

from helpers.metrics import by_patient
from helpers.metrics.auroc import auroc, clustered_auroc, compare_aurocs
from helpers.metrics.by_patient import average, clustered_mean, clustered_ratio, mean_by_patient, over_trainings
from helpers.metrics.classification import clustered_f1, rates_at, transferred_point
from helpers.metrics.estimate import Estimate, proportion


def ends(estimate):
    return estimate.low, estimate.high


def test_the_interval_is_t_on_the_logit_scale_of_the_ratio_of_totals():
    right, patients = np.array([1, 1, 0, 1, 1, 1, 0, 1, 0, 1, 1, 0] * 2), np.repeat(list("aabbbcddefgh"), 2)
    names, codes = np.unique(patients, return_inverse=True)
    hits, sizes = np.bincount(codes, right), np.bincount(codes)
    share = hits.sum() / sizes.sum()
    m = len(names)
    error = math.sqrt(m / (m - 1) * (((hits - share * sizes) / sizes.sum()) ** 2).sum())
    arm = student.ppf(0.975, m - 1) * error / (share * (1 - share))
    found = mean_by_patient(right, patients, (0, 1))
    low, high = ends(found)
    assert (found.value, low, high) == pytest.approx((share, expit(logit(share) - arm), expit(logit(share) + arm)))
    scaled = mean_by_patient(4 * right, patients, (0, 4))  # the same between other bounds
    assert ends(scaled) == pytest.approx((4 * low, 4 * high)) and "logit-t" in scaled.method
    order = np.random.default_rng(0).permutation(len(right))
    assert ends(mean_by_patient(right[order], patients[order], (0, 1))) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("value", "bounds"), [(1.0, (0, 1)), (0.0, (0, 1)), (0.1, (0, 1)), (0.0, (-1, 1)), (3, (0, 4))]
)
def test_patients_who_all_agree_have_the_exact_bound_for_their_number(value, bounds):
    found = mean_by_patient([value] * 60, np.arange(60) // 2, bounds)
    assert found.low == pytest.approx(value - (value - bounds[0]) * (1 - 0.025 ** (1 / 30)))
    assert found.high == pytest.approx(value + (bounds[1] - value) * (1 - 0.025 ** (1 / 30)))
    if bounds == (0, 1) and value == 1:
        assert found.low == pytest.approx(proportion(30, 30).low)


def test_one_error_does_not_make_the_interval_narrower_than_none():
    right, patients = np.ones(2000), np.arange(2000) // 100
    perfect = mean_by_patient(right, patients, (0, 1))
    right[0] = 0
    assert mean_by_patient(right, patients, (0, 1)).low <= perfect.low < 0.84


@pytest.mark.parametrize(
    ("values", "patients", "bounds", "why"),
    [
        ([0.1] * 10, range(10), None, "all values are equal"),
        ([1.0, 0.0, 1.0], "aaa", (0, 1), "one patient"),
        ([0.3], "a", None, "one patient"),
    ],
)
def test_where_no_interval_can_be_had_the_value_stands_without_one_and_the_note_says_why(values, patients, bounds, why):
    found = mean_by_patient(values, list(patients), bounds)
    assert found.value == pytest.approx(np.mean(values)) and not found.bounded and found.note == why
    assert "no interval" in str(found) and "no interval" in found.percent() and "no interval" in found.plain()
    assert math.isnan(clustered_mean(values, list(patients), bounds).p)


def test_nothing_has_no_mean_and_bad_input_is_refused():
    assert mean_by_patient([], [], (0, 1)).note == "no observations"
    assert clustered_ratio([0.0, 0.0], [0, 0], ["a", "b"], (0, 1)).note == "no observations"
    for values, patients, bounds in (([2.0], ["a"], (0, 1)), ([np.nan], ["a"], None), ([1.0], ["a", "b"], None)):
        with pytest.raises(ValueError):
            mean_by_patient(values, patients, bounds)
    with pytest.raises(ValueError, match="sizes"):
        clustered_ratio([1.0, 1.0], [1, -1], ["a", "b"])
    with pytest.raises(ValueError, match="does not hold"):
        Estimate(0.5, math.nan, 1.0, 3, "half an interval")


def test_images_of_weight_0_and_their_patients_do_not_count():
    with_them = clustered_ratio([1.0, 0, 1, 0, 0], [1, 1, 1, 1, 0], list("abcde"), (0, 1)).estimate()
    assert with_them == clustered_ratio([1.0, 0, 1, 0], [1, 1, 1, 1], list("abcd"), (0, 1)).estimate()


# --- F1, Brier, thresholds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hits", [0, 50])
def test_f1_of_perfect_and_of_no_hits_is_clopper_pearsons_transformed(hits):
    truth = np.arange(100) < 50
    found, share = clustered_f1(truth, np.arange(100) < hits).estimate(), proportion(hits, 50)
    assert (found.value, *ends(found)) == pytest.approx([2 * x / (1 + x) for x in (share.value, share.low, share.high)])
    assert clustered_f1([False, False], [True, False]).note == "no positives"


def test_without_a_threshold_there_are_no_rates():
    assert not any(one.defined for one in rates_at([1, 0, 1], [0.1, 0.2, 0.3], math.nan).values())
    point = transferred_point([1, 1], [0.5, 0.6], [1, 0, 1], [0.1, 0.2, 0.3])
    assert math.isnan(point.threshold) and not (point.sensitivity.defined or point.specificity.defined)


# --- AUROC ------------------------------------------------------------------------------------------------------------


def test_the_error_of_a_clustered_auroc_is_obuchowskis():
    rng = np.random.default_rng(2)
    who, truth = np.repeat(np.arange(40), 5), rng.random(200) < 0.4
    score = np.round(rng.normal(size=200) + truth + rng.normal(size=40)[who], 1)
    pairs = (score[truth][:, None] > score[~truth]) + 0.5 * (score[truth][:, None] == score[~truth])
    area, m, n = pairs.mean(), truth.sum(), (~truth).sum()
    of_positives = np.bincount(who[truth], pairs.mean(axis=1) - area, 40) / m
    of_negatives = np.bincount(who[~truth], pairs.mean(axis=0) - area, 40) / n
    variance = sum(
        count / (count - 1) * (part**2).sum()
        for part, count in ((of_positives, len(set(who[truth]))), (of_negatives, len(set(who[~truth]))))
    )
    variance += 2 * 40 / 39 * (of_positives * of_negatives).sum()
    found = clustered_auroc(truth, score, who)
    assert (found.value, found.error) == pytest.approx((area, math.sqrt(variance)), rel=1e-3)
    assert compare_aurocs(truth, score, -score, who).p < 1e-3


@pytest.mark.parametrize(("truth", "value"), [([1, 0], 1), ([1, 0, 0], 0.5), ([0] * 5 + [1], 0.4)])
def test_a_single_image_of_a_class_has_a_wide_interval(truth, value):
    score = {2: [2, 1], 3: [1, 2, 0], 6: [1, 2, 3, 4, 5, 2.5]}[len(truth)]
    found = auroc(truth, score)
    assert found.value == pytest.approx(value) and found.high - found.low > 0.6
    assert not auroc(truth, score, ["a"] * len(truth)).bounded  # one patient has no interval at all


def test_infinite_scores_are_ranked_and_text_labels_of_patients_may_be_numbers():
    assert auroc([1, 0, 1, 0], [np.inf, -np.inf, 3, 4]).value == 0.75
    assert auroc([1, 0], [1, 0], [7, 8]).value == 1


# --- averages and trainings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patients", range(5, 16))
def test_p_is_the_level_at_which_the_interval_reaches_0_also_with_few_patients(patients):
    gain = np.random.default_rng(patients).normal(0.3, 1, patients)
    found = clustered_mean(np.clip(gain / 8, -1, 1), np.arange(patients), (-1, 1))
    low, high = found.limits(found.p)
    assert found.p > 0 and (found.p < 0.05) == (not ends(found.estimate())[0] <= 0 <= ends(found.estimate())[1])
    assert min(abs(low), abs(high)) == pytest.approx(0, abs=1e-9)


def test_an_average_of_perfect_classes_adds_their_intervals_in_squares():
    one = clustered_mean([1.0] * 20, range(20), (0, 1))
    other = clustered_mean([1.0] * 10, range(20, 30), (0, 1))
    found = average([one, other]).estimate()
    below = math.hypot(1 - one.limits(0.05)[0], 1 - other.limits(0.05)[0]) / 2
    assert (found.value, *ends(found)) == pytest.approx((1, 1 - below, 1)) and found.n == 30
    nothing = clustered_mean([], [], (0, 1))
    assert average([one, nothing]).value == 1 and not by_patient.combine([one, nothing], [0.5, 0.5]).defined


def test_trainings_add_their_spread_to_the_error_of_the_test_patients():
    rng = np.random.default_rng(0)
    runs = [clustered_mean(rng.random(100) < share, range(100), (0, 1)) for share in (0.7, 0.8, 0.9)]
    found, values = over_trainings(runs), [one.value for one in runs]
    test = average(runs)
    between = np.std(values, ddof=1) / math.sqrt(3) * student.ppf(0.975, 2)
    low = max(0, test.value - math.hypot(test.value - test.limits(0.05)[0], between))
    assert found.estimate().low == pytest.approx(low) and found.method == "test patients and 3 trainings"
    assert not over_trainings(runs[:1]).estimate().bounded and "one training" in over_trainings(runs[:1]).note
    gains = over_trainings([a - b for a, b in zip(runs, runs[::-1], strict=True)])
    assert gains.value == pytest.approx(0, abs=1e-12) and gains.p == 1
