"""The parts of Keras's `fit` that are ours: batches of images, and a callback from which a killed training goes on.

Imports Keras at the top, so it is to be imported where a network is trained.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from helpers.run.provenance import write_atomically

log = logging.getLogger(__name__)
HELD_OUT_BATCH = 64


@keras.saving.register_keras_serializable("helpers")
class FixedNormalization(keras.layers.BatchNormalization):
    """Batch normalisation by the stored means and variances, in training as well; its scale and shift may learn.

    Calling Keras's own layer with training=False does not last: a model that trains calls its layers anew. Setting
    its `trainable` to False would freeze scale and shift too.
    """

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


class Batches(keras.utils.PyDataset):
    """Images, or features, with their targets, (b, classes), of an epoch of training; of held-out rows without a seed.

    An epoch's order follows from (seed, epoch) alone, so a training that was killed sees the same batches again.
    """

    def __init__(
        self,
        source: Callable[[int, np.ndarray], np.ndarray],
        rows: np.ndarray,
        labels: np.ndarray,
        classes: int,
        batch: int = HELD_OUT_BATCH,
        seed: int | None = None,
        images_per_epoch: int = 0,
    ) -> None:
        super().__init__()
        self.source, self.rows, self.labels, self.classes = source, rows, labels, classes
        self.batch, self.seed, self.count = batch, seed, min(len(rows), images_per_epoch or len(rows))
        self.epoch, self.order = 0, rows

    def begin(self, epoch: int) -> None:
        """Turn to the batches of an epoch, from 1."""
        self.epoch = epoch
        self.order = np.random.default_rng((self.seed, epoch, 3)).permutation(self.rows)[: self.count]

    def __len__(self) -> int:
        return -(-self.count // self.batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.order[index * self.batch : (index + 1) * self.batch]
        values = np.asarray(self.source(self.epoch, rows), np.float32)
        images = values[..., None] if values.ndim == 3 else values
        targets = self.labels[rows]
        if targets.ndim == 1:  # codes: all at once would fill the memory where there are many classes
            targets = np.eye(self.classes)[targets]
        return images, targets.astype(np.float32)


class Progress(keras.callbacks.Callback):
    """Notes each epoch, keeps the weights of the best one, stops when it must, and leaves a checkpoint of all of it.

    `history` has a row per epoch and split, `best` the weights of `best_epoch`. What is restored is every variable that
    the next step depends on: weights, the state of dropout, and the optimiser's own.
    """

    def __init__(self, batches: Batches, validation: Batches, keep: str, patience: int, file: Path) -> None:
        super().__init__()
        self.batches, self.validation, self.keep, self.patience, self.file = batches, validation, keep, patience, file
        self.epoch, self.best_epoch, self.best_loss = 0, 0, np.inf
        self.history: list[dict[str, Any]] = []
        self.best: list[np.ndarray] = []

    @property
    def losses(self) -> list[float]:
        """The validation cross-entropy of each epoch, from epoch 0."""
        return [row["cross_entropy"] for row in self.history if row["split"] == "validation"]

    @property
    def finished(self) -> bool:
        return bool(self.patience) and self.epoch - self.best_epoch >= self.patience

    def begin(self, model: keras.Model) -> None:
        """Stand where a killed training's checkpoint stands; without one, look at the network before it learns."""
        self.set_model(model)
        if not self._restore():
            self._note("validation", model.evaluate(self.validation, verbose=0, return_dict=True))

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self.batches.begin(epoch + 1)

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        self.epoch = epoch + 1
        self._note("train", logs)
        self._note("validation", {name.removeprefix("val_"): v for name, v in logs.items() if name.startswith("val_")})
        self._save()
        self.model.stop_training = self.finished

    def _note(self, split: str, logs: dict[str, float]) -> None:
        loss, rate = float(logs["cross_entropy"]), float(self.model.optimizer.learning_rate)
        if not np.isfinite(loss):
            raise ValueError(f"training diverged in epoch {self.epoch}: a learning rate of {rate:.2g} is too high")
        row = {"epoch": self.epoch, "step": self.epoch * len(self.batches), "split": split}
        self.history.append(row | {"accuracy": float(logs["accuracy"]), "cross_entropy": loss, "learning_rate": rate})
        log.info("epoch %d, %s: accuracy %.4f, cross-entropy %.4f", self.epoch, split, logs["accuracy"], loss)
        chosen = loss < self.best_loss and (self.epoch or self.keep != "best trained")
        if split == "validation" and (chosen or self.keep == "last"):
            self.best_epoch, self.best_loss, self.best = self.epoch, loss, self.model.get_weights()

    def _state(self) -> list:
        model, found = self.model, {}
        metrics = {id(variable) for variable in model.metrics_variables}
        for variable in [*model.variables, *model.optimizer.variables]:
            if id(variable) not in metrics:
                found[id(variable)] = variable
        return list(found.values())

    def _save(self) -> None:
        arrays = {f"state-{i:05d}": keras.ops.convert_to_numpy(v.value) for i, v in enumerate(self._state())}
        arrays |= {f"weights-{i:05d}": value for i, value in enumerate(self.best)}
        words = {name: getattr(self, name) for name in ("epoch", "best_epoch", "best_loss", "history")}
        words = np.frombuffer(json.dumps(words).encode(), np.uint8)
        write_atomically(self.file, lambda file: np.savez(file, progress=words, **arrays))

    def _restore(self) -> bool:
        if not self.file.is_file():
            return False
        try:
            with np.load(self.file, allow_pickle=False) as parts:
                arrays = {name: parts[name] for name in sorted(parts.files)}
            words = json.loads(arrays["progress"].tobytes())
        except Exception as error:  # zipfile, numpy, json and KeyError each have their own
            raise ValueError(f"{self.file} is damaged ({error}); delete it and run again") from error
        vars(self).update(words)
        self.best = [value for name, value in arrays.items() if name.startswith("weights-")]
        state = [value for name, value in arrays.items() if name.startswith("state-")]
        for variable, value in zip(self._state(), state, strict=True):
            variable.assign(value)
        log.info("going on after epoch %d", self.epoch)
        return True


def fit(model: keras.Model, progress: Progress, epochs: int, rate: Callable[[int, list[float]], float] | None) -> None:
    """Train to the end with Keras's `fit`, from wherever the checkpoint stands; `rate` gives an epoch's learning rate.

    Beside the checkpoint lie TensorBoard's files, to be watched while it trains.
    """
    progress.begin(model)
    if progress.finished:
        return
    callbacks: list[keras.callbacks.Callback] = [progress]
    if rate is not None:
        callbacks.append(keras.callbacks.LearningRateScheduler(lambda epoch, _: rate(epoch + 1, progress.losses)))
    if keras.config.backend() == "tensorflow":  # elsewhere Keras's callback would need TensorFlow beside the backend
        callbacks.append(keras.callbacks.TensorBoard(progress.file.parent / "tensorboard", write_graph=False))
    model.fit(
        progress.batches,
        validation_data=progress.validation,
        epochs=epochs,
        initial_epoch=progress.epoch,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )
