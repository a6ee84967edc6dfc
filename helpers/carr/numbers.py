"""Carr 2020's numbers: class averages with their spread, what a bridge is worth, disease or source, left or right.

"0.944 total accuracy (Figure 3), 0.945 class-averaged sensitivity (+/- 0.095), and 0.943 class-averaged f1-score
(+/- 0.0525). Class-averaged Receiver Operating Characteristics (ROC) Area Under Curve (AUC) was 0.979." The poster does
not define '+/-'. Half the range over the classes is the reading that its digits fit (0.0525 is half of 0.105), and is
the `spread` here; it is no interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from helpers.carr.controls import BLACKED_OUT, BOX, WITH_MASKS
from helpers.data.catalogue import Catalogue
from helpers.data.images import slices_of
from helpers.data.masks import LESIONS, LUNGS, read_masks
from helpers.explain.gradients import choose_background, gradient, gradient_shap
from helpers.explain.maps import Classifier
from helpers.explain.scores import middle_of, point
from helpers.metrics.auroc import clustered_auroc
from helpers.metrics.by_patient import Bounds, Clustered, by_training, clustered_mean, combine, over_trainings
from helpers.metrics.classification import clustered_f1, predicted_labels
from helpers.metrics.comparison import holm
from helpers.metrics.estimate import Estimate, estimate_frame, flatten
from helpers.model.experiment import pixels_of
from helpers.run.profile import Profile

QUANTITIES = ("accuracy", "sensitivity", "f1", "auroc")
Points = Mapping[tuple[str, int], tuple[Estimate, list[Clustered]]]  # (start, images per class): mean; each draw
PAIRS = (("natural, then bridge", "natural"), ("natural", "none"))  # of starts: what the first adds to the second
NO_SPREAD = "half the range of a few classes: no interval covers well"


def class_numbers(scores: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """One row per class and quantity: sensitivity, F1 and AUROC against the rest, by patient and over the trainings.

    Columns class, quantity, value, low, high, n, method, note; `scores` has label, patient_id, p_<class>, and `seed`.
    """
    found = by_training(scores, lambda part: _by_class(part, classes))
    return estimate_frame({key: one.estimate() for key, one in found.items()}, "class", "quantity")


def average_numbers(scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, Estimate]:
    """The poster's four numbers, with intervals by patient and over the trainings, and the spreads over the classes,
    which have none.

    Keys: `QUANTITIES`, and for sensitivity and f1 "<quantity> spread" (half the range).
    """

    def averages(part: pd.DataFrame) -> dict[str, Clustered]:
        right = predicted_labels(part, classes) == part["label"].to_numpy()
        each = {name: _macro(terms) for name, terms in _each_class(part, classes).items()}
        return {"accuracy": clustered_mean(right, part["patient_id"], (0, 1)), **each}

    found = {name: one.estimate() for name, one in by_training(scores, averages).items()}
    of_class = by_training(scores, lambda part: _by_class(part, classes))
    for name in ("sensitivity", "f1"):
        spread = float(np.ptp([of_class[label, name].value for label in classes])) / 2
        found[f"{name} spread"] = Estimate(spread, np.nan, np.nan, len(scores), "none", NO_SPREAD)
    return found


def _by_class(scores: pd.DataFrame, classes: Sequence[str]) -> dict[tuple[str, str], Clustered]:
    each = _each_class(scores, classes)
    return {(label, name): each[name][k] for k, label in enumerate(classes) for name in each}


def _each_class(scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, list[Clustered]]:
    """Sensitivity, F1 and AUROC against the rest of each class, with what each patient adds to their errors."""
    labels, patients = scores["label"].to_numpy(), scores["patient_id"].to_numpy()
    predicted, found = predicted_labels(scores, classes), {"sensitivity": [], "f1": [], "auroc": []}
    for label in classes:
        own = labels == label
        found["sensitivity"].append(clustered_mean(predicted[own] == label, patients[own], (0, 1)))
        found["f1"].append(clustered_f1(own, predicted == label, patients))
        found["auroc"].append(clustered_auroc(own, scores[f"p_{label}"], patients))
    return found


def _macro(terms: Sequence[Clustered]) -> Clustered:
    """The mean over the classes; undefined where one of them is."""
    return combine(terms, [1 / len(terms)] * len(terms))


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


# --- what a bridge is worth -------------------------------------------------------------------------------------------


def grid_points(grid: pd.DataFrame, classes: Sequence[str]) -> Points:
    """Class-averaged AUROC of each start and number of images per class, over draws.

    `grid` from `helpers.carr.models`. Intervals hold the test patients' error and the spread over the trainings, each
    with a draw of target images of its own, the same for every start: they are compared one by one.
    """
    points = {}
    for (start, size), part in grid.groupby(["start", "per_class"], sort=False):
        draws = [_macro(_each_class(scores, classes)["auroc"]) for _, scores in part.groupby("seed")]
        points[start, int(size)] = over_trainings(draws).estimate(), draws
    return points


def grid_differences(points: Points, pairs: Sequence[tuple[str, str]] = PAIRS) -> pd.DataFrame:
    """What the first start of each pair is worth over the second, at each number of images per class.

    Columns start, over, per_class, value, low, high, n, method; one more row per pair, per_class "fewest less most":
    how much more it is worth with the fewest images than with the most.
    """
    sizes, found = sorted({size for _, size in points}), {}
    for start, over in pairs:
        gains = {size: _less(points[start, size][1], points[over, size][1]) for size in sizes}
        gains["fewest less most"] = _less(gains[sizes[0]], gains[sizes[-1]])
        found |= {(start, over, size): over_trainings(gain).estimate() for size, gain in gains.items()}
    return estimate_frame(found, "start", "over", "per_class")


def _less(draws: Sequence[Clustered], others: Sequence[Clustered]) -> list[Clustered]:
    return [one - other for one, other in zip(draws, others, strict=True)]


def describe_gain(gains: pd.DataFrame) -> str:
    """The first pair of the table of `grid_differences` in a sentence."""
    pair = gains[(gains["start"] == gains["start"].iloc[0]) & (gains["over"] == gains["over"].iloc[0])]
    few, many, change = (pair.iloc[place] for place in (0, -2, -1))
    if np.isnan(change["low"]):
        return f"What '{few['start']}' is worth has no interval: {change['note']}."
    trend = "grows with more images" if change["high"] < 0 else "is not shown to shrink"
    trend = "shrinks with more images" if change["low"] > 0 else trend
    return (
        f"'{few['start']}' is worth {describe_row(few)} over '{few['over']}' with {few['per_class']} images per class "
        f"and {describe_row(many)} with {many['per_class']}: the difference {trend} ({describe_row(change)})."
    )


def describe_row(row: pd.Series) -> str:
    """A difference of a table's row with its interval, '+0.034 (-0.010 to +0.078)'."""
    return f"{row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


