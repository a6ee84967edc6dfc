"""An estimate with its 95 % interval, tables of estimates, and the check that every statistic makes of its inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

FIELDS = ["value", "low", "high", "n", "method", "note"]


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


def flatten(groups: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Any]:
    """The entries of a mapping of mappings by both keys, for `estimate_frame`."""
    return {(group, key): value for group, found in groups.items() for key, value in found.items()}


def estimate_frame(found: Mapping[Any, Estimate], *names: str) -> pd.DataFrame:
    """Estimates as a table: their keys (or the parts of a tuple) in columns `names`, then the fields of each."""
    keys = [key if isinstance(key, tuple) else (key,) for key in found]
    return pd.DataFrame(list(found.values()), pd.MultiIndex.from_tuples(keys, names=names), FIELDS).reset_index()


def estimate_table(
    groups: Mapping[str, Mapping[str, Estimate]], names: tuple[str, str] = ("model", "quantity")
) -> pd.DataFrame:
    """One row per group and quantity, whose headings are `names`: the keys of the outer and of the inner mappings."""
    table = estimate_frame(flatten(groups), *names)
    return table.assign(**{names[1]: table[names[1]].str.replace("_", " ")})


def side_by_side(groups: Mapping[str, Mapping[str, Estimate]]) -> pd.DataFrame:
    """The same for reading: one row per quantity, one column per group, per cent with the interval."""
    return pd.DataFrame(
        {group: {key.replace("_", " "): e.percent() for key, e in found.items()} for group, found in groups.items()}
    )


def as_arrays(**inputs: tuple[Any, type]) -> list[np.ndarray]:
    """Inputs as 1-d arrays of one length: `name=(values, kind)`, the kind being bool, float or object (labels).

    Raises `ValueError`, with the name, for a missing value, for text or other numbers than 0 and 1 as bool ('False' is
    not False), for text as float, and where lengths differ. Infinite numbers may stand, since they can be ranked.
    """
    arrays = {name: np.asarray(values) for name, (values, _) in inputs.items()}
    for name, array in arrays.items():
        if array.ndim != 1 or pd.isna(array).any():
            raise ValueError(f"{name}: expected one value per image, none of them missing")
        kind = inputs[name][1]
        if kind is bool and not set(array.tolist()) <= {0, 1} or kind is float and array.dtype.kind not in "biuf":
            raise ValueError(f"{name}: expected {'numbers' if kind is float else 'True/False or 1/0'}")
        arrays[name] = array.astype(kind)
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"lengths differ: {', '.join(f'{name} has {n}' for name, n in lengths.items())}")
    return list(arrays.values())


def places_of(labels: Any, classes: Iterable[str]) -> np.ndarray:
    """Where each label is among `classes`: int (n,). Raises `ValueError` for one that is not."""
    known, labels = pd.Index(classes), pd.Index(labels)
    if len(unknown := labels.difference(known)):
        raise ValueError(f"labels: {', '.join(map(str, unknown[:3]))} not one of {', '.join(known)}")
    return known.get_indexer(labels)


def lacks_class(truth: np.ndarray) -> str:
    """Why `truth` (boolean) has no positives or no negatives, or an empty string."""
    if not len(truth):
        return "no observations"
    return "" if 0 < truth.sum() < len(truth) else ("no negatives" if truth.any() else "no positives")
