"""The three steps: what starts are, what is learnt from, what may not be in the bridge, and what is kept."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny import run_maker

from helpers.carr import bridge_heads, bridge_starts
from helpers.carr import data as covid
from helpers.carr import models as bridge
from helpers.carr.bridge_covid import SOURCE, covid_bridge
from helpers.carr.data import CLASSES
from helpers.data.catalogue import Catalogue
from helpers.model.backbones import load_backbone
from helpers.model.experiment import Images
from helpers.run.profile import load_profile

SETTINGS = {"backbone": "SmallNet", "weights": "formula", "seed": 1, "workers": 1, "bridge_size": 32}
SETTINGS |= {"bridge_epochs": 1, "bridge_batch": 8, "bridge_per_class": "2,4", "bridge_seeds": 2, "bridge_children": 3}
SETTINGS |= {"bridge_octid_images": 4, "bridge_target_epochs": 1, "bridge_epoch_images": 0}
TARGET, BRIDGE = ("NORMAL", "MH", "DR"), ("NORMAL", "DRUSEN")


def data(folder, name, classes, per_split=(6, 3, 4), offset=0):
    """A catalogue of small pictures whose brightness follows their label, and its split frame."""
    rng, rows = np.random.default_rng(offset), []
    (folder / name).mkdir(parents=True, exist_ok=True)
    for place, label in enumerate(classes):
        for split, count in zip(("train", "validation", "test"), per_split, strict=True):
            for number in range(count):
                image = f"{label}-{split}-{number}"
                grey = rng.normal(50 + 50 * place, 15, (32, 32)).clip(0, 255).astype(np.uint8)
                Image.fromarray(grey).save(folder / name / f"{image}.png")
                digest = hashlib.sha256((folder / name / f"{image}.png").read_bytes()).hexdigest()
                rows.append({"image_id": image, "path": f"{image}.png", "label": label, "patient_id": f"{name}{image}"})
                published = "test" if split == "test" else "train"
                rows[-1] |= {"published_split": published, "digest": digest, "split": split}
    frame = pd.DataFrame(rows)
    return Images(Catalogue(name, folder / name, frame.drop(columns="split"), tuple(classes), phantom=True), frame)


@pytest.fixture
def given(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.run.paths.CACHE", tmp_path / "cache")
    return data(tmp_path, "target", TARGET), {"oct": data(tmp_path, "bridge", BRIDGE, (10, 4, 2), 1)}


def test_all_starts_are_compared_on_the_same_draws_and_the_bridges_are_kept(given, tmp_path, monkeypatch):
    own, others = given
    made = run_maker(bridge.retinal_bridge, own, load_profile("phantom", SETTINGS), tmp_path / "runs", others)
    grid = made.table("grid")
    assert set(grid["start"]) == set(bridge_starts.STARTS) and set(grid["per_class"]) == {2, 4}
    assert (grid.groupby(["start", "per_class", "seed"])["image_id"].nunique() == 12).all()
    assert grid[[f"p_{c}" for c in TARGET]].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert set(made.scores["split"]) == {"validation", "test"} and made.classes == TARGET
    assert made.summary["target images a class"] == 4 * (1 + 3) and made.summary["bridge images taken out"] == 0
    assert set(made.history["training"]) == {bridge_starts.BRIDGE, bridge_starts.BOTH, "target"}
    held_out = own.frame[own.frame["split"] != "train"]
    network = bridge.network_of(made)
    pixels = np.stack([np.array(Image.open(tmp_path / "target" / path)) for path in held_out["path"]])
    expected = made.scores[[f"p_{c}" for c in TARGET]].to_numpy()
    np.testing.assert_allclose(network.predict(pixels), expected, atol=3e-3)

    def fail(*_, **__):
        raise AssertionError("a network that was trained on this bridge before is trained again")

    monkeypatch.setattr(bridge_starts, "finetune", fail)
    again = load_profile("phantom", SETTINGS | {"bridge_seeds": 3})
    run_maker(bridge.retinal_bridge, own, again, tmp_path / "runs", others, key="other")


def test_no_patient_and_no_file_of_the_target_is_in_the_bridge(given):
    own, others = given
    oct_ = others["oct"]
    frame = own.catalogue.frame.copy()
    frame.loc[0, "patient_id"] = oct_.frame.loc[3, "patient_id"]  # in train there
    frame.loc[1, "digest"] = oct_.frame.loc[0, "digest"]
    target = Images(own.catalogue.subset(frame), frame.assign(split=own.frame["split"]))
    for same_names, expected in ((True, [0, 3]), (False, [0])):
        made, removed = bridge_starts.bridge_of(oct_, target, same_names)
        assert sorted(removed["image_id"]) == sorted(oct_.frame.loc[expected, "image_id"])
        assert not set(made.frame["digest"]) & set(frame["digest"])
        assert set(made.frame["split"]) == {"train", "validation"}
    bridge_starts.check_disjoint(bridge_starts.bridge_of(oct_, target, True)[0], target, True)
    whole = bridge_starts.Bridge(oct_.catalogue, oct_.frame)
    with pytest.raises(ValueError, match="1 of the target's patient_id are in the bridge"):
        bridge_starts.check_disjoint(whole, Images(target.catalogue.subset(frame.drop(1)), frame), same_names=True)


def test_a_draw_holds_one_image_of_each_subject_and_a_smaller_draw_lies_in_a_larger_one():
    rows = [(f"{label}{p}-{n}", f"{label}{p}", label) for label in "AB" for p in range(6) for n in range(3)]
    frame = pd.DataFrame(rows, columns=["image_id", "patient_id", "label"]).assign(split="train")
    small, large = bridge_heads.subjects(frame, 2, 1), bridge_heads.subjects(frame, 5, 1)
    assert set(small) < set(large) and len(large) == 10
    assert len({name.split("-")[0] for name in large}) == 10
    assert set(bridge_heads.subjects(frame, 5, 2)) != set(large)
    assert bridge_heads.subjects(frame.sample(frac=1, random_state=1), 5, 1) == large
    with pytest.raises(ValueError, match="there are 6 to learn from"):
        bridge_heads.subjects(frame, 7, 1)
    with pytest.warns(UserWarning, match="6 images a class in the place of 10, 20"):
        assert bridge_heads.sizes_of(frame, (2, 10, 20)) == [2, 6]


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")])
def test_a_target_head_is_scikit_learns_with_the_scaling_undone(classes):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    codes = rng.integers(len(classes), size=200)
    features = (rng.normal(size=(200, 5)) + codes[:, None] * [1, 0.5, 0, 0, 0]).astype(np.float32)
    features[:, 4] = 7.0  # says nothing
    labels = np.array(classes)[codes]
    head = bridge_heads.regression(features, labels, (features, labels), classes, (0.01,))
    scaled = (features - features.mean(0)) / np.where(features.std(0) > 0, features.std(0), 1)
    plain = LogisticRegression(C=1 / (2 * 200 * 0.01), tol=1e-8).fit(scaled, codes)
    np.testing.assert_allclose(head.predict(features), plain.predict_proba(scaled), atol=5e-3)
    with pytest.raises(ValueError, match="no images of z"):
        bridge_heads.regression(features, labels, (features, labels), (*classes, "z"), (0.01,))


def test_validation_chooses_the_penalty():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(20, 40)).astype(np.float32)
    labels = np.array(["a", "b"] * 10)
    noise = rng.normal(size=(300, 40)).astype(np.float32), np.array(["a", "b"] * 150)
    assert bridge_heads.regression(features, labels, noise, ("a", "b"), (0.001, 10.0)).l2 == 10.0


def test_a_random_network_is_given_statistics_of_the_bridge():
    images = np.random.default_rng(0).integers(0, 255, (16, 32, 32), np.uint8)
    plain = load_backbone("SmallNet", "none", 32, 1)
    made = bridge_starts.measured(plain, images)
    assert made.weights_digest != plain.weights_digest and not made.model.trainable
    layer = made.model.get_layer("stage3_2_normalisation")
    before = made.model.layers[made.model.layers.index(layer) - 1].output
    import keras

    seen = keras.Model(made.model.input, before).predict(images[..., None].astype(np.float32), verbose=0)
    np.testing.assert_allclose(np.asarray(layer.moving_mean), seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-4)


def covid_data(folder):
    """Phantom-like: every class at both sites, brightness by class and a bright corner at site B. The split is the
    target's: COVID-19 of B, all else of A; the others are held out."""
    made = data(folder, "covid", CLASSES, (16, 0, 12))
    frame = made.catalogue.frame
    number = frame["image_id"].str.extract(r"-(\d+)$")[0].astype(int)
    frame = frame.assign(site=np.where(number % 2 == 0, "A", "B"), age=np.where(number % 2 == 0, 3.0, 60.0))
    for row in frame[frame["site"] == "B"].itertuples():
        pixels = np.array(Image.open(folder / "covid" / row.path))
        pixels[:3, :3] = 255
        Image.fromarray(pixels).save(folder / "covid" / row.path)
    digest = [hashlib.sha256((folder / "covid" / path).read_bytes()).hexdigest() for path in frame["path"]]
    catalogue = Catalogue("tiny_covid", folder / "covid", frame.assign(digest=digest), CLASSES, phantom=True)
    return Images(catalogue, covid.split_of(catalogue, "patient-disjoint", 0.25, 1).frame)


