"""The audit: counts beside the paper's, copies of images, shared patients, and what shared ids are worth."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.data import copies
from helpers.data.catalogue import Catalogue
from helpers.data.images import average_hash, read_grey

CLASSES = ("A", "B")


def face(seed: int) -> np.ndarray:
    """A smooth random image (96, 96), unlike that of any other seed."""
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 12), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC))


def catalogue_of(folder: Path, rows: list[tuple[str, str, str, np.ndarray | bytes]]) -> Catalogue:
    """From (published split, label, patient, pixels or a file's bytes)."""
    made = []
    for i, (published_split, label, patient, content) in enumerate(rows):
        path = folder / f"{i:04d}.png"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            Image.fromarray(content).save(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        made.append((f"{i:04d}", path.name, label, patient, published_split, digest, average_hash(read_grey(path))))
    columns = ["image_id", "path", "label", "patient_id", "published_split", "digest", "average_hash"]
    return Catalogue("made", folder, pd.DataFrame(made, columns=columns), CLASSES)


def jpeg(pixels: np.ndarray, quality: int = 40, size: tuple[int, int] | None = None) -> bytes:
    image = Image.fromarray(pixels)
    stream = io.BytesIO()
    (image.resize(size) if size else image).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


@pytest.fixture
def small(tmp_path) -> Catalogue:
    """p1 is in both folders and both classes, p2 in two classes of train, the others once."""
    rows = [
        ("train", "A", "p1"),
        ("train", "A", "p1"),
        ("train", "B", "p2"),
        ("train", "A", "p2"),
        ("train", "B", "p3"),
    ]
    rows += [("test", "A", "p4"), ("test", "B", "p1")]
    return catalogue_of(tmp_path, [(*row, face(i)) for i, row in enumerate(rows)])


def test_counts_stand_beside_the_papers(small):
    paper = {"images": {"train": {"A": 30, "B": 12}, "test": {"A": 5, "B": 5}}, "patients": {"train": 9}}
    table = copies.counts(small, paper).set_index(["split", "label"])
    assert table.loc[("train", "A")].tolist()[:3] == [3, 2, 30]
    assert table.loc[("train", "all")].tolist() == [5, 3, 42, 9]  # p2 counts once
    assert table.loc[("test", "all"), "paper_images"] == 10
    assert table["paper_patients"].isna().sum() == 5


def test_counts_without_a_paper_leave_its_columns_empty(small):
    assert copies.counts(small)[["paper_images", "paper_patients"]].isna().all(axis=None)


def test_names_that_pairs_connect_get_the_first_name_of_their_group():
    found = copies.connected("abcdex", [("c", "b"), ("e", "c"), ("x", "d")])
    assert found == {"a": "a", "b": "b", "c": "b", "d": "d", "e": "b", "x": "d"}


def test_exact_copies_are_found_beside_the_first_of_their_group(tmp_path):
    one, two = face(1), face(2)
    rows = [("test", "A", "x", one), ("train", "A", "p", one), ("train", "B", "q", one), ("train", "A", "r", two)]
    pairs = copies.duplicates(catalogue_of(tmp_path, rows))
    assert pairs["kind"].tolist() == ["exact", "exact"]
    assert set(zip(pairs["image_a"], pairs["image_b"], pairs["where"], strict=True)) == {
        ("0001", "0000", "train and test"),
        ("0001", "0002", "train"),
    }
    table = copies.duplicate_counts(pairs).set_index(["kind", "where"])
    assert table.loc[("exact", "train")].tolist() == [1, 1, 1]  # one pair, of two patients, of two labels
    assert table.loc[("exact", "train and test")].tolist() == [1, 1, 0]
    assert table.loc["near"]["pairs"].sum() == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: jpeg(pixels),
        lambda pixels: jpeg(pixels, 80, (48, 48)),
        lambda pixels: jpeg(pixels, 80, (150, 60)),
        lambda pixels: (pixels * 0.8).astype(np.uint8),
    ],
    ids=["re-encoded", "halved", "squashed", "darkened"],
)
def test_a_changed_copy_is_a_near_copy(tmp_path, change):
    rows = [("train", "A", f"p{i}", face(i)) for i in range(10)] + [("test", "A", "x", change(face(3)))]
    (pair,) = copies.duplicates(catalogue_of(tmp_path, rows)).to_dict("records")
    assert (pair["kind"], pair["image_a"], pair["image_b"], pair["where"]) == ("near", "0003", "0010", "train and test")
    assert pair["bits"] <= copies.BITS and copies.CORRELATION < pair["correlation"] <= 1.001


def test_images_with_one_hash_and_other_pixels_are_no_copies(tmp_path):
    blocks = np.kron(np.random.default_rng(0).integers(0, 2, (8, 8)), np.ones((12, 12))) * 120 + 60
    noise = np.kron(np.random.default_rng(1).normal(0, 40, (48, 48)), np.ones((2, 2)))
    noise -= np.kron(noise.reshape(8, 12, 8, 12).mean(axis=(1, 3)), np.ones((12, 12)))  # blocks keep their means
    rows = [("train", "A", "p", blocks.astype(np.uint8)), ("train", "A", "q", np.clip(blocks + noise, 0, 255))]
    catalogue = catalogue_of(tmp_path, [(*row[:3], row[3].astype(np.uint8)) for row in rows])
    assert catalogue.frame["average_hash"].nunique() == 1
    assert copies.duplicates(catalogue).empty


