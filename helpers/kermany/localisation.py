"""Kermany 2018's occlusion test: table S3, lesions' size against the box's, and expert marks of lesions on real images;
and how much of the pneumonia network's maps lies in the lungs.

The paper's regions "were also verified by human experts to be the most clinically significant areas of pathology";
those marks are not public. A user supplies marks in a CSV with a header, UTF-8, one row per mark:

    image,x,y,mask
    CNV-1016042-1,251,204,
    CNV-1016042-1,310,198,
    DME-1102030-1,,,masks/DME-1102030-1.png

`image` is an image_id of the catalogue, or its file's name without folder and ending where no other image has that
name. A mark is a point, `x` columns from the left and `y` rows from the top of the original file, in pixels; or a mask
file beside the CSV, white where the lesion is, of any size (it is laid over the whole image). An image may have many
points, or one mask. Columns that are not needed may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue, read_user_table, refuse_rows
from helpers.data.images import UnreadableImage, open_image, read_grey
from helpers.data.masks import LUNGS, read_masks, resize_mask
from helpers.explain.gradients import gradient
from helpers.explain.maps import Cases, choose_cases, from_logits
from helpers.explain.scores import means, share_in_lungs
from helpers.metrics.estimate import Estimate
from helpers.model.experiment import Experiment, pixels_of
from helpers.model.finetune import load_networks
from helpers.run.profile import Profile

LABELS = ("DRUSEN", "CNV", "DME")  # table S3's classes; a normal retina has no lesion to find
BINS = 3  # of lesion sizes: more would have a dozen images each
EXPLAINED = 60  # radiographs per class whose maps are compared with their lungs


def diseased_cases(catalogue: Catalogue, size: int, count: int, seed: int, marks_file: str = "") -> Cases:
    """`count` test images of the three diseases (0: all); with a file of marks, marked ones first and its lesions."""
    if not marks_file:
        return choose_cases(catalogue, LABELS, size, count, seed)
    marks = load_marks(marks_file, catalogue)
    cases = choose_cases(catalogue, LABELS, size, count, seed, tuple(marks["image_id"]))
    masks = mark_masks(marks, catalogue, cases.rows["image_id"], size)
    return replace(cases, masks=masks, lesions=f"the marks in {marks_file}")


def load_marks(path: str | Path, catalogue: Catalogue) -> pd.DataFrame:
    """The marks in the CSV at `path`: image_id, x, y (float pixels, NaN for a mask), mask (the file's path, or "").

    Raises `UserTableError` for a file that `read_user_table` refuses, a mark that is neither a point nor a mask (or
    both), a point outside the image, a mask that cannot be read, and an image with a mask and something else.
    """
    table = read_user_table(path, ["image"], catalogue, ["x", "y", "mask"])
    refuse, masked = partial(refuse_rows, path), table["mask"] != ""
    refuse(table, masked == ((table["x"] + table["y"]) != ""), "write x and y, or a mask; it has x='{x}', y='{y}'")
    x, y = (pd.to_numeric(table[axis], errors="coerce") for axis in ("x", "y"))
    refuse(table, ~masked & (x.isna() | y.isna()), "x='{x}', y='{y}': expected two numbers, in pixels")
    files = table["image"].map(catalogue.frame.set_index("image_id")["path"])
    sizes = {name: _size_of(catalogue.file(name)) for name in files[~masked].unique()}
    width, height = (files.map(lambda name, k=k: sizes.get(name, (0, 0))[k]) for k in (0, 1))
    within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    placed = table.assign(width=width, height=height)
    refuse(placed, ~masked & ~within, "({x}, {y}) lies outside the image, which is {width} x {height} pixels")
    masks = table["mask"].where(~masked, str(Path(path).parent) + "/" + table["mask"])
    problems = masks.map(lambda name: _mask_problem(Path(name)) if name else "")
    refuse(table.assign(problem=problems), problems != "", "mask {problem}")
    mixed = table["image"].duplicated(keep=False) & masked.groupby(table["image"]).transform("any")
    refuse(table, mixed, "image '{image}' has a mask and other marks; write one mask, or points")
    return pd.DataFrame({"image_id": table["image"], "x": x, "y": y, "mask": masks}).reset_index(drop=True)


def _mask_problem(file: Path) -> str:
    try:
        return "" if (read_grey(file) > 127).any() else f"{file} has no white pixel"
    except UnreadableImage as error:
        return str(error)


def _size_of(file: Path) -> tuple[int, int]:
    with open_image(file) as image:
        return image.size


def mark_masks(marks: pd.DataFrame, catalogue: Catalogue, image_ids: Iterable[str], size: int) -> np.ndarray:
    """The marks of each image as bool (n, size, size), squashed as the network's pixels are; empty where it has none.

    A point is one pixel: whether a box hits it can be measured, but the share of a map's mass on it and the overlap
    mean nothing.
    """
    paths, places = catalogue.frame.set_index("image_id")["path"], {name: k for k, name in enumerate(image_ids)}
    masks = np.zeros((len(places), size, size), bool)
    for row in marks[marks["image_id"].isin(places)].itertuples():
        mask = masks[places[row.image_id]]
        if row.mask:
            mask |= resize_mask(read_grey(Path(row.mask)) > 127, size)
        else:
            width, height = _size_of(catalogue.file(paths[row.image_id]))
            mask[int(row.y / height * size), int(row.x / width * size)] = True
    return masks


def table_s3(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Estimate]]:
    """Table S3: localisation accuracy of each class and of all, and the estimates by name ("all" the last).

    Beside it stands what a guess would get (`hit_by_chance`), so that easy targets are not taken for good maps. `frame`
    is what `scores.localised` returns.
    """
    beside = {
        "by chance": ("hit_by_chance", "mean"),
        "lesion size over box (median)": ("size_over_box", "median"),
        "highest mean drop (median)": ("peak", "median"),
    }
    found = means(frame, ["hit"], ["label"], total="all", beside=beside)
    names = {"label": "class", "n": "images", "value": "localisation accuracy", "method": "interval"}
    columns = ["class", "images", "localisation accuracy", "low", "high", *beside, "interval"]
    rows = found.set_index("label").drop(columns=["measure", *beside]).to_dict("index")
    return found.rename(columns=names)[columns], {label: Estimate(**row) for label, row in rows.items()}


def size_curve(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Localisation accuracy against the lesion's size over the box's: a curve per box, in quantile bins of that ratio.

    `frames[box]` is what `scores.localised` returns for that box, by whatever name. Columns: box, centre (the bin's
    median), value, low, high, n, method, note, chance (a guess on the retina), drop (the bin's median of the map's
    highest value).
    """
    every = pd.concat([frame[frame["size_over_box"].notna()].assign(box=box) for box, frame in frames.items()])
    # Dense ranks: an image lies in one bin, however many trainings were asked about it.
    ranks = every.groupby("box")["size_over_box"].rank(method="dense")
    bins = ranks.groupby(every["box"]).transform(lambda one: pd.qcut(one, BINS, labels=False, duplicates="drop"))
    every = every.assign(bin=bins.fillna(0)).sort_values("bin", kind="stable")
    beside = {"centre": ("size_over_box", "median"), "chance": ("hit_by_chance", "mean"), "drop": ("peak", "median")}
    columns = ["box", "centre", "value", "low", "high", "n", "method", "note", "chance", "drop"]
    return means(every, ["hit"], ["box", "bin"], beside=beside)[columns]


# --- pneumonia: maps in the lungs -------------------------------------------------------------------------------------


def share_in_known_lungs(
    experiment: Experiment, catalogue: Catalogue, frame: pd.DataFrame, settings: Profile
) -> tuple[pd.DataFrame, str]:
    """How much of each fine-tuned pneumonia network's gradient maps lies in the lungs (`scores.share_in_lungs`), of up
    to `EXPLAINED` test images per class whose lungs are known; and a sentence that says which images these are.

    The table is empty where nobody has marked the lungs.
    """
    test = frame[frame["split"] == "test"]
    size = experiment.summary["image size"]
    lungs = read_masks(catalogue, test, size, settings)
    if lungs.rows.empty:
        text = f"Nobody has marked the lungs; with {LUNGS}/ in the data folder the maps' share in them would be here."
        return lungs.rows, f"{text} {lungs.describe()}"
    kept = (lungs.rows.groupby("label").cumcount() < EXPLAINED).to_numpy()
    some = replace(lungs, rows=lungs.rows[kept].reset_index(drop=True), pixels=lungs.pixels[kept])
    pixels, labels = pixels_of(catalogue, some.rows, size, settings.workers), some.rows["label"].tolist()
    networks = [from_logits(one.logits, one.classes) for one in load_networks(experiment)]
    table = share_in_lungs([gradient(network, pixels, labels).maps for network in networks], some)
    return table, f"{kept.sum()} of {len(test)} test images. Lungs: {lungs.describe()}"
