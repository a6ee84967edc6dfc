"""Kermany 2018's occlusion test: table S3, why its classes differ, and expert marks of lesions on real images.

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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.images import UnreadableImage, frame_of, open_image, read_grey
from helpers.explain.cases import Cases, choose_cases, resize_mask
from helpers.explain.scores import mean_of, means, touched
from helpers.run.profile import nearest

if TYPE_CHECKING:
    from helpers.metrics.estimate import Estimate

LABELS = ("DRUSEN", "CNV", "DME")  # table S3's classes; a normal retina has no lesion to find
REASONS = ("size_over_box", "hidden", "contrast", "drop", "on_retina", "on_frame", "hit")


class MarksError(ValueError):
    """Marks that cannot be used; the message names the file, the line and the nearest known name."""


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

    Raises `MarksError` for a missing file or column, an unknown image, a mark that is neither a point nor a mask (or
    both), a point outside the image, a mask that cannot be read, and an image with a mask and something else.
    """
    path = Path(path)
    frame, known = _read(path), dict(zip(catalogue.frame["image_id"], catalogue.frame["path"], strict=True))
    stems = pd.Series(list(known), index=[Path(name).stem for name in known.values()])
    stems = stems[~stems.index.duplicated(keep=False)].to_dict()  # a name that two files share means neither
    frame["image"] = [name if name in known else stems.get(name, name) for name in frame["image"]]
    for line, row in frame.iterrows():
        place = f"{path}: line {line + 2}"
        if row["image"] not in known:
            text = nearest(row["image"], known)
            hint = text if text.startswith("; did") else ""
            raise MarksError(f"{place}: image '{row['image']}' is not in the data set{hint}")
        if bool(row["mask"]) == bool(row["x"] or row["y"]):
            raise MarksError(f"{place}: write x and y, or a mask; it has x='{row['x']}', y='{row['y']}'")
        if row["mask"]:
            _check_mask(place, path.parent / row["mask"])
        else:
            _check_point(place, row, catalogue.file(known[row["image"]]))
    for image, rows in frame.groupby("image"):
        if len(rows) > 1 and rows["mask"].any():
            raise MarksError(f"{path}: image '{image}' has a mask and other marks; write one mask, or points")
    points = frame[["x", "y"]].replace("", np.nan).astype(float)
    masks = [str(path.parent / name) if name else "" for name in frame["mask"]]
    return pd.DataFrame({"image_id": frame["image"], **points, "mask": masks})


