"""Rajkomar 2017, one function per figure: 1 to 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.metrics.classification import Plateau
from helpers.metrics.estimate import Estimate
from helpers.plots.curves import GREY, Box, draw_flowchart, draw_intervals, legend_beside, numbers_of
from helpers.plots.maps import image_grid
from helpers.plots.style import DOUBLE, MARKS, SINGLE, canvas, in_percent, print_style, source_of
from helpers.rajkomar.numbers import COMPARISONS, Answer

FRONTAL, LATERAL = "#0072B2", "#E69F00"  # dark and light in a grey print
BY_VIEW = (MARKS[0], ("D", FRONTAL, "#00395A"), ("s", LATERAL, "#7A5300"))  # all images, frontal, lateral
SOURCES = {"phantom_views": "phantoms", "openi": "Open-i", "cohen_views": "Cohen's collection"}

# --- figure 1 ---------------------------------------------------------------------------------------------------------

# Each count of figure 1: the centre and width of its box, and its words. All are this run's own: a published count
# belongs in a claim.
COUNTS = {
    "colour": (14, 84, 20, "colour\n{} images"),
    "full grey": (14, 73, 20, "full grey\n{} images"),
    "subset grey": (14, 62, 20, "subset grey\n{} images"),
    "collected": (54, 84, 40, "{} images of {patients} patients"),
    "train": (40.5, 57.5, 13.5, "training\n{} images"),
    "validation": (56, 57.5, 13.5, "validation\n{} images"),
    "test": (71.5, 57.5, 13.5, "test\n{} images"),
    "train children": (40.5, 33.5, 13.5, "training\n{} children"),
    "validation children": (56, 33.5, 13.5, "validation\n{} children"),
    "external": (90, 84, 18, "{} images"),
}


def flow(counts: Mapping[str, int], pretraining: str, radiographs: str, external: str, models: str) -> Figure:
    """Figure 1: "White rectangular boxes indicate numbers of images [...]. Image processing and labeling steps are in
    grey rectangular boxes".

    `counts` has keys of `COUNTS`, "patients" and "excluded"; one of `COUNTS` that is left out is drawn dashed, as *not
    run*. The sources are weights and data sets as the profile names them, `models` what was trained.
    """
    shown = {name: f"{count:,}" for name, count in counts.items()}
    boxes = {name: _count_box(name, shown) for name in COUNTS} | _steps(models, shown.get("excluded", "none"))
    arrows = [*STRAIGHT, *BENT]
    if "external" in counts:
        boxes["second labels"] = Box(90, 71.5, 18, 9, "labelled frontal\nor lateral", fill=GREY)
        arrows += [("external", "second labels"), [(90, 67), (90, 8.5), (84, 8.5)]]
    titles, bold = ("pre-training images", "chest radiographs", "second test set"), {"fontweight": "bold", "color": "k"}
    notes = [(x, 97, title, bold | {"fontsize": 7.5}) for x, title in zip((14, 54, 90), titles, strict=True)]
    learnt = ", ".join(dict.fromkeys(map(source_of, pretraining.split(", "))))
    notes += [(14, 92.5, learnt, {}), (54, 92.5, SOURCES.get(radiographs, radiographs), {}), (90, 92.5, external, {})]
    notes += [(29, 40, "original images", {"rotation": 90, "fontsize": 5.5})]
    return draw_flowchart(boxes, arrows, 4.1, notes)


STRAIGHT = [("collected", "labels"), ("train", "augmentation"), ("validation", "augmentation")]
STRAIGHT += [("augmentation", "train children"), ("augmentation", "validation children")]
STRAIGHT += [("train children", "fine-tuning"), ("validation children", "fine-tuning"), ("fine-tuning", "choice")]
STRAIGHT += [("labels", name) for name in ("train", "validation", "test")]
BENT = [[(4, y), (1, y), (1, 46), (4, 46)] for y in (84, 73, 62)]  # to the pre-training, beside the boxes
BENT += [[(14, 41.5), (14, 19.5), (36, 19.5)], [(33.75, 57.5), (30.5, 57.5), (30.5, 24), (36, 24)]]
BENT += [[(75, 53), (75, 13)]]


def _steps(models: str, excluded: str) -> dict[str, Box]:
    """The grey boxes."""
    chosen = "the model with the highest validation accuracy, then its cut-off, judged on the test sets"
    boxes = {
        "pre-training": Box(14, 46, 20, 9, "pre-training:\na network each"),
        "labels": Box(54, 71.5, 48.5, 9, f"labelled frontal or lateral; unreadable, excluded: {excluded}"),
        "augmentation": Box(48.25, 45, 29, 9, "augmentation: each image's children"),
        "fine-tuning": Box(54, 21.5, 36, 9, f"fine-tuning\n{models}"),
        "choice": Box(54, 8.5, 60, 9, chosen),
    }
    return {name: replace(box, fill=GREY) for name, box in boxes.items()}


def _count_box(name: str, shown: Mapping[str, str]) -> Box:
    x, y, width, words = COUNTS[name]
    if name in shown:
        return Box(x, y, width, 9, words.format(shown[name], patients=shown.get("patients", "unknown")))
    return Box(x, y, width, 9, words.split("{}")[0] + "not run", dashed=True)


# --- figure 2 ---------------------------------------------------------------------------------------------------------


# A comparison of the text: the groups pooled on either side (pre-trainings or ways of fine-tuning), and
# what the tests found.
Pools = tuple[Sequence[str], Sequence[str], str]


def pools(compared: Mapping[str, Answer]) -> tuple[list[Pools], list[Pools]]:
    """`numbers.compare_models` for figure 2: comparisons of pre-trainings, above the graph, and of ways of fine-tuning,
    beside the legend. Those that did not run, and the one that the paper does "not show in figure", are left out."""
    before, after = [], []
    for name, comparison in COMPARISONS.items():
        answer = compared[name]
        if answer.tests is not None and "last layer, greyscale" not in name:
            sides = answer.pretraining if comparison.of_pretraining else comparison.methods
            (before if comparison.of_pretraining else after).append((*sides, describe_tests(answer)))
    return before, after


def describe_tests(answer: Answer) -> str:
    """'93.2 vs 99.5 %, p < 0.001 (by patient: p = 0.02)', the latter with Holm's correction."""
    paper = answer.tests[0]
    shares = f"{100 * paper.a.value:.1f} vs {100 * paper.b.value:.1f} %"
    return f"{shares}, {_p(paper.p)} (by patient: {_p(answer.p_holm)})"


