"""Where Zech 2018's networks look: class activation maps of CheXNet's labels, occlusion maps of the hospital's network.

Which images are explained, how often a map's peak lies on the finding, and how much of a map lies outside the lungs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.catalogue import NO_FINDING, Catalogue
from helpers.data.images import read_lungs, read_square
from helpers.explain.gradients import class_activation
from helpers.explain.maps import Maps, from_head, from_logits, lesion_masks
from helpers.explain.occlusion import default_box, occlusion
from helpers.explain.scores import localisation, means, share_within
from helpers.model.finetune import FinetunedNetwork
from helpers.model.head import Head
from helpers.run.profile import Profile
from helpers.zech import regions

HEALTHY = 48  # images that maps are compared with
COUNT = 24  # test images whose site is explained
TOLERANCE = 15 / 224  # of the image's side: how far beside the finding a peak may lie, as in Zhang et al. 2016


def clearest(scores: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """For each label the image that has it and the highest probability of it: columns image_id, target."""
    positive = {label: scores[scores[f"y_{label}"]] for label in labels}
    found = [nearest(rows, label, [1.0]) for label, rows in positive.items() if len(rows)]
    return pd.concat(found, ignore_index=True)


def nearest(scores: pd.DataFrame, label: str, probabilities: Sequence[float]) -> pd.DataFrame:
    """The image whose probability of `label` is nearest to each of `probabilities`, none twice: image_id, target."""
    left, found = scores.set_index("image_id")[f"p_{label}"], []
    for value in probabilities:
        found.append((left - value).abs().idxmin())
        left = left.drop(found[-1])
    return pd.DataFrame({"image_id": found, "target": label})


def alone(catalogue: Catalogue, labels: Sequence[str]) -> pd.DataFrame:
    """Test images on which one finding alone was drawn, so that their mask is that finding's: image_id, target.

    Empty where the findings are not known (real images).
    """
    frame = catalogue.frame.reindex(columns=["image_id", "published_split", "findings"])
    chosen = frame[(frame["published_split"] == "test") & frame["findings"].isin(list(labels))]
    return chosen.rename(columns={"findings": "target"})[["image_id", "target"]].reset_index(drop=True)


def healthy(run: FinetunedNetwork, catalogue: Catalogue, frame: pd.DataFrame) -> np.ndarray:
    """Up to `HEALTHY` tuning images without a finding, at the network's size, uint8 (m, size, size): what maps are
    compared with. `frame` is the split frame; the first ones in the order of their digests are taken."""
    rows = frame[(frame["split"] == "validation") & (frame["label"] == NO_FINDING)].sort_values("digest").head(HEALTHY)
    if rows.empty:
        raise ValueError(f"{catalogue.name}: no tuning image is without a finding")
    return np.stack([read_square(catalogue.file(path), run.backbone.image_size) for path in rows["path"]])


def explain(
    run: FinetunedNetwork, catalogue: Catalogue, chosen: pd.DataFrame, reference: np.ndarray | None = None
) -> tuple[np.ndarray, Maps, np.ndarray | None]:
    """The images of `chosen` (image_id, target) at the network's size, uint8 (n, size, size); the class activation map
    of each one's target, less that of `reference` images; and the masks of their findings, bool (n, size, size), None
    where they are not known."""
    rows = catalogue.frame.set_index("image_id").loc[chosen["image_id"]]
    size, network = run.backbone.image_size, from_logits(run.logits, run.classes, "sigmoid")
    images = np.stack([read_square(catalogue.file(path), size) for path in rows["path"]])
    masks = lesion_masks(catalogue, rows, size) if "mask" in rows else None
    return images, class_activation(network, images, chosen["target"].tolist(), reference), masks


def pointing_game(maps: Maps, masks: np.ndarray, chosen: pd.DataFrame, patients: Mapping[str, str]) -> pd.DataFrame:
    """For each label, and for "all", the share of maps whose peak lies on the finding or within `TOLERANCE` of it.

    Columns label, value, low, high (by patient), n, chance (that of a random place), share (of the map's
    positive part that lies on the finding), method.
    """
    window = max(1, round(TOLERANCE * masks.shape[1]))
    found = localisation(maps, masks, 2 * window + 1, window)
    found = found.assign(label=chosen["target"].to_numpy(), patient_id=chosen["image_id"].map(patients).to_numpy())
    beside = {"chance": ("hit_by_chance", "mean"), "share": ("mass", "mean")}
    table = means(found.sort_values("label", kind="stable"), ["hit"], ["label"], total="all", beside=beside)
    return table[["label", "value", "low", "high", "n", "chance", "share", "method"]]


def choose_images(frame: pd.DataFrame) -> pd.DataFrame:
    """About `COUNT` test images with their hospital's markers, as many of each hospital, one per patient, by name."""
    rows = frame[(frame["split"] == "test") & (frame["markers"] == "on") & (frame["cohort"] == "natural")]
    rows = rows.sort_values("image_id").drop_duplicates("patient_id")
    kept = rows.groupby("site").head(-(-COUNT // rows["site"].nunique()))
    hospitals = pd.Categorical(kept["site"], frame["site"].unique())
    return kept.iloc[hospitals.argsort(kind="stable")].reset_index(drop=True)


def explain_site(
    catalogue: Catalogue, frame: pd.DataFrame, head: Path, profile: Profile
) -> tuple[Maps, np.ndarray, np.ndarray]:
    """Occlusion maps of the true hospital's probability for each row of `frame`, with a box of the image's own mean;
    the images, uint8 (n, size, size); and where the lungs are, bool (n, size, size): of phantoms their masks, of real
    images `regions.CROP`. `head`: the file of the hospital's head."""
    backbone = regions.load_site_backbone(profile)
    size, box = backbone.image_size, default_box(backbone.image_size)
    images = regions.read_variant(catalogue, frame, size, "whole", profile.workers)
    lungs = read_lungs(catalogue, frame, size, regions.CROP)
    network = from_head(backbone, Head.load(head))
    return occlusion(network, images, list(frame["site"]), box=box, fill="mean", stride=box), images, lungs


def share_outside(frame: pd.DataFrame, maps: np.ndarray, lungs: np.ndarray) -> pd.DataFrame:
    """For each image the share of its map outside the lungs, and the share of the image that lies there: columns site,
    patient_id, outside, by_chance, excess. A map without anything that speaks for the hospital has no share (NaN)."""
    share, chance = share_within(maps, ~lungs), (~lungs).mean(axis=(1, 2))
    kept = frame[["image_id", "patient_id", "site"]].reset_index(drop=True)
    return kept.assign(outside=share, by_chance=chance, excess=share - chance)
