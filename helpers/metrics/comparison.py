"""Two classifiers compared: McNemar's test on the same images, and pooled accuracies with and without clusters.

The chi-squared test of two pooled accuracies takes every image as independent evidence. Where images are versions of
one image (children of one parent, made by augmentation), or come from one patient, its p values are too small: a model
that misses a parent tends to miss its children. And where the same images serve every model that is pooled, the test
takes each pool as fresh images. `compare_clustered` allows for both by taking the parent as what was drawn at random.

Simulated, two models that are equally good on 376 parents of 106 children, a twentieth of the parents being hard for
both (300 repeats): the chi-squared test gives p < 0.05 in 49 % of the repeats, the one by parent in 6 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
from scipy.stats import chi2_contingency
from scipy.stats import t as student
from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar

from helpers.metrics import estimate
from helpers.metrics.estimate import Estimate, as_arrays, proportion, proportion_difference, unanimous_bounds

PAIRED = "Newcombe, paired"
BY_PARENT = "ratio estimator by parent"
NO_SPREAD = "exact bound by parent", "no parent differs from another"


@dataclass(frozen=True)
class McNemar:
    """Images that both, one or neither classified correctly; the exact two-sided `p`; `difference`: accuracy a - b."""

    both: int
    only_a: int
    only_b: int
    neither: int
    p: float
    difference: Estimate


def mcnemar(correct_a: Any, correct_b: Any) -> McNemar:
    """McNemar's exact test of two classifiers on the same images; True (correct) or False per image.

    Only images on which they disagree count: with none, p = 1. The difference of the two accuracies has Newcombe's
    interval for paired proportions. Without images p is NaN and the difference undefined. Images count as independent:
    where patients have many, put beside it `bootstrap.mean_by_patient` of `correct_a - correct_b`.
    """
    a, b = as_arrays(correct_a=(correct_a, bool), correct_b=(correct_b, bool))
    counts = [int(cell.sum()) for cell in (a & b, a & ~b, ~a & b, ~a & ~b)]
    p = min(1.0, float(exact_mcnemar([counts[:2], counts[2:]], exact=True).pvalue)) if len(a) else math.nan
    return McNemar(*counts, p, paired_difference(*counts))


def paired_difference(both: int, only_a: int, only_b: int, neither: int) -> Estimate:
    """The difference of two proportions on the same images, (only_a - only_b) / n, with its 95 % interval.

    Method 10 of Newcombe 1998 (Statistics in Medicine 17:2635): Wilson limits of each proportion, squared and added,
    less their correlation, which is shrunk by n / 2 where it is positive. statsmodels has none in a release yet.
    """
    n = both + only_a + only_b + neither
    if n == 0:
        return Estimate.undefined(0, PAIRED, "no observations")
    a, b = proportion(both + only_a, n, "Wilson"), proportion(both + only_b, n, "Wilson")
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    excess = both * neither - only_a * only_b
    shrunk = max(excess - n / 2, 0.0) if excess > 0 else excess
    correlation = shrunk / math.sqrt(product) if product else 0.0
    value = (only_a - only_b) / n
    low = value - _combined(a.value - a.low, b.high - b.value, correlation)
    high = value + _combined(a.high - a.value, b.value - b.low, correlation)
    return Estimate(value, max(-1.0, low), min(1.0, high), n, PAIRED)


def _combined(first: float, second: float, correlation: float) -> float:
    return math.sqrt(max(0.0, first**2 - 2 * correlation * first * second + second**2))


@dataclass(frozen=True)
class PooledComparison:
    """Two proportions, their difference a - b, and the test of whether it is 0.

    Of a comparison by parent, `design_effect` is the factor by which the chi-squared test's variance of the difference
    is too small (2 means that half as many independent images would give the same evidence).
    """

    a: Estimate
    b: Estimate
    difference: Estimate
    p: float
    design_effect: float = math.nan


def compare_pooled(correct_a: int, n_a: int, correct_b: int, n_b: int) -> PooledComparison:
    """Pearson's chi-squared test (one degree of freedom, no continuity correction) of two shares of correct images.

    Each share has its Clopper-Pearson interval, the difference Newcombe's. With no image in a pool p is NaN; where
    every image of both was classified alike, there is no table to test, and p is 1. Images count as
    independent, which children of one parent are not: see `compare_clustered`.
    """
    a, b = proportion(correct_a, n_a), proportion(correct_b, n_b)
    difference = proportion_difference(correct_a, n_a, correct_b, n_b)
    p = 1.0 if difference.defined else math.nan
    if 0 < correct_a + correct_b < n_a + n_b and difference.defined:
        table = [[correct_a, n_a - correct_a], [correct_b, n_b - correct_b]]
        p = float(chi2_contingency(table, correction=False).pvalue)
    return PooledComparison(a, b, difference, p)


def compare_clustered(correct_a: Any, parents_a: Any, correct_b: Any, parents_b: Any) -> PooledComparison:
    """The difference of two pooled accuracies, with the parents of the images (or the patients) as the units.

    `correct_a` has True (correct) or False for each image and model of pool a, `parents_a` names the parent of each;
    likewise b, on the same parents, on others, or on some of them. Variances are those of a ratio of totals over
    parents (Rao and Scott 1992, Biometrics 48:577), of the difference with the covariance of pools that share parents;
    the statistic is compared with t of (parents - 1) degrees of freedom. The accuracies' intervals are made on the
    logit scale. Where no parent differs from another, there is no spread, and bounds are exact (`unanimous_bounds`).
    """
    a, b = _totals(correct_a, parents_a), _totals(correct_b, parents_b)
    n, names = int(a["n"].sum() + b["n"].sum()), a.index.union(b.index)
    if not (len(a) and len(b)) or len(names) < 2:
        missing = Estimate.undefined(n, BY_PARENT, "needs two parents, and images in both pools")
        return PooledComparison(missing, missing, missing, math.nan)
    pools = _share(a), _share(b)
    value = pools[0].value - pools[1].value
    error = _error(a["influence"].sub(b["influence"], fill_value=0.0))
    if error < 1e-12:
        bound = Estimate(value, *unanimous_bounds(value, len(names), -1.0, 1.0), n, *NO_SPREAD)
        return PooledComparison(*pools, bound, 1.0 if value == 0 else math.nan)
    freedom = len(names) - 1
    half = error * float(student.ppf(1 - estimate.ALPHA / 2, freedom))
    difference = Estimate(value, max(-1.0, value - half), min(1.0, value + half), n, BY_PARENT)
    naive = sum(one.value * (1 - one.value) / one.n for one in pools)
    effect = error**2 / naive if naive else math.nan
    return PooledComparison(*pools, difference, 2 * float(student.sf(abs(value) / error, freedom)), effect)


def clustered_accuracy(correct: Any, parents: Any) -> Estimate:
    """A share of correct images with an interval by parent; see `compare_clustered`."""
    part = _totals(correct, parents)
    return _share(part) if len(part) > 1 else Estimate.undefined(int(part["n"].sum()), BY_PARENT, "needs two parents")


def _totals(correct: Any, parents: Any) -> pd.DataFrame:
    """Correct answers and images of each parent, and the parent's influence on the share."""
    right, owner = as_arrays(correct=(correct, bool), parents=(parents, object))
    totals = pd.DataFrame({"right": right, "n": 1}).groupby(owner).sum()
    n = totals["n"].sum()
    share = totals["right"].sum() / n if n else math.nan
    return totals.assign(influence=(totals["right"] - share * totals["n"]) / n)


def _share(part: pd.DataFrame) -> Estimate:
    n, value = int(part["n"].sum()), float(part["right"].sum() / part["n"].sum())
    error = _error(part["influence"])
    if value in (0.0, 1.0) or len(part) < 2 or error < 1e-12:
        return Estimate(value, *unanimous_bounds(value, len(part), 0.0, 1.0), n, *NO_SPREAD)
    quantile = float(student.ppf(1 - estimate.ALPHA / 2, len(part) - 1))
    return Estimate(value, *estimate.logit_limits(value, error, quantile), n, f"{BY_PARENT}, logit")


def _error(influence: pd.Series) -> float:
    m, values = len(influence), influence.to_numpy()
    return math.sqrt(m / (m - 1) * float((values**2).sum())) if m > 1 else 0.0
