"""A folder of DICOM radiographs, as a hospital's archive hands them out, to PNG files and a table without patient data.

Rajkomar 2017 ("Image Preparation"): "The images were converted to greyscale 8-bit lossy JPEG format, and min-max
windowing was applied using DICOM Toolkit (DCMTK) (Version 3.6.0)". So the darkest pixel becomes 0 and the brightest
255, whatever window the file states; so it is done here, without the lossy JPEG.

What is kept of a header: the view position (if it is one of the standard's words), the modality, the size, which images
are one patient's, and the order of a patient's studies. What is not: everything else. Names are keyed hashes, which
nobody without the key can tie to a patient, not by trying all patient numbers either. Writing burnt into the pixels is
beyond this: a file whose header admits it is refused, and the others should be looked at.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import secrets
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, apply_modality_lut, get_decoder, pixel_array
from tqdm import tqdm

from helpers.data.images import MAX_PIXELS, MIN_SIDE, UnreadableImage, worker_count
from helpers.data.scan import is_stray

TABLE, IMAGES = "images.csv", "images"
COLUMNS = ["image", "view", "modality", "patient", "study", "rows", "columns"]
GREY = ("MONOCHROME1", "MONOCHROME2")
# The standard's terms for chest radiographs and their opposites (CR and DX, attribute 0018,5101). Another text is not
# kept: a free text may hold anything, a name included.
VIEWS = {"AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "LATERAL", "LAT"}
MODALITIES = {"CR", "DX", "RG", "DR", "PX", "XA", "RF", "CT", "MR", "US", "OP", "OPT", "OT", "SC", "MG", "IO"}
NAME_DIGITS = 24  # 96 bits: no two of a million images share a name


def convert_folder(source: Path, target: Path, key: bytes, workers: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Makes `target`/images/<name>.png of every radiograph below `source`, and `target`/images.csv.

    Returns (table, failures): the table as written (see `COLUMNS`), and path and reason of each file left out (a path
    may name a patient, so they are written nowhere).

    Pictures are uint8, bright where the film is white, as a monitor shows it. Stored values of 8 to 16 bits, signed or
    not, pass the modality LUT or rescale slope and intercept, then the range that occurs is stretched, as the paper's,
    and inverted for MONOCHROME1 (a file's presentation LUT shape only repeats that, and is not applied on top). Padding
    outside the exposed field is black and does not count for the range. Colour becomes luma, and is not stretched.

    Of the table: `view` and `modality` as the header has them or empty; `patient`, a pseudonym, the same for one key
    and patient id; `study` 1, 2, ... in the order of the patient's study dates (of undated ones, in no order).
    A picture is there as a whole or not at all; a second run makes what is missing. Files
    that differ in no byte become one picture. A file that cannot be read, has no patient id (so it could not be split
    by patient) or writing burnt in, is among the failures and stops nothing.

    `key` (16 bytes at least, see `read_key`) must stay secret, and be the same for data that belong together. Raises
    ValueError for a short key or a `target` inside `source`, FileNotFoundError without `source`.
    """
    if len(key) < 16:
        raise ValueError(f"a key of {len(key)} bytes can be guessed; 16 are the least (see read_key)")
    if not source.is_dir():
        raise FileNotFoundError(f"there is no folder {source}")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} lies inside {source}; the pictures belong in a folder of their own")
    paths = sorted(p for p in source.rglob("*") if p.is_file() and not is_stray(p.relative_to(source).as_posix()))
    (target / IMAGES).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(worker_count(workers), thread_name_prefix="dicom") as pool:
        done = pool.map(lambda path: _convert(path, target / IMAGES, key), paths)
        rows = list(tqdm(done, "converting DICOM", len(paths), unit="image", file=sys.stderr, delay=3, mininterval=1))
    failures = [(path.relative_to(source).as_posix(), row) for path, row in zip(paths, rows, strict=True)]
    good = pd.DataFrame([row for row in rows if not isinstance(row, str)], columns=[*COLUMNS, "date"])
    table = _table(good.drop_duplicates("image"))
    table.to_csv(target / TABLE, index=False)
    return table, pd.DataFrame([pair for pair in failures if isinstance(pair[1], str)], columns=["path", "reason"])


