"""Every published data set, as its archives unpack: what is read, what is set aside and why, who is one patient."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from catalogue_contract import check_catalogue
from PIL import Image
from tiny_data import (
    REAL,
    REAL_DATA,
    cohen_archive,
    cohen_row,
    cohen_rows,
    nih_archive,
    oct_archive,
    octid_archive,
    openi_archive,
    picture,
    reasons,
    sized,
    three_hospitals,
    xray_archive,
)

from helpers.carr.data import read_covid, read_octid
from helpers.data import cohen
from helpers.data.catalogue import CatalogueError, UserTableError, read_table, read_user_table
from helpers.data.cohen import finding_class, load_findings, load_views
from helpers.data.kermany_images import OCT, XRAY, load_oct, load_xray
from helpers.rajkomar.data import read_openi
from helpers.zech.data import read_nih, read_sites


def two_collections(folder):
    xray_archive(folder / "chest_xray", patients=15, images=2)
    cohen_archive(folder, cohen_rows(48))


LOADERS = {  # what lies there, and who reads it
    "OCT": (lambda folder: oct_archive(folder / "OCT2017"), load_oct),
    "X-rays, version 2": (lambda folder: xray_archive(folder / "chest_xray"), load_xray),
    "X-rays, version 3": (lambda folder: xray_archive(folder / "CellData" / "chest_xray", 3), load_xray),
    "views": (cohen_archive, load_views),
    "findings": (cohen_archive, load_findings),
    "Open-i": (openi_archive, read_openi),
    "COVID-19": (two_collections, read_covid),
    "OCTID": (octid_archive, lambda *where: read_octid(*where, drawn=3)),
    "ChestX-ray14": (nih_archive, read_nih),
    "hospitals": (three_hospitals, read_sites),
}


@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_keeps_the_contract(name, tmp_path):
    build, load = LOADERS[name]
    build(tmp_path / "data")
    catalogue = load(tmp_path / "data", tmp_path / "cache", 1)
    check_catalogue(catalogue, lambda: load(tmp_path / "data", tmp_path / "cache", 2))


@REAL
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("load", "images"),
    [(load_oct, 683), (load_xray, 2884), (load_views, 200), (read_nih, 800), (read_sites, 3800)],
)
def test_the_real_images_are_read(tmp_path, load, images):
    assert len(load(REAL_DATA, tmp_path)) >= images


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (load_oct, "no Kermany OCT images.*train/ and test/ with folders CNV.*make data PROFILE=paper"),
        (load_views, "no COVID-19 images.*metadata.csv and images/.*note the commit"),
        (read_sites, "no ChestX-ray14.*Data_Entry_2017_v2020.csv"),
    ],
)
def test_where_nothing_lies_it_says_what_was_looked_for_and_how_to_get_it(tmp_path, load, message):
    with pytest.raises(FileNotFoundError, match=f"nowhere, which does not exist.*{message.split('.*', 1)[1]}"):
        load(tmp_path / "nowhere", tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match=message.split(".*", 1)[0]):
        load(tmp_path, tmp_path / "cache")


def test_of_many_absent_or_odd_files_a_list_has_counts_and_a_few_names():
    images, reasons_of = [f"images/{k}.png" for k in range(112_000)], ["the file is absent"] * 111_900 + list("ab" * 30)
    reasons_of += [f"odd in way {k}" for k in range(40)]
    some = replace(sized({"a": 1}, {"a": 1}), excluded=pd.DataFrame({"path": images, "reason": reasons_of}))
    rows = some.excluded_by_reason()
    assert [row["files"] for row in rows[:3]] == [111_900, 30, 30] and sum(row["files"] for row in rows) == 112_000
    assert len(some.set_aside) == 100 and len(str(rows)) < 10_000 and "images/0.png, " in rows[0]["first"]
    assert rows[-1]["reason"] == "other reasons"


TABLE = 'PatientID,view,notes,,\n1,PA,"Müller, f.",,,\n2,L,,,,\n'


@pytest.mark.parametrize(
    "written",
    [
        TABLE.encode("utf-8-sig"),
        TABLE.encode("latin-1"),
        TABLE.encode("utf-16"),
        TABLE.replace("\n", "\r\n").encode(),
        TABLE.replace(",", ";").replace("r; f", "r, f").encode("latin-1"),
        TABLE.replace(",", "\t").replace("r\t f", "r, f").encode("utf-16"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*read as Windows-1252")
def test_a_table_is_read_as_spreadsheets_of_any_country_save_it(tmp_path, written):
    (tmp_path / "table.csv").write_bytes(written)
    table = read_table(tmp_path / "table.csv", ["patientid", "view", "notes"])
    assert table.iloc[:, :3].to_numpy().tolist() == [["1", "PA", "Müller, f."], ["2", "L", ""]]


@pytest.mark.parametrize(
    ("written", "why"),
    [
        (b"PK\x03\x04\0\0", "it is not text"),
        (TABLE.encode("utf-16-le"), "it is not text"),
        (b"\xff\xfea", "truncated"),
        (b"", "No columns"),
        (b'patientid,view\n1,"PA\n', "EOF inside string"),
        (b"patientid,view\n1,PA,L\n", "longer than the header"),
        (b"patientid,view\n1,PA\n1,PA,L\n", "Expected 2 fields in line 3, saw 3"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_its_name_with_the_remedy(tmp_path, written, why):
    (tmp_path / "table.csv").write_bytes(written)
    with pytest.raises(CatalogueError, match=f"table.csv: not a CSV.*{why}.*Save it as 'CSV UTF-8'"):
        read_table(tmp_path / "table.csv", ["patientid"])
    with pytest.raises(UserTableError, match=why):
        read_user_table(tmp_path / "table.csv", ["image"], sized({"a": 1}, {"a": 1}))


# --- Kermany ---


def test_oct_images_and_chest_x_rays_are_not_taken_for_one_another(tmp_path):
    oct_archive(tmp_path / "CellData/OCT", 1)
    with pytest.raises(FileNotFoundError):
        XRAY.find(tmp_path)
    xray_archive(tmp_path / "CellData/chest_xray", 3, 1)
    assert XRAY.find(tmp_path).name == "chest_xray" and OCT.find(tmp_path).name == "OCT"
    with pytest.raises(FileNotFoundError):
        OCT.find(tmp_path / "CellData/chest_xray")


MISFITS = [
    ("train/CNV/DME-1-1.jpeg", "its name says DME, its folder CNV"),
    ("train/CNV/CNV-one-1.jpeg", "its name is not <CLASS>-<patient>-<number>"),
    ("train/OTHER/CNV-1-1.jpeg", "not in a class folder"),
    ("train/NORMAL/person1_bacteria_1.jpeg", "its name says BACTERIA, its folder NORMAL"),
    ("train/PNEUMONIA/person1_fungus_1.jpeg", "its name is not one of the data set's"),
    ("train/OTHER/person1_virus_1.jpeg", "not in a class folder"),
]


@pytest.mark.parametrize(
    ("load", "make", "misfits"),
    [(load_oct, oct_archive, MISFITS[:3]), (load_xray, xray_archive, MISFITS[3:])],
)
def test_files_that_do_not_fit_are_set_aside_with_the_reason(tmp_path, load, make, misfits):
    root = make(tmp_path / "data", patients=1)
    for name, _ in misfits:
        picture(root / name)
    (root / "test/NORMAL/NORMAL-1-1.jpeg").write_bytes(b"")
    (root / "test/NORMAL/._NORMAL-1-2.jpeg").write_bytes(b"Mac OS X")
    assert reasons(load(root, tmp_path / "cache")) == dict(misfits) | {"test/NORMAL/NORMAL-1-1.jpeg": "0 bytes"}


def test_a_folder_val_of_oct_is_test_and_a_number_under_two_classes_one_patient(tmp_path):
    root = oct_archive(tmp_path / "OCT2017", 1)
    picture(root / "val/NORMAL/NORMAL-9-1.jpeg")
    picture(root / "train/DRUSEN/DRUSEN-1000-1.jpeg")
    frame = load_oct(tmp_path, tmp_path / "cache").frame
    assert frame.set_index("path").loc["val/NORMAL/NORMAL-9-1.jpeg", "image_id"] == "test/NORMAL-9-1.jpeg"
    assert set(frame.loc[frame["patient_id"] == "1000", "label"]) == {"CNV", "DRUSEN"}


@pytest.mark.parametrize(
    ("file", "label", "patient"),
    [
        ("NORMAL/IM-0115-0001.jpeg", "NORMAL", "train/IM-115"),
        ("NORMAL/IM-0429-0001-0002.jpeg", "NORMAL", "train/IM-429"),
        ("NORMAL/NORMAL2-IM-1103-0001-0002.jpeg", "NORMAL", "train/IM-1103"),
        ("PNEUMONIA/person1_bacteria_1.jpeg", "BACTERIA", "train/person1"),
        ("PNEUMONIA/person1_virus_6.jpeg", "VIRUS", "train/person1"),
        ("NORMAL/NORMAL-1003233-0001.jpeg", "NORMAL", "1003233"),
        ("PNEUMONIA/BACTERIA-1008087-0001.jpeg", "BACTERIA", "1008087"),
    ],
)
def test_an_x_rays_label_and_patient_come_from_its_name(tmp_path, file, label, patient):
    picture(xray_archive(tmp_path / "chest_xray", patients=1) / "train" / file)
    row = load_xray(tmp_path, tmp_path / "cache").frame.set_index("path").loc[f"train/{file}"]
    assert (row["label"], row["patient_id"], row["published_split"], row["view"]) == (label, patient, "train", "AP")


def test_a_folder_val_of_x_rays_is_training_and_a_copy_inside_the_archive_is_read_once(tmp_path):
    whole = load_xray(xray_archive(tmp_path / "a" / "chest_xray").parent, tmp_path / "cache")
    moved = xray_archive(tmp_path / "b" / "chest_xray")
    (moved / "val" / "NORMAL").mkdir(parents=True)
    (moved / "train/NORMAL/IM-0100-0000.jpeg").rename(moved / "val/NORMAL/IM-0100-0000.jpeg")
    xray_archive(moved / "chest_xray")
    copy = load_xray(moved.parent, tmp_path / "cache")
    assert copy.fingerprint() == whole.fingerprint()


# --- Cohen ---


def test_rows_and_files_that_are_not_used_are_listed_with_the_reason(tmp_path):
    rows = [
        *cohen_rows(),
        cohen_row("90", "gone.png"),
        cohen_row("91", "slice.png", "Axial", modality="CT"),
        cohen_row("92", "none.png", ""),
        cohen_row("93", "what.png", "?"),
        cohen_row("94", "broken.png"),
        cohen_row("", "nobody.png"),
        cohen_row("50", "odd.png", "PA"),
        cohen_row("51", "odd.png", "L"),
        cohen_row("52", "once.png", ""),
        cohen_row("53", "once.png", "L"),  # one usable row is enough
    ]
    images = cohen_archive(tmp_path, rows, absent=("gone.png",)) / "images"
    (images / "broken.png").write_bytes(b"")
    picture(images / "stranger.png")
    catalogue = load_views(tmp_path, tmp_path / "cache")
    assert len(catalogue) == 51 and reasons(catalogue) == {
        "images/gone.png": "the file is absent",
        "images/slice.png": "no X-ray: CT, view Axial",
        "images/none.png": "view not stated",
        "images/what.png": "view ?",
        "images/broken.png": "0 bytes",
        "images/nobody.png": "no patientid",
        "images/odd.png": "its rows give it two labels",
        "images/stranger.png": "no row of metadata.csv",
    }


def test_the_first_metadata_are_read_and_a_view_that_a_files_name_contradicts_is_doubtful(tmp_path):
    rows = [
        *cohen_rows(),
        cohen_row("60", "a.png", "AP erect"),
        cohen_row("61", "b.png", "APS"),
        cohen_row("62", "c.png", "AP semi-erect"),
        cohen_row("63", "d-L.png", "PA"),
        cohen_row("64", "e_pa.png", "L"),
        cohen_row("65", "f.png", "Axial"),
        cohen_row("66", "g-L.png", "L"),
    ]
    table = cohen_archive(tmp_path, rows) / "metadata.csv"
    first = pd.read_csv(table, dtype=str, keep_default_na=False).drop(columns=["modality", "folder"])
    table.write_text(first.rename(columns={"patientid": "Patientid"}).to_csv(sep=";", index=False), encoding="latin-1")
    for load in (load_views, load_findings):
        catalogue = load(tmp_path, tmp_path / "cache")
        kept = catalogue.frame.set_index("image_id")
        assert set(kept.loc[["a.png", "b.png", "c.png"], "view"]) == {"AP erect", "APS", "AP semi-erect"}
        assert ("g-L.png" in kept.index) == (load is load_views) and not {"d-L.png", "e_pa.png"} & {*kept.index}
        aside = reasons(catalogue)
        assert aside["images/d-L.png"] == "doubtful: view PA, which its name contradicts"
        assert aside["images/f.png"] == "no X-ray: CT, view Axial"


def test_patients_who_share_a_file_its_bytes_or_a_near_copy_are_one(tmp_path):
    shared = [("285", "same"), ("339", "same"), ("339", "other"), ("340", "last"), ("7a", "a"), ("7b", "b")]
    chain = [("3x", "p"), ("2x", "p"), ("2x", "q"), ("1x", "q")]
    films = [("97", "film"), ("97", "z"), ("178", "again"), ("8", "turned")]
    rows = [cohen_row(patient, f"{name}.png") for patient, name in (*shared, *chain, *films)]
    images = cohen_archive(tmp_path, [*cohen_rows(), *rows]) / "images"
    (images / "b.png").write_bytes((images / "a.png").read_bytes())
    y, x = np.mgrid[:60, :60]
    film = (120 + 60 * np.sin(x / 9) + 50 * np.cos(y / 7)).astype(np.uint8)
    Image.fromarray(film).save(images / "film.png")
    Image.fromarray(film).resize((90, 84)).save(images / "again.png", "JPEG", quality=80)
    Image.fromarray(film.T).save(images / "turned.png")
    patient = load_views(tmp_path, tmp_path / "cache").frame.set_index("image_id")["patient_id"]
    assert patient["same.png"] == patient["other.png"] == "285" and patient["last.png"] == "340"
    assert patient["p.png"] == patient["q.png"] == "1x" and patient["a.png"] == patient["b.png"] == "7a"
    assert patient["film.png"] == patient["again.png"] == patient["z.png"] == "178" and patient["turned.png"] == "8"


def test_the_drawn_split_is_by_patient_shares_laterals_out_and_ignores_the_order_of_rows(tmp_path):
    cohen_archive(tmp_path / "a", cohen_rows(40))
    cohen_archive(tmp_path / "b", cohen_rows(40)[::-1])
    first, second = (load_views(tmp_path / name, tmp_path / "cache") for name in "ab")
    assert first.fingerprint() == second.fingerprint()
    assert first.frame.groupby("patient_id")["published_split"].nunique().eq(1).all()
    patients = first.frame.groupby(["published_split", "label"])["patient_id"].nunique()
    assert patients["test", "frontal"] == 16 and patients["test", "lateral"] == 8


FINDINGS = {
    "COVID-19": ["COVID-19", "COVID-19, ARDS", "Pneumonia/Viral/COVID-19"],
    "VIRUS": ["Pneumonia/Viral/Influenza/H1N1", "SARS"],
    "BACTERIA": ["Streptococcus", "Mycoplasma Bacterial Pneumonia", "Pneumonia/Bacterial/Nocardia"],
    "NORMAL": ["No Finding"],
    "": ["Pneumonia", "Pneumonia/Fungal/Pneumocystis", "Tuberculosis", "ARDS", "todo", "", "Influenza, Streptococcus"],
}


def test_findings_become_classes_or_none():
    for label, texts in FINDINGS.items():
        assert {finding_class(text) for text in texts} == {label}


def test_the_findings_are_those_of_frontal_images(tmp_path):
    cohen_archive(tmp_path, [*cohen_rows(), cohen_row("70", "t.png", finding="todo"), cohen_row("71", "lat.png", "L")])
    catalogue = load_findings(tmp_path, tmp_path / "cache")
    assert catalogue.classes == ("NORMAL", "BACTERIA", "VIRUS", "COVID-19")
    assert set(catalogue.frame["view"]) == {"PA", "AP Supine"}
    aside = reasons(catalogue)
    assert aside["images/t.png"] == "finding todo" and aside["images/lat.png"] == "not frontal: view L"


def test_metadata_that_cannot_be_used_are_refused(tmp_path):
    root = cohen_archive(tmp_path, [cohen_row("1", "a.png")], absent=("a.png",))
    with pytest.raises(CatalogueError, match="no usable image"):
        load_views(tmp_path, tmp_path / "cache")
    (root / "metadata.csv").write_text("patientid,finding\n1,COVID-19\n")
    with pytest.raises(CatalogueError, match="no column view, filename"):
        load_views(tmp_path, tmp_path / "cache")
    assert [path.name for path in cohen.PLACE.read_from(tmp_path)] == ["images", "metadata.csv"]
