"""Classes from scores, and how good they are: confusion table, accuracy, sensitivity and specificity, thresholds.

A threshold chosen on the images it is judged on flatters itself. Choose it on validation images, then judge it on test
images with `rates(truth, score >= threshold)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import confusion_matrix

from helpers.metrics.by_patient import Clustered, clustered_ratio, mean_by_patient
from helpers.metrics.estimate import Estimate, as_arrays, lacks_class, places_of, proportion


def predicted_labels(scores: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """The class with the highest probability for each row of a scores frame (columns p_<class>).

    Of equal probabilities the first in `classes` wins.
    """
    return np.array(classes, dtype=object)[probabilities_of(scores, classes).argmax(axis=1)]


def probabilities_of(scores: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """The columns p_<class> of a scores frame, (n, k); `KeyError` for a missing one, `ValueError` for a NaN."""
    table = scores[[f"p_{name}" for name in classes]].to_numpy(float)
    if np.isnan(table).any():
        raise ValueError(f"{int(np.isnan(table).any(axis=1).sum())} of {len(table)} rows of the scores hold a NaN")
    return table


def confusion(labels: Any, predicted: Any, classes: Sequence[str]) -> pd.DataFrame:
    """Counts of images: rows are true classes, columns predicted ones, both in the order of `classes`.

    `labels` and `predicted` hold one class name per image. Raises `ValueError` for a name not among `classes`.
    """
    places, known = (places_of(labels, classes), places_of(predicted, classes)), range(len(classes))
    counts = confusion_matrix(*places, labels=list(known)) if len(places[0]) else np.zeros((len(known),) * 2, int)
    return pd.DataFrame(counts, index=pd.Index(classes, name="true"), columns=pd.Index(classes, name="predicted"))


def accuracy(labels: Any, predicted: Any, patients: Any = None) -> Estimate:
    """Share of images whose predicted label is the true one, with its interval: by patient where `patients` are given,
    else Clopper-Pearson's, which takes images as independent."""
    true, guess = as_arrays(labels=(labels, object), predicted=(predicted, object))
    return _share(true == guess, np.ones(len(true), bool), patients, "no observations")


def rates(truth: Any, predicted: Any, patients: Any = None) -> dict[str, Estimate]:
    """Sensitivity, specificity, PPV, NPV and accuracy of a binary decision, each with its interval (see `accuracy`).

    `truth` and `predicted` hold True (positive) or False per image. Each rate is divided by its own class total, which
    is the estimate's n; where that is 0 the estimate is undefined. PPV and NPV hold at this sample's prevalence only.
    """
    t, p = as_arrays(truth=(truth, bool), predicted=(predicted, bool))
    among = {
        "sensitivity": (t, "no positives"),
        "specificity": (~t, "no negatives"),
        "ppv": (p, "nothing was called positive"),
        "npv": (~p, "nothing was called negative"),
        "accuracy": (np.ones(len(t), bool), "no observations"),
    }
    return {name: _share(t == p, rows, patients, why) for name, (rows, why) in among.items()}


def rates_at(truth: Any, score: Any, threshold: float, patients: Any = None) -> dict[str, Estimate]:
    """`rates` of calling a score of at least `threshold` positive; undefined where the threshold is NaN."""
    if math.isnan(threshold):
        missing = Estimate.undefined(len(truth), "none", "no threshold: it was to be chosen on images of one class")
        return dict.fromkeys(rates([], []), missing)
    return rates(truth, np.asarray(score, float) >= threshold, patients)


def _share(right: np.ndarray, rows: np.ndarray, patients: Any, why: str) -> Estimate:
    """The share of `rows` (True or False per image) that are right."""
    if not rows.any():
        return Estimate.undefined(0, "Clopper-Pearson", why)
    if patients is None:
        return proportion(int(right[rows].sum()), int(rows.sum()))
    return mean_by_patient(right[rows], np.asarray(patients)[rows], (0, 1))


