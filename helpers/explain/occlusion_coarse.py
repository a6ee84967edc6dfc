"""Coarse to fine: exact positions on a grid and where probabilities change fast, interpolation between, and its error.

A network that halves resolution is not smooth in the box's position: a shift by one pixel can move a probability by
0.1. So nothing here is believed unmeasured: positions that would have been skipped are drawn at random and computed.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from helpers.explain.occlusion_sweep import Box, Sweep

CHECKS = 64  # skipped positions that are computed after all, to measure the error


class InterpolationWarning(UserWarning):
    """An interpolated map whose measured error is larger than was asked for."""


def coarse_to_fine(sweep: Sweep, box: Box, step: int, tolerance: float) -> tuple[np.ndarray, dict[str, float]]:
    """Probabilities (r, r, classes) at all positions of `box`, and what was skipped.

    Every `step`-th position is computed, and the last; then all positions of a cell whose four corners differ by more
    than `tolerance` in any class. The others are interpolated linearly. Returned besides: `skipped`, the share of
    positions not computed; and over `checked` random ones of these `error_max` and `error_mean`, in probability.
    Gives an `InterpolationWarning` where `error_max` exceeds `tolerance`. Raises `ValueError` for a step under 2.
    """
    if step < 2 or not tolerance > 0:
        raise ValueError(f"coarse = {step}, tolerance = {tolerance}; a coarse step is 2 or more, a tolerance positive")
    count = len(box.starts)
    knots = np.unique(np.append(np.arange(0, count, step), count - 1))
    grid = np.stack(np.meshgrid(knots, knots, indexing="ij"), axis=-1).reshape(-1, 2)
    values = sweep.at(box, box.starts[grid]).reshape(len(knots), len(knots), -1)
    found = _interpolated(knots, values, count)
    exact = _steep(knots, values, count, tolerance)
    exact[np.ix_(knots, knots)] = False  # known already
    places = np.argwhere(exact)
    if len(places):
        found[places[:, 0], places[:, 1]] = sweep.at(box, box.starts[places])
    exact[np.ix_(knots, knots)] = True
    return found, _checked(sweep, box, found, np.argwhere(~exact), tolerance)


def _interpolated(knots: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """float32 (count, count, classes): linear between the knots, row-wise, then column-wise."""
    left = np.clip(np.searchsorted(knots, np.arange(count), side="right") - 1, 0, max(len(knots) - 2, 0))
    right = np.minimum(left + 1, len(knots) - 1)
    share = (np.arange(count) - knots[left]) / np.maximum(knots[right] - knots[left], 1)
    rows = values[left] * (1 - share)[:, None, None] + values[right] * share[:, None, None]
    columns = rows[:, left] * (1 - share)[:, None] + rows[:, right] * share[:, None]
    return columns.astype(np.float32)


def _steep(knots: np.ndarray, values: np.ndarray, count: int, tolerance: float) -> np.ndarray:
    """bool (count, count): positions in cells whose corners differ by more than `tolerance`."""
    exact = np.zeros((count, count), bool)
    for row in range(len(knots) - 1):
        for column in range(len(knots) - 1):
            corners = values[row : row + 2, column : column + 2]
            if np.ptp(corners, axis=(0, 1)).max() > tolerance:
                exact[knots[row] : knots[row + 1] + 1, knots[column] : knots[column + 1] + 1] = True
    return exact


def _checked(sweep: Sweep, box: Box, found: np.ndarray, skipped: np.ndarray, tolerance: float) -> dict[str, float]:
    """Measure the interpolation where it was used, and keep the exact values there."""
    told = {"skipped": len(skipped) / found.shape[0] ** 2, "checked": min(CHECKS, len(skipped))}
    if not len(skipped):
        return told | {"error_max": 0.0, "error_mean": 0.0}
    sample = np.random.default_rng(0).permutation(skipped)[:CHECKS]
    exact = sweep.at(box, box.starts[sample])
    errors = np.abs(exact - found[sample[:, 0], sample[:, 1]]).max(axis=1)
    found[sample[:, 0], sample[:, 1]] = exact
    told |= {"error_max": float(errors.max()), "error_mean": float(errors.mean())}
    if told["error_max"] > tolerance:
        text = f"interpolated occlusion is {told['error_max']:.3f} off at the worst of {len(sample)} checked positions"
        warnings.warn(f"{text}, {tolerance} was asked for; use a smaller coarse step, or none", InterpolationWarning, 2)
    return told
