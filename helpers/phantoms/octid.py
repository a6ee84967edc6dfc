"""Phantom OCT of rare disease: made-up B-scans in four classes of OCTID, from a seed and from another scanner.

Card. What: grey JPEG of 750 x 500 pixels, one image a patient, `train|test/<CLASS>/<CLASS>-<patient>-1.jpeg`, with a
lesion mask each and a table of the truth, `phantom.csv`. Classes: NORMAL, MH (macular hole), DR (diabetic retinopathy),
CSR (central serous retinopathy), as many images in each. After: Carr 2020 ("We limited our dataset to 50 samples per
diagnosis") and OCTID (Gholami et al. 2020), which is from another scanner than Kermany's scans.
The scanner: the same eyes and field as `phantom_oct`'s, but fewer frames averaged (coarser, stronger speckle), a
flatter curve from power to grey that lets the nerve fibres saturate, a haze, stretched pixels, and no white padding: so
a network that learnt on the bridge's scans has something to get used to.
Licence: the project's. Made, not measured: no result on it is evidence about patients.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.phantoms import store as phantom_store
from helpers.phantoms.store import rng_of

VERSION = 1  # raise it with any change that alters an image: it is part of the cache's key
CLASSES = ("NORMAL", "MH", "DR", "CSR")
WIDTH, HEIGHT = 750, 500  # pixels of the file
DRAWN = (512, 496)  # width and height that are drawn before the scanner stretches them


def one(
    label: str, severity: float, seed: int, *, quality: float = 0.7, patient: int = 0, image: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """One B-scan of this scanner and its lesion mask: uint8 and bool, both (HEIGHT, WIDTH).

    Arguments, errors and what follows from which seed as for `phantom_oct.one`.
    """
    from helpers.phantoms import rare as phantom_rare  # noqa: F401 - adds its diseases to the registry
    from helpers.phantoms.oct_lesions import LESIONS
    from helpers.phantoms.oct_scan import paint
    from helpers.phantoms.oct_retina import draw_anatomy, healthy

    if label not in LESIONS:
        raise ValueError(f"no phantom of '{label}'; known: {', '.join(LESIONS)}")
    if not (0 <= severity <= 1 and 0 <= quality <= 1):
        raise ValueError(f"severity {severity} and quality {quality} are from 0 to 1")
    eye = draw_anatomy(rng_of(seed, patient, 0, 0))
    pose, texture, noise = (rng_of(seed, patient, image, k) for k in (2, 3, 4))
    scan = healthy(eye, width=DRAWN[0], height=DRAWN[1], rng=pose)
    scan.blend("nerve fibres", 0.72, np.full(scan.width, 0.6))
    LESIONS[label](scan, severity, rng_of(seed, patient, 0, 1))
    scan.settle()
    tones, mask = paint(scan, eye, texture)
    return _stretched(scanned(tones, quality, noise)), _stretched(mask.astype(np.uint8) * 255) > 127


def scanned(tones: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """What this scanner makes of `tones` (see `phantom_paint.paint`): uint8 of the same shape.

    `quality` from 0 (noisy, faint) to 1 (clean).
    """
    from scipy.ndimage import gaussian_filter

    poor = 1 - quality
    haze = gaussian_filter(tones, (14, 9), truncate=2)
    signal = gaussian_filter(tones, (0.55 + 0.5 * poor, 0.8), truncate=2.5) * np.float32(0.9) + haze * np.float32(0.12)
    signal = np.clip(signal, 0, None) ** np.float32(rng.uniform(0.78, 0.92))
    signal *= np.float32(rng.uniform(0.95, 1.25) * (1 - 0.3 * poor))
    tilt = np.linspace(-1, 1, tones.shape[1], dtype=np.float32)
    signal *= 1 - np.float32(rng.uniform(0.05, 0.2)) * tilt * tilt
    speckle = _speckle(tones.shape, rng)
    floor = np.float32((20 + 14 * rng.random() + 26 * poor) / 255)
    grey = np.sqrt(signal * signal + floor * floor) * (1 + np.float32(0.10 + 0.14 * poor) * speckle)
    grey += floor * np.float32(0.42) * _speckle(tones.shape, rng)
    return np.clip(grey * 255, 0, 255).astype(np.uint8)


def load(cache: Path, *, per_class: int, test_per_class: int, seed: int, workers: int = 0) -> Catalogue:
    """`per_class` images a class for training and `test_per_class` for assessment, made below `cache` once.

    Made, kept and resumed as by `phantom_oct.load`; raises as it does.
    """
    if per_class < 2 or test_per_class < 1 or seed < 0:
        raise ValueError(f"per_class={per_class} (at least 2), test_per_class={test_per_class} (1), seed={seed} (0)")
    asked = {"per_class": per_class, "test_per_class": test_per_class, "seed": seed}
    root = phantom_store.folder(cache, "phantom_octid", asked | {"version": VERSION})

    def make() -> None:
        maker = partial(_maker, seed=seed)
        phantom_store.generate(root, plan(**asked), maker, workers, "phantom OCT of rare disease")

    phantom_store.make_once(root, make, "phantom_octid.load")
    frame = phantom_store.read(root, len(CLASSES) * (per_class + test_per_class))
    return Catalogue("phantom_octid", root, frame, CLASSES, phantom=True)


def plan(*, per_class: int, test_per_class: int, seed: int) -> pd.DataFrame:
    """What will be made, one row an image and patient: all of its truth, and no pixel yet.

    Severity and quality are drawn alike for every class; severity is then left out for NORMAL.
    """
    rng = rng_of(seed, 7)
    wanted = [(split, label) for split, n in (("train", per_class), ("test", test_per_class)) for label in CLASSES * n]
    numbers = rng.choice(9_900_000, len(wanted), replace=False) + 20_000_000  # no number of `phantom_oct`
    return pd.DataFrame([_row(split, label, int(n), seed) for (split, label), n in zip(wanted, numbers, strict=True)])


def _row(split: str, label: str, number: int, seed: int) -> dict:
    rng = rng_of(seed, number, 0, 6)
    severity, quality = rng.beta(1.6, 1.5), 0.15 + 0.8 * rng.beta(2.2, 1.8)
    name = f"{label}-{number}-1"
    return {
        "image_id": name,
        "path": f"{split}/{label}/{name}.jpeg",
        "label": label,
        "patient_id": str(number),
        "published_split": split,
        "mask": f"masks/{split}/{label}/{name}.png",
        "severity": np.nan if label == "NORMAL" else round(float(severity), 4),
        "quality": round(float(quality), 4),
        "width": WIDTH,
        "height": HEIGHT,
    }


def _maker(part: Path, seed: int):
    return partial(make_patient, part, seed)


def make_patient(part: Path, seed: int, rows: list[dict]) -> list[dict]:
    """Write the image and mask of one patient unless they are there; the rows with digest and hash added."""
    return [row | _make(part, seed, row) for row in rows]


def _make(part: Path, seed: int, row: dict) -> dict[str, str]:
    path, mask_path = part / row["path"], part / row["mask"]
    if not (path.exists() and mask_path.exists()):
        severity = 0.0 if np.isnan(row["severity"]) else row["severity"]
        grey, mask = one(row["label"], severity, seed, quality=row["quality"], patient=int(row["patient_id"]))
        phantom_store.write_pictures(part, row, grey, {"mask": mask}, quality=90)
    return phantom_store.describe(path)


def _speckle(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise of about unit variance, float32 (height, width), correlated over two or three pixels both ways."""
    fine = rng.standard_normal((shape[0] + 2, shape[1] + 2), np.float32)
    down = fine[:-2] + fine[1:-1] * np.float32(1.4) + fine[2:]
    both = down[:, :-2] + down[:, 1:-1] * np.float32(1.4) + down[:, 2:]
    return both * np.float32(1 / 3.96)  # 2 + 1.4 squared: the weights' length


def _stretched(image: np.ndarray) -> np.ndarray:
    """The drawn picture at the file's size, uint8."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
