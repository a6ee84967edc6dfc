"""The head: a softmax layer trained on frozen bottlenecks, with the paper's recipe and an honest choice of model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.model.events import smooth, write_events
from helpers.model.head_training import SPLITS, Bottleneck, Snapshot, Trajectory, train
from helpers.run.provenance import write_atomically

if TYPE_CHECKING:
    import keras

__all__ = ["Head", "HeadRun", "HeadSettings", "smooth", "train_head"]

CHECK_ROWS = 8192  # features checked for NaN at a time, so that the check needs no second copy of them


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

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed = {self.seed}; it must be 0 or more")
        if not 0 < self.learning_rate < np.inf:
            raise ValueError(f"learning_rate = {self.learning_rate}; it must be a positive number")
        if not self.l2 or not all(0 <= value < np.inf for value in self.l2) or len(set(self.l2)) < len(self.l2):
            raise ValueError(f"l2 = {self.l2}; it takes one or more different penalties of 0 or more")


@dataclass(frozen=True)
class Head:
    """A softmax layer: float32 `kernel` (d, k) and `bias` (k,), the step it is from and the penalty it had."""

    classes: tuple[str, ...]
    kernel: np.ndarray
    bias: np.ndarray
    step: int
    l2: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (n, k) in the order of `classes`, of bottlenecks (n, d)."""
        if features.ndim != 2 or features.shape[1] != len(self.kernel):
            raise ValueError(f"features of shape {features.shape} for a head on {len(self.kernel)} features")
        logits = np.asarray(features, np.float32) @ self.kernel + self.bias
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)

    def save(self, path: Path) -> None:
        """Write a .npz of plain arrays, whole or not at all."""
        parts = {name: np.asarray(getattr(self, name)) for name in ("classes", "kernel", "bias", "step", "l2")}
        write_atomically(Path(path), lambda file: np.savez(file, **parts))

    @classmethod
    def load(cls, path: Path) -> Head:
        """What `save` wrote. Raises `ValueError` for any other file."""
        try:
            with np.load(path, allow_pickle=False) as parts:
                classes = tuple(str(name) for name in parts["classes"])
                return cls(classes, parts["kernel"], parts["bias"], int(parts["step"]), float(parts["l2"]))
        except FileNotFoundError:
            raise
        except Exception as error:  # zipfile, numpy and KeyError each have their own
            raise ValueError(f"{path} does not hold a head ({error})") from error

    def to_keras(self) -> keras.Model:
        """The same layer as a Keras model, float32 (n, d) to (n, k), to be put after a backbone."""
        import keras

        model = keras.Sequential(
            [
                keras.Input((len(self.kernel),)),
                keras.layers.Dense(len(self.classes), activation="softmax", dtype="float32", name="head"),
            ]
        )
        model.get_layer("head").set_weights([self.kernel, self.bias])
        return model


@dataclass(frozen=True)
class HeadRun:
    """What one training leaves.

    `by_validation` is the model to use: the step with the lowest cross-entropy on validation patients. Accuracy would
    be coarser (hundreds of steps tie on a few hundred images) and blind to how sure the probabilities are, which the
    ROC curves rest on. `by_test` is what the paper did, "the best performing model was kept" on the test set: highest
    test accuracy, then lowest cross-entropy. `last` is the final step. `history` has columns step, split, accuracy,
    cross_entropy, l2, for every penalty.
    """

    by_validation: Head
    by_test: Head
    last: Head
    history: pd.DataFrame


def train_head(
    features: np.ndarray,
    labels: Sequence[str] | Sequence[int] | np.ndarray | pd.Series,
    split: Sequence[str] | np.ndarray | pd.Series,
    classes: Sequence[str],
    settings: HeadSettings | None = None,
    log_dir: Path | None = None,
) -> HeadRun:
    """Train a softmax head on bottlenecks, float32 (n, d); `labels` are class names or codes, `split` names each row's.

    Kermany 2018, Transfer Learning Methods: the bottlenecks of frozen layers are "calculated and stored", and the new
    final layer "takes the image bottlenecks as input and retrains to classify our specific categories". At each
    evaluated step the history says how the step's training batch (before its update), validation and test did (after
    it); a held-out split of more than 2,000 images is sampled for that, the same 2,000 throughout.

    Of several penalties, all are trained, and the whole of validation decides by cross-entropy; of equally good ones
    the largest is taken. With `log_dir`, TensorBoard event files of the chosen penalty are written there. Raises
    `ValueError` for features or labels that cannot be learnt from.
    """
    settings = settings or HeadSettings()
    data = _checked(features, labels, split, tuple(classes))
    trajectory = train(data, settings)
    chosen = _choose(trajectory.by_validation, data, "validation", tuple(classes), settings)
    history = _history(trajectory, settings)
    if log_dir is not None:
        write_events(history[history["l2"] == chosen.l2], Path(log_dir))
    return HeadRun(
        chosen,
        _choose(trajectory.by_test, data, "test", tuple(classes), settings),
        _heads(trajectory.last, tuple(classes), settings)[settings.l2.index(chosen.l2)],
        history,
    )


