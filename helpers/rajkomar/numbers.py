"""Rajkomar 2017's comparisons of the nine models, the accuracy of the chosen one at a cut-off, and its claims.

Methods: "Validation performance between models was assessed using chi-squared statistics with a significance level of
5 %. To assess the effect of pre-training and different fine-tuning, we pooled the validation accuracy of relevant
models". The 39,856 validation images are the 106 children of 376: that test takes them as independent, so each
comparison is also made with the patients as units (`metrics.comparison`), and Holm's correction for the five.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pandas as pd

from helpers.metrics.auroc import clustered_auroc
from helpers.metrics.by_patient import Clustered, by_training, clustered_mean, first_training
from helpers.metrics.by_patient import Comparison as Tested
from helpers.metrics.classification import Plateau, youden_plateau
from helpers.metrics.comparison import compare_pooled, holm
from helpers.metrics.estimate import Estimate, flatten
from helpers.model.finetune import DROP, FinetuneSettings
from helpers.rajkomar import augmentation, data
from helpers.rajkomar import models as view_models
from helpers.run.claims import REVERSED

Model = tuple[str, str]  # pre-training, way of fine-tuning
PRETRAININGS = (COLOUR, FULL, SUBSET) = tuple(view_models.PRETRAININGS)
METHODS = (ORIGINAL, LAST, ALL) = view_models.METHODS
VIEWS = view_models.VIEWS


@dataclass(frozen=True)
class Comparison:
    """One of the text's pooled comparisons: the pools, and the ids of the two accuracies and of the p value in
    data/published/rajkomar2017.csv, after "view.pooled"."""

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
GREY, EVERY, SAME, LAYERS = (FULL, SUBSET), (PRETRAININGS, PRETRAININGS), (METHODS, METHODS), ((ALL,), (LAST,))
COMPARISONS = {
    "greyscale vs colour": Comparison((GREY, (COLOUR,)), SAME, ("grey", "color", "grey_color.p")),
    "full vs subset greyscale": Comparison(((FULL,), (SUBSET,)), SAME, ("full_grey", "subset_grey", "full_subset.p")),
    "augmented vs original, last layer": Comparison(
        EVERY, ((LAST,), (ORIGINAL,)), ("head_augmented", "head_original", "augmentation.p")
    ),
    "all layers vs last layer, augmented": Comparison(EVERY, LAYERS, ("all_augmented", "head_augmented", "layers.p")),
    "all layers vs last layer, greyscale": Comparison((GREY, GREY), LAYERS, ("grey_all", "grey_head", "grey_layers.p")),
}


@dataclass(frozen=True)
class Answer:
    """One of `COMPARISONS` in a run: the pre-trainings that ran, either side; the paper's chi-squared test and the one
    by patient (None where a side is empty); the pre-trainings of the text's pools that did not run; and p by patient
    with Holm's correction, `COMPARISONS` being the family."""

    pretraining: tuple[tuple[str, ...], tuple[str, ...]]
    tests: tuple[Tested, Tested] | None
    missing: tuple[str, ...]
    p_holm: float = math.nan

    @property
    def whole(self) -> bool:
        """True where the pools are the text's own, so that its numbers may be compared with these."""
        return self.tests is not None and not self.missing

    @property
    def order(self) -> str:
        """Whether the first pool is the better one, as in each of the text's comparisons, and whether that is
        significant by patient, after Holm's correction; or what is missing."""
        if self.tests is None:
            return f"not run: no {' and no '.join(self.missing)} pre-training"
        _, found = self.tests
        order = "as in the paper" if found.a.value > found.b.value else "not as in the paper"
        order = "equal" if found.a.value == found.b.value else order
        order += "" if self.p_holm < 0.05 else ", not significant by patient"
        return f"{order}; {' and '.join(self.missing)} not run" if self.missing else order


