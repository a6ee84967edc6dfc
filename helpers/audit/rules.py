"""The audit's rules for counts, sums, averages, pools and words: can printed facts be true together?

A rule takes facts and parameters, and gives an `Answer`. It knows no paper: data/published/audit_checks.toml says
which facts it is put to, under which assumption, and whether a "no" proves an inconsistency or hangs on a reading.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from helpers.audit.facts import EPS, Fact
from helpers.metrics.comparison import compare_pooled

NO_ROUNDING = "none helps: to nearest (halves either way) or cut off"
REACH = 0.25  # how far another n is looked for, as a share of the stated n


@dataclass(frozen=True)
class Answer:
    """What a rule found: `good` (or None where no rule could tell), and why.

    `gap` is how far the printed number is from the nearest possible one, relative to itself; `mend` the smallest change
    that would make it consistent; `value` what the other facts make of the first; `more` values for a check's texts;
    `rounding` what another manner of rounding would change, where a rule knows more than that none helps.
    """

    good: bool | None
    found: str
    gap: float = 0.0
    mend: str = ""
    value: float = math.nan
    more: Mapping[str, Any] = field(default_factory=dict)
    rounding: str = ""


RULES: dict[str, tuple[Callable[..., Answer], str]] = {}  # each rule with the kind of question it answers


def rule(question: str) -> Callable:
    """Add the function to `RULES`, under its name."""

    def register(function: Callable[..., Answer]) -> Callable[..., Answer]:
        RULES[function.__name__] = function, question
        return function

    return register


def number(x: float) -> str:
    """'1,885', or '92.3'."""
    return f"{x:,.10g}"


@rule("what the text says of its numbers")
def claim(*facts: Fact, good: bool | None, gap: float = 1.0) -> Answer:
    """Does what a check's formula `good` says hold? The check's own texts say what that is."""
    return Answer(None if good is None else bool(good), "", gap)


# --- sums, products, limits ---------------------------------------------------------------------------------------


@rule("counts add up")
def equal(whole: Fact, *parts: Fact, made: float, how: str) -> Answer:
    """Is `whole` the number `made`, as `how` says?"""
    shown = f"{100 * made:.1f} %" if whole.percent else number(made)
    mend = f"{shown} in place of {whole.text}"
    return Answer(bool(whole.holds(made)), f"{how} = {shown}", whole.gap(made), mend, made)


@rule("counts add up")
def total(whole: Fact, *parts: Fact) -> Answer:
    """Is `whole` the sum of its parts?"""
    how = " + ".join(number(part.value) for part in parts)
    return equal(whole, made=sum(part.value for part in parts), how=how)


@rule("counts add up")
def product(whole: Fact, *parts: Fact, plus: int = 0) -> Answer:
    """Is `whole` the product of its parts? `plus` is added to the last (the image itself beside its augmentations)."""
    *values, last = (part.value for part in parts)
    shown = [*map(number, values), f"({number(last)} + {plus})" if plus else number(last)]
    return equal(whole, made=math.prod([*values, last + plus]), how=" x ".join(shown))


@rule("counts add up")
def at_most(
    fact: Fact, *parts: Fact, limit: float, how: str, minimum: bool = False, open_if_equal: bool = False
) -> Answer:
    """Is `fact` at most (with `minimum`: at least) `limit`, which is `how`? "over 150,000"

    With `open_if_equal` nobody can tell where it is just that.
    """
    beyond = (limit - fact.value) if minimum else (fact.value - limit)
    mend = f"{number(limit)} or {'more' if minimum else 'less'} in place of {fact.text}"
    good = None if open_if_equal and not beyond else beyond <= 0
    return Answer(good, f"{fact.text} against {how}", max(0.0, beyond) / abs(fact.value or 1), mend)


# --- counts of n (the granularity test, GRIM: Brown and Heathers 2017, 8:363) -------------------------------------


@rule("attainable by a count (GRIM)")
def attainable(fact: Fact, *, sizes: Sequence[Fact] = (), rounded: Fact | None = None) -> Answer:
    """Is a proportion attainable by a count? Of 390 images, 363 are 93.1 % and 364 are 93.3 %: none gives 93.2 %.

    `sizes` are the numbers of images that the text allows, where not its own n alone: nobody can tell where the answer
    hangs on which of them it is. `rounded` is a number of the same text that is rounded, not cut off.
    """
    tried = [int(size.value) for size in sizes] or [fact.n]
    each = {n: fact.counts(n) for n in tried}
    if fits := [n for n in tried if each[n]]:
        missed = "".join(f"; no count of {n:,}" for n in tried if n not in fits)
        found = " or ".join(f"{each[n][0]:,} of {n:,}" for n in fits)
        return Answer(None if missed else True, found + missed, mend="say which class is positive")
    nearest = {n: min(neighbours(fact, n), key=lambda k: abs(k / n - fact.value)) for n in tried}
    found = "no count: " + "; ".join(_between(fact, n) for n in tried)
    best = min(nearest, key=lambda n: abs(nearest[n] / n - fact.value))
    other, value = nearest_n(fact, best), nearest[best] / best
    mend = f"{fact.show(value)} ({nearest[best]:,} of {best:,}), {fact.steps(value)} in the last digit"
    mend += f"; or n = {other:,}, {abs(other - best)} away" if other else ""
    cut = " or ".join(f"{k:,} of {n:,}" for n in tried for k in fact.cut_off(n))
    rounding = f"to nearest; cut off, {cut} would print so" if cut else NO_ROUNDING
    shows = rounded.counts(rounded.n) if rounded and not rounded.cut_off(rounded.n) else ()
    if cut and shows:
        rounding += f", but {rounded.text} beside it is rounded ({shows[0]} of {rounded.n})"
    return Answer(None if cut and not shows else False, found, fact.gap(value), mend, rounding=rounding)


def _between(fact: Fact, n: int) -> str:
    return " or ".join(f"{fact.show(k / n)} ({k:,} of {n:,})" for k in neighbours(fact, n))


def neighbours(fact: Fact, n: int) -> list[int]:
    """The counts just below and above the printed value."""
    below = math.floor(fact.value * n + 1e-9)
    return [k for k in (below, below + 1) if 0 <= k <= n]


def nearest_n(fact: Fact, n: int) -> int | None:
    """The number of images nearest to `n` (within `REACH`) of which some count gives the printed value."""
    others = (other for away in range(math.ceil(REACH * n) + 1) for other in (n - away, n + away))
    return next((other for other in others if other >= 1 and fact.counts(other)), None)


# --- averages beside totals --------------------------------------------------------------------------------------


@rule("class average equals total on a balanced set")
def balanced(accuracy: Fact, average: Fact, *, classes: int, most: int) -> Answer:
    """Can accuracy and class-averaged sensitivity print as they do, with `most` images of each class at most?

    With as many images of each class the two are one number, which may yet print as two where it lies half-way
    between them and a sum in floating point falls to either side.
    """
    middle = (accuracy.value + average.value) / 2
    sizes = range(1, most + 1) if abs(accuracy.value - average.value) < 2 * accuracy.half + EPS else ()
    held = next((n for n in sizes if abs(middle * classes * n - round(middle * classes * n)) < EPS), 0)
    if accuracy.agrees(average):
        return Answer(True, f"{accuracy.text} and {average.text} can be one number")
    if not held:
        return Answer(None, f"{accuracy.text} and {average.text} cannot be one number with up to {most} of each class")
    right = round(middle * classes * held)
    found = f"{right} of {classes * held}, {held} of each class, is {middle:g}, which may print either way"
    return Answer(True, found)


# --- pooled accuracies and their p values --------------------------------------------------------------------------


@rule("pooled accuracies fit each other")
def pools_fit(
    *facts: Fact, pools: Sequence[Sequence[str]], rows: Sequence[str], columns: Sequence[str], sizes: Sequence[Fact]
) -> Answer:
    """Do accuracies of single models exist that give every printed pool?

    Models are `rows` x `columns`, and each was validated on as many images as `sizes` says of its column. A pool names
    rows and columns; where it names none of either, it holds all of them.
    """
    models = list(itertools.product(rows, columns))
    inside = np.array([[_in_pool(model, pool, rows, columns) for model in models] for pool in pools])
    weights = inside * np.tile([size.value for size in sizes], len(rows))
    found = accuracies_of_models(facts, weights)
    also = f"a plain mean of models would {'not fit' if accuracies_of_models(facts, inside) is None else 'fit too'}"
    if found is not None:
        ends = zip(models, 100 * found, strict=True)
        each = [f"{' / '.join(model)} {low:.2f} to {high:.2f} %" for model, (low, high) in ends]
        return Answer(True, f"{'; '.join(each)}; {also}")
    rest = [([*facts[:i], *facts[i + 1 :]], np.delete(weights, i, axis=0)) for i in range(len(facts))]
    odd = [fact for fact, others in zip(facts, rest, strict=True) if accuracies_of_models(*others) is not None]
    which = " or ".join(f"{fact.quantity} ({fact.text})" for fact in odd) or "more than one of them"
    return Answer(False, f"no accuracies of the models give all of them; {also}", 1e-3, f"another value for {which}")


def _in_pool(model: tuple[str, str], pool: Sequence[str], *kinds: Sequence[str]) -> bool:
    return all(name in pool or not set(pool) & set(kind) for name, kind in zip(model, kinds, strict=True))


def accuracies_of_models(facts: Sequence[Fact], weights: np.ndarray) -> np.ndarray | None:
    """The lowest and highest accuracy of each model (k, 2) that all pooled `facts` allow; None where none fit.

    `weights` (facts, k) are the images of each model in each pool. Pools are linear in the accuracies, so that a linear
    programme finds the ends.
    """
    from scipy.optimize import linprog

    shares = weights / weights.sum(axis=1, keepdims=True)
    bounds = {"A_ub": np.vstack([shares, -shares]), "b_ub": [f.high for f in facts] + [-f.low for f in facts]}
    goals = [sign * goal for goal in np.eye(shares.shape[1]) for sign in (1, -1)]
    results = [linprog(goal, **bounds, bounds=(0, 1), method="highs") for goal in goals]
    if not all(result.success for result in results):
        return None
    return np.array([abs(result.fun) for result in results]).reshape(-1, 2)


def chi_squared(a: Fact, n_a: int, b: Fact, n_b: int) -> tuple[float, float]:
    """Lowest and highest p of Pearson's test (no correction) of two shares, over all counts that print as they do."""
    counts = [fact.counts(n) or [round(fact.value * n)] for fact, n in ((a, n_a), (b, n_b))]
    ends = itertools.product(*((some[0], some[-1]) for some in counts))
    values = [compare_pooled(k_a, n_a, k_b, n_b).p for k_a, k_b in ends]
    return min(values), max(values)


@rule("p value follows from the counts")
def p_follows(a: Fact, b: Fact, limit: Fact) -> Answer:
    """Is the printed p limit that of the printed accuracies and their numbers of images?"""
    low, high = chi_squared(a, a.n, b, b.n)
    found = f"p = {low:.2g}" + (f" to {high:.2g} by rounding" if high > low else "")
    good = True if high < limit.value else None if low < limit.value else False
    return Answer(good, found, max(0.0, (low - limit.value) / limit.value), found)


# --- one thing, one number ---------------------------------------------------------------------------------------


@rule("one thing, one number")
def two_numbers(one: Fact, other: Fact) -> Answer:
    """Do two places, or two papers, give the same thing the same number?"""
    found = "the same" if one.agrees(other) else f"{number(abs(one.value - other.value))} apart"
    mend = f"{other.text} in place of {one.text}, or the other way round"
    return Answer(one.agrees(other), found, one.gap(other.value), mend)
