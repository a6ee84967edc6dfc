"""The head: a softmax layer on frozen features, by the paper's recipe or by logistic regression.

`train_head` follows Kermany's recipe (Adam, thousands of steps, early stopping), in plain NumPy on one thread: products
so narrow that more threads, or a framework, would cost more than the arithmetic. It takes seconds. `fit_head` is for
studies of a head per site, set and draw: scikit-learn's, by L-BFGS, in a tenth of a second.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from helpers.run.provenance import write_atomically

SPLITS = ("train", "validation", "test")
CURVE_IMAGES = 2000  # most images a held-out split is evaluated on along the way; a larger split is sampled, once
TOGETHER = 16  # evaluations made in one product, which reads the held-out features once for all of them
ROWS = 8192  # rows at a time where all features are looked at, so that no second copy of them is made
BLOCK = 2**17  # features of a batch worked on at a time, which stay in a core's cache between two products
# Of L-BFGS: most iterations, and the slope at which it stops. A fit that is cut short is judged by validation as any.
ITERATIONS, TOLERANCE = 400, 1e-3
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # of Adam, as in Keras


@dataclass(frozen=True)
class HeadSettings:
    """How a head is trained. The defaults are the paper's (Kermany 2018, STAR Methods, Transfer Learning Methods)."""

    steps: int = 10_000  # "Training on all categories was run for 10,000 steps, or 100 epochs"
    batch: int = 1000  # "batches of 1,000 images per step"; fewer training images are used whole at each step
    learning_rate: float = 0.001  # "an Adam Optimizer with a learning rate of 0.001"
    evaluate_every: int = 1  # "Holdout method testing was performed after every step"
    l2: tuple[float, ...] = (0.0,)  # penalties tried, each times the sum of squared weights; the paper names none
    standardise: bool = False  # features centred and divided by their deviation over the training images
    seed: int = 1


