"""Pooled accuracies (Rajkomar 2017, Results, Model Selection): do they fit each other, and their p values?

"To assess the effect of pre-training and different fine-tuning, we pooled the validation accuracy of relevant models".
Nine models, three by three, were pooled in overlapping groups; the printed pools are linear in the nine accuracies, so
a linear programme tells whether nine accuracies exist, and how little room each has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from helpers.audit.facts import Fact
from helpers.audit.grim import counts_for
from helpers.audit.record import Check, checked

FIT = "pooled accuracies fit each other"
PVALUE = "p value follows from the counts"
Model = tuple[str, str]  # pre-training, fine-tuning


@dataclass(frozen=True)
class Pool:
    """A printed accuracy of several models together, each weighing as many images as it was validated on."""

    fact: Fact
    models: tuple[Model, ...]


def solve(pools: Sequence[Pool], sizes: Mapping[Model, int]) -> dict[Model, tuple[float, float]] | None:
    """The lowest and highest accuracy of each model that all pools allow; None where no nine accuracies fit."""
    from scipy.optimize import linprog

    models = list(sizes)
    rows, limits = [], []
    for pool in pools:
        weights = np.array([sizes[model] if model in pool.models else 0 for model in models], dtype=float)
        weights /= weights.sum()
        rows += [weights, -weights]
        limits += [pool.fact.high, -pool.fact.low]
    found = {}
    for place, model in enumerate(models):
        ends = []
        for sign in (1, -1):
            goal = np.zeros(len(models))
            goal[place] = sign
            result = linprog(goal, A_ub=np.array(rows), b_ub=limits, bounds=(0, 1), method="highs")
            if not result.success:
                return None
            ends.append(sign * result.fun)
        found[model] = (ends[0], ends[1])
    return found


def pools_fit(name: str, pools: Sequence[Pool], sizes: Mapping[Model, int], how: str, matters: int = 3) -> Check:
    """Do accuracies exist that give every pool? `how` says how models were weighed."""
    found, facts = solve(pools, sizes), [pool.fact for pool in pools]
    if found is None:
        without = [pool.fact for i, pool in enumerate(pools) if solve([*pools[:i], *pools[i + 1 :]], sizes) is not None]
        which = " or ".join(f"{fact.quantity} ({fact.text})" for fact in without) or "more than one of them"
        told, mend = "no accuracies of the models give all of them", f"another value for {which}"
    else:
        told = "; ".join(
            f"{' / '.join(model)} {100 * low:.2f} to {100 * high:.2f} %" for model, (low, high) in found.items()
        )
        mend = ""
    return checked(
        name,
        FIT,
        facts,
        found is not None,
        assumption=how,
        found=told,
        matters=matters,
        sentence=f"The {len(facts)} pooled accuracies {'fit' if found else 'do not fit'} each other ({how}): {told}.",
        gap=0.0 if found else 1e-3,
        mend=mend,
    )


def chi_squared(a: Fact, n_a: int, b: Fact, n_b: int) -> tuple[float, float]:
    """Lowest and highest p of Pearson's test (no correction) of two shares, over all counts that print as they do."""
    from scipy.stats import chi2

    def p(x: float, y: float) -> float:
        pooled = (x * n_a + y * n_b) / (n_a + n_b)
        if pooled in (0, 1):
            return 1.0
        z = (x - y) ** 2 / (pooled * (1 - pooled) * (1 / n_a + 1 / n_b))
        return float(chi2.sf(z, 1))

    xs, ys = ([k / n for k in _ends(fact, n)] for fact, n in ((a, n_a), (b, n_b)))
    values = [p(x, y) for x in xs for y in ys]
    return min(values), max(values)


def _ends(fact: Fact, n: int) -> list[int]:
    counts = counts_for(fact, n)
    return [counts[0], counts[-1]] if counts else [round(fact.value * n)]


def p_follows(name: str, a: Fact, b: Fact, limit: Fact, matters: int = 3) -> Check:
    """Is the printed p limit that of the printed accuracies and their numbers of images?"""
    low, high = chi_squared(a, a.n, b, b.n)
    outcome = "consistent" if high < limit.value else "undecidable" if low < limit.value else "inconsistent"
    found = f"p = {low:.2g}" + (f" to {high:.2g} by rounding" if high > low else "")
    return checked(
        name,
        PVALUE,
        [a, b, limit],
        outcome,
        assumption=f"chi-squared without correction; {a.n:,} and {b.n:,} images, all independent",
        found=found,
        matters=matters,
        sentence=f"{limit.quantity}: {limit.text} is printed; {a.text} of {a.n:,} against {b.text} of {b.n:,} gives "
        f"{found}.",
        gap=max(0.0, (low - limit.value) / limit.value),
        mend=found,
    )


def p_by_parents(name: str, a: Fact, n_a: int, b: Fact, n_b: int, limit: Fact, whose: str, matters: int = 3) -> Check:
    """The same with as many independent images as there are parents: does the conclusion depend on independence?"""
    low, high = chi_squared(a, n_a, b, n_b)
    holds = high < limit.value
    found = f"p = {low:.2g} to {high:.2g}" if high > low else f"p = {low:.2g}"
    stands = "stands" if holds else "needs images that are independent, which they are not"
    sentence = (
        f"{limit.quantity}: were only the {whose} independent ({n_a:,} against {n_b:,}), {a.text} against {b.text} "
        f"would give {found}, so {limit.text} {stands}."
    )
    return checked(
        name,
        PVALUE,
        [a, b, limit],
        "consistent" if holds else "undecidable",
        assumption=f"only the {whose} are independent: {n_a:,} and {n_b:,}",
        found=found,
        matters=matters,
        sentence=sentence,
        mend="a test that knows which images share a parent",
    )
