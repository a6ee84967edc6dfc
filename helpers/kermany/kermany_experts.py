"""Kermany 2018, figures that set the model beside readers: 4C, S3 and S4."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.plots.style import DOUBLE, NAMES, NETWORK, READERS, SINGLE, canvas, letter, print_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from helpers.metrics.estimate import Estimate


@print_style
def weighted_errors(
    errors: Mapping[str, Estimate], networks: set[str], published: Mapping[str, float] | None = None
) -> Figure:
    """Figure 4C: weighted errors with intervals, "neural networks in gold and human experts in blue".

    `networks` names those of `errors` that are networks; `published[name]` are values drawn as hollow diamonds.
    """
    figure, axes = canvas(SINGLE * 1.3, 0.28 * (len(errors) + len(published or {})) + 0.75)
    names = list(errors)
    for place, name in enumerate(names):
        error = errors[name]
        colour = NETWORK if name in networks else READERS
        axes.barh(place, 100 * error.value, color=colour, height=0.62)
        spread = [[100 * (error.value - error.low)], [100 * (error.high - error.value)]]
        axes.errorbar(100 * error.value, place, xerr=spread, color="0.2", lw=0.8, capsize=2)
    for place, (name, value) in enumerate((published or {}).items(), start=len(names)):
        axes.plot(100 * value, place, marker="D", ms=4, mfc="white", mec="0.2", ls="")
        names.append(name)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="weighted error (penalty points per 100 images)")
    axes.set_xlim(left=0)
    axes.invert_yaxis()
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    return figure


@print_style
def likelihood_ratios(positive: Mapping[str, Estimate], negative: Mapping[str, Estimate], networks: set[str]) -> Figure:
    """Figure S3: positive (A) and negative (B) likelihood ratios with their 95 % intervals, on a logarithmic axis.

    An upper bound of infinity is drawn as an arrow at the axis' end.
    """
    figure, grid = canvas(DOUBLE, 0.24 * len(positive) + 0.8, 1, 2, sharey=True)
    for place, (axes, ratios, label) in enumerate(
        zip(
            grid,
            (positive, negative),
            ("positive likelihood ratio", "negative likelihood ratio"),
            strict=True,
        )
    ):
        finite = [x for r in ratios.values() for x in (r.value, r.low, r.high) if np.isfinite(x) and x > 0]
        low, high = (min(finite) / 2, max(finite) * 2) if finite else (0.1, 10)
        for y, (name, ratio) in enumerate(ratios.items()):
            colour = NETWORK if name in networks else READERS
            ends = np.clip([ratio.low, ratio.value, ratio.high], low, high)
            axes.plot(ends[[0, 2]], [y, y], color=colour, lw=1.4)
            axes.plot(ends[1], y, marker="s" if name in networks else "o", ms=4, color=colour)
            if not np.isfinite(ratio.high):
                axes.plot(high, y, marker=">", ms=4, color=colour, clip_on=False)
        axes.axvline(1, color="0.5", lw=0.7, ls=":")
        axes.set(xscale="log", xlim=(low, high), xlabel=label)
        axes.grid(True, axis="x")
        letter(axes, "AB"[place])
    grid[0].set_yticks(range(len(positive)), list(positive))
    grid[0].invert_yaxis()
    return figure


@print_style
def penalties(table: pd.DataFrame) -> Figure:
    """Figure S4A: the penalty points of each wrong referral, rows the true labels."""
    import seaborn as sns

    figure, axes = canvas(2.5, 2.1)
    named = table.rename(index=NAMES, columns=NAMES)
    sns.heatmap(named, annot=True, fmt="g", cmap="Oranges", vmin=0, vmax=5, cbar=False, linewidths=0.5, ax=axes)
    axes.set(xlabel="predicted", ylabel="true", title="penalty points")
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)
    return figure
