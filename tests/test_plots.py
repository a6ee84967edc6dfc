"""Every figure draws, at print size, with its words on it, and keeps its file the same."""

import numpy as np
import pandas as pd
import pytest

from helpers.kermany import figures as kermany
from helpers.kermany import kermany_experts
from helpers.metrics.estimate import Estimate
from helpers.plots.style import DOUBLE, add_footnote, save_figure

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
RANDOM = np.random.default_rng(0)
TRUTH = np.repeat([True, False], 40)
SCORE = TRUTH + RANDOM.normal(0, 0.7, 80)
AREA = Estimate(0.9, 0.85, 0.95, 80, "DeLong")
TABLE = pd.DataFrame(RANDOM.integers(1, 9, (4, 4)), index=CLASSES, columns=CLASSES)
HISTORY = pd.DataFrame(
    [
        (step, split, 0.5 + step / 100, 1 - step / 100)
        for step in range(1, 30)
        for split in ("train", "validation", "test")
    ],
    columns=["step", "split", "accuracy", "cross_entropy"],
)
POINTS = pd.DataFrame(
    [
        (way, n, seed, 0.5 + n / 100 + seed / 50)
        for way in ("pre-trained", "random")
        for n in (10, 20)
        for seed in (1, 2)
    ],
    columns=["initialisation", "per_class", "seed", "accuracy"],
)
IMAGES = {name: [RANDOM.integers(0, 255, (40, 50), dtype=np.uint8)] * 2 for name in CLASSES}
MASKS = {name: [image > 128 for image in found] for name, found in IMAGES.items()}
INFINITE = {"model": Estimate(9, 4, 20, 80, "log"), "Reader 1": Estimate(np.inf, 30, np.inf, 80, "exact")}
READERS = pd.DataFrame({"reader": ["Reader 1"], "sensitivity": [0.9], "specificity": [0.8]})

DRAWN = {
    "figure 1": (lambda: kermany.schematic("InceptionV3", "imagenet", CLASSES), "ImageNet, 1,000 categories"),
    "figure 2A": (lambda: kermany.examples(IMAGES, MASKS), "Drusen"),
    "figure 2B": (lambda: kermany.flow([("Found", "9 images"), ("Test", "3")], {0: "set aside: 6"}), "set aside: 6"),
    "figure 3": (lambda: kermany.training_curves({"four classes": HISTORY}, {"four classes": 7}), "training step"),
    "figure 4A": (
        lambda: kermany.roc({"model": (TRUTH, SCORE, AREA)}, READERS, "1 SIMULATED readers"),
        "1 − specificity",
    ),
    "figure 4B": (lambda: kermany.confusion({"model": TABLE}), "predicted"),
    "figure 4C": (
        lambda: kermany_experts.weighted_errors(
            {"model": AREA, "Reader 1": AREA}, {"model"}, {"published: model": 0.066}
        ),
        "weighted error (penalty points per 100 images)",
    ),
    "figure S2": (lambda: kermany.binary_rocs({"CNV vs normal": (TRUTH, SCORE, AREA)}), "CNV vs normal"),
    "figure S3": (
        lambda: kermany_experts.likelihood_ratios(INFINITE, INFINITE, {"model"}),
        "positive likelihood ratio",
    ),
    "figure S4A": (lambda: kermany_experts.penalties(TABLE), "penalty points"),
    "learning curve": (lambda: kermany.learning_curve(POINTS, "accuracy", "accuracy", {"all": 0.9}), "images a class"),
}


def words_of(figure):
    from matplotlib.text import Text

    figure.canvas.draw()
    return " ".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_draws_at_print_size_with_its_words(name, tmp_path):
    draw, words = DRAWN[name]
    figure = draw()
    assert figure.get_size_inches()[0] <= DOUBLE + 1e-9
    assert words in words_of(figure)
    add_footnote(figure, "Phantoms: no evidence about the paper.")
    save_figure(figure, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000


def test_drawing_leaves_the_readers_own_settings_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    kermany.confusion({"model": TABLE})
    assert dict(mpl.rcParams) == before


def test_when_there_are_no_readers_then_only_the_model_is_drawn():
    empty = READERS[:0]
    assert "Reader" not in words_of(kermany.roc({"model": (TRUTH, SCORE, AREA)}, empty, "no readers"))
