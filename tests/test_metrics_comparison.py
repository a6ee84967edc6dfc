"""McNemar's test, likelihood ratios, weighted error, Youden's index: against published examples and other packages."""

import math

import numpy as np
import pandas as pd
import pytest

from helpers.kermany.likelihood import likelihood_ratios
from helpers.kermany.weighted import KERMANY_PENALTIES, weighted_error
from helpers.metrics.comparison import mcnemar, paired_difference
from helpers.metrics.proportions import proportion
from helpers.metrics.youden import youden

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")


def pairs(both, only_a, only_b, neither):
    counts = [both, only_a, only_b, neither]
    return np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)


def table(true_positives, false_positives, false_negatives, true_negatives):
    counts = [true_positives, false_positives, false_negatives, true_negatives]
    return np.repeat([1, 0, 1, 0], counts), np.repeat([1, 1, 0, 0], counts)


class TestMcNemar:
    def test_two_culture_media_of_armitage_and_berry(self):
        # Armitage and Berry 1994, p. 127; exact p and Newcombe's interval as StatsDirect's help prints them
        found = mcnemar(*pairs(20, 12, 2, 16))
        assert (found.both, found.only_a, found.only_b, found.neither) == (20, 12, 2, 16)
        assert found.p == pytest.approx(0.0129, abs=5e-5)
        limits = (found.difference.value, found.difference.low, found.difference.high)
        assert limits == pytest.approx((0.2, 0.056156, 0.329207), abs=1e-6)

    def test_airway_reactivity_of_bentur(self):
        # Fagerland, Lydersen and Laake 2014 (Statistics in Medicine 33:2850)
        found = mcnemar(*pairs(1, 1, 7, 12))
        assert found.p == pytest.approx(0.0703, abs=5e-5)
        assert (found.difference.low, found.difference.high) == pytest.approx((-0.507, -0.026), abs=5e-4)

    def test_p_is_the_sign_test_of_the_discordant_images(self):
        from scipy.stats import binomtest

        assert mcnemar(*pairs(500, 9, 21, 30)).p == pytest.approx(binomtest(9, 30).pvalue)

    def test_no_disagreement_is_p_one_and_a_difference_of_nothing(self):
        found = mcnemar(*pairs(40, 0, 0, 3))
        assert found.p == 1 and found.difference.value == 0
        assert found.difference.low < 0 < found.difference.high

    def test_always_right_against_always_wrong(self):
        found = mcnemar(*pairs(0, 10, 0, 0))
        assert found.difference.value == found.difference.high == 1 and found.p == pytest.approx(2 * 0.5**10)

    def test_swapping_the_two_swaps_the_sign(self):
        one, other = paired_difference(30, 9, 2, 5), paired_difference(30, 2, 9, 5)
        assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))

    def test_without_images_p_is_nan_and_the_difference_undefined(self):
        found = mcnemar([], [])
        assert math.isnan(found.p) and not found.difference.defined

    def test_unequal_lengths_are_refused(self):
        with pytest.raises(ValueError, match="correct_a has 2, correct_b has 1"):
            mcnemar([1, 0], [1])


class TestLikelihoodRatios:
    def test_scotts_example(self):
        # Scott and others 2008, table 1, as epiR's help for epi.tests prints it
        found = likelihood_ratios(*table(670, 202, 74, 640))["positive"]
        assert (found.value, found.low, found.high) == pytest.approx((3.75, 3.32, 4.24), abs=5e-3)
        assert found.n == 1586

    def test_both_agree_with_statsmodels_ratio_of_two_proportions(self):
        from statsmodels.stats.contingency_tables import Table2x2

        tp, fp, fn, tn = 240, 7, 10, 243
        found = likelihood_ratios(*table(tp, fp, fn, tn))
        for name, counts in (("positive", [[tp, fn], [fp, tn]]), ("negative", [[fn, tp], [tn, fp]])):
            expected = Table2x2(np.array(counts))
            assert found[name].value == pytest.approx(expected.riskratio)
            assert (found[name].low, found[name].high) == pytest.approx(expected.riskratio_confint())

    def test_no_false_positives_is_infinite_with_a_finite_lower_bound(self):
        found = likelihood_ratios(*table(240, 0, 10, 250))["positive"]
        assert found.value == found.high == math.inf
        assert found.low == pytest.approx(proportion(240, 250).low / proportion(0, 250).high)
        assert "count is 0" in found.note

    def test_no_false_negatives_is_zero_with_an_upper_bound(self):
        found = likelihood_ratios(*table(250, 5, 0, 245))["negative"]
        assert found.value == found.low == 0
        assert found.high == pytest.approx(proportion(0, 250).high / proportion(245, 250).low)

    def test_bounds_at_zero_hold_against_the_score_interval_of_statsmodels(self):
        from statsmodels.stats.proportion import confint_proportions_2indep

        with np.errstate(divide="ignore"):
            score_low, _ = confint_proportions_2indep(240, 250, 0, 250, "score", "ratio")
        assert likelihood_ratios(*table(240, 0, 10, 250))["positive"].low == pytest.approx(score_low, rel=0.05)

    def test_calling_everyone_positive_tells_nothing(self):
        found = likelihood_ratios(*table(30, 20, 0, 0))
        assert found["positive"].value == 1 and found["positive"].low < 1 < found["positive"].high
        assert not found["negative"].defined and "nothing was called negative" in found["negative"].note

    @pytest.mark.parametrize(("truth", "why"), [([], "no observations"), ([1], "no negatives"), ([0], "no positives")])
    def test_without_both_classes_both_are_undefined(self, truth, why):
        for estimate in likelihood_ratios(truth, truth).values():
            assert not estimate.defined and estimate.note == why


