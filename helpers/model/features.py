"""Features: the frozen backbone's features of every image, computed once and kept.

Kermany 2018, STAR Methods, Transfer Learning Methods: "since the convolutional weights are not updated, these values
are initially calculated and stored in order to reduce redundant processes and speed up training".
"""

from __future__ import annotations

import hashlib
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from filelock import Timeout

from helpers.data.catalogue import Catalogue
from helpers.data.images import batches
from helpers.model.engine import (
    Disagreement,
    Engine,
    EngineError,
    EngineWarning,
    Function,
    agreement,
    agrees,
    candidates,
    compile_backbone,
)
from helpers.model.shards import ShardStore
from helpers.run import paths
from helpers.run.provenance import digest_of, read_json, write_json

if TYPE_CHECKING:
    from helpers.model.backbones import Backbone
    from helpers.run.profile import Profile

PIXELS = 1  # of helpers.data.images.read_square: to be raised when it gives other pixels for the same file
CHECKED = 16  # images on which an engine must agree with Keras in float32


@dataclass(frozen=True)
class Features:
    """Features of a catalogue's images, float32 (n, features), read-only, row by row as `catalogue.frame`.

    `folder` holds the shards they came from, `key` stands for all that they depend on beside the images, and
    `agreement` is the engine's worst against Keras in float32 (see `engines.agreement`). `computed` images were not
    stored before; that took `seconds`, reading included, compiling not.
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


def extract_for(profile: Profile, catalogue: Catalogue, backbone: Backbone) -> Features:
    """`extract` as the profile has it, into the project's cache."""
    return extract(
        catalogue,
        backbone,
        cache=paths.CACHE / "bottlenecks",
        engine=profile.engine,
        precision=profile.precision,
        batch_size=profile.batch_size,
        shard_size=profile.shard_size,
        workers=profile.workers,
    )


def extract(
    catalogue: Catalogue,
    backbone: Backbone,
    *,
    cache: Path,
    engine: str = "auto",
    precision: str = "auto",
    batch_size: int = 64,
    shard_size: int = 512,
    workers: int = 0,
    progress: bool = True,
) -> Features:
    """The bottlenecks of every image, computing only those that `cache` lacks.

    A killed run leaves whole shards, and the next one goes on after them. Of two processes that need the same images
    one computes and the other waits. `batch_size` images go through the engine at once and about `shard_size` into a
    file (rounded up to whole batches): memory holds that much, and the result up to `shards.IN_MEMORY` bytes.
    `workers` threads (0: one a core). `progress` shows images a second and the time left on stderr.

    Raises `UnreadableImage` and `EngineError` naming the image, `ShardError` naming a damaged file. An engine that
    does not agree with Keras in float32 gives way to the next with an `EngineWarning` where `engine` or `precision`
    left the choice, else an `EngineError`.
    """
    options = {"batch_size": batch_size, "shard_size": shard_size, "workers": workers, "progress": progress}
    choices = candidates(engine, precision)
    for chosen in choices:
        store = open_store(cache, backbone, chosen)
        try:
            computed, seconds = _complete(store, catalogue, backbone, chosen, options)
        except Disagreement as error:
            if chosen is choices[-1]:
                raise
            warnings.warn(f"{error}; another engine is used instead", EngineWarning, stacklevel=2)
            continue
        features, worst = store.gather(catalogue.frame["digest"].tolist())
        ids = catalogue.frame["image_id"].to_numpy()
        names = chosen.name, chosen.precision
        return Features(features, ids, store.folder, store.key, *names, worst, computed, seconds)
    raise AssertionError("the last choice returns or raises")


def open_store(cache: Path, backbone: Backbone, engine: Engine) -> ShardStore:
    """The folder of shards for this backbone and engine. Its key says all that features depend on beside the image."""
    import PIL

    words = {
        "backbone": backbone.name,
        "weights_digest": backbone.weights_digest,
        "architecture_digest": digest_of(list(_architecture(backbone.model))),
        "image_size": backbone.image_size,
        "features": backbone.features,
        "engine": engine.name,
        "engine_version": engine.version,
        "precision": engine.precision,
        "pixels": f"read_square version {PIXELS}, Pillow {PIL.__version__}",
    }
    name = f"{backbone.name}-{backbone.image_size}px-{engine.name}-{engine.precision}"
    return ShardStore.open(cache, name, backbone.features, words)


