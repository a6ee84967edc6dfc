"""How a phantom data set comes to lie on disk: drawn once, by several processes, resumed after a kill.

A `PhantomSet` has a plan (a frame with one row per image, all of its truth and no pixel yet) and a function that draws
images from its rows. The name of its folder ends in a key of the settings and of the code that plans and draws.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from joblib.externals.loky import ProcessPoolExecutor
from PIL import Image
from threadpoolctl import threadpool_limits

from helpers.data.catalogue import OPTIONAL, REQUIRED, Catalogue, CatalogueError
from helpers.data.images import average_hash
from helpers.run.cache import make_key
from helpers.run.provenance import available_cores

TABLE = "phantom.csv"
FILES = ("path", "mask", "lung_mask")  # columns that name a file
TEXTS = {"patient_id": str, "average_hash": str, "department": str}
GRAVITY = (2.2, 1.1)  # of severities: a beta distribution's shape
SUBTLE = 0.35  # the least severity: subtle findings are there, invisible ones teach nothing
QUALITY, POOR = (4.5, 1.8), (1.8, 3.2)  # of the quality of most images and of poor ones, likewise
REMEDY = "delete the folder and it is drawn again"


@dataclass(frozen=True)
class PhantomSet:
    """A made-up data set. `plan(**settings)` gives its rows. `draw(seed, rows)` draws the rows that share a mask: an
    image (uint8) per row, and the masks (bool) by column. Both are functions of a module, for workers import them.
    """

    name: str
    classes: tuple[str, ...]
    plan: Callable[..., pd.DataFrame]
    draw: Callable[[int, list[dict]], tuple[list[np.ndarray], dict[str, np.ndarray]]]
    jpeg_quality: int = 92

    def load(self, cache: Path, workers: int = 0, **settings: float) -> Catalogue:
        """The set of these settings (`seed` among them), drawn below `cache` unless it is there already.

        `workers` processes (0: one per core) change nothing in the result. A drawing that is killed is resumed by the
        next call and never read half-made; of two at once, one waits for the other. Raises `CatalogueError` for a set
        that was damaged on disk.
        """
        root = Path(cache) / f"{self.name}-{make_key({self.plan.__module__, self.draw.__module__}, settings)}"
        if not root.exists():
            root.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(root.with_suffix(".lock")):
                if not root.exists():
                    self._draw_all(root, self.plan(**settings), settings["seed"], workers)
        return Catalogue(self.name, root, _read(root), self.classes, phantom=True)

    def _draw_all(self, root: Path, rows: pd.DataFrame, seed: int, workers: int) -> None:
        """Draw beside the final place, then give the folder its name: it exists only when it is complete."""
        from tqdm import tqdm

        part = root.with_suffix(".part")
        for place in {Path(path).parent for column in rows.columns.intersection(FILES) for path in rows[column]}:
            (part / place).mkdir(parents=True, exist_ok=True)
        bodies: dict[str, list[dict]] = {}  # rows that share a mask; much faster than a group of pandas each
        for row in rows.to_dict("records"):
            bodies.setdefault(row["mask"], []).append(row)
        what, done = self.name.replace("_", " "), []
        with tqdm(total=len(rows), desc=what, unit="image", file=sys.stderr, mininterval=1) as bar:
            for records in _map(partial(_draw_body, self, part, seed), list(bodies.values()), workers):
                done += records
                bar.update(len(records))
        for stray in part.rglob("*.tmp"):
            stray.unlink()
        table = pd.DataFrame(done).set_index("image_id").loc[rows["image_id"]].reset_index()
        table = table[[column for column in table if column in REQUIRED or column in OPTIONAL]]
        table.to_csv(part / TABLE, index=False, lineterminator="\n")
        part.replace(root)


def rng_of(*words: int) -> np.random.Generator:
    """The generator that these whole numbers, from 0, stand for."""
    return np.random.default_rng(np.random.SeedSequence(words))


def numbered(groups: list[tuple], rng: np.random.Generator, least: int = 10_000) -> list[tuple]:
    """The groups, each with a different patient number at its end, unrelated to its label."""
    numbers = rng.choice(9_900_000, len(groups), replace=False) + least
    return [(*group, number) for group, number in zip(groups, numbers.tolist(), strict=True)]


def sizes(count: int, chances: tuple[float, ...], rng: np.random.Generator) -> Iterator[int]:
    """Images per patient, until there are `count`; `chances` of 1, 2, 3 ..."""
    while count > 0:
        n = min(count, 1 + int(rng.choice(len(chances), p=chances)))
        yield n
        count -= n


def share_out(total: int, shares: dict[str, int], rest: str) -> dict[str, int]:
    """Images per class in these proportions, at least one each; what rounding leaves goes to the class `rest`."""
    counts = {label: max(1, round(total * share / sum(shares.values()))) for label, share in shares.items()}
    return counts | {rest: total - sum(counts.values()) + counts[rest]}


def draw_truth(seed: int, number: int, poor: float = 0.15) -> tuple[np.random.Generator, float, float]:
    """A patient's generator, severity and quality, which depend on nothing but the patient's number.

    `poor` is the chance that all images of the patient are.
    """
    rng = rng_of(seed, number, 0, 6)
    quality = rng.beta(*(POOR if rng.random() < poor else QUALITY))
    return rng, SUBTLE + (1 - SUBTLE) * rng.beta(*GRAVITY), quality


def vary(value: float, rng: np.random.Generator) -> float:
    """A patient's value from 0 to 1 as it is on one image."""
    return round(float(np.clip(value + rng.normal(0, 0.06), 0, 1)), 4)


