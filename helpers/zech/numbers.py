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
from scipy.stats import norm

from helpers.metrics.auroc import clustered_auroc
from helpers.metrics.by_patient import Clustered, by_training, first_training
from helpers.metrics.classification import clustered_f1, f1_threshold
from helpers.metrics.comparison import holm
from helpers.metrics.estimate import Estimate, estimate_frame
from helpers.run.claims import load_published
from helpers.zech.data import PREDICTED, RESCORED, RESCORED_LATER, Predictions

RETRAINED, PHANTOM = "retrained here", "phantom"
QUOTED = ("radiologist_1", "radiologist_2", "radiologist_3", "radiologist_4", "radiologists", "chexnet")
GROUNDS = {
    RESCORED: "re-scored from the predictions of the talk's own network of 2018; nothing was trained here",
    RESCORED_LATER: "network: re-scored from the predictions that Zech published in 2022, of a network retrained then "
    "and not the talk's of 2018; nothing was trained here",
}


def labels_of(scores: pd.DataFrame) -> tuple[str, ...]:
    """The labels of a scores frame, in its order."""
    return tuple(name[2:] for name in scores.columns if name.startswith("p_"))


def area_of(scores: pd.DataFrame, label: str, unit: str = "patient_id") -> Clustered:
    """A label's AUROC with what each patient adds to its error, or with `unit` image_id each image."""
    return clustered_auroc(scores[f"y_{label}"], scores[f"p_{label}"], scores[unit])


def label_aurocs(scores: pd.DataFrame) -> dict[str, Estimate]:
    """Each label's AUROC, with its interval by patient and over the trainings; undefined, with the reason, where no
    image has the label."""
    found = by_training(scores, lambda part: {label: area_of(part, label) for label in labels_of(part)})
    return {label: one.estimate() for label, one in found.items()}


