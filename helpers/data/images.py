"""From files to uint8 grey pixels: any common image format, one size, decoded ahead of whoever uses them.

At the end: a perceptual hash that is the same for images an eye would call the same, and examples for figures.
"""

from __future__ import annotations

import math
import os
import stat
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageChops, ImageOps, UnidentifiedImageError

from helpers.data.catalogue import Catalogue
from helpers.data.splits import shuffled
from helpers.run.provenance import available_cores

# Decoders that are tried, whatever the file is called. Those that start other programs (EPS, WMF) are not among them.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
MAX_PIXELS = 64_000_000  # the largest radiographs have a third of this; a decompression bomb has far more
MAX_BYTES = 9 * MAX_PIXELS  # four channels of 16 bits, and a header
LARGE = 8_000_000  # pixels from which images are decoded one at a time, however many threads there are
MIN_SIDE = 8  # pixels; what is smaller is an icon or a tracking pixel, not a medical image
FRAME = 250  # grey level from which pixels joined to the image's edge are the white frame, not tissue
AHEAD = 2  # batches decoded while the caller works on one
IN_MEMORY = 256 * 2**20  # bytes of an array; a larger one lies in a file that the system pages in and out

_one_large = threading.Semaphore()

Box = tuple[tuple[float, float], tuple[float, float]]  # first and last row, first and last column, as shares


class UnreadableImage(ValueError):  # noqa: N818 - it names the image's state, as the list of excluded files does
    """A file that gives no pixels. `reason` is a phrase for the list of excluded files."""

    def __init__(self, reason: str, path: Path | str = "") -> None:
        super().__init__(f"{path}: {reason}" if str(path) else reason)
        self.reason = reason


def read_grey(path: Path) -> np.ndarray:
    """The image as uint8 (h, w).

    Colour becomes luma (ITU-R 601), transparent parts black, 16 bit is scaled to 8 (see `_rescale`), EXIF's orientation
    is applied, and of several frames the first is taken. The content decides the format, not the file's name. Raises
    `UnreadableImage`.
    """
    with open_image(path) as image:
        return np.array(to_grey(image))


def read_square(path: Path, size: int) -> np.ndarray:
    """The image squashed to uint8 (size, size), as the paper's Inception input: the aspect ratio is not kept.

    Antialiased (triangle filter). A JPEG at least four times as large is decoded at a fraction of its size, never below
    twice `size`, which changes a pixel by less than a grey level on average. Raises `UnreadableImage`.
    """
    with open_image(path) as image:
        image.draft("L", (2 * size, 2 * size))
        grey = to_grey(image)
        return np.array(grey.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))


def read_lungs(catalogue: Catalogue, frame: pd.DataFrame, size: int, box: Box) -> np.ndarray:
    """Where the lungs of these rows of a catalogue's frame are, bool (n, size, size): their masks where they are known,
    else `box`."""
    if "lung_mask" in frame and frame["lung_mask"].notna().all():
        return np.stack([read_square(catalogue.file(path), size) > 127 for path in frame["lung_mask"]])
    inside = np.zeros((size, size), bool)
    inside[slices_of(box, inside.shape)] = True
    return np.broadcast_to(inside, (len(frame), size, size))


def slices_of(box: Box, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Rows and columns of a box in an image of this shape."""
    return tuple(slice(round(low * n), round(high * n)) for (low, high), n in zip(box, shape, strict=True))


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """The opened image, not decoded yet; whatever goes wrong inside the block becomes an `UnreadableImage`."""
    try:
        check_file(path)
        # Not by its name: Pillow would map an uncompressed TIFF into memory, and mix up sides that EXIF turns.
        with Path(path).open("rb") as file, Image.open(file, formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableImage(f"{width} x {height} is more than {MAX_PIXELS:,} pixels", path)
            if min(width, height) < MIN_SIDE:
                raise UnreadableImage(f"{width} x {height} pixels is too small", path)
            with _one_large if width * height > LARGE else nullcontext():
                yield image
    except UnreadableImage:
        raise
    except UnidentifiedImageError:
        raise UnreadableImage("not an image", path) from None
    except Image.DecompressionBombError:
        raise UnreadableImage(f"more than {MAX_PIXELS:,} pixels", path) from None
    except Exception as error:  # decoders meet broken files with nearly any exception
        raise UnreadableImage(_explain(error), path) from error


def check_file(path: Path) -> None:
    """Refuse what must not be read: a pipe or device may never end. Raises `UnreadableImage`, or `OSError` for none."""
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise UnreadableImage("not a file but a pipe, socket or device", path)
    if status.st_size == 0:
        raise UnreadableImage("0 bytes", path)
    if status.st_size > MAX_BYTES:
        raise UnreadableImage(f"{status.st_size:,} bytes, more than any image of {MAX_PIXELS:,} pixels", path)


def _explain(error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
        return f"cannot be opened: {error.strerror}"
    if "truncated" in text or isinstance(error, EOFError):
        return "truncated"
    return f"damaged: {error or type(error).__name__}"


def to_grey(image: Image.Image) -> Image.Image:
    """Any mode of Pillow's as mode L, turned as EXIF says. Decodes the image."""
    if image.format == "JPEG":
        image.draft("L", None)  # luma only: the decoder skips the colour planes
    image.load()
    if image.format != "TIFF":  # Pillow has turned it already
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "L" and not image.has_transparency_data:
        return image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_rescale(np.asarray(image)))
    if image.has_transparency_data:
        return ImageChops.multiply(*image.convert("RGBA").convert("LA").split())
    return image.convert("L")


