"""SmallNet's packaged weights and the file that says how they were made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "weights"
DIGESTS = FOLDER / "digests.json"  # a file: its SHA-256, seed, versions, settings and held-out accuracy
FILES = {
    "formula": "smallnet_formula_grey.weights.h5",
    "formula_grey": "smallnet_formula_grey.weights.h5",  # the same, named beside the other two
    "formula_colour": "smallnet_formula_colour.weights.h5",
    "formula_subset": "smallnet_formula_subset.weights.h5",
}


class WeightsError(ValueError):
    """Packaged weights that are missing, or are not the ones that were recorded."""


def verified_file(weights: str) -> Path:
    """The packaged file of `weights` ('formula' and its kin), once its SHA-256 is the recorded one."""
    path = FOLDER / FILES[weights]
    if not path.is_file() or not DIGESTS.is_file():
        raise WeightsError(f"{path} or its record is missing; python -m tools.pretrain makes both")
    recorded = record(weights).get("sha256")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != recorded:
        raise WeightsError(f"{path.name} is not the file recorded in {DIGESTS.name} (sha256 {found}, not {recorded})")
    return path


def record(weights: str) -> dict:
    """What `DIGESTS` says of the packaged file of `weights`; empty where it says nothing."""
    return json.loads(DIGESTS.read_text(encoding="utf-8")).get(FILES[weights], {})
