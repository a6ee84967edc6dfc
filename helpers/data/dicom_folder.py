"""A folder of DICOM radiographs to PNG files and a table, with no patient data in either.

What is kept of a header: the view position (if it is one of the standard's words), the modality, the size, which images
are one patient's, and the order of a patient's studies. What is not: everything else. Names are keyed hashes, which
nobody without the key can tie to a patient, not by trying all patient numbers either. Writing burnt into the pixels is
beyond this: a file whose header admits it is refused, and the others should be looked at.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import os
import secrets
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from helpers.data.dicom import GREY, DicomError, open_dicom, picture, states_window
from helpers.data.images import worker_count
from helpers.data.scan import is_stray

TABLE = "images.csv"
IMAGES = "images"
COLUMNS = ["image", "view", "modality", "patient", "study", "rows", "columns", "window"]
# The standard's terms for chest radiographs and their opposites (CR and DX, attribute 0018,5101). Another text is not
# kept: a free text may hold anything, a name included.
VIEWS = {"AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "LATERAL", "LAT"}
MODALITIES = {"CR", "DX", "RG", "DR", "PX", "XA", "RF", "CT", "MR", "US", "OP", "OPT", "OT", "SC", "MG", "IO"}
KEY_BYTES = 32
NAME_DIGITS = 24  # 96 bits: no two of a million images share a name


@dataclass(frozen=True)
class Conversion:
    """`table` (see `COLUMNS`) as written to `folder`/images.csv; `failures`: path and reason of each file left out (a
    path may name a patient, so they are written nowhere); `converted`: how many pictures were made now, the others
    being there from before."""

    folder: Path
    table: pd.DataFrame
    failures: pd.DataFrame
    converted: int


def convert_folder(source: Path, target: Path, key: bytes, window: str = "min-max", workers: int = 0) -> Conversion:
    """Makes `target`/images/<name>.png of every radiograph below `source`, and `target`/images.csv.

    Of the table: `view` and `modality` as the header has them or empty; `patient`, a pseudonym, the same for one key
    and patient id; `study` 1, 2, ... in the order of the patient's study dates (of undated ones, in no order);
    `window` what was applied (see `dicom.read_dicom`). A picture is there as a whole or not at all; a second run makes
    what is missing. Files that differ in no byte become one picture. A file that cannot be read, has no patient id (so
    it could not be split by patient) or writing burnt in, is among the failures and stops nothing.

    `key` (16 bytes at least, see `read_key`) must stay secret, and be the same for data that belong together. Raises
    ValueError for a short key or a `target` inside `source`, FileNotFoundError without `source`.
    """
    if len(key) < 16:
        raise ValueError(f"a key of {len(key)} bytes can be guessed; 16 are the least (see read_key)")
    if not source.is_dir():
        raise FileNotFoundError(f"there is no folder {source}")
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} lies inside {source}; the pictures belong in a folder of their own")
    paths = sorted(p for p in source.rglob("*") if p.is_file() and not is_stray(p.relative_to(source)))
    (target / IMAGES).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(worker_count(workers), thread_name_prefix="dicom") as pool:
        headers = list(pool.map(lambda path: _header(path, key, window), paths))
        results = list(pool.map(lambda header: _convert(header, target), _bar(_first_of_each(headers))))
    good = [header for header, result in zip(_first_of_each(headers), results, strict=True) if not result[1]]
    failures = [(h["path"], h["reason"]) for h in headers if h["reason"]]
    failures += [(result[0], result[1]) for result in results if result[1]]
    table = _table(good)
    _write(table, target / TABLE)
    bad = pd.DataFrame(
        sorted((str(path.relative_to(source)), why) for path, why in failures), columns=["path", "reason"]
    )
    return Conversion(target, table, bad, sum(result[2] for result in results))


def read_key(path: Path) -> bytes:
    """The key of `path`; made, for its owner's eyes alone, where there is none. Keep it apart from the pictures."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
    try:
        return bytes.fromhex(path.read_text().strip())
    except ValueError:
        raise ValueError(f"{path} is no key: it should hold {2 * KEY_BYTES} hex digits") from None