def compare_scores(a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """Two AUROCs per label on the same images, of two networks or of two versions of the labels, as a table; `a` may be
    of several trainings.

    The difference's interval and p are by patient, with p by image and the design effect beside them; Holm's correction
    is for the labels as one family. Images that only one of the two has are left out; `relabelled` counts those whose
    labels differ, where any do.
    """
    images = set(a["image_id"]) & set(b["image_id"])
    a, b = (one[one["image_id"].isin(images)].sort_values("image_id", ignore_index=True) for one in (a, b))
    rows, truth = [], first_training(a).reset_index(drop=True)
    for label in [label for label in labels_of(a) if f"p_{label}" in b]:

        def areas(part: pd.DataFrame, label: str = label) -> dict[str, Clustered]:
            pairs = {unit: [area_of(one, label, unit) for one in (part, b)] for unit in ("patient_id", "image_id")}
            changes = {unit: one - other for unit, (one, other) in pairs.items()}
            return dict(zip(names, pairs["patient_id"], strict=True)) | changes

        found = by_training(a, areas)
        change, alone = found["patient_id"], found["image_id"]
        row = {"label": label, **{name: found[name].value for name in names}, **change.row()}
        relabelled = int((truth[f"y_{label}"] != b[f"y_{label}"]).sum())
        row |= {"p by image": alone.p, "design effect": _design_effect(change, alone), "relabelled": relabelled}
        rows.append(row)
    table = pd.DataFrame(rows).assign(p_holm=lambda table: holm(table["p"]))
    return table if table["relabelled"].any() else table.drop(columns="relabelled")


def _design_effect(by_patient: Clustered, by_image: Clustered) -> float:
    """By how much patients with several images raise the variance."""
    return (by_patient.error / by_image.error) ** 2 if by_image.error > 0 else np.nan


def count_positives(scores: pd.DataFrame) -> dict[str, int]:
    """Images with each label."""
    return {label: int(first_training(scores)[f"y_{label}"].sum()) for label in labels_of(scores)}


def f1_of_labels(validation: pd.DataFrame, test: pd.DataFrame) -> dict[str, Estimate]:
    """Each label's F1 on test images, at the threshold that is best on validation images, of each training its own."""

    def of_training(part: pd.DataFrame) -> dict[str, Clustered]:
        tuned, found = validation, {}
        if "seed" in part:
            tuned = validation[validation["seed"] == part["seed"].iloc[0]]
        for label in labels_of(part):
            called = part[f"p_{label}"] >= f1_threshold(tuned[f"y_{label}"], tuned[f"p_{label}"])
            found[label] = clustered_f1(part[f"y_{label}"], called, part["patient_id"])
        return found

    return {label: one.estimate() for label, one in by_training(test, of_training).items()}


def f1_crossed(scores: pd.DataFrame, label: str, seed: int) -> Estimate:
    """A label's F1 where there are no validation images: patients are halved, and each half is judged at the threshold
    that is best on the other."""
    truth, score = scores[f"y_{label}"].to_numpy(bool), scores[f"p_{label}"].to_numpy(float)
    digests = [hashlib.blake2b(f"{seed}/{patient}".encode()).digest() for patient in scores["patient_id"]]
    first = np.array([digest[0] % 2 == 1 for digest in digests], bool)
    cuts = [f1_threshold(truth[half], score[half]) for half in (first, ~first)]
    return clustered_f1(truth, score >= np.where(first, *cuts[::-1]), scores["patient_id"]).estimate()


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

    AUROCs: this run's network where it was trained on all of NIH's images (`own_comparable`); else the talk's own
    predictions, re-scored, or those of 2022, which are of another network; else this run's network, which is then
    comparable to nothing. `entries` of a table of labels, if there is one; `images` of the study.
    """
    level = next((level for level in (RESCORED, RESCORED_LATER) if level in areas and not own_comparable), own)
    found, rescored = areas[level], level != own
    n = max(one.n for one in found.values())
    subset = f"images: {n:,} of the {PREDICTED:,} predictions. " if n < PREDICTED else ""
    grounds = (level == RESCORED and not subset, subset + GROUNDS[level]) if rescored else None
    claims = {f"zech2018.auroc.retrained.{label.lower()}": (value, grounds) for label, value in found.items()}
    rows = (True, "the rows of NIH's own table, not images") if rescored else None
    claims["zech2018.data.nih_images"] = (entries if rescored else images, rows)
    return claims | {"zech2018.data.diagnoses": (len(found), None)}


def count_layers(model: Any) -> int:
    """Layers with a kernel, as a network's name counts them: DenseNet-121's 120 convolutions and the last layer."""
    kernels = ("kernel", "depthwise_kernel", "pointwise_kernel")
    return 1 + sum(any(hasattr(layer, name) for name in kernels) for layer in model.layers)


RESCORED_TABLES = {
    "rescored": "Re-scored beside the folder's own areas, and beside the talk's",
    "relabelling": "Beyond the talk: what relabelling alone moves, of 2020 against 2017",
    "two_trainings": "Beyond the talk: what retraining moves, on the same images and labels",
}


def rescored_tables(published: Predictions) -> dict[str, pd.DataFrame]:
    """`RESCORED_TABLES`, as far as the published predictions lie there: `rescored` beside what is printed;
    `relabelling`, the same predictions on NIH's labels of 2020 and of 2017; `two_trainings`, both networks on
    the same labels."""
    years, scores = ("labels of 2020", "labels of 2017"), published.scores
    tables = {
        "rescored": {name: _rescored(one, published.aucs[name]) for name, one in published.own().items()},
        "relabelling": {
            name: compare_scores(one["2020"], one["2017"], years) for name, one in scores.items() if len(one) > 1
        },
    }
    if len(scores) > 1:
        same = [one[min(one)] for one in scores.values()]
        tables["two_trainings"] = {"both": compare_scores(*same, tuple(scores))}
    return {name: pd.concat(found, names=["network"]).reset_index("network") for name, found in tables.items() if found}


def _rescored(scores: pd.DataFrame, aucs: pd.Series) -> pd.DataFrame:
    """A network's AUROCs; `equal`: to four decimals, its folder's."""
    talk, rows = published_aurocs()["retrained"], []
    for label in labels_of(scores):
        one, alone = (area_of(scores, label, unit) for unit in ("patient_id", "image_id"))
        by_image, difference = alone.estimate(), one.value - talk[label]
        row = {"label": label, **one.estimate().row(), "low by image": by_image.low, "high by image": by_image.high}
        row |= {"design effect": _design_effect(one, alone), "folder": aucs[label], "talk: retrained": talk[label]}
        p = 2 * norm.sf(abs(difference) / one.error) if one.error > 0 else np.nan
        rows.append(row | {"difference": difference, "p": p})
    table = pd.DataFrame(rows).assign(p_holm=lambda table: holm(table["p"]), patients=scores["patient_id"].nunique())
    return table.assign(equal=table["value"].round(4) == table["folder"].round(4))


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
