"""MedMNIST's copies of Kermany's two data sets: OCTMNIST and PneumoniaMNIST, cropped, shrunk, and without patients.

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
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image
from tqdm import tqdm

from helpers.data.catalogue import Catalogue, CatalogueError, sizes_of
from helpers.data.scan import Place, catalogue_of, scan
from helpers.run.cache import file_digest
from helpers.run.paths import ROOT

LABELS = {"octmnist": ("CNV", "DME", "DRUSEN", "NORMAL"), "pneumoniamnist": ("NORMAL", "PNEUMONIA")}
WORDS = {"octmnist": ("OCTMNIST", "B-scans"), "pneumoniamnist": ("PneumoniaMNIST", "radiographs")}
SIZES = (28, 64, 128, 224)  # pixels a side, as published
PARTS = {"train": "train", "val": "train", "test": "test"}  # MedMNIST's part: published split of the original
PIECE = 1 << 24  # bytes of an array in memory at a time: the largest file holds 5 GB
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def is_medmnist(source: str) -> bool:
    """Whether a source's name is one of this module: "octmnist", "octmnist_28", "pneumoniamnist_224", ..."""
    return source.split("_")[0] in LABELS


def place_of(source: str) -> Place:
    """Where a source's file lies: of its size, or of any where it names none; of 28 pixels where it must be fetched."""
    sizes = [source] if "_" in source else [f"{source}_{size}" for size in SIZES]
    names = tuple(f"{one.removesuffix('_28')}.npz" for one in sizes)  # as published: the smallest has none in its name
    remedy, card = "Get it with: make data PROFILE=medmnist", names[0].removesuffix(".npz")
    return Place(WORDS[source.split("_")[0]][0], names, names, " or ".join(names), remedy, cards=(card,))


def find(source: str, data_dir: Path) -> Path:
    """The one file of a source. Raises FileNotFoundError where there is none, `CatalogueError` where there are two."""
    place, name = place_of(source), source.split("_")[0]
    place.find(data_dir)
    if len(found := place.read_from(data_dir)) > 1:
        key = "OCT_SOURCE" if name == "octmnist" else "XRAY_SOURCE"
        raise CatalogueError(
            f"{place.name} is there more than once: {', '.join(map(str, found))}. Which one? Name its size, such as "
            f"{key}={name}_{SIZES[0]}, or move the others away"
        )
    return found[0]


def load(source: str, data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """The catalogue of a source's file, whose images are written to `cache` as PNG files, once.

    Column `validation` is True for MedMNIST's own validation images. Gives a warning that no patient is named, and one
    for a file that is not as published. Raises FileNotFoundError where there is no such file, and `CatalogueError` for
    one that is damaged or laid out in another way.
    """
    path, name = find(source, data_dir), source.split("_")[0]
    root, title = _written(path, name, cache), WORDS[name][0]
    if file_digest(path, "md5") not in _published():
        warnings.warn(f"{path} is not a published file of {title}: used as found", UserWarning, stacklevel=3)
    text = "no split of it is known to be patient-disjoint, and intervals 'by patient' are by image"
    warnings.warn(f"{title} names no patients: {text}", UserWarning, stacklevel=3)
    files, unreadable = scan(root, cache, workers, PARTS)
    place = files["path"].str.extract(r"^(?P<part>[^/]+)/(?P<label>[^/]+)/(?P<number>\d+)\.png$")
    names = place["part"] + "/" + place["number"]
    known = {"image_id": names, "patient_id": names, "published_split": place["part"].map(PARTS)}
    rows = files.assign(label=place["label"], validation=place["part"] == "val", reason="", **known)
    return replace(catalogue_of(name, root, rows, LABELS[name], unreadable), patients_known=False)


def describe(catalogue: Catalogue) -> tuple[bool, str]:
    """Never the paper's images as they are; and a sentence that says what they are."""
    title, images = WORDS[catalogue.name]
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
                    _write_images(archive, LABELS[name], staging)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
                shutil.rmtree(staging, ignore_errors=True)
                remedy = "Move it away, and fetch it again with: make data PROFILE=medmnist"
                raise CatalogueError(f"{path} cannot be read as {WORDS[name][0]}: {error}. {remedy}") from error
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
