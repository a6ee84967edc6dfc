"""The audit's rules for classifiers: tables of two by two, weighted errors, predictive values, AUROCs and intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from helpers.audit.facts import VALUES, Fact, ScoredSet
from helpers.audit.rules import Answer, chi_squared, rule
from helpers.metrics import estimate
from helpers.run.claims import hanley_mcneil

METHODS = estimate.METHODS | {"Wald": "normal"}  # our name: statsmodels' name
LOOSE = 0.15  # an AUROC's interval may be so much wider or narrower than Hanley and McNeil's, another method

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
        return [fact.counts(n) for fact, n in zip(self.facts.values(), self.sizes, strict=True)]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """The images of accuracy, of sensitivity and of specificity."""
        return self.positives + self.negatives, self.positives, self.negatives

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
    """Do accuracy, sensitivity and specificity come from one table of two by two, whichever class is positive?"""
    sizes = int(positives.value), int(negatives.value)
    either = [TwoByTwo(dict(zip(VALUES, facts, strict=False)), *pair) for pair in dict.fromkeys((sizes, sizes[::-1]))]
    if fits := [(table, tables) for table in either if (tables := table.tables())]:
        table, tables = fits[0]
        return Answer(True, "; ".join(f"{tp} of {table.positives} and {tn} of {table.negatives}" for tp, tn in tables))
    low, high = implied_share(*facts)
    share = "no share of positives at all" if np.isnan(low) else f"{100 * low:.0f} to {100 * high:.0f} % positives"
    said = " or ".join(f"{100 * table.positives / sum(sizes):.1f}" for table in either)
    found = f"no table; the three imply {share}, the text says {said} %"
    if all(either[0].counts):
        tp, tn = (counts[0] for counts in either[0].counts[1:])
        right = f"{tp} of {sizes[0]} and {tn} of {sizes[1]} make {tp + tn} right"
        found = f"{right}, which is {facts[0].show((tp + tn) / sum(sizes))}; {found}"
    best = [(table, *change) for table in either for change in smallest_changes(table)[: 3 if len(either) == 1 else 1]]
    best.sort(key=lambda change: (len(change[-1]), change[1]))
    gap = sum(fact.gap(best[0][-1][name]) for name, fact in either[0].facts.items() if name in best[0][-1])
    return Answer(False, found, gap, "; or ".join(_describe(*change) for change in best))


def _describe(table: TwoByTwo, steps: int, tp: int, tn: int, changed: Mapping[str, float]) -> str:
    """'accuracy 98.6 % (4 in the last digits; 245 of 250 positives and 248 of 250 negatives right)'."""
    values = " and ".join(f"{name} {table.facts[name].show(value)}" for name, value in changed.items())
    right = f"{tp} of {table.positives} positives and {tn} of {table.negatives} negatives right"
    return f"{values} ({steps} in the last digits; {right})"


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
def weighted_error(*facts: Fact, penalties: Sequence[Fact]) -> Answer:
    """Is the weighted error, the last fact, one that accuracy, sensitivity, specificity and the penalties allow?

    One table is taken for granted: sensitivity and specificity are of the labels that accuracy counts, not of another
    threshold. `more` holds what it would be if no urgent image was called normal.
    """
    *results, error = facts
    n = results[0].n
    possible = {total / n: how for total, how in penalty_totals(results, penalties).items()}
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
    mends += _other_values(results, error, penalties)
    mends.append("sensitivity and specificity of another threshold than the labels', if they are")
    least = error.show(min(penalty_totals(results, penalties, none_as_normal=True), default=math.nan) / n)
    return Answer(False, f"{span}; {possible[near]}", error.gap(near), "; or ".join(mends), more={"least": least})


def _other_values(results: Sequence[Fact], error: Fact, penalties: Sequence[Fact]) -> list[str]:
    """The nearest accuracy, and the nearest sensitivity, that would make the weighted error possible, each alone."""
    found = []
    for place, name in enumerate(("accuracy", "sensitivity")):
        fact, changed = results[place], list(results)
        for k in sorted(range(fact.n + 1), key=lambda k: abs(k / fact.n - fact.value)):
            changed[place] = replace(fact, value=k / fact.n, half=0.0)
            if any(error.holds(total / results[0].n) for total in penalty_totals(changed, penalties)):
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
def positives_of_set(size: Fact, *facts: Fact, test_set: ScoredSet) -> Answer:
    """Do the predictive values of all networks that were scored on one test set share a number of positives?"""
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


# --- AUROCs and operating points ----------------------------------------------------------------------------------


@rule("AUROC fits its operating point")
def auroc_at_point(auroc: Fact, sensitivity: Fact, specificity: Fact) -> Answer:
    """Is the AUROC within what a rising curve through the printed point can have?

    At the least the curve is 0 before the point and `sensitivity` after it; at the most `sensitivity` before, 1 after.
    """
    low = sensitivity.low * specificity.low
    high = 1 - (1 - min(1.0, sensitivity.high)) * (1 - min(1.0, specificity.high))
    near = high if auroc.value > high else low
    good = auroc.low <= high and auroc.high >= low
    return Answer(good, f"{auroc.show(low)} to {auroc.show(high)} possible", auroc.gap(near), auroc.show(near))


@rule("AUROC of a joint set fits those of its parts")
def auroc_of_parts(joint: Fact, *aurocs: Fact, test_set: ScoredSet) -> Answer:
    """Can the joint set's AUROC arise from its parts' AUROCs, whatever pairs across them do?"""
    if not all(len(part.positives) for part in test_set.parts):
        return Answer(None, "no number of positives is possible", more={"sizes": "unknown"})
    sizes = [(int(np.median(part.positives)), part.n) for part in test_set.parts]
    least, most = between_groups(joint, aurocs, [(p, n - p) for p, n in sizes])
    found = f"pairs across hospitals: {100 * max(0, least):.1f} to {100 * min(1, most):.1f} % in the right order"
    mend = f"a joint AUROC {'below' if least > 1 else 'above'} {joint.text}"
    more = {"sizes": ", ".join(f"{p:,} of {n:,}" for p, n in sizes)}
    return Answer(least <= 1 and most >= 0, found, max(0.0, least - 1, -most), mend, more=more)


def between_groups(joint: Fact, aurocs: Sequence[Fact], sizes: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """The mean AUROC, lowest and highest, that pairs from two different groups must have, so that `joint` comes out.

    `sizes` holds each group's positives and negatives. Pairs within a group count by their number.
    """
    pairs = sum(p for p, _ in sizes) * sum(q for _, q in sizes)
    inside = [p * q for p, q in sizes]
    low, high = (float(np.dot(inside, [getattr(fact, end) for fact in aurocs])) for end in ("low", "high"))
    across = pairs - sum(inside)
    return (joint.low * pairs - high) / across, (joint.high * pairs - low) / across


# --- intervals ----------------------------------------------------------------------------------------------------


def interval(k: int, n: int, method: str) -> tuple[float, float]:
    """The 95 % interval of `k` of `n`, cut to 0 and 1 as it would be printed."""
    from statsmodels.stats.proportion import proportion_confint

    return tuple(np.clip(proportion_confint(k, n, alpha=estimate.ALPHA, method=METHODS[method]), 0, 1).tolist())


def fits_interval(fact: Fact, n: int, method: str) -> list[int]:
    """The counts that print as the value, with intervals by `method` that print as its limits."""
    room = 0.5 * 10.0 ** -_limit_digits(fact) / (100 if fact.percent else 1) + 1e-9
    return [k for k in fact.counts(n) if np.allclose(interval(k, n, method), fact.limits, rtol=0, atol=room)]


def _limit_digits(fact: Fact) -> int:
    """The decimals that the limits show; they may be more than the value's ('100 % (99.73-100 %)')."""
    scale = 100 if fact.percent else 1
    return max(fact.decimals, *(len(f"{scale * x:.6f}".rstrip("0").partition(".")[2]) for x in fact.limits))


