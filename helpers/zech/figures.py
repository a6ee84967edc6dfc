"""Zech 2018, CheXNet and its reproduction: fourteen AUROCs, ROC curves, F1 beside radiologists, heat maps.

What is printed in the talk is drawn hollow, what this project obtained is filled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.plots.style import (
    DOUBLE,
    READERS,
    REFERENCE,
    SINGLE,
    TRAINING,
    VALIDATION,
    canvas,
    print_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from helpers.metrics.estimate import Estimate

TALK, CHEXNET, RESCORED, OWN, FROZEN = "0.1", "#CC5500", VALIDATION, "#8A6500", "0.6"
COLOURS = {"re-scored": RESCORED}  # other levels: OWN
NOT_RUN = "re-scored: not run\n(the published predictions\ndo not lie there)"


def spelt(label: str) -> str:
    """A label as a figure shows it."""
    return label.replace("_", " ").capitalize()


@print_style
def losses(history: pd.DataFrame, chosen: int) -> Figure:
    """Cross-entropy of training (augmented images) and tuning patients by epoch; the chosen epoch is ringed.

    `history` has epoch, split, cross_entropy, learning_rate; epoch 0 is the head on frozen features.
    """
    figure, axes = canvas(SINGLE * 1.25, 2.2)
    for split, colour, style, mark in (("train", TRAINING, "--", "s"), ("validation", VALIDATION, "-", "o")):
        part = history[history["split"] == split]
        name = {"train": "training images, augmented", "validation": "tuning patients"}[split]
        axes.plot(part["epoch"], part["cross_entropy"], color=colour, ls=style, marker=mark, ms=3, label=name)
    tuned = history[history["split"] == "validation"].set_index("epoch")
    best = (chosen, tuned.loc[chosen, "cross_entropy"])
    axes.plot(*best, marker="o", ms=9, mfc="none", mec="k", ls="", label=f"chosen: epoch {chosen}")
    drops = tuned.index[tuned["learning_rate"].diff() < 0]
    for k, epoch in enumerate(drops):
        axes.axvline(epoch - 0.5, color=REFERENCE, lw=0.6, ls=":", label=None if k else "learning rate drops tenfold")
    axes.set(xlabel="epoch", ylabel="binary cross-entropy")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@print_style
def areas(
    published: pd.DataFrame,
    levels: Mapping[str, Mapping[str, Estimate]],
    own: str,
    frozen: Mapping[str, Estimate] | None = None,
) -> Figure:
    """The talk's table as a figure: left what is real (as printed, and re-scored), right this run's own network.

    `published` has retrained and chexnet by label; `levels[name][label]` are AUROCs, with `own` the name of this run's
    network; `frozen` those of the head on frozen features.
    """
    labels = list(published.index[::-1])
    figure, (left, right) = canvas(DOUBLE, 3.7, 1, 2, sharey=True, width_ratios=(1.15, 1))
    places = np.arange(len(labels))
    ordered = published.loc[labels]
    left.plot(
        ordered["chexnet"], places + 0.17, ls="", marker="s", ms=4, mfc="none", mec=CHEXNET, label="CheXNet, printed"
    )
    left.plot(
        ordered["retrained"],
        places,
        ls="",
        marker="D",
        ms=4,
        mfc="none",
        mec=TALK,
        label="retrained, printed in the talk",
    )
    if "re-scored" in levels:
        found = [levels["re-scored"].get(label) for label in labels]
        _bars(left, places - 0.17, found, RESCORED, "o", f"re-scored, {found[0].n:,} test images")
    else:
        left.plot([], [], ls="", label=NOT_RUN)
    if frozen is not None:
        _bars(right, places + 0.14, [frozen.get(label) for label in labels], FROZEN, "s", "head on frozen features")
    _bars(right, places - 0.14, [levels[own].get(label) for label in labels], OWN, "o", f"this run's network: {own}")
    left.set_yticks(places, [spelt(label) for label in labels])
    for axes, title in ((left, "As printed, and the published predictions"), (right, f"This run's network ({own})")):
        axes.set(xlabel="AUROC (95 % interval)", ylim=(-0.7, len(labels) - 0.3))
        axes.set_title(title, pad=4)
        axes.grid(True, axis="x")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=1)
    right.axvline(0.5, color=REFERENCE, lw=0.7, ls="--")
    right.tick_params(left=False)
    return figure


def _bars(axes: Axes, places: np.ndarray, found: Sequence[Estimate | None], colour: str, mark: str, name: str) -> None:
    """Values with their intervals, a row each; what is undefined, or was not learnt, leaves its row empty."""
    kept = [(place, e) for place, e in zip(places, found, strict=True) if e is not None and e.defined]
    values = np.array([e.value for _, e in kept])
    spread = np.array([[e.value - e.low for _, e in kept], [e.high - e.value for _, e in kept]])
    style = {"color": colour, "marker": mark, "ms": 3.2, "ls": "", "elinewidth": 0.9, "capsize": 1.5}
    axes.errorbar(values, [place for place, _ in kept], xerr=spread, label=name, **style)


@print_style
def roc_grid(
    scores: Mapping[str, pd.DataFrame], areas_of: Mapping[str, Mapping[str, Estimate]], labels: Sequence[str]
) -> Figure:
    """An ROC curve a label and level, with its AUROC; `scores[level]` has `y_<label>` and `p_<label>`."""
    from sklearn.metrics import roc_curve

    figure, grid = canvas(DOUBLE, 4.6, 3, 5, sharex=True, sharey=True)
    for axes, label in zip(grid.flat, labels, strict=False):
        for k, (level, frame) in enumerate(scores.items()):
            found = areas_of[level].get(label)
            if found is None or not found.defined:
                continue
            false, true, _ = roc_curve(frame[f"y_{label}"], frame[f"p_{label}"])
            colour = COLOURS.get(level, OWN)
            axes.plot(false, true, color=colour, ls=("-", "--")[k % 2], lw=1.1, label=level)
            text = f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
            axes.text(0.98, 0.04 + 0.11 * k, text, color=colour, ha="right", fontsize=5.2)
        axes.plot([0, 1], [0, 1], color=REFERENCE, lw=0.6, ls=":")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axes.set_title(spelt(label), pad=3)
    last = grid.flat[-1]
    last.axis("off")
    for k, level in enumerate(scores):
        name = f"{level}, {len(scores[level]):,} images"
        last.plot([], [], color=COLOURS.get(level, OWN), ls=("-", "--")[k % 2], label=name)
    last.legend(loc="center", title="AUROC in each panel")
    grid[-1, 2].set_xlabel("1 - specificity")
    grid[1, 0].set_ylabel("sensitivity")
    return figure


@print_style
def f1_scores(table: pd.DataFrame) -> Figure:
    """F1 of pneumonia: the radiologists and CheXNet as printed (hollow), then ours (filled).

    `table`: `numbers.f1_table`. A bar marks what calling every image positive scores.
    """
    figure, axes = canvas(DOUBLE * 0.72, 0.5 + 0.24 * len(table))
    for place, row in zip(range(len(table))[::-1], table.to_dict("records"), strict=True):
        printed = row["where from"].startswith("printed")
        reader = row["reader or network"].startswith("Radiologist")
        colour = READERS if reader else CHEXNET if printed else COLOURS.get(row["reader or network"].split(",")[0], OWN)
        if np.isnan(row["value"]):
            axes.text(0.01, place, f"undefined: {row['note']}", va="center", fontsize=6, color="0.3")
            continue
        spread = [[row["value"] - row["low"]], [row["high"] - row["value"]]]
        style = {"color": colour, "mfc": "white" if printed else colour, "marker": "D" if reader else "o", "ms": 4}
        axes.errorbar(row["value"], place, xerr=spread, elinewidth=0.9, capsize=2, **style)
        everyone = row.get("F1 of calling everyone positive", np.nan)
        if not np.isnan(everyone):
            axes.plot([everyone] * 2, [place - 0.3, place + 0.3], color="0.4", lw=1.2)
            axes.text(1.0, place, f"prevalence {100 * row['prevalence']:.1f} %", fontsize=5.5, va="center", ha="right",
                      transform=axes.get_yaxis_transform())  # fmt: skip
    axes.plot([], [], color="0.4", lw=1.2, label="calling every image positive")
    names = [f"{name}" for name in table["reader or network"]]
    axes.set_yticks(range(len(table))[::-1], names)
    axes.set(
        xlabel="F1 of pneumonia (95 % interval); hollow: as printed", xlim=(0, None), ylim=(-0.6, len(table) - 0.4)
    )
    axes.grid(True, axis="x")
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.2))
    return figure


@print_style
def pointing(ways: Mapping[str, pd.DataFrame]) -> Figure:
    """Share of images whose map peaks on the finding, by label and way of making the map, beside what a random place
    would score.

    `ways[name]` has label, value, low, high, n, chance; "all" is its last row. All have the same rows.
    """
    first = next(iter(ways.values()))
    figure, axes = canvas(DOUBLE * 0.85, 0.6 + 0.21 * len(first))
    places = np.arange(len(first))[::-1]
    for k, (name, table) in enumerate(ways.items()):
        spread = np.stack([table["value"] - table["low"], table["high"] - table["value"]])
        colour, mark = ((OWN, "o"), (FROZEN, "s"))[k % 2]
        style = {"color": colour, "marker": mark, "ms": 3.2, "ls": "", "elinewidth": 0.9, "capsize": 1.5}
        axes.errorbar(table["value"], places + 0.16 - 0.32 * k, xerr=spread, label=name, **style)
    axes.plot(first["chance"], places, ls="", marker="|", ms=8, mew=1.4, color="k", zorder=5, label="a random place")
    for place in places[first["value"].isna()]:
        axes.text(1.0, place, "too few patients", fontsize=5.5, color="0.4", ha="right", va="center")
    names = [f"{spelt(row.label)} ({row.n})" for row in first.itertuples()]
    axes.set_yticks(places, names)
    axes.axhline(0.5, color=REFERENCE, lw=0.6)
    axes.set(xlabel="peak on the finding (share of images, 95 % interval)", xlim=(-0.02, 1.02))
    axes.grid(True, axis="x")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
