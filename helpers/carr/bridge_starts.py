"""What a target network may start from: nothing, natural images, a bridge data set, or one after the other.

Carr 2020, Method: "1. Initialised with parameters learned from a source dataset. 2. Fine-tune parameters on a large
bridge dataset of the same image domain as the target dataset. 3. Trained on the target dataset."

A network that was trained on a bridge is kept in the cache, like other pre-trained weights, under a key of all that
made it; one whose training was killed goes on from its last checkpoint.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from filelock import FileLock

from helpers.carr.bridge_heads import regression
from helpers.data.augment import LightAugmentation, Mirrored
from helpers.model.backbones import Backbone, load_backbone, weights_digest
from helpers.model.depths import with_depths
from helpers.model.engine import choose, compile_backbone
from helpers.model.experiments import whole_folder
from helpers.model.finetune import ArraySource, FinetuneSettings, finetune
from helpers.model.finetuned import BATCH, FinetuneRun
from helpers.model.networks import Images, affordable, pixels_of
from helpers.run import paths
from helpers.run.profile import Profile
from helpers.run.provenance import digest_of

if TYPE_CHECKING:
    import keras

STARTS = (NONE, NATURAL, BRIDGE, BOTH) = ("none", "natural", "bridge", "natural, then bridge")
VERSION = 1  # to be raised when the same settings and bridge would give other weights
HEAD_IMAGES = 2000  # bridge images that the last layer is fitted to before the layers below it learn
LEARNT = 0.1  # of the way from guessing the commonest class to no error: below it, a bridge was hardly learnt
MEASURED = 64  # bridge images that a random network's normalisations are measured on


@dataclass(frozen=True)
class Bridge:
    """The bridge's images to learn from: their catalogue, and the rows of train and validation.

    `speckled`: they are of speckle, which augmentation would smooth away (`Mirrored`) and on which a network has more
    to learn anew; `epoch_images`: how many an epoch, 0: as the profile has it.
    """

    catalogue: object
    frame: pd.DataFrame
    speckled: bool = False
    epoch_images: int = 0

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.catalogue.classes)


def bridge_of(bridge: Images, target: Images, same_names: bool) -> tuple[Bridge, pd.DataFrame]:
    """The bridge without any image of the target's patients, and the rows that were taken out.

    "102 subjects were removed from the bridge dataset for target training": the rows of a patient of the target, in
    whatever split he is there, where both name patients alike (`same_names`), and files that are in both byte for byte.
    """
    taken = bridge.frame["digest"].isin(target.catalogue.frame["digest"])
    if same_names:
        taken |= bridge.frame["patient_id"].isin(target.catalogue.frame["patient_id"])
    kept = bridge.frame[~taken & bridge.frame["split"].isin(("train", "validation"))]
    made = Bridge(bridge.catalogue, kept.reset_index(drop=True))
    check_disjoint(made, target, same_names)
    return made, bridge.frame[taken].reset_index(drop=True)


def check_disjoint(bridge: Bridge, target: Images, same_names: bool) -> None:
    """Raises `ValueError` where a patient or a file of the target is in the bridge."""
    for column in ("digest", "patient_id") if same_names else ("digest",):
        shared = set(bridge.frame[column]) & set(target.catalogue.frame[column])
        if shared:
            raise ValueError(f"{len(shared)} of the target's {column} are in the bridge, first {min(shared)}")


def backbones(bridge: Bridge, profile: Profile, unfinished: Path) -> tuple[dict[str, Backbone], pd.DataFrame]:
    """The frozen network of each of `STARTS`, and the histories of the two bridge trainings, named in `training`."""
    name, size = profile.bridge_backbone or profile.backbone, profile.bridge_size
    made, histories = {}, []
    for before, after, weights in ((NONE, BRIDGE, "none"), (NATURAL, BOTH, profile.weights)):
        made[before] = with_depths(load_backbone(name, weights, size, profile.seed), profile.bridge_depths)
        run = trained_on_bridge(made[before], bridge, profile, unfinished, random=weights == "none")
        _tell_of_failure(run, bridge, after)
        made[after] = body_of(run, after)
        histories.append(run.history.assign(training=after))
    return {start: made[start] for start in STARTS}, pd.concat(histories, ignore_index=True)


def _tell_of_failure(run: FinetuneRun, bridge: Bridge, start: str) -> None:
    """A bridge that was not learnt is said: what is transferred from it then says nothing of bridges."""
    told = run.history[(run.history["split"] == "validation") & (run.history["epoch"] == run.best_epoch)]
    reached = float(told["accuracy"].iloc[0])
    labels = bridge.frame.loc[bridge.frame["split"] == "validation", "label"]
    guess = float(labels.value_counts(normalize=True).max())
    if reached < guess + (1 - guess) * LEARNT:
        text = (
            f"the start '{start}' hardly learnt its bridge: {100 * reached:.0f} % of the validation images are right, "
        )
        warnings.warn(f"{text}and the commonest class is {100 * guess:.0f} % of them", UserWarning, stacklevel=3)


def settings_of(profile: Profile, bridge: Bridge, random: bool) -> FinetuneSettings:
    """The recipe on the bridge, as the profile has it, within what is affordable without a GPU.

    Of a speckled one the rate follows a cosine. A random network learns its normalisations too: on phantom B-scans, on
    validation images, that took it from an accuracy of 0.85 to 0.96.
    """
    images = int((bridge.frame["split"] == "train").sum())
    epoch_images = min(images, bridge.epoch_images or profile.bridge_epoch_images or images)
    limit = (profile.bridge_cpu_images, "bridge_cpu_images")
    epochs, epoch_images = affordable("a network on the bridge", profile.bridge_epochs, epoch_images, *limit)
    return FinetuneSettings(
        # Layers that were drawn at random are of no use frozen.
        trainable="all" if random else profile.bridge_layers or "all",
        epochs=epochs,
        batch=profile.bridge_batch,
        learning_rate=profile.bridge_random_rate if random else profile.bridge_learning_rate,
        drop_every=max(1, round(epochs / 2)),
        schedule="cosine" if bridge.speckled else "steps",
        warm_up=min(1, epochs - 1) if bridge.speckled else 0,
        train_batch_norm=random,
        optimizer="adam",
        weight_decay=0.0,  # Adam would scale a penalty's gradient up like any other
        clip_norm=1.0,  # the first steps of a network that is turned to other images can be wild
        standardise=profile.head_standardise,
        images_per_epoch=epoch_images,
        first_choice=1,  # a bridge that taught nothing would be no bridge
        seed=profile.seed,
    )


def trained_on_bridge(
    backbone: Backbone, bridge: Bridge, profile: Profile, unfinished: Path, random: bool
) -> FinetuneRun:
    """`backbone` fine-tuned to tell the bridge's classes apart: loaded where that was done before, else done now."""
    frame = bridge.frame
    settings = settings_of(profile, bridge, random)
    content = digest_of(frame[["digest", "label", "split"]].to_csv(index=False))
    words = [VERSION, backbone.name, backbone.weights_digest, backbone.image_size, profile.bridge_depths]
    key = digest_of([*words, asdict(settings), bridge.classes, content, *["speckled"] * bridge.speckled])
    place = paths.CACHE / "bridges" / key
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):
        if not (place / "finetuned.json").is_file():
            pixels = pixels_of(bridge.catalogue, frame, backbone.image_size, profile.workers)
            body = measured(backbone, pixels[:: max(1, len(pixels) // MEASURED)][:MEASURED]) if random else backbone
            head = None if random else first_head(body, bridge, pixels, profile)
            variants = Mirrored if bridge.speckled else LightAugmentation
            sources = (variants(pixels, profile.seed), ArraySource(pixels))
            codes = frame["label"].map(bridge.classes.index).to_numpy()
            told = (codes, frame["split"], bridge.classes, settings, head)
            run = finetune(body, *sources, *told, unfinished / f"bridge-{key}")
            with whole_folder(place) as fresh:
                run.save(fresh)
    return FinetuneRun.load(place, backbone)


def first_head(backbone: Backbone, bridge: Bridge, pixels: np.ndarray, profile: Profile):
    """A softmax layer on the features of up to `HEAD_IMAGES` images, which the network starts from on the bridge."""
    chosen = {}
    for name in ("train", "validation"):
        rows = np.flatnonzero(bridge.frame["split"] == name)
        chosen[name] = np.random.default_rng((profile.seed, 7)).permutation(rows)[:HEAD_IMAGES]
    run = compile_backbone(backbone, choose("auto", "float32"), BATCH)
    features = {name: run(pixels[rows]) for name, rows in chosen.items()}
    labels = {name: bridge.frame["label"].to_numpy()[rows] for name, rows in chosen.items()}
    held_out = (features["validation"], labels["validation"])
    return regression(features["train"], labels["train"], held_out, bridge.classes, profile.bridge_l2)


def measured(backbone: Backbone, images: np.ndarray) -> Backbone:
    """A random network whose batch normalisations have the means and variances of these uint8 images (n, size, size).

    It learns on from these: those it was drawn with normalise nothing.
    """
    import keras

    model = _copy(backbone.model)
    for layer in model.layers:
        layer.trainable = True  # the model's own would not reach a clone's frozen layers
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images[..., None].astype(np.float32), training=True)
    return _with(backbone, model.get_weights(), backbone.weights)


def body_of(run: FinetuneRun, weights: str) -> Backbone:
    """A trained network without its last layer, frozen: features for another question."""
    return _with(run.backbone, run.by_validation[:-2], weights)


def _copy(model: keras.Model) -> keras.Model:
    import keras

    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def _with(backbone: Backbone, values: Iterable[np.ndarray], weights: str) -> Backbone:
    model = _copy(backbone.model)
    model.set_weights(list(values))
    model.trainable = False
    return replace(backbone, model=model, weights=weights, weights_digest=weights_digest(model))
