"""Carr 2020's numbers: class averages with their spread, what a bridge is worth, disease or source, left or right.

"0.944 total accuracy (Figure 3), 0.945 class-averaged sensitivity (+/- 0.095), and 0.943 class-averaged f1-score
(+/- 0.0525). Class-averaged Receiver Operating Characteristics (ROC) Area Under Curve (AUC) was 0.979." The poster does
not define '+/-'. Half the range over the classes is the reading that its digits fit (0.0525 is half of 0.105), and is
the `spread` here; a deviation over the classes is given beside it. Neither is an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from helpers.carr.controls import WITH_MASKS
from helpers.explain.scores import share_within
from helpers.metrics.bootstrap import (
    accuracy_by_patient,
    auroc_by_patient,
    mean_by_patient,
    patient_weights,
    percentile_estimate,
    resampled_aurocs,
)
from helpers.metrics.classification import predicted_labels
from helpers.metrics.estimate import Estimate, estimate_frame, proportion

QUANTITIES = ("accuracy", "sensitivity", "f1", "auroc")
Points = Mapping[tuple[str, int], tuple[Estimate, np.ndarray]]  # (start, images per class): value; value, resamples


def class_numbers(scores: pd.DataFrame, classes: Sequence[str], resamples: int, seed: int) -> pd.DataFrame:
    """One row per class and quantity: sensitivity (Clopper-Pearson), F1 and AUROC against the rest (by patient).

    Columns class, quantity, value, low, high, n, method, note; `scores` has label, patient_id and p_<class>.
    """
    labels, predicted, found = scores["label"].to_numpy(), predicted_labels(scores, classes), {}
    f1 = _resampled_rates(_weights(scores, resamples, seed), scores, classes)["f1"]
    for place, label in enumerate(classes):
        own, score = labels == label, scores[f"p_{label}"]
        found[label, "sensitivity"] = proportion((predicted[own] == label).sum(), own.sum())
        found[label, "f1"] = _estimate(f1[:, place], len(labels))
        found[label, "auroc"] = auroc_by_patient(own, score, scores["patient_id"], resamples, seed)
    return estimate_frame(found, "class", "quantity")


def average_numbers(scores: pd.DataFrame, classes: Sequence[str], resamples: int, seed: int) -> dict[str, Estimate]:
    """The poster's four numbers and the spreads over the classes, all with intervals by patient.

    Keys: `QUANTITIES`, and for sensitivity and f1 "<quantity> spread" (half the range) and "<quantity> deviation".
    """
    predicted, weights = predicted_labels(scores, classes), _weights(scores, resamples, seed)
    ways = {"": np.mean, " spread": lambda x, axis: np.ptp(x, axis=axis) / 2, " deviation": np.std}
    drawn = {
        name + word: way(each, axis=1)
        for name, each in _resampled_rates(weights, scores, classes).items()
        for word, way in ways.items()
    }
    drawn["auroc"] = _resampled_auroc(weights, scores, classes)
    accuracy = accuracy_by_patient(scores["label"], predicted, scores["patient_id"], resamples, seed)
    return {"accuracy": accuracy} | {name: _estimate(each, len(scores)) for name, each in drawn.items()}


def average_claims(part: str, found: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """The poster's printed numbers of one half ("covid", "retina") by their ids in data/published/."""
    claims = {name: found[name] for name in QUANTITIES}
    claims |= {f"{name}.spread": found[f"{name} spread"] for name in ("sensitivity", "f1")}
    return {f"carr2020.{part}.{name}": one for name, one in claims.items()}


def design_claims(frame: pd.DataFrame, removed: pd.DataFrame, summary: Mapping[str, Any]) -> dict[str, float]:
    """How the COVID-19 study was made, by ids in data/published/: subjects with COVID-19, target subjects and images
    per class, subjects per class that left the bridge for target training, and steps.

    `frame` is the split frame, `removed` and `summary` are the experiment's (`helpers.carr.models`).
    """
    used = frame[frame["split"] != "held-out"]
    trained = removed[removed["patient_id"].isin(frame.loc[frame["split"] == "train", "patient_id"])]
    left = trained.groupby("label")["patient_id"].nunique()
    claims = {
        "setting.steps": len(summary["steps"]),
        "covid.data.subjects": used.loc[used["label"] == COVID, "patient_id"].nunique(),
        "covid.data.target_subjects": summary["target subjects per class"],
        "covid.augmentation.images": summary["target images per class"],
        "covid.data.bridge_removed": int(left.min()) if len(left) else 0,
    }
    return {f"carr2020.{name}": float(value) for name, value in claims.items()}


