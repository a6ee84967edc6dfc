"""The joint AUROC as the imbalance of prevalence between two hospitals is engineered (`helpers.zech.sites`).

Zech 2018: "Why better performance on joint NIH+Mount Sinai dataset? It's learning to detect site: Mount Sinai has much
higher pneumonia rate".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics import clustered_auroc
from helpers.metrics.clustered_auroc import Area, area, less
from helpers.zech.generalization import truth_of

MEASURES = {  # of an engineered set: what is scored by which head
    "joint": ("joint", ("high", "low")),
    "joint head, high": ("joint", ("high",)),
    "joint head, low": ("joint", ("low",)),
    "internal, high": ("high", ("high",)),
    "internal, low": ("low", ("low",)),
    "external": ("joint", ("away",)),
}


DIFFERENCES = ("internal, high", "internal, low", "joint head, high", "joint head, low")


def imbalance_curve(engineered: pd.DataFrame, high: str, low: str) -> pd.DataFrame:
    """The engineered experiment: a row a setting of the markers, ratio and measure, the mean AUROC over the draws.

    Measures: `MEASURES`, "hospital alone", and "joint - ..." for each of `DIFFERENCES`, with `p` (two-sided).
    Intervals by patient, over all draws a patient is in; what training on another draw would change is not in them,
    but in `least` and `most`, over the draws. n: different test images.
    """
    place = engineered["site"].map({high: "high", low: "low"}).fillna("away")
    rows = []
    for (markers, ratio), part in engineered.assign(place=place).groupby(["markers", "ratio"], sort=False):
        drawn: dict[str, list[Area]] = {name: [] for name in (*MEASURES, "hospital alone")}
        for _, one in part.groupby("draw"):
            for name, (trained, places) in MEASURES.items():
                shown = one[(one["trained_on"] == trained) & one["place"].isin(places)]
                drawn[name].append(_area_of(shown, "p"))
            home = one[(one["trained_on"] == "joint") & (one["place"] != "away")]
            drawn["hospital alone"].append(_area_of(home, "prevalence"))
        rows += [{"markers": markers, "ratio": ratio, **row} for row in _means(drawn, part)]
    return pd.DataFrame(rows)


def _means(drawn: Mapping[str, list[Area]], part: pd.DataFrame) -> list[dict[str, Any]]:
    averaged = {name: clustered_auroc.mean(areas) for name, areas in drawn.items()}
    images = {"external": int(part.loc[part["place"] == "away", "image_id"].nunique())}
    home = int(part.loc[part["place"] != "away", "image_id"].nunique())
    rows = []
    for name, one in averaged.items():
        told, values = one.estimate(), [a.value for a in drawn[name] if not a.why_not]
        n = {"n": images.get(name, home), "draws": len(values), "least": min(values, default=math.nan)}
        rows.append({"measure": name, "value": told.value, "low": told.low, "high": told.high, **n})
        rows[-1] |= {"most": max(values, default=math.nan)}
    for name in DIFFERENCES:
        found = less(averaged["joint"], averaged[name])
        told = found.difference()
        row = {"measure": f"joint - {name}", "value": told.value, "low": told.low, "high": told.high, "p": found.p}
        rows.append(row | {"draws": len(drawn["joint"]), "n": home})
    return rows


def verdicts(curve: pd.DataFrame) -> pd.DataFrame:
    """In words, at the least and the greatest imbalance: whether the joint AUROC exceeds what it is set against.

    "exceeds": the difference's interval lies above 0; "below": under it; else "no difference shown"."""
    found = curve[
        curve["measure"].str.startswith("joint - ") & curve["ratio"].isin([curve["ratio"].min(), curve["ratio"].max()])
    ]
    word = np.select([found["low"] > 0, found["high"] < 0], ["exceeds", "below"], "no difference shown")
    columns = ["markers", "ratio", "measure", "value", "low", "high", "p"]
    return found[columns].assign(verdict=word).round(4).reset_index(drop=True)


def _area_of(rows: pd.DataFrame, score: str) -> Area:
    return area(truth_of(rows), rows[score], rows["patient_id"])
