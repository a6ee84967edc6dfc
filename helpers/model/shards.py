"""Rows of features on disk, each found by the digest of the image that it was computed from.

A folder holds what one backbone, engine and precision gave (`key.json` says which, in words), in shards: `.npz` files
of some hundred rows, each written whole or not at all. A shard is named after the digests of its images and lists
them, so any data set that shares images with an earlier one, in whatever order, finds their rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from helpers.run.provenance import digest_of, read_json, write_atomically, write_json

IN_MEMORY = 256 * 2**20  # bytes of features; more lie in a file that the system pages in and out as they are used
NAME = re.compile(r"[0-9a-f]{32}\.npz")


class ShardError(RuntimeError):
    """Stored bottlenecks that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class ShardStore:
    """The shards of one folder. `width` is the number of features a row; `words` is all that the rows depend on
    beside the image, and goes into every shard."""

    folder: Path
    width: int
    words: dict[str, Any]

    @classmethod
    def open(cls, cache: Path, name: str, width: int, words: dict[str, Any]) -> ShardStore:
        """The folder for `words` under `cache`, made if it is new. Raises `ShardError` if it says it is another's."""
        folder = cache / f"{name}-{digest_of(words)}"
        said = folder / "key.json"
        if said.is_file() and read_json(said) != json.loads(json.dumps(words)):
            raise ShardError(f"{said} does not say what its folder's name stands for; delete {folder} and run again")
        if not said.is_file():
            write_json(said, words)
        return cls(folder, width, words)

    @property
    def key(self) -> str:
        """16 hex digits that stand for `words`."""
        return digest_of(self.words)

    def lock(self, timeout: float = -1) -> FileLock:
        """Held while rows are added. The system lets go of it when its holder dies, however it dies."""
        return FileLock(self.folder / "writing.lock", timeout=timeout)

    def paths(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if NAME.fullmatch(path.name))

    def clean(self) -> None:
        """Delete what a killed writer left half-written. Only for the holder of the lock."""
        for path in self.folder.glob(".*.npz"):
            path.unlink(missing_ok=True)

    def index(self) -> dict[str, tuple[Path, int]]:
        """Where each image's row lies, by digest: the shard and the row. Raises `ShardError` for a damaged shard."""
        found: dict[str, tuple[Path, int]] = {}
        for path in self.paths():
            for row, digest in enumerate(self._read(path, "digests")):
                found.setdefault(digest, (path, row))
        return found

    def write(self, digests: Sequence[str], features: np.ndarray, agreement: dict[str, float]) -> Path:
        """Add a shard: `features`, float32 (n, width), of the images with these n digests.

        It is on the disk, whole, before its name appears.
        """
        if features.shape != (len(digests), self.width) or features.dtype != np.float32:
            raise ValueError(f"{len(digests)} images, but features {features.dtype} {features.shape}")
        path = self.folder / f"{_name_of(digests)}.npz"
        members = {"digests": np.array(digests, dtype="S"), "features": features}
        members["told"] = np.array(json.dumps({"key": self.key, "agreement": agreement}))

        def save(file: Path) -> None:
            with file.open("wb") as stream:
                np.savez(stream, **members)
                stream.flush()
                os.fsync(stream.fileno())

        write_atomically(path, save)
        return path

    def gather(self, digests: Sequence[str]) -> tuple[np.ndarray, dict[str, float]]:
        """float32 (n, width): the rows of these images in this order, and the worst agreement noted with any of them.

        One shard is in memory at a time; the result is, up to `IN_MEMORY` bytes. Raises `ShardError` for a damaged
        shard and `KeyError` for an image that has no row.
        """
        index = self.index()
        places: dict[Path, tuple[list[int], list[int]]] = {}
        for target, digest in enumerate(digests):
            path, row = index[digest]
            targets, rows = places.setdefault(path, ([], []))
            targets.append(target)
            rows.append(row)
        out = _allocate(self.folder, (len(digests), self.width))
        noted = []
        for path, (targets, rows) in places.items():
            out[targets] = self._read(path, "features")[rows]
            noted.append(self._read(path, "told")["agreement"])
        out.flags.writeable = False
        return out, _worst(noted)

    def _read(self, path: Path, member: str) -> Any:
        """One member of a shard, its checksum and shape verified."""
        try:
            with np.load(path, allow_pickle=False) as shard:
                value = shard[member]  # read to its end, where zipfile compares the checksum
            if member == "digests":
                value = [digest.decode() for digest in value.tolist()]
                _require(f"{_name_of(value)}.npz" == path.name, "its digests are not those it is named after")
            elif member == "features":
                _require(value.dtype == np.float32 and value.ndim == 2, f"features of {value.dtype} {value.shape}")
                _require(value.shape[1] == self.width, f"{value.shape[1]} features an image, not {self.width}")
            else:
                value = json.loads(str(value))
                _require(value["key"] == self.key, f"it belongs to another key, {value['key']}")
        except Exception as error:  # a broken zip file raises anything from BadZipFile to NotImplementedError
            raise ShardError(
                f"{path} cannot be used ({error or type(error).__name__}); delete it and run again: "
                "only its images are computed again"
            ) from error
        return value


def _name_of(digests: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:32]


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValueError(problem)


def _worst(noted: list[dict[str, float]]) -> dict[str, float]:
    """The least cosine and the largest differences."""
    worst: dict[str, float] = {}
    for measured in noted:
        for name, value in measured.items():
            pick = min if name == "min_cosine" else max
            worst[name] = pick(worst.get(name, value), value)
    return worst


def _allocate(folder: Path, shape: tuple[int, int]) -> np.ndarray:
    """Room for float32 `shape`: memory, or beyond `IN_MEMORY` a nameless file in `folder`."""
    size = 4 * shape[0] * shape[1]
    if size <= IN_MEMORY:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, a crash later
        return np.asarray(np.memmap(file, np.float32, "w+", shape=shape))
