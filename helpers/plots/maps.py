"""Explanations at print size: maps on their B-scans, methods side by side, and where the lesion's size matters.

Every map of a row has one range, so that its colours can be compared; a row of another unit has its own. Colours rise
evenly in lightness (inferno), on a darkened B-scan, so that a grey print still orders them; a thin line is drawn where
the map is at half of the row's range, and a dashed one around a lesion that is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.explain.cases import frame_of
from helpers.plots.style import CLASSES, DOUBLE, NAMES, REFERENCE, SINGLE, VALIDATION, canvas, print_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from helpers.explain.maps import Maps

COLOURS = "inferno"
FRAME_TONE = 30  # grey level of the white frame under a map
TONE = 0.55  # how bright the B-scan stays under a map
LESION = "#7FDBFF"  # light, so that it shows on dark tissue in colour and in grey


@print_style
def occlusion_maps(
    images: np.ndarray, maps: Maps, labels: Sequence[str], box: int, masks: np.ndarray | None = None, columns: int = 3
) -> Figure:
    """Figures 5A and S5: each B-scan with, beneath it, its map superimposed; `columns` images a row.

    `images` uint8 (n, size, size) and `labels` as they should stand above; `box` is drawn to scale on each B-scan. With
    `masks`, bool (n, size, size), the lesion is outlined. One range, beside each row of maps.
    """
    blocks = -(-len(images) // columns)
    wide = DOUBLE / columns if columns > 2 else 2.0
    figure, grid = canvas(DOUBLE, blocks * (1.55 * wide + 0.2), 2 * blocks, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for block in range(blocks):
        here = range(block * columns, min((block + 1) * columns, len(images)))
        top = _range(maps.maps[list(here)])
        for column, i in enumerate(here):
            mask = None if masks is None else masks[i]
            upper, lower = grid[2 * block, column], grid[2 * block + 1, column]
            upper.set_title(NAMES.get(labels[i], labels[i]), pad=2)
            _scan(upper, images[i], mask, box)
            shown = _overlay(lower, images[i], maps.maps[i], top, mask)
        unit = f"drop in {maps.units}" if maps.method == "occlusion" else maps.units
        _colour_bar(figure, shown, [*grid[2 * block], *grid[2 * block + 1]], unit, aspect=28)
    return figure


@print_style
def side_by_side(
    images: np.ndarray,
    methods: Mapping[str, Maps],
    labels: Sequence[str],
    box: int,
    masks: np.ndarray | None = None,
) -> Figure:
    """Several methods on the same images: a column an image, a row a method, with its unit and seconds an image.

    Signed maps show what speaks for the class; what speaks against it is left dark. Maps of single pixels are smoothed
    by a quarter of the box, for at print size a pixel cannot be seen.
    """
    from scipy.ndimage import gaussian_filter

    rows, columns = len(methods) + 1, len(images)
    figure, grid = canvas(DOUBLE, 1.0 * rows * DOUBLE / (columns + 1.6), rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
    for i, image in enumerate(images):
        grid[0, i].set_title(NAMES.get(labels[i], labels[i]), pad=2)
        _scan(grid[0, i], image, None if masks is None else masks[i], box)
    grid[0, 0].set_ylabel("B-scan")
    _colour_bar(figure, grid[0, 0].images[0], list(grid[0]), "grey level")
    for row, (name, maps) in enumerate(methods.items(), start=1):
        blur = 0 if "peak" in maps.extra else box / 4
        values = np.stack([gaussian_filter(np.clip(one, 0, None), blur) for one in maps.maps])
        top = _range(values)
        for i, image in enumerate(images):
            shown = _overlay(grid[row, i], image, values[i], top, None if masks is None else masks[i])
        grid[row, 0].set_ylabel(f"{_broken(name)}\n{maps.seconds / len(maps.maps):.2g} s each")
        _colour_bar(figure, shown, list(grid[row]), _broken(maps.units))
    return figure


@print_style
def signed_maps(images: np.ndarray, maps: Maps, labels: Sequence[str], masks: np.ndarray | None = None) -> Figure:
    """Carr 2020, figure 4: SHAP maps "indicating positive importance in red and negative importance in blue".

    Each B-scan beside its map; what speaks for the class is also outlined, what speaks against it dashed, for print in
    grey. One range for all, symmetric about 0. With `masks`, bool (n, size, size), B-scans show lesions' outlines.
    """
    from matplotlib.colors import CenteredNorm
    from scipy.ndimage import gaussian_filter

    figure, grid = canvas(DOUBLE, 1.75 * -(-len(images) // 2), -(-len(images) // 2), 4, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    smooth = np.stack([gaussian_filter(one, 0.012 * len(one)) for one in maps.maps])
    limit = float(np.quantile(np.abs(smooth), 0.998)) or 1.0
    for i, image in enumerate(images):
        left, right = grid[i // 2, 2 * (i % 2)], grid[i // 2, 2 * (i % 2) + 1]
        left.set_title(NAMES.get(labels[i], labels[i]), pad=2)
        left.imshow(image, cmap="gray", vmin=0, vmax=255)
        _outline(left, None if masks is None else masks[i])
        right.imshow(image, cmap="gray", vmin=0, vmax=255, alpha=0.35)
        strength = np.clip(np.abs(smooth[i]) / limit, 0, 1) ** 0.7
        shown = right.imshow(smooth[i], cmap="RdBu_r", norm=CenteredNorm(0, limit), alpha=strength)
        for level, style in ((limit / 2, "-"), (-limit / 2, "--")):
            if (smooth[i] > level).any() != (smooth[i] > level).all():
                right.contour(smooth[i], [level], colors="k", linewidths=0.4, linestyles=style)
    from matplotlib.cm import ScalarMappable

    _colour_bar(figure, ScalarMappable(shown.norm, "RdBu_r"), list(grid.flat), maps.units)
    return figure


@print_style
def localisation_curve(curves: pd.DataFrame, table_s3: pd.DataFrame) -> Figure:
    """Beyond the paper: does the box find the lesion, against the lesion's size over the box's?

    `curves` has box, centre (of a bin of sizes over the box), value, low, high, chance: one line per box. `table_s3`
    has class, lesion size over box (median), localisation accuracy, low, high, at the paper's box.
    """
    figure, axes = canvas(SINGLE * 1.45, 2.7)
    if curves.empty:
        return _nothing_known(figure, axes)
    shades = ["0.15", "0.5", "0.7"]
    marks = ["o", "s", "^"]
    for k, (box, part) in enumerate(curves.groupby("box", sort=True)):
        part = part.sort_values("centre")
        colour, mark = shades[k % 3], marks[k % 3]
        axes.fill_between(part["centre"], part["low"], part["high"], color=colour, alpha=0.12, lw=0)
        axes.plot(part["centre"], part["value"], color=colour, marker=mark, ms=3, label=f"box of {box} pixels")
        guess = "a guess on the retina" if k == 0 else None
        axes.plot(part["centre"], part["chance"], color=colour, lw=0.7, ls=":", label=guess)
    for row in table_s3[table_s3["class"] != "all"].to_dict("records"):
        name, size, value = row["class"], row["lesion size over box (median)"], row["localisation accuracy"]
        style = {"color": CLASSES.get(name, REFERENCE), "marker": "D", "ms": 4, "capsize": 2, "ls": ""}
        axes.errorbar(size, value, [[value - row["low"]], [row["high"] - value]], label=NAMES.get(name, name), **style)
    axes.axvline(1, color=REFERENCE, lw=0.7, ls="--")
    axes.set(xscale="log", ylim=(0, 1.02), xlabel="lesion's size over the box's side", ylabel="localisation accuracy")
    low, high = curves["centre"].min() / 1.5, curves["centre"].max() * 1.5
    ticks = [tick for tick in (0.25, 0.5, 1, 2, 4, 8) if low < tick < high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@print_style
def deletion_insertion(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Mean probability as pixels are deleted (left) or inserted (right) in each method's order.

    `curves[name]` has image, share, deletion, insertion.
    """
    figure, grid = canvas(DOUBLE, 2.3, 1, 2, sharey=True)
    styles = ["-", "--", "-.", ":", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1))]
    for k, (name, frame) in enumerate(curves.items()):
        mean = frame.groupby("share")[["deletion", "insertion"]].mean()
        for axes, column in zip(grid, ("deletion", "insertion"), strict=True):
            colour = REFERENCE if name == "random order" else _colour(k)
            axes.plot(100 * mean.index, mean[column], color=colour, ls=styles[k % len(styles)], label=name)
    for axes, title in zip(grid, ("deletion: the lower the better", "insertion: the higher the better"), strict=True):
        axes.set(xlabel="pixels changed (%)", title=title, ylim=(0, 1.02))
        axes.grid(True)
    grid[0].set_ylabel("mean probability of the label")
    grid[1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@print_style
def lesions_against_box(each: pd.DataFrame, box: int) -> Figure:
    """Beyond the paper: a mark a lesion, by how much of it one box hides (left) and how bright it is (right), against
    the highest drop; filled where the box was found on it.

    `each` has a row per image: label, hidden, contrast, drop, hit.
    """
    figure, (left, right) = canvas(DOUBLE, 2.5, 1, 2, sharey=True)
    if each.empty:
        return _nothing_known(figure, left, right)
    labels = {"hidden": "largest share of the lesion under one box", "contrast": "lesion less its rim (grey levels)"}
    for axes, column in ((left, "hidden"), (right, "contrast")):
        for label, mark in (("DRUSEN", "o"), ("CNV", "s"), ("DME", "^")):
            part = each[each["label"] == label]
            for hit, marks in part.groupby(part["hit"] > 0):
                colour = CLASSES.get(label, REFERENCE)
                style = {"marker": mark, "s": 9, "linewidths": 0.5, "edgecolors": colour}
                name = NAMES.get(label, label) if hit else None
                axes.scatter(marks[column], marks["drop"], facecolors=colour if hit else "none", label=name, **style)
        axes.set(xlabel=labels[column])
        axes.grid(True)
    left.set(ylabel="highest mean drop in probability", xlim=(-0.02, 1.02))
    left.set_title(f"box of {box} pixels", pad=2)
    right.axvline(0, color=REFERENCE, lw=0.7, ls="--")
    right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="filled: found")
    return figure


