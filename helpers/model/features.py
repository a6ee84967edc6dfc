"""Bottleneck features: what the frozen backbone gives for every image, computed once and kept.

Kermany 2018, STAR Methods, Transfer Learning Methods: "since the convolutional weights are not updated, these values
are initially calculated and stored in order to reduce redundant processes and speed up training".

They are kept in Parquet files of some hundred rows, each with the digest of the image it was computed from and the
features. A file appears whole or not at all, so a killed run loses at most one, and any data set that shares images
with an earlier one, in whatever order, finds their rows.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from filelock import FileLock
from pyarrow import parquet

from helpers.data.catalogue import Catalogue
from helpers.data.images import batches, room_for
from helpers.model.backbones import Backbone
from helpers.model.engine import (
    BATCH,
    Disagreement,
    Engine,
    EngineError,
    EngineWarning,
    Function,
    candidates,
    check_agreement,
    compile_backbone,
    require_variation,
)
from helpers.run import paths
from helpers.run.cache import code_digest
from helpers.run.profile import Profile
from helpers.run.provenance import digest_of, read_json, write_atomically, write_json

CHECKED = 16  # images on which an engine must agree with Keras in float32
PART = 8 * BATCH  # rows of a file; memory holds as many
LEFT_BEHIND = 3600  # seconds after which a half-written file has no writer any more
Piece = tuple[int, int]  # the first of eight: (1, 8)


class FeatureError(RuntimeError):
    """Stored features that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class Features:
    """Features of a catalogue's images, float32 (n, features), read-only, row by row as `catalogue.frame`.

    `folder` holds the files they came from, `key` stands for all that they depend on beside the image, and `agreement`
    is the engine's worst against Keras in float32 (see `check_agreement`). `computed` images were not stored before;
    that took `seconds`, reading included, compiling not.
    """

    features: np.ndarray
    image_ids: np.ndarray
    folder: Path
    key: str
    engine: str
    precision: str
    agreement: dict[str, float]
    computed: int
    seconds: float

    def of(self, image_ids: Sequence[str]) -> np.ndarray:
        """float32 (n, features) of these images, in their order. Raises `KeyError` for one that is not here."""
        place = pd.Series(range(len(self.image_ids)), index=self.image_ids)
        return self.features[place[image_ids].to_numpy()]


