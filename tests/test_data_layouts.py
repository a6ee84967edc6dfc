"""Anybody's copy of the data is found, or refused with what to do; whatever else lies there, nothing hangs or dies."""

import os
import shutil
import socket
import warnings
import zipfile

import pytest
from tiny_data import nih_archive, oct_archive, openi_archive, picture, reasons, xray_archive

from helpers.__main__ import main
from helpers.data.catalogue import CatalogueError
from helpers.data.kermany_images import load_oct, load_xray
from helpers.data.scan import DEEPEST_FILE, scan
from helpers.rajkomar.data import read_openi
from helpers.zech.data import read_nih


def respelt(root, spell):
    """The archive with its split and class folders spelt in another way."""
    for part in list(root.iterdir()):
        for inside in list(part.iterdir()):
            inside.rename(part / spell(inside.name))
        part.rename(root / spell(part.name))


SPELT = (str, str.lower, str.title, "{} ".format)
OCT_COPIES = [
    "OCT2017",
    "OCT2017 ",
    "OCT2017/OCT2017",
    "oct2017",
    "ZhangLabData/CellData/OCT",
    "my/own/retina/scans",
    "",
]
XRAY_COPIES = ["chest_xray", "ChestXRay2017/chest_xray", "chest_xray/chest_xray", "CellData/chest_xray", "a/b/c/d", ""]


@pytest.mark.parametrize(
    ("make", "folder"), [*((oct_archive, f) for f in OCT_COPIES), *((xray_archive, f) for f in XRAY_COPIES)]
)
def test_a_copy_in_any_folder_and_any_spelling_is_the_same_data(tmp_path, make, folder):
    load = load_oct if make is oct_archive else load_xray
    version = {"version": 3} if folder.startswith("CellData/chest") else {}
    root = make(tmp_path / "data" / folder, patients=1, **version)
    whole = load(root, tmp_path / "cache").fingerprint()
    respelt(root, SPELT[len(folder) % len(SPELT)])
    shutil.copytree(root, tmp_path / "data" / "__MACOSX" / folder)
    assert load(tmp_path / "data", tmp_path / "cache").fingerprint() == whole


def test_open_i_is_found_as_it_circulates(tmp_path):
    whole = read_openi(openi_archive(tmp_path / "a").parent, tmp_path / "cache")
    (tmp_path / "b").mkdir()
    shutil.copytree(tmp_path / "a/open-i/png", tmp_path / "b/x/NLMCXR_png")
    shutil.copytree(tmp_path / "a/open-i/reports/ecgen-radiology", tmp_path / "b/x/ecgen-radiology")
    assert read_openi(tmp_path / "b", tmp_path / "cache").fingerprint() == whole.fingerprint()
    for name in ("1_IM-0001-4001", "1_IM-0001-3001", "22_IM-0002-1001"):
        picture(tmp_path / f"c/chest/images/images_normalized/{name}.dcm.png")
    (tmp_path / "c/chest/indiana_projections.csv").write_text(
        "uid,filename,projection\n1,1_IM-0001-4001.dcm.png,Frontal\n1,1_IM-0001-3001.dcm.png,Lateral\n"
    )
    copy = read_openi(tmp_path / "c", tmp_path / "cache")
    assert copy.frame["label"].tolist() == ["lateral", "frontal"] and set(copy.frame["patient_id"]) == {"CXR1"}
    assert set(reasons(copy).values()) == {"not in indiana_projections.csv"}


def archived(folder):
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        archive.writestr("OCT2017 /train/CNV/CNV-1-1.jpeg", "x")


