"""The registry of backbones: grey pixels in, pooled features out, all preprocessing inside the model.

Kermany 2018, STAR Methods: "retrained an Inception V3 architecture pretrained on the ImageNet dataset"; the frozen
layers are a fixed feature extractor, and its features, averaged over the image, are the bottleneck features.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from helpers.run.cache import file_digest, record_download
from helpers.run.profile import nearest
from helpers.run.provenance import digest_of

if TYPE_CHECKING:
    import keras

MAPS = ("ReLU", "Activation", "Add", "Concatenate")  # layers that finish a map
# Factors and offsets, as lists where they differ by channel, which Keras saves unchanged.
SIGNED = (1 / 127.5, [-1.0, -1.0, -1.0])  # 0..255 to -1..1
# ImageNet's colour means and deviations (DenseNet), and its means alone, blue, green, red (ResNet50, GoogLeNet).
TORCH = ([1 / (255 * s) for s in (0.229, 0.224, 0.225)], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
CAFFE = (1.0, [-103.939, -116.779, -123.68])

SCALES = ("gamma", "moving_variance")  # tensors of a normalisation that multiply or divide
WEIGHTS_FOLDER = Path(__file__).resolve().parent / "weights"  # SmallNet's, packaged, and how each file was made
FORMULA_WEIGHTS = {
    "formula": "smallnet_formula_grey.weights.h5",
    "formula_grey": "smallnet_formula_grey.weights.h5",  # the same, named beside the other two
    "formula_colour": "smallnet_formula_colour.weights.h5",
    "formula_subset": "smallnet_formula_subset.weights.h5",
}


class BackboneError(ValueError):
    """A backbone that cannot be had; the message says what is there instead, or what to put where."""


class WeightsWarning(UserWarning):
    """Weights that are used, but may not be what they are taken for."""


class _Entry(NamedTuple):
    """Native size, smallest size, input scaling, and the ImageNet file of keras.applications, if any, with what is
    published to know it by: the MD5 that keras.applications states, or its bytes where none is stated."""

    image_size: int
    minimum: int
    scaling: tuple
    file: str = ""
    published: str | int = ""


TF = "weights_tf_dim_ordering_tf_kernels"
_REGISTRY = {
    "SmallNet": _Entry(256, 32, SIGNED),
    "GoogLeNet": _Entry(224, 32, CAFFE),
    "InceptionV4": _Entry(299, 75, SIGNED),
    "InceptionV3": _Entry(299, 75, SIGNED, f"inception_v3_{TF}_notop.h5", "bcbd6486424b2319ff4ef7d526e38f63"),
    "MobileNetV2": _Entry(224, 32, SIGNED, f"mobilenet_v2_{TF}_1.0_224_no_top.h5", 9_406_464),
    "DenseNet121": _Entry(224, 32, TORCH, f"densenet121_{TF}_notop.h5", "30ee3e1110167f948a6b9946edeeb738"),
    "ResNet50": _Entry(224, 32, CAFFE, f"resnet50_{TF}_notop.h5", "4d473c1dd8becc155b73f8504c6f6626"),
    "Xception": _Entry(299, 71, SIGNED, f"xception_{TF}_notop.h5", "b0042744bf5b25fce3cb969f33bebb97"),
}
REMEDY = (
    "use weights=none, the path of a file saved from this very architecture (python -m tools.convert makes "
    "InceptionV4's from timm's inception_v4.tf_in1k), weights=formula with backbone=SmallNet, or a backbone that Keras "
    "has weights of, such as InceptionV3"
)


@dataclass(frozen=True)
class Backbone:
    """A frozen feature extractor.

    `model` maps float32 (batch, image_size, image_size, 1), grey 0..255, to float32 (batch, features). Turning grey
    into three channels, the backbone's own scaling and the global average are layers of it. `weights_digest` is 16
    hex digits over every weight array's name, shape and bytes.
    """

    name: str
    weights: str
    weights_digest: str
    image_size: int
    features: int
    model: keras.Model


def load_backbone(name: str, weights: str = "imagenet", image_size: int = 0, seed: int = 0) -> Backbone:
    """The backbone `name` at `image_size` pixels a side (0: its own) with `weights`:

    - "imagenet": what keras.applications reads from KERAS_HOME/models, and downloads where it is missing;
    - "formula" (or "formula_grey"), "formula_colour", "formula_subset": SmallNet's, packaged here (see
      `tools.pretrain`);
    - "none": random from `seed`, the same on every run;
    - a file: .weights.h5, .h5 or .keras, whose tensors must fit in number and shape.

    Raises `BackboneError` for an unknown name, a size too small, and weights that are missing, do not fit, or that no
    training leaves (see `_examine`). Gives a `WeightsWarning` for a file that is not what its place or name says.
    """
    if name not in _REGISTRY:
        raise BackboneError(f"there is no backbone '{name}'{nearest(str(name), _REGISTRY)}")
    entry = _REGISTRY[name]
    size = image_size or entry.image_size
    if size < entry.minimum:
        raise BackboneError(f"{name} needs images of {entry.minimum} pixels a side or more, not {size}")
    if weights == "imagenet" and not entry.file:
        raise BackboneError(f"Keras has no ImageNet weights of {name}; {REMEDY}")
    state = random.getstate()
    random.seed(seed)  # Keras gives each initialiser without a seed one from Python's `random`
    model = _build(name, entry, size)
    random.setstate(state)
    model.trainable = False
    _fill(model, entry, str(weights))
    return Backbone(name, str(weights), weights_digest(model), size, int(model.output_shape[-1]), model)


def formula_record(weights: str) -> dict:
    """How the packaged file of `weights` ('formula' and its kin) was made: images, settings, SHA-256 and more."""
    return json.loads((WEIGHTS_FOLDER / "digests.json").read_text(encoding="utf-8"))[FORMULA_WEIGHTS[weights]]


def with_depths(backbone: Backbone, depths: int, averages_only: bool = False) -> Backbone:
    """The same layers and weights, with features of the last `depths` resolutions, from the finest to the coarsest: the
    average of the last map of each, and of the coarsest the backbone's own features.

    With `averages_only` the coarsest gives its average too, so that a class activation map shows all that the network
    judges by, as CheXNet's does, which ends in one average (SmallNet's own features are maxima and mean squares as
    well). 1, and with `averages_only` 0: the backbone as it is. Raises `ValueError` where it has fewer resolutions.

    Beyond the papers, which take the deepest layer alone. That layer knows most about photographs' classes and least
    about textures of a few pixels: among the published training radiographs (2,521 of them, 5 folds by patient,
    MobileNetV2 at 224 px, logistic regression) the deepest map gave an AUROC of 0.730 for bacterial against viral and
    0.994 for pneumonia, the last map of twice its resolution 0.756 and 0.997.
    """
    import keras

    if depths <= (0 if averages_only else 1):
        return backbone
    maps = last_maps(backbone.model)
    if depths > len(maps):
        raise ValueError(f"depths = {depths}; {backbone.name} has maps of {len(maps)} resolutions")
    averaged = maps[-depths:] if averages_only else maps[-depths:-1]
    parts = [keras.layers.GlobalAveragePooling2D(name=f"average_{x.shape[1]}")(x) for x in averaged]
    parts += [] if averages_only else [backbone.model.output]
    features = keras.layers.Concatenate(name="depths")(parts) if len(parts) > 1 else parts[0]
    model = keras.Model(backbone.model.input, features, name=backbone.model.name)
    model.trainable = False
    digest = digest_of([backbone.weights_digest, depths, averages_only])[:16]
    return replace(backbone, model=model, features=int(features.shape[-1]), weights_digest=digest)


def last_maps(model: keras.Model) -> list[keras.KerasTensor]:
    """The last finished map (batch, h, w, c) of each resolution, from the finest to the coarsest: the output of an
    activation, a sum or a concatenation, not that of a padding or a convolution on its way there."""
    found: dict[int, keras.KerasTensor] = {}
    for layer in model.layers:
        if type(layer).__name__ in MAPS and len(layer.output.shape) == 4 and layer.name != "three_channels":
            found[int(layer.output.shape[1])] = layer.output
    return [found[size] for size in sorted(found, reverse=True)]


def weights_digest(model: keras.Model) -> str:
    """16 hex digits over the weight arrays in order: each one's name within its layer, shape, type and bytes.

    Layers' own names stay out: Keras numbers unnamed layers by what else the process has built.
    """
    digest = hashlib.sha256()
    for variable, value in zip(model.weights, model.get_weights(), strict=True):
        digest.update(f"{variable.name}{value.shape}{value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


def _build(name: str, entry: _Entry, size: int) -> keras.Model:
    """The whole model, randomly initialised, as one flat graph of layers that export and save as they are."""
    import keras
    from keras import layers

    from helpers.model.architectures import NETWORKS  # it imports Keras

    grey = keras.Input((size, size, 1), name="grey", dtype="float32")
    colour = layers.Concatenate(name="three_channels")([grey, grey, grey])
    image = layers.Rescaling(*entry.scaling, name="scaling")(colour)
    if name in NETWORKS:
        features = NETWORKS[name](image)
    else:
        application = getattr(keras.applications, name)
        features = application(include_top=False, weights=None, input_tensor=image, pooling="avg").output
    return keras.Model(grey, features, name=name)


def _fill(model: keras.Model, entry: _Entry, weights: str) -> None:
    """Put the weights in. Raises `BackboneError`."""
    if weights == "none":
        return
    if weights == "imagenet":
        _load_imagenet(model, entry)
        return
    path = Path(weights).expanduser()
    if weights in FORMULA_WEIGHTS:
        path = WEIGHTS_FOLDER / FORMULA_WEIGHTS[weights]
        if model.name != "SmallNet":
            raise BackboneError(f"weights={weights} is SmallNet's alone; {REMEDY}")
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != formula_record(weights)["sha256"]:
            raise BackboneError(f"{path} is not the file recorded in digests.json; restore it from the repository")
        _load_file(model, path)
        return
    if not path.is_file():
        known = ("imagenet", "none", *FORMULA_WEIGHTS)
        raise BackboneError(f"weights={weights}: no such file, nor one of the known words{nearest(weights, known)}")
    _load_file(model, path)
    _examine(model, path)


def _load_imagenet(model: keras.Model, entry: _Entry) -> None:
    """From KERAS_HOME/models, else by keras.applications' own download."""
    import keras

    # Looked for first, as Keras turns away from a KERAS_HOME that it cannot write to, though the file be there.
    path = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models" / entry.file
    if path.is_file():
        _load_file(model, path)
        if not _is_published(path, model.name, entry.published):
            _examine(model, path)
        return
    try:
        shape = (entry.image_size, entry.image_size, 3)
        source = getattr(keras.applications, model.name)(include_top=False, weights="imagenet", input_shape=shape)
    except Exception as error:  # Keras raises a bare Exception where the download fails
        raise BackboneError(
            f"{model.name}'s ImageNet weights could not be downloaded ({error}). Put {entry.file} into {path.parent} "
            f"(KERAS_HOME moves it); or {REMEDY}"
        ) from None
    if path.is_file():  # Keras puts it elsewhere where it may not write here
        record_download(path)
    model.set_weights(source.get_weights())


