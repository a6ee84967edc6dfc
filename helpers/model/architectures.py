"""Inception-v4: Szegedy et al. 2017, "Inception-v4, Inception-ResNet and the Impact of Residual Connections".

Carr 2020, Method: "we used Inception V4 as our CNN architecture, one of the best performing open-source CNNs".

Every convolution is without bias, followed by batch normalisation and a ReLU (149 of them). Figure 9 puts the blocks
together; figures 3 to 8 are the blocks. Where the authors' released network, which every public file of weights comes
from, differs from their figures, it is followed:

- the stem's long path takes 1 x 7 before 7 x 1 (figure 3: after);
- Inception-B's middle path ends in 7 x 1 (figure 5 prints 1 x 7 twice), and its long path begins with 7 x 1, not 1 x 7;
- Inception-C's long path takes 3 x 1 before 1 x 3 (figure 6: after);
- the stem's last convolution has stride 2, without which figure 3's own sizes would not come out.

Imports Keras: to be imported where a network is built.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import layers

IMAGE_SIZE = 299
FEATURES = 1536
DROPOUT = 0.2  # of the features, before the classifier: "keep 0.8"
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
    return layers.GlobalAveragePooling2D(name="average")(inception_v4_maps(image)["inception_c3"])


def inception_v4(classes: int = 1000, size: int = IMAGE_SIZE) -> keras.Model:
    """The whole network on (batch, size, size, 3), random weights: logits (batch, classes)."""
    image = keras.Input((size, size, 3), name="image")
    x = layers.Dropout(DROPOUT, name="dropout")(inception_v4_features(image))
    return keras.Model(image, layers.Dense(classes, name="classifier")(x), name="InceptionV4")


def inception_v4_maps(image: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    """Every block's output by its name in `BLOCKS`; for 299 pixels "stem_6" is (batch, 35, 35, 384)."""
    maps, x = {}, image
    for name, paths in BLOCKS.items():
        x = maps[name] = _block(x, paths, name)
    return maps


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
            x = _convolution(x, link, place)
        else:
            return [_convolution(x, step, f"{place}{letter}") for step, letter in zip(link, "ab", strict=True)]
    return [x]


def _convolution(x: keras.KerasTensor, step: Step, name: str) -> keras.KerasTensor:
    """A convolution, batch normalisation and a ReLU; the layers `name`, `name`_bn and `name`_relu."""
    padding = "same" if step.padded and step.strides == 1 else "valid"
    kernel = (step.rows, step.columns)
    x = layers.Conv2D(step.filters, kernel, step.strides, padding, use_bias=False, name=name)(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{name}_bn")(x)
    return layers.Activation("relu", name=f"{name}_relu")(x)
