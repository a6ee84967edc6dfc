"""Cohen's collection: rows without files, slices that are no X-rays, patients under two names, a split by patient."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from catalogue_contract import CatalogueContract, picture, real_data, reasons
from PIL import Image

from helpers.data import cohen
from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.cohen import finding_class, load_findings, load_views

HEADER = ["patientid", "offset", "finding", "view", "modality", "folder", "filename", "license", ""]


def row(patient: str, name: str, view: str = "PA", finding: str = "COVID-19", modality: str = "X-ray") -> list[str]:
    return [patient, "", finding, view, modality, "images", name, "CC BY", ""]


def collection(folder: Path, rows: list[list[str]], absent: tuple[str, ...] = ()) -> Path:
    root = folder / cohen.LAYOUT
    (root / "images").mkdir(parents=True, exist_ok=True)
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])
    for k, name in enumerate(sorted({r[6] for r in rows} - set(absent))):
        picture(root / "images" / name, k)
    return folder


def plenty(patients: int = 20) -> list[list[str]]:
    """Each patient with two frontal images, every second with a lateral."""
    findings = ("COVID-19", "Streptococcus", "SARS", "No Finding")
    rows = [
        row(str(p), f"{p}-{k}.png", "PA" if k else "AP Supine", findings[p % 4])
        for p in range(patients)
        for k in (0, 1)
    ]
    return rows + [row(str(p), f"{p}-l.png", "L", findings[p % 4]) for p in range(0, patients, 2)]


class TestViews(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        return load_views(collection(folder, plenty()) if not any(folder.iterdir()) else folder, folder / "cache", 1)


class TestFindings(CatalogueContract):
    def load(self, folder: Path) -> Catalogue:
        return load_findings(collection(folder, plenty()) if not any(folder.iterdir()) else folder, folder / "cache", 1)


@real_data
def test_the_real_images_are_read(tmp_path):
    assert len(load_views(Path(os.environ["REAL_DATA_DIR"]), tmp_path)) >= 200


def test_views_become_frontal_and_lateral_and_keep_their_name(tmp_path):
    rows = [
        row(str(k), f"{k}.png", v) for k, v in enumerate(["PA", "AP", "AP Supine", "AP Erect", "AP semi erect", "L"])
    ]
    frame = load_views(collection(tmp_path, rows + [row("6", "6.png", "L")]), tmp_path / "cache").frame
    assert list(frame["label"]) == ["frontal"] * 5 + ["lateral"] * 2
    assert list(frame["view"][:3]) == ["PA", "AP", "AP Supine"]


def test_what_is_not_used_is_listed_with_the_reason(tmp_path):
    rows = [
        *plenty(),
        row("90", "gone.png"),
        row("91", "slice.png", "Axial", modality="CT"),
        row("92", "none.png", ""),
        row("93", "what.png", "?"),
        row("94", "broken.png"),
        row("", "nobody.png"),
    ]
    collection(tmp_path, rows, absent=("gone.png",))
    images = tmp_path / cohen.LAYOUT / "images"
    (images / "broken.png").write_bytes(b"")
    picture(images / "stranger.png", 99)
    catalogue = load_views(tmp_path, tmp_path / "cache")
    assert reasons(catalogue) == {
        "images/gone.png": "the file is absent",
        "images/slice.png": "no X-ray: CT, view Axial",
        "images/none.png": "view not stated",
        "images/what.png": "view ?",
        "images/broken.png": "0 bytes",
        "images/nobody.png": "no patientid",
        "images/stranger.png": "no row of metadata.csv",
    }
    assert len(catalogue) == 50


def test_patients_who_share_a_file_its_bytes_or_a_near_copy_are_one(tmp_path):
    rows = [row("285", "same.png"), row("339", "same.png"), row("339", "other.png"), row("340", "last.png")]
    rows += [row("3x", "p.png"), row("2x", "p.png"), row("2x", "q.png"), row("1x", "q.png")]  # a chain
    rows += [row("7a", "a.png"), row("7b", "b.png")]
    rows += [row("97", "film.png"), row("97", "z.png"), row("178", "again.jpg"), row("8", "turned.png")]
    collection(tmp_path, [*plenty(), *rows])
    images = tmp_path / cohen.LAYOUT / "images"
    (images / "b.png").write_bytes((images / "a.png").read_bytes())
    y, x = np.mgrid[:60, :60]
    film = (120 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7)).astype(np.uint8)
    Image.fromarray(film).save(images / "film.png")
    Image.fromarray(film).resize((90, 84)).save(images / "again.jpg", quality=80)
    Image.fromarray(film.T).save(images / "turned.png")
    frame = load_views(tmp_path, tmp_path / "cache").frame.set_index("image_id")
    assert list(frame.index).count("same.png") == 1
    patient = frame["patient_id"]
    assert patient["same.png"] == patient["other.png"] == "285" and patient["last.png"] == "340"
    assert patient["p.png"] == patient["q.png"] == "1x" and patient["a.png"] == patient["b.png"] == "7a"
    assert patient["film.png"] == patient["again.jpg"] == patient["z.png"] == "178" and patient["turned.png"] == "8"


def test_a_file_whose_rows_disagree_is_not_used(tmp_path):
    rows = [*plenty(), row("50", "odd.png", "PA"), row("51", "odd.png", "L")]
    catalogue = load_views(collection(tmp_path, rows), tmp_path / "cache")
    assert reasons(catalogue) == {"images/odd.png": "its rows give it two labels"}


def test_a_file_with_one_usable_row_is_used(tmp_path):
    rows = [*plenty(), row("50", "odd.png", ""), row("51", "odd.png", "L")]
    catalogue = load_views(collection(tmp_path, rows), tmp_path / "cache")
    assert reasons(catalogue) == {} and catalogue.frame.set_index("image_id").loc["odd.png", "label"] == "lateral"


def test_the_split_is_by_patient_and_shares_laterals_out(tmp_path):
    frame = load_views(collection(tmp_path, plenty(40)), tmp_path / "cache").frame
    assert frame.groupby("patient_id")["published_split"].nunique().eq(1).all()
    patients = frame.groupby("published_split")["patient_id"].nunique()
    laterals = frame[frame["label"] == "lateral"].groupby("published_split")["patient_id"].nunique()
    assert patients["test"] == 16 and laterals["test"] == 8


def test_of_a_class_with_one_patient_he_trains_and_of_two_one_is_tested(tmp_path):
    rows = [r for r in plenty() if r[3] != "L"]
    for lone in (["60"], ["60", "61"]):
        extra = [row(patient, f"{patient}.png", "L") for patient in lone]
        frame = load_views(collection(tmp_path / str(len(lone)), rows + extra), tmp_path / "cache").frame
        laterals = frame[frame["label"] == "lateral"]
        assert sorted(laterals["published_split"]) == ["test", "train"][2 - len(lone) :]


def test_the_split_depends_neither_on_the_order_of_rows_nor_on_other_columns(tmp_path):
    first = load_views(collection(tmp_path / "a", plenty()), tmp_path / "cache")
    second = load_views(collection(tmp_path / "b", plenty()[::-1]), tmp_path / "cache")
    assert first.fingerprint() == second.fingerprint()


@pytest.mark.parametrize(
    ("finding", "label"),
    [
        ("COVID-19", "COVID-19"),
        ("COVID-19, ARDS", "COVID-19"),
        ("Pneumonia/Viral/COVID-19", "COVID-19"),
        ("Pneumonia/Viral/Influenza/H1N1", "VIRUS"),
        ("SARS", "VIRUS"),
        ("Streptococcus", "BACTERIA"),
        ("Mycoplasma Bacterial Pneumonia", "BACTERIA"),
        ("Pneumonia/Bacterial/Nocardia", "BACTERIA"),
        ("No Finding", "NORMAL"),
        ("Pneumonia", ""),
        ("Pneumonia/Fungal/Pneumocystis", ""),
        ("Tuberculosis", ""),
        ("ARDS", ""),
        ("todo", ""),
        ("", ""),
        ("Influenza, Streptococcus", ""),
    ],
)
def test_findings_become_classes_or_none(finding, label):
    assert finding_class(finding) == label


def test_the_findings_are_those_of_frontal_images(tmp_path):
    rows = [*plenty(), row("70", "t.png", finding="todo"), row("71", "lat.png", "L")]
    catalogue = load_findings(collection(tmp_path, rows), tmp_path / "cache")
    assert catalogue.classes == ("NORMAL", "BACTERIA", "VIRUS", "COVID-19")
    assert set(catalogue.frame["view"]) == {"PA", "AP Supine"}
    assert reasons(catalogue)["images/t.png"] == "finding todo"
    assert reasons(catalogue)["images/lat.png"] == "not frontal: view L"


def test_what_cannot_be_read_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere, which does not exist.*metadata.csv.*note the commit"):
        load_views(tmp_path / "nowhere", tmp_path / "cache")
    with pytest.raises(CatalogueError, match="no usable image"):
        load_views(collection(tmp_path, [row("1", "a.png")], absent=("a.png",)), tmp_path / "cache")
    (tmp_path / cohen.LAYOUT / "metadata.csv").write_text("patientid,finding\n1,COVID-19\n")
    with pytest.raises(CatalogueError, match="no column view, modality"):
        load_views(tmp_path, tmp_path / "cache")
