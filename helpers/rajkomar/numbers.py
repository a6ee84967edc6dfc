"""Rajkomar 2017's comparisons of the nine models, the accuracy of the chosen one at a cut-off, and its claims.

Methods: "Validation performance between models was assessed using chi-squared statistics with a significance level of
5 %. To assess the effect of pre-training and different fine-tuning, we pooled the validation accuracy of relevant
models". The 39,856 validation images are the 106 children of 376: that test takes them as independent, so each
comparison is also made with the parent images as units (`metrics.comparison`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from helpers.metrics.classification import Plateau, rates
from helpers.metrics.comparison import PooledComparison, clustered_accuracy, compare_clustered, compare_pooled
from helpers.metrics.estimate import Estimate
from helpers.model.finetune_network import MOMENTUM
from helpers.rajkomar import augmentation, data
from helpers.rajkomar import models as view_models

Model = tuple[str, str]  # pre-training, way of fine-tuning
PRETRAININGS = (COLOUR, FULL, SUBSET) = tuple(view_models.PRETRAININGS)
METHODS = (ORIGINAL, LAST, ALL) = view_models.METHODS


@dataclass(frozen=True)
class Comparison:
    """One of the text's pooled comparisons: the pools, and the ids of the two accuracies and the p value in
    data/published/rajkomar2017.csv."""

    pretraining: tuple[tuple[str, ...], tuple[str, ...]]
    methods: tuple[tuple[str, ...], tuple[str, ...]]
    claims: tuple[str, str, str]

    @property
    def of_pretraining(self) -> bool:
        """True where pre-trainings are compared, False where ways of fine-tuning are."""
        return self.methods[0] == self.methods[1]

    def available(self, models: Collection[Model]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The pre-trainings of either side for which `models` holds all that this comparison needs."""
        needed = {*self.methods[0], *self.methods[1]}
        return tuple(tuple(n for n in side if all((n, m) in models for m in needed)) for side in self.pretraining)


# "Pre-training with greyscale ImageNet data (either full or subset) led to higher validation accuracy [...] (99.5 vs
# 93.2)"; "full-greyscale [...] compared to [...] subset-greyscale (99.6 vs 99.3)"; "fully connected layers with the
# augmented training set [...] than the non-augmented (95.2 vs 93.4)"; "all layers [...] compared to only the fully
# connected layers (99.6 vs 95.2)"; "limited to the greyscale models [...] (99.7 vs 99.2)".
COMPARISONS = {
    "greyscale vs colour": Comparison(
        ((FULL, SUBSET), (COLOUR,)), (METHODS, METHODS), ("pooled.grey", "pooled.color", "pooled.grey_color.p")
    ),
    "full vs subset greyscale": Comparison(
        ((FULL,), (SUBSET,)), (METHODS, METHODS), ("pooled.full_grey", "pooled.subset_grey", "pooled.full_subset.p")
    ),
    "augmented vs original, last layer": Comparison(
        (PRETRAININGS, PRETRAININGS),
        ((LAST,), (ORIGINAL,)),
        ("pooled.head_augmented", "pooled.head_original", "pooled.augmentation.p"),
    ),
    "all layers vs last layer, augmented": Comparison(
        (PRETRAININGS, PRETRAININGS),
        ((ALL,), (LAST,)),
        ("pooled.all_augmented", "pooled.head_augmented", "pooled.layers.p"),
    ),
    "all layers vs last layer, greyscale": Comparison(
        ((FULL, SUBSET), (FULL, SUBSET)),
        ((ALL,), (LAST,)),
        ("pooled.grey_all", "pooled.grey_head", "pooled.grey_layers.p"),
    ),
}


@dataclass(frozen=True)
class Answer:
    """One of `COMPARISONS` in a run: the pre-trainings that ran, either side; the paper's chi-squared test and the one
    by parent (None where a side is empty); and the pre-trainings of the text's pools that did not run."""

    pretraining: tuple[tuple[str, ...], tuple[str, ...]]
    tests: tuple[PooledComparison, PooledComparison] | None
    missing: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """True where the pools are the text's own, so that its numbers may be compared with these."""
        return self.tests is not None and not self.missing

    @property
    def order(self) -> str:
        """Whether the first pool is the better one, as in each of the text's comparisons, and whether that is
        significant by parent; or what is missing."""
        if self.tests is None:
            return f"not run: no {' and no '.join(self.missing)} pre-training"
        paper, by_parent = self.tests
        order = "as in the paper" if paper.a.value > paper.b.value else "not as in the paper"
        order = "equal" if paper.a.value == paper.b.value else order
        order += "" if by_parent.p < 0.05 else ", not significant by parent"
        return f"{order}; {' and '.join(self.missing)} not run" if self.missing else order


