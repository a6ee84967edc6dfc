"""Zech 2018's experiment: heads trained on one site, on several, and to recognise the site itself.

"Trained CheXNet using data from NIH, Mount Sinai, Indiana University. Trained / tested using different combinations of
data sources." Here a frozen network's features and a logistic regression for each combination, so that hundreds of
them can be afforded; the penalty is chosen on the training sites' validation patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from helpers.model.experiment import Inputs, Results
from helpers.model.head import Head
from helpers.model.linear import LinearFit, fit_head
from helpers.zech.regions import PENALTIES, VARIANTS, features_of, load_site_backbone

POSITIVE = "Pneumonia"
SPLITS = ("train", "validation", "test")
PREVALENCE = 0.2  # of pneumonia in an engineered set, both sites together
RATIOS = (1.0, 2.0, 4.0, 9.0, 19.0)  # of one site's prevalence over the other's
NAMES = ["image_id", "patient_id", "site", "label", "split", "cohort"]
WEIGHTINGS = ("as they are", "prevalence balanced")
BALANCED = ("whole", "lungs")  # image variants for which the balanced training is tried


@dataclass
class SiteSetting:
    """One setting of the markers ("on" or "off"): its split frame, its features by image variant (rows as the frame),
    and the history of all heads that were fitted to them."""

    frame: pd.DataFrame
    features: dict[str, np.ndarray]
    classes: tuple[str, ...]
    markers: str
    history: list[dict[str, Any]] = field(default_factory=list)

    def rows(self, split: str, sites: Sequence[str]) -> np.ndarray:
        """Positions of the natural cohort's rows of a split at these sites."""
        frame = self.frame
        return np.flatnonzero((frame["split"] == split) & (frame["cohort"] == "natural") & frame["site"].isin(sites))

    def fit_pneumonia(self, variant: str, sites: Sequence[str], weighting: str = WEIGHTINGS[0]) -> LinearFit:
        """Heads for pneumonia, one per penalty, trained at `sites`."""
        train, validation = (self.rows(split, sites) for split in ("train", "validation"))
        weights = None
        if weighting != WEIGHTINGS[0]:
            weights = np.ones(len(self.frame))
            for rows in (train, validation):
                part = self.frame.iloc[rows]
                weights[rows] = balanced_weights(part["site"].to_numpy(), part["label"].to_numpy())
        fit = fit_head(self.features[variant], self.frame["label"], train, validation, self.classes, PENALTIES, weights)
        self.record(fit, task="pneumonia", trained_on=joined(sites), pixels=variant, weighting=weighting)
        return fit

    def record(self, fit: LinearFit, **what: Any) -> None:
        """Add a fit to the history."""
        self.history += [row | what | {"markers": self.markers} for row in fit.history()]

    def scores(self, head: Head, variant: str, **what: Any) -> pd.DataFrame:
        """A pneumonia head's probability for every validation and test image, reserve patients included."""
        held_out = np.flatnonzero(self.frame["split"] != "train")
        predicted = head.predict(self.features[variant][held_out])[:, 0]
        kept = self.frame.iloc[held_out][NAMES].reset_index(drop=True)
        return kept.assign(markers=self.markers, pixels=variant, **what, **{f"p_{POSITIVE}": predicted})


def train_site_models(inputs: Inputs) -> Results:
    """Fit every head of the study; the head that recognises the site is kept as site_head.npz.

    Tables: scores (pneumonia, every combination), sites and departments (where the image was made), engineered,
    candidates (every penalty and framing, for the choice of a model), history.
    """
    frame, settings = inputs.own.frame, inputs.settings
    by_markers = load_settings(inputs)
    sites = tuple(dict.fromkeys(frame["site"]))
    origin = {markers: predict_origin(setting, "site", sites) for markers, setting in by_markers.items()}
    origin["on"][1].save(inputs.fresh / "site_head.npz")
    scores = pd.concat([score_combinations(setting, sites) for setting in by_markers.values()], ignore_index=True)
    tables = {
        "scores": scores.assign(selection="validation"),
        "candidates": score_candidates(by_markers["on"], sites),
        "sites": pd.concat([table for table, _ in origin.values()], ignore_index=True),
        "departments": predict_departments(by_markers),
        "engineered": score_engineered(by_markers, settings.sites_draws, settings.seed),
        "history": pd.DataFrame([row for setting in by_markers.values() for row in setting.history]),
    }
    summary = {
        "hospitals": ", ".join(sites),
        "markers": ", ".join(by_markers),
        "heads": int(tables["history"]["chosen"].sum()),
        "engineered hospitals": ", ".join(engineered_sites(by_markers["on"].frame)),
    }
    return Results(inputs.own.catalogue.classes, tables, summary)


