"""A run's tables and pictures beside the committed reference: numbers within a stated tolerance, nothing missing."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.run import paths
from helpers.run.profile import ProfileError
from helpers.run.runs import Run

# Another processor rounds features differently, so that a handful of images may change class. Shares of 600 images move
# by about 0.01 then, ratios with small denominators by more.
ABSOLUTE, RELATIVE = 0.03, 0.15
LOOSE = {  # more, where a number moves more
    "learning_curve": 0.12,  # single draws of ten images a class
    "decisions": 12.0,  # counts of 300 images by a network that several threads trained
    "robustness": 0.15,  # images that the same network never saw the like of
    "methods": 0.2,  # twelve images
    "sanity": 0.2,
    "agreement": 0.2,
    "localisation_by_size": 0.2,  # a few images a bin
    "table_s3": 0.1,
}
NUMBER = re.compile(r"(?<!\w)[-+]?\d+(?:\.\d+)?(?:e-?\d+)?")  # in a text; not the 2 of A2
# Follow from numbers that are compared, and jump; or are times.
SKIPPED = {"step", "p", "p_holm", "p by parent", "design effect", "order", "statistic", "seconds"}


def compare_with_reference(run: Run) -> int:
    """Print what differs between figures/<run>/ and the committed figures/phantom/; 0 where nothing does, else 1."""
    with tempfile.TemporaryDirectory() as folder:
        reference = committed_figures(Path(folder))
        problems = differences(reference, run.figures)
        tables, pictures = (len(list(reference.rglob(f"*.{kind}"))) for kind in ("csv", "png"))
    for problem in problems:
        print(f"differs: {problem}", file=sys.stderr)
    verdict = f"{len(problems)} differences" if problems else "all agree"
    print(f"{tables} tables and {pictures} pictures of the committed reference: {verdict}", file=sys.stderr)
    return 1 if problems else 0


def committed_figures(folder: Path) -> Path:
    """The figures/phantom/ of the last commit, unpacked under `folder`: a run has overwritten the one in the tree."""
    asked = subprocess.run(["git", "archive", "HEAD", "figures/phantom"], cwd=paths.ROOT, capture_output=True)
    if asked.returncode:
        raise ProfileError(f"the commit holds no figures/phantom to compare with: {asked.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(asked.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "figures" / "phantom"


def differences(reference: Path, made: Path) -> list[str]:
    """Each way in which `made` differs from `reference`, as a line; both are folders of figures and tables."""
    problems = []
    for path in sorted(reference.rglob("*")):
        name, other = path.relative_to(reference), made / path.relative_to(reference)
        if path.is_dir() or path.name.startswith("."):  # what a killed run left half-written
            continue
        if not other.is_file():
            problems.append(f"{name} was not made")
        elif path.suffix == ".csv":
            problems += [f"{name}: {what}" for what in table_differences(path, other)]
        elif path.suffix == ".png":
            problems += [f"{name}: {what}" for what in picture_differences(path, other)]
    return problems


def table_differences(reference: Path, made: Path) -> list[str]:
    """Columns, rows, words, and numbers beyond `ABSOLUTE + RELATIVE * |reference|`."""
    old, new = pd.read_csv(reference), pd.read_csv(made)
    if list(old.columns) != list(new.columns) or len(old) != len(new):
        return [f"{len(new)} rows of {list(new.columns)}, the reference has {len(old)} of {list(old.columns)}"]
    loose = LOOSE.get(reference.stem, ABSOLUTE)
    found = []
    for column in (c for c in old.columns if c not in SKIPPED):
        a, b = old[column], new[column]
        if pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b):
            bad = ~np.isclose(b, a, rtol=RELATIVE, atol=loose, equal_nan=True)
        elif column in ("note", "method"):
            continue
        else:
            cells = zip(a.fillna("").astype(str), b.fillna("").astype(str), strict=True)
            bad = np.array([_texts_differ(before, after, loose) for before, after in cells], bool)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            found.append(f"column {column}, row {row + 1}: {b[row]}, not {a[row]} ({bad.sum()} rows differ)")
    return found


def _texts_differ(before: str, after: str, loose: float) -> bool:
    """Other words, or a number among them beyond the tolerance: '0.93 (0.90 to 0.95), n = 300' holds four."""
    if NUMBER.sub("#", before) != NUMBER.sub("#", after):
        return True
    old, new = (np.array(NUMBER.findall(text), float) for text in (before, after))
    return not np.allclose(new, old, rtol=RELATIVE, atol=loose)


def picture_differences(reference: Path, made: Path) -> list[str]:
    """A picture must be there, of about the reference's size, and not blank."""
    from PIL import Image

    with Image.open(reference) as old, Image.open(made) as new:
        if any(abs(a - b) > 0.05 * a for a, b in zip(old.size, new.size, strict=True)):
            return [f"{new.size} pixels, the reference has {old.size}"]
        low, high = new.convert("L").getextrema()
    return ["the picture is blank"] if low == high else []
