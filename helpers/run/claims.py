"""Published beside obtained, and a verdict: the rule is written here, once.

Four words: *reproduced*, *not reproduced*, *not comparable* (other data, or nothing to compare with), *not run*.
A row of data/published/ says by its `measure` how they are given (see `RULES`):

proportion, auroc, mean
    Reproduced when the difference obtained - published lies within their combined 95 % uncertainty: the two arms of
    the intervals that face each other, added in quadrature (Zou and Donner 2008: the 95 % interval of a difference
    of two independent estimates), plus half a unit of the last digit printed. The published interval is the printed
    one; else, from the printed value and n, Clopper and Pearson's (the count being n times the value, rounded), or
    Hanley and McNeil's (1982) for an AUROC; else none, and the published value counts as exact. On the same test
    images the two are not independent and the uncertainty is somewhat too wide: the rule errs towards *reproduced*,
    and so it does where few images make an interval wide. The explanation therefore always gives the width.
count
    Reproduced when equal; of a rounded number ('2 million'), within half a unit of its last digit.
setting
    Reproduced when equal.
below
    Reproduced when smaller than the printed limit ('under 2 hr').

A figure or table has no verdict: it is made, or it is not (`coverage`). What comes from phantoms, or from part of the
images, is *not comparable*, however near: the caller says so with `comparable=False` and the reason. A single number
may stand on other ground than the rest of its notebook (predictions that the authors published, say, beside a network
trained here): `grounds` has it, and its words are added to the explanation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from helpers.run.paths import PUBLISHED
from helpers.run.profile import Profile, nearest

WIDE = 0.1  # an uncertainty of 10 points or more is called wide: it would hide a much worse result
Grounds = tuple[bool, str]  # whether a number may be held against the paper, and what it rests on
Row = Mapping[str, Any]  # a row of load_published: a dict, or a pandas Series
Obtained = Any  # an Estimate of helpers.metrics.estimate: value, low, high, n, note, defined


@dataclass(frozen=True)
class Verdict:
    """One of the four words, and why, as a reader should see it."""

    word: str
    explanation: str


def verdict(published: Row, obtained: Obtained | None, *, comparable: bool, why_not: str = "") -> Verdict:
    """What may be said of one published number, given what was obtained (None: nothing was).

    Raises `ClaimError` for a figure or table, for an obtained proportion that is not 0 to 1, and when results that
    are not comparable come without the reason.
    """
    if published["kind"] != "number":
        raise ClaimError(f"{published['id']} is a {published['kind']}: it is made or not (coverage), no verdict")
    if not comparable and not why_not:
        raise ClaimError("not comparable: why not?")
    if obtained is None:
        return Verdict("not run", published["reason"] or f"{published['notebook']} gave no value")
    if not obtained.defined:
        return Verdict("not comparable", f"undefined: {obtained.note or 'no reason given'}")
    if published["measure"] in ("proportion", "auroc") and not 0 <= obtained.value <= 1:
        raise ClaimError(f"{published['id']}: a proportion is 0 to 1, never per cent; obtained {obtained.value}")
    if published["measure"] == "none":
        return Verdict("not comparable", published["reason"])
    if not comparable:
        return Verdict("not comparable", why_not)
    return RULES[published["measure"]](published, obtained)


def _within_uncertainty(row: Row, obtained: Obtained) -> Verdict:
    value, (low, high, how) = float(row["value"]), published_interval(row)
    difference = obtained.value - value
    ours = obtained.value - obtained.low if difference >= 0 else obtained.high - obtained.value
    theirs = high - value if difference >= 0 else value - low
    margin = math.hypot(0.0 if math.isnan(ours) else ours, theirs) + half_unit(row)
    within = abs(difference) <= margin + 1e-12
    text = f"{_distance(row, difference)}; combined 95 % uncertainty {_amount(row, margin)}"
    text += f" (published: {how})" if how else " (published: no interval, taken as exact)"
    if within and margin >= WIDE and row["unit"] == "proportion":
        text += "; too wide to say much"
    return Verdict("reproduced" if within else "not reproduced", text)


def _equal_count(row: Row, obtained: Obtained) -> Verdict:
    difference = obtained.value - float(row["value"])
    if difference == 0:
        return Verdict("reproduced", "equal")
    within = abs(difference) <= half_unit(row)
    text = f"{abs(difference):,.10g} {'more' if difference > 0 else 'fewer'} than published"
    return Verdict("reproduced" if within else "not reproduced", text + (", within its rounding" if within else ""))


def _equal_setting(row: Row, obtained: Obtained) -> Verdict:
    if math.isclose(obtained.value, float(row["value"]), rel_tol=1e-9):
        return Verdict("reproduced", "the same setting")
    return Verdict("not reproduced", f"another setting: {obtained.value:,.10g}, published {row['printed']}")


def _below_limit(row: Row, obtained: Obtained) -> Verdict:
    within = obtained.value < float(row["value"])
    text = f"{obtained.value:.3g} {row['unit']}, published {row['printed']}"
    return Verdict("reproduced" if within else "not reproduced", text)


RULES: dict[str, Callable[[Row, Obtained], Verdict]] = {
    **dict.fromkeys(("proportion", "auroc", "mean"), _within_uncertainty),
    "count": _equal_count,
    "setting": _equal_setting,
    "below": _below_limit,
}


def _amount(row: Row, amount: float) -> str:
    shown = printed_number(row["printed"], row["unit"] == "proportion")
    digits = (shown[2] if shown else 0) + 1
    return f"{100 * amount:.{digits}f} points" if row["unit"] == "proportion" else f"{amount:.{digits}f}"


def _distance(row: Row, difference: float) -> str:
    if difference == 0:
        return "equal"
    return f"{_amount(row, abs(difference))} {'higher' if difference > 0 else 'lower'} than published"


def settings(published: pd.DataFrame, profile: Profile) -> dict[str, float]:
    """What the profile sets, for every published setting whose row names a profile key, by its id."""
    rows = published[(published["key"] != "") & (published["repeats"] == "")]
    return {row["id"]: float(getattr(profile, row["key"])) for _, row in rows.iterrows()}


def compare(
    published: pd.DataFrame,
    obtained: Mapping[str, Obtained],
    comparable: bool,
    why_not: str = "",
    grounds: Mapping[str, Grounds] | None = None,
) -> pd.DataFrame:
    """One row a claim of `published` that a notebook can check, in the file's order; repeated mentions are joined.

    Columns: id, where, quantity, published, obtained (text, with intervals), n (of what was obtained; '' without),
    verdict, explanation, notebook, measure. `grounds`, by id, take the place of `comparable` and `why_not`. Raises
    `ClaimError`, with the nearest name, for an id that is no claim.
    """
    claims = published[(published["measure"] != "none") & (published["repeats"] == "")]
    for name in obtained:
        if name not in set(claims["id"]):
            raise ClaimError(f"no claim '{name}'{nearest(name, claims['id'])}")
    again = published[published["repeats"] != ""].groupby("repeats")["where"].agg("; ".join)
    rows = []
    for _, row in claims.iterrows():
        result = obtained.get(row["id"])
        found = verdict(row, result, comparable=comparable, why_not=why_not)
        if result is not None and row["id"] in (grounds or {}):
            able, why = grounds[row["id"]]
            found = verdict(row, result, comparable=able, why_not=why)
            found = Verdict(found.word, f"{found.explanation}; {why}") if able else found
        where = f"{row['where']}; also {again[row['id']]}" if row["id"] in again.index else row["where"]
        n = result.n if result is not None and result.n else ""
        texts = (_published_text(row), _obtained_text(row, result))
        rows.append((row["id"], where, row["quantity"], *texts, n, found.word, found.explanation))
        rows[-1] += (row["notebook"], row["measure"])
    names = ["id", "where", "quantity", "published", "obtained", "n"]
    names += ["verdict", "explanation", "notebook", "measure"]
    return pd.DataFrame(rows, columns=names)


def _published_text(row: Row) -> str:
    value, (low, high, how) = float(row["value"]), published_interval(row)
    if how:
        text = _interval_text(row, value, low, high)
        return text if how == "as printed" else f"{text[:-1]} from n = {row['n']:,})"
    printed = re.sub(r"\s*(%|\(%\))", " %", row["printed"]) if printed_number(row["printed"]) else f"{value:,.10g}"
    return printed if row["unit"] in ("proportion", "1") or row["measure"] == "below" else f"{printed} {row['unit']}"


def _obtained_text(row: Row, obtained: Obtained | None) -> str:
    if obtained is None:
        return ""
    if not obtained.defined:
        return str(obtained)
    if row["measure"] in ("proportion", "auroc", "mean"):
        return _interval_text(row, obtained.value, obtained.low, obtained.high)
    if row["unit"] == "proportion":
        return _interval_text(row, obtained.value, math.nan, math.nan)
    number = f"{obtained.value:.3g}" if row["measure"] == "below" else f"{obtained.value:,.10g}"
    return number if row["unit"] == "1" else f"{number} {row['unit']}"


def _interval_text(row: Row, value: float, low: float, high: float) -> str:
    shown = printed_number(row["printed"], row["unit"] == "proportion")
    percent = row["unit"] == "proportion" and (shown is None or shown[1] < 0.5 * 10.0 ** -shown[2])
    digits, scale = (shown[2] if shown else 3), (100 if percent else 1)
    while low < high and digits < 4 and f"{scale * low:.{digits}f}" == f"{scale * high:.{digits}f}":
        digits += 1  # the value's own digits would hide the interval: '100 % (100 to 100)'
    text = f"{scale * value:.{digits}f}" + (" %" if percent else "")
    if math.isnan(low):
        return text
    return f"{text} ({scale * low:.{digits}f} to {scale * high:.{digits}f})"


def stated(published: pd.DataFrame) -> pd.DataFrame:
    """The numbers that no notebook can check, with the reason: id, where, quantity, printed, reason."""
    rows = published[(published["kind"] == "number") & (published["measure"] == "none")]
    return rows[["id", "where", "quantity", "printed", "reason"]].reset_index(drop=True)


def coverage(published: pd.DataFrame, made: Iterable[str]) -> pd.DataFrame:
    """Every figure and table: the notebook that makes it and whether this run did, or the reason why none can.

    `made` holds the ids of what a run made. Columns: id, paper, kind, where, quantity (what it shows), notebook,
    status (made, not made, no notebook), reason (or, where there is a notebook, what it cannot show). Raises
    `ClaimError` for a made id that is unknown (with the nearest) or that the file says none can make.
    """
    table, made = published[published["kind"] != "number"].copy(), set(made)
    for name in sorted(made):
        if name not in set(table["id"]):
            raise ClaimError(f"no figure or table '{name}'{nearest(name, table['id'])}")
    impossible = made & set(table.loc[table["notebook"] == "", "id"])
    if impossible:
        raise ClaimError(f"{sorted(impossible)[0]} was made, but data/published/ names no notebook for it")
    possible = table["notebook"].map(lambda notebook: "not made" if notebook else "no notebook")
    table["status"] = possible.mask(table["id"].isin(made), "made")
    table["reason"] = table["reason"].where(table["reason"] != "", table["note"])
    columns = ["id", "paper", "kind", "where", "quantity", "notebook", "status", "reason"]
    return table[columns].reset_index(drop=True)


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
