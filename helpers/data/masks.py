"""People's masks of radiographs: where the lungs are, and where lesions are.

Lungs lie in the folder `lung-masks/` of the data folder, or where the key `lung_masks` says, lesions in the folder
`lesion-masks/`, there or beside that folder. A mask is a picture of two grey levels at any depth below its folder,
called as its image: `person1_virus_6.png` for `person1_virus_6.jpeg`; a lesion's kind may follow the name:
`x.consolidation.png`. V7 Labs published masks of Cohen's and Kermany's radiographs (CC BY 4.0). Of phantoms all masks
are known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from PIL import Image

from helpers.data.catalogue import Catalogue
from helpers.data.images import UnreadableImage, read_grey
from helpers.data.scan import is_stray

LUNGS, LESIONS = "lung-masks", "lesion-masks"  # their folders
ON_PHANTOMS = {LUNGS: "lung_mask", LESIONS: "mask"}  # a catalogue's columns
SAME_SHAPE = 0.02  # by how much a mask's ratio of sides may differ from its image's: sides are whole numbers


@dataclass(frozen=True)
class Masks:
    """`rows`: the rows of a catalogue's frame that have a mask, one per mask, with `finding` (of a lesion, its kind or
    the image's label); `pixels`: the masks, bool (n, size, size); `aside`: path and reason of masks that are not used.
    """

    rows: pd.DataFrame
    pixels: np.ndarray
    aside: pd.DataFrame

    def count(self, frame: pd.DataFrame, by: list[str]) -> pd.DataFrame:
        """Images of `frame` in each group, and how many of them have a mask: the columns `by`, images, with a mask."""
        known = frame.assign(known=frame["image_id"].isin(self.rows["image_id"]))
        table = known.groupby(by, sort=False)["known"].agg(["size", "sum"]).reset_index()
        return table.rename(columns={"size": "images", "sum": "with a mask"})

    def describe(self) -> str:
        """How many masks are used, and which are not and why, in a sentence."""
        images = self.rows["image_id"].nunique()
        sentence = f"{len(self.rows):,} masks of {images:,} images"
        if self.aside.empty:
            return f"{sentence}."
        first = "; ".join(f"{row.path} ({row.reason})" for row in self.aside.head(3).itertuples())
        return f"{sentence}; {len(self.aside)} set aside: {first}{' ...' if len(self.aside) > 3 else ''}."


def mask_folders(settings, *kinds: str) -> list[Path]:
    """The folders of masks that exist, of these kinds (both where none is named)."""
    given = Path(settings.lung_masks) if settings.lung_masks else settings.data_dir / LUNGS
    places = {LUNGS: (given,), LESIONS: (settings.data_dir / LESIONS, given.parent / LESIONS)}
    found = (next((place for place in places[kind] if place.is_dir()), None) for kind in kinds or places)
    return [folder for folder in found if folder]


def folders_of(source: str, *kinds: str) -> Callable[..., list[Path]]:
    """The function `folders(settings)` of a step or notebook: where people's masks lie; nothing for phantoms.

    `source` names the setting that says which images they are; `kinds` as for `mask_folders`.
    """
    return lambda settings: [] if getattr(settings, source).startswith("phantom") else mask_folders(settings, *kinds)


def read_masks(catalogue: Catalogue, frame: pd.DataFrame, size: int, settings, kind: str = LUNGS) -> Masks:
    """The masks of these rows of a catalogue's frame, at `size` pixels a side as their images are shown.

    What is damaged, empty, of another shape than its image (or square), or called as two images are, is set aside.
    """
    if drawn := ON_PHANTOMS[kind] in frame:
        files = [catalogue.file(path) for path in frame[ON_PHANTOMS[kind]]]
        found, aside = frame.assign(finding=frame["label"], file=files), []
    else:
        found, aside = _named(frame, mask_folders(settings, kind))
    kept, pixels = [], []
    for place, row in enumerate(found.itertuples()):
        try:
            pixels.append(resize_mask(_read(row.file, getattr(row, "width", 0), getattr(row, "height", 0)), size))
            kept.append(place)
        except UnreadableImage as error:
            if not drawn:  # a healthy phantom's mask is empty as it should be
                aside.append((row.file.name, error.reason))
    rows = found.iloc[kept].drop(columns="file").reset_index(drop=True)
    masks = np.stack(pixels) if pixels else np.zeros((0, size, size), bool)
    return Masks(rows, masks, pd.DataFrame(aside, columns=["path", "reason"]))


def _named(frame: pd.DataFrame, folders: list[Path]) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """The frame's rows with the `file` and `finding` of each mask that is called after them, and what is doubtful."""
    images, masks, aside = defaultdict(list), defaultdict(list), []
    for place, path in enumerate(frame["path"]):
        images[PurePosixPath(path).stem].append(place)
    for file in sorted(file for folder in folders for file in folder.rglob("*")):
        if file.is_file() and not is_stray(file.name):
            whole = file.stem in images
            name, _, finding = (file.stem, "", "") if whole else file.stem.rpartition(".")
            if name in images:
                masks[name, finding].append(file)
    places, files, findings = [], [], []
    for (name, finding), found in sorted(masks.items(), key=lambda item: images[item[0][0]]):
        if len(found) == len(images[name]) == 1:
            places, files, findings = [*places, images[name][0]], [*files, found[0]], [*findings, finding]
        else:
            reason = "two masks are called so" if len(found) > 1 else "two images are called so"
            aside += [(file.name, reason) for file in found]
    rows = frame.iloc[places].assign(file=files, finding=findings)
    return rows.assign(finding=rows["finding"].mask(rows["finding"] == "", rows["label"])), aside


def _read(file: Path, width: int, height: int) -> np.ndarray:
    """A mask, bool (h, w), of an image of this size (0: not known). Raises `UnreadableImage` for what is none."""
    grey = read_grey(file)
    levels = len(np.unique(grey))
    if levels < 2:
        raise UnreadableImage("empty: nothing is marked" if grey.max() == 0 else "everything is marked")
    rows, columns = grey.shape
    shaped = not width or abs(columns * height / (rows * width) - 1) <= SAME_SHAPE
    if not shaped and rows != columns:
        raise UnreadableImage(f"{columns} x {rows} pixels, where its image has {width} x {height}")
    return grey > (grey.max() // 2 if levels == 2 else 127)


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A bool (h, w) at the network's size: a pixel counts where the mask covers half of it, or, for a lesion too thin
    for that, where it covers most.
    """
    cover = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BOX))
    return cover >= min(128, max(1, int(cover.max())))
