"""Carr 2020, figure 1: the workflow of training and assessment, with this run's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from helpers.plots.style import DOUBLE, canvas, print_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ARROW = {"arrowstyle": "-|>", "color": "0.25", "lw": 1.0, "mutation_scale": 9, "shrinkA": 0, "shrinkB": 0}
FILLS = ("#F6E3B4", "#CFE6F5", "#A9CBE6")  # from light to dark, as more is learnt
COUNTS = ("bridge", "subjects", "target", "held back")


@print_style
def workflow(
    backbone: str, weights: str, bridge: Sequence[str], target: Sequence[str], counts: Mapping[str, int], made: str
) -> Figure:
    """Figure 1: "Training and Assessment workflow. The algorithm is initialised with Natural images, finetunes with
    same-modality images, and final training on the target dataset expanded with augmented images. The algorithm outputs
    saliency maps and predictions for any inputted images."

    `bridge` and `target` are the classes of each, `counts` this run's numbers (`COUNTS`: images of the bridge, target
    subjects a class, target images a class after augmentation, held-back images), `made` what explains: "saliency
    maps", "SHAP maps". Raises `ValueError` for a missing count.
    """
    if missing := [name for name in COUNTS if name not in counts]:
        raise ValueError(f"no count of {', '.join(missing)}")
    figure, axes = canvas(DOUBLE, 2.35)
    axes.set(xlim=(0, 100), ylim=(0, 40))
    axes.axis("off")
    each = f"{counts['subjects']:,} subjects a class,\n{counts['target']:,} images with augmentation"
    steps = (
        (
            "1  natural images",
            f"initialised with\nweights '{weights}'",
            _natural(weights),
        ),
        ("2  bridge", f"fine-tuned on\n{counts['bridge']:,} images", ", ".join(bridge)),
        ("3  target", f"trained on\n{each}", ", ".join(target)),
    )
    for place, (title, text, classes) in enumerate(steps):
        x = 2 + 25.5 * place
        _box(axes, x, 15, 22, 19, FILLS[place])
        axes.text(x + 11, 31, title, ha="center", va="center", fontsize=8, fontweight="bold")
        axes.text(x + 11, 25, text, ha="center", va="center", fontsize=6.5, linespacing=1.4)
        axes.text(x + 11, 18, _broken(classes), ha="center", va="center", fontsize=6, color="0.25", style="italic")
        _arrow(axes, (x + 22, 24.5), (x + 25.5 if place < 2 else x + 24.5, 24.5))
    _box(axes, 77.5, 15, 20.5, 19, "0.93")
    axes.text(87.75, 31, "assessment", ha="center", va="center", fontsize=8, fontweight="bold")
    told = f"{counts['held back']:,} held-back images\n\npredictions,\n{made}"
    axes.text(87.75, 23, told, ha="center", va="center", fontsize=6.5, linespacing=1.4)
    axes.annotate("", (75, 9), (2, 9), arrowprops=ARROW | {"color": "0.55", "lw": 0.8})
    words = f"one network ({backbone}): general image recognition, then domain-specific features, then the target"
    axes.text(38.5, 5, words, ha="center", va="center", fontsize=6.5, color="0.3")
    return figure


def _natural(weights: str) -> str:
    """What the first step saw, where its name says it."""
    if weights.startswith("formula"):
        return "images made from formulas, in the place of photographs"
    return {"imagenet": "photographs: ImageNet", "none": "nothing: drawn at random"}.get(
        weights, "images of another set"
    )


def _broken(text: str) -> str:
    """A list of classes on two lines where it is long."""
    words = text.split(", ")
    if len(words) == 2 and len(text) > 26:
        return f"{words[0]},\n{words[1]}"
    half = -(-len(words) // 2)
    return text if len(text) < 26 else ", ".join(words[:half]) + ",\n" + ", ".join(words[half:])


def _box(axes: Axes, x: float, y: float, width: float, height: float, fill: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=1.2"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, fc=fill, ec="0.3", lw=0.8))


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops=ARROW)
