"""Do counts add up? Sums, products, limits, and the same thing counted twice."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.audit.facts import Fact
from helpers.audit.record import Check, checked

RULE = "counts add up"
EXACT = "counts are exact"
MISPRINT = "A misprint is the likeliest cause."


def _number(x: float) -> str:
    return f"{x:,.10g}"


def equal(
    name: str,
    whole: Fact,
    made: float,
    how: str,
    parts: Sequence[Fact] = (),
    *,
    matters: int = 2,
    assumption: str = EXACT,
    why: str = "",
    undecided: str = "",
    mend: str = "",
) -> Check:
    """Is `whole` the number `made` from its parts, as `how` says? `why` ends the sentence where it is not.

    With `undecided`, a difference has this innocent reading too, and the outcome is undecidable.
    """
    good = bool(whole.holds(made))
    shown = f"{100 * made:.1f} %" if whole.percent else _number(made)
    sentence = f"{whole.quantity}: {how} {'is' if good else 'is not'} {whole.text}"
    sentence += "." if good else f", but {shown}. {undecided or why or MISPRINT}"
    return checked(
        name,
        RULE,
        [whole, *parts],
        good if good or not undecided else "undecidable",
        assumption=assumption,
        found=f"{how} = {shown}",
        matters=matters,
        sentence=sentence,
        gap=whole.gap(made),
        mend=mend or f"{shown} in place of {whole.text}",
    )


def total(name: str, whole: Fact, parts: Sequence[Fact], **options) -> Check:
    """Is `whole` the sum of its parts?"""
    how = " + ".join(_number(part.value) for part in parts)
    return equal(name, whole, sum(part.value for part in parts), how, parts, **options)


def product(name: str, whole: Fact, parts: Sequence[Fact], plus: int = 0, **options) -> Check:
    """Is `whole` the product of its parts? `plus` is added to the last (the image itself beside its augmentations)."""
    factors = [part.value for part in parts]
    factors[-1] += plus
    made = 1.0
    for factor in factors:
        made *= factor
    texts = [_number(part.value) for part in parts]
    texts[-1] = f"({texts[-1]} + {plus})" if plus else texts[-1]
    return equal(name, whole, made, " x ".join(texts), parts, **options)


def part(name: str, share: Fact, some: Fact, whole: Fact, **options) -> Check:
    """Is `share` what `some` are of `whole`?"""
    made, how = some.value / whole.value, f"{some.text} of {whole.text}"
    return equal(name, share, made, how, [some, whole], **options)


def at_most(
    name: str,
    small: Fact,
    limit: float,
    how: str,
    parts: Sequence[Fact] = (),
    *,
    matters: int = 2,
    assumption: str = EXACT,
    why: str = "",
    mend: str = "",
    strictly: bool = False,
) -> Check:
    """Is `small` at most (or, strictly, less than) `limit`, which is `how`?"""
    good = small.value < limit if strictly else small.value <= limit
    word = ("is less than" if good else "is not less than") if strictly else "is at most" if good else "is more than"
    sentence = f"{small.quantity}: {small.text} {word} {how}"
    sentence += "." if good else f". {why or MISPRINT}"
    return checked(
        name,
        RULE,
        [small, *parts],
        good,
        assumption=assumption,
        found=f"{small.text} against {how}",
        matters=matters,
        sentence=sentence,
        gap=max(0.0, small.value - limit) / abs(small.value) if small.value else 0.0,
        mend=mend or f"{_number(limit)} or less in place of {small.text}",
    )


def at_least(name: str, large: Fact, limit: float, how: str, parts: Sequence[Fact] = (), **options) -> Check:
    """Is `large` at least `limit`, which is `how`? ("over 150,000")"""
    good = large.value >= limit
    matters, assumption = options.get("matters", 2), options.get("assumption", EXACT)
    return checked(
        name,
        RULE,
        [large, *parts],
        good,
        assumption=assumption,
        found=f"{large.text} against {how}",
        matters=matters,
        sentence=f"{large.quantity}: {large.text} {'is' if good else 'is not'} at least {how}.",
        gap=max(0.0, limit - large.value) / abs(large.value) if large.value else 0.0,
        mend=f"{_number(limit)} or more in place of {large.text}",
    )
