"""Downloads against a local server that behaves badly in the ways real ones do."""

import hashlib
import io
import json
import os
import re
import shutil
import ssl
import subprocess
import tarfile
import threading
import tomllib
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.data import transfer
from helpers.data.datasets import DATASETS, DatasetError, read_datasets
from helpers.data.download import ensure, fetch_for, wanted
from helpers.data.transfer import DownloadError, Patience, WrongFileError, refuse_downgrade
from helpers.run.profile import load_profile

HASTY = Patience(stalls=3, wait=0.0, longest_wait=0.05, timeout=2.0)
pytestmark = pytest.mark.filterwarnings("ignore:OCT2017.tar.gz. no checksum")


def make_archive(seed: str = "a", size: int = 300_000) -> bytes:
    """A tar.gz of two images, about `size` bytes long, with a stray."""
    noise = hashlib.shake_256(seed.encode()).digest(size)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        members = {"train/CNV/CNV-1-1.jpeg": noise, "test/CNV/CNV-2-1.jpeg": b"b", "train/CNV/._CNV-1-1.jpeg": b"s"}
        for name, content in members.items():
            info = tarfile.TarInfo(f"OCT2017/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


ARCHIVE = make_archive()
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `body`, as its settings say; `seen` lists the requests as (path, range, if-range), `sent` counts bytes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.modified = ARCHIVE, '"one"', ""
        self.ranges = True  # honours Range
        self.cut: int | None = None  # closes the connection after that many bytes of body
        self.declare: int | None = None  # lies about Content-Length
        self.statuses: list[int] = []  # answered first, one a request
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
        server.seen.append((self.path, self.headers.get("Range"), self.headers.get("If-Range")))
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
        same = self.headers.get("If-Range") in (None, server.etag, server.modified)
        if server.ranges and wanted and same:
            start = int(wanted[1])
            if start >= total:
                return self.plain(416, Content_Range=f"bytes */{total}")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        for key, value in (("ETag", server.etag), ("Last-Modified", server.modified)):
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", str(server.declare or total - start))
        self.end_headers()
        self.push(server.body[start:][: server.cut])

    def push(self, content: bytes) -> None:
        """Write in small pieces, so that `sent` tells when the client stopped listening."""
        try:
            for at in range(0, len(content), 65_536):
                self.wfile.write(content[at : at + 65_536])
                self.server.sent += len(content[at : at + 65_536])
        except OSError:
            pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def get(server, tmp_path):
    """get(key=value...) -> ensure() of the test data set, with facts of its file changed (None: not known)."""

    def call(full_check: bool = False, data_dir: Path = tmp_path / "data", **changes) -> Path:
        facts = {"name": "OCT2017.tar.gz", "url": server.url, "unpacks_to": "OCT2017"}
        facts |= {"size": len(ARCHIVE), "sha256": DIGEST} | changes
        lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in facts.items() if value is not None)
        (tmp_path / "facts.toml").write_text(
            '[oct]\ntitle = "OCT"\npage = "https://example.org/oct"\nlicence = "CC BY 4.0"\nfolder = "OCT2017"\n'
            f"[[oct.files]]\n{lines}\n"
        )
        options = {"catalogue_file": tmp_path / "facts.toml", "progress": False, "patience": HASTY}
        return ensure("oct", data_dir, full_check=full_check, **options)

    return call


def complete(folder: Path) -> bool:
    names = sorted(path.name for path in folder.rglob("*.jpeg"))
    return names == ["CNV-1-1.jpeg", "CNV-2-1.jpeg"] and (folder.parent / "OCT2017.tar.gz").read_bytes() == ARCHIVE


def left(data_dir: Path) -> set[str]:
    return {path.name for path in data_dir.iterdir()} - {".oct.lock"} if data_dir.exists() else set()


DONE = {"OCT2017", "OCT2017.tar.gz", "OCT2017.tar.gz.sha256"}
PARTIAL = {"OCT2017.tar.gz.part", "OCT2017.tar.gz.part.json"}


# --- when all goes well


