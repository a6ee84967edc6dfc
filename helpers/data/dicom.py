"""DICOM radiographs as uint8 grey pixels, as a hospital's archive hands them out. Folders of them: `dicom_folder`.

Rajkomar 2017 ("Image Preparation"): "The images were converted to greyscale 8-bit lossy JPEG format, and min-max
windowing was applied using DICOM Toolkit (DCMTK) (Version 3.6.0)". So the darkest pixel becomes 0 and the brightest
255, whatever window the file states; that is the default here, without the lossy JPEG.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image

from helpers.data.images import MAX_PIXELS, MIN_SIDE, UnreadableImage

if TYPE_CHECKING:
    from pydicom import Dataset

WINDOWS = ("min-max", "stored")
GREY = ("MONOCHROME1", "MONOCHROME2")
BITS = range(8, 17)  # stored a pixel; masks have 1, floating-point maps 32
FAR = 1e9  # beyond any pixel value: what a window makes of it is the window's own black or white


class DicomError(UnreadableImage):
    """A DICOM file that gives no picture; `reason` is a phrase for a list, and holds no patient data."""


def read_dicom(path: Path, window: str = "min-max") -> np.ndarray:
    """One radiograph as uint8 (h, w), bright where the film is white, as a monitor shows it.

    Stored values of 8 to 16 bits, signed or not, pass the modality LUT or rescale slope and intercept, then the window,
    and are inverted for MONOCHROME1 (a file's presentation LUT shape only repeats that, and is not applied on top).
    `window` "min-max" stretches the range that occurs, as the paper's; "stored" takes the file's VOI LUT or its first
    window centre and width, and where it states none, min-max too (see `states_window`). Padding outside the exposed
    field is black and does not count for the range. Colour becomes luma, and is not windowed.

    Raises `DicomError` for what is no DICOM file, has no pixels, several frames, or another depth, is compressed in a
    way that no installed decoder reads, or is blank.
    """
    return picture(open_dicom(path, path), window, path)


def open_dicom(source: Path | BinaryIO, path: Path | str = "", pixels: bool = True) -> Dataset:
    """The file's header (and, with `pixels`, its still encoded pixels). Raises `DicomError`, which names `path`."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        dataset = dcmread(source, stop_before_pixels=not pixels)
        dataset.get("PatientID")  # pydicom parses on access; what is broken should be known here
        return dataset
    except InvalidDicomError:
        raise DicomError("not a DICOM file", path) from None
    except OSError as error:
        raise DicomError(f"cannot be opened: {error.strerror or type(error).__name__}", path) from None
    except Exception as error:  # a parser meets broken files with nearly any exception
        raise DicomError(f"damaged: {type(error).__name__}", path) from error


def states_window(dataset: Dataset) -> bool:
    """Whether the file says how its values are to be shown: a VOI LUT, or window centre and width."""
    window = None not in (dataset.get("WindowCenter"), dataset.get("WindowWidth"))
    return dataset.get("PhotometricInterpretation") in GREY and (window or bool(dataset.get("VOILUTSequence")))


def picture(dataset: Dataset, window: str = "min-max", path: Path | str = "") -> np.ndarray:
    """The opened file's pixels as `read_dicom` describes them: uint8 (h, w). Raises `DicomError`."""
    if window not in WINDOWS:
        raise ValueError(f"there is no window '{window}'; known: {', '.join(WINDOWS)}")
    _check(dataset, path)
    try:
        stored = _decode(dataset)
        grey = dataset.PhotometricInterpretation in GREY
        return _from_grey(dataset, stored, window) if grey else _from_colour(dataset, stored)
    except DicomError as error:
        raise DicomError(error.reason, path) from None
    except Exception as error:  # decoders meet broken files with nearly any exception
        raise DicomError(f"its pixels cannot be decoded: {type(error).__name__}", path) from error


def _check(dataset: Dataset, path: Path | str) -> None:
    """Refuses what cannot become one picture, before memory is spent on it."""
    frames, bits = int(dataset.get("NumberOfFrames") or 1), dataset.get("BitsStored")
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if "PixelData" not in dataset or not rows or not columns:
        raise DicomError("no pixels (a report, a presentation state, or a file cut short)", path)
    if frames > 1:
        raise DicomError(f"{frames} frames: a series or a film loop, not one radiograph", path)
    if bits not in BITS:
        raise DicomError(f"{bits} bits a pixel; {BITS[0]} to {BITS[-1]} can be read", path)
    if rows * columns > MAX_PIXELS or min(rows, columns) < MIN_SIDE:
        raise DicomError(f"{columns} x {rows} pixels", path)
    _check_decoder(dataset, path)


def _check_decoder(dataset: Dataset, path: Path | str) -> None:
    from pydicom.pixels import get_decoder

    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is None:
        raise DicomError("it does not say how it is encoded (no transfer syntax)", path)
    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        known = get_decoder(syntax).is_available
    except NotImplementedError:
        known = False
    if not known:
        raise DicomError(
            f"compressed as {syntax.name}, for which no decoder is installed; decompress it first (dcmdjpeg, gdcmconv "
            "--raw) or install pylibjpeg with its plug-ins",
            path,
        )


def _decode(dataset: Dataset) -> np.ndarray:
    """Stored values (h, w), or (h, w, 3) RGB. Bits beyond those stored are cleared by pydicom."""
    from pydicom.pixels import pixel_array

    stored = pixel_array(dataset)
    if stored.shape[:2] != (dataset.Rows, dataset.Columns):
        raise DicomError(f"its pixels have the shape {stored.shape}")
    return stored


def _from_grey(dataset: Dataset, stored: np.ndarray, window: str) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut

    field = ~_padding(dataset, stored)
    values = apply_modality_lut(stored, dataset)
    shown = (
        _stored_window(dataset, values) if window == "stored" and states_window(dataset) else _min_max(values, field)
    )
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    return np.where(field, np.round(255 * shown), 0).astype(np.uint8)


def _min_max(values: np.ndarray, field: np.ndarray) -> np.ndarray:
    """0 to 1 within the exposed field."""
    if not field.any():
        raise DicomError("nothing but padding")
    low, high = float(values[field].min()), float(values[field].max())
    if low == high:
        raise DicomError("blank: all its pixels are alike")
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)


