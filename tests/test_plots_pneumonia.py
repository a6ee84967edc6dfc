"""The pneumonia figures draw at print size, with their numbers on them."""

import numpy as np
import pandas as pd
import pytest
from figure_contract import assert_drawn, words_of

from helpers.kermany import figures_pneumonia as pneumonia
from helpers.kermany.numbers import DECISIONS, PNEUMONIA, PNEUMONIA_COSTS
from helpers.metrics.auroc import auroc
from helpers.metrics.calibration import COLUMNS, reliability
from helpers.metrics.classification import confusion, operating_point
from helpers.metrics.estimate import Estimate
from helpers.metrics.proportions import proportion

RANDOM = np.random.default_rng(0)
TRUTH = np.repeat([True, False], 60)
SCORE = 1 / (1 + np.exp(-(3 * TRUTH - 1.5 + RANDOM.normal(0, 1, 120))))
AREA, POINT = auroc(TRUTH, SCORE), operating_point(TRUTH, SCORE, 0.4, "validation")
LABELS = np.array(["BACTERIA"] * 40 + ["VIRUS"] * 20 + ["NORMAL"] * 60)
HISTORY = pd.DataFrame(
    [(step, split, 0.5 + step / 100, 1 - step / 100) for step in range(1, 30) for split in ("train", "validation")],
    columns=["step", "split", "accuracy", "cross_entropy"],
)
IMAGES = {name: RANDOM.integers(0, 255, (40, 40), dtype=np.uint8) for name in PNEUMONIA}
MASKS = {name: np.zeros((40, 40), bool) for name in PNEUMONIA} | {"VIRUS": np.eye(40, dtype=bool)}
CHOSEN = pd.DataFrame(
    [
        {"model": model, "chosen on": way, "step": 1200, **proportion(80 + i, 100).as_dict()}
        for model in ("pneumonia vs normal", "bacterial vs viral")
        for i, way in enumerate(("validation", "test"))
    ]
)
SAID = np.where(SCORE > 0.5, "BACTERIA", "NORMAL")
COUNTS = confusion(LABELS, SAID, PNEUMONIA)

DRAWN = {
    "figure 6A to D": (
        lambda: pneumonia.training_curves({"one": HISTORY, "two": HISTORY}, {"one": 7}, unit="epoch"),
        "epoch",
    ),
    "figure 6E and F": (
        lambda: pneumonia.rocs({"one": (TRUTH, SCORE, AREA, POINT), "two": (TRUTH, SCORE, AREA, None)}),
        f"sensitivity {POINT.sensitivity.percent()}",
    ),
    "figure S6": (lambda: pneumonia.examples(IMAGES, MASKS), "Viral pneumonia"),
    "figure S6 without masks": (lambda: pneumonia.examples(IMAGES), "Bacterial pneumonia"),
    "reliability": (
        lambda: pneumonia.reliability_diagram({"raw": reliability(TRUTH, SCORE)}, {"raw": "Brier score 0.1"}),
        "raw: Brier score 0.1",
    ),
    "score shift": (
        lambda: pneumonia.score_shift(
            {"train folder": (LABELS, SCORE), "test folder": (LABELS[30:], SCORE[30:])}, {"test folder": "AUROC 9"}, 0.5
        ),
        "Bacterial pneumonia (40)",
    ),
    "choice of epoch": (lambda: pneumonia.epoch_choice(CHOSEN), "1,200"),
    "referral": (lambda: pneumonia.referral_table(COUNTS, PNEUMONIA_COSTS, DECISIONS), "urgent\nreferral"),
    "cost": (lambda: pneumonia.referral_costs({"rule": Estimate(0.5, 0.4, 0.6, 100, "bootstrap")}), "0.50"),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_draws_at_print_size_with_its_words(name, tmp_path):
    draw, words = DRAWN[name]
    assert_drawn(draw(), words, tmp_path)


def test_the_panels_of_figure_6_have_the_papers_letters():
    curves = words_of(pneumonia.training_curves({"one": HISTORY, "two": HISTORY})).split()
    assert {"A", "B", "C", "D"} <= set(curves)
    assert {"E", "F"} <= set(words_of(pneumonia.rocs({n: (TRUTH, SCORE, AREA, None) for n in ("one", "two")})).split())


def test_lesions_are_outlined_only_in_the_second_row():
    figure = pneumonia.examples(IMAGES, MASKS)
    outlined = [len(axes.collections) > 0 for axes in figure.axes]
    assert outlined == [False, False, False, False, False, True]


def test_the_dear_mistakes_carry_their_points():
    missed = int(COUNTS.loc["BACTERIA", "NORMAL"])
    assert missed and f"{missed}\n{4 * missed} points" in words_of(
        pneumonia.referral_table(COUNTS, PNEUMONIA_COSTS, DECISIONS)
    )


def test_an_empty_bin_shows_no_images_and_the_others_images_by_width():
    rows = [(0.0, 0.1, 2, 0.03, 0.0, 0.0, 0.84), (0.9, 1.0, 2, 0.92, 1.0, 0.16, 1.0)]
    figure = pneumonia.reliability_diagram({"raw": pd.DataFrame(rows, columns=COLUMNS)})
    stairs = figure.axes[1].patches[0].get_data()
    assert list(stairs.values) == pytest.approx([0.2, 0, 0.2]) and list(stairs.edges) == pytest.approx([0, 0.1, 0.9, 1])


def test_an_operating_point_without_one_class_is_said_to_be_undefined():
    alone = operating_point([True, True], [0.2, 0.6], 0.5)
    assert "operating point undefined" in words_of(pneumonia.rocs({"one": (TRUTH, SCORE, AREA, alone)}))
