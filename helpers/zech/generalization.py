"""Zech 2018's table 3 and what explains it: inside and outside the hospital, and the hospital itself as a predictor.

Scores are those of `helpers.zech.sites`: a row a held-out image and head, with site, label, split, cohort and
p_Pneumonia. Only the natural cohort counts, but where an AUROC of one hospital is asked for, on which prevalence has no
bearing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics.auroc import auroc, compare_independent_aurocs
from helpers.metrics.bootstrap import accuracy_by_patient
from helpers.metrics.checks import as_bool, as_scores
from helpers.metrics.classification import rates
from helpers.metrics.clustered_auroc import Area, area, less
from helpers.metrics.estimate import Estimate
from helpers.zech.sites import POSITIVE, joined, site_sets

SENSITIVITY = 0.95  # of the talk's operating points: 0.950, 0.951 and 0.974 are what counts of positives allow
RATES = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
CHOSEN_ON = ("test", "validation")  # where a threshold comes from: the talk's way, and the honest one
SCORE = f"p_{POSITIVE}"
BRIEF = ["n", "positives", "auroc", "low", "high", *(f"{name} (test)" for name in RATES), "sensitivity (validation)"]


def threshold_at(truth: Any, score: Any, sensitivity: float = SENSITIVITY) -> float:
    """The highest threshold at which at least this share of the positives score; NaN without a positive."""
    t, s = as_bool(truth, "truth"), as_scores(score, "score")
    positives = np.sort(s[t])[::-1]
    if not len(positives):
        return math.nan
    return float(positives[math.ceil(sensitivity * len(positives) - 1e-9) - 1])


def kind(trained: Sequence[str], tested: Sequence[str]) -> str:
    """What a test set is to a training set: "Superset = a test dataset containing data from the same distribution
    (hospital system) as the training data as well as external data. Subset = a test dataset containing data from fewer
    distributions (hospital systems) then the training data"."""
    a, b = set(trained), set(tested)
    if a == b:
        return "internal"
    return "external" if not a & b else "subset" if b < a else "superset"


def truth_of(rows: pd.DataFrame) -> np.ndarray:
    return (rows["label"] == POSITIVE).to_numpy()


def named(scores: pd.DataFrame, sites: Sequence[str]) -> str:
    """What the heads trained on these hospitals are called in the scores, in any order; `ValueError` if none is."""
    for name in scores["trained_on"].unique():
        if set(name.split(" + ")) == set(sites):
            return name
    raise ValueError(f"no head was trained on {joined(sites)}")


def table_3(scores: pd.DataFrame, sites: Sequence[str]) -> pd.DataFrame:
    """Table 3 of the scores of one setting (markers, pixels, weighting): every training set on every test set.

    Columns trained_on, tested_on, comparison, n, positives, auroc, low, high, and for either way of choosing the
    threshold the rates at 95 % sensitivity: `<rate> (test)`, `<rate> (validation)`, with _low and _high.
    """
    natural, rows = scores[scores["cohort"] == "natural"], []
    for trained in site_sets(sites):
        mine = natural[natural["trained_on"] == named(scores, trained)]
        tuned = mine[(mine["split"] == "validation") & mine["site"].isin(trained)]
        for tested in site_sets(sites):
            shown = mine[(mine["split"] == "test") & mine["site"].isin(tested)]
            rows.append(_row(trained, tested, tuned, shown))
    return pd.DataFrame(rows)


def _row(trained: Sequence[str], tested: Sequence[str], tuned: pd.DataFrame, shown: pd.DataFrame) -> dict[str, Any]:
    truth, score = truth_of(shown), shown[SCORE].to_numpy()
    found = auroc(truth, score)
    row = {"trained_on": joined(trained), "tested_on": joined(tested), "comparison": kind(trained, tested)}
    row |= {"n": len(shown), "positives": int(truth.sum()), "auroc": found.value, "low": found.low, "high": found.high}
    for chosen_on, rows in zip(CHOSEN_ON, (shown, tuned), strict=True):
        for name, estimate in _rates(truth, score, threshold_at(truth_of(rows), rows[SCORE])).items():
            row |= {f"{name} ({chosen_on})": estimate.value}
            row |= {f"{name}_low ({chosen_on})": estimate.low, f"{name}_high ({chosen_on})": estimate.high}
            row[f"{name}_n ({chosen_on})"] = estimate.n
    return row


def _rates(truth: np.ndarray, score: np.ndarray, threshold: float) -> dict[str, Estimate]:
    return {name: rates(truth, score >= threshold)[name] for name in RATES}


def talks_rows(table: pd.DataFrame, low: str, high: str) -> pd.DataFrame:
    """The talk's fifteen rows: trained on the hospital of low prevalence, of high, and both; tested on each, on both,
    and on all."""
    sites = list(dict.fromkeys(name for tested in table["tested_on"] for name in tested.split(" + ")))
    third = [site for site in sites if site not in (low, high)]
    both = next(name for name in table["trained_on"].unique() if set(name.split(" + ")) == {low, high})
    tests = [low, high, *third, both, max(table["tested_on"], key=len)]
    kept = [table[(table["trained_on"] == a) & (table["tested_on"] == b)] for a in (low, high, both) for b in tests]
    return pd.concat(kept, ignore_index=True)


