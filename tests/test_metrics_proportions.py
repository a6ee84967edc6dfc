"""Proportions: exact intervals against published tables and scipy."""

import math

import numpy as np
import pytest

from helpers.metrics.proportions import proportion, unanimous_bounds


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 5 (Clopper-Pearson)
        (81, 263, 0.2527, 0.3676),
        (0, 20, 0.0000, 0.1684),
        (1, 29, 0.0009, 0.1776),
        # Conover 1999: 5 of 25
        (5, 25, 0.0683, 0.4070),
    ],
)
def test_published_clopper_pearson_limits(successes, n, low, high):
    estimate = proportion(successes, n)
    assert estimate.value == successes / n and estimate.n == n
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("successes", [0, 1, 489, 499, 500])
@pytest.mark.parametrize(("method", "scipy_name"), [("Clopper-Pearson", "exact"), ("Wilson", "wilson")])
def test_agrees_with_scipy(successes, method, scipy_name):
    from scipy.stats import binomtest

    expected = binomtest(successes, 500).proportion_ci(0.95, scipy_name)
    estimate = proportion(successes, 500, method)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), abs=1e-9)


def test_the_ends_are_reached_exactly():
    assert proportion(7, 7).high == 1.0 and proportion(0, 7).low == 0.0


def test_without_observations_it_is_undefined_and_says_why():
    estimate = proportion(0, 0)
    assert not estimate.defined and estimate.n == 0 and "no observations" in estimate.note


@pytest.mark.parametrize(
    ("successes", "n"), [(-1, 5), (6, 5), (2.5, 5), (math.nan, 5), (1, math.inf), (True, 5), ("3", 5)]
)
def test_bad_counts_are_refused(successes, n):
    with pytest.raises(ValueError):
        proportion(successes, n)


def test_numpy_counts_are_counts():
    assert proportion(np.int64(3), np.int32(4)).value == 0.75


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="Clopper-Pearson"):
        proportion(1, 2, "Wald")


def test_unanimous_bound_of_successes_is_the_clopper_pearson_limit():
    low, high = unanimous_bounds(1.0, 250, 0.0, 1.0)
    assert (low, high) == pytest.approx((proportion(250, 250).low, 1.0))


def test_unanimous_bound_covers_the_whole_range_without_draws():
    assert unanimous_bounds(0.3, 0, -1.0, 4.0) == (-1.0, 4.0)
