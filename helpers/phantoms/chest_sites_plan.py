"""What the phantom hospitals will hold: a frame of all its truth, two rows a body (as its hospital shows it, and
neutral), and no pixel yet.

Zech 2018 (talk) had 112,120 images of NIH and 48,915 files of Mount Sinai; the sensitivities, specificities
and accuracies of its table 3 imply that about 1, 36 and 1 % of the test images showed pneumonia. With 1 % a phantom
data set that is drawn in a minute would have no positives to speak of, so here it is 8, 35 and 8 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from helpers.phantoms.chest_imaging import SIGNATURES, Signature
from helpers.phantoms.chest_plans import IMAGES_A_PATIENT, SIZE
from helpers.phantoms.store import rng_of

CLASSES = ("Pneumonia", "No pneumonia")
TEST_SHARE = 0.4  # of the patients of each hospital and label: an interval needs many test images
OTHERS = ("Cardiomegaly", "Effusion", "Nodule", "Emphysema", "Atelectasis", "Fibrosis", "Pleural_Thickening")
OTHER_SHARE = 0.4  # of patients without pneumonia who have another finding: a hospital's images are not of the healthy
GRAVITY = (2.2, 1.1)  # of severities: a beta distribution's shape
SUBTLE = 0.7  # the least severity
QUALITY = (4.5, 1.8)  # of quality, likewise
ADULTS = (55, 18)  # years, mean and deviation
MARKERS = ("on", "off")

NEUTRAL = Signature("neutral", marker="", gamma=1.0)
DEPARTMENTS = {  # of the one hospital whose scanners are told apart: "inpatient vs. ED"
    "inpatient": replace(SIGNATURES["portable"], name="portable-inpatient"),
    "ED": replace(
        SIGNATURES["portable"], name="portable-ED", text="", marker="L", marker_shape="box", marker_place=(0.12, 0.07),
        collimation=0.0, gamma=0.95, noise=1.6, lines=0.25,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """A phantom hospital: of 1,800 bodies, how many have pneumonia and have not, in the natural cohort and in reserve
    (for sets that are engineered to another prevalence); and whose signature its images bear."""

    natural: dict[str, int]
    reserve: dict[str, int]
    signatures: tuple[str, ...]
    departments: tuple[str, ...] = ("",)


SITES = {  # modelled on the talk's three, and named so that nobody takes them for these
    "NIH-like": Site({"No pneumonia": 560, "Pneumonia": 49}, {"Pneumonia": 91}, ("A",)),
    "MSH-like": Site(
        {"No pneumonia": 325, "Pneumonia": 175},
        {"No pneumonia": 275},
        ("portable-inpatient", "portable-ED"),
        tuple(DEPARTMENTS),
    ),
    "IU-like": Site({"No pneumonia": 265, "Pneumonia": 23}, {"Pneumonia": 37}, ("C",)),
}
BODIES = sum(sum(part.values()) for site in SITES.values() for part in (site.natural, site.reserve))


def signature_of(name: str) -> Signature:
    """A signature by its name: a hospital's, one of the departments', or the neutral one."""
    known = SIGNATURES | {signature.name: signature for signature in (NEUTRAL, *DEPARTMENTS.values())}
    return known[name]


def plan_sites(*, bodies: int, seed: int) -> pd.DataFrame:
    """About `bodies` radiographs of adults at three hospitals, each twice: with its hospital's signature and neutral.

    Every patient stands before the same beam (AP), and age, build, breath and disease are drawn alike everywhere: with
    the signature off nothing but the share of pneumonia tells the hospitals apart. Prevalence is the same in the two
    departments. Columns as a catalogue's, with body (the image that both rows show), markers (on, off), department,
    cohort (natural, or reserve) and what drawing needs.
    """
    rng, rows, groups = rng_of(seed, 3), [], []
    for site, counts in SITES.items():
        for cohort, wanted in (("natural", counts.natural), ("reserve", counts.reserve)):
            for label, count in wanted.items():
                groups += _patients(site, label, cohort, round(count * bodies / BODIES), rng)
    numbers = rng.choice(9_900_000, len(groups), replace=False) + 10_000
    for group, number in zip(groups, numbers, strict=True):
        rows += _patient(*group, int(number), seed)
    return pd.DataFrame(rows)


def _patients(
    site: str, label: str, cohort: str, count: int, rng: np.random.Generator
) -> list[tuple[str, str, str, str, int]]:
    """Patients until there are `count` images; a share of them, in the drawn order, is for testing."""
    sizes = []
    while count > 0:
        sizes.append(min(count, 1 + int(rng.choice(len(IMAGES_A_PATIENT), p=IMAGES_A_PATIENT))))
        count -= sizes[-1]
    tested = round(TEST_SHARE * len(sizes))
    if len(sizes) > 1:
        tested = min(max(tested, 1), len(sizes) - 1)
    return [(site, label, cohort, "test" if k < tested else "train", n) for k, n in enumerate(sizes)]


def _patient(site: str, label: str, cohort: str, split: str, images: int, number: int, seed: int) -> Iterator[dict]:
    rng = rng_of(seed, number, 0, 6)
    severity, quality = SUBTLE + (1 - SUBTLE) * rng.beta(*GRAVITY), rng.beta(*QUALITY)
    age = round(float(np.clip(rng.normal(*ADULTS), 18, 92)), 1)
    other = str(rng.choice(OTHERS)) if rng.random() < OTHER_SHARE else "NORMAL"
    finding = "Pneumonia" if label == "Pneumonia" else other
    department = int(rng.integers(len(SITES[site].departments)))
    for n in range(1, images + 1):
        body = f"{site}-{number}-{n}"
        truth = {
            "label": label,
            "patient_id": f"{site}-{number}",
            "published_split": split,
            "site": site,
            "view": "AP",
            "mask": f"masks/{body}.png",
            "lung_mask": f"lungs/{body}.png",
            "severity": np.nan if finding == "NORMAL" else round(float(severity), 4),
            "quality": round(float(np.clip(quality + rng.normal(0, 0.06), 0, 1)), 4),
            "age": age,
            "findings": finding,
            "body": body,
            "department": SITES[site].departments[department],
            "cohort": cohort,
            "number": n,
            "patient": number,
            "width": SIZE,
            "height": SIZE,
        }
        for markers in MARKERS:
            shown = SITES[site].signatures[department] if markers == "on" else NEUTRAL.name
            name = f"{body}-{markers}"
            yield {"image_id": name, "path": f"{markers}/{name}.jpeg", "markers": markers, "signature": shown, **truth}
