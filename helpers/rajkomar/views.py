"""Rajkomar 2017's comparisons of the nine models, and the accuracy of the chosen one at a cut-off."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from helpers.metrics.classification import rates
from helpers.metrics.estimate import Estimate
from helpers.rajkomar import models as view_models
from helpers.rajkomar.chi_squared import ClusteredComparison, PooledComparison, clustered_accuracy, compare_pools

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

    def ran(self, models: Collection[Model]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The pre-trainings of either side of which all that this comparison needs is among `models`."""
        needed = {*self.methods[0], *self.methods[1]}
        sides = [tuple(n for n in side if all((n, m) in models for m in needed)) for side in self.pretraining]
        return sides[0], sides[1]

    def pool(self, side: int, pretraining: Collection[str]) -> list[Model]:
        return [(name, method) for name in pretraining for method in self.methods[side]]


@dataclass(frozen=True)
class Answer:
    """What a run says to one of `COMPARISONS`: the pre-trainings that ran, either side, the paper's test and the one by
    parent (None where a side is empty), and the pre-trainings of the text's pools that did not run."""

    pretraining: tuple[tuple[str, ...], tuple[str, ...]]
    tests: tuple[PooledComparison, ClusteredComparison] | None
    missing: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """True where the pools are the text's own, so that its numbers may be held beside these."""
        return self.tests is not None and not self.missing

    def order(self) -> str:
        """Whether the first pool is the better one, as in each of the text's comparisons, and whether the test by
        parent can tell; or what is missing."""
        if self.tests is None:
            return f"not run: no {' and no '.join(self.missing)} pre-training"
        paper, honest = self.tests
        order = "as in the paper" if paper.a.value > paper.b.value else "not as in the paper"
        order = "equal" if paper.a.value == paper.b.value else order
        told = order if honest.p < 0.05 else f"{order}, not significant by parent"
        return f"{told}; {' and '.join(self.missing)} not run" if self.missing else told

    @property
    def as_published(self) -> bool:
        """The order is the paper's, over its own pools, and significant by parent."""
        return self.whole and self.tests[0].a.value > self.tests[0].b.value and self.tests[1].p < 0.05


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


def compared(found: Mapping[Model, pd.DataFrame]) -> dict[str, Answer]:
    """Each of `COMPARISONS` by the paper's chi-squared test and by parent, over the pre-trainings that ran.

    Ways of fine-tuning are compared within the same pre-trainings, so one is enough; pre-trainings need one each side.
    """
    made = {}
    for name, comparison in COMPARISONS.items():
        sides = comparison.ran(found)
        named, there = ({*pair[0], *pair[1]} for pair in (comparison.pretraining, sides))
        missing = tuple(name for name in PRETRAININGS if name in named - there)
        pools = [comparison.pool(side, sides[side]) for side in (0, 1)]
        made[name] = Answer(sides, compare_pools(found, *pools) if all(pools) else None, missing)
    return made


def comparison_table(made: Mapping[str, Answer]) -> pd.DataFrame:
    """For the report: a row a comparison, with the paper's test and the one by parent, and whether the order is the
    paper's (its first pool is the better one)."""
    rows = []
    for name, answer in made.items():
        if answer.tests is None:
            rows.append({"comparison": name, "order": answer.order()})
            continue
        paper, honest = answer.tests
        low, high = honest.difference.low, honest.difference.high
        shares = {"first": paper.a.value, "second": paper.b.value, "difference": honest.difference.value}
        tests = {"low": low, "high": high, "p": paper.p, "p by parent": honest.p, "design effect": honest.design_effect}
        rows.append({"comparison": name, **shares, **tests, "order": answer.order()})
    return pd.DataFrame(rows)


def ordering(made: Mapping[str, Answer]) -> str:
    """In a sentence, whether the grid shows the paper's ordering: every comparison as published, by parent."""
    agreeing = [name for name, answer in made.items() if answer.as_published]
    if len(agreeing) == len(made):
        return (
            f"The paper's ordering is shown: all {len(made)} comparisons are as published, and significant by parent."
        )
    missing = sum(answer.tests is None for answer in made.values())
    cut = sum(answer.tests is not None and not answer.whole for answer in made.values())
    told = f"The paper's ordering is not shown: {len(agreeing)} of its {len(made)} comparisons are as published and "
    told += f"significant by parent ({', '.join(agreeing)})" if agreeing else "significant by parent"
    told += f"; {missing} could not be run" if missing else ""
    return told + (f"; {cut} rest on part of the pre-trainings" if cut else "") + "."


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
