"""Class activation maps: of which places of an image a label's logit is the sum (Zhou et al. 2016), as CheXNet drew.

A network that ends in averages over its maps and one linear layer adds up its logit place by place: of a weight w and a
feature that is the mean of a map f over h x w places, each place gives w f / (h w). So the map is no guess about the
network: its sum is the logit less the bias. The same holds for features that are sums of other maps (SmallNet's mean
squares, the maps of several depths), and for maxima, whose one place gives all; all are added up here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from helpers.explain.maps import Maps
from helpers.model.backbones import weights_digest
from helpers.run.profile import nearest

if TYPE_CHECKING:
    import keras

    from helpers.model.multilabel_run import MultilabelRun

BATCH = 32


def class_activation(
    run: MultilabelRun, images: np.ndarray, target: str | Sequence[str], reference: np.ndarray | None = None
) -> Maps:
    """What each place adds to the logit of `target`, one label for all images or one an image.

    `images` are uint8 (n, size, size). Maps of coarse layers are enlarged with their sum kept, so that a map's sum is
    the logit less the bias; below 0 the place speaks against the label. With `reference` images (m, size, size), such
    as those of the healthy, their mean map is taken away: what is left is what this image adds beyond them, without
    what every chest and the padded border add. `extra` has "logit" and "probability", (n,). Raises `ValueError` for
    an unknown label, and for a network whose features are no averages or maxima of maps.
    """
    began = time.monotonic()
    codes = _codes(run, images, target)
    logits = run.logits()
    kinds, sources, model = _pooled(logits)
    kernel = logits.get_layer("logits").get_weights()[0]
    maps, values = _added(model, kinds, kernel, images, codes)
    if reference is not None:
        _codes(run, reference, run.labels[0])
        for code in np.unique(codes):
            same = np.full(len(reference), code)
            maps[codes == code] -= _added(model, kinds, kernel, reference, same)[0].mean(axis=0)
    settings = {
        "network": weights_digest(logits),
        "sources": sources,
        "reference": 0 if reference is None else len(reference),
    }
    extra = {"logit": values, "probability": 1 / (1 + np.exp(-values))}
    names = tuple(run.labels[code] for code in codes)
    return Maps(maps, "class activation", "logit", names, settings, time.monotonic() - began, extra)


def _codes(run: MultilabelRun, images: np.ndarray, target: str | Sequence[str]) -> np.ndarray:
    """int (n,): the labels' positions, once images and labels are what they should be."""
    size = run.backbone.image_size
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (size, size):
        raise ValueError(f"images are {images.dtype} {images.shape}; this network takes uint8 (n, {size}, {size})")
    names = [target] * len(images) if isinstance(target, str) else list(target)
    if len(names) != len(images):
        raise ValueError(f"{len(names)} labels for {len(images)} images; give one, or one an image")
    for name in names:
        if name not in run.labels:
            raise ValueError(f"the network has no label '{name}'{nearest(name, run.labels)}")
    return np.array([run.labels.index(name) for name in names])


def _added(
    model: keras.Model, kinds: list[str], kernel: np.ndarray, images: np.ndarray, codes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What each place adds, float32 (n, size, size), and the logits (n,), for one label (a code) an image."""
    maps, values = np.zeros(images.shape, np.float32), np.empty(len(images))
    for first in range(0, len(images), BATCH):
        part = slice(first, first + BATCH)
        *found, given = model.predict_on_batch(images[part, ..., None].astype(np.float32))
        values[part] = given[np.arange(len(given)), codes[part]]
        at = 0
        for kind, source in zip(kinds, found, strict=True):
            weights = kernel[at : at + source.shape[-1], codes[part]].T
            at += source.shape[-1]
            maps[part] += enlarged(_placed(kind, source, weights), images.shape[-1])
    return maps, values


def _pooled(logits: keras.Model) -> tuple[list[str], list[str], keras.Model]:
    """How each part of the features comes about, from what, and a model of those maps and the logits."""
    import keras

    features = logits.get_layer("logits").input
    last = features._keras_history.operation
    parts = last.input if isinstance(last, keras.layers.Concatenate) else [features]
    kinds, maps = [], []
    for part in parts:
        layer = part._keras_history.operation
        if not isinstance(layer, keras.layers.GlobalAveragePooling2D | keras.layers.GlobalMaxPooling2D):
            raise ValueError(
                f"{logits.name}: a feature comes from {layer.name}, which is no average or maximum of a map"
            )
        kinds.append("average" if isinstance(layer, keras.layers.GlobalAveragePooling2D) else "maximum")
        maps.append(layer.input)
    return kinds, [one.name for one in maps], keras.Model(logits.input, [*maps, logits.output])


def _placed(kind: str, source: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What each place of maps (b, h, w, c) adds for weights (b, c): (b, h, w)."""
    b, h, w, c = source.shape
    if kind == "average":
        return np.einsum("bhwc,bc->bhw", source, weights) / (h * w)
    flat, made = source.reshape(b, h * w, c), np.zeros((b, h * w), np.float32)
    where = flat.argmax(axis=1)
    np.add.at(made, (np.arange(b)[:, None], where), weights * flat.max(axis=1))
    return made.reshape(b, h, w)


def enlarged(coarse: np.ndarray, size: int) -> np.ndarray:
    """Maps (b, h, w) at (b, size, size), by cubic interpolation, each with the sum it had."""
    from scipy.ndimage import zoom

    h, w = coarse.shape[1:]
    made = zoom(coarse, (1, size / h, size / w), order=3, mode="nearest", grid_mode=True)
    missing = coarse.sum(axis=(1, 2)) - made.sum(axis=(1, 2)) * (h * w / size**2)
    return made * (h * w / size**2) + (missing / size**2)[:, None, None]
