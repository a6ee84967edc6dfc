"""The figures of several hospitals are drawn, at print size, from few and from missing numbers."""

import numpy as np
import pandas as pd
import pytest

from helpers.plots.style import DOUBLE
from helpers.zech import figures_sites as plots
from helpers.zech import generalization

SITES = ("N", "M", "I")
IMAGE = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)


@pytest.fixture(scope="module")
def scores():
    rng, rows = np.random.default_rng(0), []
    bodies = pd.DataFrame({"site": np.repeat(SITES, 60), "split": np.tile(["validation", "test"], 90)})
    bodies["label"] = np.where(rng.random(180) < 0.3, "Pneumonia", "No pneumonia")
    bodies["image_id"] = bodies["patient_id"] = [f"p{k}" for k in range(180)]
    for pixels in ("whole", "low", "high", "lungs"):
        for sites in generalization.site_sets(SITES):
            told = {"trained_on": generalization.joined(sites), "markers": "on", "pixels": pixels}
            part = bodies.assign(cohort="natural", weighting="as they are", p_Pneumonia=rng.random(180), **told)
            rows.append(part)
    return pd.concat(rows, ignore_index=True)


def told(ways):
    rows = [
        {"markers": "on", "pixels": way, "value": 0.9, "low": 0.8, "high": 0.95, "most frequent": 0.4} for way in ways
    ]
    return pd.DataFrame(rows)


def test_table_3_is_drawn_with_one_setting_of_the_markers_and_with_two(scores):
    whole = scores[scores["pixels"] == "whole"]
    table = generalization.rows_of_talk(generalization.table_3(whole, SITES), "N", "M")
    for tables in ({"on": table}, {"on": table, "off": table.assign(auroc=np.nan)}):
        figure = plots.table_3(tables)
        assert figure.get_size_inches()[0] <= DOUBLE and len(figure.axes[0].get_yticklabels()) == 15


def test_who_made_it_leaves_out_a_question_that_was_not_asked():
    asked = {"which hospital": told(("whole", "low")), "which department": told(())}
    figure = plots.who_made_it({"N": IMAGE, "M": IMAGE}, asked, plots.WAYS)
    assert [axes.get_title() for axes in figure.axes] == ["N", "M", "which hospital"]


def test_resolution_and_remedies_are_drawn(scores):
    table = generalization.remedy_table(scores, ("N", "M"), generalization.RESOLUTIONS)
    figure = plots.resolution(IMAGE[::2, ::2], IMAGE, table, told(("low", "high")))
    assert "32 × 32" in [axes.get_title() for axes in figure.axes]
    cured = plots.remedies(generalization.remedy_table(scores, ("N", "M")))
    assert len(cured.axes) == len(plots.PARTS)


def test_maps_and_regions_are_drawn():
    rows = [
        {"site": s, "measure": m, "value": 0.5, "low": 0.4, "high": 0.6} for s in "NM" for m in ("outside", "by_chance")
    ]
    each = {site: IMAGE for site in "NM"}
    maps = {site: np.zeros((64, 64), np.float32) for site in "NM"}
    assert plots.looks(each, maps, {site: IMAGE > 9 for site in "NM"}, pd.DataFrame(rows)).axes
    table = pd.DataFrame({"way": ["whole, low", "found region"], "value": 0.5, "low": 0.4, "high": 0.6})
    boxes = {"found region": (1, 2), "true region": (3, 4)}
    assert len(plots.regions(IMAGE, boxes, {"whole, low": IMAGE}, table, 16).axes) == 3


def test_the_curve_has_a_panel_a_setting_and_says_the_prevalences():
    measures, rows = [*plots.LINES], []
    for markers in ("on", "off"):
        for ratio in (1.0, 9.0):
            for name in measures:
                row = {"markers": markers, "ratio": ratio, "measure": name, "value": 0.7, "low": 0.6, "high": 0.8}
                rows.append(row | {"least": 0.65, "most": 0.75})
    figure = plots.imbalance_curve(pd.DataFrame(rows), "M", "N", 0.2)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["20 : 20", "36 : 4"]
    assert len(figure.axes) == 2
