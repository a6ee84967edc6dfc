"""Downloads against a local server that behaves badly in the ways real ones do, and archives that are hostile."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import stat
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.data import download
from helpers.data.check import real_places
from helpers.data.download import (
    DATASETS,
    MARKER,
    DownloadError,
    fetch,
    fetch_dataset,
    fetch_place,
    read_datasets,
)
from helpers.data.kermany_images import OCT, XRAY
from helpers.run.profile import load_profile

pytestmark = pytest.mark.filterwarnings("ignore:.*no checksum is published")
IMAGES = {
    "OCT2017/train/CNV/CNV-1-1.jpeg": hashlib.shake_256(b"a").digest(300_000),  # does not compress
    "OCT2017/test/CNV/CNV-2-1.jpeg": b"b",
}
STRAYS = dict.fromkeys(["OCT2017/train/CNV/._CNV-1-1.jpeg", "._OCT2017", "__MACOSX/x.jpeg", "OCT2017/.DS_Store"], b"s")


def make_tar(members: dict[str, bytes], links: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for link in links:
            archive.addfile(link)
    return out.getvalue()


def make_zip(members: dict[str | zipfile.ZipInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


ARCHIVE = make_tar(IMAGES | STRAYS)
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves the server's `body`; `seen` lists the requests as (range, if-range), `sent` counts bytes."""

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        server, start, total = self.server, 0, len(self.server.body)
        server.seen.append((self.headers.get("Range"), self.headers.get("If-Range")))
        if server.silent:
            return server.silent.wait(5)
        if server.statuses:
            return self.answer(server.statuses.pop(0))
        if server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(re.findall(r"\d+", self.headers["Range"])[0])
        if start >= total:
            return self.answer(416)
        content = server.body[start:][: server.cut]
        server.sent += len(content)
        self.answer(206 if start else 200, content, total - start)

    def answer(self, status: int, content: bytes = b"", length: int = 0) -> None:
        self.send_response(status)
        headers = {"ETag": self.server.etag, "Content-Type": self.server.kind, "Content-Length": str(length)}
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, value in {"STALLS": 3, "WAIT": 0.0, "TIMEOUT": 2.0}.items():
        monkeypatch.setattr(download, name, value)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.body, running.etag, running.kind = ARCHIVE, '"one"', "application/gzip"
        running.ranges, running.cut = True, None  # honours Range; closes the connection after that many bytes of body
        running.statuses, running.silent = [], None  # answered first, one per request; answers nothing until it is set
        running.seen, running.sent, running.url = [], 0, f"http://127.0.0.1:{running.server_address[1]}/file"
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def get(server, tmp_path):
    """get(key=value...) -> fetch_dataset() of the test data set, with facts of its file changed (None: not known)."""

    def call(data_dir: Path = tmp_path / "data", **changes) -> Path:
        facts = {"name": "OCT2017.tar.gz", "url": server.url, "unpacks_to": "OCT2017"}
        facts |= {"size": len(ARCHIVE), "sha256": DIGEST} | changes
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in facts.items() if value is not None)
        card = f'[oct]\npage = "https://example.org/oct"\nfolder = "OCT2017"\n[[oct.files]]\n{lines}\n'
        place = tmp_path / f"facts-{threading.get_ident()}.toml"  # one per thread
        place.write_text(card)
        return fetch_dataset("oct", data_dir, place, progress=False)

    return call


def held(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder.parent).as_posix(): path.read_bytes() for path in files}


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".oct.lock"} if folder.exists() else set()


