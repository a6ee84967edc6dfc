"""Shapley maps with the `shap` package: how a score is shared out among the pixels, against background images.

Carr 2020, figure 4: "OCT SHAP maps indicating positive importance in red and negative importance in blue."

- `gradient_shap` is shap's GradientExplainer (expected gradients): fast, for whatever has gradients. DeepExplainer is
  not offered: it has no rule for ReLU6, which MobileNetV2 is full of.
- `partition_shap` is shap's PartitionExplainer: only asks for predictions, so any engine and any model will do. Its
  Owen values follow a fixed tree of halves of the image; where `evaluations` run out, a rectangle shares its value.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from helpers.data.images import choose_examples, read_square
from helpers.explain.maps import Classifier, Maps, Predictor

if TYPE_CHECKING:
    from helpers.data.catalogue import Catalogue

RUNS = 8  # independent parts of the samples; their spread is the stated error
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
    samples: int = 200,
    seed: int = 1,
) -> Maps:
    """shap's GradientExplainer on the logit: signed maps whose sum is, in expectation, the image's logit less the mean
    logit of the `background`, uint8 (m, size, size).

    `samples` points between the image and random background images are taken, in `RUNS` independent runs of shap.
    `extra` holds, (n,) in logits: `difference`, what the sum should be; `gap`, sum less difference; and `error`, the
    standard error of the sum, from the spread between the runs. Every image sees the same random numbers, from `seed`.
    """
    import keras
    import shap

    if samples < 2 * RUNS:
        raise ValueError(f"samples = {samples}; take {2 * RUNS} or more, in {RUNS} runs")
    began, images, background = monotonic(), classifier.check(images), classifier.check(background)
    codes, model = classifier.codes(target, len(images)), classifier.logits_model
    listed = keras.Model([model.inputs[0]], model.outputs[0])  # shap passes a list of one input
    explainer = shap.GradientExplainer(listed, background[..., None].astype(np.float32), batch_size=BATCH)
    each, maps, error = samples // RUNS, np.empty(images.shape, np.float32), np.empty(len(images))
    state = np.random.get_state()  # shap seeds numpy's global generator
    for i, image in enumerate(images):
        repeated = np.repeat(image[None, ..., None].astype(np.float32), RUNS, axis=0)  # shap draws anew for each row
        asked = {"ranked_outputs": np.full((RUNS, 1), codes[i]), "output_rank_order": "custom"}
        runs = np.asarray(explainer.shap_values(repeated, nsamples=each, rseed=seed, **asked)[0])
        runs = runs.reshape(RUNS, *image.shape)
        maps[i], error[i] = runs.mean(axis=0), runs.sum(axis=(1, 2)).std(ddof=1) / np.sqrt(RUNS)
    np.random.set_state(state)
    own, others = (
        model.predict(one[..., None].astype(np.float32), BATCH, verbose=0).astype(float) for one in (images, background)
    )
    difference = own[np.arange(len(images)), codes] - others.mean(axis=0)[codes]
    extra = {"difference": difference, "gap": maps.sum(axis=(1, 2), dtype=float) - difference, "error": error}
    settings = {"samples": each * RUNS, "seed": seed, "background": len(background)}
    return classifier.maps(began, codes, maps, "gradient SHAP", "logit", extra, **settings)


def partition_shap(
    classifier: Classifier,
    images: np.ndarray,
    target: str | Sequence[str],
    *,
    background: np.ndarray,
    evaluations: int = 500,
    cell: int = 4,
    predict: Predictor | None = None,
) -> Maps:
    """shap's PartitionExplainer on the probability: signed maps whose sum is exactly the image's probability less that
    of the blank image, the mean of the `background`, uint8 (m, size, size), in whole grey levels.

    Cells of `cell` x `cell` pixels are hidden (blank) or shown, and a cell's value is shared evenly among its pixels.
    `evaluations`: predictions per image; `predict` gives probabilities (the classifier's own fastest engine where
    None). `extra`: `difference` and `gap`, (n,), as for `gradient_shap`.
    """
    import shap

    began, images, size = monotonic(), classifier.check(images), classifier.image_size
    codes, run = classifier.codes(target, len(images)), predict or classifier.predictor()
    blank = np.round(classifier.check(background).mean(axis=0, dtype=np.float32)).astype(np.uint8)
    edges = np.minimum(np.arange(-(-size // cell) + 1) * cell, size)
    held, grid = np.diff(edges), len(edges) - 1  # pixels that each cell holds on one side, and cells
    maps, difference = np.empty(images.shape, np.float32), np.empty(len(images))

    def enlarged(cells: np.ndarray) -> np.ndarray:
        return cells.repeat(held, axis=-2).repeat(held, axis=-1)

    for i, image in enumerate(images):

        def probability(shown: np.ndarray, image: np.ndarray = image, code: int = codes[i]) -> np.ndarray:
            pixels = enlarged(np.asarray(shown)[..., 0]) > 0.5
            return np.asarray(run(np.where(pixels, image, blank))[:, code], np.float64)

        whole = np.ones((1, grid, grid, 1))
        explainer = shap.PartitionExplainer(probability, shap.maskers.Image(0 * whole[0]))
        found = explainer(whole, max_evals=evaluations, batch_size=64, silent=True)
        maps[i] = enlarged(np.asarray(found.values).reshape(grid, grid) / np.outer(held, held))
        difference[i] = np.subtract(*probability(np.concatenate([whole, 0 * whole])))
    extra = {"difference": difference, "gap": maps.sum(axis=(1, 2), dtype=float) - difference}
    settings = {"evaluations": evaluations, "cell": cell, "background": len(background)}
    return classifier.maps(began, codes, maps, "partition SHAP", "probability", extra, **settings)
