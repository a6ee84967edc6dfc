"""The audit: counts beside the paper's, copies of images, shared patients, and what shared ids are worth."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_data import face, pictured

from helpers.data import copies
from helpers.data.catalogue import Catalogue
from helpers.kermany.numbers import shared_id_evidence


def jpeg(pixels: np.ndarray, quality: int = 40, size: tuple[int, int] | None = None) -> bytes:
    image = Image.fromarray(pixels)
    stream = io.BytesIO()
    (image.resize(size) if size else image).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


@pytest.fixture
def small(tmp_path) -> Catalogue:
    """p1 is in both folders and both classes, p2 in two classes of train, the others once."""
    train = [("train", label, patient) for label, patient in ("A1", "A1", "B2", "A2", "B3")]
    rows = [*train, ("test", "A", "4"), ("test", "B", "1")]
    return pictured(tmp_path, [(*row, face(i)) for i, row in enumerate(rows)])


def test_counts_stand_beside_the_papers_and_what_it_does_not_print_is_empty(small):
    paper = {"images": {"train": {"A": 30, "B": 12}, "test": {"A": 5, "B": 5}}, "patients": {"train": 9}}
    table = copies.counts(small, paper).set_index(["split", "label"])
    assert table.loc[("train", "A")].tolist()[:3] == [3, 2, 30]
    assert table.loc[("train", "all")].tolist() == [5, 3, 42, 9]  # p2 counts once
    assert table.loc[("test", "all"), "paper_images"] == 10 and table["paper_patients"].isna().sum() == 5
    assert copies.counts(small)[["paper_images", "paper_patients"]].isna().all(axis=None)


def test_exact_copies_are_found_beside_the_first_of_their_group_and_counted(tmp_path, small):
    one, two = face(1), face(2)
    rows = [("test", "A", "x", one), ("train", "A", "p", one), ("train", "B", "q", one), ("train", "A", "r", two)]
    pairs = copies.duplicates(pictured(tmp_path, rows))
    assert pairs[["kind", "image_a", "image_b", "where"]].sort_values("image_b").to_numpy().tolist() == [
        ["exact", "0001", "0000", "train and test"],
        ["exact", "0001", "0002", "train"],
    ]
    table = copies.duplicate_counts(pairs).set_index(["kind", "where"])
    assert table.loc[("exact", "train")].tolist() == [1, 1, 1]  # one pair, of two patients, of two labels
    assert table.loc[("exact", "train and test")].tolist() == [1, 1, 0] and table.loc["near"]["pairs"].sum() == 0


def test_changed_copies_are_near_copies_in_whatever_blocks_they_are_compared(tmp_path, monkeypatch):
    changed = [
        jpeg(face(0)),
        jpeg(face(1), 80, (48, 48)),
        jpeg(face(2), 80, (150, 60)),
        (face(3) * 0.8).astype(np.uint8),
    ]
    rows = [("train", "A", f"p{i}", face(i)) for i in range(10)] + [("test", "A", "x", image) for image in changed]
    catalogue = pictured(tmp_path, rows)
    pairs = copies.duplicates(catalogue)
    found = list(zip(pairs["image_a"], pairs["image_b"], strict=True))
    assert found == [(f"{i:04d}", f"{10 + i:04d}") for i in range(4)]
    assert set(pairs["kind"]) == {"near"} and set(pairs["where"]) == {"train and test"}
    assert pairs["bits"].max() <= copies.BITS and pairs["correlation"].between(copies.CORRELATION, 1.001).all()
    monkeypatch.setattr(copies, "BLOCK", 3)
    pd.testing.assert_frame_equal(copies.duplicates(catalogue, workers=2), pairs, check_dtype=False)


def test_images_with_one_hash_and_other_pixels_and_blank_ones_are_no_copies(tmp_path):
    blocks = np.kron(np.random.default_rng(0).integers(0, 2, (8, 8)), np.ones((12, 12))) * 120 + 60
    noise = np.kron(np.random.default_rng(1).normal(0, 40, (48, 48)), np.ones((2, 2)))
    noise -= np.kron(noise.reshape(8, 12, 8, 12).mean(axis=(1, 3)), np.ones((12, 12)))  # blocks keep their means
    images = [blocks, np.clip(blocks + noise, 0, 255), np.zeros((96, 96)), np.full((96, 96), 90)]
    catalogue = pictured(tmp_path, [("train", "A", str(i), image.astype(np.uint8)) for i, image in enumerate(images)])
    assert catalogue.frame["average_hash"].nunique() == 2
    pairs = copies.duplicates(catalogue)
    assert pairs.empty and "where" in pairs and copies.duplicate_counts(pairs)["pairs"].sum() == 0


def people(folder: Path, same: bool, ids: int = 40) -> Catalogue:
    """`ids` ids in both folders, two images each; across folders an id is one patient or, if not `same`, two."""
    rows = []
    for i in range(ids):
        for split, who in (("train", i), ("test", i if same else 1000 + i)):
            for n in range(2):
                noise = np.random.default_rng([who, n, 5]).normal(0, 60, (12, 12))
                pixels = np.clip(face(who) * 0.5 + 64 + np.kron(noise, np.ones((8, 8))), 0, 255)
                rows.append((split, "AB"[i % 2], f"id{i}", pixels.astype(np.uint8)))
    return pictured(folder, rows)


def test_when_ids_are_patients_the_evidence_says_so_and_follows_from_the_seed(tmp_path):
    catalogue = people(tmp_path, same=True)
    evidence = shared_id_evidence(catalogue, seed=1)
    assert evidence.shared_ids == 40 and evidence.pairs == 80
    assert evidence.alike.low > 0.5 and evidence.p_value < 0.01
    assert "shared ids are shared patients" in evidence.conclusion
    assert evidence == shared_id_evidence(catalogue.subset(catalogue.frame.sample(frac=1, random_state=0)), 1)
    assert evidence != shared_id_evidence(catalogue, 2)


def test_when_numbers_restart_in_each_folder_the_evidence_says_so(tmp_path):
    evidence = shared_id_evidence(people(tmp_path, same=False), seed=1)
    assert evidence.alike.low < 0.5 < evidence.alike.high and evidence.p_value > 0.05
    assert evidence.reference.low > evidence.alike.high
    assert "do not look like shared patients" in evidence.conclusion


def test_when_there_is_too_little_to_see_or_nothing_shared_the_evidence_does_not_decide(tmp_path, small):
    assert "nothing can be compared" in shared_id_evidence(small, seed=1).conclusion
    apart = shared_id_evidence(small.subset(small.frame.assign(patient_id=small.frame["image_id"])), seed=1)
    assert apart.conclusion == "No patient id occurs in both train and test."
    assert apart.pairs == 0 and not apart.alike.defined
    rows = [(split, "A", f"id{i}", face(10 * i + len(split))) for i in range(4) for split in ("train", "test")]
    assert "cannot show" in shared_id_evidence(pictured(tmp_path, rows), seed=1).conclusion
