"""Carr 2020, the retinal half, beyond the poster: do the SHAP maps lie on the lesions?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from helpers.plots.style import DOUBLE, NAMES, NETWORK, canvas, print_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EDGE, CHANCE = "0.15", "0.55"


@print_style
def lesion_scores(table: pd.DataFrame, titles: Mapping[str, str]) -> Figure:
    """Each class's score with its interval (a dot), beside that of a guess on the retina (a cross): a panel a measure.

    `table` from `helpers.explain.scores.means`: label ("all" the last), measure, value, low, high, n; the chance of a
    measure is "<measure>_by_chance". `titles`: the measures drawn, and what they are called.
    """
    labels = list(dict.fromkeys(table["label"]))
    figure, grid = canvas(DOUBLE, 0.3 * len(labels) + 0.95, 1, len(titles), sharey=True, squeeze=False)
    for axes, (measure, title) in zip(grid[0], titles.items(), strict=True):
        rows = table[table["measure"] == measure].set_index("label")
        chance = table[table["measure"] == f"{measure}_by_chance"].set_index("label")
        for y, label in enumerate(labels):
            one = rows.loc[label]
            fill = NETWORK if label == "all" else "white"
            axes.plot([one["low"], one["high"]], [y, y], color=EDGE, lw=0.9)
            axes.plot(one["value"], y, "o", ms=5, mfc=fill, mec=EDGE, mew=0.9, label="map" if y == 0 else None)
            guess = "a guess on the retina" if y == 0 else None
            axes.plot(chance.loc[label, "value"], y, "x", ms=5, mew=1.2, color=CHANCE, label=guess, clip_on=False)
        highest = max(rows["high"].max(), chance["value"].max())
        axes.set(title=title, xlim=(0, min(1.02, 1.2 * highest)))
        axes.grid(True, axis="x")
    counts = table[table["measure"] == next(iter(titles))].set_index("label")["n"]
    names = [f"{'all' if label == 'all' else NAMES.get(label, label)} ({counts[label]})" for label in labels]
    grid[0][0].set_yticks(range(len(labels)), names)
    grid[0][0].set_ylim(len(labels) - 0.5, -0.6)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
