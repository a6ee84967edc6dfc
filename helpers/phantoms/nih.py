"""The phantom counterpart of ChestX-ray14: made-up frontal radiographs of adults with up to fourteen findings each.

Card. What: grey JPEG of 256 x 256 pixels with a mask of all its findings and a lung mask each, and a table of the
    truth, `phantom.csv`; drawn as `phantom_chest` draws, by the plan of `chest_nih_plan`.
Labels: the 14 of ChestX-ray14, several an image, in the column `labels`; `findings` is what was drawn. The two differ
    by the label noise asked for, as labels read out of reports differ from images.
Prevalences: in the order of the real ones, but nearer to each other, so that rare labels can be tested.
Patients: several follow-ups each; none in both training and test. Lasting findings are on all of a patient's images.
A confounder, as in life: the more findings, the likelier a portable (AP) image.
Licence: the project's. Made, not measured: no result on it is evidence about patients.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from helpers.data.catalogue import Catalogue
from helpers.phantoms import store as phantom_store
from helpers.phantoms.chest import one
from helpers.phantoms.chest_nih_plan import plan_nih
from helpers.zech.data import CLASSES, label_of

VERSION = 3  # raise it with any change that alters an image: it is part of the cache's key
FILES = ("path", "mask", "lung_mask")
INTERNAL = ["number", "severities"]  # columns of the plan that only drawing needs


def load(
    cache: Path, *, images: int, seed: int, test_share: float = 0.2, label_noise: float = 0.0, workers: int = 0
) -> Catalogue:
    """The phantom ChestX-ray14, made below `cache` unless it is there already.

    `images` in all; `test_share` of the patients; `label_noise`: see `plan_nih`; `workers`: processes (0: one a core),
    which change nothing in the result. A generation that is killed is resumed by the next call. Raises `ValueError` for
    impossible numbers and `CatalogueError` for a data set that was damaged on disk.
    """
    if images < 40 or seed < 0 or not 0 < test_share < 1 or not 0 <= label_noise < 0.5:
        told = f"images={images} (at least 40), seed={seed} (0), test_share={test_share} (between 0 and 1)"
        raise ValueError(f"{told}, label_noise={label_noise} (0, below 0.5)")
    asked = {"images": images, "seed": seed, "test_share": test_share, "label_noise": label_noise}
    root = phantom_store.folder(cache, "phantom_nih", asked | {"version": VERSION})

    def make() -> None:
        rows = plan_nih(**asked)
        phantom_store.generate(
            root, rows, lambda part: partial(make_patient, part, seed), workers, "phantom NIH", FILES
        )

    phantom_store.make_once(root, make, "phantom_nih.load")
    frame = phantom_store.read(root, images, FILES).drop(columns=INTERNAL)
    frame = frame.assign(label=label_of(frame["labels"]))
    return Catalogue("phantom_nih", root, frame, CLASSES, phantom=True)


def make_patient(part: Path, seed: int, rows: list[dict]) -> list[dict]:
    """Write the images and masks of one patient that are not there yet; the rows with digest and hash added."""

    for row in rows:
        if not all((part / row[column]).exists() for column in FILES):
            grey, mask, lung = one(
                tuple(row["findings"].split("|")),
                tuple(float(level) for level in row["severities"].split("|")),
                seed,
                view=row["view"],
                quality=row["quality"],
                site=row["signature"],
                age=row["age"],
                patient=int(row["patient_id"]),
                image=row["number"],
            )
            phantom_store.write_pictures(part, row, grey, {"mask": mask, "lung_mask": lung}, quality=92)
    return [row | phantom_store.describe(part / row["path"]) for row in rows]
