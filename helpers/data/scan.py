"""One pass over a folder of images: what each file is, its digest and its perceptual hash, remembered between runs."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.hashing import average_hash
from helpers.data.images import UnreadableImage, open_image, to_grey, worker_count

VERSION = 1  # of what a row says; a scan of another version is not read
SAVE_EVERY = 10_000  # files; a killed scan of 110,000 goes on from there
HASHED_FROM = 128  # pixels; large JPEGs are decoded at a fraction of their size, never below this
STRAYS = {
    "thumbs.db",
    "desktop.ini",
    "__macosx",
}  # left by operating systems, as is all that starts with a dot
UNOPENED = "cannot be opened"  # a reason that is not remembered: rights and disks change while files do not
KEY = ["path", "size", "mtime_ns"]  # a file is read again when one of them changes
FACTS = ["digest", "width", "height", "mode", "average_hash", "reason"]


class ScanError(RuntimeError):
    """A stored scan that cannot be read; the message names the file."""


def scan(root: Path, cache: Path, workers: int = 0, under: Iterable[str] = (".",)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Looks at every file below `root` (or only in its folders `under`), in parallel.

    Returns (frame, excluded). `frame`, one row a readable image sorted by path: `path` (relative to `root`, with /),
    `size` (bytes), `mtime_ns`, `digest` (SHA-256), `width`, `height` (pixels), `mode` (Pillow's), `average_hash`.
    `excluded`: `path` and `reason` of the files that are no readable image. What operating systems leave behind
    (`._*`, `.DS_Store`, `Thumbs.db`, `__MACOSX`; see `is_stray`) is neither.

    The result is kept in `cache`/scans: only files whose size or time changed are read again. Raises `ScanError` for
    a damaged cache file.
    """
    from filelock import FileLock

    under = sorted(under)
    folder = cache / "scans"
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256("\n".join([str(root.resolve()), *under]).encode()).hexdigest()[:16]
    store = folder / f"{name}-v{VERSION}.parquet"
    with FileLock(store.with_suffix(".lock")):  # two notebooks may open the same data at once
        rows = _update(root, store, _listing(root, under), worker_count(workers))
    bad = rows["reason"] != ""
    frame = rows.loc[~bad].drop(columns="reason").reset_index(drop=True)
    return frame, rows.loc[bad, ["path", "reason"]].reset_index(drop=True)


def is_stray(path: Path) -> bool:
    """True for a relative path that holds a hidden file or folder, or another that an operating system made."""
    return any(part.startswith(".") or part.lower() in STRAYS for part in path.parts)


def _listing(root: Path, under: Iterable[str]) -> pd.DataFrame:
    """The columns of `KEY` for every file that is no stray, sorted by path."""
    rows = []
    for path in sorted({path for folder in under for path in _files(root / folder)}):
        relative = path.relative_to(root)
        if not is_stray(relative):
            status = path.stat() if path.exists() else path.lstat()  # a link to nothing is listed, and set aside
            rows.append((relative.as_posix(), status.st_size, status.st_mtime_ns))
    return pd.DataFrame(rows, columns=KEY).astype({"path": str, "size": "int64", "mtime_ns": "int64"})


def _files(folder: Path) -> Iterator[Path]:
    """Files at any depth; linked folders are followed (data often lies on another disk), but none twice."""
    seen = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        place = Path(here).resolve()
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        yield from (Path(here) / file for file in files)


def _update(root: Path, store: Path, listing: pd.DataFrame, workers: int) -> pd.DataFrame:
    """The listing with its facts: from the store where a file is unchanged, else read now and stored."""
    from tqdm import tqdm

    rows = listing.merge(_stored(store), on=KEY, how="left")
    todo = rows.index[rows["reason"].isna()]
    bar = tqdm(total=len(todo), desc="reading images", unit="image", file=sys.stderr, delay=3, mininterval=1)
    with ThreadPoolExecutor(workers, thread_name_prefix="scan") as pool, bar:
        for start in range(0, len(todo), SAVE_EVERY):
            part = todo[start : start + SAVE_EVERY]
            facts = []
            for fact in pool.map(examine, [root / path for path in rows.loc[part, "path"]]):
                facts.append(fact)
                bar.update()
            rows.loc[part, FACTS] = pd.DataFrame(facts, columns=FACTS, index=part)
            _save(rows.loc[rows["reason"].notna() & ~rows["reason"].astype(str).str.startswith(UNOPENED)], store)
    texts = dict.fromkeys(("digest", "mode", "average_hash", "reason"), str)
    return rows.astype({**texts, "width": "int32", "height": "int32"})


def examine(path: Path) -> tuple[str, int, int, str, str, str]:
    """The `FACTS` of one file. The reason is empty for a readable image; else the other facts may be."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        return "", 0, 0, "", "", f"{UNOPENED}: {error.strerror}"
    try:
        with open_image(path) as image:
            (width, height), mode = image.size, image.mode
            image.draft("L", (HASHED_FROM, HASHED_FROM))
            grey = np.asarray(to_grey(image))
    except UnreadableImage as error:
        return digest, 0, 0, "", "", error.reason
    return digest, width, height, mode, average_hash(grey), ""


def _stored(store: Path) -> pd.DataFrame:
    if not store.exists():
        return pd.DataFrame(columns=KEY + FACTS).astype({"path": str, "size": "int64", "mtime_ns": "int64"})
    try:
        return pd.read_parquet(store, columns=KEY + FACTS)
    except Exception as error:  # pyarrow has many ways to say that a file is no good
        raise ScanError(f"{store} is damaged ({error}); delete it and run again") from None


def _save(rows: pd.DataFrame, store: Path) -> None:
    temporary = store.with_suffix(f".{os.getpid()}.tmp")
    rows.to_parquet(temporary, index=False)
    temporary.replace(store)  # atomic: a reader sees the old scan or the new one
