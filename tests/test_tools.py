"""What is run once: images from formulas, SmallNet's pre-training on them, and public weights into Keras's."""

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

keras = pytest.importorskip("keras")
tensorflow = pytest.importorskip("tensorflow")
safetensors = pytest.importorskip("safetensors.numpy")

from helpers.model import backbones  # noqa: E402
from helpers.model.backbones import formula_record, load_backbone, weights_digest  # noqa: E402
from helpers.model.finetune import FinetuneSettings  # noqa: E402
from tools import convert as convert_module  # noqa: E402
from tools.convert import (  # noqa: E402
    ConversionError,
    _origins,
    _Tensors,
    convert,
    fill,
    inception_v4_modules,
    main,
)
from tools.formula import LUMA, classes_digest, formula_classes, formula_image, formula_images  # noqa: E402
from tools.pretrain import RECIPES, package, pretrain, retrain  # noqa: E402

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


def test_another_kind_or_a_target_with_another_ending_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="no conversion 'inception_v3'; did you mean inception_v4"):
        convert("inception_v3", tmp_path / "s.safetensors", tmp_path / "t.weights.h5")
    with pytest.raises(ConversionError, match="ends in .weights.h5"):
        convert("inception_v4", tmp_path / "s.safetensors", tmp_path / "t.h5")


