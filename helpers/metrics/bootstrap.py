"""Intervals that respect patients: whole patients are drawn with replacement, with all their images.

Images of one patient resemble each other, so an interval that counts each as new evidence is too narrow. All
intervals here are percentile intervals at 95 %.

Where all images agree (perfect accuracy, perfect separation) every resample does too, and the bootstrap would call the
value certain; the bound then comes from `estimate.unanimous_bounds`, where each draw is one patient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics.auroc import constant_note, placements
from helpers.metrics.estimate import Estimate, as_arrays, lacks_class, unanimous_bounds

Bounds = tuple[float, float] | None  # the lowest and highest that a value can be
Statistic = Callable[[np.ndarray], np.ndarray]
METHOD = "bootstrap by patient, {} resamples"
BLOCK = 2_000_000  # weights held at a time, so that memory stays flat however many images there are


def mean_by_patient(values: Any, patients: Any, resamples: int, seed: int, bounds: Bounds = None) -> Estimate:
    """The mean of `values`, one number per image, with a bootstrap interval by patient.

    `bounds` are the lowest and highest a value can be. They serve where all values are equal, so that the bootstrap
    shows no spread: the interval is then the exact bound for that many patients. Without them it has no width.
    """
    return ratio_by_patient(values, np.ones(len(values)), patients, resamples, seed, bounds)


def ratio_by_patient(
    values: Any, sizes: Any, patients: Any, resamples: int, seed: int, bounds: Bounds = None
) -> Estimate:
    """The sum of `values` over the sum of `sizes`, one of each per image, with a bootstrap interval by patient.

    Resamples whose sizes sum to 0 are left out and counted in the note. `bounds`: see `mean_by_patient`.
    """
    numbers, each, who = as_arrays(values=(values, float), sizes=(sizes, float), patients=(patients, object))

    def ratio(weights: np.ndarray) -> np.ndarray:
        return _quotient(weights @ numbers, weights @ each)

    value = math.fsum(numbers) / (math.fsum(each) or math.nan)
    return _bootstrap(value, ratio, who, resamples, seed, bounds)


def accuracy_by_patient(labels: Any, predicted: Any, patients: Any, resamples: int, seed: int) -> Estimate:
    """Share of images labelled correctly (0 to 1), with a bootstrap interval by patient."""
    true, guess = as_arrays(labels=(labels, object), predicted=(predicted, object))
    return mean_by_patient(true == guess, patients, resamples, seed, bounds=(0.0, 1.0))


def auroc_by_patient(truth: Any, score: Any, patients: Any, resamples: int, seed: int) -> Estimate:
    """AUROC with a bootstrap interval by patient; 2,000 resamples of 1,000 images in well under a second.

    Inputs as for `auroc.auroc`.
    """
    t, s, who = as_arrays(truth=(truth, bool), score=(score, float), patients=(patients, object))
    if why := lacks_class(t):
        return Estimate.undefined(len(t), METHOD.format(resamples), why)
    placed = placements(t, s)
    if placed.constant:
        low, high = unanimous_bounds(placed.area, _disjoint_pairs(set(who[t]), set(who[~t])), 0.0, 1.0)
        return Estimate(placed.area, low, high, len(t), "exact bound by patient", constant_note(placed.area))
    return _bootstrap(placed.area, lambda weights: resampled_aurocs(weights, t, s), who, resamples, seed)


def patient_weights(patients: Any, resamples: int, seed: int) -> np.ndarray:
    """How often each image is in each resample of whole patients: int (resamples, n). For statistics of several
    scores of the same images, which must be resampled alike to be compared.
    """
    return np.concatenate(list(_weights(np.asarray(patients), resamples, seed)))


def resampled_aurocs(weights: np.ndarray, truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    """The AUROC of each resample, (resamples,), for weights as of `patient_weights`; NaN where a class is not drawn.

    With images in order of score, the weighted area is one cumulative sum, so that nothing is sorted again.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])  # of each group of tied scores
    weights, truth = weights[:, order], truth[order]
    positives = np.add.reduceat(np.where(truth, weights, 0), starts, axis=1)
    negatives = np.add.reduceat(np.where(truth, 0, weights), starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2  # tied ones count half
    return _quotient((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


def percentile_estimate(value: float, drawn: np.ndarray, n: int) -> Estimate:
    """`value` with the percentile interval of its resamples `drawn`, of which NaN are left out and counted in the note.

    Undefined where the value is NaN, and where under half of the resamples can be used.
    """
    usable, resamples = drawn[~np.isnan(drawn)], len(drawn)
    lost = resamples - len(usable)
    note = f"{lost} of {resamples} resamples undefined" if lost else ""
    if math.isnan(value) or len(usable) < resamples / 2:
        return Estimate.undefined(n, METHOD.format(resamples), note or "the statistic is undefined on this sample")
    low, high = np.percentile(usable, [2.5, 97.5])
    if not low <= value <= high:  # a biased statistic; an interval without its value would be refused
        note = "; ".join(filter(None, [note, "widened to hold the value"]))
    return Estimate(float(value), float(min(low, value)), float(max(high, value)), n, METHOD.format(resamples), note)


def _bootstrap(
    value: float, statistic: Statistic, patients: np.ndarray, resamples: int, seed: int, bounds: Bounds = None
) -> Estimate:
    """`value` with the interval of `statistic`, which takes how often each image is drawn: (resamples, n)."""
    n, count = len(patients), len(set(patients))
    if math.isnan(value) or count < 2:
        why = "a bootstrap by patient needs two patients" if count == 1 else "no observations"
        why = "the statistic is undefined on this sample" if n and math.isnan(value) else why
        return Estimate.undefined(n, METHOD.format(resamples), why)
    drawn = np.concatenate([statistic(weights) for weights in _weights(patients, resamples, seed)])
    if bounds and np.ptp(drawn) == 0:
        low, high = unanimous_bounds(value, count, *bounds)
        return Estimate(value, low, high, n, "exact bound by patient", "every resample gives the same value")
    return percentile_estimate(value, drawn, n)


def _weights(patients: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of `patient_weights`; patients in the order of their names, so that the order of rows does not matter."""
    codes, names = pd.factorize(patients.astype(str), sort=True)
    count, rng = len(names), np.random.default_rng(seed)
    rows = max(1, BLOCK // len(codes))
    for start in range(0, resamples, rows):
        block = min(rows, resamples - start)
        drawn = rng.integers(count, size=(block, count)) + count * np.arange(block)[:, None]
        yield np.bincount(drawn.ravel(), minlength=block * count).reshape(block, count)[:, codes]


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)


def _disjoint_pairs(positive: set[str], negative: set[str]) -> int:
    """How many pairs (a positive, a negative) can be formed with no patient in two of them, nor twice in one."""
    return min(len(positive), len(negative), len(positive | negative) // 2)
