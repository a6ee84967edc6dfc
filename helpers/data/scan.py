"""From a folder of files to a checked catalogue: what each file is, remembered between runs; why some are set aside.

`Place` finds a data set; `scan` reads every image once; `catalogue_of` turns its rows into a catalogue; `fingerprint`
is the cheap question that keys ask: has anything changed that a data set is read from? Both look into one store.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import ExifTags

from helpers.data.catalogue import OPTIONAL, REQUIRED, Catalogue, CatalogueError
from helpers.data.images import UnreadableImage, average_hash, check_file, open_image, to_grey
from helpers.run.cache import code_digest, file_digest, read_digest
from helpers.run.provenance import available_cores, write_json

SAVE_EVERY = 10_000  # files; a killed scan of 110,000 goes on from there
HASHED_FROM = 128  # pixels; large JPEGs are decoded at a fraction of their size, never below this
DEEPEST = 4  # folders below the data folder that are searched: mirrors wrap the archives' folders in their own
MOST_FOLDERS = 20_000  # that are searched: who gives a whole disk as the data folder does not wait for ever
SETTLED = 1_000_000_000  # nanoseconds after which a folder's time tells whether it has changed
DEEPEST_FILE = 32  # folders below a data set's folder; what lies deeper is set aside
MARKER = ".unpacked.json"  # in a folder that `make data` unpacked: what it came from, and the digests of its files
DIGITS = 16  # of each SHA-256 that are kept there
STRAYS = {"thumbs.db", "desktop.ini", "__macosx"}  # left by operating systems, as is all that starts with a dot
UNOPENED = "cannot be opened"  # a reason that is not remembered: rights and disks change while files do not
KEY = {"path": str, "size": "int64", "mtime_ns": "int64"}  # a file is read again when one of them changes
Entries = dict[str, list[tuple[str, bool]]]  # plain name: real names, and whether each is a folder
FACTS = {"digest": str, "width": "int32", "height": "int32", "mode": str, "average_hash": str, "reason": str}


# --- finding and describing a data set --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A data set as loaders, `make data`, `make check` and keys recognise it: by what lies in its folder.

    A folder is the data set's where one of `marks` lies in it: a pattern (see `matching`), or a group of patterns of
    which none may be missing. It is looked for in the data folder and down to `DEEPEST` below. `reads` are patterns of
    what its loader reads, `part` a group that shows that something of it lies there. `cards` name its archives in
    data/datasets.toml, the best first; `patients` is their published number.
    """

    name: str
    marks: tuple[str | tuple[str, ...], ...]
    reads: tuple[str, ...]
    looked_for: str
    remedy: str = "Get it with: make data PROFILE=paper"
    part: tuple[str, ...] = ()
    cards: tuple[str, ...] = ()
    patients: str = ""

    def all_in(self, data_dir: Path) -> list[Path]:
        """Every folder that is the data set's. A copy inside another is none of its own."""
        return _search(data_dir, self.marks)

    def find(self, data_dir: Path) -> Path:
        """The folder. Raises FileNotFoundError where there is none, `CatalogueError` for two, a part or an archive."""
        found = self.all_in(data_dir)
        if len(found) > 1:
            raise CatalogueError(
                f"{len(found)} copies or versions of {self.name}: {' and '.join(map(printable, found[:4]))}. "
                "Which one? They are not mixed: move the others out of the data folder, or read one alone: "
                f"DATA_DIR={printable(found[0])}"
            )
        if found:
            return found[0]
        where = f"{printable(data_dir)}{_state(data_dir)}"
        text = f"no {self.name} in {where}: looked there, and down to {DEEPEST} folders below, for {self.looked_for}. "
        if unfit := self._almost(data_dir):
            raise CatalogueError(text + unfit)
        raise FileNotFoundError(text + self.remedy)

    def is_absent(self, data_dir: Path) -> bool:
        """Whether nothing of it lies there, so that fetching it makes sense."""
        return not self.all_in(data_dir) and not self._almost(data_dir)

    def _almost(self, data_dir: Path) -> str:
        """What lies there of the data set after all, and what to do with it, so that nobody downloads it again."""
        for above in list(data_dir.absolute().parents)[:2]:
            if _holds(above, self.marks):
                return f"It is a folder inside the data set; give the whole: DATA_DIR={printable(above)}"
        if self.part and (found := _search(data_dir, (self.part,))):
            return f"{printable(found[0])} has a part of it, but the whole must lie in one folder, as published"
        for path in matching(data_dir, "*.zip"):
            if _archived(path, self.marks):
                return f"{printable(path)} holds it: unpack it there"
        return ""

    def read_from(self, data_dir: Path) -> list[Path]:
        """What the loader reads, as far as it exists: files and folders."""
        return sorted({path for root in self.all_in(data_dir) for name in self.reads for path in matching(root, name)})