def clustered_f1(truth: Any, called: Any, patients: Any = None) -> Clustered:
    """F1, 2 TP / (2 TP + FP + FN), with its interval by patient; undefined where no image is positive.

    F1 = 2 J / (1 + J) with J = TP / (TP + FP + FN), a share of images: its interval is transformed.
    """
    t, c = as_arrays(truth=(truth, bool), called=(called, bool))
    if not t.any():
        return Clustered.undefined(len(t), "logit-t by patient", "no positives")
    share = clustered_ratio(t & c, t | c, np.arange(len(t)) if patients is None else patients, (0, 1))
    limits = share.limits and (lambda alpha: tuple(2 * end / (1 + end) for end in share.limits(alpha)))
    parts, value = share.parts * 2 / (1 + share.value) ** 2, 2 * share.value / (1 + share.value)
    return replace(share, value=value, parts=parts, limits=limits, n=len(t))


# --- thresholds -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and its rates: a score of at least this is positive. Chosen on validation images."""

    threshold: float
    sensitivity: Estimate
    specificity: Estimate
    accuracy: Estimate


def transferred_point(
    validation_truth: Any, validation_score: Any, truth: Any, score: Any, patients: Any = None
) -> OperatingPoint:
    """The threshold with the best Youden index on validation images, judged on others (the test images)."""
    threshold = youden_threshold(validation_truth, validation_score)
    found = rates_at(truth, score, threshold, patients)
    return OperatingPoint(threshold, found["sensitivity"], found["specificity"], found["accuracy"])


def youden_threshold(truth: Any, score: Any) -> float:
    """The threshold with the greatest sensitivity + specificity - 1, among the scores that occur.

    Of thresholds that do equally well the lowest is taken, the most sensitive: a missed case is the worse error. NaN
    where only one class occurs.
    """
    t, s = as_arrays(truth=(truth, bool), score=(score, float))
    if lacks_class(t):
        return math.nan
    thresholds, hits, alarms = _called_at_each(t, s)
    return float(thresholds[np.argmax(hits * (~t).sum() - alarms * t.sum())])  # in whole numbers, so that ties are ties


def f1_threshold(truth: Any, score: Any) -> float:
    """The threshold with the highest F1 on these images, the highest of equally good ones; infinite without positives.

    To be judged on other images.
    """
    t, s = as_arrays(truth=(truth, bool), score=(score, float))
    if not t.any():
        return math.inf
    thresholds, hits, alarms = (column[::-1] for column in _called_at_each(t, s))
    return float(thresholds[np.argmax(2 * hits / (t.sum() + hits + alarms))])