def _heads(snapshot: Snapshot, classes: tuple[str, ...], settings: HeadSettings) -> list[Head]:
    return [
        Head(classes, kernel, bias, int(step), l2)
        for kernel, bias, step, l2 in zip(snapshot.kernels, snapshot.biases, snapshot.steps, settings.l2, strict=True)
    ]


def _choose(snapshot: Snapshot, data: Bottleneck, split: str, classes: tuple[str, ...], settings: HeadSettings) -> Head:
    """Of the penalties' best models, the best on every image of the split: see `HeadRun` for what best means."""
    rows = data.rows[split]
    ranked = []
    for head in _heads(snapshot, classes, settings):
        given = head.predict(data.features[rows])
        entropy = -np.log(np.maximum(given[np.arange(len(rows)), data.codes[rows]], 1e-30)).mean(dtype=np.float64)
        accuracy = (given.argmax(axis=1) == data.codes[rows]).mean() if split == "test" else 0.0
        ranked.append(((-accuracy, entropy, -head.l2), head))
    return min(ranked, key=lambda pair: pair[0])[1]


def _history(trajectory: Trajectory, settings: HeadSettings) -> pd.DataFrame:
    """One row a penalty, step and split."""
    curves = trajectory.curves.transpose(2, 0, 1).reshape(-1, 2)
    count = len(trajectory.steps)
    return pd.DataFrame(
        {
            "step": np.tile(np.repeat(trajectory.steps, len(SPLITS)), len(settings.l2)),
            "split": np.tile(SPLITS, count * len(settings.l2)),
            "accuracy": curves[:, 0],
            "cross_entropy": curves[:, 1],
            "l2": np.repeat(settings.l2, count * len(SPLITS)),
        }
    )


def _checked(features: np.ndarray, labels, split, classes: tuple[str, ...]) -> Bottleneck:
    """The input as the training loop wants it, or a `ValueError` that says what is wrong with it."""
    features, labels, split = np.asarray(features), np.asarray(labels), np.asarray(split).astype(str)
    if features.ndim != 2 or len(features) != len(labels) or len(labels) != len(split):
        raise ValueError(f"features {features.shape}, {len(labels)} labels and {len(split)} splits do not match")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes are {classes}; a head needs two or more, each once")
    if unknown := sorted(set(split) - set(SPLITS)):
        raise ValueError(f"unknown split {', '.join(unknown)}; known: {', '.join(SPLITS)}")
    features = features.astype(np.float32, copy=False)
    for first in range(0, len(features), CHECK_ROWS):
        bad = ~np.isfinite(features[first : first + CHECK_ROWS]).all(axis=1)
        if bad.any():
            raise ValueError(f"the features of row {first + int(bad.argmax())} hold NaN or infinity")
    codes = _codes(labels, classes)
    rows = {name: np.flatnonzero(split == name) for name in SPLITS}
    if empty := [name for name in SPLITS if not len(rows[name])]:
        raise ValueError(f"no {' and no '.join(empty)} images")
    present = set(codes[rows["train"]])
    if missing := [name for code, name in enumerate(classes) if code not in present]:
        raise ValueError(f"no training images of {', '.join(missing)}")
    return Bottleneck(features, codes, rows, len(classes))


def _codes(labels: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
    """int32 (n,) positions in `classes`."""
    if np.issubdtype(labels.dtype, np.integer):
        known = (labels >= 0) & (labels < len(classes))
        codes = labels.astype(np.int32)
    else:
        order = {name: code for code, name in enumerate(classes)}
        codes = np.array([order.get(str(label), -1) for label in labels], np.int32)
        known = codes >= 0
    if not known.all():
        strange = ", ".join(sorted({str(label) for label in labels[~known]})[:3])
        raise ValueError(f"{int((~known).sum())} labels are none of {', '.join(classes)}: {strange}")
    return codes
