"""The loop that fine-tunes a network: epochs of batches, looks at held-out images, and checkpoints to go on from."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.model.checkpoints import CheckpointStore, flat, unflat
from helpers.model.finetune_network import put_state, state_values

if TYPE_CHECKING:
    import keras

    from helpers.model.finetune import FinetuneSettings

log = logging.getLogger(__name__)

AHEAD = 2  # batches of images made while the network is busy with one
EVALUATED = 64  # held-out images at a time
HELD_OUT = ("validation", "test")

# (epoch, row numbers) to uint8 (b, size, size)
Images = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class TrainingData:
    """Where images come from, their int codes (n,), and the rows of each split that has any."""

    train: Images
    held_out: Images
    codes: np.ndarray
    rows: Mapping[str, np.ndarray]
    classes: int
    size: int


@dataclass
class Best:
    """The best epoch so far on a held-out split, and its weights."""

    epoch: int
    accuracy: float
    cross_entropy: float
    weights: list[np.ndarray]


@dataclass
class Progress:
    """How far a training is: whole epochs, batches of the one under way, steps in all, and what they gave."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # images, right ones, cross-entropy
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Best] = field(default_factory=dict)


class Trainer:
    """One training. `run` takes it from wherever its checkpoint stands to its end."""

    def __init__(
        self,
        logits: keras.Model,
        optimizer: keras.Optimizer,
        data: TrainingData,
        settings: FinetuneSettings,
        store: CheckpointStore,
        plain: Callable[[list[np.ndarray]], list[np.ndarray]] = list,
    ) -> None:
        """`plain` turns the weights of the network that trains into those of the network to use."""
        self.logits, self.optimizer, self.data = logits, optimizer, data
        self.settings, self.store, self.plain = settings, store, plain
        self.shares = np.eye(data.classes, dtype=np.float32)
        self.progress = Progress()

    def run(self) -> Progress:
        """Train. Raises `ValueError` for images that are not what they should be, and where the weights diverge."""
        if not self._resume():
            self._look(0)
            self._save()
        while not self._finished():
            self._epoch(self.progress.epoch + 1)
        if self.settings.keep == "last":
            self._keep_last()
        return self.progress

    def _keep_last(self) -> None:
        """The weights as they are now in the place of those that validation would choose."""
        told = [row for row in self.progress.history if row["split"] == "validation"][-1]
        weights = self.plain(self.logits.get_weights())
        self.progress.best["validation"] = Best(told["epoch"], told["accuracy"], told["cross_entropy"], weights)

    def _finished(self) -> bool:
        """All epochs are done, or `patience` of them brought nothing on validation."""
        epoch, patience = self.progress.epoch, self.settings.patience
        best = self.progress.best.get("validation")
        waited = epoch - best.epoch if best else 0
        return epoch >= self.settings.epochs or bool(patience and waited >= patience)

    def _epoch(self, epoch: int) -> None:
        if self.settings.schedule == "steps":
            self.optimizer.learning_rate = self.settings.rate(epoch)
        every = self.settings.checkpoint_every
        todo = epoch_batches(self.data.rows["train"], epoch, self.settings)[self.progress.batch :]
        for rows, images in prefetched(self.data.train, epoch, todo, self.data.size):
            self._step(rows, images)
            if every and self.progress.step % every == 0:
                self._save()
        images, right, entropy = self.progress.sums
        self._note(epoch, "train", right / images, entropy / images)
        self.progress.epoch, self.progress.batch, self.progress.sums = epoch, 0, [0.0, 0.0, 0.0]
        self._look(epoch)
        self._save()

    def _step(self, rows: np.ndarray, images: np.ndarray) -> None:
        target = self.shares[self.data.codes[rows]]
        told = self.logits.train_on_batch(images[..., None].astype(np.float32), target, return_dict=True)
        if not np.isfinite(told["cross_entropy"]):
            rate = float(self.optimizer.learning_rate)
            raise ValueError(
                f"training diverged at step {self.progress.step + 1}: a learning rate of {rate} is too high"
            )
        for i, value in enumerate((1.0, told["accuracy"], told["cross_entropy"])):
            self.progress.sums[i] += len(rows) * float(value)
        self.progress.batch += 1
        self.progress.step += 1

    def _look(self, epoch: int) -> None:
        """How the held-out splits do; the best weights of each are kept."""
        for split in HELD_OUT:
            rows = self.data.rows.get(split, ())
            if not len(rows):
                continue
            accuracy, entropy = evaluate(self.logits, self.data, rows)
            self._note(epoch, split, accuracy, entropy)
            best = self.progress.best.get(split)
            # By cross-entropy on validation; on the test set as the papers do: by accuracy, then cross-entropy.
            now, then = (entropy,), (best.cross_entropy,) if best else (np.inf,)
            if split == "test":
                now, then = (-accuracy, *now), (-best.accuracy if best else np.inf, *then)
            if epoch >= self.settings.first_choice and now < then:
                self.progress.best[split] = Best(epoch, accuracy, entropy, self.plain(self.logits.get_weights()))

    def _note(self, epoch: int, split: str, accuracy: float, entropy: float) -> None:
        by_steps = self.settings.schedule == "steps"
        rate = self.settings.rate(max(epoch, 1)) if by_steps else float(self.optimizer.learning_rate)
        values = (epoch, self.progress.step, split, float(accuracy), float(entropy), rate)
        self.progress.history.append(dict(zip(HISTORY, values, strict=True)))
        log.info("epoch %d of %d, %s: accuracy %.4f, cross-entropy %.4f", epoch, self.settings.epochs, *values[2:5])

    def _save(self) -> None:
        lists = {"state": state_values(self.logits)} | {by: best.weights for by, best in self.progress.best.items()}
        bests = {
            split: {"epoch": best.epoch, "accuracy": best.accuracy, "cross_entropy": best.cross_entropy}
            for split, best in self.progress.best.items()
        }
        plain = {name: getattr(self.progress, name) for name in ("epoch", "batch", "step", "sums", "history")}
        self.store.save(flat(lists), {"progress": plain, "best": bests, "settings": asdict(self.settings)})

    def _resume(self) -> bool:
        """Stand where the checkpoint stands; False where there is none."""
        found = self.store.load()
        if found is None:
            return False
        arrays, meta = found
        lists = unflat(arrays)
        put_state(self.logits, lists["state"])
        self.progress = Progress(**meta["progress"])
        for split, told in meta["best"].items():
            self.progress.best[split] = Best(**told, weights=lists[split])
        log.info("going on after epoch %d, step %d", self.progress.epoch, self.progress.step)
        return True


