"""Saliency maps: right on a network whose gradient is known, complete where theory promises it."""

import keras
import numpy as np
import pytest

from helpers.explain import from_model
from helpers.explain.gradients import IncompleteMap, gradient, gradients_of, integrated_gradients, smoothgrad

SIZE = 12
CLASSES = ("A", "B", "C")


def linear(seed=0, dead=False):
    """logits = pixels x weights + bias: its gradient is the weights."""
    inputs = keras.Input((SIZE, SIZE, 1))
    outputs = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    random = np.random.default_rng(seed)
    weights = np.zeros((SIZE**2, 3)) if dead else random.normal(0, 0.004, (SIZE**2, 3))
    model.set_weights([weights.astype(np.float32), random.normal(size=3).astype(np.float32)])
    return from_model(model, CLASSES), weights.reshape(SIZE, SIZE, 3)


def curved(seed=0):
    """A small network with ReLU6, as MobileNet's, and a bend in it."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE, SIZE, 1))
    x = keras.layers.Rescaling(1 / 40, -2)(inputs)
    x = keras.layers.ReLU(6.0)(keras.layers.Conv2D(4, 3, strides=2)(x))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3, activation="relu")(x))
    return from_model(keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x)), CLASSES)


def pictures(n=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, SIZE, SIZE)).astype(np.uint8)


def test_the_gradient_of_a_linear_network_is_its_weights():
    classifier, weights = linear()
    found = gradient(classifier, pictures(), ["A", "C", "B"])
    assert found.maps == pytest.approx(np.abs(weights[..., [0, 2, 1]]).transpose(2, 0, 1), rel=1e-4)
    assert found.target == ("A", "C", "B") and found.maps.dtype == np.float32


def test_smoothgrad_of_a_linear_network_is_the_same_as_noise_cancels():
    classifier, weights = linear()
    found = smoothgrad(classifier, pictures(1), "A", samples=7, batch_size=3)
    assert found.maps[0] == pytest.approx(np.abs(weights[..., 0]), rel=1e-4)


def test_the_log_probability_also_counts_what_speaks_for_other_classes():
    classifier, weights = linear()
    image = pictures(1)
    chance = np.asarray(classifier.model(image[..., None].astype(np.float32)))[0]
    expected = weights[..., 1] - weights @ chance
    found = gradient(classifier, image, "B", score="log_probability")
    assert found.maps[0] == pytest.approx(np.abs(expected), abs=1e-6)


def test_gradients_agree_with_differences():
    classifier, image = curved(), pictures(1)[0].astype(np.float32)
    slope = gradients_of(classifier)
    found = slope(image[None], np.array([1]))[0][0]
    for row, column in ((2, 3), (6, 6), (9, 4)):
        there = np.repeat(image[None], 2, axis=0)
        there[:, row, column] += (-0.05, 0.05)
        low, high = slope(there, np.array([1, 1]))[1]
        assert found[row, column] == pytest.approx((high - low) / 0.1, rel=0.05, abs=2e-4)


@pytest.mark.parametrize("score", ["logit", "log_probability"])
@pytest.mark.parametrize("baseline", [0.0, 90.0, np.full((SIZE, SIZE), 30.0)])
def test_integrated_gradients_sum_to_the_difference_of_the_scores(score, baseline):
    classifier, images = curved(), pictures()
    found = integrated_gradients(classifier, images, "B", baseline=baseline, score=score, tolerance=0.01)
    slope = gradients_of(classifier, score)
    start = np.broadcast_to(np.asarray(baseline, np.float32), images.shape)
    difference = slope(images, np.ones(3))[1] - slope(start, np.ones(3))[1]
    assert found.extra["difference"] == pytest.approx(difference, abs=1e-5)
    assert found.maps.sum(axis=(1, 2)) == pytest.approx(difference, abs=0.011 * max(1, np.abs(difference).max()))
    assert found.extra["gap"] == pytest.approx(found.maps.sum(axis=(1, 2)) - difference, abs=1e-4)


def test_integrated_gradients_of_a_linear_network_are_exact_with_one_step():
    classifier, weights = linear()
    image = pictures(1)
    found = integrated_gradients(classifier, image, "C", baseline=10.0, steps=1, most_steps=1)
    assert found.maps[0] == pytest.approx(weights[..., 2] * (image[0] - 10.0), abs=1e-4)


def test_too_few_steps_are_said_to_be_too_few():
    with pytest.warns(IncompleteMap, match="of 3 sums are off"):
        integrated_gradients(curved(), pictures(), "A", steps=1, most_steps=1, tolerance=1e-5)


@pytest.mark.parametrize("method", [gradient, smoothgrad, integrated_gradients])
def test_a_network_that_looks_at_nothing_has_an_empty_map(method):
    found = method(linear(dead=True)[0], pictures(1), "A")
    assert np.abs(found.maps).max() == 0


@pytest.mark.parametrize("method", [gradient, smoothgrad, integrated_gradients])
def test_maps_do_not_depend_on_the_batch_or_on_other_images(method):
    classifier, images = curved(), pictures(5)
    together = method(classifier, images, "A", batch_size=2).maps
    assert together[3:4] == pytest.approx(method(classifier, images[3:4], "A").maps, rel=1e-4, abs=1e-7)


def test_what_does_not_fit_is_refused():
    classifier = curved()
    with pytest.raises(ValueError, match="no score 'probability'"):
        gradient(classifier, pictures(), "A", score="probability")
    with pytest.raises(ValueError, match="no class 'D'"):
        gradient(classifier, pictures(), "D")
    with pytest.raises(ValueError, match="uint8"):
        gradient(classifier, pictures().astype(float), "A")
    with pytest.raises(ValueError, match="samples = 0"):
        smoothgrad(classifier, pictures(), "A", samples=0)
    with pytest.raises(ValueError, match="steps = 0"):
        integrated_gradients(classifier, pictures(), "A", steps=0)