def image_row(folder: str, name: str, patient: object, split: str, masks: dict[str, str], **truth: object) -> dict:
    """One image of a plan: its files (`masks`: the folder of each kind), and the truth about it."""
    files = {"path": f"{folder}/{name}.jpeg"} | {kind: f"{at}/{folder}/{name}.png" for kind, at in masks.items()}
    return {"image_id": name} | files | {"patient_id": str(patient), "published_split": split} | truth


def _map(function: Callable[[list[dict]], list[dict]], items: list, workers: int) -> Iterator[list[dict]]:
    # A job's share of the cores, where it runs beside others; starting processes takes longer than a few images.
    if (workers := workers or available_cores()) == 1 or len(items) < 8:
        with threadpool_limits(1):
            yield from map(function, items)
        return
    # Loky's workers are new processes that import no script of the caller's: TensorFlow's threads would not survive a
    # fork, and a script would load again. One thread each: with several, sums are added in another order.
    with ProcessPoolExecutor(workers, initializer=threadpool_limits, initargs=(1,)) as pool:
        yield from pool.map(function, items, chunksize=8)


def _draw_body(phantoms: PhantomSet, part: Path, seed: int, rows: list[dict]) -> list[dict]:
    """Write the files of rows that share a mask, unless all are there; the rows with digest and hash added."""
    if not all((part / row[column]).exists() for row in rows for column in FILES if column in row):
        images, masks = phantoms.draw(seed, rows)
        for column, mask in masks.items():
            _write(part / rows[0][column], mask, format="PNG", compress_level=1)
        for row, grey in zip(rows, images, strict=True):
            _write(part / row["path"], grey, format="JPEG", quality=phantoms.jpeg_quality)
    return [row | _describe(part / row["path"]) for row in rows]


def _write(path: Path, grey: np.ndarray, **options: object) -> None:
    """Save under another name, then rename: a file that exists is whole."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    Image.fromarray(grey).save(temporary, **options)
    temporary.replace(path)


def _describe(path: Path) -> dict[str, str]:
    """Digest and perceptual hash of a file that was written."""
    content = path.read_bytes()
    with Image.open(BytesIO(content)) as image:
        image.draft("L", (31, 31))  # the hash needs 8 x 8 means: an eighth of the size, or a little more, is enough
        return {"digest": hashlib.sha256(content).hexdigest(), "average_hash": average_hash(np.asarray(image))}


def _read(root: Path) -> pd.DataFrame:
    """The table of a finished set. Raises `CatalogueError` where it, or a file it names, is damaged or missing."""
    try:
        frame = pd.read_csv(root / TABLE, dtype=TEXTS).fillna(dict.fromkeys(TEXTS, ""))
    except (OSError, ValueError) as error:
        raise CatalogueError(f"{root}: its table cannot be read ({error}); {REMEDY}") from None
    files = frame[frame.columns.intersection(FILES)].to_numpy().ravel("F")
    lost = [path for path in files if not (root / path).exists()]
    if lost:
        raise CatalogueError(f"{root}: {len(lost)} files are missing, first {lost[0]}; {REMEDY}")
    return frame
