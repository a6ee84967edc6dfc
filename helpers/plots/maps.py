"""Images and the maps that explain them, at print size: grids of examples, maps on their images, methods compared.

Every map has its own range, whose top is written above it: in one range a strong drop would leave the others dark.
Colours rise evenly in lightness (inferno), so that a grey print still orders them; a thin line is drawn where the map
is at half of its range, and a dashed one around a lesion that is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from scipy.ndimage import gaussian_filter

from helpers.data.images import frame_of
from helpers.plots import style as palette
from helpers.plots.curves import draw_forest, draw_intervals, legend_beside
from helpers.plots.style import CLASSES, DOUBLE, NAMES, REFERENCE, SINGLE, canvas, display_name, print_style

COLOURS = "inferno"
FRAME_TONE = 30  # of the white frame that straightening leaves, under a map: else it would pass for a middling value
LESION = "#7FDBFF"  # light, so that it shows on dark and on bright tissue, in colour and in grey
DISTINCT = ("#000000", palette.VALIDATION, "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


Maps = Any  # helpers.explain.maps.Maps: what is drawn of an explanation, one map per image


# --- images -----------------------------------------------------------------------------------------------------------


def draw_image(axes: Axes, image: np.ndarray, title: str = "", **options: Any) -> None:
    """A grey image, uint8 (h, w), without ticks or frame; axis labels still show."""
    axes.imshow(image, **{"cmap": "gray", "vmin": 0, "vmax": 255, "interpolation": "antialiased"} | options)
    axes.axis("on")
    axes.set(xticks=[], yticks=[], frame_on=False)
    axes.set_title(title, fontsize=7, pad=3)


def draw_outline(axes: Axes, mask: np.ndarray | None, colour: str = LESION, style: str = "--", width=0.5) -> None:
    """The outline of a lesion, bool (h, w), where it is known."""
    if mask is not None and mask.any() and not mask.all():
        axes.contour(mask, [0.5], colors=[colour], linewidths=width, linestyles=style)


def draw_map(
    axes: Axes, image: np.ndarray, values: np.ndarray, top: float, mask: np.ndarray | None = None, title: str = ""
):
    """The map, 0 to `top`, on its image, which stays as it is where the map is 0 or negative."""
    share = np.clip(values / top, 0, 1)
    weight, back = (0.9 * share**0.6)[..., None], image[..., None] / 255
    draw_image(axes, np.clip(weight * mpl.colormaps[COLOURS](share)[..., :3] + (1 - weight) * back, 0, 1), title)
    if (share > 0.5).any() and not (share > 0.5).all():
        axes.contour(share, [0.5], colors="w", linewidths=0.4)
    draw_outline(axes, mask)


def highest(maps: np.ndarray) -> float:
    """The top of a range: its highest value, but for one pixel in 2,000, which would leave the rest dark."""
    return float(np.quantile(np.clip(maps, 0, None), 0.9995)) or 1.0


@print_style
def image_grid(
    images: Sequence[np.ndarray],
    columns: int,
    titles: Sequence[str],
    captions: Sequence[str] = (),
    rows: Sequence[str] = (),
    masks: Sequence[np.ndarray | None] = (),
) -> Figure:
    """Images row by row; titles stand above, captions underneath, names of rows at the left, masks as outlines.

    With fewer titles than images, only the first have one: the headings of the columns.
    """
    wide, down = DOUBLE / (columns + 0.3 * bool(rows)), -(-len(images) // columns)
    tall = max(len(image) / image.shape[1] for image in images)
    height = (wide * tall + 0.26 * bool(captions)) * down + 0.16 * -(-len(titles) // columns) + 0.1
    figure, grid = canvas(DOUBLE, height, down, columns, squeeze=False)
    for axes in grid.flat[len(images) :]:
        axes.axis("off")
    for i, (axes, image) in enumerate(zip(grid.flat, images, strict=False)):
        draw_image(axes, image, titles[i] if i < len(titles) else "")
        axes.set_xlabel(captions[i] if captions else "", fontsize=6.5, linespacing=1.3)
        if masks and masks[i] is not None:
            draw_outline(axes, masks[i], palette.TRAINING, "-", 0.7)
            for line in axes.collections:
                line.set_path_effects([withStroke(linewidth=1.3, foreground="k")])
    for axes, name in zip(grid[:, 0], rows, strict=False):
        axes.set_ylabel(name)
    return figure


def class_examples(
    images: Mapping[str, Sequence[np.ndarray]], masks: Mapping[str, Sequence[np.ndarray]] | None = None
) -> Figure:
    """Examples of each class, one column per class; from the second row on, a known lesion is outlined.

    `images[class]` are grey uint8 arrays (h, w), as many of each class; `masks[class]` boolean arrays of their shapes.
    """
    count = len(next(iter(images.values())))
    row_by_row = [(name, row) for row in range(count) for name in images]
    outlines = [masks[name][row] if masks and row else None for name, row in row_by_row]
    shown = [images[name][row] for name, row in row_by_row]
    return image_grid(shown, len(images), [NAMES.get(name, name) for name in images], masks=outlines)


# --- maps on their images ---------------------------------------------------------------------------------------------


@print_style
def maps_below_images(
    images: np.ndarray,
    methods: Mapping[str, Maps],
    labels: Sequence[str],
    box: int,
    masks: Sequence[np.ndarray | None] | None = None,
    columns: int | None = None,
    hits: Sequence[float] | None = None,
) -> Figure:
    """Images in rows of `columns`, and beneath each row a row of maps per method, with its unit.

    `images` uint8 (n, size, size) and `labels` their names above; `box` is drawn to scale on each image; with `masks`,
    bool (n, size, size), the lesion is outlined. Above each map stands the top of its own range and, with `hits` (1,
    0, NaN), whether it found the lesion; of occlusion, the box of the highest drop is drawn. What speaks against the
    class is not drawn. Maps of single pixels are smoothed by a quarter of the box, for at print size a pixel cannot be
    seen.
    """
    columns, masks = columns or len(images), [None] * len(images) if masks is None else masks
    starts = range(0, len(images), columns)
    rows, wide = len(starts) * (len(methods) + 1), DOUBLE / (columns + 1.2)
    figure, grid = canvas(DOUBLE, (wide + 0.14) * rows, rows, columns, squeeze=False)
    hits = [np.nan] * len(images) if hits is None else hits
    for axes in grid.flat:
        axes.axis("off")
    for start, (first, *others) in zip(starts, np.split(grid, len(starts)), strict=True):
        part = slice(start, start + columns)
        for axes, image, label, mask in zip(first, images[part], labels[part], masks[part], strict=False):
            _draw_scan(axes, image, mask, box, NAMES.get(label, label))
        first[0].set_ylabel("B-scan")
        for row, (name, maps) in zip(others, methods.items(), strict=True):
            _draw_method(row, images[part], name, maps.take(np.arange(len(images))[part]), box, masks[part], hits[part])
    _colour_bar(figure, ScalarMappable(Normalize(0, 1), COLOURS), list(grid.flat), "share of the map's maximum")
    return figure


def _draw_method(row: np.ndarray, images: np.ndarray, name: str, maps: Maps, box: int, masks: Sequence, hits) -> None:
    """A method's row of maps, each with the top of its range, and the method's name and unit."""
    blur = 0 if "peak" in maps.extra else box / 4
    for axes, image, one, mask, hit in zip(row, images, maps.maps, masks, hits, strict=False):
        values = gaussian_filter(np.clip(one, 0, None), blur)
        top = highest(values)
        found = "" if np.isnan(hit) else ", found" if hit else ", missed"
        draw_map(axes, np.where(frame_of(image), FRAME_TONE, image), values, top, mask, f"max {top:.2g}{found}")
    style = {"fill": False, "ec": "w", "lw": 0.7, "path_effects": [withStroke(linewidth=1.4, foreground="k")]}
    for axes, peak in zip(row, maps.extra.get("peak", ()), strict=False):
        axes.add_patch(Rectangle((peak - box // 2 - 0.5)[::-1], box, box, **style))
    unit = f"drop in {maps.units}" if maps.method == "occlusion" else maps.units
    row[0].set_ylabel(f"{fill(name, 12)}\n{fill(unit, 14)}", fontsize=6.5)


@print_style
def signed_maps(images: np.ndarray, maps: Maps, labels: Sequence[str], masks: np.ndarray | None = None) -> Figure:
    """Each image beside its map: red speaks for the class, blue against it.

    What speaks for the class is also outlined, what speaks against it dashed, for print in grey. One range for all,
    symmetric about 0. With `masks`, bool (n, size, size), images show lesions' outlines.
    """
    down = -(-len(images) // 2)
    figure, grid = canvas(DOUBLE, 1.75 * down, down, 4, squeeze=False)
    values = np.stack([gaussian_filter(one, 0.012 * len(one)) for one in maps.maps])
    limit = float(np.quantile(np.abs(values), 0.998)) or 1.0
    shown = ScalarMappable(CenteredNorm(0, limit), "RdBu_r")
    pairs = grid.reshape(-1, 2)
    for axes in pairs[len(images) :].flat:
        axes.axis("off")
    for i, (left, right) in enumerate(pairs[: len(images)]):
        draw_image(left, images[i], NAMES.get(labels[i], labels[i]))
        draw_outline(left, None if masks is None else masks[i])
        draw_image(right, images[i], alpha=0.35)
        strength = np.clip(np.abs(values[i]) / limit, 0, 1) ** 0.7
        right.imshow(values[i], cmap="RdBu_r", norm=shown.norm, alpha=strength)
        for level, style in ((limit / 2, "-"), (-limit / 2, "--")):
            draw_outline(right, values[i] > level, "k", style, 0.4)
    _colour_bar(figure, shown, list(grid.flat), maps.units)
    return figure


def _draw_scan(axes: Axes, image: np.ndarray, mask: np.ndarray | None, box: int, title: str) -> None:
    """The image with the occluder's box to scale."""
    draw_image(axes, image, title)
    draw_outline(axes, mask)
    size = len(image)
    axes.add_patch(Rectangle((0.03 * size, 0.97 * size - box), box, box, ec="k", fc="w", lw=0.5))
    back = {"fc": "0.2", "ec": "none", "pad": 0.6}
    axes.text(0.05 * size + box, 0.97 * size - box / 2, f"{box} px", color="w", fontsize=5, va="center", bbox=back)