def test_it_is_fetched_checked_and_unpacked_and_a_second_call_asks_nothing(server, get, tmp_path):
    folder = get()
    assert folder == tmp_path / "data" / "OCT2017" and complete(folder) and left(folder.parent) == DONE
    assert (folder.parent / "OCT2017.tar.gz.sha256").read_text() == f"{DIGEST}  OCT2017.tar.gz\n"
    before = (folder / ".unpacked.json").stat().st_mtime_ns
    assert get() == folder and len(server.seen) == 1
    assert (folder / ".unpacked.json").stat().st_mtime_ns == before


def test_once_unpacked_the_archive_may_be_deleted(server, get):
    folder = get()
    (folder.parent / "OCT2017.tar.gz").unlink()
    assert get() == folder == get(full_check=True) and len(server.seen) == 1


def test_a_finished_data_set_may_lie_in_a_read_only_folder(get, monkeypatch):
    folder = get()
    monkeypatch.setattr("helpers.data.download.FileLock", lambda path: pytest.fail("wanted to write"))
    assert get() == folder


def test_redirects_are_followed(server, get):
    server.answer = lambda h: h.serve() if h.path == "/there" else h.plain(302, Location="/there")
    assert complete(get())


def test_a_gz_labelled_as_a_transport_encoding_is_kept_as_it_is(server, get):
    server.answer = lambda handler: handler.plain(200, ARCHIVE, Content_Encoding="gzip")
    assert complete(get())


def test_two_threads_at_once_fetch_it_once(server, get):
    get_all = [threading.Thread(target=get) for _ in range(4)]
    for thread in get_all:
        thread.start()
    for thread in get_all:
        thread.join()
    assert len(server.seen) == 1


# --- connections that break


def test_cut_connections_are_resumed_where_they_broke(server, get):
    server.cut = 50_000
    assert complete(get())
    starts = [int(re.findall(r"\d+", asked)[0]) for _, asked, _ in server.seen[1:]]
    assert starts == [50_000 * i for i in range(1, len(server.seen))] and len(starts) == len(ARCHIVE) // 50_000
    assert {validator for _, _, validator in server.seen[1:]} == {'"one"'}
    assert server.sent == len(ARCHIVE)


def test_a_later_run_goes_on_from_the_partial_file(server, get, tmp_path):
    server.cut, server.ranges = 100_000, False
    with pytest.raises(DownloadError, match="gave up after 4 attempts.* 100,000 bytes of it are kept"):
        get()
    assert left(tmp_path / "data") == PARTIAL
    server.cut, server.ranges, server.sent = None, True, 0
    assert complete(get()) and server.sent == len(ARCHIVE) - 100_000
    assert server.seen[-1] == ("/file", "bytes=100000-", '"one"')


def test_halves_of_two_files_are_not_joined(server, get, tmp_path):
    server.cut, server.ranges, server.body, server.etag = 100_000, False, make_archive("old"), '"old"'
    with pytest.raises(DownloadError):
        get(size=len(server.body))
    server.cut, server.ranges, server.body, server.etag, server.sent = None, True, ARCHIVE, '"one"', 0
    assert complete(get()) and server.sent == len(ARCHIVE)


def test_a_partial_file_from_another_address_is_dropped(server, get):
    server.cut, server.ranges = 100_000, False
    with pytest.raises(DownloadError):
        get()
    server.cut, server.ranges = None, True
    assert complete(get(url=server.url + "2")) and server.seen[-1][1] is None


def test_without_a_validator_a_changed_length_tells_that_the_file_has_changed(server, get):
    server.cut, server.ranges, server.body, server.etag = 100_000, False, make_archive("old") + b"longer", ""
    with pytest.raises(DownloadError):
        get(size=None)
    server.cut, server.ranges, server.body = None, True, ARCHIVE
    assert complete(get(size=None)) and [asked for _, asked, _ in server.seen[-2:]] == ["bytes=100000-", None]


def test_a_weak_validator_is_not_used_for_resuming(server, get):
    server.cut, server.etag, server.modified = 200_000, 'W/"one"', "Mon, 01 Jan 2018 00:00:00 GMT"
    assert complete(get()) and server.seen[1][2] == "Mon, 01 Jan 2018 00:00:00 GMT"


