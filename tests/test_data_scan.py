"""The scan: every file is looked at once, strays are no data, and what changed is read again."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_data import picture

from helpers.data import scan as scan_module
from helpers.data.images import average_hash
from helpers.data.scan import Place, fingerprint, scan


@pytest.fixture
def folder(tmp_path):
    for name in ("a/1.png", "a/2.png", "3.png"):
        picture(tmp_path / "images" / name)
    return tmp_path / "images"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def examined(monkeypatch):
    """The names of files that are really read."""
    names, original = [], scan_module.examine
    monkeypatch.setattr(scan_module, "examine", lambda path: names.append(path.name) or original(path))
    return names


def test_each_file_is_described_whatever_the_number_of_threads(folder, cache):
    frame, excluded = scan(folder, cache, workers=2)
    assert list(frame["path"]) == ["3.png", "a/1.png", "a/2.png"]
    row = frame.iloc[1]
    assert row["digest"] == hashlib.sha256((folder / "a/1.png").read_bytes()).hexdigest()
    assert (row["width"], row["height"], row["mode"]) == (24, 20, "L")
    assert row["average_hash"] == average_hash(np.asarray(Image.open(folder / "a/1.png")))
    assert excluded.empty and list(excluded.columns) == ["path", "reason"]
    assert frame.equals(scan(folder, cache / "other", workers=4)[0])
    assert list(scan(folder, cache, under=["a", "nowhere"])[0]["path"]) == ["a/1.png", "a/2.png"]


def test_unreadable_files_are_set_aside_with_the_reason(folder, cache):
    (folder / "a/empty.jpeg").write_bytes(b"")
    (folder / "a/note.txt").write_text("not a scan")
    whole = (folder / "3.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "a/pipe.png")
    (folder / "a/zeros.png").symlink_to("/dev/zero")
    with (folder / "a/huge.png").open("wb") as sparse:
        sparse.truncate(10**12)
    Path(os.fsdecode(os.fsencode(folder / "a") + b"/\xe9t\xe9.png")).write_bytes(whole)
    frame, excluded = scan(folder, cache)
    assert len(frame) == 3 and excluded.set_index("path")["reason"].to_dict() == {
        "a/huge.png": "1,000,000,000,000 bytes, more than any image of 64,000,000 pixels",
        "a/pipe.png": "not a file but a pipe, socket or device",
        "a/zeros.png": "not a file but a pipe, socket or device",
        "a/\\udce9t\\udce9.png": "cannot be opened: its name is not UTF-8",
        "a/empty.jpeg": "0 bytes",
        "a/note.txt": "not an image",
        "cut.png": "truncated",
        "gone.png": "cannot be opened: No such file or directory",
    }
    assert fingerprint([folder, folder / "a/pipe.png"], cache)  # nor does it wait for the pipe


def test_strays_are_neither_data_nor_errors_and_a_hidden_folder_above_the_data_does_not_hide_it(folder, cache):
    strays = ("._1.png", ".DS_Store", "a/._2.png", "a/Thumbs.db", "__MACOSX/a/1.png", ".git/x.png", "desktop.ini")
    for name in strays:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes((folder / "3.png").read_bytes())
    hidden = folder.rename(folder.with_name(".hidden"))
    frame, excluded = scan(hidden, cache)
    assert len(frame) == 3 and excluded.empty


def test_only_what_changed_is_read_again_and_what_is_deleted_leaves_the_scan(folder, cache, examined):
    first = scan(folder, cache)
    del examined[:]
    second = scan(folder, cache)
    assert examined == [] and first[0].equals(second[0]) and first[1].equals(second[1])
    (folder / "3.png").write_bytes(picture(folder.parent / "other.png").read_bytes())
    os.utime(folder / "a/2.png", ns=(1, 1))  # the same size, another time
    (folder / "a/1.png").unlink()
    assert list(scan(folder, cache)[0]["path"]) == ["3.png", "a/2.png"] and sorted(examined) == ["2.png", "3.png"]


def test_a_killed_scan_goes_on_where_it_stopped(folder, cache, examined, monkeypatch):
    monkeypatch.setattr(scan_module, "SAVE_EVERY", 1)
    reading = scan_module.examine

    def dies_at_2(path):
        if path.name == "2.png":
            raise KeyboardInterrupt
        return reading(path)

    monkeypatch.setattr(scan_module, "examine", dies_at_2)
    with pytest.raises(KeyboardInterrupt):
        scan(folder, cache, workers=1)
    monkeypatch.setattr(scan_module, "examine", reading)
    del examined[:]
    assert len(scan(folder, cache)[0]) == 3 and examined == ["2.png"]


def test_where_the_cache_is_damaged_everything_is_read_again(folder, cache, examined):
    first, _ = scan(folder, cache)
    (store,) = cache.rglob("*.parquet")
    store.write_bytes(b"PAR1 not really")
    assert scan(folder, cache)[0].equals(first) and len(examined) == 6


def test_linked_folders_are_followed_and_loops_end(folder, cache, tmp_path):
    picture(tmp_path / "disk" / "4.png")
    (folder / "b").symlink_to(tmp_path / "disk")
    (folder / "a" / "loop").symlink_to(folder)
    assert list(scan(folder, cache)[0]["path"]) == ["3.png", "a/1.png", "a/2.png", "b/4.png"]


def test_a_fingerprint_changes_with_names_contents_and_what_is_missing_not_with_the_place(folder, cache, tmp_path):
    extra = tmp_path / "table.csv"
    seen = [fingerprint([folder, extra], cache)]
    for change in (
        lambda: extra.write_text("a"),
        lambda: extra.write_text("b"),
        lambda: (folder / "3.png").rename(folder / "4.png"),
        lambda: (folder / "a" / "2.png").unlink(),
    ):
        change()
        seen.append(fingerprint([folder, extra], cache))
    assert len(set(seen)) == 5
    (folder / ".DS_Store").write_text("Mac OS X")
    os.utime(folder / "4.png", ns=(1, 1))
    (tmp_path / "elsewhere").mkdir()
    moved = folder.rename(tmp_path / "elsewhere" / "images")
    assert fingerprint([moved, extra], cache) == fingerprint([moved, extra], cache / "other") == seen[-1]


def test_what_a_data_set_is_read_from_is_listed_where_it_exists(folder):
    place = Place("pictures", ("*.png",), ("a/", "*.png"), "pictures")
    assert place.read_from(folder.parent) == [folder / "3.png", folder / "a"] and place.find(folder.parent) == folder
