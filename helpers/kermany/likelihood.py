"""Likelihood ratios of a yes/no call (figure S3).

Kermany 2018, figure S3: "The positive likelihood ratio is defined as the true positive rate over the false positive
rate [...] The negative likelihood ratio is defined as the false negative rate over the true negative rate".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helpers.metrics.checks import as_bool, same_length
from helpers.metrics.estimate import Estimate
from helpers.metrics.proportions import Z, proportion

METHOD = "log method (Simel)"


def likelihood_ratios(truth: Any, predicted: Any) -> dict[str, Estimate]:
    """The `positive` and the `negative` likelihood ratio with 95 % intervals; one True or False an image in each input.

    The interval is symmetric on the log scale: Simel, Samsa and Matchar 1991 (J Clin Epidemiol 44:763). It does not
    exist where a count is 0 (the log has no end) nor where both rates are 1 (it has no width). Then the ratio itself
    stands, 0 or infinity, no count is invented, and the open end is the quotient of Clopper-Pearson limits of the two
    rates, which holds with at least 95 %; the note says so. 0 / 0 is undefined, as is any ratio without positives or
    negatives.
    """
    t, p = as_bool(truth, "truth"), as_bool(predicted, "predicted")
    n = same_length(truth=t, predicted=p)
    for present, why in ((n, "no observations"), (t.sum(), "no positives"), ((~t).sum(), "no negatives")):
        if not present:
            return {name: Estimate.undefined(n, METHOD, why) for name in ("positive", "negative")}
    return {"positive": _ratio(t, p, "positive"), "negative": _ratio(t, ~p, "negative")}


def _ratio(truth: np.ndarray, called: np.ndarray, what: str) -> Estimate:
    """Rate of `called` among the positives over that among the negatives."""
    a, positives = int((truth & called).sum()), int(truth.sum())
    b, negatives = int((~truth & called).sum()), int((~truth).sum())
    n = positives + negatives
    if a == b == 0:
        return Estimate.undefined(n, METHOD, f"nothing was called {what}")
    if 0 in (a, b) or (a == positives and b == negatives):
        return _bounded(a, positives, b, negatives)
    value = (a / positives) / (b / negatives)
    error = math.sqrt(1 / a - 1 / positives + 1 / b - 1 / negatives)
    return Estimate(value, value * math.exp(-Z * error), value * math.exp(Z * error), n, METHOD)


def _bounded(a: int, positives: int, b: int, negatives: int) -> Estimate:
    top, bottom = proportion(a, positives), proportion(b, negatives)
    value = top.value / bottom.value if b else math.inf
    low = top.low / bottom.high
    high = top.high / bottom.low if bottom.low else math.inf
    why = "a count is 0, so the log method has no interval" if 0 in (a, b) else "every image was called alike"
    return Estimate(value, low, high, positives + negatives, "Clopper-Pearson limits", why)