def extract(profile: Profile, catalogue: Catalogue, backbone: Backbone, cache: Path | None = None) -> Features:
    """The features of every image, computing only those that `cache` (by default the project's) lacks.

    Of two processes that need the same images one computes and the other waits. Memory holds the rows of one file, and
    the result as far as `room_for` allows. Images a second and the time left are shown on stderr.

    Raises `UnreadableImage` and `EngineError` naming the image, `FeatureError` naming a damaged file, and `EngineError`
    for features that do not differ between images. An engine that
    does not agree with Keras in float32 gives way to the next with an `EngineWarning` where `engine` or `precision`
    left the choice, else its `Disagreement` is raised.
    """
    store, chosen, computed, seconds = complete(profile, catalogue, backbone, cache)
    features, worst = store.gather(catalogue.frame["digest"].tolist(), backbone.features)
    different = np.flatnonzero(~catalogue.frame["digest"].duplicated())
    require_variation(features[different[:: max(1, len(different) // BATCH)]], backbone.name)
    ids, names = catalogue.frame["image_id"].to_numpy(), (chosen.name, chosen.precision)
    return Features(features, ids, store.folder, store.key, *names, worst, computed, seconds)


def complete(
    profile: Profile, catalogue: Catalogue, backbone: Backbone, cache: Path | None = None, piece: Piece = (1, 1)
) -> tuple[FeatureStore, Engine, int, float]:
    """Compute what the store lacks of one piece of the images, as `extract` does of all of them.

    Returns the store, the engine that agreed, the number of images computed and the seconds that took. Pieces can be
    computed side by side, on one machine or several that share the folder; a later `extract` gathers them.
    """
    chosen, *others = candidates(profile.engine, profile.precision)
    while True:
        store = open_store(cache or paths.CACHE / "features", backbone, chosen)
        try:
            return store, chosen, *_complete(store, catalogue, backbone, chosen, profile.workers, piece)
        except Disagreement as error:
            if not others:
                raise
            warnings.warn(f"{error}; another engine is used instead", EngineWarning, stacklevel=3)
            chosen, *others = others


# --- what is kept ---


@dataclass(frozen=True)
class FeatureStore:
    """The files of one folder, written by one backbone, engine and version of the code: `key` stands for all of it."""

    folder: Path
    key: str

    def parts(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.parquet") if not path.name.startswith("."))

    def clean(self) -> None:
        """Delete what a killed writer left half-written some time ago; a writer of another piece takes seconds."""
        for path in self.folder.glob(".*.parquet"):
            if path.stat().st_mtime < time.time() - LEFT_BEHIND:
                path.unlink(missing_ok=True)

    def digests(self) -> set[str]:
        """The images that have a row. Raises `FeatureError` for a damaged file."""
        return {digest for path in self.parts() for digest in _read(path, "digest").to_pylist()}

    def write(self, digests: Sequence[str], features: np.ndarray, measured: dict[str, float]) -> Path:
        """Add a file: `features`, float32 (n, d), of the images with these n digests, and the engine's agreement."""
        rows = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
        table = pa.table({"digest": list(digests), "features": rows}, metadata={"agreement": json.dumps(measured)})
        options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
        path = self.folder / f"{digest_of(list(digests))}.parquet"
        write_atomically(path, lambda file: parquet.write_table(table, file, **options))
        return path

    def gather(self, digests: Sequence[str], width: int) -> tuple[np.ndarray, dict[str, float]]:
        """float32 (n, width): the rows of these images in this order, and the worst agreement noted with any of them.

        One file is in memory at a time; the result lies where `room_for` puts it. Raises `FeatureError` for a damaged
        file and `KeyError` for an image that has no row.
        """
        out, noted = room_for((len(digests), width), np.float32, self.folder), []
        missing = np.ones(len(digests), bool)
        for path in self.parts():
            rows = pd.Index(_read(path, "digest").to_pylist()).get_indexer(digests)
            here = missing & (rows >= 0)
            if here.any():
                out[here] = _read(path, "features").flatten().to_numpy().reshape(-1, width)[rows[here]]
                noted.append(json.loads(parquet.read_schema(path).metadata[b"agreement"]))
                missing &= ~here
        if missing.any():
            raise KeyError(f"{self.folder} has no features of {missing.sum()} images: {digests[missing.argmax()]}")
        out.flags.writeable = False
        worst = pd.DataFrame(noted).agg({"min_cosine": "min", "max_abs": "max", "images": "max"})
        return out, worst.to_dict()


def open_store(cache: Path, backbone: Backbone, engine: Engine) -> FeatureStore:
    """The folder for this backbone and engine; its key says all that features depend on beside the image.

    `key.json` in it says the same in words.
    """
    words = {
        "backbone": backbone.name,
        "weights_digest": backbone.weights_digest,
        "image_size": backbone.image_size,
        "engine": str(engine),
        "versions": f"{engine.version}, keras {metadata.version('keras')}, pillow {metadata.version('pillow')}",
        "code": code_digest(__name__),
    }
    key = digest_of(words)
    folder = cache / f"{backbone.name}-{backbone.image_size}px-{engine.name}-{engine.precision}-{key}"
    write_json(folder / "key.json", words)
    return FeatureStore(folder, key)


def _read(path: Path, column: str) -> pa.Array:
    """One column of a file, its checksums verified."""
    try:
        table = parquet.read_table(path, columns=[column], page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise FeatureError(
            f"{path} cannot be used ({error}); delete it and run again: only its images are computed again"
        ) from error
    return table[column].combine_chunks()


# --- computing what is missing ---


def _missing(store: FeatureStore, catalogue: Catalogue, piece: Piece) -> pd.DataFrame:
    """The rows of a piece whose images have no features yet; of identical images, the first."""
    number, pieces = piece
    frame = catalogue.frame.drop_duplicates("digest").iloc[number - 1 :: pieces]
    return frame[~frame["digest"].isin(store.digests())]


def _complete(
    store: FeatureStore, catalogue: Catalogue, backbone: Backbone, engine: Engine, workers: int, piece: Piece
) -> tuple[int, float]:
    """Compute what the store lacks of a piece; returns how many images that were, and the seconds it took.

    Raises `Disagreement` for an engine whose features are not those of Keras, also where an earlier run found it so.
    """
    sample = _sample(catalogue)
    refused = store.folder / f"disagreement-{digest_of(sample.frame['digest'].tolist())}.json"
    if refused.is_file():
        raise Disagreement(backbone, engine, read_json(refused))
    if _missing(store, catalogue, piece).empty:
        return 0, 0.0
    with FileLock(store.folder / f"writing-{piece[0]}of{piece[1]}.lock"):
        store.clean()
        todo = _missing(store, catalogue, piece)  # another process may have computed them meanwhile
        if todo.empty:
            return 0, 0.0
        run = compile_backbone(backbone, engine, BATCH, workers)
        try:
            measured = check_agreement(backbone, engine, run, next(batches(sample, backbone.image_size, CHECKED))[1])
        except Disagreement as error:
            write_json(refused, error.measured)
            raise
        began = time.perf_counter()
        _compute(store, catalogue.subset(todo), backbone, run, measured, workers)
        return len(todo), time.perf_counter() - began


def _sample(catalogue: Catalogue) -> Catalogue:
    """`CHECKED` images spread over the whole catalogue, the same ones on every run."""
    frame = catalogue.frame.sort_values("digest")
    rows = np.unique(np.linspace(0, len(frame) - 1, CHECKED).astype(int))
    return catalogue.subset(frame.iloc[rows])


def _compute(
    store: FeatureStore, todo: Catalogue, backbone: Backbone, run: Function, measured: dict[str, float], workers: int
) -> None:
    """Write files of `PART` rows; what a killed run had written stays."""
    from tqdm import tqdm

    digests, held = todo.frame["digest"].tolist(), []
    with tqdm(total=len(todo), desc=f"{backbone.name} features", unit="img") as bar:
        for rows, pixels in batches(todo, backbone.image_size, BATCH, workers):
            held.append(run(pixels))
            _require_valid(todo, rows, held[-1])
            if rows.stop % PART == 0 or rows.stop == len(todo):
                features = np.concatenate(held)
                store.write(digests[rows.stop - len(features) : rows.stop], features, measured)
                held.clear()
            bar.update(len(pixels))


def _require_valid(todo: Catalogue, rows: slice, features: np.ndarray) -> None:
    """No file may hold features that are not finite, or of another image than the one it names."""
    for row, values in zip(todo.frame.iloc[rows].itertuples(), features, strict=True):
        path = todo.file(row.path)
        if not np.isfinite(values).all():
            raise EngineError(f"{path}: the backbone's features are not finite")
        if hashlib.sha256(path.read_bytes()).hexdigest() != row.digest:
            raise EngineError(f"{path} has changed since it was catalogued; run again to look at the data anew")
