"""The registry of backbones, what it gives and what it refuses; GoogLeNet and Inception-v4."""

import inspect
import os
import random
import warnings
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from helpers.model import backbones as module  # noqa: E402
from helpers.model.architectures import LocalResponseNormalization  # noqa: E402
from helpers.model.backbones import (  # noqa: E402
    BackboneError,
    WeightsWarning,
    last_maps,
    load_backbone,
    weights_digest,
    with_depths,
)
from helpers.model.engine import Engine, check_agreement, compile_backbone  # noqa: E402

MOBILENET_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"


def grey(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, size, size, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def small():
    return load_backbone("SmallNet", "none", 32, seed=3)


@pytest.fixture(scope="module")
def mobilenet():
    return load_backbone("MobileNetV2", "none", 96, 1)


# --- what it gives ---


def test_the_same_seed_gives_the_same_random_weights_and_leaves_the_process_random_state(small):
    state = random.getstate()
    assert load_backbone("SmallNet", "none", 32, seed=3).weights_digest == small.weights_digest
    assert load_backbone("SmallNet", "none", 32, seed=4).weights_digest != small.weights_digest
    assert random.getstate() == state
    assert load_backbone("SmallNet", "none").image_size == 256


@pytest.mark.parametrize(
    ("name", "preprocessing"),
    [("InceptionV3", "inception_v3"), ("MobileNetV2", "mobilenet_v2"), ("DenseNet121", "densenet"),
     ("ResNet50", "resnet"), ("Xception", "xception")],
)  # fmt: skip
def test_scaling_is_the_one_the_imagenet_weights_were_trained_with(name, preprocessing):
    colour = grey(1, 4).repeat(3, -1)
    expected = getattr(keras.applications, preprocessing).preprocess_input(colour.copy())
    ours = keras.layers.Rescaling(*module._REGISTRY[name].scaling)(colour)
    np.testing.assert_allclose(np.asarray(ours), np.asarray(expected), rtol=1e-5, atol=1e-4)


# --- weights from files ---


@pytest.mark.parametrize("file", ["own.weights.h5", "own.keras"])
def test_weights_from_a_file_are_the_saved_ones_and_of_another_network_are_refused(small, tmp_path, file):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    for model, name in ((small.model, file), (other, f"other-{file}")):
        model.save_weights(tmp_path / name) if name.endswith(".h5") else model.save(tmp_path / name)
    assert load_backbone("SmallNet", str(tmp_path / file), 64, seed=9).weights_digest == small.weights_digest
    with pytest.raises(BackboneError, match="not readable as weights of SmallNet"):
        load_backbone("SmallNet", str(tmp_path / f"other-{file}"), 32)


def set_tensor(values, fault):
    return {
        "one filter less": values[..., 1:],
        "not finite": values * np.nan,
        "zeros": np.zeros_like(values),
        "one value": np.full_like(values, 0.1),
        "negative": -values,
        "noise": np.random.default_rng(0).normal(0, values.std(), values.shape).astype(np.float32),
    }[fault]


@pytest.mark.parametrize(
    ("fault", "layer", "tensor", "message"),
    [
        ("no tensor", "conv2d", "0", "not readable as weights"),
        ("one filter less", "conv2d", "0", "not readable as weights"),
        ("not finite", "conv2d_3", "0", "kernel is not finite"),
        ("zeros", "conv2d_3", "0", "kernel is 0 throughout"),
        ("one value", "conv2d_2", "0", "kernel is 0.1 throughout"),
        ("zeros", "batch_normalization_4", "0", "gamma is 0 throughout"),
        ("zeros", "batch_normalization_4", "3", "moving_variance is 0 throughout"),
        ("negative", "batch_normalization_4", "3", "moving_variance is negative"),
        ("all zeros", "", "", "kernel is 0 throughout"),
        ("truncated", "", "", "not readable as weights"),
        ("0 bytes", "", "", "not readable as weights"),
        ("a layer more", "", "", "it holds 32 tensors, 30 of which the network has"),
    ],
)
def test_weights_that_are_not_those_of_a_trained_network_are_refused(tmp_path, fault, layer, tensor, message):
    import h5py

    path, model = tmp_path / "spoilt.weights.h5", load_backbone("SmallNet", "formula", 32).model
    if fault == "all zeros":
        model.set_weights([np.zeros_like(value) for value in model.get_weights()])
    if fault == "a layer more":
        model = keras.Model(model.input, keras.layers.Dense(3)(model.output))
    model.save_weights(path)
    if fault in ("truncated", "0 bytes"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 if fault == "truncated" else 0])
    elif layer:
        with h5py.File(path, "r+") as file:
            place = file["layers"][layer]["vars"]
            values = place[tensor][()]
            del place[tensor]
            if fault != "no tensor":
                place[tensor] = set_tensor(values, fault)
    with pytest.raises(BackboneError, match=message):
        load_backbone("SmallNet", str(path), 32)