def _called_at_each(truth: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The scores that occur, rising, and the positives and negatives that score at least as much."""
    thresholds, groups = np.unique(score, return_inverse=True)
    hits, alarms = (np.bincount(groups, part, len(thresholds))[::-1].cumsum()[::-1] for part in (truth, ~truth))
    return thresholds, hits, alarms


def youden_curve(truth: Any, score: Any, steps: int = 1000) -> pd.DataFrame:
    """The Youden index at `steps` + 1 cut-offs from 0 to 1: columns cutoff, sensitivity, specificity, index.

    A score (0 to 1) of at least the cut-off is called positive. All but `cutoff` is NaN without both classes.
    """
    t, s = as_arrays(truth=(truth, bool), score=(score, float))
    cutoffs = np.arange(steps + 1) / steps
    curve = pd.DataFrame({"cutoff": cutoffs, "sensitivity": np.nan, "specificity": np.nan})
    if not lacks_class(t):
        positives, negatives = np.sort(s[t]), np.sort(s[~t])
        curve["sensitivity"] = 1 - np.searchsorted(positives, cutoffs) / len(positives)
        curve["specificity"] = np.searchsorted(negatives, cutoffs) / len(negatives)
    return curve.assign(index=curve["sensitivity"] + curve["specificity"] - 1)


@dataclass(frozen=True)
class Plateau:
    """The cut-offs with the highest Youden index: `low` to `high` is their range, `index` the index there.
    `largest_negative` and `smallest_positive` are the scores that bound the range where the classes are apart."""

    low: float
    high: float
    index: float
    largest_negative: float
    smallest_positive: float


def youden_plateau(truth: Any, score: Any, steps: int = 1000) -> Plateau:
    """The cut-offs of `youden_curve` with the highest index; with one class only all numbers are NaN."""
    curve, (t, s) = youden_curve(truth, score, steps), as_arrays(truth=(truth, bool), score=(score, float))
    if lacks_class(t):
        return Plateau(*(math.nan,) * 5)
    index = curve["index"].to_numpy()
    best = np.flatnonzero(index >= index.max() - 1e-12)
    low, high = (float(curve["cutoff"].iloc[best[i]]) for i in (0, -1))
    return Plateau(low, high, float(index.max()), float(s[~t].max()), float(s[t].min()))


TINY = 1e-7  # probabilities are kept this far from 0 before their logarithm is taken
COLUMNS = ("from", "to", "n", "predicted", "observed", "low", "high")


def reliability(truth: Any, probability: Any, bins: int = 10) -> pd.DataFrame:
    """Predicted against observed, one row per bin that holds images: from, to, n, predicted, observed, low, high.

    `truth` holds True or False per image, `probability` (0 to 1) what was predicted. Bins hold (nearly) equal numbers
    of images. `predicted` is the bin's mean probability; `observed` its share of True, with a Clopper-Pearson interval,
    `low` to `high`, that takes images as independent.
    """
    t, p = as_arrays(truth=(truth, bool), probability=(probability, float))
    # Edges are probabilities that occur: an interpolated 0.3 may be the next number, and 0.3 then a bin too low.
    ordered = np.sort(p) if len(p) else np.array([0.0, 1.0])
    edges = np.unique(ordered[[*np.arange(bins) * len(ordered) // bins, -1]])
    edges = edges if len(edges) > 1 else np.repeat(edges, 2)
    place = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, len(edges) - 2)  # the highest is in the last bin
    rows = []
    for index in np.unique(place):
        inside = place == index
        seen = proportion(int(t[inside].sum()), int(inside.sum()))
        rows.append((*edges[index : index + 2], seen.n, p[inside].mean(), seen.value, seen.low, seen.high))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def fit_temperature(probabilities: np.ndarray, labels: Any, classes: Sequence[str]) -> float:
    """The temperature that makes `probabilities`, (n, k) in the order of `classes`, fit `labels` best.

    Above 1 they were too extreme. Guo et al. 2017 (ICML, arXiv:1706.04599): logits are divided by one number, which
    leaves the order of the classes, and so accuracy, as it was. Fitted by cross-entropy between 0.05 and 20. Pass
    validation images: fitted on the images it is judged on, it flatters.
    """
    places = places_of(labels, classes)

    def loss(log_value: float) -> float:
        scaled = apply_temperature(probabilities, float(np.exp(log_value)))
        return float(-np.log(np.clip(scaled[np.arange(len(places)), places], TINY, None)).mean())

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x))


def apply_temperature(probabilities: np.ndarray, t: float) -> np.ndarray:
    """`probabilities` (n, k) with their logits divided by `t`: an array of that shape, rows summing to 1."""
    return softmax(np.log(np.clip(probabilities, TINY, None)) / t, axis=1)


def rescale_scores(scores: pd.DataFrame, classes: Sequence[str], t: float) -> pd.DataFrame:
    """A scores frame with the columns p_<class> at temperature `t`, all else unchanged."""
    scaled = apply_temperature(probabilities_of(scores, classes), t)
    return scores.assign(**{f"p_{name}": scaled[:, place] for place, name in enumerate(classes)})