def show_limits(fact: Fact, k: int, n: int, method: str) -> str:
    """The interval of `k` of `n` with as many digits as the printed limits: '99.67 to 99.78 %'."""
    scale, unit = (100, " %") if fact.percent else (1, "")
    return " to ".join(f"{scale * x:.{_limit_digits(fact)}f}" for x in interval(k, n, method)) + unit


@rule("printed interval follows from n")
def interval_follows(fact: Fact, *, method: str, sizes: Sequence[Fact], whose: Sequence[str]) -> Answer:
    """Is the interval of a proportion that of `method`, for the first of `sizes`?

    The other sizes (`whose`) and methods are tried as well: `more` holds what they would give.
    """
    tried = {int(size.value): words for size, words in zip(sizes, whose, strict=True)}
    fits = {(n, m): counts for n, m in product(tried, METHODS) if (counts := fits_interval(fact, n, m))}
    wrong = {key: " or ".join(str(key[0] - k) for k in reversed(counts)) for key, counts in fits.items()}
    hits = "; ".join(f"{m} of {n:,} ({tried[n]}) with {some} wrong" for (n, m), some in wrong.items())
    n, *others = tried
    k = max(fact.counts(n), default=round(fact.value * n))
    would = [f"n = {m:,} ({tried[m]}) would give {show_limits(fact, round(fact.value * m), m, method)}" for m in others]
    found, gap = f"fits {hits or 'none of those tried'}", max(map(fact.gap, interval(k, n, method)))
    return Answer((n, method) in fits, found, gap, show_limits(fact, k, n, method), more={"others": "; ".join(would)})


