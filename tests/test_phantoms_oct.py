"""Phantom OCT: what `load` and `one` promise, and the hash that the audit uses."""

import hashlib
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.data.catalogue import CatalogueError
from helpers.data.hashing import average_hash
from helpers.phantoms import oct_lesions as phantom_lesions
from helpers.phantoms import oct as phantom_oct
from helpers.phantoms.oct import CLASSES, PUBLISHED, load, one, plan

SMALL = {"train": 20, "test_per_class": 2, "seed": 5}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return load(tmp_path_factory.mktemp("one_process"), **SMALL, workers=1)


# One image


@pytest.mark.parametrize("label", CLASSES)
def test_an_image_comes_with_a_mask_that_is_empty_only_for_a_healthy_eye(label):
    for seed in range(5):
        image, mask = one(label, 0.0, seed)
        assert image.shape == mask.shape == (496, 512)
        assert image.dtype == np.uint8 and mask.dtype == bool
        assert mask.any() == (label != "NORMAL"), f"severity 0, seed {seed}"


def test_the_same_seed_gives_the_same_image_and_another_seed_patient_or_image_does_not():
    image, mask = one("CNV", 0.5, 1)
    again, mask_again = one("CNV", 0.5, 1)
    assert np.array_equal(image, again) and np.array_equal(mask, mask_again)
    for other in ({"seed": 2}, {"seed": 1, "patient": 1}, {"seed": 1, "image": 2}):
        assert not np.array_equal(image, one("CNV", 0.5, **other)[0]), other


@pytest.mark.parametrize("label", ("CNV", "DME", "DRUSEN"))
def test_a_severer_lesion_is_larger(label):
    area = [np.median([one(label, severity, seed)[1].sum() for seed in range(3)]) for severity in (0, 0.5, 1)]
    assert area[0] < 0.6 * area[1] < 0.8 * area[2]


def test_far_from_its_lesion_an_ill_eye_is_the_healthy_one():
    healthy, _ = one("NORMAL", 0, 3)
    ill, mask = one("DRUSEN", 0, 3)
    lesion = np.flatnonzero(mask.any(axis=0))
    far = np.abs(np.arange(512)[:, None] - lesion).min(axis=1) > 150
    difference = np.abs(healthy.astype(int) - ill)
    assert difference[:, far].max() < 10 < 30 < difference[mask].max()


def test_white_padding_is_the_same_whatever_the_label_and_never_hides_the_lesion():
    padded = 0
    for seed in range(3):
        drawn = [one(label, 1.0, seed) for label in CLASSES]
        white = drawn[0][0] == 255
        assert all(np.array_equal(white, image == 255) for image, _ in drawn)
        assert not any((mask & white).any() for _, mask in drawn)
        padded += white.any()
    assert padded


def test_a_poor_image_is_noisier_than_a_clean_one():
    def noise(quality):
        vitreous = one("NORMAL", 0, 7, quality=quality)[0][60:90, 100:400].astype(float)
        return vitreous[vitreous < 255].std()

    assert noise(0.0) > 1.8 * noise(1.0)


def test_the_vitreous_is_dark_and_the_pigment_epithelium_bright():
    image, _ = one("NORMAL", 0, 11, quality=1.0)
    tissue = np.where(image == 255, 0, image)[:, 100:400].astype(float)
    brightest = tissue.argmax(axis=0)
    assert np.median(np.take_along_axis(tissue, brightest[None] - 110, axis=0)) < 40
    assert np.median(tissue.max(axis=0)) > 130
    assert np.abs(np.diff(brightest)).mean() < 6  # one continuous band


def test_an_unknown_label_or_a_value_out_of_range_is_refused():
    with pytest.raises(ValueError, match="known: NORMAL"):
        one("GLAUCOMA", 0.5, 0)
    with pytest.raises(ValueError, match="from 0 to 1"):
        one("CNV", 1.5, 0)


