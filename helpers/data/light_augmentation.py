"""A mild augmentation for fine-tuning on radiographs: what a second exposure of the same patient might look like.

Not the paper's: Rajkomar's 106 children are in `augmentation`. No image is turned upside down or by a quarter, since no
radiograph comes to a reader that way; left and right are exchanged only where asked, since the heart has a side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from helpers.data.augmentation import generator

DEGREES = 10.0  # the image is turned by up to this, either way
ZOOM = (0.85, 1.15)  # and scaled within this
SHIFT = (0.08, 0.04)  # and moved by up to these parts of its width and height
CONTRAST = (0.8, 1.25)  # factor on the distance from the mean grey level
BRIGHTNESS = 20.0  # grey levels added or taken away, at most
GAMMA = (0.8, 1.25)  # exponent on grey levels scaled to 0 to 1
BLUR = (0.3, 1.0)  # radius in pixels, of half of the images


def light(image: np.ndarray, rng: np.random.Generator, mirror: bool = False) -> np.ndarray:
    """One random variant of a uint8 image (h, w), of the same shape; the image itself is left as it is.

    It is turned, scaled and moved in one bilinear step (black beyond its edge), its grey levels pass one curve
    (contrast, brightness, gamma), and every other one is slightly blurred. With `mirror`, half are reflected left to
    right.
    """
    height, width = image.shape
    turn, zoom = np.deg2rad(rng.uniform(-DEGREES, DEGREES)), rng.uniform(*ZOOM)
    right, down = rng.uniform(-1, 1, 2) * SHIFT * np.array([width, height])
    side = -1.0 if mirror and rng.random() < 0.5 else 1.0
    # From a pixel of the new image to its place in the old one: about the centre, turned back and scaled back.
    cos, sin, x, y = np.cos(turn) / zoom, np.sin(turn) / zoom, width / 2, height / 2
    to_old = (side * cos, side * sin, x - side * (cos * (x + right) + sin * (y + down)))
    to_old += (-sin, cos, y + sin * (x + right) - cos * (y + down))
    made = Image.fromarray(image).transform(
        (width, height), Image.Transform.AFFINE, to_old, Image.Resampling.BILINEAR, fillcolor=0
    )
    made = made.point(_curve(float(image.mean()), rng))
    blur = rng.uniform(*BLUR)
    return np.array(made.filter(ImageFilter.GaussianBlur(blur)) if rng.random() < 0.5 else made)


def _curve(mean: float, rng: np.random.Generator) -> list[int]:
    """What each of the 256 grey levels becomes. Black stays black, and what is nearly black nearly so, for the edge."""
    contrast, bright = np.exp(rng.uniform(*np.log(CONTRAST))), rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    gamma = np.exp(rng.uniform(*np.log(GAMMA)))
    old = np.arange(256)
    levels = np.clip((old - mean) * contrast + mean + bright, 0, 255)
    levels = 255 * (levels / 255) ** gamma * np.clip(old / 32, 0, 1)
    return np.rint(levels).astype(int).tolist()


class LightAugmentation:
    """Variants on demand: another of every image in each epoch, the same in whatever batch it is asked for."""

    def __init__(self, pixels: np.ndarray, seed: int, mirror: bool = False) -> None:
        """`pixels`: uint8 (n, h, w), held, not copied."""
        self._pixels, self._seed, self._mirror = pixels, seed, mirror
        content = hashlib.blake2b(np.ascontiguousarray(pixels), digest_size=8).hexdigest()
        self.key = f"light {content} {seed} {mirror}"  # all that the variants follow from

    def __len__(self) -> int:
        return len(self._pixels)

    def batch(self, epoch: int, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The variants of these rows in this epoch: uint8 (b, h, w)."""
        made = np.empty((len(rows), *self._pixels.shape[1:]), np.uint8)
        for place, row in enumerate(rows):
            made[place] = light(self._pixels[row], generator(self._seed, epoch, int(row), "light"), self._mirror)
        return made
