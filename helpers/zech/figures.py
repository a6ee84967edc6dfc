"""Zech 2018: CheXNet and its reproduction (fourteen AUROCs, ROC curves, F1 beside radiologists, heat maps), and several
hospitals (table 3, the hospital as a confounder, low resolution, remedies).

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
from helpers.plots import style as palette
from helpers.plots.curves import GREY, Box, draw_arrow, draw_box, draw_forest, draw_intervals, draw_rocs, legend_above
from helpers.plots.maps import draw_image, draw_map
from helpers.plots.style import DOUBLE, REFERENCE, Mark, canvas, display_name, in_percent, print_style
from helpers.zech.data import RESCORED, RESCORED_LATER

TALK, CHEXNET, OWN = "0.1", "#CC5500", "#8A6500"
LEVELS = {RESCORED: palette.VALIDATION, RESCORED_LATER: "#5B3A8E"}  # the colour of a level; others: OWN
FILLED: tuple[Mark, ...] = (("o", OWN, OWN), ("s", "0.6", "0.6"))  # this run's network, and what it is held against
NOT_RUN = "not re-scored: the published\npredictions are not here"


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
    figure, (left, right) = canvas(DOUBLE, 4.5, 1, 2, sharey=True)
    labels, places = published.index, np.arange(len(published))
    names = [display_name(label) for label in labels]
    left.plot(published["chexnet"], places - 0.17, "s", ms=4, mfc="none", mec=CHEXNET, label="CheXNet, printed")
    left.plot(published["retrained"], places, "D", ms=4, mfc="none", mec=TALK, label="retrained, printed in the talk")
    rescored = [level for level in LEVELS if level in levels]
    for k, level in enumerate(rescored):
        found, colour = [levels[level].get(label) for label in labels], LEVELS[level]
        name = f"{level}, {found[0].n:,} test images"
        draw_intervals(left, found, places + 0.17 + 0.17 * k, ("o", colour, colour), name)
    if not rescored:
        left.plot([], [], ls="", label=NOT_RUN)
    draw_forest(left, {}, names, "AUROC (95 % interval)" if rescored else "AUROC")
    shown = {"fine-tuned network": levels[own], "last layer on frozen features": frozen or {}}
    series = {name: [of.get(label) for label in labels] for name, of in shown.items() if of}
    draw_forest(right, series, names, "AUROC (95 % interval)", FILLED, step=0.28, reference=0.5)
    left.set_title("As printed, and the published predictions" if rescored else "As printed", pad=4)
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
            style = {"color": LEVELS.get(level, OWN), "ha": "right", "fontsize": 5.5}
            axes.text(0.98, 0.04 + 0.12 * k, one.plain(2), **style)
        axes.set(aspect="equal", xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), xlabel="", ylabel="")
        axes.set_title(display_name(label), pad=3)
    last = grid.flat[-1]
    last.axis("off")
    for colour, (level, frame) in zip(colours, scores.items(), strict=True):
        last.plot([], [], color=colour, label=f"{level}, {len(frame):,} images".replace(", ", ",\n"))
    last.legend(loc="center", title="AUROC in each panel")
    grid[-2, -1].tick_params(labelbottom=True)  # nothing is below it
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
        colour = palette.READERS if reader else CHEXNET if printed else LEVELS.get(name.split(",")[0], OWN)
        mark = ("D" if reader else "o", "white" if printed else colour, colour)
        draw_intervals(axes, table.loc[[place]], [place], mark)
        if np.isnan(row["value"]):
            axes.text(0.01, place, f"undefined: {row['note']}", va="center", fontsize=6, color="0.3")
        elif not np.isnan(row["prevalence"]):
            axes.vlines(row["F1 of calling everyone positive"], place - 0.3, place + 0.3, color="0.4", lw=1.2)
            style = {"transform": axes.get_yaxis_transform(), "va": "center", "ha": "right", "fontsize": 5.5}
            axes.text(1.0, place, f"prevalence {100 * row['prevalence']:.1f} %", **style)
    axes.plot([], [], "|", color="0.4", ms=8, mew=1.2, label="calling every image positive")
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
    answer = f"Output\n{display_name(one.label)}: {in_percent(one.probabilities[one.label], 0)}"
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
        one.draw(axes, f"{display_name(one.label)}: {in_percent(one.probabilities[one.label], 0)}")
    for axes in grid.flat[len(rows) :]:
        axes.axis("off")
    if len(rows) < grid.size:
        grid.flat[-1].plot([], [], color=REFERENCE, label="half of the map's maximum")
        grid.flat[-1].plot([], [], color="#2C8CB4", ls="--", label="the finding")
        grid.flat[-1].legend(loc="center", fontsize=5.5).set_in_layout(False)  # it would widen the last column
    return figure


# --- several hospitals ------------------------------------------------------------------------------------------------

DARK, LIGHT = "#0B3C5D", "#E08E0B"  # grey print keeps them apart
SETTINGS: dict[str, Mark] = {"on": ("o", DARK, DARK), "off": ("s", "white", LIGHT)}
MARKED = {"on": "markers on", "off": "markers off"}
KINDS = {"internal": DARK, "subset": "#5B8DB8", "superset": "0.45", "external": "#D55E00"}
WAYS = {"whole": "whole image", "low": "low resolution", "high": "full resolution", "lungs": "cropped to the lungs"}
PARTS = {
    "joint": "joint AUROC",
    "within": "within a hospital",
    "excess": "joint less within",
    "external": "another hospital",
}
LINES = {  # of the curve: measure, name, colour, line, marker
    "joint": ("joint set", DARK, "-", "o"),
    "internal, high": ("{high}, trained on it", "#D55E00", "--", "^"),
    "internal, low": ("{low}, trained on it", "#CC79A7", "--", "v"),
    "hospital alone": ("sorted by hospital alone", "0.45", ":", "D"),
    "external": ("joint head, other hospitals", "#009E73", "-.", "s"),
}


@print_style
def table_3(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Table 3 as dots: a row per training and test set, AUROC with its interval, each of `tables` ("on", "off") beside.

    Rows are grouped by what was trained on, and tell whether the test set is internal, external, a subset or superset.
    """
    first = next(iter(tables.values()))
    figure, axes = canvas(DOUBLE * 0.82, 0.19 * len(first) + 0.95)
    groups = first.groupby("trained_on", sort=False)
    places = np.arange(len(first)) + 0.9 * groups.ngroup().to_numpy()
    series = {MARKED[markers]: table.rename(columns={"auroc": "value"}) for markers, table in tables.items()}
    names = [f"{row.tested_on}, {row.comparison} ({row.n:,}; {row.positives:,})" for row in first.itertuples()]
    marks = [SETTINGS[markers] for markers in tables]
    draw_forest(axes, series, names, "AUROC, pneumonia", marks, places=places, step=0.3, reference=0.5)
    for text, comparison in zip(axes.get_yticklabels(), first["comparison"], strict=True):
        text.set_color(KINDS[comparison])
    style = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 6.5}
    for name, rows in groups.indices.items():
        axes.text(1.02, places[rows].mean(), f"trained on\n{name}", **style)
    axes.set_ylabel("tested on (images; with pneumonia)")
    if len(tables) > 1:
        legend_above(axes)
    return figure


