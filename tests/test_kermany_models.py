"""What Kermany 2018 trained: the heads, what small data does to them, and the learning curve."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny import run_maker, tiny_images

from helpers.data.kermany_images import XRAY_CLASSES
from helpers.kermany import models
from helpers.kermany.localisation import share_in_known_lungs
from helpers.kermany.models import CLASSES, load_head
from helpers.kermany.numbers import curve_parts, curve_points, full_against_limited
from helpers.model.experiment import Images, pixels_of
from helpers.model.finetune import Ensemble, load_networks
from helpers.run.profile import load_profile

OCT = CLASSES["multiclass"]
PROFILE = load_profile("phantom", "head_steps=20 head_evaluate_every=5 head_l2=0,0.01 limited_per_class=5")


def oct_features(train=(20, 9, 8, 30), held_out=5, seed=0):
    """A split frame, and its features: one centre per class, in a random order."""
    random = np.random.default_rng(seed)
    parts = {"train": train, "validation": (held_out,) * 4, "test": (held_out,) * 4}
    frame = pd.concat([pd.DataFrame({"label": np.repeat(OCT, each), "split": name}) for name, each in parts.items()])
    frame = frame.sample(frac=1, random_state=seed).reset_index(drop=True)
    frame = frame.assign(image_id="image-" + frame.index.astype(str), patient_id=frame.index // 2)
    codes = frame["label"].map(OCT.index).to_numpy()
    centres = random.normal(size=(4, 6))
    return frame, (centres[codes] + 0.5 * random.normal(size=(len(frame), 6))).astype(np.float32)


def train(name, folder, frame, features):
    return run_maker(models.train_named_head, Images(None, frame), PROFILE, folder, features=features, name=name)


def test_a_head_scores_each_held_out_image_once_per_selection_and_is_kept(tmp_path):
    frame, features = oct_features()
    frame.loc[frame.index[frame["split"] == "train"][:3], "split"] = "held-out"
    made = train("multiclass", tmp_path, frame, features)
    held_out = frame[frame["split"] != "train"]
    for selection in ("validation", "test"):
        head, scores = load_head(made, selection), made.scores[made.scores["selection"] == selection]
        assert list(scores["image_id"]) == list(held_out["image_id"])
        given = scores[[f"p_{name}" for name in OCT]].to_numpy()
        np.testing.assert_allclose(given, head.predict(features[held_out.index]), atol=1e-6)
    assert set(made.history["l2"]) == {load_head(made).l2}
    assert list(made.history.query("split == 'test'")["step"]) == [5, 10, 15, 20]


def test_a_binary_head_learns_and_scores_only_the_disease_and_normal(tmp_path):
    made = train("dme_normal", tmp_path, *oct_features())
    assert made.classes == ("DME", "NORMAL") and set(made.scores["label"]) == {"DME", "NORMAL"}
    assert list(made.scores.columns[-2:]) == ["p_DME", "p_NORMAL"]


def test_the_limited_head_takes_so_many_training_images_per_class_or_what_there_is():
    frame, _ = oct_features()
    rows = models.rows_of("limited", frame, PROFILE)
    assert rows[rows["split"] == "train"]["label"].value_counts().to_dict() == dict.fromkeys(OCT, 5)
    assert (rows["split"] != "train").sum() == (frame["split"] != "train").sum()
    frame, _ = oct_features(train=(20, 9, 3, 30))
    with pytest.warns(UserWarning, match="only 3 training images per class instead of 5"):
        rows = models.rows_of("limited", frame, PROFILE)
    assert rows[rows["split"] == "train"]["label"].value_counts().to_dict() == dict.fromkeys(OCT, 3)


# --- the learning curve --------------------------------------------------------------------------------------------


def test_the_learning_curve_trains_each_draw_on_both_initialisations(tmp_path, monkeypatch):
    frame, features = oct_features()
    asked = []

    def random_features(images, backbone, profile):
        asked.append(images.frame)
        return features * 0, pd.Index(frame["image_id"])

    monkeypatch.setattr(models, "_features_of", random_features)
    profile = PROFILE.model_copy(update={"curve_per_class": (3, 5), "curve_seeds": 2})
    made = run_maker(models.train_learning_curve, Images(None, frame), profile, tmp_path, features=features)
    points, means = curve_points(drawn := curve_parts(made.table("curve"), OCT))
    assert list(points.columns) == ["initialisation", "per_class", "seed", "accuracy", "auroc"]
    assert len(points) == 8 and points["seed"].nunique() == 2
    assert len(means) == 8 and set(means["method"]) == {"test patients and 2 trainings"}
    assert (means["low"] < means["high"]).all()
    mean = points.groupby("initialisation")["accuracy"].mean()
    assert mean["pre-trained"] > 0.6 > mean["random initialisation"]
    assert len(asked[0]) < len(frame) and asked[0]["image_id"].is_unique
    many, few = (part for _, part in made.table("curve").query("per_class == 5").groupby("initialisation"))
    table = full_against_limited(many, few, drawn, per_class=3)
    assert list(table["compared"][1:3]) == [
        "full less limited model, one training each",
        "5 less 3 images per class, 2 draws",
    ]
    mean = points[points["initialisation"] == "pre-trained"].groupby("per_class")["auroc"].mean()
    assert table["difference"].iloc[3] == pytest.approx(mean[5] - mean[3])  # over draws, one by one
    assert (
        table["p_holm"].min() == pytest.approx(min(1, 4 * table["p"].min())) and table["p by image"][:2].notna().all()
    )


def test_the_curve_leaves_out_what_the_smallest_class_cannot_give_and_nests_its_draws():
    frame, _ = oct_features()
    profile = PROFILE.model_copy(update={"curve_per_class": (3, 8, 9, 1000), "curve_seeds": 2})
    with pytest.warns(UserWarning, match="leaves out 9, 1,000 images per class: the smallest class has 8"):
        points = models.draw_curve(frame, profile)
    assert [size for size, _, _ in points] == [3, 3, 8, 8]
    assert set(points[0][2]["image_id"]) < set(points[2][2]["image_id"])


# --- the fine-tuned networks ---------------------------------------------------------------------------------------


def test_each_training_scores_every_image_it_did_not_learn_from_by_networks_of_its_own(tmp_path):
    images = tiny_images(tmp_path / "images", XRAY_CLASSES, (10, 4, 4))
    images.frame.loc[images.frame["image_id"].str.endswith("train-7"), "split"] = "held-out"
    small = {"weights": "none", "finetune_size": 32, "finetune_epochs": 1, "finetune_networks": 2, "trainings": 2}
    made = run_maker(models.finetune_referral_networks, images, load_profile("phantom", small), tmp_path / "runs")
    held_out = images.frame[images.frame["split"] != "train"]
    for seed in (1, 3):
        mine = made.scores[made.scores["seed"] == seed]
        assert list(mine["image_id"]) == list(held_out["image_id"]) and set(mine["split"]) > {"held-out"}
    assert made.scores[[f"p_{label}" for label in made.classes]].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    assert made.summary["chosen epochs"] == [1] * 4 and made.history["seed"].unique().tolist() == [1, 2, 3, 4]
    pair = Ensemble(tuple(load_networks(made)[2:]))
    pixels = pixels_of(images.catalogue, held_out, 32)
    np.testing.assert_allclose(mine[[f"p_{label}" for label in made.classes]], pair.predict(pixels), atol=1e-6)
    profile = load_profile("phantom", small | {"backbone": "SmallNet", "data_dir": str(tmp_path)})
    none, why = share_in_known_lungs(made, images.catalogue, images.frame, profile)
    assert none.empty and "with lung-masks/ in the data folder" in why
    lung, test = np.zeros((32, 32), np.uint8), images.frame[images.frame["split"] == "test"]
    lung[8:24, 8:24] = 255
    (tmp_path / "lung-masks").mkdir()
    for path in test["path"][:-1]:
        Image.fromarray(lung).save(tmp_path / "lung-masks" / path)
    shares, which = share_in_known_lungs(made, images.catalogue, images.frame, profile)
    found = shares.set_index(["measure", "label"])
    assert found.loc[("area", "all"), ["value", "n"]].tolist() == [0.25, len(test) - 1]
    assert 0 < found.loc[("inside", "all"), "value"] < 1 and f"{len(test) - 1} of {len(test)} test images" in which


def test_the_network_that_sees_locally_judges_by_averages_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "LOCAL_SIZE", 32)
    monkeypatch.setattr(models, "LOCAL", models.LOCAL | {"epochs": 1})
    images = tiny_images(tmp_path / "images", OCT, (6, 2, 2))
    profile = PROFILE.model_copy(update={"trainings": 2})
    made = run_maker(models.finetune_local_network, images, profile, tmp_path / "runs")
    assert len(made.scores) == 2 * 4 * 4 and made.scores["seed"].unique().tolist() == [1, 2]
    network, _ = load_networks(made)
    assert network.epoch == 1 and network.classes == OCT
    kinds = {type(layer).__name__ for layer in network.logits.layers}
    assert "GlobalAveragePooling2D" in kinds and "GlobalMaxPooling2D" not in kinds
