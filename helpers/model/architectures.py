"""Architectures that Keras does not have: GoogLeNet (Rajkomar 2017), Inception-v4 (Carr 2020), and our SmallNet.

The first two are tables of blocks; a block's paths lie side by side and are concatenated in their order; each path is a
chain from the block's input. The names of layers come from this: 'inception_a1_branch2_1' is the second link of the
third path; a path of one link and a block of one path have no number: 'inception_a1_branch0', 'stem_1'.

Imports Keras: to be imported where a network is built.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras
import numpy as np
from keras import layers


class Step(NamedTuple):
    """One convolution: a kernel of `rows` x `columns`. With stride 2 it is never padded; else where `padded`."""

    filters: int
    rows: int = 1
    columns: int = 1
    strides: int = 1
    padded: bool = True


ROW, COLUMN = (1, 7), (7, 1)  # kernels of 1 x 7 and 7 x 1, rows first
# Links of 3 x 3 that learn nothing. The padding of the average does not count; the last window of Caffe's maxima
# reaches over the edge, as it rounds sizes up.
AVERAGE = partial(layers.AveragePooling2D, 3, 1, "same")
MAXIMUM = partial(layers.MaxPooling2D, 3, 1, "same")
HALVING = partial(layers.MaxPooling2D, 3, 2, "valid")
CAFFE_HALVING = partial(layers.MaxPooling2D, 3, 2, "same")

# --- GoogLeNet (Inception v1): Szegedy et al. 2015, "Going Deeper with Convolutions" ---
#
# Rajkomar 2017, Model Creation and Selection: "The initial model was adapted from the base GoogLeNet convolutional
# neural network created by Szegedy et al. [19]. This model [...] uses 22 convolutional layers including 9 inception
# modules". (21 of the 22 layers with parameters are convolutional on the path from the image, the last is fully
# connected.) Every convolution has a bias and a ReLU; there is no batch normalisation. Local response normalisation and
# the rounding of pooled sizes are as in the authors' own network for Caffe, which the paper trained.


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


def _module(one: int, reduce_three: int, three: int, reduce_five: int, five: int, pool: int) -> tuple[list, ...]:
    """The four paths of a module, by the columns of the paper's table 1."""
    return (
        [Step(one)],
        [Step(reduce_three), Step(three, 3, 3)],
        [Step(reduce_five), Step(five, 5, 5)],
        [MAXIMUM, Step(pool)],
    )


GOOGLENET = {
    "conv1": ([Step(64, 7, 7, 2)],),
    "pool1": ([CAFFE_HALVING],),
    "norm1": ([LocalResponseNormalization],),
    "conv2_reduce": ([Step(64)],),
    "conv2": ([Step(192, 3, 3)],),
    "norm2": ([LocalResponseNormalization],),
    "pool2": ([CAFFE_HALVING],),
    "inception_3a": _module(64, 96, 128, 16, 32, 32),
    "inception_3b": _module(128, 128, 192, 32, 96, 64),
    "pool3": ([CAFFE_HALVING],),
    "inception_4a": _module(192, 96, 208, 16, 48, 64),
    "inception_4b": _module(160, 112, 224, 24, 64, 64),
    "inception_4c": _module(128, 128, 256, 24, 64, 64),
    "inception_4d": _module(112, 144, 288, 32, 64, 64),
    "inception_4e": _module(256, 160, 320, 32, 128, 128),
    "pool4": ([CAFFE_HALVING],),
    "inception_5a": _module(256, 160, 320, 32, 128, 128),
    "inception_5b": _module(384, 192, 384, 48, 128, 128),
}


