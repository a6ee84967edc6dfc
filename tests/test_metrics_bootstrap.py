"""Bootstrap by patient: against scipy, against drawing patients one by one, and where the data show no spread."""

import numpy as np
import pytest

from helpers.metrics import bootstrap
from helpers.metrics.estimate import proportion


def sample(seed=0, n=240, patients=90):
    rng = np.random.default_rng(seed)
    who = rng.integers(patients, size=n)
    truth = rng.random(n) < 0.4
    score = np.round(rng.normal(size=n) + 1.5 * truth + rng.normal(size=patients)[who], 1)
    return truth, score, np.array([f"patient {i}" for i in who])


def limits(estimate):
    return estimate.low, estimate.high


def test_one_image_per_patient_agrees_with_scipys_percentile_bootstrap():
    from scipy import stats

    values = np.random.default_rng(1).exponential(size=150)
    ours = bootstrap.mean_by_patient(values, np.arange(150), 5000, seed=1)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=2).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert limits(ours) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_resamples_are_those_of_patients_drawn_one_by_one():
    from sklearn.metrics import roc_auc_score

    truth, score, patients = sample()
    weights = bootstrap.patient_weights(patients, 100, 3)
    rows = [np.repeat(np.arange(len(truth)), row) for row in weights]
    areas = np.array([roc_auc_score(truth[row], score[row]) for row in rows])
    np.testing.assert_allclose(bootstrap.resampled_aurocs(weights, truth, score), areas)
    fast = bootstrap.auroc_by_patient(truth, score, patients, 100, 3)
    assert limits(fast) == pytest.approx(tuple(np.percentile(areas, [2.5, 97.5])))
    ratios = [score[row].sum() / truth[row].sum() for row in rows]
    found = bootstrap.ratio_by_patient(score, truth, patients, 100, 3)
    expected = score.sum() / truth.sum(), *np.percentile(ratios, [2.5, 97.5])
    assert (found.value, *limits(found)) == pytest.approx(expected)


def test_an_estimate_needs_half_of_its_resamples_and_always_holds_its_value():
    lost = bootstrap.percentile_estimate(0.5, np.array([np.nan] * 60 + [0.5] * 40), 10)
    assert not lost.defined and lost.note == "60 of 100 resamples undefined"
    biased = bootstrap.percentile_estimate(50.0, np.linspace(30, 40, 100), 10)
    assert biased.high == biased.value == 50 and "widened" in biased.note


def test_the_seed_decides_and_the_order_of_rows_does_not():
    truth, score, patients = sample(4)
    shuffled = np.random.default_rng(0).permutation(len(truth))
    one = bootstrap.auroc_by_patient(truth, score, patients, 300, 1)
    assert bootstrap.auroc_by_patient(truth[shuffled], score[shuffled], patients[shuffled], 300, 1) == one
    assert bootstrap.auroc_by_patient(truth, score, patients, 300, 2) != one


def test_resamples_without_a_class_are_counted_in_the_note():
    truth = [True, False, False, False, False, False]
    estimate = bootstrap.auroc_by_patient(truth, [0.5, 0.1, 0.6, 0.2, 0.3, 0.4], list("abcdef"), 1000, 1)
    missed = int(estimate.note.split()[0])  # (5/6)^6 = 33 % of resamples lack the one positive
    assert "of 1000 resamples undefined" in estimate.note and 280 <= missed <= 390


def test_it_is_undefined_for_one_patient_for_one_class_and_for_nothing():
    assert "two patients" in bootstrap.mean_by_patient([0.0, 1.0], ["a", "a"], 200, 1).note
    assert bootstrap.auroc_by_patient([1, 1], [0.1, 0.2], ["a", "b"], 200, 1).note == "no negatives"
    assert bootstrap.accuracy_by_patient([], [], [], 200, 1).note == "no observations"


def test_perfect_accuracy_is_bounded_by_the_number_of_patients():
    estimate = bootstrap.accuracy_by_patient(["CNV"] * 60, ["CNV"] * 60, np.arange(60) // 2, 200, 1)
    assert (estimate.value, estimate.high) == (1, 1)
    assert estimate.low == pytest.approx(proportion(30, 30).low)


def test_perfect_separation_is_bounded_by_the_number_of_patient_pairs():
    truth = np.repeat([True, False], 20)
    apart = bootstrap.auroc_by_patient(
        truth, truth.astype(float), np.arange(40) // 2, 200, 1
    )  # 10 patients of each class
    assert apart.value == 1 and apart.low == pytest.approx(0.025 ** (1 / 10))
    mixed = bootstrap.auroc_by_patient(truth, truth.astype(float), np.arange(40) % 20, 200, 1)  # 20, each with both
    assert mixed.low == pytest.approx(0.025 ** (1 / 10))