@rule("p value follows from the counts")
def if_dependent(accuracy: Fact, *facts: Fact, units: Fact, models: Sequence[Sequence[int]], method: str) -> Answer:
    """What interval, and which p limits, would stand if only `units` images of each pooled model were independent?

    `facts` are two accuracies and a p limit for each comparison, `models` how many models each of the two pools.
    """
    n, lost = int(units.value), []
    for a, b, limit, (k_a, k_b) in zip(facts[::3], facts[1::3], facts[2::3], models, strict=True):
        low, _ = chi_squared(a, n * k_a, b, n * k_b)
        if low >= limit.value:
            lost.append(f"{a.text} against {b.text} has p = {low:.2g}, not {limit.text}")
    wide = show_limits(accuracy, round(accuracy.value * n), n, method)
    found = f"{accuracy.text} has {wide}; {len(lost)} of {len(models)} p limits do not stand" + "".join(
        f"; {text}" for text in lost
    )
    return Answer(not lost, found, mend="an interval and tests that know which images share a parent")


@rule("printed interval follows from n")
def auroc_widths(*facts: Fact, test_sets: Mapping[str, ScoredSet]) -> Answer:
    """Are the AUROCs' printed intervals about as wide as Hanley and McNeil's for so many positives?

    The text names no method, and DeLong's differs somewhat, so a difference within `LOOSE` is consistent and a larger
    one is undecidable: it never proves a misprint. Limits that do not hold the value would.
    """
    outside = [f for f in facts if not f.limits[0] - f.half <= f.value <= f.limits[1] + f.half]
    if outside:
        return Answer(False, f"{outside[0].text} is not inside its limits", 1.0, "an interval that holds the value")
    widths = [(fact, possible_widths(fact, set_of(fact, test_sets))) for fact in facts]
    odd = []
    for fact, (low, high) in widths:
        if not (1 - LOOSE) * low - 2 * fact.half <= fact.width <= (1 + LOOSE) * high + 2 * fact.half:
            odd.append(2 * fact.width / (low + high))  # NaN, where no number of positives is possible
    found = f"{len(facts) - len(odd)} of {len(facts)} are about as wide as Hanley and McNeil's"
    found += f", the others {min(odd):.2f} to {max(odd):.2f} times as wide" if odd else ""
    return Answer(None if odd else True, found)


def set_of(fact: Fact, test_sets: Mapping[str, ScoredSet]) -> ScoredSet:
    """The test set of a result, which its id names: '<paper>.generalization.<training>.<test set>.auroc'."""
    return test_sets[fact.id.split(".")[-2]]


def possible_widths(fact: Fact, test_set: ScoredSet) -> tuple[float, float]:
    """The least and the greatest width of Hanley and McNeil's 95 % interval that the numbers of positives allow."""
    if not len(test_set.positives):
        return math.nan, math.nan
    ends = {int(p) for p in test_set.positives[[0, -1]]}
    widths = [2 * 1.959964 * hanley_mcneil(fact.value, p, test_set.n - p) for p in ends]
    return min(widths), max(widths)
