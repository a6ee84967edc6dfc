"""What the papers print: the facts of data/published/. The rules for verdicts are in claims.py.

That every row keeps its promises (a value that is the printed one, a quote that holds it, known words) is tested.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from helpers.run.paths import PUBLISHED
from helpers.run.profile import nearest

COLUMNS = (
    *("id", "paper", "kind", "where", "quote", "quantity", "value", "low", "high", "n", "n_positive", "unit"),
    *("printed", "notebook", "reason", "measure", "key", "repeats", "note"),
)
TYPES = dict.fromkeys(("value", "low", "high"), "float64") | dict.fromkeys(("n", "n_positive"), "Int64")
Z = 1.959963984540054  # of a 95 % interval
NUMBER = re.compile(r"(\d[\d,]*(?:\.\d+)?|\.\d+)\s*(%|\(%\)|million)?")


class ClaimError(ValueError):
    """A published fact, or a claim about one, that cannot be used; the message names it."""


def printed_number(printed: str, proportion: bool = False) -> tuple[float, float, int] | None:
    """The value that `printed` shows, half a unit of its last digit, and its decimals: '96.6%' is 0.966, 0.0005, 1.

    Knows thousands commas, `%` and `million`; of several numbers the first counts ('20x20'). With `proportion`, a
    number above 1 without `%` is per cent, as in a table whose heading is so marked, and so is a smaller one with
    `(%)` ('0.02 (%)'). None where only words are printed ('every step', 'six').
    """
    if found := NUMBER.search(printed):
        digits, scale = found[1].replace(",", ""), {"%": 0.01, "(%)": 0.01, "million": 1e6}.get(found[2], 1.0)
        if proportion and not found[2] and float(digits) > 1:
            scale = 0.01
        decimals = len(digits.partition(".")[2])
        return float(digits) * scale, 0.5 * 10.0**-decimals * scale, decimals
    return None


def papers_known(folder: Path = PUBLISHED) -> list[str]:
    """The papers with a file of claims. A name with '_' (kermany2018_penalties.csv) holds values for a figure."""
    return sorted(path.stem for path in folder.glob("*.csv") if "_" not in path.stem)


def load_published(papers: str | Iterable[str] | None = None, folder: Path = PUBLISHED) -> pd.DataFrame:
    """Every number, figure and table of the papers: one row each, the columns of `COLUMNS` (see the folder's README).

    `value`, `low`, `high` are floats (NaN where blank), `n` and `n_positive` Int64, the others strings. Proportions
    are 0 to 1. Raises `ClaimError` for a file that is no such table, and with the nearest name for an unknown paper.
    """
    known = papers_known(folder)
    tables = []
    for paper in known if papers is None else [papers] if isinstance(papers, str) else papers:
        if paper not in known:
            raise ClaimError(f"no published facts of '{paper}'{nearest(paper, known)}")
        texts = dict.fromkeys(set(COLUMNS) - TYPES.keys(), "str")
        try:
            table = pd.read_csv(folder / f"{paper}.csv", dtype=TYPES | texts, usecols=COLUMNS)[list(COLUMNS)]
        except ValueError as error:
            raise ClaimError(f"{paper}.csv: {error}") from None
        tables.append(table.fillna(dict.fromkeys(texts, "")))
    return pd.concat(tables, ignore_index=True)


def load_weighted_errors(paper: str, folder: Path = PUBLISHED) -> dict[str, float]:
    """The weighted errors that the text prints (figure 4C, table S2): 'published: who, which' to penalty per image."""
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
