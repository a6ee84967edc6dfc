"""Networks with several labels an image: the head, the fine-tuning, the recipe, and the maps of what it looked at."""

import numpy as np
import pandas as pd
import pytest
from tiny import run_maker, tiny_images

from helpers.explain.activation import class_activation, enlarged
from helpers.model.backbones import load_backbone
from helpers.model.experiment import Images
from helpers.model.finetune import ArraySource
from helpers.model.finetune_network import Scaling
from helpers.model.multilabel import Schedule, finetune_multilabel
from helpers.model.multilabel_head import cross_entropy, train_multilabel_head
from helpers.model.multilabel_run import MultilabelRun
from helpers.run.profile import load_profile
from helpers.zech import maps as heat
from helpers.zech.chexnet import FEW, Mirrored, chexnet, learnable

LABELS = ("Effusion", "Mass")
SETTINGS = {"chexnet_backbone": "SmallNet", "weights": "none", "chexnet_size": 32, "chexnet_epochs": 2, "workers": 1}


def features(n=300, d=6, seed=0):
    """Two labels that follow from two of the features, and how rows are shared out."""
    rng = np.random.default_rng(seed)
    x = rng.normal(3, 5, (n, d)).astype(np.float32)
    truth = np.stack([x[:, 0] > 5, x[:, 1] + rng.normal(0, 2, n) > 8], axis=1)
    return x, truth, np.where(np.arange(n) % 3 == 0, "validation", "train")


