"""Explanations from the network's own gradients and feature maps: saliency and class activation maps.

Carr 2020 draws "saliency maps indicating localised importance for the correct classification", after Simonyan et al.
2013. As there, the score is the logit and not the probability: where the network is sure, the probability hardly moves,
so that its gradient vanishes in rounding.

CheXNet draws class activation maps (Zhou et al. 2016). A network that ends in averages of feature maps and one linear
layer adds up its logit place by place: for a weight w and a feature that is the mean of a map f over h x w places, each
place adds w f / (h w). So the map's sum is exactly the logit less the bias. The same holds for features that are means
of other maps (SmallNet's squares, maps of several depths), and for maxima, whose one place adds everything.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from helpers.explain.maps import Classifier, Maps
from helpers.model.engine import Gradients, input_gradients

if TYPE_CHECKING:
    import keras

BATCH = 32


class IncompleteMap(UserWarning):
    """A map whose sum misses the promised value by more than the tolerance."""


def gradient(classifier: Classifier, images: np.ndarray, target: str | Sequence[str]) -> Maps:
    """The size of the logit's slope at each pixel (Simonyan et al. 2013): maps >= 0, logits per grey level.

    The sign is left out: whether brighter or darker would raise the logit does not say whether the pixel matters.
    """
    began, images = monotonic(), classifier.check(images)
    codes, slope = classifier.codes(target, len(images)), _slopes(classifier)
    parts = [slice(first, first + BATCH) for first in range(0, len(images), BATCH)]
    maps = np.concatenate([np.abs(slope(images[part].astype(np.float32), codes[part])[0]) for part in parts])
    return classifier.maps(began, codes, maps, "gradient", "|d logit| a grey level")


def smoothgrad(
    classifier: Classifier,
    images: np.ndarray,
    target: str | Sequence[str],
    *,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 1,
) -> Maps:
    """The slope averaged over `samples` noisy copies of the image (Smilkov et al. 2017), and then its size.

    `noise` is the standard deviation added, as a share of the image's own range of grey levels. Every image gets the
    same noise, from `seed`, so that its map does not depend on what else was explained. Units as for `gradient`.
    """
    if samples < 1 or noise < 0:
        raise ValueError(f"samples = {samples} (1 or more), noise = {noise} (0 or more)")
    began, images = monotonic(), classifier.check(images)
    codes, slope = classifier.codes(target, len(images)), _slopes(classifier)
    maps = np.empty(images.shape, np.float32)
    for i, image in enumerate(images.astype(np.float32)):
        random, deviation = np.random.default_rng(seed), noise * np.ptp(image)
        draws = random.standard_normal((samples, *image.shape), dtype=np.float32)
        maps[i] = np.abs(_mean_slope(slope, image + deviation * draws, codes[i]))
    settings = {"samples": samples, "noise": noise, "seed": seed}
    return classifier.maps(began, codes, maps, "smoothgrad", "|d logit| a grey level", **settings)


def integrated_gradients(
    classifier: Classifier,
    images: np.ndarray,
    target: str | Sequence[str],
    *,
    tolerance: float = 0.02,
    steps: int = 32,
    most_steps: int = 512,
) -> Maps:
    """Integrated gradients (Sundararajan et al. 2017): what each pixel adds to the logit on the way from black.

    Completeness: a map's sum is the image's logit less the black image's. The path is cut into `steps` pieces, and into
    twice as many for the images whose sum is further off than `tolerance` of that difference (or of one logit, where
    that is more), up to `most_steps`; beyond it an `IncompleteMap` warning is given. `extra` holds `difference` and
    `gap` (sum less difference), (n,), in logits.
    Signed: below 0 the pixel speaks against the class.
    """
    began, images = monotonic(), classifier.check(images)
    if not (1 <= steps <= most_steps and tolerance > 0):
        raise ValueError(f"steps = {steps} of at most {most_steps} (1 or more), tolerance = {tolerance} (more than 0)")
    codes, slope = classifier.codes(target, len(images)), _slopes(classifier)
    maps, gap, difference = np.empty(images.shape, np.float32), np.empty(len(images)), np.empty(len(images))
    for i, image in enumerate(images.astype(np.float32)):
        ends = slope(np.stack([0 * image, image]), np.full(2, codes[i]))[1].astype(float)
        difference[i], pieces = ends[1] - ends[0], steps
        while True:
            along = ((np.arange(pieces) + 0.5) / pieces).astype(np.float32)[:, None, None]
            maps[i] = image * _mean_slope(slope, along * image, codes[i])
            gap[i] = maps[i].sum(dtype=float) - difference[i]
            if abs(gap[i]) <= tolerance * max(abs(difference[i]), 1.0) or 2 * pieces > most_steps:
                break
            pieces *= 2
    if (off := np.abs(gap) > tolerance * np.maximum(np.abs(difference), 1.0)).any():
        text = f"integrated gradients: {off.sum()} of {len(gap)} sums are off by more than the tolerance, the worst by"
        warnings.warn(f"{text} {np.abs(gap).max():.3g}", IncompleteMap, stacklevel=2)
    settings = {"tolerance": tolerance, "steps": steps, "most_steps": most_steps}
    extra = {"difference": difference, "gap": gap}
    return classifier.maps(began, codes, maps, "integrated gradients", "logit", extra, **settings)


def _slopes(classifier: Classifier) -> Gradients:
    """float32 (b, size, size) and class codes (b,) to gradients of the logits, (b, size, size), and the logits (b,)."""
    gradients = input_gradients(classifier.logits_model)

    def slope(images: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slopes, logits = gradients(np.asarray(images, np.float32)[..., None], codes)
        return slopes[..., 0], logits

    return slope


def _mean_slope(slope: Gradients, images: np.ndarray, code: int) -> np.ndarray:
    """The mean over images (m, size, size) of one class's gradients, float64 (size, size)."""
    total = np.zeros(images.shape[1:])
    for first in range(0, len(images), BATCH):
        part = images[first : first + BATCH]
        total += slope(part, np.full(len(part), code))[0].sum(axis=0, dtype=np.float64)
    return total / len(images)


