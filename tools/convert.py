"""Turn a public file of ImageNet weights into one that `load_backbone` reads: every tensor, or none.

    python -m tools.convert inception_v4 model.safetensors inception_v4.weights.h5
    make reproduce PROFILE=paper BACKBONE=InceptionV4 WEIGHTS=inception_v4.weights.h5

`model.safetensors` is that of timm's inception_v4.tf_in1k, on Hugging Face: the weights that the paper's authors
released, ported to PyTorch. Only safetensors files are read: the others (.bin, .pth) are pickles, which run code.

A tensor goes by its name, never by its place. PyTorch keeps a kernel as (filters, channels, rows, columns), Keras as
(rows, columns, channels, filters). Whatever is missing, too many, of another shape or type, or not finite is named,
and nothing is written.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.run.profile import nearest
from helpers.run.provenance import write_json

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)
AXES = (2, 3, 1, 0)  # Keras's axes of a kernel, counted as PyTorch's
NORMALISATION = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# Where timm keeps the convolutions of each block of `helpers.model.architectures`; the blocks are features.0 to
# features.21. Keras's names are the same with '_' for '.', unless they stand before a colon.
INCEPTION_V4 = {
    **{"stem_1": "", "stem_2": "", "stem_3": ""},  # the block is the convolution
    "stem_4": "branch1:conv",
    "stem_5": "branch0.0 branch0.1 branch1.0 branch1.1 branch1.2 branch1.3",
    "stem_6": "branch0:conv",
    "inception_a": "branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2 branch3.1",
    "reduction_a": "branch0 branch1.0 branch1.1 branch1.2",
    "inception_b": "branch0 branch1.0 branch1.1 branch1.2 branch2.0 branch2.1 branch2.2 branch2.3 branch2.4 branch3.1",
    "reduction_b": "branch0.0 branch0.1 branch1.0 branch1.1 branch1.2 branch1.3",
    "inception_c": "branch0 branch1_0 branch1_1a branch1_1b branch2_0 branch2_1 branch2_2 branch2_3a branch2_3b "
    "branch3.1",
}


class ConversionError(ValueError):
    """A file of weights that is not, tensor for tensor, the one expected; the message says which tensor."""


def inception_v4_modules() -> dict[str, str]:
    """For each of the 149 convolutions, Keras's layer name: the name of timm's module, 'features.6.branch1.0'."""
    from helpers.model import architectures

    found = {}
    for place, block in enumerate(architectures.INCEPTION_V4):
        kind = block if block in INCEPTION_V4 else block.rstrip("0123456789")
        for word in INCEPTION_V4[kind].split() or [""]:
            ours, _, theirs = word.rpartition(":")
            name = ours or theirs.replace(".", "_")
            found[f"{block}_{name}".rstrip("_")] = f"features.{place}.{theirs}".rstrip(".")
    return found


# What can be converted: the backbone, its smallest size, the modules, and what is known and not taken: the classifier.
KINDS = {"inception_v4": ("InceptionV4", 75, inception_v4_modules, ("last_linear.weight", "last_linear.bias"))}


def convert(kind: str, source: Path, target: Path) -> Path:
    """Write `source`'s weights to `target` (.weights.h5), with a record of where they come from beside it.

    Raises `ConversionError` for an unknown kind, another file than safetensors, and any tensor that is not as expected.
    """
    from helpers.model.backbones import load_backbone, weights_digest

    if kind not in KINDS:
        raise ConversionError(f"no conversion '{kind}'{nearest(kind, KINDS)}")
    if not target.name.endswith(".weights.h5"):
        raise ConversionError(f"{target}: the name of a weights file ends in .weights.h5")
    name, size, modules, left_out = KINDS[kind]
    with _Tensors(source) as tensors:
        model = load_backbone(name, "none", size).model  # weights do not depend on the image's size
        taken = fill(model, modules(), tensors, left_out)
        left = [name for name in left_out if name in tensors.names]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:  # nobody reads half a file
        model.save_weights(Path(folder) / target.name)
        (Path(folder) / target.name).replace(target)
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = {"backbone": name, "source": source.name, "sha256": digest, "tensors": taken, "left_out": left}
    write_json(target.with_suffix(".json"), record | {"weights_digest": weights_digest(model)})
    return target


def fill(model: keras.Model, modules: Mapping[str, str], tensors: _Tensors, left_out: Iterable[str] = ()) -> int:
    """Give every weight of `model` its tensor; returns how many there were. See `_origins` for `modules`.

    `left_out` are tensors that may be there and are not taken. The model is changed only when all is as expected.
    Raises `ConversionError`.
    """
    origins = list(_origins(model, modules))
    known = {name for _, name in origins}
    counters = {f"{module}.bn.num_batches_tracked" for module in modules.values()}  # PyTorch counts, Keras does not
    _compare_names(known, set(tensors.names), known | counters | set(left_out))
    values = [_checked(tensors, name, weight) for weight, name in origins]
    for (weight, _), value in zip(origins, values, strict=True):
        weight.assign(value)
    return len(values)


def _origins(model: keras.Model, modules: Mapping[str, str]) -> Iterator[tuple[Any, str]]:
    """Each weight of the model with its tensor's name: of the convolution `layer`, and of its normalisation `layer`_bn.

    `modules` gives the PyTorch module of each convolution, which holds a `conv` and a `bn`. Raises `KeyError` for a
    layer with weights that it does not know.
    """
    for layer in model.layers:
        for weight in layer.weights:
            if layer.name.endswith("_bn"):
                yield weight, f"{modules[layer.name.removesuffix('_bn')]}.bn.{NORMALISATION[weight.name]}"
            else:
                yield weight, f"{modules[layer.name]}.conv.{ {'kernel': 'weight'}[weight.name] }"


def _compare_names(wanted: set[str], found: set[str], allowed: set[str]) -> None:
    problems = [
        f"{len(names)} {what}: {', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''}"
        for what, names in (("missing", wanted - found), ("too many", found - allowed))
        if names
    ]
    if problems:
        raise ConversionError(f"not the tensors expected, {len(wanted)} in number; {'; '.join(problems)}")


def _checked(tensors: _Tensors, name: str, weight: Any) -> np.ndarray:
    """The tensor in Keras's order of axes, float32."""
    shape = tuple(weight.shape)
    expected = tuple(shape[AXES.index(axis)] for axis in range(4)) if len(shape) == 4 else shape
    found, kind = tensors.described(name)
    if found != expected:
        swapped = ", as if it were transposed" if sorted(found) == sorted(expected) else ""
        raise ConversionError(f"{name} is {_times(found)}, where {_times(expected)} is expected{swapped}")
    if kind != "F32":
        raise ConversionError(f"{name} is of type {kind}; the public weights are F32 (32-bit floating point)")
    value = tensors.read(name)
    if not np.isfinite(value).all():
        raise ConversionError(f"{name} holds values that are not finite")
    if weight.name == "moving_variance" and (value < 0).any():
        raise ConversionError(f"{name} is a variance and holds values below 0")
    return value.transpose(AXES) if len(shape) == 4 else value


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


