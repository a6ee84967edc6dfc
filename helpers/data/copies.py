"""Exact and near copies of images, found among 100,000 in minutes: the audit's search."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.hashing import average_hash
from helpers.data.images import batches, worker_count

THUMBNAIL = 32  # pixels a side
BITS = 3  # re-encoding, halving and squashing were seen to move 0 to 3 of the 64 bits
CORRELATION = 0.99  # of thumbnails; re-encoded copies of OCT were seen above 0.993, other pairs below 0.98
TILE = 2048  # images a side of a block of comparisons: 32 MB of distances
PAIRS = 8192  # pairs whose thumbnails are compared at once


def duplicates(
    catalogue: Catalogue, bits: int = BITS, correlation: float = CORRELATION, workers: int = 0
) -> pd.DataFrame:
    """Pairs of images that are copies of one another, one row a pair.

    `kind` is "exact" (the same bytes: each copy beside the first of its group, train before test) or "near" (average
    hashes at most `bits` apart and thumbnails correlated above `correlation`: re-encoded, resized, brightened). Of
    exact copies only the first is searched for near ones. Further columns: `image_a`, `image_b`, and of each `_a` and
    `_b` the `split` (as published), `label` and `patient`; `where` ("train", "test" or "train and test"), `bits` and
    `correlation`. 110,000 images take minutes, most of them spent decoding.
    Blank images correlate with nothing, so they are never near copies. Raises `UnreadableImage`.
    """
    frame = catalogue.frame.sort_values(["published_split", "image_id"], ascending=[False, True], ignore_index=True)
    first = frame.groupby("digest")["image_id"].transform("first")
    copies = first != frame["image_id"]
    exact = pd.DataFrame({"image_a": first, "image_b": frame["image_id"], "kind": "exact"})[copies]
    unique = catalogue.subset(frame[~copies])
    a, b, distance, alike = _near(unique, bits, correlation, worker_count(workers))
    names = unique.frame["image_id"].to_numpy()
    near = pd.DataFrame({"image_a": names[a], "image_b": names[b], "kind": "near"})
    exact, near = exact.assign(bits=0, correlation=1.0), near.assign(bits=distance, correlation=alike)
    return _describe(pd.concat([exact, near], ignore_index=True), frame)


def _describe(pairs: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    facts = frame.set_index("image_id")
    for end in ("a", "b"):
        image = pairs[f"image_{end}"]
        for column, name in (("published_split", "split"), ("label", "label"), ("patient_id", "patient")):
            pairs[f"{name}_{end}"] = image.map(facts[column]).astype(str)
    same = pairs["split_a"] == pairs["split_b"]
    return pairs.assign(where=np.where(same, pairs["split_a"], "train and test"))


def duplicate_counts(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row a kind and place: how many pairs, and of these between two patients and between two labels."""
    other = pd.DataFrame(
        {
            "kind": pairs["kind"],
            "where": pairs["where"],
            "pairs": 1,
            "different_patient": (pairs["patient_a"] != pairs["patient_b"]).astype(int),
            "different_label": (pairs["label_a"] != pairs["label_b"]).astype(int),
        }
    )
    places = [(kind, where) for kind in ("exact", "near") for where in ("train", "test", "train and test")]
    index = pd.MultiIndex.from_tuples(places, names=["kind", "where"])
    return other.groupby(["kind", "where"]).sum().reindex(index, fill_value=0).reset_index()


def thumbnails(catalogue: Catalogue, workers: int = 0) -> np.ndarray:
    """uint8 (n, THUMBNAIL * THUMBNAIL), in the catalogue's order: 1 kB an image. Raises `UnreadableImage`."""
    out = np.empty((len(catalogue), THUMBNAIL * THUMBNAIL), np.uint8)
    for rows, pixels in batches(catalogue, THUMBNAIL, 256, workers):
        out[rows] = pixels.reshape(len(pixels), -1)
    return out


def standardise(images: np.ndarray) -> np.ndarray:
    """float32 rows of mean 0 and length 1, so that a dot product is a correlation; a blank image becomes zeros."""
    values = images.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(length > 0, length, 1)


def _near(catalogue: Catalogue, bits: int, correlation: float, workers: int) -> tuple[np.ndarray, ...]:
    """Row numbers a < b of near copies, their distance in bits and their correlation."""
    images = thumbnails(catalogue, workers)
    hashes = _hashes(catalogue, images)
    with ThreadPoolExecutor(workers, thread_name_prefix="compare") as pool:
        found = list(pool.map(lambda tile: _compare(tile, hashes, images, bits, correlation), _tiles(len(images))))
    return tuple(np.concatenate([part[i] for part in found]) for i in range(4))


def _hashes(catalogue: Catalogue, images: np.ndarray) -> np.ndarray:
    """uint64 (n,), from the catalogue where it has them, else from the thumbnails."""
    if "average_hash" in catalogue.frame:
        texts = list(catalogue.frame["average_hash"])
    else:
        texts = [average_hash(image.reshape(THUMBNAIL, THUMBNAIL)) for image in images]
    return np.array([int(text, 16) for text in texts], np.uint64)


def _tiles(n: int) -> Iterator[tuple[slice, slice]]:
    """Blocks that hold every pair a < b once."""
    starts = range(0, n, TILE)
    yield from ((slice(i, i + TILE), slice(j, j + TILE)) for i in starts for j in starts if j >= i)


def _compare(
    tile: tuple[slice, slice], hashes: np.ndarray, images: np.ndarray, bits: int, correlation: float
) -> tuple[np.ndarray, ...]:
    """The near copies of one block: cheap on hashes for all pairs, then on thumbnails for those that are close."""
    left, right = tile
    distance = np.bitwise_count(hashes[left, None] ^ hashes[None, right])
    a, b = np.nonzero(distance <= bits)
    if left == right:
        a, b = a[a < b], b[a < b]
    alike = np.empty(len(a), np.float32)
    if len(a):
        first, second = standardise(images[left]), standardise(images[right])
        for start in range(0, len(a), PAIRS):
            part = slice(start, start + PAIRS)
            alike[part] = np.einsum("ij,ij->i", first[a[part]], second[b[part]])
    keep = alike > correlation
    a, b, alike = a[keep], b[keep], alike[keep]
    return a + left.start, b + right.start, distance[a, b].astype(np.int64), alike.astype(np.float64)