def validation_results(validation: pd.DataFrame, frame: pd.DataFrame) -> dict[Model, pd.DataFrame]:
    """For each model that ran, one row per validation image: patient_id, and correct by "top prediction" (figure 2).

    `frame`, the split frame, says whose a parent image is: a patient's images and their children stand together.

    "For the models fine-tuned on original radiographs, validation sets consisted of 376 original radiographs. For
    models fine-tuned on augmented radiographs, validation sets consisted of 39,856 augmented radiographs".
    """
    right = (validation["p_frontal"] >= 0.5) == (validation["label"] == "frontal")
    own = (validation["on"] == "originals") == (validation["method"] == ORIGINAL)
    patients = validation["parent"].map(frame.set_index("image_id")["patient_id"])
    table = validation.assign(correct=right, patient_id=patients)[own]
    return {model: rows for model, rows in table.groupby(["pretraining", "method"], sort=False)}


def validation_accuracies(results: Mapping[Model, pd.DataFrame]) -> dict[Model, Estimate | None]:
    """Validation accuracy of the nine, in figure 2's order, None for one that did not run; intervals by patient, for
    the children of one radiograph are not independent."""
    ran = {model: by_training(rows, lambda part: {"": _accuracy(part)})[""] for model, rows in results.items()}
    return {model: ran[model].estimate() if model in ran else None for model in product(PRETRAININGS, METHODS)}


def _accuracy(rows: pd.DataFrame) -> Clustered:
    return clustered_mean(rows["correct"], rows["patient_id"], (0, 1))


def compare_models(results: Mapping[Model, pd.DataFrame]) -> dict[str, Answer]:
    """Each of `COMPARISONS` by the paper's chi-squared test and by patient, over the pre-trainings that ran.

    Ways of fine-tuning are compared within the same pre-trainings, so one is enough; pre-trainings need one each side.
    """
    answers = {}
    for name, comparison in COMPARISONS.items():
        sides = comparison.available(results)
        needed = {*comparison.pretraining[0], *comparison.pretraining[1]} - {*sides[0], *sides[1]}
        tests = None
        if all(sides):
            # "the validation performance of a pre-trained color ImageNet model was obtained by pooling the performance
            # of the three fine-tuned models that used" it.
            models = [product(*side) for side in zip(sides, comparison.methods, strict=True)]
            pooled = [pd.concat([results[model] for model in pool], ignore_index=True) for pool in models]
            tests = _pooled_test(*map(first_training, pooled)), _test_by_patient(*pooled)
        answers[name] = Answer(sides, tests, tuple(name for name in PRETRAININGS if name in needed))
    corrected = holm([answer.tests[1].p if answer.tests else math.nan for answer in answers.values()])
    return {name: replace(answer, p_holm=p) for (name, answer), p in zip(answers.items(), corrected, strict=True)}


def _pooled_test(a: pd.DataFrame, b: pd.DataFrame) -> Tested:
    """The paper's test, of one training per model, as the paper has it."""
    return compare_pooled(a["correct"].sum(), len(a), b["correct"].sum(), len(b))


def _test_by_patient(a: pd.DataFrame, b: pd.DataFrame) -> Tested:
    """The difference of two pools with the patients as units, and over the trainings."""

    def of_training(rows: pd.DataFrame) -> dict[str, Clustered]:
        first, second = (_accuracy(part) for part in (rows[rows["pool"] == "a"], rows[rows["pool"] == "b"]))
        return {"a": first, "b": second, "change": first - second}

    found = by_training(pd.concat([a.assign(pool="a"), b.assign(pool="b")]), of_training)
    naive = sum(found[name].value * (1 - found[name].value) / found[name].n for name in "ab")
    effect = found["change"].error ** 2 / naive if naive else math.nan
    return Tested(*(found[name].estimate() for name in ("a", "b", "change")), found["change"].p, effect)


def comparison_table(answers: Mapping[str, Answer]) -> pd.DataFrame:
    """One row per comparison, with the paper's test and the one by patient, and whether the order is the paper's."""
    rows = []
    for name, answer in answers.items():
        row = {"comparison": name}
        if answer.tests is not None:
            paper, by_patient = answer.tests
            row |= {
                "first": by_patient.a.value,
                "second": by_patient.b.value,
                **by_patient.row(),
                "p_holm": answer.p_holm,
            }
            row |= {"p, chi-squared": paper.p, "design effect": by_patient.design_effect}
        rows.append(row | {"order": answer.order})
    return pd.DataFrame(rows).drop(columns="n", errors="ignore")


