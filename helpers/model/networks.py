"""Experiments that train whole networks: fine-tuned from images, each kept under a key of all that made it.

Each has a module of its own, named in `RECIPES`.
"""

from __future__ import annotations

import importlib
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from helpers.data.catalogue import Catalogue
from helpers.model.experiments import whole_folder
from helpers.run.profile import Profile, ProfileError, nearest
from helpers.run.provenance import digest_of, read_json, write_json

VERSION = 1  # to be raised when the same settings would give other numbers


@dataclass(frozen=True)
class Recipe:
    """Who makes an experiment, and from what.

    `maker`: a module's function from `Given` to `Made`, imported when it is wanted; `keys`: the profile's keys that it
    depends on, by their beginnings.
    """

    maker: str
    keys: tuple[str, ...]

    def make(self, given: Given) -> Made:
        module, function = self.maker.split(":")
        return getattr(importlib.import_module(module), function)(given)


RECIPES = {
    "referral_finetuned": Recipe(
        "helpers.kermany.referral_network:referral_finetuned", ("seed", "backbone", "weights", "finetune_", "head_")
    ),
    "view_models": Recipe("helpers.rajkomar.models:view_models", ("seed", "backbone", "view_")),
    "covid_bridge": Recipe(
        "helpers.carr.bridge_covid:covid_bridge", ("seed", "backbone", "weights", "bridge_", "head_standardise")
    ),
    "retinal_bridge": Recipe(
        "helpers.carr.models:retinal_bridge", ("seed", "backbone", "weights", "bridge_", "head_standardise")
    ),
    "site_models": Recipe(
        "helpers.zech.sites:site_models",
        ("seed", "backbone", "weights", "image_size", "engine", "precision", "sites_"),
    ),
    "region_models": Recipe(
        "helpers.zech.regions:region_models", ("seed", "backbone", "weights", "sites_backbone", "sites_penalties")
    ),
    "chexnet": Recipe("helpers.zech.chexnet:chexnet", ("seed", "backbone", "weights", "chexnet_", "head_standardise")),
}


class CpuWarning(UserWarning):
    """A training cut short for want of a GPU."""


@dataclass(frozen=True)
class NetworkExperiment:
    """What a training of networks left in `folder`.

    `scores` has a row a held-out image and selection, as `Experiment.scores`; `history` columns epoch, step, split,
    accuracy, cross_entropy, learning_rate. `summary` is what the report says of it. Further tables by `table`.
    """

    name: str
    key: str
    classes: tuple[str, ...]
    scores: pd.DataFrame
    history: pd.DataFrame
    summary: dict[str, Any]
    folder: Path

    def told(self) -> dict[str, Any]:
        return {"key": self.key, **self.summary}

    def table(self, name: str) -> pd.DataFrame:
        """A further table of this experiment. Raises `FileNotFoundError` where it has none of that name."""
        return pd.read_parquet(self.folder / f"{name}.parquet")


@dataclass(frozen=True)
class Images:
    """A data set and its split frame (the catalogue's rows that are used, with `split`)."""

    catalogue: Catalogue
    frame: pd.DataFrame

    def content(self) -> list[str]:
        """What stands for all of it in a key."""
        columns = [name for name in ("image_id", "label", "labels", "split", "site") if name in self.frame]
        return [self.catalogue.fingerprint(), digest_of(self.frame[columns].to_csv(index=False))]


@dataclass(frozen=True)
class Given:
    """What a maker gets.

    Its own data set; others by name, those of the data steps that it comes after (`helpers.run.steps`); the profile; a
    folder where an unfinished training waits to go on, and the fresh folder that will hold what it leaves.
    """

    own: Images
    others: Mapping[str, Images]
    profile: Profile
    unfinished: Path
    fresh: Path


@dataclass(frozen=True)
class Made:
    """What a maker hands over to be kept: tables (scores and history among them) and what the report says."""

    classes: tuple[str, ...]
    tables: dict[str, pd.DataFrame]
    summary: dict[str, Any]


def run_network(
    name: str, own: Images, profile: Profile, folder: Path, others: Mapping[str, Images] | None = None
) -> NetworkExperiment:
    """The experiment in folder/name: loaded where its key is the same, else trained and put there whole.

    A training that is killed goes on from its last checkpoint, in folder/name.unfinished. Raises `ProfileError` for an
    unknown name.
    """
    if name not in RECIPES:
        raise ProfileError(f"there is no experiment '{name}'{nearest(name, RECIPES)}")
    others = others or {}
    key = _key(name, own, others, profile)
    place, unfinished = folder / name, folder / f"{name}.unfinished"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        if not (place / "experiment.json").is_file() or read_json(place / "experiment.json")["key"] != key:
            with whole_folder(place) as fresh:
                made = RECIPES[name].make(Given(own, others, profile, unfinished, fresh))
                for table, rows in made.tables.items():
                    rows.to_parquet(fresh / f"{table}.parquet", index=False)
                told = {"name": name, "key": key, "classes": made.classes, "summary": made.summary}
                write_json(fresh / "experiment.json", told)
            shutil.rmtree(unfinished, ignore_errors=True)
        return load_network(folder, name)


def load_network(folder: Path, name: str) -> NetworkExperiment:
    """An experiment kept in folder/name. Raises `FileNotFoundError` where it has not been run."""
    place = folder / name
    said = read_json(place / "experiment.json")
    scores, history = (pd.read_parquet(place / f"{table}.parquet") for table in ("scores", "history"))
    return NetworkExperiment(name, said["key"], tuple(said["classes"]), scores, history, said["summary"], place)


def _key(name: str, own: Images, others: Mapping[str, Images], profile: Profile) -> str:
    values = profile.model_dump(mode="json")
    kept = {key: value for key, value in values.items() if key.startswith(RECIPES[name].keys)}
    content = [own.content(), {data: images.content() for data, images in sorted(others.items())}]
    return digest_of([VERSION, name, kept, content, bool(_gpus())])


def pixels_of(catalogue: Catalogue, frame: pd.DataFrame, size: int, workers: int = 0) -> np.ndarray:
    """uint8 (n, size, size), rows as `frame`."""
    from helpers.data.images import batches

    order = catalogue.frame.set_index("image_id").loc[frame["image_id"]].reset_index()
    made = np.empty((len(frame), size, size), np.uint8)
    for rows, images in batches(catalogue.subset(order), size, 64, workers):
        made[rows] = images
    return made


def affordable(what: str, epochs: int, epoch_images: int, limit: int, key: str) -> tuple[int, int]:
    """Epochs and images an epoch within `limit` images in all where there is no GPU; a cut is warned of.

    Epochs go down to four before the images of an epoch do: a network that never sees an image twice learns most.
    """
    if not limit or _gpus() or epochs * epoch_images <= limit:
        return epochs, epoch_images
    kept = max(min(epochs, 4), limit // epoch_images)
    images = min(epoch_images, max(1, limit // kept))
    text = (
        f"no GPU: {what} learns from {kept} epochs of {images:,} images instead of {epochs} of {epoch_images:,}; "
        f"{key.upper()}=0 lifts the limit"
    )
    warnings.warn(text, CpuWarning, stacklevel=3)
    return kept, images


def _gpus() -> list[str]:
    from helpers.run.hardware import gpus

    return gpus()
