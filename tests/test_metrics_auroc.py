"""AUROC: against published examples (DeLong, Hanley and McNeil, pROC), against scikit-learn, and by simulation."""

import math

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import norm

from helpers.metrics.auroc import (
    auroc,
    clustered_auroc,
    compare_aurocs,
    compare_independent_aurocs,
    mean_auroc,
    placements,
)

# The ovarian cancer data of DeLong, DeLong and Clarke-Pearson 1988, as the SAS/STAT User's Guide prints them (PROC
# LOGISTIC, "Comparing Receiver Operating Characteristic Curves"): albumin, total protein, K-G score, benefit.
DELONG = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""


def ovarian():
    albumin, protein, score, benefit = np.array(DELONG.split(), float).reshape(-1, 4).T
    return benefit == 1, {"albumin": albumin, "K-G": 10 - score, "protein": protein}


def ratings(positives, negatives):
    """Truth and rating from counts a rating: 1, 2, 3, ..."""
    levels = np.arange(1, len(positives) + 1)
    truth = np.repeat([True, False], [sum(positives), sum(negatives)])
    return truth, np.r_[np.repeat(levels, positives), np.repeat(levels, negatives)]


def plain_limits(truth, score):
    """The interval that SAS, Stata and pROC print: symmetric, from the error behind the logit limits."""
    found = auroc(truth, score)
    error = np.ptp(logit([found.low, found.high])) / 2 * found.value * (1 - found.value)
    return found.value, found.value - error, found.value + error


@pytest.mark.parametrize(
    ("test", "area", "low", "high"),
    [("albumin", 0.7366, 0.5549, 0.9182), ("K-G", 0.7258, 0.5243, 0.9273), ("protein", 0.6478, 0.4518, 0.8439)],
)
def test_delongs_own_data_give_the_areas_and_limits_that_sas_prints(test, area, low, high):
    truth, scores = ovarian()
    assert plain_limits(truth, scores[test]) == pytest.approx((area, low, high), abs=6e-5)


@pytest.mark.parametrize(
    ("a", "b", "difference", "low", "high", "chi_square", "p"),
    [
        ("albumin", "K-G", 0.0108, -0.1761, 0.1976, 0.0127, 0.9102),
        ("protein", "K-G", -0.0780, -0.2830, 0.1271, 0.5554, 0.4561),
    ],
)
def test_delongs_own_data_give_the_contrasts_that_sas_prints(a, b, difference, low, high, chi_square, p):
    truth, scores = ovarian()
    found = compare_aurocs(truth, scores[a], scores[b])
    obtained = (
        found.difference.value,
        found.difference.low,
        found.difference.high,
        norm.isf(found.p / 2) ** 2,
        found.p,
    )
    assert obtained == pytest.approx((difference, low, high, chi_square, p), abs=6e-5)


def test_hanley_and_mcneils_ct_ratings_give_statas_interval():
    # Hanley and McNeil 1982 (Radiology 143:29), table I; limits as in the Stata manual's entry for roctab
    truth, rating = ratings((3, 2, 2, 11, 33), (33, 6, 6, 11, 2))
    assert plain_limits(truth, rating) == pytest.approx((0.8932, 0.83295, 0.95339), abs=5e-5)


def tied_scores(seed, n=300):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.3
    return truth, np.round(rng.normal(size=n) + truth, 1), np.round(rng.normal(size=n) + 0.5 * truth, 1)


def kernel(truth, score):
    """Every positive against every negative: the slow form of the 1988 paper."""
    positives, negatives = score[truth][:, None], score[~truth][None, :]
    return (positives > negatives) + 0.5 * (positives == negatives)


def test_fast_variance_equals_the_slow_pairwise_one_on_ties():
    truth, a, b = tied_scores(1)
    pairs = kernel(truth, a) - kernel(truth, b)
    m, n = pairs.shape
    error = math.sqrt(pairs.mean(axis=1).var(ddof=1) / m + pairs.mean(axis=0).var(ddof=1) / n)
    found = compare_aurocs(truth, a, b)
    assert found.p == pytest.approx(2 * norm.sf(abs(pairs.mean()) / error), rel=1e-9)
    placed = placements(truth, a)
    np.testing.assert_allclose(placed.positives, kernel(truth, a).mean(axis=1))
    np.testing.assert_allclose(placed.negatives, kernel(truth, a).mean(axis=0))