def test_controls_are_learnt_from_the_same_subjects_in_both_settings(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.run.paths.CACHE", tmp_path / "cache")
    own, others = covid_data(tmp_path), {"xray": data(tmp_path, "bridge", CLASSES[:3], (8, 4, 2), 1)}
    profile = load_profile("phantom", SETTINGS | {"bridge_covid_subjects": 4})
    made = run_maker(covid_bridge, own, profile, tmp_path / "runs", others)
    table = made.table("controls")
    assert set(table["setting"]) == {"tied", "untied"} and "test" in set(table["split"])
    assert not set(table["split"]) & {"train", "validation"}
    names = {"whole image", "lungs blacked out", "lungs only", "border only", SOURCE}
    for setting, part in table.groupby("setting"):
        assert set(part["control"]) == names and (part.groupby("control")["image_id"].nunique() == len(part) / 5).all()
        assert ("held-out" in set(part["split"])) == (setting == "tied")
    assert table.loc[table["control"] == SOURCE, "p_NORMAL"].isna().all()
    tied = table[(table["setting"] == "tied") & (table["split"] == "test")]
    assert set(tied.loc[tied["label"] == "COVID-19", "site"]) == {"B"}
    assert not set(made.scores.loc[made.scores["split"] == "test", "image_id"]) ^ set(tied["image_id"])


def test_a_bridge_that_was_not_learnt_is_said_and_one_that_was_is_not(recwarn):
    frame = pd.DataFrame({"split": "validation", "label": ["a"] * 5 + ["b"] * 5})
    bridge_ = bridge_starts.Bridge(None, frame)

    def run(accuracy):
        history = pd.DataFrame({"split": ["train", "validation"], "epoch": [2, 2], "accuracy": [1.0, accuracy]})
        return SimpleNamespace(history=history, best_epoch=2)

    bridge_starts._tell_of_failure(run(0.9), bridge_, "bridge")
    assert not recwarn.list
    with pytest.warns(UserWarning, match="'bridge' hardly learnt its bridge: 52 % .* the commonest class is 50 %"):
        bridge_starts._tell_of_failure(run(0.52), bridge_, "bridge")


def test_a_random_network_learns_its_normalisations_and_a_speckled_bridge_has_a_cosine_rate():
    frame = pd.DataFrame({"split": ["train"] * 90 + ["validation"] * 10})
    profile = load_profile("phantom", {"bridge_epoch_images": 50})
    speckled = bridge_starts.Bridge(None, frame, speckled=True, epoch_images=70)
    for random in (True, False):
        made = bridge_starts.settings_of(profile, speckled, random)
        assert (made.schedule, made.warm_up, made.images_per_epoch) == ("cosine", 1, 70)
        assert made.train_batch_norm == random
    plain = bridge_starts.settings_of(profile, bridge_starts.Bridge(None, frame), True)
    assert (plain.schedule, plain.train_batch_norm, plain.images_per_epoch) == ("steps", True, 50)
