"""Rajkomar 2017, figure 1: from collected images to a chosen model, with this run's counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from helpers.plots.style import DOUBLE, canvas, print_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What `flow` can be told, and what each count is of. All are this run's own: a published count belongs in a claim.
COUNTS = {
    "colour": "images of the colour pre-training",
    "full grey": "images of the full grey pre-training",
    "subset grey": "images of the subset grey pre-training",
    "collected": "radiographs found",
    "patients": "their patients",
    "excluded": "radiographs set aside",
    "train": "training radiographs",
    "validation": "validation radiographs",
    "test": "test radiographs",
    "train children": "children of the training radiographs",
    "validation children": "children of the validation radiographs",
    "external": "radiographs of the second test set",
}
ARROW = {"arrowstyle": "-|>", "color": "0.3", "lw": 0.8, "shrinkA": 0, "shrinkB": 0}


@print_style
def flow(
    counts: Mapping[str, int],
    pretraining_source: str,
    radiographs_source: str,
    external_source: str = "",
    models: str = "9 models: 3 pre-trainings x 3 ways of fine-tuning",
) -> Figure:
    """Figure 1: "White rectangular boxes indicate numbers of images [...]. Image processing and labeling steps are in
    grey rectangular boxes".

    `counts` has keys of `COUNTS`; one that is left out is drawn dashed, as *not run*. The sources name what was used
    ("images made from formulas"), `models` what was trained. Raises `ValueError` for another key.
    """
    unknown = sorted(set(counts) - set(COUNTS))
    if unknown:
        raise ValueError(f"counts: {', '.join(unknown)} not one of {', '.join(COUNTS)}")
    figure, axes = canvas(DOUBLE, 4.1)
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.axis("off")
    _pretraining(axes, counts, pretraining_source)
    _radiographs(axes, counts, radiographs_source)
    _external(axes, counts, external_source)
    _evaluation(axes, models)
    return figure


def _pretraining(axes: Axes, counts: Mapping[str, int], source: str) -> None:
    _heading(axes, 14, "pre-training images", source)
    for y, key in ((84, "colour"), (73, "full grey"), (62, "subset grey")):
        _count(axes, 14, y, 20, key, counts, key)
        _arrow(axes, (4, y), (1, y), (1, 46), (4, 46))
    _step(axes, 14, 46, 20, "pre-training:\na network each")
    _arrow(axes, (14, 41.5), (14, 19.5), (36, 19.5))


def _radiographs(axes: Axes, counts: Mapping[str, int], source: str) -> None:
    _heading(axes, 54, "chest radiographs", source)
    patients = f" of {counts['patients']:,} patients" if "patients" in counts else ""
    _count(axes, 54, 84, 40, "collected", counts, "", f"images{patients}")
    _step(axes, 54, 71.5, 40, "labelled frontal or lateral; unreadable set aside" + _excluded(counts))
    _arrow(axes, (54, 79.5), (54, 75.9))
    for x, key in ((40.5, "train"), (56, "validation"), (71.5, "test")):
        _count(axes, x, 57.5, 13.5, key, counts, {"train": "training"}.get(key, key))
        _arrow(axes, (x, 67), (x, 62.1))
    _step(axes, 48.25, 45, 29, "augmentation: each image's children")
    for x, key in ((40.5, "train children"), (56, "validation children")):
        _arrow(axes, (x, 52.9), (x, 49.5))
        _count(axes, x, 33.5, 13.5, key, counts, "training" if x < 50 else "validation", "children")
        _arrow(axes, (x, 40.5), (x, 38.1))
        _arrow(axes, (x, 28.9), (x, 26.1))
    _arrow(axes, (33.75, 57.5), (30.5, 57.5), (30.5, 24), (36, 24))
    axes.text(29.8, 40, "original images", rotation=90, ha="right", va="center", fontsize=5.5, color="0.3")


def _external(axes: Axes, counts: Mapping[str, int], source: str) -> None:
    _heading(axes, 90, "second test set", source)
    _count(axes, 90, 84, 18, "external", counts, "")
    if "external" in counts:
        _step(axes, 90, 71.5, 18, "labelled frontal\nor lateral")
        _arrow(axes, (90, 79.5), (90, 76))
        _arrow(axes, (90, 67), (90, 8.5), (84, 8.5))


def _evaluation(axes: Axes, models: str) -> None:
    _step(axes, 54, 21.5, 36, f"fine-tuning\n{models}")
    _step(
        axes, 54, 8.5, 60, "the model with the highest validation accuracy, then its cut-off, judged on the test sets"
    )
    _arrow(axes, (54, 17), (54, 13))
    _arrow(axes, (75, 52.9), (75, 13))


def _excluded(counts: Mapping[str, int]) -> str:
    return f": {counts['excluded']:,}" if "excluded" in counts else ""


def _heading(axes: Axes, x: float, title: str, source: str) -> None:
    axes.text(x, 97, title, ha="center", va="center", fontweight="bold", fontsize=7.5)
    axes.text(x, 92.5, source, ha="center", va="center", fontsize=6, color="0.3")


def _count(
    axes: Axes, x: float, y: float, width: float, key: str, counts: Mapping[str, int], title: str, what: str = "images"
) -> None:
    known = key in counts
    said = f"{counts[key]:,} {what}" if known else "not run"
    text = f"{title}\n{said}" if title else said
    style = {"fc": "white", "ec": "0.2" if known else "0.6", "ls": "-" if known else "--"}
    _box(axes, x, y, width, text, style, "k" if known else "0.5")


def _step(axes: Axes, x: float, y: float, width: float, text: str) -> None:
    _box(axes, x, y, width, text, {"fc": "0.88", "ec": "0.4"}, "k")


def _box(axes: Axes, x: float, y: float, width: float, text: str, style: Mapping, colour: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x - width / 2, y - 4.5), width, 9, lw=0.8, **style))
    axes.text(x, y, text, ha="center", va="center", fontsize=6, linespacing=1.3, color=colour)


def _arrow(axes: Axes, *points: tuple[float, float]) -> None:
    """A line through the points with its head at the last."""
    for start, end in zip(points[:-2], points[1:-1], strict=True):
        axes.plot(*zip(start, end, strict=True), color=ARROW["color"], lw=ARROW["lw"], solid_capstyle="butt")
    axes.annotate("", points[-1], points[-2], arrowprops=ARROW)
