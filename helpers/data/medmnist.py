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

import hashlib
import json
import shutil
import sys
import tomllib
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image
from tqdm import tqdm

from helpers.data.catalogue import Catalogue, CatalogueError, sizes_of
from helpers.data.scan import Place, catalogue_of, scan
from helpers.run.cache import file_digest
from helpers.run.paths import ROOT

LABELS = {"octmnist": ("CNV", "DME", "DRUSEN", "NORMAL"), "pneumoniamnist": ("NORMAL", "PNEUMONIA")}
TITLES = {"octmnist": "OCTMNIST", "pneumoniamnist": "PneumoniaMNIST"}
ORIGINALS = {"octmnist": "B-scans", "pneumoniamnist": "radiographs"}
SIZES = (28, 64, 128, 224)  # pixels a side, as published
PARTS = {"train": "train", "val": "train", "test": "test"}  # MedMNIST's part: published split of the original
FOLDERS = (".", "medmnist")  # below the data folder
PIECE = 1 << 24  # bytes of an array in memory at a time
LARGEST = 1024  # pixels a side
RECORD = "record.json"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def is_medmnist(source: str) -> bool:
    """Whether a source's name is one of this module: "octmnist", "octmnist_28", "pneumoniamnist_224", ..."""
    return source.split("_")[0] in LABELS


def file_name(source: str) -> str:
    """The name of a source's file, without its ending, and of its card in `data/datasets.toml`; 28 px where none is
    asked for."""
    return source.removesuffix("_28")


def files_of(source: str, data_dir: Path) -> list[Path]:
    """The .npz files below the data folder that a source may mean: of its size, or of any where it names none."""
    places = [data_dir / folder / name for folder in FOLDERS for name in _file_names(source)]
    return [path for path in places if path.is_file()]


def _file_names(source: str) -> list[str]:
    stems = [file_name(source)] if "_" in source else [file_name(f"{source}_{size}") for size in SIZES]
    return [f"{stem}.npz" for stem in stems]


def place_of(source: str) -> Place:
    """The place of a source's file, as `make data` and `make check` look for it."""
    names, remedy = tuple(_file_names(source)), "Get it with: make data PROFILE=medmnist"
    return Place(
        TITLES[source.partition("_")[0]], FOLDERS[1:], names, names, names[0], remedy, cards=(file_name(source),)
    )


def find(source: str, data_dir: Path) -> Path:
    """The one file of a source. Raises FileNotFoundError where there is none, `CatalogueError` where there are two."""
    found, name = files_of(source, data_dir), source.partition("_")[0]
    if not found:
        others = ", ".join(path.name for path in files_of(name, data_dir))
        there = f" (there is {others})" if others else ""
        raise FileNotFoundError(
            f"no {file_name(source)}.npz in {data_dir}{there}: looked there and in medmnist/ below it. "
            "Get it with: make data PROFILE=medmnist"
        )
    if len(found) > 1:
        key = "OCT_SOURCE" if name == "octmnist" else "XRAY_SOURCE"
        raise CatalogueError(
            f"{TITLES[name]} is there more than once: {', '.join(map(str, found))}. Which one? Name its size, such as "
            f"{key}={name}_{SIZES[0]}, or move the others away"
        )
    return found[0]


def load(source: str, data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """The catalogue of a source's file, whose images are written to `cache` as PNG files, once.

    Column `validation` is True for MedMNIST's own validation images. Gives a warning that no patient is named, and one
    for a file that is not as published. Raises FileNotFoundError where there is no such file, and `CatalogueError` for
    one that is damaged or laid out in another way.
    """
    path, name = find(source, data_dir), source.partition("_")[0]
    root = _written(path, name, cache)
    facts = json.loads((root / RECORD).read_text(encoding="utf-8"))
    warnings.warn(
        f"{TITLES[name]} names no patients: no split of it is known to be patient-disjoint, and intervals 'by patient' "
        "are by image",
        UserWarning,
        stacklevel=3,
    )
    if facts["md5"] not in _published().values():
        text = f"{path} is not a published file of {TITLES[name]} (its MD5 is {facts['md5']}): used as found"
        warnings.warn(text, UserWarning, stacklevel=3)
    files, unreadable = scan(root, cache, workers, PARTS)
    place = files["path"].str.extract(r"^(?P<part>[^/]+)/(?P<label>[^/]+)/(?P<number>\d+)\.png$")
    names = place["part"] + "/" + place["number"]
    rows = files.assign(
        label=place["label"],
        image_id=names,
        patient_id=names,
        published_split=place["part"].map(PARTS),
        validation=place["part"] == "val",
        reason="",
    )
    if len(rows) != facts["images"]:
        raise CatalogueError(f"{root} holds {len(rows):,} of {facts['images']:,} images: delete it and run again")
    made = catalogue_of(name, root, rows, LABELS[name], unreadable)
    return Catalogue(name, root, made.frame, made.classes, made.excluded, patients_known=False)


def describe(catalogue: Catalogue) -> tuple[bool, str]:
    """Never the paper's images as they are; and a sentence that says what they are."""
    facts, name = json.loads((catalogue.root / RECORD).read_text(encoding="utf-8")), catalogue.name
    published = "" if facts["md5"] in _published().values() else " (not the published file)"
    return False, (
        f"{TITLES[name]} at {facts['size']} px{published}: {sizes_of(catalogue)}. Kermany's {ORIGINALS[name]}, cropped "
        "and shrunk; no patients are named, so that no split is known to be patient-disjoint."
    )


def _published() -> dict[str, str]:
    """The MD5 of each published file, by the data set's name."""
    cards = tomllib.loads((ROOT / "data" / "datasets.toml").read_text(encoding="utf-8"))
    return {name: card["files"][0]["md5"] for name, card in cards.items() if is_medmnist(name)}


# --- from one file to many ---


def _written(path: Path, name: str, cache: Path) -> Path:
    """The folder of a file's images, <part>/<label>/<number>.png; it appears whole, or not at all."""
    root = cache / "medmnist" / f"{path.stem}-{file_digest(path)[:16]}"
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_suffix(".lock")):
        if not (root / RECORD).is_file():
            staging = root.with_suffix(".unfinished")
            shutil.rmtree(staging, ignore_errors=True)  # a killed run's
            try:
                with zipfile.ZipFile(path) as archive:
                    facts = _write_images(archive, LABELS[name], staging)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
                shutil.rmtree(staging, ignore_errors=True)
                raise CatalogueError(
                    f"{path} cannot be read as {TITLES[name]}: {error}. Move it away, and fetch it again with: make "
                    "data PROFILE=medmnist"
                ) from error
            with path.open("rb") as file:
                facts["md5"] = hashlib.file_digest(file, "md5").hexdigest()
            (staging / RECORD).write_text(json.dumps(facts, indent=1), encoding="utf-8")
            shutil.rmtree(root, ignore_errors=True)
            staging.rename(root)
    return root


