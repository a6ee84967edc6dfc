"""The poster's figures draw at print size and say what is true of this run."""

import numpy as np
import pandas as pd
import pytest
from figure_contract import assert_drawn, words_of

from helpers.carr import carr_flow
from helpers.carr import figures as carr
from helpers.metrics.classification import confusion
from helpers.metrics.estimate import Estimate

RANDOM = np.random.default_rng(0)
CLASSES = ("NORMAL", "BACTERIA", "VIRUS", "COVID-19")
COUNTS = {"bridge": 1820, "subjects": 102, "target": 1122, "held back": 160}


def about(value, width=0.05):
    return Estimate(value, value - width, min(value + width, 1), 160, "bootstrap by patient")


POINTS = {
    (start, size): (about(0.8 + 0.01 * k), np.zeros(3)) for k, start in enumerate(carr.STARTS) for size in (5, 10, 50)
}
GAINS = pd.DataFrame(
    [("natural, then bridge", "natural", size, 0.03, 0.01, 0.05) for size in (5, 10, 50, "fewest less most")],
    columns=["start", "over", "per_class", "value", "low", "high"],
)
PER_CLASS = pd.DataFrame(
    [(c, q, 0.9, 0.8, 0.95) for c in CLASSES for q in ("sensitivity", "f1")],
    columns=["class", "quantity", "value", "low", "high"],
)
NUMBERS = {"sensitivity": about(0.9), "f1": about(0.9), "sensitivity spread": about(0.05), "f1 spread": about(0.04)}
SIDES = {name: {group: about(0.1) for group in ("all", *CLASSES)} for name in ("image", "mirror image")}
FOUND = {
    name: {"whole image": about(0.95), "same source": Estimate.undefined(0, "x", "none")} for name in carr.SETTINGS
}
FOUND["tied"] = {"published recipe": about(0.99)} | FOUND["tied"]
COUNTED = confusion(["NORMAL"] * 3 + list(CLASSES), ["NORMAL"] * 3 + ["VIRUS", *CLASSES[1:]], CLASSES)

DRAWN = {
    "figure 1": (
        lambda: carr_flow.workflow("SmallNet", "formula", CLASSES[:3], CLASSES, COUNTS, "saliency maps"),
        "102 subjects a class,\n1,122 images with augmentation",
    ),
    "figure 2": (
        lambda: carr.saliency(
            RANDOM.integers(0, 255, (8, 32, 32), dtype=np.uint8), RANDOM.random((8, 32, 32)), CLASSES * 2,
            ("VIRUS", *CLASSES[1:], *CLASSES), [0.25] * 8,
        ),
        "laterality +0.25",
    ),
    "figure 3": (lambda: carr.confusion(COUNTED), "3\n75 %"),
    "class averages": (
        lambda: carr.class_averages(PER_CLASS, NUMBERS, {"sensitivity": "sensitivity", "f1": "F1"}),
        "average",
    ),
    "worth": (lambda: carr.worth(POINTS, GAINS), "natural, then bridge – natural"),
    "laterality": (lambda: carr.laterality(SIDES), "patient's right"),
    "controls": (lambda: carr.controls(FOUND), "class and source untied"),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_draws_at_print_size_with_its_words(name, tmp_path):
    draw, words = DRAWN[name]
    assert_drawn(draw(), words, tmp_path)


def test_a_wrong_prediction_is_said_and_a_right_one_is_not():
    draw, _ = DRAWN["figure 2"]
    words = words_of(draw())
    assert words.count("(said: ") == 1 and "NORMAL\n(said: VIRUS)" in words


def test_a_workflow_without_a_count_is_refused():
    with pytest.raises(ValueError, match="held back"):
        carr_flow.workflow("SmallNet", "formula", CLASSES, CLASSES, {k: 1 for k in carr_flow.COUNTS[:3]}, "maps")
