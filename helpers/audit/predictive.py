"""PPV, NPV, accuracy, sensitivity and specificity of one test set must share one number of positives.

A talk's table gives them for several networks on the same test sets, and the test sets' sizes, but not how many images
were positive. Every row allows some numbers of positives; rows of one test set must have one in common, and a joint
set's number must be the sum of its parts'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from helpers.audit.facts import EPS, Fact
from helpers.audit.grim import counts_for
from helpers.audit.record import Check, checked

RULE = "one number of positives for a test set"
NAMES = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
Row = Mapping[str, Fact]  # some of NAMES to the printed value


def positives(row: Row, n: int) -> np.ndarray:
    """The numbers of positives P (1 to n - 1) for which some counts of right answers print as every value of `row`.

    `row` needs sensitivity and specificity; accuracy, PPV and NPV are used where they are given.
    """
    return np.array([p for p in _possible(row, n) if _some_counts(row, int(p), n)], dtype=int)


def _possible(row: Row, n: int) -> np.ndarray:
    """A quick sieve: P for which the corners of what sensitivity and specificity allow reach the other values."""
    p = np.arange(1, n)
    sens, spec = row["sensitivity"], row["specificity"]
    tp = np.ceil(sens.low * p - EPS), np.floor(sens.high * p + EPS)
    tn = np.ceil(spec.low * (n - p) - EPS), np.floor(spec.high * (n - p) + EPS)
    keep = (tp[0] <= tp[1]) & (tn[0] <= tn[1])
    for name in ("accuracy", "ppv", "npv"):  # each rises with both counts
        if name in row:
            low, high = (_value(name, tp[side], tn[side], p, n) for side in (0, 1))
            keep &= (high >= row[name].low) & (low <= row[name].high)
    return p[keep]


def _some_counts(row: Row, p: int, n: int) -> bool:
    tp = np.array(counts_for(row["sensitivity"], p))[:, None]
    tn = np.array(counts_for(row["specificity"], n - p))[None, :]
    if not tp.size or not tn.size:
        return False
    fits = np.ones((tp.size, tn.size), dtype=bool)
    for name in ("accuracy", "ppv", "npv"):
        if name in row:
            fits &= row[name].holds(_value(name, tp, tn, p, n))
    return bool(fits.any())


def _value(name: str, tp, tn, p, n):
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "accuracy":
            return (tp + tn) / n
        return tp / (tp + (n - p - tn)) if name == "ppv" else tn / (tn + (p - tp))


def in_words(found: np.ndarray, n: int) -> str:
    """'261 to 277 (1.2 to 1.3 %)'."""
    if not len(found):
        return "none"
    low, high = int(found.min()), int(found.max())
    if low == high:
        return f"{low:,} ({100 * low / n:.1f} %)"
    return f"{low:,} to {high:,} ({100 * low / n:.1f} to {100 * high / n:.1f} %)"


def one_row(name: str, row: Row, n: int, matters: int = 3) -> Check:
    """Do the values of one row share a number of positives?"""
    found, facts = positives(row, n), list(row.values())
    good, mend = bool(len(found)), ""
    if not good:
        mend = _culprit(row, n)
    what = facts[0].quantity.partition(", ")[2] or facts[0].quantity
    sentence = (
        f"{what}: the printed values allow {in_words(found, n)} positives of {n:,}."
        if good
        else f"{what}: no number of positives of {n:,} gives all the printed values; they would agree with {mend}."
    )
    return checked(
        name,
        RULE,
        facts,
        good,
        assumption=f"n = {n:,}; the number of positives is free",
        found=f"positives: {in_words(found, n)}",
        matters=matters,
        sentence=sentence,
        gap=0.0 if good else 1e-3,
        mend=mend,
    )


def _culprit(row: Row, n: int) -> str:
    """Which single value stands in the way: the one without which the others agree, and what it would be."""
    for left_out in ("accuracy", "ppv", "npv"):
        rest = {name: fact for name, fact in row.items() if name != left_out}
        if left_out in row and len(found := positives(rest, n)):
            low, high = _range(left_out, rest, found, n)
            near = min((low, high), key=lambda x: abs(x - row[left_out].value))
            return (
                f"{left_out} {row[left_out].show(near)}, {row[left_out].steps(near)} in the last digit "
                f"({row[left_out].show(low)} to {row[left_out].show(high)})"
            )
    return "more than one value changed"


def _range(name: str, rest: Row, found: np.ndarray, n: int) -> tuple[float, float]:
    values = []
    for p in (int(found.min()), int(found.max())):
        for tp in counts_for(rest["sensitivity"], p):
            values += [float(_value(name, tp, tn, p, n)) for tn in counts_for(rest["specificity"], n - p)]
    return min(values), max(values)


def one_test_set(name: str, rows: Sequence[Row], n: int, size: Fact, matters: int = 3) -> tuple[Check, np.ndarray]:
    """Do all rows of one test set share a number of positives? Also returns the numbers that they share."""
    sets = [positives(row, n) for row in rows]
    shared = common(sets)
    good, facts = bool(len(shared)), [size, *(fact for row in rows for fact in row.values())]
    each = "; ".join(in_words(found, n) for found in sets)
    mend = ""
    if not good:
        without = [i for i in range(len(sets)) if len(common(sets[:i] + sets[i + 1 :]))]
        which = " or ".join(rows[i]["sensitivity"].quantity.partition(", ")[2] for i in without)
        mend = f"another row for {which}" if which else "more than one row changed"
    sentence = f"{size.quantity}: the {len(rows)} rows allow {each} positives" + (
        f", and share {in_words(shared, n)}." if good else f"; no number is in all of them. {mend} would mend it."
    )
    check = checked(
        name,
        RULE,
        facts,
        good,
        assumption=f"n = {n:,}; the same images in every row",
        found=f"shared: {in_words(shared, n)}; each row: {each}",
        matters=matters,
        sentence=sentence,
        gap=0.0 if good else 1e-2,
        mend=mend,
    )
    return check, shared


def common(sets: Sequence[np.ndarray]) -> np.ndarray:
    """The numbers that are in all `sets`."""
    shared = sets[0]
    for other in sets[1:]:
        shared = np.intersect1d(shared, other)
    return shared


def sums(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Every sum of one number from each of `parts`."""
    together = parts[0]
    for part in parts[1:]:
        together = np.unique(together[:, None] + part[None, :])
    return together


def sum_of_parts(
    name: str, joint: np.ndarray, parts: Sequence[np.ndarray], size: Fact, sizes: Sequence[Fact], matters: int = 3
) -> tuple[Check, np.ndarray]:
    """Is a number of positives of the joint set the sum of numbers of its parts? Also returns those numbers."""
    together = sums(parts)
    shared, n = np.intersect1d(joint, together), int(size.value)
    good = bool(len(shared))
    sentence = (
        f"{size.quantity}: its own rows allow {in_words(joint, n)} positives, its parts {in_words(together, n)}"
        + (f"; in common {in_words(shared, n)}." if good else ": none in common.")
    )
    check = checked(
        name,
        RULE,
        [size, *sizes],
        good,
        assumption="the joint set holds the same images as its parts",
        found=f"joint {in_words(joint, n)}; parts {in_words(together, n)}; common {in_words(shared, n)}",
        matters=matters,
        sentence=sentence,
        gap=0.0 if good else 1e-2,
        mend="other values for one of the sets" if not good else "",
    )
    return check, shared
