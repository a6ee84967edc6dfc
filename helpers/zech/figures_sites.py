"""Zech 2018: table 3 as a figure, the hospital as a confounder, low resolution, and remedies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.plots.style import DOUBLE, REFERENCE, canvas, letter, print_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = {"on": "#0B3C5D", "off": "#E08E0B"}  # dark and light, so that grey print keeps them apart
FILL = {"on": "#0B3C5D", "off": "white"}
SHAPE = {"on": "o", "off": "s"}
KINDS = {"internal": "#0B3C5D", "subset": "#5B8DB8", "superset": "#999999", "external": "#D55E00"}
MARKED = {"on": "markers on", "off": "markers off"}
WAYS = {"whole": "whole image", "low": "low resolution", "high": "full resolution", "lungs": "cropped to the lungs"}
PARTS = {
    "joint": "joint AUROC",
    "within": "within a hospital",
    "excess": "joint less within",
    "external": "another hospital",
}


def _interval(axes: Axes, value, low, high, at, *, across: bool = True, **style) -> None:
    spread = [[value - low], [high - value]]
    error = {"xerr" if across else "yerr": spread}
    place = (value, at) if across else (at, value)
    axes.errorbar(*place, **error, **({"lw": 0.9, "capsize": 1.5, "ms": 4.2, "mew": 0.9} | style))


@print_style
def table_3(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Table 3 as dots: a row a training and test set, AUROC with its interval, each of `tables` ("on", "off") beside.

    Rows are grouped by what was trained on, and say whether the test set is internal, external, a subset or a superset.
    """
    first = next(iter(tables.values()))
    figure, axes = canvas(DOUBLE * 0.82, 0.19 * len(first) + 0.95)
    gap = {name: 0.9 * k for k, name in enumerate(dict.fromkeys(first["trained_on"]))}
    places = np.arange(len(first)) + first["trained_on"].map(gap).to_numpy()
    step = 0.3 if len(tables) > 1 else 0.0
    for k, (markers, table) in enumerate(tables.items()):
        for place, row in zip(places, table.itertuples(), strict=True):
            style = {"fmt": SHAPE[markers], "color": INK[markers], "mfc": FILL[markers], "mec": INK[markers]}
            shift = step * (k - 0.5) if step else 0.0
            if np.isfinite(row.auroc):
                _interval(axes, row.auroc, row.low, row.high, place + shift, **style)
        axes.plot([], [], SHAPE[markers], mfc=FILL[markers], mec=INK[markers], ms=4.2, label=MARKED[markers])
    names = [f"{row.tested_on}, {row.comparison} ({row.n:,}; {row.positives:,})" for row in first.itertuples()]
    axes.set_yticks(places, names)
    for label, row in zip(axes.get_yticklabels(), first.itertuples(), strict=True):
        label.set_color(KINDS[row.comparison] if row.comparison != "superset" else "0.45")
    for name in gap:
        mine = places[(first["trained_on"] == name).to_numpy()]
        axes.text(
            1.02, mine.mean(), f"trained on\n{name}", transform=axes.get_yaxis_transform(), va="center", fontsize=6.5
        )
    axes.axvline(0.5, color=REFERENCE, lw=0.7, ls=":")
    axes.set_ylim(places[-1] + 0.8, -0.8)
    axes.set(xlabel="AUROC, pneumonia", ylabel="tested on (images; with pneumonia)")
    axes.grid(True, axis="x")
    if len(tables) > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


LINES = {  # of the curve: measure, name, colour, line, marker
    "joint": ("joint set", "#0B3C5D", "-", "o"),
    "internal, high": ("{high}, trained on it", "#D55E00", "--", "^"),
    "internal, low": ("{low}, trained on it", "#CC79A7", "--", "v"),
    "hospital alone": ("sorted by hospital alone", "0.45", ":", "D"),
    "external": ("joint head, other hospitals", "#009E73", "-.", "s"),
}


@print_style
def imbalance_curve(curve: pd.DataFrame, high: str, low: str, prevalence: float) -> Figure:
    """The engineered experiment: AUROC against the ratio of the two hospitals' prevalences, a panel a setting of the
    markers; bars are 95 % intervals, the band what the draws span."""
    settings = list(dict.fromkeys(curve["markers"]))
    figure, grid = canvas(
        DOUBLE * (0.62 if len(settings) == 1 else 1), 2.9, 1, len(settings), sharey=True, squeeze=False
    )
    for place, (axes, markers) in enumerate(zip(grid[0], settings, strict=True)):
        mine = curve[curve["markers"] == markers]
        ratios = sorted(mine["ratio"].unique())
        for k, (measure, (name, colour, line, shape)) in enumerate(LINES.items()):
            part = mine[mine["measure"] == measure].sort_values("ratio")
            at = np.arange(len(part)) + 0.06 * (k - 2)
            if measure == "joint":
                axes.fill_between(at, part["least"], part["most"], color=colour, alpha=0.1, lw=0)
            spread = [part["value"] - part["low"], part["high"] - part["value"]]
            style = {
                "color": colour,
                "ls": line,
                "marker": shape,
                "ms": 3.6,
                "lw": 1,
                "capsize": 1.5,
                "elinewidth": 0.7,
            }
            axes.errorbar(at, part["value"], yerr=spread, label=name.format(high=high, low=low), **style)
        axes.set_xticks(range(len(ratios)), [_ratio(ratio, prevalence) for ratio in ratios])
        axes.set(title=MARKED[markers], xlabel=f"prevalence, {high} : {low} (%)")
        axes.grid(True, axis="y")
        letter(axes, "AB"[place])
    grid[0, 0].set_ylabel("AUROC, pneumonia")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5 if len(settings) > 1 else 2, columnspacing=1.1)
    return figure


