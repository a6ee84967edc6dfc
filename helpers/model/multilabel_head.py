"""Several yes/no answers from one image's features: logistic regressions side by side, one a label.

They are the last layer that a multi-label network starts from, and what the frozen network can do by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helpers.model.head_training import moments

MOST_STEPS = 300  # of L-BFGS; these problems are convex, and few need a hundred


@dataclass(frozen=True)
class MultilabelHead:
    """Logits are features @ `kernel` + `bias`: float32 (d, labels) and (labels,); `l2` (labels,) are the penalties."""

    labels: tuple[str, ...]
    kernel: np.ndarray
    bias: np.ndarray
    l2: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """A probability a label, float32 (n, labels), of features (n, d)."""
        return sigmoid(features @ self.kernel + self.bias).astype(np.float32)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -60, 60)))


def cross_entropy(logits: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean binary cross-entropy of each label, float64 (labels,), of logits and bools (n, labels)."""
    logits = np.asarray(logits, np.float64)
    return (np.logaddexp(0, logits) - logits * truth).mean(axis=0)


def train_multilabel_head(
    features: np.ndarray,
    truth: np.ndarray,
    split: Sequence[str] | np.ndarray,
    labels: Sequence[str],
    penalties: Sequence[float],
) -> MultilabelHead:
    """Learn each label from the rows that `split` calls train; validation rows choose its penalty.

    `features` float32 (n, d), `truth` bool (n, labels). A penalty is times the mean square of a label's weights on
    features of unit deviation. Of equally good ones the largest is taken. A label without positives, or without
    negatives, in training cannot be learnt: `ValueError`. One without positives in validation takes the penalty that is
    best for all labels together.
    """
    names = np.asarray(split).astype(str)
    train, held_out = (np.flatnonzero(names == name) for name in ("train", "validation"))
    _check(features, truth, train, held_out, labels)
    centre, deviation = moments(features, train)
    scaled = [((features[rows] - centre) / deviation).astype(np.float32) for rows in (train, held_out)]
    fitted, losses = [], []
    start = None
    for penalty in sorted(penalties, reverse=True):  # from the smoothest on, each from the one before
        start = _fit(scaled[0], truth[train].astype(np.float32), penalty, start)
        fitted.append(start)
        losses.append(cross_entropy(scaled[1] @ start[:-1] + start[-1], truth[held_out]))
    chosen = _choose(np.array(losses), truth[held_out])
    weights = np.stack([fitted[k][:, label] for label, k in enumerate(chosen)], axis=1)
    kernel = weights[:-1] / deviation[:, None]
    bias = weights[-1] - centre @ kernel
    l2 = np.array(sorted(penalties, reverse=True))[chosen]
    return MultilabelHead(tuple(labels), kernel.astype(np.float32), bias.astype(np.float32), l2)


def _choose(losses: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """For each label the position of its penalty: losses are (penalties, labels), the largest penalty first."""
    chosen = losses.argmin(axis=0)
    chosen[~truth.any(axis=0)] = losses.mean(axis=1).argmin()
    return chosen


def _fit(x: np.ndarray, y: np.ndarray, penalty: float, start: np.ndarray | None) -> np.ndarray:
    """Weights with the bias last, float32 (d + 1, labels): the labels do not touch each other, so one run does all."""
    from scipy.optimize import minimize

    d, k, n = x.shape[1], y.shape[1], len(x)
    if start is None:
        share = y.mean(axis=0)
        start = np.concatenate([np.zeros((d, k)), np.log(share / (1 - share))[None]])

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(d + 1, k)
        logits = x @ weights[:-1].astype(np.float32) + weights[-1].astype(np.float32)
        value = cross_entropy(logits, y).sum() + penalty * np.square(weights[:-1]).sum() / d
        error = (sigmoid(logits) - y) / n
        slope = np.concatenate([x.T @ error + 2 * penalty * weights[:-1] / d, error.sum(axis=0)[None]])
        return float(value), slope.astype(np.float64).ravel()

    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS})
    return found.x.reshape(d + 1, k)


def _check(features: np.ndarray, truth: np.ndarray, train: np.ndarray, held_out: np.ndarray, labels) -> None:
    if features.ndim != 2 or truth.shape != (len(features), len(labels)):
        raise ValueError(f"features {features.shape} and truth {truth.shape} do not match {len(labels)} labels")
    if not len(train) or not len(held_out):
        raise ValueError(f"{len(train)} training and {len(held_out)} validation images; both are needed")
    count = truth[train].sum(axis=0)
    bad = [name for name, positives in zip(labels, count, strict=True) if positives in (0, len(train))]
    if bad:
        raise ValueError(f"no training images with, or none without, {', '.join(bad)}")