def _colour_bar(figure: Figure, shown, axes: list[Axes], label: str) -> None:
    bar = figure.colorbar(shown, ax=axes, fraction=0.025, pad=0.01, aspect=14)
    bar.set_label(label, fontsize=6)
    bar.ax.tick_params(labelsize=5.5, length=2)
    bar.outline.set_linewidth(0.4)


# --- methods scored ---------------------------------------------------------------------------------------------------


@print_style
def localisation_curve(curves: pd.DataFrame, by_class: pd.DataFrame) -> Figure:
    """Localisation accuracy against the lesion's size over the box's: does the box find the lesion?

    `curves` has box (its name), centre (of a bin of sizes over the box), value, low, high, chance: one line per box.
    `by_class` has class, lesion size over box (median), localisation accuracy, low, high, for one box.
    """
    figure, axes = canvas(SINGLE * 1.45, 2.7)
    if curves.empty:
        axes.axis("off")
        axes.text(0.5, 0.5, "no lesions are known:\nsupply marks (marks_file)", ha="center", va="center")
        return figure
    for k, ((box, part), mark) in enumerate(zip(curves.groupby("box", sort=False), "os^v", strict=False)):
        part, colour = part.sort_values("centre"), ("0.15", palette.TRAINING, "0.45", "0.65")[k]
        axes.fill_between(part["centre"], part["low"], part["high"], color=colour, alpha=0.12, lw=0)
        axes.plot(part["centre"], part["value"], color=colour, marker=mark, ms=3, label=box)
        axes.plot(part["centre"], part["chance"], color=colour, lw=0.7, ls=":")
    named = by_class[by_class["class"] != "all"].rename(columns={"localisation accuracy": "value"})
    for name, row in named.groupby("class", sort=False):
        colour = CLASSES.get(name, REFERENCE)
        where = (row["lesion size over box (median)"], ("D", colour, colour), NAMES.get(name, name))
        draw_intervals(axes, row, *where, upright=True)
    axes.plot([], [], color=REFERENCE, lw=0.7, ls=":", label="a guess on the retina")
    axes.axvline(1, color=REFERENCE, lw=0.7, ls="--")
    axes.set(ylim=(0, 1.02), xlabel="lesion's size over the box's side", ylabel="localisation accuracy")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(True)
    legend_beside(axes)
    return figure


