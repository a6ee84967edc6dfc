"""From a folder of files to a checked catalogue: what each file is, remembered between runs; why some are set aside.

`scan` reads every image once; `catalogue_of` turns its rows into a catalogue; `fingerprint` is the cheap question that
keys ask: has anything changed that a data set is read from?
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.catalogue import OPTIONAL, REQUIRED, Catalogue, CatalogueError
from helpers.data.images import UnreadableImage, average_hash, open_image, to_grey, worker_count

LAYOUT = 1  # of the stored rows; a scan stored in another layout is not read
SAVE_EVERY = 10_000  # files; a killed scan of 110,000 goes on from there
HASHED_FROM = 128  # pixels; large JPEGs are decoded at a fraction of their size, never below this
STRAYS = {"thumbs.db", "desktop.ini", "__macosx"}  # left by operating systems, as is all that starts with a dot
UNOPENED = "cannot be opened"  # a reason that is not remembered: rights and disks change while files do not
KEY = ["path", "size", "mtime_ns"]  # a file is read again when one of them changes
FACTS = ["digest", "width", "height", "mode", "average_hash", "reason"]


class ScanError(RuntimeError):
    """A stored scan that cannot be read; the message names the file."""


# --- finding and describing a data set --------------------------------------------------------------------------------


def find_folder(
    data_dir: Path, layouts: Sequence[str], holds: Callable[[Path], bool], name: str, looked_for: str, remedy: str
) -> Path:
    """The folder that `holds` the data set: `data_dir` itself, or one of `layouts` below it.

    Raises FileNotFoundError where there is none, with what was `looked_for` and the `remedy`, and `CatalogueError`
    where there are two (a copy inside the other is no second one).
    """
    if holds(data_dir):
        return data_dir
    found = [place for layout in layouts if holds(place := data_dir / layout)]
    found = [place for place in found if not any(place != other and place.is_relative_to(other) for other in found)]
    if len(found) > 1:
        raise CatalogueError(
            f"two versions of {name}: {' and '.join(map(str, found))}. Which one? Point the data folder at it: "
            f"DATA_DIR={found[0]}"
        )
    if not found:
        state = "" if data_dir.is_dir() else ", which does not exist"
        raise FileNotFoundError(
            f"no {name} in {data_dir}{state}: looked there and in {', '.join(layouts)} for {looked_for}. {remedy}"
        )
    return found[0]


def existing(data_dir: Path, layouts: Sequence[str], patterns: Sequence[str]) -> list[Path]:
    """What a data set is read from: the files and folders that match, in `data_dir` and in each of its layouts."""
    roots = [data_dir, *(data_dir / layout for layout in layouts)]
    return sorted({path for root in roots for pattern in patterns for path in root.glob(pattern)})


def catalogue_of(
    name: str, root: Path, rows: pd.DataFrame, classes: tuple[str, ...], *excluded: pd.DataFrame
) -> Catalogue:
    """The catalogue of a scan's `rows`, to which a loader has added a catalogue's columns and `reason`.

    A row whose `reason` is not empty is set aside with it, beside the files `excluded` elsewhere (path, reason).
    Classes without an image are left out. Raises `CatalogueError` where no row is left.
    """
    used = rows["reason"] == ""
    if not used.any():
        raise CatalogueError(f"{name}: no usable image under {root}")
    columns = [column for column in (*REQUIRED, *OPTIONAL) if column in rows]
    usable = rows.loc[used, columns].reset_index(drop=True)
    aside = pd.concat([*excluded, rows.loc[~used, ["path", "reason"]]])
    present = tuple(label for label in classes if label in set(usable["label"]))
    return Catalogue(name, root, usable, present, aside.sort_values("path", kind="stable", ignore_index=True))


# --- what has changed -------------------------------------------------------------------------------------------------


def fingerprint(paths: Iterable[Path], cache: Path) -> str:
    """A digest of the names and contents of these files and folders, 16 hex digits; a missing path counts as missing.

    Where a folder lies does not matter. Contents are hashed once and remembered in `cache`/digests.json: only files
    whose size or time changed are read again, so that 5,000 unchanged files take a fraction of a second. Strays of
    operating systems (see `is_stray`) do not count.
    """
    store = cache / "digests.json"
    known = _stored_digests(store)
    found, stale, total = {}, {}, hashlib.sha256()
    for path in paths:
        total.update(f"{path.name}\0{path.exists()}\0".encode())
        for name, file, size, mtime_ns in _entries(path.absolute()):
            place = str(file)
            entry = known.get(place)
            if entry is None or entry[:2] != [size, mtime_ns]:
                entry = stale[place] = [size, mtime_ns, _sha256(file)]
            found[place] = entry
            total.update(f"{name}\0{entry[2]}\0".encode())
    if stale:
        _keep_digests(store, stale)
    return total.hexdigest()[:16]


def _stored_digests(store: Path) -> dict[str, list]:
    try:
        return json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # lost or damaged: everything is hashed again


def _keep_digests(store: Path, fresh: dict[str, list]) -> None:
    from filelock import FileLock

    store.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(store.with_suffix(".lock")):  # two steps may look at two data sets at once
        temporary = store.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(_stored_digests(store) | fresh), encoding="utf-8")
        temporary.replace(store)


def _entries(path: Path) -> Iterator[tuple[str, Path, int, int]]:
    """Name below `path`, place, size and time of every file that is no stray, sorted by name."""
    if path.is_dir():
        start = len(str(path)) + 1
        names = sorted(file[start:].replace(os.sep, "/") for file in _files(path))
        files = [(name, path / name) for name in names if not is_stray(name)]
    else:
        files = [(path.name, path)] if path.exists() else []
    for name, file in files:
        try:
            status = file.stat()
        except OSError:
            status = file.lstat()  # a link to nothing is listed, and set aside
        yield name, file, status.st_size, status.st_mtime_ns


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"{UNOPENED}: {error.strerror}"


def _files(folder: Path) -> Iterator[str]:
    """Files at any depth; linked folders are followed (data often lies on another disk), but none twice."""
    seen = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        place = Path(here).resolve()
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        yield from (f"{here}{os.sep}{file}" for file in files)


def is_stray(name: str) -> bool:
    """True for a relative path that holds a hidden file or folder, or another that an operating system made."""
    return any(part.startswith(".") or part.lower() in STRAYS for part in name.split("/"))


# --- looking at every image -------------------------------------------------------------------------------------------


def scan(root: Path, cache: Path, workers: int = 0, under: Iterable[str] = (".",)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Looks at every file below `root` (or only in its folders `under`), in parallel.

    Returns (frame, excluded). `frame`, one row per readable image sorted by path: `path` (relative to `root`, with /),
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
    store = folder / f"{name}-v{LAYOUT}.parquet"
    with FileLock(store.with_suffix(".lock")):  # two notebooks may open the same data at once
        rows = _update(root, store, _listing(root, under), worker_count(workers))
    bad = rows["reason"] != ""
    frame = rows.loc[~bad].drop(columns="reason").reset_index(drop=True)
    return frame, rows.loc[bad, ["path", "reason"]].reset_index(drop=True)


def _listing(root: Path, under: Iterable[str]) -> pd.DataFrame:
    """The columns of `KEY` for every file that is no stray, sorted by path."""
    rows = []
    for folder in under:
        prefix = "" if folder == "." else f"{folder}/"
        rows += [(prefix + name, size, mtime_ns) for name, _, size, mtime_ns in _entries(root / folder)]
    rows = [row for row in sorted(rows, key=lambda row: row[0].split("/")) if not is_stray(row[0])]
    return pd.DataFrame(rows, columns=KEY).astype({"path": str, "size": "int64", "mtime_ns": "int64"})


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
    digest = _sha256(path)
    if digest.startswith(UNOPENED):
        return "", 0, 0, "", "", digest
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