def test_a_registered_disease_can_be_drawn_at_once(monkeypatch):
    monkeypatch.setattr(phantom_lesions, "LESIONS", dict(phantom_lesions.LESIONS))

    @phantom_lesions.lesion("CSR")
    def serous(scan, severity, rng):
        scan.open("subretinal", 30 * severity * np.exp(-(scan.x_mm**2)))

    assert one("CSR", 1.0, 0)[1].sum() > 1000


# The plan of a data set


def test_training_classes_have_the_published_proportions_and_the_test_is_balanced():
    assert phantom_oct._shares(sum(PUBLISHED.values())) == PUBLISHED
    rows = plan(train=1000, test_per_class=40, seed=0)
    counts = rows.groupby(["published_split", "label"]).size()
    assert counts["train"].to_dict() == {"CNV": 344, "DME": 105, "DRUSEN": 80, "NORMAL": 471}
    assert set(counts["test"]) == {40}


def test_the_smallest_data_set_has_every_class():
    assert set(plan(train=4, test_per_class=1, seed=0).groupby(["published_split", "label"]).size()) == {1}


def test_a_patient_has_one_label_one_split_and_one_to_eight_images():
    patients = plan(train=1000, test_per_class=40, seed=0).groupby("patient_id")
    assert (patients["label"].nunique() == 1).all() and (patients["published_split"].nunique() == 1).all()
    assert patients.size().between(1, 8).all() and patients.size().max() > 4


def test_training_holds_more_poor_images_than_the_test():
    quality = plan(train=2000, test_per_class=200, seed=0).groupby("published_split")["quality"]
    assert (quality.quantile(0.2)["train"] < 0.4) and (quality.quantile(0.2)["test"] > 0.45)


def test_size_quality_and_patient_number_tell_nothing_about_the_label():
    from scipy.stats import chi2_contingency, kruskal

    # One row a patient: images of one patient are not independent.
    rows = plan(train=3000, test_per_class=4, seed=1).drop_duplicates("patient_id")
    rows = rows[rows["published_split"] == "train"].assign(number=rows["patient_id"].astype(int))
    assert chi2_contingency(pd.crosstab(rows["label"], rows["width"])).pvalue > 0.5  # balanced, not just random
    for column in ("quality", "number"):
        assert kruskal(*(group for _, group in rows.groupby("label")[column])).pvalue > 0.01, column
    ill = rows[rows["label"] != "NORMAL"].groupby("label")["severity"]
    assert kruskal(*(group for _, group in ill)).pvalue > 0.01


# A data set on disk


def test_the_catalogue_says_what_lies_on_disk(made):
    frame = made.frame
    assert made.classes == CLASSES and made.phantom and len(made) == 20 + 8
    for row in frame.itertuples():
        assert row.path == f"{row.published_split}/{row.label}/{row.image_id}.jpeg"
        assert hashlib.sha256(made.file(row.path).read_bytes()).hexdigest() == row.digest
        image, mask = np.asarray(Image.open(made.file(row.path))), np.asarray(Image.open(made.file(row.mask)))
        assert image.shape == mask.shape == (row.height, row.width)
        assert average_hash(image) == row.average_hash
        assert set(np.unique(mask)) <= {0, 255} and mask.any() == (row.label != "NORMAL")
        assert np.isnan(row.severity) == (row.label == "NORMAL")
    assert frame["digest"].is_unique


def test_any_number_of_processes_gives_the_same_bytes(made, tmp_path):
    other = load(tmp_path, **SMALL, workers=2)
    assert other.root.name == made.root.name
    assert other.file("phantom.csv").read_bytes() == made.file("phantom.csv").read_bytes()
    assert {p.relative_to(other.root) for p in other.root.rglob("*")} == {
        p.relative_to(made.root) for p in made.root.rglob("*")
    }


def test_another_seed_or_size_goes_to_another_folder_with_other_images(made, tmp_path):
    other = load(tmp_path, train=4, test_per_class=1, seed=6, workers=1)
    assert other.root.name != made.root.name
    assert not set(other.frame["digest"]) & set(made.frame["digest"])


