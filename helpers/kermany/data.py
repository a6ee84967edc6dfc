"""Kermany's data sets, OCT B-scans and children's chest X-rays: phantoms or real; counts for figure 2B and table S1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from helpers.data import kermany_images, medmnist
from helpers.data.catalogue import Catalogue, sizes_of
from helpers.data.scan import Place
from helpers.data.splits import SPLITS, Split, hold_out, split
from helpers.run.paths import CACHE

TOLERANCE = 0.01  # of a class's training images: the archives lack one per class, and a few files may be unreadable
LAYOUTS = {"celldata": "version 3", "oct2017": "version 2"}  # folders of the archives
URGENT = ("CNV", "DME")  # referral: urgent for these, routine for DRUSEN, observation for NORMAL
HELD_OUT_FRACTION = 0.1  # of the X-ray training patients, to be compared with the test folder


def load_oct(settings) -> Catalogue:
    """The OCT B-scans: phantoms are made where they are not there yet, real ones are looked for."""
    if settings.oct_source == "phantom_oct":
        from helpers.phantoms.oct import OCT

        how = {"train": settings.phantom_oct_train, "test_per_class": settings.phantom_oct_test_per_class}
        return OCT.load(CACHE, settings.workers, seed=settings.seed, **how)
    if medmnist.is_medmnist(settings.oct_source):
        return medmnist.load(settings.oct_source, settings.data_dir, CACHE, settings.workers)
    return kermany_images.load_oct(settings.data_dir, CACHE, settings.workers)


def split_oct(catalogue: Catalogue, settings) -> Split:
    """A share of the training patients of each class is for validation."""
    return split(catalogue, settings.split, settings.validation_fraction, settings.seed)


def describe_oct(catalogue: Catalogue) -> tuple[bool, str]:
    """Whether these are the published images, and a sentence for reports that says what they are.

    True where the test folder has exactly the published images of each class, and the train folder those of the paper
    or of a version of the archive, within `TOLERANCE` of each class.
    """
    if medmnist.is_medmnist(catalogue.name):
        return medmnist.describe(catalogue)
    paper = kermany_images.OCT_COUNTS["images"]
    return _describe(catalogue, paper, {"as the paper counts": paper["train"], **kermany_images.OCT_ARCHIVES})


def places_oct(settings) -> tuple[Place, ...]:
    """Where the images are read from, unless they are drawn."""
    return _places(settings.oct_source, kermany_images.OCT)


def load_xray(settings) -> Catalogue:
    """The pneumonia radiographs: NORMAL, BACTERIA, VIRUS, or of PneumoniaMNIST NORMAL and PNEUMONIA."""
    if settings.xray_source == "phantom_chest":
        from helpers.phantoms.chest_plans import PNEUMONIA

        counts = {"train": settings.phantom_xray_train, "test": settings.phantom_xray_test}
        return PNEUMONIA.load(CACHE, settings.workers, seed=settings.seed, **counts)
    if medmnist.is_medmnist(settings.xray_source):
        return medmnist.load(settings.xray_source, settings.data_dir, CACHE, settings.workers)
    return kermany_images.load_xray(settings.data_dir, CACHE, settings.workers)


def split_xray(catalogue: Catalogue, settings) -> Split:
    """As `split_oct`; a further part of the training patients is "held-out", to be compared with the test folder."""
    made = split(catalogue, settings.split, settings.validation_fraction, settings.seed)
    return replace(made, frame=hold_out(made.frame, HELD_OUT_FRACTION, settings.seed))


def describe_xray(catalogue: Catalogue) -> tuple[bool, str]:
    """As `describe_oct`."""
    if medmnist.is_medmnist(catalogue.name):
        return medmnist.describe(catalogue)
    paper = kermany_images.XRAY_COUNTS["images"]
    restarts = catalogue.frame["patient_id"].str.contains("/").any()
    return _describe(catalogue, paper, {f"named as in version {2 if restarts else 3}": paper["train"]})


def places_xray(settings) -> tuple[Place, ...]:
    """As `places_oct`."""
    return _places(settings.xray_source, kermany_images.XRAY)


def _places(source: str, place: Place) -> tuple[Place, ...]:
    if medmnist.is_medmnist(source):
        return (medmnist.place_of(source),)
    return () if source.startswith("phantom") else (place,)


def _describe(catalogue: Catalogue, paper: Mapping[str, Mapping], versions: Mapping[str, Mapping]) -> tuple[bool, str]:
    published, sizes = catalogue.frame["published_split"], sizes_of(catalogue)
    train, test = (catalogue.frame.loc[published == part, "label"].value_counts() for part in ("train", "test"))
    totals = f"{sum(paper['train'].values()):,} and {sum(paper['test'].values()):,}"
    near = {}  # versions that these may be: how many images they differ by
    for name, counts in versions.items():
        gaps = {label: abs(train.get(label, 0) - n) for label, n in counts.items()}
        if all(gap <= TOLERANCE * counts[label] for label, gap in gaps.items()):
            near[name] = sum(gaps.values())
    folders = {part.strip().lower() for part in catalogue.root.parts}
    laid_out = [f"laid out as {version}" for folder, version in LAYOUTS.items() if folder in folders]
    named = [*laid_out[:1], ""] if len(versions) > 1 else list(versions)
    which = f" ({name})" if (name := min(near, key=near.get, default=named[0])) else ""
    if near and test.to_dict() == paper["test"]:
        return True, f"The published images{which}: {sizes}; the paper prints {totals}."
    without_val = len(versions) > 1 and set(test) == {kermany_images.OCT_TEST_WITHOUT_VAL}
    other = " Its test folder is that of the copy of version 2 that has a folder val, which is not here."
    if near and without_val and "version 2" not in which:
        other = " TWO VERSIONS: its training folder, and the test folder of a copy of version 2."
    return False, f"A subset or variant{which}: {sizes} of the published {totals}.{other if without_val else ''}"


# --- what the OCT labels call for ---


def is_urgent(labels: Any) -> np.ndarray:
    """True for each label that calls for urgent referral (CNV, DME)."""
    return np.isin(np.asarray(labels, dtype=str), URGENT)


def urgent_score(scores: pd.DataFrame) -> np.ndarray:
    """The probability of urgent referral, p_CNV + p_DME, for each row of a scores frame.

    STAR Methods: "ROC curves were generated using classification probabilities of urgent referral versus otherwise".
    """
    return scores[[f"p_{name}" for name in URGENT]].sum(axis=1, skipna=False).to_numpy()


# --- figure 2B and table S1 ---


def flow_boxes(catalogue: Catalogue, split: Split) -> tuple[list[tuple[str, str]], dict[int, str]]:
    """Figure 2B's boxes, (title, counts) from top to bottom, and what left after each, by place."""
    frame = split.frame
    found = len(catalogue) + len(catalogue.excluded)
    parts = {name: frame[frame["split"] == name] for name in SPLITS}
    boxes = [
        ("Images found", f"{found:,} images"),
        (
            f"Readable images with a label{' and a patient' if catalogue.patients_known else ''}",
            _count(catalogue, catalogue.frame),
        ),
        (f"Used: {split.kind} split", _count(catalogue, frame)),
        ("Training", _classes(catalogue, parts["train"])),
        ("Validation: models and steps are chosen here", _classes(catalogue, parts["validation"])),
        ("Test: looked at once", _classes(catalogue, parts["test"])),
    ]
    aside = {
        0: f"set aside: {len(catalogue.excluded):,} unreadable or misnamed",
        1: f"dropped: {len(split.dropped):,} training images\nwhose patient or file is in the test folder",
    }
    return boxes, aside


