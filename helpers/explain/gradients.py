"""Explanations from the network's own gradients and feature maps, and Shapley values with the `shap` package.

Carr 2020 draws "saliency maps indicating localised importance for the correct classification", after Simonyan et al.
2013. As there, the score is the logit and not the probability: where the network is sure, the probability hardly moves,
so that its gradient vanishes in rounding.

CheXNet draws class activation maps (Zhou et al. 2016). A network that ends in averages of feature maps and one linear
layer adds up its logit place by place: for a weight w and a feature that is the mean of a map f over h x w places, each
place adds w f / (h w). So the map's sum is exactly the logit less the bias. The same holds for features that are means
of other maps (SmallNet's squares, maps of several depths), and for maxima, whose one place adds everything.

Shapley maps share a score out among the pixels, against background images. Carr 2020, figure 4: "OCT SHAP maps
indicating positive importance in red and negative importance in blue."

`gradient_shap` is shap's GradientExplainer (expected gradients): fast, for whatever has gradients. DeepExplainer is
not offered: it has no rule for ReLU6, which MobileNetV2 is full of. Nor is PartitionExplainer: the few hundred
predictions that an image can be given here are too few for its tree of rectangles.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from time import monotonic
from typing import Any

import numpy as np

from helpers.data.catalogue import Catalogue
from helpers.data.images import choose_examples, read_square
from helpers.explain.maps import Classifier, Maps
from helpers.model.engine import Gradients, input_gradients

BATCH = 32
SAMPLES, NOISE = 8, 0.15  # SmoothGrad's copies, and their noise's deviation as a share of the image's range of greys
TOLERANCE = 0.1  # of integrated gradients: how far a sum may be off, as a share of the difference, or in logits if more
STEPS = (32, 64, 128)  # pieces of the path from black, as many as the tolerance asks for


def gradient(classifier: Classifier, images: np.ndarray, target: str | Sequence[str]) -> Maps:
    """The size of the logit's slope at each pixel (Simonyan et al. 2013): maps >= 0, logits per grey level.

    The sign is left out: whether brighter or darker would raise the logit does not say whether the pixel matters.
    """
    began, images = monotonic(), classifier.check(images)
    codes = classifier.codes(target, len(images))
    maps = np.abs(_slopes(classifier)(images, codes)[0])
    return Maps(maps, "gradient", "|d logit| per grey level", monotonic() - began)


def smoothgrad(classifier: Classifier, images: np.ndarray, target: str | Sequence[str], *, seed: int = 1) -> Maps:
    """The slope averaged over `SAMPLES` noisy copies of the image (Smilkov et al. 2017), and then its size.

    Every image gets the same noise, from `seed`, so that its map does not depend on what else was explained. Units as
    for `gradient`.
    """
    began, images = monotonic(), classifier.check(images)
    codes, slope = classifier.codes(target, len(images)), _slopes(classifier)
    maps = np.empty(images.shape, np.float32)
    draws = np.random.default_rng(seed).standard_normal((SAMPLES, *images.shape[1:]), dtype=np.float32)
    for i, image in enumerate(images.astype(np.float32)):
        noisy = image + NOISE * np.ptp(image) * draws
        maps[i] = np.abs(slope(noisy, np.full(SAMPLES, codes[i]))[0].mean(axis=0, dtype=np.float64))
    return Maps(maps, "smoothgrad", "|d logit| per grey level", monotonic() - began)


def integrated_gradients(classifier: Classifier, images: np.ndarray, target: str | Sequence[str]) -> Maps:
    """Integrated gradients (Sundararajan et al. 2017): what each pixel adds to the logit on the way from black.

    Completeness: a map's sum is the image's logit less the black image's. The path is cut into more pieces (`STEPS`)
    for the images whose sum is off by more than `TOLERANCE`; a warning says for how many it stays so.
    Signed: below 0 the pixel speaks against the class.
    """
    began, images = monotonic(), classifier.check(images)
    codes, slope = classifier.codes(target, len(images)), _slopes(classifier)
    maps, off = np.empty(images.shape, np.float32), np.empty(len(images))
    for i, image in enumerate(images.astype(np.float32)):
        black, own = slope(np.stack([0 * image, image]), np.full(2, codes[i]))[1].astype(float)
        for pieces in STEPS:
            along = ((np.arange(pieces) + 0.5) / pieces).astype(np.float32)[:, None, None]
            slopes, _ = slope(along * image, np.full(pieces, codes[i]))
            maps[i] = image * slopes.mean(axis=0, dtype=np.float64)
            off[i] = abs(maps[i].sum(dtype=float) - (own - black)) / max(abs(own - black), 1.0)
            if off[i] <= TOLERANCE:
                break
    if (off > TOLERANCE).any():
        text = f"integrated gradients: {(off > TOLERANCE).sum()} of {len(off)} sums are off by more than {TOLERANCE:g}"
        warnings.warn(f"{text} of the difference, the worst by {off.max():.2g}", stacklevel=2)
    return Maps(maps, "integrated gradients", "logit", monotonic() - began)


def _slopes(classifier: Classifier) -> Gradients:
    """Images (n, size, size) and class codes (n,) to gradients of the logits, (n, size, size), and the logits (n,)."""
    gradients = input_gradients(classifier.logits_model)

    def slope(images: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [gradients(images[part, ..., None].astype(np.float32), codes[part]) for part in _parts(len(images))]
        slopes, logits = (np.concatenate(each) for each in zip(*found, strict=True))
        return slopes[..., 0], logits

    return slope


def _parts(count: int) -> list[slice]:
    return [slice(first, first + BATCH) for first in range(0, count, BATCH)]


def class_activation(
    classifier: Classifier, images: np.ndarray, target: str | Sequence[str], reference: np.ndarray | None = None
) -> Maps:
    """What each place adds to the logit of `target`.

    Coarse maps are enlarged with their sum kept, so that a map's sum is the logit less the bias; below 0 the place
    speaks against the label. With `reference` images (m, size, size), such as those of the healthy, their mean map is
    subtracted: what is left is what this image adds beyond them, without what every chest and the padded border add.
    """
    began, images = monotonic(), classifier.check(images)
    codes, contributions = classifier.codes(target, len(images)), _contributions(classifier.logits_model)
    maps = contributions(images, codes)
    for code in np.unique(codes) if reference is not None else ():
        maps[codes == code] -= contributions(classifier.check(reference), np.full(len(reference), code)).mean(axis=0)
    return Maps(maps, "class activation", "logit", monotonic() - began)


@lru_cache(maxsize=4)
def _contributions(logits: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Images and the code of a label for each to what each place adds to its logit, float32 (n, size, size).

    A place adds its value times the logit's slope there: w / (h w) for an average, w at the maximum's place.
    """
    import keras

    pools = (keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D)
    sources = list({id(layer.input): layer.input for layer in logits.layers if isinstance(layer, pools)}.values())
    features, gradients = keras.Model(logits.input, sources), input_gradients(keras.Model(sources, logits.output))

    def contributions(images: np.ndarray, codes: np.ndarray) -> np.ndarray:
        maps = np.zeros(images.shape, np.float32)
        for part in _parts(len(images)):
            values = keras.tree.flatten(features.predict_on_batch(images[part, ..., None].astype(np.float32)))
            for value, slope in zip(values, gradients(values, codes[part])[0], strict=True):
                maps[part] += enlarged((value * slope).sum(axis=-1), images.shape[-1])
        return maps

    return contributions


