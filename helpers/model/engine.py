"""What runs a frozen network: the fastest engine the machine has, held against Keras in float32.

    GPU that TensorFlow can use            Keras, float16 with float32 weights, compiled by XLA
    CPU with bfloat16 instructions         OpenVINO, bfloat16
    any other CPU                          OpenVINO, float32
    KERAS_BACKEND=jax or torch             Keras, float32, on that backend

Nothing falls back in silence: what is slower than it could be warns, what would not be what was asked for is refused.
This is the only module that calls TensorFlow itself.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from helpers.model.backbones import Backbone
from helpers.run import hardware

if TYPE_CHECKING:
    import keras

AGREEMENT = 0.9999  # the least cosine between an engine's features of an image and those of Keras in float32
BATCH = 64  # images that Keras takes at once
REQUEST = 4  # images an OpenVINO request: weights are read a quarter as often, activations still fit a core's cache

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
    """What runs a backbone, in which precision, and why this one."""

    name: str
    precision: str
    reason: str

    @property
    def version(self) -> str:
        """Of the packages that do the arithmetic."""
        packages = ("openvino",) if self.name == "openvino" else (_other_backend() or "tensorflow", "keras")
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
    """The engine for this machine, or the one asked for: "keras" or "openvino"; "float32", "bfloat16" or "float16".

    Raises `EngineError` for a precision that the engine would quietly replace; gives an `EngineWarning` for a reduced
    precision that this machine can only imitate, which costs time and gains none.
    """
    if engine != "openvino" and (backend := _other_backend()):
        if precision not in ("auto", "float32"):
            raise EngineError(f"precision={precision} needs Keras on TensorFlow, not on {backend}; use float32")
        return Engine("keras", "float32", f"Keras runs on {backend}")
    gpus = usable_gpus()
    name = engine if engine != "auto" else "keras" if gpus else "openvino"
    chosen = _choose_keras(precision, gpus) if name == "keras" else _choose_openvino(precision)
    if gpus and name == "openvino":
        _warn(f"OpenVINO runs on the CPU here, though TensorFlow can use {gpus[0]}")
    elif not gpus and hardware.driver_gpus():
        _warn("the driver sees a GPU, but TensorFlow cannot use it: install its CUDA packages (the gpu extra)")
    return chosen


def usable_gpus() -> list[str]:
    """Names of the GPUs that Keras can use on its backend. Imports Keras, which takes seconds."""
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_physical_devices("GPU")
        return [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in found]
    try:
        return [str(device) for device in keras.distribution.list_devices("gpu")]
    except (RuntimeError, AttributeError):  # JAX without a GPU, and PyTorch, whose Keras backend lists none
        return hardware.driver_gpus()


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


def _other_backend() -> str:
    """The backend that Keras runs on if it is not TensorFlow, which alone is compiled here; else ''."""
    import keras

    backend = keras.config.backend()
    return "" if backend == "tensorflow" else backend


# --- agreement ---


def agreement(backbone: Backbone, run: Function, images: np.ndarray) -> dict[str, float]:
    """How near `run` comes to Keras in float32, on the CPU, for `images`, uint8 (n, size, size).

    `min_cosine`: the worst image's cosine between the two feature vectors, NaN where a feature is not finite;
    `max_abs`: the largest difference of any feature; `images`: n.
    """
    import keras

    with keras.device("cpu:0"):  # a GPU's own float32 is rounded to 10 bits in its tensor cores
        exact = backbone.model(images[..., None].astype(np.float32), training=False)
    expected = keras.ops.convert_to_numpy(exact)
    found = run(images)
    if found.shape != expected.shape:
        raise EngineError(f"{backbone.name} gives features {expected.shape}, the engine {found.shape}")
    return {
        "min_cosine": round(float(_cosines(found, expected).min()), 8),
        "max_abs": float(np.abs(found - expected).max()),
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


# --- compiling ---


def compile_backbone(backbone: Backbone, engine: Engine, batch_size: int = BATCH, workers: int = 0) -> Function:
    """The backbone as a function from uint8 (b, size, size), grey, to float32 (b, features); see `compile_model`."""
    return compile_model(backbone.model, engine, batch_size, workers=workers, pixels=True)


def compile_model(
    model: keras.Model,
    engine: Engine,
    batch_size: int = BATCH,
    request: int = REQUEST,
    workers: int = 0,
    pixels: bool = False,
) -> Function:
    """A Keras model of any number of inputs and one output, as a function of float32 arrays.

    An input that the model declares with one row is shared by all rows. `batch_size` is what Keras takes at once,
    `request` what OpenVINO does, `workers` its CPU threads (0: one per core). `pixels`: the only input is to be given
    as uint8 (b, height, width), without a channel. Raises `EngineError` where the engine would run in another precision
    than `engine.precision`.
    """
    if engine.name == "openvino":
        return _compile_openvino(model, engine.precision, request, workers or hardware.available_cores(), pixels)
    return _compile_keras(model, engine.precision, batch_size, pixels, fixed=bool(usable_gpus()))


def _compile_keras(model: keras.Model, precision: str, batch_size: int, pixels: bool, fixed: bool) -> Function:
    """The model as it is on another backend; on TensorFlow a traced call of it.

    `fixed`: compiled by XLA for `batch_size` rows; fewer are padded with zeros.
    """
    import keras

    shared = _shared(model)
    if _other_backend():
        fixed = False

        def call(*arrays):
            return model(_single([arrays[0][..., None].astype(np.float32)] if pixels else arrays), training=False)
    else:
        model = model if precision == "float32" else _mixed(model, precision)
        call = _traced(model, batch_size if fixed else None, pixels, jit_compile=fixed)

    def run(*arrays: np.ndarray) -> np.ndarray:
        out = np.empty((len(arrays[0]), *model.output_shape[1:]), np.float32)
        for start in range(0, len(out), batch_size):
            count = min(batch_size, len(out) - start)
            rows = batch_size if fixed else count
            parts = [_rows(one, same, start, rows) for one, same in zip(arrays, shared, strict=True)]
            out[start : start + count] = keras.ops.convert_to_numpy(call(*parts))[:count]
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


def _traced(model: keras.Model, rows: int | None, pixels: bool, jit_compile: bool = False):
    """The model as a TensorFlow function of `rows` rows (None: any); of uint8 images without a channel for `pixels`."""
    import tensorflow as tf

    # A GPU is not to round float32 to the 10 bits of TF32, from here to the end of the process.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    shapes = [(1 if same else rows, *one.shape[1:]) for one, same in zip(model.inputs, _shared(model), strict=True)]
    specs = [tf.TensorSpec(shapes[0][:3], tf.uint8)] if pixels else [tf.TensorSpec(shape) for shape in shapes]

    @tf.function(input_signature=specs, jit_compile=jit_compile)
    def call(*arrays):
        inputs = [tf.cast(arrays[0][..., None], tf.float32)] if pixels else arrays
        return tf.cast(model(_single(inputs), training=False), tf.float32)

    return call


def _compile_openvino(model: keras.Model, precision: str, request: int, threads: int, pixels: bool) -> Function:
    """Requests of `request` rows, as many at once as OpenVINO finds best for `threads`; each writes its own rows.

    Cores are not pinned, since several notebooks may run at a time.
    """
    ov = load_openvino()
    converted, shared = ov.convert_model(_traced(model, None, pixels)), _shared(model)
    sizes = [tuple(one.shape)[1 : 3 if pixels else None] for one in model.inputs]
    shapes = [[1 if same else request, *size] for size, same in zip(sizes, shared, strict=True)]
    converted.reshape(dict(zip(converted.inputs, shapes, strict=True)))
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

    def store(job, place: tuple[np.ndarray, int]) -> None:
        out, start = place
        rows = min(request, len(out) - start)
        out[start : start + rows] = job.get_output_tensor(0).data[:rows]

    queue.set_callback(store)

    def run(*arrays: np.ndarray) -> np.ndarray:
        out = np.empty((len(arrays[0]), *model.output_shape[1:]), np.float32)
        for start in range(0, len(out), request):
            parts = [_rows(one, same, start, request) for one, same in zip(arrays, shared, strict=True)]
            queue.start_async(parts, (out, start))
        queue.wait_all()
        return out

    return run


def _shared(model: keras.Model) -> list[bool]:
    """For each input, whether the model declares it with one row, which holds for all rows of the others."""
    return [one.shape[0] == 1 for one in model.inputs]


def _rows(array: np.ndarray, shared: bool, start: int, count: int) -> np.ndarray:
    """`count` contiguous rows from `start`, with zeros after the last; a shared array as it is."""
    if shared:
        return array
    part = array[start : start + count]
    if len(part) == count:
        return np.ascontiguousarray(part)
    return np.concatenate([part, np.zeros((count - len(part), *part.shape[1:]), part.dtype)])


def _single(inputs):
    return inputs[0] if len(inputs) == 1 else list(inputs)


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
    return frozenset(load_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def load_openvino():
    """OpenVINO, without the telemetry that its import would send to a server and note in the user's home folder."""
    telemetry = "openvino_telemetry"
    if "openvino" not in sys.modules and telemetry not in sys.modules:
        sys.modules[telemetry] = None  # reads as "not installed", for which OpenVINO has a stand-in
        try:
            import openvino
        finally:
            del sys.modules[telemetry]
    import openvino

    return openvino
