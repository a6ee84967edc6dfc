"""MedMNIST's files: read as published, streamed, and refused by name where they are damaged or laid out otherwise."""

import hashlib
import tracemalloc
import warnings

import numpy as np
import pytest
from tiny_data import medmnist_arrays

from helpers.data.catalogue import CatalogueError
from helpers.data.download import DATASETS, read_datasets
from helpers.data.images import read_grey
from helpers.data.splits import SplitError
from helpers.kermany import data
from helpers.run.profile import load_profile


def write(folder, name="octmnist", arrays=None, compressed=True):
    folder.mkdir(parents=True, exist_ok=True)
    arrays = medmnist_arrays(name.split("_")[0]) if arrays is None else arrays
    (np.savez_compressed if compressed else np.savez)(folder / f"{name}.npz", **arrays)
    return arrays


def load(folder, source="octmnist"):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return data.load_medmnist(source, folder, folder / "cache"), [str(one.message) for one in caught]


@pytest.mark.parametrize("source", ["octmnist", "pneumoniamnist_64"])
@pytest.mark.parametrize("compressed", [True, False])
def test_images_labels_and_parts_are_those_of_the_file_and_no_patient_is_claimed(tmp_path, source, compressed):
    name, size = source.split("_")[0], 64 if "_" in source else 28
    arrays = write(tmp_path, source, medmnist_arrays(name, size=size), compressed)
    found, words = load(tmp_path, source)
    assert found.name == name and not found.patients_known and len(found) == 68
    for part, published in data.PARTS.items():
        rows = found.frame[found.frame["image_id"].str.startswith(part)]
        codes = arrays[f"{part}_labels"][:, 0]
        order = rows["image_id"].str.split("/").str[1].astype(int)
        assert rows["label"].tolist() == [data.MEDMNIST[name][codes[k]] for k in order]
        assert set(rows["published_split"]) == {published} and set(rows["validation"]) == {part == "val"}
        last = read_grey(found.file(rows["path"].iloc[-1]))
        np.testing.assert_array_equal(last, arrays[f"{part}_images"][order.iloc[-1]])
    assert "not a published file" in words[0] and "names no patients" in words[1]
    same, sentence = data.describe_oct(found)
    assert not same and f"at {size} px" in sentence and "no patients are named" in sentence
    assert load(tmp_path, source)[0].fingerprint() == found.fingerprint()


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("val_images", lambda a: None, "no array val_images"),
        ("test_images", lambda a: a[..., None].repeat(3, -1), "test_images is uint8 .16, 28, 28, 3."),
        ("train_images", lambda a: a[:, :20], "squares of one size"),
        ("val_images", lambda a: a[:, :14, :14], "squares of one size"),
        ("train_images", lambda a: a / 255, "train_images is float64"),
        ("test_images", np.asfortranarray, "by columns"),
        ("test_labels", lambda a: a[:0], "test_labels is uint8 .0, 1."),
        ("train_labels", lambda a: a[:-1], "39 labels, and not as many images"),
        ("train_images", lambda a: a[:-1], "40 labels, and not as many images"),
        ("train_labels", lambda a: a + 1, "not 0 to 3"),
        ("train_labels", lambda a: np.array([{}] * 40), "train_labels is object"),
    ],
)
def test_a_file_of_another_layout_is_refused_with_its_name_and_what_is_wrong(tmp_path, part, change, message):
    arrays = medmnist_arrays("octmnist")
    changed = {name: change(array) if name == part else array for name, array in arrays.items()}
    write(tmp_path, arrays={name: array for name, array in changed.items() if array is not None})
    with pytest.raises(CatalogueError, match=f"octmnist.npz cannot be read as OCTMNIST: .*{message}.*make data"):
        load(tmp_path)
    assert not list((tmp_path / "cache/medmnist").glob("*.unfinished"))


@pytest.mark.parametrize("damage", ["cut", "a byte", "no zip", "empty"])
def test_a_damaged_file_is_refused_and_nothing_of_it_is_kept(tmp_path, damage):
    write(tmp_path, compressed=False)
    path = tmp_path / "octmnist.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1  # within the training images
    cut = content[: len(content) // 2]
    path.write_bytes(bytes({"cut": cut, "a byte": content, "no zip": b"<html>", "empty": b""}[damage]))
    with pytest.raises(CatalogueError, match="octmnist.npz cannot be read as OCTMNIST"):
        load(tmp_path)
    assert not [place for place in (tmp_path / "cache/medmnist").glob("*") if place.is_dir()]


def test_one_size_is_found_by_itself_and_of_several_one_must_be_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no OCTMNIST in .*octmnist_224.npz.*make data PROFILE=medmnist"):
        load(tmp_path)
    write(tmp_path / "my downloads", "octmnist_64", medmnist_arrays("octmnist", size=64))
    assert "at 64 px" in data.describe_oct(load(tmp_path)[0])[1]
    with pytest.raises(FileNotFoundError, match="for octmnist.npz"):
        load(tmp_path, "octmnist_28")
    write(tmp_path / "my downloads")
    with pytest.raises(CatalogueError, match="more than once: .*octmnist.npz.*OCT_SOURCE=octmnist_28"):
        load(tmp_path)
    assert "at 28 px" in data.describe_oct(load(tmp_path, "octmnist_28")[0])[1]


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "PIECE", 1 << 20)
    write(tmp_path, "octmnist_224", medmnist_arrays("octmnist", (600, 12, 12), 224))  # 31 MB of pixels
    tracemalloc.start()
    load(tmp_path, "octmnist_224")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12e6


def test_a_published_file_is_known_by_its_checksum(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(data, "_published", lambda: {hashlib.md5((tmp_path / "octmnist.npz").read_bytes()).hexdigest()})
    assert len(load(tmp_path)[1]) == 1


def test_every_size_has_a_card_with_its_checksum():
    cards = {name: card["files"][0] for name, card in read_datasets(DATASETS).items() if data.is_medmnist(name)}
    assert len(cards) == 8 == len({file.md5 for file in cards.values()})
    assert all(file.name == f"{name}.npz" for name, file in cards.items())
    assert all(file.url.startswith("https://zenodo.org/") for file in cards.values())


def test_the_profile_splits_as_published_and_downloads_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    profile = load_profile("medmnist", {"data_dir": str(tmp_path)})
    places = [*data.places_oct(profile), *data.places_xray(profile)]
    assert [place.cards for place in places if place.is_absent(tmp_path)] == [("octmnist",), ("pneumoniamnist",)]
    write(tmp_path)
    write(tmp_path, "pneumoniamnist_64", medmnist_arrays("pneumoniamnist", size=64))
    assert not any(place.is_absent(tmp_path) for place in places)
    assert places[0].read_from(tmp_path) == [tmp_path / "octmnist.npz"]
    with pytest.warns(UserWarning, match="names no patients"):
        oct_images, radiographs = data.load_oct(profile), data.load_xray(profile)
    counts = data.split_oct(oct_images, profile).frame["split"].value_counts().to_dict()
    assert counts == {"train": 40, "validation": 12, "test": 16}
    assert data.split_xray(radiographs, profile).frame["split"].value_counts()["held-out"] == 4
    assert "unnamed patients" in data.flow_boxes(oct_images, data.split_oct(oct_images, profile))[0][1][1]
    assert list(data.patient_characteristics(oct_images)) == ["split", "class", "images"]
    with pytest.raises(SplitError, match="octmnist names no patients, .*SPLIT=published"):
        data.split_oct(oct_images, profile.model_copy(update={"split": "patient-disjoint"}))
