"""Logistic regression on stored features: for the many heads of a study that trains one per site, set and draw.

A head of `helpers.model.head` follows Kermany's recipe (Adam, thousands of steps, early stopping) and takes seconds;
these are scikit-learn's, solved to the end in a tenth of a second each, with validation choosing the penalty.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helpers.model.head import Head

MOST_STEPS = 400  # of L-BFGS: a fit that is cut short is judged by validation as any other


@dataclass(frozen=True)
class LinearFit:
    """One head per penalty, the largest penalty first, and the cross-entropy of each on the validation rows."""

    heads: tuple[Head, ...]
    entropies: tuple[float, ...]

    @property
    def best(self) -> Head:
        """The head with the lowest cross-entropy; of equal ones that of the largest penalty."""
        return self.heads[int(np.argmin(self.entropies))]

    def history(self) -> list[dict[str, float | bool]]:
        """A row per penalty: penalty, cross_entropy, chosen."""
        rows = zip(self.heads, self.entropies, strict=True)
        return [{"penalty": head.l2, "cross_entropy": entropy, "chosen": head is self.best} for head, entropy in rows]


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
    labels: Sequence[str] | np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    classes: Sequence[str],
    penalties: Sequence[float],
    weights: np.ndarray | None = None,
) -> LinearFit:
    """Softmax regression, one per penalty on the mean cross-entropy plus penalty times the sum of squared weights.

    `features` float32 (n, d), `labels` class names (n,), `train` and `validation` row numbers, `weights` positive (n,)
    or None. The penalty applies to features standardised by the training rows; the heads take them as they are stored.
    Cross-entropy on the validation rows (weighted likewise) ranks the heads. Raises `ValueError` where a class has no
    training row, there is no validation row, or one of either is of no class (other rows may be).
    """
    names, train, validation = np.asarray(labels).astype(str), np.asarray(train), np.asarray(validation)
    order = {name: code for code, name in enumerate(classes)}
    codes = np.array([order.get(name, -1) for name in names])
    if missing := [name for name, code in order.items() if code not in codes[train]]:
        raise ValueError(f"no training image of {', '.join(missing)}")
    if not len(validation):
        raise ValueError("no validation image")
    if (codes[train] < 0).any() or (codes[validation] < 0).any():
        raise ValueError(f"a training or validation row has a label other than {', '.join(classes)}")
    path = _fit_path(features, codes, train, validation, penalties, weights)
    heads = [Head(tuple(classes), *_both_classes(kernel, bias), 0, l2) for l2, kernel, bias, _ in path]
    return LinearFit(tuple(heads), tuple(entropy for *_, entropy in path))


def fit_labels(
    features: np.ndarray,
    truth: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    labels: Sequence[str],
    penalties: Sequence[float],
) -> MultilabelHead:
    """One-vs-rest logistic regressions, one per label of `truth`, bool (n, labels); otherwise as `fit_head`.

    A label without positives in validation takes the penalty that is best for all labels together. Raises `ValueError`
    where a label has no positive, or no negative, training row.
    """
    count = truth[train].sum(axis=0)
    if bad := [name for name, positives in zip(labels, count, strict=True) if positives in (0, len(train))]:
        raise ValueError(f"no training images with, or none without, {', '.join(bad)}")
    if not len(validation):
        raise ValueError("no validation image")
    paths = [_fit_path(features, known.astype(int), train, validation, penalties) for known in truth.T]
    entropies = np.array([[entropy for *_, entropy in path] for path in paths])
    chosen = entropies.argmin(axis=1)
    chosen[~truth[validation].any(axis=0)] = entropies.mean(axis=0).argmin()
    l2, kernels, biases, _ = zip(*(path[k] for path, k in zip(paths, chosen, strict=True)), strict=True)
    return MultilabelHead(tuple(labels), np.hstack(kernels), np.hstack(biases), np.array(l2))


def _fit_path(
    features: np.ndarray,
    codes: np.ndarray,
    train: np.ndarray,
    validation: np.ndarray,
    penalties: Sequence[float],
    weights: np.ndarray | None = None,
) -> list[tuple[float, np.ndarray, np.ndarray, float]]:
    """Per penalty, from the largest down, each from the one before it: penalty, kernel, bias, validation cross-entropy.

    scikit-learn minimises C times the weighted sum of losses plus half the squared weights, so C is one over twice the
    penalty times the sum of the weights.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import StandardScaler

    share = np.ones(len(codes)) if weights is None else np.asarray(weights, float)
    scaler = StandardScaler().fit(features[train])
    learnt, held_out = scaler.transform(features[train]), scaler.transform(features[validation])
    model, path = LogisticRegression(max_iter=MOST_STEPS, warm_start=True), []
    for penalty in sorted(penalties, reverse=True):
        model.C = 1 / (2 * penalty * share[train].sum())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(learnt, codes[train], share[train])
        predicted, classes = model.predict_proba(held_out), np.arange(len(model.classes_))
        entropy = log_loss(codes[validation], predicted, sample_weight=share[validation], labels=classes)
        kernel = model.coef_.T / scaler.scale_[:, None]
        bias = model.intercept_ - scaler.mean_ @ kernel
        path.append((float(penalty), kernel.astype(np.float32), bias.astype(np.float32), float(entropy)))
    return path


def _both_classes(kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a softmax: of two classes scikit-learn keeps the second one's log odds alone."""
    if kernel.shape[1] > 1:
        return kernel, bias
    return np.hstack([-kernel / 2, kernel / 2]), np.hstack([-bias / 2, bias / 2])