def _nothing_known(figure: Figure, *axes: Axes) -> Figure:
    """In place of marks: real images without an expert's."""
    for one in axes:
        one.axis("off")
        one.text(0.5, 0.5, "no lesions are known:\nsupply marks (marks_file)", ha="center", va="center")
    return figure


def _colour(k: int) -> str:
    """The k-th of colours that stay apart for colour-blind readers."""
    return ["#000000", VALIDATION, "#D55E00", "#009E73", "#CC79A7", "#E69F00"][k % 6]


def _broken(name: str) -> str:
    """A long name on two lines."""
    return name.replace(" ", "\n", 1) if len(name) > 10 else name


def _range(maps: np.ndarray) -> float:
    """The top of a row's range: its highest value, but for one pixel in 2,000, which would leave the rest dark."""
    return float(np.quantile(np.clip(maps, 0, None), 0.9995)) or 1.0


def _scan(axes: Axes, image: np.ndarray, mask: np.ndarray | None, box: int) -> None:
    """The B-scan with the occluder's box to scale."""
    from matplotlib.patches import Rectangle

    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    _outline(axes, mask)
    size = len(image)
    style = {"ec": "k", "fc": "w", "lw": 0.5}
    axes.add_patch(Rectangle((0.03 * size, 0.97 * size - box), box, box, **style))
    axes.text(0.05 * size + box, 0.97 * size - box / 2, f"{box} px", color="w", fontsize=5, va="center", bbox=_BACK)


