"""What a hospital's prevalence alone is worth, from counts: no image and no model.

Two hospitals of which one has more of a disease can be sorted by that alone. And where a head ranks rightly within each
with a certain AUROC, knowing the hospital as well lifts the joint AUROC by a calculable amount.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from helpers.audit import predictive
from helpers.audit.facts import Facts
from helpers.metrics.checks import as_scores

SITES = ("nih", "msh", "iu")
Counts = tuple[int, int]  # images, and positives among them
GRID = np.linspace(-9, 9, 3601)  # of a binormal score, in deviations


def sorted_by_hospital(counts: Sequence[Counts]) -> float:
    """The AUROC of the hospital's prevalence as the score, from each hospital's images and positives.

    Raises `ValueError` for more positives than images, or for none of either class in all.
    """
    n, positives = np.asarray(counts, float).T
    if (positives > n).any() or positives.sum() == 0 or (n - positives).sum() == 0:
        raise ValueError(f"counts {counts}: positives are a part of the images, and both classes occur")
    p, q, rate = positives / positives.sum(), (n - positives) / (n - positives).sum(), positives / n
    higher = (rate[:, None] > rate[None, :]) + 0.5 * (rate[:, None] == rate[None, :])
    return float(p @ higher @ q)


def with_hospital_known(counts: Sequence[Counts], aurocs: Sequence[float]) -> float:
    """The joint AUROC of a head that reaches `aurocs` within the hospitals and also knows which one an image is from.

    Within each, scores are taken to be normal with equal deviations (binormal), and the hospital's prior odds are
    added, as the best possible use of it. Raises as `sorted_by_hospital`, and `ValueError` for an AUROC outside 0.5
    to 1.
    """
    from scipy.stats import norm

    sorted_by_hospital(counts)
    inside = as_scores(aurocs, "aurocs")
    if ((inside < 0.5) | (inside >= 1)).any():
        raise ValueError(f"aurocs {list(aurocs)}: from 0.5 to below 1")
    n, positives = np.asarray(counts, float).T
    weight = {True: positives / positives.sum(), False: (n - positives) / (n - positives).sum()}
    d = np.sqrt(2) * norm.ppf(inside)
    odds = np.log(positives / (n - positives))
    score, mass = {True: [], False: []}, {True: [], False: []}
    density = norm.pdf(GRID) / norm.pdf(GRID).sum()
    for k in range(len(n)):
        for ill in (True, False):  # the log likelihood ratio of a binormal score is linear in it
            score[ill].append(d[k] * (GRID + (d[k] if ill else 0.0)) - d[k] ** 2 / 2 + odds[k])
            mass[ill].append(weight[ill][k] * density)
    return _area(*(np.concatenate(parts[ill]) for ill in (True, False) for parts in (score, mass)))


def _area(above: np.ndarray, p: np.ndarray, below: np.ndarray, q: np.ndarray) -> float:
    order = np.argsort(below)
    below, total = below[order], np.concatenate([[0.0], np.cumsum(q[order])])
    left, right = (np.searchsorted(below, above, side) for side in ("left", "right"))
    return float((p * 0.5 * (total[left] + total[right])).sum())


def in_the_talk(facts: Facts) -> pd.DataFrame:
    """The talk's joint test sets, sorted by hospital alone, as its table implies it; nothing of it is printed.

    PPV, NPV, accuracy, sensitivity and specificity of a site's rows leave a few numbers of positives possible.
    Columns: test set, n, the prevalences, the AUROC of sorting by hospital, the AUROC that a head with the printed
    AUROCs within the hospitals would reach if it also knew the hospital, each as low and high over what is possible,
    and the printed AUROC.
    """
    prefix, rows = "zech2018.generalization", []
    sizes = {site: int(facts[f"{prefix}.data.{site}"].value) for site in SITES}
    allowed = {site: _positives(facts, site, sizes[site]) for site in SITES}
    inside = {site: facts[f"{prefix}.msh_nih.{site}.auroc"].value for site in SITES}
    for sites in (("msh", "nih"), ("msh", "nih", "iu")):
        ends = [[allowed[site].min(), allowed[site].max()] for site in sites]
        counts = [list(zip([sizes[s] for s in sites], map(int, corner), strict=True)) for corner in product(*ends)]
        alone = [sorted_by_hospital(one) for one in counts]
        known = [with_hospital_known(one, [inside[site] for site in sites]) for one in counts]
        row = {"test set": " + ".join(sites).upper(), "n": sum(sizes[site] for site in sites)}
        for site, (least, most) in zip(sites, ends, strict=True):
            row |= {
                f"prevalence {site.upper()} low": least / sizes[site],
                f"prevalence {site.upper()} high": most / sizes[site],
            }
        row |= {"hospital alone low": min(alone), "hospital alone high": max(alone)}
        row |= {"with hospital known low": min(known), "with hospital known high": max(known)}
        rows.append(row | {"printed": facts[f"{prefix}.msh_nih.{'_'.join(sites)}.auroc"].value})
    return pd.DataFrame(rows)


def _positives(facts: Facts, site: str, n: int) -> np.ndarray:
    """The numbers of positives among a site's test images that all three rows of it allow."""
    rows = [
        dict(
            zip(predictive.NAMES, facts.get(f"zech2018.generalization.{train}.{site}", *predictive.NAMES), strict=True)
        )
        for train in ("nih", "msh", "msh_nih")
    ]
    return predictive.common([predictive.positives(row, n) for row in rows])
