"""Carr 2020, figures 2, 3 and 5, and beyond the poster: what a bridge is worth, on which side a network looks, and the
controls for the source. Figure 1 is in `carr_flow`; figure 4 (SHAP) in `explain`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from helpers.plots.style import DOUBLE, REFERENCE, SINGLE, canvas, letter, print_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from helpers.metrics.estimate import Estimate

# Starts, from the least to the most that was learnt before: colour, marker and line, which a grey print keeps apart.
STARTS = {
    "none": ("#999999", "o", ":"),
    "natural": ("#E69F00", "s", "--"),
    "bridge": ("#56B4E9", "^", "-."),
    "natural, then bridge": ("#0072B2", "D", "-"),
}
WORTH = (("#0072B2", "o", "#00395A"), ("#56B4E9", "^", "#1B6A94"), ("#E69F00", "s", "#7A5300"))
SETTINGS = {"tied": ("#D55E00", "o"), "untied": ("white", "s")}
EDGE = "0.15"
SMOOTH = 0.012  # of a map's side: at print size a single pixel cannot be seen


@print_style
def saliency(
    images: np.ndarray,
    maps: np.ndarray,
    labels: Sequence[str],
    said: Sequence[str],
    indices: Sequence[float],
    columns: int = 4,
) -> Figure:
    """Figure 2: "Chest X-ray saliency maps indicating localised importance for the correct classification."

    Each radiograph, uint8 (n, h, w), with its map (n, h, w) beneath it, from 0 to the map's own 99.5th percentile;
    above stand class and prediction, below the laterality index. The patient's right is on the left.
    """
    from scipy.ndimage import gaussian_filter

    blocks, wide = -(-len(images) // columns), DOUBLE / columns
    figure, grid = canvas(DOUBLE, blocks * (2 * wide * 0.92 + 0.42), 2 * blocks, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(False)
    for i, (image, values) in enumerate(zip(images, maps, strict=True)):
        upper, lower = (grid[2 * (i // columns) + row, i % columns] for row in (0, 1))
        upper.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
        right = "" if said[i] == labels[i] else f"\n(said: {said[i]})"
        upper.set_title(f"{labels[i]}{right}", pad=2, fontsize=7)
        smooth = gaussian_filter(np.abs(values), SMOOTH * len(values))
        top = float(np.percentile(smooth, 99.5)) or 1.0
        lower.imshow(smooth, cmap="inferno", vmin=0, vmax=top, interpolation="antialiased")
        lower.axvline((image.shape[1] - 1) / 2, color="white", lw=0.5, ls=":")
        lower.set_xlabel(f"laterality {indices[i]:+.2f}", fontsize=6.5, labelpad=2)
        for x, side in ((0.04, "R"), (0.96, "L")):
            lower.text(x, 0.96, side, color="white", fontsize=6, ha="center", va="top", transform=lower.transAxes)
    return figure


@print_style
def confusion(table: pd.DataFrame, title: str = "") -> Figure:
    """Figures 3 and 5: "Confusion matrix showing performance [...] against a held-back assessment dataset."

    `table` from `metrics.classification.confusion`: rows the truth. Shaded by the share of the row; count and share are
    written in.
    """
    counts = table.to_numpy()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = canvas(SINGLE, SINGLE * 0.9)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), n in np.ndenumerate(counts):
        colour = "white" if share[row, column] > 0.55 else "black"
        text = f"{n}\n{100 * share[row, column]:.0f} %"
        axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour, linespacing=1.3)
    axes.set_xticks(range(len(counts)), list(table.columns))
    axes.set_yticks(range(len(counts)), list(table.index))
    axes.set(xlabel="predicted", ylabel="true", title=title)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


@print_style
def class_averages(table: pd.DataFrame, found: Mapping[str, Estimate], titles: Mapping[str, str]) -> Figure:
    """Beyond the poster: each class's value behind a class average, with its interval, and what '+/-' is here.

    `table` and `found` from `metrics.bridge` (`per_class`, `numbers`); a panel a quantity of `titles`. The dark diamond
    is the average with its interval by patient, the grey band the average and half the range over the classes.
    """
    classes = list(dict.fromkeys(table["class"]))
    figure, grid = canvas(DOUBLE, 0.28 * len(classes) + 1.0, 1, len(titles), sharey=True, squeeze=False)
    for axes, (quantity, title) in zip(grid[0], titles.items(), strict=True):
        rows = table[table["quantity"] == quantity].set_index("class")
        for y, label in enumerate(classes):
            one = rows.loc[label]
            axes.plot([one["low"], one["high"]], [y, y], color=EDGE, lw=0.9)
            axes.plot(one["value"], y, "o", ms=4, mfc="white", mec=EDGE, mew=0.9, clip_on=False)
        mean = found[quantity]
        if (spread := found.get(f"{quantity} spread")) is not None:
            axes.axvspan(mean.value - spread.value, mean.value + spread.value, color="0.9", lw=0, zorder=0)
        axes.plot([mean.low, mean.high], [len(classes)] * 2, color="#0072B2", lw=1.4)
        axes.plot(mean.value, len(classes), "D", ms=4.5, color="#0072B2")
        axes.set(title=title, xlim=(None, 1.003))
        axes.grid(True, axis="x")
    grid[0][0].set_yticks(range(len(classes) + 1), [*classes, "average"])
    grid[0][0].set_ylim(len(classes) + 0.6, -0.6)
    return figure


@print_style
def worth(
    points: Mapping[tuple[str, int], tuple[Estimate, Any]], gains: pd.DataFrame, quantity: str = "class-averaged AUROC"
) -> Figure:
    """Beyond the poster: the four starts against the number of target images a class (A), and what one is worth over
    another (B), with 95 % intervals. `points` and `gains` from `metrics.bridge` (`grid_points`, `differences`)."""
    figure, (left, right) = canvas(DOUBLE, 3.05, 1, 2)
    sizes = sorted({size for _, size in points})
    for place, (start, (colour, marker, line)) in enumerate(STARTS.items()):
        found = [points[start, size][0] for size in sizes]
        x = np.array(sizes) * 1.035 ** (place - 1.5)
        _errors(left, x, found, colour)
        left.plot(x, [one.value for one in found], marker=marker, ls=line, color=colour, ms=4, label=start)
    pairs = list(dict.fromkeys(zip(gains["start"], gains["over"], strict=True)))
    for place, ((start, over), (fill, marker, edge)) in enumerate(zip(pairs, WORTH, strict=False)):
        rows = gains[(gains["start"] == start) & (gains["over"] == over)]
        rows = rows[rows["per_class"] != "fewest less most"]
        x = rows["per_class"].to_numpy(float) * 1.045 ** (place - (len(pairs) - 1) / 2)
        right.vlines(x, rows["low"], rows["high"], color=edge, lw=1)
        right.plot(x, rows["value"], marker=marker, color=edge, mfc=fill, ms=4.5, lw=0.8, label=f"{start} – {over}")
    right.axhline(0, color=REFERENCE, lw=0.8)
    left.set_ylabel(quantity)
    right.set_ylabel("difference")
    for axes, name in ((left, "A"), (right, "B")):
        _images_axis(axes, sizes)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2, columnspacing=1.2)  # beside no data
        letter(axes, name)
    return figure


def _errors(axes: Axes, x: np.ndarray, found: Sequence[Estimate], colour: str) -> None:
    axes.vlines(x, [one.low for one in found], [one.high for one in found], color=colour, lw=0.9)


def _images_axis(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
    axes.set_xlabel("target images a class, before augmentation")
    axes.grid(True, axis="y")


@print_style
def laterality(found: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Beyond the poster: the "clear right-sided bias" as a number, by class, on the images and on their mirror images.

    `found` from `metrics.laterality.by_class`; both in the patient's terms, so that a network that looks at a side of
    the patient has its index on one side of zero twice, and one that looks at a side of the picture on both sides.
    """
    groups = list(next(iter(found.values())))
    figure, axes = canvas(SINGLE * 1.45, 0.3 * len(groups) + 0.95)
    looks = (("o", "#0072B2", "#00395A"), ("s", "white", "#7A5300"))
    for place, ((name, values), (marker, fill, edge)) in enumerate(zip(found.items(), looks, strict=True)):
        y = np.arange(len(groups)) + 0.22 * (place - 0.5)
        chosen = [values[group] for group in groups]
        axes.hlines(y, [one.low for one in chosen], [one.high for one in chosen], color=edge, lw=1)
        axes.plot([one.value for one in chosen], y, ls="", marker=marker, mfc=fill, mec=edge, ms=4.5, label=name)
    axes.axvline(0, color=REFERENCE, lw=0.8)
    most = max(abs(edge) for values in found.values() for one in values.values() for edge in (one.low, one.high))
    axes.set(xlim=(-1.15 * most, 1.15 * most), ylim=(len(groups) - 0.4, -0.6))
    axes.set_yticks(range(len(groups)), groups)
    axes.set_xlabel("laterality index   (patient's left  ←   → patient's right)")
    axes.grid(True, axis="x")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


@print_style
def controls(found: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Beyond the poster: is it the disease, or the source? AUROC of COVID-19 against the rest, of the classifier and of
    each control, with intervals; a marker a setting (`metrics.source.control_aurocs`)."""
    names = list(next(iter(found.values())))
    figure, axes = canvas(SINGLE * 1.6, 0.34 * len(names) + 0.95)
    for place, (setting, values) in enumerate(found.items()):
        fill, marker = SETTINGS[setting]
        for row, name in enumerate(names):
            one = values.get(name)
            if one is None or not one.defined:
                continue
            y = row + 0.24 * (place - (len(found) - 1) / 2)
            axes.plot([one.low, one.high], [y, y], color=EDGE, lw=1)
            axes.plot(one.value, y, marker, mfc=fill, mec=EDGE, ms=5, mew=0.9, ls="", clip_on=False)
        axes.plot([], [], marker, mfc=fill, mec=EDGE, ms=5, mew=0.9, ls="", label=f"class and source {setting}")
    axes.axvline(0.5, color=REFERENCE, lw=0.9, ls="--")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(right=1.005)
    axes.set_xlabel("AUROC, COVID-19 against the rest")
    axes.grid(True, axis="x")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    return figure
