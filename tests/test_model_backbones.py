"""The registry of backbones, what it gives and what it refuses; GoogLeNet and Inception-v4."""

import os
import random
import shutil

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from helpers.model import backbones as module  # noqa: E402
from helpers.model.architectures import MODULES, LocalResponseNormalization, googlenet_features  # noqa: E402
from helpers.model.backbones import (  # noqa: E402
    _REGISTRY,
    BackboneError,
    _plain,
    last_maps,
    load_backbone,
    weights_digest,
    with_depths,
)
from helpers.model.engine import Engine, agreement, agrees, compile_backbone  # noqa: E402

MOBILENET_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
PREPROCESSING = {"InceptionV3": "inception_v3", "MobileNetV2": "mobilenet_v2", "DenseNet121": "densenet",
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


@pytest.mark.parametrize("name", PREPROCESSING)
def test_scaling_is_the_one_the_imagenet_weights_were_trained_with(name):
    colour = np.random.default_rng(1).uniform(0, 255, (1, 4, 4, 1)).repeat(3, -1).astype(np.float32)
    expected = getattr(keras.applications, PREPROCESSING[name]).preprocess_input(colour.copy())
    scale, offset = _REGISTRY[name].scaling
    ours = keras.layers.Rescaling(_plain(scale), _plain(offset))(colour)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(expected), rtol=1e-5, atol=1e-4)


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


@pytest.mark.parametrize("file", ["other.weights.h5", "other.keras"])
def test_weights_of_another_network_are_refused(tmp_path, file):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    path = tmp_path / file
    other.save_weights(path) if file.endswith(".h5") else other.save(path)
    with pytest.raises(BackboneError, match="not readable as weights of SmallNet"):
        load_backbone("SmallNet", str(path), 32)


@pytest.mark.parametrize("without", ["stage3_2_convolution", "one filter"])
def test_weights_that_lack_a_layer_or_a_filter_are_refused(tmp_path, small, without):
    import h5py

    path = tmp_path / "partial.weights.h5"
    small.model.save_weights(path)
    with h5py.File(path, "r+") as file:
        layer = file["layers"]["conv2d_3" if without != "one filter" else "conv2d"]["vars"]
        values = layer["0"][()]
        del layer["0"]
        if without == "one filter":
            layer["0"] = values[..., 1:]
    with pytest.raises(BackboneError, match="not readable as weights of SmallNet"):
        load_backbone("SmallNet", str(path), 32)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = load_backbone("SmallNet", "none", 32).model
    values = model.get_weights()
    values[0].flat[0] = np.nan
    model.set_weights(values)
    model.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(BackboneError, match="not finite"):
        load_backbone("SmallNet", str(tmp_path / "nan.weights.h5"), 32)


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


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("SmallNet", "weights=formula"),
        ("GoogLeNet", "no public Keras file.*weights=none"),
        ("InceptionV4", "tools.convert inception_v4.*backbone=InceptionV3.*weights=none"),
    ],
)
def test_a_backbone_without_imagenet_weights_says_what_to_do(name, remedy):
    with pytest.raises(BackboneError, match=remedy):
        load_backbone(name, "imagenet", 96)


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


def test_formula_weights_are_three_and_not_random_ones():
    words = ("formula_colour", "formula_grey", "formula_subset")
    digests = {word: load_backbone("SmallNet", word, 32).weights_digest for word in (*words, "formula", "none")}
    assert digests["formula"] == digests["formula_grey"] == "4e27ee918a0d9923"  # the reference figures rest on it
    assert len(set(digests.values())) == 4


def test_formula_weights_that_differ_from_their_record_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "weights"
    shutil.copytree(module.WEIGHTS_FOLDER, folder)
    file = folder / module.FORMULA_WEIGHTS["formula"]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    monkeypatch.setattr(module, "WEIGHTS_FOLDER", folder)
    with pytest.raises(BackboneError, match="is not the file recorded"):
        load_backbone("SmallNet", "formula")


def test_formula_weights_are_refused_for_another_backbone():
    with pytest.raises(BackboneError, match="SmallNet's alone"):
        load_backbone("MobileNetV2", "formula", 32)


# Refusals


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(BackboneError, match="did you mean InceptionV3"):
        load_backbone("inceptionv3", "none")


def test_an_unknown_word_for_weights_is_refused_with_the_nearest():
    with pytest.raises(BackboneError, match="did you mean formula"):
        load_backbone("SmallNet", "formulas", 32)


@pytest.mark.parametrize(("name", "size", "least"), [("InceptionV4", 74, 75), ("SmallNet", 16, 32)])
def test_too_small_an_image_is_refused_with_the_smallest_size(name, size, least):
    with pytest.raises(BackboneError, match=f"{least} pixels a side or more, not {size}"):
        load_backbone(name, "none", size)


# GoogLeNet and Inception-v4


@pytest.fixture(scope="module")
def googlenet():
    return load_backbone("GoogLeNet", "none", 32, seed=1)


@pytest.fixture(scope="module")
def inception_v4():
    return load_backbone("InceptionV4", "none", 75, seed=1)


@pytest.fixture(scope="module")
def bare(googlenet):
    """GoogLeNet's features of (batch, 32, 32, 3), with nothing subtracted yet."""
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, googlenet_features(image))
    model.set_weights(googlenet.model.get_weights())
    return model


