"""Whether a probability means what it says: reliability, Brier score, calibration line, and temperature scaling.

None of the papers looks at this. Kermany's pneumonia data call for it: images of the test folder score otherwise than
held-out images of the train folder, so a threshold or a probability learnt on one is off on the other, even where the
ROC curve, which knows only the order of scores, shows nothing. A temperature is fitted on validation images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from helpers.metrics.auroc import lacks_class
from helpers.metrics.bootstrap import by_patient, mean_by_patient
from helpers.metrics.checks import as_bool, as_labels, as_scores, check_classes, same_length
from helpers.metrics.estimate import Estimate
from helpers.metrics.proportions import Z, proportion

TINY = 1e-7  # probabilities are kept this far from 0 and 1 before their logarithm is taken
COLUMNS = ("from", "to", "n", "predicted", "observed", "low", "high")


def reliability(truth: Any, probability: Any, bins: int = 10, equal_counts: bool = False) -> pd.DataFrame:
    """Predicted against observed, a row a bin that holds images: from, to, n, predicted, observed, low, high.

    `truth` holds one True or False an image, `probability` (0 to 1) what was said of it. Bins are of equal width, or
    with `equal_counts` of (nearly) equal numbers of images. `predicted` is the bin's mean probability; `observed` its
    share of True, with a Clopper-Pearson interval, `low` to `high`, that takes images as independent.
    """
    t, p = _pair(truth, probability)
    place, edges = _binned(p, bins, equal_counts)
    rows = []
    for index in np.unique(place):
        inside = place == index
        seen = proportion(int(t[inside].sum()), int(inside.sum()))
        rows.append((*edges[index : index + 2], seen.n, p[inside].mean(), seen.value, seen.low, seen.high))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def brier(truth: Any, probability: Any, patients: Any = None, resamples: int = 2000, seed: int = 1) -> Estimate:
    """Mean squared distance of the probability from what was true (0 is best, 0.25 a coin), with a bootstrap interval
    by patient; without `patients` images are resampled one by one."""
    t, p = _pair(truth, probability)
    return mean_by_patient((p - t) ** 2, _groups(patients, len(t)), resamples, seed, bounds=(0.0, 1.0))


def expected_calibration_error(
    truth: Any, probability: Any, bins: int = 10, patients: Any = None, resamples: int = 1000, seed: int = 1
) -> Estimate:
    """Mean distance between predicted and observed over bins of equal width, weighted by their images.

    It cannot be negative, so chance alone lifts it, the more the fewer images a bin has: compare it only between
    samples of like size. For the same reason resamples lie above the value; the interval is a bootstrap by patient,
    widened where that would leave the value out.
    """
    t, p = _pair(truth, probability)

    def error(truth: np.ndarray, said: np.ndarray) -> float:
        place, _ = _binned(said, bins, False)
        gaps = np.bincount(place, said, bins) - np.bincount(place, truth, bins)
        return float(np.abs(gaps).sum() / len(said))

    return by_patient(error, _groups(patients, len(t)), resamples, seed, t, p, bounds=(0.0, 1.0))


def calibration_line(truth: Any, probability: Any) -> dict[str, Estimate]:
    """`slope` and `intercept` of the truth on the logit of the probability; 1 and 0 where it means what it says.

    Cox 1958 (Biometrika 45:562). A slope below 1: the probabilities are too extreme. The intercept is that of a model
    whose slope is kept at 1 (calibration in the large): below 0, they are too high on the whole. Wald intervals, images
    independent. Undefined with one class, and the slope where the probability separates the classes perfectly or is the
    same for all images.
    """
    t, p = _pair(truth, probability)
    method = "logistic regression, Wald"
    missing = lacks_class(t)
    if missing:
        return {name: Estimate.undefined(len(t), method, missing) for name in ("slope", "intercept")}
    import statsmodels.api as sm

    logit = _logit(p)
    alone = sm.GLM(t.astype(float), np.ones((len(t), 1)), sm.families.Binomial(), offset=logit).fit()
    found = {"intercept": _wald(alone.params[0], alone.bse[0], len(t), method)}
    why = ""
    if np.ptp(logit) == 0:
        why = "all probabilities are equal"
    elif p[t].min() >= p[~t].max() or p[t].max() <= p[~t].min():
        why = "the probability separates the classes perfectly"
    if why:
        return {"slope": Estimate.undefined(len(t), method, why), **found}
    both = sm.GLM(t.astype(float), sm.add_constant(logit), sm.families.Binomial()).fit()
    return {"slope": _wald(both.params[1], both.bse[1], len(t), method), **found}


@dataclass(frozen=True)
class Temperature:
    """`value`: above 1 the probabilities were too extreme. `before` and `after` are the cross-entropy, in nats an
    image, on the images it was fitted on; `n` is their number."""

    value: float
    before: float
    after: float
    n: int


def temperature(probabilities: np.ndarray, labels: Any, classes: Sequence[str]) -> Temperature:
    """The temperature that makes `probabilities`, (n, k) in the order of `classes`, fit `labels` best.

    Guo et al. 2017 (ICML, arXiv:1706.04599): logits are divided by one number, which leaves the order of the classes,
    and so accuracy, as it was. Fitted by cross-entropy between 0.05 and 20. Pass validation images: fitted on the
    images it is judged on, it flatters. Raises `ValueError` without images and for rows that do not sum to 1.
    """
    table, names = _probabilities(probabilities), check_classes(classes)
    true = as_labels(labels, "labels", names)
    if same_length(probabilities=table, labels=true) == 0 or table.shape[1] != len(names):
        raise ValueError(f"probabilities of shape {table.shape} for {len(true)} images of {len(names)} classes")
    places = pd.Index(names).get_indexer(true)

    def loss(log_value: float) -> float:
        scaled = apply_temperature(table, float(np.exp(log_value)))
        return float(-np.log(np.clip(scaled[np.arange(len(true)), places], TINY, None)).mean())

    from scipy.optimize import minimize_scalar

    best = minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded", options={"xatol": 1e-6})
    return Temperature(float(np.exp(best.x)), loss(0.0), float(best.fun), len(true))


def apply_temperature(probabilities: np.ndarray, t: float) -> np.ndarray:
    """`probabilities` (n, k) with their logits divided by `t`: an array of that shape, rows summing to 1."""
    if not 0 < t < np.inf:
        raise ValueError(f"t = {t}; a temperature is a positive number")
    logs = np.log(np.clip(_probabilities(probabilities), TINY, None)) / t
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def rescaled(scores: pd.DataFrame, classes: Sequence[str], t: float) -> pd.DataFrame:
    """A scores frame with the columns p_<class> at temperature `t`, all else as it was."""
    columns = [f"p_{name}" for name in check_classes(classes)]
    cooled = apply_temperature(scores[columns].to_numpy(), t)
    return scores.assign(**{column: cooled[:, place] for place, column in enumerate(columns)})


def _pair(truth: Any, probability: Any) -> tuple[np.ndarray, np.ndarray]:
    t, p = as_bool(truth, "truth"), as_scores(probability, "probability")
    same_length(truth=t, probability=p)
    if len(p) and not (p.min() >= 0 and p.max() <= 1):
        raise ValueError(f"probability: expected 0 to 1, got {p.min():g} to {p.max():g}")
    return t, p


def _probabilities(values: np.ndarray) -> np.ndarray:
    table = np.asarray(values, dtype=float)
    if table.ndim != 2 or not np.isfinite(table).all() or (table < 0).any():
        raise ValueError(f"probabilities: expected finite numbers of 0 or more, (n, k); got shape {table.shape}")
    if len(table) and np.abs(table.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("probabilities: rows do not sum to 1")
    return table


def _binned(p: np.ndarray, bins: int, equal_counts: bool) -> tuple[np.ndarray, np.ndarray]:
    """The bin of each probability and the edges of the bins; 1 belongs to the last."""
    edges = np.linspace(0, 1, bins + 1)
    if equal_counts and len(p):
        edges = np.unique(np.quantile(p, edges))
        edges = edges if len(edges) > 1 else np.array([edges[0], edges[0]])
    return np.clip(np.searchsorted(edges, p, side="right") - 1, 0, len(edges) - 2), edges


def _logit(p: np.ndarray) -> np.ndarray:
    kept = np.clip(p, TINY, 1 - TINY)
    return np.log(kept / (1 - kept))


def _wald(value: float, error: float, n: int, method: str) -> Estimate:
    return Estimate(float(value), float(value - Z * error), float(value + Z * error), n, method)


def _groups(patients: Any, n: int) -> Any:
    return np.arange(n) if patients is None else patients
