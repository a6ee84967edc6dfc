"""The transformed versions of a radiograph of Rajkomar 2017, figure 6: image in, image of the same shape out.

Methods: "We also tested the robustness of the network on transformed versions of one frontal and one lateral test
image, with modifications of text labels, rotation, obscuring half the image, and cropping." The figure's headings are
the keys of `TRANSFORMS`. What the paper does not say, and we chose: which words the labels carry (none that names a
view) and where they stand, that the turn is anticlockwise, and that what is obscured is black.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LABELS = (  # words, and their left and upper edge in parts of the image
    ("L", 0.88, 0.04),
    ("PORTABLE", 0.04, 0.04),
    ("STANDING", 0.50, 0.48),
    ("10:42", 0.08, 0.62),
    ("CHEST", 0.36, 0.88),
)
LETTER = 0.085  # height of the letters in parts of the image
TURN, ZOOM = 45, 1.5  # degrees and factor: "rotated 45°, zoomed 1.5x"


def labelled(image: np.ndarray) -> np.ndarray:
    """White words burnt into the image, as a technologist or a viewer puts them there."""
    height, width = image.shape
    marked = Image.fromarray(image)
    pen, font = ImageDraw.Draw(marked), ImageFont.load_default(size=max(6, round(LETTER * height)))
    for word, left, top in LABELS:
        pen.text((left * width, top * height), word, fill=255, font=font)
    return np.array(marked)


def rotated_and_zoomed(image: np.ndarray) -> np.ndarray:
    """Turned by 45 degrees about the centre and enlarged 1.5 times; of a square, the new corners are still inside the
    old image, so nothing black comes in."""
    height, width = image.shape
    cos, sin = math.cos(math.radians(TURN)) / ZOOM, math.sin(math.radians(TURN)) / ZOOM
    x, y = width / 2, height / 2
    to_old = (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)
    turned = Image.fromarray(image).transform(
        (width, height), Image.Transform.AFFINE, to_old, Image.Resampling.BILINEAR, fillcolor=0
    )
    return np.array(turned)


def top_half_obscured(image: np.ndarray) -> np.ndarray:
    """The upper half black."""
    covered = image.copy()
    covered[: len(image) // 2] = 0
    return covered


def top_left_crop(image: np.ndarray) -> np.ndarray:
    """The upper left quarter, enlarged to the size of the whole."""
    height, width = image.shape
    quarter = Image.fromarray(image[: (height + 1) // 2, : (width + 1) // 2])
    return np.array(quarter.resize((width, height), Image.Resampling.BILINEAR))


# The columns of figure 6, in its order and words.
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Original": np.copy,
    "Labeled": labelled,
    "Rotated 45°, zoomed 1.5x": rotated_and_zoomed,
    "Top half obscured": top_half_obscured,
    "Top left crop": top_left_crop,
}


def transformed(pixels: np.ndarray, name: str) -> np.ndarray:
    """Every image of uint8 (n, h, w) under one of `TRANSFORMS`, by the figure's heading.

    Raises `ValueError` for a heading that is not there, and for another type or shape.
    """
    if name not in TRANSFORMS:
        raise ValueError(f"no transform '{name}'; known: {'; '.join(TRANSFORMS)}")
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        raise ValueError(f"expected uint8 (n, h, w), got {pixels.dtype} of shape {pixels.shape}")
    made = np.empty_like(pixels)
    for place, image in enumerate(pixels):
        made[place] = TRANSFORMS[name](np.ascontiguousarray(image))
    return made
