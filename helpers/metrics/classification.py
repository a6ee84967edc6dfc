"""What a classifier got right: confusion table, accuracy, sensitivity and specificity, urgent referrals.

Kermany 2018, Results: "This AI system categorized images with choroidal neovascularization and images with diabetic
macular edema as 'urgent referrals'." Its sensitivity and specificity of the four-class model are those of urgent
referral, not of a class. STAR Methods, Quantification: "Sensitivity and specificity were determined by dividing the
total number of correctly labeled urgent referrals and the total number of correctly labeled non-urgent referrals,
respectively, by the total number of test images." Taken literally, neither could exceed the share of its group (0.5
in a test set of 250 images a class), while the paper prints 97.8 % and 97.4 %; so the denominators must have been
the urgent and the non-urgent images, and these are what we divide by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics.checks import as_bool, as_labels, as_scores, check_classes, same_length
from helpers.metrics.estimate import Estimate
from helpers.metrics.proportions import proportion

URGENT = ("CNV", "DME")  # referral: urgent for these, routine for DRUSEN, observation for NORMAL


def confusion(labels: Any, predicted: Any, classes: Sequence[str]) -> pd.DataFrame:
    """Counts of images: rows are true classes, columns predicted ones, both in the order of `classes` (figure 4B).

    `labels` and `predicted` hold one class name an image. Raises `ValueError` for a name not among `classes`.
    """
    true = as_labels(labels, "labels", classes)
    guess = as_labels(predicted, "predicted", classes)
    same_length(labels=true, predicted=guess)
    names = check_classes(classes)
    place = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, ([place[name] for name in true], [place[name] for name in guess]), 1)
    return pd.DataFrame(counts, index=pd.Index(names, name="true"), columns=pd.Index(names, name="predicted"))


def accuracy(labels: Any, predicted: Any) -> Estimate:
    """Share of images whose predicted label is the true one, with its Clopper-Pearson interval.

    STAR Methods: "dividing the number of correctly labeled images by the total number of test images". The interval
    takes images as independent; `bootstrap.accuracy_by_patient` does not.
    """
    true, guess = as_labels(labels, "labels"), as_labels(predicted, "predicted")
    n = same_length(labels=true, predicted=guess)
    return proportion(int((true == guess).sum()), n)


def rates(truth: Any, predicted: Any) -> dict[str, Estimate]:
    """Sensitivity, specificity, PPV, NPV and accuracy of a yes/no call, each with its Clopper-Pearson interval.

    `truth` and `predicted` hold one True (positive) or False an image; for Kermany's four-class numbers these are
    `is_urgent(labels)` and `is_urgent(predicted)`. Each is divided by its own class total (see the module's text),
    which is the estimate's n; where that is 0 the estimate is undefined. PPV and NPV hold at this sample's prevalence
    only.
    """
    t, p = as_bool(truth, "truth"), as_bool(predicted, "predicted")
    n = same_length(truth=t, predicted=p)
    hits, rejections = int((t & p).sum()), int((~t & ~p).sum())
    return {
        "sensitivity": _part(hits, int(t.sum()), "no positives"),
        "specificity": _part(rejections, int((~t).sum()), "no negatives"),
        "ppv": _part(hits, int(p.sum()), "nothing was called positive"),
        "npv": _part(rejections, int((~p).sum()), "nothing was called negative"),
        "accuracy": _part(hits + rejections, n, "no observations"),
    }


def predicted_labels(scores: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """The class with the highest probability for each row of a scores frame (columns p_<class>).

    Of equal probabilities the first in `classes` wins. Raises `ValueError` for a missing column or a NaN.
    """
    names = check_classes(classes)
    table = np.column_stack([_probability(scores, name) for name in names])
    return np.array(names, dtype=object)[table.argmax(axis=1)]


def urgent_score(scores: pd.DataFrame, urgent: Sequence[str] = URGENT) -> np.ndarray:
    """The probability of urgent referral, p_CNV + p_DME, for each row of a scores frame.

    STAR Methods: "ROC curves were generated using classification probabilities of urgent referral versus otherwise".
    """
    return np.sum([_probability(scores, name) for name in check_classes(urgent)], axis=0)


def is_urgent(labels: Any, urgent: Sequence[str] = URGENT) -> np.ndarray:
    """True for each label that calls for urgent referral (CNV, DME)."""
    return np.isin(as_labels(labels, "labels").astype(str), check_classes(urgent))


def _part(successes: int, n: int, why: str) -> Estimate:
    return proportion(successes, n) if n else Estimate.undefined(0, "Clopper-Pearson", why)


def _probability(scores: pd.DataFrame, name: str) -> np.ndarray:
    column = f"p_{name}"
    if column not in scores.columns:
        raise ValueError(f"the scores have no column {column}; they have {', '.join(map(str, scores.columns))}")
    return as_scores(scores[column], column)
