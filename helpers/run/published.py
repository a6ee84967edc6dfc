"""What the papers print: the facts of data/published/, read and checked. The rules for verdicts are in claims.py."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from helpers.run.paths import PUBLISHED
from helpers.run.profile import KEYS, nearest
from helpers.run.steps import notebook_names

COLUMNS = (
    *("id", "paper", "kind", "where", "quote", "quantity", "value", "low", "high", "n", "n_positive", "unit"),
    *("printed", "notebook", "reason", "measure", "key", "repeats", "note"),
)
KINDS = ("number", "figure", "table")
# How a verdict may be given; `none`: it cannot. claims.py says what each means.
MEASURES = ("proportion", "auroc", "mean", "count", "setting", "below", "none")
UNITS = (
    *(
        "proportion",
        "images",
        "patients",
        "people",
        "experts",
        "classes",
        "steps",
        "epochs",
        "pixels",
        "points",
    ),
    *("processors", "gigabytes", "hours", "minutes", "months", "years", "date", "version", "injections"),
    *("decimal acuity", "causes", "figures", "tables", "seconds", "images per second", "ratio", "1"),
    *("studies", "models", "layers", "modules", "parameters", "bits", "degrees", "diagnoses", "reports"),
)
CONTEXT = "quoted context, not a result"  # the reason of a number that a paper takes from elsewhere

Z = 1.959963984540054  # of a 95 % interval

_NUMBER = re.compile(r"(\d[\d,]*(?:\.\d+)?|\.\d+)\s*(%|\(%\)|million)?")
_WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_WORDS = {word: i for i, word in enumerate(f"{_WORDS} seventeen eighteen nineteen".split())}
_WORDS |= {word: 10 * i for i, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
_TIMES = ("hundred", "thousand")


class ClaimError(ValueError):
    """A published fact, or a claim about one, that cannot be used; the message says where."""


def printed_number(printed: str, proportion: bool = False) -> tuple[float, float, int] | None:
    """The value that `printed` shows, half a unit of its last digit, and its decimals: '96.6%' is 0.966, 0.0005, 1.

    Knows thousands commas, `%`, `million` and numbers in words ('Seven hundred fifty-two'); of several numbers the
    first counts ('20x20'). With `proportion`, a number above 1 without `%` is per cent, as in a table whose heading
    says so; `(%)` says the same of a smaller one ('0.02 (%)'). None where only other words are printed ('every step').
    """
    if found := _NUMBER.search(printed):
        digits, scale = found[1].replace(",", ""), {"%": 0.01, "(%)": 0.01, "million": 1e6}.get(found[2], 1.0)
        if proportion and not found[2] and float(digits) > 1:
            scale = 0.01
        decimals = len(digits.partition(".")[2])
        return float(digits) * scale, 0.5 * 10.0**-decimals * scale, decimals
    spelt = _spelt_number(printed)
    return None if spelt is None else (float(spelt), 0.5, 0)


def _spelt_number(printed: str) -> int | None:
    """The first number in words: 'One thousand eight hundred eighty-five' is 1885. None where there is none."""
    total, part, began = 0, 0, False
    for word in re.findall(r"[a-z]+", printed.lower()):
        value = _WORDS.get(word)
        follows = part % 100 == 0 or (value is not None and value < 10 and part % 10 == 0)
        if value is not None and (follows or not began):
            total, part, began = total, part + value, True
        elif began and word in _TIMES:
            total, part = (total, 100 * part) if word == "hundred" else (total + 1000 * part, 0)
        elif began:
            break
    return total + part if began else None


def papers_known(folder: Path = PUBLISHED) -> list[str]:
    """The papers with a file of claims. A name with '_' (kermany2018_penalties.csv) holds values for a figure."""
    return sorted(path.stem for path in folder.glob("*.csv") if "_" not in path.stem)


def load_published(papers: str | Iterable[str] | None = None, folder: Path = PUBLISHED) -> pd.DataFrame:
    """Every number, figure and table of the papers: one row each, the columns of `COLUMNS` (see the folder's README).

    `value`, `low`, `high` are floats (NaN where blank), `n` and `n_positive` Int64, the others strings. Proportions
    are 0 to 1. Raises `ClaimError` with file and line for the first row that breaks a promise, and with the nearest
    name for an unknown paper.
    """
    known = papers_known(folder)
    papers = known if papers is None else [papers] if isinstance(papers, str) else list(papers)
    rows: list[dict] = []
    for paper in papers:
        if paper not in known:
            raise ClaimError(f"no published facts of '{paper}'{nearest(paper, known)}")
        rows += _read(folder / f"{paper}.csv")
    places: dict[str, str] = {}
    for row in rows:
        if row["id"] in places:
            raise ClaimError(f"{row['place']}: id '{row['id']}' is taken by {places[row['id']]}")
        places[row["id"]] = row["place"]
    _check_repeats(rows)
    frame = pd.DataFrame([{c: row[c] for c in COLUMNS} for row in rows], columns=list(COLUMNS))
    return frame.astype({c: "float64" for c in ("value", "low", "high")} | {"n": "Int64", "n_positive": "Int64"})


def load_weighted_errors(paper: str, folder: Path = PUBLISHED) -> dict[str, float]:
    """The weighted errors that the text prints (figure 4C, table S2): 'published: who, which' to penalty an image."""
    table = pd.read_csv(folder / f"{paper}_weighted_errors.csv")
    names = table["who"] + table["statistic"].map(lambda what: "" if what == "value" else f", {what}")
    return {f"published: {name}": float(value) for name, value in zip(names, table["weighted_error"], strict=True)}


def published_interval(row: Mapping[str, Any]) -> tuple[float, float, str]:
    """The 95 % interval of a published value, and where it comes from ('' and the value itself: there is none)."""
    value = float(row["value"])
    if not math.isnan(row["low"]):
        return float(row["low"]), float(row["high"]), "as printed"
    if pd.isna(row["n"]) or row["n"] == 0 or row["measure"] not in ("proportion", "auroc"):
        return value, value, ""
    n = int(row["n"])
    if row["measure"] == "proportion":
        interval = binomtest(round(value * n), n).proportion_ci(method="exact")
        return interval.low, interval.high, f"Clopper-Pearson from n = {n:,}"
    positives = int(row["n_positive"])
    error = hanley_mcneil(value - (half_unit(row) if value == 1 else 0), positives, n - positives)
    low, high = max(0.0, value - Z * error), min(1.0, value + Z * error)
    return low, high, f"Hanley-McNeil from {positives:,} positives and {n - positives:,} negatives"


def hanley_mcneil(auroc: float, positives: int, negatives: int) -> float:
    """Standard error of an AUROC from its value and the class sizes (Hanley and McNeil 1982, equation 1).

    It is 0 at an AUROC of 1, so callers pass the smallest value that would have been printed so.
    """
    if not positives or not negatives:
        return 0.0
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = auroc * (1 - auroc) + (positives - 1) * (q1 - auroc**2) + (negatives - 1) * (q2 - auroc**2)
    return math.sqrt(max(0.0, spread) / (positives * negatives))


def half_unit(row: Mapping[str, Any]) -> float:
    """Half a unit of the last digit that the row prints; 0 where it prints no number."""
    shown = printed_number(row["printed"], row["unit"] == "proportion")
    return shown[1] if shown else 0.0


def _read(path: Path) -> list[dict]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, restkey="", restval=None, strict=True)
        header = reader.fieldnames or []
        for column in header:
            if column not in COLUMNS:
                raise ClaimError(f"{path.name} line 1: unknown column '{column}'{nearest(column, COLUMNS)}")
        if missing := [column for column in COLUMNS if column not in header]:
            raise ClaimError(f"{path.name} line 1: no column {', '.join(missing)}")
        rows = []
        try:
            for row in reader:
                place = f"{path.name} line {reader.line_num}"
                if "" in row or None in row.values():
                    raise ClaimError(f"{place}: not {len(COLUMNS)} fields (a comma inside an unquoted field?)")
                rows.append(_checked({**row, "place": place}, path.stem))
        except csv.Error as error:
            raise ClaimError(f"{path.name} line {reader.line_num}: {error}") from None
    return rows


def _checked(row: dict, paper: str) -> dict:
    """The row with its numbers as numbers, or a `ClaimError` for the first promise it breaks."""
    place = f"{row['place']} ({row['id'] or 'no id'})"
    for column, known in (("kind", KINDS), ("measure", MEASURES)):
        if row[column] not in known:
            raise ClaimError(f"{place}: unknown {column} '{row[column]}'{nearest(row[column], known)}")
    for column, known in (("unit", UNITS), ("notebook", notebook_names()), ("key", KEYS)):
        if row[column] and row[column] not in known:
            raise ClaimError(f"{place}: unknown {column} '{row[column]}'{nearest(row[column], known)}")
    for column in ("value", "low", "high", "n", "n_positive"):
        row[column] = _parse(row[column], place, column, whole=column.startswith("n"))
    for broken, message in _promises(row, paper):
        if broken:
            raise ClaimError(f"{place}: {message}")
    if row["measure"] != "none":
        _check_printed(row, place)
    return row


def _parse(text: str, place: str, column: str, whole: bool) -> float | int | None:
    if not text:
        return None if whole else math.nan
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (whole and number < 0):
        raise ClaimError(f"{place}: {column} '{text}' is not a {'count' if whole else 'number'}")
    return number


def _promises(row: dict, paper: str) -> list[tuple[bool, str]]:
    """(broken, message) for what every row must keep."""
    value, low, high, n, positive = (row[c] for c in ("value", "low", "high", "n", "n_positive"))
    number = row["kind"] == "number"
    share = row["measure"] in ("proportion", "auroc")
    blank = [column for column in ("where", "quote", "quantity") if not row[column].strip()]
    return [
        (row["paper"] != paper, f"paper '{row['paper']}' in the file of {paper}"),
        (
            not re.fullmatch(rf"{re.escape(paper)}(\.[A-Za-z0-9_]+)+", row["id"]),
            f"an id reads {paper}.<what>.<what>",
        ),
        (bool(blank), f"blank {', '.join(blank)}"),
        (
            bool(row["notebook"]) == bool(row["reason"]),
            "needs a notebook or the reason why there is none, not both",
        ),
        (
            number and (math.isnan(value) or not row["printed"] or not row["unit"]),
            "needs value, unit and printed",
        ),
        (not number and not math.isnan(value), f"a {row['kind']} has no value"),
        (not number and row["measure"] != "none", f"a {row['kind']} has measure none"),
        (number and bool(row["notebook"]) == (row["measure"] == "none"), "a measure goes with a notebook"),
        (math.isnan(low) != math.isnan(high), "needs both low and high, or neither"),
        (not math.isnan(low) and not low <= value <= high, "the interval does not hold the value"),
        (share and not 0 <= value <= 1, f"a {row['measure']} is 0 to 1, not {value}"),
        (share and row["unit"] != "proportion", f"a {row['measure']} has unit proportion"),
        (positive is not None and (n is None or positive > n), "n_positive needs an n at least as large"),
        (
            row["measure"] == "auroc" and n is not None and not positive,
            "an AUROC's n needs n_positive beside it",
        ),
        (bool(row["key"]) and row["measure"] != "setting", "only a setting has a profile key"),
    ]


def _check_printed(row: dict, place: str) -> None:
    """The value is what the paper printed, so that a slip in copying shows."""
    shown = printed_number(row["printed"], row["unit"] == "proportion")
    if shown and not math.isclose(shown[0], row["value"], rel_tol=1e-9, abs_tol=1e-12):
        raise ClaimError(f"{place}: value {row['value']} is not the printed {row['printed']}")


def _check_repeats(rows: list[dict]) -> None:
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        if not row["repeats"]:
            continue
        first = by_id.get(row["repeats"])
        if first is None or first["repeats"]:
            raise ClaimError(f"{row['place']}: repeats '{row['repeats']}'{nearest(row['repeats'], by_id)}")
        for column in ("paper", "kind", "notebook", "measure", "value"):
            if row[column] != first[column]:
                raise ClaimError(f"{row['place']}: repeats '{first['id']}' with another {column}")
