"""What every data set's loader promises. A new one is tested by these three lines:

    class TestMyData(CatalogueContract):
        def load(self, folder: Path) -> Catalogue:
            return my_data.load(make_some(folder), cache=folder / "cache", workers=1)

`load` is called with an empty folder, and must be able to run twice in it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.data.catalogue import OPTIONAL, REQUIRED, Catalogue
from helpers.data.images import batches, read_grey
from helpers.data.splits import leaks, split

SAMPLE = 12  # files that are opened


class CatalogueContract:
    """Inherit, and define `load`."""

    def load(self, folder: Path) -> Catalogue:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("data")

    @pytest.fixture(scope="class")
    @classmethod
    def catalogue(cls, folder: Path) -> Catalogue:
        return cls().load(folder)

    def test_the_frame_is_as_documented(self, catalogue):
        frame = catalogue.frame
        assert set(REQUIRED) <= set(frame.columns) <= set(REQUIRED) | set(OPTIONAL)
        for column in REQUIRED:
            assert frame[column].map(type).eq(str).all(), column
        assert list(frame.index) == list(range(len(catalogue)))
        assert set(frame["label"]) == set(catalogue.classes)
        if "average_hash" in frame:
            assert frame["average_hash"].str.fullmatch(r"[0-9a-f]{16}").all()

    def test_excluded_files_have_a_reason_and_are_no_rows(self, catalogue):
        assert list(catalogue.excluded.columns) == ["path", "reason"]
        assert (catalogue.excluded["reason"].astype(str) != "").all()
        assert not set(catalogue.excluded["path"]) & set(catalogue.frame["path"])

    def test_files_are_where_and_what_the_frame_says(self, catalogue):
        for path in catalogue.frame["path"]:
            assert not Path(path).is_absolute() and "\\" not in path and ".." not in path
            assert catalogue.file(path).is_file(), path
        sample = catalogue.frame.sample(min(SAMPLE, len(catalogue)), random_state=0)
        for row in sample.itertuples():
            pixels = read_grey(catalogue.file(row.path))
            assert row.digest == hashlib.sha256(catalogue.file(row.path).read_bytes()).hexdigest()
            assert pixels.dtype == np.uint8 and pixels.shape == (
                getattr(row, "height", pixels.shape[0]),
                getattr(row, "width", pixels.shape[1]),
            )
            if isinstance(mask := getattr(row, "mask", ""), str) and mask:
                assert read_grey(catalogue.file(mask)).shape == pixels.shape
        shapes = [pixels.shape for _, pixels in batches(catalogue.subset(sample), 32, 5, workers=2)]
        assert sum(shape[0] for shape in shapes) == len(sample) and {shape[1:] for shape in shapes} == {(32, 32)}

    def test_loaded_again_it_is_the_same(self, catalogue, folder):
        again = self.load(folder)
        assert again.fingerprint() == catalogue.fingerprint()
        pd.testing.assert_frame_equal(again.frame, catalogue.frame)
        pd.testing.assert_frame_equal(again.excluded, catalogue.excluded)

    def test_it_can_be_split_without_leaks(self, catalogue):
        assert leaks(split(catalogue, "patient-disjoint", 0.2, seed=1).frame)["patients"].sum() == 0


def real_data(test):
    """Marks a test that reads REAL_DATA_DIR."""
    missing = "REAL_DATA_DIR" not in os.environ
    return pytest.mark.real_data(pytest.mark.skipif(missing, reason="REAL_DATA_DIR names no folder")(test))


def picture(path: Path, seed: int = 0, mode: str = "L", size: tuple[int, int] = (24, 20)) -> Path:
    """A file with noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0]), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def reasons(catalogue: Catalogue) -> dict[str, str]:
    return dict(zip(catalogue.excluded["path"], catalogue.excluded["reason"], strict=True))


def sized(train: dict[str, int], test: dict[str, int], phantom: bool = False, **columns: str) -> Catalogue:
    """A catalogue of that many images per class, without files, each of its own patient."""
    rows = [(part, c) for part, sizes in (("train", train), ("test", test)) for c, n in sizes.items() for _ in range(n)]
    frame = pd.DataFrame(rows, columns=["published_split", "label"])
    names = frame.index.astype(str)
    frame = frame.assign(image_id=names, path=names, patient_id=names, digest=names, **columns)
    return Catalogue("sized", Path(), frame, tuple(train), phantom=phantom)