def places_of(source: str, *places: Place) -> Callable[..., tuple[Place, ...]]:
    """The function `places(settings)` of a data set: these places, none for phantoms.

    `source` names the setting that says which images they are.
    """
    return lambda settings: () if getattr(settings, source).startswith(("phantom", "none")) else places


def matching(root: Path, pattern: str) -> list[Path]:
    """What lies below `root` under a pattern such as "train/cnv/" or "images*/".

    Folders where the pattern ends in /, else files. Patterns are in small letters; a name's case and blanks around it
    do not count, and strays are passed over. What is neither (a pipe, a link to nothing) is not there.
    """
    found, parts = [root], pattern.removesuffix("/").split("/")
    for k, part in enumerate(parts):
        folder_wanted = k + 1 < len(parts) or pattern.endswith("/")
        inside = []
        for folder in found:
            known = _entries(folder)
            plain = [part] if part in known or not set("*?[") & set(part) else fnmatch.filter(known, part)
            named = [pair for name in plain for pair in known.get(name, ())]
            inside += [folder / name for name, is_folder in named if is_folder == folder_wanted]
        found = inside
    return sorted(found)


def _entries(folder: Path) -> Entries:
    """Files and folders of one folder by their plain name, in small letters and without blanks around; {} of none.

    They are remembered as long as the folder's time stands, since many data sets are looked for in the same folders.
    """
    try:
        changed = folder.stat().st_mtime_ns
        settled = time.time_ns() - changed > SETTLED  # a change in the same tick of the clock would go unseen
        return (_read_entries if settled else _read_entries.__wrapped__)(folder, changed)
    except OSError:  # it is missing, is none, or may not be read: `_state` and `scan` say so
        return {}


@functools.lru_cache(maxsize=1000)
def _read_entries(folder: Path, changed: int) -> Entries:
    found: Entries = {}
    with os.scandir(folder) as opened:
        for entry in opened:
            if not is_stray(entry.name) and (kind := _kind(entry)):
                found.setdefault(entry.name.strip().lower(), []).append((entry.name, kind == "folder"))
    return found


def _holds(folder: Path, marks: Iterable[str | tuple[str, ...]]) -> bool:
    return any(all(matching(folder, mark) for mark in _group(marked)) for marked in marks)


def _group(mark: str | tuple[str, ...]) -> tuple[str, ...]:
    return (mark,) if isinstance(mark, str) else mark


def _archived(archive: Path, marks: Iterable[str | tuple[str, ...]]) -> bool:
    """Whether a zip file lists what would mark the data set."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = {"/".join(["", *map(str.strip, name.lower().split("/"))]) for name in opened.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    return any(all(fnmatch.filter(names, f"*/{mark}*") for mark in _group(marked)) for marked in marks)


def _search(data_dir: Path, marks: tuple[str | tuple[str, ...], ...]) -> list[Path]:
    """The folders down to `DEEPEST` in which `marks` lie, the nearest first; none inside another, none by two ways."""
    found, seen, level = [], set(), [data_dir] if data_dir.is_dir() else []
    for _ in range(DEEPEST + 1):
        inside = []
        for folder in level:
            if (identity := _identity(folder)) in seen or len(seen) >= MOST_FOLDERS:
                continue
            seen.add(identity)
            if _holds(folder, marks):
                found.append(folder)
            else:
                names = [name for pairs in _entries(folder).values() for name, is_folder in pairs if is_folder]
                inside += [folder / name for name in sorted(names)]
        level = inside
    return found


def _state(folder: Path) -> str:
    """Why nothing can be found in a folder, for a sentence."""
    if folder.is_dir():
        return "" if os.access(folder, os.R_OK | os.X_OK) else ", which may not be read"
    return ", which is no folder" if folder.exists() else ", which does not exist"


def first_reason(index: pd.Index, *reasons: tuple[pd.Series, str | pd.Series]) -> pd.Series:
    """Why each row is set aside: the text of the first condition that holds for it; empty where none does."""
    found = pd.Series("", index=index, dtype=object)
    for holds, text in reversed(reasons):
        found = found.mask(holds, text)
    return found


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

    Where a folder lies does not matter. Its files are looked at as `scan` does, so only those whose size or time
    changed are read again, and 100,000 unchanged ones are listed in a second or two.
    """
    total = hashlib.sha256()
    for path in paths:
        total.update(os.fsencode(path.name) + f"\0{path.exists()}\0".encode())
        if path.is_dir():
            total.update(_folder_digest(path, cache).encode())
        elif path.is_file():
            total.update(file_digest(path).encode())
    return total.hexdigest()[:16]


