"""Phantom chest radiographs as data sets: who has which disease, at which hospital, on how many images.

Card. What: grey JPEG of 192 x 192 pixels (`REGIONS`: 512 x 512) with a lesion mask and a lung mask each, and a table of
the truth, `phantom.csv`; drawn by `helpers.phantoms.chest`. The sets and their settings (and `seed`):
    `PNEUMONIA` (`train`, `test` images): children of one to five, named and shared out as Kermany et al. 2018. As with
    that archive, the test folder is not like the training folder: a softer contrast curve, a tighter crop, more noise
    and blur (signature A2 instead of A), so held-out training images score better than test images.
    `VIEWS` (`train`, `test`, `public` images): adults, frontal (PA, AP) and lateral, from one hospital and, for testing
    only, from a public collection, after Rajkomar et al. 2017. Some patients are rotated, obese or badly framed.
    `COVID` (`train`, `test` subjects per class), after Carr 2020: COVID-19 comes from adults of one hospital (site B),
    all else from children of another (site A), so disease, age and hospital say the same. Beside those images lie what
    the poster could not have: COVID-19 in children at A, the other classes in adults at B, so that a control for
    confounding can be shown to work.
    `NIH` (`images`, `test_share` of the patients, `label_noise`), after ChestX-ray14: adults with up to fourteen
    findings, several follow-ups each. `findings` is what was drawn, `labels` what a program read out of the report.
    The more findings, the likelier a portable (AP) image. Zech 2018: "70% train, 10% tune, 20% test".
    `SITES` (`bodies`), after Zech 2018: three hospitals, every body twice, with its hospital's signature and with a
    neutral one. Age, build, view and disease are drawn alike everywhere: a real hospital differs in its patients too.
    `REGIONS` (`images`): a nodule 11 to 20 pixels wide at the right apex, or none. Zech 2018 sets "whole-image, low-res
    classification" against "domain adapted approaches", which know or find the region; here it is known.
Patients: no patient in two folders; all images of a patient show the same body and disease.
Limits: few pixels beside a radiograph's 2,000 a side; patients differ less than people; findings are simple drawings.
Licence: the project's. Made, not measured: no result on it is evidence about patients.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from helpers.phantoms import store
from helpers.phantoms.chest import SIZE, draw
from helpers.phantoms.store import PhantomSet, draw_truth, image_row, numbered, rng_of, share_out, sizes, vary

IMAGES = (0.48, 0.26, 0.14, 0.08, 0.04)  # chance of 1, 2, 3 ... images per patient
CHILD = (1.0, 5.0)  # years: 'pediatric patients of one to five years old'


def _row(folder: str, name: str, patient: object, split: str, **truth: object) -> dict:
    """One image: its files, and the truth about it."""
    shown = {"number": 1, "width": SIZE, "height": SIZE} | truth
    return image_row(folder, name, patient, split, {"mask": "masks", "lung_mask": "lungs"}, **shown)


def _age(rng: np.random.Generator, mean: float, deviation: float, least: float = 18) -> float:
    """An adult's years."""
    return round(float(np.clip(rng.normal(mean, deviation), least, 92)), 1)


# Pneumonia. Kermany 2018: 'a total of 5,232 chest X-ray images from children ... 3,883 characterized as depicting
# pneumonia (2,538 bacterial and 1,345 viral) and 1,349 normal ... The model was then tested with 234 normal images and
# 390 pneumonia images (242 bacterial and 148 viral)'.
SHARES = {
    "train": {"NORMAL": 1_349, "BACTERIA": 2_538, "VIRUS": 1_345},
    "test": {"NORMAL": 234, "BACTERIA": 242, "VIRUS": 148},
}
NAMES = {"NORMAL": "IM-{:07d}-{:04d}", "BACTERIA": "person{}_bacteria_{}", "VIRUS": "person{}_virus_{}"}
SIGNATURE = {"train": "A", "test": "A2"}  # the test folder was processed in another way
PORTABLE = 0.12  # share of children whose images came from a portable device


