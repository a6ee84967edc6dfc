"""The scan: every file is looked at once, strays are no data, and what changed is read again."""

import hashlib
import os

import numpy as np
import pytest
from PIL import Image

from helpers.data import scan as scan_module
from helpers.data.images import average_hash
from helpers.data.scan import ScanError, existing, fingerprint, scan


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "images"
    (root / "a").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "3.png"):
        Image.fromarray(rng.integers(0, 255, (40, 60), dtype=np.uint8)).save(root / name)
    return root


@pytest.fixture
def examined(monkeypatch):
    """The names of files that are really read."""
    names, original = [], scan_module.examine
    monkeypatch.setattr(scan_module, "examine", lambda path: names.append(path.name) or original(path))
    return names


def test_each_file_is_described(folder, tmp_path):
    frame, excluded = scan(folder, tmp_path / "cache", workers=2)
    assert list(frame["path"]) == ["3.png", "a/1.png", "a/2.png"]
    row = frame.iloc[1]
    assert row["digest"] == hashlib.sha256((folder / "a/1.png").read_bytes()).hexdigest()
    assert (row["width"], row["height"], row["mode"]) == (60, 40, "L")
    assert row["average_hash"] == average_hash(np.asarray(Image.open(folder / "a/1.png")))
    assert excluded.empty and list(excluded.columns) == ["path", "reason"]


