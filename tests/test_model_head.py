"""Heads: what is learnt, which model is kept, and what is refused."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
import pytest

from helpers.model import head_training
from helpers.model.head import Head, HeadSettings, train_head

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
SHORT = HeadSettings(steps=30, batch=40, learning_rate=0.01, evaluate_every=1)


def problem(images=200, width=6, spread=1.0, seed=0):
    """Features around one centre a class: easy with a small spread, hard with a large one."""
    random = np.random.default_rng(seed)
    codes = np.arange(images) % len(CLASSES)
    centres = random.normal(size=(len(CLASSES), width))
    features = (centres[codes] + spread * random.normal(size=(images, width))).astype(np.float32)
    split = random.permutation(np.repeat(["train", "validation", "test"], [images // 2, images // 4, images // 4]))
    split[:4] = "train"
    return features, np.array(CLASSES)[codes], split


@pytest.fixture(scope="module")
def trained():
    """A head on standardised features, and the features."""
    features, labels, split = problem()
    return train_head(features, labels, split, CLASSES, replace(SHORT, standardise=True)).by_validation, features


def cross_entropy(head, features, labels):
    given = head.predict(features)[np.arange(len(labels)), [CLASSES.index(label) for label in labels]]
    return -np.log(given).mean()


def same(a: Head, b: Head) -> bool:
    return np.array_equal(a.kernel, b.kernel) and np.array_equal(a.bias, b.bias) and (a.step, a.l2) == (b.step, b.l2)


# --- learning -----------------------------------------------------------------------------------------------------


def test_when_classes_lie_apart_then_the_head_tells_them_apart():
    features, labels, split = problem(spread=0.2)
    head = train_head(features, labels, split, CLASSES, replace(SHORT, steps=300)).by_validation
    test = split == "test"
    given = head.predict(features[test])
    assert given.dtype == np.float32 and np.allclose(given.sum(axis=1), 1)
    assert (np.array(CLASSES)[given.argmax(axis=1)] == labels[test]).mean() > 0.95


@pytest.mark.parametrize("standardise", [False, True])
def test_when_trained_on_whole_batches_then_weights_equal_those_of_keras_fit(standardise):
    import keras

    features, labels, split = problem()
    settings = replace(SHORT, batch=1000, l2=(0.02,), standardise=standardise, evaluate_every=30)
    run = train_head(features * 3 + 2, labels, split, CLASSES, settings)
    train = split == "train"
    x = (features * 3 + 2)[train]
    mean, scale = (x.mean(axis=0), x.std(axis=0)) if standardise else (0.0, 1.0)
    first = train_head(
        features * 3 + 2, labels, split, CLASSES, replace(settings, steps=1, learning_rate=1e-30)
    ).by_validation
    kernel = first.kernel * np.reshape(scale, (-1, 1))
    layer = keras.layers.Dense(4, activation="softmax", kernel_regularizer=keras.regularizers.L2(0.02))
    model = keras.Sequential([keras.Input((6,)), layer])
    layer.set_weights([kernel, np.zeros(4)])
    model.compile(keras.optimizers.Adam(settings.learning_rate), "sparse_categorical_crossentropy")
    codes = np.array([CLASSES.index(label) for label in labels[train]])
    model.fit((x - mean) / scale, codes, batch_size=1000, epochs=settings.steps, verbose=0)
    expected = model.predict((features * 3 + 2 - mean) / scale, verbose=0)
    found = run.by_validation.predict(features * 3 + 2)
    np.testing.assert_allclose(found, expected, atol=5e-5)  # Keras rounds 1 - 0.999**step to float32


def test_when_several_penalties_are_tried_then_each_is_trained_as_if_alone():
    features, labels, split = problem()
    together = train_head(features, labels, split, CLASSES, replace(SHORT, l2=(0.0, 0.3))).history
    for l2 in (0.0, 0.3):
        alone = train_head(features, labels, split, CLASSES, replace(SHORT, l2=(l2,))).history
        pd.testing.assert_frame_equal(
            together[together["l2"] == l2].reset_index(drop=True), alone, rtol=1e-4, atol=1e-6
        )


def test_when_run_twice_with_one_seed_then_every_bit_is_the_same_and_another_seed_gives_others():
    features, labels, split = problem()
    first, second = (train_head(features, labels, split, CLASSES, SHORT) for _ in range(2))
    assert same(first.by_validation, second.by_validation) and same(first.by_test, second.by_test)
    pd.testing.assert_frame_equal(first.history, second.history, check_exact=True)
    other = train_head(features, labels, split, CLASSES, replace(SHORT, seed=2))
    assert not np.array_equal(other.by_validation.kernel, first.by_validation.kernel)


# --- batches ------------------------------------------------------------------------------------------------------


def drawn(rows, settings):
    return np.array(list(islice(head_training._batches(rows, settings), settings.steps)))


def test_when_batches_are_drawn_then_each_epoch_holds_every_image_once():
    rows = np.arange(100, 125)
    batches = drawn(rows, HeadSettings(steps=20, batch=10))
    assert batches.shape == (20, 10)
    epochs = batches.reshape(8, 25)
    assert all(sorted(epoch) == list(rows) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])


def test_when_there_are_fewer_images_than_a_batch_then_all_are_used_at_each_step():
    assert [sorted(batch) for batch in drawn(np.arange(6), HeadSettings(steps=3))] == [list(range(6))] * 3


# --- which model is kept ------------------------------------------------------------------------------------------


def test_when_training_overfits_then_validation_keeps_its_lowest_cross_entropy_and_test_its_best_accuracy():
    features, labels, split = problem(images=80, spread=3.0)
    run = train_head(features, labels, split, CLASSES, replace(SHORT, steps=400, learning_rate=0.05))
    of = {name: rows.set_index("step") for name, rows in run.history.groupby("split")}
    assert run.by_validation.step == of["validation"]["cross_entropy"].idxmin() < 400
    best = of["test"][of["test"]["accuracy"] == of["test"]["accuracy"].max()]
    assert run.by_test.step == best["cross_entropy"].idxmin()
    for head, name in ((run.by_validation, "validation"), (run.by_test, "test")):
        rows = split == name
        at = of[name].loc[head.step]
        assert cross_entropy(head, features[rows], labels[rows]) == pytest.approx(at["cross_entropy"], rel=1e-4)
        right = np.array(CLASSES)[head.predict(features[rows]).argmax(axis=1)] == labels[rows]
        assert right.mean() == pytest.approx(at["accuracy"])


def test_when_overfitting_is_cheap_then_validation_chooses_a_penalty():
    features, labels, split = problem(images=60, width=40, spread=3.0)
    settings = replace(SHORT, steps=300, learning_rate=0.05, evaluate_every=300, l2=(0.0, 0.1))
    run = train_head(features, labels, split, CLASSES, settings)
    assert run.by_validation.l2 == 0.1


def test_when_penalties_are_equally_good_then_the_largest_is_taken():
    features, labels, split = problem()
    run = train_head(np.zeros_like(features), labels, split, CLASSES, replace(SHORT, l2=(0.1, 1.0, 0.0)))
    assert run.by_validation.l2 == run.by_test.l2 == 1.0


def test_when_evaluated_every_few_steps_then_the_history_has_those_and_the_last():
    features, labels, split = problem()
    history = train_head(features, labels, split, CLASSES, replace(SHORT, evaluate_every=7, l2=(0.0, 0.1))).history
    assert list(history.columns) == ["step", "split", "accuracy", "cross_entropy", "l2"]
    for (_, name), rows in history.groupby(["l2", "split"]):
        assert name in ("train", "validation", "test") and list(rows["step"]) == [7, 14, 21, 28, 30]


def test_when_a_held_out_split_is_large_then_the_curve_samples_it_and_the_choice_sees_all(monkeypatch):
    features, labels, split = problem()
    monkeypatch.setattr(head_training, "CURVE_IMAGES", 20)
    run = train_head(features, labels, split, CLASSES, replace(SHORT, l2=(0.0, 0.5)))
    hits = run.history.query("split == 'validation'")["accuracy"] * 20
    assert np.allclose(hits, hits.round(), atol=1e-4)
    validation = split == "validation"
    ends = [train_head(features, labels, split, CLASSES, replace(SHORT, l2=(l2,))).by_validation for l2 in (0.0, 0.5)]
    best = min(ends, key=lambda head: cross_entropy(head, features[validation], labels[validation]))
    assert run.by_validation.l2 == best.l2


# --- what is left -------------------------------------------------------------------------------------------------


def test_when_saved_and_loaded_then_the_head_is_the_same_and_so_is_the_file(tmp_path, trained):
    head, _ = trained
    for name in ("a.npz", "b.npz"):
        head.save(tmp_path / name)
    back = Head.load(tmp_path / "a.npz")
    assert same(head, back) and back.classes == CLASSES
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


@pytest.mark.parametrize("content", [b"", b"not a head", None])
def test_when_a_file_holds_no_head_then_loading_says_so(tmp_path, content):
    path = tmp_path / "head.npz"
    if content is None:
        np.savez(path, kernel=np.array([{"a": "pickle"}], dtype=object))
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="head.npz does not hold a head"):
        Head.load(path)


def test_when_features_have_another_width_then_predict_refuses():
    head = Head(CLASSES, np.zeros((6, 4), np.float32), np.zeros(4, np.float32), 1, 0.0)
    with pytest.raises(ValueError, match=r"\(3, 5\).*6 features"):
        head.predict(np.zeros((3, 5), np.float32))


# --- what is refused ----------------------------------------------------------------------------------------------


def _with(array, index, value):
    array = array.astype(object) if isinstance(value, str) else array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, s: (_with(x, (17, 3), np.nan), y, s), "row 17 hold NaN"),
        (lambda x, y, s: (_with(x, (5, 0), np.inf), y, s), "row 5 hold NaN or infinity"),
        (lambda x, y, s: (x, _with(y, 3, "AMD"), s), "1 labels are none of CNV.*AMD"),
        (lambda x, y, s: (x, y, np.where((y == "DME") & (s == "train"), "test", s)), "no training images of DME"),
        (lambda x, y, s: (x, y, np.where(s == "validation", "train", s)), "no validation images"),
        (lambda x, y, s: (x, y, np.where(s == "test", "train", s)), "no test images"),
        (lambda x, y, s: (x[1:], y, s), "do not match"),
    ],
)
def test_when_input_cannot_be_learnt_from_then_it_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        train_head(*change(*problem()), CLASSES, SHORT)


def test_when_the_weights_run_off_to_infinity_then_it_says_so():
    features, labels, split = problem()
    with pytest.raises(ValueError, match="diverged"):
        train_head(features * 1e20, labels, split, CLASSES, replace(SHORT, learning_rate=1e30))


# --- TensorBoard --------------------------------------------------------------------------------------------------


def test_when_a_log_folder_is_given_then_tensorboard_reads_the_chosen_curves_from_it(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    features, labels, split = problem()
    for _ in range(2):  # the second training takes the place of the first
        run = train_head(features, labels, split, CLASSES, replace(SHORT, l2=(0.0, 0.1)), tmp_path)
    for name in ("train", "validation", "test"):
        assert len(list((tmp_path / name).iterdir())) == 1
        read = EventAccumulator(str(tmp_path / name)).Reload()
        expected = run.history[(run.history["split"] == name) & (run.history["l2"] == run.by_validation.l2)]
        for tag in ("accuracy", "cross_entropy"):
            assert [event.step for event in read.Scalars(tag)] == list(expected["step"])
            np.testing.assert_allclose([event.value for event in read.Scalars(tag)], expected[tag], rtol=1e-6)
