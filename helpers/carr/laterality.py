"""On which side of the patient a map lies, and how much of it in the chest.

Carr 2020, Results: "Saliency maps indicate a clear right-sided bias across all classes, with the algorithms attention
predominantly located within the thoracic cavity". Here a number: the laterality index of a map, the mass on the
patient's right less that on the left over their sum, from -1 (all left) to 1 (all right), and its mean with an interval
by patient. Whether a network looks at the patient's right or at the picture's left is another question: in the mirror
image the two part ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics.bootstrap import mean_by_patient
from helpers.metrics.estimate import Estimate


def index(maps: np.ndarray, mirrored: bool = False) -> np.ndarray:
    """Laterality index (n,) of maps (n, h, w), whose size counts: positive to the patient's right.

    A frontal radiograph is seen as if the patient faced the reader, so that the right is on the picture's left; in a
    mirror image (`mirrored`) it is on the picture's right. The middle is the picture's own; of an odd width the middle
    column counts for neither. NaN for an empty map.
    """
    mass = np.abs(np.asarray(maps, float)).sum(axis=1)
    half = mass.shape[1] // 2
    first, last = mass[:, :half].sum(axis=1), mass[:, mass.shape[1] - half :].sum(axis=1)
    right, left = (last, first) if mirrored else (first, last)
    return np.divide(right - left, right + left, out=np.full(len(mass), np.nan), where=right + left > 0)


def by_class(
    maps: dict[str, np.ndarray], labels: Sequence[str], patients: Any, classes: Sequence[str], resamples: int, seed: int
) -> dict[str, dict[str, Estimate]]:
    """Mean laterality index of each class and of all, for the maps of the images and of their mirror images.

    `maps`: "image" and "mirror image", (n, h, w) each, the latter as the network saw it (not turned back).
    """
    labels, patients = np.asarray(labels), np.asarray(patients)
    made: dict[str, dict[str, Estimate]] = {}
    for name, values in maps.items():
        found = index(values, mirrored=name == "mirror image")
        groups = {"all": np.ones(len(labels), bool)} | {label: labels == label for label in classes}
        made[name] = {
            group: mean_by_patient(found[rows], patients[rows], resamples, seed, (-1.0, 1.0))
            for group, rows in groups.items()
            if rows.any()
        }
    return made


def inside(maps: np.ndarray, masks: np.ndarray, patients: Any, resamples: int, seed: int) -> dict[str, Estimate]:
    """Share of the maps' mass within the masks (n, h, w), beside the masks' share of the picture, which even attention
    would give; and the ratio of the two."""
    mass = np.abs(np.asarray(maps, float))
    shares = (mass * masks).sum(axis=(1, 2)) / np.maximum(mass.sum(axis=(1, 2)), 1e-30)
    area = masks.mean(axis=(1, 2))
    unit = {"bounds": (0.0, 1.0)}
    return {
        "saliency within": mean_by_patient(shares, patients, resamples, seed, **unit),
        "area within": mean_by_patient(area, patients, resamples, seed, **unit),
        "saliency an area": mean_by_patient(shares / np.maximum(area, 1e-9), patients, resamples, seed),
    }


def as_table(found: dict[str, dict[str, Estimate]]) -> pd.DataFrame:
    """A row an image kind and class: image, class, value, low, high, n, method."""
    return pd.DataFrame(
        [
            {"image": name, "class": group, **one.as_dict()}
            for name, part in found.items()
            for group, one in part.items()
        ]
    )


def sided(found: Estimate, mirror: Estimate) -> str:
    """What the indices of the images and of their mirror images say, in a sentence."""
    side = "the patient's right" if found.low > 0 else "the patient's left" if found.high < 0 else "neither side"
    interval = f"{found.value:+.3f}, {found.low:+.3f} to {found.high:+.3f}"
    told = f"On average the maps lie on {side} (laterality index {interval})"
    if side == "neither side":
        return f"{told}."
    same = mirror.low > 0 if found.low > 0 else mirror.high < 0
    other = mirror.high < 0 if found.low > 0 else mirror.low > 0
    follows = "what the network looks at turns with the patient" if same else "the index is not told from zero"
    if other:
        follows = "the network looks at a side of the picture, whoever's side it is"
    return f"{told}; of the mirror images, in the patient's terms, {mirror.value:+.3f}: {follows}."
