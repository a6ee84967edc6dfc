"""Tiny copies of the published data sets, as their archives unpack, and catalogues without files."""

import csv
import os
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.carr.data import OCTID_FOLDERS
from helpers.data import kermany_images
from helpers.data.catalogue import Catalogue
from helpers.data.images import average_hash, read_grey
from helpers.kermany.data import MEDMNIST, PARTS
from helpers.run.cache import read_digest

FOUND = ("No Finding", "Pneumonia|Effusion", "Consolidation", "Cardiomegaly|Effusion")  # by patient, of ChestX-ray14
COHEN = ("COVID-19", "Streptococcus", "SARS", "No Finding")  # by patient, of Cohen's collection
REAL = pytest.mark.skipif("REAL_DATA_DIR" not in os.environ, reason="REAL_DATA_DIR names no folder")
REAL_DATA = Path(os.environ.get("REAL_DATA_DIR", ""))


def picture(path: Path, mode: str = "L") -> Path:
    """A file with noise that follows from its name and the two folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32("/".join(path.parts[-3:]).encode()))
    Image.fromarray(rng.integers(0, 255, (20, 24), dtype=np.uint8)).convert(mode).save(path)
    return path


def face(seed: int) -> np.ndarray:
    """A smooth random image (96, 96), unlike that of any other seed, that survives scaling and compression."""
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 12), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC))


def reasons(catalogue: Catalogue) -> dict[str, str]:
    return dict(zip(catalogue.excluded["path"], catalogue.excluded["reason"], strict=True))


def sized(train: dict[str, int], test: dict[str, int], phantom: bool = False, **columns: str) -> Catalogue:
    """A catalogue of that many images per class, without files, each of its own patient."""
    rows = [(part, c) for part, sizes in (("train", train), ("test", test)) for c, n in sizes.items() for _ in range(n)]
    made = listed([(*row, f"patient {i}") for i, row in enumerate(rows)], tuple(train), **columns)
    return replace(made, phantom=phantom)


def listed(rows: list[tuple[str, str, str]], classes: Iterable[str], root: Path = Path(), **columns) -> Catalogue:
    """A catalogue from (published split, label, patient), one image each, without files."""
    frame = pd.DataFrame(rows, columns=["published_split", "label", "patient_id"])
    names = [f"{i:04d}" for i in range(len(frame))]
    paths = [f"{name}.png" for name in names]
    frame = frame.assign(**{"image_id": names, "path": paths, "digest": names} | columns)
    return Catalogue("made", root, frame, tuple(classes))


def pictured(root: Path, rows: list[tuple[str, str, str, np.ndarray | bytes]]) -> Catalogue:
    """As `listed`, of classes A and B, with the files: each row's last is pixels, or a file's bytes."""
    paths = [root / f"{i:04d}.png" for i in range(len(rows))]
    for path, (*_, content) in zip(paths, rows, strict=True):
        path.write_bytes(content) if isinstance(content, bytes) else Image.fromarray(content).save(path)
    digests, hashes = [read_digest(path) for path in paths], [average_hash(read_grey(path)) for path in paths]
    return listed([row[:3] for row in rows], "AB", root, digest=digests, average_hash=hashes)


def oct_archive(root: Path, patients: int = 3) -> Path:
    """Kermany's B-scans: in train and test `patients` patients per class, none of them in both, two images each."""
    for part, offset in (("train", 1000), ("test", 2000)):
        for c, label in enumerate(kermany_images.OCT_CLASSES):
            for patient in range(offset + 100 * c, offset + 100 * c + patients):
                for n in (1, 2):
                    picture(root / part / label / f"{label}-{patient}-{n}.jpeg")
    return root


def xray_archive(root: Path, version: int = 2, patients: int = 3, images: int = 1) -> Path:
    """Kermany's radiographs: in train and test `patients` patients per class, `images` each."""
    names = {
        2: ("NORMAL/IM-{0:04d}-000{1}", "PNEUMONIA/person{0}_bacteria_{1}", "PNEUMONIA/person5{0}_virus_{1}"),
        3: ("NORMAL/NORMAL-{0}9-000{1}", "PNEUMONIA/BACTERIA-{0}0-000{1}", "PNEUMONIA/VIRUS-{0}1-000{1}"),
    }
    for part, offset in (("train", 100), ("test", 200)):
        for patient in range(offset, offset + patients):
            for name in names[version]:
                for n in range(images):
                    picture(root / part / f"{name.format(patient, n)}.jpeg", "RGB" if patient % 2 else "L")
    return root


