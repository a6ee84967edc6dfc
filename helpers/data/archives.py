"""Unpacking archives that come from outside: nothing leaves the folder, no link is followed, no bomb fills the disk.

Members are written one by one into a hidden folder beside the target, which is renamed to the target when all are
there. A killed run therefore leaves nothing that a loader reads, and the next one starts the unpacking afresh.
tarfile's data filter (Python 3.11.4 and later) guards tar files only, and knows no limits; one rule for tar and zip
is written here instead.
"""

from __future__ import annotations

import errno
import gzip
import json
import logging
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

logger = logging.getLogger(__name__)

MARKER = ".unpacked.json"  # inside the target: what it came from, written before the rename
MAGIC = {
    ".zip": b"PK",
    ".tar.gz": b"\x1f\x8b",
    ".tgz": b"\x1f\x8b",
    ".tar": b"",
}  # how a file of that name begins
STRAYS = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}  # left by file managers; `._*` too
CHUNK = 1 << 18
RATIO_SLACK = 10_000_000  # bytes a compressed stream may give before its ratio is looked at


class ArchiveError(ValueError):
    """An archive that is broken, hostile, or not the one expected; nothing of it is left on the disk."""


@dataclass(frozen=True)
class Limits:
    """What an archive may cost. Images hardly compress, so a high ratio is a bomb, not a bargain."""

    max_bytes: int  # of all members together, unpacked
    max_files: int = 500_000  # members, folders and skipped ones included
    max_ratio: float = 100.0  # unpacked to packed bytes
    reserve: int = 200_000_000  # bytes of the disk that stay free

    @classmethod
    def for_archive(cls, packed: int) -> Limits:
        """Four times the packed size: roomy for JPEG and PNG, and for small archives of text 200 MB."""
        return cls(max_bytes=max(4 * packed, 200_000_000))


@dataclass
class Tally:
    """What was written (`files`, `bytes`) and what was left out (`skipped`: name and reason)."""

    files: int = 0
    bytes: int = 0
    strays: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    kind: str  # file, folder, link or special
    open: Callable[[], IO[bytes]]


def suffix(name: str) -> str:
    """'.zip', '.tar.gz', '.tgz' or '.tar'; '' for a name that is no archive's."""
    return next((known for known in MAGIC if name.lower().endswith(known)), "")


def begins_like(name: str, head: bytes) -> bool:
    """Whether a file's first bytes fit its name; true for names that are no archive's."""
    magic = MAGIC.get(suffix(name), b"")
    return head.startswith(magic[: len(head)])


def is_stray(parts: tuple[str, ...]) -> bool:
    """True for `._*`, `__MACOSX/...`, `.DS_Store` and the like: no data, though `._x.jpeg` looks like an image."""
    return any(part in STRAYS or part.startswith("._") for part in parts)


def safe_parts(name: str) -> tuple[str, ...]:
    """A member's name as path parts below the target. Raises `ArchiveError` for one that would leave it."""
    outside = name.startswith("/") or "\\" in name or "\0" in name or re.match(r"[A-Za-z]:", name)
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if outside or ".." in parts:
        raise ArchiveError(f"the member {name!r} would be written outside the target folder")
    return parts


def unpack(
    archive: Path,
    target: Path,
    *,
    flat: bool = False,
    limits: Limits | None = None,
    note: dict[str, Any] | None = None,
    progress: bool = True,
) -> Tally:
    """Unpack a zip or tar(.gz) `archive` so that `target` appears whole, or not at all.

    The archive must hold a top folder of the target's name; `flat` instead takes all it holds as the target's
    content. Links, devices and second members of one name are skipped, with a warning; strays are skipped silently
    and counted. `note` goes into the marker file with the counts.

    Raises `ArchiveError` for a broken archive, a name that escapes, a limit passed, or a full disk; `FileExistsError`
    where the target is there already.
    """
    if target.exists():
        raise FileExistsError(f"{target} is there already")
    staging = target.parent / f".unpacking-{target.name}"
    if staging.exists():
        shutil.rmtree(staging)  # a killed run's
    staging.mkdir(parents=True)
    try:
        tally = _write_all(archive, staging, limits or Limits.for_archive(archive.stat().st_size), progress)
        root = staging if flat else _top_folder(staging, target.name)
        facts = {**(note or {}), "files": tally.files, "bytes": tally.bytes, "strays": tally.strays}
        (root / MARKER).write_text(json.dumps({**facts, "skipped": tally.skipped}, indent=1), encoding="utf-8")
        root.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    if tally.skipped:
        first = "; ".join(f"{name}: {reason}" for name, reason in tally.skipped[:3])
        logger.warning("%s: skipped %d members (%s)", archive.name, len(tally.skipped), first)
    return tally


