"""Phantom radiographs at twice the size, with a small lesion: a nodule 11 to 20 pixels wide, of 512, at the right apex.

Card. What: grey JPEG of 512 x 512 pixels with a lesion mask and a lung mask, and a table of the truth, `phantom.csv`.
    Classes Nodule and No nodule, as many of each; two fifths of either have another finding elsewhere. One image a
    patient. Each carries one neutral signature: nothing but the nodule tells the classes apart.
Why: Zech 2018 sets "whole-image, low-res classification" against "domain adapted approaches": Gale's, who first "locate
    head of femur", at full resolution, and Chang's "bounding box region proposals". As the hip is in Gale's images, the
    region is known beforehand here (`region_of`), the lesion in it is not.
Licence: the project's. Made, not measured: no result on it is evidence about patients.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.phantoms import store as phantom_store
from helpers.phantoms.chest_findings import finding
from helpers.phantoms.chest_scene import WATER, Scene
from helpers.phantoms.store import rng_of

VERSION = 1  # raise it with any change that alters an image: it is part of the cache's key
CLASSES = ("Nodule", "No nodule")
LESION = "Apical nodule"
SIZE = 512  # pixels a side
RADIUS = (0.4, 0.3)  # cm, the smallest nodule's, and what the largest has more
ZONE = 0.22  # share of a lung's height, from its top, that is its apex
TEST_SHARE, OTHER_SHARE = 0.4, 0.4
OTHERS = ("Cardiomegaly", "Effusion", "Emphysema", "Atelectasis")  # elsewhere in the chest
FILES = ("path", "mask", "lung_mask")
DENSITY = 2.2  # times water: a nodule that is partly calcified
GRAINS = 2500  # points that a nodule is drawn with


@finding(LESION)
def apical_nodule(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """A solid ball in the upper third of the right lung, too small for the coarse grid of rays."""
    from helpers.phantoms.chest_vessels import in_lung

    spots = (rng.random((400, 3)) * (9, 8, 5.5) - (10, 4, 6.0) + (0, 0, scene.body.apex)).astype(np.float32)
    inside = np.flatnonzero(in_lung(scene.body, spots, 0.8))
    centre = spots[inside[0]] if len(inside) else np.array([-5.5, -1.0, scene.body.apex - 4], np.float32)
    radius = RADIUS[0] + RADIUS[1] * severity
    way = rng.normal(size=(GRAINS, 3))
    way *= (radius * np.cbrt(rng.random(GRAINS)) / np.linalg.norm(way, axis=1))[:, None]
    mass = 4 / 3 * np.pi * radius**3 * DENSITY * WATER / GRAINS
    scene.add(((centre + way).astype(np.float32), np.full(GRAINS, mass)))


def load(cache: Path, *, images: int, seed: int, workers: int = 0) -> Catalogue:
    """The images, made below `cache` unless they are there already; resumed and checked as all phantoms are."""
    if images < 20 or seed < 0:
        raise ValueError(f"images={images} (at least 20), seed={seed} (0)")
    asked = {"images": images, "seed": seed}
    root = phantom_store.folder(cache, "phantom_regions", asked | {"version": VERSION})
    rows = plan(**asked)

    def make() -> None:
        phantom_store.generate(
            root, rows, lambda part: partial(make_patient, part, seed), workers, "phantom regions", FILES
        )

    phantom_store.make_once(root, make, "phantom_regions.load")
    frame = phantom_store.read(root, len(rows), FILES)
    return Catalogue("phantom_regions", root, frame, CLASSES, phantom=True)


def plan(*, images: int, seed: int) -> pd.DataFrame:
    """A row an image: its truth, and no pixel yet."""
    numbers = rng_of(seed, 4).choice(9_900_000, images, replace=False) + 10_000
    rows = []
    for k, number in enumerate(numbers.tolist()):
        rng = rng_of(seed, number, 0, 6)
        label, tested = CLASSES[k % 2], k // 2 < round(TEST_SHARE * images / 2)
        other = str(rng.choice(OTHERS)) if rng.random() < OTHER_SHARE else "NORMAL"
        rows.append(
            {
                "image_id": f"region-{number}",
                "path": f"images/region-{number}.jpeg",
                "label": label,
                "patient_id": str(number),
                "published_split": "test" if tested else "train",
                "view": "AP",
                "mask": f"masks/region-{number}.png",
                "lung_mask": f"lungs/region-{number}.png",
                "severity": round(float(rng.random()), 4),
                "quality": round(float(rng.beta(6, 1.8)), 4),
                "age": round(float(np.clip(rng.normal(55, 18), 18, 92)), 1),
                "findings": f"{other}|{LESION}" if label == CLASSES[0] else other,
                "width": SIZE,
                "height": SIZE,
            }
        )
    return pd.DataFrame(rows)


def make_patient(part: Path, seed: int, rows: list[dict]) -> list[dict]:
    """Write the images and masks of one patient that are not there yet; the rows with digest and hash added."""

    from helpers.phantoms.chest import one
    from helpers.phantoms.chest_sites_plan import NEUTRAL

    for row in rows:
        if all((part / row[column]).exists() for column in FILES):
            continue
        drawn = {"view": row["view"], "quality": row["quality"], "age": row["age"], "signature": NEUTRAL}
        labels = tuple(row["findings"].split("|"))
        grey, mask, lung = one(labels, row["severity"], seed, patient=int(row["patient_id"]), size=SIZE, **drawn)
        phantom_store.write_pictures(part, row, grey, {"mask": mask, "lung_mask": lung}, quality=92)
    return [row | phantom_store.describe(part / row["path"]) for row in rows]


def region_of(lung: np.ndarray) -> tuple[float, float]:
    """Row and column of the middle of the right lung's apex, which lies on the image's left, from a lung mask (h, w).

    Raises `ValueError` for an empty mask.
    """
    rows, columns = np.nonzero(lung)
    if not len(rows):
        raise ValueError("the lung mask is empty")
    right = columns < (columns.min() + columns.max()) / 2
    rows, columns = rows[right], columns[right]
    top = rows < rows.min() + ZONE * (rows.max() - rows.min())
    return float(rows[top].mean()), float(columns[top].mean())
