"""Proportions and likelihood ratios with their intervals, and the bound that is left when all observations agree."""

from __future__ import annotations

import math
from typing import Any

from scipy.special import expit, logit
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from helpers.metrics.estimate import Estimate, as_arrays, lacks_class

ALPHA = 0.05  # intervals are 95 %
Z = 1.959963984540054  # the normal quantile at 1 - ALPHA / 2

METHODS = {"Clopper-Pearson": "beta", "Wilson": "wilson"}  # our name: statsmodels' name
LOG_METHOD = "log method (Simel)"


def proportion(successes: int, n: int, method: str = "Clopper-Pearson") -> Estimate:
    """`successes` of `n` as a proportion (0 to 1) with its 95 % interval, by default exact (Clopper-Pearson).

    With n = 0 the estimate is undefined. Raises `ValueError` for counts that are not whole, negative, or more than n.
    """
    if not 0 <= successes <= n or successes % 1 or n % 1:
        raise ValueError(f"{successes} successes of {n}: expected whole numbers, and a proportion of at most 1")
    k, n = int(successes), int(n)
    if n == 0:
        return Estimate.undefined(0, method, "no observations")
    low, high = proportion_confint(k, n, alpha=ALPHA, method=METHODS[method])
    # The limits reach 0 and 1 exactly at the ends, but not quite in floating point (nor where a beta quantile is NaN).
    low = 0.0 if k == 0 else min(float(low), k / n)
    high = 1.0 if k == n else max(float(high), k / n)
    return Estimate(k / n, low, high, n, method)


def proportion_difference(a: int, n_a: int, b: int, n_b: int) -> Estimate:
    """The difference of two independent proportions, a / n_a - b / n_b, with Newcombe's 95 % interval (method 10)."""
    if not (n_a and n_b):
        return Estimate.undefined(n_a + n_b, "Newcombe", "no observations")
    value = a / n_a - b / n_b
    low, high = confint_proportions_2indep(a, n_a, b, n_b, "newcomb", "diff", ALPHA)
    return Estimate(value, max(-1.0, min(float(low), value)), min(1.0, max(float(high), value)), n_a + n_b, "Newcombe")


def unanimous_bounds(value: float, k: int, lowest: float, highest: float) -> tuple[float, float]:
    """Bounds on a mean, from `k` independent draws in `lowest` to `highest` that all gave the same `value`.

    Such data have no spread, so that DeLong, Wald and the bootstrap all call the value certain. What holds exactly:
    were P(draw = value) below q = 0.025 ** (1 / k), then k such draws in a row had a chance below 2.5 %; so the mean
    lies between q value + (1 - q) lowest and q value + (1 - q) highest. For k successes of k this is the
    Clopper-Pearson limit. k = 0 gives the whole range.
    """
    q = (ALPHA / 2) ** (1 / k) if k else 0.0
    return q * value + (1 - q) * lowest, q * value + (1 - q) * highest


def logit_limits(value: float, error: float, quantile: float = Z) -> tuple[float, float]:
    """Limits of a proportion or an AUROC with standard error `error`, symmetric on the logit scale."""
    centre, half = float(logit(value)), quantile * error / (value * (1 - value))
    return float(expit(centre - half)), float(expit(centre + half))


def likelihood_ratios(truth: Any, predicted: Any) -> dict[str, Estimate]:
    """The `positive` and the `negative` likelihood ratio with 95 % intervals; True or False per image in each input.

    The interval is symmetric on the log scale: Simel, Samsa and Matchar 1991 (J Clin Epidemiol 44:763). It does not
    exist where a count is 0 (the log is infinite) nor where both rates are 1 (it has no width). Then the ratio itself
    stands, 0 or infinity, no count is invented, and the open end is the quotient of Clopper-Pearson limits of the two
    rates, which holds with at least 95 %; the note gives the reason. 0 / 0 is undefined, as is any ratio without
    positives or negatives.
    """
    t, p = as_arrays(truth=(truth, bool), predicted=(predicted, bool))
    if why := lacks_class(t):
        return {name: Estimate.undefined(len(t), LOG_METHOD, why) for name in ("positive", "negative")}
    found = {}
    for name, called in {"positive": p, "negative": ~p}.items():
        counts = int((t & called).sum()), int(t.sum()), int((~t & called).sum()), int((~t).sum())
        found[name] = _ratio(*counts, f"nothing was called {name}")
    return found


def _ratio(a: int, positives: int, b: int, negatives: int, neither: str) -> Estimate:
    """a / positives over b / negatives; `neither` is the reason where both counts are 0."""
    n = positives + negatives
    if a == b == 0:
        return Estimate.undefined(n, LOG_METHOD, neither)
    if 0 not in (a, b) and (a < positives or b < negatives):
        value = (a / positives) / (b / negatives)
        factor = math.exp(Z * math.sqrt(1 / a - 1 / positives + 1 / b - 1 / negatives))
        return Estimate(value, value / factor, value * factor, n, LOG_METHOD)
    top, bottom = proportion(a, positives), proportion(b, negatives)
    value = top.value / bottom.value if b else math.inf
    high = top.high / bottom.low if bottom.low else math.inf
    why = "a count is 0, so the log method has no interval" if 0 in (a, b) else "every image was called alike"
    return Estimate(value, top.low / bottom.high, high, n, "Clopper-Pearson limits", why)
