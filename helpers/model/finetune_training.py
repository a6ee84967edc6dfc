"""How Keras trains a network: the layers that learn, the steps, batches of images, and going on after a kill.

Nothing here changes the backbone it is given: layers are cloned, weights copied. Everything is Keras's own, so that it
trains on each of Keras's backends. `settings` and `scaling` are those of `helpers.model.finetune`. Imports Keras at the
top, so it is to be imported where a network is trained or used.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from helpers.model.backbones import Backbone
from helpers.model.engine import usable_gpus
from helpers.run.provenance import write_atomically

log = logging.getLogger(__name__)
HELD_OUT_BATCH = 64
KERNELS = {"kernel": "kernel_regularizer", "depthwise_kernel": "depthwise_regularizer",
           "pointwise_kernel": "pointwise_regularizer"}  # fmt: skip
KEPT, COMPILED = 2, {}  # networks that `prepare` keeps compiled, the last used ones, with their variables when new
FLOAT32 = ("grey", "three_channels", "scaling")  # 8 bits of bfloat16 would round the grey levels


@keras.saving.register_keras_serializable("helpers")
class FixedNormalization(keras.layers.BatchNormalization):
    """Batch normalisation by the stored means and variances, in training as well; its scale and shift may learn.

    Calling Keras's own layer with training=False does not last: a model that trains calls its layers anew. Setting
    its `trainable` to False would freeze scale and shift too.
    """

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


def assemble(backbone: Backbone, classes: int, settings: Any = None, scaling: Any = None) -> keras.Model:
    """The network to logits (b, classes), from float32 (b, size, size, 1), grey 0..255; its last layer is "logits".

    Without `settings` it is the plain network, for use; with them the network to train, with dropout, penalties,
    `scaling` and mixed precision on a GPU. With trainable "head" that is the last layer alone, on features (b, d).
    Weights lie in the same order either way.
    """
    precision = training_precision() if settings else "float32"
    if settings and settings.trainable == "head":
        inputs = features = keras.Input((backbone.features,))
    else:
        body = keras.models.clone_model(backbone.model, clone_function=lambda layer: _clone(layer, settings, precision))
        body.set_weights(backbone.model.get_weights())
        inputs, features = body.input, body.output
    if scaling is not None:
        plain = {"center": False, "scale": False, "epsilon": 1e-12, "dtype": "float32", "name": "standardised"}
        features = FixedNormalization(**plain)(features)  # its weights, so that a compiled network serves for others
    if settings and settings.dropout:
        features = keras.layers.Dropout(settings.dropout, seed=settings.seed, name="dropout")(features)
    penalty = keras.regularizers.L2(settings.penalty) if settings and settings.penalty else None
    last = keras.layers.Dense(classes, dtype="float32", name="logits", kernel_regularizer=penalty)
    return keras.Model(inputs, last(features), name=f"{backbone.name}_logits")


def _clone(layer: keras.Layer, settings: Any, precision: str) -> keras.Layer:
    """The same layer and, in training, as it is to train.

    Weight decay is Caffe's: weight_decay * kernel is added to each kernel's gradient, before momentum. An optimiser's
    own `weight_decay` would act beside the momentum. As in GoogLeNet's published solver, biases and normalisations
    have none.
    """
    config, kind = layer.get_config(), type(layer)
    if settings is None:
        return kind.from_config(config)
    if precision != "float32" and layer.name not in FLOAT32:
        config |= {"dtype": precision}
    if settings.penalty:
        penalty = keras.regularizers.L2(settings.penalty)
        config |= {key: penalty for kernel, key in KERNELS.items() if key in config and hasattr(layer, kernel)}
    if kind is keras.layers.BatchNormalization and not settings.train_batch_norm:
        kind = FixedNormalization
    return kind.from_config(config)


def prepare(backbone: Backbone, classes: int, settings: Any, scaling: Any, epoch_steps: int) -> keras.Model:
    """The compiled network to train, with the weights of `backbone` and of `scaling`, but for its last layer.

    One that was compiled for the same layers and settings serves again, as it was when new: Keras takes seconds to
    trace a network, and trainings that differ in their seed or in where they start are many.
    """
    same = replace(settings, seed=0, images_per_epoch=0)
    steps = epoch_steps if settings.schedule == "cosine" else 0  # other rates are set from outside
    key = backbone.model.to_json(), classes, same, scaling is None, steps, training_precision()
    if key not in COMPILED:
        for oldest in list(COMPILED)[: len(COMPILED) - KEPT + 1]:
            del COMPILED[oldest]
        logits = assemble(backbone, classes, settings, scaling)
        set_trainable(logits, settings.trainable)
        compile_training(logits, settings, epoch_steps)
        every = [*logits.variables, *logits.optimizer.variables]
        COMPILED[key] = logits, [(one, keras.ops.convert_to_numpy(one.value).copy()) for one in every]
    logits, state = COMPILED[key]
    for variable, value in state:
        variable.assign(value)
    if settings.dropout:
        logits.get_layer("dropout").seed_generator.state.assign(keras.random.SeedGenerator(settings.seed).state)
    body = [] if settings.trainable == "head" else backbone.model.get_weights()
    features = [] if scaling is None else [scaling.mean, scaling.deviation**2]
    logits.set_weights([*body, *features, *logits.get_weights()[-2:]])
    return logits


def set_last_layer(logits: keras.Model, head, seed: int, scaling: Any) -> None:
    """The last layer's weights: those of `head`, which has `kernel` and `bias`, or Glorot uniform ones from `seed`."""
    last = logits.get_layer("logits")
    shape = tuple(last.kernel.shape)
    if head is None:
        limit = np.sqrt(6 / sum(shape))
        drawn = np.random.default_rng((seed, 0)).uniform(-limit, limit, shape)
        last.set_weights([drawn.astype(np.float32), np.zeros(shape[1], np.float32)])
        return
    last.set_weights(scaling.unfold(head.kernel, head.bias) if scaling else [head.kernel, head.bias])


