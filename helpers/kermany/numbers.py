"""Kermany 2018's numbers, with their intervals: urgent referral, weighted error, pneumonia, costs, shared patient ids.

Results: "This AI system categorized images with choroidal neovascularization and images with diabetic macular edema as
'urgent referrals'." Sensitivity and specificity of the four-class model are those of urgent referral, not of a class.
STAR Methods, Quantification: "Sensitivity and specificity were determined by dividing the total number of correctly
labeled urgent referrals and the total number of correctly labeled non-urgent referrals, respectively, by the total
number of test images." Taken literally, neither could exceed the share of its group (0.5 in a test set of 250 images
per class), while the paper prints 97.8 % and 97.4 %; so the denominators must have been the urgent and the non-urgent
images, and these are what we divide by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.copies import thumbnails
from helpers.kermany.data import is_urgent, urgent_score
from helpers.metrics.auroc import auroc, clustered_auroc, compare_aurocs
from helpers.metrics.by_patient import Clustered, by_training, clustered_mean, over_trainings
from helpers.metrics.classification import accuracy, fit_temperature, predicted_labels, probabilities_of, rates
from helpers.metrics.classification import rescale_scores as rescale
from helpers.metrics.comparison import holm, mcnemar
from helpers.metrics.estimate import Estimate, estimate_frame, likelihood_ratios, places_of, side_by_side
from helpers.run.paths import PUBLISHED

PAIRS_PER_ID = 3  # of shared ids, so that one patient with 500 images does not decide
MAX_IDS = 1000  # as many ids are looked at; more would narrow the interval by little
PERMUTATIONS = 2000


# Figure S4A: "The penalties include an error score of 4 for 'urgent referrals' scored as normal and an error score of 2
# for 'urgent referrals' scored as drusen. All other incorrect answers carry an error score of 1."
PENALTIES = pd.read_csv(PUBLISHED / "kermany2018_penalties.csv", index_col="true").rename_axis(columns="predicted")

# Application of the AI System for Pneumonia Detection: "chest X-rays presenting as pneumonia versus normal", and
# "binary comparison of bacterial and viral pneumonia". A network of the three classes answers both.
PNEUMONIA = ("NORMAL", "BACTERIA", "VIRUS")
QUESTIONS = {"pneumonia": ("PNEUMONIA", "NORMAL"), "bacteria_virus": ("BACTERIA", "VIRUS")}
TITLES = {"pneumonia": "pneumonia vs normal", "bacteria_virus": "bacterial vs viral"}

# Method Details: "'urgent referral' for diagnoses of bacterial pneumonia, 'supportive care' for viral pneumonia, and
# 'observation only' for normal".
DECISIONS = {"NORMAL": "observation", "BACTERIA": "urgent referral", "VIRUS": "supportive care"}

# An assumption: the paper gives no costs for chest X-rays. These carry over the rule of its figure S4A for OCT: 4
# points for an urgent case left to observation, 2 for an urgent case given milder care, 1 for any other wrong decision.
PNEUMONIA_COSTS = pd.DataFrame(
    [[0, 1, 1], [4, 0, 2], [1, 1, 0]], pd.Index(PNEUMONIA, name="true"), pd.Index(PNEUMONIA, name="predicted")
)

# Of a decision's cost: what the rule of least expected cost saves over the most probable class, and what the latter
# saves over the better of two ways that look at no image.
SAVED, EARNED = "saved by the rule of least cost", "saved over deciding blindly"


def four_class_numbers(scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, Estimate]:
    """Every number of the multi-class model, from a scores frame (columns label, patient_id and p_<class>).

    Keys: accuracy, sensitivity, specificity, weighted_error and auroc, with intervals by patient; accuracy_by_image and
    auroc_by_image, whose intervals take the images of one patient as independent, as the paper's do.
    """
    labels, patients, predicted = scores["label"], scores["patient_id"], predicted_labels(scores, classes)
    urgent, score = is_urgent(labels), urgent_score(scores)
    referral = rates(urgent, is_urgent(predicted), patients)
    return {
        "accuracy": accuracy(labels, predicted, patients),
        **{name: referral[name] for name in ("sensitivity", "specificity")},
        "weighted_error": weighted_error(labels, predicted, PENALTIES, patients).estimate(),
        "auroc": auroc(urgent, score, patients),
        "accuracy_by_image": accuracy(labels, predicted),
        "auroc_by_image": auroc(urgent, score),
    }


def binary_numbers(scores: pd.DataFrame, classes: tuple[str, str]) -> dict[str, Estimate]:
    """Every number of a binary model, the first of `classes` being the positive one, under the same names; of several
    trainings, by patient and over the trainings, and none by image.
    """

    def of_training(part: pd.DataFrame) -> dict[str, Clustered]:
        truth, patients = (part["label"] == classes[0]).to_numpy(), part["patient_id"].to_numpy()
        right = predicted_labels(part, classes) == part["label"].to_numpy()
        among = {"accuracy": truth | True, "sensitivity": truth, "specificity": ~truth}
        found = {name: clustered_mean(right[rows], patients[rows], (0, 1)) for name, rows in among.items()}
        return found | {"auroc": clustered_auroc(truth, part[f"p_{classes[0]}"], patients)}

    found = {name: one.estimate() for name, one in by_training(scores, of_training).items()}
    if "seed" in scores:
        return found
    by_image = accuracy(scores["label"], predicted_labels(scores, classes))
    area = auroc(scores["label"] == classes[0], scores[f"p_{classes[0]}"])
    return found | {"accuracy_by_image": by_image, "auroc_by_image": area}


Drawn = dict[tuple[str, int, int], dict[str, Clustered]]  # of the learning curve: initialisation, per_class, seed


def curve_parts(curve: pd.DataFrame, classes: Sequence[str]) -> Drawn:
    """`four_class_parts` of every training of the learning curve. `curve`: `models.train_learning_curve`'s table."""
    groups = curve.groupby(["initialisation", "per_class", "seed"], sort=False)
    return {key: four_class_parts(scores, classes) for key, scores in groups}


