"""A backbone made into a fast function of grey images, by OpenVINO or by Keras. `helpers.model.engine` says which."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from helpers.model.backbones import Backbone

REQUEST = 4  # images an OpenVINO request: weights are read a quarter as often, activations still fit a core's cache

# uint8 (b, size, size) to float32 (b, features), for any b
Runner = Callable[[np.ndarray], np.ndarray]


class EngineError(RuntimeError):
    """An engine that this machine cannot give, or whose features are not the backbone's."""


def compile_keras(backbone: Backbone, precision: str, batch_size: int, fixed: bool) -> Runner:
    """A traced call of the model. `fixed`: compiled by XLA for `batch_size` images; fewer are padded with black."""
    import tensorflow as tf

    if precision == "float32":  # not TF32, to whose 10 bits a GPU would round, for the rest of the process
        tf.config.experimental.enable_tensor_float_32_execution(False)
    model = backbone.model if precision == "float32" else mixed(backbone.model, precision)
    size = backbone.image_size
    signature = [tf.TensorSpec((batch_size if fixed else None, size, size), tf.uint8)]

    @tf.function(input_signature=signature, jit_compile=fixed)
    def features(images):
        return tf.cast(model(tf.cast(images[..., None], tf.float32), training=False), tf.float32)

    def run(images: np.ndarray) -> np.ndarray:
        out = np.empty((len(images), backbone.features), np.float32)
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            given = padded(part, batch_size) if fixed else part
            out[start : start + len(part)] = features(tf.constant(given)).numpy()[: len(part)]
        return out

    return run


def mixed(model, precision: str):
    """A copy of a Keras model that computes in `precision`, float16 or bfloat16, and keeps its weights in float32."""
    import keras

    def clone(layer):
        return layer.__class__.from_config(layer.get_config() | {"dtype": f"mixed_{precision}"})

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def compile_openvino(backbone: Backbone, precision: str, threads: int) -> Runner:
    """Small requests, as many at once as OpenVINO finds best for `threads`.

    Cores are not pinned, since several notebooks may run at a time. Raises `EngineError` where OpenVINO would run in
    another precision than the one asked for.
    """
    ov = load_openvino()
    model = ov.convert_model(_traced(backbone))
    model.reshape([REQUEST, backbone.image_size, backbone.image_size])
    wanted = {"float32": ov.Type.f32, "bfloat16": ov.Type.bf16, "float16": ov.Type.f16}[precision]
    settings = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_PRECISION_HINT": wanted,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = ov.Core().compile_model(model, "CPU", settings)
    runs = compiled.get_property("INFERENCE_PRECISION_HINT")
    if runs != wanted:
        raise EngineError(f"OpenVINO would run {backbone.name} in {runs.to_string()}, not {precision}")
    return _queued(ov.AsyncInferQueue(compiled), backbone.features)


def _traced(backbone: Backbone):
    import tensorflow as tf

    size = backbone.image_size

    @tf.function(input_signature=[tf.TensorSpec((None, size, size), tf.uint8)])
    def features(images):
        return backbone.model(tf.cast(images[..., None], tf.float32), training=False)

    return features


def _queued(queue, features: int) -> Runner:
    """Images through OpenVINO's queue of requests, each of which writes its rows where they belong."""

    def store(request, place: tuple[np.ndarray, int]) -> None:
        out, start = place
        rows = min(REQUEST, len(out) - start)
        out[start : start + rows] = request.get_output_tensor(0).data[:rows]

    queue.set_callback(store)

    def run(images: np.ndarray) -> np.ndarray:
        out = np.empty((len(images), features), np.float32)
        for start in range(0, len(images), REQUEST):
            queue.start_async([padded(images[start : start + REQUEST], REQUEST)], (out, start))
        queue.wait_all()
        return out

    return run


def padded(images: np.ndarray, length: int) -> np.ndarray:
    """`images` (b, size, size) with black ones after them, `length` in all; contiguous."""
    if len(images) == length:
        return np.ascontiguousarray(images)
    return np.concatenate([images, np.zeros((length - len(images), *images.shape[1:]), images.dtype)])


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
