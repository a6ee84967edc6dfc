"""Proportions with exact intervals, and the bound that is left when every observation says the same."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

from helpers.metrics.estimate import Estimate

ALPHA = 0.05  # intervals are 95 %
Z = 1.959963984540054  # the normal quantile at 1 - ALPHA / 2

METHODS = {"Clopper-Pearson": "beta", "Wilson": "wilson"}  # our name: statsmodels' name


def proportion(successes: int, n: int, method: str = "Clopper-Pearson") -> Estimate:
    """`successes` of `n` as a proportion (0 to 1) with its 95 % interval, exact (Clopper-Pearson) unless told.

    With n = 0 the estimate is undefined. Raises `ValueError` for counts that are not whole, negative, or more than n.
    """
    if method not in METHODS:
        raise ValueError(f"no interval method '{method}'; known: {', '.join(METHODS)}")
    k, n = _count(successes, "successes"), _count(n, "n")
    if k > n:
        raise ValueError(f"{k} successes of {n}: a proportion is at most 1")
    if n == 0:
        return Estimate.undefined(0, method, "no observations")
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(k, n, alpha=ALPHA, method=METHODS[method])
    # The limits reach 0 and 1 exactly at the ends, but not quite in floating point (nor where a beta quantile is NaN).
    low = 0.0 if k == 0 else min(float(low), k / n)
    high = 1.0 if k == n else max(float(high), k / n)
    return Estimate(k / n, low, high, n, method)


def unanimous_bounds(value: float, k: int, lowest: float, highest: float) -> tuple[float, float]:
    """Bounds on a mean, from `k` independent draws in `lowest` to `highest` that all gave the same `value`.

    Such data have no spread, so that DeLong, Wald and the bootstrap all call the value certain. What can be said
    exactly: were P(draw = value) below q = 0.025 ** (1 / k), then k such draws in a row had a chance below 2.5 %; so
    the mean lies between q value + (1 - q) lowest and q value + (1 - q) highest. For k successes of k this is the
    Clopper-Pearson limit. k = 0 gives the whole range.
    """
    q = (ALPHA / 2) ** (1 / k) if k else 0.0
    return q * value + (1 - q) * lowest, q * value + (1 - q) * highest


def _count(value: Any, name: str) -> int:
    whole = isinstance(value, Integral) or (isinstance(value, float) and math.isfinite(value) and value.is_integer())
    if isinstance(value, bool) or not whole or value < 0:
        raise ValueError(f"{name}: expected a whole number, 0 or more, got {value!r}")
    return int(value)
