"""How often the 95 % intervals hold the truth, case by case; fails where one does in under 90 % of the repeats.

    python benchmarks/intervals.py [REPEATS]

Data are drawn from models whose truth is known, with fixed seeds; 400 repeats give a standard error of about one point.
Chosen are the cases in which the intervals used before held the truth least often (last column, percent): few patients,
few images of a class, few errors, values near 1, and comparisons with a perfect score. Quantities whose intervals did
not cover, and have none any more, are not here: the spread over classes, rates at a threshold chosen on the same
images. Repeats without an interval (a Brier score of images of one class) do not count.

One case is known that falls short and is not in the table, since no interval that is not half as wide again elsewhere
holds it: 50 of 2,050 positive at an area of 0.97, where three positives in 50 are like negatives and the others lie
above all (`area_mixed(0.97, 50, 2000)`, 86 to 88 %). One sample in twenty separates perfectly there, and Newcombe's
method 5, which takes the scores to be exponential, is then too sure.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
from scipy.stats import norm

from helpers.metrics.auroc import auroc, clustered_auroc, compare_aurocs, compare_independent_aurocs
from helpers.metrics.by_patient import clustered_mean, mean_by_patient, over_trainings
from helpers.metrics.classification import clustered_f1, rates
from helpers.metrics.comparison import compare_clustered, mcnemar
from helpers.metrics.estimate import Estimate, likelihood_ratios

LEAST = 0.90
Case = tuple[float, Callable[[np.random.Generator], Estimate], str]  # the truth, an interval, coverage before


def binormal(area: float, positives: int, negatives: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = np.repeat([True, False], [positives, negatives])
    return truth, rng.normal(size=len(truth)) + truth * norm.ppf(area) * math.sqrt(2)


def area(value: float, positives: int, negatives: int, before: str = "") -> Case:
    return value, lambda rng: auroc(*binormal(value, positives, negatives, rng)), before


def area_mixed(value: float, positives: int, negatives: int, before: str = "") -> Case:
    """Most positives score above all negatives, the others are like negatives: DeLong's variance rests on those few."""

    def draw(rng: np.random.Generator) -> Estimate:
        truth, score = binormal(0.5, positives, negatives, rng)
        return auroc(truth, score + 20 * (truth & (rng.random(len(truth)) < 2 * value - 1)))

    return value, draw, before


def area_exponential(value: float, positives: int, negatives: int, before: str = "") -> Case:
    def draw(rng: np.random.Generator) -> Estimate:
        truth = np.repeat([True, False], [positives, negatives])
        return auroc(truth, rng.exponential(size=len(truth)) * np.where(truth, value / (1 - value), 1.0))

    return value, draw, before


