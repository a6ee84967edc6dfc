"""Rajkomar 2017's nine models: which there are, what each is validated on, and which one is chosen."""

import pandas as pd
import pytest
from tiny import run_maker, tiny_images

from helpers.rajkomar.models import METHODS, choose, train_view_models
from helpers.run.profile import ProfileError, load_profile

VIEWS = {
    "backbone": "SmallNet",
    "view_size": 32,
    "view_children": 3,
    "view_epochs": 2,
    "view_epoch_images": 24,
    "trainings": 2,
}


def test_the_view_models_are_three_a_pretraining_and_those_without_weights_are_said(tmp_path):
    images = tiny_images(tmp_path, ("frontal", "lateral"))
    profile = load_profile("phantom", VIEWS | {"view_colour": "none", "view_grey": "", "view_subset": ""})
    with pytest.warns(UserWarning, match="VIEW_GREY, VIEW_SUBSET"):
        made = run_maker(train_view_models, images, profile, tmp_path / "runs")
    assert made.summary["models"] == 3 and set(made.scores["split"]) == {"validation", "test"}
    table = made.table("validation")
    assert len(table[["method", "on"]].drop_duplicates()) == 6 and set(table["on"]) == {"originals", "children"}
    parents = set(images.frame.loc[images.frame["split"] == "validation", "image_id"])
    assert set(table["parent"]) <= parents  # nobody is validated on a child of a training image
    assert (made.table("robustness").groupby(["transform", "seed"]).size() == 8).all()
    assert set(table["seed"]) == set(made.scores["seed"]) == set(made.history["seed"]) == {1, 2}
    assert (made.folder / "network_2").is_dir()


def test_when_no_pretraining_has_weights_then_it_is_refused(tmp_path):
    profile = load_profile("phantom", VIEWS | {"view_colour": "", "view_grey": "", "view_subset": ""})
    with pytest.raises(ProfileError, match="VIEW_COLOUR"):
        run_maker(train_view_models, None, profile, tmp_path / "runs")


def test_the_model_is_chosen_by_its_accuracy_on_children_then_by_what_it_learnt_from():
    def rows(name, method, right, on="children"):
        p = [0.9] * right + [0.1] * (4 - right)
        return pd.DataFrame({"p_frontal": p, "label": "frontal", "pretraining": name, "method": method, "on": on})

    parts = [rows("colour", METHODS[0], 4, "originals"), rows("colour", METHODS[0], 1)]
    parts += [rows("full greyscale", METHODS[1], 3)]
    assert choose(pd.concat(parts)) == ("full greyscale", METHODS[1])
    parts += [rows("colour", METHODS[1], 3), rows("colour", METHODS[2], 3), rows("subset greyscale", METHODS[2], 3)]
    assert choose(pd.concat(parts)) == ("colour", METHODS[2])
