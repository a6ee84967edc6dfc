"""Parts of a network as fast functions: the engine that `helpers.model.engine` chooses, checked against Keras."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from helpers.model.compiled import REQUEST, EngineError, load_openvino, mixed, padded
from helpers.model.engine import Engine, EngineWarning, candidates
from helpers.run import hardware

if TYPE_CHECKING:
    import keras

    from helpers.explain.classifier import Classifier, Predictor

AGREEMENT = 0.002  # the largest difference in probability from Keras in float32 that an engine may show
PROBES = 8  # made-up images it is measured on

# float32 arrays, each (b, ...), to a float32 array (b, ...), for any b; an input that the model declares with one row
# stays as it is for all of them
Function = Callable[..., np.ndarray]


def compile_model(model: keras.Model, engine: Engine, batch_size: int = 64, request: int = REQUEST) -> Function:
    """A Keras model of any number of inputs and one output, as a function of float32 arrays, for any batch."""
    if engine.name == "openvino":
        return _compile_openvino(model, engine.precision, request)
    return _compile_keras(model, engine.precision, batch_size, fixed=bool(hardware.gpus()))


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
    import tensorflow as tf

    size = classifier.image_size
    probes = _probes(size)[..., None]
    with tf.device("CPU:0"):
        expected = np.asarray(classifier.model(probes, training=False))
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


def _compile_keras(model: keras.Model, precision: str, batch_size: int, fixed: bool) -> Function:
    """A traced call. `fixed`: compiled by XLA for `batch_size` rows; fewer are padded."""
    import tensorflow as tf

    model = model if precision == "float32" else mixed(model, precision)
    shared = _shared(model)
    specs = _specs(model, batch_size if fixed else None)

    @tf.function(input_signature=specs, jit_compile=fixed)
    def call(*given):
        return tf.cast(model(_single(given), training=False), tf.float32)

    def run(*arrays: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(arrays[0]), batch_size):
            count = min(batch_size, len(arrays[0]) - start)
            rows = batch_size if fixed else count
            given = [_rows(array, one, start, rows) for array, one in zip(arrays, shared, strict=True)]
            parts.append(call(*(tf.constant(one) for one in given)).numpy()[:count])
        return np.concatenate(parts) if parts else _empty(model)

    return run


def _compile_openvino(model: keras.Model, precision: str, request: int) -> Function:
    """Requests of `request` rows, as many at once as OpenVINO finds best; without rows left over, nothing is padded."""
    ov = load_openvino()
    converted, shared = to_openvino(model, request), _shared(model)
    kinds = {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16, "float16": ov.Type.f16}
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": kinds[precision],
        "INFERENCE_NUM_THREADS": hardware.available_cores(),
        "ENABLE_CPU_PINNING": False,
    }
    queue = ov.AsyncInferQueue(ov.Core().compile_model(converted, "CPU", settings))

    def store(job, place: tuple[np.ndarray, int]) -> None:
        out, start = place
        rows = min(request, len(out) - start)
        out[start : start + rows] = job.get_output_tensor(0).data[:rows]

    queue.set_callback(store)

    def run(*arrays: np.ndarray) -> np.ndarray:
        out = np.empty((len(arrays[0]), *model.output_shape[1:]), np.float32)
        for start in range(0, len(out), request):
            given = [_rows(array, one, start, request) for array, one in zip(arrays, shared, strict=True)]
            queue.start_async(given, (out, start))
        queue.wait_all()
        return out

    return run


def to_openvino(model: keras.Model, request: int):
    """The model in OpenVINO, not compiled yet, for `request` rows; of an input of one row, for that."""
    import tensorflow as tf

    @tf.function(input_signature=_specs(model, None))
    def call(*given):
        return model(_single(given), training=False)

    converted = load_openvino().convert_model(call)
    rows = [1 if one else request for one in _shared(model)]
    shapes = [[count, *given.shape[1:]] for count, given in zip(rows, model.inputs, strict=True)]
    converted.reshape(dict(zip(converted.inputs, shapes, strict=True)))
    return converted


def _shared(model: keras.Model) -> list[bool]:
    return [one.shape[0] == 1 for one in model.inputs]


def _specs(model: keras.Model, rows: int | None) -> list:
    import tensorflow as tf

    return [tf.TensorSpec((1 if one.shape[0] == 1 else rows, *one.shape[1:])) for one in model.inputs]


def _rows(array: np.ndarray, shared: bool, start: int, count: int) -> np.ndarray:
    return array if shared else padded(array[start : start + count], count)


def _single(given: Sequence):
    return given[0] if len(given) == 1 else list(given)


def _empty(model: keras.Model) -> np.ndarray:
    return np.empty((0, *model.output_shape[1:]), np.float32)
