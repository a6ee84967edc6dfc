"""Do accuracy, sensitivity and specificity come from one table of two by two?

Given the class sizes, each pair (right among the positives, right among the negatives) gives all three; the printed
values must be those of some pair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from helpers.audit.facts import Fact
from helpers.audit.grim import counts_for
from helpers.audit.record import Check, checked

RULE = "one table gives accuracy, sensitivity and specificity"


@dataclass(frozen=True)
class TwoByTwo:
    """What was printed of a yes/no classifier, and how many images it saw of each class."""

    accuracy: Fact
    sensitivity: Fact
    specificity: Fact
    positives: int
    negatives: int

    @property
    def facts(self) -> list[Fact]:
        return [self.accuracy, self.sensitivity, self.specificity]

    def values(self, tp: int, tn: int) -> list[float]:
        """Accuracy, sensitivity and specificity of `tp` and `tn` right."""
        return [(tp + tn) / (self.positives + self.negatives), tp / self.positives, tn / self.negatives]

    def tables(self) -> list[tuple[int, int]]:
        """Every (true positives, true negatives) that prints as all three values do."""
        rights = counts_for(self.accuracy, self.positives + self.negatives)
        return [
            (tp, tn)
            for tp in counts_for(self.sensitivity, self.positives)
            for tn in counts_for(self.specificity, self.negatives)
            if tp + tn in rights
        ]


@dataclass(frozen=True)
class Change:
    """The table that needs the fewest printed values changed, then the fewest units of their last digits."""

    tp: int
    tn: int
    changed: Mapping[str, float]  # quantity: the value it would have
    steps: int


def smallest_changes(table: TwoByTwo) -> list[Change]:
    """For each number of values changed that is possible, the fewest first: the change with the fewest steps.

    Of changes to one value, one a quantity is given; of more, only the smallest.
    """
    tp, tn = np.meshgrid(np.arange(table.positives + 1), np.arange(table.negatives + 1), indexing="ij")
    values = [(tp + tn) / (table.positives + table.negatives), tp / table.positives, tn / table.negatives]
    away = np.stack([_steps(fact, value) for fact, value in zip(table.facts, values, strict=True)])
    number, total = (away > 0).sum(axis=0), away.sum(axis=0)
    fewest = int(number.min())
    found = []
    for pattern in sorted({tuple(row) for row in (away > 0).reshape(3, -1).T[number.ravel() == fewest]}, reverse=True):
        same = ((away > 0) == np.array(pattern)[:, None, None]).all(axis=0)
        place = np.unravel_index(np.where(same, total, np.iinfo(total.dtype).max).argmin(), total.shape)
        right = int(tp[place]), int(tn[place])
        new = table.values(*right)
        changed = {fact.quantity: value for fact, value, moved in zip(table.facts, new, pattern, strict=True) if moved}
        found.append(Change(*right, changed, int(total[place])))
    return sorted(found, key=lambda change: change.steps)


def _steps(fact: Fact, values: np.ndarray) -> np.ndarray:
    """`Fact.steps` for an array."""
    return np.where(fact.holds(values), 0, np.maximum(1, np.rint(abs(values - fact.value) / (2 * fact.half)))).astype(
        int
    )


def class_sizes(table: TwoByTwo) -> list[int]:
    """The numbers of positives, of the same number of images in all, for which some table prints as all three do."""
    n = table.positives + table.negatives
    return [p for p in range(1, n) if TwoByTwo(table.accuracy, table.sensitivity, table.specificity, p, n - p).tables()]


def implied_share(table: TwoByTwo) -> tuple[float, float]:
    """The share of positives that the three values imply (accuracy lies between the other two, weighted by it).

    Lowest and highest that the rounding allows, within 0 to 1; NaN for both where none does.
    """
    corners = []
    for a in (table.accuracy.low, table.accuracy.high):
        for s in (table.sensitivity.low, table.sensitivity.high):
            for c in (table.specificity.low, table.specificity.high):
                if s != c:
                    corners.append((a - c) / (s - c))
    inside = [min(1.0, max(0.0, x)) for x in corners]
    if min(corners) > 1 or max(corners) < 0:
        return float("nan"), float("nan")
    return min(inside), max(inside)


def one_table(name: str, table: TwoByTwo, matters: int = 4, reading: str = "") -> Check:
    """The check for one classifier; `reading` says which class counts as positive, where the text leaves it open."""
    p, q, tables = table.positives, table.negatives, table.tables()
    given = f"{p:,} positives and {q:,} negatives{f' ({reading})' if reading else ''}; halves rounded either way"
    if tables:
        shown = "; ".join(f"{tp} of {p} and {tn} of {q}" for tp, tn in tables[:3])
        sentence = f"{_printed(table)} are those of {shown} right."
        return checked(name, RULE, table.facts, True, assumption=given, found=shown, matters=matters, sentence=sentence)
    changes = smallest_changes(table)
    low, high = implied_share(table)
    share = "no share of positives at all" if np.isnan(low) else f"{100 * low:.0f} to {100 * high:.0f} % positives"
    found = f"no table; the three imply {share}, the text says {100 * p / (p + q):.1f} %"
    alone = [counts_for(fact, n) for fact, n in zip(table.facts, (p + q, p, q), strict=True)]
    if all(alone):
        right = alone[1][0] + alone[2][0], alone[1][-1] + alone[2][-1]
        found = (
            f"{alone[1][0]} of {p} and {alone[2][0]} of {q} make {right[0]} right, "
            f"which is {table.accuracy.show(right[0] / (p + q))}; {found}"
        )
    sentence = (
        f"{_printed(table)} cannot all be right for {p:,} and {q:,} images; "
        f"the least change is {describe(table, changes[0])}. A misprint is the likeliest cause."
    )
    return checked(
        name,
        RULE,
        table.facts,
        False,
        assumption=given,
        found=found,
        matters=matters,
        sentence=sentence,
        gap=_gap(table, changes[0]),
        mend="; or ".join(describe(table, change) for change in changes[:3]),
    )


def describe(table: TwoByTwo, change: Change) -> str:
    """'accuracy 98.6 % (4 in the last digit; 245 of 250 and 248 of 250)'."""
    by_name = {fact.quantity: fact for fact in table.facts}
    parts = [f"{_short(name)} {by_name[name].show(value)}" for name, value in change.changed.items()]
    right = f"{change.tp} of {table.positives} and {change.tn} of {table.negatives}"
    return f"{' and '.join(parts)} ({change.steps} in the last digits; {right} right)"


def _gap(table: TwoByTwo, change: Change) -> float:
    by_name = {fact.quantity: fact for fact in table.facts}
    return sum(by_name[name].gap(value) for name, value in change.changed.items())


def _short(quantity: str) -> str:
    return quantity.split(",")[0]


def _printed(table: TwoByTwo) -> str:
    parts: Sequence[str] = [f"{_short(fact.quantity)} {fact.text}" for fact in table.facts]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