def _estimate(values: np.ndarray, n: int) -> Estimate:
    """The value of the sample, which comes first, with the interval of its resamples."""
    return percentile_estimate(values[0], values[1:], n)


def _weights(scores: pd.DataFrame, resamples: int, seed: int) -> np.ndarray:
    """The sample itself in the first row, then its resamples by patient: (1 + resamples, images)."""
    return np.vstack([np.ones(len(scores)), patient_weights(scores["patient_id"], resamples, seed)])


def _resampled_rates(weights: np.ndarray, scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, np.ndarray]:
    """Sensitivity and F1, 2 TP / (2 TP + FP + FN), of each class in each resample: (resamples, classes)."""
    labels, predicted = scores["label"].to_numpy(), predicted_labels(scores, classes)
    true, called = ((values[:, None] == np.array(classes)).astype(float) for values in (labels, predicted))
    with np.errstate(divide="ignore", invalid="ignore"):  # NaN where a class is not drawn
        hits, present = weights @ (true * called), weights @ true
        return {"sensitivity": hits / present, "f1": 2 * hits / (present + weights @ called)}


def _resampled_auroc(weights: np.ndarray, scores: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Mean over the classes of each one's AUROC against the rest; NaN where a class is not drawn."""
    labels = scores["label"].to_numpy()
    return np.mean([resampled_aurocs(weights, labels == c, scores[f"p_{c}"].to_numpy()) for c in classes], axis=0)


def _resampled_accuracy(weights: np.ndarray, scores: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    return (weights @ (predicted_labels(scores, classes) == scores["label"].to_numpy())) / weights.sum(axis=1)


# --- what a bridge is worth -------------------------------------------------------------------------------------------


def grid_points(
    grid: pd.DataFrame, classes: Sequence[str], resamples: int, seed: int, quantity: str = "auroc"
) -> Points:
    """Class-averaged AUROC (or, with `quantity`, "accuracy") of each start and number of images per class, over draws.

    `grid` from `helpers.carr.models`. Patients of the test images and draws of target images are both resampled, the
    same for every start and number, so that resamples may be subtracted from one another.
    """
    measure = {"auroc": _resampled_auroc, "accuracy": _resampled_accuracy}[quantity]
    seeds = sorted(grid["seed"].unique())
    drawn = np.random.default_rng(seed).integers(len(seeds), size=(resamples, len(seeds)))
    points, weights = {}, None
    for (start, size), part in grid.groupby(["start", "per_class"], sort=False):
        draws = [part[part["seed"] == one].sort_values("image_id") for one in seeds]
        weights = _weights(draws[0], resamples, seed) if weights is None else weights
        values = np.array([measure(weights, scores, classes) for scores in draws])
        resampled = np.take_along_axis(values[:, 1:].T, drawn, axis=1).mean(axis=1)
        resampled = np.append(values[:, 0].mean(), resampled)
        points[start, int(size)] = _estimate(resampled, len(draws[0])), resampled
    return points


def grid_differences(points: Points, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """What the first start of each pair is worth over the second, at each number of images per class.

    Columns start, over, per_class, value, low, high, n, method; one more row per pair, per_class "fewest less most":
    how much more it is worth with the fewest images than with the most.
    """
    sizes, found = sorted({size for _, size in points}), {}
    for start, over in pairs:
        gains = {size: points[start, size][1] - points[over, size][1] for size in sizes}
        gains["fewest less most"] = gains[sizes[0]] - gains[sizes[-1]]
        n = points[start, sizes[0]][0].n
        found |= {(start, over, size): _estimate(gain, n) for size, gain in gains.items()}
    return estimate_frame(found, "start", "over", "per_class")


def points_table(points: Points) -> pd.DataFrame:
    """One row per start and number of images per class: start, per_class, value, low, high, n, method."""
    return estimate_frame({key: one for key, (one, _) in points.items()}, "start", "per_class")


def describe_gain(gains: pd.DataFrame) -> str:
    """The first pair of the table of `grid_differences` in a sentence."""
    pair = gains[(gains["start"] == gains["start"].iloc[0]) & (gains["over"] == gains["over"].iloc[0])]
    few, many, change = (pair.iloc[place] for place in (0, -2, -1))
    trend = "grows with more images" if change["high"] < 0 else "is not shown to shrink"
    trend = "shrinks with more images" if change["low"] > 0 else trend
    return (
        f"'{few['start']}' is worth {_gain(few)} over '{few['over']}' with {few['per_class']} images per class and "
        f"{_gain(many)} with {many['per_class']}: the difference {trend} ({_gain(change)})."
    )


def _gain(row: pd.Series) -> str:
    return f"{row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


# --- disease or source ------------------------------------------------------------------------------------------------
# DeGrave, Janizek and Lee 2021 ("AI for radiographic COVID-19 detection selects shortcuts over signal") and Maguolo and
# Nanni 2020 found that classifiers of such composites separate the collections. Where a control that sees no lung, or
# knows the age alone, does as well as the classifier, the classifier's AUROC is no evidence that it sees the disease.

COVID = "COVID-19"
WHOLE, AGE, SAME = "whole image", "age alone", "same source"
BLACKED_OUT, BOX_OUT, OUTLINE = "lungs blacked out", "box blacked out", "outline of the lungs"
PUBLISHED = "published recipe"
CHANCE = 0.5


def control_aurocs(
    controls: pd.DataFrame, frame: pd.DataFrame, setting: str, resamples: int, seed: int, published: Any = None
) -> dict[str, Estimate]:
    """AUROC of COVID-19 against the rest of each control of a setting, with intervals by patient.

    `controls` from `helpers.carr.controls`; `frame` has image_id, site and age. Beside the table's own: "age alone"
    (images whose age is known), and "same source": the whole-image head among images of COVID-19's source only, which
    for the tied setting are the held-back COVID-19 and the held-out rest. With `published`, the scores of the published
    recipe, that network stands beside its controls, in both ways.
    """
    settings, rows = (resamples, seed), controls[controls["setting"] == setting]
    test, whole = rows[rows["split"] == "test"], rows[rows["control"] == WHOLE]
    found = {name: _covid_auroc(part, *settings) for name, part in test.groupby("control", sort=False)}
    ages = test[test["control"] == WHOLE].merge(frame[["image_id", "age"]].dropna(), on="image_id")
    found[AGE] = _covid_auroc(ages.assign(**{f"p_{COVID}": ages["age"].astype(float)}), *settings)
    found[SAME] = _same_source(whole, *settings)
    if published is None:
        return found
    scores = published.merge(frame[["image_id", "site"]], on="image_id")
    main = {PUBLISHED: _covid_auroc(scores[scores["split"] == "test"], *settings)}
    return main | found | {f"{SAME}, {PUBLISHED}": _same_source(scores, *settings)}


def _same_source(scores: pd.DataFrame, resamples: int, seed: int) -> Estimate:
    """The AUROC of COVID-19 among images of COVID-19's own source (the site of most of its test images)."""
    test = scores["split"] == "test"
    positive = scores[(scores["label"] == COVID) & test]
    if positive.empty:
        return Estimate.undefined(0, "bootstrap by patient", "no COVID-19 images")
    negative = (scores["label"] != COVID) & scores["split"].isin(("test", "held-out"))
    same = scores["site"] == positive["site"].mode().iloc[0]
    return _covid_auroc(scores[same & (test | negative)], resamples, seed)


def _covid_auroc(rows: pd.DataFrame, resamples: int, seed: int) -> Estimate:
    return auroc_by_patient(rows["label"] == COVID, rows[f"p_{COVID}"], rows["patient_id"], resamples, seed)


def conclude_on_source(found: Mapping[str, Estimate]) -> str:
    """What may be concluded from a setting's AUROCs (see `control_aurocs`), in a sentence made from them.

    The rule: the control exposes the classifier where its interval lies above 0.5, for it sees no lung; the sentence
    gives how much of the classifier's advantage over chance it keeps, on the same images. The control hides each
    image's own lungs where these are known, else a box. The same-source comparison is evidence of the disease where its
    interval lies above 0.5.
    """
    exact, same = BLACKED_OUT in found, found[SAME]
    main = found.get(WITH_MASKS, found[WHOLE]) if exact else found[WHOLE]
    blind, hidden = (found[BLACKED_OUT], "the lungs") if exact else (found[BOX_OUT], "a box over the lungs")
    if not (main.defined and blind.defined):
        return "Nothing may be concluded: the classifier's or the control's AUROC is undefined."
    exposed, works = blind.low > CHANCE, main.low > CHANCE
    kept = f"{100 * min((blind.value - CHANCE) / max(main.value - CHANCE, 1e-9), 1.0):.0f} %"
    end = {
        (True, True): f"{kept} of the whole image's advantage over chance: no evidence that the disease is seen",
        (True, False): "the whole image does not differ from chance: what separates the classes is not the disease",
        (False, True): "the control does not differ from chance: what separates the classes lies in the lungs",
        (False, False): "neither differs from chance",
    }[exposed, works]
    within = "Within one source there is nothing to compare with."
    if same.defined:
        shown = "is above chance, which the source does not explain" if same.low > CHANCE else "is not shown to work"
        within = f"Within one source the classifier {shown} (AUROC {_interval(same)})."
    areas = f"With {hidden} blacked out the AUROC is {_interval(blind)}, with the whole image {_interval(main)}"
    if exact and found[OUTLINE].defined:
        end += f"; the outline of the lungs, which blacking them out leaves, has {_interval(found[OUTLINE])} by itself"
    return f"{areas}; {end}. {within}"


def _interval(one: Estimate) -> str:
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f}, n = {one.n})"


# --- left or right ----------------------------------------------------------------------------------------------------
# Results: "Saliency maps indicate a clear right-sided bias across all classes, with the algorithms attention
# predominantly located within the thoracic cavity". Whether a network looks at the patient's right or at the picture's
# left is another question: in the mirror image the two part ways.


def laterality_index(maps: np.ndarray, mirrored: bool = False) -> np.ndarray:
    """The mass of each map (n, h, w) on the patient's right less that on the left, over their sum: (n,), -1 to 1.

    A frontal radiograph is seen as if the patient faced the reader, so that the right is on the picture's left; in a
    mirror image (`mirrored`) it is on the picture's right. The middle is the picture's own; of an odd width the middle
    column counts for neither. NaN for an empty map.
    """
    mass = np.abs(np.asarray(maps, float)).sum(axis=1)
    half = mass.shape[1] // 2
    first, last = mass[:, :half].sum(axis=1), mass[:, mass.shape[1] - half :].sum(axis=1)
    index = np.divide(first - last, first + last, out=np.full(len(mass), np.nan), where=first + last > 0)
    return -index if mirrored else index


def laterality_by_class(
    maps: Mapping[str, np.ndarray], labels: Any, patients: Any, classes: Sequence[str], resamples: int, seed: int
) -> dict[str, dict[str, Estimate]]:
    """Mean laterality index of all and of each class, for the maps of the images and of their mirror images.

    `maps`: "image" and "mirror image", (n, h, w) each, the latter as the network saw it (not turned back).
    """
    labels, patients = np.asarray(labels), np.asarray(patients)
    groups = {"all": np.ones(len(labels), bool)} | {one: labels == one for one in classes if one in labels}
    indices = {name: laterality_index(values, name == "mirror image") for name, values in maps.items()}
    settings = resamples, seed, (-1.0, 1.0)
    return {
        name: {group: _mean_of_known(index[rows], patients[rows], *settings) for group, rows in groups.items()}
        for name, index in indices.items()
    }


def _mean_of_known(values: np.ndarray, patients: np.ndarray, *settings: Any) -> Estimate:
    """The mean by patient over the images whose value is known: an empty map has no side, and no share anywhere."""
    known = ~np.isnan(values)
    found = mean_by_patient(values[known], patients[known], *settings)
    empty = "" if known.all() else f"{(~known).sum()} of {len(known)} maps are empty and left out"
    return replace(found, note="; ".join(filter(None, (found.note, empty))))


def mass_inside(maps: np.ndarray, masks: np.ndarray, patients: Any, resamples: int, seed: int) -> dict[str, Estimate]:
    """Share of the maps' mass within the masks (n, h, w), beside the masks' share of the picture, which even attention
    would give; and the ratio of the two."""
    shares, area, patients = share_within(np.abs(maps), masks), masks.mean(axis=(1, 2)), np.asarray(patients)
    return {
        "saliency within": _mean_of_known(shares, patients, resamples, seed, (0.0, 1.0)),
        "area within": mean_by_patient(area, patients, resamples, seed, (0.0, 1.0)),
        "saliency per area": _mean_of_known(shares / np.maximum(area, 1e-9), patients, resamples, seed),
    }


def describe_side(image: Estimate, mirror: Estimate) -> str:
    """The indices of the images and of their mirror images in a sentence."""
    if not (image.defined and mirror.defined):
        return "Every map is empty: there is no side to speak of."
    side = "the patient's right" if image.low > 0 else "the patient's left" if image.high < 0 else "neither side"
    index = f"{image.value:+.3f}, {image.low:+.3f} to {image.high:+.3f}"
    sentence = f"On average the maps lie on {side} (laterality index {index})"
    if side == "neither side":
        return f"{sentence}."
    low, high = (mirror.low, mirror.high) if image.low > 0 else (-mirror.high, -mirror.low)
    meaning = "what the network looks at turns with the patient" if low > 0 else "the index does not differ from zero"
    if high < 0:
        meaning = "the network looks at one side of the picture, whichever side of the patient it is"
    return f"{sentence}; of the mirror images, in the patient's terms, {mirror.value:+.3f}: {meaning}."