def test_a_partial_file_that_is_already_whole_needs_no_request(server, get, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "OCT2017.tar.gz.part").write_bytes(ARCHIVE)
    (tmp_path / "data" / "OCT2017.tar.gz.part.json").write_text(json.dumps({"url": server.url}))
    assert complete(get()) and server.seen == []


def test_a_206_of_a_file_that_has_changed_is_not_appended(server, get):
    def answer(handler):
        if wanted := handler.headers.get("Range"):  # If-Range is ignored
            start, total = int(wanted[6:-1]), len(ARCHIVE)
            server.etag, server.body, server.answer, server.cut = '"one"', ARCHIVE, None, None
            span = f"bytes {start}-{total - 1}/{total}"
            handler.plain(206, ARCHIVE[start:], Content_Range=span, ETag='"one"')
        else:
            handler.serve()

    server.body, server.etag, server.cut, server.answer = make_archive("old")[: len(ARCHIVE)], '"old"', 100_000, answer
    assert complete(get()) and [asked for _, asked, _ in server.seen] == [None, "bytes=100000-", None]


def test_a_partial_file_that_the_server_says_is_whole_is_taken(server, get, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "OCT2017.tar.gz.part").write_bytes(ARCHIVE)
    (tmp_path / "data" / "OCT2017.tar.gz.part.json").write_text(json.dumps({"url": server.url}))
    assert complete(get(size=None)) and len(server.seen) == 1 and server.sent == 0


def test_a_server_that_ignores_range_is_read_from_the_start(server, get):
    cuts = iter([200_000, None])

    def answer(handler):
        server.cut, server.ranges = next(cuts), False
        handler.serve()

    server.answer = answer
    assert complete(get()) and server.sent == 200_000 + len(ARCHIVE)


def test_a_206_for_the_wrong_place_is_not_appended(server, get):
    def answer(handler):
        if handler.headers.get("Range"):
            handler.plain(206, ARCHIVE[5:], Content_Range=f"bytes 5-{len(ARCHIVE) - 1}/{len(ARCHIVE)}")
            server.answer = None
        else:
            handler.serve()
            server.cut = None

    server.cut, server.answer = 100_000, answer
    assert complete(get())


def test_a_silent_server_is_given_up_on(server, get, tmp_path):
    done = threading.Event()
    server.answer = lambda handler: done.wait(5)
    options = {"patience": Patience(stalls=2, wait=0.0, timeout=0.1), "progress": False}
    goal = transfer.Goal("OCT2017.tar.gz", len(ARCHIVE), len(ARCHIVE))
    with pytest.raises(DownloadError, match="gave up after 2 attempts: ReadTimeout"):
        transfer.fetch(server.url, tmp_path / "x.part", goal, **options)
    done.set()


# --- servers that lie


@pytest.mark.parametrize("excess", [-100_000, 100_000])
def test_a_false_content_length_does_not_matter_when_the_bytes_are_right(server, get, excess, caplog):
    server.declare = len(ARCHIVE) + excess

    def answer(handler):
        handler.serve()
        server.declare = None

    server.answer = answer
    assert complete(get())
    assert f"declares {len(ARCHIVE) + excess:,} bytes, expected {len(ARCHIVE):,}" in caplog.text


def test_a_file_larger_than_expected_is_stopped_early(server, get, tmp_path):
    server.body = ARCHIVE + bytes(50_000_000)
    with pytest.raises(WrongFileError, match=f"expected at most {len(ARCHIVE):,} bytes; the server sends more"):
        get()
    assert server.sent < 20_000_000 and left(tmp_path / "data") == set()


def test_a_file_smaller_than_expected_is_refused(server, get, tmp_path):
    server.body = ARCHIVE[:-1000]
    with pytest.raises(
        WrongFileError, match=f"expected {len(ARCHIVE):,} bytes; the server's file has {len(ARCHIVE) - 1000:,}"
    ):
        get()
    assert left(tmp_path / "data") == set() and len(server.seen) == 2


def test_another_file_of_the_same_size_is_refused_with_both_digests(server, get, tmp_path):
    server.body = ARCHIVE[:-1] + bytes([ARCHIVE[-1] ^ 1])
    got = hashlib.sha256(server.body).hexdigest()
    with pytest.raises(WrongFileError, match=rf"expected SHA-256 {DIGEST} \(published\), got {got}"):
        get()
    assert left(tmp_path / "data") == set()


