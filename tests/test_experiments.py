"""Named experiments: what they keep, when they train again, and what small data does to them."""

import threading
import time

import numpy as np
import pandas as pd
import pytest

from helpers.kermany import learning_curve
from helpers.model import experiments
from helpers.model.experiments import HEADS, load_experiment, run_experiment
from helpers.model.head import Head, HeadRun
from helpers.run.profile import ProfileError, load_profile

CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
PROFILE = load_profile(
    "phantom", "head_steps=20 head_evaluate_every=5 head_l2=0,0.01 limited_per_class=5 curve_steps=10 curve_seeds=2"
)


def images(train=(20, 9, 8, 30), held_out=5, seed=0):
    """A split frame, and its features: one centre a class, drawn in a random order."""
    random = np.random.default_rng(seed)
    rows = [
        {"label": label, "split": split}
        for label, count in zip(CLASSES, train, strict=True)
        for split, n in (("train", count), ("validation", held_out), ("test", held_out))
        for _ in range(n)
    ]
    frame = pd.DataFrame(rows).sample(frac=1, random_state=seed).reset_index(drop=True)
    frame["image_id"] = [f"image-{number}" for number in range(len(frame))]
    frame["patient_id"] = [f"patient-{number // 2}" for number in range(len(frame))]
    codes = frame["label"].map(CLASSES.index).to_numpy()
    centres = random.normal(size=(4, 6))
    return frame, (centres[codes] + 0.5 * random.normal(size=(len(frame), 6))).astype(np.float32)


@pytest.fixture
def counted(monkeypatch):
    """The arguments of every training. Nothing is trained: the head is made of the classes' means."""
    calls = []

    def instead(features, labels, split, classes, settings, log_dir=None):
        calls.append({"features": features, "labels": labels, "split": split, "classes": classes})
        train = np.asarray(split) == "train"
        means = [features[train & (np.asarray(labels) == label)].mean(axis=0) for label in classes]
        head = Head(tuple(classes), np.stack(means, axis=1), np.zeros(len(classes), np.float32), 1, 0.0)
        history = pd.DataFrame({"step": [1], "split": "test", "accuracy": 0.5, "cross_entropy": 1.0, "l2": 0.0})
        return HeadRun(head, head, head, history)

    for module in (experiments, learning_curve):
        monkeypatch.setattr(module, "train_head", instead)
    return calls


@pytest.fixture(scope="module")
def multiclass(tmp_path_factory):
    """The multi-class experiment, its folder, frame and features."""
    frame, features = images()
    folder = tmp_path_factory.mktemp("experiments")
    return run_experiment("multiclass", frame, features, PROFILE, folder), folder, frame, features


def test_when_run_then_scores_hold_each_held_out_image_once_a_selection(multiclass):
    experiment, _, frame, features = multiclass
    held_out = frame[frame["split"] != "train"]
    columns = ["image_id", "patient_id", "label", "split"]
    assert list(experiment.scores.columns) == [*columns, "selection", *(f"p_{name}" for name in CLASSES)]
    for selection, head in (("validation", experiment.head), ("test", experiment.head_by_test)):
        scores = experiment.scores[experiment.scores["selection"] == selection].reset_index(drop=True)
        pd.testing.assert_frame_equal(scores[columns], held_out[columns].reset_index(drop=True))
        given = scores[[f"p_{name}" for name in CLASSES]].to_numpy()
        np.testing.assert_allclose(given, head.predict(features[held_out.index]), atol=1e-6)
        assert experiment.step_of(selection) == head.step


def test_when_run_then_the_folder_holds_the_heads_the_history_and_tensorboard_files(multiclass):
    experiment, folder, _, _ = multiclass
    place = folder / "multiclass"
    names = {"experiment.json", "head.npz", "head_by_test.npz", "history.parquet", "scores.parquet", "tensorboard"}
    assert {path.name for path in place.iterdir()} == names
    assert {path.name for path in (place / "tensorboard").iterdir()} == {"train", "validation", "test"}
    assert set(experiment.history["l2"]) == {experiment.head.l2}
    assert list(experiment.history.query("split == 'test'")["step"]) == [5, 10, 15, 20]


def test_when_nothing_changed_then_it_is_loaded_not_trained_again(multiclass, counted):
    experiment, folder, frame, features = multiclass
    again = run_experiment("multiclass", frame, features, PROFILE, folder)
    assert not counted and again.key == experiment.key
    pd.testing.assert_frame_equal(again.scores, experiment.scores)
    assert np.array_equal(load_experiment(folder, "multiclass").head.kernel, experiment.head.kernel)


@pytest.mark.parametrize("what", ["a feature", "a label", "a split", "a setting"])
def test_when_something_it_is_made_from_changes_then_it_is_trained_again(tmp_path, counted, what):
    frame, features = images()
    before = run_experiment("multiclass", frame, features, PROFILE, tmp_path)
    profile = PROFILE
    if what == "a feature":
        features[3, 2] += 1e-3
    elif what == "a label":
        frame.loc[3, "label"] = "CNV" if frame.loc[3, "label"] == "NORMAL" else "NORMAL"
    elif what == "a split":
        frame.loc[3, "split"] = "test" if frame.loc[3, "split"] == "train" else "train"
    else:
        profile = PROFILE.model_copy(update={"head_standardise": not PROFILE.head_standardise})
    after = run_experiment("multiclass", frame, features, profile, tmp_path)
    assert len(counted) == 2 and after.key != before.key
    assert load_experiment(tmp_path, "multiclass").key == after.key