def _rescale(values: np.ndarray) -> np.ndarray:
    """Deep pixels as uint8 (h, w): the full range of their bit depth becomes 0 to 255.

    The depth is the smallest of 8, 12 and 16 bits that holds the brightest pixel, since scanners store 12 bits in
    files of 16. Values beyond that, negative ones and fractions of 1 have no depth: their own range is stretched.
    """
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low + high):
        raise ValueError("not-a-number or infinite pixels")
    whole = low >= 0 and (high > 1 or high == low)
    top = next((depth for depth in (255, 4095, 65535) if high <= depth), None) if whole else None
    scaled = values.astype(np.float32)
    if top is None:
        scaled, top = scaled - np.float32(low), high - low or 1.0
    return np.rint(scaled * np.float32(255 / top), out=scaled).astype(np.uint8)


def batches(catalogue: Catalogue, size: int, batch: int, workers: int = 0) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields (rows, pixels): a slice of the catalogue's rows, in order, and their uint8 (b, size, size) images.

    Threads decode at most `AHEAD` batches beyond the one in the caller's hands, so memory stays flat however many
    images there are. Raises `UnreadableImage` for a file that was broken or deleted since it was catalogued.
    """
    paths = [catalogue.file(path) for path in catalogue.frame["path"]]
    with ThreadPoolExecutor(workers or available_cores(), thread_name_prefix="decode") as pool:
        decoding = (pool.map(read_square, paths[k : k + batch], repeat(size)) for k in range(0, len(paths), batch))
        ahead, start = deque(islice(decoding, AHEAD)), 0
        try:
            while ahead:
                ahead.extend(islice(decoding, 1))
                images = np.stack(list(ahead.popleft()))
                yield slice(start, start + len(images)), images
                start += len(images)
        finally:
            pool.shutdown(cancel_futures=True)


def room_for(shape: tuple[int, ...], dtype: type, folder: Path) -> np.ndarray:
    """Room for an array, of which there may be one row per image: memory, or beyond `IN_MEMORY` bytes a nameless file
    in `folder`."""
    size = np.dtype(dtype).itemsize * math.prod(shape)
    if size <= IN_MEMORY:
        return np.empty(shape, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, a crash later
        return np.memmap(file, dtype, "w+", shape=shape)


def average_hash(image: np.ndarray) -> str:
    """The 64-bit average hash (aHash) of a grey image, as 16 hex digits.

    The image is cut into 8 x 8 blocks of (nearly) equal size; a bit is 1 where a block's mean lies above the mean of
    the 64 blocks. Bits run row by row from the top left, the first is the most significant. Two images are near
    duplicates where few bits differ, whatever their size, compression or brightness: one that differs by noise or by
    JPEG quality keeps all or nearly all of its bits.

    `image`: uint8 (height, width), not empty; a side shorter than 8 pixels repeats some. About 0.2 ms for 512 x 496.
    Raises `ValueError` for any other shape or type.
    """
    if image.dtype != np.uint8 or image.ndim != 2 or image.size == 0:
        raise ValueError(f"average_hash needs a grey uint8 image (height, width), got {image.dtype} {image.shape}")
    starts = [np.arange(8) * side // 8 for side in image.shape]
    sums = np.add.reduceat(np.add.reduceat(image, starts[0], axis=0, dtype=np.uint32), starts[1], axis=1)
    # Where two starts coincide (a side under 8 pixels), reduceat takes that one pixel.
    sides = [np.maximum(np.diff([*first, side]), 1) for first, side in zip(starts, image.shape, strict=True)]
    blocks = sums / np.outer(*sides)
    return np.packbits(blocks > blocks.mean()).tobytes().hex()


def choose_examples(catalogue: Catalogue, per_class: int, seed: int, clearest: bool = True) -> pd.DataFrame:
    """`per_class` rows of each class, each of another patient of the train folder, in an order fixed by the seed.

    With `clearest`, and where the source knows `severity` and `quality` (phantoms), the draw is from the plainer half,
    as the paper's figure 2A is of plain cases.
    """
    train = catalogue.frame[catalogue.frame["published_split"] == "train"]
    if clearest and {"severity", "quality"} <= set(train.columns):
        plain = train["severity"].astype(float) + train["quality"].astype(float)
        normal = (train["label"] == "NORMAL") * train["quality"].astype(float) * 2
        rank = plain.where(train["label"] != "NORMAL", normal).groupby(train["label"]).rank(pct=True)
        train = train[rank > 0.5]
    order = shuffled(train["image_id"], str(seed))
    drawn = train.set_index("image_id", drop=False).loc[order].drop_duplicates(["label", "patient_id"])
    return drawn.groupby("label").head(per_class).reset_index(drop=True)


def read_examples(
    catalogue: Catalogue, rows: pd.DataFrame
) -> tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]] | None]:
    """The rows' images by class, grey uint8 (h, w), and their lesion masks (bool) where the source has them."""
    groups = [(label, rows[rows["label"] == label]) for label in catalogue.classes]
    images = {label: [read_grey(catalogue.file(path)) for path in mine["path"]] for label, mine in groups}
    if "mask" not in rows.columns:
        return images, None
    masks = {label: [read_grey(catalogue.file(path)) > 0 for path in mine["mask"]] for label, mine in groups}
    return images, masks


def frame_of(image: np.ndarray) -> np.ndarray:
    """The white corners and strips that reach the image's edge, bool (h, w), with a rim for the blur of resizing."""
    from scipy.ndimage import binary_dilation, label

    pieces, count = label(image >= FRAME)
    if not count:
        return np.zeros(image.shape, bool)
    edge = np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])
    sizes = np.bincount(pieces.ravel())
    kept = [piece for piece in np.unique(edge[edge > 0]) if sizes[piece] >= 0.0005 * image.size]
    return binary_dilation(np.isin(pieces, kept), iterations=max(1, round(0.012 * len(image))))
