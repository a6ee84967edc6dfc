"""Several labels an image: AUROCs label by label, and F1 scores at a threshold that was chosen on other images.

`scores` frames have, a row an image, patient_id and for each label `y_<label>` (bool) and `p_<label>` (0 to 1).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics.auroc import Comparison, auroc, compare_aurocs
from helpers.metrics.bootstrap import by_patient
from helpers.metrics.checks import as_bool, as_scores, same_length
from helpers.metrics.estimate import Estimate


def labels_of(scores: pd.DataFrame) -> tuple[str, ...]:
    """The labels of a scores frame, in its order."""
    return tuple(name[2:] for name in scores.columns if name.startswith("p_"))


def aurocs(scores: pd.DataFrame) -> dict[str, Estimate]:
    """Each label's AUROC with DeLong's interval; undefined, with the reason, where no image has the label."""
    return {label: auroc(scores[f"y_{label}"], scores[f"p_{label}"]) for label in labels_of(scores)}


def compared(scores: pd.DataFrame, other: pd.DataFrame) -> dict[str, Comparison]:
    """DeLong's test of two networks on the same images, label by label. Raises `ValueError` where they are not."""
    if not np.array_equal(scores["image_id"], other["image_id"]):
        raise ValueError("the two networks' scores are not of the same images in one order")
    return {
        label: compare_aurocs(scores[f"y_{label}"], scores[f"p_{label}"], other[f"p_{label}"])
        for label in labels_of(scores)
    }


def positives_of(scores: pd.DataFrame) -> dict[str, int]:
    """Images with each label."""
    return {label: int(scores[f"y_{label}"].sum()) for label in labels_of(scores)}


def f1(truth: Any, called: Any) -> float:
    """The harmonic mean of precision and recall, 2 / (1 / recall + 1 / precision); 0 without a hit, NaN without a
    positive or a call."""
    t, c = as_bool(truth, "truth"), as_bool(called, "called")
    same_length(truth=t, called=c)
    total = int(t.sum()) + int(c.sum())
    return 2 * int((t & c).sum()) / total if total else float("nan")


def best_f1_threshold(truth: Any, score: Any) -> float:
    """The score from which calling an image positive gives the highest F1 on these images; infinite without positives.

    Of equally good ones the highest. To be judged on other images: `f1_by_patient`.
    """
    t, s = as_bool(truth, "truth"), as_scores(score, "score")
    same_length(truth=t, score=s)
    if not t.any():
        return float("inf")
    thresholds, groups = np.unique(s, return_inverse=True)
    called = np.bincount(groups, minlength=len(thresholds))[::-1].cumsum()
    hits = np.bincount(groups, t, len(thresholds))[::-1].cumsum()
    return float(thresholds[::-1][int(np.argmax(2 * hits / (t.sum() + called)))])


def f1_by_patient(truth: Any, called: Any, patients: Any, resamples: int, seed: int) -> Estimate:
    """F1 with a bootstrap interval by patient; undefined where no image has the label."""
    t, c = as_bool(truth, "truth"), as_bool(called, "called")
    if not t.any():
        return Estimate.undefined(len(t), "bootstrap by patient", "no positives")
    return by_patient(f1, patients, resamples, seed, t, c)


def f1_elsewhere(validation: pd.DataFrame, test: pd.DataFrame, resamples: int, seed: int) -> dict[str, Estimate]:
    """Each label's F1 on test images, at the threshold that is best on validation images."""
    found = {}
    for label in labels_of(test):
        threshold = best_f1_threshold(validation[f"y_{label}"], validation[f"p_{label}"])
        called = test[f"p_{label}"] >= threshold
        found[label] = f1_by_patient(test[f"y_{label}"], called, test["patient_id"], resamples, seed)
    return found


def f1_crossed(scores: pd.DataFrame, label: str, resamples: int, seed: int) -> Estimate:
    """A label's F1 where there are no validation images: patients are halved, and each half is judged at the threshold
    that is best on the other."""
    truth, score = scores[f"y_{label}"].to_numpy(bool), scores[f"p_{label}"].to_numpy(float)
    half = np.array([_half(patient, seed) for patient in scores["patient_id"].astype(str)])
    called = np.zeros(len(truth), bool)
    for side in (False, True):
        called[half == side] = score[half == side] >= best_f1_threshold(truth[half != side], score[half != side])
    return f1_by_patient(truth, called, scores["patient_id"], resamples, seed)


def _half(patient: str, seed: int) -> bool:
    return bool(hashlib.blake2b(f"{seed}/{patient}".encode()).digest()[0] % 2)
