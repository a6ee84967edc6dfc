"""Kermany's figures draw, and show the numbers that they are given."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from figure_checks import drawing_test, words_of

from helpers.kermany import figures as kermany
from helpers.metrics.auroc import auroc
from helpers.metrics.classification import COLUMNS, reliability
from helpers.metrics.estimate import Estimate

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
RANDOM = np.random.default_rng(0)
TRUTH = np.repeat([True, False], 60)
SCORE = 1 / (1 + np.exp(-(3 * TRUTH - 1.5 + RANDOM.normal(0, 1, 120))))
CURVE = (TRUTH, SCORE, auroc(TRUTH, SCORE))
AREA = Estimate(0.9, 0.85, 0.95, 80, "DeLong")
TABLE = pd.DataFrame(RANDOM.integers(1, 9, (4, 4)), index=CLASSES, columns=CLASSES)
POINTS = pd.DataFrame(product(("trained", "random"), (10, 20), (1, 2)), columns=["initialisation", "per_class", "seed"])
POINTS["accuracy"] = 0.5 + POINTS["per_class"] / 100 + POINTS["seed"] / 50
MEANS = POINTS[POINTS["seed"] == 1].assign(quantity="accuracy", value=0.7, low=0.6, high=0.8)
INFINITE = {"model": Estimate(9, 4, 20, 80, "log"), "Reader 1": Estimate(np.inf, 30, np.inf, 80, "exact")}
READERS = pd.DataFrame({"reader": ["Reader 1"], "sensitivity": [0.9], "specificity": [0.8]})
LABELS = np.array(["BACTERIA"] * 40 + ["VIRUS"] * 20 + ["NORMAL"] * 60)
PARTS = {"train folder": (LABELS, SCORE), "test folder": (LABELS[30:], SCORE[30:])}

DRAWN = {
    "figure 1": (lambda: kermany.schematic("InceptionV3", "imagenet", CLASSES), "ImageNet, 1,000 categories"),
    "figure 2B": (lambda: kermany.flow([(part, "9 images") for part in "abcde"], {0: "set aside: 6"}), "set aside: 6"),
    "figure 4A": (lambda: kermany.roc({"model": CURVE}, READERS, "1 SIMULATED readers"), "1 SIMULATED readers"),
    "learning curve": (lambda: kermany.learning_curve(POINTS, MEANS, "accuracy", "share", 0.9), "images per class"),
    "figure 4C": (lambda: kermany.weighted_errors({"model": AREA}, {"model"}, {"printed": 0.066}), "per 100 images"),
    "figure S3": (lambda: kermany.likelihood_ratios(INFINITE, INFINITE, {"model"}), "positive likelihood ratio"),
    "figure S4A": (lambda: kermany.penalties(TABLE), "penalty points"),
    "reliability": (lambda: kermany.reliability_diagram({"raw: 0.1": reliability(TRUTH, SCORE)}), "raw: 0.1"),
    "score shift": (lambda: kermany.score_shift(PARTS, {"test folder": "AUROC 9"}), "Bacterial pneumonia (40)"),
    "cost": (lambda: kermany.referral_costs({"rule": Estimate(0.5, 0.4, 0.6, 100, "bootstrap")}), "0.50"),
}

test_figures_draw = drawing_test(DRAWN)


def test_without_readers_only_the_model_is_drawn():
    assert "Reader" not in words_of(kermany.roc({"model": CURVE}, READERS[:0], "no Readers"))


def test_weighted_errors_are_bars_of_the_errors_and_diamonds_of_the_published():
    axes = kermany.weighted_errors({"model": AREA, "Reader 1": AREA}, {"model"}, {"published": 0.066}).axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([90, 90])
    assert axes.lines[-1].get_xdata() == pytest.approx([6.6]) and axes.lines[-1].get_ydata() == pytest.approx([2])


def test_an_empty_bin_shows_no_images_and_the_others_images_by_width():
    rows = [(0.0, 0.1, 2, 0.03, 0.0, 0.0, 0.84), (0.9, 1.0, 2, 0.92, 1.0, 0.16, 1.0)]
    figure = kermany.reliability_diagram({"raw": pd.DataFrame(rows, columns=COLUMNS)})
    stairs = figure.axes[1].patches[0].get_data()
    assert list(stairs.values) == pytest.approx([0.2, 0, 0.2]) and list(stairs.edges) == pytest.approx([0, 0.1, 0.9, 1])
