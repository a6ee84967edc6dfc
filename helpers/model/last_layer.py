"""Fine-tuning the last layer alone, on features that are computed once: the layers below it do not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from helpers.model.finetune import FinetuneRun, FinetuneSettings
from helpers.model.finetune_network import assemble
from helpers.model.finetuned import BATCH, over_rows
from helpers.run.provenance import digest_of, write_atomically

if TYPE_CHECKING:
    from helpers.model.backbones import Backbone


class Source(Protocol):
    """Images by row number, and what they follow from."""

    key: str
    batch: Callable[[int, np.ndarray], np.ndarray]


def features_of(backbone: Backbone, source: Source, rows: np.ndarray, folder: Path) -> np.ndarray:
    """The backbone's features of these rows, float32 (n, d), kept in `folder` under a key of all they follow from."""
    from helpers.model.engine import choose, compile_backbone

    key = digest_of([backbone.weights_digest, backbone.image_size, source.key, rows.tolist()])
    kept = folder / f"features-{key}.npy"
    if not kept.is_file():
        run = compile_backbone(backbone, choose("auto", "float32"), BATCH)
        made = over_rows(run, source.batch, rows, backbone.image_size, backbone.features)
        write_atomically(kept, lambda file: np.save(file, made))
    return np.load(kept)


def train_last_layer(
    backbone: Backbone,
    features: np.ndarray,
    codes: np.ndarray,
    split: Sequence[str] | np.ndarray,
    classes: Sequence[str],
    settings: FinetuneSettings,
) -> FinetuneRun:
    """The network whose last layer alone was trained by `settings` (their schedule, momentum and decay).

    `features` float32 (n, d), `codes` positions in `classes`, `split` train or validation, one a row. The epoch with
    the lowest validation cross-entropy is kept. With `settings.standardise` features are centred and scaled by the
    training rows while the layer learns, which is undone in the weights that are kept. Raises `ValueError` where it
    diverges.
    """
    import keras

    train, held_out = (np.asarray(split) == name for name in ("train", "validation"))
    centre, scale = np.zeros(features.shape[1], np.float32), np.ones(features.shape[1], np.float32)
    if settings.standardise:
        centre, scale = features[train].mean(axis=0), features[train].std(axis=0) + 1e-3
    given = (features - centre) / scale
    keras.utils.set_random_seed(settings.seed)
    layer = _layer(features.shape[1], len(classes), settings)
    target = np.eye(len(classes), dtype=np.float32)[codes]
    stop = keras.callbacks.EarlyStopping(
        "val_cross_entropy", mode="min", patience=settings.epochs, restore_best_weights=True
    )
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, _: settings.rate(epoch + 1))
    told = layer.fit(
        given[train],
        target[train],
        settings.batch,
        settings.epochs,
        verbose=0,
        validation_data=(given[held_out], target[held_out]),
        validation_batch_size=4096,
        callbacks=[schedule, stop],
    ).history
    if not np.isfinite(told["val_cross_entropy"]).all():
        raise ValueError(f"training diverged: a learning rate of {settings.base_rate} is too high")
    best = int(np.argmin(told["val_cross_entropy"]))
    kernel, bias = layer.get_layer("logits").get_weights()
    kernel = kernel / scale[:, None]
    return _network(backbone, classes, kernel, bias - centre @ kernel, best + 1, _history(told, settings), settings)


def _layer(features: int, classes: int, settings: FinetuneSettings):
    """A softmax layer, ready to learn; decay as Caffe has it, see `finetune_network`."""
    import keras

    penalty = keras.regularizers.L2(settings.weight_decay / 2)
    start = keras.initializers.GlorotUniform(settings.seed)
    dense = keras.layers.Dense(classes, name="logits", kernel_regularizer=penalty, kernel_initializer=start)
    model = keras.Sequential([keras.Input((features,)), dense])
    entropy = keras.metrics.CategoricalCrossentropy(from_logits=True, name="cross_entropy")
    model.compile(
        keras.optimizers.SGD(settings.base_rate, settings.momentum, nesterov=settings.nesterov),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=[entropy, keras.metrics.CategoricalAccuracy(name="accuracy")],
    )
    return model


def _history(told: dict[str, list[float]], settings: FinetuneSettings) -> pd.DataFrame:
    rows = [
        (epoch + 1, epoch + 1, split, told[f"{word}accuracy"][epoch], told[f"{word}cross_entropy"][epoch])
        for epoch in range(len(told["accuracy"]))
        for split, word in (("train", ""), ("validation", "val_"))
    ]
    table = pd.DataFrame(rows, columns=["epoch", "step", "split", "accuracy", "cross_entropy"])
    return table.assign(learning_rate=[settings.rate(epoch) for epoch in table["epoch"]])


def _network(backbone, classes, kernel, bias, epoch: int, history: pd.DataFrame, settings) -> FinetuneRun:
    """The whole network, as if it had been trained through."""
    from dataclasses import asdict

    logits, _ = assemble(backbone, len(classes))
    logits.get_layer("logits").set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    told = asdict(settings) | {"precision": "float32", "backbone": backbone.name, "weights": backbone.weights}
    key = digest_of([told, backbone.weights_digest, kernel.tolist()])
    weights, epochs = {"validation": logits.get_weights()}, {"validation": epoch}
    return FinetuneRun(backbone, tuple(classes), weights, epochs, history, told, key)