REFUSED = {
    "two versions": (
        lambda f: [oct_archive(f / x, 1) for x in ("OCT2017", "CellData/OCT")],
        "",
        "Which one.*DATA_DIR=",
    ),
    "a folder inside": (
        lambda f: oct_archive(f / "OCT2017", 1),
        "OCT2017/train/CNV",
        "give the whole: DATA_DIR=.*OCT2017$",
    ),
    "no train and test": (lambda f: shutil.move(oct_archive(f / "x", 1) / "train", f / "y"), "y/..", "a part of it"),
    "an archive": (archived, "", "archive.zip holds it: unpack it there"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_says_what_to_do_and_not_to_download_it(tmp_path, name):
    make, inside, message = REFUSED[name]
    make(tmp_path)
    if name == "no train and test":
        shutil.rmtree(tmp_path / "x")
    with pytest.raises(CatalogueError, match=message) as refused:
        load_oct((tmp_path / inside).resolve(), tmp_path / "cache")
    assert "make data" not in str(refused.value)


def test_training_images_of_one_version_and_test_images_of_the_other_are_refused(tmp_path):
    root = xray_archive(tmp_path / "chest_xray", 2)
    shutil.rmtree(root / "test")
    shutil.move(xray_archive(tmp_path / "3", 3) / "test", root / "test")
    with pytest.raises(CatalogueError, match="version 2's.*version 3's"):
        load_xray(root, tmp_path / "cache")


def test_images_of_two_sizes_are_not_mixed_and_twelve_folders_are_one_set(tmp_path):
    root = nih_archive(tmp_path)
    whole = read_nih(tmp_path, tmp_path / "cache").fingerprint()
    shutil.copytree(root / "images", root / "images-224")
    with pytest.warns(UserWarning, match="only images is read"):
        assert read_nih(tmp_path, tmp_path / "cache").fingerprint() == whole
    shutil.rmtree(root / "images-224")
    for number, path in enumerate(sorted((root / "images").iterdir())):
        target = root / f"images_{number % 3 + 1:03d}" / "images"
        target.mkdir(parents=True, exist_ok=True)
        path.rename(target / path.name)
    (root / "images").rmdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_nih(tmp_path, tmp_path / "cache").fingerprint() == whole


def fill_with_rubbish(folder):
    """What no image folder should hold."""
    socket.socket(socket.AF_UNIX).bind(os.path.relpath(folder / "socket.jpeg"))
    (folder / "folder.jpeg").mkdir()
    (folder / "loop").symlink_to(folder)
    (folder / "self.jpeg").symlink_to("self.jpeg")
    (folder / "up").symlink_to("../..")
    strange = folder / os.fsdecode(b"\xff")
    strange.mkdir()
    (strange / os.fsdecode(b"\xfe.jpeg")).touch()
    (folder / "/".join(["d"] * (DEEPEST_FILE + 2))).mkdir(parents=True)


@pytest.mark.timeout(60)
def test_whatever_lies_in_a_folder_is_named_and_nothing_hangs(tmp_path, monkeypatch):
    root = oct_archive(tmp_path / "data/OCT2017", 1)
    monkeypatch.chdir(root)
    fill_with_rubbish(root / "train" / "CNV")
    catalogue = load_oct(tmp_path / "data", tmp_path / "cache")
    assert len(catalogue) == 16 and {name.split("/", 2)[2][:11]: why for name, why in reasons(catalogue).items()} == {
        "socket.jpeg": "not a file but a pipe, socket or device",
        "self.jpeg": "cannot be opened: Too many levels of symbolic links",
        "\\udcff/\\udc": "cannot be opened: its name is not UTF-8",
        "d/d/d/d/d/d": "cannot be opened: Is a directory",
    }
    assert scan(root / "train/CNV/CNV-1000-1.jpeg", tmp_path / "cache")[0].empty


def test_the_check_says_what_lies_there_in_one_screen(tmp_path, capsys):
    data = tmp_path / "data"
    root = oct_archive(data / "OCT2017 ", 2)
    shutil.copy(root / "test/CNV/CNV-2000-1.jpeg", root / "train/CNV/CNV-2000-3.jpeg")
    (root / "train/CNV/CNV-2-1.jpeg").write_bytes(b"")
    for number in range(3000):
        (data / f"stray {number}.txt").touch()
    nih = nih_archive(data)
    shutil.copytree(nih / "images", nih / "images-224")
    assert main(["check", f"DATA_DIR={data}"]) == 0
    screen = capsys.readouterr().out
    for part in (
        "oct (notebooks 00 01 02 03 04 05 06 10 14): Kermany OCT images in OCT2017",
        "33 images; set aside: 1 0 bytes (CNV-2-1.jpeg)",
        "LEAK: 1 patients of the test folder, and 1 of its files, are in train too",
        "16 of the 112,120 images",
        "has images (16 files), images-224 (16 files): only images is read",
        "NOT THERE: no OCTID images",
        "and 2,994 more",
    ):
        assert part in " ".join(screen.split())
    assert screen.count("\n") <= 40 and max(map(len, screen.splitlines())) <= 118
    oct_archive(data / "second", 1)
    assert main(["check", f"DATA_DIR={data}"]) == 1 and "NOT USABLE: 2 copies" in capsys.readouterr().out
