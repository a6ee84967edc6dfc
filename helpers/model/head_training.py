"""The loop that trains a head: one compiled graph of thousands of steps, with held-out evaluation inside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

    from helpers.model.head import HeadSettings

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
    Raises `ValueError` where the weights run off to infinity.
    """
    import tensorflow as tf

    graph = _Graph(data, settings)
    steps, curves, first = [], [], 0
    for order in _batches(data.rows["train"], settings):
        values = graph.run(tf.constant(order), tf.constant(first)).numpy()
        at = np.arange(first + 1, first + 1 + len(order))
        evaluated = (at % settings.evaluate_every == 0) | (at == settings.steps)
        steps.append(at[evaluated])
        curves.append(values[evaluated])
        first += len(order)
    kept = {name: graph.snapshot(name) for name in ("validation", "test", "last")}
    if not all(np.isfinite(part.kernels).all() and part.steps.all() for part in kept.values()):
        raise ValueError(
            f"the head diverged: a learning rate of {settings.learning_rate} is too high for these features"
        )
    return Trajectory(np.concatenate(steps), np.concatenate(curves), *kept.values())


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
    the stored bottlenecks are read as they are and what comes out is a plain softmax layer on them. Kernels lie as
    (penalties * k, d): their product with a batch and its gradient are then matrix products that CPUs are quick at.
    """

    def __init__(self, data: Bottleneck, settings: HeadSettings) -> None:
        import keras
        import tensorflow as tf

        self.settings = settings
        self.penalties, self.classes, self.width = len(settings.l2), data.classes, data.features.shape[1]
        self.x, self.y = tf.constant(data.features), tf.constant(data.codes)
        mean, scale = np.zeros(self.width, np.float32), np.ones(self.width, np.float32)
        if settings.standardise:
            mean, scale = moments(data.features, data.rows["train"])
        self.inverse, self.shift = tf.constant(1 / scale), tf.constant(mean / scale)
        self.kernel, self.bias = self._initial(settings.seed)
        self.optimizer = keras.optimizers.Adam(settings.learning_rate)
        self.optimizer.build([self.kernel, self.bias])
        self.held_out = {}
        for name in SPLITS[1:]:
            rows = _curve_rows(data.rows[name], settings.seed)
            self.held_out[name] = (tf.gather(self.x, rows), tf.gather(self.y, rows))
        self.best = {name: self._empty_best() for name in self.held_out}
        self._step = tf.autograph.experimental.do_not_convert(self._step)  # plain graph operations: faster to trace
        self._evaluate = tf.autograph.experimental.do_not_convert(self._evaluate)
        batch = tf.TensorSpec((None, min(settings.batch, len(data.rows["train"]))), tf.int32)
        self.run = tf.function(self._run).get_concrete_function(batch, tf.TensorSpec((), tf.int32))

    def _initial(self, seed: int) -> tuple[keras.Variable, keras.Variable]:
        """Glorot uniform weights, as Keras's Dense draws them, the same for every penalty; biases 0."""
        import keras

        limit = np.sqrt(6 / (self.width + self.classes))
        drawn = np.random.default_rng((seed, 0)).uniform(-limit, limit, (self.classes, self.width))
        kernel = keras.Variable(np.tile(drawn, (self.penalties, 1)), dtype="float32", name="kernel")
        return kernel, keras.Variable(np.zeros(kernel.shape[0]), dtype="float32", name="bias")

    def _empty_best(self) -> dict:
        import tensorflow as tf

        return {
            "accuracy": tf.Variable(tf.fill((self.penalties,), -1.0)),
            "cross_entropy": tf.Variable(tf.fill((self.penalties,), np.float32(np.inf))),
            "step": tf.Variable(tf.zeros((self.penalties,), tf.int64)),  # int32 variables have no home on a GPU
            "kernel": tf.Variable(tf.zeros(self.kernel.shape)),
            "bias": tf.Variable(tf.zeros(self.bias.shape)),
        }

    def _folded(self):
        """Kernel (penalties * k, d) and bias (penalties * k,) for features as they are stored."""
        import tensorflow as tf

        kernel = tf.convert_to_tensor(self.kernel)
        return kernel * self.inverse, tf.convert_to_tensor(self.bias) - tf.linalg.matvec(kernel, self.shift)

    def _losses(self, x, y, kernel, bias):
        """Accuracy and cross-entropy (penalties,) of images `x` (n, d) with class codes `y` (n,)."""
        import tensorflow as tf

        logits = tf.reshape(tf.matmul(x, kernel, transpose_b=True) + bias, (-1, self.penalties, self.classes))
        labels = tf.repeat(y[:, None], self.penalties, axis=1)
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        right = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), labels), tf.float32)
        return tf.reduce_mean(right, axis=0), tf.reduce_mean(entropy, axis=0)

    def _step(self, rows):
        """One step of Adam. Returns accuracy and cross-entropy (2, penalties) of its batch before the update."""
        import tensorflow as tf

        x, y = tf.gather(self.x, rows), tf.gather(self.y, rows)
        with tf.GradientTape() as tape:
            accuracy, entropy = self._losses(x, y, *self._folded())
            squares = tf.reduce_sum(tf.reshape(tf.square(tf.convert_to_tensor(self.kernel)), (self.penalties, -1)), 1)
            loss = tf.reduce_sum(entropy + tf.constant(self.settings.l2, tf.float32) * squares)
        gradients = tape.gradient(loss, [self.kernel.value, self.bias.value])
        self.optimizer.apply(gradients, [self.kernel, self.bias])
        return tf.stack([accuracy, entropy])

    def _evaluate(self, step):
        """Accuracy and cross-entropy of both held-out splits (4, penalties); keeps the weights that are best so far."""
        import tensorflow as tf

        kernel, bias = self._folded()
        found = []
        for name, (x, y) in self.held_out.items():
            now = dict(zip(("accuracy", "cross_entropy"), self._losses(x, y, kernel, bias), strict=True))
            found += now.values()
            self._keep(
                name,
                now | {"step": tf.fill((self.penalties,), tf.cast(step, tf.int64)), "kernel": kernel, "bias": bias},
            )
        return tf.stack(found)

    def _keep(self, name, now) -> None:
        """Validation keeps the lowest cross-entropy; test, as the paper, the highest accuracy, then cross-entropy."""
        import tensorflow as tf

        best = self.best[name]
        better = now["cross_entropy"] < best["cross_entropy"]
        if name == "test":
            more, same = now["accuracy"] > best["accuracy"], now["accuracy"] == best["accuracy"]
            better = more | (same & better)
        for key, value in now.items():
            mask = tf.repeat(better, self.classes) if key in ("kernel", "bias") else better
            best[key].assign(tf.where(mask[:, None] if key == "kernel" else mask, value, best[key]))

    def _run(self, order, first):
        """Steps `first` + 1 on: `order` (n, batch) rows. Returns (n, 6, penalties), 0 where not evaluated."""
        import tensorflow as tf

        count = tf.shape(order)[0]
        found = tf.TensorArray(tf.float32, size=count, element_shape=(6, self.penalties))
        for i in tf.range(count):
            batch = self._step(order[i])
            step = first + i + 1
            held_out = tf.zeros((4, self.penalties))
            if step % self.settings.evaluate_every == 0 or step == self.settings.steps:
                held_out = self._evaluate(step)
            found = found.write(i, tf.concat([batch, held_out], axis=0))
        return found.stack()

    def snapshot(self, which: str) -> Snapshot:
        """The best weights on a held-out split, or the last ones."""
        import tensorflow as tf

        if which == "last":
            (kernel, bias), step = self._folded(), tf.fill((self.penalties,), self.settings.steps)
        else:
            kernel, bias, step = (self.best[which][key] for key in ("kernel", "bias", "step"))
        kernels = kernel.numpy().reshape(self.penalties, self.classes, self.width).transpose(0, 2, 1)
        return Snapshot(np.ascontiguousarray(kernels), bias.numpy().reshape(self.penalties, -1), step.numpy())