def describe_ordering(answers: Mapping[str, Answer]) -> str:
    """In a sentence, whether the grid shows the paper's ordering: every comparison as published, by patient."""
    agreeing = [name for name, answer in answers.items() if answer.order == "as in the paper"]
    partial = sum(bool(answer.missing) for answer in answers.values())
    shown = "shown" if len(agreeing) == len(answers) else "not shown"
    count = f"{len(agreeing)} of its {len(answers)} comparisons are as published and significant by patient"
    names = f" ({', '.join(agreeing)})" if 0 < len(agreeing) < len(answers) else ""
    missing = f"; {partial} lack pre-trainings that did not run" if partial else ""
    return f"The paper's ordering is {shown}: {count}{names}{missing}."


# --- the chosen model -------------------------------------------------------------------------------------------------


def accuracies_at(
    scores: pd.DataFrame, cutoff: float | Mapping[int, float], chosen_here: bool = False
) -> dict[str, Estimate]:
    """Accuracy on all, on frontal and on lateral images at a cut-off, or at each training's own, with intervals by
    patient and over the trainings; with `chosen_here` without, since a cut-off that was chosen on these very images
    flatters itself.

    "images with a PFI >= J would be classified as a frontal image; otherwise [...] as a lateral".
    """

    def of_training(part: pd.DataFrame) -> dict[str, Clustered]:
        at = cutoff[part["seed"].iloc[0]] if isinstance(cutoff, Mapping) else cutoff
        if math.isnan(at):
            missing = Clustered.undefined(len(part), "none", "no cut-off: it was to be chosen on images of one view")
            return dict.fromkeys(("all images", "frontal", "lateral"), missing)
        rows = part.assign(correct=(part["p_frontal"] >= at) == (part["label"] == "frontal"))
        return {"all images": _accuracy(rows)} | {view: _accuracy(rows[rows["label"] == view]) for view in VIEWS}

    found = {name: one.estimate() for name, one in by_training(scores, of_training).items()}
    if chosen_here:
        found = {name: one.without_interval("the cut-off was chosen on these images") for name, one in found.items()}
    return found


def frontal_area(scores: pd.DataFrame) -> Estimate:
    """The AUROC of a frontal image, by patient and over the trainings."""

    def area(part: pd.DataFrame) -> dict[str, Clustered]:
        return {"": clustered_auroc(part["label"] == "frontal", part["p_frontal"], part["patient_id"])}

    return by_training(scores, area)[""].estimate()


def cutoffs(scores: pd.DataFrame) -> dict[int, float]:
    """Each training's cut-off, the high end of the range of the highest Youden index, by its seed."""
    parts = scores.groupby("seed")
    return {seed: youden_plateau(part["label"] == "frontal", part["p_frontal"]).high for seed, part in parts}


def extreme_images(scores: pd.DataFrame, each: int = 2) -> pd.DataFrame:
    """The `each` images per view with the highest and with the lowest frontal probability, no image twice; rows of
    `scores`, frontal first."""
    groups = scores.sort_values(["p_frontal", "image_id"], ascending=False).groupby("label", sort=False)
    kept = pd.concat([groups.head(each), groups.tail(each)]).drop_duplicates("image_id")
    return kept.sort_values(["label", "p_frontal", "image_id"], ascending=[True, False, False], ignore_index=True)


