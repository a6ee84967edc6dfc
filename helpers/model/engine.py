"""What runs a frozen network: the fastest engine the machine has, held against Keras in float32.

    GPU that TensorFlow can use            Keras, float16 with float32 weights, compiled by XLA
    CPU with bfloat16 instructions         OpenVINO, bfloat16
    any other CPU                          OpenVINO, float32
    KERAS_BACKEND=jax or torch             Keras, float32, on that backend

Nothing falls back in silence: what is slower than it could be warns, what would not be what was asked for is refused.
This is the only module that calls TensorFlow itself.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from helpers.model.backbones import Backbone
from helpers.run import provenance

if TYPE_CHECKING:
    import keras

AGREEMENT = 0.9999  # the least cosine between an engine's features of an image and those of Keras in float32
BATCH = 64  # images that Keras takes at once
REQUEST = 4  # images an OpenVINO request: weights are read a quarter as often, activations still fit a core's cache
CHECK_WEIGHTS = "look at its weights, which are not those of a trained network"
ON_GPU = ("float16", "bfloat16", "float32")  # what Keras does at full speed there, the preferred first
OPENVINO = {"bfloat16": "BF16", "float32": "FP32", "float16": "FP16"}  # OpenVINO's words; the preferred first
# What ONEDNN_MAX_CPU_ISA may leave that has no bfloat16: OpenVINO offers it all the same, and crashes.
WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")

# Arrays, each (b, ...), to a float32 array (b, ...), for any b: a ragged last batch compiles nothing anew. Not for use
# from two threads at a time.
Function = Callable[..., np.ndarray]
# float32 (b, ...) and int (b,) positions in the output to gradients, float32 (b, ...), and outputs, float32 (b,)
Gradients = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class EngineError(RuntimeError):
    """An engine that this machine cannot give, or whose features are not the backbone's."""


class EngineWarning(UserWarning):
    """An engine that works, but is not what one would want here."""


@dataclass(frozen=True)
class Engine:
    """What runs a backbone, and in which precision."""

    name: str
    precision: str

    @property
    def version(self) -> str:
        """Of the packages that do the arithmetic."""
        packages = ("openvino",) if self.name == "openvino" else (_backend(), "keras")
        return ", ".join(f"{package} {metadata.version(package)}" for package in packages)

    def __str__(self) -> str:
        return f"{self.name} in {self.precision}"


class Disagreement(EngineError):  # noqa: N818 - it says what was found
    """An engine whose features are not those of Keras in float32, by what `check_agreement` `measured`."""

    def __init__(self, backbone: Backbone, engine: Engine, measured: dict[str, float]) -> None:
        self.measured = measured
        super().__init__(
            f"{backbone.name} by {engine} does not agree with Keras in float32: the worst cosine of "
            f"{measured['images']} images is {measured['min_cosine']:.6f}, where {AGREEMENT} or more is asked for"
        )


# --- choosing ---


def choose(engine: str = "auto", precision: str = "auto") -> Engine:
    """The engine for this machine, or the one asked for: "keras" or "openvino"; "float32", "bfloat16" or "float16".

    Raises `EngineError` for what a backend other than TensorFlow lacks; gives an `EngineWarning` for a reduced
    precision that this machine can only imitate, which costs time and gains none, and for a GPU that
    Keras cannot use.
    """
    backend, gpus = _backend(), usable_gpus()
    name = engine if engine != "auto" else "keras" if gpus or backend != "tensorflow" else "openvino"
    if backend != "tensorflow" and (name != "keras" or precision not in ("auto", "float32")):
        raise EngineError(f"Keras runs on {backend}, which has engine=keras with precision=float32 alone")
    if name == "openvino":
        fast = [one for one, word in OPENVINO.items() if word in openvino_capabilities()]
    else:
        fast = ON_GPU if gpus and backend == "tensorflow" else ("float32",)
    chosen = Engine(name, fast[0] if precision == "auto" else precision)
    if chosen.precision not in fast:
        _warn(f"{name} can only imitate {precision} on this machine, slower than float32 and less exact")
    if not gpus and provenance.driver_gpus():
        _warn("the driver sees a GPU, but TensorFlow cannot use it: install its CUDA packages (the gpu extra)")
    return chosen


def candidates(engine: str = "auto", precision: str = "auto") -> list[Engine]:
    """`choose`'s engine, then those to fall back to where its features disagree, as far as nothing was asked for."""
    found = [choose(engine, precision)]
    if precision == "auto":
        found.append(Engine(found[0].name, "float32"))
    if engine == "auto" and precision in ("auto", "float32"):
        found.append(Engine("keras", "float32"))
    return list(dict.fromkeys(found))