def test_unreadable_files_are_set_aside_with_the_reason(folder, tmp_path):
    (folder / "a/empty.jpeg").write_bytes(b"")
    (folder / "a/note.txt").write_text("not a scan")
    whole = (folder / "3.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    frame, excluded = scan(folder, tmp_path / "cache")
    reasons = dict(zip(excluded["path"], excluded["reason"], strict=True))
    assert reasons == {
        "a/empty.jpeg": "0 bytes",
        "a/note.txt": "not an image",
        "cut.png": "truncated",
        "gone.png": "cannot be opened: No such file or directory",
    }
    assert len(frame) == 3


@pytest.mark.parametrize(
    "name", ["._1.png", ".DS_Store", "a/._2.png", "a/Thumbs.db", "__MACOSX/a/1.png", ".git/x.png", "desktop.ini"]
)
def test_strays_are_neither_data_nor_errors(folder, tmp_path, name):
    (folder / name).parent.mkdir(exist_ok=True, parents=True)
    (folder / name).write_bytes((folder / "3.png").read_bytes())
    frame, excluded = scan(folder, tmp_path / "cache")
    assert len(frame) == 3 and excluded.empty


def test_a_hidden_folder_above_the_data_does_not_hide_it(tmp_path):
    root = tmp_path / ".hidden"
    root.mkdir()
    Image.new("L", (20, 20)).save(root / "1.png")
    assert len(scan(root, tmp_path / "cache")[0]) == 1


def test_when_nothing_changed_nothing_is_read(folder, tmp_path, examined):
    first = scan(folder, tmp_path / "cache")
    del examined[:]
    second = scan(folder, tmp_path / "cache")
    assert examined == []
    assert first[0].equals(second[0]) and first[1].equals(second[1])


def test_when_a_file_changed_only_that_one_is_read_again(folder, tmp_path, examined):
    before, _ = scan(folder, tmp_path / "cache")
    (folder / "3.png").write_bytes((folder / "a/1.png").read_bytes())
    os.utime(folder / "a/2.png", ns=(1, 1))  # the same size, another time
    del examined[:]
    after, _ = scan(folder, tmp_path / "cache")
    assert sorted(examined) == ["2.png", "3.png"]
    assert after["digest"][0] == before["digest"][1]


def test_when_a_file_is_deleted_it_leaves_the_scan(folder, tmp_path):
    scan(folder, tmp_path / "cache")
    (folder / "3.png").unlink()
    assert list(scan(folder, tmp_path / "cache")[0]["path"]) == ["a/1.png", "a/2.png"]


def test_a_killed_scan_goes_on_where_it_stopped(folder, tmp_path, examined, monkeypatch):
    monkeypatch.setattr(scan_module, "SAVE_EVERY", 1)
    reading = scan_module.examine

    def dies_at_2(path):
        if path.name == "2.png":
            raise KeyboardInterrupt
        return reading(path)

    monkeypatch.setattr(scan_module, "examine", dies_at_2)
    with pytest.raises(KeyboardInterrupt):
        scan(folder, tmp_path / "cache", workers=1)
    monkeypatch.setattr(scan_module, "examine", reading)
    del examined[:]
    assert len(scan(folder, tmp_path / "cache")[0]) == 3
    assert examined == ["2.png"]


def test_a_file_that_could_not_be_opened_is_tried_again(folder, tmp_path, examined):
    (folder / "later.png").symlink_to(tmp_path / "disk.png")
    assert len(scan(folder, tmp_path / "cache")[1]) == 1
    del examined[:]
    scan(folder, tmp_path / "cache")
    assert examined == ["later.png"]


def test_a_damaged_cache_is_an_error_that_names_the_file(folder, tmp_path):
    scan(folder, tmp_path / "cache")
    (store,) = (tmp_path / "cache").rglob("*.parquet")
    store.write_bytes(b"PAR1 not really")
    with pytest.raises(ScanError, match=f"{store.name}.*delete it"):
        scan(folder, tmp_path / "cache")


def test_the_number_of_threads_changes_nothing(folder, tmp_path):
    one, four = (scan(folder, tmp_path / f"cache{n}", workers=n)[0] for n in (1, 4))
    assert one.equals(four)


def test_an_empty_folder_gives_empty_frames(tmp_path):
    frame, excluded = scan(tmp_path / "nothing", tmp_path / "cache")
    assert frame.empty and excluded.empty and "digest" in frame


def test_only_the_folders_asked_for_are_scanned(folder, tmp_path):
    assert list(scan(folder, tmp_path / "cache", under=["a"])[0]["path"]) == ["a/1.png", "a/2.png"]


def test_linked_folders_are_followed_and_loops_end(folder, tmp_path):
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    Image.new("L", (20, 20)).save(elsewhere / "4.png")
    (folder / "b").symlink_to(elsewhere)
    (folder / "a" / "loop").symlink_to(folder)
    assert list(scan(folder, tmp_path / "cache")[0]["path"]) == ["3.png", "a/1.png", "a/2.png", "b/4.png"]


def test_a_fingerprint_changes_with_a_name_a_content_and_what_is_missing_and_not_with_the_place(folder, tmp_path):
    cache, extra = tmp_path / "cache", tmp_path / "table.csv"
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
    moved = tmp_path / "elsewhere" / "images"
    moved.parent.mkdir()
    folder.rename(moved)
    assert fingerprint([moved, extra], cache) == fingerprint([moved, extra], tmp_path / "other") == seen[-1]


def test_only_files_whose_size_or_time_changed_are_hashed_again(folder, tmp_path, monkeypatch):
    fingerprint([folder], tmp_path / "cache")
    hashed, original = [], scan_module._sha256
    monkeypatch.setattr(scan_module, "_sha256", lambda path: hashed.append(path.name) or original(path))
    assert fingerprint([folder], tmp_path / "cache") and hashed == []
    os.utime(folder / "3.png", ns=(1, 1))
    fingerprint([folder], tmp_path / "cache")
    assert hashed == ["3.png"]
    (tmp_path / "cache" / "digests.json").write_text("damaged")
    fingerprint([folder], tmp_path / "cache")
    assert len(hashed) == 4


def test_what_a_data_set_is_read_from_is_listed_where_it_exists(folder):
    assert existing(folder.parent, ("images", "nowhere"), ("a", "*.png")) == [folder / "3.png", folder / "a"]
