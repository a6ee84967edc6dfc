"""Fine-tuning for several labels an image: a sigmoid a label, binary cross-entropy, a learning rate that drops when it
must.

Zech 2018 shows the head of the function that did it: "Fine tunes torchvision model to NIH CXR data", "loss criterion
(binary cross entropy loss, BCELoss)", "optimizer to use in training (SGD)", "weight decay parameter we use in SGD with
momentum", and it returns the "epoch on which best model val loss was obtained". The rest is from the repository it
belongs to (jrzech/reproduce-chexnet, retrain.py and model.py): the numbers in `Schedule`, images mirrored at random,
a learning rate divided by ten after each epoch whose tuning loss is above the lowest yet, and an end after three
epochs without a lower one. Unlike there, the last layer starts from one that was learnt on the frozen features
(`multilabel_head`), and batch normalisation keeps the statistics of the pre-training: with the few images that a
machine without a GPU can learn from, either makes the difference between a network that learns and one that does not.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from filelock import FileLock

from helpers.model.checkpoints import CheckpointStore, flat, unflat
from helpers.model.finetune import FinetuneSettings
from helpers.model.finetune_loop import EVALUATED, Images, epoch_batches, predict_logits, prefetched
from helpers.model.finetune_network import Scaling, assemble, put_state, set_trainable, state_values
from helpers.model.finetune_precision import training_precision
from helpers.model.linear import MultilabelHead
from helpers.model.multilabel_head import cross_entropy
from helpers.model.multilabel_run import MultilabelRun
from helpers.run.provenance import digest_of

if TYPE_CHECKING:
    import keras

    from helpers.model.backbones import Backbone

log = logging.getLogger(__name__)

VERSION = 1  # to be raised when the same settings and data would give other weights
HISTORY = ("epoch", "step", "split", "cross_entropy", "learning_rate")


@dataclass(frozen=True)
class Schedule:
    """How a multi-label network is fine-tuned. The defaults are the repository's, by stochastic gradient descent."""

    epochs: int = 100  # at most
    batch: int = 16
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0001
    drop_factor: float = 0.1  # after an epoch whose validation loss is above the lowest yet
    patience: int = 3  # epochs without a lower validation loss, after which training stops
    layers: int = 0  # last layers that learn; 0: all
    images_per_epoch: int = 0  # 0: every training image
    clip_norm: float = 0.0  # longest gradient; 0, as there: no limit
    seed: int = 1

    def settings(self) -> FinetuneSettings:
        """What `finetune_network` builds the network to train from; checked there."""
        return FinetuneSettings(
            trainable=self.layers or "all", epochs=self.epochs, batch=self.batch, learning_rate=self.learning_rate,
            momentum=self.momentum, weight_decay=self.weight_decay, clip_norm=self.clip_norm,
            images_per_epoch=self.images_per_epoch, patience=self.patience, seed=self.seed,
        )  # fmt: skip


@dataclass
class _Progress:
    """How far a training is, as JSON holds it; the weights lie beside."""

    epoch: int = 0
    step: int = 0
    rate: float = 0.0
    best_epoch: int = 0
    best_loss: float = np.inf
    history: list[dict[str, Any]] = field(default_factory=list)


class _Source:
    """Images and what they follow from; see `finetune.ImageSource`."""

    key: str
    batch: Images


def finetune_multilabel(
    backbone: Backbone,
    train_images: _Source,
    held_out_images: _Source,
    truth: np.ndarray,
    split: Sequence[str] | np.ndarray,
    head: MultilabelHead,
    schedule: Schedule,
    scaling: Scaling | None = None,
    checkpoints: Path | None = None,
) -> MultilabelRun:
    """Train `backbone` and `head` on the rows that `split` calls train; validation rows choose the epoch.

    `truth` is bool (n, labels). The sources are asked for images by row number, the held-out one for validation. Epoch
    0 is the head on the frozen features, and may be the best. `scaling`: see `finetune_network.Scaling`. With
    `checkpoints`, a folder, a killed training goes on after its last whole epoch. Raises `ValueError` for input that
    cannot be learnt from and for weights that run off.
    """
    names = np.asarray(split).astype(str)
    rows = {name: np.flatnonzero(names == name) for name in ("train", "validation")}
    if truth.shape != (len(names), len(head.classes)) or not len(rows["train"]) or not len(rows["validation"]):
        raise ValueError(f"truth {truth.shape}, {len(names)} splits, {len(head.classes)} labels: they do not match")
    settings, precision = schedule.settings(), training_precision("auto")
    logits, _ = assemble(backbone, len(head.classes), settings, precision, scaling)
    weights = [head.kernel, head.bias]
    logits.get_layer("logits").set_weights(scaling.unfold(*weights) if scaling else weights)
    set_trainable(logits, settings.trainable)
    _compile(logits, schedule, precision)
    key = digest_of([VERSION, asdict(schedule), precision, head.classes, backbone.name, backbone.weights_digest,
                     backbone.image_size, train_images.key, held_out_images.key, names.tolist(), truth.tolist(),
                     head.kernel.tolist(), scaling is not None])  # fmt: skip
    trainer = _Trainer(logits, schedule, settings, truth.astype(np.float32), rows, backbone.image_size)
    trainer.sources = {"train": train_images.batch, "validation": held_out_images.batch}
    trainer.store = CheckpointStore(checkpoints, key)
    if checkpoints is None:
        trainer.run()
    else:
        Path(checkpoints).mkdir(parents=True, exist_ok=True)
        with FileLock(Path(checkpoints) / ".multilabel.lock"):
            trainer.run()
    best = scaling.fold(trainer.best) if scaling else trainer.best
    history = pd.DataFrame(trainer.progress.history, columns=list(HISTORY))
    return MultilabelRun(backbone, head.classes, best, trainer.progress.best_epoch, history, asdict(schedule), key)


