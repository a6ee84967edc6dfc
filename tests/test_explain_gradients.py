"""Saliency and class activation maps: correct on networks whose answer is known, complete where theory promises it."""

import keras
import numpy as np
import pytest

from helpers.explain.gradients import class_activation, enlarged, gradient, integrated_gradients, smoothgrad
from helpers.explain.maps import from_logits

SIZE = 12
CLASSES = ("A", "B", "C")


def linear(seed=0, dead=False):
    """logits = pixels x weights + bias: its gradient is the weights."""
    inputs = keras.Input((SIZE, SIZE, 1))
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(inputs)))
    random = np.random.default_rng(seed)
    weights = np.zeros((SIZE**2, 3)) if dead else random.normal(0, 0.004, (SIZE**2, 3))
    model.set_weights([weights.astype(np.float32), random.normal(size=3).astype(np.float32)])
    return from_logits(model, CLASSES), weights.reshape(SIZE, SIZE, 3)


def curved(seed=0):
    """A small network with ReLU6, as MobileNet's, and a bend in it."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE, SIZE, 1))
    x = keras.layers.Rescaling(1 / 40, -2)(inputs)
    x = keras.layers.ReLU(6.0)(keras.layers.Conv2D(4, 3, strides=2)(x))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3, activation="relu")(x))
    return from_logits(keras.Model(inputs, keras.layers.Dense(3)(x)), CLASSES)


def pictures(n=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, SIZE, SIZE)).astype(np.uint8)


@pytest.mark.parametrize("method", [gradient, smoothgrad])  # noise cancels
def test_the_slope_of_a_linear_network_is_its_weights(method):
    classifier, weights = linear()
    found = method(classifier, pictures(), ["A", "C", "B"])
    assert found.maps == pytest.approx(np.abs(weights[..., [0, 2, 1]]).transpose(2, 0, 1), rel=1e-4)
    assert found.maps.dtype == np.float32
    path = integrated_gradients(classifier, pictures(1), "C")
    assert path.maps[0] == pytest.approx(weights[..., 2] * pictures(1)[0], abs=1e-4)


def test_integrated_gradients_sum_to_the_difference_of_the_logits(monkeypatch):
    monkeypatch.setattr("helpers.explain.gradients.TOLERANCE", 0.01)
    classifier, images = curved(), pictures()
    found = integrated_gradients(classifier, images, "B")
    own, base = (classifier.logits_model.predict_on_batch(one[..., None]) for one in (images, 0 * images))
    difference = (own - base)[:, 1]
    assert found.maps.sum(axis=(1, 2)) == pytest.approx(difference, abs=0.011 * max(1, np.abs(difference).max()))


def test_too_few_steps_give_a_warning(monkeypatch):
    monkeypatch.setattr("helpers.explain.gradients.TOLERANCE", 1e-5)
    monkeypatch.setattr("helpers.explain.gradients.STEPS", (1,))
    with pytest.warns(UserWarning, match="of 3 sums are off"):
        integrated_gradients(curved(), pictures(), "A")


@pytest.mark.parametrize("method", [gradient, smoothgrad, integrated_gradients])
def test_a_network_that_looks_at_nothing_has_an_empty_map(method):
    assert np.abs(method(linear(dead=True)[0], pictures(1), "A").maps).max() == 0


@pytest.mark.parametrize("method", [gradient, smoothgrad, integrated_gradients])
def test_a_map_does_not_depend_on_other_images(method):
    classifier, images = curved(), pictures(5)
    together = method(classifier, images, "A").maps
    assert together[3:4] == pytest.approx(method(classifier, images[3:4], "A").maps, rel=1e-4, abs=1e-7)


def test_what_does_not_fit_is_refused():
    classifier = curved()
    with pytest.raises(ValueError, match="no class 'D'"):
        gradient(classifier, pictures(), "D")
    with pytest.raises(ValueError, match="uint8"):
        gradient(classifier, pictures().astype(float), "A")


# --- class activation ------------------------------------------------------------------------------------------------


def multilabel(seed=0):
    """Averages and maxima of one stage and maxima of the next, under one linear layer."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE, SIZE, 1))
    first = keras.layers.Conv2D(4, 3, 2, "same")(keras.layers.Rescaling(1 / 40, -2)(inputs))
    second = keras.layers.Conv2D(5, 3, 2, "same")(first)
    average, maximum = keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D
    pooled = [average()(first), maximum()(first), maximum()(second)]
    logits = keras.layers.Dense(2, bias_initializer="ones")(keras.layers.Concatenate()(pooled))
    return from_logits(keras.Model(inputs, logits), ("Effusion", "Mass"), "sigmoid")


def test_a_class_activation_map_adds_up_to_the_logit_less_the_bias():
    network, images = multilabel(), pictures(5)
    maps = class_activation(network, images, ["Mass", "Effusion", "Mass", "Mass", "Effusion"])
    logits = np.asarray(network.logits_model(images[..., None].astype(np.float32)))
    expected = logits[np.arange(5), [1, 0, 1, 1, 0]]
    np.testing.assert_allclose(maps.maps.sum(axis=(1, 2)) + 1, expected, rtol=1e-3, atol=1e-3)
    chances = np.asarray(network.model(images[..., None].astype(np.float32)))
    np.testing.assert_allclose(chances, 1 / (1 + np.exp(-logits)), rtol=1e-4)


def test_with_a_reference_a_map_adds_up_to_the_difference_from_its_mean_logit():
    network, images, reference = multilabel(), pictures(2), pictures(7, seed=3)
    maps = class_activation(network, images, "Mass", reference)
    own, others = (np.asarray(network.logits_model(one[..., None] * 1.0))[:, 1] for one in (images, reference))
    np.testing.assert_allclose(maps.maps.sum(axis=(1, 2)), own - others.mean(), rtol=1e-3, atol=2e-3)


def test_an_enlarged_map_keeps_its_sum_and_its_place():
    coarse = np.zeros((1, 4, 4), np.float32)
    coarse[0, 1, 2] = 3.0
    fine = enlarged(coarse, 32)
    assert fine.sum() == pytest.approx(3.0, rel=1e-4)
    row, column = np.unravel_index(fine[0].argmax(), (32, 32))
    assert 8 <= row < 16 and 16 <= column < 24