def area_by_patient(value: float, patients: int, images: int) -> Case:
    """Half the patients are positive; half of the scores' variance lies between patients."""

    def draw(rng: np.random.Generator) -> Estimate:
        truth, common = binormal(value, patients // 2, patients - patients // 2, rng)
        own, who = rng.normal(size=(patients, images)), np.repeat(np.arange(patients), images)
        shift = truth * norm.ppf(value) * math.sqrt(2)
        score = shift[:, None] + math.sqrt(0.5) * (common - shift)[:, None] + math.sqrt(0.5) * own
        return auroc(truth[who], score.ravel(), who)

    return value, draw, ""


def accuracy(patients: int, before: str = "", share: float = 0.9, images: int = 10) -> Case:
    """Patients differ: the share of images that are right is a beta variable with an intraclass correlation of 0.3."""

    def draw(rng: np.random.Generator) -> Estimate:
        ease = rng.beta(share * 7 / 3, (1 - share) * 7 / 3, patients)
        right = rng.random((patients, images)) < ease[:, None]
        return mean_by_patient(right.ravel(), np.repeat(np.arange(patients), images), (0, 1))

    return share, draw, before


def weighted_error(images: int, wrong: float, before: str) -> Case:
    penalties, shares = np.array([0.0, 1, 2, 4]), np.array([1 - wrong, 0.6 * wrong, 0.3 * wrong, 0.1 * wrong])

    def draw(rng: np.random.Generator) -> Estimate:
        return mean_by_patient(rng.choice(penalties, images, p=shares), np.arange(images) // 2, (0, 4))

    return float(penalties @ shares), draw, before


def f1(value: float, images: int, before: str) -> Case:
    share = value / (2 - value)  # of true positives among those that are positive or called so
    cells = np.array([0.5 * share, 0.25 * (1 - share), 0.25 * (1 - share), 0.5])

    def draw(rng: np.random.Generator) -> Estimate:
        cell = rng.choice(4, images, p=cells)
        return clustered_f1(np.isin(cell, (0, 1)), np.isin(cell, (0, 2))).estimate()

    return value, draw, before


def brier_of(images: int, prevalence: float, before: str = "") -> Case:
    def sample(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        truth = rng.random(n) < prevalence
        return truth, (1 / (1 + np.exp(-(rng.normal(size=n) + 2 * truth - 2))) - truth) ** 2

    def draw(rng: np.random.Generator) -> Estimate:
        truth, squares = sample(images, rng)
        found = mean_by_patient(squares, np.arange(images), (0, 1))
        return found if 0 < truth.sum() < images else found.without_interval("images of one class")

    return float(sample(2_000_000, np.random.default_rng(0))[1].mean()), draw, before


def areas_apart(value: float, sizes: tuple[int, int], others: tuple[int, int], before: str = "") -> Case:
    """The difference of two areas that are equal, on other images; the share outside is the type I error."""

    def draw(rng: np.random.Generator) -> Estimate:
        a, b = binormal(value, *sizes, rng), binormal(value, *others, rng)
        return compare_independent_aurocs(*a, *b).difference

    return 0.0, draw, before


def areas_paired(value: float, positives: int, negatives: int) -> Case:
    def draw(rng: np.random.Generator) -> Estimate:
        truth, a = binormal(value, positives, negatives, rng)
        shift = truth * norm.ppf(value) * math.sqrt(2)
        b = shift + 0.6 * (a - shift) + 0.8 * rng.normal(size=len(truth))
        return compare_aurocs(truth, a, b).difference

    return 0.0, draw, ""


def accuracies_paired(patients: int, share: float) -> Case:
    """Two classifiers equally good on the same patients, four images each, that share half of their hard patients."""

    def draw(rng: np.random.Generator) -> Estimate:
        who, common = np.repeat(np.arange(patients), 4), rng.random(patients)
        mine = [np.where(rng.random(patients) < 0.5, common, rng.random(patients)) for _ in range(2)]
        right = [rng.random(4 * patients) < np.where(one < 0.2, share - 0.4, share + 0.1)[who] for one in mine]
        return compare_clustered(right[0], who, right[1], who).difference

    return 0.0, draw, ""


def mcnemars(images: int, only: float) -> Case:
    def draw(rng: np.random.Generator) -> Estimate:
        cell = rng.choice(4, images, p=[0.9 - 2 * only, only, only, 0.1])
        return mcnemar(np.isin(cell, (0, 1)), np.isin(cell, (0, 2))).difference

    return 0.0, draw, ""


def ratio(sensitivity: float, specificity: float, images: int) -> Case:
    def draw(rng: np.random.Generator) -> Estimate:
        truth = np.arange(2 * images) < images
        return likelihood_ratios(truth, rng.random(2 * images) < np.where(truth, sensitivity, 1 - specificity))[
            "positive"
        ]

    return sensitivity / (1 - specificity), draw, ""


def sensitivity(patients: int, value: float) -> Case:
    def draw(rng: np.random.Generator) -> Estimate:
        truth = np.arange(2 * patients) % 4 < 2
        called = np.where(truth, rng.random(len(truth)) < value, rng.random(len(truth)) < 0.1)
        return rates(truth, called, np.arange(len(truth)) // 2)["sensitivity"]

    return value, draw, ""


def trainings(count: int, spread: float) -> Case:
    """The mean accuracy over all trainings, from `count` of them on the same 100 patients."""

    def draw(rng: np.random.Generator) -> Estimate:
        common, found = rng.random(100), []
        for share in np.clip(0.85 + spread * rng.normal(size=count), 0, 1):
            mine = np.where(rng.random(100) < 0.5, common, rng.random(100))
            found.append(clustered_mean(mine < share, np.arange(100), (0, 1)))
        return over_trainings(found).estimate()

    return 0.85, draw, ""


def difference_by_patient(value: float, patients: int) -> Case:
    """A joint set less one of its halves, whose images overlap."""

    def draw(rng: np.random.Generator) -> Estimate:
        truth, score = binormal(value, patients, patients, rng)
        names = np.arange(2 * patients)
        part = names % 2 == 0
        half = clustered_auroc(truth[part], score[part], names[part])
        return (clustered_auroc(truth, score, names) - half).estimate()

    return 0.0, draw, ""


@cache
def cases() -> dict[str, Case]:
    return {
        "AUROC 0.99, 10 of 500 positive": area(0.99, 10, 490, "81"),
        "AUROC 0.95, 5 of 505 positive": area(0.95, 5, 500, "78"),
        "AUROC 0.97, 30 of 2,030 positive": area(0.97, 30, 2000),
        "AUROC 0.9, 1 of 101 positive": area(0.9, 1, 100),
        "AUROC 0.999, 250 + 250": area(0.999, 250, 250, "92"),
        "AUROC 0.7, 5 + 5": area(0.7, 5, 5),
        "AUROC 0.9, 1 of 101 positive, mixture": area_mixed(0.9, 1, 100, "88"),
        "AUROC 0.9, 12 of 72 positive, mixture": area_mixed(0.9, 12, 60),
        "AUROC 0.98, 100 of 1,100 positive, exponential": area_exponential(0.98, 100, 1000),
        "AUROC 0.9, 20 patients with 10 images": area_by_patient(0.9, 20, 10),
        "AUROC 0.9, 100 patients with 5 images": area_by_patient(0.9, 100, 5),
        "accuracy 0.9, 5 patients": accuracy(5, "85"),
        "accuracy 0.9, 10 patients": accuracy(10, "88"),
        "accuracy 0.9, 20 patients": accuracy(20, "93"),
        "accuracy 0.98, 50 patients": accuracy(50, "", 0.98),
        "sensitivity 0.97, 40 patients": sensitivity(40, 0.97),
        "weighted error, 100 images, 5 % wrong": weighted_error(100, 0.05, "86"),
        "weighted error, 250 images, 5 % wrong": weighted_error(250, 0.05, "89"),
        "F1 0.97, 100 images": f1(0.97, 100, "79"),
        "F1 0.8, 30 images": f1(0.8, 30, ""),
        "Brier, 100 images, 2 % positive": brier_of(100, 0.02, "80"),
        "Brier, 100 images, 20 % positive": brier_of(100, 0.2),
        "equal AUROCs 0.97, 5 + 5 against 250 + 250": areas_apart(0.97, (5, 5), (250, 250), "53"),
        "equal AUROCs 0.99, 10 of 500 against 100 of 1,100": areas_apart(0.99, (10, 490), (100, 1000), "77"),
        "equal AUROCs 0.9, 12 of 72, twice": areas_apart(0.9, (12, 60), (12, 60)),
        "equal AUROCs 0.97 of the same 30 of 530": areas_paired(0.97, 30, 500),
        "equal AUROCs 0.99 of the same 100 + 100": areas_paired(0.99, 100, 100),
        "AUROC of a set less that of its half": difference_by_patient(0.9, 60),
        "equal accuracies, 30 patients with 4 images": accuracies_paired(30, 0.85),
        "equal accuracies, 200 images (Newcombe)": mcnemars(200, 0.03),
        "likelihood ratio, 250 + 250, rates 0.95 and 0.97": ratio(0.95, 0.97, 250),
        "accuracy over 3 trainings, 100 patients": trainings(3, 0.03),
        "accuracy over 10 trainings, 100 patients": trainings(10, 0.05),
    }


def coverage(name: str, repeats: int) -> dict[str, float | str]:
    """The share of intervals that hold the truth, their mean width, and the repeats that have one."""
    truth, draw, before = cases()[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    found = [one for one in (draw(rng) for _ in range(repeats)) if one.bounded]
    held = [one.low - 1e-12 <= truth <= one.high + 1e-12 for one in found]
    width = np.mean([one.high - one.low for one in found])
    return {"case": name, "coverage": np.mean(held), "width": width, "with": len(found), "before": before}


def main() -> int:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    rows = []
    for name in cases():
        rows.append(coverage(name, repeats))
        line = "{case:52} {coverage:6.1%}  width {width:.3f}  of {with:4}  before: {before}"
        print(line.format(**rows[-1]), flush=True)
    table = pd.DataFrame(rows)
    short = table[~(table["coverage"] >= LEAST)]
    print(f"{len(table) - len(short)} of {len(table)} cases cover in at least {LEAST:.0%}")
    return int(not short.empty)


if __name__ == "__main__":
    sys.exit(main())
