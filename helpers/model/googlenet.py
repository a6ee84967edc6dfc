"""GoogLeNet (Inception v1): Szegedy et al. 2015, "Going Deeper with Convolutions", as a Keras model.

Rajkomar 2017, Model Creation and Selection: "The initial model was adapted from the base GoogLeNet convolutional neural
network created by Szegedy et al. [19]. This model [...] uses 22 convolutional layers including 9 inception modules".
(21 of the 22 layers with parameters are convolutional on the path from the image, the last is fully connected.)

Every convolution has a bias and a ReLU; there is no batch normalisation. Local response normalisation, dropout before
the classifier and the rounding of pooled sizes are as in the authors' own network for Caffe, which the paper trained.
Imports Keras: to be imported where a network is built.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

IMAGE_SIZE = 224
FEATURES = 1024
DROPOUT = 0.4  # of the features, before the classifier


@dataclass(frozen=True)
class Inception:
    """The filters of one module, named as the columns of the paper's table 1."""

    one: int  # 1 x 1
    reduce_three: int  # 1 x 1 before the 3 x 3
    three: int
    reduce_five: int  # 1 x 1 before the 5 x 5
    five: int
    pool: int  # 1 x 1 after the 3 x 3 pooling

    @property
    def filters(self) -> int:
        return self.one + self.three + self.five + self.pool


MODULES = {
    "3a": Inception(64, 96, 128, 16, 32, 32),
    "3b": Inception(128, 128, 192, 32, 96, 64),
    "4a": Inception(192, 96, 208, 16, 48, 64),
    "4b": Inception(160, 112, 224, 24, 64, 64),
    "4c": Inception(128, 128, 256, 24, 64, 64),
    "4d": Inception(112, 144, 288, 32, 64, 64),
    "4e": Inception(256, 160, 320, 32, 128, 128),
    "5a": Inception(256, 160, 320, 32, 128, 128),
    "5b": Inception(384, 192, 384, 48, 128, 128),
}
POOLED = ("3a", "4a", "5a")  # a 3 x 3 maximum of stride 2 comes before these
AUXILIARY = ("4a", "4d")  # the auxiliary classifiers hang on the output of these


def googlenet_features(image: keras.KerasTensor) -> keras.KerasTensor:
    """Features (batch, 1024) of an image (batch, height, width, 3) with its channels' means subtracted."""
    return layers.GlobalAveragePooling2D(name="average")(googlenet_maps(image)["5b"])


def googlenet(classes: int = 1000, size: int = IMAGE_SIZE, auxiliary: bool = False) -> keras.Model:
    """The whole network on (batch, size, size, 3), random weights: logits (batch, classes).

    With `auxiliary`, a list of three: the two auxiliary classifiers' logits come after. They were published for
    training from nothing, each with a weight of 0.3 in the loss, and are "discarded" at inference.
    """
    image = keras.Input((size, size, 3), name="image")
    maps = googlenet_maps(image)
    x = layers.GlobalAveragePooling2D(name="average")(maps["5b"])
    x = layers.Dropout(DROPOUT, name="dropout")(x)
    logits = layers.Dense(classes, name="classifier")(x)
    others = [auxiliary_classifier(maps[name], classes, f"auxiliary_{name}") for name in AUXILIARY]
    return keras.Model(image, [logits, *others] if auxiliary else logits, name="GoogLeNet")


def googlenet_maps(image: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """Every inception module's output by its name in table 1: "3a" (batch, 28, 28, 256 for 224 pixels) to "5b"."""
    x = _convolution(image, 64, 7, "conv1", strides=2)
    x = _halved(x, "pool1")
    x = LocalResponseNormalization(name="norm1")(x)
    x = _convolution(x, 64, 1, "conv2_reduce")
    x = _convolution(x, 192, 3, "conv2")
    x = LocalResponseNormalization(name="norm2")(x)
    maps = {}
    for name, module in MODULES.items():
        if name in POOLED:
            x = _halved(x, f"pool{int(name[0]) - 1}")
        x = maps[name] = inception(x, module, f"inception_{name}")
    return maps


def inception(x: keras.KerasTensor, module: Inception, name: str) -> keras.KerasTensor:
    """Four paths side by side, concatenated in the order of table 1."""
    three = _convolution(x, module.reduce_three, 1, f"{name}_3x3_reduce")
    five = _convolution(x, module.reduce_five, 1, f"{name}_5x5_reduce")
    pooled = layers.MaxPooling2D(3, 1, "same", name=f"{name}_pool")(x)
    paths = [
        _convolution(x, module.one, 1, f"{name}_1x1"),
        _convolution(three, module.three, 3, f"{name}_3x3"),
        _convolution(five, module.five, 5, f"{name}_5x5"),
        _convolution(pooled, module.pool, 1, f"{name}_pool_projection"),
    ]
    return layers.Concatenate(name=name)(paths)


def auxiliary_classifier(x: keras.KerasTensor, classes: int, name: str) -> keras.KerasTensor:
    """Logits (batch, classes) from an inner module's map: pooled 5 x 5, 128 filters of 1 x 1, 1,024 units."""
    x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = _convolution(x, 128, 1, f"{name}_convolution")
    x = layers.Flatten(name=f"{name}_flat")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_units")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return layers.Dense(classes, name=f"{name}_classifier")(x)


def _convolution(x: keras.KerasTensor, filters: int, size: int, name: str, strides: int = 1) -> keras.KerasTensor:
    """A convolution that pads by half its size on every side, as Caffe does ("same" pads one side more), and a ReLU.

    Random kernels are Glorot's ("xavier" there) and biases start at 0.2, as in the authors' network.
    """
    if size > 1 and strides > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_padding")(x)
    padding = "same" if strides == 1 else "valid"
    return layers.Conv2D(
        filters, size, strides, padding, activation="relu", bias_initializer=keras.initializers.Constant(0.2), name=name
    )(x)


def _halved(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """The maximum of 3 x 3 with stride 2; the last window may reach over the edge, as Caffe rounds sizes up."""
    return layers.MaxPooling2D(3, 2, "same", name=name)(x)


@keras.saving.register_keras_serializable("helpers")
class LocalResponseNormalization(keras.layers.Layer):
    """x / (1 + alpha / size * sum of x squared over `size` neighbouring channels) ** 0.75, channels last.

    Krizhevsky et al. 2012, section 3.3, as Caffe computes it: there `alpha` is divided by `size`.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, **settings) -> None:
        super().__init__(**settings)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size = {size}; a channel has as many neighbours on either side, so it must be odd")
        self.size, self.alpha = size, alpha

    def call(self, inputs):
        x = keras.ops.cast(inputs, "float32")  # squares of these maps leave float16's range
        place = np.arange(inputs.shape[-1])
        near = (np.abs(place[:, None] - place) <= self.size // 2).astype(np.float32)
        # Sums by a product with a band of ones, and the power by two roots: six times as fast on a CPU as slices.
        root = keras.ops.rsqrt(1 + self.alpha / self.size * keras.ops.matmul(keras.ops.square(x), near))
        return keras.ops.cast(x * root * keras.ops.sqrt(root), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict:
        return super().get_config() | {"size": self.size, "alpha": self.alpha}
