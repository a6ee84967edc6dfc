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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import chi2_contingency
from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar
from statsmodels.stats.multitest import multipletests

from helpers.metrics.by_patient import Comparison, clustered_mean, compare
from helpers.metrics.estimate import Estimate, as_arrays, proportion, proportion_difference

PAIRED = "Newcombe, paired"


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
    where patients have many, put `compare_clustered` beside it.
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


def compare_pooled(correct_a: int, n_a: int, correct_b: int, n_b: int) -> Comparison:
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
    return Comparison(a, b, difference, p)


def compare_clustered(correct_a: Any, parents_a: Any, correct_b: Any, parents_b: Any) -> Comparison:
    """The difference of two accuracies, with the patients (or the parents of the images) as the units.

    `correct_a` has True (correct) or False for each image and model of pool a, `parents_a` names the parent of each;
    likewise b, on the same parents, on others, or on some of them. On the same images it is the companion by patient
    of McNemar's test (Obuchowski 1998, Statistics in Medicine 17:1495; Rao and Scott 1992, Biometrics 48:577): t of
    (patients - 1) degrees of freedom, with the covariance of pools that share patients. `design_effect` is the factor
    by which images taken as independent, and pools as separate, understate the variance.
    """
    a, b = (
        clustered_mean(*as_arrays(correct=(correct, bool), parents=(parents, object)), bounds=(0, 1))
        for correct, parents in ((correct_a, parents_a), (correct_b, parents_b))
    )
    naive = sum(one.value * (1 - one.value) / max(one.n, 1) for one in (a, b))
    found = compare(a, b)
    return replace(found, design_effect=(a - b).error ** 2 / naive if naive else math.nan)


def holm(p: Any) -> np.ndarray:
    """The p values of one family of tests, adjusted by Holm's method (1979, Scand J Stat 6:65); NaN are no tests."""
    values = np.asarray(p, float)
    tested = ~np.isnan(values)
    if tested.any():
        values = values.copy()
        values[tested] = multipletests(values[tested], method="holm")[1]
    return values
