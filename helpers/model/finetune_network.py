"""What fine-tuning trains: a backbone with a last layer on it, which layers learn, by which optimiser and rate.

Nothing here changes the backbone it is given: layers are cloned, weights copied. Everything is Keras's own, so that it
trains on each of Keras's backends.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from helpers.model.backbones import Backbone
from helpers.model.engine import usable_gpus

if TYPE_CHECKING:
    import keras

Share = Annotated[float, Field(ge=0, lt=1)]
KERNELS = {"kernel": "kernel_regularizer", "depthwise_kernel": "depthwise_regularizer",
           "pointwise_kernel": "pointwise_regularizer"}  # fmt: skip
FLOAT32 = ("grey", "three_channels", "scaling")  # 8 bits of bfloat16 would round the grey levels
MOMENTUM = 0.9  # Rajkomar 2017: "momentum of 0.9"; Zech 2018's repository has the same
DROP = 0.1  # of the learning rate: "reduced tenfold" (Rajkomar 2017); Zech 2018's repository divides by ten as well


@dataclass(frozen=True)
class FinetuneSettings:
    """How a network is fine-tuned. The defaults are Rajkomar 2017's, whom the quotations are from."""

    trainable: Literal["all", "head"] | PositiveInt = "all"  # "We allowed all layers to be fine-tuned"; or the last n
    loss: Literal["softmax", "sigmoid"] = "softmax"  # one class per image, or several labels
    epochs: PositiveInt = 30  # "for 30 epochs"
    batch: PositiveInt = 24  # "a minibatch size of 24"
    learning_rate: PositiveFloat = 0.0005  # "0.0005 to fine-tune all layers"
    # "steps": divided by ten every `drop_every` epochs ("reduced tenfold every ten epochs"; 0: never); "plateau": after
    # each epoch whose validation loss is above the lowest yet; "cosine": one epoch of rise, then a cosine to nothing
    schedule: Literal["steps", "plateau", "cosine"] = "steps"
    drop_every: NonNegativeInt = 10
    # "Stochastic gradient descent was used"; the decay of adamw is the optimiser's own (Loshchilov and Hutter 2019)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    nesterov: bool = False  # "a Nesterov solver" made the pre-trainings, plain momentum the fine-tuning
    weight_decay: NonNegativeFloat = 0.0005  # "weight decay of 0.0005": half of it times each kernel's squares
    dropout: Share = 0.0  # of the features before the last layer
    label_smoothing: Share = 0.0
    clip_norm: NonNegativeFloat = 0.0  # longest gradient over all that learns; 0: no limit
    standardise: bool = False  # features centred and divided by their deviation while the network learns
    # False: batch normalisation keeps the means and variances of the pre-training, though its scale and shift may
    # learn. A few radiographs are a poor sample of what a layer sees, and statistics that differ between training and
    # use are the commonest reason why a fine-tuned network fails on new images.
    train_batch_norm: bool = False
    images_per_epoch: NonNegativeInt = 0  # 0: every training image
    # "best": the epoch of lowest validation cross-entropy, 0 (nothing learnt yet) included; "best trained": 0 excluded;
    # "last": the one that a cosine ends in, whatever validation says, which with few patients says little
    keep: Literal["best", "best trained", "last"] = "best"
    patience: NonNegativeInt = 0  # epochs without a lower validation cross-entropy until training stops; 0: never
    seed: NonNegativeInt = 1

    def rate(self, epoch: int, losses: list[float]) -> float:
        """The learning rate of an epoch, from 1, after the validation losses of those before it (from epoch 0)."""
        drops = (epoch - 1) // self.drop_every if self.drop_every else 0
        if self.schedule == "plateau":
            drops = sum(loss >= min(losses[:i]) for i, loss in enumerate(losses) if i)
        return self.learning_rate * DROP**drops

    @property
    def penalty(self) -> float:
        """Times each kernel's squares, added to the loss: half of the decay, as in Caffe. Adam would scale a penalty's
        gradient up like any other, so with it there is none."""
        return self.weight_decay / 2 if self.optimizer == "sgd" else 0.0


