"""A folder of DICOM radiographs, as a hospital's archive hands them out, to PNG files and a table without patient data.

Rajkomar 2017 ("Image Preparation"): "The images were converted to greyscale 8-bit lossy JPEG format, and min-max
windowing was applied using DICOM Toolkit (DCMTK) (Version 3.6.0)". So the darkest pixel becomes 0 and the brightest
255, whatever window the file states; so it is done here, without the lossy JPEG, unless the stored one is asked for.

What is kept of a header: the view position (if it is one of the standard's words), the modality, the size, which images
are one patient's, and the order of a patient's studies. What is not: everything else. Names are keyed hashes, which
nobody without the key can tie to a patient, not by trying all patient numbers either. Writing burnt into the pixels is
beyond this: a file whose header admits it, or of a kind that often has it (`BURNT_IN`), is set aside unless asked for,
and the others should be looked at.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, get_decoder, pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit
from tqdm import tqdm

from helpers.data.damage import find_damage
from helpers.data.images import MAX_PIXELS, MIN_SIDE, UnreadableImage, check_file
from helpers.data.scan import listing
from helpers.run.cache import read_digest
from helpers.run.provenance import available_cores

TABLE, IMAGES = "images.csv", "images"
COLUMNS = ["image", "view", "modality", "patient", "study", "rows", "columns"]
GREY = ("MONOCHROME1", "MONOCHROME2")
YBR = ("YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
# The standard's terms for chest radiographs and their opposites (CR and DX, attribute 0018,5101). Another text is not
# kept: a free text may hold anything, a name included.
VIEWS = {"AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "LATERAL", "LAT"}
# What a view code means (context group 4010), by its number in SNOMED CT, its older one, or its meaning in letters.
VIEW_CODES = {
    **dict.fromkeys(("399348003", "R-10206", "anteroposterior"), "AP"),
    **dict.fromkeys(("272479007", "R-10214", "posteroanterior"), "PA"),
    **dict.fromkeys(("399173006", "R-10236", "leftlateral"), "LL"),
    **dict.fromkeys(("399198007", "R-10232", "rightlateral"), "RL"),
    **dict.fromkeys(("399067008", "R-102CD", "lateral"), "LATERAL"),
}
RADIOGRAPHS = {"CR", "DX", "RG"}
BURNT_IN = {"US": "ultrasound", "SC": "secondary capture", "OT": "modality OT"}  # often with a name or number in them
WINDOWS = ("minmax", "stored")
SMALL = 1 << 16  # bytes of an element beyond which it is read when asked for
MODALITIES = {"CR", "DX", "RG", "DR", "PX", "XA", "RF", "CT", "MR", "US", "OP", "OPT", "OT", "SC", "MG", "IO"}
NAME_DIGITS = 24  # 96 bits: no two of a million images share a name


def convert_folder(
    source: Path, target: Path, key: bytes, workers: int = 0, window: str = "minmax", burnt_in: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Makes `target`/images/<name>.png of every single image below `source`, and `target`/images.csv.

    Returns (table, failures): the table as written (see `COLUMNS`), and path and reason of each file left out (a path
    may name a patient, so they are written nowhere).

    Pictures are uint8, bright where the film is white, as a monitor shows it. Stored values of 8 to 16 bits, signed or
    not, pass the modality LUT or rescale slope and intercept, then the range that occurs is stretched, as the paper's
    (with `window` "stored" the one that the file's first window shows, if it states any), and inverted for MONOCHROME1
    (a file's presentation LUT shape only repeats that, and is not applied on top). Padding outside the exposed field is
    black and does not count for the range. Colour becomes luma, and is not stretched.

    Of the table: `view` (or what the view's code means) and `modality` as the header has them or empty; `patient`, a
    pseudonym, the same for one key and patient id, unless every file of that id names its issuer, and there are two;
    `study` 1, 2, ... in the order of the patient's study dates (of undated ones, in no order).
    A picture is there as a whole or not at all; a second run makes what is missing. Files that differ in no byte become
    one picture; the others are among the failures. So is a file that cannot be read, has no patient id (so it could not
    be split by patient) or may have writing burnt in (without `burnt_in`); it stops nothing.

    `key` (16 bytes at least, see `read_key`) must stay secret, and be the same for data that belong together. Raises
    ValueError for a short key or a `target` inside `source`, FileNotFoundError without `source`.
    """
    if len(key) < 16:
        raise ValueError(f"a key of {len(key)} bytes can be guessed; 16 are the least (see read_key)")
    if not source.is_dir():
        raise FileNotFoundError(f"there is no folder {source}")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} lies inside {source}; the pictures belong in a folder of their own")
    listed = list(listing(source)["path"])
    paths = [source / name for name in listed]
    (target / IMAGES).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(workers or available_cores(), thread_name_prefix="dicom") as pool:
        done = pool.map(lambda path: _convert(path, target / IMAGES, key, window, burnt_in), paths)
        rows = list(tqdm(done, "converting DICOM", len(paths), unit="image", file=sys.stderr, delay=3, mininterval=1))
    good = pd.DataFrame([row for row in rows if not isinstance(row, str)], columns=[*COLUMNS, "date", "issuer"])
    table = _table(good.drop_duplicates("image"))
    table.to_csv(target / TABLE, index=False)
    failures, images = [], set()
    for name, row in zip(listed, rows, strict=True):
        if isinstance(row, str) or row["image"] in images:
            failures.append((name, row if isinstance(row, str) else "a copy: no byte of it differs from another file"))
        else:
            images.add(row["image"])
    return table, pd.DataFrame(failures, columns=["path", "reason"])


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


