"""Zech 2018's numbers of CheXNet: AUROCs of fourteen labels, F1 at thresholds chosen elsewhere, beside the talk's.

`scores` frames have a row per image, with patient_id and for each label `y_<label>` (bool) and `p_<label>` (0 to 1).
Every number of ours has one of three levels, which no table or claim leaves out: *re-scored* (Zech's published
predictions and NIH's labels: real, nothing is trained), *retrained here* (a network trained on the NIH images in
DATA_DIR), *phantom* (a network trained on phantoms, evidence about no paper).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics.auroc import Comparison, auroc, compare_aurocs
from helpers.metrics.bootstrap import ratio_by_patient
from helpers.metrics.classification import f1_threshold
from helpers.metrics.estimate import Estimate, as_arrays, estimate_frame
from helpers.run.claims import load_published

RESCORED, RETRAINED, PHANTOM = "re-scored", "retrained here", "phantom"
QUOTED = ("radiologist_1", "radiologist_2", "radiologist_3", "radiologist_4", "radiologists", "chexnet")
GROUNDS = (
    "network: re-scored from the predictions that Zech published in 2022, of a network retrained then and not the "
    "talk's of 2018; nothing was trained here"
)


def labels_of(scores: pd.DataFrame) -> tuple[str, ...]:
    """The labels of a scores frame, in its order."""
    return tuple(name[2:] for name in scores.columns if name.startswith("p_"))


def label_aurocs(scores: pd.DataFrame) -> dict[str, Estimate]:
    """Each label's AUROC with DeLong's interval; undefined, with the reason, where no image has the label."""
    return {label: auroc(scores[f"y_{label}"], scores[f"p_{label}"]) for label in labels_of(scores)}


def compare_networks(scores: pd.DataFrame, other: pd.DataFrame) -> dict[str, Comparison]:
    """DeLong's test of two networks on the same images, label by label. Raises `ValueError` where they are not."""
    if not np.array_equal(scores["image_id"], other["image_id"]):
        raise ValueError("the two networks' scores are not of the same images in one order")
    return {
        label: compare_aurocs(scores[f"y_{label}"], scores[f"p_{label}"], other[f"p_{label}"])
        for label in labels_of(scores)
    }


def count_positives(scores: pd.DataFrame) -> dict[str, int]:
    """Images with each label."""
    return {label: int(scores[f"y_{label}"].sum()) for label in labels_of(scores)}


def f1_by_patient(truth: Any, called: Any, patients: Any, resamples: int, seed: int) -> Estimate:
    """F1, 2 TP / (positives + calls), with a bootstrap interval by patient; undefined where no image has the label."""
    t, c = as_arrays(truth=(truth, bool), called=(called, bool))
    if not t.any():
        return Estimate.undefined(len(t), "bootstrap by patient", "no positives")
    return ratio_by_patient(2 * (t & c), t.astype(int) + c, patients, resamples, seed)


def f1_of_labels(validation: pd.DataFrame, test: pd.DataFrame, resamples: int, seed: int) -> dict[str, Estimate]:
    """Each label's F1 on test images, at the threshold that is best on validation images."""
    found = {}
    for label in labels_of(test):
        called = test[f"p_{label}"] >= f1_threshold(validation[f"y_{label}"], validation[f"p_{label}"])
        found[label] = f1_by_patient(test[f"y_{label}"], called, test["patient_id"], resamples, seed)
    return found


def f1_crossed(scores: pd.DataFrame, label: str, resamples: int, seed: int) -> Estimate:
    """A label's F1 where there are no validation images: patients are halved, and each half is judged at the threshold
    that is best on the other."""
    truth, score = scores[f"y_{label}"].to_numpy(bool), scores[f"p_{label}"].to_numpy(float)
    digests = [hashlib.blake2b(f"{seed}/{patient}".encode()).digest() for patient in scores["patient_id"]]
    first = np.array([digest[0] % 2 == 1 for digest in digests], bool)
    cuts = [f1_threshold(truth[half], score[half]) for half in (first, ~first)]
    return f1_by_patient(truth, score >= np.where(first, *cuts[::-1]), scores["patient_id"], resamples, seed)


# --- the talk's numbers, and ours beside them -------------------------------------------------------------------------


def published_aurocs() -> pd.DataFrame:
    """The talk's table: `retrained` and `chexnet` by label, in its order; both without intervals, as printed."""
    rows = load_published("zech2018").set_index("id")
    own = rows[rows.index.str.startswith("zech2018.auroc.retrained.") & (rows["repeats"] == "")]
    labels = own["quantity"].str.split(", ").str[1]
    table = pd.DataFrame(index=pd.Index(labels, name="label"))
    for column in ("retrained", "chexnet"):
        table[column] = rows.loc[[f"zech2018.auroc.{column}.{one.lower()}" for one in labels], "value"].to_numpy(float)
    return table


