"""Zech 2018, CheXNet and its reproduction: fourteen AUROCs, ROC curves, F1 beside radiologists, heat maps.

What is printed in the talk is drawn hollow, what this project obtained is filled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.explain.maps import Maps
from helpers.metrics.estimate import Estimate
from helpers.plots.curves import GREY, Box, draw_arrow, draw_box, draw_forest, draw_intervals, draw_rocs
from helpers.plots.maps import draw_image, draw_map
from helpers.plots.style import DOUBLE, READERS, REFERENCE, VALIDATION, Mark, canvas, display_name, print_style
from helpers.zech.data import RESCORED, RESCORED_LATER

TALK, CHEXNET, OWN = "0.1", "#CC5500", "#8A6500"
LEVELS = {RESCORED: VALIDATION, RESCORED_LATER: "#5B3A8E"}  # the colour of a level; others: OWN
FILLED: tuple[Mark, ...] = (("o", OWN, OWN), ("s", "0.6", "0.6"))  # this run's network, and what it is held against
NOT_RUN = "re-scored: not run\n(the published predictions\ndo not lie there)"


# --- numbers ----------------------------------------------------------------------------------------------------------


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
    figure, (left, right) = canvas(DOUBLE, 3.7, 1, 2, sharey=True, width_ratios=(1.15, 1))
    labels, places = published.index, np.arange(len(published))
    names, title = [display_name(label) for label in labels], "AUROC (95 % interval)"
    left.plot(published["chexnet"], places - 0.17, "s", ms=4, mfc="none", mec=CHEXNET, label="CheXNet, printed")
    left.plot(published["retrained"], places, "D", ms=4, mfc="none", mec=TALK, label="retrained, printed in the talk")
    rescored = [level for level in LEVELS if level in levels]
    for k, level in enumerate(rescored):
        found, colour = [levels[level].get(label) for label in labels], LEVELS[level]
        name = f"{level}, {found[0].n:,} test images"
        draw_intervals(left, found, places + 0.17 + 0.17 * k, ("o", colour, colour), name)
    if not rescored:
        left.plot([], [], ls="", label=NOT_RUN)
    draw_forest(left, {}, names, title)
    shown = {f"this run's network: {own}": levels[own], "head on frozen features": frozen or {}}
    series = {name: [of.get(label) for label in labels] for name, of in shown.items() if of}
    draw_forest(right, series, names, title, FILLED, step=0.28, reference=0.5)
    left.set_title("As printed, and the published predictions", pad=4)
    right.set_title(f"This run's network ({own})", pad=4)
    for axes in (left, right):
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13))
    right.tick_params(left=False)
    return figure


@print_style
def roc_grid(
    scores: Mapping[str, pd.DataFrame], areas_of: Mapping[str, Mapping[str, Estimate]], labels: Sequence[str]
) -> Figure:
    """An ROC curve per label and level, with its AUROC; `scores[level]` has `y_<label>` and `p_<label>`."""
    figure, grid = canvas(DOUBLE, 4.6, 3, 5, sharex=True, sharey=True)
    colours = [LEVELS.get(level, OWN) for level in scores]
    for axes, label in zip(grid.flat, labels, strict=False):
        found = {level: areas_of[level].get(label) for level in scores}
        kept = {level: one for level, one in found.items() if one is not None and one.defined}
        curves = {level: (scores[level][f"y_{label}"], scores[level][f"p_{label}"], one) for level, one in kept.items()}
        draw_rocs(axes, curves, [LEVELS.get(level, OWN) for level in kept])
        for k, (level, one) in enumerate(kept.items()):
            text = f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"
            style = {"color": LEVELS.get(level, OWN), "ha": "right", "fontsize": 5.2}
            axes.text(0.98, 0.04 + 0.11 * k, text, **style)
        axes.set(aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), xlabel="", ylabel="")
        axes.set_title(display_name(label), pad=3)
    last = grid.flat[-1]
    last.axis("off")
    for colour, (level, frame) in zip(colours, scores.items(), strict=True):
        last.plot([], [], color=colour, label=f"{level}, {len(frame):,} images".replace(", ", ",\n"))
    last.legend(loc="center", title="AUROC in each panel")
    grid[-1, 2].set_xlabel("1 − specificity")
    grid[1, 0].set_ylabel("sensitivity")
    return figure


@print_style
def f1_scores(table: pd.DataFrame) -> Figure:
    """F1 of pneumonia: the radiologists and CheXNet as printed (hollow), then ours (filled).

    `table`: `numbers.f1_table`. A bar marks what calling every image positive scores.
    """
    figure, axes = canvas(DOUBLE * 0.72, 0.5 + 0.24 * len(table))
    draw_forest(axes, {}, table["reader or network"], "F1 of pneumonia (95 % interval); hollow: as printed")
    for place, row in table.iterrows():
        printed, name = row["where from"].startswith("printed"), row["reader or network"]
        reader = name.startswith("Radiologist")
        colour = READERS if reader else CHEXNET if printed else LEVELS.get(name.split(",")[0], OWN)
        mark = ("D" if reader else "o", "white" if printed else colour, colour)
        draw_intervals(axes, table.loc[[place]], [place], mark)
        if np.isnan(row["value"]):
            axes.text(0.01, place, f"undefined: {row['note']}", va="center", fontsize=6, color="0.3")
        elif not np.isnan(row["prevalence"]):
            axes.vlines(row["F1 of calling everyone positive"], place - 0.3, place + 0.3, color="0.4", lw=1.2)
            style = {"transform": axes.get_yaxis_transform(), "va": "center", "ha": "right", "fontsize": 5.5}
            axes.text(1.0, place, f"prevalence {100 * row['prevalence']:.1f} %", **style)
    axes.plot([], [], color="0.4", lw=1.2, label="calling every image positive")
    axes.set_xlim(left=0)
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.2))
    return figure


# --- heat maps --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """One image to draw: uint8 (h, w), its map (h, w) of `label`, the finding's outline (h, w) or None, a probability
    per label, and the labels that the data set gives it."""

    image: np.ndarray
    heat: np.ndarray
    label: str
    mask: np.ndarray | None
    probabilities: Mapping[str, float]
    labels: Sequence[str]

    def draw(self, axes: Axes, title: str) -> None:
        """The map on the darkened image, the finding's outline dashed."""
        draw_map(axes, self.image, self.heat, max(float(self.heat.max()), 1e-9), self.mask, title)


