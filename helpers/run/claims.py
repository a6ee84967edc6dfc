"""Published beside obtained, and a verdict: the rule is written here, once.

A row of data/published/ says by its `measure` what kind of quantity it is, and data/published/margins.toml how far an
obtained value of that kind may lie from the published one, with the reason. The margin's range is the published value
plus and minus the margin and half a unit of the last digit printed.

*reproduced*: the obtained 95 % interval lies wholly within the margin's range.
*not reproduced*: it lies wholly outside. Where a text gives neither an interval nor n, the published value is taken to
    be as uncertain as ours, and the obtained interval is widened by half its width before it may exclude the range.
*inconclusive*: it does neither, or there is no interval, or no value.
*not comparable*: other images, or images that nobody has verified, another network, input size or training than the
    paper's, other readers. The explanation says which, and then what the rule would say of the numbers alone (of
    phantoms nothing, since they are no evidence).
*not run*: nothing was obtained, or a notebook says why not.

A published value is not widened by its own sampling error: what is comparable rests on the paper's own images, and the
obtained interval holds their sampling. Counts and settings must be equal, or equal to the digits printed. A published
"p < 0.001" has a direction: reproduced when p is smaller and the order the published one, not reproduced when p is
below 0.05 the other way round, else inconclusive.

Results are counted apart from counts of data, which need the paper's images alone, and from settings and arithmetic on
printed numbers, which need none. A figure or table has no verdict: it is made, or it is not (`coverage`). A number may
stand on other ground than the rest of its notebook (published predictions, say): `grounds` has it, with the words.
"""

from __future__ import annotations

import functools
import math
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd
from scipy.special import betaincinv  # scipy.stats takes a second to import

from helpers.run.paths import PUBLISHED
from helpers.run.profile import Profile, nearest
from helpers.run.steps import notebook_reads

REVERSED = "the order is the other way round"  # the note of an obtained p value whose difference is
Grounds = tuple[bool, str]  # whether a number may be held against the paper, and what it rests on
Row = Mapping[str, Any]  # a row of load_published: a dict, or a pandas Series
NO_EVIDENCE = "no evidence about the paper"  # what a data set says of itself that is drawn: its numbers say nothing
SHARES = ("proportion", "auroc", "average")  # the measures that are 0 to 1
Obtained = Any  # an Estimate of helpers.metrics.estimate: value, low, high, n, note, defined


@dataclass(frozen=True)
class Verdict:
    """One of the five words, why, and of what is not comparable the word that the numbers alone would have."""

    word: str
    explanation: str
    alone: str = ""


def verdict(published: Row, obtained: Obtained | None, why_not: str = "") -> Verdict:
    """What may be said of one published number, given what was obtained (None: nothing was).

    `why_not`: what differs from the paper, where the two are not comparable. Raises `ClaimError` for a figure or table,
    and for an obtained proportion that is not 0 to 1.
    """
    if published["kind"] != "number":
        raise ClaimError(f"{published['id']} is a {published['kind']}: it is made or not (coverage), no verdict")
    if obtained is None:
        return Verdict("not run", f"{published['notebook']} gave no value; {published['note']}".rstrip("; "))
    if published["measure"] in SHARES and (obtained.value < 0 or obtained.value > 1):
        raise ClaimError(f"{published['id']}: a proportion is 0 to 1, never per cent; obtained {obtained.value}")
    if obtained.defined:
        found = RULES.get(published["measure"], _by_margin)(published, obtained)
    else:
        found = Verdict("inconclusive", f"undefined: {obtained.note or 'no reason given'}")
    if not why_not or NO_EVIDENCE in why_not:
        return Verdict("not comparable", why_not) if why_not else found
    text = f"{why_not}. By the numbers alone: {found.word} ({found.explanation})"
    return Verdict("not comparable", text, found.word)


