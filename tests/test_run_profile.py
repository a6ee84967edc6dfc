"""Profiles: what is read, what is refused, and which name is offered instead."""

import re

import pytest

from helpers.run.paths import ROOT
from helpers.run.profile import KEYS, ProfileError, Run, load_profile, parse_overrides, profile_names


def test_the_profiles_of_the_project_load():
    assert profile_names() == ["medmnist", "paper", "phantom"]
    assert (load_profile("phantom").oct_source, load_profile("paper").oct_source) == ("phantom_oct", "kermany_oct")


def test_when_nothing_is_overridden_then_the_paper_profile_is_as_published():
    paper = load_profile("paper")
    assert (paper.backbone, paper.weights) == ("InceptionV3", "imagenet")
    assert (paper.head_steps, paper.head_batch, paper.head_learning_rate) == (10_000, 1000, 0.001)


def test_an_override_is_read_from_words_text_and_mapping_alike():
    for given in (["HEAD_STEPS=7", "seed=3"], "head-steps=7 seed=3", {"head_steps": 7, "seed": "3"}):
        profile = load_profile("phantom", given)
        assert (profile.head_steps, profile.seed) == (7, 3)
    assert parse_overrides(None) == parse_overrides("") == parse_overrides({}) == {}


def test_a_backbone_that_is_asked_for_is_meant_for_every_network_that_is_not_named_as_well():
    assert load_profile("paper").chexnet_backbone == "DenseNet121"
    assert load_profile("paper", "seed=2").chexnet_backbone == "DenseNet121"
    assert load_profile("paper", "backbone=MobileNetV2").chexnet_backbone == ""
    assert load_profile("paper", "chexnet_backbone=ResNet50 backbone=MobileNetV2").chexnet_backbone == "ResNet50"


@pytest.mark.parametrize("given", ["head_l2=0,0.1", {"head_l2": [0, 0.1]}, "'head_l2=0 0.1'"])
def test_a_list_can_be_written_in_any_usual_way(given):
    assert load_profile("phantom", given).head_l2 == (0.0, 0.1)


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("phantm", None, "did you mean phantom?"),
        ("phantom", "headsteps=3", "did you mean head_steps?"),
        ("phantom", "engine=openvin", "did you mean openvino?"),
        ("phantom", "head_steps=many", "head_steps='many'"),
        ("phantom", "head_steps=0", "greater than or equal to 1"),
        ("phantom", "seed", "write key=value"),
        ("phantom", "name=other", "no key 'name'"),
        ("phantom", "curve_per_class=30,10", "rising"),
        ("phantom", "head_l2=-1", "greater than or equal to 0"),
    ],
)
def test_when_something_is_wrong_then_the_error_says_what_and_offers_the_nearest_name(name, overrides, words):
    with pytest.raises(ProfileError, match=words.replace("?", r"\?")):
        load_profile(name, overrides)


def test_a_toml_file_that_is_given_by_path_names_the_profile_and_an_unknown_key_in_it_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("seed = 9\n")
    profile = load_profile(str(path))
    assert (profile.name, profile.seed) == ("mine", 9)
    path.write_text('backbon = "SmallNet"\n')
    with pytest.raises(ProfileError, match=r"mine.toml.*did you mean backbone\?"):
        load_profile(str(path))


def test_a_relative_data_folder_is_meant_from_the_project():
    assert load_profile("paper", "data_dir=somewhere").data_dir == ROOT / "somewhere"


PATHS = [key for key in KEYS if key.endswith("_file")] + ["weights", "view_colour", "view_grey", "view_subset"]


@pytest.mark.parametrize("key", PATHS)
def test_a_file_is_meant_from_where_the_user_stands_and_must_be_there(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "own file.csv" if key.endswith("_file") else "own.weights.h5"
    for word in (name, f"../{tmp_path.name}/{name}", f"folder/{name}"):
        with pytest.raises(ProfileError, match=f"{key}={re.escape(word)}: there is no file {tmp_path}"):
            load_profile("phantom", {key: word})
    (tmp_path / name).touch()
    for word in (name, f"./{name}", f"../{tmp_path.name}/{name}", str(tmp_path / name)):
        assert getattr(load_profile("phantom", {key: word}), key) == str(tmp_path / name)
    with pytest.raises(ProfileError, match="there is no file"):
        load_profile("phantom", {key: str(tmp_path) + "/"})


def test_a_word_stays_a_word_though_a_file_of_its_name_lies_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("imagenet", "openvino", "SmallNet"):
        (tmp_path / name).touch()
    profile = load_profile("phantom", "weights=imagenet engine=openvino backbone=SmallNet")
    assert (profile.weights, profile.engine, profile.backbone) == ("imagenet", "openvino", "SmallNet")


def test_a_run_keeps_paths_that_its_notebooks_find_from_their_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("helpers.run.paths.RUNS", tmp_path / "runs")
    (tmp_path / "reads.csv").touch()
    (tmp_path / "mine.toml").write_text("seed = 9\n")
    run = Run("mine")
    run.save_profile("mine.toml", parse_overrides("readers_file=reads.csv"))
    monkeypatch.chdir(ROOT / "notebooks")
    given = run.parameters()
    again = load_profile(given["profile"], given["overrides"])
    assert (again.seed, again.readers_file) == (9, str(tmp_path / "reads.csv"))
