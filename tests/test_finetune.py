"""Fine-tuning: what learns, what stays, which epoch is kept, what a killed training leaves, and what is refused."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

keras = pytest.importorskip("keras")
tensorflow = pytest.importorskip("tensorflow")

from helpers.model import finetune_loop  # noqa: E402
from helpers.model.backbones import Backbone, load_backbone, weights_digest  # noqa: E402
from helpers.model.checkpoints import CheckpointError, CheckpointWarning  # noqa: E402
from helpers.model.finetune import PROBED_EPOCHS, ArraySource, FinetuneRun, FinetuneSettings, finetune  # noqa: E402
from helpers.model.finetune_network import assemble, compile_network, set_head, set_trainable  # noqa: E402
from helpers.model.finetune_precision import PrecisionWarning, training_precision  # noqa: E402
from helpers.model.finetuned import AGREEMENT  # noqa: E402
from helpers.model.head import Head  # noqa: E402

SIZE, CLASSES = 8, ("bright", "striped")
SHORT = FinetuneSettings(epochs=3, batch=14, learning_rate=0.05, drop_every=2, seed=3)
ONE = replace(SHORT, epochs=1)


@pytest.fixture(autouse=True)
def eagerly():
    """A few steps of a tiny network take less time than TensorFlow needs to trace one."""
    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)


def tiny(seed=0) -> Backbone:
    """Two convolutions, one normalisation with statistics of its own, six features."""
    keras.utils.set_random_seed(seed)
    grey = keras.Input((SIZE, SIZE, 1), name="grey")
    x = keras.layers.Rescaling(1 / 127.5, -1, name="scaling")(grey)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(x)
    x = keras.layers.BatchNormalization(name="normalisation")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="second")(x)
    model = keras.Model(grey, keras.layers.GlobalAveragePooling2D()(x), name="Tiny")
    model.get_layer("normalisation").set_weights([np.ones(4), np.zeros(4), np.full(4, 0.2), np.full(4, 0.5)])
    model.trainable = False
    return Backbone("Tiny", "none", weights_digest(model), SIZE, 6, model)


@pytest.fixture(scope="module")
def problem():
    """44 noisy images, every second one striped; their codes and splits."""
    random = np.random.default_rng(0)
    codes = np.arange(44) % 2
    images = random.integers(60, 160, (44, SIZE, SIZE)).astype(np.float64)
    images[codes == 1, ::2] *= 0.6
    split = np.array(["train"] * 28 + ["validation"] * 8 + ["test"] * 8)
    return images.astype(np.uint8), codes, split


def run(problem, settings=SHORT, backbone=None, train=None, **more) -> FinetuneRun:
    images, codes, split = problem
    held_out = ArraySource(images)
    return finetune(backbone or tiny(), train or held_out, held_out, codes, split, CLASSES, settings, **more)


def probabilities(result: FinetuneRun, images: np.ndarray, selection="validation") -> np.ndarray:
    return result.model_of(selection).predict_on_batch(images[..., None].astype(np.float32))


@pytest.fixture(scope="module")
def finished(problem, tmp_path_factory):
    """A finished training of one epoch, and the folder with its checkpoint."""
    folder = tmp_path_factory.mktemp("finished")
    return run(problem, ONE, checkpoints=folder), folder


@pytest.fixture
def folder(finished, tmp_path):
    """A copy of that folder."""
    return Path(shutil.copytree(finished[1], tmp_path / "checkpoints"))


def changed(result: FinetuneRun, before: Backbone) -> set[str]:
    """The layers, the head aside, whose weights are not the backbone's."""
    pairs = zip(result.model.weights, result.by_validation, strict=True)
    after = {w.path: value for w, value in pairs}
    return {
        weight.path.split("/")[0]
        for weight in before.model.weights
        if not np.array_equal(after[weight.path], np.asarray(weight))
    }


# --- what learns ----------------------------------------------------------------------------------------------------


