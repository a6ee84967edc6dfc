"""A backbone and a softmax layer put together as one network that can be trained: what learns, and by which optimiser.

Nothing here changes the backbone it is given: layers are cloned, weights copied.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

    from helpers.model.backbones import Backbone
    from helpers.model.finetune import FinetuneSettings
    from helpers.model.head import Head

KERNELS = {"kernel": "kernel_regularizer", "depthwise_kernel": "depthwise_regularizer",
           "pointwise_kernel": "pointwise_regularizer"}  # fmt: skip
FLOAT32 = ("grey", "three_channels", "scaling")  # 8 bits of bfloat16 would round the grey levels


@dataclass(frozen=True)
class Scaling:
    """Features centred and divided by their deviation before the last layer learns: `mean` and `deviation` (d,).

    Gradient descent at one rate for all layers needs features of one size. Those of a backbone that ends in batch
    normalisation have it; SmallNet's, which are averages, maxima and mean squares, differ a hundredfold.
    """

    mean: np.ndarray
    deviation: np.ndarray

    def unfold(self, kernel: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
        """A layer on plain features as the same one on scaled features."""
        return [kernel * self.deviation[:, None], bias + self.mean @ kernel]

    def fold(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        """A network's weights, the last layer's last, as those of the same network without the scaling."""
        kernel = weights[-2] / self.deviation[:, None]
        return [*weights[:-2], kernel, weights[-1] - self.mean @ kernel]


def scaling_of(backbone: Backbone, images: Iterable[np.ndarray]) -> Scaling:
    """The mean and deviation of each feature over batches of uint8 images (b, size, size)."""
    from helpers.model.head_training import moments

    given = [backbone.model.predict_on_batch(part[..., None].astype(np.float32)) for part in images]
    features = np.concatenate(given)
    return Scaling(*moments(features, np.arange(len(features))))


def assemble(
    backbone: Backbone,
    classes: int,
    settings: FinetuneSettings | None = None,
    precision: str = "float32",
    scaling: Scaling | None = None,
) -> tuple[keras.Model, keras.Model]:
    """One network as two models that share every layer: logits (b, classes), and their softmax.

    Both take float32 (b, size, size, 1), grey 0..255. Without `settings` it is the plain network, for use; with them,
    the network to train, with dropout, every kernel's penalty and the features' `scaling`. Weights lie in the same
    order either way.
    """
    import keras

    body = keras.models.clone_model(backbone.model, clone_function=lambda layer: _clone(layer, settings, precision))
    body.set_weights(backbone.model.get_weights())
    features = body.output
    penalty = None
    if scaling is not None:
        offset = -scaling.mean / scaling.deviation
        layer = keras.layers.Rescaling((1 / scaling.deviation).tolist(), offset.tolist(), dtype="float32")
        features = layer(features)
    if settings is not None:
        if settings.dropout:
            features = keras.layers.Dropout(settings.dropout, seed=settings.seed, name="head_dropout")(features)
        penalty = _l2(settings.l2 + settings.penalty)
    last = keras.layers.Dense(classes, dtype="float32", name="logits", kernel_regularizer=penalty)
    logits = keras.Model(body.input, last(features), name=f"{backbone.name}_logits")
    softmax = keras.layers.Softmax(dtype="float32", name="probabilities")
    return logits, keras.Model(logits.input, softmax(logits.output), name=f"{backbone.name}_classifier")


def _clone(layer: keras.Layer, settings: FinetuneSettings | None, precision: str) -> keras.Layer:
    """The same layer in another precision and, in training, as it is to train.

    Weight decay is Caffe's: weight_decay * kernel is added to each kernel's gradient, before momentum, which is the
    gradient of half of weight_decay times the squares. An optimiser's own `weight_decay` would act beside the
    momentum instead. As in GoogLeNet's published solver, biases and normalisations have no decay.
    """
    import keras

    from helpers.model.finetune_layers import FixedNormalization

    config, kind = layer.get_config(), type(layer)
    if precision != "float32" and layer.name not in FLOAT32:
        config |= {"dtype": precision}
    if settings is None:
        return kind.from_config(config)
    if settings.penalty:
        penalty = _l2(settings.penalty)
        config |= {key: penalty for kernel, key in KERNELS.items() if key in config and hasattr(layer, kernel)}
    if kind is keras.layers.BatchNormalization and not settings.train_batch_norm:
        kind = FixedNormalization
    return kind.from_config(config)


def _l2(weight: float):
    import keras

    return keras.regularizers.L2(weight) if weight else None


def set_trainable(logits: keras.Model, trainable: str | int) -> int:
    """Let only "head", "all", or the last `trainable` layers with kernels, and the head, learn; returns their number.

    Layers count in Keras's order, from the input up; what has weights but no kernel, as a normalisation, learns
    where it comes after the first kernel that does. Raises `ValueError` for more layers than there are.
    """
    weighted = [layer for layer in logits.layers if layer.weights]
    kernels = [i for i, layer in enumerate(weighted) if any(hasattr(layer, name) for name in KERNELS)]
    if trainable == "all":
        first = 0
    else:
        wanted = 1 if trainable == "head" else int(trainable) + 1  # the last kernel is the head's
        if wanted > len(kernels):
            raise ValueError(f"trainable = {trainable}; this network has {len(kernels) - 1} layers below its head")
        first = kernels[-wanted]
    for layer in logits.layers:
        layer.trainable = False
    for layer in weighted[first:]:
        layer.trainable = True
    return len(weighted) - first


def set_head(logits: keras.Model, head: Head | None, seed: int, scaling: Scaling | None = None) -> None:
    """The last layer's weights: a trained head's, or Glorot uniform ones drawn from `seed`, as `heads` draws them.

    Raises `ValueError` where the head was trained on another number of features.
    """
    last = logits.get_layer("logits")
    features, classes = last.kernel.shape
    if head is not None:
        if head.kernel.shape != (features, classes):
            raise ValueError(f"the head is {head.kernel.shape}; this network needs ({features}, {classes})")
        last.set_weights([head.kernel, head.bias] if scaling is None else scaling.unfold(head.kernel, head.bias))
        return
    limit = np.sqrt(6 / (features + classes))
    drawn = np.random.default_rng((seed, 0)).uniform(-limit, limit, (features, classes))
    last.set_weights([drawn.astype(np.float32), np.zeros(classes, np.float32)])


def compile_network(
    logits: keras.Model, settings: FinetuneSettings, precision: str, epoch_steps: int = 1
) -> keras.Optimizer:
    """Ready `logits` for train_on_batch, with a built optimiser, and return it. Its learning rate follows the cosine of
    `epoch_steps` steps an epoch, or may be set.
    """
    import keras

    optimizer = _optimizer(settings, epoch_steps)
    outer = keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer
    logits.compile(
        outer,
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing),
        metrics=[
            keras.metrics.CategoricalAccuracy(name="accuracy"),
            keras.metrics.CategoricalCrossentropy(from_logits=True, name="cross_entropy"),
        ],
        auto_scale_loss=False,
        # XLA takes long to compile a network for a CPU, and the result is no faster than TensorFlow's own kernels.
        jit_compile="auto" if _has_accelerator() else False,
    )
    outer.build(logits.trainable_variables)
    return optimizer


def _optimizer(settings: FinetuneSettings, epoch_steps: int) -> keras.Optimizer:
    """Keras's Nesterov momentum takes the same steps as Caffe's. As there, biases and normalisations have no decay."""
    import keras

    rate, clip = settings.base_rate, settings.clip_norm or None
    if settings.schedule == "cosine":
        rising = settings.warm_up * epoch_steps
        falling = settings.epochs * epoch_steps - rising
        cosine = {"warmup_target": rate, "warmup_steps": rising} if rising else {}
        rate = keras.optimizers.schedules.CosineDecay(0.0 if rising else rate, falling, **cosine)
    if settings.optimizer == "adam":
        return keras.optimizers.Adam(rate, global_clipnorm=clip)
    if settings.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rate, settings.weight_decay, global_clipnorm=clip)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
    return keras.optimizers.SGD(rate, settings.momentum, nesterov=settings.nesterov, global_clipnorm=clip)


def _has_accelerator() -> bool:
    from helpers.model.finetune_precision import gpu_capability

    return gpu_capability() > 0


def state_of(logits: keras.Model) -> list:
    """Every variable that the next step depends on, in a fixed order: weights, random states, the optimiser's own."""
    seen, found = set(), []
    metrics = {id(variable) for variable in logits.metrics_variables}
    for variable in [*logits.variables, *logits.optimizer.variables]:
        if id(variable) not in seen | metrics:
            seen.add(id(variable))
            found.append(variable)
    return found


def state_values(logits: keras.Model) -> list[np.ndarray]:
    """What `state_of` holds now, for a checkpoint."""
    import keras

    return [keras.ops.convert_to_numpy(variable.value) for variable in state_of(logits)]


def put_state(logits: keras.Model, values: list[np.ndarray]) -> None:
    """Stand where `state_values` was taken. Raises `ValueError` for another number of values."""
    for variable, value in zip(state_of(logits), values, strict=True):
        variable.assign(value)
