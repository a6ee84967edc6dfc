"""The audit's rules for tables of two by two, weighted errors and predictive values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from helpers.audit.facts import VALUES, Fact, ScoredSet
from helpers.audit.rules import Answer, rule

# --- one table of two by two --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TwoByTwo:
    """What was printed of a binary classifier (accuracy, sensitivity, specificity), and its images per class."""

    facts: Mapping[str, Fact]
    positives: int
    negatives: int

    @property
    def counts(self) -> list[range]:
        """The counts of correct answers that print as each value does: in all, among the positives, the negatives."""
        sizes = self.positives + self.negatives, self.positives, self.negatives
        return [fact.counts(n) for fact, n in zip(self.facts.values(), sizes, strict=True)]

    def values(self, tp: Any, tn: Any) -> list[Any]:
        """Accuracy, sensitivity and specificity of `tp` and `tn` correct."""
        return [(tp + tn) / (self.positives + self.negatives), tp / self.positives, tn / self.negatives]

    def tables(self) -> list[tuple[int, int]]:
        """Every (true positives, true negatives) that prints as all three values do."""
        right, *both = self.counts
        return [(tp, tn) for tp, tn in product(*both) if tp + tn in right]


def smallest_changes(table: TwoByTwo) -> list[tuple[int, int, int, dict[str, float]]]:
    """The tables that need the fewest values changed: one for each choice of values, with the fewest steps.

    Each as (units of the last printed digits in all, true positives, true negatives, the changed values by name).
    """
    tp, tn = np.meshgrid(np.arange(table.positives + 1), np.arange(table.negatives + 1), indexing="ij")
    away = np.stack([fact.steps(value) for fact, value in zip(table.facts.values(), table.values(tp, tn), strict=True)])
    moved, total = away > 0, away.sum(axis=0)
    number = moved.sum(axis=0)
    found = []
    for pattern in sorted(set(map(tuple, moved[:, number == number.min()].T)), reverse=True):
        same = (moved == np.array(pattern)[:, None, None]).all(axis=0)
        place = np.unravel_index(np.where(same, total, total.max() + 1).argmin(), total.shape)
        right = int(tp[place]), int(tn[place])
        new = zip(table.facts, table.values(*right), pattern, strict=True)
        found.append((int(total[place]), *right, {name: value for name, value, go in new if go}))
    return sorted(found, key=lambda change: change[0])


def implied_share(accuracy: Fact, sensitivity: Fact, specificity: Fact) -> tuple[float, float]:
    """The share of positives that the three values imply (accuracy lies between the other two, weighted by it).

    Lowest and highest that the rounding allows, within 0 to 1; NaN for both where none does.
    """
    ends = product(*((fact.low, fact.high) for fact in (accuracy, sensitivity, specificity)))
    corners = [(a - c) / (s - c) for a, s, c in ends if s != c]
    if min(corners) > 1 or max(corners) < 0:
        return math.nan, math.nan
    return max(0.0, min(corners)), min(1.0, max(corners))


@rule("one table gives accuracy, sensitivity and specificity")
def one_table(*facts: Fact, positives: Fact, negatives: Fact) -> Answer:
    """Do accuracy, sensitivity and specificity come from one table of two by two?"""
    p, q = int(positives.value), int(negatives.value)
    table = TwoByTwo(dict(zip(VALUES, facts, strict=False)), p, q)
    if tables := table.tables():
        return Answer(True, "; ".join(f"{tp} of {p} and {tn} of {q}" for tp, tn in tables[:3]))
    low, high = implied_share(*facts)
    share = "no share of positives at all" if np.isnan(low) else f"{100 * low:.0f} to {100 * high:.0f} % positives"
    found = f"no table; the three imply {share}, the text says {100 * p / (p + q):.1f} %"
    if all(table.counts):
        tp, tn = (counts[0] for counts in table.counts[1:])
        right = f"{tp} of {p} and {tn} of {q} make {tp + tn} right"
        found = f"{right}, which is {facts[0].show((tp + tn) / (p + q))}; {found}"
    changes = smallest_changes(table)
    gap = sum(table.facts[name].gap(value) for name, value in changes[0][-1].items())
    return Answer(False, found, gap, "; or ".join(_describe(table, *change) for change in changes[:3]))


def _describe(table: TwoByTwo, steps: int, tp: int, tn: int, changed: Mapping[str, float]) -> str:
    """'accuracy 98.6 % (4 in the last digits; 245 of 250 and 248 of 250 right)'."""
    values = " and ".join(f"{name} {table.facts[name].show(value)}" for name, value in changed.items())
    return f"{values} ({steps} in the last digits; {tp} of {table.positives} and {tn} of {table.negatives} right)"


@rule("accuracy lies between sensitivity and specificity")
def accuracy_between(accuracy: Fact, sensitivity: Fact, specificity: Fact) -> Answer:
    """Is there any share of positives for which accuracy is the weighted mean of the other two?"""
    low, high = implied_share(accuracy, sensitivity, specificity)
    found = "no share of positives" if np.isnan(low) else f"{100 * low:.1f} to {100 * high:.1f} % positives"
    near = min((sensitivity.value, specificity.value), key=lambda x: abs(x - accuracy.value))
    return Answer(not np.isnan(low), found, accuracy.gap(near), accuracy.show(near))


# --- the weighted error -------------------------------------------------------------------------------------------


def penalty_totals(
    results: Sequence[Fact], penalties: Sequence[Fact], none_as_normal: bool = False
) -> dict[float, str]:
    """Each sum of penalties that accuracy, sensitivity and specificity allow, and how it comes about.

    Accuracy counts all classes, sensitivity and specificity urgent referral, so only the urgent images that were missed
    have a choice of penalty. `penalties` are those of an urgent image called normal, an urgent one called drusen, and
    any other error; with `none_as_normal` no urgent image was called normal.
    """
    normal, drusen, other = (fact.value for fact in penalties)
    n, urgent = results[0].n, results[1].n
    counts = [fact.counts(size) for fact, size in zip(results, (n, urgent, n - urgent), strict=True)]
    found = {}
    for right, tp, tn in product(*counts):
        wrong, missed, needless = n - right, urgent - tp, n - urgent - tn
        if missed + needless > wrong:
            continue
        for as_normal in range(1 if none_as_normal else missed + 1):
            total = normal * as_normal + drusen * (missed - as_normal) + other * (wrong - missed)
            how = f"{missed - as_normal} urgent called drusen, {as_normal} called normal, {needless} needless referrals"
            found.setdefault(total, f"{how}, {wrong - missed - needless} other errors")
    return found


@rule("weighted error agrees with accuracy, sensitivity and specificity")
def weighted_error(*facts: Fact, penalties: Sequence[Fact], none_as_normal: bool = False) -> Answer:
    """Is the weighted error, the last fact, one that accuracy, sensitivity, specificity and the penalties allow?"""
    *results, error = facts
    n = results[0].n
    possible = {total / n: how for total, how in penalty_totals(results, penalties, none_as_normal).items()}
    if not possible:
        return Answer(False, "more referral errors than errors in all", 1.0, "a lower accuracy")
    if how := next((how for value, how in possible.items() if error.holds(value)), ""):
        return Answer(True, how)
    nearest = sorted(possible, key=lambda value: abs(value - error.value))
    near, low, high = nearest[0], min(possible), max(possible)
    span = error.show(low)
    if low != high:
        close = ", ".join(error.show(value) for value in nearest[:2])
        span += f" to {error.show(high)} in {len(possible)} steps (nearest: {close})"
    mends = [f"weighted error {error.show(near)}, {error.steps(near)} in the last digit"]
    mends += _other_values(results, error, penalties, none_as_normal)
    return Answer(False, f"{span}; {possible[near]}", error.gap(near), "; or ".join(mends))


def _other_values(results: Sequence[Fact], error: Fact, *penalties: Any) -> list[str]:
    """The nearest accuracy, and the nearest sensitivity, that would make the weighted error possible, each alone."""
    found = []
    for place, name in enumerate(("accuracy", "sensitivity")):
        fact, changed = results[place], list(results)
        for k in sorted(range(fact.n + 1), key=lambda k: abs(k / fact.n - fact.value)):
            changed[place] = replace(fact, value=k / fact.n, half=0.0)
            if any(error.holds(total / results[0].n) for total in penalty_totals(changed, *penalties)):
                steps = fact.steps(k / fact.n)
                found.append((steps, f"{name} {fact.show(k / fact.n)}, {steps} in the last digit"))
                break
    return [text for _, text in sorted(found)]


# --- predictive values: one number of positives for a test set ----------------------------------------------------


def spans(found: np.ndarray, n: int) -> str:
    """'261 to 277 (1.2 to 1.3 %)'."""
    if not len(found):
        return "none"
    ends = dict.fromkeys((int(min(found)), int(max(found))))
    return f"{' to '.join(f'{k:,}' for k in ends)} ({' to '.join(f'{100 * k / n:.1f}' for k in ends)} %)"


@rule("one number of positives for a test set")
def positives_of_row(*facts: Fact, test_set: ScoredSet, row: str) -> Answer:
    """Do the predictive values of one network share a number of positives?"""
    found, printed = test_set.by_row[row], test_set.rows[row]
    rest = {name: {k: fact for k, fact in printed.items() if k != name} for name in ("accuracy", "ppv", "npv")}
    culprits = [] if len(found) else [k for k, r in rest.items() if len(replace(test_set, rows={row: r}).shared)]
    mend = f"another {' or '.join(culprits) or 'value in more than one place'}"
    return Answer(bool(len(found)), f"positives: {spans(found, test_set.n)}", 1e-3, mend)


@rule("one number of positives for a test set")
def positives_of_set(size: Fact, *facts: Fact, test_set: ScoredSet) -> Answer:
    """Do all networks that were scored on one test set share a number of positives?"""
    each = "; ".join(spans(found, test_set.n) for found in test_set.by_row.values())
    rows, shared = test_set.rows, test_set.shared
    rest = {name: {k: row for k, row in rows.items() if k != name} for name in rows}
    odd = [] if len(shared) else [k for k, row in rest.items() if len(replace(test_set, rows=row).shared)]
    mend = f"other values {' or '.join(odd)}" if odd else "more than one row changed"
    return Answer(bool(len(shared)), f"shared: {spans(shared, test_set.n)}; each row: {each}", 1e-2, mend)


@rule("one number of positives for a test set")
def positives_of_parts(size: Fact, *sizes: Fact, test_set: ScoredSet) -> Answer:
    """Is a number of positives of the joint set the sum of numbers of its parts?"""
    own, parts, both = (spans(x, test_set.n) for x in (test_set.shared, test_set.of_parts, test_set.positives))
    return Answer(bool(len(test_set.positives)), f"joint {own}; parts {parts}; common {both}", 1e-2)