def load_settings(inputs: Inputs) -> dict[str, SiteSetting]:
    """The images with the sites' markers and, of phantoms, without; bodies in the same order in both."""
    catalogue, frame, settings = inputs.own.catalogue, inputs.own.frame, inputs.settings
    backbone, found = load_site_backbone(settings), {}
    for markers in [name for name in ("on", "off") if name in set(frame["markers"])]:
        rows = frame[frame["markers"] == markers].sort_values("body").reset_index(drop=True)
        variants = VARIANTS if markers == "on" else ("whole",)
        features = {name: features_of(catalogue, rows, name, backbone, settings) for name in variants}
        found[markers] = SiteSetting(rows, features, catalogue.classes, markers)
    return found


def score_combinations(setting: SiteSetting, sites: tuple[str, ...]) -> pd.DataFrame:
    """Table 3: a head for every set of sites, image variant and weighting, scored on every site."""
    found = []
    for variant in setting.features:
        for chosen in site_sets(sites):
            for weighting in WEIGHTINGS if len(chosen) > 1 and variant in BALANCED else WEIGHTINGS[:1]:
                head = setting.fit_pneumonia(variant, chosen, weighting).best
                what = {"trained_on": joined(chosen), "weighting": weighting, "penalty": head.l2}
                found.append(setting.scores(head, variant, **what))
    return pd.concat(found, ignore_index=True)


def score_candidates(setting: SiteSetting, sites: tuple[str, ...]) -> pd.DataFrame:
    """Every penalty and both framings, trained at one site: the candidates when another's validation chooses."""
    found = []
    for site in sites:
        for variant in BALANCED:
            for head in setting.fit_pneumonia(variant, (site,)).heads:
                what = {"trained_on": site, "candidate": f"{variant}, penalty {head.l2:g}", "penalty": head.l2}
                found.append(setting.scores(head, variant, **what))
    return pd.concat(found, ignore_index=True)


def predict_origin(setting: SiteSetting, column: str, classes: Sequence[str]) -> tuple[pd.DataFrame, Head]:
    """Where the image was made: a softmax over a column's values for each image variant; and that of whole images.

    The table has a row per held-out image and variant: `truth` and `predicted`.
    """
    frame, found, whole = setting.frame, [], None
    asked = frame[column].isin(classes) & (frame["cohort"] == "natural")
    train, validation, test = (np.flatnonzero(asked & (frame["split"] == s)) for s in ("train", "validation", "test"))
    held_out = np.concatenate([validation, test])
    kept = frame.iloc[held_out][NAMES].assign(truth=frame[column].iloc[held_out]).reset_index(drop=True)
    for variant, features in setting.features.items():
        fit = fit_head(features, frame[column], train, validation, classes, PENALTIES)
        setting.record(fit, task=column, trained_on=joined(classes), pixels=variant)
        whole = fit.best if variant == "whole" else whole
        predicted = np.array(classes)[fit.best.predict(features[held_out]).argmax(axis=1)]
        found.append(kept.assign(predicted=predicted, markers=setting.markers, pixels=variant))
    return pd.concat(found, ignore_index=True), whole


def predict_departments(by_markers: dict[str, SiteSetting]) -> pd.DataFrame:
    """The department within the one site that has several; an empty table where there is none."""
    found = [pd.DataFrame(columns=["truth", "predicted", "markers", "pixels", "split", "patient_id"])]
    for setting in by_markers.values():
        classes = sorted(set(setting.frame["department"]) - {""})
        if len(classes) > 1:
            found.append(predict_origin(setting, "department", classes)[0])
    return pd.concat(found[1:] or found, ignore_index=True)


def score_engineered(by_markers: dict[str, SiteSetting], draws: int, seed: int) -> pd.DataFrame:
    """Test scores on each engineered set, of a head trained on both sites and of one trained on each alone.

    Columns, a row per image and head: ratio, draw, markers, trained_on (joint, high or low), and those of the image.
    The joint head's scores of the other sites are there as well. The same bodies are drawn with markers on and off.
    """
    frame = by_markers["on"].frame
    high, low = engineered_sites(frame)
    away = np.flatnonzero((frame["split"] == "test") & ~frame["site"].isin((high, low)))
    found = []
    for draw in engineered(frame, draws, seed):
        for markers, setting in by_markers.items():
            features = setting.features["whole"]
            for name, rows in draw.rows.items():
                parts = rows["train"], rows["validation"]
                head = fit_head(features, frame["label"], *parts, setting.classes, PENALTIES).best
                scored = np.concatenate([rows["test"], away]) if name == "joint" else rows["test"]
                table = frame.iloc[scored][["image_id", "patient_id", "site", "label"]].assign(
                    p=head.predict(features[scored])[:, 0], ratio=draw.ratio, draw=draw.number, markers=markers
                )
                prevalence = np.select([table["site"] == high, table["site"] == low], draw.prevalence, np.nan)
                found.append(table.assign(trained_on=name, prevalence=prevalence))
    return pd.concat(found, ignore_index=True)


# --- sets of sites ---------------------------------------------------------------------------------------------------