def class_activation(
    classifier: Classifier, images: np.ndarray, target: str | Sequence[str], reference: np.ndarray | None = None
) -> Maps:
    """What each place adds to the logit of `target`.

    Coarse maps are enlarged with their sum kept, so that a map's sum is the logit less the bias; below 0 the place
    speaks against the label. With `reference` images (m, size, size), such as those of the healthy, their mean map is
    subtracted: what is left is what this image adds beyond them, without what every chest and the padded border add.
    `extra` has "logit", (n,). Raises `ValueError` for a network whose features are no averages or maxima of maps.
    """
    began, images = monotonic(), classifier.check(images)
    codes = classifier.codes(target, len(images))
    pooled = _pooled(classifier.logits_model)
    maps, logits = _contributions(pooled, images, codes)
    if reference is not None:
        for code in np.unique(codes):
            same = np.full(len(reference), code)
            maps[codes == code] -= _contributions(pooled, classifier.check(reference), same)[0].mean(axis=0)
    used = 0 if reference is None else len(reference)
    return classifier.maps(began, codes, maps, "class activation", "logit", {"logit": logits}, reference=used)


def _pooled(logits: keras.Model) -> tuple[list[bool], np.ndarray, keras.Model]:
    """For each part of the features whether it is an average (else a maximum), the last layer's weights, and a model
    of the maps that are pooled and of the logits."""
    import keras

    last = logits.outputs[0]._keras_history.operation
    parts = last.input._keras_history.operation
    parts = parts.input if isinstance(parts, keras.layers.Concatenate) else [last.input]
    layers = [part._keras_history.operation for part in parts]
    for layer in layers:
        if not isinstance(layer, keras.layers.GlobalAveragePooling2D | keras.layers.GlobalMaxPooling2D):
            raise ValueError(f"{logits.name}: a feature comes from {layer.name}, no average or maximum of a map")
    averages = [isinstance(layer, keras.layers.GlobalAveragePooling2D) for layer in layers]
    model = keras.Model(logits.input, [*(layer.input for layer in layers), logits.output])
    return averages, last.get_weights()[0], model


def _contributions(pooled: tuple, images: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each place adds to the logit of one label (a code) per image, float32 (n, size, size), and the logits."""
    averages, kernel, model = pooled
    maps, values = np.zeros(images.shape, np.float32), np.empty(len(images))
    for first in range(0, len(images), BATCH):
        part = slice(first, first + BATCH)
        *sources, logits = model.predict_on_batch(images[part, ..., None].astype(np.float32))
        values[part] = logits[np.arange(len(logits)), codes[part]]
        weights = np.split(kernel[:, codes[part]].T, np.cumsum([one.shape[-1] for one in sources])[:-1], axis=1)
        for average, source, weight in zip(averages, sources, weights, strict=True):
            maps[part] += enlarged(_placed(average, source, weight), images.shape[-1])
    return maps, values


def _placed(average: bool, source: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What each place of maps (b, h, w, c) adds for weights (b, c): (b, h, w)."""
    b, h, w, c = source.shape
    if average:
        return np.einsum("bhwc,bc->bhw", source, weights) / (h * w)
    flat, placed = source.reshape(b, h * w, c), np.zeros((b, h * w), np.float32)
    np.add.at(placed, (np.arange(b)[:, None], flat.argmax(axis=1)), weights * flat.max(axis=1))
    return placed.reshape(b, h, w)


def enlarged(coarse: np.ndarray, size: int) -> np.ndarray:
    """Maps (b, h, w) at (b, size, size), by cubic interpolation, each with the sum it had."""
    from scipy.ndimage import zoom

    h, w = coarse.shape[1:]
    fine = zoom(coarse, (1, size / h, size / w), order=3, mode="nearest", grid_mode=True)
    missing = coarse.sum(axis=(1, 2)) - fine.sum(axis=(1, 2)) * (h * w / size**2)
    return fine * (h * w / size**2) + (missing / size**2)[:, None, None]