def shown(
    chosen: pd.DataFrame, images: np.ndarray, maps: Maps, masks: np.ndarray | None, scores: pd.DataFrame
) -> list[Shown]:
    """What is to be drawn of the images `chosen` (image_id, target), from their maps, masks and scores."""
    rows = scores.set_index("image_id").loc[chosen["image_id"]]
    truth, probability = (rows.filter(regex=f"^{kind}_").rename(columns=lambda name: name[2:]) for kind in "yp")
    masks = [None] * len(chosen) if masks is None else masks
    parts = zip(images, maps.maps, chosen["target"], masks, probability.to_dict("records"), strict=True)
    known = [[label for label in truth if row[label]] for row in truth.to_dict("records")]
    return [Shown(*part, labels) for part, labels in zip(parts, known, strict=True)]


@print_style
def network_answer(one: Shown, backbone: str) -> Figure:
    """CheXNet's first figure: input, network, output, and the heat map of the answer."""
    figure, (left, middle, right) = canvas(DOUBLE * 0.85, 2.15, 1, 3, width_ratios=(1, 0.95, 1))
    draw_image(left, one.image, "Input: chest X-ray image")
    middle.set(xlim=(0, 100), ylim=(0, 100))
    middle.axis("off")
    draw_box(middle, Box(50, 57, 60, 30, f"{backbone}\n14 outputs", fill=GREY))
    draw_arrow(middle, (0, 57), (18, 57))
    draw_arrow(middle, (82, 57), (100, 57))
    answer = f"Output\n{display_name(one.label)}: {100 * one.probabilities[one.label]:.0f} %"
    middle.text(50, 20, answer, ha="center", va="center", fontsize=8)
    labels = ", ".join(map(display_name, one.labels)) or "no finding"
    middle.text(50, 2, f"labelled {labels}", ha="center", va="center", fontsize=5.5, color="0.35", wrap=True)
    one.draw(right, f"Heat map: {display_name(one.label)}")
    return figure


@print_style
def explored(rows: Sequence[Shown]) -> Figure:
    """The repository's page of predictions: a row per image, with its heat map and all fourteen probabilities.

    A bar's label is bold where the data set gives the image that label.
    """
    figure, grid = canvas(DOUBLE, 2.15 * len(rows), len(rows), 3, squeeze=False, width_ratios=(1, 1, 1.25))
    for (left, middle, right), one in zip(grid, rows, strict=True):
        draw_image(left, one.image, "X-ray")
        one.draw(middle, f"P({display_name(one.label)}) = {one.probabilities[one.label]:.3f}")
        names = [display_name(name) for name in one.probabilities]
        colours = [OWN if name == one.label else "0.7" for name in one.probabilities]
        right.barh(names, list(one.probabilities.values()), color=colours, height=0.7)
        right.tick_params(axis="y", labelsize=5.5)
        for text, name in zip(right.get_yticklabels(), one.probabilities, strict=True):
            text.set_fontweight("bold" if name in one.labels else "normal")
        right.set(xlabel="probability (bold: so labelled)", xlim=(0, 1))
        right.invert_yaxis()
        right.grid(True, axis="x")
    return figure


@print_style
def heat_maps(rows: Sequence[Shown], columns: int = 5) -> Figure:
    """The map of each image's label on the darkened image; the finding's outline dashed, where it is known."""
    lines = -(-len(rows) // columns)
    figure, grid = canvas(DOUBLE, 1.52 * lines + 0.25, lines, columns, squeeze=False)
    for axes, one in zip(grid.flat, rows, strict=False):
        one.draw(axes, f"{display_name(one.label)}: {100 * one.probabilities[one.label]:.0f} %")
    for axes in grid.flat[len(rows) :]:
        axes.axis("off")
    if len(rows) < grid.size:
        grid.flat[-1].plot([], [], color=REFERENCE, label="half of the map's highest value")
        grid.flat[-1].plot([], [], color="#2C8CB4", ls="--", label="the finding")
        grid.flat[-1].legend(loc="center", fontsize=5.5)
    return figure
