"""Is it the disease, or the source? AUROCs of COVID-19 against the rest, of the classifier and of its controls.

DeGrave, Janizek and Lee 2021 ("AI for radiographic COVID-19 detection selects shortcuts over signal") and Maguolo and
Nanni 2020 found that classifiers of such composites tell the collections apart. A control that sees no lung, knows no
COVID-19, or knows the age alone, and does as well as the classifier, leaves nothing that the classifier proves.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from helpers.metrics.bootstrap import auroc_by_patient
from helpers.metrics.estimate import Estimate

COVID = "COVID-19"
WHOLE, BLACKED_OUT, AGE, SAME = "whole image", "lungs blacked out", "age alone", "same source"
PUBLISHED = "published recipe"
CHANCE = 0.5


@dataclass(frozen=True)
class Finding:
    """What the controls say: one plain sentence, and whether the lungs-blacked-out control exposes the classifier."""

    sentence: str
    exposed: bool


def control_aurocs(
    controls: pd.DataFrame,
    frame: pd.DataFrame,
    setting: str,
    resamples: int,
    seed: int,
    published: pd.DataFrame | None = None,
) -> dict[str, Estimate]:
    """AUROC of COVID-19 against the rest of each control of a setting, with intervals by patient.

    `controls` from `helpers.carr.controls`; `frame` has image_id, site and age. Beside the table's own: "age
    alone" (images whose age is known), and "same source": the whole-image head among images of COVID-19's source only,
    which for the tied setting are the held-back COVID-19 and the held-out rest. With `published`, the scores of the
    published recipe, that network stands beside its controls, in both ways.
    """
    rows = controls[controls["setting"] == setting]
    made = {
        name: _auroc(part[part["split"] == "test"], resamples, seed)
        for name, part in rows.groupby("control", sort=False)
    }
    whole = rows[rows["control"] == WHOLE]
    test = whole[whole["split"] == "test"]
    aged = test.assign(**{f"p_{COVID}": test["image_id"].map(frame.set_index("image_id")["age"]).astype(float)})
    made[AGE] = _auroc(aged.dropna(subset=[f"p_{COVID}"]), resamples, seed)
    made[SAME] = same_source(whole, resamples, seed)
    if published is None:
        return made
    scores = published.merge(frame[["image_id", "site"]], on="image_id")
    main = {PUBLISHED: _auroc(scores[scores["split"] == "test"], resamples, seed)}
    return main | made | {f"{SAME}, {PUBLISHED}": same_source(scores, resamples, seed)}


def same_source(scores: pd.DataFrame, resamples: int, seed: int) -> Estimate:
    """The AUROC of COVID-19 among images of COVID-19's own source (the site of most of its test images)."""
    shown = scores[scores["split"].isin(("test", "held-out"))]
    ill = shown[(shown["label"] == COVID) & (shown["split"] == "test")]
    if ill.empty:
        return Estimate.undefined(0, "bootstrap by patient", "no COVID-19 images")
    site = ill["site"].mode().iloc[0]
    tested = shown[(shown["site"] == site) & ((shown["split"] == "test") | (shown["label"] != COVID))]
    return _auroc(tested, resamples, seed)


def _auroc(rows: pd.DataFrame, resamples: int, seed: int) -> Estimate:
    return auroc_by_patient(rows["label"] == COVID, rows[f"p_{COVID}"], rows["patient_id"], resamples, seed)


def conclude(found: dict[str, Estimate]) -> Finding:
    """What may be concluded from a setting's AUROCs (see `control_aurocs`), in a sentence made from them.

    The rule: a control exposes the classifier where its interval lies above 0.5, for it knows nothing of the disease;
    how much of the classifier's advantage over chance it keeps is said. The same-source comparison speaks for the
    disease where its interval lies above 0.5.
    """
    main, blind, same = found[WHOLE], found[BLACKED_OUT], found[SAME]
    if not (main.defined and blind.defined):
        return Finding("Nothing may be concluded: the classifier's or the control's AUROC is undefined.", False)
    exposed, seen = blind.low > CHANCE, main.low > CHANCE
    told = f"With the lungs blacked out COVID-19 is told from the rest with an AUROC of {_said(blind)}"
    if exposed and seen:
        kept = min((blind.value - CHANCE) / (main.value - CHANCE), 1.0)
        told += f", {100 * kept:.0f} % of what the whole image's {_said(main)} has above chance: such a score is no "
        told += "proof that the disease was seen"
    elif exposed:
        told += f", and with the whole image of {_said(main)}, not told from chance: what tells it apart is no disease"
    elif seen:
        told += (
            f", not told from chance, and with the whole image of {_said(main)}: what is told apart lies in the lungs"
        )
    else:
        told += f", with the whole image of {_said(main)}: neither is told from chance"
    return Finding(f"{told}. {_same(same)}", exposed)


def _same(same: Estimate) -> str:
    if not same.defined:
        return "Within one source there is nothing to compare with."
    if same.low > CHANCE:
        told = f"Within one source it still tells COVID-19 from other images ({_said(same)})"
        return f"{told}, which the source as a whole does not explain."
    return f"Within one source it cannot be shown to tell COVID-19 from other images ({_said(same)})."


def _said(one: Estimate) -> str:
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f}, n = {one.n})"
