"""Kermany 2018, one function per figure: 1, 2B, 4A, 4C, S3, S4A, and beyond the paper the learning curve, calibration,
shift of scores and costs of referral.

Figures 2A, 3, 4B, 6 and S1, S2, S4B, S5 are drawn by the core: `class_examples`, `training_curves`,
`confusion_matrices`, `roc_panels`, `maps_below_images`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.metrics.estimate import Estimate
from helpers.plots import curves as plots
from helpers.plots import style as palette
from helpers.plots.curves import BLUE, GREY, Box, draw_flowchart
from helpers.plots.style import DOUBLE, MARKS, NAMES, SINGLE, canvas, print_style

SOURCES = {  # what a backbone was trained on, and some of the classes there
    "imagenet": ("ImageNet, 1,000 categories", ["goldfish", "cat", "mushroom", "..."]),
    "formula": ("images made from formulas", ["fractal", "grating", "cells", "..."]),
    "none": ("nothing: random initialisation", []),
}
LINES = {"NORMAL": (palette.CLASSES["NORMAL"], "-"), "BACTERIA": ("#8C3B00", "--"), "VIRUS": ("#CC79A7", "-.")}
LINES |= {"PNEUMONIA": LINES["BACTERIA"]}  # of either kind, where the images do not say which
TICKS = np.array([0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999])  # of an axis in logits


# --- the method and the data ------------------------------------------------------------------------------------------


def schematic(backbone: str, weights: str, classes: Sequence[str]) -> Figure:
    """Figure 1: convolutional layers learnt on one task are transferred and frozen, the last layer is new.

    `weights` is the profile's key (imagenet, formula, none, or a file), `classes` those of the new layer.
    """
    source, outputs = SOURCES.get(weights, (f"weights from {Path(weights).name}", ["..."]))
    above, arrows, notes = _network(77, source, "image", outputs, frozen=False)
    below, more_arrows, more_notes = _network(24, "OCT B-scans", "B-scan", [NAMES.get(c, c) for c in classes], True)
    down = [[(x, 54), (x, 43)] for x in (26, 34, 42, 50)]
    text = f"weights of {backbone}: transferred and frozen"
    transfer = (55, 49, text, {"fontsize": 7, "ha": "left", "color": palette.VALIDATION})
    return draw_flowchart(above | below, [*arrows, *more_arrows, *down], 2.7, [*notes, *more_notes, transfer])


def _network(y: float, title: str, image: str, outputs: Sequence[str], frozen: bool) -> tuple[dict, list, list]:
    """A row of figure 1: boxes, arrows and words of one network."""
    fill = BLUE if frozen else GREY
    boxes = {f"{title} image": Box(8, y, 12, 26, image, fill=GREY)}
    boxes |= {f"{title} {k}": Box(26 + 8 * k, y, 5, 30 - 5 * k, "", fill=fill) for k in range(4)}
    boxes |= {f"{title} last": Box(63, y, 4, 32, "", fill=palette.TRAINING if frozen else GREY)}
    arrows = [[(x, y), (x + 4, y)] for x in (15.5, 56, 66.5)]
    left, small = {"ha": "left", "color": "k", "fontsize": 7}, {"fontsize": 6.5}
    notes = [(2, y + 21, title, left | {"fontweight": "bold"})]
    notes += [(38, y - 19, "convolutional layers (frozen)" if frozen else "convolutional layers", small)]
    notes += [(63, y - 19, "new softmax layer" if frozen else "fully connected", small)]
    notes += [(73, y + 13 - 9 * k, text, left) for k, text in enumerate(outputs)]
    return boxes, arrows, notes


def flow(boxes: Sequence[tuple[str, str]], aside: Mapping[int, str]) -> Figure:
    """Figure 2B: the flow of images and patients from the folder to the parts that learn, choose and test.

    `boxes` are (title, counts) from top to bottom, the last three of them side by side; `aside[i]` describes what left
    between box i and the next.
    """
    *chain, _, _, _ = boxes
    step = 100 / (len(chain) + 1.4)
    drawn = {
        title: Box(50, 100 - step * (k + 0.45), 46, 0.6 * step, text, title) for k, (title, text) in enumerate(chain)
    }
    split, fork, low = step * 1.95, step * 1.45, 0.52 * step
    arrows = list(zip(drawn, list(drawn)[1:], strict=False))
    for x, (title, text) in zip((16.5, 50, 83.5), boxes[len(chain) :], strict=True):
        drawn[title] = Box(x, low, 32, 0.96 * step, text, title, BLUE)
        arrows.append([(50, split - 0.3 * step), (50, fork), (x, fork), (x, step)])
    below = {100 - step * (k + 0.95): text for k, text in aside.items()}
    arrows += [[(50, y), (71, y)] for y in below]
    notes = [(72, y, text, {"fontsize": 6, "ha": "left"}) for y, text in below.items()]
    return draw_flowchart(drawn, arrows, 0.5 * len(boxes), notes)


# --- the four-class model ---------------------------------------------------------------------------------------------


@print_style
def roc(curves: Mapping[str, plots.Curve], readers: pd.DataFrame | None = None, readers_are: str = "") -> Figure:
    """Figure 4A: the ROC curves for urgent referral, with readers as points, and an enlarged top left corner.

    `readers` has columns reader, sensitivity, specificity.
    """
    figure, axes = canvas(SINGLE * 1.15, SINGLE * 1.1)
    inset = axes.inset_axes((0.40, 0.36, 0.52, 0.40))
    for panel in (axes, inset):
        plots.draw_rocs(panel, curves)
        if readers is not None and len(readers):
            style = {"s": 14, "marker": "^", "color": palette.READERS, "label": readers_are, "zorder": 3}
            panel.scatter(1 - readers["specificity"], readers["sensitivity"], **style)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.02))
    for line in inset.lines:
        line.set_clip_on(True)
    inset.set(xlim=(-0.004, 0.2), ylim=(0.8, 1.004), xlabel="", ylabel="")
    inset.tick_params(labelsize=5.5)
    inset.spines[:].set_visible(True)
    axes.indicate_inset_zoom(inset, edgecolor="0.5", lw=0.6)
    return figure


@print_style
def learning_curve(points: pd.DataFrame, means: pd.DataFrame, measure: str, label: str, reference: float) -> Figure:
    """Beyond the paper: `measure` on the test set against the training images per class, one line per initialisation.

    `points` and `means` from `numbers.curve_points`: a dot per run, a line through their medians, which one failed run
    does not move, and a band of the means' intervals. A line at `reference` is what all training images gave.
    """
    figure, axes = canvas(SINGLE * 1.3, 2.6)
    colours, mine = (palette.NETWORK, palette.VALIDATION), means[means["quantity"] == measure]
    for colour, (name, mean) in zip(colours, mine.groupby("initialisation", sort=False), strict=False):
        dots = points[points["initialisation"] == name]
        middle = dots.groupby("per_class")[measure].median()
        axes.plot(middle.index, middle, "-", color=colour, label=f"{name}: median of the draws")
        axes.fill_between(mean["per_class"], mean["low"], mean["high"], color=colour, alpha=0.2, lw=0)
        axes.scatter(dots["per_class"], dots[measure], color=colour, s=5, alpha=0.5)
    axes.axhline(reference, color="0.4", lw=0.7, ls="--")
    axes.text(0.01, reference - 0.01, "all training images", transform=axes.get_yaxis_transform(), va="top", fontsize=6)
    axes.set(xscale="log", ylim=(0, 1), xlabel="training images per class", ylabel=label)
    ticks = sorted(points["per_class"].unique())
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(True)
    plots.legend_above(axes)
    return figure


# --- the model beside readers -----------------------------------------------------------------------------------------


@print_style
def weighted_errors(
    errors: Mapping[str, Estimate], networks: set[str], published: Mapping[str, float], readers_are: str = ""
) -> Figure:
    """Figure 4C: weighted errors with intervals, "neural networks in gold and human experts in blue".

    `networks` names those of `errors` that are networks; `published[name]` are values drawn as hollow diamonds.
    """
    names, label = [*errors, *published], "weighted error (penalty points per 100 images)"
    figure, axes = canvas(SINGLE * 1.3, 0.28 * len(names) + 0.75)
    plots.draw_forest(axes, {"": [errors.get(name) for name in names]}, names, label, [("", "", "0.2")], scale=100)
    colours = [palette.NETWORK if name in networks else palette.READERS for name in errors]
    axes.barh(range(len(errors)), [100 * error.value for error in errors.values()], color=colours, height=0.62)
    places = range(len(errors), len(names))
    axes.plot([100 * value for value in published.values()], places, "D", ms=4, mfc="white", mec="0.2")
    axes.set_xlim(left=0)
    axes.set_title(readers_are, fontsize=7)
    return figure


@print_style
def likelihood_ratios(
    positive: Mapping[str, Estimate], negative: Mapping[str, Estimate], networks: set[str], readers_are: str = ""
) -> Figure:
    """Figure S3: positive (A) and negative (B) likelihood ratios with their 95 % intervals, on a logarithmic axis.

    What is infinite, or zero, is an arrow at the axis' end.
    """
    figure, grid = canvas(DOUBLE, 0.24 * len(positive) + 0.8, 1, 2, sharey=True)
    panels = {"positive likelihood ratio": positive, "negative likelihood ratio": negative}
    marks = [("s", palette.NETWORK, palette.NETWORK), ("o", palette.READERS, palette.READERS)]
    for axes, (label, ratios) in zip(grid, panels.items(), strict=True):
        table = pd.DataFrame(plots.numbers_of(list(ratios.values())).T, list(ratios), ["value", "low", "high"])
        finite = table.to_numpy()[np.isfinite(table) & (table > 0)]
        low, high = (finite.min() / 2, finite.max() * 2) if len(finite) else (0.1, 10)
        drawn, mine = table.clip(low, high), table.index.isin(networks)
        series = {"networks": drawn[mine].reindex(table.index), "readers": drawn[~mine].reindex(table.index)}
        plots.draw_forest(axes, series, table.index, label, marks, step=0)
        for end, shape, reached in ((high, ">", np.isinf(table["high"])), (low, "<", table["low"] == 0)):
            for y in np.flatnonzero(reached):
                axes.plot(end, y, shape, ms=9, color=marks[not mine[y]][1], clip_on=False, zorder=5)
        axes.axvline(1, color="0.5", lw=0.7, ls=":")
        axes.set(xscale="log", xlim=(low, high))
    figure.suptitle(readers_are, fontsize=7)
    return figure


@print_style
def penalties(table: pd.DataFrame) -> Figure:
    """Figure S4A: the penalty points of each wrong referral, rows the true labels."""
    figure, axes = canvas(2.5, 2.1)
    plots.draw_matrix(axes, table, table.map("{:g}".format), cmap="Oranges", vmax=5)
    axes.set(xlabel="predicted", ylabel="true", title="penalty points")
    return figure


# --- pneumonia, beyond the paper --------------------------------------------------------------------------------------


@print_style
def reliability_diagram(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Calibration: observed against predicted, with intervals, and below it how densely each bin is filled.

    `tables[name]` from `classification.reliability`, at most three.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, (axes, below) = canvas(SINGLE * 1.25, 4.1, 2, 1, height_ratios=[4, 1], sharex=True)
    axes.plot([0, 1], [0, 1], color=palette.REFERENCE, lw=0.8, ls=":")
    for (name, table), mark, line in zip(tables.items(), MARKS, ("-", "--", "-."), strict=False):
        found = table.rename(columns={"observed": "value"})
        plots.draw_intervals(axes, found, table["predicted"], mark, name, upright=True, ls=line)
        edges = np.unique(table[["from", "to"]].to_numpy())
        held = table.groupby("from")["n"].sum().reindex(edges[:-1], fill_value=0)  # a bin without images has no row
        # By width: bins of equal counts would all be as high.
        below.stairs(held / np.diff(edges) / 100, edges, color=mark[2], lw=1, ls=line)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), ylabel="observed share")
    below.set(xlabel="predicted probability", ylabel="images\nper 0.01", yscale="log")
    below.yaxis.set_major_locator(LogLocator(numticks=4))
    below.yaxis.set_major_formatter("{x:,g}")
    below.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="upper left")
    axes.grid(True)
    return figure


@print_style
def score_shift(parts: Mapping[str, tuple[pd.Series, pd.Series]], notes: Mapping[str, str]) -> Figure:
    """How the scores of each true class lie in one set of images and in another, a panel each.

    `parts[name]` = (true labels, probability of pneumonia 0 to 1); `notes[name]` is written beside it (AUROC,
    accuracy). Each class is a histogram of area 1 over the logit of the probability, kept within 0.001 to 0.999, with a
    tick at its median.
    """
    from scipy.special import logit

    figure, grid = canvas(DOUBLE * 0.8, 1.35 * len(parts) + 0.5, len(parts), 1, squeeze=False, sharex=True, sharey=True)
    for axes, (name, (labels, probability)) in zip(grid[:, 0], parts.items(), strict=True):
        _draw_scores(axes, np.asarray(labels, str), logit(np.clip(np.asarray(probability, float), 0.0011, 0.9989)))
        axes.axvline(logit(0.5), color="0.3", lw=0.8, ls=":")
        axes.set_title(name, loc="left", fontsize=7, fontweight="bold")
        axes.set(ylabel="density", xlim=logit(TICKS[[0, -1]]))
        words = {"title": notes.get(name), "title_fontsize": 6.5, "alignment": "left"}
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), **words)
    grid[-1, 0].set_xticks(logit(TICKS), [f"{tick:g}" for tick in TICKS])
    grid[-1, 0].set_xlabel("predicted probability of pneumonia (logit scale)")
    return figure


def _draw_scores(axes: Axes, labels: np.ndarray, score: np.ndarray) -> None:
    edge = np.log(TICKS[-1] / TICKS[0])
    for kind in (known for known in LINES if known in set(labels)):
        mine, (colour, dashes) = score[labels == kind], LINES[kind]
        height, bins = np.histogram(mine, np.linspace(-edge, edge, 41), density=True)
        axes.stairs(height, bins, color=colour, lw=1.2, ls=dashes, label=f"{NAMES[kind]} ({len(mine):,})")
        axes.stairs(height, bins, color=colour, alpha=0.15, fill=True)
        axes.axvline(np.median(mine), 0, 0.09, color=colour, lw=2)


def referral_costs(costs: Mapping[str, Estimate]) -> Figure:
    """The mean cost per image of each way to decide, with its interval."""
    named = {"mean cost": {f"{way}: {cost.value:.2f}": cost for way, cost in costs.items()}}
    return plots.forest(named, "cost: points per image", [MARKS[2]], limits=(0, None))