PAGE = b"\n<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


@pytest.mark.parametrize(
    ("kind", "page", "title"),
    [
        ("text/html; charset=utf-8", PAGE, r" \('Sign in'\)"),
        ("application/octet-stream", PAGE, r" \('Sign in'\)"),
        ("text/html", b"Please sign in", ""),
    ],
)
def test_a_login_page_in_place_of_the_archive_is_named_as_such(server, get, tmp_path, kind, page, title):
    server.answer = lambda handler: handler.plain(200, page, Content_Type=kind)
    with pytest.raises(
        WrongFileError, match=f"(?s)a web page{title}, perhaps.*By hand: open https://example.org/oct"
    ) as raised:
        get()
    assert "put OCT2017.tar.gz into" in str(raised.value)
    assert len(server.seen) == 1 and left(tmp_path / "data") == set()


def test_of_a_wrong_file_nothing_is_kept(server, tmp_path):
    server.body = ARCHIVE * 2
    with pytest.raises(WrongFileError):
        transfer.fetch(server.url, tmp_path / "x.part", transfer.Goal("x", 400_000, 400_000), progress=False)
    assert left(tmp_path) == set()


def test_another_kind_of_file_is_recognised_by_its_first_bytes(server, get):
    server.body = b"PK\3\4" + bytes(50_000_000)
    with pytest.raises(WrongFileError, match="does not begin like such a file"):
        get()
    assert server.sent < 20_000_000


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_told_at_once(server, get, status):
    server.answer = lambda handler: handler.plain(status)
    with pytest.raises(DownloadError, match=f"(?s)HTTP {status} .*By hand"):
        get()
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_passing_trouble_is_tried_again(server, get, status):
    server.statuses = [status, status]
    assert complete(get()) and len(server.seen) == 3


def test_a_lasting_trouble_ends_after_a_few_attempts(server, get, monkeypatch):
    pauses = []
    monkeypatch.setattr(transfer.time, "sleep", pauses.append)
    server.answer = lambda handler: handler.plain(503, Retry_After="86400")  # a day: longer than anybody waits
    with pytest.raises(DownloadError, match="gave up after 3 attempts: HTTP 503"):
        get()
    assert len(server.seen) == 3 and pauses == [HASTY.longest_wait] * 2


def test_pauses_grow_and_a_server_may_ask_for_longer_ones(server, monkeypatch, tmp_path):
    pauses = []
    monkeypatch.setattr(transfer.time, "sleep", pauses.append)
    asked = iter([{}, {}, {"Retry_After": "7"}, {}, {}])
    server.answer = lambda handler: handler.plain(503, **next(asked))
    with pytest.raises(DownloadError):
        goal, patience = transfer.Goal("x", 9, 9), Patience(stalls=5, longest_wait=10)
        transfer.fetch(server.url, tmp_path / "x.part", goal, patience=patience, progress=False)
    assert pauses == [2, 4, 8, 10]


def test_redirects_without_end_are_refused(server, get):
    server.answer = lambda handler: handler.plain(302, Location=handler.path + "x")
    with pytest.raises(DownloadError, match="redirects without end"):
        get()
    assert len(server.seen) < 10


def test_nobody_listening_is_told_in_plain_words(get):
    with pytest.raises(DownloadError, match="gave up after 3 attempts: ConnectionError"):
        get(url="http://127.0.0.1:9/file")


def test_a_redirect_may_not_leave_https():
    refuse_downgrade("https://a/x", "https://b/x")
    with pytest.raises(DownloadError, match="not encrypted"):
        refuse_downgrade("https://a/x", "http://b/x")


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl makes the certificate")
def test_a_certificate_that_nobody_signed_is_refused_at_once(server, get, tmp_path):
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key", "-out", tmp_path / "cert"]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with pytest.raises(DownloadError, match="certificate is not valid"):
        get(url=server.url.replace("http:", "https:"))
    assert server.seen == []


# --- sizes and digests that are not known