def published_f1() -> dict[str, Estimate]:
    """F1 of four radiologists, of their mean and of CheXNet for pneumonia, with the intervals that the talk prints."""
    rows = load_published("zech2018").set_index("id").loc[[f"zech2018.quoted.rajpurkar.f1.{name}" for name in QUOTED]]
    return {
        row["quantity"].split(", ")[-1]: Estimate(row["value"], row["low"], row["high"], int(row["n"]), "as printed")
        for _, row in rows.iterrows()
    }


def chexnet_claims(
    areas: Mapping[str, Mapping[str, Estimate]], own: str, own_comparable: bool, entries: int | None, images: int
) -> dict[str, tuple[Estimate | float, tuple[bool, str] | None]]:
    """What is compared with the talk, by claim id: a value, and its grounds where they are not the notebook's own.

    AUROCs: this run's network where it was trained on all of NIH's images (`own_comparable`); else the re-scored ones
    where NIH's table was found (its number of `entries`); else this run's network, which is then comparable to nothing.
    `images`: of the study.
    """
    rescored = entries is not None and not own_comparable
    grounds = (False, GROUNDS) if rescored else None
    found = areas[RESCORED if rescored else own]
    claims = {f"zech2018.auroc.retrained.{label.lower()}": (value, grounds) for label, value in found.items()}
    rows = (True, "the rows of NIH's own table, not images") if rescored else None
    claims["zech2018.data.nih_images"] = (entries if rescored else images, rows)
    return claims | {"zech2018.data.diagnoses": (len(found), None)}


def count_layers(model: Any) -> int:
    """Layers with a kernel, as a network's name counts them: DenseNet-121's 120 convolutions and the last layer."""
    kernels = ("kernel", "depthwise_kernel", "pointwise_kernel")
    return 1 + sum(any(hasattr(layer, name) for name in kernels) for layer in model.layers)


def rescored_table(found: Mapping[str, Estimate], aucs: pd.Series) -> pd.DataFrame:
    """Re-scored AUROCs with their intervals, beside the folder's own `aucs` (by label) and the talk's retrained ones.

    `equal`: to four decimals, the folder's.
    """
    table, labels = estimate_frame(found, "label"), list(found)
    talk = published_aurocs().loc[labels, "retrained"].to_numpy()
    table = table.assign(folder=aucs[labels].to_numpy())
    table["equal"] = table["value"].round(4) == table["folder"].round(4)
    return table.assign(**{"talk: retrained": talk, "difference": table["value"] - talk})


def network_table(found: Mapping[str, Comparison]) -> pd.DataFrame:
    """One row per label: both AUROCs, their difference with its interval, and p."""
    rows = [
        {"label": label, "fine-tuned": c.auroc_a.value, "frozen": c.auroc_b.value, **c.row()}
        for label, c in found.items()
    ]
    return pd.DataFrame(rows)


def auroc_table(
    levels: Mapping[str, Mapping[str, Estimate]], positives: Mapping[str, Mapping[str, int]]
) -> pd.DataFrame:
    """The talk's table with ours beside it: a row per label; for each level its AUROC, interval, images, positives."""
    table = published_aurocs().rename(columns={"retrained": "talk: retrained", "chexnet": "talk: CheXNet"})
    for level, known in levels.items():
        found = estimate_frame(known, "label").set_index("label").reindex(table.index)
        table[[level, f"{level}: low", f"{level}: high"]] = found[["value", "low", "high"]]
        table[f"{level}: images"] = found["n"].fillna(0).astype(int)
        table[f"{level}: positives"] = [positives[level].get(label, 0) for label in table.index]
    return table.reset_index()


def f1_table(
    readers: Mapping[str, Estimate], ours: Mapping[str, tuple[Estimate | None, pd.DataFrame]], label: str
) -> pd.DataFrame:
    """Readers as printed, then ours with the prevalence of the images and the F1 of calling everyone positive.

    `ours[name]` = (F1 of `label`, or None where the network does not know it; the scores behind it).
    """
    found, shares = {(name, "printed in the talk"): one for name, one in readers.items()}, [np.nan] * len(readers)
    for name, (estimate, scores) in ours.items():
        missing = Estimate.undefined(len(scores), "", f"{label} was not learnt: too few images")
        found[name, "this run"] = estimate or missing
        shares.append(float(scores[f"y_{label}"].mean()) if f"y_{label}" in scores else np.nan)
    table = estimate_frame(found, "reader or network", "where from").assign(prevalence=shares)
    return table.assign(**{"F1 of calling everyone positive": 2 * table["prevalence"] / (1 + table["prevalence"])})