@print_style
def imbalance_curve(curve: pd.DataFrame, high: str, low: str, prevalence: float) -> Figure:
    """The engineered experiment: AUROC against the ratio of the two hospitals' prevalences, a panel per setting of the
    markers; bars are 95 % intervals, the band what the draws span."""
    settings = list(dict.fromkeys(curve["markers"]))
    width = DOUBLE * (0.62 if len(settings) == 1 else 1)
    figure, grid = canvas(width, 2.9, 1, len(settings), sharey=True, squeeze=False)
    ratios = np.array(sorted(curve["ratio"].unique()))
    shares = [200 * prevalence * share / (1 + ratios) for share in (ratios, 1)]
    for axes, markers in zip(grid[0], settings, strict=True):
        mine = curve[curve["markers"] == markers].sort_values("ratio")
        for k, (measure, (name, colour, line, shape)) in enumerate(LINES.items()):
            part = mine[mine["measure"] == measure]
            at, name = np.arange(len(part)) + 0.06 * (k - 2), name.format(high=high, low=low)
            if measure == "joint":
                axes.fill_between(at, part["least"], part["most"], color=colour, alpha=0.1, lw=0)
            draw_intervals(axes, part, at, (shape, colour, colour), name, upright=True, ls=line, lw=1, ms=3.6)
        axes.set_xticks(range(len(ratios)), [f"{a:.0f} : {b:.0f}" for a, b in zip(*shares, strict=True)])
        axes.set(title=MARKED[markers], xlabel=f"prevalence, {high} : {low} (%)")
        axes.grid(True, axis="y")
    grid[0, 0].set_ylabel("AUROC, pneumonia")
    columns = 5 if len(settings) > 1 else 2
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=columns, columnspacing=1.1)
    return figure