@dataclass(frozen=True)
class Head:
    """A softmax layer: float32 `kernel` (d, k) and `bias` (k,), the step it is from and the penalty it had."""

    classes: tuple[str, ...]
    kernel: np.ndarray
    bias: np.ndarray
    step: int
    l2: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (n, k) in the order of `classes`, of features (n, d)."""
        logits = np.asarray(features, np.float32) @ self.kernel + self.bias
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)

    def save(self, path: Path) -> None:
        """Write a .npz of plain arrays, whole or not at all."""
        parts = {name: np.asarray(value) for name, value in vars(self).items()}
        write_atomically(Path(path), lambda file: np.savez(file, **parts))

    @classmethod
    def load(cls, path: Path) -> Head:
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as parts:
            classes = tuple(str(name) for name in parts["classes"])
            return cls(classes, parts["kernel"], parts["bias"], int(parts["step"]), float(parts["l2"]))


@dataclass(frozen=True)
class HeadRun:
    """What one training leaves.

    `by_validation` is the model to use: the step with the lowest cross-entropy on validation patients. Accuracy would
    be coarser (hundreds of steps tie on a few hundred images) and blind to how sure the probabilities are, which the
    ROC curves rest on. `by_test` is what the paper did, "the best performing model was kept" on the test set: highest
    test accuracy, then lowest cross-entropy. `history` has columns step, split, accuracy, cross_entropy, l2, for every
    penalty.
    """

    by_validation: Head
    by_test: Head
    history: pd.DataFrame


def train_head(
    features: np.ndarray,
    labels: Sequence[str] | np.ndarray | pd.Series,
    split: Sequence[str] | np.ndarray | pd.Series,
    classes: Sequence[str],
    settings: HeadSettings,
) -> HeadRun:
    """Train a softmax head on features, float32 (n, d), with the class name and the split of each row.

    Kermany 2018, Transfer Learning Methods: the bottlenecks of frozen layers are "calculated and stored", and the new
    final layer "takes the image bottlenecks as input and retrains to classify our specific categories". At each
    evaluated step the history says how the step's training batch (before its update), validation and test did (after
    it); a held-out split of more than 2,000 images is sampled for that, the same 2,000 throughout.

    Of several penalties, all are trained, and the whole of validation decides by cross-entropy; of equally good ones
    the largest is taken. Two runs with one seed on one machine agree bit for bit. Raises `ValueError` for labels that
    cannot be learnt from, and where the weights run off to infinity.
    """
    split, classes = np.asarray(split), tuple(classes)
    rows = {name: np.flatnonzero(split == name) for name in SPLITS}
    # Row by row in memory: a data frame's array lies by columns, whose rows take several times as long to gather.
    data = _Examples(np.ascontiguousarray(features, np.float32), _codes(labels, rows, classes), rows, classes)
    history, best = _train(data, settings)
    chosen = {name: _choose(heads, data, name) for name, heads in best.items()}
    return HeadRun(chosen["validation"], chosen["test"], history)


# --- what is learnt from ---


@dataclass(frozen=True)
class _Examples:
    """Float32 `features` (n, d), the `codes` (n,) of their `classes`, and the rows of each split."""

    features: np.ndarray
    codes: np.ndarray
    rows: Mapping[str, np.ndarray]
    classes: tuple[str, ...]


def _codes(labels, rows: Mapping[str, np.ndarray], classes: tuple[str, ...]) -> np.ndarray:
    """Positions in `classes` of labels (n,), of which the `rows` of each split are used.

    Raises `ValueError` where a split has no image, a class no training image, or a row that is used no class.
    """
    names = np.asarray(labels).astype(str)
    codes = pd.Index(classes).get_indexer(names)
    missing = [f"{split} images" for split, some in rows.items() if not len(some)]
    missing += [f"training images of {name}" for k, name in enumerate(classes) if k not in codes[rows["train"]]]
    if missing:
        raise ValueError(f"no {', no '.join(missing)}")
    used = np.concatenate(list(rows.values()))
    if strange := sorted(set(names[used][codes[used] < 0])):
        raise ValueError(f"labels other than {', '.join(classes)}: {', '.join(strange[:3])}")
    return codes


def _batches(rows: np.ndarray, settings: HeadSettings) -> Iterator[np.ndarray]:
    """Yields rows of the features (batch,) without end: the training images in a new random order each epoch.

    Every batch is full: where an epoch ends inside one, the next begins. A smaller training set is used whole.
    """
    random = np.random.default_rng((settings.seed, 1))
    size, left = min(settings.batch, len(rows)), rows[:0]
    while True:
        while len(left) < size:
            left = np.concatenate([left, random.permutation(rows)])
        yield left[:size]
        left = left[size:]


def _moments(data: _Examples) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (d,), float32, of the training images; a feature that never varies has a deviation of 1."""
    from sklearn.preprocessing import StandardScaler  # a second or two, which asking for keys does not need

    scaler, rows = StandardScaler(), data.rows["train"]
    for first in range(0, len(rows), ROWS):
        scaler.partial_fit(data.features[rows[first : first + ROWS]])
    return scaler.mean_.astype(np.float32), scaler.scale_.astype(np.float32)


# --- learning ---


def _train(data: _Examples, settings: HeadSettings) -> tuple[pd.DataFrame, dict[str, list[Head]]]:
    """The history, and of each held-out split the best head of each penalty, all trained on the same batches.

    Adam works on each weight by itself, so this equals training the layers one after the other.
    """
    layers, evaluation = _Layers(data, settings), _Evaluation(data, settings)
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"):
        for step, drawn in zip(range(1, settings.steps + 1), _batches(data.rows["train"], settings), strict=False):
            learnt = layers.learn(data, drawn, step)
            if step % settings.evaluate_every == 0 or step == settings.steps:
                evaluation.add(step, learnt, *layers.folded(), last=step == settings.steps)
    best = {name: [head for _, head in kept] for name, kept in evaluation.best.items()}
    if not all(head and np.isfinite(head.kernel).all() for heads in best.values() for head in heads):
        raise ValueError(f"the head diverged: a learning rate of {settings.learning_rate} is too high for its features")
    return evaluation.history(), best


