"""Logistic regression on stored features, for the many heads of a study that trains one a hospital, set and draw.

A head of `helpers.model.head` follows Kermany's recipe (Adam, thousands of steps, early stopping) and takes seconds; a
hundred of them on a few hundred rows each are better solved to the end, by scikit-learn, in a tenth of a second each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helpers.model.head import Head
from helpers.model.head_training import moments


@dataclass(frozen=True)
class Fitted:
    """One head a penalty, the cross-entropy of each on the validation rows, and the one of the lowest."""

    heads: tuple[Head, ...]
    entropies: tuple[float, ...]

    @property
    def best(self) -> Head:
        return self.heads[int(np.argmin(self.entropies))]


def fit(
    features: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    classes: Sequence[str],
    penalties: Sequence[float],
    weights: np.ndarray | None = None,
) -> Fitted:
    """Multinomial logistic regression, one for each penalty on the mean loss plus penalty times the squared weights.

    `features` float32 (n, d), `labels` class names (n,), `train` and `validation` row numbers, `weights` positive (n,)
    or None. Features are centred and scaled by the training rows, which is folded into the heads; unweighted
    cross-entropy on the validation rows (weighted where `weights` are given) ranks them. Raises `ValueError` where a
    class has no training row, there is no validation row, or one of either is of no class (other rows may be).
    """
    from sklearn.linear_model import LogisticRegression

    names, train, validation = np.asarray(labels).astype(str), np.asarray(train), np.asarray(validation)
    missing = [name for name in classes if name not in set(names[train])]
    if missing or not len(validation):
        raise ValueError(f"no training image of {', '.join(missing)}" if missing else "no validation image")
    order = {name: code for code, name in enumerate(classes)}
    codes = np.array([order.get(name, -1) for name in names])
    if (codes[train] < 0).any() or (codes[validation] < 0).any():
        raise ValueError(f"a row to learn from or to choose by is none of {', '.join(classes)}")
    share = np.ones(len(names)) if weights is None else np.asarray(weights, float)
    centre, scale = moments(features, train)
    learnt = (features[train] - centre) / scale
    heads, entropies = [], []
    for penalty in sorted(penalties, reverse=True):  # from the smoothest, each the next one's start
        model = LogisticRegression(C=1 / (2 * penalty * share[train].sum()), max_iter=400, tol=1e-3)
        model.fit(learnt, codes[train], share[train])
        heads.append(_head(model, centre, scale, tuple(classes), penalty))
        given = heads[-1].predict(features[validation])[np.arange(len(validation)), codes[validation]]
        entropies.append(float(np.average(-np.log(np.maximum(given, 1e-30)), weights=share[validation])))
    return Fitted(tuple(heads), tuple(entropies))


def _head(model, centre: np.ndarray, scale: np.ndarray, classes: tuple[str, ...], penalty: float) -> Head:
    """The regression as a softmax layer on features as they are stored."""
    kernel, bias = model.coef_.T, model.intercept_
    if len(classes) == 2:  # scikit-learn keeps the second class's log odds alone
        kernel, bias = np.hstack([-kernel / 2, kernel / 2]), np.array([-bias[0] / 2, bias[0] / 2])
    kernel = kernel / scale[:, None]
    bias = bias - centre @ kernel
    return Head(classes, kernel.astype(np.float32), bias.astype(np.float32), 0, float(penalty))
