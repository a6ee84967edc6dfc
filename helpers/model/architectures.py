"""Two architectures that Keras does not have: GoogLeNet (Rajkomar 2017) and Inception-v4 (Carr 2020).

Imports Keras: to be imported where a network is built.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
import numpy as np
from keras import layers

# --- GoogLeNet (Inception v1): Szegedy et al. 2015, "Going Deeper with Convolutions" ---
#
# Rajkomar 2017, Model Creation and Selection: "The initial model was adapted from the base GoogLeNet convolutional
# neural network created by Szegedy et al. [19]. This model [...] uses 22 convolutional layers including 9 inception
# modules". (21 of the 22 layers with parameters are convolutional on the path from the image, the last is fully
# connected.) Every convolution has a bias and a ReLU; there is no batch normalisation. Local response normalisation and
# the rounding of pooled sizes are as in the authors' own network for Caffe, which the paper trained.


class Inception(NamedTuple):
    """The filters of one module, named as the columns of the paper's table 1."""

    one: int  # 1 x 1
    reduce_three: int  # 1 x 1 before the 3 x 3
    three: int
    reduce_five: int  # 1 x 1 before the 5 x 5
    five: int
    pool: int  # 1 x 1 after the 3 x 3 pooling


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


def googlenet_features(image: keras.KerasTensor) -> keras.KerasTensor:
    """Features (batch, 1024) of an image (batch, height, width, 3) with its channels' means subtracted."""
    x = _biased(image, 64, 7, "conv1", strides=2)
    x = layers.MaxPooling2D(3, 2, "same", name="pool1")(x)  # the last window reaches over the edge, as Caffe rounds up
    x = LocalResponseNormalization(name="norm1")(x)
    x = _biased(x, 64, 1, "conv2_reduce")
    x = _biased(x, 192, 3, "conv2")
    x = LocalResponseNormalization(name="norm2")(x)
    for name, module in MODULES.items():
        if name in POOLED:
            x = layers.MaxPooling2D(3, 2, "same", name=f"pool{int(name[0]) - 1}")(x)
        x = _inception(x, module, f"inception_{name}")
    return layers.GlobalAveragePooling2D(name="average")(x)


def _inception(x: keras.KerasTensor, module: Inception, name: str) -> keras.KerasTensor:
    """Four paths side by side, concatenated in the order of table 1."""
    three = _biased(x, module.reduce_three, 1, f"{name}_3x3_reduce")
    five = _biased(x, module.reduce_five, 1, f"{name}_5x5_reduce")
    pooled = layers.MaxPooling2D(3, 1, "same", name=f"{name}_pool")(x)
    paths = [
        _biased(x, module.one, 1, f"{name}_1x1"),
        _biased(three, module.three, 3, f"{name}_3x3"),
        _biased(five, module.five, 5, f"{name}_5x5"),
        _biased(pooled, module.pool, 1, f"{name}_pool_projection"),
    ]
    return layers.Concatenate(name=name)(paths)


def _biased(x: keras.KerasTensor, filters: int, size: int, name: str, strides: int = 1) -> keras.KerasTensor:
    """A convolution that pads by half its size on every side, as Caffe does ("same" pads one side more), and a ReLU.

    Random kernels are Glorot's ("xavier" there) and biases start at 0.2, as in the authors' network.
    """
    if size > 1 and strides > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_padding")(x)
    padding = "same" if strides == 1 else "valid"
    return layers.Conv2D(
        filters, size, strides, padding, activation="relu", bias_initializer=keras.initializers.Constant(0.2), name=name
    )(x)


