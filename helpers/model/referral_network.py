"""One network that tells NORMAL, BACTERIA and VIRUS apart, fine-tuned from images.

Beyond Kermany 2018, which trained the last layer alone: pneumonia against normal, bacterial against viral, and the
three decisions of the paper ("urgent referral", "supportive care", "observation only") come from the same
probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from helpers.model.experiments import CLASSES, scores_of, settings_of
from helpers.model.networks import Given, Images, Made, affordable, pixels_of
from helpers.profile import Profile

if TYPE_CHECKING:
    from helpers.model.backbones import Backbone
    from helpers.model.finetune import FinetuneSettings
    from helpers.model.finetune_several import Several

REFERRAL = CLASSES["referral"]


def referral_finetuned(given: Given) -> Made:
    """A softmax layer on bottlenecks first, then the layers below it as well, on augmented images."""
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
    scores = [scores_of(held_out, several.predict(shown, by), REFERRAL, by) for by in several.selections]
    summary = {
        "networks": len(several.runs),
        "chosen epoch": ", ".join(str(run.best_epoch) for run in several.runs),
        "epochs": int(several.history["epoch"].max()),
        "images an epoch": settings.images_per_epoch,
        "image size": backbone.image_size,
        "depths": profile.finetune_depths,
    }
    return Made(REFERRAL, {"scores": pd.concat(scores, ignore_index=True), "history": several.history}, summary)


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
    from helpers.data.light_augmentation import LightAugmentation
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
        profile.finetune_start_share,
    )


def head_on(images: Images, learnt: pd.DataFrame, backbone: Backbone, profile: Profile) -> Any:
    """The softmax layer that fine-tuning starts from, on the features of images as they are."""
    from helpers.model.bottlenecks import extract_for
    from helpers.model.heads import train_head

    rows = images.catalogue.frame[images.catalogue.frame["image_id"].isin(learnt["image_id"])]
    features = extract_for(profile, images.catalogue.subset(rows), backbone).of(learnt["image_id"])
    return train_head(features, learnt["label"], learnt["split"], REFERRAL, settings_of(profile)).by_validation
