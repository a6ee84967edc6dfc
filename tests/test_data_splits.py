"""Splits: no patient in two of them unless the publication put him there, and each follows from its seed alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.data.catalogue import Catalogue
from helpers.data.splits import SplitError, binary, dropped, leaks, limited, split

CLASSES = ("A", "B", "NORMAL")


def catalogue_of(rows: list[tuple[str, str, str]], **columns) -> Catalogue:
    """From (published split, label, patient), one image each."""
    frame = pd.DataFrame(rows, columns=["published_split", "label", "patient_id"])
    names = [f"image{i}" for i in range(len(frame))]
    frame = frame.assign(**{"image_id": names, "path": names, "digest": names} | columns)
    return Catalogue("made", Path(), frame, CLASSES)


def frame_of(*given, **named) -> pd.DataFrame:
    return split(*given, **named).frame


@pytest.fixture
def catalogue() -> Catalogue:
    """20 training patients a class with 1 to 5 images, 5 test patients a class; A0 and B1 are in both."""
    rng = np.random.default_rng(0)
    rows = []
    for label in CLASSES:
        rows += [("train", label, f"{label}{i}") for i in range(20) for _ in range(rng.integers(1, 6))]
        rows += [("test", label, f"{label}t{i}") for i in range(5) for _ in range(2)]
    return catalogue_of([*rows, ("test", "A", "A0"), ("test", "B", "B1")])


@pytest.mark.parametrize("kind", ["patient-disjoint", "published"])
def test_test_images_are_the_published_ones(catalogue, kind):
    frame = frame_of(catalogue, kind, 0.2, seed=1)
    assert frame["split"].eq("test").equals(frame["published_split"].eq("test"))
    assert (frame["split"] == "test").sum() == 32


def test_patient_disjoint_shares_nobody(catalogue):
    frame = frame_of(catalogue, "patient-disjoint", 0.2, seed=1)
    assert leaks(frame)["patients"].tolist() == [0, 0, 0]


def test_patient_disjoint_lists_what_it_dropped(catalogue):
    made = split(catalogue, "patient-disjoint", 0.2, seed=1)
    gone, frame = made.dropped, made.frame
    assert (made.kind, made.seed) == ("patient-disjoint", 1)
    assert set(gone["patient_id"]) == {"A0", "B1"}
    assert set(gone["published_split"]) == {"train"}
    assert set(gone["reason"]) == {"the patient is in the test folder"}
    assert len(frame) + len(gone) == len(catalogue)
    assert not set(frame["image_id"]) & set(gone["image_id"])


def test_a_copy_of_a_test_file_is_dropped_whatever_its_patient():
    rows = [("train", c, f"{c}{i}") for c in CLASSES for i in range(4)] + [("test", c, f"t{c}") for c in CLASSES]
    digests = [f"d{i}" for i in range(len(rows))]
    digests[2] = digests[-1]
    gone = dropped(catalogue_of(rows, digest=digests), "patient-disjoint")
    assert list(gone["patient_id"]) == ["A2"] and list(gone["reason"]) == ["the same file is in the test folder"]


def test_published_drops_nothing_and_its_leaks_are_counted(catalogue):
    assert dropped(catalogue, "published").empty
    frame = frame_of(catalogue, "published", 0.2, seed=1)
    assert len(frame) == len(catalogue)
    table = leaks(frame)
    assert table.loc[table["second"] == "test", "patients"].sum() == 2
    assert table.loc[table["second"] == "validation", "patients"].sum() == 0
    mine = frame[(frame["split"] != "test") & frame["patient_id"].isin(["A0", "B1"])]
    assert table.loc[table["second"] == "test", "images_first_by_patients"].sum() == len(mine)
    assert table.loc[table["second"] == "test", "images_second_by_patients"].sum() == 2


def test_leaks_count_identical_files():
    rows = [("train", "A", "p"), ("train", "A", "p"), ("test", "A", "q")]
    frame = catalogue_of(rows, digest=["same", "other", "same"]).frame.assign(split=["train", "validation", "test"])
    table = leaks(frame).set_index(["first", "second"])
    assert table.loc[("train", "test"), "digests"] == 1
    assert table.loc[("validation", "test"), "digests"] == 0
    assert table.loc[("train", "validation"), "patients"] == 1


def test_validation_is_the_stated_share_of_each_class_patients(catalogue):
    frame = frame_of(catalogue, "published", 0.2, seed=1)
    patients = frame[frame["split"] == "validation"].groupby("label")["patient_id"].nunique()
    assert patients.to_dict() == {"A": 4, "B": 4, "NORMAL": 4}


def test_every_class_keeps_a_patient_for_training_and_one_for_validation():
    rows = [("train", c, f"{c}{i}") for c in CLASSES for i in range(2)] + [("test", c, f"t{c}") for c in CLASSES]
    for fraction in (0.01, 0.99):
        frame = frame_of(catalogue_of(rows), "patient-disjoint", fraction, seed=1)
        for name in ("train", "validation"):
            assert set(frame.loc[frame["split"] == name, "label"]) == set(CLASSES)


def test_a_patient_of_two_classes_is_in_one_split_only():
    rows = [("train", c, f"p{i}") for c in CLASSES for i in range(30)] + [("test", c, "t") for c in CLASSES]
    frame = frame_of(catalogue_of(rows), "patient-disjoint", 0.3, seed=1)
    assert frame.groupby("patient_id")["split"].nunique().max() == 1
    assert (frame["split"] == "validation").sum() == 27


@pytest.mark.parametrize("kind", ["patient-disjoint", "published"])
def test_one_seed_gives_one_split_whatever_the_order_of_rows(catalogue, kind):
    shuffled = catalogue.subset(catalogue.frame.sample(frac=1, random_state=3))
    first, second = (frame_of(c, kind, 0.2, seed=7).set_index("image_id")["split"] for c in (catalogue, shuffled))
    assert first.equals(second.loc[first.index])


def test_another_seed_gives_another_split(catalogue):
    first, second = (set(validation_patients(catalogue, seed)) for seed in (1, 2))
    assert first != second and len(first) == len(second)


def validation_patients(catalogue, seed):
    frame = frame_of(catalogue, "published", 0.2, seed)
    return frame.loc[frame["split"] == "validation", "patient_id"]


def test_limited_takes_n_training_images_a_class_and_leaves_the_rest(catalogue):
    frame = frame_of(catalogue, "patient-disjoint", 0.2, seed=1)
    few = limited(frame, 10, seed=1)
    assert few[few["split"] == "train"]["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, 10)
    for name in ("validation", "test"):
        assert list(few.loc[few["split"] == name, "image_id"]) == list(frame.loc[frame["split"] == name, "image_id"])


def test_for_one_seed_fewer_images_lie_inside_more(catalogue):
    frame = frame_of(catalogue, "patient-disjoint", 0.2, seed=1)
    chosen = [set(limited(frame, n, seed=5)["image_id"]) for n in (1, 10, 20)]
    assert chosen[0] < chosen[1] < chosen[2]


def test_limited_depends_on_the_seed_and_not_on_the_order(catalogue):
    frame = frame_of(catalogue, "patient-disjoint", 0.2, seed=1)
    first = set(limited(frame, 10, seed=1)["image_id"])
    assert first == set(limited(frame.sample(frac=1, random_state=2), 10, seed=1)["image_id"])
    assert first != set(limited(frame, 10, seed=2)["image_id"])


def test_when_a_class_has_too_few_images_the_error_names_it(catalogue):
    frame = frame_of(catalogue, "patient-disjoint", 0.2, seed=1)
    scarce = frame[(frame["label"] != "B") | (frame["split"] != "train") | (frame.groupby("label").cumcount() < 8)]
    have = ((scarce["label"] == "B") & (scarce["split"] == "train")).sum()
    with pytest.raises(SplitError, match=rf"20 training images per class.*fewer of B \({have}\)"):
        limited(scarce, 20, seed=1)


def test_binary_keeps_two_classes_in_every_split(catalogue):
    frame = frame_of(catalogue, "patient-disjoint", 0.2, seed=1)
    two = binary(frame, "A", "NORMAL")
    assert set(two["label"]) == {"A", "NORMAL"} and set(two["split"]) == {"train", "validation", "test"}
    assert len(two) == frame["label"].isin(["A", "NORMAL"]).sum()


def test_when_a_binary_split_lacks_a_class_the_error_says_which(catalogue):
    frame = frame_of(catalogue, "patient-disjoint", 0.2, seed=1)
    with pytest.raises(SplitError, match="no test images of B"):
        binary(frame[(frame["label"] != "B") | (frame["split"] != "test")], "B")


def test_when_every_training_patient_is_in_the_test_folder_the_error_says_why():
    rows = [(s, c, f"{c}{i}") for s in ("train", "test") for c in CLASSES for i in range(3)]
    with pytest.raises(
        SplitError, match="no training images of A, B, NORMAL once patients of the test folder are dropped"
    ):
        split(catalogue_of(rows), "patient-disjoint", 0.2, seed=1)


def test_when_there_is_no_test_image_of_a_class_the_error_names_it(catalogue):
    rows = catalogue.frame
    with pytest.raises(SplitError, match="no test images of B"):
        split(
            catalogue.subset(rows[(rows["published_split"] == "train") | (rows["label"] != "B")]), "published", 0.2, 1
        )


def test_an_unknown_kind_or_share_is_refused(catalogue):
    with pytest.raises(SplitError, match="known: patient-disjoint, published"):
        split(catalogue, "random", 0.2, seed=1)
    with pytest.raises(SplitError, match="between 0 and 1"):
        split(catalogue, "published", 1.0, seed=1)