def test_without_a_published_checksum_the_first_one_seen_is_recorded_and_said(server, get):
    with pytest.warns(UserWarning, match=f"no checksum is published for it. Its SHA-256 {DIGEST} is taken on trust"):
        folder = get(sha256=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert get(sha256=None) == folder
    server.body = ARCHIVE[:-1] + bytes([ARCHIVE[-1] ^ 1])
    (folder.parent / "OCT2017.tar.gz").unlink()
    shutil.rmtree(folder)
    with pytest.raises(WrongFileError, match=rf"expected SHA-256 {DIGEST} \(in OCT2017.tar.gz.sha256, seen before\)"):
        get(sha256=None)


def test_a_rough_size_bounds_the_download(server, get):
    assert complete(get(size=None, about=len(ARCHIVE) - 1000))


def test_a_rough_size_far_exceeded_is_refused_before_the_body(server, get):
    server.body = ARCHIVE * 2
    with pytest.raises(WrongFileError, match=r"the server declares .* bytes; at most"):
        get(size=None, about=len(ARCHIVE))


def test_a_size_that_is_told_by_the_server_alone_serves_for_resuming(server, get):
    server.cut = 100_000
    assert complete(get(size=None)) and len(server.seen) == 1 + len(ARCHIVE) // 100_000


def test_an_archive_that_is_broken_though_its_digest_is_right_leaves_no_folder(server, get, tmp_path):
    server.body = ARCHIVE[:-50_000]
    with pytest.raises(DownloadError, match=r"is broken.*Delete it and its \.sha256"):
        get(size=len(server.body), sha256=None)
    assert left(tmp_path / "data") == DONE - {"OCT2017"}


def test_a_full_check_finds_a_changed_archive_and_a_missing_image(server, get):
    folder = get()
    archive = folder.parent / "OCT2017.tar.gz"
    get(full_check=True)
    (folder / "test/CNV/CNV-2-1.jpeg").unlink()
    get()
    with pytest.raises(DownloadError, match="holds 1 files of .* bytes, and 2 of"):
        get(full_check=True)
    times = archive.stat().st_mtime
    archive.write_bytes(ARCHIVE[:-1] + b"?")
    os.utime(archive, (times, times))
    with pytest.raises(WrongFileError, match="Move it away"):
        get(full_check=True)


# --- what is there already


def test_an_archive_put_there_by_hand_is_checked_and_used(server, get, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "OCT2017.tar.gz").write_bytes(ARCHIVE)
    assert complete(get()) and server.seen == []


@pytest.mark.parametrize(
    ("content", "what"),
    [(ARCHIVE[:-1], f"{len(ARCHIVE):,} bytes"), (ARCHIVE[:-1] + b"?", f"SHA-256 {DIGEST}")],
    ids=["too short", "another digest"],  # the digest holds the time, so it must not name a test
)
def test_a_wrong_archive_put_there_by_hand_is_refused_and_kept(server, get, tmp_path, content, what):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "OCT2017.tar.gz").write_bytes(content)
    with pytest.raises(WrongFileError, match=f"expected {what}.*, got .*Move it away"):
        get()
    assert (tmp_path / "data" / "OCT2017.tar.gz").read_bytes() == content and server.seen == []


def test_an_archive_changed_after_it_was_recorded_is_hashed_again(get):
    folder = get()
    shutil.rmtree(folder)
    archive, record = folder.parent / "OCT2017.tar.gz", folder.parent / "OCT2017.tar.gz.sha256"
    archive.write_bytes(ARCHIVE[:-1] + b"?")
    os.utime(record, (1, 1))
    with pytest.raises(WrongFileError, match="expected SHA-256"):
        get()


def test_a_folder_unpacked_by_hand_is_used_as_found_with_a_warning(server, get, tmp_path):
    (tmp_path / "data" / "OCT2017").mkdir(parents=True)
    with pytest.warns(UserWarning, match="used as found, unchecked"):
        assert get() == tmp_path / "data" / "OCT2017"
    assert server.seen == []


def test_a_folder_from_another_archive_is_not_passed_off(get):
    get()
    with pytest.raises(DownloadError, match="came from another archive"):
        get(sha256="0" * 64)


