"""What the view study obtained for each number of Rajkomar 2017, by its id in data/published/rajkomar2017.csv."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from helpers.metrics.estimate import Estimate
from helpers.metrics.youden import Plateau
from helpers.rajkomar import augmentation, robustness, views
from helpers.run.claims import exact

if TYPE_CHECKING:
    import pandas as pd

HEADINGS = dict(zip(robustness.TRANSFORMS, ("original", "labeled", "rotated", "top_half", "crop"), strict=True))


def pooled(compared: Mapping[str, views.Answer]) -> dict[str, Estimate]:
    """The text's five comparisons: two accuracies and a p value each, with parents as units. One over part of the
    text's pre-trainings answers another question than the printed number, and is no claim."""
    made = {}
    for name, comparison in views.COMPARISONS.items():
        if compared[name].whole:
            first, second, p = (f"view.{claim}" for claim in comparison.claims)
            honest = compared[name].tests[1]
            made |= {first: honest.a, second: honest.b, p: exact(honest.p, "t test by parent")}
    return _ids(made)


def transformed(said: Mapping[str, Mapping[str, float]]) -> dict[str, Estimate]:
    """Figure 6's table: `said[actual class][heading]` is the frontal probability of that image."""
    made = {"transformed.versions": exact(len(HEADINGS) - 1), "transformed.sum": exact(1.0)}
    for label, values in said.items():
        made[f"transformed.{label}_images"] = exact(1)
        for heading, name in HEADINGS.items():
            made[f"transformed.{label}.{name}.frontal"] = exact(values[heading], "one image")
            made[f"transformed.{label}.{name}.lateral"] = exact(1 - values[heading], "one image")
    return _ids(made)


def assessed(
    accuracies: Mapping[views.Model, Estimate | None],
    chosen: views.Model,
    at_cutoff: Mapping[str, Estimate],
    public: Estimate | None,
    plateau: Plateau,
    speed: pd.DataFrame,
) -> dict[str, Estimate]:
    """Results, Model Selection and Model Assessment. `public`: accuracy on another hospital's images, where there are
    some; `speed`: columns images, images_per_second."""
    made = {
        "view.validation.accuracy": accuracies[chosen],
        "view.test.accuracy": at_cutoff["all images"],
        "view.cutoff": exact(plateau.cutoff, "on the test set, as the paper"),
        "view.cutoff_range.low": exact(plateau.low, "on the test set, as the paper"),
        "view.cutoff_range.high": exact(plateau.high, "on the test set, as the paper"),
        "view.lateral_highest": exact(plateau.largest_negative, "largest of the lateral images"),
        "view.frontal_lowest": exact(plateau.smallest_positive, "smallest of the frontal images"),
        "view.speed": exact(speed["images_per_second"].iloc[0], "timed once", int(speed["images"].iloc[0])),
    }
    return _ids(made | ({"view.public.accuracy": public} if public is not None else {}))


def laid_out(counts: Mapping[str, int], summary: Mapping[str, Any], children: int) -> dict[str, Estimate]:
    """How the study was made: counts of figure 1 (see `plots.rajkomar_flow.COUNTS`), and settings that are in code."""
    made: dict[str, float] = {
        "data.bits": 8,
        "setting.image_size": summary["image size"],
        "setting.learning_rate_factor": 10,
        "setting.learning_rate_every": summary["epochs a rate"],
        "setting.significance": 0.05,
        "augmentation.rotation": 2,
        "augmentation.rotation_quarter": 90,
        "augmentation.translation": augmentation.SHIFT,
        "augmentation.neighborhood": 2,
        "augmentation.neighborhood_large": 5,
        "augmentation.children": children,
        "augmentation.train_images": counts["train children"],
        "augmentation.validation_images": counts["validation children"],
        "pretraining.models": len(summary["weights"]),
        "pretraining.grey_models": sum("grey" in name for name in summary["weights"]),
        "finetuning.methods": len(views.METHODS),
        "finetuning.models": summary["models"],
        "finetuning.pooled_models": len(views.METHODS),
        "model.outputs": 2,
        "figure_3.bin": 0.01,
        "figure_5.step": 0.001,
        "figure_5.from": 0,
        "figure_5.to": 1,
        "transformed.rotation": robustness.TURN,
        "transformed.zoom": robustness.ZOOM,
    }
    if "external" in counts:
        made["data.public_images"] = counts["external"]
    if summary["backbone"] == "GoogLeNet":
        made |= {"backbone.layers": 22, "backbone.modules": 9}
    return _ids({name: exact(value, "of this run") for name, value in made.items()})


def _ids(made: Mapping[str, Estimate | None]) -> dict[str, Estimate]:
    return {f"rajkomar2017.{name}": value for name, value in made.items() if value is not None}