def test_when_training_fails_then_what_was_there_stays_and_nothing_else(tmp_path, counted, monkeypatch):
    frame, features = images()
    before = run_experiment("multiclass", frame, features, PROFILE, tmp_path)
    monkeypatch.setattr(experiments, "_save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_experiment("multiclass", frame, features + 1, PROFILE, tmp_path)
    assert load_experiment(tmp_path, "multiclass").key == before.key
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["multiclass"]


def test_when_two_ask_at_once_then_one_trains_and_both_get_it(tmp_path, counted, monkeypatch):
    frame, features = images()
    slow = experiments._save
    monkeypatch.setattr(experiments, "_save", lambda *given: (time.sleep(0.3), slow(*given)))
    keys = []

    def ask():
        keys.append(run_experiment("multiclass", frame, features, PROFILE, tmp_path).key)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 1 and len(keys) == 2 and len(set(keys)) == 1


@pytest.mark.parametrize(("name", "disease"), experiments.DISEASES.items())
def test_when_binary_then_only_the_disease_and_normal_are_learnt_and_scored(tmp_path, counted, name, disease):
    frame, features = images()
    experiment = run_experiment(name, frame, features, PROFILE, tmp_path)
    assert experiment.classes == (disease, "NORMAL")
    assert list(experiment.scores.columns[-2:]) == [f"p_{disease}", "p_NORMAL"]
    assert set(experiment.scores["label"]) == {disease, "NORMAL"}
    (call,) = counted
    rows = frame["label"].isin((disease, "NORMAL")).to_numpy()
    np.testing.assert_array_equal(call["features"], features[rows])
    assert list(call["labels"]) == list(frame.loc[rows, "label"])


def test_when_limited_then_each_class_has_so_many_training_images_and_held_out_ones_stay(tmp_path, counted):
    frame, features = images()
    experiment = run_experiment("limited", frame, features, PROFILE, tmp_path)
    (call,) = counted
    train = np.asarray(call["split"]) == "train"
    assert pd.Series(call["labels"])[train].value_counts().to_dict() == dict.fromkeys(CLASSES, 5)
    assert experiment.scores["image_id"].nunique() == (frame["split"] != "train").sum()


def test_when_the_smallest_class_has_too_few_then_the_limited_model_takes_what_there_is_and_says_so(tmp_path, counted):
    frame, features = images(train=(20, 9, 3, 30))
    with pytest.warns(UserWarning, match="3 training images a class instead of 5"):
        run_experiment("limited", frame, features, PROFILE, tmp_path)
    (call,) = counted
    train = np.asarray(call["split"]) == "train"
    assert pd.Series(call["labels"])[train].value_counts().to_dict() == dict.fromkeys(CLASSES, 3)


def test_when_the_name_is_unknown_then_the_nearest_is_named(tmp_path):
    frame, features = images()
    with pytest.raises(ProfileError, match="did you mean cnv_normal"):
        run_experiment("cnv_norm", frame, features, PROFILE, tmp_path)
    assert "cnv_normal" in HEADS


def test_when_an_experiment_has_not_been_run_then_loading_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="limited"):
        load_experiment(tmp_path, "limited")


# --- the learning curve -------------------------------------------------------------------------------------------


def curve(frame, features, folder, sizes, opened):
    profile = PROFILE.model_copy(update={"curve_per_class": sizes})

    def get():
        opened.append(sizes)
        return pd.DataFrame(features, index=frame["image_id"])

    points = learning_curve.draws(frame, profile)
    return learning_curve.learning_curve(points, {"pre-trained": get}, profile, folder, "these features")


def test_when_a_curve_is_run_again_then_only_new_points_are_trained(tmp_path, counted):
    frame, features = images()
    opened = []
    first = curve(frame, features, tmp_path, (3, 5), opened)
    assert list(first.columns) == ["initialisation", "per_class", "seed", "accuracy", "auroc"]
    assert len(first) == len(counted) == 4 and first["seed"].nunique() == 2
    pd.testing.assert_frame_equal(curve(frame, features, tmp_path, (3, 5), opened), first)
    assert len(counted) == 4 and opened == [(3, 5)]  # features are not even asked for
    longer = curve(frame, features, tmp_path, (3, 5, 7), opened)
    assert len(counted) == 6
    pd.testing.assert_frame_equal(longer[longer["per_class"] < 7].reset_index(drop=True), first)


def test_when_the_data_cannot_give_a_point_then_it_is_left_out_and_said():
    frame, _ = images()
    profile = PROFILE.model_copy(update={"curve_per_class": (3, 8, 9, 1000)})
    with pytest.warns(UserWarning, match="leaves out 9, 1,000 images a class: the smallest class has 8"):
        points = learning_curve.draws(frame, profile)
    assert [size for size, _, _ in points] == [3, 3, 8, 8]