def _is_published(path: Path, name: str, published: str | int) -> bool:
    """Whether a file in the place of Keras's own is proved to be it by its checksum; a warning where it is another."""
    if isinstance(published, int):
        found, unit = path.stat().st_size, "bytes, and Keras states no checksum"
    else:
        found, unit = file_digest(path, "md5"), "as MD5"
    if found != published:
        text = f"{path} is not Keras's own file of {name}: it has {found} where Keras's has {published} {unit}"
        warnings.warn(f"{text}. It is used as found; results rest on these weights", WeightsWarning, stacklevel=5)
    return isinstance(published, str) and found == published


def _load_file(model: keras.Model, path: Path) -> None:
    """Weights from `path`, a .weights.h5, .h5 or .keras file; refused where a tensor does not fit or is left over."""
    import keras

    try:
        if path.suffix == ".keras":
            model.set_weights(keras.saving.load_model(path, compile=False, safe_mode=True).get_weights())
        else:
            model.load_weights(path)
            held = _tensors_held(path)
            if held > len(model.weights):
                raise ValueError(f"it holds {held} tensors, {len(model.weights)} of which the network has")
    except Exception as error:  # h5py, zipfile and Keras each have their own for a file that is not theirs
        raise BackboneError(f"{path}: not readable as weights of {model.name}: {error}") from None


def _tensors_held(path: Path) -> int:
    """How many tensors of layers a .weights.h5 file holds; Keras leaves those unread that no layer asks for."""
    import h5py

    names: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return sum(name.startswith("layers/") and "/seed_generator/" not in name for name in names)


def _examine(model: keras.Model, path: Path) -> None:
    """Refuse what no training leaves: tensors that are not finite, a kernel or a scale all of one value, a negative
    variance. Warn of kernels that cannot be told from random numbers: untrained ones, or noise."""
    kernels, random_ones = 0, []
    for variable, value in zip(model.weights, model.get_weights(), strict=True):
        problem = ""
        if not np.isfinite(value).all():
            problem = "is not finite"
        elif value.min() == value.max() and (value.ndim > 1 or variable.name in SCALES and not value.any()):
            problem = f"is {value.flat[0]:g} throughout"
        elif variable.name == "moving_variance" and (value < 0).any():
            problem = "is negative"
        if problem:
            raise BackboneError(f"{path}: no weights of a trained {model.name}: {variable.path} {problem}")
        kernels += value.ndim > 1
        if value.ndim > 1 and looks_random(value):
            random_ones.append(variable.path)
    if random_ones:
        some = ", ".join(random_ones[:3]) + (" ..." if len(random_ones) > 3 else "")
        text = (
            f"{path}: {len(random_ones)} of {kernels} kernels cannot be told from random numbers ({some}): untrained?"
        )
        warnings.warn(text, WeightsWarning, stacklevel=6)


def looks_random(kernel: np.ndarray) -> bool:
    """Whether a tensor is such as independent draws from one normal or uniform distribution give, within four standard
    errors.

    Training leaves heavier tails than the normal's, filters and channels of unequal size, and neighbours that resemble
    one another. Every tensor of MobileNetV2's ImageNet weights differs from noise in one of them; of ours, all but the
    first layer of the network that was pre-trained in grey.
    """
    values = kernel.astype(np.float64)
    squares, centred = values**2, values - values.mean()
    tails = float((squares**2).mean() / squares.mean() ** 2)
    if tails > 3 + 4 * np.sqrt(24 / values.size):
        return False
    for axis, count in enumerate(values.shape):
        if count > 1:
            sizes = squares.mean(axis=tuple(other for other in range(values.ndim) if other != axis))
            spread = sizes.var(ddof=1) / sizes.mean() ** 2 * (values.size / count) / (tails - 1)
            first, second = (np.delete(centred, place, axis).ravel() for place in (-1, 0))
            alike = first @ second / np.sqrt((first @ first) * (second @ second))
            if spread > 1 + 4 * np.sqrt(2 / (count - 1)) or abs(alike) > 4 / np.sqrt(first.size):
                return False
    return True
