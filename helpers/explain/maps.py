"""What every explainer takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.run.profile import nearest

if TYPE_CHECKING:
    from helpers.explain.classifier import Classifier


@dataclass(frozen=True)
class Maps:
    """One map an image.

    `maps`: float32 (n, height, width), on the pixels of the images that were given; higher means that the pixel speaks
    more for the target. `units` says of what: "probability" for occlusion's drop, for example. `target`: the class
    explained, one an image. `settings`: what would make the same maps again. `seconds`: the time they took.
    `extra`: what a method leaves besides, such as occlusion's grid of positions.
    """

    maps: np.ndarray
    method: str
    units: str
    target: tuple[str, ...]
    settings: dict[str, Any]
    seconds: float
    extra: dict[str, Any] = field(default_factory=dict)


def class_codes(classifier: Classifier, target: str | Sequence[str], count: int) -> np.ndarray:
    """int (count,) positions in `classifier.classes` of one class name for all images, or of one an image.

    Raises `ValueError` for a name that is no class and for another number of names than images.
    """
    names = [target] * count if isinstance(target, str) else [str(name) for name in target]
    if len(names) != count:
        raise ValueError(f"{len(names)} targets for {count} images; give one class name, or one an image")
    order = {name: code for code, name in enumerate(classifier.classes)}
    for name in names:
        if name not in order:
            raise ValueError(f"there is no class '{name}'{nearest(name, order)}")
    return np.array([order[name] for name in names], int)


def checked_images(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """`images` as they are, once they are uint8 (n, size, size) of the classifier's size; else a `ValueError`."""
    images = np.asarray(images)
    size = classifier.image_size
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (size, size):
        raise ValueError(f"images are {images.dtype} {images.shape}; the classifier takes uint8 (n, {size}, {size})")
    return images
