"""Zech's figures draw: with and without re-scored predictions, from few and from missing numbers."""

import numpy as np
import pandas as pd
import pytest
from figure_checks import drawing_test, words_of
from test_zech_numbers import scores

from helpers.explain.maps import Maps
from helpers.plots.maps import localisation_scores
from helpers.zech import figures as zech
from helpers.zech import generalization, numbers

RANDOM = np.random.default_rng(0)
PRINTED = numbers.published_aurocs()
TESTED = {"re-scored": scores(labels=tuple(PRINTED.index)), "phantom": scores(labels=("Pneumonia", "Mass"))}
AREAS = {level: numbers.label_aurocs(frame) for level, frame in TESTED.items()}
POINTING = {"label": ["Mass", "all"], "value": [np.nan, 0.5], "low": [np.nan, 0.3], "high": [np.nan, 0.7]}
POINTING = {"maps": pd.DataFrame(POINTING | {"n": [1, 20], "chance": [0.1, 0.2]})}
IMAGE = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
MASKS = np.stack([IMAGE > 200, IMAGE < 0])
CHOSEN = pd.DataFrame({"image_id": ["i0", "i2"], "target": ["Mass", "Nodule"]})
FEW = scores(n=3, labels=("Mass", "Nodule")).assign(y_Mass=True)
HEAT = Maps(RANDOM.normal(size=(2, 64, 64)).astype(np.float32), "cam", "logit", 0.0)
SHOWN = zech.shown(CHOSEN, np.stack([IMAGE, IMAGE]), HEAT, MASKS, FEW)
SITES = ("N", "M", "I")


def scores_of_sites():
    bodies = pd.DataFrame({"site": np.repeat(SITES, 60), "split": np.tile(["validation", "test"], 90)})
    bodies["label"] = np.where(RANDOM.random(180) < 0.3, "Pneumonia", "No pneumonia")
    bodies["image_id"] = bodies["patient_id"] = [f"p{k}" for k in range(180)]
    bodies = bodies.assign(cohort="natural", weighting="as they are", markers="on")
    ways = [(pixels, sites) for pixels in ("whole", "low", "high") for sites in generalization.site_sets(SITES)]
    heads = [{"pixels": pixels, "trained_on": generalization.joined(sites)} for pixels, sites in ways]
    return pd.concat([bodies.assign(p_Pneumonia=RANDOM.random(180), **head) for head in heads], ignore_index=True)


OF_SITES = scores_of_sites()
TABLE_3 = OF_SITES[OF_SITES["pixels"] == "whole"]
TABLE_3 = generalization.rows_of_talk(generalization.table_3(TABLE_3, SITES), "N", "M")
ORIGINS = pd.DataFrame({"markers": "on", "pixels": ["low", "high"], "value": 0.9, "low": 0.8, "high": 0.95})
ORIGINS = {"which hospital": ORIGINS.assign(**{"most frequent": 0.4}), "which department": ORIGINS[:0]}
WAYS = pd.DataFrame({"way": ["whole, low", "whole", "found region"], "value": 0.5, "low": 0.4, "high": 0.6})
REGION = (IMAGE, {"found region": (1, 2), "true region": (3, 4)}, {"whole, low": IMAGE}, WAYS, 16)
CURVE = [(markers, ratio, name) for markers in ("on", "off") for ratio in (1.0, 9.0) for name in zech.LINES]
CURVE = pd.DataFrame(CURVE, columns=["markers", "ratio", "measure"])
CURVE = CURVE.assign(value=0.7, low=0.6, high=0.8, least=0.65, most=0.75)


def f1():
    ours = {"re-scored, x": (None, TESTED["re-scored"])}
    ours["phantom, x"] = (numbers.f1_crossed(TESTED["phantom"], "Pneumonia", 1), TESTED["phantom"])
    return zech.f1_scores(numbers.f1_table(numbers.published_f1(), ours, "Pneumonia"))


def resolution():
    table = generalization.remedy_table(OF_SITES, ("N", "M"), generalization.RESOLUTIONS)
    return zech.resolution(IMAGE[::2, ::2], IMAGE, table, ORIGINS["which hospital"])


test_figures_draw = drawing_test(
    {
        "areas": (lambda: zech.areas(PRINTED, AREAS, "phantom", AREAS["phantom"]), "400 test images"),
        "areas, not re-scored": (lambda: zech.areas(PRINTED, {"phantom": AREAS["phantom"]}, "phantom"), "re-scored:"),
        "ROC": (lambda: zech.roc_grid(TESTED, AREAS, PRINTED.index), "AUROC in each panel"),
        "F1": (f1, "not learnt"),
        "pointing": (lambda: localisation_scores({"peak": POINTING}, "a random place"), "too few patients"),
        "answer": (lambda: zech.network_answer(SHOWN[0], "SmallNet"), "14 outputs"),
        "explored": (lambda: zech.explored(SHOWN), "P(Nodule) = "),
        "heat maps": (lambda: zech.heat_maps(SHOWN), "the finding"),
        "table 3": (lambda: zech.table_3({"on": TABLE_3, "off": TABLE_3.assign(auroc=np.nan)}), "trained on\nN + M"),
        "imbalance": (lambda: zech.imbalance_curve(CURVE, "M", "N", 0.2), "36 : 4"),
        "origin": (lambda: zech.origin_accuracy({"N": IMAGE, "M": IMAGE}, ORIGINS), "low resolution, markers on"),
        "resolution": (resolution, "32 × 32"),
        "remedies": (lambda: zech.remedies(generalization.remedy_table(OF_SITES, ("N", "M"))), "joint less within"),
        "regions": (lambda: zech.regions(*REGION), "AUROC, small nodule"),
    }
)


def test_every_label_has_a_panel_though_one_network_does_not_know_it():
    axes = dict(zip(PRINTED.index, zech.roc_grid(TESTED, AREAS, PRINTED.index).axes, strict=False))
    assert len(axes["Mass"].lines) == 1 + len(axes["Hernia"].lines)


def test_an_image_has_its_map_its_probabilities_and_its_labels():
    assert SHOWN[0].labels[0] == "Mass" and SHOWN[1].probabilities["Nodule"] == pytest.approx(FEW["p_Nodule"][2])
    bars = [bar.get_width() for bar in zech.explored(SHOWN).axes[2].patches]
    assert bars == pytest.approx(list(SHOWN[0].probabilities.values()))


def test_table_3_shows_its_numbers_and_a_question_not_asked_has_no_panel():
    axes = zech.table_3({"on": TABLE_3}).axes[0]
    assert axes.lines[0].get_xdata() == pytest.approx(TABLE_3["auroc"]) and len(axes.get_yticklabels()) == 15
    assert "which department" not in words_of(zech.origin_accuracy({"N": IMAGE}, ORIGINS))
