"""Expert marks of lesions on real images: a documented CSV, made into masks.

Kermany 2018: the regions "were also verified by human experts to be the most clinically significant areas of
pathology"; those marks are not public. A user supplies them in a CSV with a header, UTF-8, one row a mark:

    image,x,y,mask
    CNV-1016042-1,251,204,
    CNV-1016042-1,310,198,
    DME-1102030-1,,,masks/DME-1102030-1.png

`image` is an image_id of the catalogue, or its file's name without folder and ending where no other image has that
name. A mark is a point, `x` columns from the left and `y` rows from the top of the
original file, in pixels; or a mask file beside the CSV, white where the lesion is, of any size (it is laid over the
whole image). An image may have many points, or one mask. Columns that are not needed may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.images import UnreadableImage, open_image, read_grey
from helpers.run.profile import nearest

COLUMNS = ("image", "x", "y", "mask")


class MarksError(ValueError):
    """Marks that cannot be used; the message names the file, the line and the nearest right name."""


def load_marks(path: str | Path, catalogue: Catalogue) -> pd.DataFrame:
    """The marks in the CSV at `path`: image_id, x, y (float pixels, NaN for a mask), mask (the file's place, or "").

    Raises `MarksError` for a missing file or column, an unknown image, a mark that is neither a point nor a mask (or
    both), a place that is no number or outside the image, a mask that cannot be read, and an image with a mask and
    something else.
    """
    path = Path(path)
    frame = _read(path)
    known = dict(zip(catalogue.frame["image_id"], catalogue.frame["path"], strict=True))
    frame["image"] = [_identified(name, known) for name in frame["image"]]
    for line, row in frame.iterrows():
        place = f"{path}: line {line + 2}"
        if row["image"] not in known:
            raise MarksError(f"{place}: image '{row['image']}' is not in the data set{_close(row['image'], known)}")
        if bool(row["mask"]) == bool(row["x"] or row["y"]):
            got = ", ".join(f"{column}='{row[column]}'" for column in ("x", "y", "mask"))
            raise MarksError(f"{place}: give x and y, or a mask; got {got}")
        if not row["mask"]:
            _check_point(place, row, catalogue.file(known[row["image"]]))
    alone = frame[frame["mask"] != ""]["image"]
    for image in alone[frame.loc[alone.index, "image"].map(frame["image"].value_counts()) > 1]:
        raise MarksError(f"{path}: image '{image}' has a mask and other marks; give one mask, or points")
    numbers = frame[["x", "y"]].replace("", np.nan).astype(float)
    masks = [str(path.parent / name) if name else "" for name in frame["mask"]]
    for name in filter(None, masks):
        _check_mask(path, Path(name))
    return pd.DataFrame({"image_id": frame["image"], **numbers, "mask": masks}).reset_index(drop=True)


def mark_masks(marks: pd.DataFrame, catalogue: Catalogue, image_ids: Iterable[str], size: int) -> np.ndarray:
    """The marks of each image as bool (n, size, size), squashed as the network's pixels are; empty where it has none.

    A point is one pixel: whether a box hits it can be told, but the share of a map's mass on it and the overlap say
    nothing.
    """
    paths = dict(zip(catalogue.frame["image_id"], catalogue.frame["path"], strict=True))
    found = {image: part for image, part in marks.groupby("image_id")}
    names = list(image_ids)
    masks = np.zeros((len(names), size, size), bool)
    for mask, name in zip(masks, names, strict=True):
        for row in found[name].itertuples() if name in found else ():
            if row.mask:
                mask |= squash_mask(read_grey(Path(row.mask)) > 127, size)
                continue
            width, height = _size_of(catalogue.file(paths[name]))
            mask[int(row.y / height * size), int(row.x / width * size)] = True
    return masks


def lesion_masks(catalogue: Catalogue, rows: pd.DataFrame, size: int) -> np.ndarray:
    """The phantoms' own lesion masks of these rows of the catalogue's frame: bool (n, size, size)."""
    return np.stack([squash_mask(read_grey(catalogue.file(path)) > 127, size) for path in rows["mask"]])


def squash_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A bool (h, w) at the network's size: a pixel counts where the lesion covers half of it, or, for a lesion too
    thin for that, where it covers most.
    """
    from PIL import Image

    cover = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BOX))
    return cover >= min(128, max(1, int(cover.max())))


def _identified(name: str, known: dict[str, str]) -> str:
    """The image_id that a mark's name means; the name itself where it means none, or several."""
    meant = [name] if name in known else [one for one, path in known.items() if Path(path).stem == name]
    return meant[0] if len(meant) == 1 else name


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
    frame = frame.reindex(columns=list(COLUMNS), fill_value="").fillna("").apply(lambda column: column.str.strip())
    if frame.empty:
        raise MarksError(f"{path}: no marks")
    return frame


def _check_point(place: str, row: pd.Series, file: Path) -> None:
    try:
        x, y = float(row["x"]), float(row["y"])
    except ValueError:
        raise MarksError(f"{place}: x='{row['x']}', y='{row['y']}': expected two numbers, in pixels") from None
    width, height = _size_of(file)
    if not (0 <= x < width and 0 <= y < height):
        raise MarksError(f"{place}: ({x:g}, {y:g}) lies outside the image, which is {width} x {height} pixels")


def _check_mask(path: Path, mask: Path) -> None:
    try:
        empty = not (read_grey(mask) > 127).any()
    except UnreadableImage as error:
        raise MarksError(f"{path}: mask {error}") from None
    if empty:
        raise MarksError(f"{path}: mask {mask} has no white pixel")


def _size_of(file: Path) -> tuple[int, int]:
    with open_image(file) as image:
        return image.size


def _close(word: str, known: Iterable[str]) -> str:
    text = nearest(word, known)
    return text if text.startswith("; did") else ""