def patient_characteristics(catalogue: Catalogue) -> pd.DataFrame:
    """Table S1 as far as the data have it: patients, images and images per patient, by published split and class.

    The paper's table has more (Results: "Patient characteristics for each diagnosis category are listed in Table S1"),
    but the public files carry neither age nor sex.
    """
    rows = []
    for (name, label), part in catalogue.frame.groupby(["published_split", "label"]):
        sizes = part.groupby("patient_id").size()
        spread = f"{sizes.median():g} ({sizes.min()} to {sizes.max()})"
        rows.append((name, label, len(sizes), len(part), spread))
    columns = ["split", "class", "patients", "images", "images a patient: median (range)"]
    table = pd.DataFrame(rows, columns=columns)
    table = table if catalogue.patients_known else table.drop(columns=["patients", columns[-1]])
    return table.sort_values(["split", "class"], ascending=[False, True], ignore_index=True)


def _count(catalogue: Catalogue, frame: pd.DataFrame) -> str:
    patients = f"{frame['patient_id'].nunique():,}" if catalogue.patients_known else "unnamed"
    return f"{len(frame):,} images of {patients} patients"


def _classes(catalogue: Catalogue, frame: pd.DataFrame) -> str:
    counts = frame["label"].value_counts()
    parts = ", ".join(f"{counts.get(name, 0):,} {name}" for name in catalogue.classes)
    return f"{_count(catalogue, frame)}\n{parts}"
