"""Kermany's data sets, OCT B-scans and children's chest X-rays: phantoms, real ones, or MedMNIST's copies of those.

At the end, counts for figure 2B and table S1. MedMNIST's copies, OCTMNIST and PneumoniaMNIST, are cropped, shrunk, and
without patients:

Citation: Yang et al., "MedMNIST v2 - A large-scale lightweight benchmark for 2D and 3D biomedical image
    classification", Scientific Data 10 (2023); the larger sizes are MedMNIST+. Data: Zenodo, doi
    10.5281/zenodo.10519652. The images are those of Kermany et al. 2018.
Licence: CC BY 4.0.
How to get it: `make data PROFILE=medmnist`, or put the .npz files into DATA_DIR (the package `medmnist` keeps them in
    `~/.medmnist`).

Size: one file per data set and size, `octmnist.npz` (28 pixels a side), `octmnist_64.npz`, `octmnist_128.npz`,
    `octmnist_224.npz`, and `pneumoniamnist` likewise. OCTMNIST has 97,477 training, 10,832 validation and 1,000 test
    images, PneumoniaMNIST 4,708, 524 and 624.
Images: the largest centred square of each original, shrunk, grey. In the file: the arrays `train_images`,
    `val_images`, `test_images`, uint8 (n, size, size), and `train_labels`, `val_labels`, `test_labels`, (n, 1).
Labels: 0 CNV, 1 DME, 2 drusen, 3 normal; 0 normal, 1 pneumonia. Bacterial and viral pneumonia are not distinguished.
Split: the published training folder in 9 : 1, the smaller part for validation; the published test folder for test.
Patients: none is named, so each image stands for a patient of its own. Kermany's training and test folders share
    patients, and MedMNIST drew its validation images from the training folder: no split of these files is known to be
    patient-disjoint, and intervals by patient are intervals by image.
"""

from __future__ import annotations

import functools
import math
import shutil
import sys
import tomllib
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock
from PIL import Image
from tqdm import tqdm

from helpers.data import kermany_images
from helpers.data.catalogue import Catalogue, CatalogueError, sizes_of
from helpers.data.masks import LUNGS, folders_of
from helpers.data.scan import Place, catalogue_of, scan
from helpers.data.splits import SPLITS, Split, hold_out, split
from helpers.run.cache import file_digest
from helpers.run.paths import CACHE, ROOT

TOLERANCE = 0.01  # of a class's training images: the archives lack one per class, and a few files may be unreadable
LAYOUTS = {"celldata": "version 3", "oct2017": "version 2"}  # folders of the archives
URGENT = ("CNV", "DME")  # referral: urgent for these, routine for DRUSEN, observation for NORMAL
folders_lungs = folders_of("xray_source", LUNGS)  # which notebook 07 reads
HELD_OUT_FRACTION = 0.1  # of the X-ray training patients, to be compared with the test folder
MEDMNIST = {"octmnist": ("CNV", "DME", "DRUSEN", "NORMAL"), "pneumoniamnist": ("NORMAL", "PNEUMONIA")}
TITLES = {"octmnist": ("OCTMNIST", "B-scans"), "pneumoniamnist": ("PneumoniaMNIST", "radiographs")}
SIZES = (28, 64, 128, 224)  # pixels a side, as published
PARTS = {"train": "train", "val": "train", "test": "test"}  # MedMNIST's part: published split of the original
PIECE = 1 << 24  # bytes of an array in memory at a time: the largest file holds 5 GB
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def load_oct(settings) -> Catalogue:
    """The OCT B-scans: phantoms, drawn when first needed, or the images found in `data_dir`."""
    if settings.oct_source == "phantom_oct":
        from helpers.phantoms.oct import OCT

        how = {"train": settings.phantom_oct_train, "test_per_class": settings.phantom_oct_test_per_class}
        return OCT.load(CACHE, settings.workers, seed=settings.seed, **how)
    return _load_real(settings.oct_source, kermany_images.load_oct, settings)


def split_oct(catalogue: Catalogue, settings) -> Split:
    """A share of the training patients of each class is for validation."""
    return split(catalogue, settings.split, settings.validation_fraction, settings.seed)


def describe_oct(catalogue: Catalogue) -> tuple[bool, str]:
    """Whether these are the published images, and a sentence for reports that says what they are.

    True where the test folder has exactly the published images of each class, and the train folder those of the paper
    or of a version of the archive, within `TOLERANCE` of each class.
    """
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
    return _load_real(settings.xray_source, kermany_images.load_xray, settings)