def curve_points(drawn: Drawn) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The learning curve: every run (initialisation, per_class, seed, accuracy, auroc), and their means over the draws.

    The means have initialisation, per_class, quantity, value, low, high, n, method and note; their intervals hold the
    test patients' error and the spread between draws, and draws of many images overlap. Accuracy is that of all
    classes, AUROC that of urgent referral.
    """
    runs, points = {}, []
    for (name, size, seed), one in drawn.items():
        points.append({"initialisation": name, "per_class": size, "seed": seed} | {q: x.value for q, x in one.items()})
        for quantity, each in one.items():
            runs.setdefault((name, size, quantity), []).append(each)
    found = {key: over_trainings(each).estimate() for key, each in runs.items()}
    return pd.DataFrame(points), estimate_frame(found, "initialisation", "per_class", "quantity")


def full_against_limited(full: pd.DataFrame, limited: pd.DataFrame, drawn: Drawn, per_class: int) -> pd.DataFrame:
    """What more training images are worth on the same test images, by patient; one family of tests (`p_holm`).

    First the two models, one training each, with p of McNemar's and of DeLong's test, which take images as independent;
    then over the draws of the learning curve, its largest size less the one nearest to `per_class`: that interval
    holds the spread between the draws as well.
    """
    classes = [name[2:] for name in full.columns if name.startswith("p_")]
    a, b = (four_class_parts(scores, classes) for scores in (full, limited))
    right = (scores["label"] == predicted_labels(scores, classes) for scores in (full, limited))
    areas = compare_aurocs(is_urgent(full["label"]), urgent_score(full), urgent_score(limited))
    rows = []
    for quantity, test, by_image in (("accuracy", "McNemar", mcnemar(*right)), ("auroc", "DeLong", areas)):
        row = {"compared": "full less limited model, one training each", "quantity": quantity}
        row |= (a[quantity] - b[quantity]).row()
        rows.append(row | {"p by image": by_image.p, "test by image": test})
    trained = {(size, seed): one for (name, size, seed), one in drawn.items() if name == "pre-trained"}
    sizes = sorted({size for size, _ in trained})
    most, near = sizes[-1], min(sizes, key=lambda size: abs(np.log(size / per_class)))
    for quantity in a:
        each = [one[quantity] - trained[near, seed][quantity] for (size, seed), one in trained.items() if size == most]
        name = f"{most:,} less {near:,} images per class, {len(each)} draws"
        rows.append({"compared": name, "quantity": quantity, **over_trainings(each).row()})
    return pd.DataFrame(rows).assign(p_holm=lambda table: holm(table["p"]))


def four_class_parts(scores: pd.DataFrame, classes: Sequence[str]) -> dict[str, Clustered]:
    """Accuracy and AUROC of the multi-class model, to be subtracted from another's or averaged over trainings."""
    right = (scores["label"] == predicted_labels(scores, classes)).to_numpy()
    return {
        "accuracy": clustered_mean(right, scores["patient_id"], (0, 1)),
        "auroc": clustered_auroc(is_urgent(scores["label"]), urgent_score(scores), scores["patient_id"]),
    }


