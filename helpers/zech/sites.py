"""Zech 2018's experiment: heads trained on one site, on several, and to recognise the site itself.

"Trained CheXNet using data from NIH, Mount Sinai, Indiana University. Trained / tested using different combinations of
data sources." Here a frozen network's features and a logistic regression for each combination, so that hundreds of
them can be afforded; the penalty is chosen on the training sites' validation patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import pandas as pd

from helpers.model.experiment import Inputs, Results
from helpers.model.head import Head, LinearFit, fit_head
from helpers.zech.regions import PENALTIES, VARIANTS, features_of, load_site_backbone

POSITIVE = "Pneumonia"
SPLITS = ("train", "validation", "test")
PREVALENCE = 0.2  # of pneumonia in an engineered set, both sites together
RATIOS = (1.0, 2.0, 4.0, 9.0, 19.0)  # of one site's prevalence over the other's
SMALLEST = 20  # images of an engineered set's split; of fewer, the prevalence is a matter of rounding
NAMES = ["image_id", "patient_id", "site", "label", "split", "cohort"]
WEIGHTINGS = (PLAIN, REWEIGHTED) = ("as they are", "prevalence balanced")
BALANCED = ("whole", "lungs")  # image variants for which the balanced training is tried


@dataclass(frozen=True)
class SiteSetting:
    """One setting of the markers ("on" or "off"): its split frame, and its features by image variant (rows as the
    frame, which is numbered from 0)."""

    frame: pd.DataFrame
    features: dict[str, np.ndarray]
    classes: tuple[str, ...]
    markers: str

    def fit_pneumonia(self, variant: str, sites: Sequence[str], weighting: str = PLAIN) -> LinearFit:
        """Heads for pneumonia, one per penalty, trained on the natural cohort of `sites`."""
        rows = self.frame[(self.frame["cohort"] == "natural") & self.frame["site"].isin(sites)]
        weights = balanced_weights(rows) if weighting == REWEIGHTED else None
        features = self.features[variant][rows.index]
        return fit_head(features, rows["label"], rows["split"], self.classes, PENALTIES, weights)

    def fit_origin(self, variant: str, column: str) -> tuple[Head, pd.DataFrame]:
        """A head that identifies the site or the department of an image (`column`), and the rows it is made for: those
        of the natural cohort where that is known."""
        rows = self.frame[(self.frame["cohort"] == "natural") & (self.frame[column] != "")]
        classes = tuple(dict.fromkeys(rows[column]))
        return fit_head(self.features[variant][rows.index], rows[column], rows["split"], classes, PENALTIES).best, rows

    def score(self, head: Head, variant: str, sites: Sequence[str], weighting: str = PLAIN) -> pd.DataFrame:
        """A pneumonia head's probability for every validation and test image, reserve patients included."""
        rows = self.frame.loc[self.frame["split"] != "train", NAMES]
        probability = head.predict(self.features[variant][rows.index])[:, 0]
        made = {"markers": self.markers, "pixels": variant, "trained_on": joined(sites), "weighting": weighting}
        return rows.assign(**made, penalty=head.l2, **{f"p_{POSITIVE}": probability})


def train_site_models(inputs: Inputs) -> Results:
    """Fit every head of the study.

    Tables: scores (pneumonia, every combination), sites and departments (where the image was made), engineered.
    """
    frame, settings = inputs.own.frame, inputs.settings
    by_markers = load_settings(inputs)
    sites = tuple(dict.fromkeys(frame["site"]))
    scores = pd.concat([score_combinations(setting, sites) for setting in by_markers.values()], ignore_index=True)
    tables = {
        "scores": scores.assign(selection="validation"),
        "sites": predict_origin(by_markers, "site"),
        "departments": predict_origin(by_markers, "department"),
        "engineered": score_engineered(by_markers, settings.sites_draws, settings.seed),
    }
    return Results(
        inputs.own.catalogue.classes,
        tables,
        {"engineered hospitals": ", ".join(engineered_sites(by_markers["on"].frame))},
    )


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
    combined = [
        (variant, chosen, weighting)
        for variant, chosen, weighting in product(setting.features, site_sets(sites), WEIGHTINGS)
        if weighting == PLAIN or (len(chosen) > 1 and variant in BALANCED)
    ]
    scores = [setting.score(setting.fit_pneumonia(*one).best, *one) for one in combined]
    return pd.concat(scores, ignore_index=True)


def predict_origin(by_markers: Mapping[str, SiteSetting], column: str) -> pd.DataFrame:
    """Where each held-out image was made, `truth` and `predicted`: its site, or its department where a site has several
    (`column`), by a head for each image variant. Empty where there are no departments."""
    found = [pd.DataFrame(columns=[*NAMES, "truth", "predicted", "markers", "pixels"])]
    for markers, setting in by_markers.items():
        for variant, features in setting.features.items() if setting.frame[column].any() else ():
            head, rows = setting.fit_origin(variant, column)
            rows = rows[rows["split"] != "train"]
            predicted = np.array(head.classes)[head.predict(features[rows.index]).argmax(axis=1)]
            kept = rows[NAMES].assign(truth=rows[column], predicted=predicted, markers=markers, pixels=variant)
            found.append(kept)
    return pd.concat(found[1:] or found, ignore_index=True)


