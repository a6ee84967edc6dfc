"""Rajkomar 2017, figures 2 to 6, and accuracy under each transform: one function a figure. Figure 1 is in
`rajkomar_flow`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from helpers.plots.style import DOUBLE, REFERENCE, SINGLE, canvas, print_style
from helpers.rajkomar.numbers import COMPARISONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from helpers.metrics.classification import Plateau
    from helpers.metrics.comparison import PooledComparison
    from helpers.metrics.estimate import Estimate
    from helpers.rajkomar.numbers import Answer

FRONTAL, LATERAL = "#0072B2", "#E69F00"  # dark and light in a grey print
TUNING = (("o", "white", "#333333"), ("s", "#E69F00", "#7A5300"), ("D", "#0072B2", "#00395A"))  # marker, fill, edge


@dataclass(frozen=True)
class Pools:
    """One of the text's comparisons: the groups pooled on either side (names of pre-trainings or of ways of
    fine-tuning), the paper's test, and where there is one, the test by parent."""

    a: Sequence[str]
    b: Sequence[str]
    paper: PooledComparison
    by_parent: PooledComparison | None = None

    def words(self) -> str:
        """'93.2 vs 99.5 %, p < 0.001 (by parent: p = 0.02)'."""
        shares = f"{100 * self.paper.a.value:.1f} vs {100 * self.paper.b.value:.1f} %, {_p(self.paper.p)}"
        return shares + (f" (by parent: {_p(self.by_parent.p)})" if self.by_parent else "")


def pools(compared: Mapping[str, Answer]) -> tuple[list[Pools], list[Pools]]:
    """`numbers.compare_models` for figure 2: comparisons of pre-trainings, above the graph, and of ways of fine-tuning,
    beside the legend. Those that did not run, and the one that the paper does "not show in figure", are left out."""
    before, after = [], []
    for name, comparison in COMPARISONS.items():
        answer = compared[name]
        if answer.tests is None or "last layer, greyscale" in name:
            continue
        sides = answer.pretraining if comparison.of_pretraining else comparison.methods
        (before if comparison.of_pretraining else after).append(Pools(*sides, *answer.tests))
    return before, after


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
    for column, (name, style) in enumerate(zip(after, TUNING, strict=False)):
        for group, source in enumerate(before):
            place = group + 0.24 * (column - (len(after) - 1) / 2)
            _accuracy_dot(axes, place, models.get((source, name)), style, name if group == 0 else None)
    found = [e for e in models.values() if e is not None and e.defined]
    low = min((e.low for e in found), default=0.5)
    span = 1 - low
    top = 1 + span * (0.06 + 0.13 * len(pretraining_pools))
    axes.set(xlim=(-0.5, len(before) - 0.5), ylim=(low - 0.08 * span, top), ylabel="validation accuracy (%)")
    axes.set_xticks(range(len(before)), before)
    ticks = [tick for tick in axes.get_yticks() if low - 0.08 * span <= tick <= 1 + 1e-9]
    axes.set_yticks(ticks, [f"{100 * tick:.4g}" for tick in ticks])
    axes.grid(True, axis="y")
    axes.spines["left"].set_bounds(low - 0.08 * span, 1)
    for level, pools in enumerate(pretraining_pools):
        _bracket(axes, before, pools, 1 + span * (0.07 + 0.13 * level), span)
    _legend_beside(figure, axes, tuning_pools)
    return figure


def _accuracy_dot(axes: Axes, x: float, found: Estimate | None, style: tuple[str, str, str], name: str | None) -> None:
    marker, fill, edge = style
    look = {"marker": marker, "mfc": fill, "mec": edge, "ms": 5.5, "ls": "", "mew": 0.9, "label": name}
    if found is None or not found.defined:
        axes.plot([], [], **look)
        axes.text(
            x, 0.03, "not run", transform=axes.get_xaxis_transform(), rotation=90, ha="center", fontsize=6, color="0.5"
        )
        return
    spread = [[found.value - found.low], [found.high - found.value]]
    axes.errorbar(x, found.value, yerr=spread, color=edge, lw=1, capsize=2.5, zorder=2)
    axes.plot(x, found.value, zorder=3, **look)


def _bracket(axes: Axes, before: Sequence[str], pools: Pools, y: float, span: float) -> None:
    """A bracket over the groups of either side, and their comparison above it."""
    a, b = ([before.index(name) for name in side] for side in (pools.a, pools.b))
    for side in (a, b):
        axes.plot([min(side) - 0.3, max(side) + 0.3], [y, y], color="0.3", lw=1.2, clip_on=False)
    ends = sorted([np.mean(a), np.mean(b)])
    rise = y + 0.025 * span
    axes.plot([ends[0], ends[0], ends[1], ends[1]], [y, rise, rise, y], color="0.3", lw=0.6, clip_on=False)
    axes.text(np.mean(ends), rise + 0.01 * span, pools.words(), ha="center", va="bottom", fontsize=6)


