"""Parts of a network as fast functions: the engine that `helpers.model.engine` chooses, checked against Keras."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from helpers.model.engine import Engine, EngineError, EngineWarning, Function, candidates, compile_model

if TYPE_CHECKING:
    from helpers.explain.classifier import Classifier, Predictor

AGREEMENT = 0.002  # the largest difference in probability from Keras in float32 that an engine may show
PROBES = 8  # made-up images it is measured on


def predictor(classifier: Classifier, engine: str = "auto", precision: str = "auto", batch_size: int = 64) -> Predictor:
    """The classifier as a function, uint8 or float32 (b, size, size) to probabilities (b, classes).

    The first engine that agrees with Keras in float32 to `AGREEMENT` on made-up images is taken; one that does not is
    told of by an `EngineWarning`. Raises `EngineError` where none does, and what `engines.choose` raises.
    """
    function, _ = agreeing(classifier, engine, precision, batch_size)

    def predict(images: np.ndarray) -> np.ndarray:
        return function(np.asarray(images, np.float32)[..., None])

    return predict


def agreeing(classifier: Classifier, engine: str, precision: str, batch_size: int) -> tuple[Function, Engine]:
    """The classifier's compiled model and the engine that runs it."""
    size = classifier.image_size
    probes = _probes(size)[..., None]
    expected = classifier.model.predict_on_batch(probes)
    for chosen in candidates(engine, precision):
        function = compile_model(classifier.model, chosen, batch_size)
        difference = float(np.abs(function(probes) - expected).max())
        if difference <= AGREEMENT:
            return function, chosen
        warnings.warn(f"{chosen} is {difference:.2g} off Keras in float32", EngineWarning, stacklevel=3)
    raise EngineError(f"no engine gives this network's probabilities to within {AGREEMENT}")


def _probes(size: int) -> np.ndarray:
    """float32 (PROBES, size, size), grey 0..255: noise, then speckled blobs ever larger.

    Noise alone is alike everywhere and leaves an engine's errors small; images have large dark and bright parts.
    """
    from scipy.ndimage import gaussian_filter

    random, made = np.random.default_rng(0), []
    for number in range(PROBES):
        rough = random.normal(size=(size, size))
        smooth = gaussian_filter(rough, 0.02 * size * number) if number else rough
        image = 96 + 80 * smooth / smooth.std()
        made.append(image * random.gamma(8, 1 / 8, (size, size)) if number else image)
    return np.clip(np.round(made), 0, 255).astype(np.float32)