def _measure(x: np.ndarray, y: np.ndarray, kernel: np.ndarray, bias: np.ndarray, classes: int) -> tuple:
    """Of layers below each other (layers * k, d): whether each image is classified correctly and its cross-entropy
    (n, layers), and probabilities (n, layers, k), for images `x` (n, d) with class codes `y` (n,)."""
    logits = (x @ kernel.T + bias).reshape(len(x), -1, classes)
    logits -= logits.max(axis=2, keepdims=True)
    exponents = np.exp(logits)
    total = exponents.sum(axis=2, keepdims=True)
    entropy = np.log(total[:, :, 0]) - logits[np.arange(len(y)), :, y]
    return logits.argmax(axis=2) == y[:, None], entropy, exponents / total


class _Layers:
    """The weights of one softmax layer per penalty, side by side, and Adam's state.

    A layer sees features shifted by their mean and divided by their deviation. That is folded into the weights
    (`folded`), so the stored features are read as they are and what comes out is a plain softmax layer on them. The
    kernels of all layers lie below each other, (penalties * k, d).
    """

    def __init__(self, data: _Examples, settings: HeadSettings) -> None:
        width, self.classes = data.features.shape[1], len(data.classes)
        self.rate, self.l2 = settings.learning_rate, np.repeat(np.float32(settings.l2), self.classes)[:, None]
        mean, scale = np.zeros(width, np.float32), np.ones(width, np.float32)
        if settings.standardise:
            mean, scale = _moments(data)
        self.inverse, self.shift = 1 / scale, mean / scale
        limit = np.sqrt(6 / (width + self.classes))  # Glorot's, as Keras's Dense draws them; the same for every penalty
        drawn = np.random.default_rng((settings.seed, 0)).uniform(-limit, limit, (self.classes, width))
        kernel = np.tile(drawn, (len(settings.l2), 1)).astype(np.float32)
        self.weights = [kernel, np.zeros(len(kernel), np.float32)]
        self.first, self.second = ([np.zeros_like(weight) for weight in self.weights] for _ in range(2))
        self.block = np.empty((max(1, BLOCK // width), width), np.float32)

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (penalties * k, d) and bias (penalties * k,) for features as they are stored."""
        kernel, bias = self.weights
        return kernel * self.inverse, bias - kernel @ self.shift

    def learn(self, data: _Examples, rows: np.ndarray, step: int) -> np.ndarray:
        """One step of Adam. Returns accuracy and cross-entropy (2, penalties) of its batch before the update."""
        folded, kernel, bias, measured = self.folded(), *(np.zeros_like(weight) for weight in self.weights), 0
        for first in range(0, len(rows), len(self.block)):
            part = rows[first : first + len(self.block)]
            # In any other mode than "clip" NumPy makes a second copy.
            x, y = np.take(data.features, part, axis=0, out=self.block[: len(part)], mode="clip"), data.codes[part]
            right, entropies, error = _measure(x, y, *folded, self.classes)
            error[np.arange(len(y)), :, y] -= 1
            error = error.reshape(len(y), -1) / np.float32(len(rows))
            kernel += error.T @ x
            bias += error.sum(axis=0)
            measured += np.stack([right.sum(axis=0), entropies.sum(axis=0)])
        kernel = kernel * self.inverse - np.outer(bias, self.shift) + 2 * self.l2 * self.weights[0]
        self._update(step, (kernel, bias))
        return measured / len(rows)

    def _update(self, step: int, slopes: tuple[np.ndarray, np.ndarray]) -> None:
        rate = np.float32(self.rate * np.sqrt(1 - BETA_2**step) / (1 - BETA_1**step))
        for weight, first, second, slope in zip(self.weights, self.first, self.second, slopes, strict=True):
            first += (slope - first) * np.float32(1 - BETA_1)
            second += (slope * slope - second) * np.float32(1 - BETA_2)
            weight -= rate * first / (np.sqrt(second) + np.float32(EPSILON))


# --- evaluating and choosing ---


class _Evaluation:
    """How the layers do on the held-out splits, and `best[split]`: of each penalty, its best step's rank and head."""

    def __init__(self, data: _Examples, settings: HeadSettings) -> None:
        self.l2, self.classes = settings.l2, data.classes
        self.held_out = {}
        for name in SPLITS[1:]:
            rows, random = data.rows[name], np.random.default_rng((settings.seed, 2))
            some = np.sort(random.choice(rows, min(len(rows), CURVE_IMAGES), replace=False))
            self.held_out[name] = data.features[some], data.codes[some]
        self.best = {name: [((np.inf, np.inf), None)] * len(self.l2) for name in self.held_out}
        self.steps, self.curves, self.waiting = [], [], []

    def add(self, step: int, learnt: np.ndarray, kernel: np.ndarray, bias: np.ndarray, last: bool) -> None:
        """Note a step's layers and what they did on their batch; evaluate when there are enough, or no more to come."""
        self.steps.append(step)
        self.waiting.append((step, learnt, kernel, bias))
        if len(self.waiting) < TOGETHER and not last:
            return
        steps, learnt, kernels, biases = zip(*self.waiting, strict=True)
        curves, self.waiting = [np.stack(learnt)], []
        for split, (x, y) in self.held_out.items():
            layers = np.concatenate(kernels), np.concatenate(biases)
            right, entropies, _ = _measure(x, y, *layers, len(self.classes))
            curve = np.stack([right.mean(axis=0, dtype=np.float32), entropies.mean(axis=0)])
            curves.append(curve.reshape(2, len(steps), -1).transpose(1, 0, 2))
            for one in zip(steps, curves[-1], kernels, biases, strict=True):
                self._keep(split, *one)
        self.curves.append(np.stack(curves, axis=1))

    def _keep(self, split: str, step: int, curve: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Keep the layers (penalties * k, d) that are better than the best before; `curve` is (2, penalties)."""
        kernels, biases = np.split(kernel, len(self.l2)), np.split(bias, len(self.l2))
        for place, l2 in enumerate(self.l2):
            rank = _rank(split, *curve[:, place].tolist())
            if rank < self.best[split][place][0]:
                head = Head(self.classes, kernels[place].T.copy(), biases[place].copy(), step, l2)
                self.best[split][place] = rank, head

    def history(self) -> pd.DataFrame:
        """One row per penalty, step and split."""
        index = pd.MultiIndex.from_product([self.l2, self.steps, SPLITS], names=["l2", "step", "split"])
        values = np.concatenate(self.curves).astype(np.float32).transpose(3, 0, 1, 2).reshape(-1, 2)
        frame = pd.DataFrame(values, index, ["accuracy", "cross_entropy"]).reset_index()
        return frame[["step", "split", "accuracy", "cross_entropy", "l2"]]


def _rank(split: str, accuracy: float, entropy: float) -> tuple[float, float]:
    """The lower, the better: validation goes by cross-entropy; test, as the paper, by accuracy first."""
    return (-accuracy if split == "test" else 0.0), entropy


def _choose(heads: Sequence[Head], data: _Examples, split: str) -> Head:
    """Of the penalties' best models, the best on every image of the split: see `HeadRun` for what best means."""
    rows = data.rows[split]

    def rank(head: Head) -> tuple[float, ...]:
        predicted, codes = head.predict(data.features[rows]), data.codes[rows]
        entropy = -np.log(np.maximum(predicted[np.arange(len(rows)), codes], 1e-30)).mean(dtype=np.float64)
        return *_rank(split, (predicted.argmax(axis=1) == codes).mean(), entropy), -head.l2

    return min(heads, key=rank)


# --- logistic regression ---


@dataclass(frozen=True)
class LinearFit:
    """One head per penalty, the largest penalty first, and the cross-entropy of each on the validation rows."""

    heads: tuple[Head, ...]
    entropies: tuple[float, ...]

    @property
    def best(self) -> Head:
        """The head with the lowest cross-entropy; of equal ones that of the largest penalty."""
        return self.heads[int(np.argmin(self.entropies))]


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

    rows = {name: np.flatnonzero(np.asarray(split) == name) for name in ("train", "validation")}
    codes, (train, validation) = _codes(labels, rows, tuple(classes)), rows.values()
    share = np.ones(len(features)) if weights is None else np.asarray(weights, float)
    scaler = StandardScaler().fit(features[train])
    scaled, heads, entropies = scaler.transform(features[train]), [], []
    model = LogisticRegression(max_iter=ITERATIONS, tol=TOLERANCE, warm_start=True)  # each from the one before
    for penalty in sorted(penalties, reverse=True):
        model.C = 1 / (2 * penalty * share[train].sum())  # of the sum of losses, beside half of the squared weights
        with warnings.catch_warnings(), threadpool_limits(1):
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
