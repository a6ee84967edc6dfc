"""Where Zech 2018's CheXNet looks: class activation maps of its labels, of which images, and how well they point at the
finding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers.data.catalogue import NO_FINDING, Catalogue
from helpers.data.images import read_lungs, read_square, slices_of
from helpers.explain.gradients import class_activation
from helpers.explain.maps import Maps, from_logits, lesion_masks
from helpers.explain.scores import middle_of, point
from helpers.model.finetune import FinetunedNetwork
from helpers.zech import regions
from helpers.zech.data import BOXES, read_boxes

MIDDLE = "the middle of the thorax"
HEALTHY = 48  # images that maps are compared with


def clearest(scores: pd.DataFrame, labels: Sequence[str], marked: pd.DataFrame) -> pd.DataFrame:
    """For each label the image that has it and the highest probability of it, of those where its place is known
    (`marked`: image_id, target) if there are any: columns image_id, target."""
    found = []
    for label in labels:
        rows = scores[scores[f"y_{label}"]]
        known = rows[rows["image_id"].isin(marked.loc[marked["target"] == label, "image_id"])]
        found += [nearest(known if len(known) else rows, label, [1.0])] if len(rows) else []
    return pd.concat(found, ignore_index=True)


def nearest(scores: pd.DataFrame, label: str, probabilities: Sequence[float]) -> pd.DataFrame:
    """The image whose probability of `label` is nearest to each of `probabilities`, none twice: image_id, target."""
    left, found = scores.set_index("image_id")[f"p_{label}"], []
    for value in probabilities:
        found.append((left - value).abs().idxmin())
        left = left.drop(found[-1])
    return pd.DataFrame({"image_id": found, "target": label})


def choose_marked(catalogue: Catalogue, frame: pd.DataFrame, labels: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """Images that the network did not learn from and on which the place of a label is known: image_id, target; and a
    sentence that says which these are.

    Of phantoms, test images on which one finding alone was drawn, so that their mask is that finding's; of real images,
    those of the test or the tuning part with a radiologist's box.
    """
    if catalogue.phantom:
        test = frame[(frame["split"] == "test") & frame["findings"].isin(list(labels))]
        chosen = test.rename(columns={"findings": "target"})[["image_id", "target"]].reset_index(drop=True)
        return chosen, f"{len(chosen)} test phantoms with one finding alone."
    boxes, aside = read_boxes(catalogue.root)
    if boxes.empty and aside.empty:
        return boxes.rename(columns={"label": "target"}), (
            f"Heat maps are not scored: with {BOXES} in {catalogue.root} their peak, their overlap and their share in "
            "radiologists' boxes would be set beside chance and the middle of the thorax."
        )
    here = boxes.merge(frame[["image_id", "split"]], on="image_id")
    usable = here[(here["split"] != "train") & here["label"].isin(list(labels))]
    chosen = usable.rename(columns={"label": "target"})[["image_id", "target"]].drop_duplicates(ignore_index=True)
    learnt, bad = (here["split"] == "train").sum(), "".join(f"; {row.path}: {row.reason}" for row in aside.itertuples())
    return chosen, (
        f"{len(usable)} boxes on {chosen['image_id'].nunique()} test and tuning images. Left out of {BOXES}: "
        f"{len(boxes) - len(here)} whose image is not here, {learnt} on images learnt from, "
        f"{len(here) - learnt - len(usable)} of labels not learnt, {len(aside)} that cannot be right{bad}."
    )


def read_findings(catalogue: Catalogue, chosen: pd.DataFrame, size: int) -> np.ndarray:
    """Where the target of each of `chosen` (image_id, target) is, bool (n, size, size): a phantom's mask, where the
    target alone was drawn, or a real image's boxes; empty where that is not known."""
    if catalogue.phantom:
        rows = catalogue.frame.set_index("image_id").loc[chosen["image_id"]]
        alone = rows["findings"].to_numpy() == chosen["target"].to_numpy()
        return lesion_masks(catalogue, rows, size) & alone[:, None, None]
    boxes, masks = read_boxes(catalogue.root)[0], np.zeros((len(chosen), size, size), bool)
    places = chosen.assign(place=range(len(chosen))).rename(columns={"target": "label"})
    for box in boxes.merge(places, on=["image_id", "label"]).itertuples():
        corners = (((box.top, box.top + box.height), (box.left, box.left + box.width)), masks.shape[1:])
        masks[box.place][slices_of(*corners)] = True
    return masks


def healthy(run: FinetunedNetwork, catalogue: Catalogue, frame: pd.DataFrame) -> np.ndarray:
    """Up to `HEALTHY` tuning images without a finding, at the network's size, uint8 (m, size, size): what maps are
    compared with. `frame` is the split frame; the first ones in the order of their digests are taken."""
    rows = frame[(frame["split"] == "validation") & (frame["label"] == NO_FINDING)].sort_values("digest").head(HEALTHY)
    if rows.empty:
        raise ValueError(f"{catalogue.name}: no tuning image is without a finding")
    return np.stack([read_square(catalogue.file(path), run.backbone.image_size) for path in rows["path"]])


def explain(
    run: FinetunedNetwork, catalogue: Catalogue, chosen: pd.DataFrame, reference: np.ndarray | None = None
) -> tuple[np.ndarray, Maps, np.ndarray]:
    """The images of `chosen` (image_id, target) at the network's size, uint8 (n, size, size); the class activation map
    of each one's target, less that of `reference` images; and where their findings are (`read_findings`)."""
    rows = catalogue.frame.set_index("image_id").loc[chosen["image_id"]]
    size, network = run.backbone.image_size, from_logits(run.logits, run.classes, "sigmoid")
    images = np.stack([read_square(catalogue.file(path), size) for path in rows["path"]])
    maps = class_activation(network, images, chosen["target"].tolist(), reference)
    return images, maps, read_findings(catalogue, chosen, size)


def locate(
    trained: Sequence[FinetunedNetwork], catalogue: Catalogue, chosen: pd.DataFrame, reference: np.ndarray
) -> dict[str, pd.DataFrame]:
    """How well each training's maps of `chosen` (image_id, target) point at the findings, see `scores.point`, with
    label, patient_id and `seed`: those beyond the healthy of `reference`, those as they are, and `MIDDLE`, a guess that
    sees no image.
    """
    rows = catalogue.frame.set_index("image_id", drop=False).loc[chosen["image_id"]]
    known = {"label": chosen["target"].to_numpy(), "patient_id": rows["patient_id"].to_numpy()}
    (images, _, masks), found = explain(trained[0], catalogue, chosen), []
    guess = point(middle_of(read_lungs(catalogue, rows, masks.shape[1], regions.CROP)), masks)
    for run in trained:
        asked = from_logits(run.logits, run.classes, "sigmoid"), images, chosen["target"].tolist()
        maps = {"beyond the healthy": class_activation(*asked, reference)}
        maps["class activation as it is"] = class_activation(*asked)
        each = {name: point(one, masks) for name, one in maps.items()} | {MIDDLE: guess}
        found.append({name: table.assign(**known, seed=run.settings.seed) for name, table in each.items()})
    joined = {name: pd.concat([each[name] for each in found], ignore_index=True) for name in found[0]}
    return {name: table.sort_values("label", kind="stable", ignore_index=True) for name, table in joined.items()}
