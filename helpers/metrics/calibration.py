"""Whether predicted probabilities can be trusted: reliability, Brier score, and temperature scaling.

Where images of another source score otherwise, a threshold or a probability learnt on one is off on the other, even
where the ROC curve, which depends only on the order of scores, shows nothing. A temperature is fitted on validation
images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from helpers.metrics.bootstrap import mean_by_patient
from helpers.metrics.classification import probabilities_of
from helpers.metrics.estimate import Estimate, as_arrays, places_of
from helpers.metrics.proportions import proportion

TINY = 1e-7  # probabilities are kept this far from 0 before their logarithm is taken
COLUMNS = ("from", "to", "n", "predicted", "observed", "low", "high")


def reliability(truth: Any, probability: Any, bins: int = 10) -> pd.DataFrame:
    """Predicted against observed, one row per bin that holds images: from, to, n, predicted, observed, low, high.

    `truth` holds True or False per image, `probability` (0 to 1) what was predicted. Bins hold (nearly) equal numbers
    of images. `predicted` is the bin's mean probability; `observed` its share of True, with a Clopper-Pearson interval,
    `low` to `high`, that takes images as independent.
    """
    t, p = as_arrays(truth=(truth, bool), probability=(probability, float))
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1))) if len(p) else np.array([0.0, 1.0])
    edges = edges if len(edges) > 1 else np.repeat(edges, 2)
    place = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, len(edges) - 2)  # the highest is in the last bin
    rows = []
    for index in np.unique(place):
        inside = place == index
        seen = proportion(int(t[inside].sum()), int(inside.sum()))
        rows.append((*edges[index : index + 2], seen.n, p[inside].mean(), seen.value, seen.low, seen.high))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def brier(truth: Any, probability: Any, patients: Any, resamples: int, seed: int) -> Estimate:
    """Mean squared distance of the probability from the truth (0 is best, 0.25 a coin), with a bootstrap interval by
    patient."""
    t, p = as_arrays(truth=(truth, bool), probability=(probability, float))
    return mean_by_patient((p - t) ** 2, patients, resamples, seed, bounds=(0.0, 1.0))


@dataclass(frozen=True)
class Temperature:
    """`value`: above 1 the probabilities were too extreme. `before` and `after` are the cross-entropy, in nats per
    image, on the images it was fitted on; `n` is their number."""

    value: float
    before: float
    after: float
    n: int


def fit_temperature(probabilities: np.ndarray, labels: Any, classes: Sequence[str]) -> Temperature:
    """The temperature that makes `probabilities`, (n, k) in the order of `classes`, fit `labels` best.

    Guo et al. 2017 (ICML, arXiv:1706.04599): logits are divided by one number, which leaves the order of the classes,
    and so accuracy, as it was. Fitted by cross-entropy between 0.05 and 20. Pass validation images: fitted on the
    images it is judged on, it flatters.
    """
    places = places_of(labels, classes)

    def loss(log_value: float) -> float:
        scaled = apply_temperature(probabilities, float(np.exp(log_value)))
        return float(-np.log(np.clip(scaled[np.arange(len(places)), places], TINY, None)).mean())

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-6})
    return Temperature(float(np.exp(best.x)), loss(0.0), float(best.fun), len(places))


def apply_temperature(probabilities: np.ndarray, t: float) -> np.ndarray:
    """`probabilities` (n, k) with their logits divided by `t`: an array of that shape, rows summing to 1."""
    return softmax(np.log(np.clip(probabilities, TINY, None)) / t, axis=1)


def rescale_scores(scores: pd.DataFrame, classes: Sequence[str], t: float) -> pd.DataFrame:
    """A scores frame with the columns p_<class> at temperature `t`, all else unchanged."""
    scaled = apply_temperature(probabilities_of(scores, classes), t)
    return scores.assign(**{f"p_{name}": scaled[:, place] for place, name in enumerate(classes)})
