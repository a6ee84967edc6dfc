"""Carr 2020's numbers: class averages with their spread, what a bridge is worth, and on which side a network looks.

"0.944 total accuracy (Figure 3), 0.945 class-averaged sensitivity (+/- 0.095), and 0.943 class-averaged f1-score
(+/- 0.0525). Class-averaged Receiver Operating Characteristics (ROC) Area Under Curve (AUC) was 0.979." What '+/-' is
the poster does not say. Half the range over the classes is the reading that its digits fit (0.0525 is half of 0.105),
and what stands here as `spread`; a deviation over the classes is given beside it. Neither is an interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics.bootstrap import accuracy_by_patient, auroc_by_patient, patient_weights, resampled_aurocs
from helpers.metrics.classification import confusion, predicted_labels
from helpers.metrics.estimate import Estimate
from helpers.metrics.proportions import proportion

QUANTITIES = ("accuracy", "sensitivity", "f1", "auroc")


def per_class(scores: pd.DataFrame, classes: Sequence[str], resamples: int, seed: int) -> pd.DataFrame:
    """A row a class and quantity: sensitivity (Clopper-Pearson), F1 and AUROC against the rest (bootstrap by patient).

    Columns class, quantity, value, low, high, n, method, note; `scores` has label, patient_id and p_<class>.
    """
    labels, said = scores["label"].to_numpy(), predicted_labels(scores, classes)
    weights = patient_weights(scores["patient_id"], resamples, seed)
    f1s = _resampled_f1(weights, labels, said, classes)
    rows = []
    for place, label in enumerate(classes):
        own = labels == label
        found = {
            "sensitivity": proportion(int((said[own] == label).sum()), int(own.sum())),
            "f1": _interval(_f1(labels, said, classes)[place], f1s[:, place], len(labels), resamples),
            "auroc": auroc_by_patient(own, scores[f"p_{label}"], scores["patient_id"], resamples, seed),
        }
        rows += [{"class": label, "quantity": name, **one.as_dict()} for name, one in found.items()]
    return pd.DataFrame(rows)


def numbers(scores: pd.DataFrame, classes: Sequence[str], resamples: int, seed: int) -> dict[str, Estimate]:
    """The poster's four numbers and the spreads over the classes, all with intervals by patient.

    Keys: `QUANTITIES`, and for sensitivity and f1 "<quantity> spread" (half the range) and "<quantity> deviation".
    """
    labels, said, patients = scores["label"].to_numpy(), predicted_labels(scores, classes), scores["patient_id"]
    weights = patient_weights(patients, resamples, seed)
    values = {"sensitivity": _recall(labels, said, classes), "f1": _f1(labels, said, classes)}
    drawn = {
        "sensitivity": _resampled_recall(weights, labels, said, classes),
        "f1": _resampled_f1(weights, labels, said, classes),
    }
    ways = {"": np.mean, " spread": lambda x, axis: np.ptp(x, axis=axis) / 2, " deviation": np.std}
    made = {"accuracy": accuracy_by_patient(labels, said, patients, resamples, seed)}
    for name, each in values.items():
        for word, way in ways.items():
            one = way(drawn[name], axis=1)
            made[name + word] = _interval(float(way(each, axis=0)), one, len(scores), resamples)
    made["auroc"] = _interval(
        _auroc(scores, classes), _resampled_auroc(weights, scores, classes), len(scores), resamples
    )
    return made


def claims(part: str, found: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """The poster's printed numbers of one half ("covid", "retina") by their ids in data/published/; from `numbers`."""
    made = {name: found[name] for name in QUANTITIES}
    made |= {f"{name}.spread": found[f"{name} spread"] for name in ("sensitivity", "f1")}
    return {f"carr2020.{part}.{name}": one for name, one in made.items()}


def covid_counts(frame: pd.DataFrame, removed: pd.DataFrame, summary: Mapping[str, Any]) -> dict[str, float]:
    """How the COVID-19 study was made, by ids in data/published/: subjects with COVID-19, target subjects and images a
    class, subjects a class that left the bridge for target training, and steps.

    `frame` is the split frame, `removed` and `summary` are the experiment's (`helpers.carr.models`).
    """
    used = frame[frame["split"] != "held-out"]
    learnt = removed[removed["patient_id"].isin(frame.loc[frame["split"] == "train", "patient_id"])]
    left = learnt.groupby("label")["patient_id"].nunique()
    made = {
        "setting.steps": len(summary["steps"]),
        "covid.data.subjects": used.loc[used["label"] == "COVID-19", "patient_id"].nunique(),
        "covid.data.target_subjects": summary["target subjects per class"],
        "covid.augmentation.images": summary["target images per class"],
        "covid.data.bridge_removed": int(left.min()) if len(left) else 0,
    }
    return {f"carr2020.{name}": float(value) for name, value in made.items()}


def grid_points(
    grid: pd.DataFrame, classes: Sequence[str], resamples: int, seed: int, quantity: str = "auroc"
) -> dict[tuple[str, int], tuple[Estimate, np.ndarray]]:
    """Class-averaged AUROC (or, of `quantity`, "accuracy") of each start and number of images a class, over the draws;
    and its resamples.

    `grid` from `helpers.carr.models`. Patients of the test images and draws of target images are both resampled, the
    same for every start and number, so that resamples may be subtracted from one another.
    """
    measure = {"auroc": _resampled_auroc, "accuracy": _resampled_accuracy}[quantity]
    seeds = sorted(grid["seed"].unique())
    rng, made = np.random.default_rng(seed), {}
    drawn = rng.integers(len(seeds), size=(resamples, len(seeds)))
    weights = None
    for (start, size), part in grid.groupby(["start", "per_class"], sort=False):
        values, spread = [], []
        for one in seeds:
            scores = part[part["seed"] == one].sort_values("image_id")
            weights = patient_weights(scores["patient_id"], resamples, seed) if weights is None else weights
            values.append(float(measure(np.ones((1, len(scores))), scores, classes)[0]))
            spread.append(measure(weights, scores, classes))
        resampled = np.take_along_axis(np.array(spread).T, drawn, axis=1).mean(axis=1)
        made[start, int(size)] = _interval(float(np.mean(values)), resampled, len(scores), resamples), resampled
    return made


