"""What every data set's loader promises. A new one is one line more in test_data_catalogues.py."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pandas as pd

from helpers.data.catalogue import OPTIONAL, REQUIRED, Catalogue
from helpers.data.images import batches, read_grey
from helpers.data.splits import SplitError, leaks, split

SAMPLE = 12  # files that are opened


def check_catalogue(catalogue: Catalogue, load_again: Callable[[], Catalogue]) -> None:
    """The frame is as documented, files are where and what it says, and it can be loaded again and split."""
    frame = catalogue.frame
    assert set(REQUIRED) <= set(frame.columns) <= set(REQUIRED) | set(OPTIONAL)
    assert all(frame[column].map(type).eq(str).all() for column in REQUIRED)
    assert list(frame.index) == list(range(len(catalogue))) and set(frame["label"]) == set(catalogue.classes)
    assert list(catalogue.excluded.columns) == ["path", "reason"]
    assert (catalogue.excluded["reason"].astype(str) != "").all()
    assert not set(catalogue.excluded["path"]) & set(frame["path"])
    assert not frame["path"].str.contains(r"^/|\.\.|\\").any()
    assert all(catalogue.file(path).is_file() for path in frame["path"])
    _check_files(catalogue, frame.sample(min(SAMPLE, len(catalogue)), random_state=0))
    again = load_again()
    assert again.fingerprint() == catalogue.fingerprint()
    pd.testing.assert_frame_equal(again.frame, frame)
    pd.testing.assert_frame_equal(again.excluded, catalogue.excluded)
    try:
        assert leaks(split(catalogue, "patient-disjoint", 0.2, seed=1).frame)["patients"].sum() == 0
    except SplitError:
        assert set(frame["published_split"]) == {"test"}  # a set to be scored, not to learn from


def _check_files(catalogue: Catalogue, sample: pd.DataFrame) -> None:
    for row in sample.to_dict("records"):
        pixels = read_grey(catalogue.file(row["path"]))
        assert row["digest"] == hashlib.sha256(catalogue.file(row["path"]).read_bytes()).hexdigest()
        assert (row.get("height", pixels.shape[0]), row.get("width", pixels.shape[1])) == pixels.shape
        if isinstance(mask := row.get("mask"), str) and mask:
            assert read_grey(catalogue.file(mask)).shape == pixels.shape
    made = np.concatenate([pixels for _, pixels in batches(catalogue.subset(sample), 32, 5, workers=2)])
    assert made.shape == (len(sample), 32, 32) and made.dtype == np.uint8
