"""What the phantom COVID-19 data set will hold: a frame of all its truth, and no pixel yet.

As in Carr 2020's target, COVID-19 comes from adults of one hospital (site B), all else from children of another (site
A): disease, age and hospital say the same. Beside those images there are the ones that the poster could not have:
COVID-19 in children at A, and the other classes in adults at B. With them the same questions can be asked where the
site says nothing, so that a control for confounding can be shown to work. See `helpers.carr.data`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from helpers.phantoms.chest_plans import CHILD, GRAVITY, POOR, POOR_SHARE, QUALITY, SIZE, SUBTLE
from helpers.phantoms.store import rng_of

CLASSES = ("NORMAL", "BACTERIA", "VIRUS", "COVID-19")
ADULT = (58.0, 14.0)  # years, mean and deviation; children are `chest_plan.CHILD`
SITES = {"A": ("AP", "A"), "B": ("PA", "B")}  # site: view and signature; children are at A, adults at B
COUNTERPART = 0.5  # images of the other pairs of class and site, of those of the poster's pairs


def plan_covid(*, train: int, test: int, seed: int) -> pd.DataFrame:
    """`train` and `test` subjects a class, one image each, and `COUNTERPART` as many of it at the other site."""
    cells = []
    for label in CLASSES:
        for site in SITES:
            share = 1.0 if (label == "COVID-19") == (site == "B") else COUNTERPART
            cells += [(label, site, "train")] * round(share * train) + [(label, site, "test")] * round(share * test)
    numbers = rng_of(seed, 4).choice(9_900_000, len(cells), replace=False) + 10_000  # which tell nothing
    return pd.DataFrame(_row(*cell, int(number), seed) for cell, number in zip(cells, numbers, strict=True))


def images(train: int, test: int) -> int:
    """How many images a plan has."""
    return 4 * (train + test + round(COUNTERPART * train) + round(COUNTERPART * test))


def _row(label: str, site: str, split: str, number: int, seed: int) -> dict:
    rng = rng_of(seed, number, 0, 6)
    quality = rng.beta(*(POOR if rng.random() < POOR_SHARE else QUALITY))
    severity = SUBTLE + (1 - SUBTLE) * rng.beta(*GRAVITY)
    age = rng.uniform(*CHILD) if site == "A" else float(np.clip(rng.normal(*ADULT), 20, 92))
    name, (view, signature) = f"{site}-{label}-{number}", SITES[site]
    return {
        "image_id": name,
        "path": f"{split}/{label}/{name}.jpeg",
        "label": label,
        "patient_id": str(number),
        "published_split": split,
        "site": site,
        "signature": signature,
        "view": view,
        "mask": f"masks/{split}/{label}/{name}.png",
        "lung_mask": f"lungs/{split}/{label}/{name}.png",
        "severity": np.nan if label == "NORMAL" else round(float(severity), 4),
        "quality": round(float(quality), 4),
        "age": round(float(age), 1),
        "findings": label,
        "hard": 0.0,
        "number": 1,
        "width": SIZE,
        "height": SIZE,
    }
