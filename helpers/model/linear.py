"""Logistic regression on stored features: for the many heads of a study that trains one per site, set and draw.

A head of `helpers.model.head` follows Kermany's recipe (Adam, thousands of steps, early stopping) and takes seconds;
these are scikit-learn's, solved by L-BFGS in a tenth of a second each, with validation choosing the penalty.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from helpers.model.head import Head

# Of L-BFGS: most iterations, and the slope at which it stops. A fit that is cut short is judged by validation as any.
ITERATIONS, TOLERANCE = 400, 1e-3


@dataclass(frozen=True)
class LinearFit:
    """One head per penalty, the largest penalty first, and the cross-entropy of each on the validation rows."""

    heads: tuple[Head, ...]
    entropies: tuple[float, ...]

    @property
    def best(self) -> Head:
        """The head with the lowest cross-entropy; of equal ones that of the largest penalty."""
        return self.heads[int(np.argmin(self.entropies))]


@dataclass(frozen=True)
class MultilabelHead:
    """A sigmoid per label: float32 `kernel` (d, labels) and `bias` (labels,); `l2` (labels,) are the penalties."""

    classes: tuple[str, ...]
    kernel: np.ndarray
    bias: np.ndarray
    l2: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """A probability per label, float32 (n, labels), of features (n, d)."""
        return (0.5 * (1 + np.tanh(0.5 * (features @ self.kernel + self.bias)))).astype(np.float32)


def fit_head(
    features: np.ndarray,
    labels: Sequence[str] | np.ndarray | pd.Series,
    split: Sequence[str] | np.ndarray | pd.Series,
    classes: Sequence[str],
    penalties: Sequence[float],
    weights: np.ndarray | None = None,
) -> LinearFit:
    """Softmax regression, one per penalty on the mean cross-entropy plus penalty times the sum of squared weights.

    `features` float32 (n, d), with the class name, the split and the weight (positive; None: 1) of each row; rows that
    are neither "train" nor "validation" are ignored. The penalty applies to features standardised by the training rows;
    the heads take them as they are stored. Cross-entropy on the validation rows (weighted likewise) ranks the heads.
    Raises `ValueError` where a class has no training row, there is no validation row, or one of either has no class.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    train, validation = (np.flatnonzero(np.asarray(split) == name) for name in ("train", "validation"))
    codes, share = _checked(labels, train, validation, tuple(classes)), np.ones(len(features))
    share = share if weights is None else np.asarray(weights, float)
    scaler = StandardScaler().fit(features[train])
    scaled, heads, entropies = scaler.transform(features[train]), [], []
    for penalty in sorted(penalties, reverse=True):
        strength = 1 / (2 * penalty * share[train].sum())  # of the sum of losses, beside half of the squared weights
        model = LogisticRegression(C=strength, max_iter=ITERATIONS, tol=TOLERANCE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(scaled, codes[train], share[train])
        kernel, bias = model.coef_.T / scaler.scale_[:, None], model.intercept_
        bias = bias - scaler.mean_ @ kernel
        if len(classes) == 2:  # scikit-learn keeps the second class's log odds alone
            kernel, bias = np.hstack([-kernel / 2, kernel / 2]), np.hstack([-bias / 2, bias / 2])
        heads.append(Head(tuple(classes), kernel.astype(np.float32), bias.astype(np.float32), 0, float(penalty)))
        chance = heads[-1].predict(features[validation])[np.arange(len(validation)), codes[validation]]
        entropies.append(float(np.average(-np.log(np.maximum(chance, 1e-30)), weights=share[validation])))
    return LinearFit(tuple(heads), tuple(entropies))


def _checked(labels, train: np.ndarray, validation: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """Positions in `classes`, -1 for a label that is none of them, once every row that is used has one."""
    codes = pd.Index(classes).get_indexer(np.asarray(labels).astype(str))
    if missing := [name for code, name in enumerate(classes) if code not in codes[train]]:
        raise ValueError(f"no training image of {', '.join(missing)}")
    if not len(validation):
        raise ValueError("no validation image")
    if (codes[train] < 0).any() or (codes[validation] < 0).any():
        raise ValueError(f"a training or validation row has a label other than {', '.join(classes)}")
    return codes


def fit_labels(
    features: np.ndarray,
    truth: np.ndarray,
    split: Sequence[str] | np.ndarray | pd.Series,
    labels: Sequence[str],
    penalties: Sequence[float],
) -> MultilabelHead:
    """One-vs-rest logistic regressions, one per label of `truth`, bool (n, labels), each as `fit_head` makes it.

    A label without positives in validation takes the penalty that is best for all labels together.
    """
    fits = [
        fit_head(features, np.where(known, label, f"no {label}"), split, (f"no {label}", label), penalties)
        for label, known in zip(labels, truth.T, strict=True)
    ]
    entropies = np.array([fit.entropies for fit in fits])
    chosen = entropies.argmin(axis=1)
    chosen[~truth[np.asarray(split) == "validation"].any(axis=0)] = entropies.mean(axis=0).argmin()
    heads = [fit.heads[k] for fit, k in zip(fits, chosen, strict=True)]
    kernel = np.stack([head.kernel[:, 1] - head.kernel[:, 0] for head in heads], axis=1)
    bias = np.array([head.bias[1] - head.bias[0] for head in heads])
    return MultilabelHead(tuple(labels), kernel, bias, np.array([head.l2 for head in heads]))