def plan_pneumonia(*, train: int, test: int, seed: int) -> pd.DataFrame:
    """Children with and without pneumonia, as many per class as the published proportions say, at least one each."""
    rng, groups = rng_of(seed, 1), []
    for split, total in (("train", train), ("test", test)):
        counts = share_out(total, SHARES[split], "BACTERIA")
        groups += [(split, label, n) for label, count in counts.items() for n in sizes(count, IMAGES, rng)]
    rows: list[dict] = []
    for split, label, images, number in numbered(groups, rng):
        own, severity, quality = draw_truth(seed, number)
        shown = {"age": round(own.uniform(*CHILD), 1), "site": "A", "view": "AP", "signature": SIGNATURE[split]}
        if own.random() < PORTABLE:
            shown["signature"] = "portable"
        folder = f"{split}/{'NORMAL' if label == 'NORMAL' else 'PNEUMONIA'}"
        for n in range(1, images + 1):
            level = np.nan if label == "NORMAL" else vary(severity, own)
            truth = {"label": label, "findings": label, "severity": level, "quality": vary(quality, own), "number": n}
            rows.append(_row(folder, NAMES[label].format(number, n), number, split, **truth, **shown))
    return pd.DataFrame(rows)


# Views
FRONTAL = 0.55  # share of frontal images (Rajkomar 2017 trained on about as many of each)
PAIRED = 0.8  # share of lateral images whose patient has a frontal one too
BEDSIDE = 0.35  # share of the other frontal images that are AP
HARD = 0.5  # share of patients who are rotated, obese, badly exposed or badly framed
ILL = 0.45  # share of adults with a finding
ADULT_FINDINGS = ("Consolidation", "Effusion", "Cardiomegaly", "Emphysema", "Mass", "Nodule", "Edema", "COVID-19")
OWN = {"hospital": ("A", "B"), "public": ("C",)}  # signatures of PA and lateral images; AP ones are portable


def plan_views(*, train: int, test: int, public: int, seed: int) -> pd.DataFrame:
    """Adults from the front and from the side, at one hospital and in a public collection from elsewhere."""
    rng, groups = rng_of(seed, 2), []
    for split, site, count in (("train", "hospital", train), ("test", "hospital", test), ("test", "public", public)):
        groups += [(split, site, views) for views in _studies(count, rng)]
    return pd.DataFrame(row for group in numbered(groups, rng) for row in _adult(*group, seed))


