"""Flow charts: boxes with words, and arrows between them, on a canvas of 100 by 100 units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.plots.style import DOUBLE, canvas, print_style

Point = tuple[float, float]
GREY, BLUE = "0.9", "#CFE6F5"
ARROW = {"arrowstyle": "-|>", "color": "0.3", "lw": 0.9, "mutation_scale": 8, "shrinkA": 0, "shrinkB": 0}


@dataclass(frozen=True)
class Box:
    """A box with its centre at (x, y): a bold title, words below it, filled. `dashed` marks what did not run."""

    x: float
    y: float
    width: float
    height: float
    text: str
    title: str = ""
    fill: str = "white"
    dashed: bool = False


@print_style
def draw_flowchart(
    boxes: Mapping[str, Box],
    arrows: Sequence[tuple[str, str] | Sequence[Point]],
    height: float,
    notes: Sequence[tuple[float, float, str, dict]] = (),
) -> Figure:
    """A flow chart two columns wide and `height` inches high.

    An arrow is either the names of two boxes, joined straight down or across, or the points (x, y) it runs through. A
    note is (x, y, words, options of the text): words without a box.
    """
    figure, axes = canvas(DOUBLE, height)
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.axis("off")
    for box in boxes.values():
        draw_box(axes, box)
    for arrow in arrows:
        draw_arrow(axes, *(between(*(boxes[name] for name in arrow)) if isinstance(arrow[0], str) else arrow))
    for x, y, text, options in notes:
        axes.text(x, y, text, **{"ha": "center", "va": "center", "color": "0.3", "fontsize": 6} | options)
    return figure


def draw_box(axes: Axes, box: Box) -> None:
    """One box; title and words are set as one block, centred."""
    from matplotlib.patches import FancyBboxPatch

    edge = {"ec": "0.6" if box.dashed else "0.35", "ls": "--" if box.dashed else "-", "lw": 0.8}
    corner = (box.x - box.width / 2, box.y - box.height / 2)
    axes.add_patch(FancyBboxPatch(corner, box.width, box.height, "round,pad=0,rounding_size=0.8", fc=box.fill, **edge))
    style = {"ha": "center", "fontsize": 6, "linespacing": 1.35, "color": "0.5" if box.dashed else "k"}
    if not box.title:
        axes.text(box.x, box.y, box.text, va="center", **style)
        return
    top = {"xytext": (0, -2), "textcoords": "offset points"}
    title = axes.annotate(box.title, (box.x, box.y + box.height / 2), **top, va="top", **style | {"fontsize": 7})
    title.set_fontweight("bold")
    below = {"xycoords": title, "xytext": (0, -2), "textcoords": "offset points"}
    axes.annotate(box.text, (0.5, 0), **below, va="top", **style)


def between(start: Box, end: Box) -> tuple[Point, Point]:
    """Where a straight arrow leaves one box and meets another: vertical where one lies above the other, else across."""
    if abs(start.x - end.x) < max(start.width, end.width) / 2:
        x, way = min(start, end, key=lambda box: box.width).x, 1 if end.y > start.y else -1
        return (x, start.y + way * start.height / 2), (x, end.y - way * end.height / 2)
    y, way = start.y, 1 if end.x > start.x else -1
    return (start.x + way * start.width / 2, y), (end.x - way * end.width / 2, y)


def draw_arrow(axes: Axes, *points: Point) -> None:
    """A line through the points, with its head at the last."""
    axes.plot(*zip(*points[:-1], strict=True), color=ARROW["color"], lw=ARROW["lw"])
    axes.annotate("", points[-1], points[-2], arrowprops=ARROW)