def external_tests(scores: pd.DataFrame, sites: Sequence[str]) -> pd.DataFrame:
    """Internal against external AUROC of each single hospital's head: DeLong's test of independent samples, on all
    images of a hospital, and the same by patient."""
    rows = []
    for trained in sites:
        home = _tested(scores, trained, [trained])
        for other in (site for site in sites if site != trained):
            away = _tested(scores, trained, [other])
            found = compare_independent_aurocs(truth_of(home), home[SCORE], truth_of(away), away[SCORE])
            by_patient = less(_area(home), _area(away))
            row = {
                "trained_on": trained,
                "tested_on": other,
                "internal": str(found.auroc_a),
                "external": str(found.auroc_b),
            }
            row |= {"difference": found.difference.value, "low": found.difference.low, "high": found.difference.high}
            rows.append(row | {"p": found.p, "p by patient": by_patient.p, "n": found.difference.n})
    return pd.DataFrame(rows)


def joint_tests(scores: pd.DataFrame, pair: Sequence[str]) -> pd.DataFrame:
    """Whether the head trained and tested on both hospitals does better than each at home, trained on it alone: by what
    each patient contributes, for the sets overlap."""
    both = named(scores, pair)
    together, rows = _area(_tested(scores, both, pair, natural=True)), []
    for site in pair:
        for name, trained in {"internal": site, "joint head": both}.items():
            alone = _area(_tested(scores, trained, [site], natural=True))
            found = less(together, alone)
            row = {"joint": str(together.estimate()), "against": f"{site}, {name}", "alone": str(alone.estimate())}
            rows.append(row | _difference(found) | {"p": found.p})
    return pd.DataFrame(rows)


def _tested(scores: pd.DataFrame, trained: str, tested: Sequence[str], natural: bool = False) -> pd.DataFrame:
    keep = (scores["trained_on"] == trained) & (scores["split"] == "test") & scores["site"].isin(tested)
    return scores[keep & (scores["cohort"] == "natural")] if natural else scores[keep]


def _area(rows: pd.DataFrame, score: str = SCORE) -> Area:
    return area(truth_of(rows), rows[score], rows["patient_id"])


def _difference(found: Area) -> dict[str, Any]:
    told = found.difference()
    return {"difference": told.value, "low": told.low, "high": told.high, "n": told.n}


def hospital_alone(rows: pd.DataFrame, prevalence: Mapping[str, float]) -> Area:
    """The AUROC of sorting images by their hospital's prevalence, looking at none of them."""
    return area(truth_of(rows), rows["site"].map(prevalence).astype(float), rows["patient_id"])


def told_apart(table: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """How often who made the image was told rightly: a row a setting of the markers and a way of showing, and the share
    that always saying the most frequent would get; n test images, intervals by patient."""
    rows = []
    for (markers, way), part in table[table["split"] == "test"].groupby(["markers", "pixels"], sort=False):
        found = accuracy_by_patient(part["truth"], part["predicted"], part["patient_id"], resamples, seed)
        usual = float(part["truth"].value_counts(normalize=True).max())
        rows.append({"markers": markers, "pixels": way, **found.as_dict(), "most frequent": usual})
    return pd.DataFrame(
        rows, columns=None if rows else ["markers", "pixels", "value", "low", "high", "n", "most frequent"]
    )


def sorting_here(plain: Mapping[str, pd.DataFrame], pair: Sequence[str]) -> pd.DataFrame:
    """The test images of both hospitals (natural cohort) sorted by hospital alone and by the joint
    head, by setting of the markers; with the two prevalences, of these images."""
    rows = []
    for markers, scores in plain.items():
        both = named(scores, pair)
        shown = _tested(scores, both, pair, natural=True)
        rate = truth_of(shown)
        prevalence = {site: float(rate[(shown["site"] == site).to_numpy()].mean()) for site in pair}
        alone, head = hospital_alone(shown, prevalence), _area(shown)
        for name, one in {"hospital alone": alone, "joint head": head}.items():
            told = one.estimate()
            row = {
                "markers": markers,
                "sorted by": name,
                "value": told.value,
                "low": told.low,
                "high": told.high,
                "n": told.n,
            }
            rows.append(row | {f"prevalence {site}": share for site, share in prevalence.items()})
    return pd.DataFrame(rows)


def stacked(tables: Mapping[str, pd.DataFrame], column: str = "question") -> pd.DataFrame:
    """Several tables as one, with a first column that names each."""
    return pd.concat(
        [table.assign(**{column: name})[[column, *table]] for name, table in tables.items()], ignore_index=True
    )