def _stored_window(dataset: Dataset, values: np.ndarray) -> np.ndarray:
    """0 to 1, by the file's VOI LUT or else its first window."""
    from pydicom.pixels import apply_voi, apply_windowing

    if dataset.get("VOILUTSequence"):
        depth = dataset.VOILUTSequence[0].LUTDescriptor[2]
        return apply_voi(np.round(values).astype(np.int64), dataset) / (2.0**depth - 1)
    with np.errstate(over="ignore"):  # a sigmoid of FAR
        black, white = apply_windowing(np.array([-FAR, FAR]), dataset)
    return (apply_windowing(values, dataset) - black) / (white - black)


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """True where a pixel is padding: the padding value, or the range from it to its limit."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, bool)
    ends = sorted((int(value), int(dataset.get("PixelPaddingRangeLimit", value))))
    return (stored >= ends[0]) & (stored <= ends[1])


def _from_colour(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Luma (ITU-R 601) of RGB (to which pydicom has brought YBR) or of a palette."""
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        stored = apply_color_lut(stored, dataset)
        depth = int(dataset.RedPaletteColorLookupTableDescriptor[2])
        stored = stored if depth <= 8 else (stored >> (depth - 8)).astype(np.uint8)
    if stored.ndim != 3 or stored.shape[2] < 3 or stored.dtype != np.uint8:
        raise DicomError(f"colour that cannot be read: {dataset.PhotometricInterpretation} of {stored.dtype}")
    return np.asarray(Image.fromarray(stored[..., :3]).convert("L"))
