"""What every figure is drawn with: sizes, intervals, ROC curves, confusion matrices, flow charts, images and maps."""

from itertools import product

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from figure_checks import drawing_test, words_of

from helpers.explain.maps import Maps
from helpers.metrics.auroc import auroc
from helpers.metrics.classification import confusion, transferred_point
from helpers.metrics.estimate import Estimate
from helpers.plots import curves, maps

RANDOM = np.random.default_rng(0)
TRUTH = np.repeat([True, False], 60)
SCORE = 1 / (1 + np.exp(-(3 * TRUTH - 1.5 + RANDOM.normal(0, 1, 120))))
CURVE = (TRUTH, SCORE, auroc(TRUTH, SCORE))
POINT = transferred_point(TRUTH, SCORE, TRUTH, SCORE)
CLASSES = ("CNV", "DME", "NORMAL")
IMAGES = RANDOM.integers(0, 255, (4, 32, 32), dtype=np.uint8)
MASKS = np.zeros((4, 32, 32), bool)
MASKS[1, 10:20, 10:20] = True
HEAT = Maps(RANDOM.normal(size=(4, 32, 32)).astype(np.float32), "occlusion", "probability", 1.0)
LABELS = ["CNV", "DME", "MH", "NORMAL"]
HISTORY = pd.DataFrame(product(range(1, 30), ("train", "validation")), columns=["step", "split"])
HISTORY = HISTORY.assign(accuracy=0.5 + HISTORY["step"] / 100, cross_entropy=1 - HISTORY["step"] / 100)
BINS = pd.DataFrame({"box": 9, "centre": [0.5, 2.0], "value": 0.5, "low": 0.4, "high": 0.6, "chance": 0.1})
BY_CLASS = {"class": ["CNV", "all"], "lesion size over box (median)": 1.2, "localisation accuracy": 0.5}
DELETED = pd.DataFrame({"image": 0, "share": [0, 0.5, 1], "deletion": [1, 0.5, 0], "insertion": [0, 0.5, 1]})

DRAWN = {
    "training": (lambda: curves.training_curves({"one": HISTORY, "two": HISTORY}, {"one": 7, "two": 9}), "step"),
    "ROC": (lambda: curves.roc_panels({"a": CURVE, "b": CURVE}, {"a": POINT}), POINT.sensitivity.percent()),
    "flow": (
        lambda: curves.draw_flowchart(
            {"a": curves.Box(20, 80, 20, 20, "9 images", "found"), "b": curves.Box(20, 20, 20, 20, "not run")},
            [("a", "b"), [(30, 80), (60, 80), (60, 20)]], 2, [(70, 50, "set aside: 6", {})],
        ),
        "set aside: 6",
    ),
    "class examples": (lambda: maps.class_examples({"MH": [IMAGES[0]] * 2}, {"MH": [MASKS[1]] * 2}), "Macular hole"),
    "occlusion": (lambda: maps.maps_below_images(IMAGES, {"occlusion": HEAT}, LABELS, 8, MASKS, 2), "drop in\n"),
    "methods": (lambda: maps.maps_below_images(IMAGES, {"gradient SHAP": HEAT}, LABELS, 8, MASKS), "gradient\nSHAP"),
    "signed maps": (lambda: maps.signed_maps(IMAGES, HEAT, LABELS, MASKS), "Macular hole"),
    "localisation": (lambda: maps.localisation_curve(BINS, pd.DataFrame(BY_CLASS | {"low": 0.4, "high": 0.6})), "CNV"),
    "deletion": (lambda: maps.deletion_insertion({"random order": DELETED}), "random order"),
}  # fmt: skip

test_figures_draw = drawing_test(DRAWN)


def test_drawing_leaves_the_readers_own_settings_alone():
    before = dict(mpl.rcParams)
    maps.signed_maps(IMAGES, HEAT, LABELS)
    assert dict(mpl.rcParams) == before


def test_intervals_stand_where_their_numbers_are_and_undefined_ones_leave_a_gap():
    found = [Estimate(0.5, 0.4, 0.7, 9, "x"), None, Estimate.undefined(0, "x", "none"), Estimate.exact(1.0)]
    _, axes = plt.subplots()
    curves.draw_forest(axes, {"a": found}, list("abcd"), "AUROC", scale=100)
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [50, np.nan, np.nan, 100])
    (whisker, *_) = axes.collections[0].get_segments()
    np.testing.assert_allclose(whisker, [[40, 0], [70, 0]])
    assert [text.get_text() for text in axes.get_yticklabels()] == list("abcd") and axes.yaxis_inverted()
    plt.close()


@pytest.mark.parametrize("weight", [0.0, 0.6, 0.99])
def test_training_curves_are_smoothed_as_tensorboard_does(weight):
    values = np.random.default_rng(0).random(50)
    values[[3, 20]] = np.nan
    last, seen, drawn = 0.0, 0, []
    for value in values:  # TensorBoard's `resmoothDataset`
        if not np.isnan(value):
            last, seen = last * weight + (1 - weight) * value, seen + 1
        drawn.append(value if np.isnan(value) else last / (1 - weight**seen))
    np.testing.assert_allclose(curves.smooth(values, weight), drawn, rtol=1e-9)


def test_confusion_matrices_hold_counts_and_shares_of_the_row():
    table = confusion(["CNV"] * 4 + ["DME"], ["CNV"] * 3 + ["NORMAL", "DME"], CLASSES)
    figure = curves.confusion_matrices({"model": table})
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells[:3] == ["3\n75 %", "0\n0 %", "1\n25 %"] and cells[-1] == "0\n0 %"  # no image of the last class


def test_an_operating_point_without_one_class_is_undefined():
    alone = transferred_point(TRUTH, SCORE, [True, True], [0.2, 0.6])
    assert "operating point undefined" in words_of(curves.roc_panels({"one": CURVE}, {"one": alone}))


def test_arrows_meet_the_edges_of_boxes():
    above, below, beside = (curves.Box(x, y, 20, 10, "") for x, y in ((20, 80), (22, 20), (70, 80)))
    assert curves.between(above, below) == ((20, 75), (20, 25))
    assert curves.between(above, beside) == ((30, 80), (60, 80))


def test_lesions_are_outlined_only_from_the_second_row_on():
    figure = maps.class_examples(
        {"CNV": [IMAGES[0]] * 2, "DME": [IMAGES[1]] * 2}, {"CNV": [MASKS[1]] * 2, "DME": MASKS[:2]}
    )
    assert [len(axes.collections) for axes in figure.axes] == [0, 0, 1, 1]
