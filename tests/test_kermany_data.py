"""Kermany's data sets: which are the paper's, how they are split, and the counts of figure 2B and table S1."""

import re
from types import SimpleNamespace

import pytest
from tiny_data import sized

from helpers.data import kermany_images
from helpers.data.splits import split
from helpers.kermany import data
from helpers.run.profile import load_profile

OCT = kermany_images.OCT_COUNTS["images"]
XRAY = kermany_images.XRAY_COUNTS["images"]


@pytest.mark.parametrize(
    ("describe", "train", "test", "published"),
    [
        (data.describe_oct, OCT["train"], OCT["test"], True),
        (data.describe_oct, kermany_images.OCT_ARCHIVES["version 2"], OCT["test"], True),
        (data.describe_oct, OCT["train"], OCT["test"] | {"DME": 249}, False),
        (data.describe_oct, OCT["train"] | {"DME": 11_000}, OCT["test"], False),
        (data.describe_xray, XRAY["train"] | {"VIRUS": 1_340}, XRAY["test"], True),
        (data.describe_xray, XRAY["train"] | {"VIRUS": 1_300}, XRAY["test"], False),
        (data.describe_xray, XRAY["train"], XRAY["test"] | {"VIRUS": 147}, False),
    ],
)
def test_only_the_published_images_describe_the_paper(describe, train, test, published):
    assert describe(sized(train, test))[0] == published


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        (OCT["train"], OCT["test"], "published images .as the paper counts.: 108,312"),
        (kermany_images.OCT_ARCHIVES["version 3"], OCT["test"], "published images .version 3.: 108,309"),
        (
            kermany_images.OCT_ARCHIVES["version 2"],
            dict.fromkeys(OCT["test"], 242),
            "variant .version 2.*folder val, which",
        ),
        (kermany_images.OCT_ARCHIVES["version 3"], dict.fromkeys(OCT["test"], 242), "variant .version 3.*TWO VERSIONS"),
        (dict.fromkeys(OCT["test"], 9), dict.fromkeys(OCT["test"], 2), "variant: 36 training"),
    ],
)
def test_the_version_of_the_b_scans_is_said(train, test, words):
    assert re.search(words, data.describe_oct(sized(train, test))[1])


def test_the_profile_decides_which_source_is_opened_and_which_folders_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    profile = load_profile("phantom", {"oct_source": "kermany_oct", "data_dir": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match="no Kermany OCT images"):
        data.load_oct(profile)
    (tmp_path / "OCT2017" / "train" / "CNV").mkdir(parents=True)
    assert data.places_oct(profile)[0].read_from(tmp_path) == [tmp_path / "OCT2017" / "train"]
    assert data.places_oct(load_profile("phantom")) == data.places_xray(load_profile("phantom")) == ()


def test_a_tenth_of_the_x_ray_training_patients_is_held_out():
    catalogue = sized(dict.fromkeys(kermany_images.XRAY_CLASSES, 50), dict.fromkeys(kermany_images.XRAY_CLASSES, 5))
    settings = SimpleNamespace(split="patient-disjoint", validation_fraction=0.2, seed=1)
    counts = data.split_xray(catalogue, settings).frame["split"].value_counts().to_dict()
    assert counts == {"train": 108, "validation": 30, "test": 15, "held-out": 12}


def test_the_flow_counts_every_image_once_and_table_s1_each_class():
    classes = kermany_images.OCT_CLASSES
    toy = sized(dict.fromkeys(classes, 8), dict.fromkeys(classes, 4))
    boxes, aside = data.flow_boxes(toy, split(toy, "patient-disjoint", 0.25, 1))
    counts = dict(boxes)
    assert counts["Images found"] == "48 images" and "0 unreadable" in aside[0]
    assert counts["Training"].startswith("24 images of 24 patients") and "6 DME" in counts["Training"]
    table = data.patient_characteristics(toy)
    assert list(table["split"].unique()) == ["train", "test"] and len(table) == 8
    assert table["images"].tolist() == [8] * 4 + [4] * 4
