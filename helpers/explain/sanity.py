"""Do maps depend on what was learnt, and do methods agree? Rank correlations between maps of the same images.

Adebayo et al. 2018, "Sanity checks for saliency maps": a method whose map stays the same when the weights are
randomised shows the image's edges, not the network's reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.explain.classifier import Classifier, from_model
from helpers.explain.scores import importance, mean_of

if TYPE_CHECKING:
    import keras

    from helpers.explain.maps import Maps


def randomised(classifier: Classifier, seed: int = 1, part: str = "all") -> Classifier:
    """The same network with its weights shuffled within each array, from `seed`.

    Shuffled, not drawn anew: each array keeps its mean, spread and signs, so that activations stay in range and nothing
    but what was learnt is lost. `part`: "all", or "head" for the last layer with weights only.
    """
    import keras

    if part not in ("all", "head"):
        raise ValueError(f"part = '{part}'; known: all, head")
    copy = keras.models.clone_model(classifier.model)
    values, random = classifier.model.get_weights(), np.random.default_rng(seed)
    first = 0 if part == "all" else len(values) - len(_last_with_weights(classifier.model).get_weights())
    for i in range(first, len(values)):
        values[i] = random.permutation(values[i].ravel()).reshape(values[i].shape)
    copy.set_weights(values)
    return from_model(copy, classifier.classes)


def _last_with_weights(model: keras.Model) -> keras.layers.Layer:
    return next(layer for layer in reversed(model.layers) if layer.weights)


def rank_correlation(a: np.ndarray, b: np.ndarray, cell: int = 8) -> np.ndarray:
    """Spearman's correlation of two maps' positive parts, averaged over cells of `cell` pixels: (n,), -1 to 1.

    Maps (n, h, w) of single pixels are too grainy to compare one by one, hence the cells. NaN where a map is flat.
    """
    from scipy.stats import rankdata

    first, second = np.asarray(getattr(a, "maps", a)), np.asarray(getattr(b, "maps", b))
    if first.shape != second.shape:
        raise ValueError(f"maps of {first.shape} and {second.shape} cannot be compared")
    found = np.full(len(first), np.nan)
    for i, (one, other) in enumerate(zip(_cells(first, cell), _cells(second, cell), strict=True)):
        if np.ptp(one) > 0 and np.ptp(other) > 0:
            found[i] = np.corrcoef(rankdata(one), rankdata(other))[0, 1]
    return found


def _cells(maps: np.ndarray, cell: int) -> np.ndarray:
    """(n, cells): the mean of each whole cell of the maps' positive parts."""
    n, height, width = maps.shape
    rows, columns = max(1, height // cell), max(1, width // cell)
    tall, wide = min(cell, height), min(cell, width)
    kept = importance(maps)[:, : rows * tall, : columns * wide]
    return kept.reshape(n, rows, tall, columns, wide).mean(axis=(2, 4)).reshape(n, -1)


def agreement(
    methods: Mapping[str, Maps], patients: np.ndarray, *, cell: int = 8, resamples: int = 2000, seed: int = 1
) -> pd.DataFrame:
    """How alike the methods' maps of the same images are: the mean rank correlation of each pair, with its interval.

    Columns: a, b, value, low, high, n, method, note. `patients` names the patient of each image.
    """
    rows = []
    for a, b in combinations(methods, 2):
        frame = pd.DataFrame(
            {"correlation": rank_correlation(methods[a].maps, methods[b].maps, cell), "patient_id": patients}
        )
        found = mean_of(frame, "correlation", resamples=resamples, seed=seed, bounds=(-1.0, 1.0))
        rows.append({"a": a, "b": b} | found.as_dict())
    return pd.DataFrame(rows)


def sanity_check(
    trained: Mapping[str, Maps],
    randomised: Mapping[str, Maps],
    patients: np.ndarray,
    *,
    cell: int = 8,
    resamples: int = 2000,
    seed: int = 1,
) -> pd.DataFrame:
    """Mean rank correlation of each method's maps with those of the network with shuffled weights: near 0 is sound.

    Columns: explainer, value, low, high, n, method, note.
    """
    rows = []
    for name, maps in trained.items():
        frame = pd.DataFrame(
            {"correlation": rank_correlation(maps.maps, randomised[name].maps, cell), "patient_id": patients}
        )
        found = mean_of(frame, "correlation", resamples=resamples, seed=seed, bounds=(-1.0, 1.0))
        rows.append({"explainer": name} | found.as_dict())
    return pd.DataFrame(rows)