def validation_results(validation: pd.DataFrame) -> dict[Model, pd.DataFrame]:
    """For each model that ran, one row per validation image: parent, and correct by "top prediction", as in figure 2.

    "For the models fine-tuned on original radiographs, validation sets consisted of 376 original radiographs. For
    models fine-tuned on augmented radiographs, validation sets consisted of 39,856 augmented radiographs".
    """
    right = (validation["p_frontal"] >= 0.5) == (validation["label"] == "frontal")
    own = (validation["on"] == "originals") == (validation["method"] == ORIGINAL)
    table = validation.assign(correct=right)[own]
    return {model: rows for model, rows in table.groupby(["pretraining", "method"], sort=False)}


def validation_accuracies(results: Mapping[Model, pd.DataFrame]) -> dict[Model, Estimate | None]:
    """Validation accuracy of the nine, in figure 2's order, None for one that did not run; intervals by parent, for the
    children of one radiograph are not independent."""
    nine = [(name, method) for name in PRETRAININGS for method in METHODS]
    return {
        model: clustered_accuracy(results[model]["correct"], results[model]["parent"]) if model in results else None
        for model in nine
    }


def compare_models(results: Mapping[Model, pd.DataFrame]) -> dict[str, Answer]:
    """Each of `COMPARISONS` by the paper's chi-squared test and by parent, over the pre-trainings that ran.

    Ways of fine-tuning are compared within the same pre-trainings, so one is enough; pre-trainings need one each side.
    """
    answers = {}
    for name, comparison in COMPARISONS.items():
        sides = comparison.available(results)
        needed = {*comparison.pretraining[0], *comparison.pretraining[1]} - {*sides[0], *sides[1]}
        tests = None
        if all(sides):
            pools = [_pool(results, sides[k], comparison.methods[k]) for k in (0, 1)]
            counts = [number for pool in pools for number in (int(pool["correct"].sum()), len(pool))]
            columns = [pool[column] for pool in pools for column in ("correct", "parent")]
            tests = compare_pooled(*counts), compare_clustered(*columns)
        answers[name] = Answer(sides, tests, tuple(name for name in PRETRAININGS if name in needed))
    return answers


def _pool(results: Mapping[Model, pd.DataFrame], names: Iterable[str], methods: Iterable[str]) -> pd.DataFrame:
    """ "the validation performance of a pre-trained color ImageNet model was obtained by pooling the performance of the
    three fine-tuned models that used" it."""
    return pd.concat([results[name, method] for name in names for method in methods], ignore_index=True)


def comparison_table(answers: Mapping[str, Answer]) -> pd.DataFrame:
    """One row per comparison, with the paper's test and the one by parent, and whether the order is the paper's."""
    rows = []
    for name, answer in answers.items():
        row = {"comparison": name}
        if answer.tests is not None:
            paper, by_parent = answer.tests
            row |= {"first": paper.a.value, "second": paper.b.value, "difference": by_parent.difference.value}
            row |= {"low": by_parent.difference.low, "high": by_parent.difference.high, "p": paper.p}
            row |= {"p by parent": by_parent.p, "design effect": by_parent.design_effect}
        rows.append(row | {"order": answer.order})
    return pd.DataFrame(rows)


def describe_ordering(answers: Mapping[str, Answer]) -> str:
    """In a sentence, whether the grid shows the paper's ordering: every comparison as published, by parent."""
    agreeing = [name for name, answer in answers.items() if answer.whole and answer.order == "as in the paper"]
    partial = sum(bool(answer.missing) for answer in answers.values())
    shown = "shown" if len(agreeing) == len(answers) else "not shown"
    names = f": {', '.join(agreeing)}" if 0 < len(agreeing) < len(answers) else ""
    missing = f"; {partial} lack pre-trainings that did not run" if partial else ""
    return (
        f"The paper's ordering is {shown}: {len(agreeing)} of its {len(answers)} comparisons are as published and "
        f"significant by parent{names}{missing}."
    )


# --- the chosen model -------------------------------------------------------------------------------------------------


def rates_at(scores: pd.DataFrame, cutoff: float) -> dict[str, Estimate]:
    """Accuracy on all, on frontal and on lateral images at a cut-off, with Clopper-Pearson intervals.

    "images with a PFI >= J would be classified as a frontal image; otherwise [...] as a lateral".
    """
    found = rates((scores["label"] == "frontal").to_numpy(), (scores["p_frontal"] >= cutoff).to_numpy())
    return {"all images": found["accuracy"], "frontal": found["sensitivity"], "lateral": found["specificity"]}


def extreme_images(scores: pd.DataFrame, each: int = 2) -> pd.DataFrame:
    """The `each` images per view with the highest and with the lowest frontal probability, no image twice; rows of
    `scores`, frontal first."""
    kept = []
    for label in ("frontal", "lateral"):
        ranked = scores[scores["label"] == label].sort_values(["p_frontal", "image_id"], ascending=False)
        kept.append(pd.concat([ranked.head(each), ranked.tail(each)]).drop_duplicates("image_id"))
    return pd.concat(kept, ignore_index=True)


