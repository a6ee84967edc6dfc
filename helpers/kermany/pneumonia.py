"""Kermany 2018's two questions of a radiograph, asked of three-class scores, and the numbers it gives for each.

Results, Application of the AI System for Pneumonia Detection: "chest X-rays presenting as pneumonia versus normal",
and "binary comparison of bacterial and viral pneumonia". A network that tells NORMAL, BACTERIA and VIRUS apart answers
both.
"""

from __future__ import annotations

import pandas as pd

from helpers.kermany.referral import two_class
from helpers.metrics.estimate import Estimate

QUESTIONS = {"pneumonia": ("PNEUMONIA", "NORMAL"), "bacteria_virus": ("BACTERIA", "VIRUS")}
TITLES = {"pneumonia": "pneumonia vs normal", "bacteria_virus": "bacterial vs viral"}


def asked(scores: pd.DataFrame, question: str) -> pd.DataFrame:
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


def numbers(scores: pd.DataFrame, question: str, resamples: int, seed: int) -> dict[str, Estimate]:
    """Accuracy, sensitivity, specificity at one half, AUROC (DeLong), and AUROC with a bootstrap by patient."""
    return two_class(scores, QUESTIONS[question], resamples, seed)


def counts(frame: pd.DataFrame) -> dict[str, float]:
    """Images and patients of the published folders, by the last part of their ids in data/published/."""
    words = {"NORMAL": "normal", "BACTERIA": "bacterial", "VIRUS": "viral"}
    made: dict[str, float] = {}
    for part, rows in frame.groupby("published_split"):
        sizes = rows["label"].value_counts()
        made |= {f"{part}_{word}": float(sizes.get(label, 0)) for label, word in words.items()}
        made[f"{part}_pneumonia"] = made[f"{part}_bacterial"] + made[f"{part}_viral"]
        made[f"{part}_patients"] = float(rows["patient_id"].nunique())
    return made | {"train_images": float((frame["published_split"] == "train").sum())}
