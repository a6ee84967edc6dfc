"""AUROCs with their intervals, by image or by patient, and comparisons on the same images, on others, on overlapping.

DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44:837) give the variance of an AUROC, and the covariance of two on
the same images, from each image's placement among the images of the other class; Sun and Xu 2014 (IEEE Signal
Processing Letters 21:1389) get the placements from midranks, in O(n log n). With patients, Obuchowski 1997 (Biometrics
53:567) adds the placements of a patient's images before they are squared.

The interval is built on the logit scale, then transformed back: near 1, where these papers' results lie, the plain
interval runs past 1 and misses too often. Where few images of a class lie among the other's scores, DeLong's variance
rests on those few, and of perfect separation it is 0: Newcombe's method 5 then takes the variance that the numbers of
images allow, and with one patient in a class, whose area is not 1, no less than the exact bound for one draw
(`by_patient` has the rule, `benchmarks/intervals.py` the coverage).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from helpers.metrics.by_patient import Clustered, Comparison, Limits, compare, logit_t, unanimous, widest
from helpers.metrics.estimate import Estimate, as_arrays, lacks_class

BEHIND = 10  # patients of a class that the variance rests on; with fewer it says little
NEWCOMBE = "Newcombe's method 5"


class Placements(NamedTuple):
    """Share of negatives below each positive, and of positives above each negative; a tie counts half."""

    positives: np.ndarray
    negatives: np.ndarray

    @property
    def area(self) -> float:
        """Their mean, the AUROC; summed exactly, so that the order of images cannot change the last digit."""
        return math.fsum(self.positives) / len(self.positives)


def placements(truth: np.ndarray, score: np.ndarray) -> Placements:
    """The placements of every image, from checked arrays with both classes present; their means are the AUROC."""
    positives, negatives = score[truth], score[~truth]
    ranks = rankdata(np.concatenate([positives, negatives]))  # midranks: tied scores share the mean of their ranks
    below = ranks[: len(positives)] - rankdata(positives)
    above = len(positives) - (ranks[len(positives) :] - rankdata(negatives))
    return Placements(below / len(negatives), above / len(positives))


def auroc(truth: Any, score: Any, patients: Any = None) -> Estimate:
    """The area under the ROC curve: the chance that a positive scores above a negative, a tie counting half.

    `truth` holds True (positive) or False per image, `score` a number, higher for positive; `patients` names the
    patient of each image, without which images count as independent. Without positives or without negatives the
    estimate is undefined. Raises `ValueError` for NaN or unequal lengths.
    """
    return clustered_auroc(truth, score, patients).estimate()


def clustered_auroc(truth: Any, score: Any, patients: Any = None) -> Clustered:
    """As `auroc`, for differences and averages."""
    who = np.arange(len(truth)) if patients is None else patients
    t, s, who = as_arrays(truth=(truth, bool), score=(score, float), patients=(who, object))
    if why := lacks_class(t):
        return Clustered.undefined(len(t), "DeLong, logit", why)
    codes, names = pd.factorize(who)
    placed, parts, counts, behind = placements(t, s), np.zeros(len(names)), [], []
    area, by = placed.area, "" if len(names) == len(t) else " by patient"
    for rows, values in ((codes[t], placed.positives), (codes[~t], placed.negatives)):
        present = np.unique(rows)
        m = len(present)
        sums = np.bincount(rows, (values - area) / len(values), len(names))
        parts += sums * math.sqrt(m / max(m - 1, 1))
        short = np.bincount(rows, 1 - values if area >= 0.5 else values)
        counts.append(m)
        behind.append(short.sum() ** 2 / max(np.square(short).sum(), 1e-12))
    found = Clustered(area, pd.Series(parts, names), len(t), f"DeLong, logit{by}", None, (0.0, 1.0), min(counts))
    if len(names) < 2:
        return replace(found, method="none", note="one patient")
    if found.error < 1e-12:
        notes = {0.5: "all scores are equal", 0.0: "every negative scores above every positive"}
        note = notes.get(area, "the score separates the classes perfectly")
        return replace(found, limits=method_5(area, *counts), method=f"{NEWCOMBE}{by}", sparse=True, note=note)
    if min(behind) >= BEHIND:
        return replace(found, limits=logit_t(found))
    limits, method = widest(logit_t(found), method_5(area, *counts)), f"DeLong or {NEWCOMBE}{by}"
    if found.units == 1:  # of a class with one patient nothing is known but that patient
        limits, method = widest(limits, unanimous(found)), f"exact bound{by}"
    return replace(found, limits=limits, method=method, sparse=True)


def method_5(area: float, positives: int, negatives: int) -> Limits:
    """Newcombe's method 5: the areas from which this one is as far as their own standard error allows.

    The standard error is Hanley and McNeil's (1982, Radiology 143:29) for exponential scores, with both numbers of
    images replaced by their mean.
    """
    centre = (positives + negatives) / 2 - 1

    def limits(alpha: float) -> tuple[float, float]:
        z = float(norm.isf(alpha / 2))

        def excess(t: float) -> float:
            variance = t * (1 - t) * (1 + centre * ((1 - t) / (2 - t) + t / (1 + t))) / (positives * negatives)
            return (t - area) ** 2 - z**2 * variance

        edge = 1e-15
        low = brentq(excess, 0.0, min(area, 1 - edge), xtol=edge) if z > 0 and area > 0 else area
        high = brentq(excess, max(area, edge), 1.0, xtol=edge) if z > 0 and area < 1 else area
        return low, high

    return limits


def compare_aurocs(truth: Any, a: Any, b: Any, patients: Any = None) -> Comparison:
    """DeLong's test of two scores `a` and `b` of the same images, or with `patients` Obuchowski's.

    Where one of them has an interval by Newcombe's method 5, the two intervals are squared and added, with the
    scores' correlation, and p is the level at which the result reaches 0.
    """
    as_arrays(a=(a, float), b=(b, float))
    return compare(clustered_auroc(truth, a, patients), clustered_auroc(truth, b, patients))


def compare_independent_aurocs(truth_a: Any, a: Any, truth_b: Any, b: Any) -> Comparison:
    """DeLong's test of two AUROCs from different images (of two hospitals, for example); n is of both together.

    t with Welch and Satterthwaite's degrees of freedom, as in pROC. With patients: `compare` of two `clustered_auroc`.
    """
    places = np.arange(len(truth_a), len(truth_a) + len(truth_b))
    return compare(clustered_auroc(truth_a, a), clustered_auroc(truth_b, b, places))