def test_it_is_fetched_checked_and_unpacked_once_whatever_the_number_of_threads(server, get, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        (folder,) = {one.result() for one in [pool.submit(get) for _ in range(4)]}
    assert folder == tmp_path / "data" / "OCT2017" and held(folder) == IMAGES
    assert left(folder.parent) == {"OCT2017", "OCT2017.tar.gz"}
    assert json.loads((folder / MARKER).read_text())["sha256"] == DIGEST
    (folder.parent / "OCT2017.tar.gz").unlink()
    assert get() == folder and len(server.seen) == 1


def test_cut_connections_are_resumed_where_they_broke(server, get):
    server.cut = 50_000
    assert held(get()) == IMAGES
    starts = [int(re.findall(r"\d+", asked)[0]) for asked, _ in server.seen[1:]]
    assert starts == [50_000 * i for i in range(1, len(server.seen))] and len(starts) == len(ARCHIVE) // 50_000
    assert {validator for _, validator in server.seen[1:]} == {'"one"'} and server.sent == len(ARCHIVE)


def test_a_later_run_goes_on_from_the_partial_file(server, get, tmp_path):
    server.cut, server.ranges = 100_000, False
    with pytest.raises(DownloadError, match="gave up.* 100,000 bytes of it are kept"):
        get()
    assert left(tmp_path / "data") == {"OCT2017.tar.gz.part", "OCT2017.tar.gz.validator"}
    server.cut, server.ranges, server.sent = None, True, 0
    assert held(get()) == IMAGES and server.sent == len(ARCHIVE) - 100_000
    assert server.seen[-1] == ("bytes=100000-", '"one"')


def test_halves_of_two_files_are_not_joined(server, get):
    server.cut, server.ranges, server.etag = 100_000, False, '"old"'
    server.body = b"\x1f\x8b" + os.urandom(len(ARCHIVE) - 2)
    with pytest.raises(DownloadError):
        get()
    server.cut, server.ranges, server.body, server.etag, server.sent = None, True, ARCHIVE, '"one"', 0
    assert held(get()) == IMAGES and server.sent == len(ARCHIVE)


def test_a_busy_server_is_asked_again_a_refusal_reported_and_silence_given_up_on(server, get, tmp_path, monkeypatch):
    server.statuses = [503, 429]
    assert held(get()) == IMAGES and len(server.seen) == 3
    shutil.rmtree(tmp_path / "data")
    server.statuses = [403]
    with pytest.raises(DownloadError, match="(?s)HTTP 403.*By hand: open https://example.org/oct"):
        get()
    server.silent = threading.Event()
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    with pytest.raises(DownloadError, match="gave up: .*ReadTimeout"):
        fetch(server.url, tmp_path / "x.tar.gz", progress=False)
    server.silent.set()


PAGE = b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (PAGE, "text/html", r"a web page \('Sign in'\), perhaps a login.*put OCT2017.tar.gz into"),
        (b"PK\3\4 a zip", "application/gzip", "does not begin like such a file"),
        (ARCHIVE + bytes(50_000), "application/gzip", f"expected {len(ARCHIVE):,} bytes; the server sends more"),
        (ARCHIVE[:-1] + bytes([ARCHIVE[-1] ^ 1]), "application/gzip", f"expected .*SHA-256 {DIGEST}; got "),
        (ARCHIVE[:-1000], "application/gzip", f"expected {len(ARCHIVE):,} bytes; the server's file has"),
    ],
    ids=["web page", "another format", "longer", "changed", "shorter"],  # the archive holds the time of day
)
def test_another_file_than_the_one_expected_is_named_and_not_kept(server, get, tmp_path, body, kind, message):
    server.body, server.kind = body, kind
    with pytest.raises(DownloadError, match=f"(?s){message}"):
        get()
    assert left(tmp_path / "data") == set()


def test_what_lies_there_already_is_used_or_refused_with_the_remedy(server, get, tmp_path):
    (tmp_path / "data").mkdir()
    archive = tmp_path / "data" / "OCT2017.tar.gz"
    archive.write_bytes(ARCHIVE[:-1] + b"?")
    with pytest.raises(DownloadError, match="got .* Move it away and run again"):
        get()
    archive.write_bytes(ARCHIVE)
    assert held(get()) == IMAGES and server.seen == []
    (tmp_path / "data" / "OCT2017" / MARKER).unlink()
    with pytest.warns(UserWarning, match="used as found, unchecked"):
        get()
    (tmp_path / "OCT2017" / "train").mkdir(parents=True)
    with pytest.raises(DownloadError, match=f"give {tmp_path}, not"):
        get(data_dir=tmp_path / "OCT2017")


def test_too_small_a_disk_is_named_before_anything_is_asked(server, get, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=12_000_000_000))
    with pytest.raises(DownloadError, match=r"needs about 12\.7 GB more in .*12\.0 GB are free.*DATA_DIR="):
        get(size=5_793_183_169)
    assert server.seen == []


# --- unpacking ---


@pytest.fixture(params=["tar.gz", "zip"])
def unpacked(request, tmp_path):
    """unpacked(members) -> what an archive of each kind in turn unpacks to."""

    def call(members: dict, change=lambda content: content, **options) -> dict[str, bytes]:
        archive = tmp_path / f"archive.{request.param}"
        archive.write_bytes(change((make_tar if request.param == "tar.gz" else make_zip)(members)))
        download.unpack(archive, tmp_path / "data" / "OCT2017", **options)
        return held(tmp_path / "data" / "OCT2017")

    return call


BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError, gzip.zlib.error)


def test_all_files_arrive_without_the_strays_of_file_managers(unpacked):
    assert unpacked({f"./{name}": content for name, content in (IMAGES | STRAYS).items()}) == IMAGES


