"""What the OCT labels call for, and counts for figure 2B and table S1: images and patients on the way to the test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.splits import SPLITS, Split

URGENT = ("CNV", "DME")  # referral: urgent for these, routine for DRUSEN, observation for NORMAL


def is_urgent(labels: Any) -> np.ndarray:
    """True for each label that calls for urgent referral (CNV, DME)."""
    return np.isin(np.asarray(labels, dtype=str), URGENT)


def urgent_score(scores: pd.DataFrame) -> np.ndarray:
    """The probability of urgent referral, p_CNV + p_DME, for each row of a scores frame.

    STAR Methods: "ROC curves were generated using classification probabilities of urgent referral versus otherwise".
    """
    return scores[[f"p_{name}" for name in URGENT]].sum(axis=1, skipna=False).to_numpy()


def flow_boxes(catalogue: Catalogue, split: Split) -> tuple[list[tuple[str, str]], dict[int, str]]:
    """Figure 2B's boxes, (title, counts) from top to bottom, and what left after each, by place."""
    frame = split.frame
    found = len(catalogue) + len(catalogue.excluded)
    parts = {name: frame[frame["split"] == name] for name in SPLITS}
    boxes = [
        ("Images found", f"{found:,} images"),
        ("Readable images with a label and a patient", _count(catalogue.frame)),
        (f"Used: {split.kind} split", _count(frame)),
        ("Training", _classes(parts["train"], catalogue.classes)),
        ("Validation: models and steps are chosen here", _classes(parts["validation"], catalogue.classes)),
        ("Test: looked at once", _classes(parts["test"], catalogue.classes)),
    ]
    aside = {
        0: f"set aside: {len(catalogue.excluded):,} unreadable or misnamed",
        1: f"dropped: {len(split.dropped):,} training images\nwhose patient or file is in the test folder",
    }
    return boxes, aside


def patient_characteristics(catalogue: Catalogue) -> pd.DataFrame:
    """Table S1 as far as the data tell it: patients, images and images a patient, by published split and class.

    The paper's table has more (Results: "Patient characteristics for each diagnosis category are listed in Table S1"),
    but the public files carry neither age nor sex.
    """
    rows = []
    for (name, label), part in catalogue.frame.groupby(["published_split", "label"]):
        sizes = part.groupby("patient_id").size()
        spread = f"{sizes.median():g} ({sizes.min()} to {sizes.max()})"
        rows.append((name, label, len(sizes), len(part), spread))
    columns = ["split", "class", "patients", "images", "images a patient: median (range)"]
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values(["split", "class"], ascending=[False, True], ignore_index=True)


def _count(frame: pd.DataFrame) -> str:
    return f"{len(frame):,} images of {frame['patient_id'].nunique():,} patients"


def _classes(frame: pd.DataFrame, classes: tuple[str, ...]) -> str:
    counts = frame["label"].value_counts()
    parts = ", ".join(f"{counts.get(name, 0):,} {name}" for name in classes)
    return f"{_count(frame)}\n{parts}"