def read_dicom(path: Path) -> Dataset:
    """The header of a DICOM file, with a preamble or without; pixels are read when asked for.

    Raises `UnreadableImage` for any other file, OSError for one that cannot be opened, and nearly anything for a broken
    one.
    """
    check_file(path)
    try:
        return dcmread(path, defer_size=SMALL)
    except InvalidDicomError:
        try:
            dataset = dcmread(path, defer_size=SMALL, force=True)
            known = bool(dataset.get("SOPClassUID") or dataset.get("Modality"))
        except Exception:  # no header, so anything can be read into it
            known = False
        if not known:
            raise UnreadableImage("not a DICOM file") from None
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _convert(path: Path, folder: Path, key: bytes, window: str, burnt_in: bool) -> dict | str:
    """Makes the picture where it is missing; returns the table's row, or why there is none."""
    try:
        return _made(read_dicom(path), path, folder, key, window, burnt_in)
    except UnreadableImage as error:
        return error.reason
    except OSError as error:
        return f"cannot be opened: {error.strerror or type(error).__name__}"
    except Exception as error:  # parsers and decoders meet broken files with nearly any exception
        return f"damaged, or its pixels cannot be decoded: {type(error).__name__}"


def _made(dataset: Dataset, path: Path, folder: Path, key: bytes, window: str, burnt_in: bool) -> dict:
    def text(name: str) -> str:
        return str(dataset.get(name) or "").strip()

    def pseudonym(*parts: str) -> str:
        return hmac.new(key, "\0".join(parts).encode(errors="replace"), hashlib.sha256).hexdigest()[:NAME_DIGITS]

    if not text("PatientID"):
        raise UnreadableImage("no patient id, so which patient it shows is not known")
    modality, date = text("Modality").upper(), re.sub(r"[.\-/]", "", text("StudyDate"))
    if not burnt_in and (why := _may_bear_writing(dataset, modality)):
        raise UnreadableImage(f"{why} (BURNT_IN=keep takes it)")
    place = folder / f"{pseudonym('image', read_digest(path), *([window] if window != WINDOWS[0] else []))}.png"
    if not place.exists():
        temporary = place.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        Image.fromarray(picture_of(dataset, window)).save(temporary, "PNG")
        temporary.replace(place)
    return {
        "image": place.name,
        "view": view_of(dataset),
        "modality": modality if modality in MODALITIES else "",
        "patient": pseudonym("patient", "", text("PatientID")),
        "issuer": (issuer := text("IssuerOfPatientID").upper()) and pseudonym("patient", issuer, text("PatientID")),
        "study": pseudonym("study", text("StudyInstanceUID")),
        "date": f"{date} {text('StudyTime')}" if re.fullmatch(r"\d{8}", date) else "",
        "rows": int(dataset.Rows),
        "columns": int(dataset.Columns),
    }


