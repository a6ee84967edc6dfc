"""Means, ratios and AUROCs with patients as the units: their intervals, differences and averages.

Images of one patient resemble each other, so an interval that counts each as new evidence is too narrow. Every
statistic here is linearised: it has a part for each patient, and its variance is the sum of the squared parts (Taylor
linearisation, as survey packages do; Obuchowski 1997, Biometrics 53:567, for AUROCs). Parts of one patient add up over
statistics, so that differences and averages allow for shared patients, in whatever sets of images.

One rule for all intervals, each with its reason:

- a mean or ratio within bounds: t on the logit scale with (patients - 1) degrees of freedom, since the plain interval
  leaves the bounds and misses too often near them (Korn and Graubard 1998, Survey Methodology 24:193);
- all patients at one value: the exact bound for that many patients (`estimate.unanimous_bounds`), since no variance can
  be estimated. Where under `FEW` patients differ from a bound, the interval is not narrower than that;
- an AUROC: DeLong's variance on the logit scale; where that rests on under `auroc.BEHIND` patients of a class, the
  wider of it and Newcombe's method 5 (2006, Statistics in Medicine 25:559), which estimates no variance from those few;
- an average: from the summed parts, on the logit scale; a difference: from the summed parts, plain, with t or DeLong's
  normal quantile. Where a term has an interval of the second kind or by method 5, square-and-add of the terms' own
  intervals (Zou and Donner 2008, Statistics in Medicine 27:1693), since a variance that cannot be estimated is not
  zero. Of a difference on the same patients that is needed only where a term has no spread at all: simulated, the
  plain test errs on the safe side there;
- over several trainings: the test's interval and that over the trainings, squared and added;
- no interval (NaN, with the reason) for one patient, and for equal values without bounds.

`benchmarks/intervals.py` measures how often these intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import t as student

from helpers.metrics.estimate import ALPHA, Estimate, as_arrays, logit_limits, unanimous_bounds

FEW = 5  # patients that differ from a bound: with fewer their variance says little
TINY = 1e-12  # differences below this are rounding
ROUNDING = 1e-6  # of values computed in single precision, beyond their bounds
Bounds = tuple[float, float] | None  # the lowest and highest that a value can be
Limits = Callable[[float], tuple[float, float]]  # of an interval that misses with probability alpha


@dataclass(frozen=True)
class Clustered:
    """A statistic, what each patient adds to its error, and its interval at any level (`limits`; None: there is none).

    `n` is the number of images behind it, `units` of patients (of an AUROC, in the smaller class), `freedom` of degrees
    of freedom. `sparse`: the variance of the parts says too little, and the interval comes from elsewhere. Without a
    value, `value` is NaN and `note` the reason.
    """

    value: float
    parts: pd.Series
    n: int
    method: str
    limits: Limits | None = None
    span: Bounds = None
    units: int = 0
    freedom: float = math.inf
    sparse: bool = False
    note: str = ""

    @classmethod
    def undefined(cls, n: int, method: str, why: str) -> Clustered:
        return cls(math.nan, pd.Series(dtype=float), n, method, note=why)

    @property
    def defined(self) -> bool:
        return not math.isnan(self.value)

    @property
    def error(self) -> float:
        """The standard error; NaN where there is no value."""
        return math.sqrt(float(np.square(self.parts).sum())) if self.defined else math.nan

    def estimate(self) -> Estimate:
        """The value with its 95 % interval."""
        if not self.defined:
            return Estimate.undefined(self.n, self.method, self.note)
        low, high = self.limits(ALPHA) if self.limits else (math.nan, math.nan)
        low, high = float(min(low, self.value)), float(max(high, self.value))  # rounding; NaN, which comes first, stays
        return Estimate(float(self.value), low, high, self.n, self.method, self.note)

    def row(self, name: str = "difference") -> dict[str, float]:
        """The numbers of a difference as part of a table's row, with its p."""
        return self.estimate().row(name) | {"p": self.p}

    @property
    def p(self) -> float:
        """The two-sided p value of a true value of 0: the level at which the interval just reaches 0."""
        if not self.limits:
            return math.nan
        if abs(self.value) < TINY:
            return 1.0

        def distance(log_alpha: float) -> float:
            low, high = self.limits(math.exp(log_alpha))
            return low if self.value > 0 else -high

        if distance(0.0) <= 0:  # an interval of exact bounds holds more than the value at every level
            return 1.0
        least = -400.0  # below e^-500 SciPy's quantiles of t with few degrees of freedom are -inf
        return 0.0 if distance(least) > 0 else math.exp(brentq(distance, least, 0.0, xtol=1e-13))

    def __sub__(self, other: Clustered) -> Clustered:
        """The difference of two, whose images and patients may overlap."""
        return combine([self, other], [1.0, -1.0])