def _ratio(ratio: float, prevalence: float) -> str:
    high, low = (100 * 2 * prevalence * share / (1 + ratio) for share in (ratio, 1))
    return f"{high:.0f} : {low:.0f}"


@print_style
def who_made_it(images: Mapping[str, np.ndarray], told: Mapping[str, pd.DataFrame], ways: Mapping[str, str]) -> Figure:
    """An image of each hospital or department, and how often who made it is told.

    `images[name]` grey uint8 (h, w); `told[question]` from `generalization.source_accuracy`, a panel each; `ways` names
    the ways of showing an image.
    """
    figure = _figure(DOUBLE, 3.7)
    above, below = figure.subfigures(2, 1, height_ratios=[1.25, 1])
    for axes, (name, image) in zip(np.atleast_1d(above.subplots(1, len(images))), images.items(), strict=True):
        _show(axes, image, name)
    shown = {question: table for question, table in told.items() if len(table)}
    grid = np.atleast_1d(below.subplots(1, len(shown), sharex=True))
    for place, (axes, (question, table)) in enumerate(zip(grid, shown.items(), strict=True)):
        rows = list(table.itertuples())
        for at, row in enumerate(rows):
            style = {"fmt": SHAPE[row.markers], "color": INK[row.markers], "mfc": FILL[row.markers]}
            _interval(axes, 100 * row.value, 100 * row.low, 100 * row.high, at, **style)
        usual = 100 * table["most frequent"].iloc[0]
        axes.axvline(usual, color=REFERENCE, lw=0.8, ls=":")
        names = [f"{ways.get(row.pixels, row.pixels)}, {MARKED[row.markers]}" for row in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(20, 102), xlabel="told rightly (%)", title=question)
        axes.grid(True, axis="x")
        letter(axes, chr(ord("A") + place))
    return figure


def _figure(width: float, height: float):
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width, height), layout="constrained")


def _show(axes: Axes, image: np.ndarray, title: str = "", interpolation: str = "antialiased") -> None:
    axes.axis("off")
    axes.set_title(title, fontsize=7)
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation=interpolation)


@print_style
def resolution(low: np.ndarray, high: np.ndarray, table: pd.DataFrame, told: pd.DataFrame) -> Figure:
    """An image at low and at high resolution, as the talk shows it, and what the same network makes of either.

    `table` from `generalization.remedy_table` with `RESOLUTIONS`, `told` from `generalization.source_accuracy`.
    """
    figure = _figure(DOUBLE, 2.5)
    left, right = figure.subfigures(1, 2, width_ratios=[1.25, 1])
    sizes = {"low": low.shape[0], "high": high.shape[0]}
    for axes, image in zip(left.subplots(1, 2), (low, high), strict=True):
        _show(axes, image, f"{image.shape[0]} × {image.shape[1]}", "nearest")
    axes = right.subplots()
    names = ["which hospital (accuracy)"] + [PARTS[part] for part in ("joint", "within", "external")]
    for k, way in enumerate(("low", "high")):
        accuracy = told[(told["pixels"] == way) & (told["markers"] == "on")].iloc[0]
        mine = table[table["remedy"] == way].set_index("part")
        rows = [accuracy] + [mine.loc[part] for part in ("joint", "within", "external")]
        for at, row in enumerate(rows):
            style = {"fmt": "s" if k == 0 else "o", "color": "#D55E00" if k == 0 else "#0B3C5D"}
            style["mfc"] = "white" if k == 0 else "#0B3C5D"
            _interval(axes, row["value"], row["low"], row["high"], at + 0.24 * (k - 0.5), **style)
        axes.plot([], [], style["fmt"], color=style["color"], mfc=style["mfc"], ms=4.2, label=f"{sizes[way]} pixels")
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel="accuracy, and AUROC of pneumonia")
    axes.axvline(0.5, color=REFERENCE, lw=0.8, ls=":")
    axes.grid(True, axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2)
    return figure


