"""The registry of backbones: what it gives, and what it refuses."""

import os
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tensorflow = pytest.importorskip("tensorflow")

from helpers.model import formula_weights  # noqa: E402
from helpers.model.backbones import (  # noqa: E402
    _REGISTRY,
    BackboneError,
    _plain,
    backbone_names,
    load_backbone,
    weights_digest,
)
from tools.formula import formula_classes  # noqa: E402
from tools.formula_packing import package, round_kernels  # noqa: E402
from tools.pretrain import RECIPES, classifier, pretrain  # noqa: E402

MOBILENET_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
MODULES = {"InceptionV3": "inception_v3", "MobileNetV2": "mobilenet_v2", "DenseNet121": "densenet",
           "ResNet50": "resnet", "Xception": "xception"}  # fmt: skip


def grey(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, size, size, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def small():
    return load_backbone("SmallNet", "none", 32, seed=3)


def features(backbone, images) -> np.ndarray:
    return np.asarray(backbone.model(images, training=False))


# What it gives


def test_features_are_float32_one_row_an_image(small):
    result = features(small, grey(3, 32))
    assert result.shape == (3, small.features) and result.dtype == np.float32
    assert np.ptp(result, axis=0).max() > 0  # images differ, and so do their features


def test_an_images_features_do_not_depend_on_its_batch(small):
    images = grey(3, 32)
    np.testing.assert_allclose(features(small, images)[1], features(small, images[1:2])[0], atol=1e-5)


def test_size_0_is_the_native_size_and_another_is_noted(small):
    assert load_backbone("SmallNet", "none").image_size == _REGISTRY["SmallNet"].image_size
    assert any("32 px" in note for note in small.notes)


def test_the_same_seed_gives_the_same_random_weights_and_another_seed_others(small):
    assert load_backbone("SmallNet", "none", 32, seed=3).weights_digest == small.weights_digest
    assert load_backbone("SmallNet", "none", 32, seed=4).weights_digest != small.weights_digest


def test_loading_leaves_the_process_random_state_and_precision_as_they_were():
    state, policy = random.getstate(), keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        backbone = load_backbone("SmallNet", "none", 32)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(policy)
    assert {layer.compute_dtype for layer in backbone.model.layers} == {"float32"}
    assert random.getstate() == state


def test_the_digest_changes_with_one_weight():
    backbone = load_backbone("SmallNet", "none", 32, seed=3)
    values = backbone.model.get_weights()
    values[-1].flat[0] += 1e-4
    backbone.model.set_weights(values)
    assert weights_digest(backbone.model) != backbone.weights_digest


@pytest.mark.parametrize("name", MODULES)
def test_scaling_is_the_one_the_imagenet_weights_were_trained_with(name):
    colour = np.random.default_rng(1).uniform(0, 255, (1, 4, 4, 1)).repeat(3, -1).astype(np.float32)
    expected = getattr(keras.applications, MODULES[name]).preprocess_input(colour.copy())
    scale, offset = _REGISTRY[name].scaling
    ours = keras.layers.Rescaling(_plain(scale), _plain(offset))(colour)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(expected), rtol=1e-5, atol=1e-4)


def test_the_model_saves_without_lambda_layers_and_comes_back_the_same(small, tmp_path):
    small.model.save(tmp_path / "small.keras")
    again = keras.saving.load_model(tmp_path / "small.keras", safe_mode=True)
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in again.layers)
    np.testing.assert_array_equal(np.asarray(again(grey(2, 32))), features(small, grey(2, 32)))


