"""A small target data set made larger: every training image with a number of light augmentations of it.

Carr 2020, Method: "We artificially boosted the size of the target dataset through data augmentation, increasing the
available data without capturing additional samples." COVID-19: 102 subjects, "with augmentation expanding this to 1122
images per class", which is 102 and ten augmentations of each, as the retina's half says: "550 images per class (10
augmentations per sample)". Which transforms were used is not said; here they are those of `light_augmentation`.

A child follows from the seed, its parent's name and its own number alone. Held-out images have no children.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers.data.augment import light
from helpers.rajkomar.augmentation import generator

CHILDREN = 10  # "10 augmentations per sample"


def expand(frame: pd.DataFrame, per_image: int = CHILDREN) -> pd.DataFrame:
    """The frame's rows, and after them `per_image` children of each training image, which inherit its label, patient
    and split: image_id ("<parent>#03"), parent, child (0: the image itself), label, patient_id, split.

    Raises `ValueError` for a number below 0, and where a training image's file or patient is in another split too: its
    children would be there under another name.
    """
    if per_image < 0:
        raise ValueError(f"per_image = {per_image}; an image has 0 children or more")
    train = frame["split"] == "train"
    for column in ("patient_id", "digest"):
        shared = set(frame.loc[train, column]) & set(frame.loc[~train, column]) if column in frame else ()
        if shared:
            raise ValueError(f"{column}: {len(shared)} are in train and in another split too, first {min(shared)}")
    columns = ["image_id", "parent", "child", "label", "patient_id", "split"]
    rows = frame.assign(parent=frame["image_id"], child=0)[columns]
    parents = rows[train]
    children = parents.loc[parents.index.repeat(per_image)]
    children = children.assign(child=np.tile(np.arange(1, per_image + 1), len(parents)))
    children["image_id"] = children["parent"].astype(str) + "#" + children["child"].map("{:02d}".format)
    return pd.concat([rows, children], ignore_index=True)


class Expanded:
    """The images of an expanded frame, by row number and on demand; only the parents' pixels are held.

    As a source of images for `finetune` it gives the same in every epoch: the published set is of a fixed number of
    images. `key` says all that they follow from.
    """

    def __init__(
        self, frame: pd.DataFrame, pixels: np.ndarray, image_ids: Sequence[str], seed: int, mirror: bool = False
    ) -> None:
        """`frame` from `expand`; `pixels` uint8 (n, h, w) of the parents, named in order by `image_ids`; `mirror`: half
        of the children are reflected (eyes have no side that an image must keep; chests do). Raises `ValueError` for a
        parent without pixels."""
        if len(pixels) != len(image_ids):
            raise ValueError(f"{len(pixels)} images but {len(image_ids)} names")
        self.frame, self._pixels, self._seed, self._mirror = frame.reset_index(drop=True), pixels, seed, mirror
        self._rows = pd.Index(image_ids).get_indexer(self.frame["parent"])
        if (self._rows < 0).any():
            raise ValueError(f"no pixels for parent {self.frame.loc[self._rows < 0, 'parent'].iloc[0]}")
        content = hashlib.blake2b(np.ascontiguousarray(pixels), digest_size=8)
        content.update("\n".join(self.frame["image_id"].astype(str)).encode())
        self.key = f"expanded {content.hexdigest()} {seed} {mirror}"

    def __len__(self) -> int:
        return len(self.frame)

    def batch(self, epoch: int, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """uint8 (b, h, w) of these rows of `frame`, whatever the epoch."""
        made = np.empty((len(rows), *self._pixels.shape[1:]), np.uint8)
        parents, children = self.frame["parent"].to_numpy(), self.frame["child"].to_numpy()
        for place, row in enumerate(rows):
            image = self._pixels[self._rows[row]]
            random = generator(self._seed, parents[row], int(children[row]), "light")
            made[place] = light(image, random, self._mirror) if children[row] else image
        return made