def differences(
    points: Mapping[tuple[str, int], tuple[Estimate, np.ndarray]], pairs: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    """What the first start of each pair is worth over the second, at each number of images a class.

    Columns start, over, per_class, value, low, high, n, method; one more row a pair, per_class "fewest less most", says
    how much more it is worth with the fewest images than with the most.
    """
    sizes = sorted({size for _, size in points})
    rows = []
    for start, over in pairs:
        gains = {}
        for size in sizes:
            (a, drawn_a), (b, drawn_b) = points[start, size], points[over, size]
            gains[size] = (a.value - b.value, drawn_a - drawn_b)
            rows.append(_row(start, over, size, *gains[size], a.n))
        (few, drawn_few), (many, drawn_many) = gains[sizes[0]], gains[sizes[-1]]
        rows.append(_row(start, over, "fewest less most", few - many, drawn_few - drawn_many, a.n))
    return pd.DataFrame(rows)


def points_table(points: Mapping[tuple[str, int], tuple[Estimate, np.ndarray]]) -> pd.DataFrame:
    """A row a start and number of images a class: start, per_class, value, low, high, n, method."""
    return pd.DataFrame(
        [{"start": start, "per_class": size, **one.as_dict()} for (start, size), (one, _) in points.items()]
    )


def worth(gains: pd.DataFrame) -> str:
    """What the table of `differences` says of its first pair, in a sentence."""
    pair = gains[(gains["start"] == gains["start"].iloc[0]) & (gains["over"] == gains["over"].iloc[0])]
    change, sizes = pair[pair["per_class"] == "fewest less most"].iloc[0], pair[pair["per_class"] != "fewest less most"]
    few, many = sizes.iloc[0], sizes.iloc[-1]
    told = f"'{few['start']}' is worth {_gain(few)} over '{few['over']}' with {few['per_class']} images a class"
    told += f" and {_gain(many)} with {many['per_class']}: the difference "
    shrinks = change["low"] > 0
    told += "shrinks with more images" if shrinks else "grows" if change["high"] < 0 else "is not shown to shrink"
    return f"{told} ({_gain(change)})."


def _gain(row: pd.Series) -> str:
    return f"{row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def _row(start: str, over: str, size: int | str, value: float, drawn: np.ndarray, n: int) -> dict:
    return {"start": start, "over": over, "per_class": size, **_interval(value, drawn, n, len(drawn)).as_dict()}


# --- averages over the classes --------------------------------------------------------------------------------------


def _recall(labels: np.ndarray, said: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    counts = confusion(labels, said, classes).to_numpy()
    return np.diag(counts) / counts.sum(axis=1)


def _f1(labels: np.ndarray, said: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """2 TP / (2 TP + FP + FN) of each class."""
    counts = confusion(labels, said, classes).to_numpy()
    return 2 * np.diag(counts) / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1)


def _auroc(scores: pd.DataFrame, classes: Sequence[str]) -> float:
    one = np.ones((1, len(scores)))
    return float(_resampled_auroc(one, scores, classes)[0])


def _resampled_auroc(weights: np.ndarray, scores: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Mean over the classes of each one's AUROC against the rest; NaN where a class is not drawn."""
    labels = scores["label"].to_numpy()
    return np.mean([resampled_aurocs(weights, labels == c, scores[f"p_{c}"].to_numpy()) for c in classes], axis=0)


def _resampled_accuracy(weights: np.ndarray, scores: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    right = predicted_labels(scores, classes) == scores["label"].to_numpy()
    return (weights @ right) / weights.sum(axis=1)


def _resampled_recall(weights, labels, said, classes: Sequence[str]) -> np.ndarray:
    return _resampled(weights, labels, said, classes, lambda hit, true, called: hit / true)


def _resampled_f1(weights, labels, said, classes: Sequence[str]) -> np.ndarray:
    return _resampled(weights, labels, said, classes, lambda hit, true, called: 2 * hit / (true + called))


def _resampled(
    weights: np.ndarray, labels: np.ndarray, said: np.ndarray, classes: Sequence[str], ratio: Callable
) -> np.ndarray:
    """(resamples, classes) of a ratio of weighted counts; NaN where nothing can be counted."""
    columns = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for label in classes:
            true, called = labels == label, said == label
            columns.append(ratio(weights @ (true & called), weights @ true, weights @ called))
    return np.column_stack(columns)


def _interval(value: float, resampled: np.ndarray, n: int, resamples: int) -> Estimate:
    """A percentile interval; undefined where under half of the resamples can be used."""
    method, usable = f"bootstrap by patient, {resamples} resamples", resampled[~np.isnan(resampled)]
    if math.isnan(value) or len(usable) < resamples / 2:
        return Estimate.undefined(n, method, "a class has no images, or hardly any")
    low, high = np.percentile(usable, [2.5, 97.5])
    return Estimate(float(value), float(min(low, value)), float(max(high, value)), n, method)
