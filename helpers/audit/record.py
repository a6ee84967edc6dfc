"""One check of the audit as a row, and the rows as a ranked table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from helpers.audit.facts import Fact

OUTCOMES = ("consistent", "inconsistent", "undecidable")
# How much it would matter if the number were wrong; a judgement, made once for each check and the same for every paper.
MATTERS = {
    4: "a main result, which readers quote",
    3: "another result, or its interval",
    2: "how large the study was, or how it was done",
    1: "wording, naming, a version",
}
COLUMNS = (
    *("rank", "check", "rule", "paper", "where", "printed", "assumption"),
    *("outcome", "found", "matters", "gap", "mend", "sentence"),
)


@dataclass(frozen=True)
class Check:
    """One question put to printed numbers, and its answer.

    `check` is its name for good, `rule` the kind of question, `printed` the values as printed, `assumption` what was
    taken for granted (which n, which rounding), `found` what the recomputation gave, `matters` a key of `MATTERS`,
    `gap` how far the printed number is from the nearest possible one, relative to itself, `mend` the smallest change
    that would make it consistent, `sentence` what may fairly be said.
    """

    check: str
    rule: str
    paper: str
    where: str
    printed: str
    assumption: str
    outcome: str
    found: str
    matters: int
    sentence: str
    gap: float = 0.0
    mend: str = ""

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ValueError(f"{self.check}: no outcome '{self.outcome}'; known: {', '.join(OUTCOMES)}")
        if self.matters not in MATTERS:
            raise ValueError(f"{self.check}: matters {self.matters} is none of {sorted(MATTERS)}")
        if self.outcome == "inconsistent" and not self.mend:
            raise ValueError(f"{self.check}: inconsistent, but no change is named that would mend it")


def checked(
    name: str,
    rule: str,
    facts: Sequence[Fact],
    outcome: str | bool,
    *,
    assumption: str,
    found: str,
    matters: int,
    sentence: str,
    gap: float = 0.0,
    mend: str = "",
) -> Check:
    """A `Check` about printed `facts`; `outcome` may be a bool (True: consistent). Mend is kept only where needed."""
    if isinstance(outcome, bool):
        outcome = "consistent" if outcome else "inconsistent"
    papers = dict.fromkeys(fact.paper for fact in facts if fact.paper != "elsewhere")
    places = dict.fromkeys(fact.where for fact in facts)
    return Check(
        check=f"{facts[0].paper}.{name}",
        rule=rule,
        paper=" and ".join(papers),
        where="; ".join(places),
        printed=", ".join(dict.fromkeys(fact.text for fact in facts)),
        assumption=assumption,
        outcome=outcome,
        found=found,
        matters=matters,
        sentence=sentence,
        gap=float(gap) if outcome == "inconsistent" else 0.0,
        mend=mend if outcome != "consistent" else "",
    )


def as_frame(checks: Iterable[Check]) -> pd.DataFrame:
    """The checks as a table with the columns of `COLUMNS`; `rank` counts the inconsistent ones, the gravest first.

    They are ordered by `matters`, then by `gap`, then by name; the others keep their order and have no rank. Raises
    `ValueError` for two checks of one name.
    """
    table = pd.DataFrame([asdict(check) for check in checks])
    if repeated := table.loc[table["check"].duplicated(), "check"].tolist():
        raise ValueError(f"two checks are called {repeated[0]}")
    worst = table[table["outcome"] == "inconsistent"].sort_values(
        ["matters", "gap", "check"], ascending=[False, False, True]
    )
    table["rank"] = pd.Series(range(1, len(worst) + 1), index=worst.index, dtype="Int64")
    return table[list(COLUMNS)]


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """The inconsistent checks of `as_frame`'s table, the gravest first."""
    return table[table["outcome"] == "inconsistent"].sort_values("rank").reset_index(drop=True)


def tally(table: pd.DataFrame, by: str = "paper") -> pd.DataFrame:
    """How many checks had which outcome, one row for each `by` (a paper, or a rule), with their sum."""
    counts = pd.crosstab(table[by], table["outcome"]).reindex(columns=list(OUTCOMES), fill_value=0)
    counts = counts.loc[sorted(counts.index)] if by == "paper" else counts.loc[table[by].value_counts().index]
    counts.loc["all"] = counts.sum()
    return counts.assign(checks=counts.sum(axis=1)).rename_axis(columns=None)