def split_xray(catalogue: Catalogue, settings) -> Split:
    """As `split_oct`; a further part of the training patients is "held-out", to be compared with the test folder."""
    made = split(catalogue, settings.split, settings.validation_fraction, settings.seed)
    return replace(made, frame=hold_out(made.frame, HELD_OUT_FRACTION, settings.seed))


def describe_xray(catalogue: Catalogue) -> tuple[bool, str]:
    """As `describe_oct`."""
    paper = kermany_images.XRAY_COUNTS["images"]
    restarts = catalogue.frame["patient_id"].str.contains("/").any()
    return _describe(catalogue, paper, {f"named as in version {2 if restarts else 3}": paper["train"]})


def places_xray(settings) -> tuple[Place, ...]:
    """As `places_oct`."""
    return _places(settings.xray_source, kermany_images.XRAY)


def _load_real(source: str, load: Callable[..., Catalogue], settings) -> Catalogue:
    if is_medmnist(source):
        return load_medmnist(source, settings.data_dir, CACHE, settings.workers)
    return load(settings.data_dir, CACHE, settings.workers)


def _places(source: str, place: Place) -> tuple[Place, ...]:
    if is_medmnist(source):
        return (_medmnist_place(source),)
    return () if source.startswith("phantom") else (place,)


def _describe(catalogue: Catalogue, paper: Mapping[str, Mapping], versions: Mapping[str, Mapping]) -> tuple[bool, str]:
    if is_medmnist(catalogue.name):
        return _describe_medmnist(catalogue)
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
    found, patient = len(catalogue) + len(catalogue.excluded), " and a patient" if catalogue.patients_known else ""
    parts = {name: frame[frame["split"] == name] for name in SPLITS}
    boxes = [
        ("Images found", f"{found:,} images"),
        (f"Readable images with a label{patient}", _count(catalogue, catalogue.frame)),
        (f"Used: {split.kind} split", _count(catalogue, frame)),
        ("Training", _classes(catalogue, parts["train"])),
        ("Validation: chooses the step", _classes(catalogue, parts["validation"])),
        ("Test: chooses nothing", _classes(catalogue, parts["test"])),
    ]
    aside = {
        0: f"set aside: {len(catalogue.excluded):,} unreadable or misnamed",
        1: f"dropped: {len(split.dropped):,} training images whose\npatient or file is in the test folder",
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
    parts = [f"{counts.get(name, 0):,} {name if name in URGENT else name.lower()}" for name in catalogue.classes]
    return "\n".join([_count(catalogue, frame), ", ".join(parts[:2]), ", ".join(parts[2:])])


# --- MedMNIST's copies ---


def is_medmnist(source: str) -> bool:
    """Whether a source's name is one of MedMNIST's copies: "octmnist", "octmnist_28", "pneumoniamnist_224", ..."""
    return source.split("_")[0] in MEDMNIST


def _medmnist_place(source: str) -> Place:
    """Where a source's file lies: of its size, or of any where it names none; of 28 pixels where it must be fetched."""
    sizes = [source] if "_" in source else [f"{source}_{size}" for size in SIZES]
    names = tuple(f"{one.removesuffix('_28')}.npz" for one in sizes)  # as published: the smallest has none in its name
    remedy, card = "Get it with: make data PROFILE=medmnist", names[0].removesuffix(".npz")
    return Place(TITLES[source.split("_")[0]][0], names, names, " or ".join(names), remedy, cards=(card,))


def _find_medmnist(source: str, data_dir: Path) -> Path:
    """The one file of a source. Raises FileNotFoundError where there is none, `CatalogueError` where there are two."""
    place, name = _medmnist_place(source), source.split("_")[0]
    place.find(data_dir)
    if len(found := place.read_from(data_dir)) > 1:
        key = "OCT_SOURCE" if name == "octmnist" else "XRAY_SOURCE"
        raise CatalogueError(
            f"{place.name} is there more than once: {', '.join(map(str, found))}. Which one? Name its size, such as "
            f"{key}={name}_{SIZES[0]}, or move the others away"
        )
    return found[0]


def load_medmnist(source: str, data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """The catalogue of a source's file, whose images are written to `cache` as PNG files, once.

    Column `validation` is True for MedMNIST's own validation images. Gives a warning that no patient is named, and one
    for a file that is not as published. Raises FileNotFoundError where there is no such file, and `CatalogueError` for
    one that is damaged or laid out in another way.
    """
    path, name = _find_medmnist(source, data_dir), source.split("_")[0]
    root, title = _written(path, name, cache), TITLES[name][0]
    if file_digest(path, "md5") not in _published():
        warnings.warn(f"{path} is not a published file of {title}: used as found", UserWarning, stacklevel=4)
    text = "no split of it is known to be patient-disjoint, and intervals 'by patient' are by image"
    warnings.warn(f"{title} names no patients: {text}", UserWarning, stacklevel=4)
    files, unreadable = scan(root, cache, workers, PARTS)
    place = files["path"].str.extract(r"^(?P<part>[^/]+)/(?P<label>[^/]+)/(?P<number>\d+)\.png$")
    names = place["part"] + "/" + place["number"]
    known = {"image_id": names, "patient_id": names, "published_split": place["part"].map(PARTS)}
    rows = files.assign(label=place["label"], validation=place["part"] == "val", reason="", **known)
    return replace(catalogue_of(name, root, rows, MEDMNIST[name], unreadable), patients_known=False)


def _describe_medmnist(catalogue: Catalogue) -> tuple[bool, str]:
    """Never the paper's images as they are; and a sentence that says what they are."""
    title, images = TITLES[catalogue.name]
    return False, (
        f"{title} at {catalogue.frame['width'].iloc[0]} px: {sizes_of(catalogue)}. Kermany's {images}, cropped and "
        "shrunk; no patients are named, so that no split is known to be patient-disjoint."
    )


@functools.cache
def _published() -> set[str]:
    cards = tomllib.loads((ROOT / "data" / "datasets.toml").read_text(encoding="utf-8"))
    return {card["files"][0]["md5"] for name, card in cards.items() if is_medmnist(name)}


# --- from one file to many ---


def _written(path: Path, name: str, cache: Path) -> Path:
    """The folder of a file's images, <part>/<label>/<number>.png; it appears whole, or not at all."""
    root = cache / "medmnist" / f"{path.stem}-{file_digest(path)[:16]}"
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_suffix(".lock")):
        if not root.is_dir():
            staging = root.with_suffix(".unfinished")
            shutil.rmtree(staging, ignore_errors=True)  # a killed run's
            try:
                with zipfile.ZipFile(path) as archive:
                    _write_images(archive, MEDMNIST[name], staging)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
                shutil.rmtree(staging, ignore_errors=True)
                remedy = "Move it away, and fetch it again with: make data PROFILE=medmnist"
                raise CatalogueError(f"{path} cannot be read as {TITLES[name][0]}: {error}. {remedy}") from error
            staging.rename(root)
    return root


def _write_images(archive: zipfile.ZipFile, labels: tuple[str, ...], folder: Path) -> None:
    """Writes every image of the archive below `folder`. Raises `ValueError` for what is not as MedMNIST has it."""
    codes = {part: np.concatenate([*_rows(archive, f"{part}_labels", (1, 2))]).ravel() for part in PARTS}
    sizes = set()
    with tqdm(total=sum(map(len, codes.values())), desc=folder.stem, unit="image", file=sys.stderr, delay=3) as bar:
        for part, numbers in codes.items():
            if not np.isin(numbers, np.arange(len(labels))).all():
                raise ValueError(f"{part}_labels are not 0 to {len(labels) - 1}")
            for label in labels:
                (folder / part / label).mkdir(parents=True)
            images = (image for rows in _rows(archive, f"{part}_images", (3,)) for image in rows)
            for number, (code, image) in enumerate(zip_longest(numbers, images)):
                if code is None or image is None:
                    raise ValueError(f"{part} has {len(numbers):,} labels, and not as many images")
                sizes.add(image.shape)
                Image.fromarray(image).save(folder / part / labels[code] / f"{number:06d}.png", compress_level=1)
                bar.update()
    if len(sizes) != 1 or len({*sizes.pop()}) != 1:
        raise ValueError("its images are not all squares of one size")


def _rows(archive: zipfile.ZipFile, name: str, dimensions: tuple[int, ...]) -> Iterator[np.ndarray]:
    """An array of bytes, some rows at a time. Raises `ValueError` where it is missing, or other than expected."""
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"it holds no array {name}")
    with archive.open(f"{name}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        shape, by_column, dtype = HEADERS[version](stream) if version in HEADERS else ((), False, None)
        if dtype != np.uint8 or by_column or 0 in shape or len(shape) not in dimensions:
            raise ValueError(f"{name} is {dtype} {shape}{' by columns' if by_column else ''}, not as MedMNIST has it")
        width = math.prod(shape[1:])
        step = max(1, PIECE // width)
        for start in range(0, shape[0], step):
            count = min(step, shape[0] - start)
            yield np.frombuffer(stream.read(count * width), np.uint8).reshape(count, *shape[1:])
        if stream.read(1):  # to the end, where zip keeps its checksum
            raise ValueError(f"{name} holds more than its header says")