def _compile(logits: keras.Model, schedule: Schedule, precision: str) -> None:
    import keras

    optimizer = keras.optimizers.SGD(
        schedule.learning_rate, schedule.momentum, global_clipnorm=schedule.clip_norm or None
    )
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    entropy = keras.metrics.BinaryCrossentropy(from_logits=True, name="cross_entropy")
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    logits.compile(optimizer, loss, metrics=[entropy], auto_scale_loss=False, jit_compile=False)
    optimizer.build(logits.trainable_variables)


class _Trainer:
    """One training. `run` takes it from wherever its checkpoint stands to its end; `best` are the weights to use."""

    sources: dict[str, Images]
    store: CheckpointStore

    def __init__(self, logits, schedule: Schedule, settings: FinetuneSettings, truth, rows, size: int) -> None:
        self.logits, self.schedule, self.settings = logits, schedule, settings
        self.truth, self.rows, self.size = truth, rows, size
        self.progress = _Progress(rate=schedule.learning_rate)
        self.best: list[np.ndarray] = []

    def run(self) -> None:
        if not self._resume():
            self._look()
            self._save()
        while not self._finished():
            self._epoch()

    def _finished(self) -> bool:
        waited = self.progress.epoch - self.progress.best_epoch
        return self.progress.epoch >= self.schedule.epochs or waited >= self.schedule.patience

    def _epoch(self) -> None:
        now, total = self.progress, 0.0
        epoch = now.epoch + 1
        self._inner().learning_rate = now.rate
        batches = epoch_batches(self.rows["train"], epoch, self.settings)
        for rows, images in prefetched(self.sources["train"], epoch, batches, self.size):
            pixels = images[..., None].astype(np.float32)
            told = self.logits.train_on_batch(pixels, self.truth[rows], return_dict=True)
            total += len(rows) * float(told["cross_entropy"])
            now.step += 1
        now.epoch = epoch
        self._note("train", total / sum(map(len, batches)))
        self._look()
        self._save()

    def _look(self) -> None:
        """The validation loss; the best weights are kept, and where it is not lower the learning rate drops."""
        now, parts = self.progress, []
        rows = self.rows["validation"]
        batches = [rows[first : first + EVALUATED] for first in range(0, len(rows), EVALUATED)]
        for _, images in prefetched(self.sources["validation"], 0, batches, self.size):
            parts.append(predict_logits(self.logits, images, min(EVALUATED, len(rows))))
        loss = float(cross_entropy(np.concatenate(parts), self.truth[rows]).mean())
        if not np.isfinite(loss):
            raise ValueError(f"training diverged in epoch {now.epoch}: a learning rate of {now.rate} is too high")
        self._note("validation", loss)
        if loss < now.best_loss:
            now.best_epoch, now.best_loss, self.best = now.epoch, loss, self.logits.get_weights()
        else:
            now.rate *= self.schedule.drop_factor
            self._forget_momentum()

    def _forget_momentum(self) -> None:
        """As the repository does, which makes a new optimiser: Keras's momentum holds steps of the old rate."""
        for variable in getattr(self._inner(), "momentums", []):
            if variable is not None:
                variable.assign(np.zeros(variable.shape, np.float32))

    def _inner(self) -> keras.Optimizer:
        return getattr(self.logits.optimizer, "inner_optimizer", self.logits.optimizer)

    def _note(self, split: str, loss: float) -> None:
        now = self.progress
        now.history.append(dict(zip(HISTORY, (now.epoch, now.step, split, loss, now.rate), strict=True)))
        log.info("epoch %d, %s: cross-entropy %.4f, rate %.2g", now.epoch, split, loss, now.rate)

    def _save(self) -> None:
        lists = {"state": state_values(self.logits), "best": self.best}
        self.store.save(flat(lists), {"progress": asdict(self.progress)})

    def _resume(self) -> bool:
        found = self.store.load()
        if found is None:
            return False
        arrays, meta = found
        lists = unflat(arrays)
        put_state(self.logits, lists["state"])
        self.best = lists["best"]
        self.progress = _Progress(**meta["progress"])
        return True
