"""One file over HTTP, resumed where it was cut, and stopped where it is wrong.

pooch, the usual choice, throws a partial file away and starts over: of no use for 6 GB on a shaky line. The HTTP
itself is requests'; what is written here is the resuming (RFC 9110: Range, If-Range) and the distrust.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3
from tqdm import tqdm

from helpers.data.archives import begins_like

logger = logging.getLogger(__name__)

CHUNK = 1 << 18  # bytes; what a reset connection may lose
TRY_AGAIN = {408, 425, 429}  # and every 5xx


class DownloadError(RuntimeError):
    """A file that could not be had; the message says what was expected, what came, and what to do."""


class WrongFileError(DownloadError):
    """The server has another file than the one expected."""


class _CutError(Exception):
    """This attempt came to nothing or ended early; another may do better. `wait`: seconds the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Patience:
    """How long a bad connection is put up with. Times in seconds."""

    stalls: int = 6  # attempts in a row that bring nothing new
    attempts: int = 200  # in all
    wait: float = 1.0  # before the next attempt; doubles with each stall
    longest_wait: float = 60.0
    timeout: float = 60.0  # to connect, and between two pieces of the body


@dataclass(frozen=True)
class Goal:
    """The file wanted: its name, its exact size in bytes or None, and the most bytes that may come."""

    name: str
    size: int | None
    limit: int


