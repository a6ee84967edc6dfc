"""The printed numbers as the audit sees them: a value, and the rounding that its last digit allows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.run.claims import ClaimError, load_published, printed_number
from helpers.run.paths import PUBLISHED
from helpers.run.profile import nearest

EPS = 1e-9  # a proportion that lies exactly between two printed values may have been rounded to either
ELSEWHERE = "elsewhere"  # what begins the id of a fact that no paper of the four prints
VALUES = ("accuracy", "sensitivity", "specificity", "ppv", "npv")


@dataclass(frozen=True)
class Fact:
    """A printed number. `half` is half a unit of its last digit, so that the true value lies in `low` to `high`."""

    id: str
    paper: str
    where: str
    quantity: str
    value: float
    half: float
    decimals: int
    percent: bool  # whether it was printed in per cent
    text: str
    quote: str = ""
    limits: tuple[float, float] | None = None  # its interval, as printed
    n: int | None = None

    @property
    def low(self) -> float:
        return self.value - self.half - EPS

    @property
    def high(self) -> float:
        return self.value + self.half + EPS

    @property
    def width(self) -> float:
        """The width of the printed interval."""
        return self.limits[1] - self.limits[0]

    @property
    def loose(self) -> Fact:
        """The fact as one that may be rounded to nearest, halves either way, or cut off: then it is up to a unit more.

        A whole number is a count, and stays as it is.
        """
        room = replace(self, value=self.value + self.half / 2 - EPS, half=1.5 * self.half - EPS)
        return room if self.percent or self.decimals else self

    def cut_off(self, n: int) -> range:
        """The counts k of 0 to n for which k / n would print so, were digits cut off rather than rounded."""
        return replace(self, value=self.value + self.half - EPS, half=self.half - EPS).counts(n)

    def holds(self, x: Any) -> Any:
        """Whether `x` (a number or an array of them) would be printed as this fact is."""
        return (x >= self.low) & (x <= self.high)

    def agrees(self, other: Fact) -> bool:
        """Whether one number, rounded in one manner, may print as this fact and as `other`."""
        return abs(self.value - other.value) < max(self.half + other.half, EPS) - EPS or self.value == other.value

    def counts(self, n: int) -> range:
        """The counts k of 0 to n for which k / n would be printed as this fact is."""
        return range(max(0, math.ceil(self.low * n - EPS)), min(n, math.floor(self.high * n + EPS)) + 1)

    def steps(self, x: Any) -> Any:
        """How many units of the last printed digit `x` (or each of an array) is away: 0 where it would print so."""
        away = np.maximum(1, np.rint(abs(x - self.value) / (2 * self.half or EPS)))
        return np.where(self.holds(x), 0, away).astype(int)

    def show(self, x: float) -> str:
        """`x` as this fact is printed: '93.1 %', '0.945', '5,856'."""
        return f"{100 * x:.{self.decimals}f} %" if self.percent else f"{x:,.{self.decimals}f}"

    def gap(self, x: float) -> float:
        """How far what is printed is from `x`, relative to what is printed."""
        return 0.0 if self.holds(x) else abs(x - self.value) / abs(self.value) if self.value else math.inf


@dataclass(frozen=True)
class ScoredSet:
    """A test set on which several networks were scored, and whose number of positives is not printed.

    `rows` hold the printed values of each network (by its name, then by `VALUES`); `parts` the sets that it joins.
    """

    title: str
    size: Fact
    rows: Mapping[str, Mapping[str, Fact]]
    parts: tuple[ScoredSet, ...] = ()

    @property
    def n(self) -> int:
        return int(self.size.value)

    @cached_property
    def by_row(self) -> dict[str, np.ndarray]:
        """The numbers of positives that each row allows."""
        return {name: possible_positives(row, self.n) for name, row in self.rows.items()}

    @cached_property
    def shared(self) -> np.ndarray:
        """The numbers of positives that all rows allow."""
        return reduce(np.intersect1d, self.by_row.values())

    @cached_property
    def of_parts(self) -> np.ndarray:
        """Every sum of a number of positives of each part."""
        return reduce(lambda a, b: np.unique(a[:, None] + b[None, :]), [part.positives for part in self.parts])

    @cached_property
    def positives(self) -> np.ndarray:
        """The numbers of positives that all rows, and the parts where there are any, allow."""
        return np.intersect1d(self.shared, self.of_parts) if self.parts else self.shared

    @property
    def rate(self) -> float:
        """The mean prevalence of what is possible; NaN where nothing is."""
        return float(np.mean(self.positives)) / self.n if len(self.positives) else math.nan


def possible_positives(row: Mapping[str, Fact], n: int) -> np.ndarray:
    """The numbers of positives (1 to n - 1) for which some counts of correct answers print as every value of `row`.

    `row` needs sensitivity and specificity; accuracy, PPV and NPV are used where they are there.
    """
    p, (sens, spec) = np.arange(1, n), (row["sensitivity"], row["specificity"])
    tp = np.ceil(sens.low * p - EPS), np.floor(sens.high * p + EPS)
    tn = np.ceil(spec.low * (n - p) - EPS), np.floor(spec.high * (n - p) + EPS)
    keep = (tp[0] <= tp[1]) & (tn[0] <= tn[1])
    others = {name: fact for name, fact in row.items() if name not in ("sensitivity", "specificity")}
    for name, fact in others.items():  # each rises with both counts, so the corners bound it
        low, high = (_value(name, tp[side], tn[side], p, n) for side in (0, 1))
        keep &= (high >= fact.low) & (low <= fact.high)
    found = []
    for positives in map(int, p[keep]):
        tp, tn = np.meshgrid(sens.counts(positives), spec.counts(n - positives))
        fits = [fact.holds(_value(name, tp, tn, positives, n)) for name, fact in others.items()]
        if np.all(fits, axis=0).any():
            found.append(positives)
    return np.array(found, dtype=int)


def _value(name: str, tp: Any, tn: Any, p: Any, n: int) -> Any:
    """Accuracy, PPV or NPV of `tp` of `p` positives and `tn` of `n - p` negatives correctly identified."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if name == "accuracy":
            return (tp + tn) / n
        return tp / (tp + (n - p - tn)) if name == "ppv" else tn / (tn + (p - tp))


