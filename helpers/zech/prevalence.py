"""What a hospital's prevalence alone is worth: in the talk's table, in this run, and where prevalences are engineered.

Zech 2018: "Why better performance on joint NIH+Mount Sinai dataset? It's learning to detect site: Mount Sinai has much
higher pneumonia rate". Two hospitals of which one has more of a disease can be sorted by that alone. And where a head
ranks well within each, knowing the hospital as well lifts the joint AUROC by a calculable amount.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from helpers.metrics.by_patient import average
from helpers.run.claims import load_published
from helpers.zech.generalization import PREFIX, area_of, find_head, test_rows, truth_of

# Numbers of positives, least and most, that all printed rates of a hospital's test images share (see `helpers.audit`).
POSSIBLE_POSITIVES = {"nih": (263, 268), "msh": (2997, 2999), "iu": (38, 39)}
GRID = np.linspace(-9, 9, 3601)  # of a binormal score, in deviations

MEASURES = {  # of an engineered set: the head, the places of the images that it scores, and the score
    "joint": ("joint", ("high", "low"), "p"),
    "joint head, high": ("joint", ("high",), "p"),
    "joint head, low": ("joint", ("low",), "p"),
    "internal, high": ("high", ("high",), "p"),
    "internal, low": ("low", ("low",), "p"),
    "external": ("joint", ("away",), "p"),
    "hospital alone": ("joint", ("high", "low"), "prevalence"),
}
DIFFERENCES = ("internal, high", "internal, low", "joint head, high", "joint head, low")


def sorting_here(plain: Mapping[str, pd.DataFrame], pair: Sequence[str]) -> pd.DataFrame:
    """The test images of both hospitals (natural cohort) sorted by their hospital's prevalence, looking at none of
    them, and by the joint head, by setting of the markers; with the two prevalences, of these images."""
    rows = []
    for markers, scores in plain.items():
        shown = test_rows(scores, find_head(scores, pair), pair)
        prevalence = {site: float(truth_of(shown)[(shown["site"] == site).to_numpy()].mean()) for site in pair}
        alone = area_of(shown.assign(alone=shown["site"].map(prevalence)), "alone")
        for name, one in {"hospital alone": alone, "joint head": area_of(shown)}.items():
            row = {"markers": markers, "sorted by": name, **one.estimate().row()}
            rows.append(row | {f"prevalence {site}": share for site, share in prevalence.items()})
    return pd.DataFrame(rows)


def sorting_in_talk() -> pd.DataFrame:
    """The talk's joint test sets, sorted by hospital alone, as its table implies it; nothing of it is printed.

    PPV, NPV, accuracy, sensitivity and specificity of a site's rows leave a few numbers of positives possible.
    Columns: test set, n, the prevalences, the AUROC of sorting by hospital, the AUROC that a head with the printed
    AUROCs within the hospitals would reach if it also knew the hospital, each as low and high over what is possible,
    and the printed AUROC.
    """
    printed, rows = load_published("zech2018").set_index("id")["value"].astype(float), []
    sizes = {site: int(printed[f"{PREFIX}.data.{site}"]) for site in POSSIBLE_POSITIVES}
    for sites in (("msh", "nih"), ("msh", "nih", "iu")):
        corners = product(*(POSSIBLE_POSITIVES[site] for site in sites))
        counts = [[(sizes[site], k) for site, k in zip(sites, corner, strict=True)] for corner in corners]
        inside = [printed[f"{PREFIX}.msh_nih.{site}.auroc"] for site in sites]
        values = {f"prevalence {site.upper()}": [k / sizes[site] for k in POSSIBLE_POSITIVES[site]] for site in sites}
        values["hospital alone"] = [auroc_of_prevalence(one) for one in counts]
        values["with hospital known"] = [auroc_with_hospital_known(one, inside) for one in counts]
        row = {"test set": " + ".join(sites).upper(), "n": sum(sizes[site] for site in sites)}
        for name, known in values.items():
            row |= {f"{name} low": min(known), f"{name} high": max(known)}
        rows.append(row | {"printed": printed[f"{PREFIX}.msh_nih.{'_'.join(sites)}.auroc"]})
    return pd.DataFrame(rows)


def auroc_of_prevalence(counts: Sequence[tuple[int, int]]) -> float:
    """The AUROC of the hospital's prevalence as the score, from each hospital's images and positives."""
    n, positives = np.asarray(counts, float).T
    rate = positives / n
    return _weighted_area(rate, positives / positives.sum(), rate, (n - positives) / (n - positives).sum())


def auroc_with_hospital_known(counts: Sequence[tuple[int, int]], aurocs: Sequence[float]) -> float:
    """The joint AUROC of a head that reaches `aurocs` within the hospitals and also knows which one an image is from.

    Within each, scores are taken to be normal with equal deviations (binormal), and the hospital's prior odds are
    added, as the best possible use of it.
    """
    n, positives = np.asarray(counts, float).T
    d = (np.sqrt(2) * norm.ppf(aurocs))[:, None]
    odds = np.log(positives / (n - positives))[:, None]
    density = norm.pdf(GRID) / norm.pdf(GRID).sum()
    parts = []
    for ill, mass in ((1, positives), (0, n - positives)):  # a binormal score's log likelihood ratio is linear in it
        parts += [(d * (GRID + d * ill) - d**2 / 2 + odds).ravel(), np.outer(mass / mass.sum(), density).ravel()]
    return _weighted_area(*parts)


def _weighted_area(above: np.ndarray, p: np.ndarray, below: np.ndarray, q: np.ndarray) -> float:
    """The AUROC of positives at scores `above` with weights `p`, and negatives at `below` with weights `q`."""
    truth = np.repeat([True, False], [len(above), len(below)])
    return float(roc_auc_score(truth, np.r_[above, below], sample_weight=np.r_[p, q]))


def imbalance_curve(engineered: pd.DataFrame, high: str, low: str) -> pd.DataFrame:
    """The engineered experiment: a row per setting of the markers, ratio and measure, the mean AUROC over the draws.

    Measures: `MEASURES`, "hospital alone", and "joint - ..." for each of `DIFFERENCES`, with `p` (two-sided).
    Intervals by patient, over all draws a patient is in; what training on another draw would change is not in them,
    but in `least` and `most`, over the draws. n: different test images.
    """
    place = engineered["site"].map({high: "high", low: "low"}).fillna("away")
    settings = engineered.assign(place=place).groupby(["markers", "ratio"], sort=False)
    tables = {setting: pd.DataFrame(_means_over_draws(part)) for setting, part in settings}
    return pd.concat(tables, names=["markers", "ratio"]).reset_index(["markers", "ratio"]).reset_index(drop=True)


def _means_over_draws(part: pd.DataFrame) -> list[dict[str, Any]]:
    averages, rows = {}, []
    for name, (trained, places, score) in MEASURES.items():
        shown = part[(part["trained_on"] == trained) & part["place"].isin(places)]
        areas = [area_of(shown[shown["draw"] == draw], score) for draw in sorted(part["draw"].unique())]
        values = pd.Series([one.value for one in areas]).dropna()
        averages[name], n = average(areas), part.loc[(part["place"] == "away") == (name == "external"), "image_id"]
        row = {"measure": name, **averages[name].estimate().row(), "n": n.nunique()}
        rows.append(row | {"draws": len(values), "least": values.min(), "most": values.max()})
    for name in DIFFERENCES:
        row = {"measure": f"joint - {name}", **(averages["joint"] - averages[name]).row("value")}
        rows.append(row | {"draws": part["draw"].nunique(), "n": rows[0]["n"]})
    return rows


def imbalance_verdicts(curve: pd.DataFrame) -> pd.DataFrame:
    """In words, at the least and the greatest imbalance: whether the joint AUROC exceeds what it is compared with.

    "exceeds": the difference's interval lies above 0; "below": under it; else "no difference shown"."""
    ends = curve["ratio"].isin([curve["ratio"].min(), curve["ratio"].max()])
    found = curve[curve["measure"].str.startswith("joint - ") & ends]
    word = np.select([found["low"] > 0, found["high"] < 0], ["exceeds", "below"], "no difference shown")
    columns = ["markers", "ratio", "measure", "value", "low", "high", "p"]
    return found[columns].assign(verdict=word).round(4).reset_index(drop=True)
