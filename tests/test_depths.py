"""Features from several depths: which maps they come from, and that nothing else changes."""

import numpy as np
import pytest

from helpers.model.backbones import load_backbone
from helpers.model.depths import averaged, last_maps, with_depths


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("MobileNetV2", "none", 96, 1)


def test_the_last_maps_are_those_before_each_halving(backbone):
    shapes = [tuple(x.shape[1:]) for x in last_maps(backbone.model)]
    assert shapes == [(48, 48, 96), (24, 24, 144), (12, 12, 192), (6, 6, 576), (3, 3, 1280)]


def test_features_are_the_averages_of_the_last_maps_the_deepest_last(backbone):
    import keras

    deep = with_depths(backbone, 3)
    assert deep.features == 192 + 576 + 1280 and deep.weights_digest == backbone.weights_digest
    images = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 1)).astype(np.float32)
    maps = keras.Model(backbone.model.input, last_maps(backbone.model)[-3:]).predict_on_batch(images)
    expected = np.concatenate([x.mean(axis=(1, 2)) for x in maps], axis=1)
    np.testing.assert_allclose(deep.model.predict_on_batch(images), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(expected[:, -1280:], backbone.model.predict_on_batch(images), rtol=1e-4, atol=1e-5)


def test_one_depth_is_the_backbone_itself_and_too_many_are_refused(backbone):
    assert with_depths(backbone, 1) is backbone
    with pytest.raises(ValueError, match="maps of 5 resolutions"):
        with_depths(backbone, 6)


def test_averages_alone_are_the_means_of_the_last_maps():
    import keras

    backbone = load_backbone("SmallNet", "none", 64)
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype(np.float32)
    for depths, width in ((1, 128), (2, 80 + 128), (3, 48 + 80 + 128)):
        made = averaged(backbone, depths)
        found = made.model.predict_on_batch(image)
        means = [keras.Model(backbone.model.input, x).predict_on_batch(image).mean(axis=(1, 2))
                 for x in last_maps(backbone.model)[-depths:]]  # fmt: skip
        assert made.features == width and made.weights_digest != backbone.weights_digest
        np.testing.assert_allclose(found, np.concatenate(means, axis=1), rtol=1e-4, atol=1e-5)
    assert averaged(backbone, 0) is backbone
    with pytest.raises(ValueError, match="depths = 9"):
        averaged(backbone, 9)
