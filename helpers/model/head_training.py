"""The loop that trains a head: one compiled graph of thousands of steps, with held-out evaluation inside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from helpers.model.heads import HeadSettings

SPLITS = ("train", "validation", "test")
CURVE_IMAGES = 2000  # most images a held-out split is evaluated on along the way; a larger split is sampled, once
CHUNK = 500  # steps a call of the graph: bounds the batches drawn ahead, and lets an interrupt through
MOMENT_ROWS = 8192  # rows at a time when means and deviations are taken, so that no copy of all features is made


@dataclass(frozen=True)
class Bottleneck:
    """What a head learns from: float32 `features` (n, d), int32 `codes` (n,), and the rows of each split."""

    features: np.ndarray
    codes: np.ndarray
    rows: Mapping[str, np.ndarray]
    classes: int


@dataclass(frozen=True)
class Snapshot:
    """One set of weights a penalty, on unscaled features: `kernels` (penalties, d, k), `biases` (penalties, k)."""

    kernels: np.ndarray
    biases: np.ndarray
    steps: np.ndarray


@dataclass(frozen=True)
class Trajectory:
    """`steps` (e,) evaluated; `curves` (e, 6, penalties): accuracy and cross-entropy of each split, in that order."""

    steps: np.ndarray
    curves: np.ndarray
    by_validation: Snapshot
    by_test: Snapshot
    last: Snapshot


def train(data: Bottleneck, settings: HeadSettings) -> Trajectory:
    """Train one softmax layer a penalty, all side by side on the same batches, from the same initial weights.

    Adam works on each weight by itself, so this equals training them one after the other, and costs hardly more than
    one: reading the bottlenecks is what takes the time. Two runs with one seed on one machine agree bit for bit.
    """
    import tensorflow as tf

    graph = _Graph(data, settings)
    steps, curves, first = [], [], 0
    for order in _batches(data.rows["train"], settings):
        values = graph.run(tf.constant(order), tf.constant(first)).numpy()
        at = np.arange(first + 1, first + 1 + len(order))
        kept = (at % settings.evaluate_every == 0) | (at == settings.steps)
        steps.append(at[kept])
        curves.append(values[kept])
        first += len(order)
    return Trajectory(
        np.concatenate(steps),
        np.concatenate(curves),
        graph.snapshot("validation"),
        graph.snapshot("test"),
        graph.snapshot("last"),
    )


def _batches(rows: np.ndarray, settings: HeadSettings) -> Iterator[np.ndarray]:
    """Yields int32 (steps, batch): rows of the features, the training images in a new random order each epoch.

    Every batch is full: where an epoch ends inside one, the next epoch begins there. A training set smaller than the
    batch is used whole at every step.
    """
    random = np.random.default_rng((settings.seed, 1))
    size = min(settings.batch, len(rows))
    left = np.empty(0, np.int32)
    for first in range(0, settings.steps, CHUNK):
        count = min(CHUNK, settings.steps - first) * size
        epochs = [left]
        while sum(map(len, epochs)) < count:
            epochs.append(random.permutation(rows).astype(np.int32))
        drawn = np.concatenate(epochs)
        left = drawn[count:]
        yield drawn[:count].reshape(-1, size)


def _curve_rows(rows: np.ndarray, seed: int) -> np.ndarray:
    """The held-out images evaluated along the way: all, or a fixed random `CURVE_IMAGES` of them, in row order."""
    if len(rows) <= CURVE_IMAGES:
        return rows
    return np.sort(np.random.default_rng((seed, 2)).choice(rows, CURVE_IMAGES, replace=False))


def moments(features: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (d,), float32, of some rows; 1 for the deviation of a feature that never varies."""
    total = np.zeros(features.shape[1])
    parts = [rows[i : i + MOMENT_ROWS] for i in range(0, len(rows), MOMENT_ROWS)]
    for part in parts:
        total += features[part].sum(axis=0, dtype=np.float64)
    mean = total / len(rows)
    square = np.zeros_like(total)
    for part in parts:
        square += ((features[part] - mean) ** 2).sum(axis=0)
    scale = np.sqrt(square / len(rows))
    scale[scale <= 1e-6 * np.abs(mean) + 1e-12] = 1.0
    return mean.astype(np.float32), scale.astype(np.float32)


