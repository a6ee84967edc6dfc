"""Sets of images from several hospitals: all combinations, prevalence balanced, and engineered to an imbalance.

Zech 2018: "It's learning to detect site: Mount Sinai has much higher pneumonia rate". Whether that is the reason can be
tried: draw joint sets from two hospitals whose prevalences differ more and more while that of both together, the
number of images and the diseases stay the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

SPLITS = ("train", "validation", "test")
POSITIVE = "Pneumonia"


def site_sets(sites: Sequence[str]) -> list[tuple[str, ...]]:
    """Every set of one hospital or more, small ones first."""
    return [part for size in range(1, len(sites) + 1) for part in combinations(sites, size)]


def joined(sites: Sequence[str]) -> str:
    """A set's name, as the talk's table has it: 'MSH + NIH'."""
    return " + ".join(sites)


def balanced_weights(sites: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A weight an image that gives every hospital the prevalence of all together, and leaves its share of the total.

    A hospital without one of the labels keeps weight 1: no weight can make it what it has none of.
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


@dataclass(frozen=True)
class Draw:
    """One engineered draw at one ratio: the rows of each split for "joint" (both hospitals), "high" and "low" (one
    alone), and the two hospitals' prevalence in the joint set, the higher first."""

    ratio: float
    number: int
    rows: dict[str, dict[str, np.ndarray]]
    prevalence: tuple[float, float]


def engineered_sites(frame: pd.DataFrame) -> tuple[str, str]:
    """The two hospitals that engineered sets are drawn from: of those with most images of the rarer label, the one of
    the higher prevalence first."""
    counts = frame.groupby("site")["label"].agg(
        lambda labels: min((labels == POSITIVE).sum(), (labels != POSITIVE).sum())
    )
    two = counts.sort_values(ascending=False, kind="stable").index[:2]
    natural = frame[frame["cohort"] == "natural"]
    rate = natural.groupby("site")["label"].agg(lambda labels: (labels == POSITIVE).mean())
    high, low = sorted(two, key=lambda site: -rate[site])
    return high, low


def engineered(
    frame: pd.DataFrame, prevalence: float, ratios: Sequence[float], draws: int, seed: int
) -> Iterator[Draw]:
    """Yields `draws` draws a ratio from `engineered_sites`.

    The joint set has both hospitals in equal parts; of each alone a set is drawn as well. All have the same number of
    images and the same prevalence, `prevalence`, so that nothing but the imbalance can make the joint set easier.
    `frame` has site, label and split (reserve patients are drawn as well); rows are positions in it. As many images
    are drawn as the scarcest label allows, the same number for every ratio. Raises `ValueError` where that is fewer
    than 20.
    """
    high, low = engineered_sites(frame)
    shares = {ratio: (prevalence * 2 * ratio / (1 + ratio), prevalence * 2 / (1 + ratio)) for ratio in ratios}
    if max(share[0] for share in shares.values()) >= 1:
        raise ValueError(f"prevalence {prevalence} at a ratio of {max(ratios)} needs more than all of {high}'s images")
    kinds = {"positive": frame["label"] == POSITIVE, "negative": frame["label"] != POSITIVE}
    pools = {
        (split, site, kind): np.flatnonzero((frame["split"] == split) & (frame["site"] == site) & is_kind)
        for split in SPLITS
        for site in (high, low)
        for kind, is_kind in kinds.items()
    }
    sizes = {split: _affordable(pools, split, (high, low), prevalence, list(shares.values())) for split in SPLITS}
    for ratio, share in shares.items():
        for number in range(draws):
            rng, rows = np.random.default_rng((seed, round(1000 * ratio), number)), {}
            rows["joint"] = {
                split: np.concatenate(
                    [
                        _drawn(pools, split, site, part, n // 2, rng)
                        for site, part in zip((high, low), share, strict=True)
                    ]
                )
                for split, n in sizes.items()
            }
            for name, site in {"high": high, "low": low}.items():
                rows[name] = {split: _drawn(pools, split, site, prevalence, n, rng) for split, n in sizes.items()}
            yield Draw(ratio, number, rows, share)


def _affordable(pools: dict, split: str, sites: tuple[str, str], prevalence: float, shares: list) -> int:
    """Images a set, an even number, that every set can be drawn with."""
    wanted = [(site, prevalence, 1.0) for site in sites]
    wanted += [(site, part, 0.5) for share in shares for site, part in zip(sites, share, strict=True)]
    room = []
    for site, part, weight in wanted:
        room += [
            len(pools[split, site, "positive"]) / part / weight,
            len(pools[split, site, "negative"]) / (1 - part) / weight,
        ]
    size = int(min(room)) // 2 * 2
    if size < 20:
        raise ValueError(f"{split}: sets of {size} images are too few to engineer a prevalence")
    return size


def _drawn(pools: dict, split: str, site: str, share: float, size: int, rng: np.random.Generator) -> np.ndarray:
    """`size` rows of one hospital with this share of positives, at least one."""
    positives = max(1, round(share * size))
    parts = (("positive", positives), ("negative", size - positives))
    chosen = [
        rng.choice(pool, min(n, len(pool)), replace=False) for pool, n in ((pools[split, site, k], n) for k, n in parts)
    ]
    return np.concatenate(chosen)
