"""The audit's figures: printed beside attainable values, two-by-two tables, weighted errors, intervals, positives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.audit.consistency import TwoByTwo
from helpers.audit.facts import Fact
from helpers.audit.grim import counts_for, neighbours
from helpers.plots.style import DOUBLE, READERS, REFERENCE, canvas, letter, print_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POSSIBLE, IMPOSSIBLE = "#0072B2", "#D55E00"  # blue and vermilion: told apart by colour-blind readers
SPAN = 6  # units of the last printed digit shown to either side


@print_style
def attainable(rows: Sequence[tuple[str, Fact]]) -> Figure:
    """Each printed proportion with its rounding, and the counts of n near it; `rows` are (label, fact with n)."""
    figure, axes = canvas(DOUBLE, 0.5 + 0.23 * len(rows))
    for place, (_, fact) in enumerate(rows):
        unit, good = 2 * fact.half, bool(counts_for(fact, fact.n))
        axes.barh(place, 1, left=-0.5, height=0.62, color=POSSIBLE if good else IMPOSSIBLE, alpha=0.35, lw=0)
        first = int(np.ceil((fact.value - SPAN * unit) * fact.n - 1e-9))
        last = min(fact.n, int(np.floor((fact.value + SPAN * unit) * fact.n + 1e-9)))
        at = (np.arange(first, last + 1) / fact.n - fact.value) / unit
        axes.vlines(at, place - 0.31, place + 0.31, color="0.25", lw=0.8)
        told = (
            " or ".join(f"{k}" for k, _ in neighbours(fact, fact.n)) if not good else f"{counts_for(fact, fact.n)[0]}"
        )
        axes.text(SPAN + 0.3, place, f"{told} of {fact.n}", va="center", fontsize=6)
    axes.set_yticks(range(len(rows)), [f"{label}: {fact.text}" for label, fact in rows])
    axes.set(xlim=(-SPAN - 0.1, SPAN + 0.1), ylim=(len(rows) - 0.4, -0.6))
    axes.set_xlabel("tenths of a point from the printed value; each tick is a count of n")
    for name, colour, x in (("some count prints so", POSSIBLE, 0.0), ("no count prints so", IMPOSSIBLE, 0.3)):
        axes.annotate(
            f"\N{FULL BLOCK} {name}", (x, 1.01), xycoords="axes fraction", color=colour, fontsize=6.5, alpha=0.8
        )
    axes.tick_params(axis="y", length=0)
    return figure


@print_style
def two_by_two(tables: Mapping[str, TwoByTwo]) -> Figure:
    """For each classifier the three printed values as bands over (sensitivity, specificity): they must share a dot."""
    figure, grid = canvas(DOUBLE, 2.15, columns=len(tables))
    for axes, (title, table), name in zip(np.atleast_1d(grid), tables.items(), "abcdef", strict=False):
        _bands(axes, table)
        axes.set_title(f"{title}\n{table.positives} and {table.negatives} images", fontsize=7)
        axes.set_xlabel("sensitivity (%)")
        letter(axes, name)
    np.atleast_1d(grid)[0].set_ylabel("specificity (%)")
    return figure


def _bands(axes: Axes, table: TwoByTwo) -> None:
    p, n = table.positives, table.negatives
    sensitivity, specificity, accuracy = table.sensitivity, table.specificity, table.accuracy
    # Where the accuracy's band meets the printed sensitivity and the printed specificity: the view holds both.
    right = accuracy.value * (p + n)
    xs = [sensitivity.value, (right - specificity.value * n) / p]
    ys = [specificity.value, (right - sensitivity.value * p) / n]
    x_low, x_high = _view(xs)
    y_low, y_high = _view(ys)
    x = np.array([x_low, x_high])
    lower, upper = ((limit * (p + n) - x * p) / n for limit in (accuracy.low, accuracy.high))
    axes.fill_between(100 * x, 100 * lower, 100 * upper, color="0.45", alpha=0.35, lw=0)
    axes.axvspan(100 * sensitivity.low, 100 * sensitivity.high, color=IMPOSSIBLE, alpha=0.45, lw=0)
    axes.axhspan(100 * specificity.low, 100 * specificity.high, color=READERS, alpha=0.45, lw=0)
    tp, tn = np.meshgrid(np.arange(p + 1) / p, np.arange(n + 1) / n)
    inside = (tp >= x_low) & (tp <= x_high) & (tn >= y_low) & (tn <= y_high)
    axes.plot(100 * tp[inside], 100 * tn[inside], ".", color="0.55", ms=1.3, zorder=3)
    for one, other in table.tables():
        axes.plot(100 * one / p, 100 * other / n, "o", color="black", ms=4, zorder=4)
    axes.set(xlim=(100 * x_low, 100 * x_high), ylim=(100 * y_low, 100 * y_high))
    words = f"sensitivity {sensitivity.text}", f"specificity {specificity.text}", f"accuracy {accuracy.text}"
    for place, (word, colour) in enumerate(zip(words, (IMPOSSIBLE, READERS, "0.3"), strict=True)):
        box = {"facecolor": "white", "alpha": 0.85, "lw": 0, "pad": 0.6}
        options = {"transform": axes.transAxes, "ha": "right", "va": "top", "bbox": box, "zorder": 5}
        axes.text(0.99, 0.98 - 0.09 * place, word, color=colour, fontsize=5.5, **options)


def _view(values: Sequence[float]) -> tuple[float, float]:
    """Limits that hold the values with room around them, within 0 to 1 and a little over."""
    middle, reach = (min(values) + max(values)) / 2, max(0.6 * (max(values) - min(values)) + 0.004, 0.012)
    return max(0.0, middle - reach), min(1.002, middle + reach)


@print_style
def weighted_errors(models: Mapping[str, tuple[Fact, Sequence[float]]]) -> Figure:
    """Each model's printed weighted error beside those that its accuracy, sensitivity and specificity allow."""
    figure, axes = canvas(DOUBLE, 0.75 + 0.3 * len(models))
    for place, (printed, allowed) in enumerate(models.values()):
        axes.plot(100 * np.array(allowed), [place] * len(allowed), "|", color=POSSIBLE, ms=9, mew=1.4)
        axes.plot(100 * printed.value, place, "x", color=IMPOSSIBLE, ms=6, mew=1.6)
        axes.annotate(
            printed.text,
            (100 * printed.value, place),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=6,
            color=IMPOSSIBLE,
        )
    axes.set_yticks(range(len(models)), list(models))
    axes.set(ylim=(len(models) - 0.5, -0.7), xlabel="weighted error (%): mean penalty an image, times 100")
    axes.grid(axis="x")
    handles = [
        axes.plot([], [], "|", color=POSSIBLE, ms=8, mew=1.4, label="possible")[0],
        axes.plot([], [], "x", color=IMPOSSIBLE, ms=5, mew=1.6, label="printed")[0],
    ]
    axes.legend(handles=handles, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    return figure


@print_style
def widths_and_positives(widths: pd.DataFrame, positives: pd.DataFrame, names: Mapping[str, str]) -> Figure:
    """(a) Widths of intervals, printed against recomputed; (b) the positives that each row of a table allows.

    `widths` and `positives` are those of `helpers.audit.shown`; `names` the test sets' names by site.
    """
    figure, (left, right) = canvas(DOUBLE, 3.2, columns=2, width_ratios=(1, 1.35))
    _widths(left, widths)
    _positives(right, positives, names)
    letter(left, "a")
    letter(right, "b")
    return figure


def _widths(axes: Axes, widths: pd.DataFrame) -> None:
    ends = 0.7 * widths[["printed", "recomputed"]].min().min(), 1.4 * widths[["printed", "recomputed"]].max().max()
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


def _positives(axes: Axes, table: pd.DataFrame, names: Mapping[str, str]) -> None:
    """Bars relative to the middle of what a test set's rows share, one group a test set."""
    place, ticks, labels = 0.0, [], []
    for site, rows in table.groupby("site", sort=False):
        shared = rows.loc[rows["what"] == "shared", ["low", "high"]].iloc[0]
        middle = float(shared.mean()) if shared.notna().all() else float(rows[["low", "high"]].mean().mean())
        n = int(rows["n"].iloc[0])
        axes.text(
            -20.5, place, f"{names[site]}: {_span(shared)} of {n:,}", va="center", fontsize=6.5, fontweight="bold"
        )
        for row in rows[rows["what"] != "shared"].itertuples():
            place += 1
            ticks.append(place)
            labels.append("sum of its parts" if row.what == "parts" else row.what)
            if np.isfinite(row.low):
                colour = "#009E73" if row.what == "parts" else POSSIBLE
                axes.barh(
                    place, row.high - row.low + 1, left=row.low - middle - 0.5, height=0.6, color=colour, alpha=0.75
                )
        if shared.notna().all():
            low, high = shared - middle
            axes.fill_betweenx(
                [place - len(rows) + 1.6, place + 0.4], low - 0.5, high + 0.5, color="0.2", alpha=0.18, lw=0
            )
        place += 1.5
    axes.set_yticks(ticks, labels, fontsize=5.5)
    axes.set(ylim=(place - 1, -0.8), xlim=(-21, 30), xlabel="positives, from the middle of what all rows share")
    axes.tick_params(axis="y", length=0)


def _span(shared: pd.Series) -> str:
    if not shared.notna().all():
        return "no number in common"
    low, high = (int(x) for x in shared)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
