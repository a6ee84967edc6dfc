"""What a phantom chest data set will hold: frames of all its truth, one row an image, and no pixel yet."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from helpers.phantoms.store import rng_of

SIZE = 256  # pixels a side
PNEUMONIA = ("NORMAL", "BACTERIA", "VIRUS")
VIEW_CLASSES = ("frontal", "lateral")
# Kermany 2018: 'a total of 5,232 chest X-ray images from children ... 3,883 characterized as depicting pneumonia (2,538
# bacterial and 1,345 viral) and 1,349 normal ... The model was then tested with 234 normal images and 390 pneumonia
# images (242 bacterial and 148 viral)'.
SHARES = {
    "train": {"NORMAL": 1_349, "BACTERIA": 2_538, "VIRUS": 1_345},
    "test": {"NORMAL": 234, "BACTERIA": 242, "VIRUS": 148},
}
NAMES = {"NORMAL": "IM-{p:07d}-{n:04d}", "BACTERIA": "person{p}_bacteria_{n}", "VIRUS": "person{p}_virus_{n}"}
SIGNATURE = {"train": "A", "test": "A2"}  # the test folder was processed in another way: see `load_pneumonia`
IMAGES_A_PATIENT = (0.48, 0.26, 0.14, 0.08, 0.04)  # chance of 1, 2, 3 ... images
CHILD = (1.0, 5.0)  # years: 'pediatric patients of one to five years old'
GRAVITY = (2.2, 1.1)  # of severities: a beta distribution's shape
SUBTLE = 0.35  # the least severity: subtle findings are there, invisible ones teach nothing
QUALITY = (4.5, 1.8)  # of quality, likewise a beta distribution
POOR, POOR_SHARE = (1.8, 3.2), 0.15  # of poor images, and their share of patients
PORTABLE = 0.12  # share of children whose images came from a portable device

FRONTAL = 0.55  # share of frontal images (Rajkomar 2017 trained on about as many of each)
PAIRED = 0.8  # share of lateral images whose patient has a frontal one too
BEDSIDE = 0.35  # share of the other frontal images that are AP
HARD = 0.35  # share of patients who are rotated, obese, badly exposed or badly framed
ILL = 0.45  # share of adults with a finding
ADULT_FINDINGS = ("Consolidation", "Effusion", "Cardiomegaly", "Emphysema", "Mass", "Nodule", "Edema", "COVID-19")
HOSPITAL_SIGNATURES = ("A", "B")  # of frontal PA and lateral images; AP ones are portable
PUBLIC_SIGNATURE = "C"


def plan_pneumonia(*, train: int, test: int, seed: int, tied: float = 0.0) -> pd.DataFrame:
    """Children with and without pneumonia. `tied`, from 0 to 1: how strongly portable images go with pneumonia.

    At 0 a share `PORTABLE` of patients has them, whatever the label; at 1 all of the ill and none of the healthy.
    """
    rng = rng_of(seed, 1)
    wanted = [
        (split, label, n) for split, total in (("train", train), ("test", test)) for label, n in _counts(split, total)
    ]
    groups = [(split, label, n) for split, label, count in wanted for n in _sizes(count, rng)]
    rows: list[dict] = []
    for (split, label, n), number in zip(groups, _numbers(len(groups), rng), strict=True):
        chance = (1 - tied) * PORTABLE + tied * (label != "NORMAL")
        rows += _child(split, label, n, number, chance, seed)
    return pd.DataFrame(rows)


def _counts(split: str, total: int) -> Iterator[tuple[str, int]]:
    """Images a class in the published proportions, at least one each; what rounding leaves goes to BACTERIA."""
    shares = SHARES[split]
    counts = {label: max(1, round(total * share / sum(shares.values()))) for label, share in shares.items()}
    counts["BACTERIA"] = total - counts["NORMAL"] - counts["VIRUS"]
    return iter(counts.items())


def _sizes(count: int, rng: np.random.Generator) -> Iterator[int]:
    """Images a patient, until there are `count`."""
    while count > 0:
        n = min(count, 1 + int(rng.choice(len(IMAGES_A_PATIENT), p=IMAGES_A_PATIENT)))
        yield n
        count -= n


def _numbers(count: int, rng: np.random.Generator) -> list[int]:
    """Different patient numbers, which tell nothing."""
    return [int(number) for number in rng.choice(9_900_000, count, replace=False) + 10_000]


def _truth(number: int, seed: int) -> tuple[np.random.Generator, float, float]:
    """A patient's generator, severity and quality, which depend on nothing but the patient's number."""
    rng = rng_of(seed, number, 0, 6)
    poor = rng.random() < POOR_SHARE
    quality = rng.beta(*(POOR if poor else QUALITY))
    return rng, SUBTLE + (1 - SUBTLE) * rng.beta(*GRAVITY), quality


def _child(split: str, label: str, images: int, number: int, portable: float, seed: int) -> Iterator[dict]:
    rng, severity, quality = _truth(number, seed)
    age, chance = rng.uniform(*CHILD), rng.random()
    for n in range(1, images + 1):
        name = NAMES[label].format(p=number, n=n)
        folder = "NORMAL" if label == "NORMAL" else "PNEUMONIA"
        yield {
            "image_id": name,
            "path": f"{split}/{folder}/{name}.jpeg",
            "label": label,
            "patient_id": str(number),
            "published_split": split,
            "site": "A",
            "signature": "portable" if chance < portable else SIGNATURE[split],
            "view": "AP",
            "mask": f"masks/{split}/{folder}/{name}.png",
            "lung_mask": f"lungs/{split}/{folder}/{name}.png",
            "severity": np.nan if label == "NORMAL" else _near(severity, rng),
            "quality": _near(quality, rng),
            "age": round(float(age), 1),
            "findings": label,
            "hard": 0.0,
            "number": n,
            "width": SIZE,
            "height": SIZE,
        }


def _near(value: float, rng: np.random.Generator) -> float:
    """A patient's value as it is on one image."""
    return round(float(np.clip(value + rng.normal(0, 0.06), 0, 1)), 4)