def test_from_the_command_line_a_file_is_converted_and_recorded_or_refused_in_one_line(
    small, tmp_path, monkeypatch, capsys
):
    source, target = tmp_path / "s.safetensors", tmp_path / "own.weights.h5"
    safetensors.save_file(random_tensors(SMALL) | {"last_linear.bias": np.zeros(9, np.float32)}, source)
    monkeypatch.setitem(convert_module.KINDS, "inception_v4", ("Small", 9, lambda: MODULES, LEFT_OUT))
    monkeypatch.setattr(backbones, "load_backbone", lambda *_: SimpleNamespace(model=small))
    monkeypatch.setattr(sys, "argv", ["convert", "inception_v4", str(source), str(target)])
    main()
    record = json.loads((tmp_path / "own.weights.json").read_text())
    assert record == {
        **{"backbone": "Small", "tensors": 10, "left_out": ["last_linear.bias"], "source": source.name},
        **{"sha256": hashlib.sha256(source.read_bytes()).hexdigest(), "weights_digest": weights_digest(small)},
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.weights.h5", "own.weights.json", source.name]
    monkeypatch.setattr(sys, "argv", ["convert", "inception_v4", "m.bin", str(target)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1 and capsys.readouterr().err.count("\n") == 1


# --- Inception-v4 -------------------------------------------------------------------------------------------------

# Of the state dictionary of timm 1.0.31's inception_v4: sha256 of its sorted lines 'name 64x64x1x7', joined by a line
# feed, without the classifier and the counters.
STATE = "2a147d7478bcc60f300abf108502851806ad9be73c84ec26c686501436295e23"


def shapes_of(model) -> dict[str, tuple[int, ...]]:
    """PyTorch's name and shape of every weight of the model."""
    found = {}
    for weight, name in _origins(model, inception_v4_modules()):
        shape = tuple(weight.shape)
        found[name] = (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape
    return found


def test_every_weight_has_the_name_and_shape_of_a_tensor_of_timms_and_every_tensor_a_weight():
    model = load_backbone("InceptionV4", "none", 75).model
    shapes = shapes_of(model)
    assert len(shapes) == len(model.weights) == 745 and len(inception_v4_modules()) == 149
    lines = sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == STATE


# --- images from formulas, and the packaged weights ---

SIZE = 48
LABELS = range(len(formula_classes()))


def test_there_are_many_classes_with_names_of_their_own():
    assert 40 <= len(formula_classes()) == len(set(formula_classes()))


@pytest.mark.parametrize("label", LABELS[::4])
def test_every_class_draws_images_with_something_on_them(label):
    images = [formula_image(label, number, size=SIZE) for number in range(3)]
    for image in images:
        assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
    assert max(image.std(axis=(0, 1)).max() for image in images) > 8


def test_an_image_follows_from_seed_class_and_number_alone():
    again = formula_image(40, 2, seed=5, size=SIZE)
    formula_image(3, 0, size=SIZE)
    assert np.array_equal(formula_image(40, 2, seed=5, size=SIZE), again)
    others = [formula_image(41, 2, 5, SIZE), formula_image(40, 3, 5, SIZE), formula_image(40, 2, 6, SIZE)]
    assert not any(np.array_equal(again, other) for other in others)


def test_a_set_is_the_same_on_two_processes_as_on_one():
    one, labels = formula_images(1, seed=2, size=16, colour=False)
    two, _ = formula_images(1, seed=2, size=16, colour=False, workers=2)
    assert one.shape == (len(formula_classes()), 16, 16, 1)
    assert hashlib.sha256(one).digest() == hashlib.sha256(two).digest()
    assert list(labels) == list(LABELS)


def test_the_grey_image_is_the_colour_image_without_its_colour():
    for label in LABELS[::9]:
        colour = formula_image(label, 1, size=SIZE).astype(float) @ LUMA
        grey = formula_image(label, 1, size=SIZE, colour=False)
        assert grey.shape == (SIZE, SIZE, 1)
        assert np.corrcoef(colour.ravel(), grey.ravel())[0, 1] > 0.9


def test_packaged_weights_were_trained_on_the_classes_as_they_are_now():
    assert {formula_record(word)["classes_digest"] for word in backbones.FORMULA_WEIGHTS} == {classes_digest()}
    assert all(formula_record(word)["held_out_accuracy"] > 0.5 for word in backbones.FORMULA_WEIGHTS)  # chance is 0.01


def test_a_pretraining_on_a_subset_trains_from_its_start_and_is_packaged_as_measured(tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    shutil.copytree(backbones.WEIGHTS_FOLDER, folder)
    monkeypatch.setattr(backbones, "WEIGHTS_FOLDER", folder)
    before = (folder / backbones.FORMULA_WEIGHTS["formula"]).read_bytes()
    recipe = replace(RECIPES["formula_subset"], per_class=1, held_out=1, steps=2, batch=4, size=32, crops=(32,),
                     families=("plain", "bricks"), workers=1)  # fmt: skip
    tensorflow.config.run_functions_eagerly(True)  # two steps take less time than tracing one
    try:
        model, figures = pretrain(recipe)
    finally:
        tensorflow.config.run_functions_eagerly(False)
    assert model.output_shape[-1] == figures["classes"] == 4 and figures["training_images"] == 4
    path = package(model, "formula_subset", recipe, figures)
    trained = load_backbone("SmallNet", "formula_subset", 32)
    kernel = trained.model.get_layer("stage2_1_convolution").get_weights()[0]
    np.testing.assert_array_equal(kernel, model.get_layer("stage2_1_convolution").get_weights()[0])
    start = load_backbone("SmallNet", "formula_colour", 32).model.get_layer("stage2_1_convolution").get_weights()[0]
    assert 0 < np.abs(kernel - start).max() < 0.1  # trained on, not from nothing
    assert formula_record("formula_subset")["weights_digest"] == trained.weights_digest
    assert path.stat().st_size < 600_000
    assert (folder / backbones.FORMULA_WEIGHTS["formula"]).read_bytes() == before


def test_a_network_retrained_in_grey_fits_the_backbone_it_came_from(tmp_path, monkeypatch):
    random = load_backbone("SmallNet", "none", 32, 1)
    monkeypatch.setattr("tools.pretrain.load_backbone", lambda name, weights: random)
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for name in ("fungus", "geyser"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = (rng.integers(0, 100, (40, 32, 3)) + (150 if name == "geyser" else 0)).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.JPEG")
    before = [weight.copy() for weight in random.model.get_weights()]
    settings = FinetuneSettings(epochs=4, batch=4, nesterov=True, learning_rate=0.01)
    target = retrain(tmp_path, tmp_path / "grey.weights.h5", "SmallNet", settings=settings)
    with pytest.raises(FileNotFoundError, match="no images in|is missing"):
        retrain(tmp_path, target, "SmallNet", ["fungus", "plant"], settings)
    monkeypatch.undo()
    learnt = load_backbone("SmallNet", str(target), 32)
    assert any(not np.array_equal(a, b) for a, b in zip(before, learnt.model.get_weights(), strict=True))