def test_a_kernel_of_noise_is_named_and_so_are_weights_that_were_never_trained(tmp_path, small):
    trained = load_backbone("SmallNet", "formula_colour", 32).model
    trained.save_weights(tmp_path / "trained.weights.h5")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_backbone("SmallNet", str(tmp_path / "trained.weights.h5"), 32)
    names = [weight.path for weight in trained.weights]
    values = trained.get_weights()
    spoilt = names.index("stage3_1_convolution/kernel")
    values[spoilt] = set_tensor(values[spoilt], "noise")
    trained.set_weights(values)
    trained.save_weights(tmp_path / "noise.weights.h5")
    with pytest.warns(WeightsWarning, match=r"1 of 6 kernels cannot be told .* \(stage3_1_convolution/kernel\)"):
        load_backbone("SmallNet", str(tmp_path / "noise.weights.h5"), 32)
    small.model.save_weights(tmp_path / "untrained.weights.h5")
    with pytest.warns(WeightsWarning, match="6 of 6 kernels cannot be told"):
        load_backbone("SmallNet", str(tmp_path / "untrained.weights.h5"), 32)


@pytest.mark.parametrize("draw", ["normal", "uniform", "standard_t"])
@pytest.mark.parametrize("shape", [(3, 3, 3, 32), (3, 3, 96, 1), (1, 1, 320, 64)])
def test_random_numbers_look_random_and_filters_of_unequal_size_do_not(draw, shape):
    rng = np.random.default_rng(3)
    values = rng.standard_t(3, shape) if draw == "standard_t" else getattr(rng, draw)(-0.5, 0.5, shape)
    assert module.looks_random(values) == (draw != "standard_t")  # whose tails are heavier
    assert not module.looks_random(values * np.exp(rng.normal(0, 1, shape[2])[:, None]))


@pytest.mark.parametrize("name", [name for name, entry in module._REGISTRY.items() if entry.file])
def test_the_checksums_are_those_that_keras_states(name):
    entry, build = module._REGISTRY[name], getattr(keras.applications, name)
    source = Path(inspect.getsourcefile(build)).read_text(encoding="utf-8")
    if isinstance(entry.published, int):
        assert "file_hash" not in source  # it states none
    else:
        assert entry.published in source


def test_imagenet_weights_are_read_from_keras_home_even_where_it_cannot_be_written(tmp_path, monkeypatch):
    import h5py
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    model = load_backbone("MobileNetV2", "none", 32, seed=5).model
    (tmp_path / "models").mkdir()
    with h5py.File(tmp_path / "models" / MOBILENET_FILE, "w") as file:
        save_weights_to_hdf5_group(file, model)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)  # what makes Keras look elsewhere
    with pytest.warns(WeightsWarning, match="is not Keras's own file of MobileNetV2: .* has 9406464 bytes"):
        assert load_backbone("MobileNetV2", "imagenet", 32).weights_digest == weights_digest(model)


def test_imagenet_weights_that_cannot_be_had_name_the_file_and_the_folder(tmp_path, monkeypatch):
    build = keras.applications.MobileNetV2

    def offline(*args, weights=None, **kwargs):
        if weights == "imagenet":
            raise Exception("no route to host")
        return build(*args, weights=weights, **kwargs)

    monkeypatch.setattr(keras.applications, "MobileNetV2", offline)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(BackboneError, match=f"no route to host.*{MOBILENET_FILE} into {tmp_path}/models.*weights=none"):
        load_backbone("MobileNetV2", "imagenet", 32)


def test_formula_weights_are_three_and_guarded_by_their_record(monkeypatch):
    words = ("formula_colour", "formula_grey", "formula_subset")
    digests = {word: load_backbone("SmallNet", word, 32).weights_digest for word in (*words, "formula", "none")}
    assert digests["formula"] == digests["formula_grey"] == "4e27ee918a0d9923"  # the reference figures rest on it
    assert len(set(digests.values())) == 4
    monkeypatch.setattr(module, "formula_record", lambda _: {"sha256": "0" * 64})
    with pytest.raises(BackboneError, match="is not the file recorded"):
        load_backbone("SmallNet", "formula")


