"""Open-i: views read from reports as far as they tell, or from the user's own table, and the paper's random draw."""

from pathlib import Path

import numpy as np
import pytest
from catalogue_contract import CatalogueContract
from PIL import Image

from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.splits import SplitError, split
from helpers.rajkomar.data import load, view_of

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


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(path)


def report(root: Path, number: int, names: list[str], caption: str) -> None:
    images = "\n".join(IMAGE.format(name=name, k=k + 1, caption=caption) for k, name in enumerate(names))
    place = root / "reports" / "ecgen-radiology" / f"{number}.xml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(REPORT.format(number=number, images=images))
    for k, name in enumerate(names):
        picture(root / "png" / f"{name}.png", 10 * number + k)


def collection(folder: Path, reports: int = 8) -> Path:
    for n in range(1, reports + 1):
        names = [f"CXR{n}_IM-{n:04d}-1001", f"CXR{n}_IM-{n:04d}-2001"]
        report(folder / "open-i", n, names, "Xray Chest PA and Lateral")
    return folder


class TestOpenI(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        return load(folder if any(folder.iterdir()) else collection(folder), folder / "cache", workers=1)

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
    frame = load(collection(tmp_path), tmp_path / "cache").frame
    assert frame.groupby("patient_id").size().eq(2).all() and frame["patient_id"].iloc[0] == "CXR1"


def test_what_the_reports_do_not_tell_is_excluded_with_the_reason(tmp_path):
    root = collection(tmp_path) / "open-i"
    report(root, 90, ["CXR90_IM-0090-3001", "CXR90_IM-0090-4001"], "Xray Chest PA and Lateral")
    report(root, 91, ["CXR91_IM-0091-1001"], "")
    picture(root / "png" / "CXR92_IM-0092-1001.png", 1)
    (root / "png" / "CXR93_IM-0093-1001.png").write_bytes(b"")
    (root / "reports" / "ecgen-radiology" / "94.xml").write_text("<eCitation>")
    excluded = load(tmp_path, tmp_path / "cache").excluded
    assert dict(zip(excluded["path"], excluded["reason"], strict=True)) == {
        "png/CXR90_IM-0090-3001.png": "its caption does not tell the view: Xray Chest PA and Lateral",
        "png/CXR90_IM-0090-4001.png": "its caption does not tell the view: Xray Chest PA and Lateral",
        "png/CXR91_IM-0091-1001.png": "its caption does not tell the view: (none)",
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
    catalogue = load(tmp_path, tmp_path / "cache", labels_csv=table)
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
    found = views(load(tmp_path, tmp_path / "cache", labels_csv=table))
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
        load(collection(tmp_path, 1), tmp_path / "cache", labels_csv=tmp_path / "views.csv")


def test_a_draw_is_the_same_for_a_seed_and_lies_inside_a_larger_one(tmp_path):
    collection(tmp_path)
    draw = {n: set(load(tmp_path, tmp_path / "cache", sample=n, seed=3).frame["image_id"]) for n in (6, 10)}
    assert len(draw[6]) == 6 and draw[6] < draw[10]
    assert set(load(tmp_path, tmp_path / "cache", sample=6, seed=3).frame["image_id"]) == draw[6]
    assert set(load(tmp_path, tmp_path / "cache", sample=6, seed=4).frame["image_id"]) != draw[6]
    with pytest.raises(CatalogueError, match="a sample of 17 of 16 images"):
        load(tmp_path, tmp_path / "cache", sample=17)


def test_when_there_is_no_collection_it_says_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere, which does not exist.*png/ and reports/.*make data"):
        load(tmp_path / "nowhere", tmp_path / "cache")


def test_when_nothing_has_a_view_it_is_said(tmp_path):
    report(tmp_path / "open-i", 1, ["CXR1_IM-0001-1001"], "Chest")
    with pytest.raises(CatalogueError, match="no image with a view"):
        load(tmp_path, tmp_path / "cache")


def test_the_numbers_count_only_where_a_report_has_just_these_two(tmp_path):
    report(collection(tmp_path, 2) / "open-i", 60, ["CXR60_IM-0060-1001", "CXR60_IM-0060-3001"], "PA and lateral")
    found = views(load(tmp_path, tmp_path / "cache"))
    assert len(found) == 4 and not any(name.startswith("CXR60") for name in found)
