"""Phantom OCT: made-up B-scans of the retina in Kermany's four classes, from a seed.

Card. What: grey JPEG of 512 x 496 or 768 x 496 pixels, in folders as the published archive has them
(`train|test/<CLASS>/<CLASS>-<patient>-<n>.jpeg`), with a lesion mask each and a table of the truth, `phantom.csv`.
Classes: CNV, DME, DRUSEN, NORMAL; training in the published proportions, test balanced; no patient in both. After:
Kermany et al. 2018 ('37,206 with choroidal neovascularization, 11,349 with diabetic macular edema, 8,617 with drusen,
and 51,140 normal'; figure 3: 'images with more noise and lower quality were also included in the training set').
Licence: the project's. Made, not measured: no result on it is evidence about patients.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.phantoms import store as phantom_store
from helpers.phantoms.store import rng_of as _rng

VERSION = 2  # raise it with any change that alters an image: it is part of the cache's key
CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
PUBLISHED = {"CNV": 37_206, "DME": 11_349, "DRUSEN": 8_617, "NORMAL": 51_140}  # training images, of 108,312
HEIGHT, NARROW, WIDE = 496, 512, 768
WIDE_SHARE = 0.22
GOLDEN = 0.618034  # its multiples spread evenly between 0 and 1, whatever part of the series is looked at
# Chance of 1, 2, 3 ... images a patient: 3.2 on average; in the test folder 1.6, as published (1,000 of 633 patients).
IMAGES_A_PATIENT = {
    "train": (0.20, 0.22, 0.20, 0.14, 0.10, 0.06, 0.05, 0.03),
    "test": (0.62, 0.22, 0.10, 0.06),
}
NOISY = {"train": 0.35, "test": 0.05}  # share of the patients whose images are poor


def one(
    label: str,
    severity: float,
    seed: int,
    *,
    quality: float = 0.8,
    width: int = NARROW,
    height: int = HEIGHT,
    patient: int = 0,
    image: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """One B-scan and its lesion mask: uint8 and bool, both (height, width); the mask of NORMAL is empty.

    `severity` from 0 (subtle) to 1 (plain), `quality` from 0 (noisy) to 1 (clean). The eye and its disease follow
    from (seed, patient), where the scan passes and its noise from (seed, patient, image).
    Raises `ValueError` for an unknown label or a value out of range.
    """
    from helpers.phantoms import rare as phantom_rare  # noqa: F401 - adds its diseases to the registry
    from helpers.phantoms.imaging import capture, padding
    from helpers.phantoms.oct_lesions import LESIONS
    from helpers.phantoms.oct_scan import paint
    from helpers.phantoms.oct_retina import draw_anatomy, healthy

    if label not in LESIONS:
        raise ValueError(f"no phantom of '{label}'; known: {', '.join(LESIONS)}")
    if not (0 <= severity <= 1 and 0 <= quality <= 1):
        raise ValueError(f"severity {severity} and quality {quality} are from 0 to 1")
    eye = draw_anatomy(_rng(seed, patient, 0, 0))
    pose, texture, noise, frame = (_rng(seed, patient, image, k) for k in (2, 3, 4, 5))
    scan = healthy(eye, width=width, height=height, rng=pose)
    LESIONS[label](scan, severity, _rng(seed, patient, 0, 1))
    scan.settle()
    tones, mask = paint(scan, eye, texture)
    grey = capture(tones, quality, noise)
    # The narrow scans are those that the archive straightened; of the wide ones it did so seldom.
    white = padding(scan.top["choroid"], grey.shape, 0.75 if width < WIDE else 0.05, frame)
    grey[white] = 255
    return grey, mask & ~white


def load(cache: Path, *, train: int, test_per_class: int, seed: int, workers: int = 0) -> Catalogue:
    """The phantom data set of these numbers of images, made below `cache` unless it is there already.

    `train`: images in the training folder, shared among the classes as published; `test_per_class`: images a class in
    the test folder; `workers`: processes (0: one a core); they change nothing in the result. A generation that is
    killed is resumed by the next call, and is never read half-made; of two at once, one waits for the other.
    Raises `ValueError` for impossible numbers and `CatalogueError` for a data set that was damaged on disk.
    """
    if train < len(CLASSES) or test_per_class < 1 or seed < 0:
        raise ValueError(f"train={train} (at least 4), test_per_class={test_per_class} (1), seed={seed} (0)")
    asked = {"train": train, "test_per_class": test_per_class, "seed": seed, "version": VERSION}
    root = phantom_store.folder(cache, "phantom_oct", asked)

    def make() -> None:
        _generate(root, plan(train=train, test_per_class=test_per_class, seed=seed), seed, workers)

    phantom_store.make_once(root, make, "phantom_oct.load")
    frame = phantom_store.read(root, train + len(CLASSES) * test_per_class)
    return Catalogue("phantom_oct", root, frame, CLASSES, phantom=True)


def plan(*, train: int, test_per_class: int, seed: int) -> pd.DataFrame:
    """What will be made, one row an image, in the order of the table: all of its truth, and no pixel yet."""
    rng = _rng(seed)
    wanted = [("train", label, count) for label, count in _shares(train).items()]
    wanted += [("test", label, test_per_class) for label in CLASSES]
    groups = [(split, label, n) for split, label, count in wanted for n in _sizes(count, IMAGES_A_PATIENT[split], rng)]
    numbers = rng.choice(9_900_000, len(groups), replace=False) + 10_000
    # One patient in 4.5 has wide scans: spread evenly over each class, so that even by chance size tells little.
    wide = (np.arange(len(groups)) * GOLDEN + rng.random()) % 1 < WIDE_SHARE
    rows = []
    for (split, label, n), number, is_wide in zip(groups, numbers, wide, strict=True):
        rows += _patient(split, label, n, int(number), WIDE if is_wide else NARROW, seed)
    return pd.DataFrame(rows)


def _shares(train: int) -> dict[str, int]:
    """Images a class in the published proportions, at least one each; what rounding leaves goes to the last, NORMAL."""
    total = sum(PUBLISHED.values())
    shares = {label: max(1, round(train * count / total)) for label, count in PUBLISHED.items()}
    shares["NORMAL"] = train - sum(shares[label] for label in CLASSES if label != "NORMAL")
    return shares


def _sizes(count: int, chances: tuple[float, ...], rng: np.random.Generator) -> Iterator[int]:
    """Images a patient, until there are `count`."""
    while count > 0:
        n = min(count, 1 + int(rng.choice(len(chances), p=chances)))
        yield n
        count -= n


def _patient(split: str, label: str, images: int, number: int, width: int, seed: int) -> Iterator[dict]:
    """Rows of one patient. Nothing but the names and folders depends on the label, and severity only in its absence."""
    rng = _rng(seed, number, 0, 6)
    quality = rng.beta(1.8, 3.2) if rng.random() < NOISY[split] else rng.beta(4.5, 1.8)
    severity = 0.35 + 0.65 * rng.beta(2.2, 1.1)  # subtle lesions are there, invisible ones teach nothing
    for n in range(1, images + 1):
        drift, bit = rng.normal(0, 0.06, 2)
        name = f"{label}-{number}-{n}"
        yield {
            "image_id": name,
            "path": f"{split}/{label}/{name}.jpeg",
            "label": label,
            "patient_id": str(number),
            "published_split": split,
            "mask": f"masks/{split}/{label}/{name}.png",
            "severity": np.nan if label == "NORMAL" else round(float(np.clip(severity + bit, 0, 1)), 4),
            "quality": round(float(np.clip(quality + drift, 0, 1)), 4),
            "width": width,
            "height": HEIGHT,
        }


def _generate(root: Path, rows: pd.DataFrame, seed: int, workers: int) -> None:
    phantom_store.generate(root, rows, lambda part: partial(make_patient, part, seed), workers, "phantom OCT")


def make_patient(part: Path, seed: int, rows: list[dict]) -> list[dict]:
    """Write the images and masks of one patient that are not there yet; the rows with digest and hash added."""
    return [row | _make(part, seed, row) for row in rows]


def _make(part: Path, seed: int, row: dict) -> dict[str, str]:
    path, mask_path = part / row["path"], part / row["mask"]
    if not (path.exists() and mask_path.exists()):
        severity = 0.0 if np.isnan(row["severity"]) else row["severity"]
        patient, number = int(row["patient_id"]), int(row["image_id"].rsplit("-", 1)[1])
        grey, mask = one(
            row["label"],
            severity,
            seed,
            quality=row["quality"],
            width=row["width"],
            patient=patient,
            image=number,
        )
        phantom_store.write_pictures(part, row, grey, {"mask": mask}, quality=90)
    return phantom_store.describe(path)
