"""Phantom chest radiographs: made-up frontal and lateral views of children and adults, from a seed.

Card. What: grey JPEG of 256 x 256 pixels with a lesion mask and a lung mask each, and a table of the truth,
`phantom.csv`. A body is built in three dimensions (chest wall, lungs with lobes, heart and great vessels, diaphragm,
skeleton, branching vessels, soft parts), X-rays are sent through it, and a site's processing makes the image.
    `load_pneumonia`: NORMAL, BACTERIA, VIRUS in children of one to five, named and shared out as the published archive
    (Kermany et al. 2018: `train|test/{NORMAL,PNEUMONIA}/person<p>_bacteria_<n>.jpeg` and so on). As with that archive,
    the test folder is not like the training folder: a softer contrast curve, a tighter crop, more noise and blur
    (signature A2 instead of A), so held-out training images score better than test images.
    `load_views`: frontal (PA, AP) and lateral, adults, from one hospital (training and test) and a public collection
    (test only, another signature), after Rajkomar et al. 2017. Some patients are rotated, obese or badly framed.
Patients: no patient in two folders; all images of a patient show the same body and disease.
Limits: few pixels beside a radiograph's 2,000 a side; patients differ less than people; findings are simple drawings.
Licence: the project's. Made, not measured: no result on it is evidence about patients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.phantoms import chest_covid_plan
from helpers.phantoms import store as phantom_store
from helpers.phantoms.chest_imaging import SIGNATURES, Signature, capture, decorate
from helpers.phantoms.chest_plans import PNEUMONIA, SIZE, VIEW_CLASSES, plan_pneumonia, plan_views
from helpers.phantoms.chest_projection import VIEWS
from helpers.phantoms.store import rng_of

VERSION = 2  # raise it with any change that alters an image: it is part of the cache's key
FILES = ("path", "mask", "lung_mask")
INTERNAL = ["hard", "number"]  # columns of the plan that only drawing needs


def one(
    finding: str | tuple[str, ...],
    severity: float | tuple[float, ...],
    seed: int,
    *,
    view: str = "PA",
    quality: float = 0.8,
    site: str = "A",
    signature: Signature | None = None,
    age: float = 45.0,
    hard: float = 0.0,
    patient: int = 0,
    image: int = 1,
    size: int = SIZE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One radiograph, its lesion mask and its lung mask: uint8, bool, bool, all (size, size).

    `finding`: one or several of `chest_findings.FINDINGS`, drawn at `severity` from 0 (subtle) to 1 (plain), which may
    be one for all or one each; `view`: PA, AP or lateral; `quality` from 0 (noisy, blurred, badly exposed) to 1
    (clean); `site`: whose `SIGNATURES` entry the image bears, unless a `signature` is given; `age` in years; `hard`
    from 0 to 1: how far the patient may be rotated, obese and out of the frame. The lesion mask is where the finding
    changes the image visibly; of findings that are a changed organ (a large heart) it is the organ. Body and disease
    follow from (seed, patient), pose and noise from (seed, patient, image). Raises `ValueError` for what is unknown or
    out of range.
    """
    from helpers.phantoms import chest_labels14  # noqa: F401 - fills the registry
    from helpers.phantoms.chest_findings import FINDINGS, SHAPES
    from helpers.phantoms.chest_pose import breathe_and_stand
    from helpers.phantoms.chest_scene import Scene

    labels = (finding,) if isinstance(finding, str) else tuple(finding)
    levels = severity if isinstance(severity, tuple) else (severity,) * len(labels)
    if len(levels) != len(labels):
        raise ValueError(f"{len(levels)} severities for {len(labels)} findings")
    shares = {"severity": min(levels, default=0), "severest": max(levels, default=0), "quality": quality, "hard": hard}
    _check(labels, tuple(FINDINGS), view, site, size, shares, age)
    signature = signature or SIGNATURES[site]
    pose_rng, texture, noise, frame = (rng_of(seed, patient, image, k) for k in (2, 3, 4, 5))
    body, pose = breathe_and_stand(rng_of(seed, patient, 0, 0), pose_rng, age, view, signature.zoom, hard)
    for k, (label, level) in enumerate(zip(labels, levels, strict=True)):
        if label in SHAPES:
            body = SHAPES[label](body, level, rng_of(seed, patient, 0, 1, k))
    scene = Scene(body, pose, size, texture)
    for k, (label, level) in enumerate(zip(labels, levels, strict=True)):
        FINDINGS[label](scene, level, rng_of(seed, patient, 0, 7, k))
    added, mask = scene.findings()
    lung = scene.lung_mask()
    quality *= 1 - 0.7 * hard
    grey = capture(scene.healthy, added, lung, signature, quality=quality, thick=body.thick, rng=noise)
    return decorate(grey, signature, view, pose.facing, frame), mask, lung


