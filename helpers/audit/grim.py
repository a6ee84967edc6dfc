"""Is a printed proportion attainable by any count? (The granularity test, GRIM: Brown and Heathers 2017, 8:363.)

Of 390 images, 363 right are 93.1 % and 364 are 93.3 %: no count gives 93.2 %.
"""

from __future__ import annotations

import math

from helpers.audit.facts import EPS, Fact, Facts
from helpers.audit.record import Check, checked

RULE = "attainable by a count (GRIM)"
REACH = 0.25  # how far another n is looked for, as a share of the stated n


def counts_for(fact: Fact, n: int) -> range:
    """The counts k of 0 to n for which k / n would be printed as `fact` is. Raises `ValueError` for n below 1."""
    if n < 1:
        raise ValueError(f"{fact.id}: counts of n = {n}")
    return range(max(0, math.ceil(fact.low * n - EPS)), min(n, math.floor(fact.high * n + EPS)) + 1)


def neighbours(fact: Fact, n: int) -> list[tuple[int, float]]:
    """The counts just below and above the printed value, with the proportion each gives."""
    below = math.floor(fact.value * n + EPS)
    return [(k, k / n) for k in (below, below + 1) if 0 <= k <= n]


def cut_off(fact: Fact, n: int) -> int | None:
    """The count that prints so if digits are cut off, not rounded; None where there is none."""
    k = math.ceil(fact.value * n - EPS)
    return k if k <= n and k / n < fact.value + 2 * fact.half - EPS else None


def nearest_n(fact: Fact, n: int) -> int | None:
    """The number of images nearest to `n` (within `REACH`) of which some count gives the printed value."""
    for away in range(math.ceil(REACH * n) + 1):
        for other in (n - away, n + away):
            if other >= 1 and counts_for(fact, other):
                return other
    return None


def smallest_n(fact: Fact) -> int:
    """The fewest images of which some count gives the printed value."""
    n = 1
    while not counts_for(fact, n):
        n += 1
    return n


def attainable(fact: Fact, matters: int = 3) -> Check:
    """The check for one proportion with (or without) its n."""
    name = f"grim.{fact.id.partition('.')[2]}"
    if fact.n is None:
        return _without_n(fact, name, matters)
    n, counts = fact.n, counts_for(fact, fact.n)
    assumption = f"n = {n:,}; rounded to the last printed digit, halves either way"
    if counts:
        finer = "; this n is so large that every printed value is attainable" if 1 / n <= 2 * fact.half else ""
        found = f"{_counts(counts)} of {n:,}{finer}"
        sentence = f"{fact.quantity}: {fact.text} is {_counts(counts)} of {n:,}."
        return checked(name, RULE, [fact], True, assumption=assumption, found=found, matters=matters, sentence=sentence)
    near, other, cut = neighbours(fact, n), nearest_n(fact, n), cut_off(fact, n)
    shown = " or ".join(f"{fact.show(value)} ({k:,} of {n:,})" for k, value in near)
    best = min(near, key=lambda pair: abs(pair[1] - fact.value))
    mend = f"{fact.show(best[1])}, {fact.steps(best[1])} in the last digit" + (
        f"; or n = {other:,}, {abs(other - n)} away" if other else ""
    )
    sentence = (
        f"{fact.quantity}: no count of {n:,} prints as {fact.text}; the nearest are {shown}. A misprint, "
        "or another number of images than the text names, is the likeliest cause."
    )
    return checked(
        name,
        RULE,
        [fact],
        False,
        assumption=assumption,
        found=f"no count: {shown}" + (f"; cut off rather than rounded, {cut:,} of {n:,} would print so" if cut else ""),
        matters=matters,
        sentence=sentence,
        gap=fact.gap(best[1]),
        mend=mend,
    )


def _without_n(fact: Fact, name: str, matters: int) -> Check:
    least = smallest_n(fact)
    return checked(
        name,
        RULE,
        [fact],
        "undecidable",
        assumption="the text gives no n",
        found=f"attainable with {least} images or more, not with every number of them",
        matters=matters,
        sentence=f"{fact.quantity}: without the number of images, {fact.text} cannot be held against a count.",
        mend="print the number of images",
    )


def _counts(counts: range) -> str:
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"


def audit(facts: Facts, skip: tuple[str, ...] = ()) -> list[Check]:
    """Every proportion of images that the papers print once (repeats are left out), but for ids that begin with `skip`.

    The quoted ones have no n and no claim here; an AUROC counts pairs, of which there are too many to exclude anything.
    """
    chosen = facts.where(
        lambda rows: (
            (rows["measure"] == "proportion") & (rows["repeats"] == "") & ~rows["id"].str.startswith(skip or ("\0",))
        )
    )
    return [attainable(fact) for fact in chosen]
