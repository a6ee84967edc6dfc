"""From a folder of files to a checked catalogue: what each file is, remembered between runs; why some are set aside.

`Place` finds a data set; `scan` reads every image once; `catalogue_of` turns its rows into a catalogue; `fingerprint`
is the cheap question that keys ask: has anything changed that a data set is read from? Both look into one store.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import ExifTags

from helpers.data.catalogue import OPTIONAL, REQUIRED, Catalogue, CatalogueError
from helpers.data.damage import find_damage
from helpers.data.images import UnreadableImage, average_hash, check_file, open_image, to_grey, worker_count
from helpers.run.cache import code_digest, file_digest

SAVE_EVERY = 10_000  # files; a killed scan of 110,000 goes on from there
HASHED_FROM = 128  # pixels; large JPEGs are decoded at a fraction of their size, never below this
STRAYS = {"thumbs.db", "desktop.ini", "__macosx"}  # left by operating systems, as is all that starts with a dot
UNOPENED = "cannot be opened"  # a reason that is not remembered: rights and disks change while files do not
KEY = {"path": str, "size": "int64", "mtime_ns": "int64"}  # a file is read again when one of them changes
FACTS = {"digest": str, "width": "int32", "height": "int32", "mode": str, "average_hash": str, "reason": str}


# --- finding and describing a data set --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where a data set lies: in the data folder itself, or in one of `layouts` below it.

    A folder is the data set's where `marks` (patterns) are found in it: one of them, or, with `whole`, all. `reads`
    are patterns of what its loader reads.
    """

    name: str
    layouts: tuple[str, ...]
    marks: tuple[str, ...]
    reads: tuple[str, ...]
    looked_for: str
    remedy: str = "Get it with: make data PROFILE=paper"
    whole: bool = False

    def _holds(self, root: Path) -> bool:
        return (all if self.whole else any)(any(root.glob(mark)) for mark in self.marks)

    def find(self, data_dir: Path) -> Path:
        """The folder. Raises FileNotFoundError where there is none, and `CatalogueError` where there are two.

        A copy inside the other is no second one.
        """
        if self._holds(data_dir):
            return data_dir
        found = [place for layout in self.layouts if self._holds(place := data_dir / layout)]
        found = [place for place in found if not any(place != other and place.is_relative_to(other) for other in found)]
        if len(found) > 1:
            raise CatalogueError(
                f"two versions of {self.name}: {' and '.join(map(str, found))}. Which one? Point the data folder at "
                f"it: DATA_DIR={found[0]}"
            )
        if not found:
            state = "" if data_dir.is_dir() else ", which does not exist"
            raise FileNotFoundError(
                f"no {self.name} in {data_dir}{state}: looked there and in {', '.join(self.layouts)} for "
                f"{self.looked_for}. {self.remedy}"
            )
        return found[0]

    def read_from(self, data_dir: Path) -> list[Path]:
        """What the loader reads, as far as it exists: files and folders in `data_dir` and in each of its layouts."""
        roots = [data_dir, *(data_dir / layout for layout in self.layouts)]
        return sorted({path for root in roots for pattern in self.reads for path in root.glob(pattern)})


def folders_of(source: str, *places: Place) -> Callable[..., list[Path]]:
    """The function `folders(settings)` of a data set: what its loader reads of these places, nothing for phantoms.

    `source` names the setting that says which images they are.
    """

    def folders(settings) -> list[Path]:
        real = () if getattr(settings, source).startswith("phantom") else places
        return [path for place in real for path in place.read_from(settings.data_dir)]

    return folders


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
    changed are read again, and 5,000 unchanged ones take a fraction of a second.
    """
    total = hashlib.sha256()
    for path in paths:
        total.update(f"{path.name}\0{path.exists()}\0".encode())
        if path.is_dir():
            rows = _looked_at(path, cache, 0)
            known = rows["path"] + "\0" + rows["digest"].mask(rows["digest"] == "", rows["reason"])
            total.update("\0".join(known).encode())
        elif path.is_file():
            total.update(file_digest(path).encode())
    return total.hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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

    where = f"{folder.resolve()}\0{code_digest(__name__)}"  # what is looked for in a file is decided by the code
    store = cache / "scans" / f"{hashlib.sha256(os.fsencode(where)).hexdigest()[:16]}.parquet"
    store.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(store.with_suffix(".lock")):  # two notebooks may open the same data at once
        rows = listing(folder).merge(_stored(store), on=list(KEY), how="left")
        todo = rows.index[rows["reason"].isna()]
        bar = tqdm(total=len(todo), desc="reading images", unit="image", file=sys.stderr, delay=3, mininterval=1)
        with ThreadPoolExecutor(worker_count(workers), thread_name_prefix="scan") as pool, bar:
            for start in range(0, len(todo), SAVE_EVERY):
                part = todo[start : start + SAVE_EVERY]
                facts = []
                for fact in pool.map(examine, [folder / path for path in rows.loc[part, "path"]]):
                    facts.append(fact)
                    bar.update()
                rows.loc[part, list(FACTS)] = pd.DataFrame(facts, columns=list(FACTS), index=part)
                _save(rows.loc[rows["reason"].notna() & ~rows["reason"].astype(str).str.startswith(UNOPENED)], store)
    return rows.astype(FACTS)


def listing(folder: Path) -> pd.DataFrame:
    """The columns of `KEY` for every file at any depth that is no stray, sorted by path.

    Linked folders are followed (data often lies on another disk), but none twice.
    """
    rows, seen, start = [], set(), len(str(folder)) + 1
    closed: list[OSError] = []  # folders that may not be read
    for here, folders, files in os.walk(folder, followlinks=True, onerror=closed.append):
        place = Path(here).resolve()
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        for name in (f"{here}{os.sep}{file}"[start:].replace(os.sep, "/") for file in files):
            if not is_stray(name):
                path = folder / name
                # A link to nothing is listed, and set aside.
                status = os.stat(path) if os.path.exists(path) else os.lstat(path)  # noqa: PTH110, PTH116
                rows.append((printable(name), status.st_size, status.st_mtime_ns))
    rows += [(printable(error.filename[start:] or "."), 0, 0) for error in closed]
    rows.sort(key=lambda row: row[0].split("/"))
    return pd.DataFrame(rows, columns=list(KEY)).astype(KEY)


def printable(name: str) -> str:
    """A file's name, with what is no UTF-8 in it written out, so that any program can print and keep it."""
    return name.encode(errors="backslashreplace").decode()


def examine(path: Path) -> tuple[str, int, int, str, str, str]:
    """The `FACTS` of one file. The reason is empty for a readable image; else the other facts may be."""
    digest = ""
    try:
        check_file(path)
        digest = _sha256(path)
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