class Facts:
    """The rows of data/published/ by id; `facts['kermany2018.oct.multiclass.accuracy']` is a `Fact`."""

    def __init__(self, folder: Path = PUBLISHED) -> None:
        """All papers' facts, and the few from elsewhere (`audit_facts.csv`)."""
        rows = load_published(folder=folder)
        other = pd.read_csv(folder / "audit_facts.csv", dtype=str, keep_default_na=False)
        other = other.assign(value=other["value"].astype(float), paper=ELSEWHERE, kind="number")
        rows = pd.concat([rows, other.rename(columns={"source": "where"})], ignore_index=True)
        self.rows, self.papers = rows.set_index("id", drop=False), set(rows["paper"])

    def __getitem__(self, name: str) -> Fact:
        if name not in self.rows.index:
            hint = nearest(name, self.rows.index)
            raise ClaimError(f"the audit needs '{name}', which data/published/ does not hold{hint}")
        return as_fact(self.rows.loc[name])

    def find(self, pattern: str, paper: str) -> list[Fact]:
        """The facts that `pattern` names: 'a.{x,y}.z' is a.x.z and a.y.z, and * anything without a dot.

        An id that does not begin with a paper is one of `paper`.
        """
        names = [name if name.split(".")[0] in self.papers else f"{paper}.{name}" for name in braces(pattern)]
        patterns = [(name, re.compile(re.escape(name).replace(r"\*", "[^.]+"))) for name in names]
        groups = [filter(regex.fullmatch, self.rows.index) if "*" in name else [name] for name, regex in patterns]
        return [self[name] for group in groups for name in group]


def braces(pattern: str) -> list[str]:
    """'a.{x,y}' as ['a.x', 'a.y']; of several braces the first varies slowest."""
    parts = re.split(r"\{([^{}]*)\}", pattern)  # what stands in braces is every second
    return [
        "".join(choice) for choice in product(*(part.split(",") if k % 2 else [part] for k, part in enumerate(parts)))
    ]


def as_fact(row: pd.Series) -> Fact:
    """A row of `load_published` as a `Fact`. A number printed in other words ('all') has no rounding."""
    shown = printed_number(row["printed"], row["unit"] == "proportion")
    half, decimals = (shown[1], shown[2]) if shown else (0.0, 0)
    percent = row["unit"] == "proportion" and bool(shown) and half < 0.4 * 10.0**-decimals
    text = row["printed"].replace(" (%)", "")
    return Fact(
        *(row[column] for column in ("id", "paper", "where", "quantity")),
        value=float(row["value"]),
        half=half,
        decimals=decimals,
        percent=percent,
        text=text if "%" in text or not percent else f"{text} %",
        quote="" if pd.isna(row["quote"]) else row["quote"],
        limits=None if pd.isna(row["low"]) else (float(row["low"]), float(row["high"])),
        n=None if pd.isna(row["n"]) else int(row["n"]),
    )