def weighted_error(labels: Any, predicted: Any, penalties: pd.DataFrame, patients: Any) -> Clustered:
    """Mean penalty per image (the paper prints 0.066 as 6.6 %, though it may reach 4), with an interval by patient.

    Expert Comparisons: "Weighted error scoring was used to reflect the fact that a false negative result (failing to
    refer) is more detrimental than a false positive result". `penalties` has a row per true class and a column per
    predicted one. Raises `ValueError` for a label that it does not hold.
    """
    table = penalties.to_numpy(float)
    costs = table[places_of(labels, penalties.index), places_of(predicted, penalties.columns)]
    return clustered_mean(costs, patients, (0.0, table.max()))


def pneumonia_scores(scores: pd.DataFrame, question: str) -> pd.DataFrame:
    """Three-class scores as those of one of `QUESTIONS`: its rows, labels, and two probabilities that sum to 1.

    Pneumonia is either kind: 1 - p_NORMAL. Bacterial against viral is among true pneumonias alone, as in the paper,
    their two probabilities being scaled to sum to 1 (to one half each where both are 0).
    """
    positive, negative = QUESTIONS[question]
    if question == "pneumonia":
        rows = scores.assign(label=scores["label"].where(scores["label"] == "NORMAL", "PNEUMONIA"))
        share = 1 - scores["p_NORMAL"]
    else:
        rows = scores[scores["label"] != "NORMAL"]
        both = rows["p_BACTERIA"] + rows["p_VIRUS"]
        share = (rows["p_BACTERIA"] / both).fillna(0.5)
    kept = rows[[column for column in rows if not column.startswith("p_")]]
    return kept.assign(**{f"p_{positive}": share, f"p_{negative}": 1 - share}).reset_index(drop=True)


def describe_shift(home: Estimate, away: Estimate) -> str:
    """How much lower a share is among other patients than at home, with Newcombe's square-and-add interval, in words.

    Whether two intervals overlap is no test: they may, and the difference still be clear.
    """
    drop = home.value - away.value
    low = drop - np.hypot(home.value - home.low, away.high - away.value)
    high = drop + np.hypot(home.high - home.value, away.value - away.low)
    if not (home.bounded and away.bounded):
        return f"a drop of {100 * drop:.1f} points, without an interval"
    chance = "" if low > 0 else ", which may be chance"
    return f"a drop of {100 * drop:.1f} points ({100 * low:.1f} to {100 * high:.1f}){chance}"


def questions_of(catalogue: Catalogue) -> dict[str, tuple[str, str]]:
    """The `QUESTIONS` that a catalogue's labels answer: some copies do not distinguish bacterial and viral."""
    return {name: pair for name, pair in QUESTIONS.items() if name == "pneumonia" or {*pair} <= {*catalogue.classes}}


def pneumonia_counts(catalogue: Catalogue) -> dict[str, float]:
    """Images and known patients of the published folders, by the last part of their ids in data/published/."""
    frame, names = catalogue.frame, {"NORMAL": "normal", "BACTERIA": "bacterial", "VIRUS": "viral"}
    images = pd.crosstab(frame["published_split"], frame["label"]).rename(columns=names)
    images = images.assign(pneumonia=images.drop(columns="normal").sum(axis=1)).drop(
        columns="PNEUMONIA", errors="ignore"
    )
    if catalogue.patients_known:
        images = images.assign(patients=frame.groupby("published_split")["patient_id"].nunique())
    counts = {f"{part}_{word}": float(count) for (part, word), count in images.stack().items()}
    return counts | {"train_images": float((frame["published_split"] == "train").sum())}


def cheapest_decisions(scores: pd.DataFrame) -> np.ndarray:
    """For each row of a scores frame (columns p_<class>) the class whose care has the least expected cost.

    It leans to urgent referral where missing a bacterial case is costly, and is only as good as the probabilities: see
    `metrics.calibration`. Of equal costs the first class wins.
    """
    expected = probabilities_of(scores, PNEUMONIA) @ PNEUMONIA_COSTS.to_numpy(dtype=float)
    return np.array(PNEUMONIA, dtype=object)[expected.argmin(axis=1)]


