"""Shapley maps with the `shap` package: how a score is shared out among the pixels, against background images.

Carr 2020, figure 4: "OCT SHAP maps indicating positive importance in red and negative importance in blue."

- `gradient_shap` is shap's GradientExplainer (expected gradients): fast, for whatever has gradients. DeepExplainer is
  not offered: it has no rule for ReLU6, which MobileNetV2 is full of.
- `partition_shap` is shap's PartitionExplainer: only asks for predictions, so any engine and any model will do. Its
  Owen values follow a fixed tree of halves of the image; where `evaluations` run out, a rectangle shares its value.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.explain.maps import Maps, checked_images, class_codes

if TYPE_CHECKING:
    import keras

    from helpers.data.catalogue import Catalogue
    from helpers.explain.classifier import Classifier, Predictor

RUNS = 8  # independent parts of the samples; their spread is the stated error
LEAST_ODDS = 1e-6  # probabilities are kept this far from 0 and 1 before their odds are taken


@dataclass(frozen=True)
class Background:
    """What pixels are compared with: uint8 `images` (m, size, size), their names, and the seed that chose them."""

    images: np.ndarray
    image_ids: tuple[str, ...]
    seed: int

    def said(self) -> dict[str, Any]:
        """For a map's settings: the names, the seed and a digest of the pixels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).tobytes()).hexdigest()[:16]
        return {"image_ids": list(self.image_ids), "seed": self.seed, "digest": digest}


def choose_background(training: Catalogue, size: int, per_class: int = 5, seed: int = 1) -> Background:
    """`per_class` images of each class of the training data, each of another patient, squashed to `size` pixels.

    `training` is a catalogue of nothing but training images: `catalogue.subset(rows)` of a split's `train`. Raises
    `ValueError` where it holds images of the test folder.
    """
    from helpers.data.images import choose_examples, read_square

    if (training.frame["published_split"] == "test").any():
        raise ValueError("background images come from training data; this catalogue holds test images")
    rows = choose_examples(training, per_class, seed, clearest=False)
    images = np.stack([read_square(training.file(path), size) for path in rows["path"]])
    return Background(images, tuple(rows["image_id"]), seed)


def gradient_shap(
    classifier: Classifier,
    images: np.ndarray,
    target: str | Sequence[str],
    *,
    background: Background,
    samples: int = 200,
    seed: int = 1,
    batch_size: int = 32,
) -> Maps:
    """shap's GradientExplainer on the logit: signed maps whose sum is, in expectation, the image's logit less the
    background's mean logit.

    `samples` points between the image and random background images are taken, in `RUNS` independent runs of shap.
    `extra` holds, (n,) in logits: `difference`, what the sum should be; `gap`, sum less difference; and `error`, the
    standard error of the sum, from the spread between the runs. Every image sees the same random numbers, from `seed`.
    """
    import shap

    if samples < 2 * RUNS:
        raise ValueError(f"samples = {samples}; take {2 * RUNS} or more, in {RUNS} runs")
    began, images = time.monotonic(), checked_images(classifier, images)
    codes, behind = class_codes(classifier, target, len(images)), _checked_background(background, images)
    explainer = shap.GradientExplainer(_list_taking(classifier.logits_model), behind, batch_size=batch_size)
    each, maps, error = samples // RUNS, np.empty(images.shape, np.float32), np.empty(len(images))
    for i, image in enumerate(images):
        runs = _runs(explainer, image, codes[i], each, seed)
        maps[i] = runs.mean(axis=0)
        error[i] = runs.sum(axis=(1, 2)).std(ddof=1) / np.sqrt(RUNS)
    difference = _logits(classifier, images, batch_size)[np.arange(len(images)), codes]
    difference -= _logits(classifier, background.images, batch_size).mean(axis=0)[codes]
    extra = {"difference": difference, "gap": maps.sum(axis=(1, 2), dtype=float) - difference, "error": error}
    settings = {"classifier": classifier.key, "samples": each * RUNS, "seed": seed, "background": background.said()}
    named = tuple(classifier.classes[code] for code in codes)
    return Maps(maps, "gradient SHAP", "logit", named, settings, time.monotonic() - began, extra)


def _runs(explainer: Any, image: np.ndarray, code: int, samples: int, seed: int) -> np.ndarray:
    """`RUNS` maps of one image, (RUNS, size, size): shap draws anew for each row that it is given."""
    given = np.repeat(image[None, ..., None].astype(np.float32), RUNS, axis=0)
    options = {"nsamples": samples, "ranked_outputs": np.full((RUNS, 1), code), "output_rank_order": "custom"}
    with _numpys_own_state():  # shap seeds numpy's global generator
        values, _ = explainer.shap_values(given, rseed=seed, **options)
    return np.asarray(values).reshape(RUNS, *image.shape)


