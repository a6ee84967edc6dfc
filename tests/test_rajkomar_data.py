"""Rajkomar's views: read from Open-i's reports as far as they tell, or from a table; figure 6's transformed images."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from catalogue_contract import CatalogueContract, picture, reasons

from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.splits import SplitError, split
from helpers.rajkomar import data
from helpers.rajkomar.data import TRANSFORMS, read_openi, transformed, view_of

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
  <uId id="CXR{number}"/>
  <MedlineCitation Owner="Indiana University" Status="supplied by publisher">
    <Article PubModel="Electronic"><Abstract>
      <AbstractText Label="FINDINGS">PA and lateral views. Clear lungs.</AbstractText>
    </Abstract></Article>
  </MedlineCitation>
  <MeSH><major>normal</major></MeSH>
{images}
</eCitation>
"""
IMAGE = """  <parentImage id="{name}">
    <figureId>F{k}</figureId>
    <caption>{caption}</caption>
    <panel type="single"><url>/storage/{name}.jpg</url><imgModality>7</imgModality></panel>
  </parentImage>"""


def report(root: Path, number: int, names: list[str], caption: str) -> None:
    images = "\n".join(IMAGE.format(name=name, k=k + 1, caption=caption) for k, name in enumerate(names))
    place = root / "reports" / "ecgen-radiology" / f"{number}.xml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(REPORT.format(number=number, images=images))
    for k, name in enumerate(names):
        picture(root / "png" / f"{name}.png", 10 * number + k, "RGB")


def collection(folder: Path, reports: int = 8) -> Path:
    for n in range(1, reports + 1):
        names = [f"CXR{n}_IM-{n:04d}-1001", f"CXR{n}_IM-{n:04d}-2001"]
        report(folder / "open-i", n, names, "Xray Chest PA and Lateral")
    return folder


