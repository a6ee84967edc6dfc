"""McNemar's test, and pooled accuracies with and without clusters: against published examples and other packages."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from helpers.metrics.by_patient import mean_by_patient
from helpers.metrics.comparison import compare_clustered, compare_pooled, holm, mcnemar
from helpers.metrics.estimate import proportion


def pairs(both, only_a, only_b, neither):
    counts = [both, only_a, only_b, neither]
    return np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)


@pytest.mark.parametrize(
    ("counts", "p", "low", "high"),
    [
        # Armitage and Berry 1994, p. 127; exact p and Newcombe's interval as StatsDirect's help prints them
        ((20, 12, 2, 16), 0.0129, 0.056156, 0.329207),
        # Bentur and others, in Fagerland, Lydersen and Laake 2014 (Statistics in Medicine 33:2850)
        ((1, 1, 7, 12), 0.0703, -0.507, -0.026),
    ],
)
def test_mcnemar_and_newcombes_interval_of_published_examples(counts, p, low, high):
    found = mcnemar(*pairs(*counts))
    assert (found.both, found.only_a, found.only_b, found.neither) == counts
    assert found.p == pytest.approx(p, abs=5e-5)
    assert found.p == pytest.approx(binomtest(counts[1], sum(counts[1:3])).pvalue)
    assert found.difference.value == (counts[1] - counts[2]) / sum(counts)
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high), abs=5e-4)


def test_without_images_p_is_nan_and_the_difference_undefined():
    assert math.isnan(mcnemar([], []).p) and not mcnemar([], []).difference.defined


# --- pooled accuracies ------------------------------------------------------------------------------------------------

AUGMENTED, ORIGINAL = 39_856, 376  # validation images


def pooled(share_a, n_a, share_b, n_b):
    return compare_pooled(round(share_a * n_a), n_a, round(share_b * n_b), n_b)


@pytest.mark.parametrize(
    ("share_a", "n_a", "share_b", "n_b", "below"),
    [
        (0.995, 2 * (2 * AUGMENTED + ORIGINAL), 0.932, 2 * AUGMENTED + ORIGINAL, 0.001),  # grey against colour
        (0.996, 2 * AUGMENTED + ORIGINAL, 0.993, 2 * AUGMENTED + ORIGINAL, 0.001),  # full against subset
        (0.952, 3 * AUGMENTED, 0.934, 3 * ORIGINAL, 0.01),  # augmented against not
        (0.996, 3 * AUGMENTED, 0.952, 3 * AUGMENTED, 0.001),  # all layers against the last
        (0.997, 2 * AUGMENTED, 0.992, 2 * AUGMENTED, 0.001),  # the same, grey models only
    ],
)
def test_the_texts_comparisons_have_the_texts_p(share_a, n_a, share_b, n_b, below):
    found = pooled(share_a, n_a, share_b, n_b)
    assert found.p < below and found.difference.low > 0
    if below == 0.01:
        assert found.p > 0.001  # the text says < 0.01 there, and < 0.001 elsewhere


def test_the_chi_squared_test_is_the_z_test_of_two_proportions():
    from statsmodels.stats.proportion import proportions_ztest

    _, p = proportions_ztest([45, 61], [80, 90])
    found = compare_pooled(45, 80, 61, 90)
    assert found.p == pytest.approx(p)
    assert (found.a, found.b) == (proportion(45, 80), proportion(61, 90))


def family(rng, parents, children, share, spread):
    """Right answers of children whose parents differ: the share right varies from parent to parent."""
    ease = np.clip(rng.normal(share, spread, parents), 0, 1)
    return (rng.random((parents, children)) < ease[:, None]).ravel(), np.repeat(np.arange(parents), children)


def test_with_one_image_per_parent_both_ways_agree():
    rng = np.random.default_rng(1)
    a, b = rng.random(900) < 0.8, rng.random(900) < 0.75
    found = compare_clustered(a, np.arange(900), b, np.arange(900, 1800))
    paper = compare_pooled(int(a.sum()), 900, int(b.sum()), 900)
    assert found.design_effect == pytest.approx(1, abs=0.01) and found.p == pytest.approx(paper.p, rel=0.1)
    ends = found.difference.low, found.difference.high
    assert ends == pytest.approx((paper.difference.low, paper.difference.high), abs=0.003)
    alone = mean_by_patient(a, np.arange(900), (0, 1))
    exact = proportion(int(a.sum()), 900)
    assert (alone.low, alone.high) == pytest.approx((exact.low, exact.high), abs=0.004)


def test_on_the_same_images_it_is_the_t_test_of_the_differences_by_parent():
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(3)
    a, parents = family(rng, 70, 20, 0.85, 0.15)
    b, _ = family(rng, 70, 20, 0.8, 0.15)
    ours = compare_clustered(a, parents, b, parents)
    theirs = ttest_1samp((a.astype(float) - b).reshape(70, 20).mean(axis=1), 0)
    low, high = theirs.confidence_interval()
    assert (ours.difference.low, ours.difference.high, ours.p) == pytest.approx((low, high, theirs.pvalue))


def test_perfect_pools_are_bounded_by_the_number_of_parents():
    every, parents = np.ones(60, bool), np.repeat(np.arange(20), 3)
    found = compare_clustered(every, parents, every, parents)
    assert (found.difference.value, found.p, found.a.value) == (0, 1, 1)
    assert found.a.low == pytest.approx(proportion(20, 20).low) and found.a.n == 60
    assert found.difference.low == pytest.approx(-(1 - 0.025 ** (1 / 20)))
    apart = compare_clustered(every, parents, ~every, parents)
    assert apart.difference.value == 1 and 0.7 < apart.difference.low < 1 and 0 < apart.p < 1e-6


def test_holms_correction_is_that_of_a_family_and_leaves_out_what_was_not_tested():
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04, 0.03]), [0.03, np.nan, 0.06, 0.06])
    assert np.isnan(holm([np.nan])).all() and len(holm([])) == 0