@dataclass(frozen=True, config={"arbitrary_types_allowed": True})
class Scaling:
    """Features centred and divided by their deviation before the last layer: `mean` and `deviation`, (d,).

    Gradient descent at one rate for all layers needs features of one size. Those of a backbone that ends in batch
    normalisation have it; SmallNet's, which are averages, maxima and mean squares, differ a hundredfold.
    """

    mean: np.ndarray = field(repr=False)
    deviation: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, features: np.ndarray) -> Scaling:
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(features)
        return cls(scaler.mean_.astype(np.float32), scaler.scale_.astype(np.float32))

    def unfold(self, kernel: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
        """A layer on plain features as the same one on scaled features."""
        return [kernel * self.deviation[:, None], bias + self.mean @ kernel]

    def fold(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        """Weights that end in a layer on scaled features, as those of the same network on plain features."""
        kernel = weights[-2] / self.deviation[:, None]
        return [*weights[:-2], kernel, weights[-1] - self.mean @ kernel]


def assemble(
    backbone: Backbone, classes: int, settings: FinetuneSettings | None = None, scaling: Scaling | None = None
) -> keras.Model:
    """The network to logits (b, classes), from float32 (b, size, size, 1), grey 0..255; its last layer is "logits".

    Without `settings` it is the plain network, for use; with them the network to train, with dropout, penalties,
    `scaling` and mixed precision on a GPU. With trainable "head" that is the last layer alone, on features (b, d).
    Weights lie in the same order either way.
    """
    import keras

    precision = training_precision() if settings else "float32"
    if settings and settings.trainable == "head":
        inputs = features = keras.Input((backbone.features,))
    else:
        body = keras.models.clone_model(backbone.model, clone_function=lambda layer: _clone(layer, settings, precision))
        body.set_weights(backbone.model.get_weights())
        inputs, features = body.input, body.output
    if scaling is not None:
        scale, offset = 1 / scaling.deviation, -scaling.mean / scaling.deviation
        features = keras.layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32")(features)
    if settings and settings.dropout:
        features = keras.layers.Dropout(settings.dropout, seed=settings.seed)(features)
    penalty = keras.regularizers.L2(settings.penalty) if settings and settings.penalty else None
    last = keras.layers.Dense(classes, dtype="float32", name="logits", kernel_regularizer=penalty)
    return keras.Model(inputs, last(features), name=f"{backbone.name}_logits")


def _clone(layer: keras.Layer, settings: FinetuneSettings | None, precision: str) -> keras.Layer:
    """The same layer and, in training, as it is to train.

    Weight decay is Caffe's: weight_decay * kernel is added to each kernel's gradient, before momentum. An optimiser's
    own `weight_decay` would act beside the momentum. As in GoogLeNet's published solver, biases and normalisations
    have none.
    """
    import keras

    config, kind = layer.get_config(), type(layer)
    if settings is None:
        return kind.from_config(config)
    if precision != "float32" and layer.name not in FLOAT32:
        config |= {"dtype": precision}
    if settings.penalty:
        penalty = keras.regularizers.L2(settings.penalty)
        config |= {key: penalty for kernel, key in KERNELS.items() if key in config and hasattr(layer, kernel)}
    if kind is keras.layers.BatchNormalization and not settings.train_batch_norm:
        from helpers.model.finetune_training import FixedNormalization

        kind = FixedNormalization
    return kind.from_config(config)


def set_last_layer(logits: keras.Model, head, seed: int, scaling: Scaling | None) -> None:
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


def compile_training(logits: keras.Model, settings: FinetuneSettings, epoch_steps: int) -> None:
    """Compile `logits` with a built optimiser; a cosine goes over all epochs of `epoch_steps` steps."""
    import keras

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


def _optimizer(settings: FinetuneSettings, epoch_steps: int) -> keras.Optimizer:
    """Keras's Nesterov momentum takes the same steps as Caffe's."""
    import keras

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
    return keras.optimizers.SGD(rate, MOMENTUM, nesterov=settings.nesterov, global_clipnorm=clip)


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
