"""Saliency: which pixels a class score is most sensitive to, from the network's own gradients.

Carr 2020 draws "saliency maps indicating localised importance for the correct classification", after Simonyan et al.
2013. As there, the score is the logit by default, what goes into the softmax, and not the probability: where the
network is sure, the probability hardly moves, so that its gradient vanishes in rounding. `score="log_probability"` is
the alternative that also counts what would make the *other* classes less likely.
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.explain.maps import Maps, checked_images, class_codes

if TYPE_CHECKING:
    from helpers.explain.classifier import Classifier

SCORES = ("logit", "log_probability")
# float32 (b, size, size) and int (b,) class codes to gradients, float32 (b, size, size), and scores, float32 (b,)
Gradients = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class IncompleteMap(UserWarning):
    """A map whose sum misses what its theory promises by more than was asked for."""


def gradient(
    classifier: Classifier,
    images: np.ndarray,
    target: str | Sequence[str],
    *,
    score: str = "logit",
    batch_size: int = 32,
) -> Maps:
    """The size of the score's slope at each pixel (Simonyan et al. 2013): maps >= 0, score a grey level.

    `images` are uint8 (n, size, size). The sign is left out: whether brighter or darker is what would raise the score
    does not say whether the pixel matters.
    """
    began, images = time.monotonic(), checked_images(classifier, images)
    codes, slope = class_codes(classifier, target, len(images)), gradients_of(classifier, score)
    maps = np.empty(images.shape, np.float32)
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        maps[part] = np.abs(slope(images[part].astype(np.float32), codes[part])[0])
    return _maps(classifier, "gradient", f"|d {score}| a grey level", codes, maps, {"score": score}, began)


def smoothgrad(
    classifier: Classifier,
    images: np.ndarray,
    target: str | Sequence[str],
    *,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 1,
    score: str = "logit",
    batch_size: int = 32,
) -> Maps:
    """The slope averaged over `samples` noisy copies of the image (Smilkov et al. 2017), and then its size.

    `noise` is the deviation added, as a share of the image's own range of grey levels. Every image gets the same
    noise, from `seed`, so that its map does not depend on what else was explained. Units as for `gradient`.
    """
    if samples < 1 or noise < 0:
        raise ValueError(f"samples = {samples} (1 or more), noise = {noise} (0 or more)")
    began, images = time.monotonic(), checked_images(classifier, images)
    codes, slope = class_codes(classifier, target, len(images)), gradients_of(classifier, score)
    maps = np.empty(images.shape, np.float32)
    for i, image in enumerate(images.astype(np.float32)):
        random, total = np.random.default_rng(seed), np.zeros(image.shape)
        spread = noise * np.ptp(image)
        for start in range(0, samples, batch_size):
            count = min(batch_size, samples - start)
            noisy = image + spread * random.standard_normal((count, *image.shape), dtype=np.float32)
            total += slope(noisy, np.full(count, codes[i]))[0].sum(axis=0, dtype=np.float64)
        maps[i] = np.abs(total / samples)
    settings = {"score": score, "samples": samples, "noise": noise, "seed": seed}
    return _maps(classifier, "smoothgrad", f"|d {score}| a grey level", codes, maps, settings, began)


def integrated_gradients(
    classifier: Classifier,
    images: np.ndarray,
    target: str | Sequence[str],
    *,
    baseline: float | np.ndarray = 0.0,
    tolerance: float = 0.02,
    steps: int = 32,
    most_steps: int = 512,
    score: str = "logit",
    batch_size: int = 32,
) -> Maps:
    """Integrated gradients (Sundararajan et al. 2017): what each pixel adds to the score on the way from `baseline`.

    `baseline` is a grey level (0: black) or an image (size, size). Completeness: a map's sum is the image's score less
    the baseline's. The path is cut into `steps` pieces, and into twice as many for the images whose sum is further off
    than `tolerance` of that difference (or of one logit, where that is more), up to `most_steps`; then an
    `IncompleteMap` warning says so. `extra` holds `difference` and `gap` (sum less difference), (n,), in the score's
    unit. Signed: below 0 the pixel speaks against the class.
    """
    began, images = time.monotonic(), checked_images(classifier, images)
    if not (1 <= steps <= most_steps and tolerance > 0):
        raise ValueError(f"steps = {steps} of at most {most_steps} (1 or more), tolerance = {tolerance} (more than 0)")
    codes, slope = class_codes(classifier, target, len(images)), gradients_of(classifier, score)
    start = np.broadcast_to(np.asarray(baseline, np.float32), images.shape[1:])
    maps, gap, difference = np.empty(images.shape, np.float32), np.empty(len(images)), np.empty(len(images))
    for i, image in enumerate(images.astype(np.float32)):
        ends = slope(np.stack([start, image]), np.full(2, codes[i]))[1].astype(float)
        difference[i], pieces = ends[1] - ends[0], steps
        while True:
            maps[i] = (image - start) * _path_mean(slope, start, image, codes[i], pieces, batch_size)
            gap[i] = maps[i].sum(dtype=float) - difference[i]
            if abs(gap[i]) <= tolerance * max(abs(difference[i]), 1.0) or 2 * pieces > most_steps:
                break
            pieces *= 2
    _warn_of_gaps(gap, tolerance * np.maximum(np.abs(difference), 1.0), "integrated gradients")
    settings = {"score": score, "baseline": _said(baseline), "tolerance": tolerance, "steps": steps}
    settings["most_steps"] = most_steps
    extra = {"difference": difference, "gap": gap}
    return _maps(classifier, "integrated gradients", score, codes, maps, settings, began, extra)


def _path_mean(
    slope: Gradients, start: np.ndarray, image: np.ndarray, code: int, pieces: int, batch_size: int
) -> np.ndarray:
    """The mean gradient over the midpoints of `pieces` equal pieces of the straight path, (size, size)."""
    total = np.zeros(image.shape)
    along = ((np.arange(pieces) + 0.5) / pieces).astype(np.float32)
    for first in range(0, pieces, batch_size):
        at = along[first : first + batch_size, None, None]
        total += slope(start + at * (image - start), np.full(len(at), code))[0].sum(axis=0, dtype=np.float64)
    return total / pieces


def gradients_of(classifier: Classifier, score: str = "logit") -> Gradients:
    """The gradient of the score of each image's class, by the pixels of that image: one traced graph."""
    import tensorflow as tf

    if score not in SCORES:
        raise ValueError(f"there is no score '{score}'; known: {', '.join(SCORES)}")
    size = classifier.image_size

    @tf.function(
        input_signature=[tf.TensorSpec((None, size, size), tf.float32), tf.TensorSpec((None,), tf.int32)],
        autograph=False,
    )
    def run(images, codes):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)
            logits = classifier.logits_model(images[..., None], training=False)
            values = tf.nn.log_softmax(logits) if score == "log_probability" else logits
            chosen = tf.gather(values, codes, axis=1, batch_dims=1)
        return tape.gradient(chosen, images), chosen

    def slope(images: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = run(tf.constant(images, tf.float32), tf.constant(codes, tf.int32))
        return found[0].numpy(), found[1].numpy()

    return slope


def _warn_of_gaps(gap: np.ndarray, allowed: np.ndarray, method: str) -> None:
    worst = int(np.argmax(np.abs(gap) - allowed)) if len(gap) else 0
    off = int((np.abs(gap) > allowed).sum())
    if off:
        text = f"{method}: {off} of {len(gap)} sums are off by more than asked for, the worst by {gap[worst]:.3g}"
        warnings.warn(text, IncompleteMap, stacklevel=3)


def _said(baseline: float | np.ndarray) -> float | str:
    """A baseline in words that fit into settings."""
    if np.ndim(baseline) == 0:
        return float(baseline)
    return "image " + hashlib.sha256(np.ascontiguousarray(baseline, np.float32).tobytes()).hexdigest()[:12]


def _maps(
    classifier: Classifier,
    method: str,
    units: str,
    codes: np.ndarray,
    maps: np.ndarray,
    settings: dict[str, Any],
    began: float,
    extra: dict[str, Any] | None = None,
) -> Maps:
    target = tuple(classifier.classes[code] for code in codes)
    settings = {"classifier": classifier.key, **settings}
    return Maps(maps, method, units, target, settings, time.monotonic() - began, extra or {})
