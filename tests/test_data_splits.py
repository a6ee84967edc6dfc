"""Splits: no patient in two of them unless the publication put him there, and each follows from its seed alone."""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest
from tiny_data import listed

from helpers.data import splits
from helpers.data.catalogue import Catalogue
from helpers.data.splits import SplitError, binary, dropped, leaks, limited, split
from helpers.run import paths
from helpers.run.profile import Settings, load_profile

CLASSES = ("A", "B", "NORMAL")
DISJOINT, PUBLISHED = "patient-disjoint", "published"


def few(patients: int, **columns) -> Catalogue:
    """`patients` training patients per class with one image, and a test patient per class."""
    rows = [("train", c, f"{c}{i}") for c in CLASSES for i in range(patients)] + [("test", c, f"t{c}") for c in CLASSES]
    return listed(rows, CLASSES, **columns)


@pytest.fixture
def catalogue() -> Catalogue:
    """20 training patients a class with 1 to 5 images, 5 test patients a class; A0 and B1 are in both."""
    rng = np.random.default_rng(0)
    rows = []
    for label in CLASSES:
        rows += [("train", label, f"{label}{i}") for i in range(20) for _ in range(rng.integers(1, 6))]
        rows += [("test", label, f"{label}t{i}") for i in range(5) for _ in range(2)]
    return listed([*rows, ("test", "A", "A0"), ("test", "B", "B1")], CLASSES)


@pytest.fixture
def frame(catalogue) -> pd.DataFrame:
    return split(catalogue, DISJOINT, 0.2, seed=1).frame


def test_patient_disjoint_shares_nobody_and_lists_what_it_dropped(catalogue):
    made = split(catalogue, DISJOINT, 0.2, seed=1)
    gone, frame = made.dropped, made.frame
    assert frame["split"].eq("test").equals(frame["published_split"].eq("test"))
    assert (made.kind, made.seed) == (DISJOINT, 1)
    assert leaks(frame)["patients"].tolist() == [0, 0, 0]
    assert set(gone["patient_id"]) == {"A0", "B1"} and set(gone["published_split"]) == {"train"}
    assert set(gone["reason"]) == {"the patient is in the test folder"}
    assert len(frame) + len(gone) == len(catalogue) and not set(frame["image_id"]) & set(gone["image_id"])


def test_a_copy_of_a_test_file_is_dropped_whatever_its_patient():
    digests = [f"d{i}" for i in range(15)]
    digests[2] = digests[-1]
    gone = dropped(few(4, digest=digests), DISJOINT)
    assert list(gone["patient_id"]) == ["A2"] and list(gone["reason"]) == ["the same file is in the test folder"]


def test_published_drops_nothing_and_its_leaks_are_counted(catalogue):
    assert dropped(catalogue, PUBLISHED).empty
    frame = split(catalogue, PUBLISHED, 0.2, seed=1).frame
    assert len(frame) == len(catalogue) and (frame["split"] == "test").sum() == 32
    table = leaks(frame).groupby("second").sum()
    assert table.loc["test", "patients"] == 2 and table.loc["validation", "patients"] == 0
    mine = frame[(frame["split"] != "test") & frame["patient_id"].isin(["A0", "B1"])]
    assert table.loc["test", "images_first_by_patients"] == len(mine)
    assert table.loc["test", "images_second_by_patients"] == 2


@pytest.mark.parametrize(("fraction", "patients"), [(0.2, 4), (0.01, 1), (0.99, 19)])
def test_validation_is_the_stated_share_of_each_class_and_never_none_or_all(catalogue, fraction, patients):
    frame = split(catalogue, PUBLISHED, fraction, seed=1).frame
    counts = frame[frame["split"] == "validation"].groupby("label")["patient_id"].nunique()
    assert counts.to_dict() == dict.fromkeys(CLASSES, patients)


@pytest.mark.parametrize("kind", [DISJOINT, PUBLISHED])
def test_a_split_follows_from_its_seed_whatever_the_order_of_rows(catalogue, kind):
    mixed = catalogue.subset(catalogue.frame.sample(frac=1, random_state=3))
    first, second, other = (
        split(c, kind, 0.2, seed).frame.set_index("image_id")["split"]
        for c, seed in ((catalogue, 7), (mixed, 7), (catalogue, 8))
    )
    assert first.equals(second.loc[first.index]) and not first.equals(other)


def test_limited_takes_n_training_images_a_class_by_its_seed_and_leaves_the_rest(frame):
    chosen = [limited(frame, n, seed=5) for n in (1, 10, 20)]
    assert set(chosen[0]["image_id"]) < set(chosen[1]["image_id"]) < set(chosen[2]["image_id"])
    ten, rest = chosen[1], frame[frame["split"] != "train"]
    assert ten[ten["split"] == "train"]["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, 10)
    assert list(ten.loc[ten["split"] != "train", "image_id"]) == list(rest["image_id"])
    scarce = frame[(frame["label"] != "B") | (frame["split"] != "train") | (frame.groupby("label").cumcount() < 8)]
    have = ((scarce["label"] == "B") & (scarce["split"] == "train")).sum()
    with pytest.raises(SplitError, match=rf"20 training images per class.*fewer of B \({have}\)"):
        limited(scarce, 20, seed=1)


def test_binary_keeps_two_classes_in_every_split(frame):
    two = binary(frame, "A", "NORMAL")
    assert set(two["label"]) == {"A", "NORMAL"} and set(two["split"]) == {"train", "validation", "test"}
    assert len(two) == frame["label"].isin(["A", "NORMAL"]).sum()
    with pytest.raises(SplitError, match="no test images of B"):
        binary(frame[(frame["label"] != "B") | (frame["split"] != "test")], "B")


def test_a_split_that_the_data_cannot_give_is_refused_with_the_reason(catalogue):
    shared = listed([(s, c, f"{c}{i}") for s in ("train", "test") for c in CLASSES for i in range(3)], CLASSES)
    with pytest.raises(SplitError, match="no training images of A, B, NORMAL once patients of the test folder are dr"):
        split(shared, DISJOINT, 0.2, seed=1)
    rows = catalogue.frame
    untested = catalogue.subset(rows[(rows["published_split"] == "train") | (rows["label"] != "B")])
    with pytest.raises(SplitError, match="no test images of B"):
        split(untested, PUBLISHED, 0.2, 1)
    with pytest.raises(SplitError, match="no class has two training patients"):
        split(few(1), PUBLISHED, 0.2, 1)


def test_a_catalogue_of_images_from_outside_is_made_once_until_its_key_changes(tmp_path, monkeypatch):
    made, key = [], ["one"]

    def load(settings):
        warnings.warn("a file is odd", UserWarning, stacklevel=1)
        made.append(key[0])
        return list(made)

    monkeypatch.setattr(paths, "CACHE", tmp_path)
    monkeypatch.setattr(splits, "resolve", lambda name: load if ":load" in name else lambda settings: ("a place",))
    monkeypatch.setattr(splits, "step_key", functools.cache(lambda name, profile: key[0]))  # as the real one
    settings = Settings(load_profile("phantom"), {"seed"}, "a step")
    for key[0], wanted in (("one", ["one"]), ("one", ["one"]), ("two", ["one", "two"])):
        with pytest.warns(UserWarning, match="odd"):
            assert splits.Source("oct", settings).catalogue == wanted