def split_by_site(scores: pd.DataFrame, frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The scores of each site's images, where `frame` (the split frame) knows sites; else none."""
    if "site" not in frame.columns:
        return []
    sites = scores["image_id"].map(frame.set_index("image_id")["site"])
    return [(str(name), part) for name, part in scores.groupby(sites)]


# --- claims, by their ids in data/published/rajkomar2017.csv ----------------------------------------------------------

HEADINGS = dict(zip(data.TRANSFORMS, ("original", "labeled", "rotated", "top_half", "crop"), strict=True))


def pooled_claims(answers: Mapping[str, Answer]) -> dict[str, Estimate]:
    """The text's five comparisons: two accuracies and a p value each, with patients as units. One over part of the
    text's pre-trainings answers another question than the printed number, and is no claim."""
    claims = {}
    for name, comparison in COMPARISONS.items():
        if answers[name].whole:
            found = answers[name].tests[1]
            p = Estimate(*[found.p] * 3, found.a.n, "t test by patient", REVERSED if found.difference.value < 0 else "")
            values = (found.a, found.b, p)
            claims |= {f"view.pooled.{claim}": value for claim, value in zip(comparison.claims, values, strict=True)}
    return _with_ids(claims)


def transform_claims(frontal: Mapping[str, Mapping[str, float]]) -> dict[str, Estimate]:
    """Figure 6's table: `frontal[actual class][heading]` is the frontal probability of that image."""
    claims = {"versions": Estimate.exact(len(HEADINGS) - 1)}
    for label, values in frontal.items():
        for heading, name in HEADINGS.items():
            claims[f"{label}.{name}.frontal"] = Estimate.exact(values[heading], "one image, mean of the trainings")
            claims[f"{label}.{name}.lateral"] = Estimate.exact(1 - values[heading], "one image, mean of the trainings")
    return _with_ids({f"transformed.{name}": value for name, value in claims.items()})


def assessment_claims(
    validation: Estimate, at_cutoff: Mapping[str, Estimate], public: Estimate | None, plateau: Plateau, speed: Any
) -> dict[str, Estimate]:
    """Results, Model Selection and Model Assessment. `validation`: accuracy of the chosen model; `public`: accuracy on
    another hospital's images, where there are some; `speed`: a row of images and images_per_second."""
    on_test = "on the test set, as the paper; of the first training"
    claims = {
        "view.validation.accuracy": validation,
        "view.test.accuracy": at_cutoff["all images"],
        "view.cutoff": Estimate.exact(plateau.high, on_test),
        "view.cutoff_range.low": Estimate.exact(plateau.low, on_test),
        "view.cutoff_range.high": Estimate.exact(plateau.high, on_test),
        "view.lateral_highest": Estimate.exact(
            plateau.largest_negative, "largest of the lateral images, first training"
        ),
        "view.frontal_lowest": Estimate.exact(
            plateau.smallest_positive, "smallest of the frontal images, first training"
        ),
        "view.speed": Estimate.exact(speed["images_per_second"], "timed once", int(speed["images"])),
    }
    return _with_ids(claims | ({"view.public.accuracy": public} if public is not None else {}))


def design_claims(counts: Mapping[str, int], summary: Mapping[str, Any], children: int) -> dict[str, Estimate]:
    """How the study was made: counts of figure 1 (see `figures.COUNTS`), and settings that are in code."""
    weights, recipe = summary["weights"], FinetuneSettings()
    sections = {
        "data": {"public_images": counts.get("external")},
        "setting": {
            "image_size": summary["image size"],
            "learning_rate_factor": 1 / DROP,
            "learning_rate_every": summary["epochs a rate"],
            "batch": recipe.batch,
            "momentum": recipe.MOMENTUM,
            "weight_decay": recipe.weight_decay,
            "finetuning_rate_head": view_models.RATE_HEAD,
        },
        "augmentation": {
            "translation": augmentation.SHIFT,
            "children": children,
            **{f"{part}_images": counts[f"{part} children"] for part in ("train", "validation")},
        },
        "pretraining": {"models": len(weights), "grey_models": sum("grey" in name for name in weights)},
        "finetuning": {"methods": len(METHODS), "models": summary["models"], "pooled_models": len(METHODS)},
        "transformed": {"rotation": data.TURN, "zoom": data.ZOOM},
    }
    found = {f"{section}.{name}": value for (section, name), value in flatten(sections).items() if value is not None}
    return _with_ids({name: Estimate.exact(value, "of this run") for name, value in found.items()})


def _with_ids(claims: Mapping[str, Estimate]) -> dict[str, Estimate]:
    return {f"rajkomar2017.{name}": value for name, value in claims.items()}