def usable_gpus() -> list[str]:
    """Names of the GPUs that Keras can use on its backend. Imports Keras, which takes seconds."""
    import keras

    if _backend() == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        return [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in found]
    try:
        return [str(device) for device in keras.distribution.list_devices("gpu")]
    except (RuntimeError, AttributeError):  # JAX without a GPU, and PyTorch, whose Keras backend lists none
        return provenance.driver_gpus()


def _warn(text: str) -> None:
    warnings.warn(text, EngineWarning, stacklevel=3)


def _backend() -> str:
    import keras

    return keras.config.backend()


# --- agreement ---


def check_agreement(backbone: Backbone, engine: Engine, run: Function, images: np.ndarray) -> dict[str, float]:
    """How near `run` comes to Keras in float32, on the CPU, for `images`, uint8 (n, size, size).

    `min_cosine`: the worst image's cosine between the two feature vectors, 0 where one is all zeros, NaN where a
    feature is not finite; `max_abs`: the largest difference of any feature; `images`: n. Raises `Disagreement` where
    they are too far apart, and `EngineError` where those of Keras do not differ between images.
    """
    import keras

    with keras.device("cpu:0"):  # a GPU's own float32 is rounded to 10 bits in its tensor cores
        exact = backbone.model(images[..., None].astype(np.float32), training=False)
    expected, found = keras.ops.convert_to_numpy(exact).astype(np.float64), run(images).astype(np.float64)
    if len(np.unique(images, axis=0)) > 1:
        require_variation(expected, backbone.name)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    products = (found * expected).sum(axis=1)  # NaN where a feature is not finite, and then the worst
    worst = np.divide(products, lengths, out=np.zeros(len(found)), where=lengths != 0).min()
    furthest = float(np.abs(found - expected).max())
    measured = {"min_cosine": round(float(worst), 8), "max_abs": furthest, "images": len(images)}
    if not worst >= AGREEMENT:
        raise Disagreement(backbone, engine, measured)
    return measured


def require_variation(features: np.ndarray, name: str) -> None:
    """Raises `EngineError` where the features of different images are all the same, or not finite: no weights of a
    trained network give such, and all that is learnt from them would be chance."""
    if not np.isfinite(features).all():
        raise EngineError(f"{name}: its features are not finite; {CHECK_WEIGHTS}")
    if len(features) > 1 and (np.ptp(features, axis=0) <= 1e-6 * np.abs(features).max(axis=0)).all():
        what = "the same" if features.any() else "zero"
        raise EngineError(f"{name}: the features of {len(features)} images are all {what}; {CHECK_WEIGHTS}")


# --- compiling ---


def compile_backbone(backbone: Backbone, engine: Engine, batch_size: int = BATCH, workers: int = 0) -> Function:
    """The backbone as a function from uint8 (b, size, size), grey, to float32 (b, features); see `compile_model`."""
    return compile_model(backbone.model, engine, batch_size, workers=workers)


def compile_model(
    model: keras.Model, engine: Engine, batch_size: int = BATCH, request: int = REQUEST, workers: int = 0
) -> Function:
    """A Keras model of any number of inputs and one output, as a function of arrays, computed as float32.

    An input that the model declares with one row is shared by all rows; images may come without their channel.
    `batch_size` is what Keras takes at once, `request` what OpenVINO does, `workers` its CPU threads (0: one per core).
    Raises `EngineError` where the engine would run in another precision than `engine.precision`.
    """
    if engine.name == "openvino":
        return _compile_openvino(model, engine.precision, request, workers or provenance.available_cores())
    return _compile_keras(model, engine.precision, batch_size, fixed=bool(usable_gpus()))


def _compile_keras(model: keras.Model, precision: str, batch_size: int, fixed: bool) -> Function:
    """The model as it is on another backend; on TensorFlow a traced call of it.

    `fixed`: compiled by XLA for `batch_size` rows; fewer are padded with zeros.
    """
    import keras

    if _backend() == "tensorflow":
        network = model if precision == "float32" else _mixed(model, precision)
        call = _traced(network, batch_size if fixed else None, jit_compile=fixed)
    else:
        fixed, call = False, lambda *inputs: _call(model, inputs)

    def compute(inputs: list[np.ndarray], out: np.ndarray) -> None:
        out[:] = keras.ops.convert_to_numpy(call(*inputs))[: len(out)]

    return _in_pieces(model, batch_size, fixed, compute)


