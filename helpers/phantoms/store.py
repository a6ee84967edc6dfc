"""How a phantom data set comes to lie on disk: made once, by several processes, resumed when it was cut off.

A data set has a plan (a frame with one row an image, all of its truth and no pixel yet) and a function that makes one
patient's images. Its folder's name says all that decides what is in it.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from helpers.data.catalogue import CatalogueError
from helpers.data.hashing import average_hash

TABLE = "phantom.csv"
REMEDY = "delete the folder and it is made again"
MakePatient = Callable[[list[dict]], list[dict]]  # rows of one patient in; the same with what is known of the files out


def folder(cache: Path, name: str, asked: dict) -> Path:
    """Where the data set that was `asked` for lies, or will."""
    key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
    return Path(cache) / f"{name}-{key}"


def make_once(root: Path, make: Callable[[], None], caller: str) -> None:
    """Call `make` unless `root` exists; of two processes at once, one waits for the other."""
    from filelock import FileLock

    if root.exists():
        return
    _refuse_import_of_main(caller)
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_suffix(".lock")):
        if not root.exists():
            make()


def generate(
    root: Path,
    rows: pd.DataFrame,
    maker: Callable[[Path], MakePatient],
    workers: int,
    what: str,
    files: tuple[str, ...] = ("path", "mask"),
) -> None:
    """Make every image beside its final place, then give the folder its name: it exists only when it is complete.

    `maker` gives the function (picklable) that makes one patient's files below a folder; `workers` processes (0: one a
    core) change nothing in the result.
    """
    from tqdm import tqdm

    part = root.with_suffix(".part")
    for place in {Path(path).parent for column in files for path in rows[column]}:
        (part / place).mkdir(parents=True, exist_ok=True)
    patients = [group.to_dict("records") for _, group in rows.groupby("patient_id", sort=False)]
    workers = workers or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    done: list[dict] = []
    with tqdm(total=len(rows), desc=what, unit="image", file=sys.stderr, mininterval=1) as bar:
        for records in _each(maker(part), patients, workers):
            done += records
            bar.update(len(records))
    for stray in part.rglob("*.tmp"):
        stray.unlink()
    found = pd.DataFrame(done).set_index("image_id").loc[rows["image_id"]].reset_index()
    found.to_csv(part / TABLE, index=False, lineterminator="\n")
    part.replace(root)


def _each(function: MakePatient, items: list, workers: int) -> Iterator[list[dict]]:
    if workers == 1 or len(items) < 8:  # starting processes takes longer than a few images
        with threadpool_limits(1):
            yield from map(function, items)
        return
    # Spawned, not forked: the caller may hold TensorFlow's threads, which do not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_one_thread) as pool:
        yield from pool.map(function, items, chunksize=4)


def _one_thread() -> None:
    """In each worker: with several threads a matrix product adds in another order, and a few grey values differ."""
    threadpool_limits(1)


def write(path: Path, image, **options) -> None:
    """Save under another name, then rename: a file that exists is whole."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    image.save(temporary, **options)
    temporary.replace(path)


def write_pictures(part: Path, row: dict, grey: np.ndarray, masks: dict[str, np.ndarray], quality: int) -> None:
    """One row's files: its image (uint8) as JPEG of this quality, and each mask (bool) at the column that names it."""
    from PIL import Image

    for column, mask in masks.items():
        write(part / row[column], Image.fromarray(mask.astype(np.uint8) * 255), format="PNG", compress_level=3)
    write(part / row["path"], Image.fromarray(grey), format="JPEG", quality=quality)


def describe(path: Path) -> dict[str, str]:
    """Digest and perceptual hash of a file that was written."""
    from io import BytesIO

    from PIL import Image

    content = path.read_bytes()
    with Image.open(BytesIO(content)) as image:
        return {
            "digest": hashlib.sha256(content).hexdigest(),
            "average_hash": average_hash(np.asarray(image)),
        }


def read(root: Path, expected: int, files: tuple[str, ...] = ("path", "mask")) -> pd.DataFrame:
    """The table of a finished data set. Raises `CatalogueError` where it, or a file it names, is damaged or missing."""
    try:
        frame = pd.read_csv(root / TABLE, dtype={"patient_id": str, "average_hash": str})
    except (OSError, ValueError) as error:
        raise CatalogueError(f"{root}: its table cannot be read ({error}); {REMEDY}") from None
    lost = [path for column in files for path in frame[column] if not (root / path).is_file()]
    if len(frame) != expected or lost:
        what = f"{len(lost)} files are missing, first {lost[0]}" if lost else f"{len(frame)} rows instead of {expected}"
        raise CatalogueError(f"{root}: {what}; {REMEDY}")
    return frame


def rng_of(*words: int) -> np.random.Generator:
    """The generator that these whole numbers, from 0, stand for."""
    return np.random.default_rng(np.random.SeedSequence(words))


def _refuse_import_of_main(caller: str) -> None:
    """A script that calls `load` outside `if __name__ == "__main__"` would call it again in each of its own workers,
    which then wait for the lock that their parent holds, forever.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(f'call {caller} below `if __name__ == "__main__":`, or with workers=1')