def _architecture(model: Any) -> Iterator[tuple[str, dict]]:
    """Each layer's kind and settings, without its name (Keras numbers it by what else was built) and initialisers."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _architecture(layer)
            continue
        settings = {
            key: value
            for key, value in layer.get_config().items()
            if key not in ("name", "trainable") and not key.endswith(("_initializer", "_regularizer"))
        }
        yield type(layer).__name__, settings


# --- computing what is missing --------------------------------------------------------------------------------------


def _missing(store: ShardStore, catalogue: Catalogue) -> pd.DataFrame:
    """The rows whose images have no features yet; of identical images, the first."""
    frame = catalogue.frame.drop_duplicates("digest")
    return frame[~frame["digest"].isin(store.index().keys())]


def _complete(
    store: ShardStore, catalogue: Catalogue, backbone: Backbone, engine: Engine, options: dict[str, Any]
) -> tuple[int, float]:
    """Compute what the store lacks; returns how many images that were, and the seconds it took.

    Raises `Disagreement` for an engine whose features are not those of Keras, also where an earlier run found it so.
    """
    sample = _sample(catalogue)
    refused = store.folder / f"disagreement-{digest_of(sample.frame['digest'].tolist())}.json"
    if refused.is_file():
        raise Disagreement(backbone, engine, read_json(refused))
    if _missing(store, catalogue).empty:
        return 0, 0.0
    try:
        lock = store.lock(timeout=1).acquire()
    except Timeout:
        logging.getLogger(__name__).warning(
            "waiting for another process that computes these bottlenecks (%s)", store.folder
        )
        lock = store.lock().acquire()
    with lock:
        store.clean()
        todo = _missing(store, catalogue)  # another process may have computed them meanwhile
        if todo.empty:
            return 0, 0.0
        run = compile_backbone(backbone, engine, options["batch_size"], options["workers"])
        measured = agreement(backbone, run, next(batches(sample, backbone.image_size, CHECKED))[1])
        if not agrees(measured):
            write_json(refused, measured)
            raise Disagreement(backbone, engine, measured)
        began = time.perf_counter()
        _compute(store, catalogue.subset(todo), backbone, run, measured, options)
        return len(todo), time.perf_counter() - began


def _sample(catalogue: Catalogue) -> Catalogue:
    """`CHECKED` images spread over the whole catalogue, the same ones on every run."""
    frame = catalogue.frame.sort_values("digest")
    rows = np.unique(np.linspace(0, len(frame) - 1, CHECKED).astype(int))
    return catalogue.subset(frame.iloc[rows])


def _compute(
    store: ShardStore,
    todo: Catalogue,
    backbone: Backbone,
    run: Function,
    measured: dict[str, float],
    options: dict[str, Any],
) -> None:
    from tqdm import tqdm

    batch = options["batch_size"]
    rows_a_shard = -(-options["shard_size"] // batch) * batch
    digests = todo.frame["digest"].tolist()
    held: list[np.ndarray] = []
    with tqdm(total=len(todo), desc=f"{backbone.name} bottlenecks", unit="img", disable=not options["progress"]) as bar:
        for rows, pixels in batches(todo, backbone.image_size, batch, options["workers"]):
            held.append(run(pixels))
            _require_valid(todo, rows, held[-1])
            if rows.stop % rows_a_shard == 0 or rows.stop == len(todo):
                first = (rows.stop - 1) // rows_a_shard * rows_a_shard
                store.write(digests[first : rows.stop], np.concatenate(held), measured)
                held.clear()
            bar.update(len(pixels))


def _require_valid(todo: Catalogue, rows: slice, features: np.ndarray) -> None:
    """No shard may hold features that are not finite, or of another image than the one it names."""
    for row, values in zip(todo.frame.iloc[rows].itertuples(), features, strict=True):
        path = todo.file(row.path)
        if not np.isfinite(values).all():
            raise EngineError(f"{path}: the backbone's features are not finite")
        if hashlib.sha256(path.read_bytes()).hexdigest() != row.digest:
            raise EngineError(f"{path} has changed since it was catalogued; run again to look at the data anew")
