"""The head: a softmax layer trained on frozen features, with the paper's recipe and an honest choice of model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.model.head_training import SPLITS, Best, Examples, HeadSettings, train
from helpers.run.provenance import write_atomically

CHECK_ROWS = 8192  # features checked for NaN at a time, so that the check needs no second copy of them


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
    settings: HeadSettings | None = None,
    log_dir: Path | None = None,
) -> HeadRun:
    """Train a softmax head on features, float32 (n, d), with the class name and the split of each row.

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
    steps, curves, best = train(data, settings)
    chosen = _choose(best["validation"], data, "validation", tuple(classes), settings)
    history = _history(steps, curves, settings)
    if log_dir is not None:
        write_events(history[history["l2"] == chosen.l2], Path(log_dir))
    return HeadRun(chosen, _choose(best["test"], data, "test", tuple(classes), settings), history)


def _choose(best: Best, data: Examples, split: str, classes: tuple[str, ...], settings: HeadSettings) -> Head:
    """Of the penalties' best models, the best on every image of the split: see `HeadRun` for what best means."""
    rows = data.rows[split]
    ranked = []
    for kernel, bias, step, l2 in zip(best.kernels, best.biases, best.steps, settings.l2, strict=True):
        head = Head(classes, np.ascontiguousarray(kernel.T), bias, int(step), l2)
        predicted = head.predict(data.features[rows])
        entropy = -np.log(np.maximum(predicted[np.arange(len(rows)), data.codes[rows]], 1e-30)).mean(dtype=np.float64)
        accuracy = (predicted.argmax(axis=1) == data.codes[rows]).mean() if split == "test" else 0.0
        ranked.append(((-accuracy, entropy, -l2), head))
    return min(ranked, key=lambda pair: pair[0])[1]


def _history(steps: np.ndarray, curves: np.ndarray, settings: HeadSettings) -> pd.DataFrame:
    """One row per penalty, step and split."""
    index = pd.MultiIndex.from_product([settings.l2, steps, SPLITS], names=["l2", "step", "split"])
    values = curves.transpose(2, 0, 1).reshape(-1, 2)
    frame = pd.DataFrame(values, index, ["accuracy", "cross_entropy"]).reset_index()
    return frame[["step", "split", "accuracy", "cross_entropy", "l2"]]


def _checked(features: np.ndarray, labels, split, classes: tuple[str, ...]) -> Examples:
    """The input as the training loop wants it, or a `ValueError` that says what is wrong with it."""
    features, labels, split = np.asarray(features, np.float32), np.asarray(labels), np.asarray(split).astype(str)
    if not len(features) == len(labels) == len(split):
        raise ValueError(f"features {features.shape}, {len(labels)} labels and {len(split)} splits do not match")
    for first in range(0, len(features), CHECK_ROWS):
        bad = ~np.isfinite(features[first : first + CHECK_ROWS]).all(axis=1)
        if bad.any():
            raise ValueError(f"the features of row {first + int(bad.argmax())} hold NaN or infinity")
    codes = pd.Index(classes).get_indexer(labels).astype(np.int32)
    if (codes < 0).any():
        strange = ", ".join(sorted({str(label) for label in labels[codes < 0]})[:3])
        raise ValueError(f"{int((codes < 0).sum())} labels are none of {', '.join(classes)}: {strange}")
    rows = {name: np.flatnonzero(split == name) for name in SPLITS}
    if empty := [name for name in SPLITS if not len(rows[name])]:
        raise ValueError(f"no {' and no '.join(empty)} images")
    present = set(codes[rows["train"]])
    if missing := [name for code, name in enumerate(classes) if code not in present]:
        raise ValueError(f"no training images of {', '.join(missing)}")
    return Examples(features, codes, rows, len(classes))


# --- TensorBoard ---


def write_events(history: pd.DataFrame, folder: Path) -> None:
    """Write one TensorBoard run a split, `folder`/train and so on, each with `accuracy` and `cross_entropy` by step.

    `history` has columns step, split, accuracy, cross_entropy. Event files that lie there from an earlier training are
    removed, since TensorBoard would draw both over each other.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    now = time.time()
    for split, rows in history.groupby("split", sort=False):
        run = folder / str(split)
        for old in run.glob("events.out.tfevents.*"):
            old.unlink()
        writer = EventFileWriter(str(run))
        for step, accuracy, entropy in rows[["step", "accuracy", "cross_entropy"]].itertuples(index=False):
            values = [
                Summary.Value(tag="accuracy", simple_value=accuracy),
                Summary.Value(tag="cross_entropy", simple_value=entropy),
            ]
            writer.add_event(Event(wall_time=now, step=step, summary=Summary(value=values)))
        writer.close()
