"""What is run once: images from formulas, SmallNet's pre-training on them, and public weights into Keras's."""

import hashlib
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

keras = pytest.importorskip("keras")
tensorflow = pytest.importorskip("tensorflow")
safetensors = pytest.importorskip("safetensors.numpy")

from helpers.model import backbones  # noqa: E402
from helpers.model.backbones import formula_record, load_backbone, weights_digest  # noqa: E402
from helpers.model.finetune import FinetuneSettings  # noqa: E402
from tools import convert as tool  # noqa: E402
from tools import shift  # noqa: E402
from tools.convert import ConversionError, convert, inception_v4_modules  # noqa: E402
from tools.formula import LUMA, classes_digest, formula_classes, formula_image, formula_images  # noqa: E402
from tools.pretrain import RECIPES, package, pretrain, retrain  # noqa: E402

# --- converting, with a network of two convolutions ---

ROW, COLUMN = "features.0", "features.1.branch0.2"
PARTS = {"bn.weight": 1, "bn.bias": 0, "bn.running_mean": 0, "bn.running_var": 1}


def tensors():
    """PyTorch's tensors at random; variances are positive."""
    rng, found = np.random.default_rng(0), {}
    for module, shape in ((ROW, (4, 3, 1, 7)), (COLUMN, (4, 4, 7, 1))):
        found[f"{module}.conv.weight"] = rng.standard_normal(shape, np.float32)
        found |= {f"{module}.{part}": mean + 0.1 * rng.random(4, np.float32) for part, mean in PARTS.items()}
    return found | {"last_linear.bias": np.zeros(9, np.float32), f"{ROW}.bn.num_batches_tracked": np.array(7)}


def expected(module: str, x: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    """Convolution, normalisation with epsilon 0.001 and ReLU as PyTorch defines them, on (channels, rows, columns)."""
    kernel, *rest = (tensors()[f"{module}.{part}"].astype(float) for part in ("conv.weight", *PARTS))
    scale, shift, mean, variance = (one[:, None, None] for one in rest)
    padded = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2))
    x = np.einsum("crsij,fcij->frs", sliding_window_view(padded, kernel.shape[2:], axis=(1, 2)), kernel)
    return np.maximum((x - mean) / np.sqrt(variance + 1e-3) * scale + shift, 0)


@pytest.fixture
def small(monkeypatch):
    """A small network, which `convert` takes for Inception-v4."""
    x = image = keras.Input((9, 8, 3))
    for name, kernel in (("row", (1, 7)), ("column", (7, 1))):
        x = keras.layers.Conv2D(4, kernel, padding="same", use_bias=False, name=name)(x)
        x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
        x = keras.layers.Activation("relu")(x)
    model, modules = keras.Model(image, x), {"row": ROW, "column": COLUMN}
    monkeypatch.setitem(tool.KINDS, "inception_v4", ("Small", 9, lambda: modules, ("last_linear.bias",)))
    monkeypatch.setattr(backbones, "load_backbone", lambda *_: SimpleNamespace(model=model))
    return model


def converted(folder, values):
    safetensors.save_file(
        {name: np.ascontiguousarray(value) for name, value in values.items()}, folder / "s.safetensors"
    )
    return convert("inception_v4", folder / "s.safetensors", folder / "own.weights.h5")


def test_a_converted_network_computes_what_pytorch_would_and_is_recorded(small, tmp_path):
    target = converted(tmp_path, tensors())
    image = np.random.default_rng(1).normal(0, 1, (3, 9, 8))
    by_hand = expected(COLUMN, expected(ROW, image, (0, 3)), (3, 0))
    found = np.asarray(small(image.transpose(1, 2, 0)[None].astype(np.float32)))[0]
    np.testing.assert_allclose(found.transpose(2, 0, 1), by_hand, rtol=1e-4, atol=1e-4)
    record = json.loads(target.with_suffix(".json").read_text())
    assert record["tensors"] == 10 and record["left_out"] == ["last_linear.bias"]
    assert record["weights_digest"] == weights_digest(small)
    assert record["sha256"] == hashlib.sha256((tmp_path / "s.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("features.0.bn.running_var", None, "1 missing: features.0.bn.running_var"),
        ("classifier.bias", np.zeros(4, np.float32), "1 too many: classifier.bias"),
        (f"{ROW}.conv.weight", np.zeros((4, 3, 7, 1), np.float32), "4 x 3 x 1 x 7 is expected, as if it were transp"),
        (f"{ROW}.bn.bias", np.zeros(5, np.float32), "features.0.bn.bias is 5, where 4 is expected$"),
        (f"{ROW}.bn.bias", np.zeros(4, np.float16), "features.0.bn.bias is of type F16"),
        (f"{ROW}.bn.weight", np.full(4, np.nan, np.float32), "holds values that are not finite"),
        (f"{ROW}.bn.running_var", np.full(4, -1, np.float32), "is a variance and holds values below 0"),
    ],
)
def test_when_one_tensor_is_not_as_expected_then_it_is_named_and_the_model_stays(small, tmp_path, name, value, message):
    before = weights_digest(small)
    with pytest.raises(ConversionError, match=message):
        converted(tmp_path, {key: one for key, one in (tensors() | {name: value}).items() if one is not None})
    assert weights_digest(small) == before


@pytest.mark.parametrize(
    ("kind", "source", "target", "message"),
    [
        ("inception_v4", "model.pth", "t.weights.h5", "only .safetensors files are read .*pickles"),
        ("inception_v3", "s.safetensors", "t.weights.h5", "did you mean inception_v4"),
        ("inception_v4", "s.safetensors", "t.h5", "ends in .weights.h5"),
    ],
)
def test_what_cannot_be_converted_is_refused(tmp_path, kind, source, target, message):
    with pytest.raises(ConversionError, match=message):
        convert(kind, tmp_path / source, tmp_path / target)