def mean_by_patient(values: Any, patients: Any, bounds: Bounds = None) -> Estimate:
    """The mean of `values`, one number per image, with its interval by patient.

    `bounds` are the lowest and the highest a value can be (0 and 1 of True and False); give them wherever there are
    any. Raises `ValueError` for values outside.
    """
    return clustered_mean(values, patients, bounds).estimate()


def clustered_mean(values: Any, patients: Any, bounds: Bounds = None) -> Clustered:
    """As `mean_by_patient`, for differences and averages."""
    return clustered_ratio(values, np.ones(len(values)), patients, bounds)


def clustered_ratio(values: Any, sizes: Any, patients: Any, bounds: Bounds = None) -> Clustered:
    """The sum of `values` over the sum of `sizes`, one of each per image; sizes may be weights, 0 included.

    `bounds` are those of a value over its size. Patients whose sizes sum to 0 do not count.
    """
    numbers, each, who = as_arrays(values=(values, float), sizes=(sizes, float), patients=(patients, object))
    if (each < 0).any():
        raise ValueError("sizes: expected numbers of at least 0")
    if bounds:
        within = np.clip(numbers, bounds[0] * each, bounds[1] * each)
        if (np.abs(numbers - within) > ROUNDING).any():
            raise ValueError(f"values: expected numbers from {bounds[0]} to {bounds[1]} for each unit of size")
        numbers = within
    totals = pd.DataFrame({"value": numbers, "size": each}).groupby(who, sort=False).sum()
    totals, total = totals[totals["size"] > 0], math.fsum(each)
    n, m = int((each > 0).sum()), len(totals)
    if not m:
        return Clustered.undefined(n, "logit-t by patient", "no observations")
    value = math.fsum(numbers) / total  # summed exactly, so that the order of images cannot change the last digit
    if bounds:
        value = min(max(value, bounds[0]), bounds[1])
    parts = (totals["value"] - value * totals["size"]) / total * math.sqrt(m / max(m - 1, 1))
    found = Clustered(value, parts, n, "t by patient", None, bounds, m, m - 1)
    return _with_mean_limits(found, (totals["value"] / totals["size"]).to_numpy())


def _with_mean_limits(found: Clustered, means: np.ndarray) -> Clustered:
    """A mean or ratio with its interval, from each patient's own mean."""
    if found.units < 2:
        return replace(found, method="none", note="one patient")
    tolerance = TINY * max(1.0, abs(found.value))
    if np.ptp(means) < tolerance:
        parts = 0.0 * found.parts
        if not found.span:
            return replace(found, parts=parts, method="none", note="all values are equal", sparse=True)
        limits, note = unanimous(found), "all patients agree"
        return replace(found, parts=parts, method="exact bound by patient", limits=limits, note=note, sparse=True)
    if not found.span:
        return replace(found, limits=wald(found))
    limits, method = logit_t(found), "logit-t by patient"
    apart = [int((abs(means - end) > tolerance).sum()) for end in found.span]
    if min(apart) >= FEW:
        return replace(found, limits=limits, method=method)
    return replace(found, limits=widest(limits, unanimous(found)), method=method, sparse=True)


def wald(found: Clustered) -> Limits:
    """The plain interval, with t or normal quantiles, within `span`."""
    lowest, highest = found.span or (-math.inf, math.inf)

    def limits(alpha: float) -> tuple[float, float]:
        half = found.error * float(student.isf(alpha / 2, found.freedom))
        return max(lowest, found.value - half), min(highest, found.value + half)

    return limits


