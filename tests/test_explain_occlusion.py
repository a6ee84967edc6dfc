"""Occlusion maps: exact at every position, kept, and cheap where windows suffice."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from keras import layers

from helpers.explain.maps import from_head, from_logits
from helpers.explain.occlusion import Sweep, default_box, mean_drop, occlusion, positions
from helpers.explain.occlusion_windows import best_plan, cuts, make_plan, trace
from helpers.model.backbones import load_backbone
from helpers.model.engine import Engine, EngineError
from helpers.model.head import Head

CLASSES = ("ill", "well", "other")
SIZE, SIDE = 37, 5
ENGINE = Engine("keras", "float32")


def network(*blocks, size=SIZE, seed=3):
    """A tiny classifier with biases, odd sizes and a head strong enough for its probabilities to vary."""
    keras.utils.set_random_seed(seed)
    normal = keras.initializers.RandomNormal(stddev=6.0)
    inputs = keras.Input((size, size, 1))
    x = layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for block in blocks:
        x = block(x)
    x = layers.GlobalAveragePooling2D()(x)
    return from_logits(keras.Model(inputs, layers.Dense(3, kernel_initializer=normal)(x)), CLASSES)


def branching(x):
    """Every kind of layer that windows know: same and valid, strides, both pools, padding, add and concatenate."""
    x = layers.Conv2D(6, 3, 2, "same", activation="relu", bias_initializer="random_normal")(x)
    x = layers.BatchNormalization(beta_initializer="random_normal")(x)
    left = layers.Conv2D(6, 3, padding="same", bias_initializer="random_normal")(x)
    x = layers.Add()([x, left])
    x = layers.ZeroPadding2D(((0, 1), (1, 0)))(x)
    x = layers.DepthwiseConv2D(3, 2, "valid", bias_initializer="random_normal")(x)
    return layers.Concatenate()([layers.MaxPooling2D(3, 1)(x), layers.Conv2D(5, 3, activation="relu")(x)])


def small(size):
    """SmallNet, whose features are averages, maxima and mean squares of its stages, with a strong head."""
    keras.utils.set_random_seed(4)
    backbone = load_backbone("SmallNet", "none", size)
    normal = keras.initializers.RandomNormal(stddev=0.2)
    outputs = layers.Dense(3, kernel_initializer=normal)(backbone.model.output)
    return from_logits(keras.Model(backbone.model.input, outputs), CLASSES)


@pytest.fixture(scope="module")
def tiny():
    return network(branching)


@pytest.fixture(scope="module")
def image():
    return picture(SIZE)[None]


def picture(size, seed=5):
    return np.random.default_rng(seed).integers(0, 256, (size, size)).astype(np.uint8)


def every_corner(starts):
    return np.array([(top, left) for top in starts for left in starts])


def by_hand(classifier, image, corners, side, level):
    """Probabilities at every position, by blanking a copy of the image for each."""
    copies = np.repeat(image[None].astype(np.float32), len(corners), axis=0)
    for copy, (top, left) in zip(copies, corners, strict=True):
        copy[top : top + side, left : left + side] = level
    return np.asarray(classifier.model(copies[..., None], training=False))


def windows(classifier, image, plan=None, stride=1, side=SIDE):
    sweep = Sweep(classifier, side, stride, ENGINE, plan or best_plan(trace(classifier.model), side))
    sweep.take(image)
    return sweep


def check_windows(classifier, size, stride, plan=None):
    """Windows give the probabilities of the obvious way."""
    corners, image = every_corner(positions(size, SIDE, stride)), picture(size)
    expected = by_hand(classifier, image, corners, SIDE, 40)
    assert np.ptp(expected[:, 0]) > 0.01  # else anything would pass
    np.testing.assert_allclose(windows(classifier, image, plan, stride).at(40.0, corners), expected, atol=1e-5)


# Blocks of many positions and of few; images that end anywhere in a block.
@pytest.mark.parametrize(("size", "stride"), [(SIZE, 1), (SIZE, 3), (SIZE, 5), (32, 4), (33, 4), (47, 4)])
def test_windows_are_exact_at_any_stride_and_at_the_borders_of_images_of_any_size(size, stride):
    check_windows(network(branching, size=size), size, stride)


@pytest.mark.parametrize(("size", "stride"), [(32, 1), (45, 4)])
def test_all_of_smallnet_is_recomputed_in_windows_and_is_exact(size, stride):
    classifier = small(size)
    steps = trace(classifier.model)
    plan = make_plan(steps, cuts(steps)[-1], SIDE)
    assert plan.last == len(steps) - 1
    check_windows(classifier, size, stride, plan)


def test_windows_are_exact_wherever_the_network_is_cut(tiny):
    steps = trace(tiny.model)
    for last in cuts(steps)[::4]:
        check_windows(tiny, SIZE, 5, make_plan(steps, last, SIDE))


def test_an_unknown_layer_is_left_to_the_rest_of_the_network(image):
    classifier = network(layers.Conv2D(8, 3, 2, activation="relu"), layers.UpSampling2D(2))
    steps = trace(classifier.model)
    plan = best_plan(steps, SIDE)
    assert plan.last < len(steps) - 1 and steps[plan.last + 1].kind in ("point", "other")
    maps = occlusion(classifier, image, "ill", box=SIDE, stride=5)
    expected = by_hand(classifier, image[0], every_corner(maps.extra["starts"]), SIDE, 0)
    np.testing.assert_allclose(maps.extra["probabilities"][0].reshape(-1, 3), expected, atol=1e-5)


def test_a_map_keeps_every_probability_and_the_place_of_the_highest_drop(tiny, image):
    maps = occlusion(tiny, image, "ill", box=SIDE, stride=3)
    starts = maps.extra["starts"]
    expected = by_hand(tiny, image[0], every_corner(starts), SIDE, 0)
    assert starts[0] == 0 and starts[-1] == SIZE - SIDE
    np.testing.assert_allclose(maps.extra["probabilities"][0].reshape(-1, 3), expected, atol=1e-5)
    unoccluded = np.asarray(tiny.model(image[..., None].astype(np.float32)))
    np.testing.assert_allclose(maps.extra["unoccluded"], unoccluded, atol=1e-5)
    drops = (unoccluded[0, 0] - expected[:, 0]).reshape(len(starts), len(starts))
    row, column = np.unravel_index(drops.argmax(), drops.shape)
    assert maps.extra["peak"][0].tolist() == [starts[row] + SIDE // 2, starts[column] + SIDE // 2]
    np.testing.assert_allclose(maps.maps[0], mean_drop(drops, starts, SIDE, SIZE), atol=1e-5)


def test_a_pixel_is_the_mean_over_the_boxes_that_cover_it():
    starts = positions(11, 4, 3)
    drops = np.random.default_rng(0).normal(size=(len(starts), len(starts)))
    found = mean_drop(drops, starts, 4, 11)
    for row, column in np.ndindex(11, 11):
        rows = [a for a, top in enumerate(starts) if top <= row < top + 4]
        columns = [b for b, left in enumerate(starts) if left <= column < left + 4]
        assert found[row, column] == pytest.approx(drops[np.ix_(rows, columns)].mean(), abs=1e-6)


def test_an_image_of_299_pixels_has_the_papers_positions():
    assert default_box(299) == 20 and len(positions(299, 20)) ** 2 == 78_400 and default_box(128) == 9


def ones(model):
    return lambda rows, *_: np.ones((len(rows), *model.output_shape[1:]), np.float32)


def test_an_inexact_engine_is_refused(tiny, image, monkeypatch):
    monkeypatch.setattr("helpers.explain.occlusion.compile_model", lambda model, *_: ones(model))
    with pytest.raises(EngineError, match="off Keras"):
        occlusion(tiny, image, "ill", box=SIDE, stride=5)


def test_finished_images_are_not_made_again(tiny, image, tmp_path, monkeypatch):
    images, settings = np.stack([image[0], 255 - image[0]]), {"box": SIDE, "stride": 4, "cache": tmp_path}
    first = occlusion(tiny, images[:1], "ill", **settings)
    sweeps = []
    monkeypatch.setattr(Sweep, "at", lambda self, *given, at=Sweep.at: sweeps.append(1) or at(self, *given))
    both = occlusion(tiny, images, "well", **settings)
    np.testing.assert_array_equal(first.extra["probabilities"][0], both.extra["probabilities"][0])
    assert len(sweeps) == 2 and len(list(tmp_path.iterdir())) == 2  # one to compare with Keras
    occlusion(tiny, images[:1], "ill", **settings | {"stride": 5})  # other places make another map
    assert len(list(tmp_path.iterdir())) == 3


def test_settings_that_do_not_fit_are_refused(tiny, image):
    for settings in ({"box": 99}, {"stride": 9}):
        with pytest.raises(ValueError):
            occlusion(tiny, image, "ill", **({"box": SIDE} | settings))
    with pytest.raises(ValueError, match="did you mean ill"):
        occlusion(tiny, image, "il", SIDE)
    with pytest.raises(ValueError, match="uint8"):
        occlusion(tiny, image / 255, "ill", SIDE)


# --- the classifier --------------------------------------------------------------------------------------------------


def test_a_head_on_a_backbone_gives_the_heads_probabilities():
    backbone, random = load_backbone("SmallNet", "none", 32), np.random.default_rng(0)
    kernel = random.normal(size=(backbone.features, 3)).astype(np.float32)
    head = Head(CLASSES, kernel, np.array([0.1, 0.2, 0.3], np.float32), 0, 0.0)
    classifier = from_head(backbone, head)
    images = random.integers(0, 256, (5, 32, 32)).astype(np.uint8)
    expected = head.predict(np.asarray(backbone.model(images[..., None].astype(np.float32), training=False)))
    np.testing.assert_allclose(classifier.predictor()(images), expected, atol=1e-5)
