"""AUROCs whose images overlap: by what each patient contributes, so that any two can be compared, or several averaged.

DeLong's tests compare two scores of the same images, or two sets without an image in common. A joint set of two
hospitals and one of its parts are neither. An AUROC is a mean of placements, so every image has its part in the
error, and a patient's images, in whatever set, add up (Obuchowski 1997, Biometrics 53:567, for one set and for the
same images twice; here the parts are simply summed by patient over all sets). With one image a patient the variance
is DeLong's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics.auroc import lacks_class, placements
from helpers.metrics.checks import as_bool, as_labels, as_scores, same_length
from helpers.metrics.estimate import Estimate
from helpers.metrics.proportions import Z, unanimous_bounds

METHOD = "DeLong by patient"


@dataclass(frozen=True)
class Area:
    """An AUROC, or a mean or difference of some: its value, what each patient contributes to its error, the number of
    images it rests on (see `_images`), and, where there is no value, why."""

    value: float
    parts: pd.Series
    n: int
    why_not: str = ""

    @property
    def error(self) -> float:
        """The standard error; NaN where there is no value."""
        return math.sqrt(float(np.square(self.parts).sum())) if not self.why_not else math.nan

    def estimate(self) -> Estimate:
        """The AUROC with an interval on the logit scale; of perfect separation, the exact bound for its patients."""
        if self.why_not:
            return Estimate.undefined(self.n, METHOD, self.why_not)
        if self.error < 1e-12:
            low, high = unanimous_bounds(self.value, len(self.parts) // 2, 0.0, 1.0)
            return Estimate(self.value, low, high, self.n, "exact bound", "no spread within a class")
        value = min(max(self.value, 1e-9), 1 - 1e-9)
        centre, half = math.log(value / (1 - value)), Z * self.error / (value * (1 - value))
        low, high = (1 / (1 + math.exp(-x)) for x in (centre - half, centre + half))
        return Estimate(self.value, min(low, self.value), max(high, self.value), self.n, METHOD)

    def difference(self) -> Estimate:
        """The value as a difference, with a Wald interval."""
        if self.why_not:
            return Estimate.undefined(self.n, METHOD, self.why_not)
        return Estimate(self.value, self.value - Z * self.error, self.value + Z * self.error, self.n, METHOD)

    @property
    def p(self) -> float:
        """Two-sided, of a value (a difference) of 0."""
        from scipy.stats import norm

        if self.why_not:
            return math.nan
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return 2 * float(norm.sf(abs(self.value) / self.error))


def area(truth: Any, score: Any, patients: Any) -> Area:
    """The AUROC of one set; `truth` True for a positive, `score` and `patients` one an image.

    Without positives or negatives of two patients each there is no value. Raises `ValueError` for unequal lengths.
    """
    t, s = as_bool(truth, "truth"), as_scores(score, "score")
    who = as_labels(patients, "patients").astype(str)
    n = same_length(truth=t, score=s, patients=who)
    counts = [len(set(who[part])) for part in (t, ~t)]
    if why := lacks_class(t) or ("one patient of a class alone" if min(counts) < 2 else ""):
        return Area(math.nan, pd.Series(dtype=float), n, why)
    placed = placements(t, s)
    part = np.empty(n)
    for mine, values, patients_of in ((t, placed.positives, counts[0]), (~t, placed.negatives, counts[1])):
        part[mine] = (values - placed.area) / mine.sum() * math.sqrt(patients_of / (patients_of - 1))
    return Area(placed.area, pd.Series(part).groupby(who).sum(), n)


def mean(areas: Sequence[Area]) -> Area:
    """The mean of several, whose images may overlap; those without a value are left out."""
    known = [one for one in areas if not one.why_not]
    if not known:
        return Area(
            math.nan, pd.Series(dtype=float), sum(one.n for one in areas), areas[0].why_not if areas else "none"
        )
    parts = pd.concat([one.parts for one in known]).groupby(level=0).sum() / len(known)
    return Area(float(np.mean([one.value for one in known])), parts, _images(known))


def less(a: Area, b: Area) -> Area:
    """a - b, whose images may overlap."""
    if a.why_not or b.why_not:
        return Area(math.nan, pd.Series(dtype=float), a.n + b.n, a.why_not or b.why_not)
    return Area(a.value - b.value, a.parts.sub(b.parts, fill_value=0.0), _images([a, b]))


def _images(areas: Sequence[Area]) -> int:
    """Images that several rest on: their sum where no patient is in two of them, else those of the largest."""
    patients = [set(one.parts.index) for one in areas]
    disjoint = sum(map(len, patients)) == len(set().union(*patients))
    return sum(one.n for one in areas) if disjoint else max(one.n for one in areas)
