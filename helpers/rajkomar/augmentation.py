"""The 106 children of each radiograph, as Rajkomar 2017 made them.

Methods: "The training and validation sets were augmented by applying a number of image transformations: horizontal and
vertical reflection, rotation by 2 or 90°, translation of 3 pixels in cardinal or ordinal directions, pixel spread (swap
each pixel with a random adjacent pixel), noise reduction (replace each pixel with the value just before or after the
median value in a neighborhood of 2 or 5 pixels), and random noise addition. In total, each image served as the
progenitor of 106 child images with the label inherited from the parent image. This resulted in a total of 119,674
training images and 39,856 validation images." (1,129 x 106 and 376 x 106: these totals hold nothing but children.)

From the text: the transforms, their sizes (on images of 256 x 256), 106 a parent, and that validation was augmented
too. Our choice, for the text does not say how they combine:

- 14 ways to move the image: 2 reflections, 4 rotations (2 and 90 degrees, either way), 8 translations;
- 6 ways to change its grey values: spread, 4 noise reductions (before or after, 2 or 5 pixels), noise;
- at most one of each, moved first, which makes (14 + 1) x (6 + 1) = 105, the parent itself (nothing done) among them;
- the 106th is the parent reflected both ways, the only child that is moved twice.

Also ours: black where a moved image leaves a gap; Gaussian noise of 8 grey levels; and how pixels are swapped
(`spread`). Children are made when they are asked for, each from the seed, its parent's name and its
own number, so neither the order nor the number of those asked for matters.
"""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from PIL import Image

from helpers.data.augment import Children, child_rows, generator
from helpers.data.splits import SPLITS

SHIFT = 3  # pixels
NOISE = 8.0  # standard deviation of the added noise in grey levels; the text names neither its kind nor its strength