def _folder_digest(folder: Path, cache: Path) -> str:
    """A digest of a folder's names and contents, remembered as long as no file's size or time changes."""
    listed = hashlib.sha256(pd.util.hash_pandas_object(listing(folder), index=False).to_numpy().tobytes()).hexdigest()
    store = _store_of(folder, cache).with_suffix(".json")
    if store.is_file() and (known := json.loads(store.read_text("utf-8")))["listed"] == listed:
        return known["digest"]
    rows = _looked_at(folder, cache, 0)
    texts = rows["path"] + "\0" + rows["digest"].mask(rows["digest"] == "", rows["reason"])
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    if not rows["reason"].str.startswith(UNOPENED).any():
        write_json(store, {"listed": listed, "digest": digest})
    return digest


def unverified(root: Path, digests: Iterable[str]) -> str:
    """Why files are not known to be an archive's own; '' where `make data` unpacked it and they are unchanged.

    `root`: the folder that a loader reads, in the unpacked one or that itself; `digests`: SHA-256 of the files.
    """
    places = (root, *root.parents[:2], *(place for place in root.iterdir() if place.is_dir()))
    notes = [json.loads((place / MARKER).read_text("utf-8")) for place in places if (place / MARKER).is_file()]
    if not notes or not all(note.get("sha256") and note.get("files") for note in notes):
        return f"not verified, for {root.name} was not unpacked from its archive by `make data`"
    changed = {digest[:DIGITS] for digest in digests}.difference(*(note["files"] for note in notes))
    return f"{len(changed):,} are not as `make data` unpacked them" if changed else ""


def is_stray(name: str) -> bool:
    """True for a relative path that holds a hidden file or folder, or another that an operating system made."""
    return any(part.startswith(".") or part.lower() in STRAYS for part in name.split("/"))


# --- looking at every image -------------------------------------------------------------------------------------------


