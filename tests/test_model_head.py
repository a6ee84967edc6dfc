"""Heads: what is learnt, which model is kept, and what is refused."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from helpers.model import head as module
from helpers.model.head import Head, HeadSettings, fit_head, train_head

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
TRAIN, VALIDATION = np.arange(200), np.arange(200, 300)
LINEAR_SPLIT = np.repeat(["train", "validation"], (200, 100))
SHORT = HeadSettings(steps=30, batch=40, learning_rate=0.01)


def problem(images=200, width=6, spread=1.0):
    """Features around one centre per class: easy with a small spread, hard with a large one."""
    random = np.random.default_rng(0)
    codes = np.arange(images) % len(CLASSES)
    centres = random.normal(size=(len(CLASSES), width))
    features = (centres[codes] + spread * random.normal(size=(images, width))).astype(np.float32)
    split = random.permutation(np.repeat(["train", "validation", "test"], [images // 2, images // 4, images // 4]))
    split[:4] = "train"
    return features, np.array(CLASSES)[codes], split


def train(data, **settings):
    return train_head(*data, CLASSES, replace(SHORT, **settings))


def cross_entropy(head, features, labels):
    given = head.predict(features)[np.arange(len(labels)), [CLASSES.index(label) for label in labels]]
    return -np.log(given).mean()


def same(a: Head, b: Head) -> bool:
    return np.array_equal(a.kernel, b.kernel) and np.array_equal(a.bias, b.bias) and (a.step, a.l2) == (b.step, b.l2)


# --- learning ---


@pytest.mark.parametrize("standardise", [False, True])
def test_when_trained_on_whole_batches_then_weights_equal_those_of_keras_fit(standardise):
    keras = pytest.importorskip("keras")
    features, labels, split = problem()
    features, learnt = features * 3 + 2, split == "train"
    whole = {"batch": 1000, "l2": (0.02,), "standardise": standardise, "evaluate_every": 30}
    found = train((features, labels, split), **whole).by_validation
    first = train((features, labels, split), **whole, steps=1, learning_rate=1e-30).by_validation
    mean, scale = (features[learnt].mean(axis=0), features[learnt].std(axis=0)) if standardise else (0.0, 1.0)
    layer = keras.layers.Dense(4, activation="softmax", kernel_regularizer=keras.regularizers.L2(0.02))
    model = keras.Sequential([keras.Input((6,)), layer])
    layer.set_weights([first.kernel * np.reshape(scale, (-1, 1)), np.zeros(4)])
    model.compile(keras.optimizers.Adam(SHORT.learning_rate), "sparse_categorical_crossentropy")
    x, codes = (features - mean) / scale, np.array([CLASSES.index(label) for label in labels])
    model.fit(x[learnt], codes[learnt], batch_size=1000, epochs=SHORT.steps, verbose=0)
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(found.predict(features), expected, atol=5e-5)  # Keras rounds 1 - 0.999**step to float32


def test_when_several_penalties_are_tried_then_each_is_trained_as_if_alone():
    together = train(problem(), l2=(0.0, 0.3), evaluate_every=7).history
    assert list(together.columns) == ["step", "split", "accuracy", "cross_entropy", "l2"]
    for l2 in (0.0, 0.3):
        alone = train(problem(), l2=(l2,), evaluate_every=7).history
        assert sorted(alone["step"]) == sorted([7, 14, 21, 28, 30] * 3)  # of each split
        pd.testing.assert_frame_equal(
            together[together["l2"] == l2].reset_index(drop=True), alone, rtol=1e-4, atol=1e-6
        )


def test_when_run_twice_with_one_seed_then_every_bit_is_the_same_and_another_seed_gives_others():
    first, second, other = train(problem()), train(problem()), train(problem(), seed=2)
    assert same(first.by_validation, second.by_validation) and same(first.by_test, second.by_test)
    pd.testing.assert_frame_equal(first.history, second.history, check_exact=True)
    assert not np.array_equal(other.by_validation.kernel, first.by_validation.kernel)


def test_when_batches_are_drawn_then_each_epoch_holds_every_image_once():
    rows = np.arange(100, 125)
    batches = np.array(list(islice(module._batches(rows, HeadSettings(batch=10)), 20)))
    epochs = batches.reshape(8, 25)
    assert all(sorted(epoch) == list(rows) for epoch in epochs) and not np.array_equal(epochs[0], epochs[1])
    assert sorted(next(module._batches(rows, HeadSettings()))) == list(rows)  # fewer images than a batch


# --- which model is kept ---


@pytest.mark.parametrize("together", [1, 16])
def test_when_training_overfits_then_validation_keeps_its_lowest_cross_entropy_and_test_its_best_accuracy(
    monkeypatch, together
):
    monkeypatch.setattr(module, "TOGETHER", together)
    features, labels, split = problem(images=80, spread=3.0)
    run = train((features, labels, split), steps=400, learning_rate=0.05)
    of = {name: rows.set_index("step") for name, rows in run.history.groupby("split")}
    assert run.by_validation.step == of["validation"]["cross_entropy"].idxmin() < 400
    best = of["test"][of["test"]["accuracy"] == of["test"]["accuracy"].max()]
    assert run.by_test.step == best["cross_entropy"].idxmin()
    for head, name in ((run.by_validation, "validation"), (run.by_test, "test")):
        rows, at = split == name, of[name].loc[head.step]
        assert cross_entropy(head, features[rows], labels[rows]) == pytest.approx(at["cross_entropy"], rel=1e-4)
        right = np.array(CLASSES)[head.predict(features[rows]).argmax(axis=1)] == labels[rows]
        assert right.mean() == pytest.approx(at["accuracy"])


def test_validation_chooses_the_penalty_and_of_equally_good_ones_the_largest():
    features, labels, split = problem(images=60, width=40, spread=3.0)
    settings = {"steps": 300, "learning_rate": 0.05, "evaluate_every": 300}
    assert train((features, labels, split), **settings, l2=(0.0, 0.1)).by_validation.l2 == 0.1
    equal = train((np.zeros_like(features), labels, split), l2=(0.1, 1.0, 0.0))
    assert equal.by_validation.l2 == equal.by_test.l2 == 1.0


def test_when_a_held_out_split_is_large_then_the_curve_samples_it_and_the_choice_sees_all(monkeypatch):
    features, labels, split = problem()
    monkeypatch.setattr(module, "CURVE_IMAGES", 20)
    run = train((features, labels, split), l2=(0.0, 0.5))
    hits = run.history.query("split == 'validation'")["accuracy"] * 20
    assert np.allclose(hits, hits.round(), atol=1e-4)
    rows = split == "validation"
    ends = [train((features, labels, split), l2=(l2,)).by_validation for l2 in (0.0, 0.5)]
    best = min(ends, key=lambda head: cross_entropy(head, features[rows], labels[rows]))
    assert run.by_validation.l2 == best.l2


# --- what is left, and what is refused ---


def test_when_saved_and_loaded_then_the_head_is_the_same_and_so_is_the_file(tmp_path):
    head = train(problem(), standardise=True).by_validation
    for name in ("a.npz", "b.npz"):
        head.save(tmp_path / name)
    back = Head.load(tmp_path / "a.npz")
    assert same(head, back) and back.classes == CLASSES
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, s: (x, np.append(y[:-1], "AMD"), s), "labels other than CNV.*: AMD"),
        (lambda x, y, s: (x, y, np.where((y == "DME") & (s == "train"), "test", s)), "no training images of DME"),
        (lambda x, y, s: (x, y, np.where(s == "validation", "train", s)), "no validation images"),
        (lambda x, y, s: (x * 1e20, y, s), "diverged"),
    ],
)
def test_when_input_cannot_be_learnt_from_then_it_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        train(change(*problem()), learning_rate=1e30 if message == "diverged" else 0.01)


# --- logistic regression ---


def linear_problem(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Features that differ in size, one of which never varies, and class codes that two of them show."""
    rng = np.random.default_rng(0)
    codes = rng.integers(classes, size=300)
    features = rng.normal(10, 3, (300, 5)) + codes[:, None] * [3, 1.5, 0, 0, 0]
    features[:, 4] = 7.0
    return (features * [1, 10, 0.1, 1, 1]).astype(np.float32), codes


