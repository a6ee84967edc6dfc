"""Zech 2018: table 3 as a figure, the hospital as a confounder, low resolution, and remedies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers.plots.curves import draw_forest, draw_intervals, legend_above
from helpers.plots.maps import draw_image, draw_map, highest
from helpers.plots.style import DOUBLE, Mark, canvas, letter_panels, print_style

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
    letter_panels(grid[0])
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
        axes.set(xlim=(20, 102), title=question)
    letter_panels(grid)
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
def site_maps(
    images: Mapping[str, np.ndarray],
    maps: Mapping[str, np.ndarray],
    lungs: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    where: str = "the lungs",
) -> Figure:
    """What speaks for the hospital: an image of each under its occlusion map, the lungs outlined, and the share of the
    map outside them. `table`: columns site, measure (outside, by_chance), value, low, high."""
    figure, (*left, axes) = canvas(DOUBLE, 2.35, 1, len(images) + 1, width_ratios=[1.5] * len(images) + [2])
    for panel, (name, image) in zip(left, images.items(), strict=True):
        draw_map(panel, image, maps[name], highest(maps[name]), lungs[name], name)
    outside, chance = (table[table["measure"] == measure] for measure in ("outside", "by_chance"))
    draw_forest(axes, {"of the map": outside}, outside["site"], f"outside {where} (%)", [SETTINGS["on"]], scale=100)
    axes.plot(100 * chance["value"], range(len(chance)), "|", color="0.45", ms=9, mew=1.6, label="of the image")
    axes.set_xlim(0, 100)
    legend_above(axes)
    return figure


@print_style
def remedies(table: pd.DataFrame) -> Figure:
    """One row per remedy, one panel per part of `generalization.judge_remedy`; a star where the change has p < 0.05."""
    names = list(dict.fromkeys(table["remedy"]))
    figure, grid = canvas(DOUBLE, 0.25 * len(names) + 0.85, 1, len(PARTS), sharey=True)
    for axes, (part, title) in zip(grid, PARTS.items(), strict=True):
        mine = table[table["part"] == part].set_index("remedy").loc[names]
        label = "AUROC" if part != "excess" else "difference"
        draw_forest(axes, {"": mine}, names, label, [SETTINGS["on"]], reference=mine["value"].iloc[0])
        draw_intervals(axes, mine[:1], [0], ("o", "white", "0.35"))
        for at in np.flatnonzero(mine["p"] < 0.05):
            axes.annotate("*", (mine["high"].iloc[at], at), (3, -3.5), textcoords="offset points", fontsize=9)
        axes.set_title(title)
    letter_panels(grid)
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
    draw_image(first, image, "phantom; found: line, true: dots")
    for (row, column), line in zip(boxes.values(), ("-", ":"), strict=True):
        first.add_patch(Rectangle((column, row), side, side, fill=False, ec="white", lw=1.1, ls=line))
    for panel, (name, one) in zip(others, shown.items(), strict=True):
        draw_image(panel, one, name, interpolation="nearest")
    draw_forest(axes, {}, table["way"], "AUROC, small nodule", reference=0.5)
    for at, mark in ((slice(2), ("o", "white", DARK)), (slice(2, None), SETTINGS["on"])):
        draw_intervals(axes, table[at], np.arange(len(table))[at], mark)
    return figure
