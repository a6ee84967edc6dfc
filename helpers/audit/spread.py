"""A class-averaged value with '+/-': what can the spread be? And averages beside totals."""

from __future__ import annotations

import math

from helpers.audit.facts import Fact
from helpers.audit.record import Check, checked

SPREAD = "spread fits its mean"
BALANCED = "class average equals total on a balanced set"


def largest_deviation(mean: float, k: int, sample: bool) -> float:
    """The greatest standard deviation of `k` values in 0 to 1 with this mean: all but one of them at an end.

    With `sample` the divisor is k - 1, else k.
    """
    ones = math.floor(k * mean + 1e-12)
    values = [1.0] * ones + ([k * mean - ones] + [0.0] * (k - ones - 1) if ones < k else [])
    squares = sum((x - mean) ** 2 for x in values)
    return math.sqrt(squares / (k - 1 if sample else k))


def readings(mean: Fact, spread: Fact, k: int) -> dict[str, bool]:
    """What '+/-' could mean, and whether it fits: an interval within 0 to 1, deviations of two kinds, half a range."""
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


def spread_fits(name: str, mean: Fact, spread: Fact, k: int, matters: int = 2) -> Check:
    """Which readings of '+/-' are possible? Inconsistent if none is; else undecidable, for the text does not say."""
    table = readings(mean, spread, k)
    fits, fails = ([word for word, good in table.items() if good is wanted] for wanted in (True, False))
    most = largest_deviation(mean.low, k, sample=False)
    reach = f"{mean.text} + {spread.text} = {mean.value + spread.value:.{max(mean.decimals, spread.decimals)}f}"
    outcome = "inconsistent" if not fits else "undecidable"
    only = f" (so only if all but one of the {k} are nearly perfect)" if most >= spread.low > 0.95 * most else ""
    found = f"{reach}; greatest deviation {most:.4f}{only}; fits: {'; '.join(fits) or 'nothing'}" + (
        f"; does not fit: {'; '.join(fails)}" if fails else ""
    )
    return checked(
        name,
        SPREAD,
        [mean, spread],
        outcome,
        assumption=f"{k} classes; the text does not say what '+/-' is",
        found=found,
        matters=matters,
        sentence=f"{mean.quantity} {mean.text} (+/- {spread.text}): {found}.",
        gap=1.0,
        mend="say what '+/-' is",
    )


def finer_than_mean(name: str, mean: Fact, spread: Fact, matters: int = 1) -> Check:
    """Is the spread printed with more digits than its mean? One more, and that a 5, is what halving a range leaves."""
    good = spread.decimals <= mean.decimals
    twice = 2 * spread.value
    halved = not good and abs(twice * 10**mean.decimals - round(twice * 10**mean.decimals)) < 1e-9
    found = f"{spread.decimals} decimals beside {mean.decimals}" + (
        f"; twice {spread.text} is {twice:.{mean.decimals}f}, so half a range would print so" if halved else ""
    )
    return checked(
        name,
        "digits of a spread",
        [mean, spread],
        good if good else "undecidable",
        assumption="value and spread are usually rounded alike",
        found=found,
        matters=matters,
        sentence=f"{mean.quantity} {mean.text} (+/- {spread.text}): {found}.",
        mend="the same digits for both, and what the spread is",
    )


def balanced(name: str, total: Fact, average: Fact, where: str, matters: int = 3) -> Check:
    """On a set with as many images of each class, accuracy and class-averaged sensitivity are the same number."""
    same = total.agrees(average)
    found = f"{total.text} and {average.text} " + (
        "can be one number" if same else "cannot be one number, however rounded"
    )
    return checked(
        name,
        BALANCED,
        [total, average],
        "consistent" if same else "undecidable",
        assumption=where,
        found=found,
        matters=matters,
        sentence=f"{total.quantity}: {found}"
        + (". " if same else ", so the held-back set was not balanced, or one is a misprint. ")
        + f"Assumed: {where}.",
        mend="print the confusion matrix, or how many images of each class were held back",
    )
