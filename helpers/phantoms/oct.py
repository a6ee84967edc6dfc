"""Phantom OCT: made-up B-scans of the retina, from a seed, in the classes of two studies and from a scanner each.

Card. What: grey JPEG in folders as the published archives have them (`train|test/<CLASS>/<CLASS>-<patient>-<n>.jpeg`),
with a lesion mask each and a table of the truth, `phantom.csv`. No patient is in two folders, or in both sets.
    `OCT`: 512 x 496 or 768 x 496 pixels, CNV, DME, DRUSEN and NORMAL; training in the published proportions, test
    balanced. After Kermany et al. 2018 ('37,206 with choroidal neovascularization, 11,349 with diabetic macular edema,
    8,617 with drusen, and 51,140 normal'; figure 3: 'images with more noise and lower quality were also included in
    the training set'). Settings: `train` images, `test_per_class`, `seed`.
    `OCTID`: 750 x 500 pixels, one image per patient, NORMAL, MH (macular hole), DR (diabetic retinopathy) and CSR
    (central serous retinopathy), as many images in each. After Carr 2020 ("We limited our dataset to 50 samples per
    diagnosis") and OCTID (Gholami et al. 2020), which is from another scanner than Kermany's scans: the same eyes and
    field, but a haze, coarser speckle, another grey curve, stretched pixels and no white padding, so that a network
    that learnt on the bridge's scans has something to get used to. Settings: `per_class`, `test_per_class`, `seed`.
Licence: the project's. Made, not measured: no result on it is evidence about patients.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image

from helpers.phantoms.oct_lesions import LESIONS
from helpers.phantoms.oct_retina import Anatomy, healthy
from helpers.phantoms.oct_scan import capture, capture_hazy, padding, paint
from helpers.phantoms.store import PhantomSet, draw_truth, image_row, numbered, rng_of, share_out, sizes, vary

PUBLISHED = {"CNV": 37_206, "DME": 11_349, "DRUSEN": 8_617, "NORMAL": 51_140}  # training images, of 108,312
HEIGHT, NARROW, WIDE = 496, 512, 768
WIDE_SHARE = 0.22
GOLDEN = 0.618034  # its multiples spread evenly between 0 and 1, whatever part of the series is looked at
# Chance of 1, 2, 3 ... images per patient: 3.2 on average; in the test folder 1.6, as published (1,000 images of 633).
IMAGES = {"train": (0.20, 0.22, 0.20, 0.14, 0.10, 0.06, 0.05, 0.03), "test": (0.62, 0.22, 0.10, 0.06)}
NOISY = {"train": 0.35, "test": 0.05}  # share of the patients whose images are poor
RARE = ("NORMAL", "MH", "DR", "CSR")
STRETCHED = (750, 500)  # width and height of the other scanner's files


def draw(seed: int, rows: list[dict]) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The B-scan of one row, uint8 (height, width), and its lesion mask, bool, which is empty for NORMAL.

    `severity` from 0 (subtle) to 1 (plain), `quality` from 0 (noisy) to 1 (clean); of the width to which the other
    scanner stretches its scans, it is that scanner's. The eye and its disease follow from (seed, patient), where the
    scan passes and its noise from (seed, patient, image): both are in the name, `<label>-<patient>-<image>`.
    """
    (row,) = rows
    label, patient, image = row["image_id"].split("-")
    patient, image, other = int(patient), int(image), row["width"] == STRETCHED[0]
    eye = Anatomy(rng_of(seed, patient, 0, 0))
    pose, texture, noise, frame = (rng_of(seed, patient, image, k) for k in (2, 3, 4, 5))
    scan = healthy(eye, width=NARROW if other else row["width"], height=HEIGHT, rng=pose)
    if other:
        scan.blend("nerve fibres", 0.72, np.full(scan.width, 0.6))
    LESIONS[label](scan, float(np.nan_to_num(row["severity"])), rng_of(seed, patient, 0, 1))
    scan.settle()
    tones, mask = paint(scan, eye, texture)
    if other:
        grey, mask = capture_hazy(tones, row["quality"], noise), mask.astype(np.uint8) * 255
        return [_stretched(grey)], {"mask": _stretched(mask) > 127}
    grey = capture(tones, row["quality"], noise)
    # The narrow scans are those that the archive straightened; of the wide ones it did so seldom.
    white = padding(scan.top["choroid"], grey.shape, 0.75 if scan.width < WIDE else 0.05, frame)
    grey[white] = 255
    return [grey], {"mask": mask & ~white}


def _stretched(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(STRETCHED, Image.Resampling.BILINEAR))


def plan_oct(*, train: int, test_per_class: int, seed: int) -> pd.DataFrame:
    """Kermany's classes, one row per image, in the order of the table."""
    rng = rng_of(seed)
    wanted = [("train", label, count) for label, count in share_out(train, PUBLISHED, "NORMAL").items()]
    wanted += [("test", label, test_per_class) for label in PUBLISHED]
    groups = [(split, label, n) for split, label, count in wanted for n in sizes(count, IMAGES[split], rng)]
    groups = numbered(groups, rng)
    # One patient in 4.5 has wide scans, spread evenly over each class: even by chance, size is hardly linked to class.
    wide = (np.arange(len(groups)) * GOLDEN + rng.random()) % 1 < WIDE_SHARE
    rows: list[dict] = []
    for (split, label, images, number), is_wide in zip(groups, wide, strict=True):
        own, severity, quality = draw_truth(seed, number, NOISY[split])
        size = (WIDE if is_wide else NARROW, HEIGHT)
        for n in range(1, images + 1):
            rows.append(_row(split, label, number, n, size, vary(quality, own), vary(severity, own)))
    return pd.DataFrame(rows)


def plan_octid(*, per_class: int, test_per_class: int, seed: int) -> pd.DataFrame:
    """Carr's classes, one row per image and patient. Severity and quality are drawn alike for every class."""
    wanted = [(split, label) for split, n in (("train", per_class), ("test", test_per_class)) for label in RARE * n]
    rows: list[dict] = []
    for split, label, number in numbered(wanted, rng_of(seed, 7), least=20_000_000):  # no number of `plan_oct`
        rng = rng_of(seed, number, 0, 6)
        severity, quality = round(rng.beta(1.6, 1.5), 4), round(0.15 + 0.8 * rng.beta(2.2, 1.8), 4)
        rows.append(_row(split, label, number, 1, STRETCHED, quality, severity))
    return pd.DataFrame(rows)


def _row(split: str, label: str, number: int, image: int, size: tuple, quality: float, severity: float) -> dict:
    """Nothing but the names and folders depends on the label, and severity only in its absence."""
    truth = {"label": label, "severity": np.nan if label == "NORMAL" else severity, "quality": quality}
    place = f"{split}/{label}", f"{label}-{number}-{image}", number, split
    return image_row(*place, {"mask": "masks"}, **truth, width=size[0], height=size[1])


OCT = PhantomSet("phantom_oct", tuple(PUBLISHED), plan_oct, draw, jpeg_quality=90)
OCTID = PhantomSet("phantom_octid", RARE, plan_octid, draw, jpeg_quality=90)
