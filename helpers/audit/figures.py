"""The audit's figures: printed beside attainable values, two-by-two tables, weighted errors, intervals, positives.

Each shows the checks of one rule that have a title in the file of checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.audit.checks import Check
from helpers.audit.facts import VALUES
from helpers.audit.rules import neighbours
from helpers.audit.rules_tables import TwoByTwo, interval, penalty_totals, possible_widths, set_of
from helpers.plots.style import DOUBLE, READERS, REFERENCE, canvas, print_style

POSSIBLE, IMPOSSIBLE = "#0072B2", "#D55E00"  # blue and vermilion, which colour-blind readers distinguish
SPAN = 6  # units of the last printed digit shown to either side


def _titled(checks: Sequence[Check], rule: str) -> Iterator[Check]:
    return (check for check in checks if check.rule == rule and check.title)


def _table_of(check: Check) -> TwoByTwo:
    sizes = (int(check.names[size].value) for size in ("positives", "negatives"))
    return TwoByTwo(dict(zip(VALUES, check.facts, strict=False)), *sizes)


@print_style
def attainable(checks: Sequence[Check]) -> Figure:
    """Each proportion of the two-by-two tables with its rounding, and the counts of its n near it."""
    tables = [_table_of(check) for check in _titled(checks, "one_table")]
    rows = [(fact, n) for table in tables for fact, n in zip(table.facts.values(), table.sizes, strict=True)]
    figure, axes = canvas(DOUBLE, 0.5 + 0.23 * len(rows))
    for place, (fact, n) in enumerate(rows):
        unit, counts = 2 * fact.half, fact.counts(n)
        axes.barh(place, 1, left=-0.5, height=0.62, color=POSSIBLE if counts else IMPOSSIBLE, alpha=0.35, lw=0)
        at = (np.arange(n + 1) / n - fact.value) / unit
        axes.vlines(at[np.abs(at) <= SPAN], place - 0.31, place + 0.31, color="0.25", lw=0.8)
        near = " or ".join(map(str, counts[:1] or neighbours(fact, n)))
        axes.text(SPAN + 0.3, place, f"{near} of {n}", va="center", fontsize=6.5)
    axes.set_yticks(range(len(rows)), [f"{fact.quantity}: {fact.text}" for fact, _ in rows])
    axes.set(xlim=(-SPAN - 0.1, SPAN + 0.1), ylim=(len(rows) - 0.4, -0.6))
    axes.set_xlabel("tenths of a point from the printed value; each tick is a count of n")
    for name, colour, x in (("a count gives this value", POSSIBLE, 0.0), ("no count does", IMPOSSIBLE, 0.36)):
        options = {"xycoords": "axes fraction", "color": colour, "fontsize": 6.5, "alpha": 0.8}
        axes.annotate(f"\N{FULL BLOCK} {name}", (x, 1.01), **options)
    axes.tick_params(axis="y", length=0)
    return figure


@print_style
def two_by_two(checks: Sequence[Check]) -> Figure:
    """For each classifier the three printed values as bands over (sensitivity, specificity): they must share a dot."""
    shown = list(_titled(checks, "one_table"))
    figure, grid = canvas(DOUBLE, 2.6, columns=len(shown))
    for axes, check in zip(grid, shown, strict=True):
        table = _table_of(check)
        _bands(axes, table)
        axes.set_title(f"{check.title}\n{table.positives} and {table.negatives} images", fontsize=7)
        axes.set_xlabel("sensitivity (%)")
    grid[0].set_ylabel("specificity (%)")
    return figure


def _bands(axes: Axes, table: TwoByTwo) -> None:
    p, n = table.positives, table.negatives
    accuracy, sensitivity, specificity = table.facts.values()
    # Where the accuracy's band meets the printed sensitivity and the printed specificity: the view holds both.
    right = accuracy.value * (p + n)
    x_low, x_high = _view(sensitivity.value, (right - specificity.value * n) / p)
    y_low, y_high = _view(specificity.value, (right - sensitivity.value * p) / n)
    x = np.array([x_low, x_high])
    lower, upper = ((limit * (p + n) - x * p) / n for limit in (accuracy.low, accuracy.high))
    bands = [
        axes.fill_between(100 * x, 100 * lower, 100 * upper, color="0.45", alpha=0.35, lw=0),
        axes.axvspan(100 * sensitivity.low, 100 * sensitivity.high, color=IMPOSSIBLE, alpha=0.45, lw=0),
        axes.axhspan(100 * specificity.low, 100 * specificity.high, color=READERS, alpha=0.45, lw=0),
    ]
    tp, tn = np.meshgrid(np.arange(p + 1) / p, np.arange(n + 1) / n)
    inside = (tp >= x_low) & (tp <= x_high) & (tn >= y_low) & (tn <= y_high)
    axes.plot(100 * tp[inside], 100 * tn[inside], ".", color="0.55", ms=1.3, zorder=3)
    for one, other in table.tables():
        axes.plot(100 * one / p, 100 * other / n, "o", color="black", ms=4, zorder=4)
    axes.set(xlim=(100 * x_low, 100 * x_high), ylim=(100 * y_low, 100 * y_high))
    words = [f"{name} {fact.text}" for name, fact in table.facts.items()]
    axes.legend(bands, words, loc="upper center", bbox_to_anchor=(0.45, -0.26), fontsize=6.5)


def _view(*values: float) -> tuple[float, float]:
    """Limits that hold the values with room around them, within 0 to 1 and a little over."""
    middle, reach = (min(values) + max(values)) / 2, max(0.6 * (max(values) - min(values)) + 0.004, 0.012)
    return max(0.0, middle - reach), min(1.002, middle + reach)


@print_style
def weighted_errors(checks: Sequence[Check]) -> Figure:
    """Each model's printed weighted error beside those that its accuracy, sensitivity and specificity allow."""
    shown = list(_titled(checks, "weighted_error"))
    figure, axes = canvas(DOUBLE, 0.75 + 0.3 * len(shown))
    for place, check in enumerate(shown):
        *results, printed = check.facts
        totals = penalty_totals(results, check.names["penalties"], **check.parameters)
        allowed = 100 * np.array(sorted(totals)) / results[0].n
        (possible,) = axes.plot(allowed, [place] * len(allowed), "|", color=POSSIBLE, ms=9, mew=1.4)
        (mark,) = axes.plot(100 * printed.value, place, "x", color=IMPOSSIBLE, ms=6, mew=1.6)
        options = {"textcoords": "offset points", "ha": "center", "fontsize": 6, "color": IMPOSSIBLE}
        axes.annotate(printed.text, (100 * printed.value, place), (0, 6), **options)
    axes.set_yticks(range(len(shown)), [check.title for check in shown])
    axes.set(ylim=(len(shown) - 0.5, -0.7), xlabel="weighted error (%): mean penalty per image, times 100")
    axes.grid(axis="x")
    place = {"ncols": 2, "loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0}
    axes.legend([possible, mark], ["possible", "printed"], **place)
    return figure


@print_style
def intervals_and_positives(checks: Sequence[Check]) -> Figure:
    """Widths of intervals, printed against recomputed (A), and the positives that each row of a table allows."""
    figure, (left, right) = canvas(DOUBLE, 3.7, columns=2, width_ratios=(1, 1.35))
    _widths(left, interval_widths(checks))
    _positives(right, positives(checks))
    return figure


def interval_widths(checks: Sequence[Check]) -> pd.DataFrame:
    """Printed and recomputed widths of 95 % intervals, one row each: what, printed, recomputed, method.

    Accuracies by the method that the text names; AUROCs by Hanley and McNeil's, with the middle of the numbers of
    positives that the other columns allow.
    """
    rows = []
    for check in _titled(checks, "interval_follows"):
        fact, method = check.facts[0], check.parameters["method"]
        low, high = interval(round(fact.value * fact.n), fact.n, method)
        rows.append((check.title, fact.width, high - low, method))
    for check in _titled(checks, "auroc_widths"):
        for fact in check.facts:
            *_, train, test, _ = fact.id.split(".")
            width = np.mean(possible_widths(fact, set_of(fact, check.names["test_sets"])))
            rows.append((f"{train} to {test}", fact.width, width, "Hanley"))
    return pd.DataFrame(rows, columns=["what", "printed", "recomputed", "method"])


def _widths(axes: Axes, widths: pd.DataFrame) -> None:
    both = widths[["printed", "recomputed"]]
    ends = 0.7 * both.min().min(), 1.4 * both.max().max()
    axes.plot(ends, ends, color=REFERENCE, lw=0.7)
    axes.annotate("equal", (ends[0], ends[0]), (16, 6), textcoords="offset points", ha="left", fontsize=6, color="0.4")
    marks = {
        "Clopper-Pearson": ("s", POSSIBLE, "accuracy: Clopper-Pearson"),
        "Hanley": ("o", "0.25", "AUROC: Hanley-McNeil"),
    }
    for method, (mark, colour, label) in marks.items():
        rows = widths[widths["method"] == method]
        axes.plot(rows["recomputed"], rows["printed"], mark, color=colour, ms=3.5, mfc="none", label=label)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="recomputed width of the 95 % interval")
    axes.set_ylabel("printed width")
    axes.legend(loc="upper left")


