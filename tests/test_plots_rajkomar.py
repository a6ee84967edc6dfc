"""Rajkomar's figures draw at print size, say what is true, and show what was not run as that."""

import numpy as np
import pytest
from figure_contract import assert_drawn, words_of

from helpers.metrics.classification import youden_curve, youden_plateau
from helpers.metrics.comparison import compare_clustered, compare_pooled
from helpers.metrics.estimate import Estimate
from helpers.metrics.proportions import proportion
from helpers.rajkomar import figures as rajkomar
from helpers.rajkomar.data import TRANSFORMS
from helpers.rajkomar.rajkomar_flow import COUNTS, flow

RANDOM = np.random.default_rng(0)
PRE, TUNE = ("colour", "full grey", "subset grey"), ("last layer", "last layer, augmented", "all layers, augmented")
MODELS = {(a, b): proportion(90 + 2 * i + j, 100) for i, a in enumerate(PRE) for j, b in enumerate(TUNE)} | {
    ("subset grey", TUNE[2]): None
}
PAPER = compare_pooled(990, 1000, 930, 1000)
PARENTS = np.repeat(np.arange(50), 20)
BY_PARENT = compare_clustered(RANDOM.random(1000) < 0.95, PARENTS, RANDOM.random(1000) < 0.95, PARENTS + 50)
ABOVE = [rajkomar.Pools(("full grey", "subset grey"), ("colour",), PAPER, BY_PARENT)]
BESIDE = [rajkomar.Pools(TUNE[1:2], TUNE[:1], PAPER)]
FRONTAL = np.repeat([True, False], 50)
PFI = np.concatenate([RANDOM.uniform(0.9, 1, 50), RANDOM.uniform(0, 0.1, 50)])
IMAGE = RANDOM.integers(0, 255, (40, 40), dtype=np.uint8)
VERSIONS = {view: {name: IMAGE for name in TRANSFORMS} for view in ("frontal", "lateral")}
SAID = {view: {name: 0.9712 for name in TRANSFORMS} for view in VERSIONS}
ACCURACY = {name: {"all images": proportion(80, 90), "frontal": proportion(50, 50)} for name in TRANSFORMS}

DRAWN = {
    "figure 1": (lambda: flow(dict.fromkeys(COUNTS, 1234), "ImageNet", "radiographs", "Open-i"), "1,234 children"),
    "figure 2": (lambda: rajkomar.validation_accuracy(MODELS, ABOVE, BESIDE), "99.0 vs 93.0 %, p < 0.001"),
    "figure 3": (lambda: rajkomar.pfi_histogram(FRONTAL, PFI), "lateral (50 images)"),
    "figure 3, logarithmic": (lambda: rajkomar.pfi_histogram(FRONTAL, PFI, log=True), "frontal (50 images)"),
    "figure 4": (
        lambda: rajkomar.examples([IMAGE] * 5, ["frontal"] * 5, [0.9996] * 5),
        "frontal 99.96 %\nlateral 0.04 %",
    ),
    "figure 5": (
        lambda: rajkomar.youden_curve(youden_curve(FRONTAL, PFI), youden_plateau(FRONTAL, PFI), 0.5),
        "chosen on validation",
    ),
    "figure 6": (lambda: rajkomar.transformed_images(VERSIONS, SAID), "frontal 97.12 %\nlateral 2.88 %"),
    "all under each transform": (lambda: rajkomar.transform_accuracy(ACCURACY), "Top half obscured"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_draws_at_print_size_with_its_words(name, tmp_path):
    draw, words = DRAWN[name]
    assert_drawn(draw(), words, tmp_path)


def test_a_count_that_is_not_known_is_drawn_as_not_run_and_none_is_made_up():
    words = words_of(flow({"collected": 10, "train": 7}, "formulas", "phantoms"))
    assert "10 images" in words and "7 images" in words and words.count("not run") == 8
    assert not any(published in words for published in ("1885", "1,885", "119,674", "376", "1,000"))


def test_an_unknown_count_is_refused():
    with pytest.raises(ValueError, match="training"):
        flow({"training": 3}, "formulas", "phantoms")


def test_a_model_that_was_not_run_has_no_dot():
    figure = rajkomar.validation_accuracy(MODELS)
    assert words_of(figure).count("not run") == 1
    dots = [line for line in figure.axes[0].lines if line.get_marker() in "osD" and len(line.get_xdata()) == 1]
    assert len(dots) == 8


def test_both_tests_stand_in_the_comparison():
    words = ABOVE[0].words()
    assert words.startswith("99.0 vs 93.0 %, p < 0.001 (by parent: p = ") and "by parent" not in BESIDE[0].words()


def test_every_image_is_in_one_bin_of_the_histogram():
    figure = rajkomar.pfi_histogram([True, False, False], [1.0, 0.0, 0.005])
    heights = [patch.get_height() for patch in figure.axes[0].patches]
    assert sum(heights) == 3 and len(heights) == 2 * 101


def test_labels_above_the_curve_hold_for_every_image():
    frontal, pfi = [True, True, False, False], [0.9961, 1.0, 0.1421, 0.0]
    words = words_of(rajkomar.youden_curve(youden_curve(frontal, pfi), youden_plateau(frontal, pfi)))
    assert "lateral: all ≤ 14.3 %" in words and "frontal: all ≥ 99.6 %" in words and "cut-off 99.6 %" in words


def test_a_measure_that_is_undefined_is_left_out():
    found = {"Original": {"all images": proportion(3, 4), "lateral": Estimate.undefined(0, "x", "none")}}
    assert "Original" in words_of(rajkomar.transform_accuracy(found))
