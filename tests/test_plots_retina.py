"""Figures and numbers of the retinal bridge: what is drawn, and accuracy on the grid against a count by hand."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

from helpers.carr.figures_retina import lesion_scores
from helpers.carr.numbers import grid_differences, grid_points
from helpers.explain.maps import Maps
from helpers.explain.scores import means
from helpers.plots.maps import signed_maps

matplotlib.use("Agg")
CLASSES = ("NORMAL", "MH")


def grid(right: dict[tuple[str, int], list[int]], images: int = 20) -> pd.DataFrame:
    """Test images by two starts' heads; `right[start, size]` says how many are right in each draw."""
    rows = []
    for (start, size), counts in right.items():
        for seed, count in enumerate(counts):
            for k in range(images):
                label = CLASSES[k % 2]
                chance = 0.9 if (label == "MH") == (k < count) else 0.1
                told = {
                    "start": start,
                    "per_class": size,
                    "seed": seed,
                    "image_id": f"{k:02d}",
                    "patient_id": f"{k:02d}",
                }
                rows.append(told | {"label": label, "p_NORMAL": 1 - chance, "p_MH": chance})
    return pd.DataFrame(rows)


def test_accuracy_on_the_grid_is_the_mean_over_draws_with_an_interval():
    table = grid({("natural", 5): [10, 12], ("natural", 50): [18, 18], ("none", 5): [8, 8], ("none", 50): [18, 18]})
    points = grid_points(table, CLASSES, 300, 1, "accuracy")
    one = points["natural", 5][0]
    assert one.value == pytest.approx(11 / 20) and one.low < one.value < one.high and one.n == 20
    gains = grid_differences(points, [("natural", "none")]).set_index("per_class")
    assert gains.loc[5, "value"] == pytest.approx(3 / 20) and gains.loc[50, "value"] == pytest.approx(0)
    assert gains.loc["fewest less most", "value"] == pytest.approx(3 / 20)


def test_an_unknown_quantity_of_the_grid_is_refused():
    with pytest.raises(KeyError):
        grid_points(grid({("natural", 5): [10]}), CLASSES, 100, 1, "f1")


def scored() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"label": ["MH", "DR", "CSR"] * 6, "patient_id": [str(k) for k in range(18)]})
    columns = {name: rng.random(18) for name in ("hit", "hit_by_chance", "mass", "mass_by_chance")}
    return means(frame.assign(**columns), list(columns), by=["label"], total="all", resamples=100, seed=1)


def test_lesion_scores_have_a_panel_a_measure_and_a_row_a_class_with_its_images():
    figure = lesion_scores(scored(), {"hit": "pointing game", "mass": "mass"})
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert [axes.get_title() for axes in figure.axes] == ["pointing game", "mass"]
    assert names == ["Macular hole (6)", "Diabetic retinopathy (6)", "Central serous retinopathy (6)", "all (18)"]


def test_signed_maps_outline_a_lesion_on_its_b_scan_only_where_it_is_known():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (2, 32, 32), dtype=np.uint8)
    maps = Maps(rng.normal(size=(2, 32, 32)).astype(np.float32), "gradient SHAP", "logit", ("MH", "DR"), {}, 1.0)
    masks = np.zeros((2, 32, 32), bool)
    masks[0, 10:20, 10:20] = True
    with_masks, without = signed_maps(images, maps, ["MH", "DR"], masks), signed_maps(images, maps, ["MH", "DR"])
    lines = [[len(axes.collections) for axes in figure.axes] for figure in (with_masks, without)]
    assert lines[0][0] == lines[1][0] + 1 and lines[0][1:] == lines[1][1:]
    assert with_masks.axes[0].get_title() == "Macular hole"
