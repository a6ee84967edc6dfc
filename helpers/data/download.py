"""Fetch a data set from its publisher: `make data PROFILE=paper`.

What is known of each data set (address, size, digest, licence) is a fact of `data/datasets.toml`. An archive lands in
the data folder under its own name, is checked, and unpacks beside itself, as its authors laid it out; the loaders read
that. Where a folder or an archive is there already, put there by hand for example, it is used, and nothing is fetched.

A cut download goes on where it broke (RFC 9110: Range, If-Range), also in a later run: pooch, the usual choice, starts
6 GB over again. Archives are unpacked into a hidden folder, which gets its name when all is there: a killed run leaves
nothing that a loader reads.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import shutil
import sys
import tarfile
import time
import tomllib
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import requests
import urllib3
from filelock import FileLock
from tqdm import tqdm

from helpers.data.catalogue import CatalogueError
from helpers.data.scan import DIGITS, MARKER, Place, is_stray
from helpers.run.cache import read_digest
from helpers.run.paths import ROOT
from helpers.run.profile import nearest

logger = logging.getLogger(__name__)

DATASETS = ROOT / "data" / "datasets.toml"
MAGIC = {".zip": b"PK", ".npz": b"PK", ".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b"}  # how a file of that name begins
CHUNK = 1 << 18  # bytes; what a reset connection may lose
BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses that pass
STALLS = 6  # connections in a row that bring nothing new, before giving up
WAIT = 1.0  # seconds before the next connection; doubles with each stall
TIMEOUT = 60.0  # seconds to connect, and between two pieces of the body
UNPACKED_SHARE = 1.2  # of the archive's size: what images take once unpacked, with room for the disk's blocks
LARGEST = 4  # times the archive's size that it may unpack to: images hardly compress, so more is a bomb


class DownloadError(RuntimeError):
    """A data set that could not be fetched; the message says what was expected, what came, and what to do."""


class _CutError(Exception):
    """This connection came to nothing or ended early; another may do better."""


@dataclass(frozen=True)
class RemoteFile:
    """An archive of a data set. Sizes in bytes; what is not known is left out, never guessed. `unpacks_to` lies below
    the data folder, and is named as the archive's top folder, unless the archive has none (`flat`); a file without it
    is read as it is."""

    name: str
    unpacks_to: str = ""
    url: str = ""  # empty: no address that a program can use
    size: int | None = None
    about: int | None = None  # the size, where only a rounded one is known
    sha256: str | None = None
    md5: str | None = None
    flat: bool = False


def read_datasets(path: Path = DATASETS) -> dict[str, dict[str, Any]]:
    """The card of each data set of a facts file: `page` for a person to read, the `folder` that its loader reads, and
    `files`, a `RemoteFile` each; licence and citation stand in the file itself."""
    cards = tomllib.loads(path.read_text(encoding="utf-8"))
    for card in cards.values():
        card["files"] = [RemoteFile(**file) for file in card.get("files", ())]
    return cards


def fetch_dataset(name: str, data_dir: Path, facts: Path = DATASETS, progress: bool = True) -> Path:
    """The data set's folder below `data_dir`, downloaded, checked and unpacked where it is not there yet.

    A second call does nothing. Several processes may call this at once: one works, the others wait. Raises
    `DownloadError`, with what to do by hand, for an unknown name, too small a disk, a server or a file that is not as
    it should be, and an archive that is broken or not safe.
    """
    cards, data_dir = read_datasets(facts), Path(data_dir)
    if name not in cards:
        raise DownloadError(f"there is no data set '{name}'{nearest(name, cards)}")
    card = cards[name]
    folder, files = data_dir / card["folder"], card["files"]
    top = Path(card["folder"]).parts[0]
    missing = [file for file in files if not _is_there(data_dir, file)]
    try:
        if not files and not (data_dir / top).exists():
            raise DownloadError(f"{name} has no address that a program can use")
        if missing and data_dir.name == top and data_dir.is_dir():
            raise DownloadError(f"the data folder is the one that holds {top}: give {data_dir.parent}, not {data_dir}")
        if missing:
            data_dir.mkdir(parents=True, exist_ok=True)
            with FileLock(data_dir / f".{name}.lock"):
                _require_space(name, missing, data_dir)
                for file in missing:
                    if not (data_dir / (file.unpacks_to or file.name)).exists():  # another process may have been faster
                        _bring(file, data_dir, progress)
    except DownloadError as error:
        archives = " and ".join(file.name for file in files)
        what = f"put {archives} into {data_dir}" if files else f"lay it out in {folder}"
        by_hand = f"By hand: open {card['page']} in a browser, {what}, and run the same command again."
        raise DownloadError(f"{error}.\n{by_hand} {card.get('remarks', '')}") from error
    return folder


def fetch_place(place: Place, data_dir: Path, places: Iterable[Place] = ()) -> int:
    """Fetch a data set unless a copy of it lies there, and print where; the exit status.

    What only a person can fetch is no failure. A data folder that is itself another of the `places` is one.
    """
    cards = read_datasets()
    files = {card: cards[card]["files"] for card in place.cards}
    archived = [card for card in files if any((data_dir / file.name).is_file() for file in files[card])]
    open_to_us = [card for card in files if any(file.url for file in files[card])]
    try:
        if archived and not place.all_in(data_dir):
            fetch_dataset(archived[0], data_dir)
        elif open_to_us and place.is_absent(data_dir):
            if inside := [other.name for other in places if data_dir in other.all_in(data_dir)]:
                raise DownloadError(f"{data_dir} is {inside[0]} alone: give the folder above it, {data_dir.parent}")
            fetch_dataset(open_to_us[0], data_dir)
        print(f"ready: {place.find(data_dir)}")
    except FileNotFoundError as missing:
        print(f"not there: {missing}", file=sys.stderr)
        return int(bool(open_to_us))
    except (DownloadError, CatalogueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _is_there(data_dir: Path, file: RemoteFile) -> bool:
    place = data_dir / file.unpacks_to
    if not file.unpacks_to:
        return (data_dir / file.name).is_file()
    if place.is_dir() and not (place / MARKER).is_file():
        warnings.warn(f"{place} was not unpacked by this program: used as found, unchecked", stacklevel=3)
    return place.is_dir()


def _require_space(name: str, missing: list[RemoteFile], data_dir: Path) -> None:
    """Raises before anything starts where the disk cannot take the archives and what they unpack to."""
    held = sum(_held(path) + _held(_part(path)) for path in (data_dir / file.name for file in missing))
    need = sum((1 + UNPACKED_SHARE) * (file.size or file.about or 0) for file in missing) - held
    free = shutil.disk_usage(data_dir).free
    if need > free:
        raise DownloadError(
            f"{name} needs about {need / 1e9:,.1f} GB more in {data_dir}, and {free / 1e9:,.1f} GB are free; choose "
            "another disk with DATA_DIR="
        )


def _bring(file: RemoteFile, data_dir: Path, progress: bool) -> None:
    """Downloads, checks and unpacks one archive. One that is there, put there by hand for example, is never deleted."""
    archive = data_dir / file.name
    if archive.is_file():
        digest = _checked(file, archive, "Move it away and run again")
    else:
        if not file.url:
            raise DownloadError(f"{file.name} has no address that a program can use")
        fetch(file.url, archive, file.size, progress)
        digest = _checked(file, _part(archive))
        _part(archive).replace(archive)
        _discard(archive)
    if not file.unpacks_to:
        return
    note = {"archive": file.name, "sha256": digest, "url": file.url}
    try:
        unpack(archive, data_dir / file.unpacks_to, flat=file.flat, note=note)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise DownloadError(f"{archive} cannot be unpacked: {error}. Delete it and run again") from error


def _checked(file: RemoteFile, path: Path, remedy: str = "Nothing of it was kept") -> str:
    """The file's digest, MD5 where that is published, else SHA-256; raises where it or the size is not as published."""
    size, kind, published = path.stat().st_size, "MD5" if file.md5 else "SHA-256", file.md5 or file.sha256
    digest = read_digest(path, kind.replace("-", "").lower())
    if file.size not in (None, size) or published not in (None, digest):
        _discard(path.with_name(file.name))
        wanted = f"{file.size or size:,} bytes, {kind} {published or 'not published'}"
        raise DownloadError(f"{path}: expected {wanted}; got {size:,} bytes, {digest}. {remedy}")
    if published is None:
        warnings.warn(f"{file.name}: no checksum is published; SHA-256 {digest} is taken on trust", stacklevel=2)
    return digest