_BACK = {"fc": "0.2", "ec": "none", "pad": 0.6}


def _overlay(axes: Axes, image: np.ndarray, values: np.ndarray, top: float, mask: np.ndarray | None):
    """The map on its darkened B-scan; returns what a colour bar describes.

    The white frame that straightening leaves is drawn nearly black: else it would pass for a middling value in grey.
    """
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    share = np.clip(values / top, 0, 1)
    colour = mpl.colormaps[COLOURS](share)[..., :3]
    weight = (0.9 * share**0.6)[..., None]
    back = TONE * np.where(frame_of(image), FRAME_TONE, image)[..., None].repeat(3, axis=2) / 255
    axes.imshow(np.clip(weight * colour + (1 - weight) * back, 0, 1), interpolation="antialiased")
    if (share > 0.5).any() and not (share > 0.5).all():
        axes.contour(share, [0.5], colors="w", linewidths=0.4)
    _outline(axes, mask)
    return ScalarMappable(Normalize(0, top), COLOURS)


def _outline(axes: Axes, mask: np.ndarray | None) -> None:
    if mask is not None and mask.any() and not mask.all():
        axes.contour(mask, [0.5], colors=[LESION], linewidths=0.5, linestyles="--")


def _colour_bar(figure: Figure, shown, axes: list[Axes], label: str, aspect: float = 14) -> None:
    bar = figure.colorbar(shown, ax=axes, fraction=0.025, pad=0.01, aspect=aspect)
    bar.set_label(label, fontsize=6)
    bar.ax.tick_params(labelsize=5.5, length=2)
    bar.outline.set_linewidth(0.4)
