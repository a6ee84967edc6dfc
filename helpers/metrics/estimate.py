"""An estimate with its 95 % interval, tables of estimates, and the checks that every statistic makes of its inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, the number of observations behind it, and the method of the interval.

    `value`, `low` and `high` share one unit (a proportion is 0 to 1, never per cent). An estimate that the data
    cannot give (no positives, for example) has NaN for all three, and `note` gives the reason.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    note: str = ""

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"an estimate from n = {self.n} observations")
        if not math.isnan(self.low) and not self.low <= self.value <= self.high:
            raise ValueError(f"the interval {self.low} to {self.high} does not hold the value {self.value}")

    @classmethod
    def undefined(cls, n: int, method: str, why: str) -> Estimate:
        """An estimate that the data cannot give, with the reason."""
        return cls(math.nan, math.nan, math.nan, n, method, why)

    @classmethod
    def exact(cls, value: float, method: str = "counted", n: int = 0) -> Estimate:
        """A number without uncertainty: a count, a setting, a duration."""
        return cls(float(value), float(value), float(value), n, method)

    @property
    def defined(self) -> bool:
        return not math.isnan(self.value)

    def as_dict(self) -> dict:
        return asdict(self)

    def row(self, name: str = "value") -> dict[str, float]:
        """The numbers alone, as part of a table's row: `name`, low, high and n."""
        return {name: self.value, "low": self.low, "high": self.high, "n": self.n}

    def percent(self, digits: int = 1) -> str:
        """'96.6 % (95.3 to 97.6)', as the papers print proportions."""
        if not self.defined:
            return str(self)
        value, low, high = (f"{100 * x:.{digits}f}" for x in (self.value, self.low, self.high))
        return f"{value} % ({low} to {high})"

    def __str__(self) -> str:
        if not self.defined:
            return f"undefined ({self.note})" if self.note else "undefined"
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g}), n = {self.n}"


def estimate_table(
    groups: Mapping[str, Mapping[str, Estimate]], names: tuple[str, str] = ("model", "quantity")
) -> pd.DataFrame:
    """Estimates as a table: one row per group and quantity, with value, low, high, n, method and note.

    `names` are the headings of the first two columns: the keys of the outer and of the inner mappings.
    """
    rows = [
        {names[0]: group, names[1]: key.replace("_", " "), **estimate.as_dict()}
        for group, estimates in groups.items()
        for key, estimate in estimates.items()
    ]
    return pd.DataFrame(rows)


def side_by_side(groups: Mapping[str, Mapping[str, Estimate]]) -> pd.DataFrame:
    """The same for reading: one row per quantity, one column per group, per cent with the interval."""
    return pd.DataFrame(
        {group: {key.replace("_", " "): e.percent() for key, e in found.items()} for group, found in groups.items()}
    )


# --- checks of inputs -------------------------------------------------------------------------------------------------


def as_bool(values: Any, name: str) -> np.ndarray:
    """`values` (True/False or 1/0) as a 1-d boolean array.

    Raises `ValueError` for a missing value, for a number that is neither 0 nor 1, and for text: 'False' is not False.
    """
    array = _flat(values, name)
    if array.dtype != bool:
        _refuse_missing(array, name)
        if other := [value for value in array.tolist() if value not in (0, 1)]:
            raise ValueError(f"{name}: expected True/False or 1/0, got {other[0]!r}")
    return array.astype(bool)


def as_scores(values: Any, name: str) -> np.ndarray:
    """`values` as a 1-d float array without NaN; infinities may stand, since they can be ranked."""
    array = _flat(values, name)
    try:
        array = array.astype(float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected numbers, got an array of {array.dtype}") from None
    _refuse_missing(array, name)
    return array


def as_labels(values: Any, name: str, classes: Iterable[str] | None = None) -> np.ndarray:
    """`values` as a 1-d object array without missing ones; all of them among `classes` where those are given."""
    array = _flat(values, name).astype(object)
    _refuse_missing(array, name)
    if classes is not None:
        known = check_classes(classes)
        unknown = sorted({str(value) for value in array} - set(known))
        if unknown:
            raise ValueError(f"{name}: {', '.join(unknown[:3])} not one of {', '.join(known)}")
    return array


def as_truth_and_score(truth: Any, score: Any) -> tuple[np.ndarray, np.ndarray]:
    """`truth` (True for a positive) and `score` (higher for a positive), one of each per image."""
    t, s = as_bool(truth, "truth"), as_scores(score, "score")
    same_length(truth=t, score=s)
    return t, s


def as_bools(**arrays: Any) -> list[np.ndarray]:
    """Several boolean arrays of one length, checked under their names."""
    checked = {name: as_bool(values, name) for name, values in arrays.items()}
    same_length(**checked)
    return list(checked.values())


def check_classes(classes: Iterable[str]) -> list[str]:
    """`classes` as a list; `ValueError` where it is one string, is empty or names a class twice."""
    if isinstance(classes, str):
        raise ValueError(f"classes: expected several names, got the one string '{classes}'")
    known = list(classes)
    if not known or len(set(known)) != len(known):
        raise ValueError(f"classes: expected different names, got {known}")
    return known


def same_length(**arrays: np.ndarray) -> int:
    """The length that all `arrays` share; `ValueError`, with each name and length, where they differ."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"lengths differ: {listed}")
    return next(iter(lengths.values()))


def lacks_class(truth: np.ndarray) -> str:
    """Why `truth` (boolean) has no positives or no negatives, or an empty string."""
    if not len(truth):
        return "no observations"
    return "" if 0 < truth.sum() < len(truth) else ("no negatives" if truth.any() else "no positives")


def _flat(values: Any, name: str) -> np.ndarray:
    array = np.asarray(values if hasattr(values, "__len__") else list(values))
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one value per image, got an array of shape {array.shape}")
    return array


def _refuse_missing(array: np.ndarray, name: str) -> None:
    missing = int(pd.isna(array).sum())
    if missing:
        raise ValueError(f"{name}: {missing} of {len(array)} values are missing (NaN)")