# --- the transforms that the text names: square uint8 (n, n) in, the same shape out ---


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turned anticlockwise about the centre: quarter turns exactly, others bilinearly with black corners."""
    turns, rest = divmod(degrees, 90)
    if rest == 0:
        return np.ascontiguousarray(np.rot90(image, int(turns)))
    return np.array(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR))


def translate(image: np.ndarray, right: int, down: int) -> np.ndarray:
    """Moved by whole pixels, at most `SHIFT`; what enters is black, what leaves is lost."""
    top, left, (height, width) = SHIFT - down, SHIFT - right, image.shape
    return np.pad(image, SHIFT)[top : top + height, left : left + width]


def spread(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """ "pixel spread (swap each pixel with a random adjacent pixel)".

    The image is cut into blocks of 2 x 2, from a random corner, and each block draws which of its pixels change
    places: side by side, one above the other, or across. So every pixel (but a line at an edge) is swapped once, with
    one of its eight neighbours, and no grey level is lost or made.
    """
    top, left = rng.integers(2, size=2)
    high, wide = (image.shape[0] - top) // 2, (image.shape[1] - left) // 2
    done = image.copy()
    window = done[top : top + 2 * high, left : left + 2 * wide]
    corners = {(i, j): window[i::2, j::2].copy() for i in (0, 1) for j in (0, 1)}
    choice = rng.integers(3, size=(high, wide), dtype=np.uint8)
    aside, above = choice == 0, choice == 1
    for i, j in corners:
        other = np.where(above, corners[1 - i, j], corners[1 - i, 1 - j])
        window[i::2, j::2] = np.where(aside, corners[i, 1 - j], other)
    return done


def reduce_noise(image: np.ndarray, size: int, after: bool) -> np.ndarray:
    """ "noise reduction (replace each pixel with the value just before or after the median value in a neighborhood of 2
    or 5 pixels)".

    The neighbourhood is `size` x `size` pixels. Of 25 values in order the median is the 13th, those beside it the 12th
    and 14th; of 4 the median lies between the 2nd and the 3rd. An even neighbourhood reaches up and left, and the edge
    is repeated beyond the border.
    """
    reach, (height, width) = size // 2, image.shape
    padded = np.pad(image, (reach, 0 if size == 2 else reach), mode="edge")
    values = [padded[i : i + height, j : j + width].copy() for i in range(size) for j in range(size)]
    rank = {2: 1, 5: 11}[size]  # of the value just before the median, from the least; just after it, from the largest
    best, other = (np.maximum, np.minimum) if after else (np.minimum, np.maximum)
    for i in range(rank + 1):  # in whole images at a time: fifteen times as fast as a rank filter
        for j in range(i + 1, len(values)):
            values[i], values[j] = best(values[i], values[j]), other(values[i], values[j])
    return values[rank]


def add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """ "random noise addition": Gaussian, `NOISE` grey levels, each pixel on its own."""
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(NOISE)
    noise += image
    return np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)


# --- the 106 children ---


DIRECTIONS = {"N": (0, -1), "NE": (1, -1), "E": (1, 0), "SE": (1, 1), "S": (0, 1), "SW": (-1, 1), "W": (-1, 0)}
DIRECTIONS["NW"] = (-1, -1)
# By name: the kind, and what is done to an image.
MOVES = {
    "none": ("none", lambda image: image),
    "reflected left-right": ("reflection", np.fliplr),
    "reflected top-bottom": ("reflection", np.flipud),
    **{f"rotated {turn:+d}": ("rotation", functools.partial(rotate, degrees=turn)) for turn in (2, -2, 90, -90)},
    **{
        f"moved {name}": ("translation", functools.partial(translate, right=SHIFT * x, down=SHIFT * y))
        for name, (x, y) in DIRECTIONS.items()
    },
}
# The same, to its grey values; the second takes random numbers as well.
GREYS = {
    "none": ("none", lambda image, rng: image),
    "spread": ("pixel spread", spread),
    "before median 2": ("noise reduction", lambda image, rng: reduce_noise(image, 2, after=False)),
    "after median 2": ("noise reduction", lambda image, rng: reduce_noise(image, 2, after=True)),
    "before median 5": ("noise reduction", lambda image, rng: reduce_noise(image, 5, after=False)),
    "after median 5": ("noise reduction", lambda image, rng: reduce_noise(image, 5, after=True)),
    "noise": ("noise addition", add_noise),
}
RANDOM = ("spread", "noise")
CHILDREN = (*product(MOVES, GREYS), ("reflected both ways", "none"))  # a movement and a change of grey values each
MOVES["reflected both ways"] = ("two reflections", lambda image: image[::-1, ::-1])
KINDS = [(MOVES[move][0], GREYS[grey][0]) for move, grey in CHILDREN]


def make_child(image: np.ndarray, index: int, seed_words: Sequence[int | str]) -> np.ndarray:
    """Child `index` (0 to 105) of a square uint8 image (n, n): another array of that shape, the parent left as it is.

    `seed_words` (such as a seed and the parent's name) decide the two random transforms, spread and noise, with
    the index. Raises `ValueError` for another type or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 2 or image.shape[0] != image.shape[1]:
        raise ValueError(f"a child needs a square uint8 image (n, n), got {image.dtype} of shape {image.shape}")
    move, grey = CHILDREN[index]
    moved = np.ascontiguousarray(MOVES[move][1](image))
    rng = generator(*seed_words, index) if grey in RANDOM else None
    made = GREYS[grey][1](moved, rng)
    return made.copy() if np.may_share_memory(made, image) else made


def describe() -> pd.DataFrame:
    """How many children there are of each kind: columns movement, grey values, children, random. Sums to 106."""
    kinds = Counter((*kind, grey in RANDOM) for kind, (_, grey) in zip(KINDS, CHILDREN, strict=True))
    rows = [(move, grey, count, random) for (move, grey, random), count in kinds.items()]
    return pd.DataFrame(rows, columns=["movement", "grey values", "children", "random"])


def children_frame(frame: pd.DataFrame, per_image: int = len(CHILDREN), seed: int = 1) -> pd.DataFrame:
    """The children of a split frame's training and validation images: see `child_rows`. Test images have none.

    With `per_image` under 106, a saving of time that the paper did not make, each parent has that many children, drawn
    by the seed and the parent's name so that every kind keeps its share (to within one child). Where a file of one
    split is also, byte for byte, in a later one (train, validation, test), its children are left out with a warning,
    for they would be there under another name.
    """
    later = frame["split"].map(SPLITS.index)
    if "digest" in frame and (copies := later < later.groupby(frame["digest"]).transform("max")).any():
        warnings.warn(f"{int(copies.sum())} images get no children: their file is in a later split too", stacklevel=2)
        frame = frame[~copies]
    parents = frame[frame["split"].isin(SPLITS[:2])]
    return child_rows(parents, [_drawn(name, per_image, seed) for name in parents["image_id"]])


def _drawn(parent: str, count: int, seed: int) -> np.ndarray:
    """Which children of a parent are made: an even walk, from a random start, through all of them sorted by kind."""
    if count == len(CHILDREN):
        return np.arange(count)
    rng = generator(seed, parent, "drawn")
    shuffled = sorted(rng.permutation(len(CHILDREN)), key=lambda place: KINDS[place])
    steps = np.floor((rng.random() + np.arange(count)) * len(CHILDREN) / count).astype(int)
    return np.sort(np.asarray(shuffled)[steps])


class Augmented(Children):
    """The images of `children_frame`, by row number and on demand."""

    def make(self, image: np.ndarray, parent: str, child: int) -> np.ndarray:
        return make_child(image, child, (self._seed, parent))
