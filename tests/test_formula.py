"""Images made from formulas: the same from a seed, different in class, and made so that classes can be told apart."""

import hashlib

import numpy as np
import pytest

from tools.formula import LUMA, classes_digest, formula_classes, formula_image, formula_images

SIZE = 48
LABELS = range(len(formula_classes()))


def test_there_are_many_classes_with_names_of_their_own():
    assert 40 <= len(formula_classes()) == len(set(formula_classes()))


@pytest.mark.parametrize("label", LABELS, ids=formula_classes())
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


def test_ranges_of_numbers_give_disjoint_images():
    first, _ = formula_images(2, seed=2, size=16)
    rest, _ = formula_images(1, seed=2, size=16, first=1)
    assert np.array_equal(first[1::2], rest)
    assert not np.array_equal(first[::2], rest)


def test_the_grey_image_is_the_colour_image_without_its_colour():
    for label in LABELS[::9]:
        colour = formula_image(label, 1, size=SIZE).astype(float) @ LUMA
        grey = formula_image(label, 1, size=SIZE, colour=False)
        assert grey.shape == (SIZE, SIZE, 1)
        assert np.corrcoef(colour.ravel(), grey.ravel())[0, 1] > 0.9


def test_colour_and_brightness_do_not_tell_the_class():
    means = np.array([[formula_image(k, n, size=16).mean((0, 1)) for n in range(8)] for k in (0, 30, 60)])
    assert means.std(axis=1).mean() > means.mean(axis=1).std(axis=0).mean()


def test_packaged_weights_were_trained_on_the_classes_as_they_are_now():
    from helpers.model import formula_weights

    assert {formula_weights.record(word)["classes_digest"] for word in formula_weights.FILES} == {classes_digest()}


def test_packaged_features_tell_unseen_images_of_the_classes_apart():
    pytest.importorskip("keras")
    from helpers.model.backbones import load_backbone

    chosen, shots = list(LABELS[::8]), 4
    images = np.stack([formula_image(k, n, seed=99, colour=False) for k in chosen for n in range(shots)])
    truth = np.repeat(np.arange(len(chosen)), shots)

    def nearest_agrees(weights: str) -> float:
        x = np.asarray(load_backbone("SmallNet", weights, 96).model(images.astype(np.float32), training=False))
        x = (x - x.mean(0)) / (x.std(0) + 1e-6)
        distance = ((x[:, None] - x[None]) ** 2).sum(-1) + 1e9 * np.eye(len(x))
        return float((truth[distance.argmin(1)] == truth).mean())

    learnt = nearest_agrees("formula")
    assert learnt > 0.6
    assert learnt > nearest_agrees("none")