def referral_at(scores: pd.DataFrame, threshold: float, prevalence: float) -> pd.DataFrame:
    """What urgent referral from `threshold` on means where `prevalence` of the images are urgent, in words.

    Sensitivity and specificity with intervals by patient; predictive values with those of the likelihood ratios, which
    take images as independent.
    """
    urgent, called = is_urgent(scores["label"]), urgent_score(scores) >= threshold
    found = rates(urgent, called, scores["patient_id"])
    positive, negative = likelihood_ratios(urgent, called).values()
    odds = prevalence / (1 - prevalence)
    ppv = (1 - 1 / (1 + odds * ratio) for ratio in (positive.value, positive.low, positive.high))
    npv = (1 / (1 + odds * ratio) for ratio in (negative.value, negative.high, negative.low))
    shown = {name: found[name] for name in ("sensitivity", "specificity")}
    shown["positive predictive value"] = Estimate(*ppv, positive.n, positive.method, positive.note)
    shown["negative predictive value"] = Estimate(*npv, negative.n, negative.method, negative.note)
    return side_by_side({f"threshold {threshold:.3f}, {100 * prevalence:.0f} % urgent": shown})


def referral_costs(scores: pd.DataFrame) -> dict[str, Estimate]:
    """Mean cost per image of four ways to decide, by patient and over the trainings; and two differences on the same
    images, `SAVED` and `EARNED`.

    Keys: "most probable class", "least expected cost", and for comparison "refer all urgently" and "observe all", which
    look at no image. `scores` has columns label (one of `PNEUMONIA`), patient_id, p_<class>, and `seed`.
    """

    def of_training(part: pd.DataFrame) -> dict[str, Clustered]:
        decisions = {
            "most probable class": predicted_labels(part, PNEUMONIA),
            "least expected cost": cheapest_decisions(part),
            "refer all urgently": np.full(len(part), "BACTERIA", dtype=object),
            "observe all": np.full(len(part), "NORMAL", dtype=object),
        }
        settings = (PNEUMONIA_COSTS, part["patient_id"])
        found = {name: weighted_error(part["label"], decided, *settings) for name, decided in decisions.items()}
        probable, cheapest, *blind = found.values()
        best = min(blind, key=lambda one: one.value)
        return found | {SAVED: probable - cheapest, EARNED: best - probable}

    return {name: one.estimate() for name, one in by_training(scores, of_training).items()}


def temper(scores: pd.DataFrame, classes: Sequence[str]) -> tuple[pd.DataFrame, dict[int, float]]:
    """The scores of each training at the temperature that fits its own validation images, and the temperatures by seed.

    `scores` has all splits of every training, which `seed` tells apart.
    """
    parts, found = [], {}
    for seed, part in scores.groupby("seed"):
        fitted = part[part["split"] == "validation"]
        found[seed] = fit_temperature(probabilities_of(fitted, classes), fitted["label"], classes)
        parts.append(rescale(part, classes, found[seed]))
    return pd.concat(parts, ignore_index=True), found


# --- are shared ids shared patients? ---


@dataclass(frozen=True)
class SharedIdEvidence:
    """Whether ids that occur in both published folders belong to one patient, judged from pixels.

    `alike`: probability that a pair of images of one id, one from each folder, is more alike than a chance pair of the
    same class from two ids (0.5: no more than chance). `reference`: the same for two images of one id within the train
    folder, so what true patients look like to this measure. `p_value`: one-sided, from permutation.
    """

    shared_ids: int
    pairs: int
    alike: Estimate
    reference: Estimate
    p_value: float
    conclusion: str


def shared_id_evidence(catalogue: Catalogue, seed: int, workers: int = 0) -> SharedIdEvidence:
    """Compares pairs of one id across train and test with chance pairs of the same class (correlation of thumbnails).

    An id that two folders share is not yet a shared patient, since numbers may restart in each folder. Every test image
    (at most `PAIRS_PER_ID` per id) is paired with a training image of its id and class, and with one of another id and
    the same class. Ids are the interval's units; a permutation swaps the two pairs of all images of an id.
    Two images of one eye need not look alike, so one pair shows little (on OCT 0.6 for true patients) and needs
    many ids; `reference` shows what it can do on this data set. Raises `UnreadableImage`.
    """
    if not catalogue.patients_known:
        none = Estimate.undefined(0, "none", text := "No patients are named: who is in both folders is unknown.")
        return SharedIdEvidence(0, 0, none, none, float("nan"), text)
    frame = catalogue.frame.sort_values("image_id", ignore_index=True)
    train, test = (frame[frame["published_split"] == split] for split in ("train", "test"))
    shared = sorted(set(train["patient_id"]) & set(test["patient_id"]))
    rng = np.random.default_rng(seed)
    across, within = _pairs(test, train, rng), _pairs(train, train, rng)
    alike, p_value = _alikeness(catalogue.subset(frame), across, seed, workers)
    reference, _ = _alikeness(catalogue.subset(frame), within, seed, workers)
    text = _conclude(len(shared), alike, reference, p_value)
    return SharedIdEvidence(len(shared), len(across), alike, reference, p_value, text)


