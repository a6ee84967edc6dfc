"""Zech 2018's experiment: heads trained on one hospital, on several, and on the hospital itself.

"Trained CheXNet using data from NIH, Mount Sinai, Indiana University. Trained / tested using different combinations of
data sources." Here a frozen network's features and a logistic regression for each combination, so that hundreds of
them can be afforded; the penalty is chosen on the training hospitals' validation patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.model.linear import Fitted, fit
from helpers.zech import site_pixels
from helpers.zech.site_sets import POSITIVE, balanced_weights, engineered, engineered_sites, joined, site_sets

if TYPE_CHECKING:
    from helpers.model.networks import Given, Made
    from helpers.run.profile import Profile

NAMES = ["image_id", "patient_id", "site", "label", "split", "cohort"]
WEIGHTINGS = ("as they are", "prevalence balanced")
BALANCED = ("whole", "lungs")  # ways of showing an image for which the balanced training is tried


@dataclass
class Study:
    """The split frame of one setting of the markers, features by way of showing, and what has been fitted so far."""

    frame: pd.DataFrame
    features: dict[str, np.ndarray]
    classes: tuple[str, ...]
    markers: str
    penalties: tuple[float, ...]
    history: list[dict[str, Any]] = field(default_factory=list)

    def rows(self, split: str, sites: Sequence[str]) -> np.ndarray:
        """Positions of the natural cohort's rows of a split at these hospitals."""
        frame = self.frame
        return np.flatnonzero((frame["split"] == split) & (frame["cohort"] == "natural") & frame["site"].isin(sites))

    def fitted(self, way: str, sites: Sequence[str], weighting: str = WEIGHTINGS[0]) -> Fitted:
        """Heads for pneumonia, trained at `sites`; what was chosen goes into the history."""
        weights = None
        if weighting != WEIGHTINGS[0]:
            weights = np.ones(len(self.frame))
            for split in ("train", "validation"):
                rows = self.rows(split, sites)
                part = self.frame.iloc[rows]
                weights[rows] = balanced_weights(part["site"].to_numpy(), part["label"].to_numpy())
        parts = self.rows("train", sites), self.rows("validation", sites)
        made = fit(self.features[way], self.frame["label"], *parts, self.classes, self.penalties, weights)
        told = {"task": "pneumonia", "trained_on": joined(sites), "markers": self.markers, "pixels": way}
        self.tell(made, told | {"weighting": weighting})
        return made

    def tell(self, made: Fitted, told: dict[str, Any]) -> None:
        for head, entropy in zip(made.heads, made.entropies, strict=True):
            chosen = head is made.best
            self.history.append(told | {"penalty": head.l2, "cross_entropy": entropy, "chosen": chosen})

    def scores(self, head, way: str, **told: Any) -> pd.DataFrame:
        """Every validation and test image, reserve patients included, with p_<class> of a head for pneumonia."""
        held_out = np.flatnonzero(self.frame["split"] != "train")
        given = head.predict(self.features[way][held_out])[:, 0]
        kept = self.frame.iloc[held_out][NAMES].reset_index(drop=True)
        return kept.assign(markers=self.markers, pixels=way, **told, **{f"p_{POSITIVE}": given})


def site_models(given: Given) -> Made:
    """Tables: scores (pneumonia, every combination), sites and departments (who made the image), engineered,
    candidates (every penalty and way of showing, for the choice of a model), history; and the hospital's head."""
    from helpers.model.networks import Made

    catalogue, profile = given.own.catalogue, given.profile
    studies = studies_of(catalogue, given.own.frame, profile)
    on = studies["on"]
    sites = tuple(dict.fromkeys(given.own.frame["site"]))
    tables = {"scores": pd.concat([combinations_of(study, sites) for study in studies.values()], ignore_index=True)}
    tables["candidates"] = candidates_of(on, sites)
    told = {markers: told_apart(study, "site", sites) for markers, study in studies.items()}
    tables["sites"] = pd.concat([table for table, _ in told.values()], ignore_index=True)
    told["on"][1].save(given.fresh / "site_head.npz")
    tables["departments"] = departments_of(studies)
    tables["engineered"] = engineered_of(studies, profile)
    tables["history"] = pd.DataFrame([row for study in studies.values() for row in study.history])
    summary = {
        "hospitals": ", ".join(sites),
        "markers": ", ".join(studies),
        "heads": int(tables["history"]["chosen"].sum()),
    }
    summary["engineered hospitals"] = ", ".join(engineered_sites(on.frame))
    tables["scores"] = tables["scores"].assign(selection="validation")
    return Made(catalogue.classes, tables, summary)


