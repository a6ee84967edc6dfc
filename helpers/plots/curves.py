"""Curves, intervals, confusion matrices and flow charts: what the papers' figures have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.metrics.classification import OperatingPoint
from helpers.metrics.estimate import Estimate
from helpers.plots import style as palette
from helpers.plots.style import DOUBLE, MARKS, NAMES, SINGLE, Mark, canvas, letter_panels, print_style

Found = pd.DataFrame | Sequence["Estimate | None"]  # value, low and high of each row
Curve = tuple[np.ndarray, np.ndarray, "Estimate"]  # truth as booleans, score, AUROC
SMOOTHING = 0.6  # the share of a drawn training curve that each point takes from those before it


# --- values with their intervals --------------------------------------------------------------------------------------


def numbers_of(found: Found, scale: float = 1.0) -> np.ndarray:
    """Value, low and high of each estimate or row, float (3, n), times `scale`; NaN where there is none."""
    if not isinstance(found, pd.DataFrame):
        rows = [(np.nan,) * 3 if one is None else (one.value, one.low, one.high) for one in found]
        found = pd.DataFrame(rows, columns=["value", "low", "high"])
    return scale * found[["value", "low", "high"]].to_numpy(float).T


def draw_intervals(
    axes: Axes,
    found: Found,
    places: Any,
    mark: Mark = MARKS[0],
    label: str | None = None,
    *,
    scale: float = 1.0,
    upright: bool = False,
    **style: Any,
) -> None:
    """A marker at each value with its interval as whiskers, at `places`: one below the other, or `upright` in a row.

    What is undefined leaves its place empty.
    """
    value, low, high = numbers_of(found, scale)
    marker, fill, edge = mark
    style = {"ls": "", "ms": 4.5, "mew": 0.9, "elinewidth": 1, "capsize": 1.5, "lw": 0.9} | style
    if not np.allclose(low, high, equal_nan=True):
        style["yerr" if upright else "xerr"] = [value - low, high - value]
    x, y = (places, value) if upright else (value, places)
    drawn = axes.errorbar(x, y, marker=marker, mfc=fill, mec=edge, color=edge, label=label, **style)
    drawn[0].set_clip_on(False)  # a value of exactly 1 keeps its whole marker


def draw_forest(
    axes: Axes,
    series: Mapping[str, Found],
    names: Sequence[str],
    label: str,
    marks: Sequence[Mark] = MARKS,
    *,
    places: np.ndarray | None = None,
    step: float = 0.24,
    scale: float = 1.0,
    reference: float | None = None,
) -> np.ndarray:
    """A forest plot: one row per name, one mark per series beside each other; returns the rows' places.

    `places` moves rows apart, `reference` draws a dotted line (0.5 is chance). The first row stands at the top.
    """
    places = np.arange(len(names)) if places is None else places
    for k, ((name, found), mark) in enumerate(zip(series.items(), marks, strict=False)):
        draw_intervals(axes, found, places + step * (k - (len(series) - 1) / 2), mark, name, scale=scale)
    axes.set_yticks(places, [NAMES.get(name, name) for name in names])
    axes.set_ylim(places[-1] + 0.6, places[0] - 0.6)
    axes.set_xlabel(label)
    axes.grid(True, axis="x")
    if reference is not None:
        axes.axvline(reference, color=palette.REFERENCE, lw=0.8, ls=":")
    return places


@print_style
def forest(
    found: Mapping[str, Mapping[str, Estimate]],
    label: str,
    marks: Sequence[Mark] = MARKS,
    *,
    reference: float | None = None,
    limits: tuple[float | None, float | None] = (None, None),
) -> Figure:
    """A figure of one forest plot: `found[series][name]`, a row per name of the first series, a mark per series."""
    names = list(next(iter(found.values())))
    figure, axes = canvas(SINGLE * 1.6, 0.32 * len(names) + 0.95)
    series = {name: [one.get(row) for row in names] for name, one in found.items()}
    draw_forest(axes, series, names, label, marks, reference=reference)
    axes.set_xlim(*limits)
    if len(found) > 1:
        legend_above(axes)
    return figure


def legend_above(axes: Axes) -> None:
    """The legend over the axes, where it covers no data."""
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)


def legend_beside(axes: Axes, **options: Any) -> None:
    """The legend at the right of the axes, where it covers no data."""
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), **options)


# --- training ---------------------------------------------------------------------------------------------------------


def smooth(values: np.ndarray | pd.Series, weight: float = SMOOTHING) -> np.ndarray:
    """TensorBoard's debiased moving average of (n,) values, as float64 (n,).

    Each point is the mean of all values so far, each weighing `weight` times the one after it. NaN stays where it is
    and is left out of the mean; `weight` 0 changes nothing.
    """
    series = pd.Series(np.asarray(values, dtype=np.float64))
    return series.ewm(alpha=1 - weight, adjust=True, ignore_na=True).mean().where(series.notna()).to_numpy()


@print_style
def training_curves(histories: Mapping[str, pd.DataFrame], chosen: Mapping[str, int]) -> Figure:
    """Accuracy and cross-entropy against the step, smoothed as TensorBoard does: a row of two panels per model.

    `histories[title]` has columns step, split, accuracy, cross_entropy; the raw values stand faintly behind.
    `chosen[title]` marks the step whose head was kept.
    """
    figure, grid = canvas(DOUBLE, 2.15 * len(histories), len(histories), 2, squeeze=False, sharex="row")
    for row, (title, history) in zip(grid, histories.items(), strict=True):
        for axes, column in zip(row, ("accuracy", "cross_entropy"), strict=True):
            _draw_history(axes, history, column)
            axes.set(xlabel="training step", ylabel=column.replace("_", "-"), title=title)
            axes.grid(True)
            axes.axvline(chosen[title], color="0.4", lw=0.7, ls=":")
        row[0].set_ylim(top=1.005)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _draw_history(axes: Axes, history: pd.DataFrame, column: str) -> None:
    names = {"train": "training", "validation": "validation", "test": "test (for comparison)"}
    for (split, name), colour in zip(names.items(), (palette.TRAINING, palette.VALIDATION, palette.TEST), strict=True):
        part = history[history["split"] == split]
        if len(part):
            axes.plot(part["step"], part[column], color=colour, lw=0.5, alpha=0.25)
            style = {"lw": 0.8, "ls": "--"} if split == "test" else {}
            axes.plot(part["step"], smooth(part[column]), color=colour, label=name, **style)


# --- receiver operating characteristic --------------------------------------------------------------------------------


def draw_rocs(axes: Axes, curves: Mapping[str, Curve], colours: Sequence[str] = ()) -> None:
    """An ROC curve per name of `curves`, with the diagonal of chance; labelled with its AUROC."""
    from sklearn.metrics import roc_curve

    colours = colours or (palette.NETWORK, palette.LIMITED, palette.VALIDATION, palette.TEST)
    for (name, (truth, score, area)), colour in zip(curves.items(), colours, strict=False):
        false, true, _ = roc_curve(truth, score, drop_intermediate=False)
        label = f"{name}\nAUROC {area.plain()}"
        axes.plot(false, true, color=colour, label=label, drawstyle="steps-post", clip_on=False)
    axes.plot([0, 1], [0, 1], color=palette.REFERENCE, lw=0.6, ls=":")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="1 − specificity", ylabel="sensitivity")


@print_style
def roc_panels(
    curves: Mapping[str, Curve], points: Mapping[str, OperatingPoint] | None = None, first: str = "A"
) -> Figure:
    """One ROC panel per name of `curves`, with its AUROC and n, lettered from `first`.

    `points[name]` is an operating point, drawn as a cross of intervals and written out.
    """
    side = DOUBLE / max(len(curves), 2)
    figure, grid = canvas(side * len(curves), side + 0.25, 1, len(curves), squeeze=False, sharey=True)
    for axes, (name, curve) in zip(grid[0], curves.items(), strict=True):
        draw_rocs(axes, {name: curve})
        point, area = (points or {}).get(name), curve[2]
        words = [f"AUROC {area.plain()}", f"n = {area.n:,} images"]
        words[1:1] = _draw_point(axes, point) if point else []
        axes.text(0.98, 0.04, "\n".join(words), ha="right", fontsize=6.5, linespacing=1.35)
        axes.set(title=name, aspect="equal")
        axes.label_outer()
    letter_panels(figure, first)
    return figure


def _draw_point(axes: Axes, point: OperatingPoint) -> list[str]:
    """The operating point with the intervals of both rates; returns its words."""
    hit, rejected = point.sensitivity, point.specificity
    if not (hit.defined and rejected.defined):
        return ["operating point undefined"]
    draw_intervals(axes, [hit], 1 - rejected.value, ("o", "white", "k"), upright=True, zorder=3)
    across = [[rejected.high - rejected.value], [rejected.value - rejected.low]]
    axes.errorbar(1 - rejected.value, hit.value, xerr=across, color="k", lw=1, capsize=1.5)
    return [
        f"threshold {point.threshold:.2g} (validation)",
        f"sensitivity {hit.percent()}",
        f"specificity {rejected.percent()}",
    ]


# --- confusion matrices -----------------------------------------------------------------------------------------------


@print_style
def confusion_matrices(tables: Mapping[str, pd.DataFrame], note: str = "", xlabel: str = "predicted") -> Figure:
    """Confusion matrices, rows the true labels, shaded by the share of the row; counts, and where there is room shares,
    are written in. `note` stands above all: who the readers are, say."""
    across = min(4, len(tables))
    down, width = -(-len(tables) // across), SINGLE if len(tables) == 1 else DOUBLE / max(across, 2)
    figure, grid = canvas(width * across, 0.92 * width * down, down, across, squeeze=False)
    for axes in grid.flat[len(tables) :]:
        axes.axis("off")
    for axes, (title, table) in zip(grid.flat, tables.items(), strict=False):
        share, words = table.div(table.sum(axis=1).clip(lower=1), axis=0), table.map("{:,}".format)
        if across < 3:
            words += share.map(lambda x: f"\n{100 * x:.0f} %")
        draw_matrix(axes, share, words, cmap="Blues", vmax=1)
        axes.set(title=title, xlabel=xlabel, ylabel="true")
    figure.suptitle(note, fontsize=7)
    return figure


def draw_matrix(axes: Axes, shade: pd.DataFrame, words: pd.DataFrame, **options: Any) -> None:
    """A matrix whose cells are shaded by `shade` and hold `words`; labels by their names."""
    import seaborn as sns

    names = {label: NAMES.get(label, label).replace(" ", "\n") for label in [*shade.index, *shade.columns]}
    options = {"fmt": "", "vmin": 0, "cbar": False, "linewidths": 0.5} | options
    sns.heatmap(shade.rename(index=names, columns=names), annot=words.to_numpy(str), ax=axes, **options)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)


# --- flow charts: boxes with words, and arrows, on a canvas of 100 by 100 units ---------------------------------------

Point = tuple[float, float]
GREY, BLUE = "0.9", "#CFE6F5"
ARROW = {"arrowstyle": "-|>", "color": "0.3", "lw": 0.9, "mutation_scale": 8, "shrinkA": 0, "shrinkB": 0}


@dataclass(frozen=True)
class Box:
    """A box with its centre at (x, y): a bold title, words below it, filled. `dashed` marks what did not run."""

    x: float
    y: float
    width: float
    height: float
    text: str
    title: str = ""
    fill: str = "white"
    dashed: bool = False


@print_style
def draw_flowchart(
    boxes: Mapping[str, Box],
    arrows: Sequence[tuple[str, str] | Sequence[Point]],
    height: float,
    notes: Sequence[tuple[float, float, str, dict]] = (),
) -> Figure:
    """A flow chart two columns wide and `height` inches high.

    An arrow is either the names of two boxes, joined straight down or across, or the points (x, y) it runs through. A
    note is (x, y, words, options of the text): words without a box.
    """
    figure, axes = canvas(DOUBLE, height)
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.axis("off")
    for box in boxes.values():
        draw_box(axes, box)
    for arrow in arrows:
        draw_arrow(axes, *(between(*(boxes[name] for name in arrow)) if isinstance(arrow[0], str) else arrow))
    for x, y, text, options in notes:
        axes.text(x, y, text, **{"ha": "center", "va": "center", "color": "0.3", "fontsize": 6} | options)
    return figure


def draw_box(axes: Axes, box: Box) -> None:
    """One box; title and words are set as one block, centred."""
    from matplotlib.patches import FancyBboxPatch

    edge = {"ec": "0.6" if box.dashed else "0.35", "ls": "--" if box.dashed else "-", "lw": 0.8}
    corner = (box.x - box.width / 2, box.y - box.height / 2)
    axes.add_patch(FancyBboxPatch(corner, box.width, box.height, "round,pad=0,rounding_size=0.8", fc=box.fill, **edge))
    style = {"ha": "center", "fontsize": 6, "linespacing": 1.35, "color": "0.5" if box.dashed else "k"}
    if not box.title:
        axes.text(box.x, box.y, box.text, va="center", **style)
        return
    top = {"xytext": (0, -2), "textcoords": "offset points"}
    title = axes.annotate(box.title, (box.x, box.y + box.height / 2), **top, va="top", **style | {"fontsize": 7})
    title.set_fontweight("bold")
    below = {"xycoords": title, "xytext": (0, -2), "textcoords": "offset points"}
    axes.annotate(box.text, (0.5, 0), **below, va="top", **style)


def between(start: Box, end: Box) -> tuple[Point, Point]:
    """Where a straight arrow leaves one box and meets another: vertical where one lies above the other, else across."""
    if abs(start.x - end.x) < max(start.width, end.width) / 2:
        x, way = min(start, end, key=lambda box: box.width).x, 1 if end.y > start.y else -1
        return (x, start.y + way * start.height / 2), (x, end.y - way * end.height / 2)
    y, way = start.y, 1 if end.x > start.x else -1
    return (start.x + way * start.width / 2, y), (end.x - way * end.width / 2, y)


def draw_arrow(axes: Axes, *points: Point) -> None:
    """A line through the points, with its head at the last."""
    axes.plot(*zip(*points[:-1], strict=True), color=ARROW["color"], lw=ARROW["lw"])
    axes.annotate("", points[-1], points[-2], arrowprops=ARROW)