def test_when_all_layers_are_tuned_then_images_are_told_apart_and_the_backbone_is_as_it_was(problem):
    backbone = tiny()
    result = run(problem, replace(SHORT, epochs=12, batch=28, learning_rate=0.3, drop_every=0), backbone)
    assert weights_digest(backbone.model) == backbone.weights_digest
    images, codes, split = problem
    given = result.predict(images[split == "test"])
    assert given.dtype == np.float32 and np.allclose(given.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(given, probabilities(result, images[split == "test"]), atol=2 * AGREEMENT)
    assert (given.argmax(axis=1) == codes[split == "test"]).mean() > 0.8
    rows = np.array([5, 2, 40])
    given = result.predict_rows(ArraySource(images), rows)
    np.testing.assert_allclose(given, probabilities(result, images[rows]), atol=2 * AGREEMENT)
    assert changed(result, backbone) == {"first", "normalisation", "second"}


@pytest.mark.parametrize(
    ("trainable", "learns"),
    [("head", set()), (1, {"second"}), (2, {"first", "normalisation", "second"})],
)
def test_when_only_the_last_layers_are_tuned_then_the_others_stay(problem, trainable, learns):
    backbone = tiny()
    assert changed(run(problem, replace(ONE, trainable=trainable), backbone), backbone) == learns


def normalisation(result: FinetuneRun) -> list[np.ndarray]:
    return result.model.get_layer("normalisation").get_weights()


def test_when_batch_norm_is_not_trained_then_its_statistics_stay_while_its_scale_learns(problem):
    gamma, beta, mean, variance = normalisation(run(problem, replace(SHORT, learning_rate=0.01)))
    np.testing.assert_array_equal(mean, np.float32(0.2))
    np.testing.assert_array_equal(variance, np.float32(0.5))
    assert np.ptp(gamma) > 0 and np.ptp(beta) > 0


def test_when_batch_norm_is_trained_then_its_statistics_move(problem):
    moved = normalisation(run(problem, replace(SHORT, learning_rate=0.01, train_batch_norm=True)))
    assert (moved[2] != np.float32(0.2)).all() and (moved[3] != np.float32(0.5)).all()
    frozen = normalisation(run(problem, replace(ONE, train_batch_norm=True, trainable="head")))
    np.testing.assert_array_equal(frozen[2], np.float32(0.2))  # a frozen one never does


def test_when_a_trained_head_is_given_then_epoch_0_is_that_head(problem):
    random = np.random.default_rng(1)
    head = Head(CLASSES, random.normal(size=(6, 2)).astype(np.float32), np.array([0.3, -0.3], np.float32), 1, 0.0)
    backbone = tiny()
    result = run(problem, ONE, backbone, head=head)
    images, codes, split = problem
    rows = split == "validation"
    given = head.predict(np.asarray(backbone.model(images[rows][..., None].astype(np.float32))))
    expected = -np.log(given[np.arange(rows.sum()), codes[rows]]).mean()
    first = result.history.query("epoch == 0 and split == 'validation'")["cross_entropy"].item()
    assert first == pytest.approx(expected, rel=1e-5)


def test_when_features_are_standardised_then_the_network_that_is_left_is_the_plain_one(problem):
    random = np.random.default_rng(1)
    head = Head(CLASSES, random.normal(size=(6, 2)).astype(np.float32), np.array([0.3, -0.3], np.float32), 1, 0.0)
    settings = replace(SHORT, trainable="head", drop_every=0, learning_rate=0.005)
    plain, scaled = (run(problem, replace(settings, standardise=s), head=head) for s in (False, True))
    before = [result.history.query("epoch == 0")["cross_entropy"].to_numpy() for result in (plain, scaled)]
    np.testing.assert_allclose(*before, rtol=1e-4)  # the same network at first
    images, codes, split = problem
    rows = split == "validation"
    given = probabilities(scaled, images[rows])[np.arange(rows.sum()), codes[rows]]
    told = scaled.history.query("split == 'validation'").set_index("epoch")["cross_entropy"]
    assert scaled.best_epoch > 0
    assert -np.log(given).mean() == pytest.approx(told[scaled.best_epoch], rel=1e-3)


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_those_of_caffe_with_weight_decay_inside_the_momentum(nesterov):
    settings = replace(SHORT, trainable="head", weight_decay=0.1, l2=0.05, nesterov=nesterov, momentum=0.9)
    backbone = tiny()
    logits, _ = assemble(backbone, 2, settings)
    set_head(logits, None, 1)
    set_trainable(logits, "head")
    compile_network(logits, settings, "float32")
    images = np.random.default_rng(2).integers(0, 256, (6, SIZE, SIZE, 1)).astype(np.float32)
    target = np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1, 0]]
    features = np.asarray(backbone.model(images), np.float64)
    kernel, bias = (np.float64(w) for w in logits.get_layer("logits").get_weights())
    velocity = [np.zeros_like(kernel), np.zeros_like(bias)]
    for _ in range(3):
        logits.train_on_batch(images, target)
        exponents = np.exp(features @ kernel + bias)
        error = (exponents / exponents.sum(1, keepdims=True) - target) / 6
        gradients = [features.T @ error + 0.1 * kernel + 2 * 0.05 * kernel, error.sum(0)]
        for i, (weight, gradient) in enumerate(zip((kernel, bias), gradients, strict=True)):
            before = velocity[i]
            velocity[i] = 0.9 * before + 0.05 * gradient
            weight -= 1.9 * velocity[i] - 0.9 * before if nesterov else velocity[i]
    for found, expected in zip(logits.get_layer("logits").get_weights(), (kernel, bias), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_when_gradients_are_clipped_then_no_step_is_longer_than_the_rate_allows():
    settings = replace(SHORT, momentum=0.0, clip_norm=0.01)
    logits, _ = assemble(tiny(), 2, settings)
    set_trainable(logits, "all")
    compile_network(logits, settings, "float32")
    before = [np.asarray(weight) for weight in logits.trainable_variables]
    images = np.random.default_rng(2).integers(0, 256, (6, SIZE, SIZE, 1)).astype(np.float32)
    logits.train_on_batch(images, np.eye(2, dtype=np.float32)[[0, 1, 1, 0, 1, 0]])
    steps = [np.asarray(w) - old for w, old in zip(logits.trainable_variables, before, strict=True)]
    assert np.sqrt(sum((step**2).sum() for step in steps)) == pytest.approx(0.05 * 0.01, rel=1e-3)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_when_precision_is_mixed_then_it_trains_and_what_is_left_is_float32(problem, precision):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        result = run(problem, replace(ONE, precision=precision))
    assert np.isfinite(result.history["cross_entropy"]).all()
    assert {layer.compute_dtype for layer in result.model.layers} == {"float32"}
    plain = run(problem, replace(ONE, precision="float32"))
    np.testing.assert_allclose(result.history["cross_entropy"], plain.history["cross_entropy"], atol=0.05)


# --- schedule, order, history ----------------------------------------------------------------------------------------


def test_defaults_are_the_published_ones():
    settings = FinetuneSettings()
    assert (settings.epochs, settings.batch, settings.momentum, settings.weight_decay) == (30, 24, 0.9, 0.0005)
    assert [settings.rate(epoch) for epoch in (1, 10, 11, 21, 30)] == pytest.approx([5e-4, 5e-4, 5e-5, 5e-6, 5e-6])
    assert replace(settings, trainable="head").rate(1) == 0.005


def test_when_epochs_pass_then_the_rate_drops_and_each_image_is_asked_for_once_an_epoch(problem):
    asked = {}

    def source(epoch, rows):
        asked.setdefault(epoch, []).extend(rows.tolist())
        return problem[0][rows]

    result = run(problem, train=source)
    asked = {epoch: rows[-28:] for epoch, rows in asked.items()}  # the key has looked at a few before
    assert sorted(asked) == [1, 2, 3] and all(sorted(rows) == list(range(28)) for rows in asked.values())
    assert asked[1] != asked[2]
    history = result.history
    assert list(history.columns) == ["epoch", "step", "split", "accuracy", "cross_entropy", "learning_rate"]
    train = history[history["split"] == "train"]
    assert list(train["learning_rate"]) == pytest.approx([0.05, 0.05, 0.005])
    assert list(train["step"]) == [2, 4, 6]
    assert list(history.query("split == 'test'")["epoch"]) == [0, 1, 2, 3]


def test_when_images_per_epoch_is_given_then_epochs_are_that_short(problem):
    assert run(problem, replace(SHORT, images_per_epoch=16, epochs=2)).history["step"].max() == 4


def test_when_validation_stops_improving_then_training_stops_and_the_best_epoch_is_kept(problem):
    images, codes, split = problem
    codes = np.where(split == "validation", 1 - codes, codes)  # what is learnt is wrong there
    settings = replace(SHORT, epochs=12, batch=28, patience=2, drop_every=0)
    result = run((images, codes, split), settings)
    validation = result.history.query("split == 'validation'").set_index("epoch")["cross_entropy"]
    assert result.best_epoch == validation.idxmin()
    assert validation.index.max() == result.best_epoch + 2 < 12
    given = probabilities(result, images[split == "validation"])
    entropy = -np.log(given[np.arange(8), codes[split == "validation"]]).mean()
    assert entropy == pytest.approx(validation.min(), rel=1e-4)


def test_when_the_first_choice_is_later_then_the_network_before_it_learnt_is_never_the_best(problem, tmp_path):
    worse = replace(SHORT, learning_rate=1e-9, first_choice=2)  # no epoch is better than the head it starts from
    result = run(problem, worse, checkpoints=tmp_path)
    assert set(result.epochs.values()) <= {2, 3}
    assert run(problem, worse, checkpoints=tmp_path).best_epoch == result.best_epoch
    assert run(problem, replace(worse, patience=1, first_choice=1, epochs=2)).best_epoch >= 1
    with pytest.raises(ValueError, match="there are 3 epochs"):
        replace(SHORT, first_choice=4)


def test_the_epoch_chosen_on_the_test_set_is_the_most_accurate_then_the_surest(problem):
    result = run(problem, replace(SHORT, epochs=6, batch=28))
    test = result.history.query("split == 'test'").sort_values(["accuracy", "cross_entropy"], ascending=[False, True])
    assert result.epochs["test"] == test["epoch"].iloc[0]
    images, codes, split = problem
    given = probabilities(result, images[split == "test"], "test")
    assert (given.argmax(1) == codes[split == "test"]).mean() == pytest.approx(test["accuracy"].iloc[0])


def test_when_the_last_epoch_is_to_be_kept_then_it_is_even_from_the_checkpoints_of_a_finished_run(problem, tmp_path):
    images, codes, split = problem
    codes = np.where(split == "validation", 1 - codes, codes)  # what is learnt is wrong there
    settings = replace(SHORT, batch=28, drop_every=0)
    best = run((images, codes, split), settings, checkpoints=tmp_path)
    last = run((images, codes, split), replace(settings, keep="last"), checkpoints=tmp_path)
    assert best.best_epoch < last.best_epoch == settings.epochs
    given = probabilities(last, images[split == "validation"])
    entropy = -np.log(given[np.arange(8), codes[split == "validation"]]).mean()
    told = last.history.query("split == 'validation'")["cross_entropy"]
    assert entropy == pytest.approx(told.iloc[-1], rel=1e-4)


def test_when_there_are_no_test_rows_then_there_are_no_test_weights(problem):
    images, codes, split = problem
    result = run((images, codes, np.where(split == "test", "train", split)), ONE)
    assert result.by_test is None
    with pytest.raises(ValueError, match="no weights chosen on test"):
        result.predict(images, "test")


# --- killed and resumed -----------------------------------------------------------------------------------------------


class PowerCut(Exception):  # noqa: N818
    pass


def cut(images, epoch, batches):
    """A source that fails when the given batch of the given epoch is asked for."""
    asked = []

    def source(now, rows):
        asked.append(now)
        looked = PROBED_EPOCHS.count(epoch)  # the checkpoints' key has looked at a few images before
        if asked.count(epoch) > batches + looked:
            raise PowerCut
        return images[rows]

    return source


@pytest.mark.parametrize(
    ("settings", "epoch", "batches", "eager"),
    [
        (SHORT, 2, 0, False),
        (replace(SHORT, checkpoint_every=1, dropout=0.4, nesterov=True, epochs=2), 2, 2, True),
        (replace(SHORT, checkpoint_every=2, optimizer="adam", learning_rate=0.01, train_batch_norm=True), 3, 1, True),
    ],
)
def test_when_killed_then_it_goes_on_to_the_result_of_an_undisturbed_run(
    problem, tmp_path, monkeypatch, settings, epoch, batches, eager
):
    tensorflow.config.run_functions_eagerly(eager)
    monkeypatch.setattr(finetune_loop, "AHEAD", 0)
    settings = replace(settings, batch=13)  # a last batch of 2
    images = problem[0]
    whole = run(problem, settings, train=lambda epoch, rows: images[rows])
    with pytest.raises(PowerCut):
        run(problem, settings, train=cut(images, epoch, batches), checkpoints=tmp_path)
    asked = []

    def source(epoch, rows):
        asked.append(epoch)
        return images[rows]

    resumed = run(problem, settings, train=source, checkpoints=tmp_path)
    assert min(asked[len(PROBED_EPOCHS) :]) == epoch  # the epochs before are not done again
    pd.testing.assert_frame_equal(resumed.history, whole.history, rtol=1e-5, atol=1e-6)
    assert resumed.epochs == whole.epochs
    for a, b in zip(resumed.by_validation + resumed.by_test, whole.by_validation + whole.by_test, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_when_a_finished_training_is_asked_for_again_then_no_step_is_made(problem, finished, folder, monkeypatch):
    monkeypatch.setattr(finetune_loop.Trainer, "_step", lambda *_: pytest.fail("a step was made"))
    again = run(problem, ONE, checkpoints=folder)
    pd.testing.assert_frame_equal(again.history, finished[0].history, check_exact=True)
    assert all(np.array_equal(a, b) for a, b in zip(again.by_validation, finished[0].by_validation, strict=True))


def test_when_settings_or_images_are_others_then_their_checkpoint_is_not_used_and_this_is_said(problem, folder):
    images, codes, split = problem
    with pytest.warns(CheckpointWarning, match="1 checkpoint.* of other settings or data"):
        other = run(problem, replace(ONE, learning_rate=0.01), checkpoints=folder)
    assert other.history["learning_rate"].unique().tolist() == [0.01]
    with pytest.warns(CheckpointWarning, match="2 checkpoint"):
        run((255 - images, codes, split), ONE, checkpoints=folder)
    assert len(list(folder.glob("checkpoint-*.npz"))) == 3


@pytest.mark.parametrize("damage", ["cut short", "a bit", "another's name"])
def test_when_a_checkpoint_is_damaged_then_it_is_refused_by_name(problem, folder, damage):
    (path,) = folder.glob("checkpoint-*.npz")
    data = bytearray(path.read_bytes())
    if damage == "cut short":
        data = data[: len(data) // 2]
    elif damage == "a bit":
        data[len(data) // 2] ^= 4
    else:
        np.savez(path, meta=np.frombuffer(b'{"key": "0123456789abcdef"}', np.uint8))
        data = path.read_bytes()
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=path.name):
        run(problem, ONE, checkpoints=folder)


def test_when_a_process_died_while_writing_then_its_half_file_is_removed(problem, folder):
    (path,) = folder.glob("checkpoint-*.npz")
    half = folder / f".{path.stem}-x1y2.npz"
    half.write_bytes(b"half")
    run(problem, ONE, checkpoints=folder)
    assert not half.exists() and path.exists()


# --- what is left -----------------------------------------------------------------------------------------------------


def test_when_saved_and_loaded_then_predictions_and_history_are_the_same(tmp_path, problem):
    backbone = load_backbone("SmallNet", "none", 32, seed=1)
    images = np.kron(problem[0], np.ones((4, 4), np.uint8))
    result = run((images, *problem[1:]), replace(ONE, learning_rate=0.001), backbone)
    result.save(tmp_path)
    again = FinetuneRun.load(tmp_path)
    assert (again.classes, again.epochs, again.key) == (result.classes, result.epochs, result.key)
    pd.testing.assert_frame_equal(again.history, result.history)
    for selection in ("validation", "test"):
        assert all(
            np.array_equal(a, b) for a, b in zip(again.weights[selection], result.weights[selection], strict=True)
        )
    np.testing.assert_array_equal(probabilities(again, images), probabilities(result, images))


def test_a_tuned_network_can_be_explained(problem, finished):
    from helpers.explain.maps import from_model

    result, _ = finished
    classifier = from_model(result.model, result.classes)
    pixels = problem[0][:3, ..., None].astype(np.float32)
    logits = np.asarray(classifier.logits_model(pixels))
    given = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(given, probabilities(result, problem[0][:3]), atol=1e-5)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, s: (x, y[1:], s), "do not match"),
        (lambda x, y, s: (x, y + 1, s), "whole numbers from 0 to 1"),
        (lambda x, y, s: (x, y.astype(float), s), "whole numbers"),
        (lambda x, y, s: (x, y, np.where(s == "validation", "train", s)), "no validation images"),
        (lambda x, y, s: (x, y, np.where(s == "train", "val", s)), "unknown split val"),
        (lambda x, y, s: (x, np.zeros_like(y), s), "no training images of striped"),
        (lambda x, y, s: (x.astype(np.float32), y, s), r"float32 \(8, 8, 8\).*uint8"),
        (lambda x, y, s: (x[:, :4], y, s), r"\(8, 4, 8\).*uint8 \(8, 8, 8\)"),
    ],
)
def test_when_input_cannot_be_learnt_from_then_it_is_refused(problem, change, message):
    with pytest.raises(ValueError, match=message):
        run(change(*problem), ONE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch": 0},
        {"learning_rate": -1.0},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"dropout": 1.0},
        {"drop_factor": 0.0},
        {"optimizer": "sdg"},
        {"trainable": "last"},
        {"trainable": 0},
        {"trainable": True},
        {"precision": "float16"},
        {"patience": -1},
    ],
)
def test_when_a_setting_makes_no_sense_then_it_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FinetuneSettings(**wrong)


