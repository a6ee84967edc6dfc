"""The audit's rules for counts, sums, averages, pools and words: can printed facts be true together?

A rule takes facts and parameters, and gives an `Answer`. It knows no paper: data/published/audit_checks.toml says
which facts it is put to, under which assumption, and whether a "no" proves an inconsistency or hangs on a reading.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from helpers.audit.facts import Fact
from helpers.metrics.comparison import compare_pooled

REACH = 0.25  # how far another n is looked for, as a share of the stated n


@dataclass(frozen=True)
class Answer:
    """What a rule found: `good` (or None where no rule could tell), and why.

    `gap` is how far the printed number is from the nearest possible one, relative to itself; `mend` the smallest change
    that would make it consistent; `value` what the other facts make of the first; `more` values for a check's texts.
    """

    good: bool | None
    found: str
    gap: float = 0.0
    mend: str = ""
    value: float = math.nan
    more: Mapping[str, Any] = field(default_factory=dict)


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


@rule("mean of the printed values")
def mean_of(mean: Fact, *values: Fact) -> Answer:
    """Is a printed mean that of the printed values, each anywhere within its rounding?"""
    low, high, made = (float(np.mean([getattr(f, end) for f in values])) for end in ("low", "high", "value"))
    good = low <= mean.high and high >= mean.low
    return Answer(good, f"{made:.4f}", mean.gap(made), mean.show(made), made)


# --- counts of n (the granularity test, GRIM: Brown and Heathers 2017, 8:363) -------------------------------------


@rule("attainable by a count (GRIM)")
def attainable(fact: Fact) -> Answer:
    """Is a proportion attainable by a count? Of 390 images, 363 are 93.1 % and 364 are 93.3 %: none gives 93.2 %."""
    n, counts = fact.n, fact.counts(fact.n)
    if counts:
        finer = "; this n is so large that every printed value is attainable" if 1 / n <= 2 * fact.half else ""
        count = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
        return Answer(True, f"{count} of {n:,}{finer}")
    near, other, cut = neighbours(fact, n), nearest_n(fact, n), cut_off(fact, n)
    found = "no count: " + " or ".join(f"{fact.show(k / n)} ({k:,} of {n:,})" for k in near)
    found += f"; cut off rather than rounded, {cut:,} of {n:,} would print so" if cut else ""
    best = min((k / n for k in near), key=lambda value: abs(value - fact.value))
    mend = f"{fact.show(best)}, {fact.steps(best)} in the last digit"
    mend += f"; or n = {other:,}, {abs(other - n)} away" if other else ""
    return Answer(False, found, fact.gap(best), mend)


def neighbours(fact: Fact, n: int) -> list[int]:
    """The counts just below and above the printed value."""
    below = math.floor(fact.value * n + 1e-9)
    return [k for k in (below, below + 1) if 0 <= k <= n]


def cut_off(fact: Fact, n: int) -> int | None:
    """The count that prints so if digits are cut off, not rounded; None where there is none."""
    k = math.ceil(fact.value * n - 1e-9)
    return k if k <= n and k / n < fact.value + 2 * fact.half - 1e-9 else None


def nearest_n(fact: Fact, n: int) -> int | None:
    """The number of images nearest to `n` (within `REACH`) of which some count gives the printed value."""
    others = (other for away in range(math.ceil(REACH * n) + 1) for other in (n - away, n + away))
    return next((other for other in others if other >= 1 and fact.counts(other)), None)


@rule("shares of the classes make the share of all")
def class_shares(whole: Fact, *shares: Fact, most: Fact) -> Answer:
    """Can three classes that make `whole.n` images have the three shares, and together the fourth?

    Class sizes are free, but at most `most` where that is possible.
    """
    n, ways = whole.n, []
    first, second, third = ({m: k for m in range(1, n) if (k := fact.counts(m))} for fact in shares)
    for a, of_a in first.items():
        for b, of_b in second.items():
            rest = third.get(n - a - b)
            if rest and any(whole.holds((i + j + k) / n) for i in of_a for j in of_b for k in rest):
                ways.append((a, b, n - a - b))
    ways = [way for way in ways if max(way) <= most.value] or ways
    example = f", such as {', '.join(map(str, ways[len(ways) // 2]))} of CNV, DME and drusen" if ways else ""
    plain = sum(fact.value for fact in shares) / 3
    return Answer(bool(ways), f"{len(ways):,} ways to split {n}{example}", whole.gap(plain), whole.show(plain))


# --- spreads, and averages beside totals --------------------------------------------------------------------------


@rule("spread fits its mean")
def spread_fits(mean: Fact, spread: Fact, *, classes: int) -> Answer:
    """Which readings of '+/-' are possible? Inconsistent if none is; else undecidable, for the text does not say."""
    table = spread_readings(mean, spread, classes)
    fits, fails = ("; ".join(word for word, good in table.items() if good is wanted) for wanted in (True, False))
    most = largest_deviation(mean.low, classes, sample=False)
    tight = most >= spread.low > 0.95 * most
    found = f"{mean.text} + {spread.text} = {mean.value + spread.value:.{max(mean.decimals, spread.decimals)}f}"
    found += f"; greatest deviation {most:.4f}"
    found += f" (so only if all but one of the {classes} are nearly perfect)" if tight else ""
    found += f"; fits: {fits or 'nothing'}" + (f"; does not fit: {fails}" if fails else "")
    return Answer(None if fits else False, found, 1.0)


def spread_readings(mean: Fact, spread: Fact, k: int) -> dict[str, bool]:
    """What '+/-' could mean, and whether it fits `k` values within 0 to 1."""
    # The mean's lower end leaves the most room below 1, and the spread's lower end needs the least of it.
    most = {sample: largest_deviation(mean.low, k, sample) for sample in (False, True)}
    # Half a range r: one class at x, one at x + 2r <= 1, the others between; the mean is at most 1 - 2r / k.
    half_range = mean.low <= 1 - 2 * spread.low / k and mean.high >= 2 * spread.low / k
    return {
        "an interval, mean and limits within 0 to 1": mean.low + spread.low <= 1 and mean.high - spread.low >= 0,
        "a standard deviation over the classes (divisor k)": spread.low <= most[False],
        "a standard deviation over the classes (divisor k - 1)": spread.low <= most[True],
        "half the range over the classes": half_range,
    }


def largest_deviation(mean: float, k: int, sample: bool) -> float:
    """The greatest standard deviation of `k` values in 0 to 1 with this mean: all but one of them at an end."""
    ones = math.floor(k * mean + 1e-12)
    values = [1.0] * ones + ([k * mean - ones] + [0.0] * (k - ones - 1) if ones < k else [])
    return math.sqrt(sum((x - mean) ** 2 for x in values) / (k - sample))


@rule("class average equals total on a balanced set")
def average_of_sizes(accuracy: Fact, average: Fact, taken: Fact, *, sizes: Sequence[Fact]) -> Answer:
    """Are accuracy and class-averaged sensitivity possible on what is left of the classes when some were taken?"""
    left = sorted(round(size.value - taken.value) for size in sizes)
    errors = [sum(left) - right for right in accuracy.counts(sum(left))]
    # The average of the classes is highest when all errors fall on the largest class, lowest on the smallest.
    low, high = _average_with(max(errors), left), _average_with(min(errors), left[::-1])
    good = low <= average.high and high >= average.low
    return Answer(good, f"{min(errors)} to {max(errors)} errors leave a class average of {low:.3f} to {high:.3f}")


def _average_with(errors: int, sizes: Sequence[int]) -> float:
    """The class-averaged sensitivity when the errors fill the first class, then the next."""
    before = np.cumsum([0, *sizes[:-1]])
    return float(np.mean(1 - np.clip(errors - before, 0, sizes) / sizes))


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
def p_follows(a: Fact, b: Fact, limit: Fact, *, units: Fact | None = None, models: Sequence[int] = (1, 1)) -> Answer:
    """Is the printed p limit that of the printed accuracies and their numbers of images?

    Or of only `units` independent images for each of the pooled models: does the conclusion stand?
    """
    n_a, n_b = (int(units.value) * k for k in models) if units else (a.n, b.n)
    low, high = chi_squared(a, n_a, b, n_b)
    found = f"p = {low:.2g}" + (f" to {high:.2g}{'' if units else ' by rounding'}" if high > low else "")
    good = True if high < limit.value else None if low < limit.value else False
    return Answer(good, found, max(0.0, (low - limit.value) / limit.value), found, more={"n_a": n_a, "n_b": n_b})


# --- one thing, one number and one name ---------------------------------------------------------------------------


@rule("said alike in several places")
def repeated(first: Fact, *others: Fact) -> Answer:
    """Is a number the same, within both roundings, in every place where it is printed again?"""
    apart = [fact for fact in others if not fact.agrees(first)]
    gap = max((first.gap(fact.value) for fact in apart), default=0.0)
    return Answer(not apart, f"{1 + len(others)} places", gap, f"{first.text} in all places")


@rule("one thing, one number")
def two_numbers(one: Fact, other: Fact) -> Answer:
    """Do two places, or two papers, give the same thing the same number?"""
    found = "the same" if one.agrees(other) else f"{number(abs(one.value - other.value))} apart"
    mend = f"{other.text} in place of {one.text}, or the other way round"
    return Answer(one.agrees(other), found, one.gap(other.value), mend)


@rule("one thing, one name")
def two_names(*facts: Fact, words: Sequence[str]) -> Answer:
    """Does the text call one thing by one name? `words` are the rival names, sought in the quotes."""
    used = {word: [f.where for f in facts if re.search(rf"\b{word}\b", f.quote, re.I)] for word in words}
    present = {word: dict.fromkeys(places) for word, places in used.items() if places}
    found = "; ".join(f"'{word}' in {', '.join(places)}" for word, places in present.items())
    return Answer(len(present) <= 1, found, mend=f"one name, such as '{next(iter(present), '')}'")
