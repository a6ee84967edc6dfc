"""Youden's index and the threshold that maximises it.

A threshold chosen on the images it is judged on looks better than it is. Pass validation images here, then judge the
threshold on test images with `classification.rates(truth, score >= threshold)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from helpers.metrics.auroc import lacks_class
from helpers.metrics.checks import as_bool, as_scores, same_length
from helpers.metrics.estimate import Estimate
from helpers.metrics.proportions import ALPHA, proportion

METHOD = "Newcombe"


@dataclass(frozen=True)
class Youden:
    """`threshold`: a score of at least this is positive. The rest is how that does on the images it was chosen on."""

    threshold: float
    index: Estimate
    sensitivity: Estimate
    specificity: Estimate


def youden(truth: Any, score: Any) -> Youden:
    """The threshold with the greatest sensitivity + specificity - 1, among the scores that occur.

    `truth` holds one True (positive) or False an image, `score` one number, higher for positive. Of thresholds that do
    equally well the lowest is taken, the most sensitive: failing to refer is the worse error (Kermany 2018, Expert
    Comparisons). The index's interval is Newcombe's for a difference of two proportions, sensitivity and the false
    positive rate; it ignores that the threshold was chosen. With one class only all is undefined and the threshold NaN.
    """
    t, s = as_bool(truth, "truth"), as_scores(score, "score")
    n = same_length(truth=t, score=s)
    missing = lacks_class(t)
    if missing:
        undefined = Estimate.undefined(n, METHOD, missing)
        return Youden(math.nan, undefined, undefined, undefined)
    thresholds, groups = np.unique(s, return_inverse=True)
    positives, negatives = int(t.sum()), int((~t).sum())
    # Called positive at each threshold: all that score there or above, so sums run down from the top.
    hits = np.bincount(groups, t, len(thresholds))[::-1].cumsum()[::-1].astype(int)
    alarms = np.bincount(groups, ~t, len(thresholds))[::-1].cumsum()[::-1].astype(int)
    best = int(np.argmax(hits * negatives - alarms * positives))  # in whole numbers, so that ties are ties
    index = _index(int(hits[best]), positives, int(alarms[best]), negatives)
    sensitivity, specificity = (
        proportion(hits[best], positives),
        proportion(negatives - alarms[best], negatives),
    )
    return Youden(float(thresholds[best]), index, sensitivity, specificity)


def _index(hits: int, positives: int, alarms: int, negatives: int) -> Estimate:
    from statsmodels.stats.proportion import confint_proportions_2indep

    value = hits / positives - alarms / negatives
    low, high = confint_proportions_2indep(hits, positives, alarms, negatives, "newcomb", "diff", ALPHA)
    low, high = max(-1.0, min(float(low), value)), min(1.0, max(float(high), value))
    note = "optimistic: the threshold was chosen on these images"
    return Estimate(value, low, high, positives + negatives, METHOD, note)
