"""Experiments that train networks: what they keep, what limits them, the nine models and the last layer alone."""

import numpy as np
import pandas as pd
import pytest
from tiny import run_maker, tiny_images

from helpers.kermany.referral_network import REFERRAL, referral_finetuned
from helpers.model.backbones import load_backbone
from helpers.model.experiment import Images, pixels_of
from helpers.model.finetune import ArraySource, FinetuneSettings
from helpers.model.last_layer import features_of, train_last_layer
from helpers.rajkomar.models import METHODS, choose, view_models
from helpers.run.profile import ProfileError, load_profile

SETTINGS = {"backbone": "SmallNet", "seed": 1, "head_steps": 20, "workers": 1}
TUNED = SETTINGS | {"finetune_size": 32, "finetune_epochs": 2, "weights": "none"}
VIEWS = SETTINGS | {"view_size": 32, "view_children": 3, "view_epochs": 2, "view_epoch_images": 24}


def images(tmp_path, *given):
    made = tiny_images(tmp_path, *given)
    return made.catalogue, made.frame


@pytest.fixture
def caches(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.run.paths.CACHE", tmp_path / "cache")


def test_a_finetuned_network_scores_every_image_it_did_not_learn_from(tmp_path, caches):
    catalogue, frame = images(tmp_path, REFERRAL)
    frame.loc[frame["image_id"].str.endswith("train-7"), "split"] = "held-out"
    made = run_maker(referral_finetuned, Images(catalogue, frame), load_profile("phantom", TUNED), tmp_path / "runs")
    assert made.classes == REFERRAL and set(made.scores["selection"]) == {"validation", "test"}
    held_out = frame[frame["split"] != "train"]
    for _, part in made.scores.groupby("selection"):
        assert list(part["image_id"]) == list(held_out["image_id"])
    assert made.scores[[f"p_{c}" for c in made.classes]].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert not (tmp_path / "runs" / "referral_finetuned.unfinished").exists()


def test_several_finetuned_networks_are_averaged_and_the_report_tells_each_epoch(tmp_path, caches):
    catalogue, frame = images(tmp_path, REFERRAL)
    more = {"finetune_networks": 2, "finetune_mirror": True, "finetune_augmentation": "strong"}
    more |= {"finetune_schedule": "cosine", "finetune_weight_decay": 0.05, "finetune_label_smoothing": 0.1}
    profile = load_profile("phantom", TUNED | more)
    made = run_maker(referral_finetuned, Images(catalogue, frame), profile, tmp_path / "runs")
    assert made.summary["networks"] == 2 and len(made.summary["chosen epoch"].split(", ")) == 2
    assert made.history["network"].unique().tolist() == [1, 2]
    assert (made.folder / "network_2" / "finetuned.json").is_file()
    assert made.scores[[f"p_{c}" for c in made.classes]].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)


def test_machines_have_their_share_in_the_mean_and_each_member_is_told_apart(tmp_path, caches):
    catalogue, frame = images(tmp_path, REFERRAL)
    profile = load_profile("phantom", TUNED | {"finetune_kernel_share": 0.25, "finetune_kernel_size": 48})
    made = run_maker(referral_finetuned, Images(catalogue, frame), profile, tmp_path / "runs")
    columns = [f"p_{c}" for c in made.classes]
    apart = {name: rows[columns].to_numpy() for name, rows in made.table("members").groupby("member")}
    assert set(apart) == {"networks", "machines"}
    whole = made.scores.loc[made.scores["selection"] == "validation", columns].to_numpy()
    np.testing.assert_allclose(whole, 0.75 * apart["networks"] + 0.25 * apart["machines"], atol=1e-5)
    assert (made.folder / "machines.joblib").is_file()


def test_the_view_models_are_three_a_pretraining_and_those_without_weights_are_said(tmp_path, caches):
    catalogue, frame = images(tmp_path, ("frontal", "lateral"))
    profile = load_profile("phantom", VIEWS | {"view_colour": "none", "view_grey": "", "view_subset": ""})
    with pytest.warns(UserWarning, match="VIEW_GREY, VIEW_SUBSET"):
        made = run_maker(view_models, Images(catalogue, frame), profile, tmp_path / "runs")
    assert made.summary["models"] == 3 and set(made.scores["split"]) == {"validation", "test"}
    table = made.table("validation")
    assert set(zip(table["method"], table["on"], strict=True)) == {
        (m, on) for m in METHODS for on in ("originals", "children")
    }
    parents = set(frame.loc[frame["split"] == "validation", "image_id"])
    assert set(table["parent"]) <= parents  # nobody is validated on a child of a training image
    assert (made.table("robustness").groupby("transform").size() == 8).all()


def test_when_no_pretraining_has_weights_then_it_is_refused(tmp_path, caches):
    catalogue, frame = images(tmp_path, ("frontal", "lateral"))
    profile = load_profile("phantom", VIEWS | {"view_colour": "", "view_grey": "", "view_subset": ""})
    with pytest.raises(ProfileError, match="VIEW_COLOUR"):
        run_maker(view_models, Images(catalogue, frame), profile, tmp_path / "runs")


def test_the_model_is_chosen_by_its_accuracy_on_children_then_by_what_it_learnt_from():
    def rows(name, method, right, on="children"):
        p = [0.9] * right + [0.1] * (4 - right)
        return pd.DataFrame({"p_frontal": p, "label": "frontal", "pretraining": name, "method": method, "on": on})

    parts = [
        rows("colour", METHODS[0], 4, "originals"),
        rows("colour", METHODS[0], 1),
        rows("full greyscale", METHODS[1], 3),
    ]
    assert choose(pd.concat(parts)) == ("full greyscale", METHODS[1])
    parts += [rows("colour", METHODS[1], 3), rows("colour", METHODS[2], 3), rows("subset greyscale", METHODS[2], 3)]
    assert choose(pd.concat(parts)) == ("colour", METHODS[2])


@pytest.mark.parametrize("standardise", [False, True])
def test_the_last_layer_learns_and_is_the_same_network_in_one_piece(tmp_path, standardise):
    catalogue, frame = images(tmp_path, ("frontal", "lateral"), (20, 10, 10))
    backbone = load_backbone("SmallNet", "formula", 32)
    source = ArraySource(pixels_of(catalogue, frame, 32, 1))
    rows = np.flatnonzero(frame["split"] != "test")
    codes = (frame["label"] == "lateral").to_numpy().astype(int)
    features = features_of(backbone, source, rows, tmp_path)
    settings = FinetuneSettings(trainable="head", epochs=8, batch=8, standardise=standardise, learning_rate=0.001)
    told = (codes[rows], frame["split"].to_numpy()[rows], ("frontal", "lateral"))
    run = train_last_layer(backbone, features, *told, settings)
    assert set(run.history.columns) == {"epoch", "step", "split", "accuracy", "cross_entropy", "learning_rate"}
    test = np.flatnonzero(frame["split"] == "test")
    assert (run.predict_rows(source, test).argmax(axis=1) == codes[test]).mean() > 0.8
    body = run.model_of("validation")  # the layers below are the backbone's own
    np.testing.assert_array_equal(body.get_weights()[0], backbone.model.get_weights()[0])


def test_when_features_are_kept_then_the_images_are_not_asked_for_again(tmp_path):
    backbone = load_backbone("SmallNet", "none", 32)
    source = ArraySource(np.zeros((3, 32, 32), np.uint8))
    first = features_of(backbone, source, np.arange(3), tmp_path)
    source.batch = None
    np.testing.assert_array_equal(features_of(backbone, source, np.arange(3), tmp_path), first)