def _list_taking(model: keras.Model) -> keras.Model:
    """The same network, for the list of one input that shap gives; Keras warns where it expects the input itself."""
    import keras

    return keras.Model([model.inputs[0]], model.outputs[0])


def partition_shap(
    classifier: Classifier,
    images: np.ndarray,
    target: str | Sequence[str],
    *,
    background: Background,
    evaluations: int = 500,
    cell: int = 4,
    score: str = "probability",
    predict: Predictor | None = None,
    batch_size: int = 64,
) -> Maps:
    """shap's PartitionExplainer: signed maps whose sum is exactly the image's score less that of the blank image.

    Cells of `cell` x `cell` pixels are hidden or shown; a hidden one takes its value in the mean of the background
    images, in whole grey levels, and a cell's value is shared evenly among its pixels. `score` is "probability" or
    "log_odds" of the target; `evaluations` the predictions spent an image; `predict` gives probabilities (the
    classifier's own fastest engine where None). `extra`: `difference` and `gap`, (n,), as for `gradient_shap`.
    """
    import shap

    if score not in ("probability", "log_odds") or cell < 1:
        raise ValueError(f"score = '{score}' (probability or log_odds), cell = {cell} (1 or more)")
    began, images = time.monotonic(), checked_images(classifier, images)
    codes = class_codes(classifier, target, len(images))
    blank = np.round(_checked_background(background, images)[..., 0].mean(axis=0)).astype(np.uint8)
    grid, run = -(-classifier.image_size // cell), predict or classifier.predictor(batch_size=batch_size)
    masker = shap.maskers.Image(np.zeros((grid, grid, 1)))
    maps, difference = np.empty(images.shape, np.float32), np.empty(len(images))
    for i, image in enumerate(images):
        score_of = _score_of(run, image, blank, int(codes[i]), cell, score)
        whole = np.ones((1, grid, grid, 1))
        told = shap.PartitionExplainer(score_of, masker)(
            whole, max_evals=evaluations, batch_size=batch_size, silent=True
        )
        maps[i] = _spread(np.asarray(told.values).reshape(grid, grid), cell, len(image))
        difference[i] = np.subtract(*score_of(np.concatenate([whole, 0 * whole])))
    extra = {"difference": difference, "gap": maps.sum(axis=(1, 2), dtype=float) - difference}
    settings = {"classifier": classifier.key, "evaluations": evaluations, "cell": cell, "score": score}
    settings |= {"background": background.said(), "blank": "mean of the background"}
    named = tuple(classifier.classes[code] for code in codes)
    return Maps(maps, "partition SHAP", score, named, settings, time.monotonic() - began, extra)


def _score_of(predict: Predictor, image: np.ndarray, blank: np.ndarray, code: int, cell: int, score: str) -> Any:
    """Of coalitions (b, grid, grid, 1), 1 where a cell is shown: the target's score, float64 (b,)."""

    def score_of(shown: np.ndarray) -> np.ndarray:
        size = len(image)
        pixels = np.asarray(shown)[..., 0].repeat(cell, axis=1).repeat(cell, axis=2)[:, :size, :size] > 0.5
        chance = np.asarray(predict(np.where(pixels, image, blank))[:, code], np.float64)
        if score == "probability":
            return chance
        chance = np.clip(chance, LEAST_ODDS, 1 - LEAST_ODDS)
        return np.log(chance / (1 - chance))

    return score_of


def _spread(values: np.ndarray, cell: int, size: int) -> np.ndarray:
    """Cells' values (grid, grid) shared evenly among the pixels each holds, (size, size)."""
    edges = np.minimum(np.arange(len(values) + 1) * cell, size)
    held = np.diff(edges)
    return (values / np.outer(held, held)).repeat(held, axis=0).repeat(held, axis=1)


def _checked_background(background: Background, images: np.ndarray) -> np.ndarray:
    """The background as float32 (m, size, size, 1), once it has the images' size."""
    behind = np.asarray(background.images)
    if behind.ndim != 3 or len(behind) < 1 or behind.shape[1:] != images.shape[1:]:
        raise ValueError(f"background images are {behind.shape}; the explained ones {images.shape}")
    return behind[..., None].astype(np.float32)


def _logits(classifier: Classifier, images: np.ndarray, batch_size: int) -> np.ndarray:
    """What goes into the softmax, float64 (n, classes)."""
    found = np.empty((len(images), len(classifier.classes)))
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size, ..., None].astype(np.float32)
        found[start : start + len(part)] = classifier.logits_model(part, training=False)
    return found


@contextmanager
def _numpys_own_state() -> Iterator[None]:
    """Numpy's global random state, given back as it was."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)
