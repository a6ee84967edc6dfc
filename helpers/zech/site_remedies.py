"""What helps a head that reads the hospital: balanced training, a crop, a choice of model elsewhere, more resolution.

A remedy is judged by what it does within a hospital and outside it, not by the joint AUROC, which it should lower:
the excess of the joint AUROC over that within the hospitals is what the hospital alone was worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics import clustered_auroc
from helpers.metrics.auroc import auroc, compare_aurocs
from helpers.metrics.clustered_auroc import Area, area, less
from helpers.zech.generalization import SCORE, named, truth_of

REMEDIES = {  # name: markers, pixels, weighting
    "as they are": ("on", "whole", "as they are"),
    "prevalence balanced": ("on", "whole", "prevalence balanced"),
    "cropped to the lungs": ("on", "lungs", "as they are"),
    "cropped and balanced": ("on", "lungs", "prevalence balanced"),
    "markers off": ("off", "whole", "as they are"),
}
RESOLUTIONS = {"low": ("on", "low", "as they are"), "high": ("on", "high", "as they are")}
PARTS = ("joint", "within", "excess", "external")


def judged(scores: pd.DataFrame, pair: Sequence[str]) -> dict[str, Area]:
    """A head trained on both hospitals of `pair`, by `PARTS`: on both together (natural cohort), the mean of the two
    taken alone, the difference of these, and the mean over the other hospitals (reserve patients included)."""
    mine = scores[(scores["trained_on"] == named(scores, pair)) & (scores["split"] == "test")]
    natural = mine[mine["cohort"] == "natural"]
    together = _area(natural[natural["site"].isin(pair)])
    within = clustered_auroc.mean([_area(natural[natural["site"] == site]) for site in pair])
    others = [site for site in dict.fromkeys(mine["site"]) if site not in pair]
    external = clustered_auroc.mean([_area(mine[mine["site"] == site]) for site in others])
    return {"joint": together, "within": within, "excess": less(together, within), "external": external}


def remedies(
    scores: pd.DataFrame, pair: Sequence[str], settings: Mapping[str, tuple[str, str, str]] = REMEDIES
) -> pd.DataFrame:
    """A row a remedy and part: value with its interval, and the change against the first remedy with its p.

    The test images are the same throughout (with markers off, the same bodies), and so are the patients. Remedies that
    these scores do not have (markers off, of real images) are left out.
    """
    rows, first = [], None
    for name, (markers, pixels, weighting) in settings.items():
        keep = (scores["markers"] == markers) & (scores["pixels"] == pixels) & (scores["weighting"] == weighting)
        if not keep.any():
            continue
        found = judged(scores[keep], pair)
        first = first or found
        for part in PARTS:
            told = found[part].difference() if part == "excess" else found[part].estimate()
            change = less(found[part], first[part])
            row = {"remedy": name, "part": part, "value": told.value, "low": told.low, "high": told.high, "n": told.n}
            changed = change.difference()
            row |= {"change": changed.value, "change_low": changed.low, "change_high": changed.high}
            rows.append(row | {"p": change.p if found is not first else np.nan})
    return pd.DataFrame(rows)


def choices(candidates: pd.DataFrame) -> pd.DataFrame:
    """Which model would be kept, and what it is worth at a third hospital: the candidate of the highest AUROC on the
    training hospital's own validation patients, or on those of one other hospital.

    A row an order of three hospitals (trained on, chosen on, tested on), and a last one of all: AUROC of either
    choice, the difference (elsewhere less own) with its interval, and p.
    """
    sites, rows, gains = list(dict.fromkeys(candidates["site"])), [], []
    for trained, chosen, tested in permutations(sites, 3):
        mine = candidates[candidates["trained_on"] == trained]
        tuned, shown = (mine[mine["split"] == split] for split in ("validation", "test"))
        kept = {how: _best(tuned[tuned["site"] == site]) for how, site in (("own", trained), ("elsewhere", chosen))}
        away = shown[shown["site"] == tested]
        areas = {how: _area(away[away["candidate"] == name]) for how, name in kept.items()}
        gains.append((areas["own"], areas["elsewhere"]))
        row = {"trained_on": trained, "chosen_on": chosen, "tested_on": tested, **kept}
        rows.append(row | _gain(*gains[-1]))
    every = [clustered_auroc.mean(areas) for areas in zip(*gains, strict=True)]
    rows.append(dict.fromkeys(("trained_on", "chosen_on", "tested_on", "own", "elsewhere"), "all") | _gain(*every))
    return pd.DataFrame(rows)


def _best(tuned: pd.DataFrame) -> str:
    """The candidate of the highest AUROC; of equals the smoothest, which comes first."""
    areas = {name: auroc(truth_of(part), part[SCORE]).value for name, part in tuned.groupby("candidate", sort=False)}
    return max(areas, key=areas.get)


def _gain(own: Area, elsewhere: Area) -> dict[str, Any]:
    change = less(elsewhere, own)
    told = change.difference()
    found = {"auroc_own": own.value, "auroc_elsewhere": elsewhere.value, "difference": told.value}
    return found | {"low": told.low, "high": told.high, "p": change.p, "n": own.n}


def by_region(scores: pd.DataFrame, ways: Sequence[str]) -> pd.DataFrame:
    """The small lesion: AUROC of each way of showing the image, and DeLong's paired test against the first."""
    test = {way: scores[(scores["way"] == way) & (scores["split"] == "test")].sort_values("image_id") for way in ways}
    truth, first, rows = (test[ways[0]]["label"] == "Nodule").to_numpy(), test[ways[0]]["p_Nodule"], []
    for way, part in test.items():
        found = auroc(truth, part["p_Nodule"])
        row = {"way": way, "value": found.value, "low": found.low, "high": found.high, "n": found.n}
        if way != ways[0]:
            compared = compare_aurocs(truth, part["p_Nodule"].to_numpy(), first.to_numpy())
            change = compared.difference
            row |= {"change": change.value, "change_low": change.low, "change_high": change.high, "p": compared.p}
        rows.append(row)
    return pd.DataFrame(rows)


def _area(rows: pd.DataFrame) -> Area:
    return area(truth_of(rows), rows[SCORE], rows["patient_id"])