# --- disease or source ------------------------------------------------------------------------------------------------
# DeGrave, Janizek and Lee 2021 ("AI for radiographic COVID-19 detection selects shortcuts over signal") and Maguolo and
# Nanni 2020 found that classifiers of such composites separate the collections. Where a control that sees no lung, or
# knows the age alone, does as well as the classifier, the classifier's AUROC is no evidence that it sees the disease.

COVID = "COVID-19"
WHOLE, AGE, SAME = "whole image", "age alone", "same source"
BOX_OUT, OUTLINE = "box blacked out", "outline of the lungs"
PUBLISHED = "published recipe"
CHANCE = 0.5


def control_aurocs(
    controls: pd.DataFrame, frame: pd.DataFrame, setting: str, published: Any = None
) -> dict[str, Estimate]:
    """AUROC of COVID-19 against the rest of each control of a setting, by patient and over the trainings.

    `controls` from `helpers.carr.controls`; `frame` has image_id, site and age. Beside the table's own: "age alone"
    (images whose age is known), and "same source": the whole-image head among images of COVID-19's source only, which
    for the tied setting are the held-back COVID-19 and the held-out rest. With `published`, the scores of the published
    recipe, that network stands beside its controls, in both ways.
    """
    known = frame[["image_id", "age"]].dropna()

    def of_controls(rows: pd.DataFrame) -> dict[str, Clustered]:
        test, whole = rows[rows["split"] == "test"], rows[rows["control"] == WHOLE]
        ages = test[test["control"] == WHOLE].merge(known, on="image_id")
        found = {name: _covid_area(part) for name, part in test.groupby("control", sort=False)}
        found[AGE] = _covid_area(ages.assign(**{f"p_{COVID}": ages["age"].astype(float)}))
        return found | {SAME: _same_source(whole)}

    def of_published(rows: pd.DataFrame) -> dict[str, Clustered]:
        return {PUBLISHED: _covid_area(rows[rows["split"] == "test"]), f"{SAME}, {PUBLISHED}": _same_source(rows)}

    found = by_training(controls[controls["setting"] == setting], of_controls)
    if published is not None:
        main = by_training(published.merge(frame[["image_id", "site"]], on="image_id"), of_published)
        found = {PUBLISHED: main.pop(PUBLISHED)} | found | main
    return {name: one.estimate() for name, one in found.items()}


