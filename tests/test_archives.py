"""Unpacking: what is in the archive arrives whole, and nothing else happens to the disk."""

import gzip
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.data.archives import MARKER, ArchiveError, Limits, begins_like, read_marker, safe_parts, unpack

IMAGES = {
    "OCT2017/train/CNV/CNV-1-1.jpeg": b"\xff\xd8 one",
    "OCT2017/train/CNV/CNV-1-2.jpeg": b"\xff\xd8 two" * 1000,
    "OCT2017/test/NORMAL/NORMAL-9-1.jpeg": b"\xff\xd8 three",
}
NOISE = os.urandom(200_000)  # does not compress


def make_tar(path: Path, members: dict, mode: str = "w:gz") -> Path:
    """An archive of name -> bytes, or name -> a TarInfo's changes (type, linkname) for a member without content."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                for key, value in content.items():
                    setattr(info, key, value)
                archive.addfile(info)
    return path


def make_zip(path: Path, members: dict) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


MAKERS = {"tar.gz": make_tar, "zip": make_zip}


@pytest.fixture(params=MAKERS)
def make(request, tmp_path):
    """make(members) -> an archive of each kind in turn."""
    return lambda members: MAKERS[request.param](tmp_path / f"archive.{request.param}", members)


def quiet(archive: Path, target: Path, **options):
    return unpack(archive, target, progress=False, **options)


def held(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder.parent).as_posix(): path.read_bytes() for path in files}


def nothing_else(folder: Path, *names: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_all_files_arrive_and_the_marker_says_what_was_done(make, tmp_path):
    archive = make(IMAGES)
    tally = quiet(archive, tmp_path / "OCT2017", note={"sha256": "ab"})
    assert held(tmp_path / "OCT2017") == IMAGES
    marker = read_marker(tmp_path / "OCT2017")
    assert (tally.files, marker["files"], marker["bytes"]) == (3, 3, sum(map(len, IMAGES.values())))
    assert marker["sha256"] == "ab"
    assert nothing_else(tmp_path, archive.name, "OCT2017")


def test_a_leading_dot_slash_and_folder_members_are_fine(tmp_path):
    folder = {"type": tarfile.DIRTYPE, "mode": 0o000}
    members = {"./": folder, "./OCT2017": folder, "./OCT2017/train": folder, "./OCT2017/train/a.jpeg": b"a"}
    quiet(make_tar(tmp_path / "a.tar.gz", members), tmp_path / "OCT2017")
    assert held(tmp_path / "OCT2017") == {"OCT2017/train/a.jpeg": b"a"}


def test_strays_of_file_managers_are_left_out(make, tmp_path):
    strays = ["OCT2017/train/CNV/._CNV-1-1.jpeg", "._OCT2017", "__MACOSX/OCT2017/x.jpeg", "OCT2017/.DS_Store"]
    tally = quiet(make(IMAGES | dict.fromkeys(strays, b"stray")), tmp_path / "OCT2017")
    assert held(tmp_path / "OCT2017") == IMAGES
    assert tally.strays == 4 and tally.skipped == []


@pytest.mark.parametrize(
    "name", ["../evil", "OCT2017/../../evil", "/tmp/evil", "OCT2017\\..\\evil", "C:/evil", "OCT2017/train/.."]
)
def test_a_name_that_leaves_the_folder_refuses_the_whole_archive(make, tmp_path, name):
    (tmp_path / "data").mkdir()
    with pytest.raises(ArchiveError, match="outside the target folder"):
        quiet(make(IMAGES | {name: b"evil"}), tmp_path / "data" / "OCT2017")
    assert nothing_else(tmp_path / "data")
    assert not list(tmp_path.rglob("evil*"))


def test_a_nul_in_a_name_is_refused():
    with pytest.raises(ArchiveError):
        safe_parts("OCT2017/a.jpeg\0.exe")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_no_link_of_a_tar_is_made_or_followed(tmp_path, kind, caplog):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    members = IMAGES | {
        "OCT2017/door": {"type": kind, "linkname": str(outside)},
        "OCT2017/secret": {"type": kind, "linkname": str(outside / "secret")},
        "OCT2017/door/evil": b"evil",  # were the link made, this would be written through it
    }
    tally = quiet(make_tar(tmp_path / "a.tar.gz", members), tmp_path / "OCT2017")
    assert tally.skipped == [(f"OCT2017/{name}", "a link, not a file") for name in ("door", "secret")]
    assert "skipped 2 members" in caplog.text
    assert not any(path.is_symlink() for path in (tmp_path / "OCT2017").rglob("*"))
    assert nothing_else(outside, "secret")
    assert (tmp_path / "OCT2017/door/evil").read_bytes() == b"evil"


def test_no_link_of_a_zip_is_made(tmp_path):
    link = zipfile.ZipInfo("OCT2017/door")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc")
        archive.writestr("OCT2017/a.jpeg", b"a")
    tally = quiet(tmp_path / "a.zip", tmp_path / "OCT2017")
    assert tally.skipped == [("OCT2017/door", "a link, not a file")]
    assert held(tmp_path / "OCT2017") == {"OCT2017/a.jpeg": b"a"}


def test_devices_and_pipes_are_skipped(tmp_path):
    members = IMAGES | {"OCT2017/pipe": {"type": tarfile.FIFOTYPE}, "OCT2017/disk": {"type": tarfile.BLKTYPE}}
    tally = quiet(make_tar(tmp_path / "a.tar.gz", members), tmp_path / "OCT2017")
    assert len(tally.skipped) == 2 and held(tmp_path / "OCT2017") == IMAGES


def test_modes_of_the_archive_are_not_taken_over(tmp_path):
    info = tarfile.TarInfo("OCT2017/tool")
    info.size, info.mode = 2, 0o4777
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.addfile(info, io.BytesIO(b"#!"))
    quiet(tmp_path / "a.tar.gz", tmp_path / "OCT2017")
    assert (tmp_path / "OCT2017/tool").stat().st_mode & 0o6111 == 0


def test_the_first_of_two_members_of_one_name_stays(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for content in (b"first", b"second"):
            info = tarfile.TarInfo("OCT2017/a.jpeg")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    tally = quiet(tmp_path / "a.tar.gz", tmp_path / "OCT2017")
    assert held(tmp_path / "OCT2017") == {"OCT2017/a.jpeg": b"first"}
    assert tally.skipped == [("OCT2017/a.jpeg", "a second member of that name")]


def test_a_file_that_is_also_a_folder_is_refused(make, tmp_path):
    with pytest.raises(ArchiveError, match="a file and a folder of one name"):
        quiet(make({"OCT2017/a": b"file", "OCT2017/a/b": b"below it"}), tmp_path / "OCT2017")


def test_a_bomb_of_zeros_is_refused_by_its_ratio(make, tmp_path):
    limits = Limits(max_bytes=10**12)
    with pytest.raises(ArchiveError, match="more than 100 times its size"):
        quiet(make({"OCT2017/zeros": bytes(15_000_000)}), tmp_path / "OCT2017", limits=limits)
    assert not (tmp_path / "OCT2017").exists() and not list(tmp_path.glob(".unpacking-*"))


def test_a_bomb_among_the_strays_is_refused_too(tmp_path):
    with pytest.raises(ArchiveError, match="times its size"):
        quiet(make_tar(tmp_path / "a.tar.gz", {"._bomb": bytes(15_000_000)}), tmp_path / "OCT2017")


def test_more_bytes_than_allowed_are_refused(make, tmp_path):
    members = {f"OCT2017/{i}": NOISE for i in range(5)}
    with pytest.raises(ArchiveError, match="unpacks to"):
        quiet(make(members), tmp_path / "OCT2017", limits=Limits(max_bytes=900_000))
    quiet(make(members), tmp_path / "OCT2017", limits=Limits(max_bytes=1_000_000))


def test_a_zip_that_tells_too_many_bytes_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.data.archives._copy", lambda *args: pytest.fail("wrote"))
    archive = make_zip(tmp_path / "a.zip", {"OCT2017/a": b"a", "OCT2017/b": NOISE})
    with pytest.raises(ArchiveError, match="at most 1,000 are allowed"):
        quiet(archive, tmp_path / "OCT2017", limits=Limits(max_bytes=1000))


@pytest.mark.parametrize("lie", [-1, 1])
def test_a_zip_that_lies_about_a_size_is_refused(tmp_path, lie):
    archive = make_zip(tmp_path / "a.zip", {"OCT2017/a": b"a" * 1000})
    content = bytearray(archive.read_bytes())
    at = content.index(b"PK\1\2") + 24  # the unpacked size in the directory
    content[at : at + 4] = (1000 + lie).to_bytes(4, "little")
    archive.write_bytes(content)
    with pytest.raises(ArchiveError):
        quiet(archive, tmp_path / "OCT2017")


def test_more_files_than_allowed_are_refused(make, tmp_path):
    with pytest.raises(ArchiveError, match="more than 10 members"):
        members = {f"OCT2017/{i}": b"" for i in range(11)}
        quiet(make(members), tmp_path / "OCT2017", limits=Limits(max_bytes=10**9, max_files=10))


def test_a_disk_that_fills_up_stops_the_unpacking(make, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=200_100_000))
    with pytest.raises(ArchiveError, match="disk is full"):
        quiet(make({"OCT2017/a": b"small", "OCT2017/b": NOISE}), tmp_path / "OCT2017")
    assert not (tmp_path / "OCT2017").exists() and not list(tmp_path.glob(".unpacking-*"))


def test_a_tar_header_that_claims_a_huge_file_is_refused(tmp_path):
    header = tarfile.TarInfo("OCT2017/huge")
    header.size = 10**12
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(header.tobuf()))
    with pytest.raises(ArchiveError, match="unpacks to more than"):
        quiet(tmp_path / "a.tar.gz", tmp_path / "OCT2017")


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.7, 0.999])
def test_a_truncated_archive_is_refused(make, tmp_path, keep):
    archive = make(IMAGES | {"OCT2017/noise": NOISE})
    content = archive.read_bytes()
    archive.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(ArchiveError):
        quiet(archive, tmp_path / "OCT2017")
    assert nothing_else(tmp_path, archive.name)


def test_a_flipped_bit_is_found(make, tmp_path):
    archive = make({"OCT2017/noise": NOISE})
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    with pytest.raises(ArchiveError):
        quiet(archive, tmp_path / "OCT2017")


def test_a_broken_header_in_the_middle_is_not_taken_for_the_end(tmp_path):
    plain = make_tar(tmp_path / "a.tar", {f"OCT2017/{i}": b"x" for i in range(9)}, "w")
    content = bytearray(plain.read_bytes())
    content[4 * 1024 : 4 * 1024 + 100] = b"?" * 100  # the fifth member's header
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content))
    with pytest.raises(ArchiveError, match="broken at byte 4,096"):
        quiet(tmp_path / "a.tar.gz", tmp_path / "OCT2017")


def test_an_encrypted_zip_is_refused_in_plain_words(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"OCT2017/a": b"a"})
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # the flag, in the local header and in the directory
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(ArchiveError, match="cannot be read"):
        quiet(archive, tmp_path / "OCT2017")


def test_another_top_folder_is_refused_and_named(make, tmp_path):
    with pytest.raises(ArchiveError, match="holds CellData, not a folder OCT2017"):
        quiet(make({"CellData/a": b"a"}), tmp_path / "OCT2017")


def test_a_flat_archive_becomes_the_folders_content(make, tmp_path):
    quiet(make({"a.png": b"a", "more/b.png": b"b"}), tmp_path / "open-i" / "png", flat=True)
    assert held(tmp_path / "open-i" / "png") == {"png/a.png": b"a", "png/more/b.png": b"b"}
    assert nothing_else(tmp_path / "open-i", "png")


def test_a_folder_that_is_there_is_never_written_into(make, tmp_path):
    (tmp_path / "OCT2017").mkdir()
    (tmp_path / "OCT2017" / "mine").write_text("mine")
    with pytest.raises(FileExistsError):
        quiet(make(IMAGES), tmp_path / "OCT2017")
    assert nothing_else(tmp_path / "OCT2017", "mine")


def test_an_unknown_kind_of_archive_is_refused(tmp_path):
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(ArchiveError, match=r"none of \.zip"):
        quiet(tmp_path / "a.rar", tmp_path / "OCT2017")


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from helpers.data import archives
copy, done = shutil.copyfileobj, []
def copy_two(*args):
    if len(done) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(copy(*args))
shutil.copyfileobj = copy_two
archives.unpack(Path(sys.argv[1]), Path(sys.argv[2]), progress=False)
"""


