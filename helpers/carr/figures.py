"""Carr 2020, figures 1 and 2, and beyond the poster: the numbers of each class, what a bridge is worth, on which side a
network looks, the controls for the source, and whether maps lie on lesions.

Figures 3 and 5 (`confusion_matrices`) and 4 (`signed_maps`) are drawn by the core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helpers.metrics.estimate import Estimate
from helpers.plots.curves import BLUE, GREY, Box, draw_flowchart, draw_forest, draw_intervals, forest
from helpers.plots.maps import COLOURS, draw_image, localisation_scores
from helpers.plots.style import DOUBLE, MARKS, NAMES, REFERENCE, canvas, print_style, source_of

# Starts, from the least to the most that was learnt before: marker, fill, edge, line, which a grey print keeps apart.
STARTS = {
    "none": ("o", "#999999", "#999999", ":"),
    "natural": ("s", "#E69F00", "#E69F00", "--"),
    "natural, then bridge": ("D", "#0072B2", "#0072B2", "-"),
}
WORTH = (MARKS[2], ("^", "#56B4E9", "#1B6A94"), MARKS[1])
SETTINGS = {"tied": ("o", "#D55E00", "0.15"), "untied": ("s", "white", "0.15")}
AVERAGE = ("D", "#0072B2", "#0072B2")
SMOOTH = 0.012  # of a map's side: at print size a single pixel cannot be seen


def workflow(summary: Mapping[str, Any], weights: str, classes: Sequence[str]) -> Figure:
    """Figure 1: "Training and Assessment workflow. The algorithm is initialised with Natural images, finetunes with
    same-modality images, and final training on the target dataset expanded with augmented images. The algorithm outputs
    saliency maps and predictions for any inputted images."

    `summary`: this run's numbers, as the experiment has them; `classes`: the target's.
    """
    subjects, target = summary["target subjects per class"], summary["target images per class"]
    steps = {
        "1  natural images": f"initialised from\n\n{fill(source_of(weights), 26)}",
        "2  bridge": f"fine-tuned on\n{summary['bridge images']:,} images\n\n{_classes(summary['bridge classes'])}",
        "3  target": f"trained on\n{subjects:,} subjects per class,\n{target:,} images with augmentation\n\n"
        + _classes(classes),
        "assessment": f"{summary['held-back images']:,} held-back images\n\npredictions,\nsaliency maps",
    }
    fills = ("#F6E3B4", BLUE, "#A9CBE6", GREY)  # from light to dark, as more is learnt
    boxes = {
        title: Box(13 + 25 * k, 67, 22, 62, text, title, colour)
        for k, ((title, text), colour) in enumerate(zip(steps.items(), fills, strict=True))
    }
    words = "general image recognition, then domain-specific features, then the target"
    arrows = [*zip(steps, list(steps)[1:], strict=False), [(2, 23), (74, 23)]]
    return draw_flowchart(boxes, arrows, 2.0, [(38, 12, f"one network ({summary['backbone']}): {words}", {})])


def _classes(names: Sequence[str]) -> str:
    return fill(", ".join(NAMES.get(name, name) for name in names), 26)


@print_style
def saliency(
    images: np.ndarray, maps: np.ndarray, labels: Sequence[str], predicted: Sequence[str], indices: Sequence[float]
) -> Figure:
    """Figure 2: "Chest X-ray saliency maps indicating localised importance for the correct classification."

    Each radiograph, uint8 (n, h, w), with its map (n, h, w) beneath it, from 0 to the map's own 99.5th percentile;
    above stand class and prediction, below the laterality index. The patient's right is on the left.
    """
    from scipy.ndimage import gaussian_filter

    columns, rows = 4, -(-len(images) // 4)
    figure, grid = canvas(DOUBLE, rows * (0.46 * DOUBLE + 0.42), 2 * rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for i, (image, values) in enumerate(zip(images, maps, strict=True)):
        upper, lower = grid[2 * (i // columns) : 2 * (i // columns) + 2, i % columns]
        label, answer = (NAMES.get(name, name) for name in (labels[i], predicted[i]))
        draw_image(upper, image, label if answer == label else f"{label}\n(predicted: {answer})")
        smooth = gaussian_filter(np.abs(values), SMOOTH * len(values))
        draw_image(lower, smooth, cmap=COLOURS, vmax=float(np.percentile(smooth, 99.5)) or 1.0)
        lower.axvline((image.shape[1] - 1) / 2, color="white", lw=0.5, ls=":")
        lower.set_xlabel(f"laterality {indices[i]:+.2f}".replace("-", "−"), fontsize=6.5, labelpad=2)
        for x, side in ((0.04, "R"), (0.96, "L")):
            lower.text(x, 0.96, side, color="white", fontsize=6, ha="center", va="top", transform=lower.transAxes)
    return figure


TITLES = {"sensitivity": "sensitivity", "f1": "F1", "auroc": "AUROC against the rest"}


@print_style
def class_averages(table: pd.DataFrame, found: Mapping[str, Estimate], titles: Mapping[str, str] = TITLES) -> Figure:
    """Each class's value behind a class average, with its interval, and what '+/-' is here.

    `table` and `found` from `numbers` (`class_numbers`, `average_numbers`); a panel per quantity of `titles`. The dark
    diamond is the average with its interval by patient, the grey band the average and half the range over the classes.
    """
    classes = list(dict.fromkeys(table["class"]))
    figure, grid = canvas(DOUBLE, 0.28 * len(classes) + 1.0, 1, len(titles), sharey=True, squeeze=False)
    for axes, (quantity, title) in zip(grid[0], titles.items(), strict=True):
        rows = table[table["quantity"] == quantity].set_index("class").reindex([*classes, "average"])
        draw_forest(axes, {"": rows}, rows.index, title)
        mean, spread = found[quantity], found.get(f"{quantity} spread")
        draw_intervals(axes, [mean], [len(classes)], AVERAGE)
        if spread is not None:
            axes.axvspan(mean.value - spread.value, mean.value + spread.value, color="0.9", lw=0, zorder=0)
        axes.set_xlim(0, 1)
    return figure


@print_style
def worth(points: Mapping[tuple[str, int], tuple[Estimate, Any]], gains: pd.DataFrame) -> Figure:
    """The starts against the number of target images per class (A), and what one is worth over another (B), with
    95 % intervals. `points` and `gains` from `numbers` (`grid_points`, `grid_differences`)."""
    figure, (left, right) = canvas(DOUBLE, 3.05, 1, 2)
    sizes = np.array(sorted({size for _, size in points}))
    for place, (start, (*mark, line)) in enumerate(STARTS.items()):
        found = [points[start, size][0] for size in sizes]
        draw_intervals(left, found, sizes * 1.035 ** (place - 1), mark, start, upright=True, ls=line, capsize=0, ms=4)
    rows = gains[gains["per_class"] != "fewest less most"]
    pairs = rows.groupby(["start", "over"], sort=False)
    for place, (((start, over), part), mark) in enumerate(zip(pairs, WORTH, strict=False)):
        x = part["per_class"].to_numpy(float) * 1.045 ** (place - (len(pairs) - 1) / 2)
        draw_intervals(right, part, x, mark, f"{start} – {over}", upright=True, ls="-", capsize=0)
    right.axhline(0, color=REFERENCE, lw=0.8)
    for axes, columns, label in ((left, 3, "class-averaged AUROC"), (right, 2, "difference of the areas in A")):
        axes.set(xscale="log", xlim=(sizes[0] / 1.3, sizes[-1] * 1.3), ylabel=label)
        axes.set_xlabel("target images per class, before augmentation")
        axes.set_xticks(sizes, map(str, sizes))
        axes.minorticks_off()
        axes.grid(True, axis="y")
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=columns, columnspacing=1.2)  # beside no data
    return figure


def laterality(found: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """The "clear right-sided bias" as a number, by class, on the images and on their mirror images.

    `found` from `numbers.laterality_by_class`; both in the patient's terms, so that a network that looks at a side of
    the patient has its index on one side of zero twice, and one that looks at a side of the picture on both sides.
    """
    known = [one for values in found.values() for one in values.values() if one.bounded]
    most = 1.15 * max((abs(end) for one in known for end in (one.low, one.high)), default=1)
    label = "laterality index   (patient's left  ←   → patient's right)"
    return forest(found, label, (MARKS[2], ("s", "white", "#7A5300")), reference=0, limits=(-most, most))


def controls(found: Mapping[str, Mapping[str, Estimate]]) -> Figure:
    """Is it the disease, or the source? AUROC of COVID-19 against the rest, of the classifier and of each control, with
    intervals; a marker per setting (`numbers.control_aurocs`)."""
    series = {f"class and source {setting}": one for setting, one in found.items()}
    return forest(series, "AUROC, COVID-19 against the rest", [SETTINGS[one] for one in found], reference=0.5)


def lesion_scores(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Each class's scores beside those of a guess on the retina: a panel per measure of `titles`.

    `table` from `helpers.explain.scores.means`; the chance of a measure is "<measure>_by_chance".
    """
    of = dict(list(table.groupby("measure")))
    chance = {measure: of[f"{measure}_by_chance"]["value"].to_numpy() for measure in titles}
    panels = {title: {"map": of[measure].assign(chance=chance[measure])} for measure, title in titles.items()}
    return localisation_scores(panels, "a guess on the retina")