def cohen_row(patient, name, view="PA", finding="COVID-19", modality="X-ray", age="") -> list[str]:
    return [patient, age, finding, view, modality, "images", name, "CC BY", ""]


def cohen_rows(patients: int = 20) -> list[list[str]]:
    """Each patient with two frontal images, every second with a lateral."""
    numbers = [(str(p), COHEN[p % 4]) for p in range(patients)]
    rows = [cohen_row(p, f"{p}-{k}.png", ("AP Supine", "PA")[k], finding) for p, finding in numbers for k in (0, 1)]
    return rows + [cohen_row(p, f"{p}-l.png", "L", finding) for p, finding in numbers[::2]]


def cohen_archive(folder: Path, rows: list[list[str]] | None = None, absent: tuple[str, ...] = ()) -> Path:
    """Cohen's collection of these rows; returns its folder."""
    root, rows = folder / "covid-chestxray-dataset", cohen_rows() if rows is None else rows
    (root / "images").mkdir(parents=True, exist_ok=True)
    with (root / "metadata.csv").open("w", newline="") as file:
        header = ["patientid", "age", "finding", "view", "modality", "folder", "filename", "license", ""]
        csv.writer(file).writerows([header, *rows])
    for name in {row[6] for row in rows} - set(absent):
        picture(root / "images" / name)
    return root


def nih_name(patient: int, visit: int = 0) -> str:
    return f"{patient:08d}_{visit:03d}.png"


def nih_archive(folder: Path, patients: int = 8, train: str = "train_val_list.txt") -> Path:
    """ChestX-ray14: two images per patient; the first half trains. Findings go round `FOUND` by patient."""
    root = folder / "nih-chestxray14"
    rows = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"]
    lists: dict[str, list[str]] = {train: [], "test_list.txt": []}
    for patient in range(patients):
        for visit, view in enumerate(("PA", "AP")):
            name = nih_name(patient, visit)
            rows.append(f"{name},{FOUND[patient % 4]},{visit},{patient},50,F,{view}")
            lists[train if patient < patients // 2 else "test_list.txt"].append(name)
            picture(root / "images" / name)
    for name, lines in {"Data_Entry_2017_v2020.csv": rows, **lists}.items():
        (root / name).write_text("\n".join(lines) + "\n")
    return root


def three_hospitals(folder: Path) -> Path:
    nih_archive(folder)
    xray_archive(folder / "chest_xray")
    cohen_archive(folder, cohen_rows(12))
    return folder


def octid_archive(folder: Path, images: int = 6) -> Path:
    for label in OCTID_FOLDERS:
        for k in range(images):
            picture(folder / "octid" / label / f"{label}{k + 1}.jpeg")
    return folder / "octid"


REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{number}"/><MeSH><major>normal</major></MeSH>
{images}
</eCitation>
"""
IMAGE = '<parentImage id="{name}"><caption>{caption}</caption></parentImage>'


def openi_report(folder: Path, number: int, names: list[str], caption: str) -> None:
    root = folder / "open-i"
    place = root / "reports" / "ecgen-radiology" / f"{number}.xml"
    place.parent.mkdir(parents=True, exist_ok=True)
    images = "\n".join(IMAGE.format(name=name, caption=caption) for name in names)
    place.write_text(REPORT.format(number=number, images=images))
    for name in names:
        picture(root / "png" / f"{name}.png", "RGB")


def openi_archive(folder: Path, reports: int = 8) -> Path:
    for n in range(1, reports + 1):
        names = [f"CXR{n}_IM-{n:04d}-1001", f"CXR{n}_IM-{n:04d}-2001"]
        openi_report(folder, n, names, "Xray Chest PA and Lateral")
    return folder / "open-i"


def medmnist_arrays(name: str, counts: tuple[int, int, int] = (40, 12, 16), size: int = 28) -> dict[str, np.ndarray]:
    """The arrays of a file of MedMNIST's: stripes and noise, wider by class, `counts` images in train, val and test."""
    rng, classes, arrays = np.random.default_rng(size), len(MEDMNIST[name]), {}
    for part, count in zip(PARTS, counts, strict=True):
        labels = np.arange(count) % classes
        waves = np.sin(np.arange(size) / (1.5 + labels[:, None]))[:, :, None] * np.ones(size)
        arrays[f"{part}_images"] = (128 + 70 * waves + rng.normal(0, 20, waves.shape)).clip(0, 255).astype(np.uint8)
        arrays[f"{part}_labels"] = labels[:, None].astype(np.uint8)
    return arrays
