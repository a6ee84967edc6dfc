"""Pooled accuracies compared: the paper's chi-squared test, and one that knows which images belong together.

Rajkomar 2017, Methods: "Validation performance between models was assessed using chi-squared statistics with a
significance level of 5 %. To assess the effect of pre-training and different fine-tuning, we pooled the validation
accuracy of relevant models".

The paper's p values are too small, for two reasons. The 39,856 validation images are the 106 children of 376: a model
that misses a parent tends to miss its children, so there is nearer to 376 images' worth of evidence than to 39,856. And
the same images serve every model that is pooled or compared, while the test takes each pool as fresh images.
`clustered_comparison` allows for both by taking the parent image as what was drawn at random.

Simulated, two models that are equally good on 376 x 106 children, a twentieth of the parents being hard for both (300
repeats): the paper's test gives p < 0.05 in 49 % of the repeats, the one by parent in 6 %.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics.checks import as_bool, as_labels, same_length
from helpers.metrics.estimate import Estimate
from helpers.metrics.proportions import ALPHA, proportion, unanimous_bounds

METHOD = "ratio estimator by parent"


@dataclass(frozen=True)
class PooledComparison:
    """Two proportions as the paper compares them; `difference` is a less b (Newcombe's interval)."""

    a: Estimate
    b: Estimate
    difference: Estimate
    statistic: float
    p: float


@dataclass(frozen=True)
class ClusteredComparison:
    """The same with parents as the units. `design_effect`: by how much the paper's variance of the difference is too
    small (2 means that as many independent images would have been half of those counted)."""

    a: Estimate
    b: Estimate
    difference: Estimate
    statistic: float
    p: float
    design_effect: float
    parents: int


def pooled_chi_squared(correct_a: int, n_a: int, correct_b: int, n_b: int) -> PooledComparison:
    """Pearson's chi-squared test (one degree of freedom, no continuity correction) of two shares of correct images.

    Each share has its Clopper-Pearson interval. With no image in a pool, and where every image of both was classified
    alike, there is no table to test: statistic 0 and p 1 in the second case, NaN in the first. Images count as
    independent, which children of one parent are not: see `clustered_comparison`.
    """
    a, b = proportion(correct_a, n_a), proportion(correct_b, n_b)
    n = a.n + b.n
    if not (a.n and b.n):
        return PooledComparison(a, b, Estimate.undefined(n, "Newcombe", "no observations"), math.nan, math.nan)
    from statsmodels.stats.proportion import confint_proportions_2indep

    low, high = confint_proportions_2indep(correct_a, n_a, correct_b, n_b, "newcomb", "diff", ALPHA)
    value = a.value - b.value
    difference = Estimate(value, max(-1.0, min(float(low), value)), min(1.0, max(float(high), value)), n, "Newcombe")
    if correct_a + correct_b in (0, n):
        return PooledComparison(a, b, difference, 0.0, 1.0)
    from scipy.stats import chi2_contingency

    table = [[correct_a, n_a - correct_a], [correct_b, n_b - correct_b]]
    found = chi2_contingency(table, correction=False)
    return PooledComparison(a, b, difference, float(found.statistic), float(found.pvalue))


def clustered_comparison(correct_a: Any, parents_a: Any, correct_b: Any, parents_b: Any) -> ClusteredComparison:
    """The difference of two pooled accuracies, with the parents of the images (or the patients) as the units.

    `correct_a` has one True (right) or False for each image and model of pool a, `parents_a` names the parent of each;
    likewise b, on the same parents, on others, or on some of them. Variances are those of a ratio of totals over
    parents (Rao and Scott 1992, Biometrics 48:577), of the difference with the covariance of pools that share parents;
    z is judged by t with (parents - 1) degrees of freedom. The accuracies' intervals are made on the logit scale. Where
    no parent differs from another, nothing is left to estimate, and bounds are exact (`unanimous_bounds`).
    """
    a, b = _totals(correct_a, parents_a, "a"), _totals(correct_b, parents_b, "b")
    n = int(a["n"].sum() + b["n"].sum())
    names = a.index.union(b.index)
    if not (len(a) and len(b)) or len(names) < 2:
        why = "needs two parents, and images in both pools"
        return ClusteredComparison(*(Estimate.undefined(n, METHOD, why),) * 3, *(math.nan,) * 3, len(names))
    pools = [_share(part) for part in (a, b)]
    influence = sum(
        sign * part["influence"].reindex(names, fill_value=0.0) for sign, part in ((1, a), (-1, b))
    ).to_numpy()
    value = pools[0].value - pools[1].value
    error = _error(influence)
    if error < 1e-12:
        low, high = unanimous_bounds(value, len(names), -1.0, 1.0)
        bound = Estimate(value, low, high, n, "exact bound by parent", "no parent differs from another")
        alike = value == 0
        return ClusteredComparison(
            *pools, bound, 0.0 if alike else math.inf, 1.0 if alike else math.nan, math.nan, len(names)
        )
    from scipy.stats import t

    z, freedom = value / error, len(names) - 1
    half = error * float(t.ppf(1 - ALPHA / 2, freedom))
    difference = Estimate(value, max(-1.0, value - half), min(1.0, value + half), n, METHOD)
    naive = sum(one.value * (1 - one.value) / one.n for one in pools)
    effect = error**2 / naive if naive else math.nan
    return ClusteredComparison(*pools, difference, z, 2 * float(t.sf(abs(z), freedom)), effect, len(names))


def compare_pools(
    results: Mapping[Hashable, pd.DataFrame], a: Iterable[Hashable], b: Iterable[Hashable], by: str = "parent"
) -> tuple[PooledComparison, ClusteredComparison]:
    """The paper's test and the one by parent for two pools of models: "the validation performance of a pre-trained
    color ImageNet model was obtained by pooling the performance of the three fine-tuned models that used" it.

    `results[model]` has a row a validation image, with `correct` (bool) and the column `by`: its parent (an original is
    its own), or its patient, which is stricter still. Raises `ValueError` for an empty pool and `KeyError` for a model
    without results.
    """
    pools = []
    for name, models in (("a", list(a)), ("b", list(b))):
        if not models:
            raise ValueError(f"pool {name} holds no model")
        pools.append(pd.concat([results[model][["correct", by]] for model in models], ignore_index=True))
    counts = [number for pool in pools for number in (int(pool["correct"].sum()), len(pool))]
    columns = [pool[column] for pool in pools for column in ("correct", by)]
    return pooled_chi_squared(*counts), clustered_comparison(*columns)


def clustered_accuracy(correct: Any, parents: Any) -> Estimate:
    """A share of correct images with the interval that parents allow; see `clustered_comparison`."""
    part = _totals(correct, parents, "pool")
    if len(part) < 2:
        return Estimate.undefined(int(part["n"].sum()), METHOD, "needs two parents")
    return _share(part)


def _totals(correct: Any, parents: Any, name: str) -> pd.DataFrame:
    """Right answers and images of each parent, and the parent's influence on the share."""
    right, owner = as_bool(correct, f"correct_{name}"), as_labels(parents, f"parents_{name}").astype(str)
    same_length(**{f"correct_{name}": right, f"parents_{name}": owner})
    totals = pd.DataFrame({"right": right, "n": 1}).groupby(owner).sum()
    n = totals["n"].sum()
    share = totals["right"].sum() / n if n else math.nan
    return totals.assign(influence=(totals["right"] - share * totals["n"]) / n)


def _share(part: pd.DataFrame) -> Estimate:
    n, value = int(part["n"].sum()), float(part["right"].sum() / part["n"].sum())
    error = _error(part["influence"].to_numpy())
    if value in (0.0, 1.0) or len(part) < 2 or error < 1e-12:
        low, high = unanimous_bounds(value, len(part), 0.0, 1.0)
        return Estimate(value, low, high, n, "exact bound by parent", "no parent differs from another")
    from scipy.stats import t

    half = float(t.ppf(1 - ALPHA / 2, len(part) - 1)) * error / (value * (1 - value))
    centre = math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(-x)) for x in (centre - half, centre + half))
    return Estimate(value, low, high, n, METHOD + ", logit")


def _error(influence: np.ndarray) -> float:
    m = len(influence)
    return math.sqrt(m / (m - 1) * float((influence**2).sum())) if m > 1 else 0.0