def _write_images(archive: zipfile.ZipFile, labels: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Writes every image of the archive below `folder`; returns their number and size. Raises `ValueError`."""
    shapes = {part: _check(archive, part, len(labels)) for part in PARTS}
    total, sides = sum(shape[0] for shape in shapes.values()), {shape[1] for shape in shapes.values()}
    if len(sides) > 1:
        raise ValueError(f"its parts have images of different sizes: {', '.join(map(str, sorted(sides)))} pixels")
    folder.mkdir(parents=True)
    size, free = sides.pop(), shutil.disk_usage(folder).free
    if total * (size * size + 4096) > free:
        raise ValueError(f"its {total:,} images need more than the {free / 1e9:,.1f} GB that are free in {folder}")
    with tqdm(total=total, desc=folder.stem, unit="image", file=sys.stderr, delay=3) as bar:
        for part in PARTS:
            codes = _read_labels(archive, part)
            for label in labels:
                (folder / part / label).mkdir(parents=True)
            for number, image in enumerate(_images(archive, part)):
                place = folder / part / labels[codes[number]] / f"{number:06d}.png"
                Image.fromarray(image).save(place, compress_level=1)
                bar.update()
    return {"images": total, "size": size}


def _check(archive: zipfile.ZipFile, part: str, classes: int) -> tuple[int, ...]:
    """The shape of a part's images. Raises `ValueError` where images or labels are not as MedMNIST has them."""
    with _opened(archive, f"{part}_images") as stream:
        shape, _, dtype = _header(stream, f"{part}_images")
    square = len(shape) == 3 and shape[1] == shape[2] and 8 <= shape[1] <= LARGEST
    if not square or dtype != np.uint8 or not shape[0]:
        raise ValueError(f"{part}_images is {dtype} {shape}, expected uint8 (n, size, size)")
    codes = _read_labels(archive, part)
    if len(codes) != shape[0] or not np.isin(codes, np.arange(classes)).all():
        raise ValueError(f"{part}_labels: {len(codes):,} labels for {shape[0]:,} images, expected 0 to {classes - 1}")
    return shape


def _read_labels(archive: zipfile.ZipFile, part: str) -> np.ndarray:
    name = f"{part}_labels"
    with _opened(archive, name) as stream:
        shape, _, dtype = _header(stream, name)
        if dtype.kind not in "iu" or len(shape) not in (1, 2) or shape[1:] not in ((), (1,)):
            raise ValueError(f"{name} is {dtype} {shape}, expected whole numbers (n, 1)")
        return np.frombuffer(stream.read(shape[0] * dtype.itemsize), dtype).astype(int)


def _images(archive: zipfile.ZipFile, part: str) -> Iterator[np.ndarray]:
    """The images of a part one by one, read `PIECE` bytes at a time: the largest file holds 5 GB of them."""
    with _opened(archive, f"{part}_images") as stream:
        (count, size, _), _, _ = _header(stream, f"{part}_images")
        step = max(1, PIECE // size**2)
        for start in range(0, count, step):
            rows = min(step, count - start)
            yield from np.frombuffer(stream.read(rows * size**2), np.uint8).reshape(rows, size, size)
        if stream.read(1):  # to the end, where zip keeps its checksum
            raise ValueError(f"{part}_images holds more than its header says")


def _opened(archive: zipfile.ZipFile, name: str):
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"it holds no array {name}")
    return archive.open(f"{name}.npy")


def _header(stream, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type of an array, which must lie row by row. Raises `ValueError`."""
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"{name} is of an unknown version of numpy's format, {version}")
    shape, by_column, dtype = HEADERS[version](stream)
    if by_column:
        raise ValueError(f"{name} lies by columns")
    return shape, by_column, dtype