HISTORY = ("epoch", "step", "split", "accuracy", "cross_entropy", "learning_rate")


def epoch_batches(rows: np.ndarray, epoch: int, settings: FinetuneSettings) -> list[np.ndarray]:
    """The batches of an epoch: each training row once, in an order that follows from (seed, epoch) alone.

    The last batch may be smaller. With `images_per_epoch`, that many rows of the order.
    """
    order = np.random.default_rng((settings.seed, epoch, 3)).permutation(rows)
    if settings.images_per_epoch:
        order = order[: settings.images_per_epoch]
    return [order[first : first + settings.batch] for first in range(0, len(order), settings.batch)]


def prefetched(
    source: Images, epoch: int, batches: Sequence[np.ndarray], size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (rows, images) of each batch; one thread makes them, at most `AHEAD` beyond the one in use."""
    pending: deque = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="images") as pool:
        try:
            for rows in batches:
                pending.append((rows, pool.submit(source, epoch, rows)))
                if len(pending) > AHEAD:
                    yield _checked(*pending.popleft(), size)
            while pending:
                yield _checked(*pending.popleft(), size)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _checked(rows: np.ndarray, future, size: int) -> tuple[np.ndarray, np.ndarray]:
    images = np.asarray(future.result())
    if images.dtype != np.uint8 or images.shape != (len(rows), size, size):
        raise ValueError(
            f"the image source gave {images.dtype} {images.shape} for {len(rows)} rows; "
            f"this network takes uint8 ({len(rows)}, {size}, {size})"
        )
    return rows, images


def evaluate(logits: keras.Model, data: TrainingData, rows: np.ndarray) -> tuple[float, float]:
    """Accuracy and cross-entropy of held-out rows, in inference mode."""
    right = entropy = 0.0
    parts = [rows[first : first + EVALUATED] for first in range(0, len(rows), EVALUATED)]
    for part, images in prefetched(data.held_out, 0, parts, data.size):
        given = predict_logits(logits, images, min(EVALUATED, len(rows)))
        codes = data.codes[part]
        top = given.max(axis=1)
        spread = np.log(np.exp(given - top[:, None]).sum(axis=1)) + top
        entropy += float((spread - given[np.arange(len(part)), codes]).sum())
        right += int((given.argmax(axis=1) == codes).sum())
    if not np.isfinite(entropy):
        raise ValueError("training diverged: a held-out cross-entropy is not finite; the learning rate is too high")
    return right / len(rows), entropy / len(rows)


def predict_logits(logits: keras.Model, images: np.ndarray, length: int) -> np.ndarray:
    """float64 (b, classes) of uint8 (b, size, size), padded to `length` images, so that one shape is compiled."""
    pixels = np.zeros((length, *images.shape[1:], 1), np.float32)
    pixels[: len(images), ..., 0] = images
    return np.asarray(logits.predict_on_batch(pixels), np.float64)[: len(images)]