def _compile_openvino(model: keras.Model, precision: str, request: int, threads: int) -> Function:
    """Requests of `request` rows, as many at once as OpenVINO finds best for `threads`; each writes its own rows.

    Cores are not pinned, since several notebooks may run at a time.
    """
    if precision != "float32" and lacks_bf16():
        raise EngineError(f"ONEDNN_MAX_CPU_ISA leaves OpenVINO no instructions for {precision}")
    ov = load_openvino()
    converted = ov.convert_model(_traced(model, None))
    converted.reshape(dict(zip(converted.inputs, _shapes(model, request), strict=True)))
    wanted = {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16, "float16": ov.Type.f16}[precision]
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": wanted,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = ov.Core().compile_model(converted, "CPU", settings)
    runs = compiled.get_property("INFERENCE_PRECISION_HINT")
    if runs != wanted:
        raise EngineError(f"OpenVINO would run {model.name} in {runs.to_string()}, not {precision}")
    queue = ov.AsyncInferQueue(compiled)

    def store(job, out: np.ndarray) -> None:
        out[:] = job.get_output_tensor(0).data[: len(out)]

    queue.set_callback(store)
    return _in_pieces(model, request, True, queue.start_async, queue.wait_all)


def _in_pieces(
    model: keras.Model, count: int, padded: bool, compute: Callable, finish: Callable = lambda: None
) -> Function:
    """A function that has `compute` fill `count` rows of its result at a time, from as many rows of its arrays.

    `padded`: the last inputs have `count` rows as well, with zeros after their own.
    """

    def rows_of(array: np.ndarray, shape: tuple, start: int) -> np.ndarray:
        part = array if shape[0] == 1 else array[start : start + count]
        part = part[..., None] if part.ndim < len(shape) else part
        rows = np.zeros((count if padded and shape[0] != 1 else len(part), *part.shape[1:]), np.float32)
        rows[: len(part)] = part
        return rows

    def run(*arrays: np.ndarray) -> np.ndarray:
        out = np.empty((len(arrays[0]), *model.output_shape[1:]), np.float32)
        for start in range(0, len(out), count):
            parts = [rows_of(array, one.shape, start) for array, one in zip(arrays, model.inputs, strict=True)]
            compute(parts, out[start : start + count])
        finish()
        return out

    return run


def _mixed(model: keras.Model, precision: str) -> keras.Model:
    """A copy of a model that computes in `precision`, float16 or bfloat16, and keeps its weights in float32."""
    import keras

    def clone(layer):
        return layer.__class__.from_config(layer.get_config() | {"dtype": f"mixed_{precision}"})

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def _traced(model: keras.Model, rows: int | None, jit_compile: bool = False) -> Callable:
    """The model as a TensorFlow function of `rows` rows (None: any)."""
    import tensorflow as tf

    # A GPU is not to round float32 to the 10 bits of TF32, from here to the end of the process.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    specs = [tf.TensorSpec(shape) for shape in _shapes(model, rows)]

    @tf.function(input_signature=specs, jit_compile=jit_compile)
    def call(*inputs):
        return tf.cast(_call(model, inputs), tf.float32)

    return call


def _call(model: keras.Model, inputs: Sequence):
    return model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)


def _shapes(model: keras.Model, rows: int | None) -> list[list[int | None]]:
    """The inputs' shapes with `rows` rows, but for those that the model declares with one row."""
    return [[1 if one.shape[0] == 1 else rows, *one.shape[1:]] for one in model.inputs]


@lru_cache(maxsize=8)
def input_gradients(model: keras.Model) -> Gradients:
    """The gradient of one output of each row, `outputs[b, codes[b]]`, by that row's input (a list of arrays where the
    model has a list of inputs), on TensorFlow's backend."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True, autograph=False)
    def run(inputs, codes):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            chosen = tf.gather(model(inputs, training=False), codes, axis=1, batch_dims=1)
        return tape.gradient(chosen, inputs), chosen

    def gradients(inputs: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tensors = tf.nest.map_structure(lambda one: tf.constant(one, tf.float32), inputs)
        slopes, values = run(tensors, tf.constant(codes, tf.int32))
        return tf.nest.map_structure(lambda one: one.numpy(), slopes), values.numpy()

    return gradients


def openvino_capabilities() -> frozenset[str]:
    """What OpenVINO does at full speed on this CPU: FP32, BF16, FP16, INT8 and so on."""
    found = frozenset(load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    return found - {"BF16", "FP16"} if lacks_bf16() else found


def lacks_bf16() -> bool:
    """Whether the user has taken bfloat16's instructions away; DNNL is oneDNN's older name."""
    return any(os.environ.get(f"{name}_MAX_CPU_ISA", "").upper() in WITHOUT_BF16 for name in ("ONEDNN", "DNNL"))


def load_openvino():
    """OpenVINO, without the telemetry that its import would send to a server and note in the user's home folder."""
    sys.modules.setdefault("openvino_telemetry", None)  # reads as "not installed", for which OpenVINO has a stand-in
    import openvino

    return openvino
