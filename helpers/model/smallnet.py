"""SmallNet: the phantom profile's backbone, small enough to be pre-trained here and to run on two cores.

Why this design
- Plain 3 x 3 convolutions, each with batch normalisation and ReLU: a CPU runs them at full speed (a depthwise
  convolution has a tenth of the arithmetic, but waits for memory), and a converter folds the normalisation into them.
- Resolution is halved early, where arithmetic is costly, and width grows as it falls.
- A frozen backbone is judged by features that it never learnt to give. The deepest layer knows most about the
  formulas' classes and least about anything else, and an average over the image drowns a lesion of a few pixels. So
  the features are, of every stage, the average, the maximum and the mean square over the image, side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

IMAGE_SIZE = 256  # pixels a side, native: subtle lesions are a few pixels of 128
STEM = 24  # filters of the first layer
STAGES = ((48, 1), (80, 2), (128, 2))  # filters and convolutions of a stage; each stage halves the resolution
FEATURES = 3 * sum(filters for filters, _ in STAGES)


def smallnet_stages(image: keras.KerasTensor) -> list[keras.KerasTensor]:
    """The last map of each stage for an image (batch, height, width, 3) scaled to -1..1, any size from 32 pixels."""
    x = _convolution(image, STEM, 2, "stem")
    maps = []
    for stage, (filters, depth) in enumerate(STAGES, start=1):
        for step in range(1, depth + 1):
            x = _convolution(x, filters, 2 if step == 1 else 1, f"stage{stage}_{step}")
        maps.append(x)
    return maps


def smallnet_features(image: keras.KerasTensor) -> keras.KerasTensor:
    """Features (batch, FEATURES): average, maximum and mean square of every map of every stage."""
    from keras import layers

    pooled = []
    for stage, x in enumerate(smallnet_stages(image), start=1):
        square = layers.Multiply(name=f"stage{stage}_square")([x, x])
        pooled.append(layers.GlobalAveragePooling2D(name=f"stage{stage}_average")(x))
        pooled.append(layers.GlobalMaxPooling2D(name=f"stage{stage}_maximum")(x))
        pooled.append(layers.GlobalAveragePooling2D(name=f"stage{stage}_mean_square")(square))
    return layers.Concatenate(name="features")(pooled)


def _convolution(x: keras.KerasTensor, filters: int, strides: int, name: str) -> keras.KerasTensor:
    from keras import layers

    x = layers.Conv2D(
        filters, 3, strides, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_convolution"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_normalisation")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