def set_trainable(logits: keras.Model, trainable: str | int) -> None:
    """Let "all", or only the last `trainable` layers with kernels and the last layer, learn.

    Layers count in Keras's order, from the input up; what has weights but no kernel, as a normalisation, learns where
    it comes after the first kernel that does. Raises `ValueError` for more layers than there are.
    """
    weighted = [layer for layer in logits.layers if layer.weights]
    kernels = [i for i, layer in enumerate(weighted) if any(hasattr(layer, name) for name in KERNELS)]
    first = 0
    if isinstance(trainable, int):
        if trainable >= len(kernels):
            raise ValueError(f"trainable = {trainable}; this network has {len(kernels) - 1} layers below its head")
        first = kernels[-trainable - 1]
    for layer in logits.layers:
        layer.trainable = False
    for layer in weighted[first:]:
        layer.trainable = True


def compile_training(logits: keras.Model, settings: Any, epoch_steps: int) -> None:
    """Compile `logits` with a built optimiser; a cosine goes over all epochs of `epoch_steps` steps."""
    smooth = settings.label_smoothing
    if settings.loss == "softmax":
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smooth)
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
        entropy = keras.metrics.CategoricalCrossentropy(from_logits=True, name="cross_entropy")
    else:
        loss = keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smooth)
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)  # of logits
        entropy = keras.metrics.BinaryCrossentropy(from_logits=True, name="cross_entropy")
    optimizer = _optimizer(settings, epoch_steps)
    if training_precision() == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    # XLA takes long to compile a network for a CPU, and is no faster there than TensorFlow's own kernels.
    slow = keras.config.backend() == "tensorflow" and not usable_gpus()
    jit = False if slow else "auto"
    logits.compile(optimizer, loss, metrics=[accuracy, entropy], auto_scale_loss=False, jit_compile=jit)
    optimizer.build(logits.trainable_variables)


def _optimizer(settings: Any, epoch_steps: int) -> keras.Optimizer:
    """Keras's Nesterov momentum takes the same steps as Caffe's."""
    rate, clip = settings.learning_rate, settings.clip_norm or None
    if settings.schedule == "cosine":
        rising = epoch_steps if settings.epochs > 1 else 0
        falling = settings.epochs * epoch_steps - rising
        warm_up = {"warmup_target": rate, "warmup_steps": rising} if rising else {}
        rate = keras.optimizers.schedules.CosineDecay(0.0 if rising else rate, falling, **warm_up)
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(rate, global_clipnorm=clip)
    if settings.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, settings.weight_decay, global_clipnorm=clip)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    return keras.optimizers.SGD(rate, settings.MOMENTUM, nesterov=settings.nesterov, global_clipnorm=clip)


def training_precision() -> str:
    """float32 on a CPU; on a GPU mixed_bfloat16, or mixed_float16 where the GPU is too old for it.

    bfloat16 has float32's range, so gradients need no scaling; NVIDIA's GPUs have it from compute capability 8 on.
    """
    if not usable_gpus():
        return "float32"
    query = [shutil.which("nvidia-smi") or "nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        capability = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
        old = float(capability.splitlines()[0]) < 8
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        old = False
    return "mixed_float16" if old else "mixed_bfloat16"


# --- Keras's `fit` ---


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
    """Train to the end with Keras's `fit`, from where the checkpoint stands; `rate` gives an epoch's learning rate."""
    progress.begin(model)
    if progress.finished:
        return
    callbacks: list[keras.callbacks.Callback] = [progress]
    if rate is not None:
        callbacks.append(keras.callbacks.LearningRateScheduler(lambda epoch, _: rate(epoch + 1, progress.losses)))
    model.fit(
        progress.batches,
        validation_data=progress.validation,
        epochs=epochs,
        initial_epoch=progress.epoch,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )
