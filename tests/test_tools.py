"""Public weights into Keras's: every tensor in its place, or a message that names the one that is not."""

import hashlib
import json
import sys

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

keras = pytest.importorskip("keras")
safetensors = pytest.importorskip("safetensors.numpy")

from helpers.model.backbones import load_backbone, weights_digest  # noqa: E402
from tools.convert import (  # noqa: E402
    ConversionError,
    _origins,
    _Tensors,
    convert,
    fill,
    inception_v4_modules,
    main,
)

LEFT_OUT = ("last_linear.weight", "last_linear.bias")


def random_tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """PyTorch's tensors at random, small enough for many layers; variances are positive."""
    rng = np.random.default_rng(0)
    found = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape, np.float32)
        scale = np.float32(np.sqrt(2 / max(1, np.prod(shape[1:])))) if len(shape) == 4 else np.float32(0.1)
        found[name] = values * scale + (0 if len(shape) == 4 or name.endswith(("bias", "mean")) else 1)
        if name.endswith("running_var"):
            found[name] = np.abs(found[name]) + np.float32(0.5)
    return found


def normalised(module: str, filters: int) -> dict[str, tuple[int, ...]]:
    return {f"{module}.bn.{what}": (filters,) for what in ("weight", "bias", "running_mean", "running_var")}


def expected(tensors, module: str, x: np.ndarray, padding: tuple[int, int] = (0, 0), stride: int = 1) -> np.ndarray:
    """Convolution, normalisation with epsilon 0.001 and ReLU as PyTorch defines them, on (channels, rows, columns)."""
    kernel = tensors[f"{module}.conv.weight"].astype(float)
    x = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2))
    windows = sliding_window_view(x, kernel.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    x = np.einsum("crsij,fcij->frs", windows, kernel, optimize=True)
    scale, shift, mean, variance = (
        tensors[f"{module}.bn.{what}"].astype(float)[:, None, None]
        for what in ("weight", "bias", "running_mean", "running_var")
    )
    return np.maximum((x - mean) / np.sqrt(variance + 1e-3) * scale + shift, 0)


# --- the engine, on a network of two convolutions -----------------------------------------------------------------

MODULES = {"row": "features.0", "column": "features.1.branch0.2"}
SMALL = {
    **{"features.0.conv.weight": (4, 3, 1, 7), **normalised("features.0", 4)},
    **{"features.1.branch0.2.conv.weight": (4, 4, 7, 1), **normalised("features.1.branch0.2", 4)},
}


@pytest.fixture
def small():
    x = image = keras.Input((9, 8, 3))
    for name, kernel in (("row", (1, 7)), ("column", (7, 1))):
        x = keras.layers.Conv2D(4, kernel, padding="same", use_bias=False, name=name)(x)
        x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
        x = keras.layers.Activation("relu")(x)
    return keras.Model(image, x)


def filled(model, folder, tensors, left_out=LEFT_OUT) -> int:
    safetensors.save_file(
        {name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "s.safetensors"
    )
    with _Tensors(folder / "s.safetensors") as opened:
        return fill(model, MODULES, opened, left_out)


def test_a_converted_network_computes_what_pytorch_would(small, tmp_path):
    tensors = random_tensors(SMALL)
    assert filled(small, tmp_path, tensors) == 10
    image = np.random.default_rng(1).normal(0, 1, (3, 9, 8))
    by_hand = expected(tensors, "features.0", image, (0, 3))
    by_hand = expected(tensors, "features.1.branch0.2", by_hand, (3, 0))
    given = np.asarray(small(image.transpose(1, 2, 0)[None].astype(np.float32)))[0]
    np.testing.assert_allclose(given.transpose(2, 0, 1), by_hand, rtol=1e-4, atol=1e-5)
    assert np.ptp(given) > 0.1


def test_pytorchs_counters_and_the_classifier_are_known_and_not_taken(small, tmp_path):
    more = {"features.0.bn.num_batches_tracked": np.array(7), "last_linear.bias": np.zeros(1000, np.float32)}
    assert filled(small, tmp_path, random_tensors(SMALL) | more) == 10


NAN, NEGATIVE = np.full(4, np.nan, np.float32), np.full(4, -1, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.0.bn.running_var": None}, "1 missing: features.0.bn.running_var"),
        (
            dict.fromkeys(normalised("features.0", 4)),
            "4 missing: features.0.bn.bias, features.0.bn.running_mean, .*, ...",
        ),
        ({"features.2.conv.weight": np.zeros((1, 1, 1, 1), np.float32)}, "1 too many: features.2.conv.weight"),
        ({"classifier.bias": np.zeros(4, np.float32)}, "1 too many: classifier.bias"),
        ({"features.7.bn.num_batches_tracked": np.array(1)}, "1 too many: features.7.bn.num_batches_tracked"),
        (
            {"features.0.conv.weight": np.zeros((4, 3, 7, 1), np.float32)},
            "features.0.conv.weight is 4 x 3 x 7 x 1, where 4 x 3 x 1 x 7 is expected, as if it were transposed",
        ),
        (
            {"features.1.branch0.2.conv.weight": np.zeros((7, 1, 4, 4), np.float32)},
            "branch0.2.conv.weight is 7 x 1 x 4 x 4, where 4 x 4 x 7 x 1 is expected, as if it were transposed",
        ),
        ({"features.0.bn.bias": np.zeros(5, np.float32)}, "features.0.bn.bias is 5, where 4 is expected$"),
        ({"features.0.bn.bias": np.zeros(4)}, "features.0.bn.bias is of type F64"),
        ({"features.0.bn.bias": np.zeros(4, np.float16)}, "features.0.bn.bias is of type F16"),
        ({"features.0.bn.weight": NAN}, "features.0.bn.weight holds values that are not finite"),
        ({"features.0.bn.running_var": NEGATIVE}, "features.0.bn.running_var is a variance and holds values below 0"),
    ],
)
def test_when_one_tensor_is_not_as_expected_then_it_is_named_and_the_model_stays(small, tmp_path, change, message):
    before = weights_digest(small)
    tensors = {name: value for name, value in (random_tensors(SMALL) | change).items() if value is not None}
    with pytest.raises(ConversionError, match=message):
        filled(small, tmp_path, tensors)
    assert weights_digest(small) == before


@pytest.mark.parametrize("name", ["model.bin", "model.pth", "model.pt", "model.pkl"])
def test_pickles_are_refused_unopened(tmp_path, name):
    with pytest.raises(ConversionError, match="only .safetensors files are read .*pickles"):
        convert("inception_v4", tmp_path / name, tmp_path / "t.weights.h5")


def test_a_file_that_is_missing_no_safetensors_or_cut_short_is_refused(tmp_path):
    path = tmp_path / "s.safetensors"
    with pytest.raises(ConversionError, match="s.safetensors: no such file"):
        _Tensors(path)
    path.write_bytes(b"PK\x03\x04 a pickle in a zip file, renamed")
    with pytest.raises(ConversionError, match="not readable as safetensors"):
        _Tensors(path)
    safetensors.save_file(random_tensors(SMALL), path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ConversionError, match="not readable as safetensors, or cut short"):
        _Tensors(path)


def test_another_kind_or_a_target_with_another_ending_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="no conversion 'inception_v3'; did you mean inception_v4"):
        convert("inception_v3", tmp_path / "s.safetensors", tmp_path / "t.weights.h5")
    with pytest.raises(ConversionError, match="ends in .weights.h5"):
        convert("inception_v4", tmp_path / "s.safetensors", tmp_path / "t.h5")


# --- Inception-v4 -------------------------------------------------------------------------------------------------

# Of the state dictionary of timm 1.0.31's inception_v4: sha256 of its sorted lines 'name 64x64x1x7', joined by a line
# feed, without the classifier and the counters.
STATE = "2a147d7478bcc60f300abf108502851806ad9be73c84ec26c686501436295e23"
SOME = {
    "features.0.conv.weight": ("stem_1", (3, 3, 3, 32)),
    "features.3.conv.conv.weight": ("stem_4_branch1", (3, 3, 64, 96)),
    "features.4.branch1.1.conv.weight": ("stem_5_branch1_1", (1, 7, 64, 64)),
    "features.5.conv.conv.weight": ("stem_6_branch0", (3, 3, 192, 192)),
    "features.9.branch3.1.conv.weight": ("inception_a4_branch3_1", (1, 1, 384, 96)),
    "features.10.branch1.2.conv.weight": ("reduction_a_branch1_2", (3, 3, 224, 256)),
    "features.17.branch2.3.conv.weight": ("inception_b7_branch2_3", (7, 1, 224, 224)),
    "features.18.branch1.2.conv.weight": ("reduction_b_branch1_2", (7, 1, 256, 320)),
    "features.21.branch2_3a.conv.weight": ("inception_c3_branch2_3a", (1, 3, 512, 256)),
    "features.21.branch2_3b.bn.running_mean": ("inception_c3_branch2_3b_bn", (256,)),
}


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("InceptionV4", "none", 75, seed=1)


def shapes_of(model) -> dict[str, tuple[int, ...]]:
    """PyTorch's name and shape of every weight of the model."""
    found = {}
    for weight, name in _origins(model, inception_v4_modules()):
        shape = tuple(weight.shape)
        found[name] = (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape
    return found


def test_every_weight_has_the_name_and_shape_of_a_tensor_of_timms_and_every_tensor_a_weight(backbone):
    shapes = shapes_of(backbone.model)
    assert len(shapes) == len(backbone.model.weights) == 745 and len(inception_v4_modules()) == 149
    lines = sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == STATE


@pytest.mark.parametrize("name", SOME)
def test_a_tensor_goes_to_the_layer_of_the_same_place(backbone, name):
    layer, shape = SOME[name]
    origins = {tensor: weight for weight, tensor in _origins(backbone.model, inception_v4_modules())}
    assert any(origins[name] is weight for weight in backbone.model.get_layer(layer).weights)
    assert tuple(origins[name].shape) == shape


def test_the_whole_file_is_converted_read_back_and_computes_what_pytorch_would(backbone, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("inception_v4")
    source, target = folder / "model.safetensors", folder / "own.weights.h5"
    tensors = random_tensors(shapes_of(backbone.model))
    try:
        safetensors.save_file(tensors | {"last_linear.bias": np.zeros(1000, np.float32)}, source)
        monkeypatch.setattr(sys, "argv", ["convert", "inception_v4", str(source), str(target)])
        main()
        again = load_backbone("InceptionV4", str(target), 75)
        sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
        told = json.loads((folder / "own.weights.json").read_text())
        assert sorted(path.name for path in folder.iterdir()) == [
            "model.safetensors",
            "own.weights.h5",
            "own.weights.json",
        ]
    finally:
        source.unlink(missing_ok=True)  # 340 megabytes, which pytest would keep
        target.unlink(missing_ok=True)
    assert told == {
        **{"backbone": "InceptionV4", "tensors": 745, "left_out": ["last_linear.bias"], "source": "model.safetensors"},
        **{"sha256": sha256, "weights_digest": again.weights_digest},
    }
    image = np.random.default_rng(2).uniform(0, 255, (75, 75)).astype(np.float32)
    x = np.repeat(image[None] / 127.5 - 1, 3, axis=0)
    x = expected(tensors, "features.0", x, stride=2)
    x = expected(tensors, "features.2", expected(tensors, "features.1", x), (1, 1))
    pooled = sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2].max((-1, -2))
    x = np.concatenate([pooled, expected(tensors, "features.3.conv", x, stride=2)])
    for place, padding in enumerate([(0, 0), (0, 3), (3, 0), (0, 0)]):
        x = expected(tensors, f"features.4.branch1.{place}", x, padding)
    part = keras.Model(again.model.input, again.model.get_layer("stem_5_branch1_3_relu").output)
    given = np.asarray(part(image[None, ..., None]))[0].transpose(2, 0, 1)
    assert x.shape == given.shape == (96, 15, 15) and np.ptp(x) > 0.1
    np.testing.assert_allclose(given, x, rtol=1e-3, atol=1e-4)


def test_from_the_command_line_a_refusal_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["convert", "inception_v4", str(tmp_path / "m.bin"), str(tmp_path / "t.weights.h5")]
    )
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