@pytest.mark.parametrize("name", ["../evil", "OCT2017/../../evil", "/evil"])
def test_no_name_leaves_the_folder(unpacked, tmp_path, name):
    with contextlib.suppress(tarfile.FilterError):  # a tar is refused as a whole
        unpacked(IMAGES | {name: b"evil"})
    assert all(tmp_path / "data" / "OCT2017" in path.parents for path in tmp_path.rglob("evil*"))
    assert left(tmp_path / "data") <= {"OCT2017"} and not Path("/evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_no_link_leads_outside(tmp_path, kind):
    (tmp_path / "secret").write_text("secret")
    link = tarfile.TarInfo("OCT2017/door")
    link.type, link.linkname = kind, str(tmp_path / "secret")
    (tmp_path / "a.tar.gz").write_bytes(make_tar(IMAGES, (link,)))
    with pytest.raises(tarfile.FilterError):
        download.unpack(tmp_path / "a.tar.gz", tmp_path / "OCT2017")
    info = zipfile.ZipInfo("OCT2017/door")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    (tmp_path / "a.zip").write_bytes(make_zip({info: str(tmp_path / "secret").encode()}))
    download.unpack(tmp_path / "a.zip", tmp_path / "OCT2017")
    assert not (tmp_path / "OCT2017" / "door").is_symlink()


def test_a_bomb_is_refused_before_it_fills_the_disk(unpacked, tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="unpacks to"):
        unpacked({"OCT2017/zeros": bytes(210_000_000)})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=200_000))
    with pytest.raises(RuntimeError, match="unpacks to .*at most 200,000"):
        unpacked(IMAGES)
    assert left(tmp_path / "data") == set()


@pytest.mark.parametrize("joint", [0, 1])
def test_a_truncated_archive_or_a_flipped_bit_is_found(unpacked, tmp_path, joint):
    def damage(content: bytes) -> bytes:
        middle = len(content) // 2
        return content[:middle] + joint * (bytes([content[middle] ^ 1]) + content[middle + 1 :])

    with pytest.raises(BROKEN):
        unpacked(IMAGES, damage)
    assert left(tmp_path / "data") == set()


def test_an_archive_without_the_folder_is_refused_unless_it_is_flat(unpacked):
    with pytest.raises(RuntimeError, match="it holds a.jpeg, not OCT2017"):
        unpacked({"a.jpeg": b"a"})
    assert unpacked({"a.jpeg": b"a"}, flat=True) == {"OCT2017/a.jpeg": b"a"}


# --- the facts, and the profiles ---


def test_the_committed_facts_are_complete():
    cards = read_datasets()
    files = [file for card in cards.values() for file in card["files"]]
    assert all(card["licence"] and card["page"].startswith("https://") for card in cards.values())
    assert all(not file.url or file.url.startswith("https://") for file in files)
    places = [place for file in files for place in (file.name, file.unpacks_to or file.name)]
    assert all(re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", place) for place in places)
    text = (DATASETS.parent / "README.md").read_text()
    assert [name for name in cards if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kermany-v2-octs", "did you mean kermany-v2-oct"),
        ("nih-chestxray14", "no address.*By hand: open https://nihcc.app.box.com"),
        ("octid", "no address that a program can use.*By hand.*dataverse"),
    ],
)
def test_a_data_set_that_cannot_be_fetched_says_what_to_do(tmp_path, name, message):
    with pytest.raises(DownloadError, match=f"(?s){message}"):
        fetch_dataset(name, tmp_path)


def test_make_data_fetches_what_the_loader_does_not_find_and_nothing_else(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(download, "fetch_dataset", lambda name, folder: asked.append(name))
    places = [place for found in real_places(load_profile("paper")).values() for place in found]
    assert real_places(load_profile("phantom")) == {}
    assert [fetch_place(place, tmp_path) for place in dict.fromkeys(places)] == [1, 1, 1, 0, 0, 0]  # none was brought
    assert asked == ["kermany-v2-oct", "kermany-v2-xray", "open-i"]
    assert "there, and note the commit" in capsys.readouterr().err
    (tmp_path / "ZhangLabData.zip").touch()
    (tmp_path / "x/OCT2017 /train/cnv").mkdir(parents=True)
    assert fetch_place(OCT, tmp_path) == 0 and "ready" in capsys.readouterr().out
    fetch_place(XRAY, tmp_path)
    assert asked[3:] == ["kermany-v3"]
    assert fetch_place(XRAY, tmp_path / "x/OCT2017 ", [OCT]) == 1 and "OCT images alone" in capsys.readouterr().err
    assert len(asked) == 4