@functools.cache
def margins(folder: Path = PUBLISHED) -> dict[str, dict[str, Any]]:
    """The margin of each measure, with its reason: the content of margins.toml."""
    return tomllib.loads((folder / "margins.toml").read_text(encoding="utf-8"))


def margin_range(row: Row) -> tuple[float, float]:
    """Within what an obtained value reproduces this published one."""
    value, rule = float(row["value"]), margins()[row["measure"]]
    size = min(value, 1 - value) if rule["of"] == "error" else abs(value)
    margin = min(max(rule["share"] * size, rule["least"]), rule["most"]) + half_unit(row)
    if row["unit"] == "proportion":
        return max(0.0, value - margin), min(1.0, value + margin)
    return value - margin, value + margin


def _by_margin(row: Row, obtained: Obtained) -> Verdict:
    text, (low, high) = _distance(row, obtained.value - float(row["value"])), margin_range(row)
    if math.isnan(obtained.low) or obtained.low == obtained.high:
        return Verdict("inconclusive", f"{text}; a single value, without an interval")
    exact = not math.isnan(row["low"]) or not pd.isna(row["n"])
    more = 0.0 if exact else (obtained.high - obtained.low) / 2
    word, where = "inconclusive", "is too wide: it reaches across a limit of"
    if low - 1e-12 <= obtained.low and obtained.high <= high + 1e-12:
        word, where = "reproduced", "lies within"
    elif obtained.low - more > high or obtained.high + more < low:
        word, where = "not reproduced", "excludes"
    text += f"; the obtained interval {where} the margin, {_interval_text(row, low, low, high).partition('(')[2][:-1]}"
    return Verdict(word, text + ("" if exact else "; published without n, so taken to be as uncertain"))


def _equal(row: Row, obtained: Obtained) -> Verdict:
    difference = obtained.value - float(row["value"])
    if math.isclose(obtained.value, float(row["value"]), rel_tol=1e-9, abs_tol=1e-12):
        return Verdict("reproduced", "equal")
    if row["measure"] != "setting" and abs(difference) <= half_unit(row) * (1 + 1e-9):  # a value half-way may print so
        return Verdict("reproduced", "equal to the digits printed")
    return Verdict("not reproduced", f"{abs(difference):,.10g} {'more' if difference > 0 else 'less'} than published")


def _below_limit(row: Row, obtained: Obtained) -> Verdict:
    text, reversed_order = f"p = {obtained.value:.2g}, published {row['printed']}", obtained.note == REVERSED
    if obtained.value < float(row["value"]) and not reversed_order:
        return Verdict("reproduced", f"{text}, in the published direction")
    if obtained.value < 0.05 and reversed_order:
        return Verdict("not reproduced", f"{text}, but {REVERSED}")
    return Verdict("inconclusive", f"{text}: no difference of that strength{f', and {REVERSED}' * reversed_order}")


RULES: dict[str, Callable[[Row, Obtained], Verdict]] = {
    **dict.fromkeys(("count", "events", "setting"), _equal),
    "p": _below_limit,
}
GROUPS = ("results", "counts of data", "settings", "arithmetic")


def group_of(row: Row) -> str:
    """Among which of `GROUPS` a claim is counted: only results say whether a paper reproduces."""
    if row["notebook"] and not notebook_reads(row["notebook"]).data:
        return "arithmetic"
    return {"count": "counts of data", "setting": "settings"}.get(row["measure"], "results")


def other_recipe(paper: str, profile: Profile, read: Collection[str]) -> dict[str, str]:
    """How the profile leaves a paper's recipe in data/published/recipes.toml, by what differs ('network', 'training').

    `read` are the keys that the steps in question read; a size of 0 is the network's own, whatever the network.
    """
    found: dict[str, list[str]] = {}
    for what, keys in tomllib.loads((PUBLISHED / "recipes.toml").read_text(encoding="utf-8")).get(paper, {}).items():
        for key, wanted in keys.items():
            value = getattr(profile, key)
            value = profile.backbone if value == "" and key.endswith("backbone") else value
            if key in read and value not in (wanted, 0 if key.endswith("size") else wanted):
                found.setdefault(what, []).append(f"{value or 'none'} and not {wanted} ({key})")
    return {what: ", ".join(left) for what, left in found.items()}


