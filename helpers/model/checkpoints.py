"""Checkpoints of a training under way: one .npz file, written whole or not at all, named by all that it depends on."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from helpers.run.provenance import write_atomically

META = "meta"  # the entry that holds JSON, as bytes


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read."""


class CheckpointWarning(UserWarning):
    """Checkpoints that lie in the folder and are of no use to this training."""


class CheckpointStore:
    """The checkpoint of one training, `folder`/checkpoint-<key>.npz; `folder` None: nothing is kept.

    `key` stands for the settings, data, backbone and versions; a training with another key never reads this file.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self.path = None if folder is None else Path(folder) / f"checkpoint-{key}.npz"
        self.key = key

    def save(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Put `arrays` and `meta` (anything JSON holds) in the place of what was saved before."""
        if self.path is None:
            return
        text = json.dumps({"key": self.key, **meta}).encode()
        parts = {**arrays, META: np.frombuffer(text, np.uint8)}
        write_atomically(self.path, lambda file: np.savez(file, **parts))

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """What `save` wrote last, or None. Raises `CheckpointError` for a damaged file, or one of another key.

        Half-written files of a killed process are removed. Where only checkpoints of other settings or data are there,
        a `CheckpointWarning` says that they are not used.
        """
        if self.path is None:
            return None
        for left in self.path.parent.glob(f".{self.path.stem}-*"):
            left.unlink(missing_ok=True)
        if not self.path.is_file():
            self._warn_of_others()
            return None
        try:
            with np.load(self.path, allow_pickle=False) as parts:
                arrays = {name: parts[name] for name in parts.files}
            meta = json.loads(arrays.pop(META).tobytes())
            found = meta["key"]
        except Exception as error:  # zipfile, numpy, json and KeyError each have their own
            raise CheckpointError(f"{self.path} is damaged ({error}); delete it and run again") from error
        if found != self.key:
            raise CheckpointError(f"{self.path} holds a checkpoint of other settings or data; delete it and run again")
        return arrays, meta

    def _warn_of_others(self) -> None:
        others = sorted(self.path.parent.glob("checkpoint-*.npz"))
        if others:
            warnings.warn(
                f"{self.path.parent}: {len(others)} checkpoint(s) of other settings or data are left as they are and "
                f"not used ({others[0].name}); training starts anew",
                CheckpointWarning,
                stacklevel=2,
            )


def flat(lists: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Lists of arrays as `CheckpointStore.save` takes them; `unflat` gives them back."""
    return {f"{name}-{i:05d}": np.asarray(value) for name, values in lists.items() for i, value in enumerate(values)}


def unflat(arrays: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """The lists that `flat` was given, in their order; an empty one is missing."""
    lists: dict[str, list[np.ndarray]] = {}
    for name in sorted(arrays):
        lists.setdefault(name.rsplit("-", 1)[0], []).append(arrays[name])
    return lists