def test_a_killed_run_leaves_no_folder_and_the_next_one_finishes(tmp_path):
    archive = make_tar(tmp_path / "a.tar.gz", IMAGES)
    killed = subprocess.run([sys.executable, "-c", KILLED, archive, tmp_path / "OCT2017"], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert nothing_else(tmp_path, "a.tar.gz", ".unpacking-OCT2017")
    quiet(archive, tmp_path / "OCT2017")
    assert held(tmp_path / "OCT2017") == IMAGES
    assert nothing_else(tmp_path, "a.tar.gz", "OCT2017")


def test_a_folder_without_a_readable_marker_has_none(tmp_path):
    assert read_marker(tmp_path) is None
    (tmp_path / MARKER).write_text("{")
    assert read_marker(tmp_path) is None
    (tmp_path / MARKER).write_text(json.dumps({"files": 1}))
    assert read_marker(tmp_path) == {"files": 1}


def test_first_bytes_are_held_against_the_name():
    assert begins_like("a.zip", b"PK\3\4") and begins_like("a.tar.gz", b"\x1f\x8b\x08") and begins_like("a.csv", b"x")
    assert begins_like("a.zip", b"P")  # a first piece may be short
    assert not begins_like("a.zip", b"\x1f\x8b") and not begins_like("OCT2017.tar.gz", b"<html>")