def _amount(row: Row, amount: float) -> str:
    scale = 100 if row["unit"] == "proportion" else 1
    digits = max(0, -math.floor(math.log10(2 * scale * half_unit(row) or 1))) + 1  # one more than is printed
    return f"{scale * amount:.{digits}f}{' points' if scale > 1 else ''}"


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
    differs: Mapping[str, str] = MappingProxyType({}),
    grounds: Mapping[str, Grounds] = MappingProxyType({}),
) -> pd.DataFrame:
    """One row a claim of `published` that a notebook can check, in the file's order; repeated mentions are joined.

    Columns: id, where, quantity, published, obtained (text, with intervals), n (of what was obtained; '' without),
    verdict, explanation, notebook, measure, group (of `GROUPS`), alone (see `Verdict`). `differs`: what is not as in
    the paper, 'images' or 'network', with the words; `grounds`, by id, take its place. Raises `ClaimError`, with the
    nearest name, for an id that is no claim.
    """
    claims = published[(published["measure"] != "none") & (published["repeats"] == "")]
    for name in obtained:
        if name not in set(claims["id"]):
            raise ClaimError(f"no claim '{name}'{nearest(name, claims['id'])}")
    again = published[published["repeats"] != ""].groupby("repeats")["where"].agg("; ".join)
    rows = []
    for _, row in claims.iterrows():
        result, group = obtained.get(row["id"]), group_of(row)
        matters = {"results": differs, "counts of data": {"images"}}.get(group, ())
        why = "; ".join(f"{what}: {text}" for what, text in differs.items() if what in matters)
        able, words = grounds.get(row["id"], (not why, ""))
        found = verdict(row, result, "" if able else words or why)
        text = f"{found.explanation}; {words}" if able and words else found.explanation
        where = f"{row['where']}; also {again[row['id']]}" if row["id"] in again.index else row["where"]
        n = result.n if result is not None and result.n else ""
        texts = (_published_text(row), _obtained_text(row, result))
        rows.append((row["id"], where, row["quantity"], *texts, n, found.word, text))
        rows[-1] += (row["notebook"], row["measure"], group, found.alone)
    names = ["id", "where", "quantity", "published", "obtained", "n"]
    names += ["verdict", "explanation", "notebook", "measure", "group", "alone"]
    return pd.DataFrame(rows, columns=names)


def _published_text(row: Row) -> str:
    value, (low, high, how) = float(row["value"]), published_interval(row)
    if how:
        text = _interval_text(row, value, low, high)
        return text if how == "as printed" else f"{text[:-1]} from n = {row['n']:,})"
    printed = re.sub(r"\s*(%|\(%\))", " %", row["printed"]) if printed_number(row["printed"]) else f"{value:,.10g}"
    return printed if row["unit"] in ("proportion", "1") else f"{printed} {row['unit']}"


def _obtained_text(row: Row, obtained: Obtained | None) -> str:
    if obtained is None:
        return ""
    if not obtained.defined:
        return str(obtained)
    if row["measure"] not in RULES:
        return _interval_text(row, obtained.value, obtained.low, obtained.high)
    if row["unit"] == "proportion":
        return _interval_text(row, obtained.value, math.nan, math.nan)
    number = f"{obtained.value:.2g}" if row["measure"] == "p" else f"{obtained.value:,.10g}"
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
        hits = round(value * n)
        low = float(betaincinv(hits, n - hits + 1, 0.025)) if hits else 0.0
        high = float(betaincinv(hits + 1, n - hits, 0.975)) if hits < n else 1.0
        return low, high, f"Clopper-Pearson from n = {n:,}"
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
