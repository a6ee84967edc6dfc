"""Zech's figures draw: with and without re-scored predictions, from few and from missing numbers."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from figure_checks import assert_drawn, words_of
from test_zech_numbers import scores

from helpers.explain.maps import Maps
from helpers.zech import figures as zech
from helpers.zech import figures_sites as plots
from helpers.zech import generalization, numbers

LABELS = tuple(numbers.published_aurocs().index)
SITES = ("N", "M", "I")
IMAGE = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
EACH = {site: IMAGE for site in SITES}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def tested():
    return {"re-scored": scores(labels=LABELS), "phantom": scores(labels=("Pneumonia", "Mass"))}


@pytest.fixture(scope="module")
def of_sites():
    rng, rows = np.random.default_rng(0), []
    bodies = pd.DataFrame({"site": np.repeat(SITES, 60), "split": np.tile(["validation", "test"], 90)})
    bodies["label"] = np.where(rng.random(180) < 0.3, "Pneumonia", "No pneumonia")
    bodies["image_id"] = bodies["patient_id"] = [f"p{k}" for k in range(180)]
    for pixels in ("whole", "low", "high", "lungs"):
        for sites in generalization.site_sets(SITES):
            way = {"trained_on": generalization.joined(sites), "markers": "on", "pixels": pixels}
            part = bodies.assign(cohort="natural", weighting="as they are", p_Pneumonia=rng.random(180), **way)
            rows.append(part)
    return pd.concat(rows, ignore_index=True)


def accuracies(ways):
    columns = ["markers", "pixels", "value", "low", "high", "most frequent"]
    return pd.DataFrame([("on", way, 0.9, 0.8, 0.95, 0.4) for way in ways], columns=columns)


def test_without_published_predictions_the_figure_marks_them_as_not_run(tested, tmp_path):
    areas = {level: numbers.label_aurocs(frame) for level, frame in tested.items()}
    without = zech.areas(numbers.published_aurocs(), {"phantom": areas["phantom"]}, "phantom")
    assert "not run" in words_of(without)
    figure = zech.areas(numbers.published_aurocs(), areas, "phantom", areas["phantom"])
    assert "not run" not in words_of(figure)
    assert_drawn(figure, "400 test images", tmp_path)


def test_every_label_has_a_panel_though_one_network_does_not_know_it(tested, tmp_path):
    areas = {level: numbers.label_aurocs(frame) for level, frame in tested.items()}
    figure = zech.roc_grid(tested, areas, LABELS)
    assert [axes.get_title() for axes in figure.axes][:14] == [zech.display_name(label) for label in LABELS]
    assert len(figure.axes[LABELS.index("Mass")].lines) == 1 + len(figure.axes[0].lines)
    assert_drawn(figure, "AUROC in each panel", tmp_path)


def test_an_f1_that_is_undefined_has_its_reason(tested, tmp_path):
    ours = {
        "re-scored, x": (None, tested["re-scored"]),
        "phantom, x": (numbers.f1_crossed(tested["phantom"], "Pneumonia", 100, 1), tested["phantom"]),
    }
    figure = zech.f1_scores(numbers.f1_table(numbers.published_f1(), ours, "Pneumonia"))
    assert "not learnt" in words_of(figure)
    assert_drawn(figure, "prevalence", tmp_path)


def test_losses_and_the_pointing_game_are_drawn(tmp_path):
    splits = ["validation", "train", "validation", "train", "validation"]
    history = pd.DataFrame({"epoch": [0, 1, 1, 2, 2], "split": splits})
    history = history.assign(cross_entropy=[0.3, 0.4, 0.2, 0.3, 0.25], learning_rate=[0.1, 0.1, 0.1, 0.1, 0.01])
    assert_drawn(zech.losses(history, 1), "chosen: epoch 1", tmp_path)
    table = {"label": ["Mass", "all"], "value": [np.nan, 0.5], "low": [np.nan, 0.3], "high": [np.nan, 0.7]}
    table = pd.DataFrame(table).assign(n=[1, 20], chance=[0.1, 0.2])
    assert_drawn(zech.pointing({"maps": table}), "too few patients", tmp_path)


def test_an_image_is_drawn_with_its_answer_its_map_and_its_labels(tmp_path):
    frame = scores(n=3, labels=("Mass", "Nodule")).assign(y_Mass=True)
    chosen = pd.DataFrame({"image_id": ["i0", "i2"], "target": ["Mass", "Nodule"]})
    heat = np.random.default_rng(0).normal(size=(2, 32, 32)).astype(np.float32)
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 4:9, 4:9] = True
    maps = Maps(heat, "cam", "logit", ("Mass", "Nodule"), {}, 0.0)
    drawn = zech.shown(chosen, np.zeros((2, 32, 32), np.uint8), maps, masks, frame)
    assert drawn[0].labels[0] == "Mass" and drawn[1].probabilities["Nodule"] == pytest.approx(frame["p_Nodule"][2])
    assert_drawn(zech.network_answer(drawn[0], "SmallNet"), "14 outputs", tmp_path)
    assert_drawn(zech.heat_maps(drawn), "the finding", tmp_path)
    figure = zech.explored(drawn)
    bars = [bar.get_width() for bar in figure.axes[2].patches]
    assert bars == pytest.approx(list(drawn[0].probabilities.values()))
    assert_drawn(figure, "X-ray", tmp_path)


def test_table_3_is_drawn_with_one_setting_of_the_markers_and_with_two(of_sites, tmp_path):
    whole = of_sites[of_sites["pixels"] == "whole"]
    table = generalization.rows_of_talk(generalization.table_3(whole, SITES), "N", "M")
    for tables in ({"on": table}, {"on": table, "off": table.assign(auroc=np.nan)}):
        figure = plots.table_3(tables)
        assert len(figure.axes[0].get_yticklabels()) == 15
        assert figure.axes[0].lines[0].get_xdata() == pytest.approx(table["auroc"])
        assert_drawn(figure, "trained on\nN + M", tmp_path)


def test_a_question_that_was_not_asked_has_no_panel(tmp_path):
    asked = {"which hospital": accuracies(("whole", "low")), "which department": accuracies(())}
    figure = plots.origin_accuracy({"N": IMAGE, "M": IMAGE}, asked)
    assert [axes.get_title() for axes in figure.axes] == ["N", "M", "which hospital"]
    assert_drawn(figure, "low resolution, markers on", tmp_path)


def test_resolution_and_remedies_are_drawn(of_sites, tmp_path):
    table = generalization.remedy_table(of_sites, ("N", "M"), generalization.RESOLUTIONS)
    assert_drawn(plots.resolution(IMAGE[::2, ::2], IMAGE, table, accuracies(("low", "high"))), "32 × 32", tmp_path)
    figure = plots.remedies(generalization.remedy_table(of_sites, ("N", "M")))
    assert len(figure.axes) == len(plots.PARTS)
    assert_drawn(figure, "joint less within", tmp_path)


def test_maps_and_regions_are_drawn(tmp_path):
    rows = [(site, measure, 0.5, 0.4, 0.6) for site in SITES for measure in ("outside", "by_chance")]
    table = pd.DataFrame(rows, columns=["site", "measure", "value", "low", "high"])
    maps = {site: IMAGE / 255 for site in SITES}
    assert_drawn(plots.site_maps(EACH, maps, {site: IMAGE > 9 for site in SITES}, table), "of the map", tmp_path)
    table = pd.DataFrame({"way": ["whole, low", "whole", "found region"], "value": 0.5, "low": 0.4, "high": 0.6})
    boxes = {"found region": (1, 2), "true region": (3, 4)}
    assert_drawn(plots.regions(IMAGE, boxes, {"whole, low": IMAGE}, table, 16), "AUROC, small nodule", tmp_path)


def test_the_curve_has_a_panel_per_setting_and_the_prevalences(tmp_path):
    rows = [(markers, ratio, name) for markers in ("on", "off") for ratio in (1.0, 9.0) for name in plots.LINES]
    curve = pd.DataFrame(rows, columns=["markers", "ratio", "measure"])
    figure = plots.imbalance_curve(curve.assign(value=0.7, low=0.6, high=0.8, least=0.65, most=0.75), "M", "N", 0.2)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["20 : 20", "36 : 4"]
    assert len(figure.axes) == 2
    assert_drawn(figure, "sorted by hospital alone", tmp_path)
