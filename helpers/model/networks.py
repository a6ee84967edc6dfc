"""Experiments that train whole networks: fine-tuned from images, each kept under a key of all that made it.

`referral_finetuned` goes beyond Kermany 2018, which trained the last layer alone: one network tells NORMAL, BACTERIA
and VIRUS apart, so that pneumonia against normal, bacterial against viral, and the three decisions of the paper
("urgent referral", "supportive care", "observation only") come from the same probabilities. `view_models` is
Rajkomar 2017's figure 2; it has a module of its own.
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
from helpers.model.experiments import CLASSES, scores_of, settings_of, whole_folder
from helpers.profile import Profile, ProfileError, nearest
from helpers.provenance import digest_of, read_json, write_json

VERSION = 1  # to be raised when the same settings would give other numbers
REFERRAL = CLASSES["referral"]


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
        "helpers.model.networks:referral_finetuned", ("seed", "backbone", "weights", "finetune_", "head_")
    ),
    "view_models": Recipe("helpers.model.view_models:view_models", ("seed", "backbone", "view_")),
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
        columns = [name for name in ("image_id", "label", "split", "site") if name in self.frame]
        return [self.catalogue.fingerprint(), digest_of(self.frame[columns].to_csv(index=False))]


@dataclass(frozen=True)
class Given:
    """What a maker gets.

    Its own data set; others by name, those of the data steps that it comes after (`helpers.steps`); the profile; a
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
    from helpers.data.pixels import batches

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
    from helpers.hardware import gpus

    return gpus()


def referral_finetuned(given: Given) -> Made:
    """A softmax layer on bottlenecks first, then the layers below it as well, on mildly augmented images."""
    from helpers.data.light_augmentation import LightAugmentation
    from helpers.data.splits import SPLITS
    from helpers.model.backbones import load_backbone
    from helpers.model.depths import with_depths
    from helpers.model.finetune import ArraySource, FinetuneSettings, finetune

    catalogue, frame, profile = given.own.catalogue, given.own.frame, given.profile
    size = profile.finetune_size
    backbone = load_backbone(profile.backbone, profile.weights, size, profile.seed)
    backbone = with_depths(backbone, profile.finetune_depths)
    learnt = frame[frame["split"].isin(SPLITS)].reset_index(drop=True)
    pixels = pixels_of(catalogue, learnt, backbone.image_size, profile.workers)
    codes = learnt["label"].map(REFERRAL.index).to_numpy()
    head = _head_on(catalogue, learnt, backbone, profile)
    images = int((learnt["split"] == "train").sum())
    limits = (profile.finetune_cpu_images, "finetune_cpu_images")
    epochs, images = affordable("the pneumonia network", profile.finetune_epochs, images, *limits)
    settings = FinetuneSettings(
        trainable=profile.finetune_layers or "all",
        epochs=epochs,
        batch=profile.finetune_batch,
        learning_rate=profile.finetune_learning_rate,
        drop_every=max(1, round(epochs / 3)),
        optimizer="adam",
        weight_decay=0.0,  # Adam would scale a penalty's gradient up like any other
        clip_norm=1.0,  # the first steps of a network that is turned to other images can be wild
        dropout=profile.finetune_dropout,
        standardise=profile.head_standardise,
        images_per_epoch=images,
        patience=profile.finetune_patience,
        seed=profile.seed,
    )
    sources = (LightAugmentation(pixels, profile.seed), ArraySource(pixels))
    run = finetune(backbone, *sources, codes, learnt["split"], REFERRAL, settings, head, given.unfinished)
    run.save(given.fresh / "network")
    held_out = frame[frame["split"] != "train"].reset_index(drop=True)
    shown = pixels_of(catalogue, held_out, backbone.image_size, profile.workers)
    scores = pd.concat([scores_of(held_out, run.predict(shown, chosen), REFERRAL, chosen) for chosen in run.weights])
    summary = {
        "chosen epoch": run.best_epoch,
        "epochs": len(run.history["epoch"].unique()) - 1,
        "images an epoch": images,
        "image size": backbone.image_size,
        "depths": profile.finetune_depths,
    }
    return Made(REFERRAL, {"scores": scores.reset_index(drop=True), "history": run.history}, summary)


def _head_on(catalogue: Catalogue, learnt: pd.DataFrame, backbone: Any, profile: Profile) -> Any:
    """The softmax layer that fine-tuning starts from, on the features of images as they are."""
    from helpers.model.bottlenecks import extract_for
    from helpers.model.heads import train_head

    rows = catalogue.frame[catalogue.frame["image_id"].isin(learnt["image_id"])]
    features = extract_for(profile, catalogue.subset(rows), backbone).of(learnt["image_id"])
    return train_head(features, learnt["label"], learnt["split"], REFERRAL, settings_of(profile)).by_validation