def positives(checks: Sequence[Check]) -> pd.DataFrame:
    """The numbers of positives that each row of a test set allows, that all share, and that its parts add up to.

    Columns: site, n, what (a row, 'shared', 'sum of its parts'), low, high; NaN where no number is possible.
    """
    rows = []
    for check in _titled(checks, "positives_of_set"):
        one = check.names["test_set"]
        found = one.by_row | ({"sum of its parts": one.of_parts} if one.parts else {}) | {"shared": one.shared}
        ends = {what: found[[0, -1]] if len(found) else (np.nan, np.nan) for what, found in found.items()}
        rows += [(one.title, one.n, what, low, high) for what, (low, high) in ends.items()]
    return pd.DataFrame(rows, columns=["site", "n", "what", "low", "high"]).astype({"low": float, "high": float})


def _positives(axes: Axes, table: pd.DataFrame) -> None:
    """Bars relative to the middle of what a test set's rows share, one group for each test set."""
    place, ticks, labels = 0.0, [], []
    for (site, n), rows in table.groupby(["site", "n"], sort=False):
        *_, shared = rows[["low", "high"]].to_numpy()
        known = np.isfinite(shared).all()
        middle = shared.mean() if known else np.nanmean(rows[["low", "high"]].to_numpy())
        span = " to ".join(f"{x:,.0f}" for x in dict.fromkeys(shared)) if known else "no number in common"
        axes.text(-20.5, place, f"{site}: {span} of {n:,}", va="center", fontsize=6.5, fontweight="bold")
        for row in rows[:-1].itertuples():
            place += 1
            ticks.append(place)
            labels.append(row.what)
            colour = "#009E73" if row.what == "sum of its parts" else POSSIBLE
            left, width = row.low - middle - 0.5, row.high - row.low + 1
            axes.barh(place, width, left=left, height=0.6, color=colour, alpha=0.75)  # NaN draws nothing
        if known:
            low, high = shared - middle + (-0.5, 0.5)
            axes.fill_betweenx([place - len(rows) + 1.6, place + 0.4], low, high, color="0.2", alpha=0.18, lw=0)
        place += 1.5
    axes.set_yticks(ticks, labels, fontsize=6.5)
    axes.set(ylim=(place - 1, -0.8), xlim=(-21, 30), xlabel="positives, from the middle of what all rows share")
    axes.tick_params(axis="y", length=0)
