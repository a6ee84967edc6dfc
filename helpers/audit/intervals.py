"""Do printed intervals follow from n by the method that the text names?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helpers.audit.facts import Fact
from helpers.audit.grim import counts_for
from helpers.audit.record import Check, checked
from helpers.metrics import proportions
from helpers.run.published import hanley_mcneil

RULE = "printed interval follows from n"
METHODS = proportions.METHODS | {"Wald": "normal"}  # our name: statsmodels' name
LOOSE = 0.15  # an AUROC's interval may be so much wider or narrower than Hanley and McNeil's, another method


def interval(k: int, n: int, method: str) -> tuple[float, float]:
    """The 95 % interval of `k` of `n`, cut to 0 and 1 as it would be printed."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(k, n, alpha=proportions.ALPHA, method=METHODS[method])
    return (0.0 if k == 0 else max(0.0, float(low))), (1.0 if k == n else min(1.0, float(high)))


def fitting(fact: Fact, n: int, method: str) -> list[int]:
    """The counts that print as the value, and whose interval by `method` prints as the printed limits."""
    half = _limit_half(fact)
    found = []
    for k in counts_for(fact, n):
        limits = interval(k, n, method)
        if all(abs(x - said) <= half + 1e-9 for x, said in zip(limits, fact.limits, strict=True)):
            found.append(k)
    return found


def _limit_half(fact: Fact) -> float:
    """Half a unit of the last digit that the limits show; it may be finer than the value's ('100 % (99.73-')."""
    scale = 100 if fact.percent else 1
    digits = max(len(f"{scale * limit:.6f}".rstrip("0").partition(".")[2]) for limit in fact.limits)
    return min(fact.half, 0.5 * 10.0**-digits / scale)


def show_limits(fact: Fact, limits: Sequence[float]) -> str:
    """'99.67 to 99.78 %', with as many digits as the printed limits."""
    scale = 100 if fact.percent else 1
    digits = max(0, round(-np.log10(2 * _limit_half(fact) * scale)))
    return " to ".join(f"{scale * x:.{digits}f}" for x in limits) + (" %" if fact.percent else "")


def follows(name: str, fact: Fact, named: str, sizes: dict[int, str], matters: int = 3) -> Check:
    """Is the interval of a proportion that of the method `named`, for the first of `sizes` (n: whose)?

    The other sizes and methods are tried as well, and what they give is told. Raises `ValueError` without limits.
    """
    if fact.limits is None:
        raise ValueError(f"{fact.id} has no interval")
    said = show_limits(fact, fact.limits)
    hits = [(n, method) for n in sizes for method in METHODS if fitting(fact, n, method)]
    told = "; ".join(f"{method} of {n:,} ({sizes[n]})" for n, method in hits) or "none of those tried"
    (n, whose), *others = sizes.items()
    would = interval(max(counts_for(fact, n), default=round(fact.value * n)), n, named)
    rest = "; ".join(
        f"n = {m:,} ({text}) would give {show_limits(fact, interval(round(fact.value * m), m, named))}"
        for m, text in others
    )
    good = (n, named) in hits
    sentence = (
        f"{fact.quantity}: {said} {'is' if good else 'is not'} the {named} interval of {n:,} ({whose})"
        + ("" if good else f", which is {show_limits(fact, would)}")
        + (f"; {rest}." if rest else ".")
    )
    return checked(
        name,
        RULE,
        [fact],
        good,
        assumption=f"{named}, n = {n:,} ({whose}), images independent",
        found=f"fits {told}",
        matters=matters,
        sentence=sentence,
        gap=max(fact.gap(x) if not good else 0 for x in would),
        mend=f"{show_limits(fact, would)}",
    )


def auroc_width(name: str, fact: Fact, positives: Sequence[int], n: int, matters: int = 3) -> Check:
    """Is an AUROC's printed interval about as wide as Hanley and McNeil's for so many positives of `n`?

    The text names no method, and DeLong's differs somewhat, so a difference within `LOOSE` is consistent and a larger
    one is undecidable: it never proves a misprint. Limits that do not hold the value would.
    """
    low, high = fact.limits
    spread = 2 * 1.959964 * np.array([hanley_mcneil(fact.value, p, n - p) for p in (min(positives), max(positives))])
    printed, ratio = high - low, (high - low) / spread.mean()
    inside = low - fact.half <= fact.value <= high + fact.half
    near = (1 - LOOSE) * spread.min() - 2 * fact.half <= printed <= (1 + LOOSE) * spread.max() + 2 * fact.half
    found = f"{printed:.3f} wide; Hanley and McNeil's is {spread.min():.3f} to {spread.max():.3f} (ratio {ratio:.2f})"
    return checked(
        name,
        RULE,
        [fact],
        "inconsistent" if not inside else "consistent" if near else "undecidable",
        assumption=f"{min(positives):,} to {max(positives):,} positives of {n:,}; the method is not named",
        found=found,
        matters=matters,
        sentence=f"{fact.quantity}: the interval is {found}.",
        gap=1.0,
        mend="an interval that holds the value" if not inside else "name the method",
    )


def independent(name: str, fact: Fact, units: int, whose: str, named: str, matters: int) -> Check:
    """What an interval would be if only `units` of the `n` observations were independent; undecidable by its nature."""
    k = round(fact.value * units)
    wide = show_limits(fact, interval(k, units, named))
    wrong = [fact.n - k for k in counts_for(fact, fact.n)]
    span = f"{min(wrong):,} to {max(wrong):,}"
    sentence = (
        f"{fact.quantity}: the interval {show_limits(fact, fact.limits)} takes {fact.n:,} images for independent, but "
        f"they come from {units:,} {whose}; {k:,} of {units:,} would have {wide}. {fact.text} leaves {span} images "
        f"wrong, while each of the {units:,} has {fact.n // units:,}."
    )
    return checked(
        name,
        RULE,
        [fact],
        "undecidable",
        assumption=f"only the {units:,} {whose} are independent",
        found=f"{wide} for {k:,} of {units:,}; {span} images are wrong",
        matters=matters,
        sentence=sentence,
        mend=f"an interval by {whose}: at the widest {wide}",
    )