@pytest.mark.parametrize(
    ("name", "weights", "size", "message"),
    [
        ("inceptionv3", "none", 299, "did you mean InceptionV3"),
        ("SmallNet", "formulas", 32, "did you mean formula"),
        ("MobileNetV2", "formula", 32, "SmallNet's alone"),
        ("SmallNet", "imagenet", 32, "weights=formula"),
        ("GoogLeNet", "imagenet", 96, "no ImageNet weights of GoogLeNet.*weights=none"),
        ("InceptionV4", "imagenet", 96, "tools.convert.*InceptionV3"),
        ("InceptionV4", "none", 74, "75 pixels a side or more, not 74"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_to_do(name, weights, size, message):
    with pytest.raises(BackboneError, match=message):
        load_backbone(name, weights, size)


# --- GoogLeNet and Inception-v4 ---


@pytest.fixture(scope="module")
def googlenet():
    return load_backbone("GoogLeNet", "none", 32, seed=1)


@pytest.fixture(scope="module")
def inception_v4():
    return load_backbone("InceptionV4", "none", 75, seed=1)


def test_the_parameters_are_as_many_as_in_the_published_networks(googlenet, inception_v4):
    assert googlenet.model.count_params() == 6_998_552 - 1025 * 1000  # of bvlc_googlenet, less its classifier
    filters = sum(layer.filters for layer in inception_v4.model.layers if isinstance(layer, keras.layers.Conv2D))
    learnt = 42_679_816 - 1537 * 1000  # what timm gives for inception_v4, less its classifier
    assert inception_v4.model.count_params() == learnt + 2 * filters  # and the moving averages
    assert (googlenet.features, inception_v4.features) == (1024, 1536)


def test_normalisation_divides_by_the_neighbouring_channels():
    x = np.random.default_rng(0).normal(0, 30, (2, 3, 3, 7)).astype(np.float32)
    near = [(x[..., max(0, c - 2) : c + 3] ** 2).sum(-1) for c in range(7)]
    expected = x / (1 + 1e-4 / 5 * np.stack(near, -1)) ** 0.75
    np.testing.assert_allclose(np.asarray(LocalResponseNormalization()(x)), expected, rtol=1e-5)


def test_googlenet_subtracts_caffes_means_and_pads_by_three_pixels_on_every_side_as_caffe_does(googlenet):
    images, model = grey(1, 32), googlenet.model
    stem = keras.Model(model.input, model.get_layer("conv1").output)
    kernel, bias = model.get_layer("conv1").get_weights()
    image = images[0, :4, :4].repeat(3, -1) - np.array([103.939, 116.779, 123.68])
    corner = np.einsum("hwc,hwcf->f", image, kernel[3:, 3:]) + bias
    np.testing.assert_allclose(np.asarray(stem(images))[0, 0, 0], np.maximum(corner, 0), rtol=1e-4, atol=1e-3)


def test_the_average_of_inception_v4_leaves_the_padding_out(inception_v4):
    pool = inception_v4.model.get_layer("inception_a1_branch3_0")
    assert np.asarray(pool(np.ones((1, 5, 5, 1), np.float32))) == pytest.approx(1)


def test_openvino_runs_googlenet_as_keras_does(googlenet):
    engine = Engine("openvino", "float32")
    run = compile_backbone(googlenet, engine, workers=1)
    check_agreement(googlenet, engine, run, grey(2, 32)[..., 0].astype(np.uint8))


# --- features of several depths ---


def test_features_are_the_averages_of_the_last_maps_the_deepest_last(mobilenet):
    maps = last_maps(mobilenet.model)
    assert [tuple(x.shape[2:]) for x in maps] == [(48, 96), (24, 144), (12, 192), (6, 576), (3, 1280)]
    deep, images = with_depths(mobilenet, 3), grey(2, 96)
    expected = [x.mean(axis=(1, 2)) for x in keras.Model(mobilenet.model.input, maps[-3:]).predict_on_batch(images)]
    found = deep.model.predict_on_batch(images)
    assert found.shape[1] == deep.features and deep.weights_digest != mobilenet.weights_digest
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-4, atol=1e-5)
    assert with_depths(mobilenet, 1) is mobilenet
    with pytest.raises(ValueError, match="maps of 5 resolutions"):
        with_depths(mobilenet, 6)


@pytest.mark.parametrize("depths", [1, 2])
def test_averages_alone_are_the_means_of_the_last_maps(small, depths):
    found = with_depths(small, depths, averages_only=True).model.predict_on_batch(grey(2, 32))
    maps = [keras.Model(small.model.input, x).predict_on_batch(grey(2, 32)) for x in last_maps(small.model)[-depths:]]
    expected = np.concatenate([x.mean(axis=(1, 2)) for x in maps], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
