"""Shapley maps: the closed form of a linear model, completeness, and backgrounds that are known."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_explain_gradients import SIZE, curved, linear, pictures

from helpers.data.catalogue import Catalogue
from helpers.explain.gradients import choose_background, gradient_shap

BEHIND = pictures(4, seed=9)


def test_expected_gradients_of_a_linear_model_are_the_closed_form_within_their_error():
    classifier, weights = linear()
    images = pictures(2)
    found = gradient_shap(classifier, images, ["A", "B"], background=BEHIND, samples=400)
    away = images - BEHIND.mean(axis=0)
    exact = weights[..., [0, 1]].transpose(2, 0, 1) * away
    spread = np.abs(weights[..., [0, 1]].transpose(2, 0, 1)) * BEHIND.std(axis=0)
    assert (np.abs(found.maps - exact) <= 5 * spread / np.sqrt(400) + 1e-5).all()


def test_the_seed_decides_and_numpys_own_generator_is_left_alone():
    classifier, images = curved(), pictures(2)
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    first = gradient_shap(classifier, images, "A", background=BEHIND, samples=32, seed=1)
    assert np.random.rand() == expected
    again = gradient_shap(classifier, images[1:], "A", background=BEHIND, samples=32, seed=1)
    other = gradient_shap(classifier, images[1:], "A", background=BEHIND, samples=32, seed=2)
    assert first.maps[1] == pytest.approx(again.maps[0], abs=1e-6)
    assert np.abs(other.maps - again.maps).max() > 1e-5


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="classifier takes"):
        gradient_shap(curved(), pictures(1), "A", background=np.zeros((2, 5, 5), np.uint8), samples=8)


def catalogue(root, split="train"):
    rows = []
    for label in ("A", "B"):
        for number in range(6):
            name = f"{label}{number}.png"
            Image.fromarray(np.full((20, 30), 10 * number, np.uint8)).save(root / name)
            rows.append((name, name, label, f"{label}{number // 2}", split, "0" * 64))
    columns = ["image_id", "path", "label", "patient_id", "published_split", "digest"]
    return Catalogue("made", root, pd.DataFrame(rows, columns=columns), ("A", "B"))


def test_background_images_are_training_images_of_each_class_and_of_different_patients(tmp_path):
    found = choose_background(catalogue(tmp_path), SIZE, per_class=3, seed=4)
    assert found.shape == (6, SIZE, SIZE) and found.dtype == np.uint8
    assert len({int(image[0, 0]) // 20 for image in found[:3]}) == 3  # of three patients
    np.testing.assert_array_equal(found, choose_background(catalogue(tmp_path), SIZE, per_class=3, seed=4))
    with pytest.raises(ValueError, match="training data"):
        choose_background(catalogue(tmp_path, "test"), SIZE)
