"""Phantom hospitals: the same chests as three hospitals would show them, and as a neutral one would.

Card. What: grey JPEG of 256 x 256 pixels, two of every body: with its hospital's signature (marker, text, border,
    contrast, noise) and with one neutral signature; lesion and lung masks, and a table of the truth, `phantom.csv`.
    Classes Pneumonia and No pneumonia; two fifths of those without pneumonia have another finding.
Hospitals: NIH-like, MSH-like (portable scanners of two departments, inpatient and ED) and IU-like, after Zech 2018;
    prevalence 8, 35 and 8 % in the natural cohort (about 1, 36 and 1 % in the talk), and further patients in reserve,
    from which sets of another prevalence are engineered.
Patients: no patient in two folders or hospitals; all images of a patient show the same body and disease.
Limits: a real hospital differs in its patients too: age, build, disease, projection. Here only the signature does, so
    that a comparison with it on and off is of that alone.
Licence: the project's. Made, not measured: no result on it is evidence about patients.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from helpers.data.catalogue import Catalogue
from helpers.phantoms import store as phantom_store
from helpers.phantoms.chest_imaging import capture, decorate
from helpers.phantoms.chest_sites_plan import CLASSES, plan_sites, signature_of
from helpers.phantoms.store import rng_of

VERSION = 1  # raise it with any change that alters an image: it is part of the cache's key
FILES = ("path", "mask", "lung_mask")
INTERNAL = ["number", "patient"]  # columns of the plan that only drawing needs


def load(cache: Path, *, bodies: int, seed: int, workers: int = 0) -> Catalogue:
    """The phantom hospitals' images, made below `cache` unless they are there already.

    `bodies`: radiographs, each in two images; `workers`: processes (0: one a core), which change nothing in the
    result. A generation that is killed is resumed by the next call. Raises `ValueError` for impossible numbers and
    `CatalogueError` for a data set that was damaged on disk.
    """
    if bodies < 60 or seed < 0:
        raise ValueError(f"bodies={bodies} (at least 60, for every hospital needs both classes), seed={seed} (0)")
    asked = {"bodies": bodies, "seed": seed}
    root = phantom_store.folder(cache, "phantom_sites", asked | {"version": VERSION})
    plan = plan_sites(**asked)

    def make() -> None:
        phantom_store.generate(
            root, plan, lambda part: partial(make_patient, part, seed), workers, "phantom hospitals", FILES
        )

    phantom_store.make_once(root, make, "phantom_sites.load")
    frame = phantom_store.read(root, len(plan), FILES).drop(columns=INTERNAL)
    frame["department"] = frame["department"].fillna("")
    return Catalogue("phantom_sites", root, frame, CLASSES, phantom=True)


def make_patient(part: Path, seed: int, rows: list[dict]) -> list[dict]:
    """Write the images and masks of one patient that are not there yet; the rows with digest and hash added."""
    from PIL import Image

    made = []
    for row in rows:
        shown = [other for other in rows if other["body"] == row["body"]]
        if not all((part / other[column]).exists() for other in shown for column in FILES):
            pictures, mask, lung = captures(seed, row, [other["signature"] for other in shown])
            for column, picture in (("mask", mask), ("lung_mask", lung)):
                picture = Image.fromarray(picture.astype(np.uint8) * 255)
                phantom_store.write(part / row[column], picture, format="PNG", compress_level=3)
            for other, grey in zip(shown, pictures, strict=True):
                phantom_store.write(part / other["path"], Image.fromarray(grey), format="JPEG", quality=92)
        made.append(row | phantom_store.describe(part / row["path"]))
    return made


def captures(seed: int, row: dict, signatures: list[str]) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """One body of the plan as each signature shows it, uint8 (size, size); its lesion mask and its lung mask, bool.

    Body, pose, finding, grain and exposure are drawn from (seed, patient, image) and are the same in all.
    """
    from helpers.phantoms import chest_labels14  # noqa: F401 - fills the registry
    from helpers.phantoms.chest_findings import FINDINGS, SHAPES
    from helpers.phantoms.chest_pose import breathe_and_stand
    from helpers.phantoms.chest_scene import Scene

    patient, image, label, size = row["patient"], row["number"], row["findings"], row["width"]
    severity = 0.0 if np.isnan(row["severity"]) else row["severity"]
    pose_rng, texture = (rng_of(seed, patient, image, k) for k in (2, 3))
    body, pose = breathe_and_stand(rng_of(seed, patient, 0, 0), pose_rng, row["age"], row["view"], 1.0, 0.0)
    if label in SHAPES:
        body = SHAPES[label](body, severity, rng_of(seed, patient, 0, 1, 0))
    scene = Scene(body, pose, size, texture)
    FINDINGS[label](scene, severity, rng_of(seed, patient, 0, 7, 0))
    added, mask = scene.findings()
    lung, pictures = scene.lung_mask(), []
    for signature in map(signature_of, signatures):
        noise, frame = (rng_of(seed, patient, image, k) for k in (4, 5))
        shown = {"quality": row["quality"], "thick": body.thick, "rng": noise}
        grey = capture(scene.healthy, added, lung, signature, **shown)
        pictures.append(decorate(grey, signature, row["view"], pose.facing, frame))
    return pictures, mask, lung