def _p(p: float) -> str:
    return "p undefined" if np.isnan(p) else "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


@print_style
def validation_accuracy(
    models: Mapping[tuple[str, str], Estimate | None],
    pretraining_pools: Sequence[Pools] = (),
    tuning_pools: Sequence[Pools] = (),
) -> Figure:
    """Figure 2: validation accuracy of the nine models, "grouped by pre-training and fine-tuning methods. Error bars
    mark 95 % confidence intervals. Labels above the graph and to the right of the legend show pooled comparisons and
    chi-square test results."

    `models[(pre-training, fine-tuning)]`, in the order they should stand; None is drawn as *not run*.
    """
    before, after = (list(dict.fromkeys(key[i] for key in models)) for i in (0, 1))
    figure, axes = canvas(DOUBLE, 3.1)
    for column, (name, mark) in enumerate(zip(after, MARKS, strict=False)):
        places = np.arange(len(before)) + 0.24 * (column - (len(after) - 1) / 2)
        found = [models.get((source, name)) for source in before]
        draw_intervals(axes, found, places, mark, name, upright=True, ms=5.5, capsize=2.5)
        for place, one in zip(places, found, strict=True):
            if one is None or not one.defined:
                style = {"rotation": 90, "ha": "center", "fontsize": 6, "color": "0.5"}
                axes.text(place, 0.03, "not run", transform=axes.get_xaxis_transform(), **style)
    low = np.nanmin([0.999, *numbers_of(list(models.values()))[1]])
    span = 1 - low
    top, bottom = 1 + span * (0.06 + 0.13 * len(pretraining_pools)), low - 0.08 * span
    axes.set(xlim=(-0.5, len(before) - 0.5), ylim=(bottom, top), ylabel="validation accuracy (%)")
    axes.set_xticks(range(len(before)), before)
    ticks = [tick for tick in axes.get_yticks() if bottom <= tick <= 1 + 1e-9]
    axes.set_yticks(ticks, [f"{100 * tick:.4g}" for tick in ticks])
    axes.grid(True, axis="y")
    axes.spines["left"].set_bounds(bottom, 1)
    for level, (*sides, words) in enumerate(pretraining_pools):
        groups = [[before.index(name) for name in side] for side in sides]
        _bracket(axes, groups, words, 1 + span * (0.07 + 0.13 * level), span)
    _legend_below(axes, tuning_pools)
    return figure


def _bracket(axes: Axes, sides: Sequence[Sequence[int]], words: str, y: float, span: float) -> None:
    """A bracket over the groups of either side, and their comparison above it."""
    for side in sides:
        axes.plot([min(side) - 0.3, max(side) + 0.3], [y, y], color="0.3", lw=1.2, clip_on=False)
    ends = sorted(np.mean(side) for side in sides)
    rise = y + 0.025 * span
    axes.plot([ends[0], ends[0], ends[1], ends[1]], [y, rise, rise, y], color="0.3", lw=0.6, clip_on=False)
    axes.text(np.mean(ends), rise + 0.01 * span, words, ha="center", va="bottom", fontsize=6)


def _legend_below(axes: Axes, pools: Sequence[Pools]) -> None:
    words = "\n".join(f"{' + '.join(a)} vs {' + '.join(b)}:\n  {found}" for a, b, found in pools)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.1), title="fine-tuning", alignment="left")
    axes.annotate(words, (0.36, -0.13), xycoords="axes fraction", va="top", fontsize=6, linespacing=1.35)