class _Graph:
    """Weights, Adam's state, the best weights so far, and the compiled loop over them.

    The layer sees features shifted by `mean` and divided by `scale`. That is folded into the weights (`_folded`), so
    the stored bottlenecks are read as they are and what comes out is a plain softmax layer on them.
    """

    def __init__(self, data: Bottleneck, settings: HeadSettings) -> None:
        import keras
        import tensorflow as tf

        self.settings = settings
        self.every, self.steps = settings.evaluate_every, settings.steps
        self.shape = (data.features.shape[1], len(settings.l2), data.classes)
        self.x, self.y = tf.constant(data.features), tf.constant(data.codes)
        self.penalty = tf.constant(settings.l2, tf.float32)
        self._scale(data)
        self._initialise(data.classes)
        self.optimizer = keras.optimizers.Adam(settings.learning_rate)
        self.optimizer.build([self.kernel, self.bias])
        self.held_out = {}
        for name in SPLITS[1:]:
            rows = _curve_rows(data.rows[name], settings.seed)
            self.held_out[name] = (tf.gather(self.x, rows), tf.gather(self.y, rows))
        self.best = {name: self._empty_best() for name in SPLITS[1:]}
        self.run = tf.function(self._run, reduce_retracing=True)
        self._step = tf.autograph.experimental.do_not_convert(self._step)

    def _scale(self, data: Bottleneck) -> None:
        import tensorflow as tf

        mean, scale = np.zeros(self.shape[0], np.float32), np.ones(self.shape[0], np.float32)
        if self.settings.standardise:
            mean, scale = moments(data.features, data.rows["train"])
        self.inverse = tf.constant(1 / scale)[:, None, None]
        self.shift = tf.constant(mean / scale)[None]

    def _initialise(self, classes: int) -> None:
        """Glorot uniform weights, as Keras's Dense draws them; the same for every penalty. Biases 0."""
        import keras

        width, penalties, _ = self.shape
        limit = np.sqrt(6 / (width + classes))
        drawn = np.random.default_rng((self.settings.seed, 0)).uniform(-limit, limit, (width, 1, classes))
        self.kernel = keras.Variable(np.repeat(drawn, penalties, axis=1), dtype="float32", name="kernel")
        self.bias = keras.Variable(np.zeros((penalties, classes)), dtype="float32", name="bias")

    def _empty_best(self) -> dict:
        import tensorflow as tf

        width, penalties, classes = self.shape
        return {
            "accuracy": tf.Variable(tf.fill((penalties,), -1.0)),
            "cross_entropy": tf.Variable(tf.fill((penalties,), np.float32(np.inf))),
            "step": tf.Variable(tf.zeros((penalties,), tf.int32)),
            "kernel": tf.Variable(tf.zeros(self.shape)),
            "bias": tf.Variable(tf.zeros((penalties, classes))),
        }

    def _folded(self):
        """Kernel (d, penalties, k) and bias (penalties, k) for features as they are stored."""
        import tensorflow as tf

        kernel = tf.convert_to_tensor(self.kernel)
        shift = tf.reshape(self.shift @ tf.reshape(kernel, (self.shape[0], -1)), self.shape[1:])
        return kernel * self.inverse, tf.convert_to_tensor(self.bias) - shift

    def _losses(self, x, y, kernel, bias):
        """Accuracy and cross-entropy (penalties,) of images `x` (n, d) with class codes `y` (n,)."""
        import tensorflow as tf

        width, penalties, classes = self.shape
        logits = tf.reshape(x @ tf.reshape(kernel, (width, -1)), (-1, penalties, classes)) + bias
        labels = tf.repeat(y[:, None], penalties, axis=1)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        right = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), labels), tf.float32)
        return tf.reduce_mean(right, axis=0), tf.reduce_mean(entropy, axis=0)

    def _step(self, rows):
        """One step of Adam. Returns accuracy and cross-entropy of its batch before the update."""
        import tensorflow as tf

        x, y = tf.gather(self.x, rows), tf.gather(self.y, rows)
        with tf.GradientTape() as tape:
            accuracy, entropy = self._losses(x, y, *self._folded())
            weights = tf.reduce_sum(tf.square(tf.convert_to_tensor(self.kernel)), axis=(0, 2))
            loss = tf.reduce_sum(entropy + self.penalty * weights)
        variables = [self.kernel.value, self.bias.value]
        self.optimizer.apply(tape.gradient(loss, variables), [self.kernel, self.bias])
        return tf.stack([accuracy, entropy])

    def _evaluate(self, step):
        """Accuracy and cross-entropy of both held-out splits (4, penalties); keeps the weights that are best so far."""
        import tensorflow as tf

        kernel, bias = self._folded()
        found = []
        for name, (x, y) in self.held_out.items():
            accuracy, entropy = self._losses(x, y, kernel, bias)
            self._keep(self.best[name], name, step, accuracy, entropy, kernel, bias)
            found += [accuracy, entropy]
        return tf.stack(found)

    def _keep(self, best, name, step, accuracy, entropy, kernel, bias) -> None:
        """Validation keeps the lowest cross-entropy; test, as the paper, the highest accuracy, then cross-entropy."""
        import tensorflow as tf

        better = entropy < best["cross_entropy"]
        if name == "test":
            better = (accuracy > best["accuracy"]) | (better & (accuracy == best["accuracy"]))
        now = {"accuracy": accuracy, "cross_entropy": entropy, "kernel": kernel, "bias": bias}
        now["step"] = tf.fill(tf.shape(best["step"]), step)
        for key, value in now.items():
            mask = better[:, None] if key in ("kernel", "bias") else better
            best[key].assign(tf.where(mask, value, best[key]))

    def _run(self, order, first):
        """Steps `first` + 1 on: `order` (n, batch) rows. Returns (n, 6, penalties), 0 where not evaluated."""
        import tensorflow as tf

        count = tf.shape(order)[0]
        found = tf.TensorArray(tf.float32, size=count, element_shape=(6, self.shape[1]))
        for i in tf.range(count):
            batch = self._step(order[i])
            step = first + i + 1
            held_out = tf.zeros((4, self.shape[1]))
            if step % self.every == 0 or step == self.steps:
                held_out = self._evaluate(step)
            found = found.write(i, tf.concat([batch, held_out], axis=0))
        return found.stack()

    def snapshot(self, which: str) -> Snapshot:
        """The best weights on a held-out split, or the last ones."""
        import tensorflow as tf

        if which == "last":
            (kernel, bias), step = self._folded(), tf.fill((self.shape[1],), self.steps)
        else:
            kernel, bias, step = (self.best[which][key] for key in ("kernel", "bias", "step"))
        return Snapshot(np.moveaxis(kernel.numpy(), 1, 0), bias.numpy(), step.numpy())