def _studies(images: int, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """The views of each patient, `images` in all."""
    frontal = round(FRONTAL * images)
    pairs = min(round(PAIRED * (images - frontal)), frontal)
    yield from [("PA", "lateral")] * pairs + [("lateral",)] * (images - frontal - pairs)
    for _ in range(frontal - pairs):
        yield ("AP",) if rng.random() < BEDSIDE else ("PA",)


def _adult(split: str, site: str, views: tuple[str, ...], number: int, seed: int) -> Iterator[dict]:
    rng, severity, quality = draw_truth(seed, number)
    age, ill, which = _age(rng, 55, 18), rng.random() < ILL, str(rng.choice(ADULT_FINDINGS))
    hard, how = rng.random() < HARD, rng.uniform(0.3, 1)
    own = str(rng.choice(OWN[site]))
    for n, view in enumerate(views, 1):
        label = "lateral" if view == "lateral" else "frontal"
        truth = {"severity": vary(severity, rng) if ill else np.nan, "quality": vary(quality, rng), "age": age}
        truth |= {"label": label, "site": site, "view": view, "signature": "portable" if view == "AP" else own}
        truth |= {"findings": which if ill else "NORMAL", "hard": round(float(how), 3) if hard else 0.0, "number": n}
        yield _row(f"{split}/{site}/{label}", f"{site}-{number}-{n}", number, split, **truth)


# COVID-19
COVID_CLASSES = (*NAMES, "COVID-19")
AT = {"A": {"site": "A", "view": "AP", "signature": "A"}, "B": {"site": "B", "view": "PA", "signature": "B"}}
COUNTERPART = 0.5  # images of the other pairs of class and site, of those of the poster's pairs


def plan_covid(*, train: int, test: int, seed: int) -> pd.DataFrame:
    """`train` and `test` subjects per class, one image each, and `COUNTERPART` as many of it at the other site."""
    cells = []
    for label in COVID_CLASSES:
        for site in AT:
            share = 1.0 if (label == "COVID-19") == (site == "B") else COUNTERPART
            cells += [(label, site, "train")] * round(share * train) + [(label, site, "test")] * round(share * test)
    rows: list[dict] = []
    for label, site, split, number in numbered(cells, rng_of(seed, 4)):
        rng, severity, quality = draw_truth(seed, number)
        age = round(rng.uniform(*CHILD), 1) if site == "A" else _age(rng, 58, 14, 20)
        level = np.nan if label == "NORMAL" else round(severity, 4)
        truth = {"label": label, "findings": label, "severity": level, "quality": round(quality, 4), "age": age}
        rows.append(_row(f"{split}/{label}", f"{site}-{label}-{number}", number, split, **truth, **AT[site]))
    return pd.DataFrame(rows)


# ChestX-ray14
NONE = "No Finding"
REAL_TOTAL = 112_120
# Of each label, in the order of Zech's table, how many images have it (Wang et al. 2017, as Data_Entry_2017 has them),
# and the mean severity at which it is drawn: some findings are plain and some hard to see, so that AUROCs differ.
LABELS = {
    "Atelectasis": (11_559, 0.65), "Cardiomegaly": (2_776, 0.55), "Effusion": (13_317, 0.50),
    "Infiltration": (19_894, 0.65), "Mass": (5_782, 0.75), "Nodule": (6_331, 0.80), "Pneumonia": (1_431, 0.65),
    "Pneumothorax": (5_302, 0.50), "Consolidation": (4_667, 0.40), "Edema": (2_303, 0.70), "Emphysema": (2_516, 0.50),
    "Fibrosis": (1_686, 0.60), "Pleural_Thickening": (3_385, 0.60), "Hernia": (227, 0.65),
}  # fmt: skip
# The rarest real label would have three images in a phantom data set of 1,500. So prevalences are the real ones' square
# roots, times this, and no less than that: their order stays, and every label has positives to test on.
FACTOR, LEAST = 0.42, 0.08
PREVALENCE = {label: max(LEAST, FACTOR * float(np.sqrt(n / REAL_TOTAL))) for label, (n, _) in LABELS.items()}
SPREAD = 5.0  # of a label's severities: the sum of a beta distribution's two parameters
LASTING = ("Cardiomegaly", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia", "Mass", "Nodule")
STAYS = 0.7  # chance that the findings that do not last are there on a follow-up
FOLLOW_UPS = (0.45, 0.25, 0.15, 0.10, 0.05)  # chance of 1, 2, 3 ... images per patient; the real mean is 3.6
CARRIED, SICKER = 0.22, 0.12  # chance of AP without a finding, and what each finding adds: the sick are not carried
MOST_BEDSIDE = 0.7


def plan_nih(*, images: int, seed: int, test_share: float, label_noise: float) -> pd.DataFrame:
    """`test_share` of the patients are the published test set. `label_noise` is the chance that a finding's label is
    missing; a label without its finding is as frequent, so that prevalences stay.
    """
    rng = rng_of(seed, 14)
    counts = list(sizes(images, FOLLOW_UPS, rng))
    tested = set(rng.permutation(len(counts))[: round(test_share * len(counts))].tolist())
    splits = ["test" if k in tested else "train" for k in range(len(counts))]
    patients = enumerate(zip(counts, splits, strict=True), start=1)
    return pd.DataFrame(row for n, (count, split) in patients for row in _labelled(n, count, split, seed, label_noise))


def _labelled(patient: int, images: int, split: str, seed: int, noise: float) -> Iterator[dict]:
    rng = rng_of(seed, 14, patient)
    drawn = {label: rng.random() < share for label, share in PREVALENCE.items()}
    level = {label: rng.beta(SPREAD * mean, SPREAD * (1 - mean)) for label, (_, mean) in LABELS.items()}
    # Lasting ones first: a finding's drawing follows from its place in the list, and is to be the same on all images.
    lasting = [label for label in LASTING if drawn[label]]
    passing = [label for label in LABELS if drawn[label] and label not in LASTING]
    age, quality = _age(rng, 50, 16), rng.beta(*store.QUALITY)
    for visit in range(images):
        there = lasting + (passing if visit == 0 or rng.random() < STAYS else [])
        bedside = rng.random() < min(CARRIED + SICKER * len(there), MOST_BEDSIDE)
        truth = {"site": "A", "signature": "portable" if bedside else "A", "view": "AP" if bedside else "PA"}
        truth |= {"quality": vary(quality, rng), "age": round(age + visit / 2, 1), "number": visit + 1}
        truth |= {"findings": "|".join(there) or "NORMAL", "severity": max((level[x] for x in there), default=np.nan)}
        truth |= {"severities": "|".join(f"{level[x]:.4f}" for x in there) or "0"}
        labels = _reported(there, noise, rng)
        truth |= {"labels": labels, "label": NONE if labels == NONE else "Finding"}
        name = f"{patient:08d}_{visit:03d}"
        yield _row("images", name, patient, split, **truth) | {"image_id": f"{name}.jpeg"}


def _reported(there: list[str], noise: float, rng: np.random.Generator) -> str:
    """What a program finds in the report of an image: some labels are missing, some are not its own."""
    labels = []
    for (label, share), chance in zip(PREVALENCE.items(), rng.random(len(PREVALENCE)), strict=True):
        wrong = chance < noise * (1.0 if label in there else share / (1 - share))
        if (label in there) != wrong:
            labels.append(label)
    return "|".join(labels) or NONE


# Hospitals. Zech 2018 (talk) had 112,120 images of NIH and 48,915 files of Mount Sinai; the sensitivities,
# specificities and accuracies of its table 3 imply that about 1, 36 and 1 % of the test images showed pneumonia. With
# 1 % a set that is drawn in a minute would have no positives to speak of, so here it is 8, 35 and 8 %.
TEST_SHARE = 0.4  # of the patients of each hospital and label: an interval needs many test images
OTHERS = ("Cardiomegaly", "Effusion", "Nodule", "Emphysema", "Atelectasis", "Fibrosis", "Pleural_Thickening")
OTHER_SHARE = 0.4  # of patients without pneumonia who have another finding: a hospital's images are not of the healthy
PLAINLY = 0.7  # the least severity at the hospitals


# Hospital (modelled on the talk's three, and named so that nobody takes them for these), cohort (natural, or in reserve
# for sets that are engineered to another prevalence), and how many of 1,800 bodies have no pneumonia, and have it.
COHORTS = (
    ("NIH-like", "natural", 560, 49),
    ("NIH-like", "reserve", 0, 91),
    ("MSH-like", "natural", 325, 175),
    ("MSH-like", "reserve", 275, 0),
    ("IU-like", "natural", 265, 23),
    ("IU-like", "reserve", 0, 37),
)
BODIES = sum(well + ill for _, _, well, ill in COHORTS)
DEPARTMENTS = {  # and their signatures; one hospital's two scanners differ, "inpatient vs. ED"
    "NIH-like": (("", "A"),),
    "MSH-like": (("inpatient", "portable-inpatient"), ("ED", "portable-ED")),
    "IU-like": (("", "C"),),
}


def plan_sites(*, bodies: int, seed: int) -> pd.DataFrame:
    """About `bodies` radiographs of adults at three hospitals, each twice: with its hospital's signature and neutral.

    With the signature off the hospitals differ only in their share of pneumonia. Columns as a catalogue's, with
    body (the image that both rows show), markers (on, off), department and cohort (natural, or reserve).
    """
    rng, groups = rng_of(seed, 3), []
    for site, cohort, *counts in COHORTS:
        for label, count in zip(("No pneumonia", "Pneumonia"), counts, strict=True):
            images = list(sizes(round(count * bodies / BODIES), IMAGES, rng))
            tested = min(max(round(TEST_SHARE * len(images)), 1), len(images) - 1)
            groups += [(site, cohort, label, "test" if k < tested else "train", n) for k, n in enumerate(images)]
    return pd.DataFrame(row for group in numbered(groups, rng) for row in _at_hospital(*group, seed))


def _at_hospital(site: str, cohort: str, label: str, split: str, images: int, number: int, seed: int) -> Iterator[dict]:
    rng = rng_of(seed, number, 0, 6)
    severity, quality = PLAINLY + (1 - PLAINLY) * rng.beta(*store.GRAVITY), rng.beta(*store.QUALITY)
    age = _age(rng, 55, 18)
    other = str(rng.choice(OTHERS)) if rng.random() < OTHER_SHARE else "NORMAL"
    finding = "Pneumonia" if label == "Pneumonia" else other
    department, signature = DEPARTMENTS[site][int(rng.integers(len(DEPARTMENTS[site])))]
    level = np.nan if finding == "NORMAL" else round(severity, 4)
    truth = {"label": label, "site": site, "view": "AP", "severity": level, "age": age, "findings": finding}
    truth |= {"department": department, "cohort": cohort}
    for n in range(1, images + 1):
        body = f"{site}-{number}-{n}"
        own = {"body": body, "quality": vary(quality, rng), "number": n}
        for markers, shown in (("on", signature), ("off", "neutral")):
            row = _row(markers, f"{body}-{markers}", f"{site}-{number}", split, **truth, **own)
            masks = {"mask": f"masks/{body}.png", "lung_mask": f"lungs/{body}.png"}  # of both
            yield row | masks | {"markers": markers, "signature": shown}


# Regions
REGION_SIZE = 512  # pixels per side
ELSEWHERE = ("Cardiomegaly", "Effusion", "Emphysema", "Atelectasis")  # findings elsewhere in the chest


def plan_regions(*, images: int, seed: int) -> pd.DataFrame:
    """Every second image has a nodule at the apex; the classes differ only in the nodule."""
    rows = []
    for k, number in numbered([(k,) for k in range(images)], rng_of(seed, 4)):
        rng = rng_of(seed, number, 0, 6)
        other = str(rng.choice(ELSEWHERE)) if rng.random() < OTHER_SHARE else "NORMAL"
        truth = {"severity": round(rng.random(), 4), "quality": round(rng.beta(6, 1.8), 4), "age": _age(rng, 55, 18)}
        label, findings = ("No nodule", other) if k % 2 else ("Nodule", f"{other}|Apical nodule")
        truth |= {"label": label, "findings": findings, "view": "AP", "signature": "neutral"}
        truth |= {"width": REGION_SIZE, "height": REGION_SIZE}
        split = "test" if k // 2 < round(TEST_SHARE * images / 2) else "train"
        rows.append(_row("images", f"region-{number}", number, split, **truth))
    return pd.DataFrame(rows)


PNEUMONIA = PhantomSet("phantom_pneumonia", tuple(SHARES["train"]), plan_pneumonia, draw)
VIEWS = PhantomSet("phantom_views", ("frontal", "lateral"), plan_views, draw)
COVID = PhantomSet("phantom_covid", COVID_CLASSES, plan_covid, draw)
NIH = PhantomSet("phantom_nih", (NONE, "Finding"), plan_nih, draw)
SITES = PhantomSet("phantom_sites", ("Pneumonia", "No pneumonia"), plan_sites, draw)
REGIONS = PhantomSet("phantom_regions", ("Nodule", "No nodule"), plan_regions, draw)
