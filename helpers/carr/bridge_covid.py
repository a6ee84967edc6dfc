"""Carr 2020's COVID-19 classifier, and what it may have learnt instead: controls for the source of the images.

The poster's COVID-19 images come from other hospitals, archives and ages than all others, so the question that it does
not ask is whether its network tells the disease or the source. Each control is a small head on the same frozen features
(natural images, then the bridge), learnt from the same subjects without augmentation; beside them stands "whole image",
a head made in just this way, so that like is compared with like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.carr import data as covid
from helpers.carr.bridge_heads import regression
from helpers.carr.bridge_starts import BOTH
from helpers.carr.models import Plan, run_bridge
from helpers.carr.thorax import lungs_box, views
from helpers.model.engine import choose, compile_backbone
from helpers.model.finetuned import BATCH
from helpers.model.networks import Given, Images, Made, pixels_of

if TYPE_CHECKING:
    from helpers.model.backbones import Backbone
    from helpers.run.profile import Profile

TIED, UNTIED = "tied", "untied"
SOURCE = "source, learnt without COVID-19"
KEPT = ["image_id", "patient_id", "label", "split", "site"]


def covid_bridge(given: Given) -> Made:
    """The experiment on COVID-19 with the pneumonia radiographs as bridge.

    Tables: those of `bridge.run_bridge`, and `controls`: a row an image that was not learnt from, `setting` (see
    `controls`) and `control`, with p_<class>; the source's control gives p_COVID-19 alone.
    """
    plan = Plan("xray", given.profile.bridge_covid_subjects, same_names=True, mirror=False)
    made, _, networks = run_bridge(given, plan)
    table = controls(given.own, networks[BOTH], given.profile)
    return replace(made, tables=made.tables | {"controls": table})


def controls(own: Images, backbone: Backbone, profile: Profile) -> pd.DataFrame:
    """Every control in each setting: "tied", the target's own images, where the class goes with the source; and, of
    data that can be (phantoms), "untied", where every class comes from both sources alike.
    """
    frame = own.catalogue.frame
    pixels = pixels_of(own.catalogue, frame, backbone.image_size, profile.workers)
    run = compile_backbone(backbone, choose("auto", "float32"), BATCH)
    shown = views(pixels, lungs_box(own.catalogue, backbone.image_size))
    features = {name: pd.DataFrame(run(images), index=frame["image_id"]) for name, images in shown.items()}
    settings = {TIED: own.frame}
    if covid.can_be_untied(frame):
        settings[UNTIED] = covid.untied(own.catalogue, profile.bridge_validation_fraction, profile.seed)
    parts = [
        part.assign(setting=setting)
        for setting, rows in settings.items()
        for part in _of_setting(rows, features, own.catalogue.classes, profile)
    ]
    return pd.concat(parts, ignore_index=True)


def _of_setting(
    frame: pd.DataFrame, features: dict[str, pd.DataFrame], classes: Sequence[str], profile: Profile
) -> list[pd.DataFrame]:
    made = []
    shown = frame[~frame["split"].isin(("train", "validation"))].reset_index(drop=True)
    for name, values in features.items():
        head = _head(frame, values, frame["label"], classes, profile)
        given = pd.DataFrame(head.predict(_of(values, shown)), columns=[f"p_{label}" for label in classes])
        made.append(pd.concat([shown[KEPT].assign(control=name), given], axis=1))
    chance = _source(frame, features["whole image"], shown, profile)
    if chance is not None:
        made.append(shown[KEPT].assign(control=SOURCE, **{f"p_{covid.COVID}": chance}))
    return made


def _head(frame: pd.DataFrame, values: pd.DataFrame, labels: pd.Series, classes: Sequence[str], profile: Profile):
    train, held_out = (frame["split"] == name for name in ("train", "validation"))
    told = _of(values, frame[held_out]), labels[held_out].to_numpy()
    return regression(_of(values, frame[train]), labels[train].to_numpy(), told, classes, profile.bridge_l2)


def _of(values: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    return values.loc[rows["image_id"]].to_numpy(np.float32)


def _source(frame: pd.DataFrame, values: pd.DataFrame, shown: pd.DataFrame, profile: Profile) -> np.ndarray | None:
    """Which source an image is from, by a head that never saw COVID-19: (n,) chances of COVID-19's source.

    It learns from other classes of both sources; where the target has them from one alone, those "held-out" lend
    theirs, by patient. None where there are too few of them.
    """
    others = frame[(frame["label"] != covid.COVID) & (frame["split"] != "test")].reset_index(drop=True)
    site = np.where(others["site"].isin(covid.COVID_SITES), "there", "here")
    lent = (others["split"] == "held-out").to_numpy()
    names = others.loc[lent, "patient_id"].drop_duplicates().sort_values()
    chosen = names.sample(frac=profile.bridge_validation_fraction, random_state=profile.seed)
    validates = others["patient_id"].isin(chosen).to_numpy()
    others["split"] = np.select([lent & validates, lent], ["validation", "train"], others["split"])
    parts = pd.Series(site).groupby(others["split"]).nunique()
    if len(parts) < 2 or parts.min() < 2:
        return None
    head = _head(others, values, pd.Series(site), ("here", "there"), profile)
    return head.predict(_of(values, shown))[:, 1]
