"""Fine-tuning: what learns and by which steps, which epoch is kept, and that a killed training goes on."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny_training
from tiny_training import CLASSES, SIZE, STATEFUL, striped_images, tiny_backbone

from helpers.model import finetune_training as parts
from helpers.model.finetune import (
    FinetunedNetwork,
    FinetuneSettings,
    features_of,
    finetune,
    finetune_ensemble,
    over_rows,
)

BACKENDS = [name for name in ("tensorflow", "jax", "torch") if importlib.util.find_spec(name)]
SETTINGS = FinetuneSettings(epochs=2, batch=7, learning_rate=0.01, weight_decay=0.0)
LONGEST = 240  # seconds to wait for a process on a busy machine
IMAGES, CODES, SPLIT = striped_images()


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture
def tune(backbone, tmp_path):
    """Fine-tuning of the tiny backbone on striped images; keywords are settings, or take `finetune`'s arguments."""

    def run(labels=CODES, train=IMAGES, held_out=IMAGES, split=SPLIT, head=None, folder=tmp_path, **changed):
        settings = replace(SETTINGS, **changed)
        if settings.trainable == "head":
            train = held_out = features_of(backbone, IMAGES, np.arange(len(IMAGES)))
        return finetune(backbone, train, held_out, labels, split, CLASSES, settings, folder, head)

    return run


# --- what learns ----------------------------------------------------------------------------------------------------


def test_all_layers_learn_and_the_backbone_stays_as_it_was(tune, backbone):
    before = backbone.model.get_weights()
    network = tune(epochs=20, optimizer="adam")
    assert all(np.array_equal(a, b) for a, b in zip(before, backbone.model.get_weights(), strict=True))
    assert (network.predict(IMAGES).argmax(axis=1) == CODES)[SPLIT == "validation"].mean() > 0.85
    assert list(network.history.columns) == ["epoch", "step", "split", "accuracy", "cross_entropy", "learning_rate"]
    assert network.history["step"].max() == 20 * 4


@pytest.mark.parametrize(("trainable", "moved"), [("head", 1), (1, 2), ("all", 4)])
def test_only_the_layers_that_are_asked_for_learn(tune, backbone, trainable, moved):
    network = tune(trainable=trainable, keep="last", schedule="cosine")
    fixed = {layer.name: layer.get_weights() for layer in backbone.model.layers if layer.weights}
    now = {layer.name: layer.get_weights() for layer in network.logits.layers if layer.weights}
    same = [name for name in fixed if all(map(np.array_equal, fixed[name], now[name]))]
    assert len(fixed) + 1 - len(same) == moved


def test_batch_normalisation_keeps_its_statistics_unless_it_is_to_learn_them(tune, backbone):
    first = backbone.model.get_layer("normalisation").get_weights()
    fixed = tune(keep="last", schedule="cosine").logits.get_layer("normalisation").get_weights()
    learnt = tune(keep="last", schedule="cosine", train_batch_norm=True).logits.get_layer("normalisation").get_weights()
    np.testing.assert_array_equal(fixed[2:], first[2:])
    assert not np.array_equal(fixed[0], first[0]) and not np.array_equal(learnt[2], first[2])


@pytest.mark.parametrize("standardise", [False, True])
def test_epoch_0_is_the_head_that_was_given(tune, backbone, standardise):
    head = SimpleNamespace(kernel=np.ones((6, 2), np.float32) * [1, -1], bias=np.array([-0.1, 0.1], np.float32))
    network = tune(head=head, standardise=standardise, learning_rate=10.0, clip_norm=1.0)
    logits = backbone.model.predict(IMAGES[..., None].astype(np.float32), verbose=0) @ head.kernel + head.bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    first = network.history.iloc[0]
    entropy = -np.log(expected[np.arange(44), CODES])[SPLIT == "validation"].mean()
    assert first["epoch"] == 0 and first["cross_entropy"] == pytest.approx(entropy, abs=1e-4)
    if network.epoch == 0:  # at this rate nothing better is learnt, and the scaling leaves no trace
        np.testing.assert_allclose(network.predict(IMAGES), expected, atol=1e-5)