# --- one file over HTTP ---


def fetch(url: str, path: Path, size: int | None = None, progress: bool = True) -> None:
    """Brings the whole file to `path`.part, going on with what is there from an earlier attempt or run.

    A refused connection, a busy server (`BUSY`) and a connection that is cut are tried again with growing pauses; what
    came so far is kept. Raises `DownloadError` for a web page in place of the file, a
    file of another kind or size, any other HTTP status, or when patience is at an end.
    """
    part, stalls = _part(path), 0
    # identity: a transport encoding would change the bytes that sizes, offsets and digests are about
    headers = {"User-Agent": "medical-imaging-reproductions", "Accept-Encoding": "identity"}
    with tqdm(total=size, desc=path.name, unit="B", unit_scale=True, disable=not progress) as bar:
        while _held(part) != size:
            before = _held(part)
            try:
                return _receive(url, headers, path, size, bar)
            except requests.exceptions.SSLError as error:
                raise DownloadError(f"{url}: the server's certificate is not valid ({error})") from error
            except (_CutError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
                stalls = 0 if _held(part) > before else stalls + 1
                reason = f"{type(error).__name__.strip('_')}: {error}"
            logger.warning("%s: %s; %s bytes so far", path.name, reason, f"{_held(part):,}")
            if stalls == STALLS:
                kept = f"{_held(part):,} bytes of it are kept, and the next run goes on from there"
                raise DownloadError(f"{path.name}: gave up: {reason}; {kept}")
            time.sleep(WAIT * 2**stalls if stalls else 0)


def _receive(url: str, headers: dict[str, str], path: Path, size: int | None, bar: tqdm) -> None:
    """One connection. Returns when the file is whole, else raises."""
    part, validator = _part(path), _part(path).with_suffix(".validator")
    known = validator.read_text() if validator.is_file() else ""
    held = _held(part) if known else 0  # what is of an unknown version is fetched again
    if held:
        headers = headers | {"Range": f"bytes={held}-", "If-Range": known}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        status = response.status_code
        if url.startswith("https:") and not response.url.startswith("https:"):
            raise DownloadError(f"{url}: redirects to {response.url}, which is not encrypted")
        if status == 416:  # the server's file ends here
            return _refuse(path, f"expected {size:,} bytes; the server's file has {held:,}") if size else None
        if status in BUSY:
            raise _CutError(f"HTTP {status} {response.reason}")
        if status not in (200, 206):
            raise DownloadError(f"{path.name}: HTTP {status} {response.reason} from {response.url}")
        validator.write_text(_validator(response))
        bar.n = held = held if status == 206 else 0
        total = size or held + int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if status == 206 else "wb") as file:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                if file.tell() == 0:
                    _require_kind(response, chunk, path)
                file.write(chunk)
                bar.update(len(chunk))
                if size is not None and file.tell() > size:
                    _refuse(path, f"expected {size:,} bytes; the server sends more")
    if _held(part) < total:
        raise _CutError(f"ended after {_held(part):,} of {total:,} bytes")


