"""Bootstrap by patient: against scipy, against the slow way, and where the data leave it nothing to say."""

import time

import numpy as np
import pytest

from helpers.metrics.auroc import auroc
from helpers.metrics.bootstrap import accuracy_by_patient, auroc_by_patient, by_patient, mean_by_patient
from helpers.metrics.proportions import proportion


def sample(seed=0, n=240, patients=90):
    rng = np.random.default_rng(seed)
    who = rng.integers(patients, size=n)
    truth = rng.random(n) < 0.4
    score = np.round(rng.normal(size=n) + 1.5 * truth + rng.normal(size=patients)[who], 1)
    return truth, score, np.array([f"patient {i}" for i in who])


def limits(estimate):
    return estimate.low, estimate.high


def test_one_image_a_patient_agrees_with_scipys_percentile_bootstrap():
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).exponential(size=150)
    ours = mean_by_patient(values, np.arange(150), 5000, seed=1)
    theirs = bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=2).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert limits(ours) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_fast_paths_equal_the_general_way_resample_by_resample():
    from sklearn.metrics import roc_auc_score

    truth, score, patients = sample()
    slow = by_patient(roc_auc_score, patients, 100, 3, truth, score)
    fast = auroc_by_patient(truth, score, patients, 100, 3)
    assert (fast.value, *limits(fast)) == pytest.approx((slow.value, *limits(slow)), abs=1e-12)
    slow = by_patient(np.mean, patients, 200, 3, score)
    fast = mean_by_patient(score, patients, 200, 3)
    assert (fast.value, *limits(fast)) == pytest.approx((slow.value, *limits(slow)), abs=1e-12)


def test_copies_of_an_image_in_one_patient_are_no_new_evidence():
    truth, score, _ = sample(2)
    patients = np.arange(len(truth))
    once = auroc_by_patient(truth, score, patients, 500, 1)
    fourfold = auroc_by_patient(np.repeat(truth, 4), np.repeat(score, 4), np.repeat(patients, 4), 500, 1)
    assert limits(fourfold) == pytest.approx(limits(once)) and fourfold.n == 4 * once.n
    naive = auroc_by_patient(np.repeat(truth, 4), np.repeat(score, 4), np.arange(4 * len(truth)), 500, 1)
    assert naive.high - naive.low < 0.7 * (once.high - once.low)


def test_with_one_image_a_patient_the_width_is_about_delongs():
    truth, score, _ = sample(3, n=400)
    boot, delong = auroc_by_patient(truth, score, np.arange(400), 2000, 1), auroc(truth, score)
    assert boot.high - boot.low == pytest.approx(delong.high - delong.low, rel=0.1)


def test_the_seed_decides_and_the_order_of_rows_does_not():
    truth, score, patients = sample(4)
    shuffled = np.random.default_rng(0).permutation(len(truth))
    one = auroc_by_patient(truth, score, patients, 300, 1)
    assert auroc_by_patient(truth[shuffled], score[shuffled], patients[shuffled], 300, 1) == one
    assert auroc_by_patient(truth, score, patients, 300, 2) != one


def test_memory_blocks_do_not_change_the_result(monkeypatch):
    truth, score, patients = sample(5)
    one = auroc_by_patient(truth, score, patients, 300, 1)
    monkeypatch.setattr("helpers.metrics.bootstrap.BLOCK", 5000)
    assert auroc_by_patient(truth, score, patients, 300, 1) == one


def test_resamples_without_a_class_are_counted_in_the_note():
    truth = [True, False, False, False, False, False]
    estimate = auroc_by_patient(truth, [0.5, 0.1, 0.6, 0.2, 0.3, 0.4], list("abcdef"), 1000, 1)
    missed = int(estimate.note.split()[0])  # (5/6)^6 = 33 % of resamples lack the one positive
    assert "of 1000 resamples undefined" in estimate.note and 280 <= missed <= 390


def test_it_is_undefined_where_most_resamples_are():
    estimate = by_patient(lambda x: x.mean() if len(set(x)) == 4 else np.nan, range(4), 400, 1, range(4))
    assert not estimate.defined and "resamples undefined" in estimate.note


def test_it_is_undefined_for_one_patient_for_one_class_and_for_nothing():
    assert "two patients" in mean_by_patient([0.0, 1.0], ["a", "a"], 200, 1).note
    assert auroc_by_patient([1, 1], [0.1, 0.2], ["a", "b"], 200, 1).note == "no negatives"
    assert accuracy_by_patient([], [], [], 200, 1).note == "no observations"
    assert by_patient(np.mean, [], 200, 1, []).note == "no observations"


def test_perfect_accuracy_is_bounded_by_the_number_of_patients():
    estimate = accuracy_by_patient(["CNV"] * 60, ["CNV"] * 60, np.arange(60) // 2, 200, 1)
    assert (estimate.value, estimate.high) == (1, 1)
    assert estimate.low == pytest.approx(proportion(30, 30).low)


def test_perfect_separation_is_bounded_by_the_number_of_patient_pairs():
    truth = np.repeat([True, False], 20)
    apart = auroc_by_patient(truth, truth.astype(float), np.arange(40) // 2, 200, 1)  # 10 patients of each class
    assert apart.value == 1 and apart.low == pytest.approx(0.025 ** (1 / 10))
    mixed = auroc_by_patient(truth, truth.astype(float), np.arange(40) % 20, 200, 1)  # 20, each with both
    assert mixed.low == pytest.approx(0.025 ** (1 / 10))


def test_accuracy_by_patient_has_the_accuracy_as_its_value():
    estimate = accuracy_by_patient(list("AABB"), list("ABBB"), [1, 2, 3, 4], 200, 1)
    assert estimate.value == 0.75 and 0 <= estimate.low <= 0.75 <= estimate.high <= 1


def test_a_statistic_may_return_an_estimate():
    truth, score, patients = sample(6)
    assert by_patient(auroc, patients, 100, 1, truth, score).value == auroc(truth, score).value


def test_a_biased_statistic_still_lies_in_its_interval():
    estimate = by_patient(lambda x: len(set(x)), range(50), 200, 1, range(50))  # resamples always hold fewer
    assert estimate.high == estimate.value == 50 and "widened" in estimate.note


@pytest.mark.parametrize(
    ("values", "patients", "told"),
    [
        ([1.0, np.nan], ["a", "b"], "values: 1 of 2"),
        ([1.0, 2.0], ["a", None], "patients: 1 of 2"),
        ([1.0], ["a", "b"], "lengths differ"),
        ([1.0, np.inf], ["a", "b"], "finite"),
    ],
)
def test_bad_input_is_refused(values, patients, told):
    with pytest.raises(ValueError, match=told):
        mean_by_patient(values, patients, 200, 1)


def test_too_few_resamples_are_refused():
    with pytest.raises(ValueError, match="100 or more"):
        mean_by_patient([1.0, 2.0], ["a", "b"], 20, 1)


def test_two_thousand_resamples_of_a_thousand_images_take_under_five_seconds():
    truth, score, patients = sample(7, n=1000, patients=633)
    start = time.perf_counter()
    auroc_by_patient(truth, score, patients, 2000, 1)
    assert time.perf_counter() - start < 5