def test_openvino_converts_the_model_and_agrees(small):
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(
        openvino.convert_model(small.model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.testing.assert_allclose(compiled(grey(2, 32))[0], features(small, grey(2, 32)), rtol=1e-3, atol=1e-5)


def test_a_registered_application_builds_at_another_size():
    backbone = load_backbone("MobileNetV2", "none", 32)
    assert backbone.features == 1280
    assert features(backbone, grey(2, 32)).shape == (2, 1280)


# Weights from files


@pytest.mark.parametrize("file", ["own.weights.h5", "own.keras"])
def test_weights_from_a_file_are_the_saved_ones(small, tmp_path, file):
    path = tmp_path / file
    small.model.save_weights(path) if file.endswith(".weights.h5") else small.model.save(path)
    loaded = load_backbone("SmallNet", str(path), 64, seed=9)
    assert loaded.weights_digest == small.weights_digest


def test_weights_of_another_shape_are_refused_with_counts(tmp_path):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(BackboneError, match=r"holds 2 tensors, \d+ are expected.*is missing"):
        load_backbone("SmallNet", str(tmp_path / "other.weights.h5"), 32)


@pytest.mark.parametrize("file", ["page.weights.h5", "page.keras"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, file):
    (tmp_path / file).write_text("<html>404</html>")
    with pytest.raises(BackboneError, match="not readable as weights of SmallNet"):
        load_backbone("SmallNet", str(tmp_path / file), 32)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = load_backbone("SmallNet", "none", 32).model
    values = model.get_weights()
    values[0].flat[0] = np.nan
    model.set_weights(values)
    model.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(BackboneError, match="not finite"):
        load_backbone("SmallNet", str(tmp_path / "nan.weights.h5"), 32)


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "weights.pkl").write_bytes(b"")
    with pytest.raises(BackboneError, match=r"\.weights\.h5, \.h5 and \.keras"):
        load_backbone("SmallNet", str(tmp_path / "weights.pkl"), 32)


# ImageNet


def legacy_file(path, seed: int):
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    h5py = pytest.importorskip("h5py")
    model = load_backbone("MobileNetV2", "none", 32, seed=seed).model
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, model)
    return weights_digest(model)


def test_imagenet_weights_are_read_from_keras_home_even_where_it_cannot_be_written(tmp_path, monkeypatch):
    digest = legacy_file(tmp_path / "models" / MOBILENET_FILE, seed=5)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)  # what makes Keras look elsewhere
    assert load_backbone("MobileNetV2", "imagenet", 32).weights_digest == digest


def test_imagenet_weights_that_cannot_be_had_name_the_file_and_the_folder(tmp_path, monkeypatch):
    build = keras.applications.MobileNetV2

    def offline(*args, weights=None, **kwargs):
        if weights == "imagenet":
            raise Exception("URL fetch failure: no route to host")
        return build(*args, weights=weights, **kwargs)

    monkeypatch.setattr(keras.applications, "MobileNetV2", offline)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(BackboneError) as error:
        load_backbone("MobileNetV2", "imagenet", 32)
    for word in (MOBILENET_FILE, str(tmp_path / "models"), "weights=none", "no route to host"):
        assert word in str(error.value)


def test_smallnet_has_no_imagenet_weights():
    with pytest.raises(BackboneError, match="weights=formula"):
        load_backbone("SmallNet", "imagenet", 32)


@pytest.mark.skipif(not os.environ.get("REAL_KERAS_HOME"), reason="REAL_KERAS_HOME (ImageNet weights) not set")
def test_real_imagenet_features_are_those_of_keras_applications(monkeypatch):
    home = os.environ["REAL_KERAS_HOME"]
    monkeypatch.setenv("KERAS_HOME", home)
    backbone, images = load_backbone("MobileNetV2"), grey(2, 224)
    plain = keras.applications.MobileNetV2(
        include_top=False, pooling="avg", weights=f"{home}/models/{MOBILENET_FILE}", input_shape=(224, 224, 3)
    )
    expected = plain(keras.applications.mobilenet_v2.preprocess_input(images.repeat(3, -1)))
    np.testing.assert_allclose(features(backbone, images), np.asarray(expected), rtol=1e-3, atol=1e-4)


# The packaged weights


@pytest.mark.parametrize("word", formula_weights.FILES)
def test_formula_weights_load_and_are_not_random_ones(word):
    backbone = load_backbone("SmallNet", word)
    assert backbone.weights_digest != load_backbone("SmallNet", "none").weights_digest
    assert backbone.notes


