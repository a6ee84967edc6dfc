"""Kermany OCT: both archive layouts are found and read, and what does not fit is set aside with the reason."""

import os
from pathlib import Path

import numpy as np
import pytest
from catalogue_contract import CatalogueContract
from PIL import Image

from helpers.data import kermany_oct
from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.kermany_oct import ARCHIVE_TRAIN_IMAGES, CLASSES, PAPER_COUNTS, load
from helpers.data.sources import describes_paper, load_oct
from helpers.run.profile import load_profile


def write(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (30, 40), dtype=np.uint8)).save(path, "JPEG")
    return path


def archive(root: Path, patients: int = 3) -> Path:
    """train and test with `patients` patients a class in each, none of them in both, two images a patient."""
    for split, offset in (("train", 1000), ("test", 2000)):
        for c, label in enumerate(CLASSES):
            for patient in range(offset + 100 * c, offset + 100 * c + patients):
                for n in (1, 2):
                    write(root / split / label / f"{label}-{patient}-{n}.jpeg", 10 * patient + n)
    return root


class TestVersion2(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        root = folder / "OCT2017"
        return load(folder if root.exists() else archive(root).parent, folder / "cache", workers=1)


class TestVersion3(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        root = folder / "CellData" / "OCT"
        return load(folder if root.exists() else archive(root).parents[1], folder / "cache", workers=1)


@pytest.mark.real_data
@pytest.mark.skipif("REAL_DATA_DIR" not in os.environ, reason="REAL_DATA_DIR names no folder of real images")
class TestRealImages(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        return load(Path(os.environ["REAL_DATA_DIR"]), folder / "cache")


def test_a_row_says_what_the_path_says(tmp_path):
    archive(tmp_path / "OCT2017")
    row = load(tmp_path, tmp_path / "cache").frame.set_index("image_id").loc["train/CNV-1001-2.jpeg"]
    assert (row["label"], row["patient_id"], row["published_split"]) == ("CNV", "1001", "train")
    assert row["path"] == "train/CNV/CNV-1001-2.jpeg"


@pytest.mark.parametrize("inside", ["OCT2017", "CellData/OCT", "OCT"])
def test_the_folder_itself_may_be_given(tmp_path, inside):
    root = archive(tmp_path / inside, patients=1)
    assert load(root, tmp_path / "cache").root == root
    assert load(root.parent, tmp_path / "cache").root == root


def test_an_image_keeps_its_id_wherever_the_data_lies(tmp_path):
    first = load(archive(tmp_path / "here" / "OCT2017", 1), tmp_path / "cache")
    second = load(archive(tmp_path / "there" / "CellData" / "OCT", 1), tmp_path / "cache")
    assert first.fingerprint() == second.fingerprint()


def test_when_both_versions_are_there_it_asks_which(tmp_path):
    archive(tmp_path / "OCT2017", 1)
    archive(tmp_path / "CellData/OCT", 1)
    with pytest.raises(CatalogueError, match="OCT2017 and .*OCT. Which one.*DATA_DIR="):
        load(tmp_path, tmp_path / "cache")
    assert len(load(tmp_path / "OCT2017", tmp_path / "cache")) == 16


def test_when_there_is_no_data_it_says_what_was_looked_for_and_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        load(tmp_path / "nowhere", tmp_path / "cache")
    text = str(caught.value)
    assert all(
        word in text for word in ("nowhere", "does not exist", "OCT2017", "CellData/OCT", "make data PROFILE=paper")
    )


def test_the_chest_x_rays_are_not_taken_for_oct(tmp_path):
    write(tmp_path / "train/NORMAL/NORMAL-1-1.jpeg")
    write(tmp_path / "train/PNEUMONIA/VIRUS-1-1.jpeg")
    with pytest.raises(FileNotFoundError):
        load(tmp_path, tmp_path / "cache")


def test_what_does_not_fit_is_set_aside_with_the_reason(tmp_path):
    root = archive(tmp_path / "OCT2017", 1)
    write(root / "train/CNV/DME-1-1.jpeg")
    write(root / "train/CNV/CNV-one-1.jpeg")
    write(root / "train/CNV/CNV-1-1 (copy).jpeg")
    write(root / "train/CNV/deeper/CNV-1-1.jpeg")
    write(root / "train/OTHER/OTHER-1-1.jpeg")
    write(root / "test/CNV-1-1.jpeg")
    (root / "test/DME/DME-2-1.jpeg").write_bytes(b"")
    (root / "test/DME/._DME-2-2.jpeg").write_bytes(b"Mac OS X")
    catalogue = load(tmp_path, tmp_path / "cache")
    assert dict(zip(catalogue.excluded["path"], catalogue.excluded["reason"], strict=True)) == {
        "train/CNV/DME-1-1.jpeg": "its name says DME, its folder CNV",
        "train/CNV/CNV-one-1.jpeg": "its name is not <CLASS>-<patient>-<number>",
        "train/CNV/CNV-1-1 (copy).jpeg": "its name is not <CLASS>-<patient>-<number>",
        "train/CNV/deeper/CNV-1-1.jpeg": "not in a class folder",
        "train/OTHER/OTHER-1-1.jpeg": "not in a class folder",
        "test/CNV-1-1.jpeg": "not in a class folder",
        "test/DME/DME-2-1.jpeg": "0 bytes",
    }
    assert len(catalogue) == 16


def test_a_folder_val_counts_as_test(tmp_path):
    root = archive(tmp_path / "OCT2017", 1)
    write(root / "val/NORMAL/NORMAL-9-1.jpeg")
    frame = load(tmp_path, tmp_path / "cache").frame.set_index("image_id")
    assert frame.loc["val/NORMAL-9-1.jpeg", "published_split"] == "test"


def test_a_number_under_two_classes_is_one_patient(tmp_path):
    root = archive(tmp_path / "OCT2017", 1)
    write(root / "train/DRUSEN/DRUSEN-1000-1.jpeg")
    frame = load(tmp_path, tmp_path / "cache").frame
    assert set(frame.loc[frame["patient_id"] == "1000", "label"]) == {"CNV", "DRUSEN"}


def test_the_papers_numbers_add_up_to_its_totals():
    assert sum(PAPER_COUNTS["images"]["train"].values()) == 108_312
    assert sum(PAPER_COUNTS["images"]["test"].values()) == 1_000


def test_the_profile_decides_which_source_is_opened(tmp_path, monkeypatch):
    archive(tmp_path / "OCT2017", 1)
    monkeypatch.setattr("helpers.data.sources.CACHE", tmp_path / "cache")
    profile = load_profile("phantom", {"oct_source": "kermany_oct", "data_dir": str(tmp_path)})
    assert load_oct(profile).name == kermany_oct.load(tmp_path, tmp_path / "cache").name


def sized(train: dict[str, int], test: dict[str, int], phantom: bool = False) -> Catalogue:
    """A catalogue of that many images a class, without files."""
    import pandas as pd

    rows = [(split, c) for split, n in (("train", train), ("test", test)) for c in CLASSES for _ in range(n[c])]
    frame = pd.DataFrame(rows, columns=["published_split", "label"])
    names = frame.index.astype(str)
    frame = frame.assign(image_id=names, path=names, patient_id=names, digest=names)
    return Catalogue("sized", Path(), frame, CLASSES, phantom=phantom)


PAPER_TRAIN, PAPER_TEST = PAPER_COUNTS["images"]["train"], PAPER_COUNTS["images"]["test"]


@pytest.mark.parametrize("train", [PAPER_TRAIN, *ARCHIVE_TRAIN_IMAGES.values()])
def test_the_published_counts_describe_the_paper(train):
    assert describes_paper(sized(train, PAPER_TEST))[0]


def test_a_few_unreadable_training_images_still_describe_the_paper_but_a_missing_test_image_does_not():
    train = {label: round(0.995 * n) for label, n in PAPER_TRAIN.items()}
    assert describes_paper(sized(train, PAPER_TEST))[0]
    assert not describes_paper(sized(train, PAPER_TEST | {"DME": 249}))[0]
    assert not describes_paper(sized(train | {"DME": 11_000}, PAPER_TEST))[0]


def test_a_subset_is_named_with_its_size():
    yes, sentence = describes_paper(sized(dict.fromkeys(CLASSES, 5), dict.fromkeys(CLASSES, 2)))
    assert not yes and "20 training and 8 test images of the published 108,312 and 1,000" in sentence


def test_phantoms_never_describe_the_paper():
    yes, sentence = describes_paper(sized(PAPER_TRAIN, PAPER_TEST, phantom=True))
    assert not yes and "Phantoms" in sentence
