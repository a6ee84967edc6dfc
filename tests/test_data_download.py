"""Downloads against a local server that behaves badly in the ways real ones do, and archives that are hostile."""

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
import tomllib
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.data import download
from helpers.data.download import DATASETS, MARKER, DownloadError, fetch, fetch_dataset, read_datasets
from helpers.run.profile import load_profile

pytestmark = pytest.mark.filterwarnings("ignore:.*no checksum is published")
IMAGES = {
    "OCT2017/train/CNV/CNV-1-1.jpeg": hashlib.shake_256(b"a").digest(300_000),  # does not compress
    "OCT2017/test/CNV/CNV-2-1.jpeg": b"b",
}
STRAYS = dict.fromkeys(["OCT2017/train/CNV/._CNV-1-1.jpeg", "._OCT2017", "__MACOSX/x.jpeg", "OCT2017/.DS_Store"], b"s")


def make_tar(members: dict) -> bytes:
    """A tar.gz of name -> bytes, or name -> a TarInfo's changes (type, linkname) for a member without content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                for key, value in content.items():
                    setattr(info, key, value)
                archive.addfile(info)
    return out.getvalue()


def make_zip(members: dict) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


ARCHIVE = make_tar(IMAGES | STRAYS)
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `body`, as its settings say; `seen` lists the requests as (range, if-range), `sent` counts bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.modified = ARCHIVE, '"one"', ""
        self.ranges = True  # honours Range
        self.cut: int | None = None  # closes the connection after that many bytes of body
        self.statuses: list[int] = []  # answered first, one per request
        self.answer = None  # a function of the handler instead of all this
        self.seen, self.sent = [], 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        server.seen.append((self.headers.get("Range"), self.headers.get("If-Range")))
        if server.statuses:
            self.plain(server.statuses.pop(0))
        elif server.answer:
            server.answer(self)
        else:
            self.serve()

    def plain(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self) -> None:
        server, start, total = self.server, 0, len(self.server.body)
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if server.ranges and wanted and self.headers.get("If-Range") in (server.etag, server.modified):
            start = int(wanted[1])
            if start >= total:
                return self.plain(416, Content_Range=f"bytes */{total}")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        for key, value in (("ETag", server.etag), ("Last-Modified", server.modified)):
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        try:
            for at in range(start, start + len(server.body[start:][: server.cut]), 65_536):  # small pieces
                end = at + 65_536 if server.cut is None else min(at + 65_536, start + server.cut)
                self.wfile.write(server.body[at:end])
                server.sent += len(server.body[at:end])
        except OSError:
            pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name, value in {"STALLS": 3, "WAIT": 0.0, "TIMEOUT": 2.0}.items():
        monkeypatch.setattr(download, name, value)
    with Server() as running:
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
        (tmp_path / "facts.toml").write_text(
            '[oct]\ntitle = "OCT"\npage = "https://example.org/oct"\nlicence = "CC BY 4.0"\nfolder = "OCT2017"\n'
            f"[[oct.files]]\n{lines}\n"
        )
        return fetch_dataset("oct", data_dir, tmp_path / "facts.toml", progress=False)

    return call


def held(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)
    return {path.relative_to(folder.parent).as_posix(): path.read_bytes() for path in files}


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".oct.lock"} if folder.exists() else set()


DONE = {"OCT2017", "OCT2017.tar.gz"}
PARTIAL = {"OCT2017.tar.gz.part", "OCT2017.tar.gz.validator"}


def test_it_is_fetched_checked_and_unpacked_and_a_second_call_asks_nothing(server, get, tmp_path):
    folder = get()
    assert folder == tmp_path / "data" / "OCT2017" and held(folder) == IMAGES and left(folder.parent) == DONE
    assert json.loads((folder / MARKER).read_text())["sha256"] == DIGEST
    (folder.parent / "OCT2017.tar.gz").unlink()
    assert get() == folder and len(server.seen) == 1


def test_several_threads_at_once_fetch_it_once(server, get):
    threads = [threading.Thread(target=get) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.seen) == 1


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
    assert left(tmp_path / "data") == PARTIAL
    server.cut, server.ranges, server.sent = None, True, 0
    assert held(get()) == IMAGES and server.sent == len(ARCHIVE) - 100_000
    assert server.seen[-1] == ("bytes=100000-", '"one"')


@pytest.mark.parametrize("etag", ['"old"', ""])
def test_halves_of_two_files_are_not_joined(server, get, etag):
    server.cut, server.ranges, server.etag = 100_000, False, etag
    server.body = b"\x1f\x8b" + os.urandom(len(ARCHIVE) - 2)
    with pytest.raises(DownloadError):
        get()
    server.cut, server.ranges, server.body, server.etag, server.sent = None, True, ARCHIVE, '"one"', 0
    assert held(get()) == IMAGES and server.sent == len(ARCHIVE)


def test_a_206_of_a_file_that_has_changed_or_for_the_wrong_place_is_not_appended(server, get):
    spans = iter([(100_000, '"two"'), (5, '"one"')])  # If-Range is ignored; then the place is

    def answer(handler):
        if handler.headers.get("Range") and (span := next(spans, None)):
            total = len(ARCHIVE)
            handler.plain(206, ARCHIVE, Content_Range=f"bytes {span[0]}-{total - 1}/{total}", ETag=span[1])
        else:
            server.cut = 100_000 if len(server.seen) < 5 else None
            handler.serve()

    server.answer = answer
    assert held(get()) == IMAGES


def test_a_weak_validator_is_not_used_for_resuming(server, get):
    server.cut, server.etag, server.modified = 200_000, 'W/"one"', "Mon, 01 Jan 2018 00:00:00 GMT"
    assert held(get()) == IMAGES and server.seen[1][1] == "Mon, 01 Jan 2018 00:00:00 GMT"


def test_a_partial_file_that_is_already_whole_is_taken(server, get, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "OCT2017.tar.gz.part").write_bytes(ARCHIVE)
    (tmp_path / "data" / "OCT2017.tar.gz.validator").write_text('"one"')
    assert held(get(size=None)) == IMAGES and server.sent == 0


def test_a_busy_server_is_asked_again_and_a_refusal_is_told_at_once(server, get, tmp_path):
    server.statuses = [503, 429]
    assert held(get()) == IMAGES and len(server.seen) == 3
    shutil.rmtree(tmp_path / "data")
    server.statuses = [403]
    with pytest.raises(DownloadError, match="(?s)HTTP 403.*By hand: open https://example.org/oct"):
        get()


def test_a_silent_server_is_given_up_on(server, tmp_path, monkeypatch):
    done = threading.Event()
    server.answer = lambda handler: done.wait(5)
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    with pytest.raises(DownloadError, match="gave up: .*ReadTimeout"):
        fetch(server.url, tmp_path / "x.tar.gz", progress=False)
    done.set()


PAGE = b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (PAGE, "text/html", r"a web page \('Sign in'\), perhaps a login.*put OCT2017.tar.gz into"),
        (PAGE, "application/gzip", r"a web page \('Sign in'\), perhaps a login"),
        (b"Please sign in", "text/html", "a web page, perhaps a login"),
        (b"PK\3\4 a zip", "application/gzip", "does not begin like such a file"),
        (ARCHIVE + bytes(50_000), "application/gzip", f"expected {len(ARCHIVE):,} bytes; the server sends more"),
        (ARCHIVE[:-1] + bytes([ARCHIVE[-1] ^ 1]), "application/gzip", f"expected .*SHA-256 {DIGEST}; got "),
    ],
)
def test_another_file_than_the_one_expected_is_named_and_not_kept(server, get, tmp_path, body, kind, message):
    server.answer = lambda handler: handler.plain(200, body, Content_Type=kind)
    with pytest.raises(DownloadError, match=f"(?s){message}"):
        get()
    assert len(server.seen) == 1 and left(tmp_path / "data") == set()


def test_a_file_smaller_than_expected_is_refused(server, get):
    server.body = ARCHIVE[:-1000]
    with pytest.raises(DownloadError, match=f"expected {len(ARCHIVE):,} bytes; the server's file has"):
        get()


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
        archive = tmp_path / "in" / f"archive.{request.param}"
        archive.parent.mkdir(exist_ok=True)
        archive.write_bytes(change((make_tar if request.param == "tar.gz" else make_zip)(members)))
        download.unpack(archive, tmp_path / "data" / "OCT2017", **options)
        return held(tmp_path / "data" / "OCT2017")

    return call


BROKEN = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, RuntimeError, gzip.zlib.error)


def test_all_files_arrive_without_the_strays_of_file_managers(unpacked):
    assert unpacked({f"./{name}": content for name, content in (IMAGES | STRAYS).items()}) == IMAGES


@pytest.mark.parametrize("name", ["../evil", "OCT2017/../../evil"])
def test_a_name_that_leaves_the_folder_refuses_the_whole_archive(unpacked, tmp_path, name):
    with pytest.raises(BROKEN, match="outside"):
        unpacked(IMAGES | {name: b"evil"})
    assert left(tmp_path / "data") == set() and not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_no_link_leads_outside(tmp_path, kind):
    (tmp_path / "secret").write_text("secret")
    link = {"type": kind, "linkname": str(tmp_path / "secret")}
    (tmp_path / "a.tar.gz").write_bytes(make_tar(IMAGES | {"OCT2017/door": link}))
    with pytest.raises(tarfile.FilterError):
        download.unpack(tmp_path / "a.tar.gz", tmp_path / "OCT2017")
    info = zipfile.ZipInfo("OCT2017/door")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, str(tmp_path / "secret"))
    download.unpack(tmp_path / "a.zip", tmp_path / "OCT2017")
    assert not (tmp_path / "OCT2017" / "door").is_symlink()


def test_a_bomb_is_refused_before_it_fills_the_disk(unpacked, tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match="unpacks to"):
        unpacked({"OCT2017/zeros": bytes(210_000_000)})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=200_000))
    with pytest.raises(RuntimeError, match="unpacks to .*at most 200,000"):
        unpacked(IMAGES)
    assert left(tmp_path / "data") == set()


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.7, 0.999])
def test_a_truncated_archive_or_a_flipped_bit_is_found(unpacked, tmp_path, keep):
    def flipped(content):
        middle = len(content) // 2
        return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]

    for change in (lambda content: content[: int(keep * len(content)) if keep < 1 else keep], flipped):
        with pytest.raises(BROKEN):
            unpacked(IMAGES, change)
    assert left(tmp_path / "data") == set()


def test_an_archive_without_the_folder_is_refused_unless_it_is_flat(unpacked):
    with pytest.raises(RuntimeError, match="it holds a.jpeg, not OCT2017"):
        unpacked({"a.jpeg": b"a"})
    assert unpacked({"a.jpeg": b"a"}, flat=True) == {"OCT2017/a.jpeg": b"a"}


# --- the facts, and the profiles ---


def test_the_committed_facts_are_complete():
    datasets = read_datasets()
    oct_file, newer = datasets["kermany-v2-oct"].files[0], datasets["kermany-v3"].files[0]
    assert (oct_file.name, oct_file.size, oct_file.sha256) == ("OCT2017.tar.gz", 5_793_183_169, None)
    assert newer.sha256.startswith("acbc4286") and newer.size is None
    files = [file for dataset in datasets.values() for file in dataset.files]
    assert all(dataset.licence and dataset.page.startswith("https://") for dataset in datasets.values())
    assert all(not file.url or file.url.startswith("https://") for file in files)
    assert all(
        re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", place) for file in files for place in (file.name, file.unpacks_to)
    )
    text = (DATASETS.parent / "README.md").read_text()
    assert [name for name in tomllib.loads(DATASETS.read_text()) if f"`{name}`" not in text] == []


def test_a_data_set_that_cannot_be_fetched_says_what_to_do(tmp_path):
    with pytest.raises(DownloadError, match="did you mean kermany-v2-oct"):
        fetch_dataset("kermany-v2-octs", tmp_path)
    with pytest.raises(DownloadError, match="(?s)no address.*By hand: open https://nihcc.app.box.com"):
        fetch_dataset("nih-chestxray14", tmp_path)
    with pytest.raises(DownloadError, match="(?s)no address that a program can use.*By hand.*dataverse"):
        fetch_dataset("octid", tmp_path)


def test_zips_put_there_by_hand_are_unpacked(tmp_path):
    for file in read_datasets()["octid"].files:
        (tmp_path / file.name).write_bytes(make_zip({"a.jpeg": b"a"}))
    assert fetch_dataset("octid", tmp_path, progress=False) == tmp_path / "octid"
    assert (tmp_path / "octid" / "CSR" / "a.jpeg").read_bytes() == b"a"


def test_a_profile_wants_the_data_sets_it_reads(tmp_path):
    def wanted(profile, **changes):
        settings = load_profile(profile, changes | {"data_dir": str(tmp_path)})
        wings = [import_module(f"helpers.{wing}.data") for wing in ("kermany", "rajkomar", "carr")]
        return [name for wing in wings for name in wing.downloads(settings)]

    assert wanted("phantom") == []
    with pytest.warns(UserWarning, match="only be fetched by hand"):
        assert wanted("paper") == ["kermany-v2-oct", "kermany-v2-xray", "open-i"]
    (tmp_path / "CSR.zip").touch()
    (tmp_path / "covid-chestxray-dataset").mkdir()
    (tmp_path / "CellData").mkdir()
    assert wanted("paper") == ["kermany-v3", "kermany-v3", "cohen-covid", "octid"]
    assert wanted("paper", view_source="openi")[2] == "open-i"