def mark_masks(marks: pd.DataFrame, catalogue: Catalogue, image_ids: Iterable[str], size: int) -> np.ndarray:
    """The marks of each image as bool (n, size, size), squashed as the network's pixels are; empty where it has none.

    A point is one pixel: whether a box hits it can be measured, but the share of a map's mass on it and the overlap
    mean nothing.
    """
    paths = dict(zip(catalogue.frame["image_id"], catalogue.frame["path"], strict=True))
    names = list(image_ids)
    masks = np.zeros((len(names), size, size), bool)
    for mask, name in zip(masks, names, strict=True):
        for row in marks[marks["image_id"] == name].itertuples():
            if row.mask:
                mask |= resize_mask(read_grey(Path(row.mask)) > 127, size)
            else:
                width, height = _size_of(catalogue.file(paths[name]))
                mask[int(row.y / height * size), int(row.x / width * size)] = True
    return masks


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise MarksError(f"there is no file of marks {path}")
    try:
        frame = pd.read_csv(path, dtype=str, encoding="utf-8-sig", keep_default_na=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise MarksError(f"{path}: not a CSV file in UTF-8: {error}") from None
    frame.columns = [str(column).strip().lower() for column in frame.columns]
    if "image" not in frame or not ({"x", "y"} <= set(frame) or "mask" in frame):
        raise MarksError(f"{path}: the header is '{','.join(frame.columns)}', expected image,x,y or image,mask")
    if frame.empty:
        raise MarksError(f"{path}: no marks")
    frame = frame.reindex(columns=["image", "x", "y", "mask"], fill_value="").fillna("")
    return frame.apply(lambda column: column.str.strip())


def _check_point(place: str, row: pd.Series, file: Path) -> None:
    try:
        x, y = float(row["x"]), float(row["y"])
    except ValueError:
        raise MarksError(f"{place}: x='{row['x']}', y='{row['y']}': expected two numbers, in pixels") from None
    width, height = _size_of(file)
    if not (0 <= x < width and 0 <= y < height):
        raise MarksError(f"{place}: ({x:g}, {y:g}) lies outside the image, which is {width} x {height} pixels")


def _check_mask(place: str, mask: Path) -> None:
    try:
        empty = not (read_grey(mask) > 127).any()
    except UnreadableImage as error:
        raise MarksError(f"{place}: mask {error}") from None
    if empty:
        raise MarksError(f"{place}: mask {mask} has no white pixel")


def _size_of(file: Path) -> tuple[int, int]:
    with open_image(file) as image:
        return image.size


def table_s3(frame: pd.DataFrame, order: Sequence[str], **options) -> tuple[pd.DataFrame, dict[str, Estimate]]:
    """Table S3: localisation accuracy of each class of `order` and of all, and the estimates by name ("all" the last).

    Beside it stands what a guess would get (`hit_by_chance`), so that easy targets are not taken for good maps. `frame`
    is what `scores.localised` returns, `options` are those of `mean_of`.
    """
    frame = frame[frame["label"].isin(list(order))]
    parts = {name: frame[frame["label"] == name] for name in order} | {"all": frame}
    found = {name: mean_of(part, "hit", **options) for name, part in parts.items()}
    rows = [
        {
            "class": name,
            "images": found[name].n,
            "localisation accuracy": found[name].value,
            "low": found[name].low,
            "high": found[name].high,
            "by chance": part["hit_by_chance"].mean(),
            "lesion size over box (median)": part["size_over_box"].median(),
            "highest mean drop (median)": part["peak"].median(),
            "interval": found[name].method,
        }
        for name, part in parts.items()
    ]
    return pd.DataFrame(rows), found


def size_curve(frames: Mapping[int, pd.DataFrame], bins: int = 5, **options) -> pd.DataFrame:
    """Localisation accuracy against the lesion's size over the box's: a curve per box, in quantile bins of that ratio.

    `frames[box]` is what `scores.localised` returns for that box. Columns: box, centre (the bin's median), value, low,
    high, n, method, note, chance (a guess on the retina), drop (the bin's median of the map's highest value).
    """
    rows = []
    for box, frame in frames.items():
        known = frame[frame["size_over_box"].notna()]
        if known.empty:
            continue
        bin_of = pd.qcut(known["size_over_box"].rank(method="first"), min(bins, len(known)), labels=False)
        for _, part in known.groupby(bin_of):
            middle = {"box": box, "centre": part["size_over_box"].median()}
            beside = {"chance": part["hit_by_chance"].mean(), "drop": part["peak"].median()}
            rows.append(middle | mean_of(part, "hit", **options).as_dict() | beside)
    columns = ["box", "centre", "value", "low", "high", "n", "method", "note", "chance", "drop"]
    return pd.DataFrame(rows, columns=columns)


def reasons(frame: pd.DataFrame, cases: Cases, box: int, **options) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a lesion is to the box, by class: (a row per image, a row per class and measure with its interval).

    `frame` is what `scores.localised` returns for these cases. Measures (`REASONS`): `size_over_box`; `hidden`, the
    largest share of the lesion that one box can cover; `contrast`, how much brighter the lesion is than the tissue
    around it, in grey levels (negative: darker, as a black box is); `drop`, the map's highest value; `on_retina` and
    `on_frame`, whether the box with the highest drop is centred between the retina's borders or touches the white
    frame; and `hit` itself. Images without a lesion are left out.
    """
    lesions = np.array([_lesion(*pair, box) for pair in zip(cases.images, cases.masks, strict=True)])
    known = frame.assign(hidden=lesions[:, 0], contrast=lesions[:, 1], drop=frame["peak"].to_numpy(float))
    row, column = (frame[name].to_numpy(int) for name in ("peak_row", "peak_column"))
    known["on_retina"] = cases.retina[np.arange(len(frame)), row, column].astype(float)
    frames = np.array([touched(frame_of(image), box) for image in cases.images])
    known["on_frame"] = frames[np.arange(len(frame)), row, column].astype(float)
    known = known[known["hit"].notna()].reset_index(drop=True)
    if known.empty:
        return known, pd.DataFrame(columns=["label", "measure", "value", "low", "high", "n", "method", "note"])
    return known, means(known, REASONS, ["label"], bounds=None, **options)


def _lesion(image: np.ndarray, mask: np.ndarray, box: int) -> tuple[float, float]:
    """The largest share of the lesion (h, w) that a box covers, and its grey level less that of the rim around it."""
    from scipy.ndimage import binary_dilation, uniform_filter

    if not mask.any():
        return np.nan, np.nan
    covered = uniform_filter(mask.astype(np.float64), box, mode="constant") * box**2
    rim = binary_dilation(mask, iterations=max(2, box // 2)) & ~binary_dilation(mask, iterations=1)
    contrast = float(image[mask].mean()) - float(image[rim].mean()) if rim.any() else np.nan
    return min(1.0, float(covered.max() / mask.sum())), contrast
