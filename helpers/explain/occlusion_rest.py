"""What comes after the windows: the late layers in full, on values, or on differences in a reduced precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.explain.occlusion_difference import Late, late
from helpers.explain.occlusion_local import overlap, shifted
from helpers.explain.occlusion_plan import Plan, Step
from helpers.explain.runner import Function, compile_model
from helpers.model.engine import Engine

if TYPE_CHECKING:
    import keras

    from helpers.explain.classifier import Classifier

REQUEST = 16  # differences an engine request: what is known of the base goes with each


class Values:
    """Changed windows among the unoccluded values, through a network. `differences`: whether on differences."""

    differences = False

    def __init__(self, steps: list[Step], plan: Plan, function: Function) -> None:
        self._steps, self._plan, self._function = steps, plan, function

    def take(self, base: np.ndarray) -> None:
        """The unoccluded output of the plan's last step, (rows, columns, channels)."""
        self._base = base

    def __call__(self, windows: np.ndarray, places: list[tuple[int, int]]) -> np.ndarray:
        """Probabilities (b, classes) of windows (b, rows, columns, channels), each in the block `places` names."""
        last, whole = self._plan.last, self._canvas(len(windows))
        for one, window, place in zip(whole, windows, places, strict=True):
            spans = shifted(self._plan, last, self._plan.outputs[last], place)
            there, here = overlap(spans, self._base.shape[:2])
            one[there] = window[here] - self._base[there] if self.differences else window[here]
        return self._run(whole)

    def _canvas(self, count: int) -> np.ndarray:
        return np.repeat(self._base[None], count, axis=0)

    def _run(self, whole: np.ndarray) -> np.ndarray:
        return self._function(whole)


class Differences(Values):
    """The same on differences; the base through the same layers, once an image, and the head, in float32."""

    differences = True

    def __init__(self, steps: list[Step], plan: Plan, parts: Late, engine: Engine, chunk: int) -> None:
        super().__init__(steps, plan, compile_model(parts.model, engine, chunk, REQUEST))
        self._known, self._tail = _traced(parts.known), _traced(parts.tail)

    def take(self, base: np.ndarray) -> None:
        super().take(base)
        *self._about, self._pooled = (np.asarray(one) for one in self._known(base[None]))

    def _canvas(self, count: int) -> np.ndarray:
        return np.zeros((count, *self._base.shape), np.float32)

    def _run(self, whole: np.ndarray) -> np.ndarray:
        return np.asarray(self._tail(self._pooled + self._function(whole, *self._about)))


def rest_of(classifier: Classifier, steps: list[Step], plan: Plan, engine: Engine, chunk: int) -> Values | None:
    """The network after the plan's last step on `engine`; None where nothing is left.

    On differences where the engine's precision is reduced and all layers are known to have them.
    """
    import keras

    if plan.last == len(steps) - 1:
        return None
    if engine.precision != "float32" and (parts := late(steps, plan.last)):
        return Differences(steps, plan, parts, engine, chunk)
    rest = keras.Model(steps[plan.last].tensor, classifier.model.outputs[0], name="rest")
    return Values(steps, plan, compile_model(rest, engine, chunk))


def _traced(model: keras.Model) -> Any:
    import tensorflow as tf

    return tf.function(lambda given: model(given, training=False), autograph=False, reduce_retracing=True)
