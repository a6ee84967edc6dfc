"""A run's tables and pictures beside the committed reference, figures/reference/.

What no training decides (counts, splits, the audit, the phantoms themselves) must be equal. A trained network differs
between processors, so a number that rests on one must have a 95 % interval, and agrees where both intervals allow one
value. Trained numbers without an interval are counted, not compared; and of tables that one training decides, whose
intervals do not hold the spread between trainings, only rows and columns must be the same.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.run import paths
from helpers.run.profile import ProfileError, Run
from helpers.run.provenance import read_json

EXACT = 1e-9  # relative difference of deterministic numbers: the order of a sum
GREY = 0.05  # grey levels by which the mean of a phantom may differ: processors round single pixels differently
NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e-?\d+)?"
INTERVAL = re.compile(rf"({NUMBER})(?: %)? \(({NUMBER}) to ({NUMBER})\)")
FREE = {"note", "method", "verdict", "explanation", "order", "seconds"}  # words that follow from the numbers, or times


@dataclass
class Comparison:
    """What differs from the reference, as lines, and how much was compared and how."""

    differences: list[str] = field(default_factory=list)
    tables: int = 0
    pictures: int = 0
    exact: int = 0
    intervals: int = 0
    without_interval: int = 0
    by_shape: int = 0


def compare_with_reference(run: Run, reference: Path = paths.REFERENCE) -> int:
    """Print how figures/<run>/ differs from the reference; 0 where nothing does, else 1."""
    if not reference.is_dir():
        raise ProfileError(f"{reference} is missing: `make reference` makes it from a finished run")
    found = compare_folders(reference, run.figures)
    for line in found.differences:
        print(f"differs: {line}", file=sys.stderr)
    print(
        f"{found.tables} tables and {found.pictures} pictures: {found.exact:,} numbers compared exactly, "
        f"{found.intervals:,} by whether both intervals allow one value, {found.without_interval:,} trained numbers "
        f"without an interval and {found.by_shape} tables of one training not compared; "
        f"{len(found.differences) or 'no'} differences",
        file=sys.stderr,
    )
    return 1 if found.differences else 0


def make_reference(run: Run, reference: Path = paths.REFERENCE) -> None:
    """Replace the committed reference by the tables and pictures of a finished run."""
    if not list(run.figures.glob("*/tables.json")):
        raise ProfileError(f"{run.figures} holds no finished notebook: start the run with `make reproduce`")
    shutil.rmtree(reference, ignore_errors=True)
    shutil.copytree(run.figures, reference, ignore=shutil.ignore_patterns(".*", "*.pdf"))
    print(f"{reference.relative_to(paths.ROOT)} now holds the figures and tables of run {run.name}", file=sys.stderr)


def compare_folders(reference: Path, made: Path) -> Comparison:
    """Each way in which the figures and tables of `made` differ from those of `reference`."""
    found = Comparison()
    for path in sorted(reference.rglob("*")):
        name, other = path.relative_to(reference), made / path.relative_to(reference)
        if path.is_dir() or path.name.startswith("."):
            continue
        if not other.is_file():
            found.differences.append(f"{name} was not made")
        elif path.suffix == ".csv":
            compared = read_json(path.parent / "tables.json")["compared"][path.stem]
            lines = compare_tables(path, other, compared, found)
            found.differences += [f"{name}: {line}" for line in lines]
        elif path.suffix == ".json":
            found.differences += [f"{name}: {line}" for line in _data_differences(read_json(path), read_json(other))]
        elif path.suffix == ".png":
            found.pictures += 1
            found.differences += [f"{name}: {line}" for line in picture_differences(path, other)]
    return found


def compare_tables(reference: Path, made: Path, compared: str, found: Comparison) -> Iterator[str]:
    """How one table differs, and into `found` how many numbers were compared."""
    old, new = pd.read_csv(reference), pd.read_csv(made)
    found.tables += 1
    if list(old.columns) != list(new.columns) or len(old) != len(new):
        yield f"{len(new)} rows of {list(new.columns)}, the reference has {len(old)} of {list(old.columns)}"
        return
    if compared == "exactly":
        found.exact += int(old.notna().sum().sum())
        yield from _unequal(old, new)
    elif compared == "by interval":
        yield from _trained_apart(old, new, found)
    else:
        found.by_shape += 1


def _trained_apart(old: pd.DataFrame, new: pd.DataFrame, found: Comparison) -> Iterator[str]:
    bounds = [column for column in old.columns if _upper(column) in old.columns]
    for column in bounds:
        found.intervals += int(old[column].notna().sum())
        yield from _apart(old, new, column, _upper(column))
    covered = {name for column in bounds for name in (column, _upper(column), column.replace("low", "value"))}
    for column in (name for name in old.columns if name not in covered and name not in FREE):
        if pd.api.types.is_numeric_dtype(old[column]):
            found.without_interval += int(old[column].notna().sum())
        else:
            yield from _texts_apart(old[column], new[column], found)


def _upper(column: str) -> str:
    """The column of an interval's upper end, for one of its lower end; '' for another column."""
    parts = re.split(r"(\blow\b|_low\b)", column, maxsplit=1)
    return "".join(part.replace("low", "high") if "low" in part else part for part in parts) if len(parts) > 1 else ""


