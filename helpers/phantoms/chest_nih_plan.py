"""What the phantom counterpart of ChestX-ray14 will hold: a frame of all its truth, one row an image, and no pixel yet.

As there, adults from the front, PA or AP, several labels an image, several follow-ups a patient, labels that occur and
show very differently, and labels that a program read out of reports, so that some are wrong. Patients are shared out
as the talk says: "70% train, 10% tune, 20% test" (Zech 2018).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from helpers.phantoms.chest_plans import QUALITY, SIZE
from helpers.phantoms.store import rng_of
from helpers.zech.data import FINDINGS, NONE

# Images of each label among the 112,120 real ones (Wang et al. 2017, as Data_Entry_2017 has them).
REAL_IMAGES = {
    "Atelectasis": 11_559, "Cardiomegaly": 2_776, "Effusion": 13_317, "Infiltration": 19_894, "Mass": 5_782,
    "Nodule": 6_331, "Pneumonia": 1_431, "Pneumothorax": 5_302, "Consolidation": 4_667, "Edema": 2_303,
    "Emphysema": 2_516, "Fibrosis": 1_686, "Pleural_Thickening": 3_385, "Hernia": 227,
}  # fmt: skip
REAL_TOTAL = 112_120
# The rarest real label would have three images in a phantom data set of 1,500. So prevalences are the real ones' square
# roots, times this, and no less than that: their order stays, and every label has positives to test on.
FACTOR, LEAST = 0.42, 0.08
# The mean severity at which each is drawn: what is plain and what is hard to see differs as it does in life, so that
# AUROCs differ between labels.
VISIBILITY = {
    "Atelectasis": 0.65, "Cardiomegaly": 0.55, "Effusion": 0.50, "Infiltration": 0.65, "Mass": 0.75,
    "Nodule": 0.80, "Pneumonia": 0.65, "Pneumothorax": 0.50, "Consolidation": 0.40, "Edema": 0.70,
    "Emphysema": 0.50, "Fibrosis": 0.60, "Pleural_Thickening": 0.60, "Hernia": 0.65,
}  # fmt: skip
SPREAD = 5.0  # of a label's severities: the sum of a beta distribution's two parameters
LASTING = ("Cardiomegaly", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia", "Mass", "Nodule")
STAYS = 0.7  # chance that the findings that do not last are there on a follow-up
FOLLOW_UPS = (0.45, 0.25, 0.15, 0.10, 0.05)  # chance of 1, 2, 3 ... images a patient; the real mean is 3.6
BEDSIDE, SICKER = 0.22, 0.12  # chance of AP without a finding, and what each finding adds: the sick are not carried
MOST_BEDSIDE = 0.7


def prevalences() -> dict[str, float]:
    """The share of phantom patients with each label."""
    real = {label: REAL_IMAGES[label] / REAL_TOTAL for label in FINDINGS}
    return {label: max(LEAST, FACTOR * float(np.sqrt(share))) for label, share in real.items()}


def plan_nih(*, images: int, seed: int, test_share: float, label_noise: float) -> pd.DataFrame:
    """The rows of the whole data set: `findings` is what is drawn, `labels` what the data set says of it.

    `test_share` of the patients are the published test set. `label_noise` is the chance that a finding's label is
    missing; a label without its finding is as frequent, so that prevalences stay.
    """
    rng = rng_of(seed, 14)
    sizes: list[int] = []
    while sum(sizes) < images:
        sizes.append(1 + int(rng.choice(len(FOLLOW_UPS), p=FOLLOW_UPS)))
    sizes[-1] -= sum(sizes) - images
    tested = set(rng.permutation(len(sizes))[: round(test_share * len(sizes))].tolist())
    rows: list[dict] = []
    for patient, size in enumerate(sizes, start=1):
        split = "test" if patient - 1 in tested else "train"
        rows += _patient(patient, size, split, seed, label_noise)
    return pd.DataFrame(rows)


def _patient(patient: int, images: int, split: str, seed: int, noise: float) -> Iterator[dict]:
    rng, prevalence = rng_of(seed, 14, patient), prevalences()
    drawn = {label: rng.random() < prevalence[label] for label in FINDINGS}
    level = {label: rng.beta(SPREAD * mean, SPREAD * (1 - mean)) for label, mean in VISIBILITY.items()}
    # Lasting ones first: a finding's drawing follows from its place in the list, and is to be the same on all images.
    lasting = [label for label in LASTING if drawn[label]]
    passing = [label for label in FINDINGS if drawn[label] and label not in LASTING]
    age, quality = float(np.clip(rng.normal(50, 16), 18, 92)), rng.beta(*QUALITY)
    for visit in range(images):
        there = lasting + (passing if visit == 0 or rng.random() < STAYS else [])
        bedside = rng.random() < min(BEDSIDE + SICKER * len(there), MOST_BEDSIDE)
        name = f"{patient:08d}_{visit:03d}"
        yield {
            "image_id": f"{name}.jpeg",
            "path": f"images/{name}.jpeg",
            "patient_id": str(patient),
            "published_split": split,
            "site": "A",
            "signature": "portable" if bedside else "A",
            "view": "AP" if bedside else "PA",
            "mask": f"masks/{name}.png",
            "lung_mask": f"lungs/{name}.png",
            "severity": max((level[label] for label in there), default=np.nan),
            "severities": "|".join(f"{level[label]:.4f}" for label in there) or "0",
            "quality": round(float(np.clip(quality + rng.normal(0, 0.06), 0, 1)), 4),
            "age": round(age + visit / 2, 1),
            "findings": "|".join(there) or "NORMAL",
            "labels": _reported(there, prevalence, noise, rng),
            "number": visit + 1,
            "width": SIZE,
            "height": SIZE,
        }


def _reported(there: list[str], prevalence: dict[str, float], noise: float, rng: np.random.Generator) -> str:
    """What a program finds in the report of an image: some labels are missing, some are not its own."""
    chances = rng.random(len(FINDINGS))
    wrong = {
        label: noise * (1.0 if label in there else prevalence[label] / (1 - prevalence[label])) for label in FINDINGS
    }
    said = [
        label for label, chance in zip(FINDINGS, chances, strict=True) if (label in there) != (chance < wrong[label])
    ]
    return "|".join(said) or NONE
