"""The audit of a data set: counts beside the paper's, copies, patients shared by splits, and what shared ids mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.copies import duplicate_counts, duplicates, standardise, thumbnails
from helpers.metrics.estimate import Estimate

__all__ = [
    "SharedIdEvidence",
    "counts",
    "duplicate_counts",
    "duplicates",
    "several_classes",
    "shared_id_evidence",
    "shared_patients",
]

PAIRS_PER_ID = 3  # so that one patient with 500 images does not decide
MAX_IDS = 1000  # as many ids are looked at; more would narrow the interval by little
RESAMPLES = 2000  # bootstrap samples, and permutations


def counts(catalogue: Catalogue, paper: Mapping[str, Mapping] | None = None) -> pd.DataFrame:
    """Images and patients by published split and class, with a row "all" a split, beside the paper's.

    `paper` is shaped as `kermany_oct.PAPER_COUNTS`. Columns: split, label, images, patients, paper_images,
    paper_patients; a number that the paper does not print is <NA>. A patient of two classes counts in both of their
    rows, and once in "all".
    """
    paper = paper or {}
    rows = []
    for split in ("train", "test"):
        here = catalogue.frame[catalogue.frame["published_split"] == split]
        printed = dict(paper.get("images", {}).get(split, {}))
        for label in (*catalogue.classes, "all"):
            part = here if label == "all" else here[here["label"] == label]
            images = sum(printed.values()) if label == "all" and printed else printed.get(label)
            patients = paper.get("patients", {}).get(split) if label == "all" else None
            rows.append((split, label, len(part), part["patient_id"].nunique(), images, patients))
    columns = ["split", "label", "images", "patients", "paper_images", "paper_patients"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], "Int64"))


def shared_patients(catalogue: Catalogue) -> pd.DataFrame:
    """One row a patient id in both folders: patient_id, train_images, train_classes, test_images, test_classes."""
    frame = catalogue.frame
    sides = [frame[frame["published_split"] == split].groupby("patient_id")["label"] for split in ("train", "test")]
    table = pd.DataFrame(
        {
            f"{name}_{what}": side.agg(how)
            for name, side in zip(("train", "test"), sides, strict=True)
            for what, how in (("images", "size"), ("classes", lambda labels: " + ".join(sorted(set(labels)))))
        }
    ).dropna()
    whole = {"train_images": int, "test_images": int}
    return table.astype(whole).rename_axis("patient_id").sort_index().reset_index()


def several_classes(catalogue: Catalogue) -> pd.DataFrame:
    """One row a set of classes that some patient has more than one of: classes, patients, images."""
    by_patient = catalogue.frame.groupby("patient_id")["label"]
    table = pd.DataFrame(
        {
            "classes": by_patient.agg(lambda labels: " + ".join(c for c in catalogue.classes if c in set(labels))),
            "n": by_patient.nunique(),
            "images": by_patient.size(),
        }
    )
    mixed = table[table["n"] > 1].groupby("classes")["images"].agg(["size", "sum"]).reset_index()
    return mixed.rename(columns={"size": "patients", "sum": "images"})


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
    (at most `PAIRS_PER_ID` an id) is paired with a training image of its id and class, and with one of another id and
    the same class. The interval is a bootstrap over ids; a permutation swaps the two pairs of all images of an id.
    Two images of one eye need not look alike, so the measure is weak a pair (on OCT 0.6 for true patients) and needs
    many ids; `reference` shows what it can do on this data set. Raises `UnreadableImage`.
    """
    frame = catalogue.frame.sort_values("image_id", ignore_index=True)
    train, test = (frame[frame["published_split"] == split] for split in ("train", "test"))
    shared = sorted(set(train["patient_id"]) & set(test["patient_id"]))
    rng = np.random.default_rng(seed)
    across, within = _pairs(test, train, rng), _pairs(train, train, rng)
    alike, p_value = _alikeness(catalogue.subset(frame), across, rng, workers)
    reference, _ = _alikeness(catalogue.subset(frame), within, rng, workers)
    text = _conclude(len(shared), alike, reference, p_value)
    return SharedIdEvidence(len(shared), len(across), alike, reference, p_value, text)