def _check(
    labels: tuple[str, ...],
    known: tuple[str, ...],
    view: str,
    site: str,
    size: int,
    shares: dict[str, float],
    age: float,
) -> None:
    for label in labels or ("",):
        if label not in known:
            raise ValueError(f"no phantom of '{label}'; known: {', '.join(known)}")
    if view not in VIEWS:
        raise ValueError(f"no view '{view}'; known: {', '.join(VIEWS)}")
    if site not in SIGNATURES:
        raise ValueError(f"no site '{site}'; known: {', '.join(SIGNATURES)}")
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} {value} is from 0 to 1")
    if not 0 <= age <= 120 or size < 64:
        raise ValueError(f"age {age} is from 0 to 120 years, size {size} at least 64 pixels")


def load_pneumonia(cache: Path, *, train: int, test: int, seed: int, workers: int = 0, tied: float = 0.0) -> Catalogue:
    """Children's radiographs, classes NORMAL, BACTERIA and VIRUS, made below `cache` unless they are there already.

    `train` and `test`: images a folder, shared among the classes as published; `tied`: see `plan_pneumonia`;
    `workers`: processes (0: one a core), which change nothing in the result. A generation that is killed is resumed
    by the next call, and is never read half-made. The test folder's processing differs (see the card above).
    Raises `ValueError` for impossible numbers and `CatalogueError` for a data set that was damaged on disk.
    """
    if train < 3 or test < 3 or seed < 0 or not 0 <= tied <= 1:
        raise ValueError(f"train={train} and test={test} (at least 3), seed={seed} (0), tied={tied} (0 to 1)")
    asked = {"train": train, "test": test, "seed": seed, "tied": tied}
    return _load("phantom_pneumonia", cache, asked, plan_pneumonia, PNEUMONIA, train + test, workers)


def load_views(cache: Path, *, train: int, test: int, public: int, seed: int, workers: int = 0) -> Catalogue:
    """Adults' radiographs, classes frontal and lateral, made, kept and resumed as by `load_pneumonia`.

    `train` and `test` images of one hospital, `public` images of another collection, in the published split test
    (column site: hospital or public). `public` may be 0. Raises as `load_pneumonia`.
    """
    if train < 4 or test < 4 or public < 0 or seed < 0:
        raise ValueError(f"train={train} and test={test} (at least 4), public={public} (0), seed={seed} (0)")
    asked = {"train": train, "test": test, "public": public, "seed": seed}
    return _load("phantom_views", cache, asked, plan_views, VIEW_CLASSES, train + test + public, workers)


def load_covid(cache: Path, *, train: int, test: int, seed: int, workers: int = 0) -> Catalogue:
    """Children's and adults' radiographs, classes NORMAL, BACTERIA, VIRUS and COVID-19; see `chest_covid_plan`, which
    says what `train` and `test` subjects a class mean. Made, kept and resumed, and raises, as `load_pneumonia`.
    """
    if train < 4 or test < 4 or seed < 0:
        raise ValueError(f"train={train} and test={test} (at least 4), seed={seed} (0)")
    asked = {"train": train, "test": test, "seed": seed}
    plan, classes = chest_covid_plan.plan_covid, chest_covid_plan.CLASSES
    return _load("phantom_covid", cache, asked, plan, classes, chest_covid_plan.images(train, test), workers)


def _load(
    name: str,
    cache: Path,
    asked: dict,
    plan: Callable[..., pd.DataFrame],
    classes: tuple[str, ...],
    expected: int,
    workers: int,
) -> Catalogue:
    root = phantom_store.folder(cache, name, asked | {"version": VERSION})
    what = name.replace("_", " ")
    phantom_store.make_once(root, lambda: _generate(root, plan(**asked), asked["seed"], workers, what), name)
    frame = phantom_store.read(root, expected, FILES).drop(columns=INTERNAL)
    return Catalogue(name, root, frame, classes, phantom=True)


def _generate(root: Path, rows: pd.DataFrame, seed: int, workers: int, what: str) -> None:
    phantom_store.generate(root, rows, lambda part: partial(make_patient, part, seed), workers, what, FILES)


def make_patient(part: Path, seed: int, rows: list[dict]) -> list[dict]:
    """Write the images and masks of one patient that are not there yet; the rows with digest and hash added."""
    return [row | _make(part, seed, row) for row in rows]


def _make(part: Path, seed: int, row: dict) -> dict[str, str]:
    if not all((part / row[column]).exists() for column in FILES):
        grey, mask, lung = one(
            tuple(row["findings"].split("|")),
            0.0 if np.isnan(row["severity"]) else row["severity"],
            seed,
            view=row["view"],
            quality=row["quality"],
            site=row["signature"],
            age=row["age"],
            hard=row["hard"],
            patient=int(row["patient_id"]),
            image=row["number"],
        )
        phantom_store.write_pictures(part, row, grey, {"mask": mask, "lung_mask": lung}, quality=92)
    return phantom_store.describe(part / row["path"])