def test_when_a_head_or_a_number_of_layers_does_not_fit_then_it_is_refused(problem):
    with pytest.raises(ValueError, match="2 layers below its head"):
        run(problem, replace(SHORT, trainable=3))
    kernel = np.zeros((5, 2), np.float32)
    with pytest.raises(ValueError, match=r"the head is \(5, 2\)"):
        run(problem, head=Head(CLASSES, kernel, np.zeros(2, np.float32), 1, 0.0))
    with pytest.raises(ValueError, match="tells striped, bright apart"):
        run(problem, head=Head(CLASSES[::-1], kernel, np.zeros(2, np.float32), 1, 0.0))


def test_when_the_weights_run_off_then_it_says_so(problem):
    with pytest.raises(ValueError, match="diverged"):
        run(problem, replace(SHORT, learning_rate=1e12))


def test_when_precision_is_left_open_then_a_cpu_takes_float32_and_a_gpu_what_it_is_quick_at(monkeypatch):
    found = {}
    for capability in (0.0, 6.1, 7.5, 9.0):
        monkeypatch.setattr("helpers.model.finetune_precision.gpu_capability", lambda c=capability: c)
        found[capability] = training_precision("auto")
    assert found == {0.0: "float32", 6.1: "float32", 7.5: "mixed_float16", 9.0: "mixed_bfloat16"}
    monkeypatch.setattr("helpers.model.finetune_precision.gpu_capability", lambda: 7.5)
    with pytest.warns(PrecisionWarning, match="imitates"):
        training_precision("mixed_bfloat16")
