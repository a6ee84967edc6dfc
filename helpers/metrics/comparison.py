"""Two classifiers (or a model and a reader) on the same images: McNemar's test and the paired difference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from helpers.metrics.checks import as_bool, same_length
from helpers.metrics.estimate import Estimate
from helpers.metrics.proportions import proportion

METHOD = "Newcombe, paired"


@dataclass(frozen=True)
class McNemar:
    """Images that both, one or neither got right; `p` is exact and two-sided; `difference` is accuracy of a less b."""

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float
    difference: Estimate


def mcnemar(correct_a: Any, correct_b: Any) -> McNemar:
    """McNemar's exact test of two classifiers on the same images; one True (right) or False an image.

    Only images on which they disagree count: with none, p = 1. The difference of the two shares correct has Newcombe's
    interval for paired proportions. Without images p is NaN and the difference undefined. Images count as independent:
    where patients have many, put beside it `bootstrap.mean_by_patient` of `correct_a - correct_b`.
    """
    a, b = as_bool(correct_a, "correct_a"), as_bool(correct_b, "correct_b")
    n = same_length(correct_a=a, correct_b=b)
    table = [[int((a & b).sum()), int((a & ~b).sum())], [int((~a & b).sum()), int((~a & ~b).sum())]]
    if n == 0:
        return McNemar(0, 0, 0, 0, math.nan, Estimate.undefined(0, METHOD, "no observations"))
    from statsmodels.stats.contingency_tables import mcnemar as exact_test

    p = min(1.0, float(exact_test(table, exact=True).pvalue))
    return McNemar(*table[0], *table[1], p, paired_difference(*table[0], *table[1]))


def paired_difference(both: int, only_a: int, only_b: int, neither: int) -> Estimate:
    """The difference of two proportions on the same images, (only_a - only_b) / n, with its 95 % interval.

    Method 10 of Newcombe 1998 (Statistics in Medicine 17:2635): Wilson limits of each proportion, squared and added,
    less their correlation, which is shrunk by n / 2 where it is positive. statsmodels has none in a release yet.
    """
    n = both + only_a + only_b + neither
    if n == 0:
        return Estimate.undefined(0, METHOD, "no observations")
    a, b = proportion(both + only_a, n, "Wilson"), proportion(both + only_b, n, "Wilson")
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    excess = both * neither - only_a * only_b
    shrunk = max(excess - n / 2, 0.0) if excess > 0 else excess
    correlation = shrunk / math.sqrt(product) if product else 0.0
    value = (only_a - only_b) / n
    low = value - _combined(a.value - a.low, b.high - b.value, correlation)
    high = value + _combined(a.high - a.value, b.value - b.low, correlation)
    return Estimate(value, max(-1.0, low), min(1.0, high), n, METHOD)


def _combined(first: float, second: float, correlation: float) -> float:
    return math.sqrt(max(0.0, first**2 - 2 * correlation * first * second + second**2))