def test_a_data_folder_named_one_level_too_deep_is_pointed_out(get, tmp_path):
    (tmp_path / "OCT2017" / "train").mkdir(parents=True)
    with pytest.raises(DownloadError, match=f"give {tmp_path}, not"):
        get(data_dir=tmp_path / "OCT2017")


def test_too_small_a_disk_is_told_before_anything_is_asked(server, get, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=12_000_000_000))
    with pytest.raises(DownloadError, match=r"needs about 12\.7 GB more in .*12\.0 GB are free.*DATA_DIR="):
        get(size=5_793_183_169)
    assert server.seen == []


# --- the facts, and the profiles


def test_the_committed_facts_are_what_the_hosts_publish():
    datasets = read_datasets()
    assert {"kermany-v2-oct", "kermany-v2-xray", "kermany-v3"} <= set(datasets)
    oct_file, newer = datasets["kermany-v2-oct"].files[0], datasets["kermany-v3"].files[0]
    assert (oct_file.name, oct_file.size, oct_file.sha256) == ("OCT2017.tar.gz", 5_793_183_169, None)
    assert newer.sha256.startswith("acbc4286") and newer.size is None
    assert all(dataset.licence and dataset.page.startswith("https://") for dataset in datasets.values())


def test_the_readme_has_a_row_for_every_data_set():
    text = (DATASETS.parent / "README.md").read_text()
    assert [name for name in tomllib.loads(DATASETS.read_text()) if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://example.org/x"},
        {"sha256": "abc"},
        {"unpacks_to": "../x"},
        {"name": "a/b.zip"},
        {"size": -1},
        {"colour": "red"},
    ],
)
def test_facts_that_cannot_be_right_are_refused(get, change):
    with pytest.raises(DatasetError, match="facts.toml"):
        get(**change)


def test_an_unknown_data_set_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(DownloadError, match="did you mean kermany-v2-oct"):
        ensure("kermany-v2-octs", tmp_path)


def test_a_data_set_without_an_address_says_how_to_get_it_by_hand(tmp_path):
    with pytest.raises(DownloadError, match="(?s)no address.*By hand: open https://nihcc.app.box.com"):
        ensure("nih-chestxray14", tmp_path)


OCT_ALONE = {"xray_source": "phantom_chest", "view_source": "phantom_chest"}


def test_the_paper_profile_wants_every_data_set_it_reads_once(tmp_path):
    def asked(**given):
        return wanted(load_profile("paper", given | {"data_dir": str(tmp_path)}))

    assert asked() == ["kermany-v2-oct", "kermany-v2-xray", "open-i"]
    assert asked(view_source="cohen")[-1] == "cohen-covid"
    (tmp_path / "covid-chestxray-dataset").mkdir()
    assert asked()[-1] == "cohen-covid" and asked(view_source="openi")[-1] == "open-i"
    (tmp_path / "CellData").mkdir()
    assert asked(view_source="phantom_chest") == ["kermany-v3"]


def test_the_phantom_profile_downloads_nothing(caplog):
    caplog.set_level("INFO")
    assert fetch_for(load_profile("phantom")) == []
    assert "nothing to download" in caplog.text


def test_the_paper_profile_takes_version_3_only_where_it_lies_already(tmp_path):
    profile = load_profile("paper", OCT_ALONE | {"data_dir": str(tmp_path)})
    (tmp_path / "CellData" / "OCT").mkdir(parents=True)
    with pytest.warns(UserWarning, match="used as found"):
        assert fetch_for(profile) == [tmp_path / "CellData"]
    (tmp_path / "OCT2017").mkdir()
    with pytest.warns(UserWarning, match="used as found"):
        assert fetch_for(profile) == [tmp_path / "OCT2017"]


def test_the_paper_profile_fetches_version_2(server, tmp_path):
    text = DATASETS.read_text().split("[kermany-v2-xray]")[0]
    text = re.sub(r'url = ".*"', f'url = "{server.url}"', text).replace("5793183169", str(len(ARCHIVE)))
    (tmp_path / "facts.toml").write_text(text)
    profile = load_profile("paper", OCT_ALONE | {"data_dir": str(tmp_path / "data")})
    (folder,) = fetch_for(profile, catalogue_file=tmp_path / "facts.toml", progress=False)
    assert complete(folder)
