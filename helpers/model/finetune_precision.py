"""Which number format a network is trained in: float32, or mixed precision where the hardware gains by it."""

from __future__ import annotations

import warnings

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "auto")
TENSOR_CORES = 7.0  # compute capability (NVIDIA): float16 matrix units from here on
BFLOAT16_CORES = 8.0  # and bfloat16 ones


class PrecisionWarning(UserWarning):
    """A precision that works here, but costs time and gains none."""


def training_precision(wanted: str) -> str:
    """`wanted`, or for "auto" what suits the GPU that Keras's backend can use; float32 on a CPU.

    bfloat16 is preferred where there is a choice: it has float32's range, so gradients need no scaling. A mixed
    precision that was asked for and that this machine can only imitate gives a `PrecisionWarning`.
    """
    if wanted == "float32":
        return wanted
    capability = gpu_capability()
    best = "float32"
    if capability >= TENSOR_CORES:
        best = "mixed_bfloat16" if capability >= BFLOAT16_CORES else "mixed_float16"
    if wanted == "auto":
        return best
    if best == "float32" or (wanted == "mixed_bfloat16" and capability < BFLOAT16_CORES):
        warnings.warn(f"precision={wanted}: this machine only imitates it, slower than float32", PrecisionWarning, 2)
    return wanted


def gpu_capability() -> float:
    """The compute capability of the first NVIDIA GPU that Keras's backend can use; 0 where there is none."""
    import keras

    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        found = torch.cuda.get_device_capability(0) if torch.cuda.is_available() else (0, 0)
    elif backend == "jax":
        import jax

        devices = [device for device in jax.devices() if device.platform in ("gpu", "cuda")]
        words = str(getattr(devices[0], "compute_capability", "0.0")).split(".") if devices else ["0", "0"]
        found = (int(words[0]), int(words[-1]))
    else:
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
        details = tf.config.experimental.get_device_details(devices[0]) if devices else {}
        found = details.get("compute_capability", (0, 0))
    return found[0] + found[1] / 10