@pytest.mark.parametrize("classes", ["ab", "abc"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_head_gives_scikit_learns_probabilities_on_standardised_features(classes, weighted):
    features, codes = linear_problem(len(classes))
    weights = np.random.default_rng(1).uniform(0.5, 2, 300) if weighted else None
    share = np.ones(300) if weights is None else weights
    found = fit_head(features, np.array(list(classes))[codes], LINEAR_SPLIT, classes, (0.01, 1.0), weights)
    deviation = features[TRAIN].std(axis=0)
    z = (features - features[TRAIN].mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    for head, entropy in zip(found.heads, found.entropies, strict=True):
        model = LogisticRegression(C=1 / (2 * head.l2 * share[TRAIN].sum()), tol=1e-8)
        expected = model.fit(z[TRAIN], codes[TRAIN], share[TRAIN]).predict_proba(z)
        np.testing.assert_allclose(head.predict(features), expected, atol=5e-3)
        loss = -np.log(expected[VALIDATION, codes[VALIDATION]])
        assert entropy == pytest.approx(np.average(loss, weights=share[VALIDATION]), abs=5e-3)


def test_validation_chooses_the_penalty_and_of_equal_ones_the_largest():
    features, codes = linear_problem(2)
    labels = np.array(["a", "b"])[codes]
    found = fit_head(features, labels, LINEAR_SPLIT, "ab", (0.001, 0.1, 100.0))
    assert [head.l2 for head in found.heads] == [100.0, 0.1, 0.001] and found.best.l2 < 100
    constant = np.ones_like(features)  # from which every penalty gives the same
    assert fit_head(constant, labels, LINEAR_SPLIT, "ab", (0.001, 100.0)).best.l2 == 100
