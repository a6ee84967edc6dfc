"""What runs the frozen backbone: the fastest engine the machine has, held against Keras in float32.

    GPU that TensorFlow can use            Keras, float16 with float32 weights, compiled by XLA
    CPU with bfloat16 instructions         OpenVINO, bfloat16
    any other CPU                          OpenVINO, float32

Nothing falls back in silence: what is slower than it could be warns, what would not be what was asked for is refused.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from helpers.model.compiled import EngineError, Runner, compile_keras, compile_openvino, openvino_capabilities
from helpers.run import hardware
from helpers.run.profile import nearest

if TYPE_CHECKING:
    from helpers.model.backbones import Backbone

ENGINES = ("keras", "openvino")
PRECISIONS = ("float32", "bfloat16", "float16")
AGREEMENT = 0.9999  # the least cosine between an engine's features of an image and those of Keras in float32


class EngineWarning(UserWarning):
    """An engine that works, but is not what one would want here."""


@dataclass(frozen=True)
class Engine:
    """What runs a backbone, in which precision, and why this one."""

    name: str
    precision: str
    reason: str

    @property
    def version(self) -> str:
        """Of the packages that do the arithmetic."""
        packages = ("openvino",) if self.name == "openvino" else ("tensorflow", "keras")
        return ", ".join(f"{package} {metadata.version(package)}" for package in packages)

    def __str__(self) -> str:
        return f"{self.name} in {self.precision}"


class Disagreement(EngineError):  # noqa: N818 - it says what was found
    """An engine whose features are not those of Keras in float32. `measured` is what `agreement` gave."""

    def __init__(self, backbone: Backbone, engine: Engine, measured: dict[str, float]) -> None:
        self.measured = measured
        super().__init__(
            f"{backbone.name} by {engine} does not agree with Keras in float32: the worst cosine of "
            f"{measured['images']} images is {measured['min_cosine']:.6f}, where {AGREEMENT} or more is asked for"
        )


def choose(engine: str = "auto", precision: str = "auto") -> Engine:
    """The engine for this machine, or the one asked for.

    Raises `EngineError` for an unknown word and for a precision that the engine would quietly replace; gives an
    `EngineWarning` for a reduced precision that this machine can only imitate, which costs time and gains none.
    """
    for word, known in ((engine, ENGINES), (precision, PRECISIONS)):
        if word not in ("auto", *known):
            raise EngineError(f"there is no engine or precision '{word}'{nearest(str(word), ('auto', *known))}")
    gpus = hardware.gpus()
    name = engine if engine != "auto" else "keras" if gpus else "openvino"
    chosen = _choose_keras(precision, gpus) if name == "keras" else _choose_openvino(precision)
    if gpus and name == "openvino":
        _warn(f"OpenVINO runs on the CPU here, though TensorFlow can use {gpus[0]}")
    elif not gpus and hardware.driver_gpus():
        _warn("the driver sees a GPU, but TensorFlow cannot use it: install its CUDA packages (the gpu extra)")
    return chosen


def candidates(engine: str = "auto", precision: str = "auto") -> list[Engine]:
    """`choose`'s engine, then those to fall back to where its features disagree, as far as nothing was asked for."""
    first = choose(engine, precision)
    found = [first]
    if precision == "auto" and first.precision != "float32":
        found.append(Engine(first.name, "float32", f"{first} disagreed with Keras in float32"))
    if engine == "auto" and first.name != "keras" and precision in ("auto", "float32"):
        found.append(Engine("keras", "float32", "no faster engine agreed with it"))
    return found


def _choose_keras(precision: str, gpus: list[str]) -> Engine:
    if gpus:
        chosen = "float16" if precision == "auto" else precision
        return Engine("keras", chosen, f"TensorFlow can use {gpus[0]}")
    if precision in ("float16", "bfloat16"):
        _warn(f"Keras in {precision} on a CPU is slower than in float32; it pays on a GPU")
    return Engine("keras", "float32" if precision == "auto" else precision, "Keras was asked for, and there is no GPU")


def _choose_openvino(precision: str) -> Engine:
    fast = openvino_capabilities()
    if precision == "auto":
        if "BF16" in fast:
            return Engine("openvino", "bfloat16", "a CPU with bfloat16 instructions")
        return Engine("openvino", "float32", "a CPU without bfloat16 instructions")
    if precision == "float16" and "FP16" not in fast:
        raise EngineError("precision=float16: OpenVINO has none on this CPU and would run float32; use auto or float32")
    if precision == "bfloat16" and "BF16" not in fast:
        _warn("this CPU has no bfloat16 instructions: OpenVINO imitates them, slower than float32 and less exact")
    return Engine("openvino", precision, f"{precision} was asked for")


def _warn(text: str) -> None:
    warnings.warn(text, EngineWarning, stacklevel=3)


def compile_backbone(backbone: Backbone, engine: Engine, batch_size: int = 64, workers: int = 0) -> Runner:
    """The backbone as a function from uint8 (b, size, size), grey, to float32 (b, features).

    Any b does: a ragged last batch compiles nothing anew. `batch_size` is what a GPU takes at once, `workers` the CPU
    threads of OpenVINO (0: one a core). Not for use from two threads at a time. Raises `EngineError` where the engine
    would run in another precision than `engine.precision`.
    """
    if engine.name == "openvino":
        return compile_openvino(backbone, engine.precision, workers or hardware.available_cores())
    return compile_keras(backbone, engine.precision, batch_size, fixed=bool(hardware.gpus()))


def agreement(backbone: Backbone, run: Runner, images: np.ndarray) -> dict[str, float]:
    """How near `run` comes to Keras in float32, on the CPU, for `images`, uint8 (n, size, size).

    `min_cosine`: the worst image's cosine between the two feature vectors, NaN where a feature is not finite;
    `max_abs`: the largest difference of any feature; `largest`: the largest feature, for scale; `images`: n.
    """
    import tensorflow as tf

    with tf.device("CPU:0"):  # a GPU's own float32 is rounded to 10 bits in its tensor cores
        expected = np.asarray(backbone.model(images[..., None].astype(np.float32), training=False))
    found = run(images)
    if found.shape != expected.shape:
        raise EngineError(f"{backbone.name} gives features {expected.shape}, the engine {found.shape}")
    return {
        "min_cosine": round(float(_cosines(found, expected).min()), 8),
        "max_abs": float(np.abs(found - expected).max()),
        "largest": float(np.abs(expected).max()),
        "images": len(images),
    }


def agrees(measured: dict[str, float]) -> bool:
    """Whether what `agreement` measured is good enough. NaN is not."""
    return measured["min_cosine"] >= AGREEMENT


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,) cosines of the rows; 1 for two rows of zeros (a black image, say), 0 for one."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    zeros = np.where(np.any(a, axis=1) | np.any(b, axis=1), 0.0, 1.0)
    return np.where(norms == 0, zeros, (a * b).sum(axis=1) / np.where(norms == 0, 1, norms))