def score_engineered(by_markers: Mapping[str, SiteSetting], draws: int, seed: int) -> pd.DataFrame:
    """Test scores on each engineered set, of a head trained on both sites and of one trained on each alone.

    Columns, a row per image and head: ratio, draw, markers, trained_on (joint, high or low), prevalence (the site's in
    the joint set), and those of the image. The joint head's scores of the other sites are there as well. The same
    bodies are drawn with markers on and off.
    """
    frame, found = by_markers["on"].frame, []
    two = engineered_sites(frame)
    away = np.flatnonzero((frame["split"] == "test") & ~frame["site"].isin(two))
    for (ratio, draw, sets), (markers, setting) in product(engineered(frame, draws, seed), by_markers.items()):
        features, prevalence = setting.features["whole"], dict(zip(two, prevalences(ratio), strict=True))
        for name, rows in sets.items():
            drawn = frame.iloc[rows]
            head = fit_head(features[rows], drawn["label"], drawn["split"], setting.classes, PENALTIES).best
            scored = np.concatenate([rows[drawn["split"] == "test"], away if name == "joint" else away[:0]])
            table = frame.iloc[scored][["image_id", "patient_id", "site", "label"]].assign(
                p=head.predict(features[scored])[:, 0], ratio=ratio, draw=draw, markers=markers, trained_on=name
            )
            found.append(table.assign(prevalence=table["site"].map(prevalence)))
    return pd.concat(found, ignore_index=True)


# --- sets of sites ---------------------------------------------------------------------------------------------------


def site_sets(sites: Sequence[str]) -> list[tuple[str, ...]]:
    """Every set of one site or more, small ones first."""
    return [part for size in range(1, len(sites) + 1) for part in combinations(sites, size)]


def joined(sites: Sequence[str]) -> str:
    """A set's name, as the talk's table has it: 'MSH + NIH'."""
    return " + ".join(sites)


def balanced_weights(frame: pd.DataFrame) -> np.ndarray:
    """A weight per image that gives every site the prevalence of all together, and leaves its share of the total, in
    each split by itself. `frame` has site, label and split.

    A site without one of the labels keeps weight 1: no weight gives it what it has none of.
    """

    def of(group: Sequence[str], what: str) -> pd.Series:
        return frame.groupby(list(group))["label"].transform(what)

    site, label, both = ("split", "site"), ("split", "label"), ("split", "site", "label")
    weights = of(site, "size") * of(label, "size") / of(("split",), "size") / of(both, "size")
    return weights.where(of(site, "nunique") == of(("split",), "nunique"), 1.0).to_numpy()


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


def prevalences(ratio: float) -> tuple[float, float]:
    """Of the two sites of a joint set, the higher first: as far apart as `ratio`, with `PREVALENCE` in the middle."""
    return 2 * PREVALENCE * ratio / (1 + ratio), 2 * PREVALENCE / (1 + ratio)


def engineered(frame: pd.DataFrame, draws: int, seed: int) -> Iterator[tuple[float, int, dict[str, np.ndarray]]]:
    """Yields ratio, number and row positions of `draws` draws for each of `RATIOS`, from `engineered_sites`: of the set
    "joint", both sites in equal parts, and of those of one site alone, "high" and "low".

    All have the same number of images and the same prevalence, `PREVALENCE`, so that nothing but the imbalance can make
    the joint set easier. `frame` has site, label and split (reserve patients are drawn as well). As many images are
    drawn as the scarcest label allows, the same number for every ratio. Raises `ValueError` where that is fewer than
    `SMALLEST`.
    """
    high, low = engineered_sites(frame)
    alone = {"high": {high: PREVALENCE}, "low": {low: PREVALENCE}}  # of each set, its sites' prevalences
    sets = {ratio: {"joint": dict(zip((high, low), prevalences(ratio), strict=True))} | alone for ratio in RATIOS}
    pools = frame.groupby(["split", "site", frame["label"] == POSITIVE]).indices
    every = [parts for of_ratio in sets.values() for parts in of_ratio.values()]
    sizes = {split: _affordable(pools, split, every) for split in SPLITS}
    for (ratio, of_ratio), number in product(sets.items(), range(draws)):
        rng, rows = np.random.default_rng((seed, round(1000 * ratio), number)), {}
        for name, parts in of_ratio.items():
            rows[name] = np.concatenate([_draw(pools, split, parts, size, rng) for split, size in sizes.items()])
        yield ratio, number, rows


def _affordable(pools: Mapping, split: str, sets: list[dict[str, float]]) -> int:
    """Images per set, an even number, that every set can be drawn with."""
    room = [
        len(pools.get((split, site, ill), ())) * len(parts) / (share if ill else 1 - share)
        for parts in sets
        for (site, share), ill in product(parts.items(), (True, False))
    ]
    size = int(min(room)) // 2 * 2
    if size < SMALLEST:
        raise ValueError(f"{split}: sets of {size} images are too few to engineer a prevalence")
    return size


def _draw(pools: Mapping, split: str, parts: dict[str, float], size: int, rng: np.random.Generator) -> np.ndarray:
    """A set of `size` images with these prevalences by site, at least one positive of each."""
    chosen, count = [], size // len(parts)
    for site, share in parts.items():
        positives = max(1, round(share * count))
        for ill, wanted in ((True, positives), (False, count - positives)):
            pool = pools[split, site, ill]
            chosen.append(rng.choice(pool, min(wanted, len(pool)), replace=False))
    return np.concatenate(chosen)
