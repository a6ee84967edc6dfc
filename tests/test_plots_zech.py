"""CheXNet's figures can be drawn: with and without re-scored predictions, with labels that were not learnt."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from test_zech_numbers import scores

from helpers.explain.maps import Maps
from helpers.zech import figures as zech
from helpers.zech import figures_maps as zech_maps
from helpers.zech import numbers

LABELS = tuple(numbers.published_aurocs().index)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def tested():
    return {"re-scored": scores(labels=LABELS), "phantom": scores(labels=("Pneumonia", "Mass"))}


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(plt.Text))


def test_a_figure_without_published_predictions_says_that_they_were_not_run(tested):
    areas = {level: numbers.label_aurocs(frame) for level, frame in tested.items()}
    with_them = zech.areas(numbers.published_aurocs(), areas, "phantom", areas["phantom"])
    without = zech.areas(numbers.published_aurocs(), {"phantom": areas["phantom"]}, "phantom")
    assert "not run" in texts(without) and "not run" not in texts(with_them)
    assert "400 test images" in texts(with_them)


def test_every_label_has_a_panel_though_one_network_does_not_know_it(tested):
    areas = {level: numbers.label_aurocs(frame) for level, frame in tested.items()}
    figure = zech.roc_grid(tested, areas, LABELS)
    assert [axes.get_title() for axes in figure.axes][:14] == [zech.spelt(label) for label in LABELS]
    assert len(figure.axes[LABELS.index("Mass")].lines) == 3 and len(figure.axes[0].lines) == 2


def test_an_f1_that_is_undefined_says_why(tested):
    ours = {
        "re-scored, x": (None, tested["re-scored"]),
        "phantom, x": (numbers.f1_crossed(tested["phantom"], "Pneumonia", 100, 1), tested["phantom"]),
    }
    figure = zech.f1_scores(numbers.f1_table(numbers.published_f1(), ours, "Pneumonia"))
    assert "not learnt" in texts(figure) and "prevalence" in texts(figure)


def test_losses_and_the_pointing_game_are_drawn():
    history = pd.DataFrame(
        {"epoch": [0, 1, 1, 2, 2], "split": ["validation", "train", "validation"] + ["train", "validation"]}
    )
    history = history.assign(cross_entropy=[0.3, 0.4, 0.2, 0.3, 0.25], learning_rate=[0.1, 0.1, 0.1, 0.1, 0.01])
    assert "chosen: epoch 1" in texts(zech.losses(history, 1))
    table = pd.DataFrame(
        {"label": ["Mass", "all"], "value": [np.nan, 0.5], "low": [np.nan, 0.3], "high": [np.nan, 0.7]}
    )
    assert "too few" in texts(zech.pointing({"maps": table.assign(n=[1, 20], chance=[0.1, 0.2])}))


def test_an_image_is_drawn_with_its_answer_its_map_and_its_labels():
    frame = scores(n=3, labels=("Mass", "Nodule")).assign(y_Mass=True)
    chosen = pd.DataFrame({"image_id": ["i0", "i2"], "target": ["Mass", "Nodule"]})
    pictures = np.zeros((2, 32, 32), np.uint8)
    heat = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 4:9, 4:9] = True
    drawn = zech_maps.shown(chosen, pictures, Maps(heat, "made", "logit", ("Mass", "Nodule"), {}, 0.0), masks, frame)
    assert drawn[0].labels[0] == "Mass" and drawn[1].probabilities["Nodule"] == pytest.approx(frame["p_Nodule"][2])
    assert "14 outputs" in texts(zech_maps.network_answer(drawn[0], "SmallNet"))
    assert len(zech_maps.explored(drawn).axes) == 6 and len(zech_maps.heat_maps(drawn).axes) == 5
