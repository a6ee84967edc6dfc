"""Fine-tuning: a pre-trained network learns on, as a whole or in its last layers, from images made as they are needed.

Rajkomar 2017, Model Creation and Selection: "The three methods were fine-tuning only the fully connected layers of the
model using only original radiograph images (no augmentation); fine-tuning only the fully connected layers using the
augmented image sets; and fine-tuning all layers of the network using the augmented image sets."

A softmax layer trained on bottlenecks (`helpers.model.head`) is the best place to start from: a random one would
first spoil what the layers below it know (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features").
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from filelock import FileLock

from helpers.model.checkpoints import CheckpointStore
from helpers.model.finetune_loop import EVALUATED, HELD_OUT, HISTORY, Images, Trainer, TrainingData, prefetched
from helpers.model.finetune_network import Scaling, assemble, compile_network, scaling_of, set_head, set_trainable
from helpers.model.finetune_precision import PRECISIONS, training_precision
from helpers.model.finetuned import FinetuneRun
from helpers.run.provenance import digest_of

if TYPE_CHECKING:
    from helpers.model.backbones import Backbone
    from helpers.model.head import Head

__all__ = ["ArraySource", "FinetuneRun", "FinetuneSettings", "ImageSource", "finetune"]

VERSION = 1  # to be raised when the same settings and data would give other weights
PROBED = 4  # images of a source that the checkpoints' key looks at, in each of these epochs of the training source
PROBED_EPOCHS = (1, 2)
SCALED = 512  # training images that features' means and deviations are taken over


@dataclass(frozen=True)
class FinetuneSettings:
    """How a network is fine-tuned. The defaults are Rajkomar 2017's, whom the quotations are from."""

    trainable: str | int = "all"  # "head", "all" ("We allowed all layers to be fine-tuned"), or the last n layers
    epochs: int = 30  # "for 30 epochs"
    batch: int = 24  # "a minibatch size of 24"
    # "a learning rate of 0.005 was used to fine-tune only fully connected layers and 0.0005 to fine-tune all layers";
    # 0: whichever of the two is meant
    learning_rate: float = 0.0
    drop_every: int = 10  # epochs; "reduced tenfold every ten epochs"; 0: never
    drop_factor: float = 0.1
    # Not the paper's: "cosine", from the learning rate to nothing over all steps, `warm_up` epochs of rise to it aside
    schedule: str = "steps"
    warm_up: int = 0
    # "Stochastic gradient descent was used, with all other parameters identical"; or "adam", or "adamw", whose decay is
    # the optimiser's own, not a penalty (Loshchilov and Hutter 2019)
    optimizer: str = "sgd"
    momentum: float = 0.9  # "momentum of 0.9"
    nesterov: bool = False  # "a Nesterov solver" made the pre-trainings, plain momentum the fine-tuning
    weight_decay: float = 0.0005  # "weight decay of 0.0005": half of it times each kernel's squares, as in Caffe
    l2: float = 0.0  # a further penalty on the head's kernel alone, times its squares, as `heads` has it
    dropout: float = 0.0  # of the features before the head; GoogLeNet was published with 0.4
    label_smoothing: float = 0.0
    # Neither of these two is in the paper. SmallNet's features are of very different sizes and its batch normalisation
    # stays as it was, so that at the published rates it may run off in the first epochs without them.
    standardise: bool = False  # features centred and divided by their deviation over training images, as in `heads`
    clip_norm: float = 0.0  # longest gradient, over all that learns, which a longer one is shortened to; 0: no limit
    # False: batch normalisation keeps the means and variances of the pre-training (its scales and shifts still learn
    # where their layer does). A few radiographs of two kinds are a poor sample of what a layer sees, and statistics
    # that differ between training and use are the commonest reason why a fine-tuned network fails on new images.
    train_batch_norm: bool = False
    images_per_epoch: int = 0  # 0: every training row
    first_choice: int = 0  # the first epoch that may be chosen; 0: the network before it learnt may be the best
    # "best": the epoch with the lowest cross-entropy on validation; "last": the one that a schedule ends in, whatever
    # validation says, which with few patients says little
    keep: str = "best"
    patience: int = 0  # epochs without a lower validation cross-entropy after which training stops; 0: never
    checkpoint_every: int = 0  # steps, beside the checkpoint after each epoch
    precision: str = "auto"  # see `helpers.model.finetune_precision`; float32 on a CPU
    seed: int = 1

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch", 1), ("drop_every", 0), ("images_per_epoch", 0), ("patience", 0),
                            ("checkpoint_every", 0), ("seed", 0), ("learning_rate", 0), ("weight_decay", 0),
                            ("l2", 0), ("clip_norm", 0), ("warm_up", 0), ("first_choice", 0)):  # fmt: skip
            if not least <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} = {getattr(self, name)}; it must be {least} or more")
        for name in ("momentum", "dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}; it must be in [0, 1)")
        if not 0 < self.drop_factor <= 1:
            raise ValueError(f"drop_factor = {self.drop_factor}; it must be in (0, 1]")
        for name, known in (
            ("optimizer", ("sgd", "adam", "adamw")),
            ("schedule", ("steps", "cosine")),
            ("keep", ("best", "last")),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} = {getattr(self, name)}; known: {', '.join(known)}")
        if self.first_choice > self.epochs:
            raise ValueError(f"first_choice = {self.first_choice}; there are {self.epochs} epochs")
        if self.warm_up and (self.schedule != "cosine" or self.warm_up >= self.epochs):
            raise ValueError(f"warm_up = {self.warm_up}; it needs schedule = cosine, and more epochs than that")
        number = isinstance(self.trainable, int) and not isinstance(self.trainable, bool) and self.trainable > 0
        if not number and self.trainable not in ("head", "all"):
            raise ValueError(f"trainable = {self.trainable}; it is head, all, or a number of layers")

    @property
    def base_rate(self) -> float:
        return self.learning_rate or (0.005 if self.trainable == "head" else 0.0005)

    @property
    def penalty(self) -> float:
        """Times a kernel's squares, added to what is minimised; half of the decay, as in Caffe, see `finetune_network`.
        None where the optimiser sees to the decay."""
        return 0.0 if self.optimizer == "adamw" else self.weight_decay / 2

    def steps_of_epoch(self, images: int) -> int:
        """Batches an epoch where there are so many training images."""
        return -(-min(images, self.images_per_epoch or images) // self.batch)

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch of the schedule "steps"; the first is 1."""
        drops = (epoch - 1) // self.drop_every if self.drop_every else 0
        return self.base_rate * self.drop_factor**drops


class ImageSource(Protocol):
    """Gives the images of some rows, the same for the same (epoch, rows); a function of those two will do as well.

    `key`, if there is one, says all that the images follow from; a training resumes only where it is unchanged.
    """

    key: str

    def batch(self, epoch: int, rows: np.ndarray) -> np.ndarray:
        """uint8 (b, size, size), grey. Epochs count from 1; held-out images are asked for with epoch 0."""
        ...


class ArraySource:
    """Images that are in memory, uint8 (n, size, size), as they are in every epoch."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.key = hashlib.blake2b(np.ascontiguousarray(images), digest_size=8).hexdigest()

    def batch(self, epoch: int, rows: np.ndarray) -> np.ndarray:
        return self.images[rows]


def finetune(
    backbone: Backbone,
    train_images: ImageSource | Images,
    held_out_images: ImageSource | Images,
    labels: Sequence[int] | np.ndarray | pd.Series,
    split: Sequence[str] | np.ndarray | pd.Series,
    classes: Sequence[str],
    settings: FinetuneSettings | None = None,
    head: Head | None = None,
    checkpoints: Path | None = None,
) -> FinetuneRun:
    """Train `backbone` and a softmax layer over `classes` on the rows that `split` calls train.

    `labels` are positions in `classes`, one a row; the sources are asked for images by row number, in an order that
    follows from (seed, epoch), by one thread at a time. Augmentation is `train_images`' affair; held-out images have
    none. `head`: what the last layer starts from. The backbone itself stays as it is.

    After each epoch, validation is looked at, and "test" rows if there are any: as in `heads`, the model to use is the
    epoch with the lowest validation cross-entropy, epoch 0 (nothing learnt yet) included, unless `settings.keep` is
    "last"; and the papers' way is kept beside it. With `checkpoints`, a folder, a killed training goes on from its last
    checkpoint to the same weights, up to the order in which threads add (1e-5 of a probability; with one thread, to the
    bit).

    Raises `ValueError` for input that cannot be learnt from and for weights that run off, `CheckpointError` for a
    damaged checkpoint.
    """
    settings, classes = settings or FinetuneSettings(), tuple(classes)
    data = _checked(train_images, held_out_images, labels, split, classes, backbone.image_size)
    precision = training_precision(settings.precision)
    scaling = _scaling(backbone, data, settings)
    logits, _ = assemble(backbone, len(classes), settings, precision, scaling)
    set_head(logits, _matching(head, classes), settings.seed, scaling)
    set_trainable(logits, settings.trainable)
    key = _key(backbone, data, classes, settings, precision, head, (train_images, held_out_images))
    store = CheckpointStore(checkpoints, key)
    optimizer = compile_network(logits, settings, precision, settings.steps_of_epoch(len(data.rows["train"])))
    trainer = Trainer(logits, optimizer, data, settings, store, scaling.fold if scaling else list)
    if checkpoints is None:
        progress = trainer.run()
    else:
        Path(checkpoints).mkdir(parents=True, exist_ok=True)
        with FileLock(Path(checkpoints) / ".finetune.lock"):
            progress = trainer.run()
    weights = {name: best.weights for name, best in progress.best.items()}
    epochs = {name: best.epoch for name, best in progress.best.items()}
    history = pd.DataFrame(progress.history, columns=list(HISTORY))
    told = asdict(settings) | {"precision": precision, "backbone": backbone.name, "weights": backbone.weights,
                               "weights_digest": backbone.weights_digest}  # fmt: skip
    kept = key if settings.keep == "best" else digest_of([key, settings.keep])
    return FinetuneRun(backbone, classes, weights, epochs, history, told, kept)


def _scaling(backbone: Backbone, data: TrainingData, settings: FinetuneSettings) -> Scaling | None:
    """Of the features of up to `SCALED` training images, as the first epoch shows them."""
    if not settings.standardise:
        return None
    order = np.random.default_rng((settings.seed, 4)).permutation(data.rows["train"])[:SCALED]
    parts = [order[first : first + EVALUATED] for first in range(0, len(order), EVALUATED)]
    return scaling_of(backbone, (images for _, images in prefetched(data.train, 1, parts, data.size)))


def _matching(head: Head | None, classes: tuple[str, ...]) -> Head | None:
    if head is not None and head.classes != classes:
        raise ValueError(f"the head tells {', '.join(head.classes)} apart, not {', '.join(classes)}")
    return head


def _checked(train_images, held_out_images, labels, split, classes: tuple[str, ...], size: int) -> TrainingData:
    """The input as the training loop wants it, or a `ValueError` that says what is wrong with it."""
    codes, split = np.asarray(labels), np.asarray(split).astype(str)
    if len(codes) != len(split):
        raise ValueError(f"{len(codes)} labels and {len(split)} splits do not match")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ValueError(f"classes are {classes}; a network needs two or more, each once")
    if not np.issubdtype(codes.dtype, np.integer) or not ((codes >= 0) & (codes < len(classes))).all():
        raise ValueError(f"labels must be whole numbers from 0 to {len(classes) - 1}, positions in {classes}")
    if unknown := sorted(set(split) - {"train", *HELD_OUT}):
        raise ValueError(f"unknown split {', '.join(unknown)}; known: train, {', '.join(HELD_OUT)}")
    rows = {name: np.flatnonzero(split == name) for name in ("train", *HELD_OUT)}
    if empty := [name for name in ("train", "validation") if not len(rows[name])]:
        raise ValueError(f"no {' and no '.join(empty)} images")
    present = set(codes[rows["train"]].tolist())
    if missing := [name for code, name in enumerate(classes) if code not in present]:
        raise ValueError(f"no training images of {', '.join(missing)}")
    return TrainingData(_asked(train_images), _asked(held_out_images), codes, rows, len(classes), size)


def _asked(source: ImageSource | Images) -> Images:
    return getattr(source, "batch", source)


def _key(backbone, data: TrainingData, classes, settings, precision: str, head: Head | None, sources) -> str:
    """16 hex digits over all that the weights follow from; of a source without a key, a few images stand for all."""
    import keras

    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.ascontiguousarray(data.codes, np.int64))
    for name in sorted(data.rows):
        digest.update(name.encode() + np.ascontiguousarray(data.rows[name], np.int64).tobytes())
        for epoch in (0,) if name in HELD_OUT else PROBED_EPOCHS:
            source = data.held_out if name in HELD_OUT else data.train
            if len(data.rows[name]):
                digest.update(np.ascontiguousarray(source(epoch, data.rows[name][:PROBED])))
    if head is not None:
        digest.update(np.ascontiguousarray(head.kernel).tobytes() + np.ascontiguousarray(head.bias).tobytes())
    told = asdict(settings) | {"precision": precision, "checkpoint_every": 0}
    del told["keep"]  # is decided at the end, and changes no step
    words: list[Any] = [VERSION, told, classes]
    words += [backbone.name, backbone.weights_digest, backbone.image_size, digest.hexdigest()]
    words += [str(getattr(source, "key", "")) for source in sources]
    return digest_of([*words, keras.backend.backend(), metadata.version("keras")])
