"""SmallNet: the phantom profile's backbone, small enough to be pre-trained here and to run on two cores.

Why this design
- Plain 3 x 3 convolutions, each with batch normalisation and ReLU: a CPU runs them at full speed (a depthwise
  convolution has a tenth of the arithmetic, but waits for memory), and a converter folds the normalisation into them.
- Resolution is halved early, where arithmetic is dear, and width grows as it falls.
- A frozen backbone is judged by features that it never learnt to give. The deepest layer knows most about the
  formulas' classes and least about anything else; so the features are the averages of the last two stages side by
  side, the mid-level ones being textures and edges that medical images have too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

IMAGE_SIZE = 128  # pixels a side, native
STEM = 24  # filters of the first layer
STAGES = ((48, 1), (80, 2), (128, 2))  # filters and convolutions of a stage; each stage halves the resolution
FEATURES = sum(filters for filters, _ in STAGES[-2:])


def smallnet_features(image: keras.KerasTensor) -> keras.KerasTensor:
    """Features (batch, FEATURES) of an image (batch, height, width, 3) scaled to -1..1, any size from 32 pixels."""
    from keras import layers

    x = _convolution(image, STEM, 2, "stem")
    pooled = []
    for stage, (filters, depth) in enumerate(STAGES, start=1):
        for step in range(1, depth + 1):
            x = _convolution(x, filters, 2 if step == 1 else 1, f"stage{stage}_{step}")
        pooled.append(layers.GlobalAveragePooling2D(name=f"stage{stage}_average")(x))
    return layers.Concatenate(name="features")(pooled[-2:])


def _convolution(x: keras.KerasTensor, filters: int, strides: int, name: str) -> keras.KerasTensor:
    from keras import layers

    x = layers.Conv2D(
        filters, 3, strides, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_convolution"
    )(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_normalisation")(x)
    return layers.ReLU(name=f"{name}_relu")(x)
