"""Ten augmentations of each target image: counted, reproducible, and never across splits."""

import numpy as np
import pandas as pd
import pytest

from helpers.carr.expansion import Expanded, expand


def frame(train=102, other=4):
    rows = [(f"i{n}", f"p{n}", "COVID-19", "train" if n < train else "test") for n in range(train + other)]
    return pd.DataFrame(rows, columns=["image_id", "patient_id", "label", "split"])


def test_102_subjects_become_1122_images_and_50_become_550():
    for subjects, images in ((102, 1122), (50, 550)):
        made = expand(frame(subjects))
        assert (made["split"] == "train").sum() == images and (made["split"] == "test").sum() == 4


def test_children_inherit_label_patient_and_split_and_held_out_images_have_none():
    made = expand(frame(3, 2), 10)
    assert made["image_id"].is_unique and set(made.loc[made["child"] > 0, "split"]) == {"train"}
    parents = made.set_index("image_id").loc[made["parent"]]
    assert (
        parents[["label", "patient_id", "split"]].to_numpy() == made[["label", "patient_id", "split"]].to_numpy()
    ).all()


def test_a_patient_in_two_splits_is_refused():
    rows = frame(3, 2)
    rows.loc[4, "patient_id"] = "p0"
    with pytest.raises(ValueError, match="patient_id: 1 are in train and in another split too, first p0"):
        expand(rows)


def test_a_child_follows_from_seed_parent_and_number_alone():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 24, 24), np.uint8)
    rows = expand(frame(3, 2), 4)
    names = [f"i{n}" for n in range(5)]
    every = Expanded(rows, pixels, names, 1).batch(0, np.arange(len(rows)))
    np.testing.assert_array_equal(every[:5], pixels)
    other = Expanded(rows[::-1], pixels[::-1], names[::-1], 1).batch(7, np.arange(len(rows)))
    np.testing.assert_array_equal(other[::-1], every)
    assert len({image.tobytes() for image in every}) == len(rows)
    assert (Expanded(rows, pixels, names, 2).batch(0, [6]) != every[6]).any()
    assert Expanded(rows, pixels, names, 2).key != Expanded(rows, pixels, names, 1).key
    with pytest.raises(ValueError, match="no pixels for parent i0"):
        Expanded(rows, pixels[1:], names[1:], 1)