def _same_source(scores: pd.DataFrame) -> Clustered:
    """The AUROC of COVID-19 among images of COVID-19's own source (the site of most of its test images)."""
    test = scores["split"] == "test"
    positive = scores[(scores["label"] == COVID) & test]
    if positive.empty:
        return Clustered.undefined(0, "DeLong by patient", "no COVID-19 images")
    negative = (scores["label"] != COVID) & scores["split"].isin(("test", "held-out"))
    same = scores["site"] == positive["site"].mode().iloc[0]
    return _covid_area(scores[same & (test | negative)])


def _covid_area(rows: pd.DataFrame) -> Clustered:
    return clustered_auroc(rows["label"] == COVID, rows[f"p_{COVID}"], rows["patient_id"])


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
    if not (main.bounded and blind.bounded):
        return "Nothing may be concluded: the classifier's or the control's AUROC has no interval."
    exposed, works = blind.low > CHANCE, main.low > CHANCE
    kept = f"{100 * min((blind.value - CHANCE) / max(main.value - CHANCE, 1e-9), 1.0):.0f} %"
    end = {
        (True, True): f"{kept} of the advantage over chance remains: no evidence that the disease is seen",
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


Trained = Mapping[str, Sequence[np.ndarray]]  # maps of the same images, (n, h, w), by each training's network


def laterality_by_class(
    maps: Trained, labels: Any, patients: Any, classes: Sequence[str]
) -> dict[str, dict[str, Estimate]]:
    """Mean laterality index of all and of each class, for the maps of the images and of their mirror images.

    `maps`: "image" and "mirror image", the latter as the networks saw it (not turned back).
    """
    found = _sides(maps, labels, patients, classes)
    return {name: {group: one.estimate() for group, one in each.items()} for name, each in found.items()}


def laterality_table(maps: Trained, labels: Any, patients: Any, classes: Sequence[str]) -> pd.DataFrame:
    """The same as a table, with p of an index of 0; the classes, on both images, are one family of tests (`p_holm`)."""
    found = flatten(_sides(maps, labels, patients, classes))
    table = estimate_frame({key: one.estimate() for key, one in found.items()}, "image", "class")
    table = table.assign(p=[one.p for one in found.values()])
    return table.assign(p_holm=holm(table["p"].where(table["class"] != "all")))


def _sides(maps: Trained, labels: Any, patients: Any, classes: Sequence[str]) -> dict[str, dict[str, Clustered]]:
    labels, patients = np.asarray(labels), np.asarray(patients)
    groups = {"all": np.ones(len(labels), bool)} | {one: labels == one for one in classes if one in labels}
    indices = {name: [laterality_index(one, name == "mirror image") for one in each] for name, each in maps.items()}
    return {
        name: {
            group: over_trainings([_mean_of_known(index[rows], patients[rows], (-1.0, 1.0)) for index in each])
            for group, rows in groups.items()
        }
        for name, each in indices.items()
    }


def _mean_of_known(values: np.ndarray, patients: np.ndarray, bounds: Bounds = None) -> Clustered:
    """The mean by patient over the images whose value is known: an empty map has no side, and no share anywhere."""
    known = ~np.isnan(values)
    found = clustered_mean(values[known], patients[known], bounds)
    empty = "" if known.all() else f"{(~known).sum()} of {len(known)} maps are empty and left out"
    return replace(found, note="; ".join(filter(None, (found.note, empty))))


def describe_side(image: Estimate, mirror: Estimate) -> str:
    """The indices of the images and of their mirror images in a sentence."""
    if not (image.bounded and mirror.bounded):
        return f"There is no side to speak of: {image.note or mirror.note}."
    side = "the patient's right" if image.low > 0 else "the patient's left" if image.high < 0 else "neither side"
    index = f"{image.value:+.3f}, {image.low:+.3f} to {image.high:+.3f}"
    sentence = f"On average the networks' maps lie on {side} (laterality index {index}, over the trainings)"
    if side == "neither side":
        return f"{sentence}."
    low, high = (mirror.low, mirror.high) if image.low > 0 else (-mirror.high, -mirror.low)
    meaning = "what they look at turns with the patient" if low > 0 else "the index does not differ from zero"
    if high < 0:
        meaning = "they look at one side of the picture, whichever side of the patient it is"
    return f"{sentence}; of the mirror images, in the patient's terms, {mirror.value:+.3f}: {meaning}."


# --- maps against what people marked ----------------------------------------------------------------------------------

LESION_IMAGES, SHAP_SAMPLES = 8, 24  # phantoms explained per class, and points that a SHAP map takes
MIDDLE = "the middle of the lungs"
HOW_LOCATED = "Intervals by patient and over the trainings; the classes and measures of a map are one family (p_holm)."


def locate_lesions(
    networks: Sequence[Classifier], catalogue: Catalogue, frame: pd.DataFrame, settings: Profile
) -> tuple[dict[str, pd.DataFrame], str]:
    """How well the true class's gradient and SHAP maps point at marked lesions, see `scores.point`, beside a guess that
    sees no image; and a sentence that says which images these are. Nothing where nobody has marked a lesion.

    One row per mask and training, with label, patient_id and `seed`. The label says of images that the networks learnt
    from that they did.
    """
    test = frame[frame["split"] == "test"].groupby("label").head(LESION_IMAGES)
    size, rows = networks[0].image_size, test if catalogue.phantom else frame
    lesions, lungs = (read_masks(catalogue, rows, size, settings, kind) for kind in (LESIONS, LUNGS))
    if lesions.rows.empty:
        return {}, f"{lesions.describe()} With {LESIONS}/ in the data folder the maps would be scored against lesions."
    shown = lesions.rows
    place = pd.Series(range(len(lungs.rows)), lungs.rows["image_id"]).reindex(shown["image_id"]).to_numpy()
    inside = np.array([lungs.pixels[int(k)] if k >= 0 else np.zeros((size, size), bool) for k in place])
    thorax = inside.copy()
    thorax[(~inside.any(axis=(1, 2)), *slices_of(BOX, (size, size)))] = True
    background = choose_background(catalogue.subset(frame[frame["split"] == "train"]), size, seed=settings.seed)
    once = shown.drop_duplicates("image_id")  # an image may have lesions of two kinds
    asked = pixels_of(catalogue, once, size, settings.workers), once["label"].tolist()
    shap = {"background": background, "samples": SHAP_SAMPLES, "seed": settings.seed}
    places = pd.Index(once["image_id"]).get_indexer(shown["image_id"])
    label = shown["label"] + np.where(shown["split"] == "train", ", learnt from", "")
    known, found = {"label": label, "patient_id": shown["patient_id"]}, {"gradient": [], "SHAP": [], MIDDLE: []}
    guess = point(middle_of(thorax), lesions.pixels, inside)
    for seed, network in enumerate(networks):
        maps = {"gradient": gradient(network, *asked), "SHAP": gradient_shap(network, *asked, **shap)}
        each = {name: point(one.take(places), lesions.pixels, inside) for name, one in maps.items()}
        for name, table in (each | {MIDDLE: guess}).items():
            found[name].append(table.assign(**known, seed=seed))
    return {name: pd.concat(each, ignore_index=True) for name, each in found.items()}, f"Lesions: {lesions.describe()}"
