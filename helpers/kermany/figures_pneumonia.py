"""Kermany 2018, figures 6 and S6, and beyond the paper: calibration, score shift, choice of epoch, cost of referral."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.kermany import figures as kermany
from helpers.plots.style import CLASSES, DOUBLE, NETWORK, REFERENCE, SINGLE, VALIDATION, canvas, letter, print_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from helpers.metrics.classification import OperatingPoint
    from helpers.metrics.estimate import Estimate

NAMES = {"NORMAL": "Normal", "BACTERIA": "Bacterial pneumonia", "VIRUS": "Viral pneumonia", "PNEUMONIA": "Pneumonia"}
COLOURS = {"NORMAL": CLASSES["NORMAL"], "PNEUMONIA": "#8C3B00", "BACTERIA": "#8C3B00", "VIRUS": "#CC79A7"}
STYLES = {"NORMAL": "-", "PNEUMONIA": "--", "BACTERIA": "--", "VIRUS": "-."}
LESION = "#FFB000"  # light, so that its outline shows on lung and on bone, in colour and in grey
MARKS = (("o", "white", "#333333"), ("s", "#E69F00", "#7A5300"), ("D", "#0072B2", "#00395A"))  # marker, fill, edge
TICKS = np.array([0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999])  # of an axis in logits


@print_style
def training_curves(
    histories: Mapping[str, pd.DataFrame],
    chosen: Mapping[str, int] | None = None,
    unit: str = "training step",
) -> Figure:
    """Figures 6A to D: accuracy and cross-entropy of each model against the step, as `kermany.training_curves` draws
    them, with the panels' letters. `unit`: what a step is, where it is not one ("epoch")."""
    figure = kermany.training_curves(histories, chosen)
    for axes, name in zip(figure.axes, "ABCDEFGH", strict=False):
        letter(axes, name)
        axes.set_xlabel(unit)
    return figure


@print_style
def rocs(
    models: Mapping[str, tuple[np.ndarray, np.ndarray, Estimate, OperatingPoint | None]], first: str = "E"
) -> Figure:
    """Figures 6E and F: an ROC curve a panel, with its AUROC and, as a cross of intervals, the operating point.

    `models[title]` = (truth as booleans, score, AUROC, operating point or None); `first` is the first panel's letter.
    """
    from sklearn.metrics import roc_curve

    figure, grid = canvas(DOUBLE * 0.5 * min(len(models), 2), 3.15, 1, len(models), squeeze=False, sharey=True)
    for place, (axes, (title, model)) in enumerate(zip(grid[0], models.items(), strict=True)):
        truth, score, area, point = model
        false_positive, true_positive, _ = roc_curve(truth, score, drop_intermediate=False)
        axes.plot(false_positive, true_positive, color=NETWORK, lw=1.4, drawstyle="steps-post")
        axes.plot([0, 1], [0, 1], color=REFERENCE, lw=0.6, ls=":")
        words = [f"AUROC {area.percent()}", f"n = {area.n:,} images"]
        if point is not None:
            words[1:1] = _operating_point(axes, point)
        axes.text(0.98, 0.04, "\n".join(words), ha="right", fontsize=6.5, linespacing=1.35)
        axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="1 − specificity", title=title, aspect="equal")
        letter(axes, chr(ord(first) + place))
    grid[0, 0].set_ylabel("sensitivity")
    return figure


def _operating_point(axes: Axes, point: OperatingPoint) -> list[str]:
    hit, rejected = point.sensitivity, point.specificity
    if not (hit.defined and rejected.defined):
        return ["operating point undefined"]
    x, y = 1 - rejected.value, hit.value
    spread = {
        "xerr": [[rejected.high - rejected.value], [rejected.value - rejected.low]],
        "yerr": [[hit.value - hit.low], [hit.high - hit.value]],
    }
    axes.errorbar(x, y, **spread, fmt="o", ms=4, color="k", mfc="white", lw=0.9, capsize=2, zorder=3)
    return [
        f"threshold {point.threshold:.2g} ({point.chosen_on})",
        f"sensitivity {hit.percent()}",
        f"specificity {rejected.percent()}",
    ]