def test_interval_holds_the_true_area_about_95_percent_of_the_time():
    rng, area, held = np.random.default_rng(7), 0.95, 0
    truth = np.repeat([True, False], 60)
    for _ in range(500):
        estimate = auroc(truth, rng.normal(size=120) + truth * norm.ppf(area) * math.sqrt(2))
        held += estimate.low <= area <= estimate.high
    assert 0.925 <= held / 500 <= 0.98


@pytest.mark.parametrize(
    ("a", "b", "area", "difference", "p"),
    [
        ([2.0] * 4, [2.0] * 4, (0.5, 0.5 * 0.025**0.5, 1 - 0.5 * 0.025**0.5), 0, 1),  # all scores are equal
        ([2.0, 2.0, 1.0, 1.0], [8.0, 8.0, 1.0, 1.0], (1.0, 0.025**0.5, 1.0), 0, 1),  # both separate perfectly
        ([2.0, 2.0, 1.0, 1.0], [1.0, 1.0, 2.0, 2.0], (1.0, 0.025**0.5, 1.0), 1, 0.5),  # one of them upside down
        ([1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0], (0.0, 0.0, 1 - 0.025**0.5), 0, 1),
    ],
)
def test_scores_without_spread_have_exact_bounds(a, b, area, difference, p):
    found = compare_aurocs([1, 1, 0, 0], a, b)
    assert (found.auroc_a.value, found.auroc_a.low, found.auroc_a.high) == pytest.approx(area, abs=1e-9)
    assert found.difference.value == difference and found.p == pytest.approx(p)
    one = clustered_auroc([1, 1, 0, 0], a, list("abcd"))
    assert one.value == area[0] and (one - one).p == 1 and mean_auroc([one, one]).error == pytest.approx(one.error)


@pytest.mark.parametrize(
    ("truth", "score", "message"),
    [
        ([1, 0], [0.1, np.nan], "score: expected one value per image, none"),
        ([1, 0, 1], [0.1, 0.2], "lengths differ: truth has 3, score has 2"),
        ([2, 0], [0.1, 0.2], "truth: expected True/False"),
        (["True", "False"], [0.1, 0.2], "truth: expected True/False"),
        ([1, 0], ["high", "low"], "score: expected numbers"),
    ],
)
def test_bad_input_is_refused(truth, score, message):
    with pytest.raises(ValueError, match=message):
        auroc(truth, score)


@pytest.mark.parametrize(
    ("truth", "why"), [([], "no observations"), ([1, 1], "no negatives"), ([False, False], "no positives")]
)
def test_without_both_classes_it_is_undefined_with_the_reason(truth, why):
    score = list(range(len(truth)))
    assert not auroc(truth, score).defined and auroc(truth, score).note == why
    compared = compare_aurocs(truth, score, score)
    assert not compared.difference.defined and math.isnan(compared.p)
    assert math.isnan(compare_independent_aurocs(truth, score, [1, 0], [1, 0]).p)


def test_independent_areas_add_their_variances():
    # from the published limits of two examples above
    truth, grade = ratings((2, 12, 1, 8, 18), (37, 20, 3, 8, 4))
    ct = ratings((3, 2, 2, 11, 33), (33, 6, 6, 11, 2))
    found = compare_independent_aurocs(truth, grade, *ct)
    error = math.hypot((0.8988 - 0.7485) / 3.92, 0.03072)
    assert (
        norm.isf(found.p / 2) == pytest.approx((0.8932 - 0.8237) / error, abs=0.01) and found.difference.n == 113 + 109
    )


# --- overlapping sets, by patient -------------------------------------------------------------------------------------


def simulated(n=300, seed=0, shift=1.0):
    rng = np.random.default_rng(seed)
    truth = rng.random(n) < 0.3
    return truth, rng.normal(size=n) + shift * truth, np.array([f"p{k}" for k in range(n)])


def test_the_interval_of_a_joint_set_less_its_part_holds_the_truth_in_about_95_percent():
    held = 0
    for seed in range(200):
        truth, score, patients = simulated(240, seed)
        part = np.arange(240) < 120
        whole = clustered_auroc(truth, score, patients)
        found = (whole - clustered_auroc(truth[part], score[part], patients[part])).difference()
        held += found.low <= 0 <= found.high
    assert 180 <= held <= 199


def test_without_both_classes_there_is_no_value_but_a_reason():
    lone = clustered_auroc([True, True], [1.0, 2.0], ["a", "b"])
    assert not lone.estimate().defined and "no negatives" in lone.estimate().note and np.isnan(lone.p)
    assert not (lone - clustered_auroc(*simulated())).difference().defined
    assert mean_auroc([lone, clustered_auroc(*simulated())]).value == clustered_auroc(*simulated()).value
