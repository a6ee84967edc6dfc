"""The 106 children of an image, what is drawn of them, and that none of them crosses a split."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from helpers.rajkomar import augmentation as transforms
from helpers.rajkomar.augmentation import CHILDREN, KINDS, Augmented, children_frame, describe, make_child

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(0, 256, (32, 32), dtype=np.uint8)
NAMES = {", ".join(part for part in one if part != "none") or "parent": i for i, one in enumerate(CHILDREN)}


def made(name, image=IMAGE, words=(1, "a")):
    return make_child(image, NAMES[name], words)


def split_frame():
    rows = [
        (f"{split}{i}", ("frontal", "lateral")[i % 2], f"p-{split}{i // 2}", split, f"d-{split}{i}")
        for split, count in (("train", 6), ("validation", 4), ("test", 4))
        for i in range(count)
    ]
    return pd.DataFrame(rows, columns=["image_id", "label", "patient_id", "split", "digest"])


def test_there_are_106_children_and_the_totals_of_the_text_follow():
    assert len(CHILDREN) == len(NAMES) == describe()["children"].sum() == 106
    assert (1129 * len(CHILDREN), 376 * len(CHILDREN)) == (119_674, 39_856)


def test_all_children_of_an_image_differ_and_leave_it_alone():
    before = IMAGE.copy()
    children = [make_child(IMAGE, i, (1, "a")) for i in range(106)]
    assert len({one.tobytes() for one in children}) == 106
    assert all(one.shape == IMAGE.shape and one.dtype == np.uint8 for one in children)
    children[0][:] = 0
    assert np.array_equal(IMAGE, before)


MOVED = {
    "parent": IMAGE,
    "reflected left-right": IMAGE[:, ::-1],
    "reflected both ways": np.rot90(IMAGE, 2),
    "rotated +90": np.rot90(IMAGE),
    "rotated -90": np.rot90(IMAGE, 3),
    "moved NE": ndimage.shift(IMAGE, (-3, 3), order=0),
    "after median 2": ndimage.rank_filter(IMAGE, 2, size=2, mode="nearest"),
    "before median 5": ndimage.rank_filter(IMAGE, 11, size=5, mode="nearest"),
}


@pytest.mark.parametrize("name", MOVED)
def test_what_is_not_random_is_what_its_name_says(name):
    assert np.array_equal(made(name), MOVED[name])


def test_spread_swaps_each_pixel_with_a_neighbour():
    places = np.arange(256, dtype=np.uint8).reshape(16, 16)
    swapped = transforms.spread(places, np.random.default_rng(1))
    rows, columns = np.divmod(swapped.astype(int), 16)
    moved = np.maximum(abs(rows - np.indices((16, 16))[0]), abs(columns - np.indices((16, 16))[1]))
    assert moved.max() == 1 and (moved == 1).mean() > 0.75
    assert np.array_equal(swapped.ravel()[swapped.ravel()], places.ravel())  # a swap done twice is no swap
    assert sorted(swapped.ravel()) == list(range(256))


def test_noise_has_its_strength_and_stays_within_grey_levels():
    added = made("noise", np.full((200, 200), 128, np.uint8)).astype(float) - 128
    assert added.std() == pytest.approx(transforms.NOISE, rel=0.03) and abs(added.mean()) < 0.2
    assert made("noise", np.zeros((50, 50), np.uint8)).max() < 60  # clipped, not wrapped


@pytest.mark.parametrize("image", [IMAGE.astype(float), IMAGE[:20], IMAGE[None]])
def test_an_image_that_is_not_square_uint8_is_refused(image):
    with pytest.raises(ValueError, match="square uint8"):
        make_child(image, 0, (1,))


def test_children_inherit_label_patient_and_split_and_the_test_split_has_none():
    frame = split_frame()
    children = children_frame(frame)
    assert len(children) == 1060 and set(children["split"]) == {"train", "validation"}
    parents = frame.set_index("image_id").loc[children["parent"]].reset_index()
    for column in ("label", "patient_id", "split"):
        assert (children[column] == parents[column]).all()


def test_no_child_of_a_training_image_reaches_validation_or_test_by_name_or_by_pixels():
    frame = split_frame()
    frame.loc[frame["image_id"] == "train3", "digest"] = "d-test1"  # the same file, under a training name
    pixels = RANDOM.integers(0, 256, (len(frame), 24, 24), dtype=np.uint8)
    pixels[frame.index[frame["image_id"] == "train3"]] = pixels[frame.index[frame["image_id"] == "test1"]]
    with pytest.warns(UserWarning, match="1 images get no children"):
        children = children_frame(frame)
    source = Augmented(children, pixels, list(frame["image_id"]), seed=1)
    digests = [hashlib.sha256(one.tobytes()).hexdigest() for one in source.batch(0, range(len(source)))]
    seen = children.assign(digest=digests)
    held = frame[frame["split"] == "test"]
    test = {hashlib.sha256(pixels[i].tobytes()).hexdigest() for i in held.index}
    train, validation = (seen[seen["split"] == name] for name in ("train", "validation"))
    assert "train3" not in set(train["parent"])
    for column in ("image_id", "parent", "patient_id", "digest"):
        assert not set(train[column]) & set(validation[column]), column
    assert not set(seen["digest"]) & test and not set(seen["patient_id"]) & set(held["patient_id"])


def test_a_parent_without_pixels_is_refused():
    frame = split_frame()
    with pytest.raises(ValueError, match="no pixels for parent train0"):
        Augmented(children_frame(frame), np.zeros((2, 8, 8), np.uint8), ["train1", "train2"], 1)


@pytest.mark.parametrize("count", [1, 12, 53])
def test_fewer_children_keep_every_kinds_share_and_follow_from_the_seed(count):
    frame = split_frame()
    children = children_frame(frame, per_image=count, seed=3)
    assert not children.equals(children_frame(frame, per_image=count, seed=4))
    one = children_frame(frame.iloc[[2]], per_image=count, seed=3)["child"]
    assert list(one) == list(children.loc[children["parent"] == "train2", "child"])  # whatever else is drawn
    kinds, drawn = pd.Series(KINDS).value_counts(), pd.Series(KINDS)[one].value_counts()
    assert all(abs(drawn.get(kind, 0) - count * n / 106) <= 1 for kind, n in kinds.items())


def test_a_batch_does_not_depend_on_its_company():
    frame = split_frame()
    names, pixels = list(frame["image_id"]), RANDOM.integers(0, 256, (len(frame), 16, 16), dtype=np.uint8)
    source = Augmented(children_frame(frame), pixels, names, seed=1)
    rows = [700, 5, 5, 13]
    batch = source.batch(0, rows)
    assert len(source) == 1060 and batch.shape == (4, 16, 16) and np.array_equal(batch[1], batch[2])
    assert all(np.array_equal(one, source.batch(0, [row])[0]) for one, row in zip(batch, rows, strict=True))