@print_style
def looks(images: Mapping[str, np.ndarray], maps: Mapping[str, np.ndarray], lungs: Mapping[str, np.ndarray],
          table: pd.DataFrame, where: str = "the lungs") -> Figure:  # fmt: skip
    """What speaks for the hospital: an image of each under its occlusion map, the lungs outlined, and the share of the
    map outside them. `table`: columns site, measure (outside, by_chance), value, low, high."""
    figure = _figure(DOUBLE, 2.35)
    left, right = figure.subfigures(1, 2, width_ratios=[2.1, 1])
    grid = np.atleast_1d(left.subplots(1, len(images)))
    for axes, name in zip(grid, images, strict=True):
        _show(axes, images[name], name)
        speaks = np.clip(maps[name], 0, None)
        top = np.quantile(speaks, 0.998) or 1.0
        axes.imshow(np.ma.masked_less(speaks, 0.12 * top), cmap="autumn", vmin=0, vmax=top, alpha=0.55)
        axes.contour(lungs[name], [0.5], colors="white", linewidths=0.7)
    axes = right.subplots()
    sites = list(dict.fromkeys(table["site"]))
    for k, (measure, colour, shape) in enumerate((("outside", "#0B3C5D", "o"), ("by_chance", "0.45", "|"))):
        part = table[table["measure"] == measure].set_index("site")
        for at, site in enumerate(sites):
            row = part.loc[site]
            if measure == "outside":
                _interval(axes, 100 * row["value"], 100 * row["low"], 100 * row["high"], at, fmt=shape, color=colour)
            else:
                axes.plot(100 * row["value"], at, shape, color=colour, ms=9, mew=1.6)
        axes.plot([], [], shape, color=colour, label=("of the map", "of the image")[k])
    axes.set_yticks(range(len(sites)), sites)
    axes.set(ylim=(len(sites) - 0.4, -0.6), xlim=(0, 100), xlabel=f"outside {where} (%)")
    axes.grid(True, axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2)
    return figure


@print_style
def remedies(table: pd.DataFrame) -> Figure:
    """One row per remedy, one panel per part of `generalization.judge_remedy`; a star where the change has p < 0.05."""
    names = list(dict.fromkeys(table["remedy"]))
    figure, grid = canvas(DOUBLE, 0.25 * len(names) + 0.85, 1, len(PARTS), sharey=True)
    for place, (axes, (part, title)) in enumerate(zip(grid, PARTS.items(), strict=True)):
        mine = table[table["part"] == part].set_index("remedy")
        for at, name in enumerate(names):
            row, plain = mine.loc[name], name == names[0]
            style = {"fmt": "o", "color": "0.35" if plain else "#0B3C5D", "mfc": "white" if plain else "#0B3C5D"}
            _interval(axes, row["value"], row["low"], row["high"], at, **style)
            if row["p"] < 0.05:
                axes.annotate("*", (row["high"], at), (3, -3.5), textcoords="offset points", fontsize=9)
        axes.axvline(mine["value"].iloc[0], color=REFERENCE, lw=0.8, ls=":")
        axes.set(title=title, xlabel="AUROC" if part != "excess" else "difference", ylim=(len(names) - 0.4, -0.6))
        axes.grid(True, axis="x")
        letter(axes, "ABCD"[place])
    grid[0].set_yticks(range(len(names)), names)
    return figure


@print_style
def regions(
    image: np.ndarray,
    boxes: Mapping[str, tuple[int, int]],
    shown: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    side: int,
) -> Figure:  # fmt: skip
    """The talk's way: the whole image with the crops' frames, what the network sees, and the AUROC of each way.

    `boxes[name]`: upper row and left column of "found region" and "true region", `side` pixels; `shown[name]`: images
    as the network sees them; `table` from `generalization.region_table`.
    """
    from matplotlib.patches import Rectangle

    figure = _figure(DOUBLE, 2.2)
    left, right = figure.subfigures(1, 2, width_ratios=[2.2, 1])
    grid = left.subplots(1, 1 + len(shown))
    _show(grid[0], image, "phantom; found: line, true: dots")
    for (row, column), line in zip(boxes.values(), ("-", ":"), strict=True):
        grid[0].add_patch(Rectangle((column, row), side, side, fill=False, ec="white", lw=1.1, ls=line))
    for axes, (name, one) in zip(grid[1:], shown.items(), strict=True):
        _show(axes, one, name, "nearest")
    axes = right.subplots()
    for at, row in enumerate(table.itertuples()):
        _interval(
            axes, row.value, row.low, row.high, at, fmt="o", color="#0B3C5D", mfc="white" if at < 2 else "#0B3C5D"
        )
    axes.set_yticks(range(len(table)), table["way"])
    axes.axvline(0.5, color=REFERENCE, lw=0.8, ls=":")
    axes.set(ylim=(len(table) - 0.4, -0.6), xlabel="AUROC, small nodule")
    axes.grid(True, axis="x")
    return figure