def unanimous(found: Clustered) -> Limits:
    """The exact bounds where all patients gave the same value."""
    return lambda alpha: unanimous_bounds(found.value, found.units, *found.span, alpha)


def logit_t(found: Clustered) -> Limits:
    """Limits symmetric on the logit scale of `span`."""
    lowest, highest = found.span
    width = highest - lowest

    def limits(alpha: float) -> tuple[float, float]:
        quantile = float(student.isf(alpha / 2, found.freedom))
        low, high = logit_limits((found.value - lowest) / width, found.error / width, quantile)
        return lowest + width * low, lowest + width * high

    return limits


def widest(*intervals: Limits) -> Limits:
    def limits(alpha: float) -> tuple[float, float]:
        lows, highs = zip(*(one(alpha) for one in intervals), strict=True)
        return min(lows), max(highs)

    return limits


# --- comparisons ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Two statistics side by side: `difference` is a minus b, the two-sided `p` tests whether it is 0.

    `design_effect`: the factor by which a test that takes images as independent understates the variance (2 means that
    half as many independent images would give the same evidence); NaN where it was not asked.
    """

    a: Estimate
    b: Estimate
    difference: Estimate
    p: float
    design_effect: float = math.nan

    def row(self) -> dict[str, float]:
        """The difference as part of a table's row, with its p."""
        return self.difference.row("difference") | {"p": self.p}


def compare(a: Clustered, b: Clustered) -> Comparison:
    """Two statistics, whose images and patients may be the same, others, or overlap."""
    change = a - b
    return Comparison(a.estimate(), b.estimate(), change.estimate(), change.p)


def average(terms: Sequence[Clustered]) -> Clustered:
    """The mean of several statistics, whose patients may overlap; those without a value are left out."""
    known = [one for one in terms if one.defined]
    if not known:
        n, why = sum(one.n for one in terms), terms[0].note if terms else "nothing to average"
        return Clustered.undefined(n, "average by patient", why)
    return combine(known, [1 / len(known)] * len(known))


def combine(terms: Sequence[Clustered], weights: Sequence[float]) -> Clustered:
    """The weighted sum of several statistics, with the covariance that patients in several of them bring.

    Degrees of freedom: Welch and Satterthwaite's where no patient is in two terms, as pROC compares two AUROCs.
    """
    n, method = _images(terms), "average" if min(weights) > 0 else "difference"
    if why := next((one.note for one in terms if not one.defined), ""):
        return Clustered.undefined(n, method, why)
    parts = pd.concat([w * one.parts for one, w in zip(terms, weights, strict=True)], axis=1).fillna(0.0)
    value = sum(w * one.value for one, w in zip(terms, weights, strict=True))
    found = Clustered(value, parts.sum(axis=1), n, method, None, _span(terms, weights), min(one.units for one in terms))
    shared = sum(len(one.parts) for one in terms) > len(parts)
    found = replace(found, freedom=_freedom(terms, weights, len(parts), shared))
    if why := next((one.note for one in terms if one.limits is None), ""):
        return replace(found, method="none", note=why)
    errors = np.sqrt(np.square(parts).sum().to_numpy())
    if found.error < TINY < errors.max() and found.span:
        return replace(found, limits=unanimous(found), method="exact bound", note="they agree throughout", sparse=True)
    if any(one.sparse and (method == "average" or not shared or one.error < TINY) for one in terms):
        correlations = parts.to_numpy().T @ parts.to_numpy() / np.maximum(np.outer(errors, errors), TINY**2)
        limits = _square_and_add(found, terms, weights, correlations)
        return replace(found, limits=limits, method="square and add", sparse=True)
    by = "" if all(len(one.parts) == one.n for one in terms) else " by patient"
    kind = "DeLong" if math.isinf(min(one.freedom for one in terms)) else "t"
    inside = method == "average" and found.span and found.span[0] < value < found.span[1]
    return replace(found, limits=logit_t(found) if inside else wald(found), method=f"{kind}{by}")