def _legend_beside(figure: Figure, axes: Axes, pools: Sequence[Pools]) -> None:
    handles, labels = axes.get_legend_handles_labels()
    said = "\n".join(f"{' + '.join(pool.a)} vs {' + '.join(pool.b)}:\n  {pool.words()}" for pool in pools)
    axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(0, -0.1), title="fine-tuning", alignment="left")
    axes.annotate(said, (0.36, -0.13), xycoords="axes fraction", va="top", fontsize=6, linespacing=1.35)


@print_style
def pfi_histogram(frontal: Any, pfi: Any, log: bool = False) -> Figure:
    """Figure 3: "frequency of images by predicted probability of frontal images, using bins of size 1. Shading
    indicates actual class of images."

    `frontal` holds True for a frontal image, `pfi` its probability, 0 to 1. With `log` the counts' axis is logarithmic,
    which shows single images beside hundreds; classes then stand side by side, since stacked bars would mislead there.
    """
    true, score = np.asarray(frontal, bool), 100 * np.asarray(pfi, float)
    figure, axes = canvas(SINGLE * 1.35, 2.3)
    bins = np.arange(102) - 1e-9  # 100 % has a bin of its own, as 0 % has
    parts, names = [score[~true], score[true]], ["lateral", "frontal"]
    labels = [f"{name} ({len(part):,} images)" for name, part in zip(names, parts, strict=True)]
    style = {"color": [LATERAL, FRONTAL], "label": labels, "ec": "0.2", "lw": 0.2}
    axes.hist(parts, bins, stacked=not log, log=log, **style)
    if log:
        axes.set_ylim(bottom=0.7)
        axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlim=(-1, 102), xlabel="predicted probability of a frontal image (%)", ylabel="images")
    axes.legend(loc="upper center")
    return figure


