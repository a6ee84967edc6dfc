"""The paper's pooled comparisons and the same by parent; the Youden curve and the paper's cut-off."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers.metrics.proportions import proportion
from helpers.metrics.youden import published_cutoff, youden, youden_curve
from helpers.rajkomar.chi_squared import clustered_accuracy, clustered_comparison, compare_pools, pooled_chi_squared

AUGMENTED, ORIGINAL = 39_856, 376  # validation images


def pooled(share_a, n_a, share_b, n_b):
    return pooled_chi_squared(round(share_a * n_a), n_a, round(share_b * n_b), n_b)


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


def test_the_final_models_interval_is_the_texts():
    found = proportion(round(0.9973 * AUGMENTED), AUGMENTED)
    assert (100 * found.low, 100 * found.high) == pytest.approx((99.67, 99.78), abs=0.006)


def test_the_statistic_is_the_square_of_the_z_test_of_two_proportions():
    from statsmodels.stats.proportion import proportions_ztest

    z, p = proportions_ztest([45, 61], [80, 90])
    found = pooled_chi_squared(45, 80, 61, 90)
    assert (found.statistic, found.p) == pytest.approx((z**2, p))
    assert (found.a, found.b) == (proportion(45, 80), proportion(61, 90))


def test_pools_that_say_the_same_differ_by_nothing_and_empty_ones_cannot_be_tested():
    alike = pooled_chi_squared(50, 50, 70, 70)
    assert (alike.statistic, alike.p, alike.difference.value) == (0, 1, 0) and alike.difference.low < 0
    empty = pooled_chi_squared(0, 0, 5, 9)
    assert math.isnan(empty.p) and not empty.difference.defined and not empty.a.defined


def family(rng, parents, children, share, spread):
    """Right answers of children whose parents differ: the share right varies from parent to parent."""
    ease = np.clip(rng.normal(share, spread, parents), 0, 1)
    return (rng.random((parents, children)) < ease[:, None]).ravel(), np.repeat(np.arange(parents), children)


def test_children_of_one_parent_are_not_independent_images():
    rng = np.random.default_rng(0)
    a, parents = family(rng, 60, 50, 0.8, 0.25)
    b, others = family(rng, 60, 50, 0.8, 0.25)
    found = clustered_comparison(a, parents, b, others + 100)
    paper = pooled_chi_squared(int(a.sum()), len(a), int(b.sum()), len(b))
    assert found.difference.value == pytest.approx(paper.difference.value)
    assert found.design_effect > 5 and found.p > paper.p
    assert found.difference.high - found.difference.low > 2 * (paper.difference.high - paper.difference.low)
    assert found.parents == 120


def test_with_one_image_a_parent_both_ways_agree():
    rng = np.random.default_rng(1)
    a, b = rng.random(900) < 0.8, rng.random(900) < 0.75
    found = clustered_comparison(a, np.arange(900), b, np.arange(900, 1800))
    paper = pooled_chi_squared(int(a.sum()), 900, int(b.sum()), 900)
    assert found.design_effect == pytest.approx(1, abs=0.01) and found.p == pytest.approx(paper.p, rel=0.1)
    ends = found.difference.low, found.difference.high
    assert ends == pytest.approx((paper.difference.low, paper.difference.high), abs=0.003)
    alone = clustered_accuracy(a, np.arange(900))
    exact = proportion(int(a.sum()), 900)
    assert (alone.low, alone.high) == pytest.approx((exact.low, exact.high), abs=0.004)


def test_pools_on_the_same_parents_are_compared_in_pairs():
    rng = np.random.default_rng(2)
    a, parents = family(rng, 80, 30, 0.8, 0.3)
    b = a & (rng.random(len(a)) < 0.97)  # the same faults and a few more
    paired = clustered_comparison(a, parents, b, parents)
    apart = clustered_comparison(a, parents, b, parents + 1000)
    assert paired.parents == 80 and apart.parents == 160
    assert paired.difference.high - paired.difference.low < apart.difference.high - apart.difference.low
    assert paired.p < 0.001 < apart.p


def test_it_agrees_with_the_bootstrap_by_parent():
    from helpers.metrics.bootstrap import by_patient

    rng = np.random.default_rng(3)
    a, parents = family(rng, 70, 20, 0.85, 0.15)
    b, _ = family(rng, 70, 20, 0.8, 0.15)
    ours = clustered_comparison(a, parents, b, parents).difference
    theirs = by_patient(lambda x, y: x.mean() - y.mean(), parents, 2000, 1, a, b)
    assert (ours.value, ours.low, ours.high) == pytest.approx((theirs.value, theirs.low, theirs.high), abs=0.008)


def test_perfect_pools_are_bounded_by_the_number_of_parents():
    every, parents = np.ones(60, bool), np.repeat(np.arange(20), 3)
    found = clustered_comparison(every, parents, every, parents)
    assert (found.difference.value, found.p, found.a.value) == (0, 1, 1)
    assert found.a.low == pytest.approx(proportion(20, 20).low) and found.a.n == 60


def test_one_parent_is_not_enough():
    found = clustered_comparison([True, False], ["x", "x"], [True], ["x"])
    assert not found.difference.defined and math.isnan(found.p)
    assert not clustered_accuracy([True, False], ["x", "x"]).defined


def test_pools_of_models_are_put_together_and_tested_both_ways():
    rng = np.random.default_rng(5)
    results = {}
    for share, model in ((0.9, "grey, last"), (0.95, "grey, all"), (0.7, "colour, last")):
        right, parents = family(rng, 40, 10, share, 0.1)
        results[model] = pd.DataFrame({"correct": right, "parent": parents, "patient_id": parents // 2})
    grey, colour = ["grey, last", "grey, all"], ["colour, last"]
    paper, by_parent = compare_pools(results, grey, colour)
    assert (paper.a.n, paper.b.n, by_parent.parents) == (800, 400, 40)
    assert paper.a.value == by_parent.a.value == pytest.approx(np.mean([results[m]["correct"].mean() for m in grey]))
    assert compare_pools(results, grey, colour, by="patient_id")[1].parents == 20
    with pytest.raises(ValueError, match="pool b"):
        compare_pools(results, grey, [])
    with pytest.raises(KeyError):
        compare_pools(results, grey, ["subset grey"])


def test_two_equal_models_seldom_differ_by_parent_and_often_by_image():
    rng, paper, ours = np.random.default_rng(6), 0, 0
    for _ in range(60):
        ease = np.where(rng.random(100) < 0.1, 0.5, 0.99)
        parents = np.repeat(np.arange(100), 40)
        models = [
            (rng.random((100, 40)) < np.clip(ease + rng.normal(0, 0.2, 100) * (ease < 0.9), 0, 1)[:, None]).ravel()
            for _ in range(2)
        ]
        paper += pooled_chi_squared(int(models[0].sum()), 4000, int(models[1].sum()), 4000).p < 0.05
        ours += clustered_comparison(models[0], parents, models[1], parents).p < 0.05
    assert paper > 15 and ours < 9


def test_when_the_classes_are_apart_the_cutoff_is_the_higher_end_as_in_the_paper():
    score = np.array([0.0, 0.02, 0.1428, 0.9961, 0.999, 1.0])
    truth = score > 0.5
    found = published_cutoff(truth, score)
    assert (found.low, found.high, found.cutoff, found.index) == pytest.approx((0.143, 0.996, 0.996, 1))
    assert (found.largest_negative, found.smallest_positive, found.gapless) == (0.1428, 0.9961, True)


def test_the_curve_has_a_point_every_tenth_of_a_per_cent_and_ends_at_zero():
    rng = np.random.default_rng(4)
    truth = rng.random(300) < 0.5
    score = np.clip(rng.normal(0.35 + 0.3 * truth, 0.2), 0, 1)
    curve = youden_curve(truth, score)
    assert len(curve) == 1001 and curve["cutoff"].iloc[[0, 1, -1]].tolist() == [0, 0.001, 1]
    assert curve["index"].iloc[0] == 0 and curve["sensitivity"].iloc[0] == 1 and curve["specificity"].iloc[0] == 0
    for cutoff in (0.25, 0.5, 0.613):
        row = curve[np.isclose(curve["cutoff"], cutoff)].iloc[0]
        assert row["sensitivity"] == pytest.approx((score[truth] >= cutoff).mean())
        assert row["specificity"] == pytest.approx((score[~truth] < cutoff).mean())
    best = youden(truth, score)
    found = published_cutoff(truth, score)
    assert found.index <= best.index.value + 1e-12 and found.index == pytest.approx(best.index.value, abs=0.02)


def test_equal_maxima_with_worse_between_them_are_told():
    truth, score = [False, True, False, True], [0.1, 0.4, 0.6, 0.9]
    found = published_cutoff(truth, score)
    assert found.index == 0.5 and not found.gapless and found.cutoff == found.high == 0.9


def test_one_class_gives_no_cutoff_and_scores_must_be_probabilities():
    found = published_cutoff([True, True], [0.2, 0.4])
    assert math.isnan(found.cutoff) and youden_curve([True], [0.2])["index"].isna().all()
    with pytest.raises(ValueError, match="0 to 1"):
        youden_curve([True, False], [0.2, 40.0])