def test_a_second_call_makes_nothing(made, monkeypatch):
    monkeypatch.setattr(phantom_oct, "_generate", lambda *_: pytest.fail("made again"))
    start = time.perf_counter()
    assert load(made.root.parent, **SMALL).fingerprint() == made.fingerprint()
    assert time.perf_counter() - start < 1.0


def test_a_generation_that_was_cut_off_is_never_read_and_is_resumed(made, tmp_path, monkeypatch):
    whole, calls = phantom_oct.make_patient, []

    def cut_off(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(arguments)
        return whole(*arguments)

    monkeypatch.setattr(phantom_oct, "make_patient", cut_off)
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path, **SMALL, workers=1)
    assert not (tmp_path / made.root.name).exists()
    part = tmp_path / f"{made.root.name}.part"
    first = next(part.rglob("*.jpeg"))
    stamp = first.stat().st_mtime_ns
    (first.parent / "CNV-1-1.jpeg.99.tmp").write_bytes(b"torn")

    monkeypatch.setattr(phantom_oct, "make_patient", whole)
    resumed = load(tmp_path, **SMALL, workers=1)
    assert resumed.file("phantom.csv").read_bytes() == made.file("phantom.csv").read_bytes()
    assert resumed.file(str(first.relative_to(part))).stat().st_mtime_ns == stamp
    assert not list(resumed.root.rglob("*.tmp")) and not part.exists()


def test_a_damaged_data_set_is_an_error_that_says_what_to_do(tmp_path):
    catalogue = load(tmp_path, train=4, test_per_class=1, seed=0, workers=1)
    catalogue.file(catalogue.frame["mask"][0]).unlink()
    with pytest.raises(CatalogueError, match=r"1 files are missing.*delete the folder"):
        load(tmp_path, train=4, test_per_class=1, seed=0)
    catalogue.file("phantom.csv").unlink()
    with pytest.raises(CatalogueError, match="cannot be read"):
        load(tmp_path, train=4, test_per_class=1, seed=0)


def test_impossible_numbers_are_refused(tmp_path):
    for bad in ({"train": 3}, {"test_per_class": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="at least 4"):
            load(tmp_path, **{**SMALL, **bad})


def test_a_script_without_a_main_guard_gets_an_error_and_does_not_wait_for_ever(tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from pathlib import Path\nfrom helpers.phantoms.oct import load\n"
        f"load(Path({str(tmp_path)!r}), train=20, test_per_class=2, seed=5, workers=2)\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert run.returncode != 0 and '__name__ == "__main__"' in run.stderr


# The hash


def test_the_hash_of_a_known_picture_is_its_blocks():
    image = np.zeros((16, 24), np.uint8)
    image[:2, :3] = 200  # the first block only
    image[14:, 21:] = 200  # and the last
    assert average_hash(image) == "8000000000000001"


def test_the_hash_survives_scaling_and_jpeg_and_tells_patients_apart(tmp_path):
    def bits(a, b):
        return (int(average_hash(a), 16) ^ int(average_hash(b), 16)).bit_count()

    image, _ = one("NORMAL", 0, 1)
    Image.fromarray(image).save(tmp_path / "poor.jpeg", quality=30)
    small = np.asarray(Image.fromarray(image).resize((200, 190), Image.Resampling.BOX))
    assert bits(image, np.asarray(Image.open(tmp_path / "poor.jpeg"))) <= 2 and bits(image, small) <= 2
    assert bits(image, one("NORMAL", 0, 2)[0]) > 4


def test_the_hash_takes_any_size_but_only_grey_bytes():
    assert average_hash(np.full((3, 1), 7, np.uint8)) == "0" * 16
    with pytest.raises(TypeError, match="uint8"):
        average_hash(np.zeros((9, 9)))
    for shape in ((9, 9, 3), (0, 9)):
        with pytest.raises(ValueError, match="one grey image"):
            average_hash(np.zeros(shape, np.uint8))