def _unequal(old: pd.DataFrame, new: pd.DataFrame) -> Iterator[str]:
    for column in old.columns:
        a, b = old[column], new[column]
        if pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b):
            bad = ~np.isclose(b, a, rtol=EXACT, atol=0, equal_nan=True)
        else:
            bad = (a.fillna("").astype(str) != b.fillna("").astype(str)).to_numpy()
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            yield f"column {column}, row {row + 1}: {b[row]}, not {a[row]} ({int(bad.sum())} rows differ)"


def _apart(old: pd.DataFrame, new: pd.DataFrame, low: str, high: str) -> Iterator[str]:
    apart = (new[low] > old[high]) | (new[high] < old[low])
    for row in np.flatnonzero(apart)[:1]:
        mine, theirs = (f"{table[low][row]:.4g} to {table[high][row]:.4g}" for table in (new, old))
        yield f"column {low}, row {row + 1}: {mine} and the reference's {theirs} share no value ({apart.sum()} rows)"


def _texts_apart(old: pd.Series, new: pd.Series, found: Comparison) -> Iterator[str]:
    """Texts without numbers must be equal; intervals within texts must share a value."""
    for row, (before, after) in enumerate(zip(old.fillna("").astype(str), new.fillna("").astype(str), strict=True)):
        spans = [[tuple(map(float, span)) for span in INTERVAL.findall(text)] for text in (before, after)]
        found.intervals += len(spans[0])
        plain = not re.search(r"\d", before + after)
        pairs = zip(*spans, strict=False)
        if (plain and before != after) or any(a[1] > b[2] or a[2] < b[1] for a, b in pairs):
            yield f"column {old.name}, row {row + 1}: {after}, not {before}"
            return


def _data_differences(old: dict, new: dict) -> Iterator[str]:
    """Counts of images, patients and splits must be equal, and mean grey levels of phantoms but for rounding."""
    for key, value in old["data"].items():
        mine = new["data"].get(key)
        grey = isinstance(value, float) and isinstance(mine, float)
        if not (abs(mine - value) <= GREY if grey else mine == value):
            yield f"data, {key}: {mine}, not {value}"
    if old["compared"] != new["compared"]:
        yield f"tables are compared as {new['compared']}, not {old['compared']}"


def picture_differences(reference: Path, made: Path) -> list[str]:
    """A picture must be there, of about the reference's size, and not blank."""
    from PIL import Image

    with Image.open(reference) as old, Image.open(made) as new:
        if any(abs(a - b) > 0.05 * a for a, b in zip(old.size, new.size, strict=True)):
            return [f"{new.size} pixels, the reference has {old.size}"]
        low, high = new.convert("L").getextrema()
    return ["the picture is blank"] if low == high else []
