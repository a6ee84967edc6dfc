"""GoogLeNet: sizes and parameters as published, normalisation as defined, and its place among the backbones."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from helpers.model.backbones import BackboneError, load_backbone  # noqa: E402
from helpers.model.engine import Engine, agreement, agrees, compile_backbone  # noqa: E402
from helpers.model.googlenet import MODULES, LocalResponseNormalization, googlenet, googlenet_features  # noqa: E402

# Szegedy 2015, table 1: the output size of each module for an image of 224 pixels
PUBLISHED = {
    "inception_3a": (28, 28, 256),
    "inception_3b": (28, 28, 480),
    "inception_4a": (14, 14, 512),
    "inception_4b": (14, 14, 512),
    "inception_4c": (14, 14, 512),
    "inception_4d": (14, 14, 528),
    "inception_4e": (14, 14, 832),
    "inception_5a": (7, 7, 832),
    "inception_5b": (7, 7, 1024),
    "conv1": (112, 112, 64),
    "pool1": (56, 56, 64),
    "conv2": (56, 56, 192),
    "pool2": (28, 28, 192),
    "average": (1024,),
    "classifier": (1000,),
}


GREY = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    return googlenet(1000)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("GoogLeNet", "none", 32, seed=1)


@pytest.fixture(scope="module")
def bare(backbone):
    """The same features of (batch, 32, 32, 3), with nothing subtracted yet."""
    image = keras.Input((32, 32, 3))
    model = keras.Model(image, googlenet_features(image))
    model.set_weights(backbone.model.get_weights())
    return model


@pytest.mark.parametrize(("layer", "shape"), PUBLISHED.items())
def test_each_stage_has_the_published_output_size(network, layer, shape):
    assert network.get_layer(layer).output.shape == (None, *shape)


def test_there_are_22_layers_with_parameters_on_a_path_and_9_modules(network):
    assert len(MODULES) == 9
    weighted = [layer for layer in network.layers if layer.weights]
    assert len(weighted) == 3 + 9 * 6 + 1
    assert 3 + 9 * 2 + 1 == 22  # the longest path takes two convolutions in each module


def by_hand(classes: int) -> int:
    """Weights and biases from table 1's columns."""
    total = (7 * 7 * 3 + 1) * 64 + (64 + 1) * 64 + (3 * 3 * 64 + 1) * 192
    given = 192
    for m in MODULES.values():
        total += (given + 1) * (m.one + m.reduce_three + m.reduce_five + m.pool)
        total += (9 * m.reduce_three + 1) * m.three + (25 * m.reduce_five + 1) * m.five
        given = m.one + m.three + m.five + m.pool
    return total + (given + 1) * classes


def test_the_parameters_are_as_many_as_in_the_published_network(network, backbone):
    assert network.count_params() == by_hand(1000) == 6_998_552  # of bvlc_googlenet, its auxiliary classifiers left out
    assert backbone.model.count_params() == by_hand(0) == 6_998_552 - 1025 * 1000


def test_the_auxiliary_classifiers_are_there_when_asked_for():
    with_them = googlenet(10, auxiliary=True)
    logits, first, second = with_them.outputs
    assert logits.shape == first.shape == second.shape == (None, 10)
    extra = with_them.count_params() - by_hand(10)
    units = (4 * 4 * 128 + 1) * 1024 + (1024 + 1) * 10
    assert extra == (512 + 1) * 128 + (528 + 1) * 128 + 2 * units


def test_normalisation_divides_by_the_neighbouring_channels():
    x = np.random.default_rng(0).normal(0, 30, (2, 3, 3, 7)).astype(np.float32)
    expected = np.empty_like(x)
    for c in range(7):
        near = x[..., max(0, c - 2) : c + 3]
        expected[..., c] = x[..., c] / (1 + 1e-4 / 5 * (near**2).sum(-1)) ** 0.75
    layer = LocalResponseNormalization()
    np.testing.assert_allclose(np.asarray(layer(x)), expected, rtol=1e-5)
    again = LocalResponseNormalization.from_config(layer.get_config())
    np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(layer(x)))
    with pytest.raises(ValueError, match="odd"):
        LocalResponseNormalization(4)


def test_the_first_convolution_pads_by_three_pixels_on_every_side_as_in_caffe(bare):
    stem = keras.Model(bare.input, bare.get_layer("conv1").output)
    image = np.random.default_rng(0).normal(0, 1, (1, 32, 32, 3)).astype(np.float32)
    kernel, bias = bare.get_layer("conv1").get_weights()
    corner = np.einsum("hwc,hwcf->f", image[0, :4, :4], kernel[3:, 3:]) + bias
    np.testing.assert_allclose(np.asarray(stem(image))[0, 0, 0], np.maximum(corner, 0), rtol=1e-4, atol=1e-5)


def test_as_a_backbone_it_takes_grey_and_subtracts_the_means_that_caffe_does(backbone, bare):
    assert (backbone.features, backbone.image_size) == (1024, 32)
    expected = bare(GREY.repeat(3, -1) - np.array([103.939, 116.779, 123.68], np.float32))
    np.testing.assert_allclose(np.asarray(backbone.model(GREY)), np.asarray(expected), rtol=1e-4, atol=1e-4)


def test_weights_from_a_file_are_the_saved_ones(backbone, tmp_path):
    backbone.model.save_weights(tmp_path / "own.weights.h5")
    again = load_backbone("GoogLeNet", str(tmp_path / "own.weights.h5"), 32, seed=2)
    assert again.weights_digest == backbone.weights_digest


def test_it_has_no_imagenet_weights_and_says_so():
    with pytest.raises(BackboneError, match="no public Keras file.*weights=none"):
        load_backbone("GoogLeNet", "imagenet", 32)


def test_openvino_runs_it_as_keras_does(backbone):
    engine = Engine("openvino", "float32", "a test")
    images = GREY[..., 0].astype(np.uint8)
    assert agrees(agreement(backbone, compile_backbone(backbone, engine, workers=1), images))