def enlarged(coarse: np.ndarray, size: int) -> np.ndarray:
    """Maps (b, h, w) at (b, size, size), by cubic interpolation, each with the sum it had."""
    from scipy.ndimage import zoom

    h, w = coarse.shape[1:]
    fine = zoom(coarse, (1, size / h, size / w), order=3, mode="nearest", grid_mode=True)
    missing = coarse.sum(axis=(1, 2)) - fine.sum(axis=(1, 2)) * (h * w / size**2)
    return fine * (h * w / size**2) + (missing / size**2)[:, None, None]


# --- Shapley maps ----------------------------------------------------------------------------------------------------


def choose_background(training: Catalogue, size: int, per_class: int = 5, seed: int = 1) -> np.ndarray:
    """`per_class` images of each class of the training data, each of another patient, uint8 (m, size, size).

    `training` is a catalogue of nothing but training images: `catalogue.subset(rows)` of a split's `train`. Raises
    `ValueError` where it holds images of the test folder.
    """
    if (training.frame["published_split"] == "test").any():
        raise ValueError("background images come from training data; this catalogue holds test images")
    rows = choose_examples(training, per_class, seed, clearest=False)
    return np.stack([read_square(training.file(path), size) for path in rows["path"]])


def gradient_shap(
    classifier: Classifier,
    images: np.ndarray,
    target: str | Sequence[str],
    *,
    background: np.ndarray,
    samples: int,
    seed: int = 1,
) -> Maps:
    """shap's GradientExplainer on the logit: signed maps whose sum is, in expectation, the image's logit less the mean
    logit of the `background`, uint8 (m, size, size).

    `samples` points between the image and random background images are taken. Every image sees the same random
    numbers, from `seed`.
    """
    import keras
    import shap

    began, images, background = monotonic(), classifier.check(images), classifier.check(background)
    codes, model = classifier.codes(target, len(images)), classifier.logits_model
    listed = keras.Model([model.inputs[0]], model.outputs[0])  # shap passes a list of one input
    explainer = shap.GradientExplainer(listed, background[..., None].astype(np.float32), batch_size=BATCH)
    maps = np.empty(images.shape, np.float32)
    state = np.random.get_state()  # shap seeds numpy's global generator
    for i, image in enumerate(images):
        asked = {"ranked_outputs": codes[i].reshape(1, 1), "output_rank_order": "custom", "rseed": seed}
        found = explainer.shap_values(image[None, ..., None].astype(np.float32), nsamples=samples, **asked)[0]
        maps[i] = np.asarray(found).reshape(image.shape)
    np.random.set_state(state)
    return Maps(maps, "gradient SHAP", "logit", monotonic() - began)