def read_key(path: Path) -> bytes:
    """The key of `path`; made, for its owner's eyes alone, where there is none. Keep it apart from the pictures."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(secrets.token_hex(32) + "\n")
    try:
        return bytes.fromhex(path.read_text().strip())
    except ValueError:
        raise ValueError(f"{path} is no key: it should hold 64 hex digits") from None


def _convert(path: Path, folder: Path, key: bytes) -> dict | str:
    """Makes the picture where it is missing; returns the table's row, or why there is none."""
    try:
        content = path.read_bytes()
        return _made(dcmread(io.BytesIO(content)), content, folder, key)
    except UnreadableImage as error:
        return error.reason
    except InvalidDicomError:
        return "not a DICOM file"
    except OSError as error:
        return f"cannot be opened: {error.strerror or type(error).__name__}"
    except Exception as error:  # parsers and decoders meet broken files with nearly any exception
        return f"damaged, or its pixels cannot be decoded: {type(error).__name__}"


def _made(dataset: Dataset, content: bytes, folder: Path, key: bytes) -> dict:
    def text(name: str) -> str:
        return str(dataset.get(name) or "").strip()

    def pseudonym(*parts: str) -> str:
        return hmac.new(key, "\0".join(parts).encode(), hashlib.sha256).hexdigest()[:NAME_DIGITS]

    if not text("PatientID"):
        raise UnreadableImage("no patient id, so which patient it shows is not known")
    if text("BurnedInAnnotation").upper() == "YES":
        raise UnreadableImage("writing burnt into its pixels, by its header")
    place = folder / f"{pseudonym('image', hashlib.sha256(content).hexdigest())}.png"
    if not place.exists():
        temporary = place.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        Image.fromarray(_picture(dataset)).save(temporary, "PNG")
        temporary.replace(place)
    view, modality = text("ViewPosition").upper(), text("Modality").upper()
    return {
        "image": place.name,
        "view": view if view in VIEWS else "",
        "modality": modality if modality in MODALITIES else "",
        "patient": pseudonym("patient", text("IssuerOfPatientID"), text("PatientID")),
        "study": pseudonym("study", text("StudyInstanceUID")),
        "date": f"{text('StudyDate')} {text('StudyTime')}",
        "rows": int(dataset.Rows),
        "columns": int(dataset.Columns),
    }


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows in the order of their names, so that the order of the files is not given away; studies are numbered."""
    first = rows.groupby(["patient", "study"])["date"].transform("min")
    number = rows.assign(first=first).groupby(["patient", "first", "study"]).ngroup()  # in this order
    study = number - number.groupby(rows["patient"]).transform("min") + 1
    return rows.assign(study=study).sort_values("image", ignore_index=True)[COLUMNS]


def _picture(dataset: Dataset) -> np.ndarray:
    """The opened file's pixels as `convert_folder` describes them: uint8 (h, w)."""
    _check(dataset)
    stored, interpretation = pixel_array(dataset), dataset.PhotometricInterpretation
    if interpretation not in GREY:
        if interpretation == "PALETTE COLOR":
            stored = apply_color_lut(stored, dataset) >> max(0, dataset.RedPaletteColorLookupTableDescriptor[2] - 8)
        return np.asarray(Image.fromarray(stored.astype(np.uint8)).convert("L"))
    padding = dataset.get("PixelPaddingValue")  # one value, or a range
    ends = sorted((padding, dataset.get("PixelPaddingRangeLimit", padding))) if padding is not None else (1, 0)
    field = (stored < ends[0]) | (stored > ends[1])
    values = apply_modality_lut(stored, dataset)
    shown = _min_max(values, field)
    if interpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.where(field, np.round(255 * shown), 0).astype(np.uint8)


def _check(dataset: Dataset) -> None:
    """Refuses what cannot become one picture, before memory is spent on it."""
    frames, bits = int(dataset.get("NumberOfFrames") or 1), dataset.get("BitsStored")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if "PixelData" not in dataset or not rows or not columns:
        raise UnreadableImage("no pixels (a report, a presentation state, or a file cut short)")
    if frames > 1:
        raise UnreadableImage(f"{frames} frames: a series or a film loop, not one radiograph")
    if bits not in range(8, 17):  # masks have 1, floating-point maps 32
        raise UnreadableImage(f"{bits} bits a pixel; 8 to 16 can be read")
    if rows * columns > MAX_PIXELS or min(rows, columns) < MIN_SIDE:
        raise UnreadableImage(f"{columns} x {rows} pixels")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not syntax.is_deflated and not get_decoder(syntax).is_available:
        raise UnreadableImage(
            f"compressed as {syntax.name}, for which no decoder is installed; decompress it first (dcmdjpeg, gdcmconv "
            "--raw) or install pylibjpeg with its plug-ins"
        )


def _min_max(values: np.ndarray, field: np.ndarray) -> np.ndarray:
    """0 to 1 within the exposed field."""
    if not field.any():
        raise UnreadableImage("nothing but padding")
    low, high = float(values[field].min()), float(values[field].max())
    if low == high:
        raise UnreadableImage("blank: all its pixels are alike")
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
