"""One network that tells NORMAL, BACTERIA and VIRUS apart, fine-tuned from images.

Beyond Kermany 2018, which trained the last layer alone: pneumonia against normal, bacterial against viral, and the
three decisions of the paper ("urgent referral", "supportive care", "observation only") come from the same
probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from helpers.kermany.models import CLASSES, head_settings
from helpers.model.experiment import scores_of
from helpers.model.networks import Given, Images, Made, affordable, pixels_of
from helpers.run.profile import Profile

if TYPE_CHECKING:
    from helpers.model.backbones import Backbone
    from helpers.model.finetune import FinetuneSettings
    from helpers.model.finetune_several import Several

REFERRAL = CLASSES["referral"]


def referral_finetuned(given: Given) -> Made:
    """A softmax layer on bottlenecks first, then the layers below it as well, on augmented images.

    With `finetune_kernel_share`, the probabilities of support vector machines on frozen features have that share in the
    mean; the table `members` tells the two apart.
    """
    from helpers.model.backbones import load_backbone
    from helpers.model.depths import with_depths

    profile, frame = given.profile, given.own.frame
    backbone = load_backbone(profile.backbone, profile.weights, profile.finetune_size, profile.seed)
    backbone = with_depths(backbone, profile.finetune_depths)
    settings = _settings(profile, int((frame["split"] == "train").sum()))
    several = _tuned(given, backbone, settings)
    several.save(given.fresh)
    held_out = frame[frame["split"] != "train"].reset_index(drop=True)
    shown = pixels_of(given.own.catalogue, held_out, backbone.image_size, profile.workers)
    tuned = {by: several.predict(shown, by) for by in several.selections}
    members = {"networks": tuned["validation"]}
    share = profile.finetune_kernel_share
    if share:
        members["machines"] = _machines_say(given, frame, held_out)
        tuned = {by: (1 - share) * one + share * members["machines"] for by, one in tuned.items()}
    scores = [scores_of(held_out, one, REFERRAL, by) for by, one in tuned.items()]
    apart = [scores_of(held_out, one, REFERRAL, "validation").assign(member=name) for name, one in members.items()]
    summary = {
        "networks": len(several.runs),
        "chosen epoch": ", ".join(str(run.best_epoch) for run in several.runs),
        "epochs": int(several.history["epoch"].max()),
        "images an epoch": settings.images_per_epoch,
        "image size": backbone.image_size,
        "depths": profile.finetune_depths,
        "share of support vector machines": share,
    }
    tables = {"scores": scores, "members": apart, "history": [several.history]}
    return Made(REFERRAL, {name: pd.concat(rows, ignore_index=True) for name, rows in tables.items()}, summary)


def _machines_say(given: Given, frame: pd.DataFrame, held_out: pd.DataFrame) -> np.ndarray:
    """Probabilities, float32 (n, classes), of the held-out images by machines that learnt from the training images."""
    from helpers.kermany.kernel_machines import train_kernel_machines
    from helpers.model.backbones import load_backbone
    from helpers.model.depths import with_deviations
    from helpers.model.finetune import ArraySource
    from helpers.model.last_layer import features_of

    profile = given.profile
    size = profile.finetune_kernel_size or profile.finetune_size
    plain = load_backbone(profile.backbone, profile.weights, size, profile.seed)
    backbone, depths = with_deviations(plain, profile.finetune_kernel_depths)
    given.unfinished.mkdir(parents=True, exist_ok=True)

    def looks(rows: pd.DataFrame) -> np.ndarray:
        pixels = pixels_of(given.own.catalogue, rows, backbone.image_size, profile.workers)
        views = (pixels, np.ascontiguousarray(pixels[:, :, ::-1]))[: 1 + profile.finetune_mirror]
        every = np.arange(len(rows))
        return np.stack([features_of(backbone, ArraySource(one), every, given.unfinished) for one in views])

    train = frame[frame["split"] == "train"].reset_index(drop=True)
    codes, patients = train["label"].map(REFERRAL.index).to_numpy(), train["patient_id"].to_numpy()
    machines = train_kernel_machines(looks(train), depths, codes, patients, REFERRAL, profile.seed)
    machines.save(given.fresh / "machines.joblib")
    return machines.predict(looks(held_out))


def _settings(profile: Profile, images: int) -> FinetuneSettings:
    """The profile's recipe, for so many training images."""
    from helpers.model.finetune import FinetuneSettings

    what = "the pneumonia network" if profile.finetune_networks == 1 else "each pneumonia network"
    limit = -(-profile.finetune_cpu_images // profile.finetune_networks)
    epochs, images = affordable(what, profile.finetune_epochs, images, limit, "finetune_cpu_images")
    cosine = profile.finetune_schedule == "cosine"
    return FinetuneSettings(
        trainable=profile.finetune_layers or "all",
        epochs=epochs,
        batch=profile.finetune_batch,
        learning_rate=profile.finetune_learning_rate,
        drop_every=max(1, round(epochs / 3)),
        schedule=profile.finetune_schedule,
        warm_up=1 if cosine and epochs > 1 else 0,
        # Plain Adam would scale a penalty's gradient up like any other, so it has none.
        optimizer="adamw" if profile.finetune_weight_decay else "adam",
        weight_decay=profile.finetune_weight_decay,
        label_smoothing=profile.finetune_label_smoothing,
        clip_norm=1.0,  # the first steps of a network that is turned to other images can be wild
        dropout=profile.finetune_dropout,
        standardise=profile.head_standardise,
        images_per_epoch=images,
        keep="last" if cosine else "best",
        patience=profile.finetune_patience,
        seed=profile.seed,
    )


def _tuned(given: Given, backbone: Backbone, settings: FinetuneSettings) -> Several:
    from helpers.data.augment import LightAugmentation
    from helpers.data.splits import SPLITS
    from helpers.model.finetune import ArraySource
    from helpers.model.finetune_several import finetune_several

    profile, frame = given.profile, given.own.frame
    learnt = frame[frame["split"].isin(SPLITS)].reset_index(drop=True)
    pixels = pixels_of(given.own.catalogue, learnt, backbone.image_size, profile.workers)
    mirror = profile.finetune_mirror
    return finetune_several(
        profile.finetune_networks,
        backbone,
        lambda seed: LightAugmentation(pixels, seed, mirror, profile.finetune_augmentation),
        ArraySource(pixels),
        learnt["label"].map(REFERRAL.index).to_numpy(),
        learnt["split"],
        REFERRAL,
        settings,
        head_on(given.own, learnt, backbone, profile),
        given.unfinished,
        mirror,
    )


def head_on(images: Images, learnt: pd.DataFrame, backbone: Backbone, profile: Profile) -> Any:
    """The softmax layer that fine-tuning starts from, on the features of images as they are."""
    from helpers.model.features import extract_for
    from helpers.model.head import train_head

    rows = images.catalogue.frame[images.catalogue.frame["image_id"].isin(learnt["image_id"])]
    features = extract_for(profile, images.catalogue.subset(rows), backbone).of(learnt["image_id"])
    return train_head(features, learnt["label"], learnt["split"], REFERRAL, head_settings(profile)).by_validation
