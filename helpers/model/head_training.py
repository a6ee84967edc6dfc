"""The loop that trains a head: softmax layers side by side on the same batches, evaluated as they learn.

In plain NumPy on one thread: a softmax layer's prediction and its gradient are a matrix product each, so narrow that
more threads wait for each other longer than they work, and that calling a framework costs more than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

SPLITS = ("train", "validation", "test")
CURVE_IMAGES = 2000  # most images a held-out split is evaluated on along the way; a larger split is sampled, once
MOMENT_ROWS = 8192  # rows at a time when means and deviations are taken, so that no copy of all features is made
BLOCK = 2**17  # features of a batch worked on at a time, which stay in a core's cache between two products
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
class Examples:
    """What a head learns from: float32 `features` (n, d), int32 `codes` (n,), and the rows of each split."""

    features: np.ndarray
    codes: np.ndarray
    rows: Mapping[str, np.ndarray]
    classes: int


@dataclass
class Best:
    """For each penalty, the best weights so far on one held-out split, for features as they are stored.

    `kernels` (penalties, k, d), `biases` (penalties, k); `steps`, `accuracy` and `cross_entropy` (penalties,).
    """

    kernels: np.ndarray
    biases: np.ndarray
    steps: np.ndarray
    accuracy: np.ndarray
    cross_entropy: np.ndarray


def train(data: Examples, settings: HeadSettings) -> tuple[np.ndarray, np.ndarray, dict[str, Best]]:
    """Train one softmax layer per penalty, all on the same batches and from the same initial weights.

    Returns the evaluated steps (e,), the curves (e, 6, penalties) with accuracy and cross-entropy of each of `SPLITS`
    in that order, and the best weights on validation and on test. Adam works on each weight by itself, so this equals
    training the layers one after the other. Two runs with one seed on one machine agree bit for bit. Raises
    `ValueError` where the weights run off to infinity.
    """
    layers = _Layers(data, settings)
    rows = {name: _curve_rows(data.rows[name], settings.seed) for name in SPLITS[1:]}
    held_out = {name: (data.features[at], data.codes[at]) for name, at in rows.items()}
    best = {name: layers.no_best() for name in held_out}
    steps, curves = [], []
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"):
        for step, drawn in zip(range(1, settings.steps + 1), _batches(data.rows["train"], settings), strict=False):
            curve = layers.learn(data, drawn, step)
            if step % settings.evaluate_every == 0 or step == settings.steps:
                kernel, bias = layers.folded()
                for name, (x, y) in held_out.items():
                    right, entropies, _ = layers.measure(x, y, kernel, bias)
                    accuracy, entropy = right.mean(axis=0, dtype=np.float32), entropies.mean(axis=0)
                    layers.keep(best[name], name, step, accuracy, entropy, kernel, bias)
                    curve += [accuracy, entropy]
                steps.append(step)
                curves.append(curve)
    if not all(np.isfinite(one.kernels).all() and one.steps.all() for one in best.values()):
        raise ValueError(
            f"the head diverged: a learning rate of {settings.learning_rate} is too high for these features"
        )
    return np.array(steps), np.array(curves, np.float32), best


def _batches(rows: np.ndarray, settings: HeadSettings) -> Iterator[np.ndarray]:
    """Yields rows of the features (batch,) without end: the training images in a new random order each epoch.

    Every batch is full: where an epoch ends inside one, the next epoch begins there. A training set smaller than the
    batch is used whole at every step.
    """
    random = np.random.default_rng((settings.seed, 1))
    size, left = min(settings.batch, len(rows)), rows[:0]
    while True:
        while len(left) < size:
            left = np.concatenate([left, random.permutation(rows)])
        yield left[:size]
        left = left[size:]


def _curve_rows(rows: np.ndarray, seed: int) -> np.ndarray:
    """The held-out images evaluated along the way: all, or a fixed random `CURVE_IMAGES` of them, in row order."""
    if len(rows) <= CURVE_IMAGES:
        return rows
    return np.sort(np.random.default_rng((seed, 2)).choice(rows, CURVE_IMAGES, replace=False))


def moments(features: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (d,), float32, of some rows; 1 for the deviation of a feature that never varies."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    for first in range(0, len(rows), MOMENT_ROWS):
        scaler.partial_fit(features[rows[first : first + MOMENT_ROWS]])
    return scaler.mean_.astype(np.float32), scaler.scale_.astype(np.float32)


class _Layers:
    """The layers' weights and Adam's state.

    A layer sees features shifted by `mean` and divided by `scale`. That is folded into the weights (`folded`), so the
    stored features are read as they are and what comes out is a plain softmax layer on them. The kernels of all layers
    lie below each other, (penalties * k, d).
    """

    def __init__(self, data: Examples, settings: HeadSettings) -> None:
        width = data.features.shape[1]
        self.shape = (len(settings.l2), data.classes)
        self.rate, self.l2 = settings.learning_rate, np.repeat(np.float32(settings.l2), data.classes)[:, None]
        mean, scale = np.zeros(width, np.float32), np.ones(width, np.float32)
        if settings.standardise:
            mean, scale = moments(data.features, data.rows["train"])
        self.inverse, self.shift = 1 / scale, mean / scale
        limit = np.sqrt(6 / (width + data.classes))  # Glorot's, as Keras's Dense draws them; the same for every penalty
        drawn = np.random.default_rng((settings.seed, 0)).uniform(-limit, limit, (data.classes, width))
        kernel = np.tile(drawn, (len(settings.l2), 1)).astype(np.float32)
        self.weights = [kernel, np.zeros(len(kernel), np.float32)]
        self.block = np.empty((max(1, BLOCK // width), width), np.float32)
        self.first = [np.zeros_like(weight) for weight in self.weights]
        self.second = [np.zeros_like(weight) for weight in self.weights]

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """Kernel (penalties * k, d) and bias (penalties * k,) for features as they are stored."""
        kernel, bias = self.weights
        return kernel * self.inverse, bias - kernel @ self.shift

    def measure(self, x: np.ndarray, y: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, ...]:
        """Whether each image is classified correctly and its cross-entropy (n, penalties), and probabilities (n,
        penalties, k), for images `x` (n, d) with class codes `y` (n,)."""
        logits = (x @ kernel.T + bias).reshape(-1, *self.shape)
        logits -= logits.max(axis=2, keepdims=True)
        exponents = np.exp(logits)
        total = exponents.sum(axis=2, keepdims=True)
        entropy = np.log(total[:, :, 0]) - logits[np.arange(len(y)), :, y]
        return logits.argmax(axis=2) == y[:, None], entropy, exponents / total

    def learn(self, data: Examples, rows: np.ndarray, step: int) -> list[np.ndarray]:
        """One step of Adam. Returns accuracy and cross-entropy (penalties,) of its batch before the update."""
        folded, count = self.folded(), np.float32(len(rows))
        accuracy, entropy = np.zeros(self.shape[0], np.float32), np.zeros(self.shape[0], np.float32)
        kernel, bias = (np.zeros_like(weight) for weight in self.weights)
        for first in range(0, len(rows), len(self.block)):
            part = rows[first : first + len(self.block)]
            # In any other mode than "clip" NumPy makes a second copy.
            x, y = np.take(data.features, part, axis=0, out=self.block[: len(part)], mode="clip"), data.codes[part]
            right, entropies, error = self.measure(x, y, *folded)
            error[np.arange(len(y)), :, y] -= 1
            error = error.reshape(len(y), -1) / count
            kernel += error.T @ x
            bias += error.sum(axis=0)
            accuracy += right.sum(axis=0) / count
            entropy += entropies.sum(axis=0) / count
        kernel = kernel * self.inverse - np.outer(bias, self.shift) + 2 * self.l2 * self.weights[0]
        rate = np.float32(self.rate * np.sqrt(1 - BETA_2**step) / (1 - BETA_1**step))
        for weight, first, second, slope in zip(self.weights, self.first, self.second, (kernel, bias), strict=True):
            first += (slope - first) * np.float32(1 - BETA_1)
            second += (slope * slope - second) * np.float32(1 - BETA_2)
            weight -= rate * first / (np.sqrt(second) + np.float32(EPSILON))
        return [accuracy, entropy]

    def no_best(self) -> Best:
        penalties, classes = self.shape
        kernels, biases = np.zeros((*self.shape, len(self.shift)), np.float32), np.zeros(self.shape, np.float32)
        return Best(kernels, biases, np.zeros(penalties, int), np.full(penalties, -1.0), np.full(penalties, np.inf))

    def keep(self, best: Best, split: str, step: int, accuracy, entropy, kernel, bias) -> None:
        """Validation keeps the lowest cross-entropy; test, as the paper, the highest accuracy, then cross-entropy."""
        better = entropy < best.cross_entropy
        if split == "test":
            better = (accuracy > best.accuracy) | ((accuracy == best.accuracy) & better)
        best.steps[better], best.accuracy[better], best.cross_entropy[better] = step, accuracy[better], entropy[better]
        best.kernels[better] = kernel.reshape(best.kernels.shape)[better]
        best.biases[better] = bias.reshape(best.biases.shape)[better]