def site_sets(sites: Sequence[str]) -> list[tuple[str, ...]]:
    """Every set of one site or more, small ones first."""
    return [part for size in range(1, len(sites) + 1) for part in combinations(sites, size)]


def joined(sites: Sequence[str]) -> str:
    """A set's name, as the talk's table has it: 'MSH + NIH'."""
    return " + ".join(sites)


def balanced_weights(sites: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A weight per image that gives every site the prevalence of all together, and leaves its share of the total.

    A site without one of the labels keeps weight 1: no weight gives it what it has none of.
    """
    sites, labels = np.asarray(sites), np.asarray(labels)
    weights = np.ones(len(sites))
    for site in np.unique(sites):
        mine = sites == site
        if len(np.unique(labels[mine])) < len(np.unique(labels)):
            continue
        for label in np.unique(labels):
            both = mine & (labels == label)
            weights[both] = mine.sum() * (labels == label).mean() / both.sum()
    return weights


def engineered_sites(frame: pd.DataFrame) -> tuple[str, str]:
    """The two sites that engineered sets are drawn from: of those with most images of the rarer label, the one of the
    higher prevalence first."""
    ill = frame["label"] == POSITIVE
    rarer = np.minimum(ill.groupby(frame["site"]).sum(), (~ill).groupby(frame["site"]).sum())
    two = rarer.sort_values(ascending=False, kind="stable").index[:2]
    natural = frame["cohort"] == "natural"
    rate = ill[natural].groupby(frame.loc[natural, "site"]).mean()
    high, low = sorted(two, key=lambda site: -rate[site])
    return high, low


@dataclass(frozen=True)
class Draw:
    """One engineered draw at one ratio: the rows of each split for "joint" (both sites), "high" and "low" (one alone),
    and the two sites' prevalence in the joint set, the higher first."""

    ratio: float
    number: int
    rows: dict[str, dict[str, np.ndarray]]
    prevalence: tuple[float, float]


def engineered(frame: pd.DataFrame, draws: int, seed: int) -> Iterator[Draw]:
    """Yields `draws` draws for each of `RATIOS`, from `engineered_sites`.

    The joint set has both sites in equal parts; a set of each alone is drawn as well. All have the same number of
    images and the same prevalence, `PREVALENCE`, so that nothing but the imbalance can make the joint set easier.
    `frame` has site, label and split (reserve patients are drawn as well); rows are positions in it. As many images
    are drawn as the scarcest label allows, the same number for every ratio. Raises `ValueError` where that is fewer
    than 20.
    """
    sites = engineered_sites(frame)
    shares = {ratio: (2 * PREVALENCE * ratio / (1 + ratio), 2 * PREVALENCE / (1 + ratio)) for ratio in RATIOS}
    alone = {name: [(site, PREVALENCE, 1.0)] for name, site in zip(("high", "low"), sites, strict=True)}
    sets = {  # of each ratio, for each of its sets: site, its share of positives and of the images
        ratio: {"joint": [(site, part, 0.5) for site, part in zip(sites, share, strict=True)]} | alone
        for ratio, share in shares.items()
    }
    pools = {
        (split, site, ill): np.flatnonzero(
            (frame["split"] == split) & (frame["site"] == site) & ((frame["label"] == POSITIVE) == ill)
        )
        for split in SPLITS
        for site in sites
        for ill in (True, False)
    }
    every = [part for of_ratio in sets.values() for parts in of_ratio.values() for part in parts]
    sizes = {split: _affordable(pools, split, every) for split in SPLITS}
    for ratio, of_ratio in sets.items():
        for number in range(draws):
            rng = np.random.default_rng((seed, round(1000 * ratio), number))
            rows = {
                name: {
                    split: np.concatenate([_draw(pools, split, *part, size, rng) for part in parts])
                    for split, size in sizes.items()
                }
                for name, parts in of_ratio.items()
            }
            yield Draw(ratio, number, rows, shares[ratio])


def _affordable(pools: dict, split: str, parts: list[tuple[str, float, float]]) -> int:
    """Images per set, an even number, that every set can be drawn with."""
    room = [
        len(pools[split, site, ill]) / (share if ill else 1 - share) / weight
        for site, share, weight in parts
        for ill in (True, False)
    ]
    size = int(min(room)) // 2 * 2
    if size < 20:
        raise ValueError(f"{split}: sets of {size} images are too few to engineer a prevalence")
    return size


def _draw(
    pools: dict, split: str, site: str, share: float, weight: float, size: int, rng: np.random.Generator
) -> np.ndarray:
    """One site's rows of a set of `size` images, with this share of positives, at least one."""
    count = int(size * weight)
    positives = max(1, round(share * count))
    chosen = []
    for ill, wanted in ((True, positives), (False, count - positives)):
        pool = pools[split, site, ill]
        chosen.append(rng.choice(pool, min(wanted, len(pool)), replace=False))
    return np.concatenate(chosen)
