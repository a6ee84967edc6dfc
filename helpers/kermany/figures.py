"""Kermany 2018, figures 1 to 4 and S1, S2: one function a figure. Those with readers are in `kermany_experts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.plots.style import (
    DOUBLE,
    LIMITED,
    NAMES,
    NETWORK,
    READERS,
    REFERENCE,
    SINGLE,
    TEST,
    TRAINING,
    VALIDATION,
    canvas,
    letter,
    print_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from helpers.metrics.estimate import Estimate

SMOOTHING = 0.6  # figures 3, 6 and S1: "Plots were normalized with a smoothing factor of 0.6"
SOURCES = {  # what a backbone was trained on, and some of what it told apart there
    "imagenet": ("ImageNet, 1,000 categories", ["goldfish", "cat", "mushroom", "..."]),
    "formula": ("images made from formulas", ["fractal", "grating", "cells", "..."]),
    "none": ("nothing: random initialisation", []),
}


@print_style
def schematic(backbone: str, weights: str, classes: Sequence[str]) -> Figure:
    """Figure 1: convolutional layers learnt on one task are frozen and moved, the last layer is made anew.

    `weights` is the profile's key (imagenet, formula, none, or a file), `classes` what the new layer tells apart.
    """
    source, told_apart = SOURCES.get(weights, (f"weights from {Path(weights).name}", ["..."]))
    figure, axes = canvas(DOUBLE, 2.7)
    axes.set(xlim=(0, 100), ylim=(0, 44))
    axes.axis("off")
    for bottom, title, frozen, outputs in (
        (25, source, False, told_apart),
        (3, "OCT B-scans", True, [NAMES.get(name, name) for name in classes]),
    ):
        _row(axes, bottom, title, frozen, outputs)
    for x in (26, 34, 42, 50):
        axes.annotate("", (x, 18), (x, 24), arrowprops={"arrowstyle": "-|>", "color": VALIDATION, "lw": 1})
    axes.text(55, 21, f"weights of {backbone}: transferred and frozen", fontsize=7, va="center", color=VALIDATION)
    return figure


def _row(axes: Axes, bottom: float, title: str, frozen: bool, outputs: Sequence[str]) -> None:
    from matplotlib.patches import FancyBboxPatch, Rectangle

    axes.text(1, bottom + 17, title, fontsize=7.5, fontweight="bold")
    axes.add_patch(Rectangle((2, bottom + 2), 12, 11, color="0.15" if frozen else "0.75"))
    axes.text(
        8,
        bottom + 7.5,
        "B-scan" if frozen else "image",
        color="w" if frozen else "k",
        ha="center",
        va="center",
    )
    colour = "#CFE3F1" if frozen else "#EDEDED"
    for place, height in enumerate((13, 11, 9, 7)):
        middle = bottom + 7.5
        style = {"fc": colour, "ec": VALIDATION if frozen else "0.4", "lw": 0.8}
        axes.add_patch(
            FancyBboxPatch((23.5 + 8 * place, middle - height / 2), 5, height, boxstyle="round,pad=0.2", **style)
        )
    axes.text(38, bottom - 1.6, "convolutional layers" + (" (frozen)" if frozen else ""), ha="center", fontsize=6.5)
    fill = TRAINING if frozen else "#EDEDED"
    axes.add_patch(FancyBboxPatch((61, bottom + 1), 4, 13, boxstyle="round,pad=0.2", fc=fill, ec="0.4", lw=0.8))
    axes.text(63, bottom - 1.6, "new softmax layer" if frozen else "fully connected", ha="center", fontsize=6.5)
    for x in (15.5, 56.5, 66.5):
        axes.annotate(
            "",
            (x + 4, bottom + 7.5),
            (x, bottom + 7.5),
            arrowprops={"arrowstyle": "-|>", "color": "0.3", "lw": 0.8},
        )
    for place, text in enumerate(outputs):
        axes.text(73, bottom + 13 - 3.8 * place, text, va="center", fontsize=7)


@print_style
def examples(
    images: Mapping[str, Sequence[np.ndarray]], masks: Mapping[str, Sequence[np.ndarray]] | None = None
) -> Figure:
    """Figure 2A: B-scans of each class, one column a class; where a lesion mask is known its outline is drawn.

    `images[class]` are grey uint8 arrays (h, w); `masks[class]` boolean arrays of the same shapes. The first row is as
    a reader sees it, without outlines.
    """
    rows = max(len(found) for found in images.values())
    tallest = max(len(image) / image.shape[1] for found in images.values() for image in found)
    height = 1.62 * min(1.0, tallest / 0.95)
    figure, grid = canvas(DOUBLE, height * rows + 0.25, rows, len(images), squeeze=False)
    for column, (name, found) in enumerate(images.items()):
        grid[0, column].set_title(NAMES.get(name, name), color="k")
        for row in range(rows):
            axes = grid[row, column]
            axes.axis("off")
            if row < len(found):
                axes.imshow(found[row], cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
                if masks is not None and row > 0 and masks[name][row].any():
                    axes.contour(masks[name][row], [0.5], colors=[TRAINING], linewidths=0.6)
    return figure


@print_style
def flow(boxes: Sequence[tuple[str, str]], aside: Mapping[int, str]) -> Figure:
    """Figure 2B: the flow of images and patients from the folder to the tested model.

    `boxes` are (title, counts) from top to bottom; `aside[i]` says what left between box i and the next.
    """
    from matplotlib.patches import FancyBboxPatch

    step = 10
    figure, axes = canvas(DOUBLE, 0.62 * len(boxes) + 0.2)
    axes.set(xlim=(0, 100), ylim=(-step * len(boxes) + 3, 3.5))
    axes.axis("off")
    for place, (title, counts) in enumerate(boxes):
        y = -step * place - 3
        axes.add_patch(FancyBboxPatch((3, y - 3), 54, 6, boxstyle="round,pad=0.4", fc="#EEF3F8", ec=VALIDATION, lw=0.8))
        axes.text(30, y + 1.9, title, ha="center", va="center", fontweight="bold", fontsize=7)
        axes.text(30, y - 1.1, counts, ha="center", va="center", fontsize=6, linespacing=1.3)
        if place < len(boxes) - 1:
            axes.annotate("", (30, y - 6.4), (30, y - 3.5), arrowprops={"arrowstyle": "-|>", "color": "0.3", "lw": 0.9})
        if place in aside:
            axes.annotate("", (62, y - 5), (30, y - 5), arrowprops={"arrowstyle": "-|>", "color": "0.3", "lw": 0.7})
            axes.text(63, y - 5, aside[place], va="center", fontsize=6.5)
    return figure


@print_style
def training_curves(histories: Mapping[str, pd.DataFrame], chosen: Mapping[str, int] | None = None) -> Figure:
    """Figures 3 and S1: accuracy and cross-entropy against the step, smoothed as TensorBoard does.

    `histories[title]` has columns step, split, accuracy, cross_entropy; one row of two panels each. Training is
    orange and validation blue, as in the paper; the raw values stand faintly behind. `chosen[title]` marks the step
    whose head was kept.
    """
    figure, grid = canvas(DOUBLE, 2.15 * len(histories), len(histories), 2, squeeze=False, sharex="row")
    for row, (title, history) in enumerate(histories.items()):
        for axes, column, label in zip(
            grid[row], ("accuracy", "cross_entropy"), ("accuracy", "cross-entropy"), strict=True
        ):
            _curve(axes, history, column)
            axes.set(xlabel="training step", ylabel=label, title=title)
            axes.grid(True)
            if chosen and title in chosen:
                axes.axvline(chosen[title], color="0.4", lw=0.7, ls=":")
        grid[row, 0].set_ylim(top=1.005)
    grid[0, 0].legend(loc="lower right")
    return figure


def _curve(axes: Axes, history: pd.DataFrame, column: str) -> None:
    from helpers.model.head import smooth

    for split, colour in (("train", TRAINING), ("validation", VALIDATION), ("test", TEST)):
        part = history[history["split"] == split]
        if part.empty:
            continue
        name = {"train": "training", "test": "test (for comparison)"}.get(split, split)
        axes.plot(part["step"], part[column], color=colour, lw=0.5, alpha=0.25)
        style = {"lw": 0.8, "ls": "--"} if split == "test" else {}
        axes.plot(part["step"], smooth(part[column].to_numpy(), SMOOTHING), color=colour, label=name, **style)


@print_style
def roc(
    models: Mapping[str, tuple[np.ndarray, np.ndarray, Estimate]],
    readers: pd.DataFrame | None = None,
    readers_name: str = "readers",
    zoom: tuple[float, float] | None = (0.2, 0.8),
) -> Figure:
    """Figure 4A: the ROC curve for urgent referrals, with readers as points, and a zoom on the top left corner.

    `models[name]` = (truth as booleans, score, AUROC); `readers` has columns reader, sensitivity, specificity;
    `zoom` = (largest false positive rate, smallest true positive rate) of the inset.
    """
    figure, axes = canvas(SINGLE * 1.15, SINGLE * 1.1)
    _roc_axes(axes, models, readers, readers_name)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.02))
    if zoom:
        inset = axes.inset_axes((0.40, 0.36, 0.52, 0.40))
        _roc_axes(inset, models, readers, readers_name)
        inset.set(xlim=(-0.004, zoom[0]), ylim=(zoom[1], 1.004), xlabel="", ylabel="")
        inset.tick_params(labelsize=5.5)
        for spine in inset.spines.values():
            spine.set_visible(True)
        axes.indicate_inset_zoom(inset, edgecolor="0.5", lw=0.6)
    return figure


def _roc_axes(axes: Axes, models: Mapping, readers: pd.DataFrame | None, readers_name: str) -> None:
    from sklearn.metrics import roc_curve

    colours = [NETWORK, LIMITED, VALIDATION, TEST]
    for (name, (truth, score, area)), colour in zip(models.items(), colours, strict=False):
        false_positive, true_positive, _ = roc_curve(truth, score, drop_intermediate=False)
        label = f"{name}\nAUROC {area.percent()}"
        axes.plot(false_positive, true_positive, color=colour, label=label, drawstyle="steps-post")
    if readers is not None and len(readers):
        axes.scatter(
            1 - readers["specificity"],
            readers["sensitivity"],
            s=14,
            marker="^",
            color=READERS,
            label=readers_name,
            zorder=3,
        )
    axes.plot([0, 1], [0, 1], color=REFERENCE, lw=0.6, ls=":")
    axes.set(xlim=(-0.01, 1.0), ylim=(0, 1.01), xlabel="1 − specificity", ylabel="sensitivity")
    axes.set_aspect("auto")


@print_style
def confusion(tables: Mapping[str, pd.DataFrame], columns: int = 4) -> Figure:
    """Figures 4B and S4B: confusion tables, rows the true labels, shaded by the share of the row, counts written in."""
    import seaborn as sns

    across = min(columns, len(tables))
    down = -(-len(tables) // across)
    figure, grid = canvas(min(2.3 * across, DOUBLE), 1.95 * down, down, across, squeeze=False)
    for axes in grid.flat[len(tables) :]:
        axes.axis("off")
    for axes, (title, table) in zip(grid.flat, tables.items(), strict=False):
        named = table.rename(index=NAMES, columns=NAMES)
        share = named.div(named.sum(axis=1).replace(0, np.nan), axis=0)
        sns.heatmap(share, annot=named, fmt="d", cmap="Blues", vmin=0, vmax=1, cbar=False, linewidths=0.5, ax=axes)
        axes.set(title=title, xlabel="predicted", ylabel="true")
        axes.tick_params(length=0)
        axes.tick_params(axis="y", rotation=0)
    return figure


@print_style
def binary_rocs(models: Mapping[str, tuple[np.ndarray, np.ndarray, Estimate]]) -> Figure:
    """Figure S2: one ROC panel a binary classifier, with its AUROC and interval."""
    figure, grid = canvas(DOUBLE, 2.35, 1, len(models), squeeze=False, sharey=True)
    for place, (axes, (title, model)) in enumerate(zip(grid[0], models.items(), strict=True)):
        _roc_axes(axes, {"": model}, None, "")
        axes.set(title=title, ylabel="sensitivity" if place == 0 else "")
        area = model[2]
        text = f"AUROC {area.percent(2)}\nn = {area.n:,}" if area.defined else str(area)
        axes.text(0.97, 0.06, text, transform=axes.transAxes, ha="right", fontsize=6.5)
        letter(axes, "ABC"[place])
    return figure


@print_style
def learning_curve(
    points: pd.DataFrame, measure: str, label: str, reference: Mapping[str, float] | None = None
) -> Figure:
    """Beyond the paper: `measure` on the test set against the training images a class, one line an initialisation.

    `points` has columns initialisation, per_class, seed and `measure`: a dot a run, a line through the means, a band
    of the t interval of the mean over seeds. `reference[name]` are horizontal lines.
    """
    figure, axes = canvas(SINGLE * 1.3, 2.6)
    colours = [NETWORK, VALIDATION, TEST]
    for (name, part), colour in zip(points.groupby("initialisation", sort=False), colours, strict=False):
        summary = part.groupby("per_class")[measure].agg(["mean", "std", "count"])
        half = summary["std"] / np.sqrt(summary["count"]) * _t_quantile(summary["count"].to_numpy())
        axes.fill_between(
            summary.index,
            summary["mean"] - half,
            (summary["mean"] + half).clip(upper=1),
            color=colour,
            alpha=0.2,
            lw=0,
        )
        axes.plot(summary.index, summary["mean"], color=colour, marker="o", ms=3, label=name)
        axes.scatter(part["per_class"], part[measure], s=4, color=colour, alpha=0.5, lw=0)
    for name, value in (reference or {}).items():
        axes.axhline(value, color="0.4", lw=0.7, ls="--")
        axes.annotate(
            name,
            (0.01, value),
            (0, 2),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=6,
        )
    axes.set(xscale="log", xlabel="training images a class", ylabel=label)
    ticks = sorted(points["per_class"].unique())
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(True)
    axes.legend(loc="lower right")
    return figure


def _t_quantile(counts: np.ndarray) -> np.ndarray:
    from scipy.stats import t

    return t.ppf(0.975, np.maximum(counts - 1, 1))
