"""The same number said in several places, and one thing with two names or two numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from helpers.audit.facts import Fact, Facts, as_fact
from helpers.audit.record import Check, checked

SAME = "said alike in several places"
TWO = "one thing, one number"
NAMES = "one thing, one name"


def repeated(facts: Facts) -> list[Check]:
    """Every number that a paper says more than once; each place is held against the first, within both roundings.

    data/published/ links places only where the value is the same, so these agree; where a paper gives one thing two
    numbers, `two_numbers` is asked.
    """
    rows = facts.rows[(facts.rows["kind"] == "number")]
    groups = rows[rows["repeats"].fillna("") != ""].groupby("repeats", sort=False)
    checks = []
    for first, again in groups:
        said = [facts[first], *(as_fact(row) for _, row in again.iterrows())]
        apart = [fact for fact in said if not fact.agrees(said[0])]
        texts = ", ".join(dict.fromkeys(fact.text for fact in said))
        checks.append(
            checked(
                f"repeated.{first.partition('.')[2]}",
                SAME,
                said,
                not apart,
                assumption="both roundings allowed",
                found=f"{len(said)} places",
                matters=2,
                sentence=f"{said[0].quantity}: said in {len(said)} places, as {texts}.",
                gap=max((said[0].gap(fact.value) for fact in apart), default=0.0),
                mend=f"{said[0].text} in all places",
            )
        )
    return checks


def two_numbers(name: str, one: Fact, other: Fact, what: str, matters: int = 2, why: str = "", mend: str = "") -> Check:
    """Do two places, or two papers, give the same thing the same number?"""
    good = one.agrees(other)
    away = abs(one.value - other.value)
    sentence = f"{what}: {one.text} ({one.paper}, {one.where}) and {other.text} ({other.paper}, {other.where})" + (
        "." if good else f" differ by {away:,.10g}. {why or 'A misprint is the likeliest cause.'}"
    )
    return checked(
        name,
        TWO,
        [one, other],
        good,
        assumption="both mean the same thing",
        found="the same" if good else f"{away:,.10g} apart",
        matters=matters,
        sentence=sentence,
        gap=one.gap(other.value),
        mend=mend or f"{other.text} in place of {one.text}, or the other way round",
    )


def two_names(
    name: str, facts: Sequence[Fact], words: Sequence[str], what: str, matters: int = 2, why: str = ""
) -> Check:
    """Does the text call one thing by one name? `words` are the rival names, sought in the quotes."""
    used = {word: [fact for fact in facts if re.search(rf"\b{word}\b", fact.quote, re.IGNORECASE)] for word in words}
    present = [word for word, found in used.items() if found]
    told = "; ".join(f"'{word}' in {', '.join(dict.fromkeys(f.where for f in used[word]))}" for word in present)
    good = len(present) <= 1
    return checked(
        name,
        NAMES,
        facts,
        good,
        assumption="the quoted words around the number",
        found=told,
        matters=matters,
        sentence=f"{what}: {told or 'no name'}." + (f" {why}" if why and not good else ""),
        gap=0.0,
        mend=f"one name, such as '{present[0]}'" if present else "",
    )