def studies_of(catalogue: Catalogue, frame: pd.DataFrame, profile: Profile) -> dict[str, Study]:
    """One study with the hospitals' markers and, of phantoms, one without; bodies in the same order in both."""
    backbone, found = site_pixels.backbone_of(profile), {}
    for markers in [name for name in ("on", "off") if name in set(frame["markers"])]:
        mine = frame[frame["markers"] == markers].sort_values("body").reset_index(drop=True)
        ways = site_pixels.WAYS if markers == "on" else ("whole",)
        features: dict[str, np.ndarray] = {}
        for way in ways:
            same = way == "high" and profile.sites_high == backbone.image_size  # that is the whole image, then
            made = features["whole"] if same else site_pixels.features(catalogue, mine, way, backbone, profile)
            features[way] = made
        found[markers] = Study(mine, features, catalogue.classes, markers, profile.sites_penalties)
    return found


def combinations_of(study: Study, sites: tuple[str, ...]) -> pd.DataFrame:
    """Table 3: a head for every set of hospitals, way of showing, and weighting; scored on every hospital."""
    found = []
    for way in study.features:
        for chosen in site_sets(sites):
            for weighting in WEIGHTINGS if len(chosen) > 1 and way in BALANCED else WEIGHTINGS[:1]:
                head = study.fitted(way, chosen, weighting).best
                found.append(study.scores(head, way, trained_on=joined(chosen), weighting=weighting, penalty=head.l2))
    return pd.concat(found, ignore_index=True)


def candidates_of(study: Study, sites: tuple[str, ...]) -> pd.DataFrame:
    """Every penalty and both framings, trained at one hospital: what a choice on another's validation chooses from."""
    found = []
    for site in sites:
        for way in BALANCED:
            for head in study.fitted(way, (site,)).heads:
                told = {"trained_on": site, "candidate": f"{way}, penalty {head.l2:g}", "penalty": head.l2}
                found.append(study.scores(head, way, **told))
    return pd.concat(found, ignore_index=True)


def told_apart(study: Study, column: str, classes: Sequence[str]) -> tuple[pd.DataFrame, Any]:
    """Who made the image: a softmax over a column's values, by each way of showing; and the head of whole images.

    The table has a row a held-out image and way: `truth`, `said`, and p_<value> in a column `p`.
    """
    frame, found, whole = study.frame, [], None
    asked = frame[column].isin(classes) & (frame["cohort"] == "natural")
    rows = {split: np.flatnonzero(asked & (frame["split"] == split)) for split in ("train", "validation", "test")}
    for way, features in study.features.items():
        made = fit(features, frame[column], rows["train"], rows["validation"], classes, study.penalties)
        study.tell(made, {"task": column, "trained_on": joined(classes), "markers": study.markers, "pixels": way})
        whole = made.best if way == "whole" else whole
        held_out = np.concatenate([rows["validation"], rows["test"]])
        given = made.best.predict(features[held_out])
        said = np.array(made.best.classes)[given.argmax(axis=1)]
        kept = (
            frame.iloc[held_out][NAMES]
            .reset_index(drop=True)
            .assign(truth=frame[column].to_numpy()[held_out], said=said)
        )
        kept = kept.assign(p=given[np.arange(len(said)), given.argmax(axis=1)], p_first=given[:, 0])
        found.append(kept.assign(markers=study.markers, pixels=way))
    return pd.concat(found, ignore_index=True), whole


def departments_of(studies: dict[str, Study]) -> pd.DataFrame:
    """The department within the one hospital that has several; an empty table where there is none."""
    found = []
    for study in studies.values():
        classes = sorted(set(study.frame["department"]) - {""})
        if len(classes) > 1:
            found.append(told_apart(study, "department", classes)[0])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame({"truth": [], "said": [], "markers": []})


def engineered_of(studies: dict[str, Study], profile: Profile) -> pd.DataFrame:
    """Of each engineered set, the test scores of a head trained on both hospitals and of one trained on each alone.

    Columns of a row an image and head: ratio, draw, markers, trained_on (joint, high or low), and those of the image.
    The joint head's scores of the other hospitals are there as well. The same bodies are drawn with markers on and off.
    """
    frame = studies["on"].frame
    high, low = engineered_sites(frame)
    away = np.flatnonzero((frame["split"] == "test") & ~frame["site"].isin((high, low)))
    settings = (profile.sites_prevalence, profile.sites_ratios, profile.sites_draws, profile.seed)
    found = []
    for draw in engineered(frame, *settings):
        for markers, study in studies.items():
            features = study.features["whole"]
            for name, rows in draw.rows.items():
                parts = rows["train"], rows["validation"]
                head = fit(features, frame["label"], *parts, study.classes, study.penalties).best
                scored = np.concatenate([rows["test"], away]) if name == "joint" else rows["test"]
                table = frame.iloc[scored][["image_id", "patient_id", "site", "label"]].assign(
                    p=head.predict(features[scored])[:, 0], ratio=draw.ratio, draw=draw.number, markers=markers
                )
                prevalence = np.select([table["site"] == high, table["site"] == low], draw.prevalence, np.nan)
                found.append(table.assign(trained_on=name, prevalence=prevalence))
    return pd.concat(found, ignore_index=True)
