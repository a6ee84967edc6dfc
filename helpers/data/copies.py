"""The audit of a data set: counts beside the paper's, and copies among 100,000 images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.data.images import batches, room_for
from helpers.run.paths import CACHE
from helpers.run.provenance import available_cores

THUMBNAIL = 32  # pixels a side
BITS = 3  # re-encoding, halving and squashing were seen to move 0 to 3 of the 64 bits
CORRELATION = 0.99  # of thumbnails; re-encoded copies of OCT were seen above 0.993, other pairs below 0.98
BLOCK = 128  # images that are compared with all others at once: 100 MB of distances for 100,000
PAIRS = 8192  # pairs whose thumbnails are compared at once


def counts(catalogue: Catalogue, paper: Mapping[str, Mapping] | None = None) -> pd.DataFrame:
    """Images and patients by published split and class, with a row "all" per split, beside the paper's.

    `paper` is shaped as `kermany_images.OCT_COUNTS`. Columns: split, label, images, patients, paper_images,
    paper_patients; a number that the paper does not print, or that is not known, is <NA>. A patient of two classes
    counts in both of their rows, and once in "all".
    """
    paper, frame = paper or {}, catalogue.frame
    rows = []
    for split in ("train", "test"):
        here = frame[frame["published_split"] == split]
        printed = paper.get("images", {}).get(split, {})
        for label in catalogue.classes:
            part = here[here["label"] == label]
            rows.append((split, label, len(part), part["patient_id"].nunique(), printed.get(label), None))
        total, patients = sum(printed.values()) or None, paper.get("patients", {}).get(split)
        rows.append((split, "all", len(here), here["patient_id"].nunique(), total, patients))
    columns = ["split", "label", "images", "patients", "paper_images", "paper_patients"]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], "Int64"))
    return table if catalogue.patients_known else table.assign(patients=pd.Series(pd.NA, table.index, "Int64"))


def duplicates(catalogue: Catalogue, workers: int = 0) -> pd.DataFrame:
    """Pairs of images that are copies of one another, one row per pair.

    `kind` is "exact" (the same bytes: each copy beside the first of its group, train before test) or "near" (average
    hashes at most `BITS` apart and thumbnails correlated above `CORRELATION`: re-encoded, resized, brightened). Of
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
    exact = exact.assign(bits=0, correlation=1.0)
    pairs = pd.concat([exact, _near_copies(unique, workers or available_cores())], ignore_index=True)
    facts = frame.set_index("image_id")
    for end in ("a", "b"):
        for column, name in (("published_split", "split"), ("label", "label"), ("patient_id", "patient")):
            pairs[f"{name}_{end}"] = pairs[f"image_{end}"].map(facts[column]).astype(str)
    same = pairs["split_a"] == pairs["split_b"]
    return pairs.assign(where=np.where(same, pairs["split_a"], "train and test"))


def _near_copies(catalogue: Catalogue, workers: int) -> pd.DataFrame:
    """image_a, image_b, kind, bits and correlation: hashes are compared for all pairs, thumbnails of close ones."""
    images, names = thumbnails(catalogue, workers), catalogue.frame["image_id"].to_numpy()
    hashes = np.array([int(text, 16) for text in catalogue.frame["average_hash"]], np.uint64)

    def compare(start: int) -> pd.DataFrame:
        distance = np.bitwise_count(hashes[start : start + BLOCK, None] ^ hashes[None, start:])
        a, b = np.nonzero(np.triu(distance <= BITS, 1))
        bits, a, b = distance[a, b].astype(np.int64), a + start, b + start
        alike = np.ones(len(a))
        for first in range(0, len(a), PAIRS):
            part = slice(first, first + PAIRS)
            alike[part] = np.einsum("ij,ij->i", images[a[part]], images[b[part]])
        found = pd.DataFrame({"image_a": names[a], "image_b": names[b], "kind": "near"})
        return found.assign(bits=bits, correlation=alike)[alike > CORRELATION]

    with ThreadPoolExecutor(workers, thread_name_prefix="compare") as pool:
        return pd.concat(pool.map(compare, range(0, len(names), BLOCK)), ignore_index=True)


def linked_images(root: Path, rows: pd.DataFrame, workers: int = 0) -> list[tuple[str, str]]:
    """Pairs of image_id that are copies of one another, of a scan's rows that are no catalogue yet."""
    if len(rows) < 2:
        return []
    unknown = dict.fromkeys(("label", "patient_id"), "unknown")
    frame = rows.assign(**unknown, published_split="train").reset_index(drop=True)
    pairs = duplicates(Catalogue("copies", root, frame, ("unknown",)), workers)
    return list(zip(pairs["image_a"], pairs["image_b"], strict=True))


def connected(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The first name of each name's group, where the two of a pair, and all whom pairs connect, are one group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names = pd.Index(sorted(set(names)))
    row, column = names.get_indexer([name for pair in pairs for name in pair]).reshape(-1, 2).T
    graph = coo_array((np.ones(len(row)), (row, column)), shape=(len(names), len(names)))
    group = pd.Series(connected_components(graph)[1])
    return dict(zip(names, names[group.groupby(group).transform("idxmin")], strict=True))


def duplicate_counts(pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per kind and place: how many pairs, and of these between two patients and between two labels."""
    other = pd.DataFrame({"kind": pairs["kind"], "where": pairs["where"], "pairs": 1})
    for name in ("patient", "label"):
        other[f"different_{name}"] = (pairs[f"{name}_a"] != pairs[f"{name}_b"]).astype(int)
    places = [["exact", "near"], ["train", "test", "train and test"]]
    index = pd.MultiIndex.from_product(places, names=["kind", "where"])
    return other.groupby(["kind", "where"]).sum().reindex(index, fill_value=0).reset_index()


def thumbnails(catalogue: Catalogue, workers: int = 0) -> np.ndarray:
    """float32 (n, THUMBNAIL * THUMBNAIL), in the catalogue's order, of mean 0 and length 1, so that a dot product is a
    correlation; of a blank image zeros. 4 kB per image; many lie on the disk (`room_for`). Raises `UnreadableImage`."""
    out = room_for((len(catalogue), THUMBNAIL * THUMBNAIL), np.float32, CACHE)
    for rows, pixels in batches(catalogue, THUMBNAIL, 256, workers):
        values = pixels.reshape(len(pixels), -1).astype(np.float32)
        values -= values.mean(axis=1, keepdims=True)
        length = np.linalg.norm(values, axis=1, keepdims=True)
        out[rows] = values / np.where(length > 0, length, 1)
    return out