def read_marker(target: Path) -> dict[str, Any] | None:
    """What `unpack` noted about the folder, or None for a folder that it did not make."""
    try:
        return json.loads((target / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _top_folder(staging: Path, name: str) -> Path:
    held = sorted(path.name for path in staging.iterdir())
    if not (staging / name).is_dir():
        raise ArchiveError(f"holds {', '.join(held[:5]) or 'nothing'}, not a folder {name}")
    if len(held) > 1:
        logger.warning("left out, as they lie beside %s: %s", name, ", ".join(h for h in held if h != name))
    return staging / name


def _write_all(archive: Path, staging: Path, limits: Limits, progress: bool) -> Tally:
    tally, members, declared = Tally(), 0, 0
    with _plain_errors(), ExitStack() as stack:
        bar = stack.enter_context(tqdm(desc=f"unpacking {archive.name}", unit=" files", disable=not progress))
        for member in _members(archive, limits, stack):
            members, declared = members + 1, declared + member.size
            if members > limits.max_files:
                raise ArchiveError(f"holds more than {limits.max_files:,} members")
            if declared > limits.max_bytes:
                raise ArchiveError(f"unpacks to more than {limits.max_bytes:,} bytes")
            if shutil.disk_usage(staging).free < member.size + limits.reserve:
                raise ArchiveError(f"the disk is full, but for {limits.reserve:,} bytes that stay free")
            _take(member, staging, tally)
            bar.update()
    return tally


def _take(member: _Member, staging: Path, tally: Tally) -> None:
    """Write one member, or count it as skipped."""
    parts = safe_parts(member.name)
    place = staging.joinpath(*parts)
    if is_stray(parts):
        tally.strays += 1
    elif member.kind == "folder":
        place.mkdir(parents=True, exist_ok=True)
    elif member.kind != "file":
        tally.skipped.append((member.name, f"a {member.kind}, not a file"))
    elif place.exists():
        tally.skipped.append((member.name, "a second member of that name"))
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        _copy(member, place)
        tally.files, tally.bytes = tally.files + 1, tally.bytes + member.size


def _copy(member: _Member, place: Path) -> None:
    # No mode, owner or time is taken over from the archive.
    with member.open() as source, place.open("xb") as out:
        shutil.copyfileobj(source, out, CHUNK)
    if place.stat().st_size != member.size:
        raise ArchiveError(f"the member {member.name!r} is not as long as it says")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Say `ArchiveError` for everything that the readers raise on broken or odd archives."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise ArchiveError(f"is broken: {error}") from error
    except (RuntimeError, NotImplementedError) as error:  # encrypted; an unknown compression
        raise ArchiveError(f"cannot be read: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ArchiveError(f"holds a file and a folder of one name: {error.filename}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG):
            raise ArchiveError(f"cannot be written: {error.strerror}") from error
        raise


def _members(archive: Path, limits: Limits, stack: ExitStack) -> Iterator[_Member]:
    kind = suffix(archive.name)
    if not kind:
        raise ArchiveError(f"is none of {', '.join(MAGIC)}")
    return (_zip_members if kind == ".zip" else _tar_members)(archive, limits, stack)


def _zip_members(archive: Path, limits: Limits, stack: ExitStack) -> Iterator[_Member]:
    file = stack.enter_context(zipfile.ZipFile(archive))
    # A zip tells its sizes beforehand, and zipfile gives no more than told: refuse before anything is written.
    told = sum(info.file_size for info in file.infolist())
    if told > limits.max_bytes:
        raise ArchiveError(f"unpacks to {told:,} bytes; at most {limits.max_bytes:,} are allowed")
    if told > limits.max_ratio * archive.stat().st_size + RATIO_SLACK:
        raise ArchiveError(f"unpacks to more than {limits.max_ratio:g} times its size")
    for info in file.infolist():
        mode = stat.S_IFMT(info.external_attr >> 16)
        kind = "link" if stat.S_ISLNK(mode) else "file" if mode in (0, stat.S_IFREG) else "special"
        kind = "folder" if info.is_dir() else kind
        yield _Member(info.filename, info.file_size, kind, lambda info=info: file.open(info))


def _tar_members(archive: Path, limits: Limits, stack: ExitStack) -> Iterator[_Member]:
    raw = stack.enter_context(archive.open("rb"))
    packed = suffix(archive.name) != ".tar"
    stream = _Metered(stack.enter_context(gzip.GzipFile(fileobj=raw)) if packed else raw, raw, limits)
    file = stack.enter_context(tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictInfo))
    while (info := file.next()) is not None:
        kind = "file" if info.isreg() else "folder" if info.isdir() else "special"
        kind = "link" if info.issym() or info.islnk() else kind
        yield _Member(info.name, info.size, kind, lambda info=info: file.extractfile(info))
        file.members.clear()  # tarfile would keep every header it has seen
    while stream.read(CHUNK):  # to the end, where gzip keeps its checksum
        pass


class _StrictInfo(tarfile.TarInfo):
    """tarfile takes a broken header in the middle for the archive's end, and so loses the rest in silence."""

    @classmethod
    def fromtarfile(cls, file: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(file)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:
            raise ArchiveError(f"is broken at byte {file.offset:,}: {error}") from error


class _Metered:
    """A decompressed stream that stops once it has grown out of proportion to the compressed bytes read."""

    def __init__(self, stream: IO[bytes], raw: IO[bytes], limits: Limits) -> None:
        self.stream, self.raw, self.limits, self.given = stream, raw, limits, 0

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.given += len(data)
        if self.given > self.limits.max_ratio * self.raw.tell() + RATIO_SLACK:
            raise ArchiveError(f"unpacks to more than {self.limits.max_ratio:g} times its size")
        return data
