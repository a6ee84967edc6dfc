"""Networks with several labels an image: the head, the fine-tuning, the recipe, and the maps of what it looked at."""

import numpy as np
import pandas as pd
import pytest

from helpers.model.backbones import load_backbone
from helpers.model.finetune import ArraySource
from helpers.model.finetune_network import Scaling
from helpers.model.linear import fit_labels
from helpers.model.multilabel import Schedule, finetune_multilabel
from helpers.model.multilabel_head import cross_entropy
from helpers.model.multilabel_run import MultilabelRun
from helpers.zech import maps as heat

LABELS = ("Effusion", "Mass")


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
    parts = (np.flatnonzero(split == name) for name in ("train", "validation"))
    head = fit_labels(given, truth, *parts, LABELS, (0.0001, 0.01))
    mean, deviation = given.mean(axis=0), given.std(axis=0) + 1e-3
    schedule = Schedule(epochs=epochs, learning_rate=0.001, clip_norm=1.0, **options)
    source = ArraySource(pixels)
    told = (truth, split, head, schedule, Scaling(mean, deviation), checkpoints)
    return finetune_multilabel(backbone, source, source, *told), head, given, pixels


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
    parts = (np.flatnonzero(split == name) for name in ("train", "validation"))
    head = fit_labels(flat, truth, *parts, LABELS, (1.0,))
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


# --- maps ------------------------------------------------------------------------------------------------------------


def test_examples_are_the_clearest_and_the_nearest_and_none_twice():
    scores = pd.DataFrame(
        {"image_id": list("abcd"), "y_Mass": [True, True, False, False], "p_Mass": [0.3, 0.6, 0.9, 0.1]}
    )
    assert heat.clearest(scores, ["Mass"])["image_id"].tolist() == ["b"]
    assert heat.nearest(scores, "Mass", [0.32, 0.31])["image_id"].tolist() == ["a", "d"]