@print_style
def origin_accuracy(images: Mapping[str, np.ndarray], accuracies: Mapping[str, pd.DataFrame]) -> Figure:
    """An image of each hospital or department, and how often the origin of an image was identified.

    `images[name]` grey uint8 (h, w); `accuracies[question]` from `generalization.source_accuracy`, a panel each.
    """
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(DOUBLE, 3.7), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1.25, 1])
    for axes, (name, image) in zip(above.subplots(1, len(images), squeeze=False)[0], images.items(), strict=True):
        draw_image(axes, image, name)
    asked = {question: table for question, table in accuracies.items() if len(table)}
    grid = below.subplots(1, len(asked), sharex=True, squeeze=False)[0]
    for axes, (question, table) in zip(grid, asked.items(), strict=True):
        names = [f"{WAYS.get(row.pixels, row.pixels)}, {MARKED[row.markers]}" for row in table.itertuples()]
        draw_forest(axes, {}, names, "correctly identified (%)", reference=100 * table["most frequent"].iloc[0])
        for markers, part in table.reset_index(drop=True).groupby("markers"):
            draw_intervals(axes, part, part.index, SETTINGS[markers], scale=100)
        axes.set(xlim=(0, 100), title=question)
    return figure


@print_style
def resolution(low: np.ndarray, high: np.ndarray, table: pd.DataFrame, origin: pd.DataFrame) -> Figure:
    """An image at low and at high resolution, as the talk shows it, and what the same network makes of either.

    `table` from `generalization.remedy_table` with `RESOLUTIONS`, `origin` from `generalization.source_accuracy`.
    """
    figure, (*left, axes) = canvas(DOUBLE, 2.5, 1, 3, width_ratios=(1, 1, 1.1))
    series = {}
    for panel, way, image in zip(left, ("low", "high"), (low, high), strict=True):
        draw_image(panel, image, f"{len(image)} × {len(image)}", interpolation="nearest")
        accuracy = origin[(origin["pixels"] == way) & (origin["markers"] == "on")].iloc[[0]]
        areas = table[table["remedy"] == way].set_index("part").loc[["joint", "within", "external"]]
        series[f"{len(image)} pixels"] = pd.concat([accuracy, areas])
    names = ["which hospital (accuracy)"] + [PARTS[part] for part in ("joint", "within", "external")]
    marks = (("s", "white", "#D55E00"), SETTINGS["on"])
    draw_forest(axes, series, names, "accuracy, and AUROC of pneumonia", marks, reference=0.5)
    legend_above(axes)
    return figure


@print_style
def remedies(table: pd.DataFrame) -> Figure:
    """One row per remedy, one panel per part of `generalization.judge_remedy`; a star where the p_holm is < 0.05."""
    names = list(dict.fromkeys(table["remedy"]))
    figure, grid = canvas(DOUBLE, 0.25 * len(names) + 0.85, 1, len(PARTS), sharey=True)
    for axes, (part, title) in zip(grid, PARTS.items(), strict=True):
        mine = table[table["part"] == part].set_index("remedy").loc[names]
        label = "AUROC" if part != "excess" else "difference"
        draw_forest(axes, {"": mine}, names, label, [SETTINGS["on"]], reference=mine["value"].iloc[0])
        draw_intervals(axes, mine[:1], [0], ("o", "white", "0.35"))
        for at in np.flatnonzero(mine["p_holm"] < 0.05):
            axes.annotate("*", (mine["high"].iloc[at], at), (3, -3.5), textcoords="offset points", fontsize=9)
        axes.set_title(title)
    return figure


@print_style
def regions(
    image: np.ndarray,
    boxes: Mapping[str, tuple[int, int]],
    shown: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    side: int,
) -> Figure:
    """The talk's way: the whole image with the crops' frames, what the network sees, and the AUROC of each way.

    `boxes[name]`: upper row and left column of "found region" and "true region", `side` pixels; `shown[name]`: images
    as the network sees them; `table` from `generalization.region_table`.
    """
    from matplotlib.patches import Rectangle

    figure, (first, *others, axes) = canvas(DOUBLE, 2.2, 1, 2 + len(shown), width_ratios=[1] * (1 + len(shown)) + [1.1])
    draw_image(first, image, "found: line; true: dots")
    for (row, column), line in zip(boxes.values(), ("-", ":"), strict=True):
        first.add_patch(Rectangle((column, row), side, side, fill=False, ec="white", lw=1.1, ls=line))
    for panel, (name, one) in zip(others, shown.items(), strict=True):
        draw_image(panel, one, name, interpolation="nearest")
    draw_forest(axes, {}, table["way"], "AUROC, small nodule", reference=0.5)
    for at, mark in ((slice(2), ("o", "white", DARK)), (slice(2, None), SETTINGS["on"])):
        draw_intervals(axes, table[at], np.arange(len(table))[at], mark)
    return figure