def _pairs(anchors: pd.DataFrame, others: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Row numbers: `anchor`, `same` (of `others`, the same id and class) and `chance` (the same class, another id)."""
    same_of = {key: others.index[i].to_numpy() for key, i in others.groupby(["patient_id", "label"]).indices.items()}
    class_of = {key: others.index[i].to_numpy() for key, i in others.groupby("label").indices.items()}
    id_of = others["patient_id"].to_dict()
    groups = [group for _, group in anchors.groupby("patient_id", sort=True)]
    rows, used = [], set()
    for k in rng.permutation(len(groups)):
        for i in rng.permutation(len(groups[k]))[:PAIRS_PER_ID]:
            anchor = groups[k].iloc[i]
            same = same_of.get((anchor["patient_id"], anchor["label"]), np.empty(0, int))
            same = same[same != anchor.name]
            chance = rng.choice(class_of.get(anchor["label"], [anchor.name]), 20)  # a few are of the same id
            chance = [row for row in chance if id_of.get(row, anchor["patient_id"]) != anchor["patient_id"]]
            if len(same) and chance:
                rows.append((anchor["patient_id"], anchor.name, rng.choice(same), chance[0]))
                used.add(anchor["patient_id"])
        if len(used) == MAX_IDS:
            break
    return pd.DataFrame(rows, columns=["id", "anchor", "same", "chance"])


def _alikeness(
    catalogue: Catalogue, pairs: pd.DataFrame, rng: np.random.Generator, workers: int
) -> tuple[Estimate, float]:
    """P(same-id pair is more alike than chance pair) with its interval, and the permutation's one-sided p."""
    if pairs.empty:
        return Estimate.undefined(0, "bootstrap by id", "no two images of one id and class"), float("nan")
    rows = np.unique(pairs[["anchor", "same", "chance"]])
    images = standardise(thumbnails(catalogue.subset(catalogue.frame.loc[rows]), workers))
    anchor, same, chance = (images[np.searchsorted(rows, pairs[c])] for c in ("anchor", "same", "chance"))
    of_same, of_chance = (np.einsum("ij,ij->i", anchor, other) for other in (same, chance))
    _, of_id = np.unique(pairs["id"], return_inverse=True)
    return _auroc(of_same, of_chance, of_id, rng), _swapped(of_same - of_chance, of_id, rng)


def _auroc(high: np.ndarray, low: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> Estimate:
    """P(high > low), ties counted half, over all pairs of values; 95 % percentile interval by resampling groups."""
    order = np.argsort(group, kind="stable")
    high, low, starts = high[order], low[order], np.searchsorted(group[order], np.arange(group.max() + 1))
    wins = (high[:, None] > low[None]) + 0.5 * (high[:, None] == low[None])
    wins = np.add.reduceat(np.add.reduceat(wins, starts, axis=0), starts, axis=1)  # between groups
    sizes = np.bincount(group)
    draws = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), RESAMPLES)
    values = np.einsum("ri,ij,rj->r", draws, wins, draws, optimize=True) / (draws @ sizes) ** 2
    value = float(wins.sum() / len(high) ** 2)
    lower, upper = (float(x) for x in np.percentile(values, [2.5, 97.5]))
    return Estimate(value, min(lower, value), max(upper, value), len(high), "bootstrap by id")


def _swapped(differences: np.ndarray, group: np.ndarray, rng: np.random.Generator) -> float:
    """One-sided p of a positive sum of differences, where the sign of each group's sum could as well be the other."""
    sums = np.bincount(group, differences)
    signs = rng.choice([-1.0, 1.0], (RESAMPLES, len(sums)))
    return float((1 + np.sum(signs @ sums >= sums.sum() - 1e-9)) / (1 + RESAMPLES))


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
        meaning = "the images cannot tell whether shared ids are shared patients"
    return f"{ids} in both train and test. Across the two, {chance} ({interval}): {meaning}."