@print_style
def examples(images: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray] | None = None) -> Figure:
    """Figure S6: a radiograph of each class, side by side; where masks are known, a second row outlines the lesions.

    `images[class]` grey uint8 (h, w), `masks[class]` bool of the same shape. "Bacterial pneumonia (middle) typically
    exhibits a focal lobar consolidation [...], whereas viral pneumonia (right) manifests with a more diffuse
    'interstitial' pattern in both lungs."
    """
    rows = 2 if masks else 1
    figure, grid = canvas(DOUBLE, rows * DOUBLE / len(images) + 0.2, rows, len(images), squeeze=False)
    for column, (name, image) in enumerate(images.items()):
        grid[0, column].set_title(NAMES.get(name, name))
        for axes in grid[:, column]:
            axes.axis("off")
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
        if masks and name in masks and masks[name].any():
            grid[1, column].contour(masks[name], [0.5], colors="k", linewidths=1.6)
            grid[1, column].contour(masks[name], [0.5], colors=LESION, linewidths=0.8)
    return figure


@print_style
def reliability_diagram(tables: Mapping[str, pd.DataFrame], notes: Mapping[str, str] | None = None) -> Figure:
    """Beyond the paper: observed against predicted, with intervals, and below it how densely each bin is filled.

    `tables[name]` from `calibration.reliability`, at most three; `notes[name]` stands after the name in the legend
    ("Brier score 0.08 ...").
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, (axes, below) = canvas(SINGLE * 1.25, 4.1, 2, 1, height_ratios=[4, 1], sharex=True)
    axes.plot([0, 1], [0, 1], color=REFERENCE, lw=0.8, ls=":")
    for place, ((name, table), (marker, fill, edge)) in enumerate(zip(tables.items(), MARKS, strict=False)):
        spread = [table["observed"] - table["low"], table["high"] - table["observed"]]
        label = f"{name}: {notes[name]}" if notes and name in notes else name
        style = {"marker": marker, "mfc": fill, "mec": edge, "ms": 4.5, "color": edge}
        axes.plot(table["predicted"], table["observed"], lw=0.9, ls=("-", "--", "-.")[place], label=label, **style)
        axes.errorbar(table["predicted"], table["observed"], yerr=spread, color=edge, lw=0.8, capsize=1.5, ls="")
        edges = np.unique(table[["from", "to"]].to_numpy())
        held = table.groupby("from")["n"].sum().reindex(edges[:-1], fill_value=0)  # a bin without images has no row
        # By width: bins of equal counts would all be as high.
        below.stairs(held / np.diff(edges) / 100, edges, color=edge, lw=1, ls=("-", "--", "-.")[place])
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), ylabel="observed share")
    below.set(xlabel="predicted probability", ylabel="images\na 0.01", yscale="log")
    below.yaxis.set_major_locator(LogLocator(numticks=4))
    below.yaxis.set_major_formatter("{x:,g}")
    below.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="upper left")
    axes.grid(True)
    return figure


@print_style
def score_shift(
    parts: Mapping[str, tuple[Sequence[str], np.ndarray]],
    notes: Mapping[str, str],
    threshold: float | None = None,
    label: str = "predicted probability of pneumonia (logit scale)",
) -> Figure:
    """Beyond the paper: how the scores of each true class lie in one set of images and in another.

    `parts[name]` = (true labels, probability 0 to 1), one panel each ("held out of the train folder", "test folder");
    `notes[name]` is written in it (AUROC, accuracy). Each class is a histogram of area 1 over the logit of the
    probability, kept within 0.001 to 0.999, with a tick at its median.
    """
    figure, grid = canvas(DOUBLE * 0.8, 1.35 * len(parts) + 0.5, len(parts), 1, squeeze=False, sharex=True, sharey=True)
    bins = np.linspace(*_logit(np.array([0.001, 0.999])), 41)
    for axes, (name, (labels, probability)) in zip(grid[:, 0], parts.items(), strict=True):
        true, score = np.asarray(labels, str), _logit(np.clip(np.asarray(probability, float), 0.0011, 0.9989))
        for kind in (known for known in COLOURS if known in set(true)):
            mine, style = score[true == kind], STYLES[kind]
            text = f"{NAMES.get(kind, kind)} ({len(mine):,})"
            height, _ = np.histogram(mine, bins, density=True)
            axes.stairs(height, bins, color=COLOURS[kind], lw=1.2, ls=style, label=text, fill=False)
            axes.stairs(height, bins, color=COLOURS[kind], alpha=0.15, fill=True)
            axes.axvline(np.median(mine), 0, 0.09, color=COLOURS[kind], lw=2)
        if threshold is not None:
            axes.axvline(_logit(np.array(threshold)), color="0.3", lw=0.8, ls=":")
        axes.set_title(name, loc="left", fontsize=7, fontweight="bold")
        axes.set(yticks=[], xlim=bins[[0, -1]])
        axes.spines["left"].set_visible(False)
        legend = axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), title=notes.get(name), alignment="left")
        legend.get_title().set_fontsize(6.5)
    grid[-1, 0].set_xticks(_logit(TICKS), [f"{tick:g}" for tick in TICKS])
    grid[-1, 0].set_xlabel(label)
    return figure


def _logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


@print_style
def epoch_choice(table: pd.DataFrame, label: str = "test accuracy (%)") -> Figure:
    """Beyond the paper: the same training judged on the test, its epoch chosen on validation and, as the paper did, on
    the test itself.

    `table` has columns model, `chosen on` ("validation", "test"), value, low, high (0 to 1), and may have step.
    """
    models = list(dict.fromkeys(table["model"]))
    figure, axes = canvas(SINGLE * 1.5, 0.42 * len(models) + 0.95)
    ways = {"validation": MARKS[2], "test": MARKS[1]}
    for place, (way, (marker, fill, edge)) in enumerate(ways.items()):
        for row, part in table[table["chosen on"] == way].groupby("model", sort=False):
            y, one = models.index(row) + (-0.14, 0.14)[place], part.iloc[0]
            axes.plot([100 * one["low"], 100 * one["high"]], [y, y], color=edge, lw=1)
            text = f"chosen on {way}" if row == models[0] else None
            axes.plot(100 * one["value"], y, marker, mfc=fill, mec=edge, ms=5, mew=0.9, ls="", label=text)
            if "step" in table.columns:
                axes.annotate(
                    f"{int(one['step']):,}",
                    (100 * one["high"], y),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=5.5,
                    color="0.4",
                )
    for row, name in enumerate(models):
        pair = table[table["model"] == name].set_index("chosen on")["value"]
        if {"validation", "test"} <= set(pair.index):
            axes.plot(
                [100 * pair["validation"], 100 * pair["test"]], [row - 0.14, row + 0.14], color="0.6", lw=0.8, zorder=1
            )
    axes.set_yticks(range(len(models)), models)
    axes.set_ylim(len(models) - 0.45, -0.55)
    axes.set_xlabel(label + (", and the step that was kept" if "step" in table.columns else ""))
    axes.grid(True, axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


@print_style
def referral_table(counts: pd.DataFrame, costs: pd.DataFrame, decisions: Mapping[str, str]) -> Figure:
    """Beyond the paper: decisions by true class; shaded by the points they cost per 100 images, which is what matters.

    `counts` as `classification.confusion` gives it, `costs` of the same classes; `decisions[class]` names the care.
    In each cell: how many images, and their points (each times its cost).
    """
    import seaborn as sns

    names = list(counts.index)
    points = counts * costs.loc[names, names]
    share = 100 * points / max(int(counts.to_numpy().sum()), 1)
    words = counts.map("{:,}".format) + points.map(lambda value: f"\n{value:g} points" if value else "")
    figure, axes = canvas(SINGLE * 1.35, 2.7)
    bar = {"label": "points per 100 images"}
    sns.heatmap(share, annot=words, fmt="", cmap="Oranges", vmin=0, linewidths=0.6, ax=axes, cbar_kws=bar)
    axes.set_yticklabels([NAMES.get(name, name).replace(" ", "\n") for name in names], rotation=0)
    axes.set_xticklabels([decisions.get(name, name).replace(" ", "\n") for name in names], rotation=0)
    axes.set(xlabel="decision", ylabel="true class")
    axes.tick_params(length=0)
    return figure


@print_style
def referral_costs(costs: Mapping[str, Estimate]) -> Figure:
    """Beyond the paper: mean cost an image of each way to decide, with its interval."""
    figure, axes = canvas(SINGLE * 1.35, 0.3 * len(costs) + 0.7)
    for row, found in enumerate(costs.values()):
        axes.plot([found.low, found.high], [row, row], color=VALIDATION, lw=1.2)
        axes.plot(found.value, row, "o", ms=4.5, color=VALIDATION)
        axes.annotate(
            f"{found.value:.2f}", (found.value, row), (0, 4), textcoords="offset points", ha="center", fontsize=6
        )
    axes.set_yticks(range(len(costs)), list(costs))
    axes.set_ylim(len(costs) - 0.5, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("cost: points an image")
    axes.grid(True, axis="x")
    return figure
