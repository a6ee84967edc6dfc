"""What every data set's loader promises. A new one is tested by these three lines:

    class TestMyData(CatalogueContract):
        def load(self, folder: Path) -> Catalogue:
            return my_data.load(make_some(folder), cache=folder / "cache", workers=1)

`load` is called with an empty folder, and must be able to run twice in it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

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

    @pytest.fixture(scope="class")
    @classmethod
    def sample(cls, catalogue: Catalogue) -> pd.DataFrame:
        return catalogue.frame.sample(min(SAMPLE, len(catalogue)), random_state=0)

    def test_columns_are_the_documented_ones_and_text_is_text(self, catalogue):
        assert set(REQUIRED) <= set(catalogue.frame.columns) <= set(REQUIRED) | set(OPTIONAL)
        for column in REQUIRED:
            assert catalogue.frame[column].map(type).eq(str).all(), column

    def test_rows_are_numbered_from_0(self, catalogue):
        assert list(catalogue.frame.index) == list(range(len(catalogue)))

    def test_paths_are_relative_with_slashes_and_exist(self, catalogue):
        for path in catalogue.frame["path"]:
            assert not Path(path).is_absolute() and "\\" not in path and ".." not in path
            assert catalogue.file(path).is_file(), path

    def test_every_class_occurs(self, catalogue):
        assert set(catalogue.frame["label"]) == set(catalogue.classes)

    def test_digests_are_those_of_the_files(self, catalogue, sample):
        for row in sample.itertuples():
            assert row.digest == hashlib.sha256(catalogue.file(row.path).read_bytes()).hexdigest()

    def test_images_can_be_read_and_have_the_stated_size(self, catalogue, sample):
        for row in sample.itertuples():
            pixels = read_grey(catalogue.file(row.path))
            assert pixels.dtype == np.uint8
            if hasattr(row, "width"):
                assert pixels.shape == (row.height, row.width)

    def test_masks_have_the_size_of_their_image(self, catalogue, sample):
        if "mask" not in sample:
            pytest.skip("no masks")
        for row in sample[sample["mask"].fillna("") != ""].itertuples():
            assert read_grey(catalogue.file(row.mask)).shape == read_grey(catalogue.file(row.path)).shape

    def test_hashes_are_16_hex_digits(self, catalogue):
        if "average_hash" not in catalogue.frame:
            pytest.skip("no hashes")
        assert catalogue.frame["average_hash"].str.fullmatch(r"[0-9a-f]{16}").all()

    def test_excluded_files_have_a_reason_and_are_no_rows(self, catalogue):
        assert list(catalogue.excluded.columns) == ["path", "reason"]
        assert (catalogue.excluded["reason"].astype(str) != "").all()
        assert not set(catalogue.excluded["path"]) & set(catalogue.frame["path"])

    def test_loaded_again_it_is_the_same(self, catalogue, folder):
        again = self.load(folder)
        assert again.fingerprint() == catalogue.fingerprint()
        pd.testing.assert_frame_equal(again.frame, catalogue.frame)
        pd.testing.assert_frame_equal(again.excluded, catalogue.excluded)

    def test_it_can_be_split_without_leaks(self, catalogue):
        frame = split(catalogue, "patient-disjoint", 0.2, seed=1).frame
        assert leaks(frame)["patients"].sum() == 0

    def test_it_can_be_read_in_batches(self, catalogue, sample):
        part = catalogue.subset(sample)
        shapes = [pixels.shape for _, pixels in batches(part, 32, 5, workers=2)]
        assert sum(shape[0] for shape in shapes) == len(part) and {shape[1:] for shape in shapes} == {(32, 32)}
