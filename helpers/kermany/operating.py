"""Operating points and referral of the pneumonia models: where the threshold lies, and what wrong decisions cost.

Kermany 2018, Method Details: "referral decisions were made thereafter ('urgent referral' for diagnoses of bacterial
pneumonia, 'supportive care' for viral pneumonia, and 'observation only' for normal)."
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from helpers.kermany.weighted import weighted_error
from helpers.metrics.checks import as_bool, as_scores, same_length
from helpers.metrics.classification import predicted_labels, rates
from helpers.metrics.estimate import Estimate
from helpers.metrics.youden import youden

PNEUMONIA = ("NORMAL", "BACTERIA", "VIRUS")
DECISIONS = {"NORMAL": "observation", "BACTERIA": "urgent referral", "VIRUS": "supportive care"}

# An assumption: the paper gives no costs for chest X-rays. These carry over the rule of its figure S4A for OCT: 4
# points for an urgent case left to observation, 2 for an urgent case given milder care, 1 for any other wrong decision.
# Rows: true class. Columns: the class whose care was decided on.
PNEUMONIA_COSTS = pd.DataFrame(
    [[0, 1, 1], [4, 0, 2], [1, 1, 0]],
    index=pd.Index(PNEUMONIA, name="true"),
    columns=pd.Index(PNEUMONIA, name="predicted"),
)


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and how it does: a score of at least this is positive. `chosen_on` says on which images it was."""

    threshold: float
    chosen_on: str
    sensitivity: Estimate
    specificity: Estimate
    accuracy: Estimate


def operating_point(truth: Any, score: Any, threshold: float, chosen_on: str = "given") -> OperatingPoint:
    """How a threshold does on these images, with Clopper-Pearson intervals; `truth` is True for a positive."""
    t, s = as_bool(truth, "truth"), as_scores(score, "score")
    same_length(truth=t, score=s)
    found = rates(t, s >= threshold)
    return OperatingPoint(threshold, chosen_on, found["sensitivity"], found["specificity"], found["accuracy"])


def transferred_point(validation_truth: Any, validation_score: Any, truth: Any, score: Any) -> OperatingPoint:
    """The threshold with the best Youden index on validation images, judged on others (the test images)."""
    return operating_point(truth, score, youden(validation_truth, validation_score).threshold, "validation")


def cheapest_decisions(
    scores: pd.DataFrame, classes: Sequence[str] = PNEUMONIA, costs: pd.DataFrame = PNEUMONIA_COSTS
) -> np.ndarray:
    """For each row of a scores frame (columns p_<class>) the class whose care has the least expected cost.

    It leans to urgent referral where missing a bacterial case is dear, and is only as good as the probabilities: see
    `calibration`. Of equal costs the first class wins.
    """
    names = list(classes)
    likely = np.column_stack([as_scores(scores[f"p_{name}"], f"p_{name}") for name in names])
    expected = likely @ costs.loc[names, names].to_numpy(dtype=float)
    return np.array(names, dtype=object)[expected.argmin(axis=1)]


def referral_costs(
    scores: pd.DataFrame, resamples: int, seed: int, costs: pd.DataFrame = PNEUMONIA_COSTS
) -> dict[str, Estimate]:
    """Mean cost an image, with a bootstrap interval by patient, of four ways to decide.

    Keys: "most probable class", "least expected cost", and for comparison "refer all urgently" and "observe all", which
    look at no image. `scores` has columns label (one of `PNEUMONIA`), patient_id and p_<class>.
    """
    decided = {
        "most probable class": predicted_labels(scores, PNEUMONIA),
        "least expected cost": cheapest_decisions(scores, PNEUMONIA, costs),
        "refer all urgently": np.full(len(scores), "BACTERIA", dtype=object),
        "observe all": np.full(len(scores), "NORMAL", dtype=object),
    }
    settings = {"patients": scores["patient_id"], "resamples": resamples, "seed": seed}
    return {name: weighted_error(scores["label"], said, PNEUMONIA, costs, **settings) for name, said in decided.items()}
