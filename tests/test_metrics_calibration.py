"""Calibration, temperature, operating points and the cost of referral."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax

from helpers.kermany.operating import (
    DECISIONS,
    PNEUMONIA,
    PNEUMONIA_COSTS,
    cheapest_decisions,
    operating_point,
    referral_costs,
    transferred_point,
)
from helpers.metrics.calibration import (
    apply_temperature,
    brier,
    calibration_line,
    expected_calibration_error,
    reliability,
    rescaled,
    temperature,
)
from helpers.metrics.proportions import proportion


def honest(n=4000, seed=0, sharpen=1.0):
    """Truths drawn from their probabilities, and the probabilities as they are said: their logits times `sharpen`."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, n)
    return rng.random(n) < expit(logit), expit(sharpen * logit)


def three_classes(n=3000, seed=0, sharpen=1.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.2, (n, 3))
    drawn = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return softmax(sharpen * logits, axis=1), np.array(PNEUMONIA, dtype=object)[drawn]


def scores_frame(n=300, seed=0):
    probabilities, labels = three_classes(n, seed)
    frame = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in PNEUMONIA])
    return frame.assign(label=labels, patient_id=[f"p{i // 2}" for i in range(n)])


def test_bins_count_every_image_once_and_have_exact_intervals():
    truth, said = honest(500)
    table = reliability(truth, said)
    assert table["n"].sum() == 500 and len(table) <= 10
    first = table.iloc[0]
    inside = said < 0.1
    exact = proportion(int(truth[inside].sum()), int(inside.sum()))
    assert (first["observed"], first["low"], first["high"], first["n"]) == (exact.value, exact.low, exact.high, exact.n)
    assert first["predicted"] == pytest.approx(said[inside].mean())
    assert (table["low"] <= table["predicted"]).mean() > 0.8 and (table["predicted"] <= table["high"]).mean() > 0.8


def test_bins_of_equal_counts_are_equal_and_ties_do_not_break_them():
    truth, said = honest(1000)
    assert set(reliability(truth, said, 5, equal_counts=True)["n"]) == {200}
    same = reliability([True, False, True], [0.4, 0.4, 0.4], 5, equal_counts=True)
    assert list(same["n"]) == [3] and same["observed"].iloc[0] == pytest.approx(2 / 3)


def test_a_probability_of_one_is_in_the_last_bin():
    table = reliability([True, False], [1.0, 0.0])
    assert list(table["to"]) == pytest.approx([0.1, 1.0]) and list(table["observed"]) == [0, 1]


def test_brier_is_sklearns_and_rests_on_patients():
    from sklearn.metrics import brier_score_loss

    truth, said = honest(400)
    found = brier(truth, said, resamples=200)
    assert found.value == pytest.approx(brier_score_loss(truth, said)) and found.n == 400
    doubled = brier(np.repeat(truth, 2), np.repeat(said, 2), np.repeat(np.arange(400), 2), resamples=200)
    assert (doubled.low, doubled.high) == pytest.approx((found.low, found.high))


def test_calibration_error_is_small_where_probabilities_are_honest_and_large_where_they_are_not():
    truth, said = honest()
    _, extreme = honest(sharpen=4)
    good = expected_calibration_error(truth, said, resamples=100)
    bad = expected_calibration_error(truth, extreme, resamples=100)
    assert good.value < 0.02 and bad.low > 0.08
    by_hand = reliability(truth, extreme)
    gaps = (by_hand["n"] * (by_hand["predicted"] - by_hand["observed"]).abs()).sum() / by_hand["n"].sum()
    assert bad.value == pytest.approx(gaps)


def test_the_calibration_line_finds_how_probabilities_were_bent():
    truth, said = honest(20_000, sharpen=2)
    found = calibration_line(truth, said)
    assert found["slope"].low < 0.5 < found["slope"].high and found["slope"].high - found["slope"].low < 0.05
    truth, said = honest(20_000, seed=1)
    shifted = expit(np.log(said / (1 - said)) + 0.7)  # said too high
    found = calibration_line(truth, shifted)
    assert found["intercept"].low < -0.7 < found["intercept"].high
    assert found["slope"].low < 1 < found["slope"].high