def split_by_site(scores: pd.DataFrame, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The scores of each site's images, where `frame` (the split frame) knows sites; else none."""
    if "site" not in frame.columns:
        return []
    sites = scores["image_id"].map(frame.set_index("image_id")["site"])
    return [(str(name), part) for name, part in scores.groupby(sites)]


# --- claims, by their ids in data/published/rajkomar2017.csv ----------------------------------------------------------

HEADINGS = dict(zip(data.TRANSFORMS, ("original", "labeled", "rotated", "top_half", "crop"), strict=True))


def pooled_claims(answers: Mapping[str, Answer]) -> dict[str, Estimate]:
    """The text's five comparisons: two accuracies and a p value each, with parents as units. One over part of the
    text's pre-trainings answers another question than the printed number, and is no claim."""
    claims = {}
    for name, comparison in COMPARISONS.items():
        if answers[name].whole:
            found = answers[name].tests[1]
            values = found.a, found.b, Estimate.exact(found.p, "t test by parent")
            claims |= {f"view.{claim}": value for claim, value in zip(comparison.claims, values, strict=True)}
    return _with_ids(claims)


def transform_claims(frontal: Mapping[str, Mapping[str, float]]) -> dict[str, Estimate]:
    """Figure 6's table: `frontal[actual class][heading]` is the frontal probability of that image."""
    claims = {"versions": Estimate.exact(len(HEADINGS) - 1), "sum": Estimate.exact(1.0)}
    for label, values in frontal.items():
        claims[f"{label}_images"] = Estimate.exact(1)
        for heading, name in HEADINGS.items():
            claims[f"{label}.{name}.frontal"] = Estimate.exact(values[heading], "one image")
            claims[f"{label}.{name}.lateral"] = Estimate.exact(1 - values[heading], "one image")
    return _with_ids({f"transformed.{name}": value for name, value in claims.items()})


def assessment_claims(
    validation: Estimate, at_cutoff: Mapping[str, Estimate], public: Estimate | None, plateau: Plateau, speed: Any
) -> dict[str, Estimate]:
    """Results, Model Selection and Model Assessment. `validation`: accuracy of the chosen model; `public`: accuracy on
    another hospital's images, where there are some; `speed`: a row of images and images_per_second."""
    on_test = "on the test set, as the paper"
    claims = {
        "view.validation.accuracy": validation,
        "view.test.accuracy": at_cutoff["all images"],
        "view.cutoff": Estimate.exact(plateau.cutoff, on_test),
        "view.cutoff_range.low": Estimate.exact(plateau.low, on_test),
        "view.cutoff_range.high": Estimate.exact(plateau.high, on_test),
        "view.lateral_highest": Estimate.exact(plateau.largest_negative, "largest of the lateral images"),
        "view.frontal_lowest": Estimate.exact(plateau.smallest_positive, "smallest of the frontal images"),
        "view.speed": Estimate.exact(speed["images_per_second"], "timed once", int(speed["images"])),
    }
    return _with_ids(claims | ({"view.public.accuracy": public} if public is not None else {}))


def design_claims(counts: Mapping[str, int], summary: Mapping[str, Any], children: int) -> dict[str, Estimate]:
    """How the study was made: counts of figure 1 (see `rajkomar_flow.COUNTS`), and settings that are in code."""
    claims: dict[str, float] = {
        "data.bits": 8,
        "setting.image_size": summary["image size"],
        "setting.learning_rate_factor": 10,
        "setting.learning_rate_every": summary["epochs a rate"],
        "setting.batch": view_models.BATCH,
        "setting.momentum": MOMENTUM,
        "setting.weight_decay": view_models.WEIGHT_DECAY,
        "setting.finetuning_rate_head": view_models.RATE_HEAD,
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
        "finetuning.methods": len(METHODS),
        "finetuning.models": summary["models"],
        "finetuning.pooled_models": len(METHODS),
        "model.outputs": 2,
        "figure_3.bin": 0.01,
        "figure_5.step": 0.001,
        "figure_5.from": 0,
        "figure_5.to": 1,
        "transformed.rotation": data.TURN,
        "transformed.zoom": data.ZOOM,
    }
    if "external" in counts:
        claims["data.public_images"] = counts["external"]
    if summary["backbone"] == "GoogLeNet":
        claims |= {"backbone.layers": 22, "backbone.modules": 9}
    return _with_ids({name: Estimate.exact(value, "of this run") for name, value in claims.items()})


def _with_ids(claims: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {f"rajkomar2017.{name}": value for name, value in claims.items()}