def _biased(x: keras.KerasTensor, step: Step, name: str) -> keras.KerasTensor:
    """A convolution that pads by half its size on every side, as Caffe does ("same" pads one side more), and a ReLU.

    Random kernels are Glorot's ("xavier" there) and biases start at 0.2, as in the authors' network.
    """
    if step.strides > 1:
        x = layers.ZeroPadding2D(step.rows // 2, name=f"{name}_padding")(x)
    padding, kernel = ("same" if step.strides == 1 else "valid"), (step.rows, step.columns)
    bias = keras.initializers.Constant(0.2)
    return layers.Conv2D(
        step.filters, kernel, step.strides, padding, activation="relu", bias_initializer=bias, name=name
    )(x)


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
STEM_5 = (
    [Step(64), Step(96, 3, 3, padded=False)],
    [Step(64), Step(64, *ROW), Step(64, *COLUMN), Step(96, 3, 3, padded=False)],
)
INCEPTION_A = (
    [Step(96)],
    [Step(64), Step(96, 3, 3)],
    [Step(64), Step(96, 3, 3), Step(96, 3, 3)],
    [AVERAGE, Step(96)],
)
REDUCTION_A = (  # figure 7 with table 1's k, l, m, n of Inception-v4: 192, 224, 256, 384
    [Step(384, 3, 3, 2)],
    [Step(192), Step(224, 3, 3), Step(256, 3, 3, 2)],
    [HALVING],
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
    [HALVING],
)
INCEPTION_C = (  # a tuple at a chain's end is a fork: both take what the link before gives
    [Step(256)],
    [Step(384), (Step(256, 1, 3), Step(256, 3, 1))],
    [Step(384), Step(448, 3, 1), Step(512, 1, 3), (Step(256, 1, 3), Step(256, 3, 1))],
    [AVERAGE, Step(256)],
)
INCEPTION_V4 = {
    "stem_1": ([Step(32, 3, 3, 2)],),
    "stem_2": ([Step(32, 3, 3, padded=False)],),
    "stem_3": ([Step(64, 3, 3)],),
    "stem_4": ([HALVING], [Step(96, 3, 3, 2)]),
    "stem_5": STEM_5,
    "stem_6": ([Step(192, 3, 3, 2)], [HALVING]),
    **{f"inception_a{i}": INCEPTION_A for i in range(1, 5)},
    "reduction_a": REDUCTION_A,
    **{f"inception_b{i}": INCEPTION_B for i in range(1, 8)},
    "reduction_b": REDUCTION_B,
    **{f"inception_c{i}": INCEPTION_C for i in range(1, 4)},
}


def _normalised(x: keras.KerasTensor, step: Step, name: str) -> keras.KerasTensor:
    """A convolution, batch normalisation and a ReLU; the layers `name`, `name`_bn and `name`_relu."""
    padding = "same" if step.padded and step.strides == 1 else "valid"
    kernel = (step.rows, step.columns)
    x = layers.Conv2D(step.filters, kernel, step.strides, padding, use_bias=False, name=name)(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)


# --- from tables to networks ---


def _from_table(image: keras.KerasTensor, blocks: dict[str, tuple[list, ...]], convolve: Callable) -> keras.KerasTensor:
    """The averages (batch, f) of the last block's maps; `convolve` makes each convolution."""
    for name, paths in blocks.items():
        branches = [name] if len(paths) == 1 else [f"{name}_branch{i}" for i in range(len(paths))]
        ends = []
        for path, branch in zip(paths, branches, strict=True):
            ends += _chain(image, path, branch, convolve)
        image = layers.Concatenate(name=name)(ends) if len(ends) > 1 else ends[0]
    return layers.GlobalAveragePooling2D(name="average")(image)


def _chain(x: keras.KerasTensor, path: list, name: str, convolve: Callable) -> list[keras.KerasTensor]:
    """What one path gives: one map, or two where it ends in a fork."""
    for i, link in enumerate(path):
        place = name if len(path) == 1 else f"{name}_{i}"
        if callable(link):
            x = link(name=place)(x)
        elif isinstance(link, Step):
            x = convolve(x, link, place)
        else:
            return [convolve(x, step, f"{place}{letter}") for step, letter in zip(link, "ab", strict=True)]
    return [x]


# --- SmallNet: the phantom profile's, small enough to be pre-trained here and to run on two cores ---
#
# Why this design
# - Plain 3 x 3 convolutions, each with batch normalisation and ReLU: a CPU runs them at full speed (a depthwise
#   convolution has a tenth of the arithmetic, but waits for memory), and a converter folds the normalisation into them.
# - Resolution is halved early, where arithmetic is costly, and width grows as it falls.
# - A frozen backbone is judged by features that it never learnt to give. The deepest layer knows most about the
#   formulas' classes and least about anything else, and an average over the image drowns a lesion of a few pixels. So
#   the features are, of every stage, the average, the maximum and the mean square over the image, side by side.

STEM = 24  # filters of the first layer
STAGES = ((48, 1), (80, 2), (128, 2))  # filters and convolutions of a stage; each stage halves the resolution


def smallnet_stages(image: keras.KerasTensor) -> list[keras.KerasTensor]:
    """The last map of each stage for an image (batch, height, width, 3) scaled to -1..1, any size from 32 pixels."""
    x = _small(image, STEM, 2, "stem")
    maps = []
    for stage, (filters, depth) in enumerate(STAGES, start=1):
        for step in range(1, depth + 1):
            x = _small(x, filters, 2 if step == 1 else 1, f"stage{stage}_{step}")
        maps.append(x)
    return maps


def smallnet_features(image: keras.KerasTensor) -> keras.KerasTensor:
    """Features (batch, 768): average, maximum and mean square of every map of every stage."""
    pooled = []
    for stage, x in enumerate(smallnet_stages(image), start=1):
        square = layers.Multiply(name=f"stage{stage}_square")([x, x])
        pooled.append(layers.GlobalAveragePooling2D(name=f"stage{stage}_average")(x))
        pooled.append(layers.GlobalMaxPooling2D(name=f"stage{stage}_maximum")(x))
        pooled.append(layers.GlobalAveragePooling2D(name=f"stage{stage}_mean_square")(square))
    return layers.Concatenate(name="features")(pooled)


def _small(x: keras.KerasTensor, filters: int, strides: int, name: str) -> keras.KerasTensor:
    x = layers.Conv2D(
        filters, 3, strides, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_convolution"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_normalisation")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


# Each takes an image (batch, height, width, 3), scaled as the registry says, to features (batch, f).
NETWORKS = {
    "GoogLeNet": lambda image: _from_table(image, GOOGLENET, _biased),
    "InceptionV4": lambda image: _from_table(image, INCEPTION_V4, _normalised),
    "SmallNet": smallnet_features,
}