class Part:
    """The unfinished file, and beside it what the server said of it, so that halves of two files never mix."""

    def __init__(self, path: Path, url: str) -> None:
        self.path, self.url = path, url
        self.notes_path = path.with_name(path.name + ".json")
        if self.notes().get("url") != url:
            self.discard()

    @property
    def held(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def notes(self) -> dict[str, Any]:
        try:
            return json.loads(self.notes_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def note(self, response: requests.Response, total: int | None) -> None:
        """Remember whose bytes these are; what this answer does not say, an earlier one did."""
        known = self.notes()
        validator, total = _validator(response) or known.get("validator"), total or known.get("total")
        facts = {"url": self.url, "validator": validator, "total": total}
        self.notes_path.write_text(json.dumps(facts), encoding="utf-8")

    def continues(self, response: requests.Response, start: int | None, total: int | None) -> bool:
        """Whether a 206's body is the rest of the same file, even from a server that ignores If-Range."""
        known = self.notes() if self.held else {}
        pairs = (known.get("validator"), _validator(response)), (known.get("total"), total)
        return start == self.held and not any(old and new and old != new for old, new in pairs)

    def headers(self) -> dict[str, str]:
        """Ask for the rest, and only if it is the rest of the same file."""
        if not self.held:
            return {}
        validator = self.notes().get("validator")
        return {"Range": f"bytes={self.held}-", **({"If-Range": validator} if validator else {})}

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.notes_path.unlink(missing_ok=True)


def fetch(url: str, path: Path, goal: Goal, *, patience: Patience | None = None, progress: bool = True) -> None:
    """Bring the whole file to `path`, going on with what is there from an earlier attempt or run.

    A cut, a timeout, HTTP 5xx, 408 and 429 are tried again, with growing pauses; what came so far is kept.
    Content-Length is not trusted: with a known size the file is whole when that many bytes are there, and no more
    come. Digests are the caller's business.

    Raises `WrongFileError` (and keeps nothing) for a web page, a file of another kind or size; `DownloadError` for any
    other HTTP status, or when patience is at an end.
    """
    patience, part = patience or Patience(), Part(path, url)
    best, stalls, attempts, reason, wait = part.held, 0, 0, "", 0.0
    with _session() as session, _bar(part, goal, progress) as bar:
        while attempts < patience.attempts and stalls < patience.stalls:
            if attempts:
                time.sleep(min(patience.longest_wait, max(wait, patience.wait * 2**stalls)))
            attempts += 1
            try:
                return _attempt(session, part, goal, patience.timeout, bar)
            except WrongFileError:
                part.discard()
                raise
            except _CutError as cut:
                reason, wait = str(cut), cut.wait
            logger.warning("%s: %s; %s bytes so far", goal.name, reason, f"{part.held:,}")
            stalls, best = (0, part.held) if part.held > best else (stalls + 1, best)
    kept = f"; {part.held:,} bytes of it are kept, and the next run goes on from there" if part.held else ""
    raise DownloadError(f"{goal.name}: gave up after {attempts} attempts: {reason}{kept}")


def _session() -> requests.Session:
    session = requests.Session()
    session.max_redirects = 5
    # identity: a transport encoding would change the bytes that sizes, offsets and digests are about.
    session.headers.update({"User-Agent": "medical-imaging-reproductions", "Accept-Encoding": "identity"})
    return session


def _bar(part: Part, goal: Goal, progress: bool) -> tqdm:
    total, held = goal.size, part.held
    return tqdm(total=total, initial=held, desc=goal.name, unit="B", unit_scale=True, disable=not progress)


def _attempt(session: requests.Session, part: Part, goal: Goal, timeout: float, bar: tqdm) -> None:
    """One request. Returns when the file is whole, else raises."""
    if goal.size is not None and part.held == goal.size:
        return  # whole: the server declared too much, or an earlier run was killed before it could say so
    if part.held > goal.limit:
        part.discard()
    try:
        with session.get(part.url, headers=part.headers(), stream=True, timeout=timeout) as response:
            refuse_downgrade(part.url, response.url)
            if _answer(response, part, goal):
                _receive(response, part, goal, bar)
    except requests.TooManyRedirects as error:
        raise DownloadError(f"{part.url}: redirects without end") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise DownloadError(f"{part.url}: the server's certificate is not valid") from error
        raise _CutError(f"{type(error).__name__}: {error}") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(f"{goal.name}: the disk is full; {part.held:,} bytes are kept") from error
        raise


def refuse_downgrade(asked: str, answered: str) -> None:
    """Raise `DownloadError` where a redirect left https."""
    if asked.startswith("https:") and not answered.startswith("https:"):
        raise DownloadError(f"{asked}: redirects to {answered}, which is not encrypted")


def _answer(response: requests.Response, part: Part, goal: Goal) -> bool:
    """Look at status and headers. True: a body to take, appended to the part; False: the part is whole already."""
    status, held = response.status_code, part.held
    start, total = _content_range(response)
    if status == 416 and held:
        if total == held and goal.size is None:
            return False
        if total == held:
            raise WrongFileError(f"{goal.name}: expected {goal.size:,} bytes; the server's file has {total:,}")
        part.discard()
        raise _CutError("the server refused to resume")
    if status in TRY_AGAIN or status >= 500:
        after = response.headers.get("Retry-After", "")
        raise _CutError(f"HTTP {status} {response.reason}", float(after) if after.isdigit() else 0.0)
    if status not in (200, 206):
        raise DownloadError(f"{goal.name}: HTTP {status} {response.reason} from {response.url}")
    if status == 206:
        if not part.continues(response, start, total):
            part.discard()
            raise _CutError("the server resumed at the wrong place, or another file")
    else:
        part.discard()  # all of it comes (again): Range was ignored, or the file has changed
        total = int(length) if (length := response.headers.get("Content-Length", "")).isdigit() else None
    _compare(total, goal)
    part.note(response, total)
    return True


def _validator(response: requests.Response) -> str:
    """What names this very version of the file. A weak ETag (W/...) is no promise of the same bytes."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Start and total of 'bytes 5-9/10', 'bytes 5-9/*' or 'bytes */10'; None for what is not said."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    start, total = found.groups() if found else (None, None)
    return (int(start) if start else None), (int(total) if total and total != "*" else None)


def _compare(declared: int | None, goal: Goal) -> None:
    if declared is None or declared == goal.size:
        return
    if goal.size is not None:  # a lie or another file: the bytes will tell
        logger.warning("%s: the server declares %s bytes, expected %s", goal.name, f"{declared:,}", f"{goal.size:,}")
    elif declared > goal.limit:
        raise WrongFileError(
            f"{goal.name}: the server declares {declared:,} bytes; at most {goal.limit:,} can be taken"
        )


def _receive(response: requests.Response, part: Part, goal: Goal, bar: tqdm) -> None:
    held = bar.n = part.held
    with part.path.open("ab") as file:
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            if held == 0:
                _refuse_other_kind(response, chunk, goal.name)
            held += len(chunk)
            if held > goal.limit:
                raise WrongFileError(f"{goal.name}: expected at most {goal.limit:,} bytes; the server sends more")
            file.write(chunk)
            bar.update(len(chunk))
    whole = goal.size if goal.size is not None else part.notes().get("total")
    if whole is not None and held != whole:
        declared = part.notes().get("total")
        raise _CutError(f"ended after {held:,} of {whole:,} bytes (declared by the server: {declared})")


def _refuse_other_kind(response: requests.Response, head: bytes, name: str) -> None:
    """Recognise a login page, or another kind of file, by its first bytes: not after 6 GB."""
    page = re.match(rb"\s*<(!doctype html|html)", head, re.IGNORECASE)
    if page or response.headers.get("Content-Type", "").startswith("text/html"):
        title = re.search(rb"<title[^>]*>([^<]{1,80})", head, re.IGNORECASE)
        words = f" ('{title[1].decode('utf-8', 'replace').strip()}')" if title else ""
        raise WrongFileError(f"{name}: the server sent a web page{words}, perhaps a login, in place of the file")
    if not begins_like(name, head):
        raise WrongFileError(f"{name}: what the server sent does not begin like such a file: {head[:8]!r}")