@print_style
def examples(images: Sequence[np.ndarray], titles: Sequence[str], pfi: Sequence[float], columns: int = 4) -> Figure:
    """Figure 4: test images "with their frontal and lateral prediction probabilities listed underneath each".

    `images` grey uint8 (h, w); `titles` say the true view, and the source where there are two; `pfi` 0 to 1.
    """
    rows = -(-len(images) // columns)
    figure, grid = canvas(DOUBLE, (DOUBLE / columns + 0.42) * rows, rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, title, value in zip(grid.flat, images, titles, pfi, strict=False):
        _picture(axes, image)
        axes.set_title(title, fontsize=7, pad=3)
        words = f"frontal {100 * value:.2f} %\nlateral {100 * (1 - value):.2f} %"
        axes.text(0.5, -0.03, words, transform=axes.transAxes, ha="center", va="top", fontsize=6.5, linespacing=1.3)
    return figure


@print_style
def youden_curve(curve: pd.DataFrame, plateau: Plateau, cutoff: float | None = None) -> Figure:
    """Figure 5: "Youden Index is plotted against cutoffs [...]. Labels above plot indicate true image labels".

    `curve` and `plateau` from `metrics.classification`, of the same images; the plateau is shaded and its higher end,
    the paper's cut-off, is marked. `cutoff`: another, chosen on validation images, drawn dashed.
    """
    figure, axes = canvas(SINGLE * 1.5, 2.6)
    axes.plot(100 * curve["cutoff"], curve["index"], color=FRONTAL, lw=1.2)
    axes.axvspan(100 * plateau.low, 100 * plateau.high, color="0.9", lw=0, zorder=0)
    axes.plot(100 * plateau.cutoff, plateau.index, "o", ms=4, color="k", clip_on=False)
    _mark_cutoff(axes, plateau)
    if cutoff is not None:
        axes.axvline(100 * cutoff, color="0.3", lw=0.8, ls="--")
        left = cutoff > 0.1  # where its words have room
        style = {"textcoords": "offset points", "ha": "right" if left else "left", "va": "bottom", "rotation": 90}
        axes.annotate("chosen on validation", (100 * cutoff, 0.03), (-2 if left else 2, 0), fontsize=6, **style)
    _class_labels(axes, plateau)
    axes.set(xlim=(0, 100), ylim=(0, 1.0), xlabel="cut-off: predicted probability of a frontal image (%)")
    axes.set_ylabel("Youden index J")
    return figure


def _mark_cutoff(axes: Axes, plateau: Plateau) -> None:
    """The paper's cut-off as a dot, with its words under a flat top and over a pointed one."""
    at, words = (100 * plateau.cutoff, plateau.index), f"cut-off {100 * plateau.cutoff:.1f} %,\nJ = {plateau.index:.3f}"
    axes.plot(*at, "o", ms=4, color="k", clip_on=False)
    right = plateau.cutoff > 0.3  # where its words have room to the left, clear of the classes' bars above
    style = {"textcoords": "offset points", "ha": "right" if right else "left", "va": "top", "fontsize": 6.5}
    axes.annotate(words, at, (-16 if right else 8, -12), **style)


def _class_labels(axes: Axes, plateau: Plateau) -> None:
    """Above the plot: how far the lateral images reach, and from where the frontal ones begin."""
    lateral, frontal = 100 * plateau.largest_negative, 100 * plateau.smallest_positive
    apart = frontal - lateral > 60  # room for both words in one line, between the bars
    rows = (
        (1.06, 0, lateral, LATERAL, f"lateral: all ≤ {_up(lateral)} %", lateral + 1.5, "left"),
        (1.06 if apart else 1.19, frontal, 100, FRONTAL, f"frontal: all ≥ {_down(frontal)} %", frontal - 1.5, "right"),
    )
    for y, start, end, colour, words, x, side in rows:
        across = axes.get_xaxis_transform()
        axes.plot([start, end], [y, y], color=colour, lw=3, solid_capstyle="butt", transform=across, clip_on=False)
        x, y, side, up = (x, y, side, "center") if apart else (50, y + 0.02, "center", "bottom")
        axes.text(x, y, words, ha=side, va=up, fontsize=6.5, transform=across)


@print_style
def transformed_images(
    images: Mapping[str, Mapping[str, np.ndarray]], pfi: Mapping[str, Mapping[str, float]]
) -> Figure:
    """Figure 6: one frontal and one lateral image (rows), as they are and transformed (columns), with the "frontal and
    lateral prediction probabilities listed underneath each".

    `images[actual class][heading]` grey uint8 (h, w); `pfi` likewise, 0 to 1. Headings stand in the order given.
    """
    headings = list(next(iter(images.values())))
    size = DOUBLE / (len(headings) + 0.55)
    figure, grid = canvas(DOUBLE, (size + 0.36) * len(images) + 0.4, len(images), len(headings), squeeze=False)
    for row, (view, versions) in enumerate(images.items()):
        for column, heading in enumerate(headings):
            axes = grid[row, column]
            _picture(axes, versions[heading])
            if row == 0:
                axes.set_title(heading.replace(", ", ",\n"), fontsize=7)
            value = 100 * pfi[view][heading]
            axes.set_xlabel(f"frontal {value:.2f} %\nlateral {100 - value:.2f} %", fontsize=6.5, linespacing=1.3)
        grid[row, 0].set_ylabel(f"actual class:\n{view}", fontsize=7)
    return figure


@print_style
def transform_accuracy(
    found: Mapping[str, Mapping[str, Estimate]], label: str = "images classified correctly"
) -> Figure:
    """Beyond the paper: the whole test set under each transform, with intervals.

    `found[heading][measure]`, measures such as "all images", "frontal", "lateral", one marker each; at most three.
    """
    measures = list(next(iter(found.values())))
    figure, axes = canvas(DOUBLE * 0.75, 0.42 * len(found) + 0.85)
    for place, (name, (marker, fill, edge)) in enumerate(zip(measures, TUNING, strict=False)):
        for row, heading in enumerate(found):
            one = found[heading][name]
            if not one.defined:
                continue
            y = row + 0.22 * (place - (len(measures) - 1) / 2)
            axes.plot([100 * one.low, 100 * one.high], [y, y], color=edge, lw=1)
            text = name if row == 0 else None
            axes.plot(100 * one.value, y, marker, mfc=fill, mec=edge, ms=4.5, mew=0.9, label=text, clip_on=False)
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.45, -0.55)
    axes.set_xlim(right=100)
    axes.axvline(100, color=REFERENCE, lw=0.5)
    axes.set_xlabel(f"{label} (%)")
    axes.grid(True, axis="x")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure


def _picture(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _p(p: float) -> str:
    if np.isnan(p):
        return "p undefined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _up(per_cent: float) -> str:
    """Rounded up to a tenth, so that 'all at most' stays true."""
    return f"{np.ceil(10 * per_cent - 1e-9) / 10:.1f}"


def _down(per_cent: float) -> str:
    """Rounded down to a tenth, so that 'all at least' stays true."""
    return f"{np.floor(10 * per_cent + 1e-9) / 10:.1f}"
