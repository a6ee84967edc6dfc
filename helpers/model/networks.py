"""Experiments that train whole networks: fine-tuned from images, each kept under a key of all that made it.

`referral_finetuned` goes beyond Kermany 2018, which trained the last layer alone: one network tells NORMAL, BACTERIA
and VIRUS apart, so that pneumonia against normal, bacterial against viral, and the three decisions of the paper
("urgent referral", "supportive care", "observation only") come from the same probabilities. `view_models` is
Rajkomar 2017's figure 2; it has a module of its own.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from helpers.data.catalogue import Catalogue
from helpers.model.experiments import CLASSES, scores_of, settings_of, whole_folder
from helpers.profile import Profile
from helpers.provenance import digest_of, read_json, write_json

VERSION = 1  # to be raised when the same settings would give other numbers
REFERRAL = CLASSES["referral"]
MADE_FROM = {  # the profile's keys that each experiment depends on, by their beginnings
    "referral_finetuned": ("seed", "backbone", "weights", "finetune_", "head_"),
    "view_models": ("seed", "backbone", "view_"),
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
class Made:
    """What a maker hands over to be kept: tables (scores and history among them) and what the report says."""

    classes: tuple[str, ...]
    tables: dict[str, pd.DataFrame]
    summary: dict[str, Any]


def run_network(
    name: str, catalogue: Catalogue, frame: pd.DataFrame, profile: Profile, folder: Path
) -> NetworkExperiment:
    """The experiment in folder/name: loaded where its key is the same, else trained and put there whole.

    `frame` is the split frame. A training that is killed goes on from its last checkpoint, in folder/name.unfinished.
    """
    from helpers.model.view_models import view_models

    makers = {"referral_finetuned": _referral, "view_models": view_models}
    key = _key(name, catalogue, frame, profile)
    place, unfinished = folder / name, folder / f"{name}.unfinished"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        if not (place / "experiment.json").is_file() or read_json(place / "experiment.json")["key"] != key:
            with whole_folder(place) as fresh:
                made = makers[name](catalogue, frame, profile, unfinished, fresh)
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


def _key(name: str, catalogue: Catalogue, frame: pd.DataFrame, profile: Profile) -> str:
    values = profile.model_dump(mode="json")
    kept = {key: value for key, value in values.items() if key.startswith(MADE_FROM[name])}
    content = [catalogue.fingerprint(), digest_of(frame[["image_id", "label", "split"]].to_csv(index=False))]
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


def _referral(catalogue: Catalogue, frame: pd.DataFrame, profile: Profile, unfinished: Path, fresh: Path) -> Made:
    """A softmax layer on bottlenecks first, then the layers below it as well, on mildly augmented images."""
    from helpers.data.light_augmentation import LightAugmentation
    from helpers.data.splits import SPLITS
    from helpers.model.backbones import load_backbone
    from helpers.model.depths import with_depths
    from helpers.model.finetune import ArraySource, FinetuneSettings, finetune

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
    run = finetune(backbone, *sources, codes, learnt["split"], REFERRAL, settings, head, unfinished)
    run.save(fresh / "network")
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
