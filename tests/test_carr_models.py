"""Carr's bridge: what starts are, what is learnt from, what may not be in the bridge, and the controls."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from keras import Input, Sequential
from keras.layers import Dense, Flatten
from PIL import Image
from tiny import run_maker, tiny_images

from helpers.carr import controls, numbers
from helpers.carr import data as covid
from helpers.carr import models as bridge
from helpers.carr.controls import SOURCE, score_controls
from helpers.carr.data import COVID_CLASSES as CLASSES
from helpers.explain.maps import from_logits
from helpers.model.backbones import load_backbone
from helpers.model.experiment import Images
from helpers.model.finetune import load_networks
from helpers.run.profile import load_profile

SETTINGS = {"backbone": "SmallNet", "weights": "formula", "seed": 1, "workers": 1, "bridge_size": 32}
SETTINGS |= {"bridge_epochs": 1, "bridge_per_class": "2,4", "trainings": 2, "bridge_octid_images": 4}
SETTINGS |= {"bridge_target_epochs": 1, "bridge_epoch_images": 0}
TARGET, BRIDGE = ("NORMAL", "MH", "DR"), ("NORMAL", "DRUSEN")


def data(folder, classes, per_split=(6, 3, 4), seed=0):
    """Tiny pictures with patients of their own."""
    found = tiny_images(folder, classes, per_split, seed=seed)
    frame = found.frame.assign(patient_id=folder.name + found.frame["patient_id"])
    return Images(found.catalogue.subset(frame.drop(columns="split")), frame)


@pytest.fixture
def images(tmp_path):
    return data(tmp_path / "target", TARGET), {"oct": data(tmp_path / "bridge", BRIDGE, (10, 4, 2), 1)}


def test_all_starts_are_compared_on_the_same_draws_and_the_network_is_kept(images, tmp_path):
    own, others = images
    found = run_maker(bridge.train_retinal_bridge, own, load_profile("phantom", SETTINGS), tmp_path / "runs", others)
    grid = found.table("grid")
    assert set(grid["start"]) == set(bridge.STARTS) and set(grid["per_class"]) == {2, 4}
    assert (grid.groupby(["start", "per_class", "seed"])["image_id"].nunique() == 12).all()
    assert grid[[f"p_{c}" for c in TARGET]].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert set(found.scores["split"]) == {"validation", "test"} and found.classes == TARGET
    assert found.summary["target images per class"] == 4 * (1 + 10)
    assert set(found.history["training"]) == {bridge.BOTH, "target"}
    assert set(found.history["seed"]) == set(found.scores["seed"]) == set(grid["seed"]) == {1, 2}
    held_out = own.frame[own.frame["split"] != "train"]
    pixels = np.stack([np.array(Image.open(tmp_path / "target" / path)) for path in held_out["path"]])
    networks = load_networks(found)
    for seed, network in enumerate(networks, 1):
        expected = found.scores.loc[found.scores["seed"] == seed, [f"p_{c}" for c in TARGET]].to_numpy()
        np.testing.assert_allclose(network.predict(pixels), expected, atol=3e-3)
    assert np.ptp([network.weights[0] for network in networks], axis=0).max() > 0  # another bridge each


def test_no_patient_and_no_file_of_the_target_is_in_the_bridge(images):
    own, others = images
    oct_, frame = others["oct"], own.catalogue.frame.copy()
    frame.loc[0, "patient_id"] = oct_.frame.loc[3, "patient_id"]  # in train there
    frame.loc[1, "digest"] = oct_.frame.loc[0, "digest"]
    target = Images(own.catalogue.subset(frame), frame.assign(split=own.frame["split"]))
    for same_names, expected in ((True, [0, 3]), (False, [0])):
        kept, removed = bridge.without_target(oct_, target, same_names)
        assert sorted(removed["image_id"]) == sorted(oct_.frame.loc[expected, "image_id"])
        left = oct_.frame.drop(index=expected).query("split != 'test'")
        assert sorted(kept.frame["image_id"]) == sorted(left["image_id"])


def test_a_draw_holds_one_image_of_each_subject_and_a_smaller_draw_lies_in_a_larger_one():
    rows = [(f"{label}{p}-{n}", f"{label}{p}", label) for label in "AB" for p in range(6) for n in range(3)]
    frame = pd.DataFrame(rows, columns=["image_id", "patient_id", "label"]).assign(split="train")
    small, large = bridge.subjects(frame, 2, 1), bridge.subjects(frame, 5, 1)
    assert set(small) < set(large) and len(large) == 10
    assert len({name.split("-")[0] for name in large}) == 10
    assert set(bridge.subjects(frame, 5, 2)) != set(large)
    assert bridge.subjects(frame.sample(frac=1, random_state=1), 5, 1) == large
    with pytest.warns(UserWarning, match="6 training subjects per class instead of 10, 20"):
        assert bridge.drawable(frame, (2, 10, 20)) == [2, 6]


def test_a_bridge_that_was_not_learnt_is_warned_of_and_one_that_was_is_not(recwarn):
    frame = pd.DataFrame({"split": "validation", "label": ["a", "b"] * 5})
    history = pd.DataFrame({"split": ["train", "validation"], "epoch": [2, 2], "accuracy": [1.0, 0.9]})
    bridge.warn_of_failure(history, 2, frame)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="hardly learnt: .* 52 %.* the commonest class is 50 %"):
        bridge.warn_of_failure(history.assign(accuracy=0.52), 2, frame)


@pytest.mark.parametrize("speckled", [True, False])
def test_a_speckled_bridge_has_a_cosine_rate(speckled):
    frame = pd.DataFrame({"split": ["train"] * 90 + ["validation"] * 10})
    recipe = bridge.bridge_recipe(load_profile("phantom", {"bridge_epoch_images": 40}), frame, speckled)
    assert (recipe.schedule, recipe.images_per_epoch) == ("cosine" if speckled else "steps", 40)
    assert not recipe.train_batch_norm and recipe.keep == "best trained"


def covid_data(folder):
    """Phantom-like: every class at both sites, brightness by class and a bright corner at site B. The split is the
    target's: COVID-19 of B, all else of A; the others are held out."""
    found = data(folder / "covid", CLASSES, (16, 0, 12))
    frame = found.catalogue.frame
    at_b = frame["image_id"].str.extract(r"-(\d+)$")[0].astype(int) % 2 == 1
    for path in frame.loc[at_b, "path"]:
        pixels = np.array(Image.open(folder / "covid" / path))
        pixels[:3, :3] = 255
        Image.fromarray(pixels).save(folder / "covid" / path)
    frame = frame.assign(site=np.where(at_b, "B", "A"), age=np.where(at_b, 60.0, 3.0))
    catalogue = found.catalogue.subset(frame)
    return Images(catalogue, covid.split_covid(catalogue, SimpleNamespace(split="patient-disjoint", seed=1)).frame)