def _pairs(anchors: pd.DataFrame, others: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Row numbers: `anchor`, `same` (of `others`, the same id and class) and `chance` (the same class, another id)."""
    same_of = others.groupby(["patient_id", "label"]).groups
    class_of = others.groupby("label").groups
    id_of = others["patient_id"].to_dict()
    groups = [group for _, group in anchors.groupby("patient_id", sort=True)]
    rows, used = [], set()
    for k in rng.permutation(len(groups)):
        for i in rng.permutation(len(groups[k]))[:PAIRS_PER_ID]:
            anchor = groups[k].iloc[i]
            same = same_of.get((anchor["patient_id"], anchor["label"]), pd.Index([])).drop(anchor.name, errors="ignore")
            chance = rng.choice(class_of.get(anchor["label"], [anchor.name]), 20)  # a few are of the same id
            chance = [row for row in chance if id_of.get(row, anchor["patient_id"]) != anchor["patient_id"]]
            if len(same) and chance:
                rows.append((anchor["patient_id"], anchor.name, rng.choice(same), chance[0]))
                used.add(anchor["patient_id"])
        if len(used) == MAX_IDS:
            break
    return pd.DataFrame(rows, columns=["id", "anchor", "same", "chance"])


def _alikeness(catalogue: Catalogue, pairs: pd.DataFrame, seed: int, workers: int) -> tuple[Estimate, float]:
    """P(same-id pair is more alike than chance pair) with its interval, and the permutation's one-sided p."""
    if pairs.empty:
        return Estimate.undefined(0, "DeLong by patient", "no two images of one id and class"), float("nan")
    rows = np.unique(pairs[["anchor", "same", "chance"]])
    images = thumbnails(catalogue.subset(catalogue.frame.loc[rows]), workers)
    anchor, same, chance = (images[np.searchsorted(rows, pairs[c])] for c in ("anchor", "same", "chance"))
    of_same, of_chance = (np.einsum("ij,ij->i", anchor, other) for other in (same, chance))
    _, of_id = np.unique(pairs["id"], return_inverse=True)
    both, ids = np.concatenate([of_same, of_chance]), np.tile(pairs["id"], 2)
    area = auroc(np.repeat([True, False], len(pairs)), both, ids)
    return area, _swapped(of_same - of_chance, of_id, seed)


def _swapped(differences: np.ndarray, group: np.ndarray, seed: int) -> float:
    """One-sided p of a positive sum of differences, where the sign of each group's sum could as well be the other."""
    sums = np.bincount(group, differences)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (PERMUTATIONS, len(sums)))
    return float((1 + np.sum(signs @ sums >= sums.sum() - 1e-9)) / (1 + PERMUTATIONS))


def _conclude(shared: int, alike: Estimate, reference: Estimate, p_value: float) -> str:
    if shared == 0:
        return "No patient id occurs in both train and test."
    ids = "1 patient id occurs" if shared == 1 else f"{shared:,} patient ids occur"
    if not alike.defined:
        return f"{ids} in both train and test, but never with one class in both, so nothing can be compared."
    chance = f"a pair of one id is more alike than a chance pair with probability {alike.value:.2f}"
    interval = f"{alike.low:.2f} to {alike.high:.2f}, p = {p_value:.2g}"
    if p_value < 0.05 and alike.low > 0.5:
        meaning = "shared ids are shared patients, at least in part"
    elif reference.defined and reference.low > max(0.5, alike.high):
        meaning = f"within train it is {reference.value:.2f}, so these ids do not look like shared patients"
    else:
        meaning = "the images cannot show whether shared ids are shared patients"
    return f"{ids} in both train and test. Across the two, {chance} ({interval}): {meaning}."
