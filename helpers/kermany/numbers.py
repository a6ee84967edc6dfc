"""Kermany 2018's numbers of each model, with their intervals: urgent referral, weighted error, pneumonia, costs.

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
from typing import Any

import numpy as np
import pandas as pd

from helpers.kermany.data import is_urgent, urgent_score
from helpers.metrics.auroc import auroc
from helpers.metrics.bootstrap import accuracy_by_patient, auroc_by_patient, mean_by_patient
from helpers.metrics.classification import accuracy, predicted_labels, probabilities_of, rates
from helpers.metrics.estimate import Estimate, places_of


def _points(classes: Sequence[str], points: list[list[int]]) -> pd.DataFrame:
    """Points per image: a row for each true class, a column for the class whose care was decided on."""
    return pd.DataFrame(points, pd.Index(classes, name="true"), pd.Index(classes, name="predicted"))


# Figure S4A: "The penalties include an error score of 4 for 'urgent referrals' scored as normal and an error score of 2
# for 'urgent referrals' scored as drusen. All other incorrect answers carry an error score of 1."
PENALTIES = _points(("NORMAL", "DRUSEN", "CNV", "DME"), [[0, 1, 1, 1], [1, 0, 1, 1], [4, 2, 0, 1], [4, 2, 1, 0]])

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
PNEUMONIA_COSTS = _points(PNEUMONIA, [[0, 1, 1], [4, 0, 2], [1, 1, 0]])


def four_class_numbers(scores: pd.DataFrame, classes: Sequence[str], resamples: int, seed: int) -> dict[str, Estimate]:
    """Every number of the multi-class model, from a scores frame (columns label, patient_id and p_<class>).

    Keys: accuracy, sensitivity, specificity, weighted_error, auroc, and accuracy_by_patient and auroc_by_patient,
    whose intervals allow for several images of one patient.
    """
    labels, patients, predicted = scores["label"], scores["patient_id"], predicted_labels(scores, classes)
    urgent, score = is_urgent(labels), urgent_score(scores)
    referral = rates(urgent, is_urgent(predicted))
    return {
        "accuracy": accuracy(labels, predicted),
        "accuracy_by_patient": accuracy_by_patient(labels, predicted, patients, resamples, seed),
        **{name: referral[name] for name in ("sensitivity", "specificity")},
        "weighted_error": weighted_error(labels, predicted, PENALTIES, patients, resamples, seed),
        "auroc": auroc(urgent, score),
        "auroc_by_patient": auroc_by_patient(urgent, score, patients, resamples, seed),
    }


def binary_numbers(scores: pd.DataFrame, classes: tuple[str, str], resamples: int, seed: int) -> dict[str, Estimate]:
    """Every number of a binary model, the first of `classes` being the positive one, under the same names."""
    truth = (scores["label"] == classes[0]).to_numpy()
    score = scores[f"p_{classes[0]}"].to_numpy()
    found = rates(truth, predicted_labels(scores, classes) == classes[0])
    return {name: found[name] for name in ("accuracy", "sensitivity", "specificity")} | {
        "auroc": auroc(truth, score),
        "auroc_by_patient": auroc_by_patient(truth, score, scores["patient_id"], resamples, seed),
    }


def weighted_error(
    labels: Any, predicted: Any, penalties: pd.DataFrame, patients: Any, resamples: int, seed: int
) -> Estimate:
    """Mean penalty per image (the paper prints 0.066 as 6.6 %, though it may reach 4), with an interval by patient.

    Expert Comparisons: "Weighted error scoring was used to reflect the fact that a false negative result (failing to
    refer) is more detrimental than a false positive result". `penalties` has a row per true class and a column per
    predicted one. Raises `ValueError` for a label that it does not hold.
    """
    table = penalties.to_numpy(float)
    costs = table[places_of(labels, penalties.index), places_of(predicted, penalties.columns)]
    return mean_by_patient(costs, patients, resamples, seed, bounds=(0.0, table.max()))


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
    kept = rows[["image_id", "patient_id", "label", "split", "selection"]]
    return kept.assign(**{f"p_{positive}": share, f"p_{negative}": 1 - share}).reset_index(drop=True)


def pneumonia_counts(frame: pd.DataFrame) -> dict[str, float]:
    """Images and patients of the published folders, by the last part of their ids in data/published/."""
    images = pd.crosstab(frame["published_split"], frame["label"]).reindex(columns=PNEUMONIA, fill_value=0)
    images.columns = ["normal", "bacterial", "viral"]
    images = images.assign(
        pneumonia=images["bacterial"] + images["viral"],
        patients=frame.groupby("published_split")["patient_id"].nunique(),
    )
    counts = {f"{part}_{word}": float(count) for (part, word), count in images.stack().items()}
    return counts | {"train_images": float((frame["published_split"] == "train").sum())}


def cheapest_decisions(scores: pd.DataFrame) -> np.ndarray:
    """For each row of a scores frame (columns p_<class>) the class whose care has the least expected cost.

    It leans to urgent referral where missing a bacterial case is costly, and is only as good as the probabilities: see
    `metrics.calibration`. Of equal costs the first class wins.
    """
    expected = probabilities_of(scores, PNEUMONIA) @ PNEUMONIA_COSTS.to_numpy(dtype=float)
    return np.array(PNEUMONIA, dtype=object)[expected.argmin(axis=1)]


def referral_costs(scores: pd.DataFrame, resamples: int, seed: int) -> dict[str, Estimate]:
    """Mean cost per image, with a bootstrap interval by patient, of four ways to decide.

    Keys: "most probable class", "least expected cost", and for comparison "refer all urgently" and "observe all", which
    look at no image. `scores` has columns label (one of `PNEUMONIA`), patient_id and p_<class>.
    """
    decisions = {
        "most probable class": predicted_labels(scores, PNEUMONIA),
        "least expected cost": cheapest_decisions(scores),
        "refer all urgently": np.full(len(scores), "BACTERIA", dtype=object),
        "observe all": np.full(len(scores), "NORMAL", dtype=object),
    }
    settings = (PNEUMONIA_COSTS, scores["patient_id"], resamples, seed)
    return {name: weighted_error(scores["label"], decided, *settings) for name, decided in decisions.items()}
