"""Checks that every statistic makes of what it is given: right shape, nothing missing, one length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd


def as_bool(values: Any, name: str) -> np.ndarray:
    """`values` (True/False or 1/0) as a 1-d boolean array.

    Raises `ValueError` for a missing value, for a number that is neither 0 nor 1, and for text: 'False' is not False.
    """
    array = _flat(values, name)
    if array.dtype == bool:
        return array
    _refuse_missing(array, name)
    if array.dtype == object and all(isinstance(value, bool | np.bool_) for value in array):
        return array.astype(bool)
    if array.dtype.kind not in "iuf" or not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name}: expected True/False or 1/0, got values such as {_examples(array)}")
    return array.astype(bool)


def as_scores(values: Any, name: str) -> np.ndarray:
    """`values` as a 1-d float array without NaN; infinities may stand, since they can be ranked."""
    array = _flat(values, name)
    try:
        array = array.astype(float)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: expected numbers, got values such as {_examples(array)}") from None
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
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"lengths differ: {told}")
    return next(iter(lengths.values()))


def _flat(values: Any, name: str) -> np.ndarray:
    array = np.asarray(values if hasattr(values, "__len__") else list(values))
    if array.ndim != 1:
        raise ValueError(f"{name}: expected one value an image, got an array of shape {array.shape}")
    return array


def _refuse_missing(array: np.ndarray, name: str) -> None:
    missing = int(pd.isna(array).sum())
    if missing:
        raise ValueError(f"{name}: {missing} of {len(array)} values are missing (NaN)")


def _examples(array: np.ndarray) -> str:
    return ", ".join(repr(value) for value in dict.fromkeys(array[:1000].tolist()).keys() if value not in (0, 1))[:80]