class TestWeightedError:
    def test_penalties_are_those_of_figure_s4(self):
        urgent = KERMANY_PENALTIES.loc[["CNV", "DME"]]
        assert (urgent["NORMAL"] == 4).all() and (urgent["DRUSEN"] == 2).all()
        rest = KERMANY_PENALTIES.loc[["NORMAL", "DRUSEN"]].to_numpy().tolist()
        assert rest == [[0, 1, 1, 1], [1, 0, 1, 1]]
        assert KERMANY_PENALTIES.loc["CNV", "DME"] == KERMANY_PENALTIES.loc["DME", "CNV"] == 1

    def test_the_error_is_the_mean_penalty_an_image(self):
        labels = ["CNV", "DME", "NORMAL", "CNV", "DRUSEN"] + ["NORMAL"] * 95
        predicted = ["NORMAL", "DRUSEN", "CNV", "DME", "DRUSEN"] + ["NORMAL"] * 95
        estimate = weighted_error(labels, predicted, CLASSES, resamples=200)
        assert estimate.value == pytest.approx((4 + 2 + 1 + 1) / 100)  # printed as 8.0 %
        assert estimate.low < estimate.value < estimate.high and estimate.n == 100

    def test_rows_are_true_and_columns_predicted(self):
        missed = weighted_error(["CNV"] * 4, ["NORMAL"] * 4, CLASSES, resamples=200)
        alarm = weighted_error(["NORMAL"] * 4, ["CNV"] * 4, CLASSES, resamples=200)
        assert (missed.value, alarm.value) == (4, 1)

    def test_the_interval_agrees_with_scipys_bootstrap(self):
        from scipy.stats import bootstrap

        rng = np.random.default_rng(0)
        labels = rng.choice(CLASSES, 400)
        predicted = np.where(rng.random(400) < 0.9, labels, rng.choice(CLASSES, 400))
        costs = [KERMANY_PENALTIES.loc[t, p] for t, p in zip(labels, predicted, strict=True)]
        expected = bootstrap((costs,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
        estimate = weighted_error(labels, predicted, CLASSES, resamples=4000)
        assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high), abs=0.01)

    def test_patients_with_many_images_widen_the_interval(self):
        labels = np.array(["CNV", "NORMAL"] * 100)
        predicted = np.where(np.arange(200) // 10 % 4 == 0, "DRUSEN", labels)
        alone = weighted_error(labels, predicted, CLASSES, resamples=500)
        together = weighted_error(labels, predicted, CLASSES, patients=np.arange(200) // 10, resamples=500)
        assert together.value == alone.value
        assert together.high - together.low > 1.5 * (alone.high - alone.low)

    def test_no_error_at_all_has_an_upper_bound(self):
        estimate = weighted_error(["CNV"] * 100, ["CNV"] * 100, CLASSES, resamples=200)
        assert estimate.value == estimate.low == 0
        assert estimate.high == pytest.approx(4 * proportion(0, 100).high)

    @pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
    def test_penalties_that_cannot_be_are_refused(self, wrong):
        penalties = KERMANY_PENALTIES.astype(float)
        penalties.loc["CNV", "NORMAL"] = wrong
        with pytest.raises(ValueError, match="penalties"):
            weighted_error(["CNV"], ["CNV"], CLASSES, penalties)

    def test_a_class_without_penalties_is_refused_by_name(self):
        with pytest.raises(ValueError, match="PNEUMONIA"):
            weighted_error(["CNV"], ["CNV"], ("CNV", "PNEUMONIA"))

    def test_nothing_to_judge_is_undefined(self):
        assert not weighted_error([], [], CLASSES).defined


class TestYouden:
    def test_agrees_with_the_best_point_of_scikit_learns_curve(self):
        from sklearn.metrics import roc_curve

        rng = np.random.default_rng(1)
        truth = rng.random(300) < 0.4
        score = np.round(rng.normal(size=300) + 1.2 * truth, 1)
        fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
        found = youden(truth, score)
        assert found.index.value == pytest.approx((tpr - fpr).max())
        called = score >= found.threshold
        assert found.sensitivity.value == pytest.approx(called[truth].mean())
        assert found.specificity.value == pytest.approx((~called)[~truth].mean())
        assert found.index.low < found.index.value < found.index.high and "optimistic" in found.index.note

    def test_interval_is_newcombes_for_two_independent_proportions(self):
        # Newcombe 1998 (Statistics in Medicine 17:873), table II (a): 56/70 less 48/80, method 10
        truth = np.repeat([1, 0], [70, 80])
        score = np.r_[np.repeat([1, 0], [56, 14]), np.repeat([1, 0], [48, 32])]
        found = youden(truth, score).index
        assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)

    def test_of_equal_thresholds_the_most_sensitive_is_taken(self):
        found = youden([1, 0, 1, 0], [4.0, 3.0, 2.0, 1.0])  # 4 and 2 both give an index of one half
        assert found.threshold == 2.0 and found.sensitivity.value == 1

    def test_perfect_separation_has_an_index_of_one_with_a_lower_bound(self):
        found = youden([1] * 20 + [0] * 20, [0.9] * 20 + [0.1] * 20)
        assert found.threshold == 0.9 and found.index.value == found.index.high == 1 and found.index.low < 1

    def test_a_constant_score_has_an_index_of_nothing(self):
        found = youden([1, 1, 0, 0], [0.5] * 4)
        assert found.index.value == 0 and found.threshold == 0.5

    def test_one_class_only_is_undefined(self):
        found = youden([1, 1], [0.1, 0.2])
        assert math.isnan(found.threshold) and not found.index.defined

    def test_nan_is_refused(self):
        with pytest.raises(ValueError, match="missing"):
            youden([1, 0], pd.Series([0.1, None]))