class TestOpenI(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        return read_openi(folder if any(folder.iterdir()) else collection(folder), folder / "cache", workers=1)

    def test_it_can_be_split_without_leaks(self, catalogue):
        with pytest.raises(SplitError, match="no training images"):
            split(catalogue, "published", 0.2, seed=1)
        assert set(catalogue.frame["published_split"]) == {"test"}


def views(catalogue: Catalogue) -> dict[str, str]:
    return dict(zip(catalogue.frame["image_id"], catalogue.frame["label"], strict=True))


@pytest.mark.parametrize(
    ("caption", "number", "numbers", "view"),
    [
        ("PA", "3001", {"3001"}, "frontal"),
        ("Portable chest x-XXXX", "1001", {"1001"}, "frontal"),
        ("CHEST, FRONTAL XXXX", "2001", {"2001"}, "frontal"),
        ("Lateral", "3001", {"1001", "3001"}, "lateral"),
        ("Xray Chest PA and Lateral", "1001", {"1001", "2001"}, "frontal"),
        ("Xray Chest PA and Lateral", "2001", {"1001", "2001"}, "lateral"),
        ("Chest, 2 views, frontal and lateral", "2001", {"1001", "2001"}, "lateral"),
        ("CHEST 2V FRONTAL", "2001", {"1001", "2001"}, "lateral"),
        ("Xray Chest PA and Lateral", "3001", {"3001", "4001"}, ""),
        ("Xray Chest PA and Lateral", "1001", {"1001", "2001", "3001"}, ""),
        ("Xray Chest PA and Lateral", "1001", {"1001"}, ""),
        ("Chest radiograph, patient apart", "1001", {"1001", "2001"}, ""),
        ("", "1001", {"1001", "2001"}, ""),
    ],
)
def test_a_caption_is_believed_only_as_far_as_it_tells(caption, number, numbers, view):
    assert view_of(caption, number, numbers) == view


def test_the_report_is_the_patient(tmp_path):
    frame = read_openi(collection(tmp_path), tmp_path / "cache").frame
    assert frame.groupby("patient_id").size().eq(2).all() and frame["patient_id"].iloc[0] == "CXR1"


def test_what_the_reports_do_not_tell_is_excluded_with_the_reason(tmp_path):
    root = collection(tmp_path) / "open-i"
    report(root, 90, ["CXR90_IM-0090-3001", "CXR90_IM-0090-4001"], "Xray Chest PA and Lateral")
    report(root, 91, ["CXR91_IM-0091-1001"], "")
    picture(root / "png" / "CXR92_IM-0092-1001.png", 1)
    (root / "png" / "CXR93_IM-0093-1001.png").write_bytes(b"")
    (root / "reports" / "ecgen-radiology" / "94.xml").write_text("<eCitation>")
    assert reasons(read_openi(tmp_path, tmp_path / "cache")) == {
        "png/CXR90_IM-0090-3001.png": "its caption does not name the view: Xray Chest PA and Lateral",
        "png/CXR90_IM-0090-4001.png": "its caption does not name the view: Xray Chest PA and Lateral",
        "png/CXR91_IM-0091-1001.png": "its caption does not name the view: (none)",
        "png/CXR92_IM-0092-1001.png": "no report names it",
        "png/CXR93_IM-0093-1001.png": "0 bytes",
        "reports/ecgen-radiology/94.xml": "a report that is no XML",
    }


def test_the_users_labels_replace_the_metadatas(tmp_path):
    root = collection(tmp_path) / "open-i"
    picture(root / "png" / "CXR77_IM-0077-1001.png", 1)
    table = tmp_path / "views.csv"
    table.write_text(
        "image,view\nCXR1_IM-0001-1001,lateral\nCXR1_IM-0001-2001.png,PA\nCXR77_IM-0077-1001,L\nCXR99_IM-1,frontal\n"
    )
    catalogue = read_openi(tmp_path, tmp_path / "cache", labels_csv=table)
    assert views(catalogue) == {
        "CXR1_IM-0001-1001": "lateral",
        "CXR1_IM-0001-2001": "frontal",
        "CXR77_IM-0077-1001": "lateral",
    }
    assert set(catalogue.excluded["reason"]) == {"not in views.csv"} and len(catalogue.excluded) == 14
    assert catalogue.frame.set_index("image_id").loc["CXR77_IM-0077-1001", "patient_id"] == "CXR77"


def test_the_table_that_circulates_with_the_images_is_understood(tmp_path):
    report(collection(tmp_path) / "open-i", 50, ["CXR50_50_IM-0001-3001"], "Chest")
    table = tmp_path / "projections.csv"
    table.write_text("uid,filename,projection\n50,50_IM-0001-3001.dcm.png,Lateral\n2,2_IM-0002-1001.dcm.png,Frontal\n")
    found = views(read_openi(tmp_path, tmp_path / "cache", labels_csv=table))
    assert found == {"CXR50_50_IM-0001-3001": "lateral", "CXR2_IM-0002-1001": "frontal"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,side\na,PA\n", "no columns image, view"),
        ("image,view\na,oblique\n", "'oblique' is no view"),
        ("image,view\na,PA\na,L\n", "two views for a"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(tmp_path, text, message):
    (tmp_path / "views.csv").write_text(text)
    with pytest.raises(CatalogueError, match=message):
        read_openi(collection(tmp_path, 1), tmp_path / "cache", labels_csv=tmp_path / "views.csv")


def test_when_there_is_no_collection_it_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere, which does not exist.*png/ and reports/.*make data"):
        read_openi(tmp_path / "nowhere", tmp_path / "cache")


def test_when_nothing_has_a_view_it_is_said(tmp_path):
    report(tmp_path / "open-i", 1, ["CXR1_IM-0001-1001"], "Chest")
    with pytest.raises(CatalogueError, match="no usable image"):
        read_openi(tmp_path, tmp_path / "cache")


def test_the_numbers_count_only_where_a_report_has_just_these_two(tmp_path):
    report(collection(tmp_path, 2) / "open-i", 60, ["CXR60_IM-0060-1001", "CXR60_IM-0060-3001"], "PA and lateral")
    found = views(read_openi(tmp_path, tmp_path / "cache"))
    assert len(found) == 4 and not any(name.startswith("CXR60") for name in found)


def test_the_profile_takes_open_i_where_it_lies_and_else_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    settings = SimpleNamespace(view_source="real", data_dir=collection(tmp_path), workers=1, view_labels_file="")
    assert data.load_views(settings).name == "openi"
    assert [path.name for path in data.folders_views(settings)] == ["png", "reports"]
    able, sentence = data.describe_views(data.load_views(settings))
    assert not able and "8 frontal and 8 lateral" in sentence
    settings.data_dir = tmp_path / "nowhere"
    with pytest.raises(FileNotFoundError, match="no COVID-19 images"):
        data.load_views(settings)
    settings.view_source = "openi"
    with pytest.raises(FileNotFoundError, match="no Open-i images"):
        data.load_views(settings)


# --- figure 6 ---

RANDOM = np.random.default_rng(0)
SMOOTH = np.repeat(np.repeat(RANDOM.integers(20, 200, (8, 8), dtype=np.uint8), 16, 0), 16, 1)
LABELED, TURNED, COVERED, CROP = list(TRANSFORMS)[1:]


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("shape", [(128, 128), (65, 65), (40, 90)])
def test_shape_and_type_stay_and_the_image_is_left_alone(name, shape):
    image = RANDOM.integers(0, 256, shape, dtype=np.uint8)
    before = image.copy()
    made = TRANSFORMS[name](image)
    assert made.shape == shape and made.dtype == np.uint8 and not np.may_share_memory(made, image)
    assert np.array_equal(image, before) and np.array_equal(made, image) == (name == "Original")


def test_labels_are_white_words_and_change_nothing_else():
    made = TRANSFORMS[LABELED](SMOOTH)
    changed = made != SMOOTH
    assert 0.01 < changed.mean() < 0.12 and made[changed].max() == 255 and (made >= SMOOTH).all()
    halves = [changed[:64].any(), changed[64:].any(), changed[:, :64].any(), changed[:, 64:].any()]
    assert all(halves)


def test_the_turn_is_45_degrees_and_the_zoom_one_and_a_half():
    spot = np.zeros((121, 121), np.uint8)
    spot[58:63, 78:83] = 255  # 20 pixels to the right of the centre
    made = TRANSFORMS[TURNED](spot).astype(float)
    rows, columns = np.indices(spot.shape)
    up, right = 60 - (rows * made).sum() / made.sum(), (columns * made).sum() / made.sum() - 60
    assert np.degrees(np.arctan2(up, right)) == pytest.approx(45, abs=1)
    assert np.hypot(up, right) == pytest.approx(30, abs=0.6)


def test_no_black_corner_comes_in_with_the_turn():
    assert TRANSFORMS[TURNED](np.full((128, 128), 90, np.uint8)).min() == 90


def test_the_top_half_is_black_and_the_rest_untouched():
    made = TRANSFORMS[COVERED](SMOOTH)
    assert not made[:64].any() and np.array_equal(made[64:], SMOOTH[64:])


def test_the_crop_is_the_upper_left_quarter():
    image = SMOOTH.copy()
    image[:64, :64] = 7
    assert (TRANSFORMS[CROP](image) == 7).all()
    assert (TRANSFORMS[CROP](SMOOTH)[1::32, 1::32] == SMOOTH[:64:16, :64:16]).all()


def test_a_whole_set_is_transformed_one_by_one():
    pixels = np.stack([SMOOTH, SMOOTH.T])
    assert np.array_equal(transformed(pixels, CROP)[1], TRANSFORMS[CROP](np.ascontiguousarray(SMOOTH.T)))


def test_an_unknown_heading_or_shape_is_refused():
    with pytest.raises(ValueError, match="Top left crop"):
        transformed(SMOOTH[None], "Upside down")
    with pytest.raises(ValueError, match="uint8"):
        transformed(SMOOTH, CROP)