def _square_and_add(
    found: Clustered, terms: Sequence[Clustered], weights: Sequence[float], correlations: np.ndarray
) -> Limits:
    """Each term's distance to its own limit, squared and added; `correlations` have the weights' signs in them."""
    lowest, highest = found.span or (-math.inf, math.inf)

    def limits(alpha: float) -> tuple[float, float]:
        arms = []
        for one, weight in zip(terms, weights, strict=True):
            low, high = one.limits(alpha)
            below, above = max(0.0, one.value - low), max(0.0, high - one.value)
            arms.append(np.abs(weight) * np.array([below, above] if weight > 0 else [above, below]))
        below, above = np.sqrt([max(0.0, arm @ correlations @ arm + 0.0) for arm in np.transpose(arms)])
        return max(lowest, found.value - below), min(highest, found.value + above)

    np.fill_diagonal(correlations, 1.0)  # also where a term shows no spread at all
    return limits


def _span(terms: Sequence[Clustered], weights: Sequence[float]) -> Bounds:
    if any(one.span is None for one in terms):
        return None
    ends = [sorted((w * one.span[0], w * one.span[1])) for one, w in zip(terms, weights, strict=True)]
    return sum(low for low, _ in ends), sum(high for _, high in ends)


def _freedom(terms: Sequence[Clustered], weights: Sequence[float], patients: int, shared: bool) -> float:
    if len(terms) > 1 and not shared:
        variances = [(w * one.error) ** 2 for one, w in zip(terms, weights, strict=True)]
        below = sum(v**2 / max(len(one.parts) - 1, 1) for v, one in zip(variances, terms, strict=True))
        return sum(variances) ** 2 / below if below else math.inf
    return math.inf if any(math.isinf(one.freedom) for one in terms) else patients - 1


def _images(terms: Sequence[Clustered]) -> int:
    """Images behind several: their sum where no patient is in two of them, else those of the largest."""
    patients = [set(one.parts.index) for one in terms]
    disjoint = sum(map(len, patients)) == len(set().union(*patients))
    return sum(one.n for one in terms) if disjoint else max(one.n for one in terms)


def first_training(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first training, which `seed` names; all where none is named."""
    return scores[scores["seed"] == scores["seed"].min()] if "seed" in scores else scores


def by_training(
    scores: pd.DataFrame, statistics: Callable[[pd.DataFrame], Mapping[Any, Clustered]]
) -> dict[Any, Clustered]:
    """Statistics of scores of several trainings, which `seed` tells apart, as `over_trainings` has them; of scores
    without one, which no training here decides, the statistics themselves."""
    if "seed" not in scores or scores["seed"].isna().all():
        return dict(statistics(scores))
    trained = [statistics(part) for _, part in scores.groupby("seed")]
    return {name: over_trainings([found[name] for found in trained]) for name in trained[0]}


def over_trainings(trained: Sequence[Clustered]) -> Clustered:
    """The mean of one statistic over several trainings, judged on the same test images: with the error of the test
    patients and the spread between the trainings (draws, seeds), squared and added.

    For a difference pass the difference of each training. Draws that share training images spread less than new ones
    would, and the interval knows nothing of that. One training has no spread, and so no interval.
    """
    tested = average(trained)
    values = [one.value for one in trained if one.defined]
    if len(values) < 2 or not tested.limits:
        why = tested.note or "one training: the spread between trainings is unknown"
        return replace(tested, limits=None, method="none", note=why)
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    lowest, highest = tested.span or (-math.inf, math.inf)

    def limits(alpha: float) -> tuple[float, float]:
        (low, high), between = tested.limits(alpha), spread * float(student.isf(alpha / 2, len(values) - 1))
        below, above = (math.hypot(arm, between) for arm in (tested.value - low, high - tested.value))
        return max(lowest, tested.value - below), min(highest, tested.value + above)

    note = next(filter(None, (one.note for one in trained)), "")
    return replace(tested, limits=limits, method=f"test patients and {len(values)} trainings", note=note)