def test_the_last_layer_alone_learns_from_features_as_if_it_were_trained_through(tune, tmp_path):
    """Against the same training through all layers, none of which but the last may learn."""
    settings = replace(SETTINGS, trainable="head", epochs=3, weight_decay=0.01)
    network = tune(trainable="head", epochs=3, weight_decay=0.01)
    logits = parts.assemble(tiny_backbone(), 2, replace(settings, trainable="all"))
    parts.set_last_layer(logits, None, settings.seed, None)
    for layer in logits.layers:
        layer.trainable = layer.name == "logits"
    parts.compile_training(logits, settings, 4)
    rows = np.flatnonzero(SPLIT == "train")
    for epoch in (1, 2, 3):
        order = np.random.default_rng((settings.seed, epoch, 3)).permutation(rows)
        for first in range(0, len(order), 7):
            some = order[first : first + 7]
            logits.train_on_batch(IMAGES[some][..., None].astype(np.float32), np.eye(2, dtype=np.float32)[CODES[some]])
    assert network.epoch == 3
    np.testing.assert_allclose(network.weights[-2], logits.get_weights()[-2], atol=1e-4)


def test_a_network_that_was_compiled_before_trains_as_a_new_one_does(tune, tmp_path):
    how = {"standardise": True, "optimizer": "adam", "schedule": "cosine"}
    tune(seed=5, folder=tmp_path / "first", **how)
    assert len(parts.COMPILED) <= parts.KEPT
    again = tune(seed=6, folder=tmp_path / "again", **how)
    parts.COMPILED.clear()
    alone = tune(seed=6, folder=tmp_path / "alone", **how)
    for one, other in zip(again.weights, alone.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_those_of_caffe_with_weight_decay_inside_the_momentum(nesterov):
    settings = FinetuneSettings(trainable="head", learning_rate=0.1, weight_decay=0.3, nesterov=nesterov)
    body = SimpleNamespace(features=3, name="none")
    logits = parts.assemble(body, 2, settings)
    kernel = np.array([[0.5, -1.0], [0.2, 0.3], [-0.4, 0.1]])
    logits.set_weights([kernel.astype(np.float32), np.zeros(2, np.float32)])
    parts.compile_training(logits, settings, 1)
    x, target, bias, speed = np.array([[1.0, 2.0, -1.0]]), np.array([[1.0, 0.0]]), np.zeros(2), [0.0, 0.0]
    for _ in range(3):
        logits.train_on_batch(x.astype(np.float32), target.astype(np.float32))
        e = np.exp(x @ kernel + bias)
        slope = e / e.sum() - target
        gradients = [x.T @ slope + 0.3 * kernel, slope[0]]  # Caffe: decay times the weight, biases without
        for i, (value, gradient) in enumerate(zip((kernel, bias), gradients, strict=True)):
            before, speed[i] = speed[i], 0.9 * speed[i] - 0.1 * gradient
            value += -0.9 * before + 1.9 * speed[i] if nesterov else speed[i]
    for found, expected in zip(logits.get_weights(), (kernel, bias), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_gradient_is_clipped_to_the_longest_that_is_allowed():
    settings = FinetuneSettings(trainable="head", learning_rate=1.0, clip_norm=0.25)
    logits = parts.assemble(SimpleNamespace(features=2, name="none"), 2, settings)
    parts.compile_training(logits, settings, 1)
    before = logits.get_weights()
    logits.train_on_batch(np.full((1, 2), 100, np.float32), np.array([[0, 1]], np.float32))
    step = np.concatenate([(a - b).ravel() for a, b in zip(before, logits.get_weights(), strict=True)])
    assert np.linalg.norm(step) <= 0.2501


# --- rates and the epoch that is kept ---------------------------------------------------------------------------------


def test_rates_follow_the_schedules():
    steps, plateau = FinetuneSettings(), FinetuneSettings(schedule="plateau", learning_rate=1.0)
    assert [steps.rate(epoch, []) for epoch in (1, 10, 11, 30)] == pytest.approx([5e-4, 5e-4, 5e-5, 5e-6])
    losses = [1.0, 0.9, 0.95, 0.8, 0.8]  # of epoch 0 and on: two are no better than the lowest before them
    assert [plateau.rate(len(losses[:n]), losses[:n]) for n in range(1, 6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_a_cosine_rises_for_an_epoch_and_ends_in_nothing(tune):
    rates = tune(schedule="cosine", epochs=4, keep="last").history.query("split == 'train'")["learning_rate"]
    assert rates.iloc[0] == pytest.approx(0.01) and rates.is_monotonic_decreasing and rates.iloc[-1] < 1e-6


def test_each_training_image_is_seen_once_per_epoch_in_an_order_of_its_own(tune):
    asked = []
    tune(train=lambda epoch, rows: asked.append((epoch, *rows)) or IMAGES[rows])
    for epoch in (1, 2):
        batches = dict.fromkeys(some[1:] for some in asked if some[0] == epoch)
        assert sorted(row for some in batches for row in some) == np.flatnonzero(SPLIT == "train").tolist()
    assert len(set(asked)) >= 8
    assert tune(images_per_epoch=10).history["step"].max() == 4


@pytest.mark.parametrize("keep", ["best", "best trained", "last"])
def test_the_epoch_is_kept_that_the_settings_name(tune, keep):
    network = tune(keep=keep, learning_rate=1e-12, epochs=3)
    assert network.epoch == {"best": 0, "last": 3}.get(keep, network.epoch) and (network.epoch or keep == "best")
    noted = network.history.query("split == 'validation' and epoch == @network.epoch")["cross_entropy"].iloc[0]
    found = network.predict(IMAGES)[np.arange(44), CODES][SPLIT == "validation"]
    assert noted == pytest.approx(-np.log(found).mean(), abs=1e-5)


def test_training_stops_after_so_many_epochs_without_a_better_one(tune):
    network = tune(learning_rate=5.0, clip_norm=1.0, patience=2, epochs=30, seed=5)
    assert network.history["epoch"].max() == network.epoch + 2


def test_sigmoids_learn_several_labels_and_their_loss_is_scikit_learns(tune):
    from sklearn.metrics import log_loss

    truth = np.stack([CODES == 1, CODES == 0], axis=1)
    network = tune(labels=truth, loss="sigmoid", optimizer="adam", epochs=15, schedule="plateau")
    found, held = network.predict(IMAGES), SPLIT == "validation"
    assert ((found > 0.5) == truth)[held].mean() > 0.8
    last = network.history.query("split == 'validation' and epoch == @network.epoch").iloc[0]
    expected = np.mean([log_loss(truth[held, i], found[held, i].astype(float)) for i in range(2)])
    assert last["cross_entropy"] == pytest.approx(expected, abs=1e-5)
    assert last["accuracy"] == pytest.approx(((found > 0.5) == truth)[held].mean())


# --- going on -------------------------------------------------------------------------------------------------------


def test_when_training_fails_then_the_next_call_goes_on_to_the_same_network(tune, tmp_path):
    whole = tune(folder=tmp_path / "whole", epochs=3, **STATEFUL)
    calls = []

    def failing(epoch, rows):
        calls.append(epoch)
        if epoch == 3 and len(calls) < 60:
            raise OSError("the disk went away")
        return IMAGES[rows]

    with pytest.raises(Exception, match="the disk went away"):
        tune(train=failing, epochs=3, **STATEFUL)
    calls.clear()
    again = tune(train=lambda epoch, rows: calls.append(epoch) or IMAGES[rows], epochs=3, **STATEFUL)
    assert set(calls) - {0} == {3}
    pd.testing.assert_frame_equal(again.history, whole.history, rtol=1e-5)
    for mine, other in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


def test_when_a_training_is_finished_then_it_is_not_trained_again_and_other_settings_are(tune, tmp_path):
    first, calls = tune(), []
    again = tune(train=lambda epoch, rows: calls.append(epoch) or IMAGES[rows])
    assert set(calls) <= {0} and all(map(np.array_equal, first.weights, again.weights))
    assert tune(learning_rate=0.02).history["learning_rate"].max() == pytest.approx(0.02)
    (place, *_) = tmp_path.glob("training-*")
    (place / "checkpoint.npz").write_bytes(b"half a file")
    with pytest.raises(ValueError, match="checkpoint.npz is damaged"):
        tune(), tune(learning_rate=0.02)


def start(name, folder, **environment):
    """A training of `tiny_training` in a process of its own."""
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"} | environment
    folder.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, tiny_training.__file__, name, str(folder)], env=environment)


def asked(folder):
    return (folder / "asked.txt").read_text().splitlines() if (folder / "asked.txt").is_file() else []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process so")
def test_when_the_process_is_killed_in_an_epoch_then_another_goes_on_to_the_same_result(tmp_path):
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    undisturbed.mkdir()
    process, until = start("tiny", killed), time.monotonic() + LONGEST
    while not any(line.startswith("2 ") for line in asked(killed)[:-3]):
        assert process.poll() is None and time.monotonic() < until, "the training never came that far"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(LONGEST)
    before = len(asked(killed))
    assert start("tiny", killed).wait(LONGEST) == 0
    assert not any(line.startswith("1 ") for line in asked(killed)[before:])  # it did not begin anew
    whole = tiny_training.tiny(undisturbed)
    history = pd.read_csv(killed / "history.csv")
    pd.testing.assert_frame_equal(history, whole.history, rtol=1e-5, atol=1e-5, check_dtype=False)
    with np.load(killed / "result.npz") as found:
        for name, other in zip(found.files[1:], whole.weights, strict=True):
            np.testing.assert_allclose(found[name], other, atol=1e-5)


@pytest.mark.skipif(len(BACKENDS) < 2, reason=f"of Keras's backends only {', '.join(BACKENDS)} is installed")
def test_every_backend_trains_the_small_network_alike(tmp_path):
    processes = {name: start("smallnet", tmp_path / name, KERAS_BACKEND=name) for name in BACKENDS}
    accuracy = {}
    for name, process in processes.items():
        assert process.wait(LONGEST) == 0, name
        history = pd.read_csv(tmp_path / name / "history.csv")
        accuracy[name] = history.query("split == 'validation' and epoch == 2")["accuracy"].iloc[0]
    assert max(accuracy.values()) - min(accuracy.values()) <= 0.02 and min(accuracy.values()) > 0.8


# --- what is left ----------------------------------------------------------------------------------------------------


def test_what_is_saved_is_the_same_network(tune, tmp_path, backbone):
    network = tune()
    network.save(tmp_path / "saved")
    again = FinetunedNetwork.load(tmp_path / "saved", backbone)
    assert (again.classes, again.epoch, again.settings) == (network.classes, network.epoch, network.settings)
    pd.testing.assert_frame_equal(again.history, network.history)
    np.testing.assert_array_equal(again.predict(IMAGES), network.predict(IMAGES))
    exact = network.model.predict(IMAGES[..., None].astype(np.float32), verbose=0)
    np.testing.assert_allclose(network.predict(IMAGES), exact, atol=1e-5)
    with pytest.raises(FileNotFoundError):
        FinetunedNetwork.load(tmp_path / "elsewhere", backbone)


def test_rows_of_a_source_are_given_in_the_order_asked_for(backbone):
    whole = features_of(backbone, IMAGES, np.arange(44))
    np.testing.assert_allclose(features_of(backbone, IMAGES, np.array([7, 3])), whole[[7, 3]], atol=1e-6)
    assert over_rows(lambda images: images.mean(axis=(1, 2)), lambda epoch, rows: IMAGES[rows], np.arange(0)).size == 0


def test_an_ensemble_averages_networks_of_other_seeds_on_both_mirror_images(backbone, tmp_path):
    seeds = []
    ensemble = finetune_ensemble(
        *(2, backbone, lambda seed: seeds.append(seed) or IMAGES, IMAGES, CODES, SPLIT, CLASSES),
        **{"settings": replace(SETTINGS, epochs=1), "folder": tmp_path},
    )
    assert seeds == [1, 2]
    views = (IMAGES, np.ascontiguousarray(IMAGES[:, :, ::-1]))
    expected = np.mean([network.predict(view) for network in ensemble.networks for view in views], axis=0)
    np.testing.assert_allclose(ensemble.predict(IMAGES), expected, atol=1e-6)
    ensemble.save(tmp_path / "saved")
    assert FinetunedNetwork.load(tmp_path / "saved" / "network_2", backbone).settings.seed == 2


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"split": np.where(SPLIT == "train", "train", "test")}, "no validation images"),
        ({"trainable": 9}, "has 2 layers below its head"),
        ({"learning_rate": 1e30, "epochs": 3}, "training diverged in epoch"),
        ({"optimizer": "lion"}, "sgd"),
        ({"epochs": 0}, "epochs"),
        ({"dropout": 1.0}, "dropout"),
        ({"trainable": "some"}, "trainable"),
    ],
)
def test_input_that_cannot_be_learnt_from_is_refused(tune, changed, message):
    with pytest.raises(ValueError, match=message):
        tune(**changed)


def test_precision_is_mixed_on_a_gpu_alone(monkeypatch):
    assert parts.training_precision() == "float32"
    monkeypatch.setattr(parts, "usable_gpus", lambda: ["GPU:0"])
    for capability, precision in (("9.0", "mixed_bfloat16"), ("7.5", "mixed_float16")):
        answer = SimpleNamespace(stdout=f"{capability}\n")
        monkeypatch.setattr(parts.subprocess, "run", lambda *_, answer=answer, **__: answer)
        assert parts.training_precision() == precision


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_in_mixed_precision_it_trains_and_what_is_left_is_float32(tune, monkeypatch, precision):
    monkeypatch.setattr(parts, "training_precision", lambda: precision)
    network = tune(learning_rate=0.001)
    assert network.history["cross_entropy"].notna().all()
    assert {weight.dtype for weight in network.weights} == {np.dtype("float32")} and SIZE == 8
