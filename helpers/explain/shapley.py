"""Shapley maps with the `shap` package: how a score is shared out among the pixels, against background images.

Carr 2020, figure 4: "OCT SHAP maps indicating positive importance in red and negative importance in blue."

- `gradient_shap` is shap's GradientExplainer (expected gradients): fast, for whatever has gradients. DeepExplainer is
  not offered: it has no rule for ReLU6, which MobileNetV2 is full of.
- `partition_shap` is shap's PartitionExplainer: only asks for predictions, so any engine and any model will do. Its
  Owen values follow a fixed tree of halves of the image; where `EVALUATIONS` run out, a rectangle shares its value.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from helpers.data.images import choose_examples, read_square
from helpers.explain.maps import Classifier, Maps

if TYPE_CHECKING:
    from helpers.data.catalogue import Catalogue

RUNS = 8  # independent parts of the samples
EVALUATIONS, CELL = 200, 8  # of the partition explainer: predictions per image, and pixels a side of what is hidden
BATCH = 32


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

    `samples` points between the image and random background images are taken, in `RUNS` independent runs of shap.
    Every image sees the same random numbers, from `seed`.
    """
    import keras
    import shap

    if samples < RUNS:
        raise ValueError(f"samples = {samples}; take {RUNS} or more")
    began, images, background = monotonic(), classifier.check(images), classifier.check(background)
    codes, model = classifier.codes(target, len(images)), classifier.logits_model
    listed = keras.Model([model.inputs[0]], model.outputs[0])  # shap passes a list of one input
    explainer = shap.GradientExplainer(listed, background[..., None].astype(np.float32), batch_size=BATCH)
    each, maps = samples // RUNS, np.empty(images.shape, np.float32)
    state = np.random.get_state()  # shap seeds numpy's global generator
    for i, image in enumerate(images):
        repeated = np.repeat(image[None, ..., None].astype(np.float32), RUNS, axis=0)  # shap draws anew for each row
        asked = {"ranked_outputs": np.full((RUNS, 1), codes[i]), "output_rank_order": "custom"}
        runs = np.asarray(explainer.shap_values(repeated, nsamples=each, rseed=seed, **asked)[0])
        maps[i] = runs.reshape(RUNS, *image.shape).mean(axis=0)
    np.random.set_state(state)
    settings = {"samples": each * RUNS, "seed": seed, "background": len(background)}
    return classifier.maps(began, codes, maps, "gradient SHAP", "logit", **settings)


def partition_shap(
    classifier: Classifier, images: np.ndarray, target: str | Sequence[str], *, background: np.ndarray
) -> Maps:
    """shap's PartitionExplainer on the probability: signed maps whose sum is exactly the image's probability less that
    of the blank image, the mean of the `background`, uint8 (m, size, size), in whole grey levels.

    Cells of `CELL` x `CELL` pixels are hidden (blank) or shown, and a cell's value is shared evenly among its pixels.
    """
    import shap

    began, images, size = monotonic(), classifier.check(images), classifier.image_size
    codes, run = classifier.codes(target, len(images)), classifier.predictor()
    blank = np.round(classifier.check(background).mean(axis=0, dtype=np.float32)).astype(np.uint8)
    held = np.diff(np.append(np.arange(0, size, CELL), size))  # pixels that each cell holds on one side
    whole, maps = np.ones((len(held), len(held), 1)), np.empty(images.shape, np.float32)

    def enlarged(cells: np.ndarray) -> np.ndarray:
        return cells.repeat(held, axis=-2).repeat(held, axis=-1)

    for i, image in enumerate(images):

        def probability(shown: np.ndarray, image: np.ndarray = image, code: int = codes[i]) -> np.ndarray:
            pixels = enlarged(np.asarray(shown)[..., 0]) > 0.5
            return np.asarray(run(np.where(pixels, image, blank))[:, code], np.float64)

        explainer = shap.PartitionExplainer(probability, shap.maskers.Image(0 * whole))
        found = explainer(whole[None], max_evals=EVALUATIONS, batch_size=64, silent=True)
        maps[i] = enlarged(np.asarray(found.values).reshape(whole.shape[:2]) / np.outer(held, held))
    settings = {"evaluations": EVALUATIONS, "cell": CELL, "background": len(background)}
    return classifier.maps(began, codes, maps, "partition SHAP", "probability", **settings)