def scan(root: Path, cache: Path, workers: int = 0, under: Iterable[str] = (".",)) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Looks at every file below `root` (or only in its folders `under`, as far as they exist), in parallel.

    Returns (frame, excluded). `frame`, one row per readable image sorted by path: `path` (relative to `root`, with /),
    `size` (bytes), `mtime_ns`, `digest` (SHA-256), `width`, `height` (pixels), `mode` (Pillow's), `average_hash`.
    `excluded`: `path` and `reason` of the files that are no readable image. What operating systems leave behind
    (`._*`, `.DS_Store`, `Thumbs.db`, `__MACOSX`; see `is_stray`) is neither.

    The result is kept in `cache`/scans: only files whose size or time changed are read again.
    """
    parts = []
    for name in sorted(under):
        rows = _looked_at(root / name, cache, workers)
        parts.append(rows.assign(path=("" if name == "." else f"{name}/") + rows["path"]))
    rows = pd.concat(parts, ignore_index=True)
    bad = rows["reason"] != ""
    frame = rows.loc[~bad].drop(columns="reason").reset_index(drop=True)
    return frame, rows.loc[bad, ["path", "reason"]].reset_index(drop=True)


def _looked_at(folder: Path, cache: Path, workers: int) -> pd.DataFrame:
    """`KEY` and `FACTS` of every file below a folder, by path: from its store where unchanged, else read and stored."""
    from filelock import FileLock
    from tqdm import tqdm

    store = _store_of(folder, cache)
    store.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(store.with_suffix(".lock")):  # two notebooks may open the same data at once
        rows = listing(folder).merge(_stored(store), on=list(KEY), how="left")
        todo = rows.index[rows["reason"].isna()]
        bar = tqdm(total=len(todo), desc="reading images", unit="image", file=sys.stderr, delay=3, mininterval=1)
        with ThreadPoolExecutor(workers or available_cores(), thread_name_prefix="scan") as pool, bar:
            for start in range(0, len(todo), SAVE_EVERY):
                part = todo[start : start + SAVE_EVERY]
                facts = []
                for fact in pool.map(examine, [folder / path for path in rows.loc[part, "path"]]):
                    facts.append(fact)
                    bar.update()
                rows.loc[part, list(FACTS)] = pd.DataFrame(facts, columns=list(FACTS), index=part)
                _save(rows.loc[rows["reason"].notna() & ~rows["reason"].astype(str).str.startswith(UNOPENED)], store)
    return rows.astype(FACTS)


def _store_of(folder: Path, cache: Path) -> Path:
    """Where is kept what was found in a folder's files; what is looked for in them is decided by the code."""
    where = f"{folder.resolve()}\0{code_digest(__name__)}"
    return cache / "scans" / f"{hashlib.sha256(os.fsencode(where)).hexdigest()[:16]}.parquet"


def listing(folder: Path) -> pd.DataFrame:
    """The columns of `KEY` for everything at any depth that is no stray, sorted by path; of folders, only closed ones.

    Linked folders are followed (data often lies on another disk), but none twice, and none that holds this one.
    """
    rows, waiting = [], [(folder, "", 0)]
    seen = {_identity(above) for above in folder.resolve().parents}
    while waiting:
        here, above, depth = waiting.pop()
        try:
            if (identity := _identity(here)) in seen:
                continue
            seen.add(identity)
            with os.scandir(here) as opened:
                entries = sorted(opened, key=lambda entry: entry.name, reverse=True)
        except OSError:
            rows += [(above.rstrip("/") or ".", 0, 0)] if above or folder.is_dir() else []
            continue
        for entry in entries:
            if not is_stray(entry.name):
                if _kind(entry) == "folder" and depth < DEEPEST_FILE:
                    waiting.append((here / entry.name, f"{above}{printable(entry.name)}/", depth + 1))
                else:
                    rows.append((above + printable(entry.name), *_stamp(entry)))
    rows.sort(key=lambda row: row[0].split("/"))
    return pd.DataFrame(rows, columns=list(KEY)).astype(KEY)


def _stamp(entry: os.DirEntry) -> tuple[int, int]:
    """Size and time; nought of a link to nothing, which is listed, and set aside."""
    try:
        status = entry.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _identity(folder: Path) -> tuple[int, int]:
    """The same for one folder, by whatever way it is reached."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _kind(entry: os.DirEntry) -> str:
    """folder, file, or "" for anything else, also a link to nothing or to itself."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:
        return ""


def printable(name: str | Path) -> str:
    """A file's name or text, with what is no UTF-8 in it written out, so that any program can print and keep it."""
    return str(name).encode(errors="backslashreplace").decode()


def examine(path: Path) -> tuple[str, int, int, str, str, str]:
    """The `FACTS` of one file. The reason is empty for a readable image; else the other facts may be."""
    from helpers.data.damage import find_damage  # numba takes half a second to import, and keys and notebooks need none

    digest = ""
    try:
        check_file(path)
        digest = read_digest(path)
        with open_image(path) as image:
            (width, height), mode = image.size, image.mode
            image.draft("L", (HASHED_FROM, HASHED_FROM))
            image.load()
            if image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:
                width, height = height, width
            grey = np.asarray(to_grey(image))
        damage = find_damage(path.read_bytes())
    except UnreadableImage as error:
        return digest, 0, 0, "", "", error.reason
    except OSError as error:
        reason = "its name is not UTF-8" if "\\udc" in path.name else error.strerror
        return "", 0, 0, "", "", f"{UNOPENED}: {reason}"
    return digest, width, height, mode, average_hash(grey), damage and f"damaged: {damage}"


def _stored(store: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(store, columns=[*KEY, *FACTS])
    except Exception:  # none yet, or damaged, for which pyarrow has many words: everything is read again
        return pd.DataFrame(columns=[*KEY, *FACTS]).astype(KEY)


def _save(rows: pd.DataFrame, store: Path) -> None:
    temporary = store.with_suffix(f".{os.getpid()}.tmp")
    rows.to_parquet(temporary, index=False)
    temporary.replace(store)  # atomic: a reader sees the old scan or the new one
