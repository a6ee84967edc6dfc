"""The poster's figures draw, and show the numbers that they are given."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from figure_checks import drawing_test, words_of

from helpers.carr import figures as carr
from helpers.explain.scores import means
from helpers.metrics.estimate import Estimate
from helpers.plots.style import display_name

RANDOM = np.random.default_rng(0)
CLASSES = ("NORMAL", "BACTERIA", "VIRUS", "COVID-19")
SUMMARY = {"backbone": "SmallNet", "bridge classes": CLASSES[:3], "bridge images": 1820, "held-back images": 160}
SUMMARY |= {"target subjects per class": 102, "target images per class": 1122}


def about(value, width=0.05):
    return Estimate(value, value - width, min(value + width, 1), 160, "bootstrap by patient")


POINTS = {(start, n): (about(0.8 + k / 100), None) for k, start in enumerate(carr.STARTS) for n in (5, 10, 50)}
GAINS = {"start": "natural, then bridge", "over": "natural", "per_class": [5, 10, 50, "fewest less most"]}
GAINS = pd.DataFrame(GAINS | {"value": 0.03, "low": 0.01, "high": 0.05})
PER_CLASS = pd.DataFrame(product(CLASSES, ("sensitivity", "f1")), columns=["class", "quantity"])
PER_CLASS = PER_CLASS.assign(value=0.9, low=0.8, high=0.95)
NUMBERS = {"sensitivity": about(0.9), "f1": about(0.9), "sensitivity spread": about(0.05), "f1 spread": about(0.04)}
SIDES = {name: {group: about(0.1) for group in ("all", *CLASSES)} for name in ("image", "mirror image")}
FOUND = {"whole image": about(0.95), "same source": Estimate.undefined(0, "x", "none")}
FOUND = {setting: FOUND for setting in carr.SETTINGS}
FOUND["tied"] = {"published recipe": about(0.99)} | FOUND["tied"]
RADIOGRAPHS = (RANDOM.integers(0, 255, (8, 32, 32), dtype=np.uint8), RANDOM.random((8, 32, 32)))
PREDICTED = ("VIRUS", *CLASSES[1:], *CLASSES)
CASES = pd.DataFrame({"label": ["MH", "DR", "CSR"] * 6, "patient_id": [str(k) for k in range(18)]})
SCORED = {name: RANDOM.random(18) for name in ("hit", "hit_by_chance", "mass", "mass_by_chance")}
SCORED = means(CASES.assign(**SCORED), list(SCORED), by=["label"], total="all")

DRAWN = {
    "figure 1": (
        lambda: carr.workflow(SUMMARY, "formula", CLASSES),
        "102 subjects per class,\n1,122 images with augmentation",
    ),
    "figure 2": (lambda: carr.saliency(*RADIOGRAPHS, CLASSES * 2, PREDICTED, [0.25] * 8), "laterality +0.25"),
    "class averages": (
        lambda: carr.class_averages(PER_CLASS, NUMBERS, {"sensitivity": "sensitivity", "f1": "F1"}),
        "average",
    ),
    "worth": (lambda: carr.worth(POINTS, GAINS), "natural, then bridge – natural"),
    "laterality": (lambda: carr.laterality(SIDES), "patient's right"),
    "controls": (lambda: carr.controls(FOUND), "class and source untied"),
    "lesion scores": (lambda: carr.lesion_scores(SCORED, {"hit": "pointing", "mass": "mass"}), "Macular hole (6)"),
}

test_figures_draw = drawing_test(DRAWN)


def test_only_a_wrong_prediction_is_written_out():
    words = words_of(DRAWN["figure 2"][0]())
    assert words.count("(predicted: ") == 1 and "Normal\n(predicted: Viral pneumonia)" in words


def test_a_class_average_stands_below_its_classes_within_its_band():
    axes = carr.class_averages(PER_CLASS, NUMBERS, {"f1": "F1"}).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [*map(display_name, CLASSES), "average"]
    average = next(line for line in axes.lines if line.get_marker() == "D")
    assert average.get_xdata() == pytest.approx([0.9]) and list(average.get_ydata()) == [4]