def test_every_weight_of_inception_v4_has_the_name_and_shape_of_a_tensor_of_timms():
    model = load_backbone("InceptionV4", "none", 75).model
    lines = []
    for weight, name in tool._origins(model, inception_v4_modules()):
        shape = tuple(weight.shape)
        shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape
        lines.append(f"{name} {'x'.join(map(str, shape))}")
    assert len(lines) == len(model.weights) == 745
    # Of the state dictionary of timm 1.0.31's inception_v4, without the classifier and the counters.
    state = "2a147d7478bcc60f300abf108502851806ad9be73c84ec26c686501436295e23"
    assert hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() == state


# --- images from formulas, and the packaged weights ---

SIZE = 48


def test_an_image_follows_from_seed_class_and_number_alone_and_shows_something():
    assert 40 <= len(formula_classes()) == len(set(formula_classes()))
    images = [formula_image(*which, size=SIZE) for which in ((40, 2, 5), (41, 2, 5), (40, 3, 5), (40, 2, 6))]
    assert np.array_equal(formula_image(40, 2, seed=5, size=SIZE), images[0])
    assert not any(np.array_equal(images[0], other) for other in images[1:])
    for label in range(0, len(formula_classes()), 8):
        colour, grey = (formula_image(label, 1, size=SIZE, colour=colour) for colour in (True, False))
        assert colour.shape == (SIZE, SIZE, 3) and grey.shape == (SIZE, SIZE, 1) and colour.dtype == np.uint8
        assert np.corrcoef((colour @ LUMA).ravel(), grey.ravel())[0, 1] > 0.9


def test_a_set_is_the_same_on_two_processes_as_on_one():
    one, labels = formula_images(1, seed=2, size=16, colour=False)
    two, _ = formula_images(1, seed=2, size=16, colour=False, workers=2)
    np.testing.assert_array_equal(one, two)
    assert list(labels) == list(range(len(formula_classes())))


def test_packaged_weights_were_trained_on_the_classes_as_they_are_now():
    records = [formula_record(word) for word in backbones.FORMULA_WEIGHTS]
    assert {record["classes_digest"] for record in records} == {classes_digest()}
    assert min(record["held_out_accuracy"] for record in records) > 0.5  # chance is 0.01


def test_a_pretraining_on_a_subset_trains_from_its_start_and_is_packaged_as_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(backbones, "WEIGHTS_FOLDER", shutil.copytree(backbones.WEIGHTS_FOLDER, tmp_path / "weights"))
    small = {"per_class": 1, "held_out": 1, "steps": 2, "batch": 4, "size": 32, "crops": (32,), "workers": 1}
    recipe = replace(RECIPES["formula_subset"], **small, families=("plain", "bricks"))
    tensorflow.config.run_functions_eagerly(True)  # two steps take less time than tracing one
    try:
        model, figures = pretrain(recipe)
    finally:
        tensorflow.config.run_functions_eagerly(False)
    assert model.output_shape[-1] == figures["classes"] == 4 and figures["training_images"] == 4
    assert package(model, "formula_subset", recipe, figures).stat().st_size < 600_000
    trained, start = (load_backbone("SmallNet", word, 32).model for word in ("formula_subset", "formula_colour"))
    kernels = [one.get_layer("stage2_1_convolution").get_weights()[0] for one in (trained, model, start)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert 0 < np.abs(kernels[0] - kernels[2]).max() < 0.1  # trained on, not from nothing
    assert formula_record("formula_subset")["weights_digest"] == weights_digest(trained)


def test_a_network_retrained_in_grey_fits_the_backbone_it_came_from(tmp_path, monkeypatch):
    random = load_backbone("SmallNet", "none", 32, 1)
    monkeypatch.setattr("tools.pretrain.load_backbone", lambda name, weights: random)
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for name, level in (("fungus", 0), ("geyser", 150)):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = (rng.integers(0, 100, (40, 32, 3)) + level).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.JPEG")
    before = weights_digest(random.model)
    settings = FinetuneSettings(epochs=2, batch=4, nesterov=True, learning_rate=0.01)
    target = retrain(tmp_path, tmp_path / "grey.weights.h5", "SmallNet", settings=settings)
    with pytest.raises(FileNotFoundError, match="no images in|is missing"):
        retrain(tmp_path, target, "SmallNet", ["fungus", "plant"], settings)
    monkeypatch.undo()
    assert load_backbone("SmallNet", str(target), 32).weights_digest != before


def test_the_halves_of_a_shift_share_no_patient():
    frame = pd.DataFrame(
        [
            ("train/NORMAL2-IM-12-1.jpeg", "train/IM12", "NORMAL"),
            ("train/IM-3-1.jpeg", "train/IM3", "NORMAL"),
            ("train/IM-3-2.jpeg", "train/IM3", "NORMAL"),
            ("train/person1_virus_1.jpeg", "train/person1", "VIRUS"),
            ("train/person9_virus_1.jpeg", "train/person9", "VIRUS"),
            ("train/person9_virus_2.jpeg", "train/person9", "VIRUS"),
        ],
        columns=["image_id", "patient_id", "label"],
    )
    for half in shift.halves(frame, np.array([90.0, 60.0, 130.0, 80.0, 100.0, 70.0])).values():
        assert pd.Series(half).groupby(frame["patient_id"]).nunique().eq(1).all()
        assert set(half) == {0, 1}