def test_without_a_line_the_reason_is_told():
    assert calibration_line([True, True], [0.2, 0.9])["slope"].note == "no negatives"
    assert "perfectly" in calibration_line([True, True, False, False], [0.9, 0.8, 0.1, 0.2])["slope"].note
    assert "equal" in calibration_line([True, False], [0.5, 0.5])["slope"].note


@pytest.mark.parametrize("sharpen", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_was_sharpened(sharpen):
    said, labels = three_classes(20_000, sharpen=sharpen)
    found = temperature(said, labels, PNEUMONIA)
    assert found.value == pytest.approx(sharpen, rel=0.06) and found.after <= found.before + 1e-9
    cooled = apply_temperature(said, found.value)
    assert np.array_equal(cooled.argmax(axis=1), said.argmax(axis=1)) and cooled.sum(axis=1) == pytest.approx(1)
    chosen = cooled[np.arange(len(labels)), [PNEUMONIA.index(name) for name in labels]]
    assert -np.log(chosen).mean() == pytest.approx(found.after)


def test_a_temperature_of_one_changes_nothing_and_certainty_stays_finite():
    said, _ = three_classes(50)
    assert apply_temperature(said, 1.0) == pytest.approx(said)
    sure = apply_temperature(np.array([[1.0, 0.0]]), 2.0)
    assert np.isfinite(sure).all() and sure[0, 1] > 0


def test_a_scores_frame_keeps_its_other_columns():
    frame = scores_frame(20)
    cooler = rescaled(frame, PNEUMONIA, 3.0)
    assert cooler["label"].equals(frame["label"]) and list(cooler.columns) == list(frame.columns)
    assert cooler["p_VIRUS"].std() < frame["p_VIRUS"].std()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: reliability([True], [1.2]), "0 to 1"),
        (lambda: apply_temperature(np.array([[0.5, 0.2]]), 1.0), "sum to 1"),
        (lambda: apply_temperature(np.array([[0.5, 0.5]]), 0.0), "positive"),
        (lambda: temperature(np.empty((0, 3)), [], PNEUMONIA), "0 images"),
        (lambda: temperature(np.array([[0.5, 0.5]]), ["VIRUS"], PNEUMONIA), "3 classes"),
    ],
)
def test_bad_input_is_refused(call, told):
    with pytest.raises(ValueError, match=told):
        call()


def test_a_threshold_chosen_on_validation_is_judged_on_the_test():
    validation = [False, False, True, True], [0.1, 0.3, 0.6, 0.9]
    found = transferred_point(*validation, [False, False, True, True], [0.2, 0.7, 0.5, 0.8])
    assert (found.threshold, found.chosen_on) == (0.6, "validation")
    assert (found.sensitivity.value, found.specificity.value, found.accuracy.value) == (0.5, 0.5, 0.5)
    assert operating_point([True, False], [0.6, 0.5], 0.6).accuracy.value == 1


def test_costs_cover_the_three_decisions_and_a_missed_bacterial_case_is_dearest():
    assert tuple(PNEUMONIA_COSTS.index) == tuple(PNEUMONIA_COSTS.columns) == tuple(DECISIONS) == PNEUMONIA
    assert PNEUMONIA_COSTS.loc["BACTERIA", "NORMAL"] == PNEUMONIA_COSTS.to_numpy().max()


def test_the_cheapest_decision_is_worked_out_by_hand():
    frame = pd.DataFrame({"p_NORMAL": [0.7, 0.9, 0.1], "p_BACTERIA": [0.3, 0.05, 0.2], "p_VIRUS": [0.0, 0.05, 0.7]})
    # First: observing costs 4 x 0.3, referring 0.7, so the less probable class is the cheaper care.
    assert list(cheapest_decisions(frame)) == ["BACTERIA", "NORMAL", "VIRUS"]


def test_costs_an_image_have_intervals_and_the_cheapest_rule_is_no_dearer_on_honest_probabilities():
    found = referral_costs(scores_frame(2000), resamples=200, seed=1)
    rule, plain = found["least expected cost"], found["most probable class"]
    assert rule.value < plain.value < found["observe all"].value and rule.low < rule.value < rule.high
    frame = scores_frame(2000)
    assert found["refer all urgently"].value == pytest.approx((frame["label"] != "BACTERIA").mean())
    assert not math.isnan(plain.low) and "by patient" in plain.method
