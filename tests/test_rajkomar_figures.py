"""Rajkomar's figures draw, show the numbers that they are given, and what was not run as that."""

import numpy as np
from figure_checks import drawing_test, words_of

from helpers.metrics.classification import youden_curve, youden_plateau
from helpers.metrics.comparison import compare_pooled
from helpers.metrics.estimate import proportion
from helpers.rajkomar import figures as rajkomar
from helpers.rajkomar.data import TRANSFORMS
from helpers.rajkomar.numbers import Answer

RANDOM = np.random.default_rng(0)
PRE, TUNE = ("colour", "full grey", "subset grey"), ("last layer", "last layer, augmented", "all layers, augmented")
MODELS = {(a, b): proportion(90 + 2 * i + j, 100) for i, a in enumerate(PRE) for j, b in enumerate(TUNE)}
MODELS["subset grey", TUNE[2]] = None
TESTS = compare_pooled(990, 1000, 930, 1000), compare_pooled(99, 100, 93, 100)
FOUND = rajkomar.describe_tests(Answer(((), ()), TESTS, (), 0.06))
ABOVE, BESIDE = [(("full grey", "subset grey"), ("colour",), FOUND)], [(TUNE[1:2], TUNE[:1], FOUND)]
FRONTAL = np.repeat([True, False], 50)
PFI = np.concatenate([RANDOM.uniform(0.9, 1, 50), RANDOM.uniform(0, 0.1, 50)])
CURVE = youden_curve(FRONTAL, PFI)
IMAGE = RANDOM.integers(0, 255, (40, 40), dtype=np.uint8)
VERSIONS = {view: {name: IMAGE for name in TRANSFORMS} for view in ("frontal", "lateral")}
PROBABILITIES = {view: {name: 0.9712 for name in TRANSFORMS} for view in VERSIONS}
COUNTS = dict.fromkeys([*rajkomar.COUNTS, "patients", "excluded"], 1234)

DRAWN = {
    "figure 1": (lambda: rajkomar.flow(COUNTS, "ImageNet", "radiographs", "Open-i", "9"), "1,234 children"),
    "figure 2": (lambda: rajkomar.validation_accuracy(MODELS, ABOVE, BESIDE), "99.0 vs 93.0 %, p < 0.001"),
    "figure 3": (lambda: rajkomar.pfi_histogram(FRONTAL, PFI), "lateral (50 images)"),
    "figure 4": (lambda: rajkomar.examples([IMAGE] * 5, ["frontal"] * 5, [0.9996] * 5), "> 99.9 %\nlateral < 0.1 %"),
    "figure 5": (lambda: rajkomar.youden_curve(CURVE, youden_plateau(FRONTAL, PFI), 0.5), "chosen on validation"),
    "figure 6": (lambda: rajkomar.transformed_images(VERSIONS, PROBABILITIES), "lateral 2.9 %"),
}

test_figures_draw = drawing_test(DRAWN)


def test_the_flow_shows_what_was_not_run():
    words = words_of(rajkomar.flow({"collected": 20, "patients": 7}, "a", "b", "", "9"))
    assert "20 images of 7 patients" in words and words.count("not run") == 9


def test_a_model_that_did_not_run_leaves_its_place_empty():
    assert words_of(rajkomar.validation_accuracy(MODELS)).count("not run") == 1


def test_the_words_above_the_youden_curve_stay_true_when_rounded():
    truth, pfi = [True, True, False, False], [0.70012, 0.9, 0.20012, 0.1]
    words = words_of(rajkomar.youden_curve(youden_curve(truth, pfi), youden_plateau(truth, pfi), 0.5))
    assert "lateral: all ≤ 20.1 %" in words and "frontal: all ≥ 70.0 %" in words


def test_every_bin_of_a_per_cent_holds_its_images():
    axes = rajkomar.pfi_histogram([True, True, False, False], [1.0, 0.995, 0.0, 0.005]).axes[0]
    heights = np.array([bar.get_height() for bar in axes.patches]).reshape(2, 101)
    assert heights[0, 0] == 2 and heights[1, 99] == 1 and heights[1, 100] == 1
