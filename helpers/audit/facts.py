"""The printed numbers as the audit sees them: a value, and the rounding that its last digit allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from helpers.run.paths import PUBLISHED
from helpers.run.profile import nearest
from helpers.run.published import ClaimError, load_published, printed_number

EPS = 1e-9  # a count over n that lies exactly between two printed values may have been rounded to either


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
    n_positive: int | None = None

    @property
    def low(self) -> float:
        return self.value - self.half - EPS

    @property
    def high(self) -> float:
        return self.value + self.half + EPS

    def holds(self, x: Any) -> Any:
        """Whether `x` (a number or an array of them) would be printed as this fact is."""
        return (x >= self.low) & (x <= self.high)

    def agrees(self, other: Fact) -> bool:
        """Whether one number, rounded in one manner, may print as this fact and as `other`."""
        return abs(self.value - other.value) < max(self.half + other.half, EPS) - EPS or self.value == other.value

    def steps(self, x: float) -> int:
        """How many units of the last printed digit `x` is away from what is printed: 0 where it would print so."""
        return 0 if self.holds(x) else max(1, round(abs(x - self.value) / (2 * self.half)))

    def show(self, x: float) -> str:
        """`x` as this fact is printed: '93.1 %', '0.945', '5,856'."""
        if self.percent:
            return f"{100 * x:.{self.decimals}f} %"
        return f"{x:,.{self.decimals}f}"

    def gap(self, x: float) -> float:
        """How far what is printed is from `x`, relative to what is printed."""
        return 0.0 if self.holds(x) else abs(x - self.value) / abs(self.value) if self.value else math.inf


class Facts:
    """The rows of data/published/ by id; `facts['kermany2018.oct.multiclass.accuracy']` is a `Fact`."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows.set_index("id", drop=False)

    @classmethod
    def load(cls, folder: Path = PUBLISHED) -> Facts:
        """All papers' facts, and the few from elsewhere (`audit_facts.csv`) under `elsewhere.`"""
        rows = load_published(folder=folder)
        other = pd.read_csv(folder / "audit_facts.csv", dtype=str, keep_default_na=False)
        other = other.assign(value=other["value"].astype(float), paper="elsewhere", kind="number")
        return cls(pd.concat([rows, other.rename(columns={"source": "where"})], ignore_index=True))

    def __getitem__(self, name: str) -> Fact:
        if name not in self.rows.index:
            raise ClaimError(f"the audit needs '{name}', which data/published/ does not hold{self._nearest(name)}")
        return as_fact(self.rows.loc[name])

    def get(self, prefix: str, *names: str) -> list[Fact]:
        """Several facts whose ids begin alike."""
        return [self[f"{prefix}.{name}"] for name in names]

    def where(self, keep: Callable[[pd.DataFrame], pd.Series]) -> list[Fact]:
        """The numbers of the papers that `keep` selects from the rows, in the file's order."""
        rows = self.rows[(self.rows["kind"] == "number") & (self.rows["paper"] != "elsewhere")]
        return [as_fact(row) for _, row in rows[keep(rows)].iterrows()]

    def _nearest(self, name: str) -> str:
        return nearest(name, self.rows.index)


def as_fact(row: pd.Series) -> Fact:
    """A row of `load_published` as a `Fact`. A number printed in other words ('all') has no rounding."""
    shown = printed_number(row["printed"], row["unit"] == "proportion")
    half, decimals = (shown[1], shown[2]) if shown else (0.0, 0)
    percent = row["unit"] == "proportion" and bool(shown) and half < 0.4 * 10.0**-decimals
    limits = None if pd.isna(row["low"]) else (float(row["low"]), float(row["high"]))
    return Fact(
        id=row["id"],
        paper=row["paper"],
        where=row["where"],
        quantity=row["quantity"],
        value=float(row["value"]),
        half=half,
        decimals=decimals,
        percent=percent,
        text=_text(row, percent),
        quote="" if pd.isna(row["quote"]) else row["quote"],
        limits=limits,
        n=None if pd.isna(row["n"]) else int(row["n"]),
        n_positive=None if pd.isna(row["n_positive"]) else int(row["n_positive"]),
    )


def invented(
    printed: str, name: str = "invented.x", n: int | None = None, unit: str = "proportion", **given: Any
) -> Fact:
    """A fact that nobody published, for tests and examples: `invented('96.6%', n=1000)`."""
    shown = printed_number(printed, unit == "proportion")
    if shown is None:
        raise ValueError(f"'{printed}' prints no number")
    row = {"id": name, "paper": name.split(".")[0], "where": "nowhere", "quantity": name, "value": shown[0]}
    row |= {"low": math.nan, "high": math.nan, "n": n, "n_positive": None, "unit": unit, "printed": printed}
    return as_fact(pd.Series(row | {"quote": printed} | given, dtype=object))


def names(facts: Iterable[Fact]) -> str:
    """'accuracy 92.8%, sensitivity 93.2%', for a sentence."""
    return ", ".join(f"{fact.quantity} {fact.text}" for fact in facts)


def _text(row: pd.Series, percent: bool) -> str:
    text = row["printed"].replace(" (%)", "")
    return text if "%" in text or not percent else f"{text} %"