@print_style
def localisation_scores(panels: Mapping[str, Mapping[str, pd.DataFrame]], guess: str) -> Figure:
    """How well maps find what they should, by label, with intervals, beside a guess (a tick, named `guess`): a panel
    per measure, a mark per way of making the map.

    `panels[title][way]` has label ("all" the last), value, low, high, n, chance, the same labels in all.
    """
    rows = next(way for ways in panels.values() for way in ways.values())
    names = [f"{display_name(row.label)} ({row.n})" for row in rows.itertuples()]
    figure, grid = canvas(DOUBLE, 0.24 * len(rows) + 0.95, 1, len(panels), sharey=True, squeeze=False)
    for axes, (title, ways) in zip(grid[0], panels.items(), strict=True):
        first = next(iter(ways.values()))
        places = draw_forest(axes, ways, names, "share", step=0.3)
        axes.plot(first["chance"], places, "k|", ms=8, mew=1.4, zorder=5, label=guess)
        for place in places[first["value"].isna()]:
            style = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "center", "fontsize": 5.5}
            axes.annotate("too few patients", (0.98, place), **style)
        axes.axhline(len(rows) - 1.5, color=REFERENCE, lw=0.6)
        most = max(one.max() for way in ways.values() for one in (way["high"], way["chance"]))
        axes.set_title(fill(title, 96 // len(panels)), fontsize=7)
        axes.set_xlim(0, min(1, 1.2 * most))
        axes.locator_params(axis="x", nbins=5)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def shares_in_lungs(table: pd.DataFrame) -> Figure:
    """How much of the maps lies in the lungs, by class, beside the lungs' share of the image. `table` from
    `helpers.explain.scores.share_in_lungs`."""
    area = table.loc[table["measure"] == "area", "value"].to_numpy()
    inside = table[table["measure"] == "inside"].assign(chance=area)
    panel = {"share of the map in the lungs": {"size of the gradient": inside}}
    return localisation_scores(panel, "the lungs' share of the image")


LOCATED = {"hit": "peak on the finding", "iou": "best overlap with the finding"}
LOCATED |= {"mass": "share of the map in the finding", "mass within lungs": "the same, of its part in the lungs"}


def located_maps(table: pd.DataFrame) -> Figure:
    """How well each kind of map points at what people marked, beside a baseline and chance: a panel per measure of
    `LOCATED` that the table has. `table` from `helpers.explain.scores.against_baseline`."""
    of = {measure: rows.groupby("map", sort=False) for measure, rows in table.groupby("measure")}
    panels = {title: dict(list(of[measure])) for measure, title in LOCATED.items() if measure in of}
    return localisation_scores(panels, "chance")


@print_style
def deletion_insertion(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Mean probability as pixels are deleted (left) or inserted (right) in each method's order.

    `curves[name]` has image, share, deletion, insertion.
    """
    import seaborn as sns

    figure, grid = canvas(DOUBLE, 2.3, 1, 2, sharey=True)
    table = pd.concat(curves, names=["method"]).reset_index("method").assign(percent=lambda t: 100 * t["share"])
    colours = [REFERENCE if name == "random order" else colour for name, colour in zip(curves, DISTINCT, strict=False)]
    options = {"hue": "method", "style": "method", "palette": colours, "errorbar": None}
    for axes, column, better in zip(grid, ("deletion", "insertion"), ("lower", "higher"), strict=True):
        sns.lineplot(table, x="percent", y=column, **options, ax=axes)
        axes.set(xlabel="pixels changed (%)", title=f"{column}: the {better} the better", ylim=(0, 1.02))
        axes.grid(True)
    grid[0].get_legend().remove()
    grid[0].set_ylabel("mean probability of the label")
    legend_beside(grid[1])
    return figure