def test_the_parameters_are_as_many_as_in_the_published_networks(googlenet, inception_v4):
    total, channels = (7 * 7 * 3 + 1) * 64 + (64 + 1) * 64 + (3 * 3 * 64 + 1) * 192, 192
    for m in MODULES.values():  # Szegedy 2015, table 1
        total += (channels + 1) * (m.one + m.reduce_three + m.reduce_five + m.pool)
        total += (9 * m.reduce_three + 1) * m.three + (25 * m.reduce_five + 1) * m.five
        channels = m.one + m.three + m.five + m.pool
    assert googlenet.model.count_params() == total == 6_998_552 - 1025 * 1000  # of bvlc_googlenet, less its classifier
    filters = sum(layer.filters for layer in inception_v4.model.layers if isinstance(layer, keras.layers.Conv2D))
    learnt = 42_679_816 - 1537 * 1000  # what timm gives for inception_v4, less its classifier
    assert inception_v4.model.count_params() == learnt + 2 * filters  # and the moving averages
    assert len(inception_v4.model.weights) == 149 * 5


def test_normalisation_divides_by_the_neighbouring_channels():
    x = np.random.default_rng(0).normal(0, 30, (2, 3, 3, 7)).astype(np.float32)
    expected = np.empty_like(x)
    for c in range(7):
        near = x[..., max(0, c - 2) : c + 3]
        expected[..., c] = x[..., c] / (1 + 1e-4 / 5 * (near**2).sum(-1)) ** 0.75
    np.testing.assert_allclose(np.asarray(LocalResponseNormalization()(x)), expected, rtol=1e-5)


def test_the_first_convolution_pads_by_three_pixels_on_every_side_as_in_caffe(bare):
    stem = keras.Model(bare.input, bare.get_layer("conv1").output)
    image = np.random.default_rng(0).normal(0, 1, (1, 32, 32, 3)).astype(np.float32)
    kernel, bias = bare.get_layer("conv1").get_weights()
    corner = np.einsum("hwc,hwcf->f", image[0, :4, :4], kernel[3:, 3:]) + bias
    np.testing.assert_allclose(np.asarray(stem(image))[0, 0, 0], np.maximum(corner, 0), rtol=1e-4, atol=1e-5)


def test_googlenet_takes_grey_and_subtracts_the_means_that_caffe_does(googlenet, bare):
    images = grey(2, 32)
    expected = bare(images.repeat(3, -1) - np.array([103.939, 116.779, 123.68], np.float32))
    np.testing.assert_allclose(features(googlenet, images), np.asarray(expected), rtol=1e-4, atol=1e-4)


def test_the_average_of_inception_v4_leaves_the_padding_out(inception_v4):
    pool = inception_v4.model.get_layer("inception_a1_branch3_0")
    assert np.asarray(pool(np.ones((1, 5, 5, 1), np.float32))) == pytest.approx(1)


def test_openvino_runs_googlenet_as_keras_does(googlenet):
    run = compile_backbone(googlenet, Engine("openvino", "float32", "a test"), workers=1)
    assert agrees(agreement(googlenet, run, grey(2, 32)[..., 0].astype(np.uint8)))


# --- features of several depths --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mobilenet():
    return load_backbone("MobileNetV2", "none", 96, 1)


def test_the_last_maps_are_those_before_each_halving(mobilenet):
    shapes = [tuple(x.shape[1:]) for x in last_maps(mobilenet.model)]
    assert shapes == [(48, 48, 96), (24, 24, 144), (12, 12, 192), (6, 6, 576), (3, 3, 1280)]


def test_features_are_the_averages_of_the_last_maps_the_deepest_last(mobilenet):
    deep = with_depths(mobilenet, 3)
    assert deep.features == 192 + 576 + 1280
    images = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 1)).astype(np.float32)
    maps = keras.Model(mobilenet.model.input, last_maps(mobilenet.model)[-3:]).predict_on_batch(images)
    expected = np.concatenate([x.mean(axis=(1, 2)) for x in maps], axis=1)
    np.testing.assert_allclose(deep.model.predict_on_batch(images), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(expected[:, -1280:], mobilenet.model.predict_on_batch(images), rtol=1e-4, atol=1e-5)


def test_one_depth_is_the_backbone_itself_and_too_many_are_refused(mobilenet):
    assert with_depths(mobilenet, 1) is mobilenet
    with pytest.raises(ValueError, match="maps of 5 resolutions"):
        with_depths(mobilenet, 6)


def test_averages_alone_are_the_means_of_the_last_maps():
    backbone = load_backbone("SmallNet", "none", 64)
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype(np.float32)
    for depths, width in ((1, 128), (2, 80 + 128), (3, 48 + 80 + 128)):
        made = with_depths(backbone, depths, averages_only=True)
        found = made.model.predict_on_batch(image)
        means = [keras.Model(backbone.model.input, x).predict_on_batch(image).mean(axis=(1, 2))
                 for x in last_maps(backbone.model)[-depths:]]  # fmt: skip
        assert made.features == width and made.weights_digest != backbone.weights_digest
        np.testing.assert_allclose(found, np.concatenate(means, axis=1), rtol=1e-4, atol=1e-5)
    assert with_depths(backbone, 0, averages_only=True) is backbone
    with pytest.raises(ValueError, match="depths = 9"):
        with_depths(backbone, 9, averages_only=True)