@keras.saving.register_keras_serializable("helpers")
class LocalResponseNormalization(keras.layers.Layer):
    """x / (1 + ALPHA / NEIGHBOURS * sum of x squared over NEIGHBOURS channels around) ** 0.75, channels last.

    Krizhevsky et al. 2012, section 3.3, as Caffe computes it: there alpha is divided by the number of channels.
    """

    NEIGHBOURS, ALPHA = 5, 1e-4

    def call(self, inputs):
        x = keras.ops.cast(inputs, "float32")  # squares of these maps leave float16's range
        place = np.arange(inputs.shape[-1])
        near = (np.abs(place[:, None] - place) <= self.NEIGHBOURS // 2).astype(np.float32)
        # Sums by a product with a band of ones, and the power by two roots: six times as fast on a CPU as slices.
        root = keras.ops.rsqrt(1 + self.ALPHA / self.NEIGHBOURS * keras.ops.matmul(keras.ops.square(x), near))
        return keras.ops.cast(x * root * keras.ops.sqrt(root), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


# --- Inception-v4: Szegedy et al. 2017, "Inception-v4, Inception-ResNet and the Impact of Residual Connections" ---
#
# Carr 2020, Method: "we used Inception V4 as our CNN architecture, one of the best performing open-source CNNs".
#
# Every convolution is without bias, followed by batch normalisation and a ReLU (149 of them). Figure 9 puts the blocks
# together; figures 3 to 8 are the blocks. Where the authors' released network, which every public file of weights comes
# from, differs from their figures, it is followed:
#
# - the stem's long path takes 1 x 7 before 7 x 1 (figure 3: after);
# - Inception-B's middle path ends in 7 x 1 (figure 5 prints 1 x 7 twice), its long path begins with 7 x 1, not 1 x 7;
# - Inception-C's long path takes 3 x 1 before 1 x 3 (figure 6: after);
# - the stem's last convolution has stride 2, without which figure 3's own sizes would not come out.

EPSILON = 1e-3  # of the batch normalisation
MOMENTUM = 0.9997  # of its moving averages


class Step(NamedTuple):
    """One convolution: a kernel of `rows` x `columns`. With stride 2 it is never padded; else where `padded`."""

    filters: int
    rows: int = 1
    columns: int = 1
    strides: int = 1
    padded: bool = True


ROW, COLUMN = (1, 7), (7, 1)  # kernels of 1 x 7 and 7 x 1, rows first
AVERAGE, MAXIMUM = "average", "maximum"  # of 3 x 3: the average with stride 1, padded; the maximum with stride 2, not

# Each block's paths side by side, in the order in which they are concatenated; each is a chain from the block's input.
# The names of convolutions come from this: 'inception_a1_branch2_1' is the second link of the third path; a path of one
# link and a block of one path have no number: 'inception_a1_branch0', 'stem_1'.
STEM_4 = ([MAXIMUM], [Step(96, 3, 3, 2)])
STEM_5 = (
    [Step(64), Step(96, 3, 3, padded=False)],
    [Step(64), Step(64, *ROW), Step(64, *COLUMN), Step(96, 3, 3, padded=False)],
)
STEM_6 = ([Step(192, 3, 3, 2)], [MAXIMUM])
INCEPTION_A = (
    [Step(96)],
    [Step(64), Step(96, 3, 3)],
    [Step(64), Step(96, 3, 3), Step(96, 3, 3)],
    [AVERAGE, Step(96)],
)
REDUCTION_A = (  # figure 7 with table 1's k, l, m, n of Inception-v4: 192, 224, 256, 384
    [Step(384, 3, 3, 2)],
    [Step(192), Step(224, 3, 3), Step(256, 3, 3, 2)],
    [MAXIMUM],
)
INCEPTION_B = (
    [Step(384)],
    [Step(192), Step(224, *ROW), Step(256, *COLUMN)],
    [Step(192), Step(192, *COLUMN), Step(224, *ROW), Step(224, *COLUMN), Step(256, *ROW)],
    [AVERAGE, Step(128)],
)
REDUCTION_B = (
    [Step(192), Step(192, 3, 3, 2)],
    [Step(256), Step(256, *ROW), Step(320, *COLUMN), Step(320, 3, 3, 2)],
    [MAXIMUM],
)
INCEPTION_C = (  # a tuple at a chain's end is a fork: both take what the link before gives
    [Step(256)],
    [Step(384), (Step(256, 1, 3), Step(256, 3, 1))],
    [Step(384), Step(448, 3, 1), Step(512, 1, 3), (Step(256, 1, 3), Step(256, 3, 1))],
    [AVERAGE, Step(256)],
)
BLOCKS = {
    "stem_1": ([Step(32, 3, 3, 2)],),
    "stem_2": ([Step(32, 3, 3, padded=False)],),
    "stem_3": ([Step(64, 3, 3)],),
    "stem_4": STEM_4,
    "stem_5": STEM_5,
    "stem_6": STEM_6,
    **{f"inception_a{i}": INCEPTION_A for i in range(1, 5)},
    "reduction_a": REDUCTION_A,
    **{f"inception_b{i}": INCEPTION_B for i in range(1, 8)},
    "reduction_b": REDUCTION_B,
    **{f"inception_c{i}": INCEPTION_C for i in range(1, 4)},
}


def inception_v4_features(image: keras.KerasTensor) -> keras.KerasTensor:
    """Features (batch, 1536) of an image (batch, height, width, 3), scaled to -1..1."""
    for name, paths in BLOCKS.items():
        image = _block(image, paths, name)
    return layers.GlobalAveragePooling2D(name="average")(image)


def _block(x: keras.KerasTensor, paths: tuple[list, ...], name: str) -> keras.KerasTensor:
    """The ends of all paths, concatenated; a block of a single path is that path."""
    if len(paths) == 1:
        return _chain(x, paths[0], name)[0]
    ends = [end for i, path in enumerate(paths) for end in _chain(x, path, f"{name}_branch{i}")]
    return layers.Concatenate(name=name)(ends)


def _chain(x: keras.KerasTensor, path: list, name: str) -> list[keras.KerasTensor]:
    """What one path gives: one map, or two where it ends in a fork."""
    for i, link in enumerate(path):
        place = name if len(path) == 1 else f"{name}_{i}"
        if link == AVERAGE:
            x = layers.AveragePooling2D(3, 1, "same", name=place)(x)  # the padding does not count
        elif link == MAXIMUM:
            x = layers.MaxPooling2D(3, 2, "valid", name=place)(x)
        elif isinstance(link, Step):
            x = _normalised(x, link, place)
        else:
            return [_normalised(x, step, f"{place}{letter}") for step, letter in zip(link, "ab", strict=True)]
    return [x]


def _normalised(x: keras.KerasTensor, step: Step, name: str) -> keras.KerasTensor:
    """A convolution, batch normalisation and a ReLU; the layers `name`, `name`_bn and `name`_relu."""
    padding = "same" if step.padded and step.strides == 1 else "valid"
    kernel = (step.rows, step.columns)
    x = layers.Conv2D(step.filters, kernel, step.strides, padding, use_bias=False, name=name)(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)
