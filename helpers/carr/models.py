"""Carr 2020's transfer in three steps, natural images, bridge, target, and the experiment that says what each is worth.

"Each step tunes the algorithm by first learning general image recognition, followed by domain specific features, before
final training with the target." The poster shows the winner alone. Here four starts (nothing, natural images, a bridge,
natural images and then a bridge) are compared on the same target images, from few of them to many: `grid`. The
published recipe, all three steps with the target's images and ten augmentations of each, makes the network that the
figures show; validation chooses its epoch, the one before it learnt (a last layer on the bridge's features) included.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.carr.bridge_heads import available, grid, regression, sizes_of, subjects
from helpers.carr.bridge_starts import BOTH, Bridge, backbones, bridge_of
from helpers.carr.expansion import Expanded, expand
from helpers.model.backbones import load_backbone
from helpers.model.depths import with_depths
from helpers.model.experiments import scores_of
from helpers.model.finetune import FinetuneRun, FinetuneSettings, finetune
from helpers.model.last_layer import features_of
from helpers.model.networks import Given, Made, NetworkExperiment, affordable, pixels_of
from helpers.run.profile import Profile

if TYPE_CHECKING:
    from helpers.model.backbones import Backbone
    from helpers.model.head import Head

STEPS = ("natural images", "bridge", "target")  # "the algorithm training over three steps"
PUBLISHED_BACKBONE = "InceptionV4"


@dataclass(frozen=True)
class Plan:
    """A target: the bridge's data set, the published images a class, whether both name patients alike, whether an
    augmented image may be reflected, and of the bridge `speckled` and `epoch_images` (`bridge_starts.Bridge`)."""

    bridge: str
    per_class: int
    same_names: bool
    mirror: bool
    speckled: bool = False
    epoch_images: int = 0


@dataclass(frozen=True)
class Target:
    """The target's images and what is learnt from them.

    `frame` and `pixels`, uint8 (n, size, size): the split frame and its images; `expanded` and `source`: those and the
    children of every drawn one; `draws`: (images a class, seed, image ids) of the grid; `main`: the published draw.
    """

    frame: pd.DataFrame
    pixels: np.ndarray
    classes: tuple[str, ...]
    source: Expanded
    draws: list[tuple[int, int, list[str]]]
    main: list[str]

    @property
    def expanded(self) -> pd.DataFrame:
        return self.source.frame


def retinal_bridge(given: Given) -> Made:
    """B-scans of rare retinal disease, from Kermany's B-scans: "We limited our dataset to 50 samples per diagnosis".

    Tables: see `run_bridge`.
    """
    wanted, an_epoch = given.profile.bridge_octid_images, given.profile.bridge_octid_epoch_images
    plan = Plan("oct", wanted, same_names=False, mirror=True, speckled=True, epoch_images=an_epoch)
    return run_bridge(given, plan)[0]


def run_bridge(given: Given, plan: Plan) -> tuple[Made, Target, dict[str, Backbone]]:
    """The whole experiment on `given.own`, with the bridge `given.others[plan.bridge]`.

    Tables: `scores` (every image not trained on, by the published recipe, see `experiments.scores_of`), `history`
    (epochs of every training, named in `training`), `grid` (test images by each start's head, see `bridge_heads.grid`),
    `removed` (rows that left the bridge because the target has them). The network of the published recipe is kept too:
    `network_of`. Images a class that the data cannot give are warned of.
    """
    profile = given.profile
    bridge, removed = bridge_of(given.others[plan.bridge], given.own, plan.same_names)
    bridge = replace(bridge, speckled=plan.speckled, epoch_images=plan.epoch_images)
    _tell_backbone(profile)
    networks, history = backbones(bridge, profile, given.unfinished)
    target = _target(given, plan, networks[BOTH].image_size)
    every = np.arange(len(target.expanded))
    features = {
        start: features_of(network, target.source, every, given.unfinished) for start, network in networks.items()
    }
    table = grid(features, target.expanded, target.draws, target.classes, profile.bridge_l2)
    run = _published(target, networks[BOTH], features[BOTH], profile, given.unfinished)
    run.save(given.fresh / "network")
    tables = {
        "scores": _scores(target, run),
        "history": pd.concat([history, run.history.assign(training="target")], ignore_index=True),
        "grid": table,
        "removed": removed[["image_id", "patient_id", "label", "split"]],
    }
    return Made(target.classes, tables, _summary(target, bridge, removed, run, profile)), target, networks


def network_of(experiment: NetworkExperiment) -> FinetuneRun:
    """The trained network of the published recipe, as `run_bridge` left it."""
    told = experiment.summary
    body = load_backbone(told["backbone"], "none", told["image size"])
    return FinetuneRun.load(experiment.folder / "network", with_depths(body, told["depths"]))


def _tell_backbone(profile: Profile) -> None:
    name = profile.bridge_backbone or profile.backbone
    if name != PUBLISHED_BACKBONE and name != "SmallNet":
        text = (
            f"the backbone is {name}, not the poster's Inception-v4, of which there are no public Keras weights; with "
            f"a converted file: BRIDGE_BACKBONE={PUBLISHED_BACKBONE} WEIGHTS=path"
        )
        warnings.warn(text, UserWarning, stacklevel=2)


def _target(given: Given, plan: Plan, size: int) -> Target:
    """Draws, and the children of every image that a draw holds."""
    profile, frame = given.profile, given.own.frame.reset_index(drop=True)
    sizes = sizes_of(frame, profile.bridge_per_class)
    seeds = [profile.seed * 1000 + number for number in range(profile.bridge_seeds)]
    draws = [(count, seed, subjects(frame, count, seed)) for count in sizes for seed in seeds]
    main = subjects(frame, _wanted(frame, plan.per_class), profile.seed * 1000)
    drawn = {name for _, _, names in draws for name in names} | set(main)
    used = frame[(frame["split"] != "train") | frame["image_id"].isin(drawn)].reset_index(drop=True)
    pixels = pixels_of(given.own.catalogue, used, size, profile.workers)
    source = Expanded(expand(used, profile.bridge_children), pixels, used["image_id"], profile.seed, plan.mirror)
    return Target(used, pixels, tuple(given.own.catalogue.classes), source, draws, main)


def _wanted(frame: pd.DataFrame, per_class: int) -> int:
    most = available(frame)
    if most < per_class:
        text = f"the target has {most} training subjects a class instead of {per_class}: there are no more"
        warnings.warn(text, UserWarning, stacklevel=3)
    return min(per_class, most)


def _published(target: Target, body: Backbone, features: np.ndarray, profile: Profile, unfinished: Path) -> FinetuneRun:
    """The third step: "Trained on the target dataset", all its images and their augmentations, from the bridge on.

    A last layer on the bridge's features comes first, then the layers below it learn as well.
    """
    frame = target.expanded
    split = frame["split"].to_numpy()
    learnt = np.flatnonzero(((split == "train") & frame["parent"].isin(target.main)) | (split == "validation"))
    rows = frame.iloc[learnt].reset_index(drop=True)
    head = _head(rows, features[learnt], target.classes, profile)
    source = _Rows(target.source, learnt)
    settings = _target_settings(profile, int((rows["split"] == "train").sum()))
    codes = rows["label"].map(target.classes.index).to_numpy()
    told = (codes, rows["split"], target.classes, settings, head)
    return finetune(body, source, source, *told, unfinished / "target")


def _head(rows: pd.DataFrame, features: np.ndarray, classes: tuple[str, ...], profile: Profile) -> Head:
    train, held_out = ((rows["split"] == name).to_numpy() for name in ("train", "validation"))
    labels = rows["label"].to_numpy()
    return regression(
        features[train], labels[train], (features[held_out], labels[held_out]), classes, profile.bridge_l2
    )


class _Rows:
    """Some rows of a source, by their own numbers."""

    def __init__(self, source: Expanded, rows: np.ndarray) -> None:
        self._source, self._rows = source, rows
        self.key = f"{source.key} {rows.sum()} {len(rows)}"

    def batch(self, epoch: int, rows: np.ndarray) -> np.ndarray:
        return self._source.batch(epoch, self._rows[rows])


def _target_settings(profile: Profile, images: int) -> FinetuneSettings:
    limit = (profile.bridge_target_cpu_images, "bridge_target_cpu_images")
    epochs, epoch_images = affordable("the target network", profile.bridge_target_epochs, images, *limit)
    return FinetuneSettings(
        trainable=profile.bridge_layers or "all",
        epochs=epochs,
        batch=profile.bridge_batch,
        learning_rate=profile.bridge_target_rate,
        drop_every=max(1, round(epochs / 2)),
        optimizer="adam",
        weight_decay=0.0,
        clip_norm=1.0,
        standardise=profile.head_standardise,
        images_per_epoch=epoch_images,
        seed=profile.seed,
    )


def _scores(target: Target, run: FinetuneRun) -> pd.DataFrame:
    held_out = (target.frame["split"] != "train").to_numpy()
    given = run.predict(target.pixels[held_out])
    return scores_of(target.frame[held_out], given, target.classes, "validation")


def _summary(target: Target, bridge: Bridge, removed: pd.DataFrame, run: FinetuneRun, profile: Profile) -> dict:
    children = target.expanded["parent"].isin(target.main) & (target.expanded["split"] == "train")
    return {
        "backbone": run.backbone.name,
        "image size": run.backbone.image_size,
        "depths": profile.bridge_depths,
        "steps": list(STEPS),
        "bridge classes": list(bridge.classes),
        "bridge images": len(bridge.frame),
        "bridge images taken out": len(removed),
        "target subjects a class": len(target.main) // len(target.classes),
        "target images a class": int(children.sum()) // len(target.classes),
        "held-back images": int((target.frame["split"] == "test").sum()),
        "chosen epoch": run.best_epoch,
        "epochs": len(run.history["epoch"].unique()) - 1,
    }
