"""Augmentation for fine-tuning: what a second exposure of the same patient might look like.

Of no paper: Rajkomar's 106 children are in his wing. No image is turned upside down or by a quarter, since no
radiograph comes to a reader that way; left and right are exchanged only where asked, since the heart has a side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter


@dataclass(frozen=True)
class Strength:
    """How far a variant may be from its image."""

    degrees: float  # it is turned by up to this, either way
    zoom: tuple[float, float]  # and scaled within this
    shift: tuple[float, float]  # and moved by up to these parts of its width and height
    contrast: tuple[float, float]  # factor on the distance from the mean grey level
    brightness: float  # grey levels added or taken away, at most
    gamma: tuple[float, float]  # exponent on grey levels scaled to 0 to 1
    blur: tuple[float, float]  # radius in pixels, of half of the images
    noise: float = 0.0  # largest standard deviation, in grey levels, of half of the images


STRENGTHS = {
    "light": Strength(10.0, (0.85, 1.15), (0.08, 0.04), (0.8, 1.25), 20.0, (0.8, 1.25), (0.3, 1.0)),
    "strong": Strength(10.0, (0.87, 1.25), (0.07, 0.05), (0.7, 1.4), 30.0, (0.7, 1.4), (0.3, 1.2), 8.0),
}


def generator(*words: int | str) -> np.random.Generator:
    """Random numbers that follow from these words alone, on every machine."""
    digest = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def light(image: np.ndarray, rng: np.random.Generator, mirror: bool = False, strength: str = "light") -> np.ndarray:
    """One random variant of a uint8 image (h, w), of the same shape; the image itself is left as it is.

    It is turned, scaled and moved in one bilinear step (black beyond its edge), its grey levels pass one curve
    (contrast, brightness, gamma), and every other one is slightly blurred; "strong" ones may be noisy too. With
    `mirror`, half are reflected left to right.
    """
    how = STRENGTHS[strength]
    height, width = image.shape
    turn, zoom = np.deg2rad(rng.uniform(-how.degrees, how.degrees)), rng.uniform(*how.zoom)
    right, down = rng.uniform(-1, 1, 2) * how.shift * np.array([width, height])
    side = -1.0 if mirror and rng.random() < 0.5 else 1.0
    # From a pixel of the new image to its place in the old one: about the centre, turned back and scaled back.
    cos, sin, x, y = np.cos(turn) / zoom, np.sin(turn) / zoom, width / 2, height / 2
    to_old = (side * cos, side * sin, x - side * (cos * (x + right) + sin * (y + down)))
    to_old += (-sin, cos, y + sin * (x + right) - cos * (y + down))
    made = Image.fromarray(image).transform(
        (width, height), Image.Transform.AFFINE, to_old, Image.Resampling.BILINEAR, fillcolor=0
    )
    made = made.point(_curve(float(image.mean()), rng, how))
    blur = rng.uniform(*how.blur)
    made = np.array(made.filter(ImageFilter.GaussianBlur(blur)) if rng.random() < 0.5 else made)
    return _noisy(made, rng, how.noise) if how.noise else made


def _curve(mean: float, rng: np.random.Generator, how: Strength) -> list[int]:
    """What each of the 256 grey levels becomes. Black stays black, and what is nearly black nearly so, for the edge."""
    contrast, bright = np.exp(rng.uniform(*np.log(how.contrast))), rng.uniform(-how.brightness, how.brightness)
    gamma = np.exp(rng.uniform(*np.log(how.gamma)))
    old = np.arange(256)
    levels = np.clip((old - mean) * contrast + mean + bright, 0, 255)
    levels = 255 * (levels / 255) ** gamma * np.clip(old / 32, 0, 1)
    return np.rint(levels).astype(int).tolist()


def _noisy(image: np.ndarray, rng: np.random.Generator, most: float) -> np.ndarray:
    """Every other image with Gaussian noise of up to `most` grey levels."""
    if rng.random() < 0.5:
        return image
    noise = rng.standard_normal(image.shape, np.float32) * rng.uniform(0, most)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


class Mirrored:
    """Every image as it is, or reflected left to right, at random in each epoch: no pixel is interpolated.

    For images of speckle (B-scans) that are many already. Turning and scaling smooth speckle away, and a network that
    learnt from such variants alone did worse on images as they are: on phantom B-scans the accuracy on validation
    images fell from 0.87, with a last layer alone, to 0.67.
    """

    def __init__(self, pixels: np.ndarray, seed: int) -> None:
        """`pixels`: uint8 (n, h, w), held, not copied."""
        self._pixels, self._seed = pixels, seed

    def __len__(self) -> int:
        return len(self._pixels)

    def batch(self, epoch: int, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """These rows as they are in this epoch: uint8 (b, h, w)."""
        made = self._pixels[rows]
        turned = generator(self._seed, epoch, "mirror").random(len(self._pixels))[rows] < 0.5
        made[turned] = made[turned][:, :, ::-1]
        return made


class LightAugmentation(Mirrored):
    """Variants on demand: another of every image in each epoch, the same in whatever batch it is asked for."""

    def __init__(self, pixels: np.ndarray, seed: int, mirror: bool = False, strength: str = "light") -> None:
        """`pixels`: uint8 (n, h, w), held, not copied; `strength`: one of `STRENGTHS`."""
        super().__init__(pixels, seed)
        self._how = (mirror, strength)

    def batch(self, epoch: int, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The variants of these rows in this epoch: uint8 (b, h, w)."""
        variants = [
            light(self._pixels[row], generator(self._seed, epoch, int(row), "light"), *self._how) for row in rows
        ]
        return np.stack(variants) if variants else np.empty((0, *self._pixels.shape[1:]), np.uint8)


