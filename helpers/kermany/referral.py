"""The numbers that Kermany 2018 gives for each model, with their intervals: one call a model.

Results, Performance of the Model: accuracy over the classes; sensitivity and specificity of urgent referral; weighted
error; area under the ROC curve for urgent referrals. For the binary models: a disease against normal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from helpers.kermany.weighted import weighted_error
from helpers.metrics.auroc import auroc
from helpers.metrics.bootstrap import accuracy_by_patient, auroc_by_patient
from helpers.metrics.classification import accuracy, is_urgent, predicted_labels, rates, urgent_score
from helpers.metrics.estimate import Estimate


def four_class(scores: pd.DataFrame, classes: Sequence[str], resamples: int, seed: int) -> dict[str, Estimate]:
    """Every number of the multi-class model, from a scores frame (columns label, patient_id and p_<class>).

    Keys: accuracy, sensitivity, specificity, weighted_error, auroc, and accuracy_by_patient and auroc_by_patient,
    whose intervals allow for several images of one patient.
    """
    said = predicted_labels(scores, classes)
    urgent, called, score = is_urgent(scores["label"]), is_urgent(said), urgent_score(scores)
    referral = rates(urgent, called)
    patients = scores["patient_id"]
    return {
        "accuracy": accuracy(scores["label"], said),
        "accuracy_by_patient": accuracy_by_patient(scores["label"], said, patients, resamples, seed),
        "sensitivity": referral["sensitivity"],
        "specificity": referral["specificity"],
        "weighted_error": weighted_error(
            scores["label"], said, classes, patients=patients, resamples=resamples, seed=seed
        ),
        "auroc": auroc(urgent, score),
        "auroc_by_patient": auroc_by_patient(urgent, score, patients, resamples, seed),
    }


def against_normal(scores: pd.DataFrame, disease: str, resamples: int, seed: int) -> dict[str, Estimate]:
    """Every number of a binary model, `disease` against NORMAL, under the same names."""
    return two_class(scores, (disease, "NORMAL"), resamples, seed)


def two_class(scores: pd.DataFrame, classes: tuple[str, str], resamples: int, seed: int) -> dict[str, Estimate]:
    """Every number of a binary model, the first of `classes` being the positive one, under the same names."""
    truth = (scores["label"] == classes[0]).to_numpy()
    score = scores[f"p_{classes[0]}"].to_numpy()
    found = rates(truth, predicted_labels(scores, classes) == classes[0])
    return {
        "accuracy": found["accuracy"],
        "sensitivity": found["sensitivity"],
        "specificity": found["specificity"],
        "auroc": auroc(truth, score),
        "auroc_by_patient": auroc_by_patient(truth, score, scores["patient_id"], resamples, seed),
    }


def as_table(models: Mapping[str, Mapping[str, Estimate]]) -> pd.DataFrame:
    """Estimates as a table: a row a model and quantity, with value, low, high, n and method."""
    return pd.DataFrame(
        [
            {"model": model, "quantity": name.replace("_", " "), **estimate.as_dict()}
            for model, estimates in models.items()
            for name, estimate in estimates.items()
        ]
    )


def side_by_side(models: Mapping[str, Mapping[str, Estimate]]) -> pd.DataFrame:
    """The same for reading: a row a quantity, a column a model, per cent with the interval."""
    return pd.DataFrame(
        {model: {name.replace("_", " "): e.percent() for name, e in found.items()} for model, found in models.items()}
    )
