"""Youden's index, its curve against the cut-off, and the threshold that maximises it.

A threshold chosen on the images it is judged on looks better than it is. Pass validation images here, then judge the
threshold on test images with `classification.rates(truth, score >= threshold)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

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


def youden_curve(truth: Any, score: Any, steps: int = 1000) -> pd.DataFrame:
    """Rajkomar 2017, figure 5: the index at cut-offs from 0 to 1, columns cutoff, sensitivity, specificity, index.

    "Youden Index is plotted against cutoffs determined using predicted probability of being a frontal image (PFI),
    incremented by 0.1 % in the range 0 to 100 %". `truth` is True for a frontal image and `score` its PFI, 0 to 1; a
    score of at least the cut-off is called frontal. All but `cutoff` is NaN without both classes. Raises `ValueError`
    for a score outside 0 to 1.
    """
    t, s = as_bool(truth, "truth"), as_scores(score, "score")
    same_length(truth=t, score=s)
    if len(s) and not (s.min() >= 0 and s.max() <= 1):
        raise ValueError(f"score: expected probabilities of 0 to 1, got {s.min():g} to {s.max():g}")
    cutoffs = np.arange(steps + 1) / steps
    curve = pd.DataFrame({"cutoff": cutoffs, "sensitivity": np.nan, "specificity": np.nan})
    if not lacks_class(t):
        positives, negatives = np.sort(s[t]), np.sort(s[~t])
        curve["sensitivity"] = 1 - np.searchsorted(positives, cutoffs) / len(positives)
        curve["specificity"] = np.searchsorted(negatives, cutoffs) / len(negatives)
    return curve.assign(index=curve["sensitivity"] + curve["specificity"] - 1)


@dataclass(frozen=True)
class Plateau:
    """The cut-offs that do best. `low` to `high` is their range, `cutoff` its higher end, `index` the index there;
    `gapless` is False where cut-offs between them do worse. `largest_negative` and `smallest_positive` are the scores
    that bound the range where the classes are apart (the paper's 14.3 and 99.6 %)."""

    low: float
    high: float
    cutoff: float
    index: float
    gapless: bool
    largest_negative: float
    smallest_positive: float


def published_cutoff(truth: Any, score: Any, steps: int = 1000) -> Plateau:
    """The cut-off by the rule of Rajkomar 2017, Model Assessment: "We calculated a cutoff that maximizes the Youden
    Index (J) such that images with a PFI >= J would be classified as a frontal image; otherwise, an image would be
    classified as a lateral. [...] A range of PFI values maximized the Youden Index, and we chose the higher end of the
    range as the cutoff."

    Inputs as for `youden_curve`. The paper did this on its test images, and then counted 100 % of them right; pass
    validation images for a cut-off that can be judged on the test. With one class only all numbers are NaN.
    """
    curve, t = youden_curve(truth, score, steps), as_bool(truth, "truth")
    if lacks_class(t):
        return Plateau(*(math.nan,) * 4, False, math.nan, math.nan)
    s, index = as_scores(score, "score"), curve["index"].to_numpy()
    best = np.flatnonzero(index >= index.max() - 1e-12)
    low, high = (float(curve["cutoff"].iloc[best[i]]) for i in (0, -1))
    gapless = bool(np.ptp(best) == len(best) - 1)
    return Plateau(low, high, high, float(index.max()), gapless, float(s[~t].max()), float(s[t].min()))


def _index(hits: int, positives: int, alarms: int, negatives: int) -> Estimate:
    from statsmodels.stats.proportion import confint_proportions_2indep

    value = hits / positives - alarms / negatives
    low, high = confint_proportions_2indep(hits, positives, alarms, negatives, "newcomb", "diff", ALPHA)
    low, high = max(-1.0, min(float(low), value)), min(1.0, max(float(high), value))
    note = "optimistic: the threshold was chosen on these images"
    return Estimate(value, low, high, positives + negatives, METHOD, note)
