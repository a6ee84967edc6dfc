"""AUROC: against published examples (DeLong, Hanley and McNeil, pROC), against scikit-learn, and by simulation."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from helpers.metrics.auroc import auroc, clustered_auroc, compare_aurocs, compare_independent_aurocs, placements
from helpers.metrics.by_patient import average

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
    """The interval that SAS, Stata and pROC print: symmetric, from DeLong's error."""
    found = clustered_auroc(truth, score)
    return found.value, found.value - 1.959964 * found.error, found.value + 1.959964 * found.error


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


def separated(positives, negatives):
    return np.repeat([True, False], [positives, negatives]), np.repeat([2.0, 1.0], [positives, negatives])


@pytest.mark.parametrize(
    ("positives", "negatives", "low"),
    # 1 - area = z^2 area (1 + N ((1 - area) / (2 - area) + area / (1 + area))) / (m n), solved by bisection apart
    [(10, 10, 0.8002), (5, 5, 0.6427), (2, 98, 0.6048), (250, 250, 0.99226), (1, 1, 0.2065)],
)
def test_perfect_separation_has_newcombes_method_5_by_image_and_by_patient(positives, negatives, low):
    truth, score = separated(positives, negatives)
    found = auroc(truth, score)
    assert (found.value, found.low, found.high) == pytest.approx((1, low, 1), abs=5e-5)
    assert auroc(truth, score, [f"p{k}" for k in range(len(truth))]).low == found.low
    upside_down = auroc(truth, -score)
    assert (upside_down.low, upside_down.high) == pytest.approx((0, 1 - low), abs=5e-5)
    images = np.repeat(np.arange(len(truth)), 3)  # three images of each patient are no more than one
    assert auroc(truth[images], score[images], images).low == pytest.approx(found.low)


def test_one_wrong_pair_does_not_make_the_interval_narrow():
    truth, score = separated(10, 500)
    score[0] = 1.5
    score[-1] = 1.6
    found = auroc(truth, score)
    assert found.value == pytest.approx(1 - 1 / 5000) and found.low < 0.91
    assert auroc(truth, np.zeros(510)).value == 0.5 and auroc(truth, np.zeros(510)).low < 0.4


def test_a_perfect_score_of_few_images_does_not_differ_from_a_good_one_of_many():
    rng = np.random.default_rng(0)
    truth = np.repeat([True, False], 250)
    many = rng.normal(size=500) + truth * norm.ppf(0.97) * math.sqrt(2)
    found = compare_independent_aurocs(*separated(5, 5), truth, many)
    a, b = found.a, found.b
    low = found.difference.value - math.hypot(a.value - a.low, b.high - b.value)
    assert found.p > 0.5 and found.difference.low == pytest.approx(low)
    rejected = 0
    for _ in range(200):
        many = rng.normal(size=500) + truth * norm.ppf(0.97) * math.sqrt(2)
        few = rng.normal(size=10) + np.repeat([norm.ppf(0.97) * math.sqrt(2), 0], 5)
        rejected += compare_independent_aurocs(np.repeat([True, False], 5), few, truth, many).p < 0.05
    assert rejected <= 14  # 5 % of 200 and two standard errors; DeLong's test rejects two thirds


def test_scores_that_order_all_images_alike_do_not_differ_and_still_have_a_width():
    truth, a, _ = tied_scores(3)
    found = compare_aurocs(truth, a, 2 * a)
    assert (found.difference.value, found.p) == (0, 1)
    assert found.difference.low == pytest.approx(-(1 - 0.025 ** (1 / truth.sum())))
    perfect = compare_aurocs([1, 1, 0, 0], [2, 2, 1, 1], [1, 1, 2, 2])
    assert perfect.difference.value == 1 and 0 < perfect.difference.low < 1 and 0.001 < perfect.p < 0.05


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
        found = (whole - clustered_auroc(truth[part], score[part], patients[part])).estimate()
        held += found.low <= 0 <= found.high
    assert 180 <= held <= 199


def test_without_both_classes_there_is_no_value_but_a_reason():
    lone = clustered_auroc([True, True], [1.0, 2.0], ["a", "b"])
    assert not lone.estimate().defined and "no negatives" in lone.estimate().note and np.isnan(lone.p)
    assert not (lone - clustered_auroc(*simulated())).estimate().defined
    assert average([lone, clustered_auroc(*simulated())]).value == clustered_auroc(*simulated()).value
