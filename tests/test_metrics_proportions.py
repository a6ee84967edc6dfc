"""Proportions and likelihood ratios: exact intervals against published tables, scipy and statsmodels."""

import math

import numpy as np
import pytest

from helpers.metrics.estimate import Estimate, likelihood_ratios, proportion, proportion_difference, unanimous_bounds


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 5 (Clopper-Pearson)
        (81, 263, 0.2527, 0.3676),
        (0, 20, 0.0000, 0.1684),
        (1, 29, 0.0009, 0.1776),
        # Conover 1999: 5 of 25
        (5, 25, 0.0683, 0.4070),
        # Rajkomar 2017, Model Selection: 99.73 % of 39,856 (99.67 to 99.78)
        (39_748, 39_856, 0.99673, 0.99778),
    ],
)
def test_published_clopper_pearson_limits(successes, n, low, high):
    estimate = proportion(successes, n)
    assert estimate.value == successes / n and estimate.n == n
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("successes", [0, 1, 489, 500])
@pytest.mark.parametrize(("method", "scipy_name"), [("Clopper-Pearson", "exact"), ("Wilson", "wilson")])
def test_agrees_with_scipy(successes, method, scipy_name):
    from scipy.stats import binomtest

    expected = binomtest(successes, 500).proportion_ci(0.95, scipy_name)
    estimate = proportion(successes, 500, method)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), abs=1e-9)


def test_without_observations_it_is_undefined_with_the_reason():
    estimate = proportion(0, 0)
    assert not estimate.defined and estimate.n == 0 and "no observations" in estimate.note
    assert not proportion_difference(0, 0, 5, 9).defined


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (2.5, 5), (math.nan, 5), (1, math.inf)])
def test_bad_counts_are_refused(successes, n):
    with pytest.raises(ValueError):
        proportion(successes, n)


def test_newcombes_interval_of_two_independent_proportions():
    # Newcombe 1998 (Statistics in Medicine 17:873), table II (a): 56/70 less 48/80, method 10
    found = proportion_difference(56, 70, 48, 80)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_unanimous_bound_of_successes_is_the_clopper_pearson_limit():
    low, high = unanimous_bounds(1.0, 250, 0.0, 1.0)
    assert (low, high) == pytest.approx((proportion(250, 250).low, 1.0))
    assert unanimous_bounds(0.3, 0, -1.0, 4.0) == (-1.0, 4.0)  # without draws, the whole range


# --- likelihood ratios ------------------------------------------------------------------------------------------------


def table(true_positives, false_positives, false_negatives, true_negatives):
    counts = [true_positives, false_positives, false_negatives, true_negatives]
    return np.repeat([1, 0, 1, 0], counts), np.repeat([1, 1, 0, 0], counts)


def test_likelihood_ratio_of_scotts_example():
    # Scott and others 2008, table 1, as epiR's help for epi.tests prints it
    found = likelihood_ratios(*table(670, 202, 74, 640))["positive"]
    assert (found.value, found.low, found.high) == pytest.approx((3.75, 3.32, 4.24), abs=5e-3)
    assert found.n == 1586


def test_both_likelihood_ratios_agree_with_statsmodels():
    from statsmodels.stats.contingency_tables import Table2x2

    tp, fp, fn, tn = 240, 7, 10, 243
    found = likelihood_ratios(*table(tp, fp, fn, tn))
    for name, counts in (("positive", [[tp, fn], [fp, tn]]), ("negative", [[fn, tp], [tn, fp]])):
        expected = Table2x2(np.array(counts))
        assert found[name].value == pytest.approx(expected.riskratio)
        assert (found[name].low, found[name].high) == pytest.approx(expected.riskratio_confint())


def test_a_count_of_zero_leaves_one_end_open_and_the_other_exact():
    found = likelihood_ratios(*table(240, 0, 10, 250))["positive"]
    assert found.value == found.high == math.inf and "count is 0" in found.note
    assert found.low == pytest.approx(proportion(240, 250).low / proportion(0, 250).high)
    found = likelihood_ratios(*table(250, 5, 0, 245))["negative"]
    assert found.value == found.low == 0
    assert found.high == pytest.approx(proportion(0, 250).high / proportion(245, 250).low)


@pytest.mark.parametrize(("truth", "why"), [([], "no observations"), ([1], "no negatives"), ([0], "no positives")])
def test_without_both_classes_both_ratios_are_undefined(truth, why):
    for estimate in likelihood_ratios(truth, truth).values():
        assert not estimate.defined and estimate.note == why


def test_only_one_reads_as_one():
    assert Estimate(0.99996, 0.9, 1.0, 9, "any").plain() == "0.999 (0.900 to 1.000)"
