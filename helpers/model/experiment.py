"""Run a named experiment once and keep what it leaves: whole or not at all, under a key of all that it follows from.

An experiment is made by a maker, a plain function of a paper's wing from `Inputs` to `Results`. The key comes from
outside (settings, data, weights and code): this module only compares it.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from helpers.data.catalogue import Catalogue
from helpers.data.images import batches, room_for
from helpers.model.engine import usable_gpus
from helpers.run.paths import CACHE
from helpers.run.profile import Profile
from helpers.run.provenance import read_json, write_json

RECORD = "experiment.json"


@dataclass(frozen=True)
class Images:
    """A data set and its split frame (the catalogue's rows that are used, with `split`)."""

    catalogue: Catalogue
    frame: pd.DataFrame


@dataclass(frozen=True)
class Inputs:
    """What a maker gets.

    Its own data set, and others by name; the profile; `features()`, float32 (n, d) of the frozen backbone, rows as
    `own.frame`, computed or loaded when called. The runner fills in `unfinished`, a folder where a killed training
    waits to be resumed, and `fresh`, the empty folder for files that are kept with the results.
    """

    name: str
    own: Images
    others: Mapping[str, Images]
    settings: Profile
    unfinished: Path = Path()
    fresh: Path = Path()
    features: Callable[[], np.ndarray] | None = None


@dataclass(frozen=True)
class Results:
    """What a maker returns to be kept: tables ("scores" and "history" among them, as a rule) and a summary for the
    report, of anything that JSON holds."""

    classes: tuple[str, ...]
    tables: Mapping[str, pd.DataFrame]
    summary: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """What an experiment left in `folder`; its tables are read when asked for."""

    name: str
    key: str
    classes: tuple[str, ...]
    summary: dict[str, Any]
    folder: Path

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row per held-out image and selection, see `scores_of`."""
        return self.table("scores")

    @cached_property
    def history(self) -> pd.DataFrame:
        """The training's course: step or epoch, split, accuracy, cross_entropy."""
        return self.table("history")

    def table(self, name: str) -> pd.DataFrame:
        """A table of this experiment. Raises `FileNotFoundError` where it has none of that name."""
        return pd.read_parquet(self.folder / f"{name}.parquet")


def run_experiment(maker: Callable[[Inputs], Results], key: str, folder: Path, inputs: Inputs) -> Experiment:
    """The experiment `inputs.name` in `folder`: loaded if it was kept under this key, else made and kept.

    A maker that is killed finds on the next call what it left in `inputs.unfinished`. Two processes that ask for the
    same experiment make it once.
    """
    name, unfinished = inputs.name, folder / f"{inputs.name}.unfinished"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        if found := find_experiment(folder, name, key):
            return found
        (unfinished / key).mkdir(parents=True, exist_ok=True)  # by key, lest other settings' training be resumed
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-", ignore_cleanup_errors=True) as temporary:
            fresh = Path(temporary) / name
            fresh.mkdir()
            results = maker(replace(inputs, unfinished=unfinished / key, fresh=fresh))
            for table, rows in results.tables.items():
                rows.to_parquet(fresh / f"{table}.parquet", index=False)
            record = {"name": name, "key": key, "classes": results.classes, "summary": results.summary}
            write_json(fresh / RECORD, record)
            shutil.rmtree(folder / name, ignore_errors=True)
            fresh.replace(folder / name)
        shutil.rmtree(unfinished, ignore_errors=True)
        return find_experiment(folder, name, key)


def find_experiment(folder: Path, name: str, key: str) -> Experiment | None:
    """The experiment in folder/name if it was kept under this key; cheap, so to be asked before inputs are built."""
    place = folder / name
    if not (place / RECORD).is_file():
        return None
    record = read_json(place / RECORD)
    found = Experiment(name, record["key"], tuple(record["classes"]), record["summary"], place)
    return found if found.key == key else None


def scores_of(rows: pd.DataFrame, probabilities: np.ndarray, classes: Sequence[str], selection: str) -> pd.DataFrame:
    """The scores of these rows, for probabilities (n, k) in the order of `classes`.

    Columns image_id, patient_id, label, split, selection ("validation": the model was chosen on validation patients;
    "test": on the test set, as the papers did), and p_<class>.
    """
    kept = rows[["image_id", "patient_id", "label", "split"]].reset_index(drop=True).assign(selection=selection)
    return pd.concat([kept, pd.DataFrame(probabilities, columns=[f"p_{label}" for label in classes])], axis=1)


def pixels_of(catalogue: Catalogue, frame: pd.DataFrame, size: int, workers: int = 0) -> np.ndarray:
    """Grey images, uint8 (n, size, size), rows as `frame`; many of them lie on the disk (`room_for`)."""
    order = catalogue.frame.set_index("image_id").loc[frame["image_id"]].reset_index()
    images = room_for((len(frame), size, size), np.uint8, CACHE)
    for rows, part in batches(catalogue.subset(order), size, 64, workers):
        images[rows] = part
    return images


def affordable(what: str, epochs: int, epoch_images: int, limit: int, key: str) -> tuple[int, int]:
    """Epochs and images per epoch, within `limit` images in all where there is no GPU; a cut gives a warning.

    Epochs go down to four before the images of an epoch do: a network that never sees an image twice learns most.
    """
    if not limit or usable_gpus() or epochs * epoch_images <= limit:
        return epochs, epoch_images
    kept = max(min(epochs, 4), limit // epoch_images)
    images = min(epoch_images, max(1, limit // kept))
    text = (
        f"no GPU: {what} learns from {kept} epochs of {images:,} images instead of {epochs} of {epoch_images:,}; "
        f"{key.upper()}=0 lifts the limit"
    )
    warnings.warn(text, UserWarning, stacklevel=3)
    return kept, images
