"""The weighted error of figure S4: a missed urgent referral costs more than a needless one.

Kermany 2018, Expert Comparisons: "Weighted error scoring was used to reflect the fact that a false negative result
(failing to refer) is more detrimental than a false positive result". Figure S4A: "The penalties include an error score
of 4 for 'urgent referrals' scored as normal and an error score of 2 for 'urgent referrals' scored as drusen. All other
incorrect answers carry an error score of 1."
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics.bootstrap import mean_by_patient
from helpers.metrics.checks import as_labels, check_classes, same_length
from helpers.metrics.estimate import Estimate

_ORDER = ("NORMAL", "DRUSEN", "CNV", "DME")  # as figure S4A prints them

# Rows: true class. Columns: predicted class.
KERMANY_PENALTIES = pd.DataFrame(
    [[0, 1, 1, 1], [1, 0, 1, 1], [4, 2, 0, 1], [4, 2, 1, 0]],
    index=pd.Index(_ORDER, name="true"),
    columns=pd.Index(_ORDER, name="predicted"),
)


def weighted_error(
    labels: Any,
    predicted: Any,
    classes: Sequence[str],
    penalties: pd.DataFrame = KERMANY_PENALTIES,
    patients: Any = None,
    resamples: int = 2000,
    seed: int = 1,
) -> Estimate:
    """Mean penalty an image (the paper prints 0.066 as 6.6 %, though it may reach 4), with a bootstrap interval.

    `penalties` has a row a true class and a column a predicted one, in any order; `patients` names each image's
    patient, and without it images are resampled one by one. Raises `ValueError` for a label or a penalty that is not
    there, and for a wrong penalty table (negative, missing, or not 0 for the right answer).
    """
    true = as_labels(labels, "labels", classes)
    guess = as_labels(predicted, "predicted", classes)
    n = same_length(labels=true, predicted=guess)
    table = _checked(penalties, check_classes(classes))
    rows, columns = table.index.get_indexer(true), table.columns.get_indexer(guess)
    costs = table.to_numpy()[rows, columns]
    groups = np.arange(n) if patients is None else patients
    return mean_by_patient(costs, groups, resamples, seed, bounds=(0.0, float(table.to_numpy().max())))


def _checked(penalties: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    absent = [name for name in classes if name not in penalties.index or name not in penalties.columns]
    if absent:
        raise ValueError(f"penalties: no row or column for {', '.join(absent)}")
    table = penalties.loc[classes, classes].astype(float)
    values = table.to_numpy()
    if not np.isfinite(values).all() or (values < 0).any() or np.diag(values).any():
        raise ValueError("penalties: expected numbers of 0 or more, and 0 where the answer is right")
    return table