def plan_views(*, train: int, test: int, public: int, seed: int) -> pd.DataFrame:
    """Adults from the front and from the side, at one hospital and in a public collection from elsewhere."""
    rng = rng_of(seed, 2)
    groups: list[tuple[str, str, tuple[str, ...]]] = []
    for split, site, count in (("train", "hospital", train), ("test", "hospital", test), ("test", "public", public)):
        groups += [(split, site, views) for views in _studies(count, rng)]
    rows: list[dict] = []
    for (split, site, views), number in zip(groups, _numbers(len(groups), rng), strict=True):
        rows += _adult(split, site, views, number, seed)
    return pd.DataFrame(rows)


def _studies(images: int, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """The views of each patient, `images` in all."""
    frontal = round(FRONTAL * images)
    lateral = images - frontal
    pairs = min(round(PAIRED * lateral), frontal)
    yield from [("PA", "lateral")] * pairs + [("lateral",)] * (lateral - pairs)
    for _ in range(frontal - pairs):
        yield ("AP",) if rng.random() < BEDSIDE else ("PA",)


def _adult(split: str, site: str, views: tuple[str, ...], number: int, seed: int) -> Iterator[dict]:
    rng, severity, quality = _truth(number, seed)
    age = float(np.clip(rng.normal(55, 18), 18, 92))
    ill, which, hard, how = (
        rng.random() < ILL,
        str(rng.choice(ADULT_FINDINGS)),
        rng.random() < HARD,
        rng.uniform(0.3, 1),
    )
    own = str(rng.choice(HOSPITAL_SIGNATURES)) if site == "hospital" else PUBLIC_SIGNATURE
    for n, view in enumerate(views, 1):
        label = "lateral" if view == "lateral" else "frontal"
        name = f"{site}-{number}-{n}"
        yield {
            "image_id": name,
            "path": f"{split}/{site}/{label}/{name}.jpeg",
            "label": label,
            "patient_id": str(number),
            "published_split": split,
            "site": site,
            "signature": "portable" if view == "AP" else own,
            "view": view,
            "mask": f"masks/{split}/{site}/{label}/{name}.png",
            "lung_mask": f"lungs/{split}/{site}/{label}/{name}.png",
            "severity": _near(severity, rng) if ill else np.nan,
            "quality": _near(quality, rng),
            "age": round(age, 1),
            "findings": which if ill else "NORMAL",
            "hard": round(float(how), 3) if hard else 0.0,
            "number": n,
            "width": SIZE,
            "height": SIZE,
        }