def test_formula_weights_that_differ_from_their_record_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    shutil.copytree(formula_weights.FOLDER, folder)
    file = folder / formula_weights.FILES["formula"]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    monkeypatch.setattr(formula_weights, "FOLDER", folder)
    with pytest.raises(BackboneError, match="is not the file recorded"):
        load_backbone("SmallNet", "formula")


def test_formula_weights_are_refused_for_another_backbone():
    with pytest.raises(BackboneError, match="SmallNet's alone"):
        load_backbone("MobileNetV2", "formula", 32)


def test_packaged_weights_stay_small_and_their_record_says_how_they_were_made():
    files = [formula_weights.FOLDER / file for file in set(formula_weights.FILES.values())]
    assert sum(file.stat().st_size for file in files) < 2_000_000
    for word in formula_weights.FILES:
        record = formula_weights.record(word)
        assert {"sha256", "recipe", "versions", "held_out_accuracy", "classes_digest"} <= set(record)
        assert record["held_out_accuracy"] > 0.5  # chance is 0.01


def test_the_three_pretrainings_are_three_and_grey_is_the_one_that_formula_has_always_been():
    words = ("formula_colour", "formula_grey", "formula_subset")
    digests = {word: load_backbone("SmallNet", word, 32).weights_digest for word in (*words, "formula")}
    assert digests["formula"] == digests["formula_grey"] == "4e27ee918a0d9923"  # the reference figures rest on it
    assert len(set(digests.values())) == 3


def test_the_subset_is_a_quarter_of_the_classes_by_name_and_goes_on_from_colour():
    recipe = RECIPES["formula_subset"]
    names = [formula_classes()[label] for label in recipe.labels()]
    assert 0.2 < len(names) / len(formula_classes()) < 0.3
    assert names == formula_weights.record("formula_subset")["class_names"]
    assert (recipe.start, recipe.colour) == ("formula_colour", False)
    assert RECIPES["formula"].labels() == list(range(len(formula_classes())))


def test_a_pretraining_on_a_subset_trains_from_its_start_and_is_packaged_as_measured(tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    shutil.copytree(formula_weights.FOLDER, folder)
    monkeypatch.setattr(formula_weights, "FOLDER", folder)
    monkeypatch.setattr(formula_weights, "DIGESTS", folder / "digests.json")
    before = (folder / formula_weights.FILES["formula"]).read_bytes()
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
    assert formula_weights.record("formula_subset")["weights_digest"] == trained.weights_digest
    assert path.stat().st_size < 600_000
    assert (folder / formula_weights.FILES["formula"]).read_bytes() == before


@pytest.mark.parametrize(("mantissa", "step"), [(10, 2**-10), (7, 2**-7)])
def test_kernels_are_rounded_to_the_nearest_of_so_many_bits(mantissa, step):
    model = classifier(3)
    before = [w for w in model.get_weights() if w.ndim == 4]
    round_kernels(model, mantissa)
    after = [w for w in model.get_weights() if w.ndim == 4]
    for old, new in zip(before, after, strict=True):
        normal = np.abs(old) > 1e-3  # below, half precision itself has fewer bits
        most = (0.5 * step + 2**-11) * np.abs(old)[normal]  # rounded to half precision first
        assert (np.abs(new - old)[normal] <= most).all()
        assert len(np.unique(np.frexp(new[normal])[0])) <= 2 ** (mantissa + 1)


# Refusals


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(BackboneError, match="did you mean InceptionV3"):
        load_backbone("inceptionv3", "none")
    assert "InceptionV3" in backbone_names()


def test_an_unknown_word_for_weights_is_refused_with_the_nearest():
    with pytest.raises(BackboneError, match="did you mean formula"):
        load_backbone("SmallNet", "formulas", 32)


@pytest.mark.parametrize(("name", "size", "least"), [("InceptionV3", 64, 75), ("SmallNet", 16, 32)])
def test_too_small_an_image_is_refused_with_the_smallest_size(name, size, least):
    with pytest.raises(BackboneError, match=f"{least} pixels a side or more, not {size}"):
        load_backbone(name, "none", size)
