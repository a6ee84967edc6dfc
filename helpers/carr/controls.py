"""Carr 2020's COVID-19 classifier, and what it may have learnt instead: controls for the source of the images.

The poster's COVID-19 images come from other hospitals, archives and ages than all others, so the question that it does
not ask is whether its network recognises the disease or the source. Each control is a small head on the same frozen
features (natural images, then the bridge), learnt from the same subjects without augmentation; beside them stands
"whole image", a head made in just this way, so that like is compared with like.

Lungs are hidden by one box for all images, whatever is in them, and, where they are known (of phantoms, or by people's
masks), by the outline of each image's own. The outline is exact, but its shape stays in the image and tells children
from adults; so it stands alone as a further control, "outline of the lungs". Images without a mask are left out of the
controls that need one, in training and in testing: a box on some images and an outline on others would tell the source.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from helpers.carr import data as covid
from helpers.carr.models import PENALTIES, Plan, train_bridge
from helpers.data.images import Box, slices_of
from helpers.data.masks import LUNGS, Masks, folders_of, read_masks
from helpers.model.backbones import Backbone
from helpers.model.engine import choose, compile_backbone
from helpers.model.experiment import Images, Inputs, Results, pixels_of, scores_of
from helpers.model.head import Head, fit_head
from helpers.run.profile import Profile

TIED, UNTIED = "tied", "untied"
SOURCE = "source, learnt without COVID-19"
BOX: Box = ((0.08, 0.9), (0.06, 0.94))  # rows and columns of frontal lungs, as shares, where no mask is known
COVERED = 0.995  # share of all lungs' pixels that a box from masks holds, along each axis
BORDER = 0.08  # width of the border, as a share of the side
BLACKED_OUT = "lungs blacked out"
WITH_MASKS = "whole image, where lungs are known"
FEW = 10  # training images of a class, below which a control that needs masks is not learnt


def train_covid_bridge(inputs: Inputs) -> Results:
    """COVID-19, from the pneumonia radiographs: "102 subjects" per class.

    Tables: those of `models.train_bridge`, and `controls`: a row per image that was not learnt from, `setting` (see
    `score_controls`), `control` and `seed`, with p_<class>; the source's control gives p_COVID-19 alone.
    """
    plan = Plan("xray", inputs.settings.bridge_covid_subjects, same_names=True, mirror=False)
    results, backbones = train_bridge(inputs, plan)
    controls = score_controls(inputs.own, backbones, inputs.settings)
    return replace(results, tables={**results.tables, "controls": controls})


def score_controls(own: Images, backbones: Sequence[Backbone], settings: Profile) -> pd.DataFrame:
    """Every control in each setting, on each training's network: "tied", the target's own images, where the class goes
    with the source; and, of data that can be (phantoms), "untied", where every class comes from both sources alike.
    """
    by_setting, classes = {TIED: own.frame}, own.catalogue.classes
    if covid.can_be_untied(own.catalogue.frame):
        by_setting[UNTIED] = covid.untied(own.catalogue, settings.seed)
    shown, parts = _hidden(own, backbones[0].image_size, settings), []
    for seed, backbone in enumerate(backbones, settings.seed):
        run = compile_backbone(backbone, choose("auto", "float32"))
        features = {name: pd.DataFrame(run(images), index=names) for name, (images, names) in shown.items()}
        if 0 < len(known := shown.get(BLACKED_OUT, ((), ()))[1]) < len(own.catalogue.frame):
            features[WITH_MASKS] = features["whole image"].loc[known]
        found = [_score(rows, features, classes, settings.seed).assign(setting=one) for one, rows in by_setting.items()]
        parts.append(pd.concat(found).assign(seed=seed))
    return pd.concat(parts, ignore_index=True)


def _hidden(own: Images, size: int, settings: Profile) -> dict[str, tuple[np.ndarray, pd.Series]]:
    """What each control is shown: the images, uint8 (n, size, size), and their names."""
    frame = own.catalogue.frame
    pixels = pixels_of(own.catalogue, frame, size, settings.workers)
    lungs = read_masks(own.catalogue, frame, size, settings)
    found = {name: (images, frame["image_id"]) for name, images in hide_parts(pixels, lungs_box(lungs, size)).items()}
    known = lungs.rows["image_id"]
    if len(known):
        parts = hide_lungs(pixels[pd.Index(frame["image_id"]).get_indexer(known)], lungs.pixels)
        found |= {name: (images, known) for name, images in parts.items()}
    return found


def _score(frame: pd.DataFrame, features: dict[str, pd.DataFrame], classes: Sequence[str], seed: int) -> pd.DataFrame:
    parts, heads = [], {}
    for name, values in features.items():
        rows = frame[frame["image_id"].isin(values.index)]
        if len(rows) == len(frame) or _learnable(rows, classes):
            heads[name] = name, _fit(rows, values, classes)
    if by_source := _fit_source(frame, features["whole image"], seed):
        heads[SOURCE] = "whole image", by_source
    for control, (name, head) in heads.items():
        held_out = ~frame["split"].isin(("train", "validation"))
        shown = frame[held_out & frame["image_id"].isin(features[name].index)]
        scores = scores_of(shown, head.predict(_rows(features[name], shown)), head.classes, "validation")
        parts.append(scores.assign(site=shown["site"].to_numpy(), control=control))
    parts[-1] = parts[-1].rename(columns={"p_there": f"p_{covid.COVID}"}).drop(columns="p_here", errors="ignore")
    return pd.concat(parts, ignore_index=True)


def _learnable(rows: pd.DataFrame, classes: Sequence[str]) -> bool:
    """Whether the images with a mask suffice to learn a control; a warning names the classes that lack them."""
    counts = rows.groupby(["split", "label"]).size().unstack(fill_value=0)
    counts = counts.reindex(index=["train", "validation", "test"], columns=list(classes), fill_value=0)
    lacking = (counts.lt([FEW, 1, 1], axis=0)).any()
    if lacking.any():
        text = f"people have marked the lungs on too few images of {', '.join(counts.columns[lacking])}"
        warnings.warn(f"{text}: lungs are hidden by the box alone", UserWarning, stacklevel=2)
    return not lacking.any()


def _fit(frame: pd.DataFrame, values: pd.DataFrame, classes: Sequence[str]) -> Head:
    return fit_head(_rows(values, frame), frame["label"], frame["split"], classes, PENALTIES).best


def _rows(values: pd.DataFrame, frame: pd.DataFrame) -> np.ndarray:
    return values.loc[frame["image_id"]].to_numpy(np.float32)


def _fit_source(frame: pd.DataFrame, values: pd.DataFrame, seed: int) -> Head | None:
    """A head for the source of an image, "here" or "there" (that of COVID-19), which never saw COVID-19.

    It learns from other classes of both sources; where the target has them from one alone, those "held-out" lend
    theirs, by patient. None where there are too few of them.
    """
    others = frame[(frame["label"] != covid.COVID) & (frame["split"] != "test")].reset_index(drop=True)
    others["label"] = np.where(others["site"].isin(covid.COVID_SITES), "there", "here")
    lent = (others["split"] == "held-out").to_numpy()
    names = others.loc[lent, "patient_id"].drop_duplicates().sort_values()
    chosen = names.sample(frac=covid.VALIDATION, random_state=seed)
    validates = others["patient_id"].isin(chosen).to_numpy()
    others["split"] = np.select([lent & validates, lent], ["validation", "train"], others["split"])
    parts = others.groupby("split")["label"].nunique()
    if len(parts) < 2 or parts.min() < 2:
        return None
    return _fit(others, values, ("here", "there"))


# --- lungs hidden, or nothing but lungs ---


def lungs_box(lungs: Masks, size: int) -> tuple[slice, slice]:
    """Rows and columns of the box that holds the lungs, in images of `size` pixels.

    Maguolo and Nanni 2020 showed that a classifier can distinguish COVID-19 collections with the middle of every image
    blacked out: what it used was no lung. One box is cut from all images of a data set, whatever is in them: a mask of
    each image's own lungs would give away by its shape what it is to hide. Where lungs are known, it is the smallest
    that leaves out no more than a two-hundredth of their pixels along either axis; else `BOX`, a rough one: real lungs
    differ in place, and what is left outside of it may hold some.
    """
    if not len(lungs.pixels):
        return slices_of(BOX, (size, size))
    share = lungs.pixels.mean(axis=0)
    return _extent(share.sum(axis=1)), _extent(share.sum(axis=0))


def _extent(weights: np.ndarray) -> slice:
    """The places that hold `COVERED` of the weight, as much being left out at either end."""
    inside = np.cumsum(weights) / weights.sum()
    out = (1 - COVERED) / 2
    return slice(int(np.searchsorted(inside, out)), int(np.searchsorted(inside, 1 - out)) + 1)


def hide_parts(pixels: np.ndarray, box: tuple[slice, slice]) -> dict[str, np.ndarray]:
    """The images, uint8 (n, size, size), as they are and in three ways to hide a part: "whole image", "box blacked
    out", "box only" (its complement), "border only"."""
    inside, middle = np.zeros((2, *pixels.shape[1:]), bool)
    inside[box] = True
    edge = max(1, round(BORDER * pixels.shape[1]))
    middle[edge:-edge, edge:-edge] = True
    hidden = {"box blacked out": inside, "box only": ~inside, "border only": middle}
    return {"whole image": pixels} | {name: np.where(mask, np.uint8(0), pixels) for name, mask in hidden.items()}


def hide_lungs(pixels: np.ndarray, lungs: np.ndarray) -> dict[str, np.ndarray]:
    """The images without their own lungs, with these alone, and the lungs' outline as an image: uint8 (n, size, size).

    `lungs`: bool, like the images.
    """
    return {
        BLACKED_OUT: np.where(lungs, np.uint8(0), pixels),
        "lungs only": np.where(lungs, pixels, np.uint8(0)),
        "outline of the lungs": np.where(lungs, np.uint8(255), np.uint8(0)),
    }


folders_lungs = folders_of("covid_source", LUNGS)  # which the controls read
folders_masks = folders_of("covid_source")  # which notebook 09 reads: of lungs and of lesions
