"""Which images of several labels are explained, and how often the map's peak lies on the finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from helpers.data.catalogue import NO_FINDING, Catalogue
from helpers.data.images import read_square
from helpers.explain.activation import class_activation
from helpers.explain.maps import Maps
from helpers.explain.marks import lesion_masks
from helpers.explain.scores import localisation, mean_of
from helpers.model.multilabel_run import MultilabelRun

TOLERANCE = 15 / 224  # of the image's side: how far beside the finding a peak may lie, as in Zhang et al. 2016


def clearest(scores: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Of each label the image that has it and the highest probability of it: columns image_id, target."""
    rows = []
    for label in labels:
        mine = scores[scores[f"y_{label}"]]
        if len(mine):
            rows.append({"image_id": mine.loc[mine[f"p_{label}"].idxmax(), "image_id"], "target": label})
    return pd.DataFrame(rows, columns=["image_id", "target"])


def nearest(scores: pd.DataFrame, label: str, probabilities: Sequence[float]) -> pd.DataFrame:
    """The image whose probability of `label` is nearest to each of `probabilities`, none twice: image_id, target."""
    left, rows = scores, []
    for value in probabilities:
        row = left.loc[(left[f"p_{label}"] - value).abs().idxmin()]
        left = left[left["image_id"] != row["image_id"]]
        rows.append({"image_id": row["image_id"], "target": label})
    return pd.DataFrame(rows, columns=["image_id", "target"])


def alone(catalogue: Catalogue, labels: Sequence[str]) -> pd.DataFrame:
    """Test images on which one finding alone was drawn, so that their mask is that finding's: image_id, target.

    Empty where the findings are not known (real images).
    """
    if not {"findings", "mask"} <= set(catalogue.frame.columns):
        return pd.DataFrame(columns=["image_id", "target"])
    frame = catalogue.frame[catalogue.frame["published_split"] == "test"]
    chosen = frame[frame["findings"].isin(list(labels))]
    return chosen[["image_id", "findings"]].rename(columns={"findings": "target"}).reset_index(drop=True)


def healthy(run: MultilabelRun, catalogue: Catalogue, frame: pd.DataFrame, most: int = 48) -> np.ndarray:
    """Up to `most` tuning images without a finding, at the network's size, uint8 (m, size, size): what maps are
    compared with. `frame` is the split frame; the first ones in the order of their digests are taken."""
    rows = frame[(frame["split"] == "validation") & (frame["label"] == NO_FINDING)].sort_values("digest").head(most)
    size = run.backbone.image_size
    if rows.empty:
        raise ValueError(f"{catalogue.name}: no tuning image is without a finding")
    return np.stack([read_square(catalogue.file(path), size) for path in rows["path"]])


def explain(
    run: MultilabelRun, catalogue: Catalogue, chosen: pd.DataFrame, reference: np.ndarray | None = None
) -> tuple[np.ndarray, Maps, np.ndarray | None]:
    """The images of `chosen` (image_id, target) at the network's size, uint8 (n, size, size); the class activation map
    of each one's target, less that of `reference` images; and the masks of their findings, bool (n, size, size), None
    where nobody knows them."""
    rows = catalogue.frame.set_index("image_id").loc[chosen["image_id"]].reset_index()
    size = run.backbone.image_size
    images = np.stack([read_square(catalogue.file(path), size) for path in rows["path"]])
    masks = lesion_masks(catalogue, rows, size) if "mask" in rows else None
    return images, class_activation(run, images, chosen["target"].tolist(), reference), masks


def pointing_game(
    maps: Maps, masks: np.ndarray, chosen: pd.DataFrame, patients: Mapping[str, str], resamples: int, seed: int
) -> pd.DataFrame:
    """Of each label, and of "all", the share of maps whose peak lies on the finding or within `TOLERANCE` of it.

    Columns label, value, low, high (bootstrap by patient), n, chance (that of a random place), share (of the map's
    positive part that lies on the finding), method.
    """
    size = masks.shape[1]
    window = max(1, round(TOLERANCE * size))
    found = localisation(maps, masks, 2 * window + 1, window)
    found = found.assign(label=chosen["target"].to_numpy(), patient_id=chosen["image_id"].map(patients).to_numpy())
    rows = []
    for label in [*dict.fromkeys(sorted(found["label"])), "all"]:
        part = found if label == "all" else found[found["label"] == label]
        hit = mean_of(part, "hit", resamples=resamples, seed=seed)
        rows.append(
            {"label": label, "value": hit.value, "low": hit.low, "high": hit.high, "n": hit.n}
            | {"chance": part["hit_by_chance"].mean(), "share": part["mass"].mean(), "method": hit.method}
        )
    return pd.DataFrame(rows)
