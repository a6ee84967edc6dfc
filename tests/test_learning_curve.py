"""The learning curve: which points there are, and that a killed one goes on."""

import numpy as np
import pandas as pd
import pytest

from helpers.kermany import learning_curve as module
from helpers.kermany.learning_curve import draws, learning_curve
from helpers.run.profile import load_profile

PROFILE = load_profile(
    "phantom", {"curve_per_class": "2,4,50", "curve_seeds": 2, "curve_steps": 20, "head_learning_rate": 0.1}
)


def frame(per_class=8):
    rows = [
        (f"{part}-{label}-{n}", f"{part}{label}{n}", label, part)
        for part in ("train", "validation", "test")
        for label in ("CNV", "DME", "DRUSEN", "NORMAL")
        for n in range(per_class)
    ]
    return pd.DataFrame(rows, columns=["image_id", "patient_id", "label", "split"])


def features_of(rows):
    codes = pd.get_dummies(rows["label"]).to_numpy(np.float32)
    return pd.DataFrame(codes + np.random.default_rng(0).normal(0, 0.1, codes.shape), index=rows["image_id"])


def test_sizes_the_data_cannot_give_are_left_out_with_a_warning():
    with pytest.warns(UserWarning, match="leaves out 50 images a class: the smallest class has 8"):
        points = draws(frame(), PROFILE)
    assert [(size, seed) for size, seed, _ in points] == [(2, 1000), (2, 1001), (4, 1000), (4, 1001)]
    small, large = points[0][2], points[2][2]
    assert set(small["image_id"]) < set(large["image_id"])  # nested for one seed


@pytest.mark.filterwarnings("ignore:the learning curve leaves out")
def test_a_killed_curve_trains_only_the_points_that_are_missing(tmp_path, monkeypatch):
    rows, trained = frame(), []
    train = module.train_head
    monkeypatch.setattr(module, "train_head", lambda *given: trained.append(1) or train(*given))
    points = draws(rows, PROFILE)
    ways = {"pre-trained": lambda: features_of(rows), "random": lambda: features_of(rows) * 0}
    whole = learning_curve(points, ways, PROFILE, tmp_path, "these data")
    assert len(whole) == len(trained) == 8
    assert whole.groupby("initialisation")["accuracy"].mean()["pre-trained"] > 0.9
    next(iter((tmp_path / "learning_curve").glob("*.json"))).unlink()
    again = learning_curve(points, ways, PROFILE, tmp_path, "these data")
    assert len(trained) == 9 and again.equals(whole)
    learning_curve(points, ways, PROFILE, tmp_path, "other data")
    assert len(trained) == 17
