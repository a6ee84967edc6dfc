"""Rajkomar 2017's comparisons of the nine models, and the accuracy of the chosen one at a cut-off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from helpers.metrics.chi_squared import ClusteredComparison, PooledComparison, clustered_accuracy, compare_pools
from helpers.metrics.classification import rates
from helpers.metrics.estimate import Estimate
from helpers.model import view_models

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

    def pool(self, side: int) -> list[Model]:
        return [(name, method) for name in self.pretraining[side] for method in self.methods[side]]


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


def results(validation: pd.DataFrame) -> dict[Model, pd.DataFrame]:
    """Of each model that ran, a row a validation image: parent, and correct by "top prediction", as in figure 2.

    "For the models fine-tuned on original radiographs, validation sets consisted of 376 original radiographs. For
    models fine-tuned on augmented radiographs, validation sets consisted of 39,856 augmented radiographs".
    """
    right = (validation["p_frontal"] >= 0.5) == (validation["label"] == "frontal")
    mine = (validation["on"] == "originals") == (validation["method"] == ORIGINAL)
    table = validation.assign(correct=right)[mine]
    return {model: rows for model, rows in table.groupby(["pretraining", "method"], sort=False)}


def accuracies(found: Mapping[Model, pd.DataFrame]) -> dict[Model, Estimate | None]:
    """Validation accuracy of the nine, in figure 2's order, None for one that did not run; intervals by parent, for the
    children of one radiograph are not independent."""
    nine = [(name, method) for name in PRETRAININGS for method in METHODS]
    return {
        model: clustered_accuracy(found[model]["correct"], found[model]["parent"]) if model in found else None
        for model in nine
    }


def compared(
    found: Mapping[Model, pd.DataFrame],
) -> dict[str, tuple[PooledComparison, ClusteredComparison] | None]:
    """Each of `COMPARISONS` by the paper's chi-squared test and by parent; None where one of its models is missing."""
    made = {}
    for name, comparison in COMPARISONS.items():
        a, b = comparison.pool(0), comparison.pool(1)
        made[name] = compare_pools(found, a, b) if set(a + b) <= set(found) else None
    return made


def comparison_table(made: Mapping[str, tuple[PooledComparison, ClusteredComparison] | None]) -> pd.DataFrame:
    """For the report: a row a comparison, with the paper's test and the one by parent, and whether the order is the
    paper's (its first pool is the better one)."""
    rows = []
    for name, both in made.items():
        if both is None:
            rows.append({"comparison": name, "order": "not run"})
            continue
        paper, honest = both
        order = "as in the paper" if paper.a.value > paper.b.value else "not as in the paper"
        told = order if honest.p < 0.05 else f"{order}, not significant by parent"
        low, high = honest.difference.low, honest.difference.high
        shares = {"first": paper.a.value, "second": paper.b.value, "difference": honest.difference.value}
        tests = {"low": low, "high": high, "p": paper.p, "p by parent": honest.p, "design effect": honest.design_effect}
        rows.append({"comparison": name, **shares, **tests, "order": told})
    return pd.DataFrame(rows)


def at_cutoff(scores: pd.DataFrame, cutoff: float) -> dict[str, Estimate]:
    """Accuracy, and the shares of frontal and of lateral images that are right, with Clopper-Pearson intervals.

    "images with a PFI >= J would be classified as a frontal image; otherwise [...] as a lateral".
    """
    found = rates((scores["label"] == "frontal").to_numpy(), (scores["p_frontal"] >= cutoff).to_numpy())
    return {"all images": found["accuracy"], "frontal": found["sensitivity"], "lateral": found["specificity"]}


def extremes(scores: pd.DataFrame, each: int = 2) -> pd.DataFrame:
    """Of each view, the `each` images with the highest and the `each` with the lowest frontal probability, no image
    twice; rows of `scores`, frontal first."""
    kept = []
    for label in ("frontal", "lateral"):
        ranked = scores[scores["label"] == label].sort_values(["p_frontal", "image_id"], ascending=False)
        kept.append(pd.concat([ranked.head(each), ranked.tail(each)]).drop_duplicates("image_id"))
    return pd.concat(kept, ignore_index=True)


def by_site(scores: pd.DataFrame, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The scores of each site's images, where `frame` (the split frame) knows sites; else none."""
    if "site" not in frame.columns:
        return []
    sites = scores["image_id"].map(frame.set_index("image_id")["site"])
    return [(str(name), part) for name, part in scores.groupby(sites)]