def _may_bear_writing(dataset: Dataset, modality: str) -> str:
    if str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES":
        return "writing burnt into its pixels, by its header"
    if modality in BURNT_IN:
        return f"{BURNT_IN[modality]}, which often has writing burnt into its pixels"
    captured = "ConversionType" in dataset or "Secondary Capture" in getattr(dataset.get("SOPClassUID"), "name", "")
    return "a secondary capture, which often has writing burnt into its pixels" if captured else ""


def view_of(dataset: Dataset) -> str:
    """The view position as one of `VIEWS`, else what the view's code means, else empty."""
    view = str(dataset.get("ViewPosition") or "").strip().upper()
    if view in VIEWS:
        return view
    for item in dataset.get("ViewCodeSequence") or []:
        meaning = re.sub("[^a-z]", "", str(item.get("CodeMeaning") or "").lower())
        if found := VIEW_CODES.get(str(item.get("CodeValue") or "").strip(), VIEW_CODES.get(meaning, "")):
            return found
    return ""


def _table(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows in the order of their names, so that the order of the files is not given away; studies are numbered."""
    # Where one file of an id names no issuer, all of that id stay together, lest a patient be on both sides of a split.
    told_apart = rows["issuer"].ne("").groupby(rows["patient"]).transform("all")
    several = rows.groupby("patient")["issuer"].transform("nunique") > 1
    rows = rows.assign(patient=rows["patient"].mask(told_apart & several, rows["issuer"]))
    first = rows.groupby(["patient", "study"])["date"].transform("min")
    number = rows.assign(first=first).groupby(["patient", "first", "study"]).ngroup()  # in this order
    study = number - number.groupby(rows["patient"]).transform("min") + 1
    return rows.assign(study=study).sort_values("image", ignore_index=True)[COLUMNS]


def picture_of(dataset: Dataset, window: str = "minmax") -> np.ndarray:
    """The opened file's pixels as `convert_folder` describes them: uint8 (h, w)."""
    _check(dataset)
    stored, interpretation = pixel_array(dataset), dataset.PhotometricInterpretation
    if interpretation not in GREY:
        depth = int(dataset.BitsStored)
        if interpretation == "PALETTE COLOR":
            stored, depth = apply_color_lut(stored, dataset), dataset.RedPaletteColorLookupTableDescriptor[2]
        return np.asarray(Image.fromarray((stored >> max(0, depth - 8)).astype(np.uint8)).convert("L"))
    ends = sorted(_padding(dataset)) or (1, 0)
    field = (stored < ends[0]) | (stored > ends[-1])
    values = _rescaled(stored, dataset)
    shown = _windowed(values, dataset) if window == "stored" else None
    shown = _min_max(values, field) if shown is None else shown
    if interpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.where(field, np.round(255 * shown), 0).astype(np.uint8)


def _number(dataset: Dataset, name: str, default: float) -> float:
    """A number of the header (of several the first), or `default` where it is absent or empty."""
    try:
        value = dataset.get(name)
        value = value[0] if isinstance(value, MultiValue) and value else value
        return default if value is None or value == "" or isinstance(value, MultiValue) else float(value)
    except (TypeError, ValueError):
        raise UnreadableImage(f"its {name} is no number") from None


def _padding(dataset: Dataset) -> list[int]:
    """The values of padding, one or two ends of a range, as they occur among the pixels.

    A header may write 63536 where signed pixels have -2000, or the other way round: the same bits.
    """
    signed, bits = _number(dataset, "PixelRepresentation", 0) == 1, int(dataset.BitsStored)
    low = -(1 << (bits - 1)) if signed else 0
    found = [_number(dataset, name, np.nan) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    return [low + (int(value) - low) % (1 << bits) for value in found if np.isfinite(value) and np.isfinite(found[0])]


def _rescaled(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    if dataset.get("ModalityLUTSequence"):
        return apply_modality_lut(stored, dataset)
    return stored * _number(dataset, "RescaleSlope", 1) + _number(dataset, "RescaleIntercept", 0)


def _windowed(values: np.ndarray, dataset: Dataset) -> np.ndarray | None:
    """0 to 1 within the first window (PS3.3, C.11.2) or table that the file states; None where it states none."""
    if dataset.get("VOILUTSequence"):
        shown = apply_voi_lut(values.astype(np.int64), dataset, prefer_lut=True).astype(np.float64)
        return shown / ((1 << int(dataset.VOILUTSequence[0].LUTDescriptor[2])) - 1)
    centre, width = _number(dataset, "WindowCenter", np.nan), _number(dataset, "WindowWidth", np.nan)
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    if not np.isfinite(centre) or not width > (1 if function == "LINEAR" else 0):
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(-4 * (values - centre) / width))
    shift, span = (0.5, width - 1) if function == "LINEAR" else (0, width)
    return np.clip((values - (centre - shift)) / span + 0.5, 0, 1)


def _check(dataset: Dataset) -> None:
    """Refuses what cannot become one picture, before memory is spent on it."""
    frames, bits = int(_number(dataset, "NumberOfFrames", 1)), int(_number(dataset, "BitsStored", 0))
    rows, columns = int(_number(dataset, "Rows", 0)), int(_number(dataset, "Columns", 0))
    if "DirectoryRecordSequence" in dataset:
        raise UnreadableImage("a DICOMDIR: an index of files, not an image")
    if "PixelData" not in dataset or not rows or not columns:
        raise UnreadableImage("no pixels (a report, a presentation state, or a file cut short)")
    if frames > 1:
        raise UnreadableImage(f"{frames} frames: a series or a film loop, not one radiograph")
    if bits not in range(8, 17):  # masks have 1, floating-point maps 32
        raise UnreadableImage(f"{bits} bits a pixel; 8 to 16 can be read")
    if rows * columns > MAX_PIXELS or min(rows, columns) < MIN_SIDE:
        raise UnreadableImage(f"{columns} x {rows} pixels")
    if dataset.get("PhotometricInterpretation") not in (*GREY, "RGB", "PALETTE COLOR", *YBR):
        raise UnreadableImage("no photometric interpretation that is known, so what is bright in it is not known")
    dataset.NumberOfFrames = 1  # it may be empty, or 0
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not syntax.is_deflated and not get_decoder(syntax).is_available:
        raise UnreadableImage(
            f"compressed as {syntax.name}, for which no decoder is installed; decompress it first (dcmdjpeg, gdcmconv "
            "--raw) or install pylibjpeg with its plug-ins"
        )
    if syntax == JPEGBaseline8Bit and (damage := find_damage(next(generate_frames(dataset.PixelData)))):
        raise UnreadableImage(f"damaged: {damage}")


def _min_max(values: np.ndarray, field: np.ndarray) -> np.ndarray:
    """0 to 1 within the exposed field."""
    if not field.any():
        raise UnreadableImage("nothing but padding")
    low, high = float(values[field].min()), float(values[field].max())
    if low == high:
        raise UnreadableImage("blank: all its pixels are alike")
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
