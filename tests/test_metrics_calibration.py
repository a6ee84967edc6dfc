"""Reliability, Brier score and temperature: against scikit-learn, and on probabilities whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax

from helpers.metrics.classification import fit_temperature, reliability, rescale_scores
from helpers.metrics.estimate import proportion

CLASSES = ("NORMAL", "BACTERIA", "VIRUS")


def honest(n=4000, seed=0, sharpen=1.0):
    """Truths drawn from their probabilities, and the predicted probabilities: their logits times `sharpen`."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, n)
    return rng.random(n) < expit(logit), expit(sharpen * logit)


def three_classes(n=3000, seed=0, sharpen=1.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.2, (n, 3))
    drawn = (softmax(logits, axis=1).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return softmax(sharpen * logits, axis=1), np.array(CLASSES, dtype=object)[drawn]


def test_bins_hold_equal_numbers_and_have_exact_intervals():
    truth, predicted = honest(1000)
    table = reliability(truth, predicted, 5)
    assert set(table["n"]) == {200}
    first, inside = table.iloc[0], predicted < np.quantile(predicted, 0.2)
    exact = proportion(int(truth[inside].sum()), 200)
    assert (first["observed"], first["low"], first["high"]) == (exact.value, exact.low, exact.high)
    assert first["predicted"] == pytest.approx(predicted[inside].mean())
    assert ((table["low"] <= table["predicted"]) & (table["predicted"] <= table["high"])).mean() > 0.7


def test_a_probability_on_an_edge_is_in_the_bin_that_begins_there():
    tenths = np.arange(11) / 10
    table = reliability(np.zeros(110, bool), np.repeat(tenths, 10), 11)
    assert len(table) >= 10
    for _, row in table.iloc[:-1].iterrows():
        inside = (tenths >= row["from"]) & (tenths < row["to"])
        assert row["n"] == 10 * inside.sum() and row["predicted"] == pytest.approx(tenths[inside].mean())


@pytest.mark.parametrize("sharpen", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_was_sharpened(sharpen):
    predicted, labels = three_classes(20_000, sharpen=sharpen)
    found = fit_temperature(predicted, labels, CLASSES)
    assert found == pytest.approx(sharpen, rel=0.06)
    frame = pd.DataFrame(predicted, columns=[f"p_{name}" for name in CLASSES])
    cooled = rescale_scores(frame, CLASSES, found).to_numpy()
    assert np.array_equal(cooled.argmax(axis=1), predicted.argmax(axis=1)) and cooled.sum(axis=1) == pytest.approx(1)
    chosen = cooled[np.arange(len(labels)), [CLASSES.index(name) for name in labels]]
    before = predicted[np.arange(len(labels)), [CLASSES.index(name) for name in labels]]
    assert np.log(chosen).mean() >= np.log(before).mean() - 1e-9
