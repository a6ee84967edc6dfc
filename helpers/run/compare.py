"""A run's tables and pictures beside the committed reference, figures/reference/.

What no training decides (counts, splits, the audit, the phantoms themselves) must be equal. A number that a training
decides differs between processors; its 95 % interval holds the error of the test patients and the spread between
trainings. Two runs of it agree statistically, by one rule for the whole run:

- the distance of two estimates is their difference over the arms of their intervals that face each other, squared and
  added, in standard errors: 1.96 is the edge of the 95 % interval of the difference of two independent estimates;
- of m numbers, none may lie beyond the distance that one in 400 m comparisons passes (two-sided, normal), and no more
  beyond 3.29, the edge of the 99.9 % interval, than chance puts there in all but one of 200 runs (binomial).

So a run that differs by chance alone is called different about once in a hundred. Both runs judge the same test images,
whose error is in both intervals and cancels in the difference, so that it is rarer still.

Numbers without an interval (thresholds, counts that predictions decide) are named, not compared; p values follow from
what is compared; of tables of single trainings (chosen epochs) only rows and columns must be the same.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binom, norm

from helpers.run import paths
from helpers.run.profile import ProfileError, Run
from helpers.run.provenance import read_json

NEAR, ALARM = 3.29, 0.005  # standard errors of a 99.9 % interval; of a whole run, by either part of the rule
EXACT = 1e-9  # relative difference of deterministic numbers: the order of a sum
GREY = 0.05  # grey levels by which the mean of a phantom may differ: processors round single pixels differently
NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e-?\d+)?"
INTERVAL = re.compile(rf"({NUMBER})(?: %)? \(({NUMBER}) to ({NUMBER})\)")
FREE = {"note", "method", "verdict", "explanation", "order", "seconds"}  # words that follow from the numbers, or times
FREE |= {"n", "p", "p_holm", "p by image", "p, chi-squared", "design effect"}  # numbers that follow from them


@dataclass
class Comparison:
    """What differs from the reference, as lines, and how much was compared and how.

    `distances`: of every number with an interval, in standard errors, with its line; `without_interval` and `by_shape`
    name what was not compared.
    """

    differences: list[str] = field(default_factory=list)
    tables: int = 0
    pictures: int = 0
    exact: int = 0
    distances: list[tuple[float, str]] = field(default_factory=list)
    without_interval: list[str] = field(default_factory=list)
    by_shape: list[str] = field(default_factory=list)

    def conclude(self) -> None:
        """Add to `differences` the numbers that are too far apart for chance, by the rule for all of them."""
        count = max(len(self.distances), 1)
        far = norm.isf(ALARM / (2 * count))
        beyond = [(distance, line) for distance, line in self.distances if distance > NEAR]
        if len(beyond) <= binom.isf(ALARM, count, 2 * norm.sf(NEAR)):
            beyond = [(distance, line) for distance, line in beyond if distance > far]
        self.differences += [f"{line} ({distance:.1f} standard errors)" for distance, line in beyond]


def compare_with_reference(run: Run, reference: Path = paths.REFERENCE) -> int:
    """Print how figures/<run>/ differs from the reference; 0 where nothing does, else 1."""
    if not reference.is_dir():
        raise ProfileError(f"{reference} is missing: `make reference` makes it from a finished run")
    found = compare_folders(reference, run.figures)
    for line in found.differences:
        print(f"differs: {line}", file=sys.stderr)
    print(
        f"{found.tables} tables and {found.pictures} pictures: {found.exact:,} numbers compared exactly, "
        f"{len(found.distances):,} by their intervals; {len(found.differences) or 'no'} differences\n"
        f"without an interval, not compared: {'; '.join(found.without_interval) or 'none'}\n"
        f"of single trainings, compared by shape: {'; '.join(found.by_shape) or 'none'}",
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
    found.conclude()
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
        yield from _compare_trained(old, new, f"{made.parent.name}/{made.stem}", found)
    else:
        found.by_shape.append(f"{made.parent.name}/{made.stem}")


def _compare_trained(old: pd.DataFrame, new: pd.DataFrame, name: str, found: Comparison) -> Iterator[str]:
    """Texts that differ; of numbers, their distances into `found`."""
    covered = set()
    for low in (column for column in old.columns if _upper(column) in old.columns):
        value = old.columns[max(old.columns.get_loc(low) - 1, 0)]  # a value stands before its interval
        names = (value, low, _upper(low))
        covered |= set(names)
        for row, (mine, theirs) in enumerate(zip(new[[*names]].to_numpy(), old[[*names]].to_numpy(), strict=True)):
            found.distances += _distance(mine, theirs, f"{name}: {value}, row {row + 1}")
    rest = [column for column in old.columns if column not in covered | FREE]
    numbers = [column for column in rest if pd.api.types.is_numeric_dtype(old[column])]
    if numbers:
        found.without_interval.append(f"{name} ({', '.join(numbers)})")
    for column in (column for column in rest if column not in numbers):
        yield from _compare_texts(old[column], new[column], name, found)


def _distance(mine: Sequence[float], theirs: Sequence[float], line: str) -> list[tuple[float, str]]:
    """How far two estimates (value, low, high) are apart, in standard errors; nothing where one has no interval."""
    (a, a_low, a_high), (b, b_low, b_high) = mine, theirs
    if np.isnan([*mine, *theirs]).any():
        return []
    apart = 0.0
    if a != b and (gap := abs(a - b)) > EXACT:  # equal ones may both be infinite
        arms = (a - a_low, b_high - b) if a > b else (a_high - a, b - b_low)
        apart = gap / max(float(np.hypot(*arms)), EXACT) * norm.isf(0.025)
    text = f"{line}: {a:.4g} ({a_low:.4g} to {a_high:.4g}), the reference has {b:.4g} ({b_low:.4g} to {b_high:.4g})"
    return [(apart, text)]


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


def _compare_texts(old: pd.Series, new: pd.Series, name: str, found: Comparison) -> Iterator[str]:
    """Texts without numbers must be equal; estimates within texts are compared as others are."""
    for row, (before, after) in enumerate(zip(old.fillna("").astype(str), new.fillna("").astype(str), strict=True)):
        spans = [[tuple(map(float, span)) for span in INTERVAL.findall(text)] for text in (after, before)]
        for mine, theirs in zip(*spans, strict=False):
            found.distances += _distance(mine, theirs, f"{name}: {old.name}, row {row + 1}")
        if not re.search(r"\d", before + after) and before != after:
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