def _validator(response: requests.Response) -> str:
    """What names this very version of the file. A weak ETag (W/...) is no promise of the same bytes."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _require_kind(response: requests.Response, head: bytes, path: Path) -> None:
    """Recognises a login page, or another kind of file, by its first bytes: not after 6 GB."""
    page = re.match(rb"\s*<(!doctype html|html)", head, re.IGNORECASE)
    if page or response.headers.get("Content-Type", "").startswith("text/html"):
        title = re.search(rb"<title[^>]*>([^<]{1,80})", head, re.IGNORECASE)
        words = f" ('{title[1].decode('utf-8', 'replace').strip()}')" if title else ""
        _refuse(path, f"the server sent a web page{words}, perhaps a login, in place of the file")
    if not head.startswith(MAGIC.get(path.suffix, b"")[: len(head)]):
        _refuse(path, f"what the server sent does not begin like such a file: {head[:8]!r}")


def _refuse(path: Path, why: str) -> NoReturn:
    """The server has another file than the one expected; nothing of it is kept."""
    _discard(path)
    raise DownloadError(f"{path.name}: {why}")


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _held(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _discard(path: Path) -> None:
    _part(path).unlink(missing_ok=True)
    _part(path).with_suffix(".validator").unlink(missing_ok=True)


# --- unpacking ---


def unpack(archive: Path, target: Path, *, flat: bool = False, note: dict | None = None) -> None:
    """Unpacks a zip or tar(.gz) so that `target` appears whole, or not at all; `note` goes into its marker file.

    The archive must hold a top folder of the target's name; `flat` instead takes all it holds as the target's content.
    Nothing is written outside, no link leads there (the standard library's "data" filter), and what operating systems
    leave behind is left out. Raises `RuntimeError` for what is not safe, and whatever tarfile and zipfile raise for
    what is broken.
    """
    staging = target.parent / f".unpacking-{target.name}"
    shutil.rmtree(staging, ignore_errors=True)  # a killed run's
    staging.mkdir(parents=True)
    try:
        most = min(max(LARGEST * archive.stat().st_size, 200_000_000), shutil.disk_usage(staging).free)
        (_unzip if archive.suffix == ".zip" else _untar)(archive, staging, most)
        root = staging if flat else staging / target.name
        if not root.is_dir():
            raise RuntimeError(f"it holds {', '.join(sorted(p.name for p in staging.iterdir()))}, not {target.name}")
        files = sorted({read_digest(path)[:DIGITS] for path in root.rglob("*") if path.is_file()})
        (root / MARKER).write_text(json.dumps({**(note or {}), "files": files}), encoding="utf-8")
        root.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unzip(archive: Path, staging: Path, most: int) -> None:
    with zipfile.ZipFile(archive) as opened:  # which writes no member outside, and no links
        members = [info for info in opened.infolist() if not _stray(info.filename)]
        _refuse_bomb(sum(info.file_size for info in members), most)
        opened.extractall(staging, members)


def _untar(archive: Path, staging: Path, most: int) -> None:
    total = 0

    def keep(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        nonlocal total
        total += member.size
        _refuse_bomb(total, most)
        return None if _stray(member.name) else tarfile.data_filter(member, path)

    with gzip.open(archive, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as opened:
        opened.extractall(staging, filter=keep)
        while stream.read(CHUNK):  # to the end, where gzip keeps its checksum
            pass


def _stray(name: str) -> bool:
    return is_stray("/".join(part for part in name.split("/") if part not in ("", ".", "..")))


def _refuse_bomb(size: int, most: int) -> None:
    if size > most:
        raise RuntimeError(f"it unpacks to {size:,} bytes or more; at most {most:,} are allowed")