class _Tensors:
    """A safetensors file: its tensors' names, and each one's shape, type and values, read when asked for."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        if path.suffix != ".safetensors":
            raise ConversionError(
                f"{path}: only .safetensors files are read (.bin, .pt and .pth are pickles, which run code when opened)"
            )
        try:
            self._file = safe_open(path, framework="numpy")
            self.names = list(self._file.keys())
        except FileNotFoundError:
            raise ConversionError(f"{path}: no such file") from None
        except (SafetensorError, OSError) as error:
            raise ConversionError(f"{path}: not readable as safetensors, or cut short: {error}") from None

    def __enter__(self) -> _Tensors:
        self._file.__enter__()
        return self

    def __exit__(self, *reason: object) -> None:
        self._file.__exit__(*reason)

    def described(self, name: str) -> tuple[tuple[int, ...], str]:
        part = self._file.get_slice(name)
        return tuple(part.get_shape()), part.get_dtype()

    def read(self, name: str) -> np.ndarray:
        return self._file.get_tensor(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", help=f"what the file holds: {', '.join(KINDS)}")
    parser.add_argument("source", type=Path, help="the public file, .safetensors")
    parser.add_argument("target", type=Path, help="the file to write, .weights.h5")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        log.info("wrote %s", convert(options.kind, options.source, options.target))
    except ConversionError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
