"""Rajkomar's views: read from Open-i's reports as far as they go, or from a table; figure 6's transformed images."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tiny_data import openi_archive, openi_report, picture, reasons

from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.rajkomar import data
from helpers.rajkomar.data import TRANSFORMS, read_openi, transformed, views_of
from helpers.run.cache import step_key
from helpers.run.profile import load_profile


def views(catalogue: Catalogue) -> dict[str, str]:
    return catalogue.frame.set_index("image_id")["label"].to_dict()


@pytest.mark.parametrize(
    ("caption", "number", "pair", "view"),
    [
        ("PA", "3001", False, "frontal"),
        ("Lateral", "3001", False, "lateral"),
        ("Xray Chest PA and Lateral", "2001", True, "lateral"),
        ("Chest, 2 views, frontal and lateral", "2001", True, "lateral"),
        ("CHEST 2V FRONTAL", "2001", True, "lateral"),
        ("Xray Chest PA and Lateral", "1001", False, ""),
        ("Chest radiograph, patient apart", "1001", True, ""),
        ("", "1001", True, ""),
    ],
)
def test_a_caption_is_believed_only_as_far_as_it_goes(caption, number, pair, view):
    images = pd.DataFrame({"image_id": [f"CXR1_IM-0001-{number}"], "caption": [caption], "pair": [pair]})
    assert views_of(images).item() == view


def test_the_report_is_the_patient_and_what_it_leaves_open_is_excluded_with_the_reason(tmp_path):
    root = openi_archive(tmp_path)
    openi_report(tmp_path, 90, ["CXR90_IM-0090-3001", "CXR90_IM-0090-4001"], "Xray Chest PA and Lateral")
    openi_report(tmp_path, 60, ["CXR60_IM-0060-1001", "CXR60_IM-0060-3001"], "PA and lateral")  # no pair of numbers
    openi_report(tmp_path, 91, ["CXR91_IM-0091-1001"], "")
    picture(root / "png" / "CXR92_IM-0092-1001.png")
    (root / "png" / "CXR93_IM-0093-1001.png").write_bytes(b"")
    (root / "reports" / "ecgen-radiology" / "94.xml").write_text("<eCitation>")
    catalogue = read_openi(tmp_path, tmp_path / "cache")
    unclear = "its caption does not name the view: "
    assert reasons(catalogue) == {
        "png/CXR60_IM-0060-1001.png": unclear + "PA and lateral",
        "png/CXR60_IM-0060-3001.png": unclear + "PA and lateral",
        "png/CXR90_IM-0090-3001.png": unclear + "Xray Chest PA and Lateral",
        "png/CXR90_IM-0090-4001.png": unclear + "Xray Chest PA and Lateral",
        "png/CXR91_IM-0091-1001.png": unclear + "(none)",
        "png/CXR92_IM-0092-1001.png": "no report names it",
        "png/CXR93_IM-0093-1001.png": "0 bytes",
        "reports/ecgen-radiology/94.xml": "a report that is no XML",
    }
    frame = catalogue.frame
    assert frame.groupby("patient_id").size().eq(2).all() and frame["patient_id"].iloc[0] == "CXR1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "image,view\nCXR1_IM-0001-1001,lateral\nCXR1_IM-0001-2001.png,PA\nCXR7_IM-0007-1001,L\nCXR99_IM-1,frontal\n",
            {"CXR1_IM-0001-1001": "lateral", "CXR1_IM-0001-2001": "frontal", "CXR7_IM-0007-1001": "lateral"},
        ),
        (  # a table that circulates with the images
            "uid,filename,projection\n5,5_IM-0005-1001.dcm.png,Lateral\n2,2_IM-0002-1001.dcm.png,Frontal\n",
            {"CXR5_IM-0005-1001": "lateral", "CXR2_IM-0002-1001": "frontal"},
        ),
    ],
)
def test_the_users_labels_replace_those_of_the_metadata(tmp_path, text, expected):
    openi_archive(tmp_path)
    (tmp_path / "views.csv").write_text(text)
    catalogue = read_openi(tmp_path, tmp_path / "cache", labels_csv=tmp_path / "views.csv")
    assert views(catalogue) == expected and set(catalogue.excluded["reason"]) == {"not in views.csv"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,side\na,PA\n", "no columns image, view"),
        ("image,view\na,oblique\n", "'oblique' is no view"),
        ("image,view\na,PA\na,L\n", "two views for a"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(tmp_path, text, message):
    openi_archive(tmp_path, 1)
    (tmp_path / "views.csv").write_text(text)
    with pytest.raises(CatalogueError, match=message):
        read_openi(tmp_path, tmp_path / "cache", labels_csv=tmp_path / "views.csv")


def test_the_profile_takes_open_i_where_it_lies_and_else_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    openi_archive(tmp_path)
    settings = SimpleNamespace(view_source="real", data_dir=tmp_path, workers=1, view_labels_file="")
    assert data.load_views(settings).name == "openi"
    assert data.places_views(settings) == (data.OPENI,)
    able, sentence = data.describe_views(data.load_views(settings))
    assert not able and "8 frontal and 8 lateral" in sentence
    settings.data_dir = tmp_path / "nowhere"
    for source, missing in (("real", "COVID-19"), ("openi", "Open-i")):
        settings.view_source = source
        with pytest.raises(FileNotFoundError, match=f"no {missing} images"):
            data.load_views(settings)


def test_a_labels_file_that_the_profile_names_is_read_and_is_part_of_the_key(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    openi_archive(tmp_path)
    keys = []
    for view in ("PA", "L"):
        (tmp_path / "views.csv").write_text(f"image,view\nCXR1_IM-0001-1001,{view}\n")
        given = {"view_source": "openi", "data_dir": tmp_path, "view_labels_file": tmp_path / "views.csv"}
        profile = load_profile("phantom", {key: str(value) for key, value in given.items()})
        assert list(data.load_views(profile).frame["label"]) == [{"PA": "frontal", "L": "lateral"}[view]]
        keys.append(step_key.__wrapped__("views_data", profile))
    assert keys[0] != keys[1]


# --- figure 6 ---

RANDOM = np.random.default_rng(0)
SMOOTH = np.repeat(np.repeat(RANDOM.integers(20, 200, (8, 8), dtype=np.uint8), 16, 0), 16, 1)
LABELED, TURNED, COVERED, CROP = list(TRANSFORMS)[1:]


def test_the_turn_is_45_degrees_the_zoom_one_and_a_half_and_no_black_corner_comes_in():
    spot = np.zeros((121, 121), np.uint8)
    spot[58:63, 78:83] = 255  # 20 pixels to the right of the centre
    made = TRANSFORMS[TURNED](spot).astype(float)
    rows, columns = np.indices(spot.shape)
    up, right = 60 - (rows * made).sum() / made.sum(), (columns * made).sum() / made.sum() - 60
    assert np.degrees(np.arctan2(up, right)) == pytest.approx(45, abs=1)
    assert np.hypot(up, right) == pytest.approx(30, abs=0.6)
    assert TRANSFORMS[TURNED](np.full((128, 128), 90, np.uint8)).min() == 90


def test_the_top_half_is_black_and_the_crop_is_the_upper_left_quarter():
    made = TRANSFORMS[COVERED](SMOOTH)
    assert not made[:64].any() and np.array_equal(made[64:], SMOOTH[64:])
    assert (transformed(SMOOTH[None], CROP)[0, 1::32, 1::32] == SMOOTH[:64:16, :64:16]).all()
