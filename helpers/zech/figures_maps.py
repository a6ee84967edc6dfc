"""Zech 2018, heat maps: an X-ray, what the network says of it, and where in the image that comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.plots.style import DOUBLE, REFERENCE, canvas, print_style
from helpers.zech.figures import OWN, spelt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from helpers.explain.maps import Maps

HEAT = "inferno"  # rises evenly in lightness, so that a grey print still orders it
FINDING = "#7FDBFF"  # light, so that it shows on dark and on bright tissue, in colour and in grey
TONE = 0.6  # how bright the radiograph stays under a map
SHOWN = 0.5  # a white line is drawn where the map is at this share of its highest value


@dataclass(frozen=True)
class Shown:
    """One image to draw: uint8 (h, w), its map (h, w) of `label`, the finding's outline (h, w) or None, a probability a
    label, and the labels that the data set gives it."""

    image: np.ndarray
    heat: np.ndarray
    label: str
    mask: np.ndarray | None
    probabilities: Mapping[str, float]
    labels: Sequence[str]


def shown(
    chosen: pd.DataFrame, images: np.ndarray, maps: Maps, masks: np.ndarray | None, scores: pd.DataFrame
) -> list[Shown]:
    """What is to be drawn of the images `chosen` (image_id, target), from their maps, masks and scores."""
    rows, labels = scores.set_index("image_id"), [name[2:] for name in scores.columns if name.startswith("p_")]
    made = []
    for i, (name, target) in enumerate(zip(chosen["image_id"], chosen["target"], strict=True)):
        row = rows.loc[name]
        given = [label for label in labels if row[f"y_{label}"]]
        probabilities = {label: float(row[f"p_{label}"]) for label in labels}
        mask = None if masks is None else masks[i]
        made.append(Shown(images[i], maps.maps[i], target, mask, probabilities, given))
    return made


@print_style
def network_answer(one: Shown, backbone: str) -> Figure:
    """CheXNet's first figure: input, network, output, and the heat map of the answer."""
    from matplotlib.patches import FancyBboxPatch

    figure, (left, middle, right) = canvas(DOUBLE * 0.85, 2.15, 1, 3, width_ratios=(1, 0.95, 1))
    left.imshow(one.image, cmap="gray", vmin=0, vmax=255)
    left.set_title("Input: chest X-ray image", pad=3)
    middle.set(xlim=(0, 1), ylim=(0, 1))
    middle.add_patch(FancyBboxPatch((0.2, 0.42), 0.6, 0.3, boxstyle="round,pad=0.02", fc="#EDEDED", ec="0.4", lw=0.8))
    middle.text(0.5, 0.57, f"{backbone}\n14 outputs", ha="center", va="center", fontsize=7.5)
    for start, end in ((0.0, 0.17), (0.83, 1.0)):
        style = {"arrowstyle": "-|>", "color": "0.3", "lw": 0.9}
        middle.annotate("", (end, 0.57), (start, 0.57), arrowprops=style)
    percent = 100 * one.probabilities[one.label]
    given = "labelled " + ", ".join(map(spelt, one.labels)) if one.labels else "labelled no finding"
    middle.text(0.5, 0.2, f"Output\n{spelt(one.label)}: {percent:.0f} %", ha="center", va="center", fontsize=8)
    middle.text(0.5, 0.02, given, ha="center", va="center", fontsize=5.5, color="0.35", wrap=True)
    _heat(right, one)
    right.set_title(f"Heat map: {spelt(one.label)}", pad=3)
    for axes in (left, middle, right):
        axes.axis("off")
    return figure


@print_style
def explored(rows: Sequence[Shown]) -> Figure:
    """The repository's page of predictions: a row an image, with its heat map and all fourteen probabilities.

    A bar's label is bold where the data set gives the image that label.
    """
    figure, grid = canvas(DOUBLE, 2.15 * len(rows), len(rows), 3, squeeze=False, width_ratios=(1, 1, 1.25))
    for (left, middle, right), one in zip(grid, rows, strict=True):
        left.imshow(one.image, cmap="gray", vmin=0, vmax=255)
        left.set_title("X-ray", pad=3)
        _heat(middle, one)
        middle.set_title(f"P({spelt(one.label)}) = {one.probabilities[one.label]:.3f}", pad=3)
        for axes in (left, middle):
            axes.axis("off")
        names = list(one.probabilities)[::-1]
        colours = [OWN if name == one.label else "0.7" for name in names]
        right.barh(range(len(names)), [one.probabilities[name] for name in names], color=colours, height=0.7)
        right.set_yticks(range(len(names)), [spelt(name) for name in names], fontsize=5.5)
        for text, name in zip(right.get_yticklabels(), names, strict=True):
            text.set_fontweight("bold" if name in one.labels else "normal")
        right.set(xlabel="probability (bold: so labelled)", xlim=(0, 1))
        right.grid(True, axis="x")
    return figure


@print_style
def heat_maps(rows: Sequence[Shown], columns: int = 5) -> Figure:
    """The map of each image's label on the darkened image; the finding's outline dashed, where it is known."""
    lines = -(-len(rows) // columns)
    figure, grid = canvas(DOUBLE, 1.52 * lines + 0.25, lines, columns, squeeze=False)
    for axes, one in zip(grid.flat, rows, strict=False):
        _heat(axes, one)
        axes.set_title(f"{spelt(one.label)}: {100 * one.probabilities[one.label]:.0f} %", pad=2, fontsize=6.5)
    for axes in grid.flat:
        axes.axis("off")
    last = grid.flat[-1]
    if len(rows) < lines * columns:
        last.plot([], [], color=REFERENCE, label="half of the map's highest value")
        last.plot([], [], color="#2C8CB4", ls="--", label="the finding")
        last.legend(loc="center", fontsize=5.5)
    return figure


def _heat(axes: Axes, one: Shown) -> None:
    """What speaks for the label, from dark to bright; what speaks against it is left as it is."""
    import matplotlib as mpl

    top = float(one.heat.max())
    share = np.clip(one.heat / top, 0, 1) if top > 0 else np.zeros(one.heat.shape)
    colour, weight = mpl.colormaps[HEAT](share)[..., :3], (0.85 * share**0.8)[..., None]
    back = TONE * one.image[..., None].repeat(3, axis=2) / 255
    axes.imshow(np.clip(weight * colour + (1 - weight) * back, 0, 1))
    if (share > SHOWN).any():
        axes.contour(share, [SHOWN], colors="w", linewidths=0.5)
    if one.mask is not None and one.mask.any():
        axes.contour(one.mask, [0.5], colors=[FINDING], linewidths=0.6, linestyles="--")