# --- figures 3 to 6 ---------------------------------------------------------------------------------------------------


@print_style
def pfi_histogram(frontal: Any, pfi: Any) -> Figure:
    """Figure 3: "frequency of images by predicted probability of frontal images, using bins of size 1. Shading
    indicates actual class of images."

    `frontal` holds True for a frontal image, `pfi` its probability, 0 to 1. The counts' axis is logarithmic, which
    shows single images beside hundreds; classes stand side by side, since stacked bars would mislead there.
    """
    true, score = np.asarray(frontal, bool), 100 * np.asarray(pfi, float)
    figure, axes = canvas(SINGLE * 1.35, 2.3)
    bins = np.arange(102) - 1e-9  # 100 % has a bin of its own, as 0 % has
    parts = {"lateral": score[~true], "frontal": score[true]}
    labels = [f"{name} ({len(part):,} images)" for name, part in parts.items()]
    axes.hist(list(parts.values()), bins, log=True, color=[LATERAL, FRONTAL], label=labels, ec="0.2", lw=0.2)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlim=(-1, 102), ylim=(0.7, None), xlabel="predicted probability of a frontal image (%)", ylabel="images")
    axes.legend(loc="upper center")
    return figure


def examples(images: Sequence[np.ndarray], titles: Sequence[str], pfi: Sequence[float], columns: int = 4) -> Figure:
    """Figure 4: test images "with their frontal and lateral prediction probabilities listed underneath each".

    `images` grey uint8 (h, w); `titles` give the true view, and the source where there are two; `pfi` 0 to 1.
    """
    return image_grid(images, columns, titles, [_probabilities(value) for value in pfi])


def _probabilities(pfi: float) -> str:
    shares = {"frontal": pfi, "lateral": 1 - pfi}
    return "\n".join(f"{view} {in_percent(share)}" for view, share in shares.items())


@print_style
def youden_curve(curve: pd.DataFrame, plateau: Plateau, cutoff: float) -> Figure:
    """Figure 5: "Youden Index is plotted against cutoffs [...]. Labels above plot indicate true image labels".

    `curve` and `plateau` from `metrics.classification`, of the same images; the plateau is shaded and its higher end,
    the paper's cut-off, is marked. `cutoff`: another, chosen on validation images, drawn dashed.
    """
    figure, axes = canvas(DOUBLE, 2.6)
    axes.plot(100 * curve["cutoff"], curve["index"], color=FRONTAL, lw=1.2)
    axes.axvspan(100 * plateau.low, 100 * plateau.high, color="0.9", lw=0, zorder=0)
    words = f"cut-off {100 * plateau.high:.1f} %, J = {plateau.index:.3f}"
    axes.plot(100 * plateau.high, plateau.index, "ko", ms=4, clip_on=False, label=words)
    axes.axvline(100 * cutoff, color="0.3", lw=0.8, ls="--", label="chosen on validation")
    _class_labels(axes, plateau)
    axes.set(xlim=(0, 100), ylim=(0, 1.0), xlabel="cut-off: predicted probability of a frontal image (%)")
    axes.set_ylabel("Youden index J")
    legend_beside(axes)
    return figure


def _class_labels(axes: Axes, plateau: Plateau) -> None:
    """Above the plot: how far the lateral images reach, and from where the frontal ones begin."""
    lateral, frontal = 100 * plateau.largest_negative, 100 * plateau.smallest_positive
    most, least = np.ceil(10 * lateral - 1e-9) / 10, np.floor(10 * frontal + 1e-9) / 10  # so that "all" stays true
    across = axes.get_xaxis_transform()
    below, above = f"lateral: all ≤ {most:.1f} %", f"frontal: all ≥ {least:.1f} %"
    for y, ends, colour, words in ((1.06, (0, lateral), LATERAL, below), (1.19, (frontal, 100), FRONTAL, above)):
        axes.plot(ends, [y, y], color=colour, lw=3, solid_capstyle="butt", transform=across, clip_on=False)
        axes.text(50, y + 0.02, words, ha="center", va="bottom", fontsize=6.5, transform=across)


def transformed_images(
    images: Mapping[str, Mapping[str, np.ndarray]], pfi: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Figure 6: one frontal and one lateral image (rows), as they are and transformed (columns), with the "frontal and
    lateral prediction probabilities listed underneath each".

    `images[actual class][heading]` grey uint8 (h, w); `pfi` likewise, 0 to 1. Headings stand in the order given.
    """
    headings = list(next(iter(images.values())))
    shown = [versions[heading] for versions in images.values() for heading in headings]
    captions = [_probabilities(pfi[view][heading]) for view in images for heading in headings]
    titles = [heading.replace(", ", ",\n") for heading in headings]
    return image_grid(shown, len(headings), titles, captions, [f"actual class:\n{view}" for view in images])