def _header(path: Path, key: bytes, window: str) -> dict:
    """What is kept of one file, and its `reason` if it cannot be used. Only `path` and `date` identify: not written."""
    try:
        content = path.read_bytes()
        dataset = open_dicom(io.BytesIO(content), path, pixels=False)
        patient = str(dataset.get("PatientID") or "").strip()
        if not patient:
            raise DicomError("no patient id, so which patient it shows is not known", path)
        if str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES":
            raise DicomError("writing burnt into its pixels, by its header", path)
    except (DicomError, OSError) as error:
        return {"path": path, "reason": getattr(error, "reason", "cannot be opened")}
    issuer = str(dataset.get("IssuerOfPatientID") or "").strip()
    applied = "stored" if window == "stored" and states_window(dataset) else "min-max"
    if dataset.get("PhotometricInterpretation") not in GREY:
        applied = "none"  # colour is not windowed
    return {
        "path": path,
        "reason": "",
        "image": f"{_pseudonym(key, 'image', window, hashlib.sha256(content).hexdigest())}.png",
        "patient": _pseudonym(key, "patient", issuer, patient),
        "study_key": _pseudonym(key, "study", str(dataset.get("StudyInstanceUID") or "")),
        "date": f"{dataset.get('StudyDate') or ''} {dataset.get('StudyTime') or ''}",
        "view": _word(dataset.get("ViewPosition"), VIEWS),
        "modality": _word(dataset.get("Modality"), MODALITIES),
        "rows": int(dataset.get("Rows") or 0),
        "columns": int(dataset.get("Columns") or 0),
        "asked": window,
        "window": applied,
    }


def _pseudonym(key: bytes, *parts: str) -> str:
    message = "\0".join(parts).encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:NAME_DIGITS]


def _word(value: object, known: set[str]) -> str:
    word = str(value or "").strip().upper()
    return word if word in known else ""


def _first_of_each(headers: list[dict]) -> list[dict]:
    """One header a picture: identical files have one name."""
    return list({header["image"]: header for header in reversed(headers) if not header["reason"]}.values())[::-1]


def _convert(header: dict, target: Path) -> tuple[Path, str, bool]:
    """(path, why it failed or "", whether a picture was made now)."""
    from PIL import Image

    path, place = header["path"], target / IMAGES / header["image"]
    if place.exists():
        return path, "", False
    try:
        pixels = picture(open_dicom(path, path), header["asked"], path)
    except DicomError as error:
        return path, error.reason, False
    temporary = place.with_suffix(f".{os.getpid()}.tmp")
    Image.fromarray(pixels).save(temporary, "PNG")
    temporary.replace(place)
    return path, "", True


def _bar(headers: list[dict]) -> Iterable[dict]:
    from tqdm import tqdm

    return tqdm(headers, desc="converting DICOM", unit="image", file=sys.stderr, delay=3, mininterval=1)


def _table(headers: list[dict]) -> pd.DataFrame:
    """The rows in the order of their names, so that the order of the files says nothing."""
    frame = pd.DataFrame(headers, columns=[*COLUMNS, "study_key", "date"]).sort_values("image", ignore_index=True)
    studies = frame.groupby(["patient", "study_key"])["date"].min().reset_index()
    studies = studies.sort_values(["patient", "date", "study_key"])
    studies["study"] = studies.groupby("patient").cumcount() + 1
    number = studies.set_index(["patient", "study_key"])["study"].to_dict()
    keys = zip(frame["patient"], frame["study_key"], strict=True)
    return frame.assign(study=[number[key] for key in keys])[COLUMNS]


def _write(table: pd.DataFrame, path: Path) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    table.to_csv(temporary, index=False, quoting=csv.QUOTE_MINIMAL)
    temporary.replace(path)