def test_blank_images_are_copies_only_where_the_bytes_are_the_same(tmp_path):
    rows = [("train", "A", f"p{level}", np.full((32, 32), level, np.uint8)) for level in (0, 0, 90)]
    assert copies.duplicates(catalogue_of(tmp_path, rows))["kind"].tolist() == ["exact"]


def test_copies_are_found_across_the_borders_of_blocks(tmp_path, monkeypatch):
    rows = [("train", "A", f"p{i}", face(i % 20)) for i in range(20)]
    rows += [("train", "A", f"q{i}", jpeg(face(i))) for i in range(20)]
    catalogue = catalogue_of(tmp_path, rows)
    expected = copies.duplicates(catalogue)
    assert list(zip(expected["image_a"], expected["image_b"], strict=True)) == [
        (f"{i:04d}", f"{20 + i:04d}") for i in range(20)
    ]
    monkeypatch.setattr(copies, "TILE", 7)
    monkeypatch.setattr(copies, "PAIRS", 2)
    got = copies.duplicates(catalogue)
    assert set(zip(got["image_a"], got["image_b"], strict=True)) == set(
        zip(expected["image_a"], expected["image_b"], strict=True)
    )


def test_hashes_are_made_where_the_catalogue_has_none(tmp_path):
    rows = [("train", "A", "p", face(1)), ("train", "A", "q", jpeg(face(1))), ("train", "A", "r", face(2))]
    catalogue = catalogue_of(tmp_path, rows)
    bare = catalogue.subset(catalogue.frame.drop(columns="average_hash"))
    assert copies.duplicates(bare)["kind"].tolist() == ["near"]


def test_without_copies_the_table_is_empty_and_all_counts_are_0(small):
    pairs = copies.duplicates(small)
    assert pairs.empty and "where" in pairs
    assert copies.duplicate_counts(pairs)["pairs"].sum() == 0


def people(folder: Path, same: bool, ids: int = 40) -> Catalogue:
    """`ids` ids in both folders, two images each; across folders an id is one patient or, if not `same`, two."""
    rows = []
    for i in range(ids):
        for split, who in (("train", i), ("test", i if same else 1000 + i)):
            for n in range(2):
                noise = np.random.default_rng([who, n, 5]).normal(0, 60, (96, 96))
                pixels = np.clip(face(who) * 0.5 + 64 + np.kron(noise[::8, ::8], np.ones((8, 8))), 0, 255)
                rows.append((split, CLASSES[i % 2], f"id{i}", pixels.astype(np.uint8)))
    return catalogue_of(folder, rows)


def test_when_ids_are_patients_the_evidence_says_so(tmp_path):
    evidence = copies.shared_id_evidence(people(tmp_path, same=True), seed=1)
    assert evidence.shared_ids == 40 and evidence.pairs == 80
    assert evidence.alike.low > 0.5 and evidence.p_value < 0.01
    assert "shared ids are shared patients" in evidence.conclusion


def test_when_numbers_restart_in_each_folder_the_evidence_says_so(tmp_path):
    evidence = copies.shared_id_evidence(people(tmp_path, same=False), seed=1)
    assert evidence.alike.low < 0.5 < evidence.alike.high and evidence.p_value > 0.05
    assert evidence.reference.low > evidence.alike.high
    assert "do not look like shared patients" in evidence.conclusion


def test_when_there_is_too_little_to_see_the_evidence_does_not_decide(tmp_path):
    rows = [(split, "A", f"id{i}", face(10 * i + len(split))) for i in range(4) for split in ("train", "test")]
    assert "cannot show" in copies.shared_id_evidence(catalogue_of(tmp_path, rows), seed=1).conclusion


def test_when_no_id_is_shared_the_evidence_says_so(small):
    apart = small.subset(small.frame.assign(patient_id=small.frame["image_id"]))
    evidence = copies.shared_id_evidence(apart, seed=1)
    assert evidence.conclusion == "No patient id occurs in both train and test."
    assert evidence.pairs == 0 and not evidence.alike.defined


def test_when_a_shared_id_changes_class_nothing_can_be_compared(small):
    assert "nothing can be compared" in copies.shared_id_evidence(small, seed=1).conclusion


def test_the_evidence_follows_from_the_seed(tmp_path):
    catalogue = people(tmp_path, same=True, ids=10)
    shuffled = catalogue.subset(catalogue.frame.sample(frac=1, random_state=0))
    first, again, other = (copies.shared_id_evidence(c, s) for c, s in ((catalogue, 1), (shuffled, 1), (catalogue, 2)))
    assert first == again and first != other


def test_chance_pairs_are_of_another_id_and_the_same_class(tmp_path):
    frame = people(tmp_path, same=True, ids=4).frame
    pairs = copies._pairs(frame[8:], frame, np.random.default_rng(0))
    ids, labels = frame["patient_id"].to_numpy(), frame["label"].to_numpy()
    assert len(pairs) and np.all(pairs["same"] != pairs["anchor"])
    assert np.all(ids[pairs["same"]] == ids[pairs["anchor"]]) and np.all(ids[pairs["chance"]] != ids[pairs["anchor"]])
    for other in ("same", "chance"):
        assert np.all(labels[pairs[other]] == labels[pairs["anchor"]])


def test_the_probability_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    high, low = rng.normal(0.5, 1, 60).round(1), rng.normal(0, 1, 60).round(1)
    expected = roc_auc_score(np.repeat([1, 0], 60), np.concatenate([high, low]))
    assert copies._auroc(high, low, rng.integers(0, 12, 60), rng).value == pytest.approx(expected)