def child_rows(parents: pd.DataFrame, numbers: Sequence[Sequence[int]]) -> pd.DataFrame:
    """One row per child: image_id ("<parent>#003"), parent, child, and the parent's label, patient_id and split.

    `numbers`: the children of each parent.
    """
    rows = parents[["image_id", "label", "patient_id", "split"]].rename(columns={"image_id": "parent"})
    rows = rows.assign(child=[list(own) for own in numbers]).explode("child", ignore_index=True).astype({"child": int})
    rows["image_id"] = rows["parent"].astype(str) + "#" + rows["child"].map("{:03d}".format)
    return rows[["image_id", "parent", "child", "label", "patient_id", "split"]]


class Children:
    """Images made from their parents on demand, the same in every epoch and in whatever batch they are asked for.

    `frame` has which there are, by `parent` and `child`; only the parents' pixels are held. A paper's children define
    `make`.
    """

    def __init__(self, frame: pd.DataFrame, pixels: np.ndarray, image_ids: Sequence[str], seed: int) -> None:
        """`pixels`: uint8 (n, h, w) of the parents, named in order by `image_ids`. Raises `ValueError` for a parent
        without pixels."""
        self.frame, self._pixels, self._seed = frame.reset_index(drop=True), pixels, seed
        self._rows = pd.Index(image_ids).get_indexer(self.frame["parent"])
        if (self._rows < 0).any():
            raise ValueError(f"no pixels for parent {self.frame.loc[self._rows < 0, 'parent'].iloc[0]}")

    def make(self, image: np.ndarray, parent: str, child: int) -> np.ndarray:
        """One child of an image, uint8 (h, w)."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.frame)

    def batch(self, epoch: int, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """uint8 (b, h, w) of these rows of `frame`, whatever the epoch."""
        made = np.empty((len(rows), *self._pixels.shape[1:]), np.uint8)
        parents, children = self.frame["parent"].to_numpy(), self.frame["child"].to_numpy()
        for place, row in enumerate(rows):
            made[place] = self.make(self._pixels[self._rows[row]], parents[row], int(children[row]))
        return made