def test_controls_are_learnt_from_the_same_subjects_in_both_settings(tmp_path):
    own = covid_data(tmp_path)
    bodies = [load_backbone("SmallNet", weights, 32) for weights in ("formula", "none")]
    both = score_controls(own, bodies, load_profile("phantom", SETTINGS))
    assert set(both["seed"]) == {1, 2}
    table = both[both["seed"] == 1]
    assert set(table["setting"]) == {"tied", "untied"} and "test" in set(table["split"])
    assert not set(table["split"]) & {"train", "validation"}
    names = {"whole image", "box blacked out", "box only", "border only", SOURCE}
    for setting, part in table.groupby("setting"):
        assert set(part["control"]) == names and (part.groupby("control")["image_id"].nunique() == len(part) / 5).all()
        assert ("held-out" in set(part["split"])) == (setting == "tied")
    assert table.loc[table["control"] == SOURCE, "p_NORMAL"].isna().all()
    tied = table[(table["setting"] == "tied") & (table["split"] == "test")]
    assert set(tied.loc[tied["label"] == "COVID-19", "site"]) == {"B"}


def test_maps_are_scored_against_marked_lesions_of_two_kinds_and_training_images_say_so(tmp_path):
    own = covid_data(tmp_path)
    network = from_logits(Sequential([Input((32, 32, 1)), Flatten(), Dense(4)]), CLASSES)
    profile = load_profile("phantom", SETTINGS | {"data_dir": str(tmp_path)})
    catalogue = replace(own.catalogue, phantom=False)
    none, why = numbers.locate_lesions([network, network], catalogue, own.frame, profile)
    assert none == {} and "With lesion-masks/ in the data folder" in why
    lesion = np.zeros((32, 32), np.uint8)
    lesion[4:9, 20:26] = 255
    first = {split: Path(rows["path"].iloc[0]).stem for split, rows in own.frame.groupby("split")}
    (tmp_path / "lesion-masks").mkdir()
    for name in (f"{first['test']}.a", f"{first['test']}.b", f"{first['train']}.a"):
        Image.fromarray(lesion).save(tmp_path / "lesion-masks" / f"{name}.png")
    found, which = numbers.locate_lesions([network, network], catalogue, own.frame, profile)
    assert set(found) == {"gradient", "SHAP", numbers.MIDDLE} and "3 masks of 2 images" in which
    for each in found.values():
        assert each["label"].str.endswith(", learnt from").sum() == 2 and each["mass within lungs"].isna().all()
        assert each["mass_by_chance"].tolist() == pytest.approx([30 / 32**2] * 6)


def test_controls_with_masks_are_learnt_and_scored_on_images_that_have_one(tmp_path, monkeypatch):
    own, networks = covid_data(tmp_path), [load_backbone("SmallNet", "formula", 32)]
    lung = np.zeros((48, 48), np.uint8)
    lung[10:40, 8:40] = 255
    first = own.frame.groupby(["label", "split"]).cumcount() < 3
    masks = {Path(path).stem: lung for path in own.frame.loc[first, "path"]}
    (tmp_path / "masks").mkdir()
    for name, mask in masks.items():
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    profile = load_profile("phantom", SETTINGS | {"lung_masks": str(tmp_path / "masks")})
    with pytest.warns(UserWarning, match="marked the lungs on too few images of NORMAL, BACTERIA, VIRUS, COVID-19"):
        assert "lungs only" not in set(score_controls(own, networks, profile)["control"])
    monkeypatch.setattr(controls, "FEW", 3)
    table = score_controls(own, networks, profile)
    images = table[table["setting"] == "tied"].groupby("control")["image_id"].apply(set)
    exact = [controls.WITH_MASKS, "lungs blacked out", "lungs only", "outline of the lungs"]
    assert all(images[name] == images[exact[0]] and len(images[name]) < len(images["whole image"]) for name in exact)
    scores = table[table["setting"] == "tied"].set_index(["control", "image_id"])["p_COVID-19"]
    assert scores["outline of the lungs"].nunique() == 1  # one outline for all gives nothing away
    assert scores["lungs only"].nunique() > 1