def small_images(n=60, size=32, seed=0):
    """Images that are bright on the left (label 1) or have a bright spot (label 2), or both."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, 2)) < 0.5
    pixels = rng.normal(80, 10, (n, size, size))
    pixels[truth[:, 0], :, :8] += 90
    pixels[truth[:, 1], 20:28, 20:28] += 90
    return pixels.clip(0, 255).astype(np.uint8), truth, np.where(np.arange(n) % 3 == 0, "validation", "train")


def tuned(checkpoints=None, epochs=2, **options):
    pixels, truth, split = small_images()
    backbone = load_backbone("SmallNet", "formula", 32)
    given = backbone.model.predict_on_batch(pixels[..., None].astype(np.float32))
    head = train_multilabel_head(given, truth, split, LABELS, (0.01, 1.0))
    mean, deviation = given.mean(axis=0), given.std(axis=0) + 1e-3
    schedule = Schedule(epochs=epochs, learning_rate=0.001, clip_norm=1.0, **options)
    source = ArraySource(pixels)
    told = (truth, split, head, schedule, Scaling(mean, deviation), checkpoints)
    return finetune_multilabel(backbone, source, source, *told), head, given, pixels


# --- the head --------------------------------------------------------------------------------------------------------


def test_each_label_is_learnt_by_itself():
    x, truth, split = features()
    head = train_multilabel_head(x, truth, split, LABELS, (0.001, 0.1))
    right = (head.predict(x) > 0.5) == truth
    assert right[:, 0].mean() > 0.95 and right[:, 1].mean() > 0.8
    one = train_multilabel_head(x, truth[:, :1], split, LABELS[:1], (0.001, 0.1))
    np.testing.assert_allclose(one.predict(x)[:, 0], head.predict(x)[:, 0], atol=0.02)


def test_validation_chooses_the_penalty_of_each_label():
    x, truth, split = features(d=60)
    noise = np.random.default_rng(1).random((len(x), 1)) < 0.4
    head = train_multilabel_head(x, np.hstack([truth[:, :1], noise]), split, LABELS, (1.0, 1000.0))
    assert head.l2[0] == 1.0 and head.l2[1] == 1000.0  # of the noise there is nothing to learn


def test_cross_entropy_is_that_of_scikit_learn():
    from sklearn.metrics import log_loss

    rng = np.random.default_rng(2)
    logits, truth = rng.normal(size=(50, 1)), rng.random((50, 1)) < 0.5
    expected = log_loss(truth[:, 0], 1 / (1 + np.exp(-logits[:, 0])))
    assert cross_entropy(logits, truth)[0] == pytest.approx(expected)


def test_a_label_without_positives_is_refused_by_name():
    x, truth, split = features()
    truth[:, 1] = False
    with pytest.raises(ValueError, match="Mass"):
        train_multilabel_head(x, truth, split, LABELS, (0.1,))


# --- fine-tuning -----------------------------------------------------------------------------------------------------


def test_epoch_0_is_the_head_on_frozen_features_and_the_best_epoch_is_kept():
    run, head, given, pixels = tuned()
    held = run.history[run.history["split"] == "validation"]
    _, truth, split = small_images()
    first = cross_entropy(given @ head.kernel + head.bias, truth)
    rows = split == "validation"
    first = cross_entropy(given[rows] @ head.kernel + head.bias, truth[rows]).mean()
    assert held["cross_entropy"].iloc[0] == pytest.approx(first, abs=1e-3)
    assert run.epoch == held.set_index("epoch")["cross_entropy"].idxmin()
    probabilities = run.predict(pixels)
    assert probabilities.shape == (60, 2) and ((probabilities > 0.5) == truth).mean() > 0.9
    logits = run.logits().predict_on_batch(pixels[rows][..., None].astype(np.float32))
    assert cross_entropy(logits, truth[rows]).mean() == pytest.approx(held["cross_entropy"].min(), abs=1e-3)


def test_the_learning_rate_drops_where_the_loss_does_not_and_training_then_ends():
    pixels, truth, split = small_images()
    truth[split == "validation"] = ~truth[split == "validation"]  # so that learning can only make validation worse
    backbone = load_backbone("SmallNet", "none", 32)
    flat = np.zeros((len(pixels), backbone.features), np.float32)
    head = train_multilabel_head(flat, truth, split, LABELS, (1.0,))
    schedule = Schedule(epochs=20, learning_rate=0.01, clip_norm=1.0, patience=2)
    scaling = Scaling(np.zeros(backbone.features, np.float32), np.ones(backbone.features, np.float32))
    source = ArraySource(pixels)
    run = finetune_multilabel(backbone, source, source, truth, split, head, schedule, scaling)
    assert run.epoch == 0 and run.history["epoch"].max() == 2
    assert run.history.loc[run.history["split"] == "train", "learning_rate"].tolist() == pytest.approx([0.01, 0.001])


def test_when_a_training_was_killed_then_it_goes_on_to_the_same_weights(tmp_path):
    whole, *_ = tuned(epochs=3, patience=5)
    import helpers.model.multilabel as module

    saves, real = [], module._Trainer._save

    def save_then_die(self):
        real(self)
        saves.append(self.progress.epoch)
        if saves == [0, 1]:
            raise KeyboardInterrupt

    module._Trainer._save = save_then_die
    try:
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path, epochs=3, patience=5)
    finally:
        module._Trainer._save = real
    again, *_ = tuned(tmp_path, epochs=3, patience=5)
    pd.testing.assert_frame_equal(again.history, whole.history, atol=1e-4)
    for a, b in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)


def test_what_is_saved_is_the_same_network(tmp_path):
    run, _, _, pixels = tuned(epochs=1)
    run.save(tmp_path)
    again = MultilabelRun.load(tmp_path)
    np.testing.assert_allclose(again.predict(pixels[:4]), run.predict(pixels[:4]), atol=1e-5)
    assert again.labels == LABELS and again.epoch == run.epoch


# --- the recipe ------------------------------------------------------------------------------------------------------


def labelled(tmp_path):
    images = tiny_images(tmp_path, ("No Finding", "Finding"), (24, 8, 8))
    catalogue, frame = images.catalogue, images.frame
    text = np.where(frame["label"] == "Finding", "Effusion|Mass", "No Finding")
    text[::5] = "Mass"
    catalogue = catalogue.subset(catalogue.frame.assign(labels=text))
    return catalogue, frame.assign(labels=text)


def test_the_network_scores_every_image_it_did_not_learn_from_on_every_label(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.run.paths.CACHE", tmp_path / "cache")
    catalogue, frame = labelled(tmp_path)
    with pytest.warns(UserWarning, match="Hernia"):
        made = run_maker(chexnet, Images(catalogue, frame), load_profile("phantom", SETTINGS), tmp_path / "runs")
    assert made.classes == ("Effusion", "Mass") and set(made.scores["selection"]) == {"validation", "frozen"}
    for _, part in made.scores.groupby("selection"):
        assert list(part["image_id"]) == list(frame.loc[frame["split"] != "train", "image_id"])
        assert part["y_Mass"].tolist() == frame.loc[frame["split"] != "train", "labels"].str.contains("Mass").tolist()
    network = MultilabelRun.load(made.folder / "network")
    assert network.labels == made.classes and network.depths == 3  # the phantom profile's: averages alone
    maps = class_activation(network, np.zeros((1, 32, 32), np.uint8), "Mass")
    assert maps.maps.sum() + network.weights[-1][1] == pytest.approx(maps.extra["logit"][0], abs=1e-3)


def test_labels_with_too_few_images_are_left_out_and_said():
    split = ["train"] * (2 * FEW)
    frame = pd.DataFrame({"labels": ["Mass"] * FEW + ["Effusion|Hernia"] * (FEW - 1) + ["Effusion"], "split": split})
    with pytest.warns(UserWarning, match=rf"Hernia \({FEW - 1}\)"):
        labels, truth = learnable(frame)
    assert labels == ("Effusion", "Mass") and truth.sum() == 2 * FEW


def test_half_of_the_images_are_mirrored_the_same_ones_in_any_batch():
    pixels = np.random.default_rng(0).integers(0, 255, (40, 4, 4), dtype=np.uint8)
    source = Mirrored(pixels, 1)
    all_of_them = source.batch(3, np.arange(40))
    turned = (all_of_them == pixels[..., ::-1]).all(axis=(1, 2))
    assert 10 < turned.sum() < 30 and (all_of_them[~turned] == pixels[~turned]).all()
    np.testing.assert_array_equal(source.batch(3, np.array([7, 2])), all_of_them[[7, 2]])
    assert (source.batch(4, np.arange(40)) != all_of_them).any()


# --- maps ------------------------------------------------------------------------------------------------------------


def test_a_class_activation_map_adds_up_to_the_logit():
    run, _, _, pixels = tuned(epochs=1)
    maps = class_activation(run, pixels[:5], ["Mass", "Effusion", "Mass", "Mass", "Effusion"])
    bias = run.weights[-1][[1, 0, 1, 1, 0]]
    np.testing.assert_allclose(maps.maps.sum(axis=(1, 2)) + bias, maps.extra["logit"], rtol=1e-3, atol=1e-3)
    assert maps.maps.shape == (5, 32, 32) and maps.target[1] == "Effusion"


def test_with_a_reference_a_map_adds_up_to_the_difference_from_its_mean_logit():
    run, _, _, pixels = tuned(epochs=1)
    plain, others = class_activation(run, pixels[:2], "Mass"), class_activation(run, pixels[2:9], "Mass")
    maps = class_activation(run, pixels[:2], "Mass", pixels[2:9])
    expected = plain.extra["logit"] - others.extra["logit"].mean()
    np.testing.assert_allclose(maps.maps.sum(axis=(1, 2)), expected, rtol=1e-3, atol=2e-3)


def test_a_map_of_an_average_alone_is_as_zhou_has_it():
    backbone = load_backbone("MobileNetV2", "none", 64)
    rng = np.random.default_rng(0)
    weights = [*backbone.model.get_weights(), rng.normal(size=(backbone.features, 2)).astype(np.float32), np.ones(2)]
    run = MultilabelRun(backbone, LABELS, weights, 0, pd.DataFrame(), {}, "")
    image = rng.integers(0, 255, (1, 64, 64), dtype=np.uint8)
    maps = class_activation(run, image, "Mass")
    assert maps.maps.sum() == pytest.approx(maps.extra["logit"][0] - 1, abs=1e-3)


def test_an_enlarged_map_keeps_its_sum_and_its_place():
    coarse = np.zeros((1, 4, 4), np.float32)
    coarse[0, 1, 2] = 3.0
    fine = enlarged(coarse, 32)
    assert fine.sum() == pytest.approx(3.0, rel=1e-4)
    row, column = np.unravel_index(fine[0].argmax(), (32, 32))
    assert 8 <= row < 16 and 16 <= column < 24


def test_maps_are_refused_for_unknown_labels_and_wrong_images():
    run, _, _, pixels = tuned(epochs=1)
    with pytest.raises(ValueError, match="did you mean Mass"):
        class_activation(run, pixels[:1], "mas")
    with pytest.raises(ValueError, match="uint8"):
        class_activation(run, pixels[:1].astype(float), "Mass")


def test_examples_are_the_clearest_and_the_nearest_and_none_twice():
    scores = pd.DataFrame(
        {"image_id": list("abcd"), "y_Mass": [True, True, False, False], "p_Mass": [0.3, 0.6, 0.9, 0.1]}
    )
    assert heat.clearest(scores, ["Mass"])["image_id"].tolist() == ["b"]
    assert heat.nearest(scores, "Mass", [0.32, 0.31])["image_id"].tolist() == ["a", "d"]
