"""Shapley maps: the closed form of a linear model, completeness, and backgrounds that are known."""

import os
from types import SimpleNamespace

os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # shap's tree of a tiny image is built sooner than it is compiled

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_explain_gradients import SIZE, curved, linear, pictures

from helpers.data.catalogue import Catalogue
from helpers.explain.shapley import Background, choose_background, gradient_shap, partition_shap

BEHIND = Background(pictures(4, seed=9), ("a", "b", "c", "d"), 9)


class Linear(SimpleNamespace):
    """A classifier whose 'probabilities' are linear in the pixels, so that its Shapley values are known."""

    def predictor(self, **_):
        return lambda images: np.asarray(images, float).reshape(len(images), -1) @ self.weights.reshape(-1, 3)


def linear_probability():
    weights = np.random.default_rng(2).normal(0, 1e-3, (SIZE, SIZE, 3))
    return Linear(classes=("A", "B", "C"), image_size=SIZE, key="linear", weights=weights)


def test_partition_values_of_a_linear_model_equal_the_closed_form():
    model, images = linear_probability(), pictures(2)
    found = partition_shap(model, images, ["A", "C"], background=BEHIND, cell=1, evaluations=SIZE**4)
    away = images - np.round(BEHIND.images.mean(axis=0))
    assert found.maps == pytest.approx(model.weights[..., [0, 2]].transpose(2, 0, 1) * away, abs=1e-5)


def test_a_cell_shares_its_value_and_cells_that_do_not_fit_lose_nothing():
    model, images = linear_probability(), pictures(1)
    found = partition_shap(model, images, "B", background=BEHIND, cell=5, evaluations=200)
    away = (images - np.round(BEHIND.images.mean(axis=0)))[0] * model.weights[..., 1]
    assert found.maps[0, :5, :5] == pytest.approx(np.full((5, 5), away[:5, :5].mean()), abs=1e-5)
    assert found.maps[0, 10:, 10:] == pytest.approx(np.full((2, 2), away[10:, 10:].mean()), abs=1e-5)
    assert found.extra["gap"] == pytest.approx([0], abs=1e-5)


@pytest.mark.parametrize("score", ["probability", "log_odds"])
def test_partition_values_are_complete_however_few_evaluations_there_are(score):
    classifier, images = curved(), pictures(2)
    predict = classifier.predictor("keras", "float32")
    found = partition_shap(
        classifier, images, "B", background=BEHIND, evaluations=30, cell=2, score=score, predict=predict
    )
    blank = np.round(BEHIND.images.mean(axis=0)).astype(np.uint8)
    chance = predict(np.stack([*images, blank]))[:, 1].astype(float)
    given = chance if score == "probability" else np.log(chance / (1 - chance))
    assert found.extra["difference"] == pytest.approx(given[:2] - given[2], abs=1e-6)
    assert found.maps.sum(axis=(1, 2)) == pytest.approx(given[:2] - given[2], abs=1e-4)


def test_expected_gradients_of_a_linear_model_are_the_closed_form_within_their_error():
    classifier, weights = linear()
    images = pictures(2)
    found = gradient_shap(classifier, images, ["A", "B"], background=BEHIND, samples=800)
    away = images - BEHIND.images.mean(axis=0)
    exact = weights[..., [0, 1]].transpose(2, 0, 1) * away
    spread = np.abs(weights[..., [0, 1]].transpose(2, 0, 1)) * BEHIND.images.std(axis=0)
    assert (np.abs(found.maps - exact) <= 5 * spread / np.sqrt(800) + 1e-5).all()
    assert found.extra["difference"] == pytest.approx(exact.sum(axis=(1, 2)), abs=1e-3)


def test_expected_gradients_are_complete_in_expectation_within_the_stated_error():
    classifier, images = curved(), pictures(3)
    runs = [gradient_shap(classifier, images, "A", background=BEHIND, samples=80, seed=s) for s in range(12)]
    gaps, errors = (np.array([run.extra[name] for run in runs]) for name in ("gap", "error"))
    assert (errors > 0).all()
    # The error as stated is the deviation of the gap, and the gap has mean 0.
    assert np.sqrt((errors**2).mean()) == pytest.approx(np.sqrt((gaps**2).mean()), rel=0.5)
    assert (np.abs(gaps.mean(axis=0)) < 4 * np.sqrt((errors**2).mean(axis=0) / len(runs))).all()


def test_a_wrong_background_mean_would_be_noticed():
    classifier, images = curved(), pictures(1)
    other = Background(np.full((1, SIZE, SIZE), 255, np.uint8), ("white",), 1)
    found = gradient_shap(classifier, images, "A", background=BEHIND, samples=400)
    elsewhere = gradient_shap(classifier, images, "A", background=other, samples=400)
    assert abs(found.maps.sum() - elsewhere.extra["difference"][0]) > 5 * found.extra["error"][0]


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


def test_settings_say_which_background_it_was():
    found = gradient_shap(curved(), pictures(1), "A", background=BEHIND, samples=16)
    assert found.settings["background"]["image_ids"] == ["a", "b", "c", "d"]
    assert found.settings["background"]["seed"] == 9 and len(found.settings["background"]["digest"]) == 16


def test_what_does_not_fit_is_refused():
    classifier, images = curved(), pictures(1)
    with pytest.raises(ValueError, match="samples = 8"):
        gradient_shap(classifier, images, "A", background=BEHIND, samples=8)
    with pytest.raises(ValueError, match="background images are"):
        gradient_shap(classifier, images, "A", background=Background(np.zeros((2, 5, 5), np.uint8), ("a", "b"), 1))
    with pytest.raises(ValueError, match="score = 'logit'"):
        partition_shap(classifier, images, "A", background=BEHIND, score="logit")


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
    assert found.images.shape == (6, SIZE, SIZE) and found.images.dtype == np.uint8
    assert sorted(name[0] for name in found.image_ids) == ["A"] * 3 + ["B"] * 3
    assert len({(name[0], int(name[1]) // 2) for name in found.image_ids}) == 6
    assert found.image_ids == choose_background(catalogue(tmp_path), SIZE, per_class=3, seed=4).image_ids


def test_test_images_are_no_background(tmp_path):
    with pytest.raises(ValueError, match="training data"):
        choose_background(catalogue(tmp_path, "test"), SIZE)
