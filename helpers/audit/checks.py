"""The audit's checks: which facts are put to which rule (data/published/audit_checks.toml), and the answers.

Each answer is consistent, inconsistent or undecidable, under an assumption that the check states. Inconsistent is
only what no reading of the text, and no manner of rounding, mends: what was taken for granted, and the smallest mend,
stand beside it, and nothing says why the number stands there. Undecidable means that the text tells too little, or
that the answer hangs on a reading.

At the end, what two checklists for reviewers ask of each paper: PROBAST+AI (risk of bias) and CLAIM 2024 (reporting).
"""

from __future__ import annotations

import inspect
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from helpers.audit import rules_tables  # noqa: F401 (its rules register themselves)
from helpers.audit.facts import ELSEWHERE, VALUES, Fact, Facts, ScoredSet
from helpers.audit.rules import NO_ROUNDING, RULES, Answer
from helpers.run.claims import ClaimError
from helpers.run.paths import PUBLISHED

OUTCOMES = ("consistent", "inconsistent", "undecidable")
CALLABLE = (abs, all, any, math.ceil, float, int, len, list, max, min, next, range, round, set, sum, tuple, zip)
FORMULA = {f.__name__: f for f in CALLABLE}  # what a formula may call
MISPRINT = "A misprint, or other images than the text names, is the likeliest cause."


@dataclass(frozen=True)
class Check:
    """One question put to printed facts. `names` are facts, test sets, tables and formulas that it uses, by name.

    `texts` are the entry of the file: rule, assumption, and what replaces the rule's own words.
    """

    id: str
    facts: tuple[Fact, ...]
    names: Mapping[str, Any]
    texts: Mapping[str, Any]

    @property
    def rule(self) -> str:
        return self.texts["rule"]

    @property
    def title(self) -> str:
        """Its name in a figure; '' where no figure shows it."""
        return self.texts.get("title", "")

    def answer(self, loosely: bool = False) -> Answer:
        """What the rule says; it gets those of `names` that it asks for, and all of the entry's `with`.

        `loosely`: each of the facts may be rounded, or cut off.
        """
        apply, _ = RULES[self.rule]
        wanted = {k: self.names[k] for k in inspect.getfullargspec(apply).kwonlyargs if k in self.names}
        facts = [fact.loose for fact in self.facts] if loosely else self.facts
        return apply(*facts, **wanted, **self.parameters)

    def rounding(self, answer: Answer) -> str:
        """What another manner of rounding would change about an inconsistent answer.

        Raises `ClaimError` where it would mend it and the check does not say why it is not so: nobody can tell then.
        """
        if answer.rounding or self.texts.get("rounding"):
            return answer.rounding
        loose = any(fact.loose != fact for fact in self.facts)
        if loose and ("formulas" in self.texts or self.answer(loosely=True).good is not False):
            raise ClaimError(f"{self.id} hangs on how its numbers were rounded: it is undecidable, or needs 'rounding'")
        return NO_ROUNDING if loose else "whole numbers"

    @property
    def parameters(self) -> dict[str, Any]:
        """The entry's `with`; its texts may refer to facts and formulas."""
        own = self.texts.get("with", {})
        return {k: v.format(*self.facts, **self.names) if isinstance(v, str) else v for k, v in own.items()}

    def row(self) -> dict[str, Any]:
        """The answer as a row of the table: all columns but the rank."""
        answer = self.answer()
        failing = self.texts.get("otherwise", "inconsistent")
        outcome = {True: "consistent", False: failing, None: "undecidable"}[answer.good]
        rounding = self.rounding(answer) if outcome == "inconsistent" else ""
        values = {"made": answer.value, **self.names, **self.parameters, **answer.more, "found": answer.found}

        def text(name: str, default: str) -> str:
            return self.texts[name].format(*self.facts, **values) if name in self.texts else default

        values["found"] = found = text("found", answer.found)
        why = "" if outcome == "consistent" else text("why", MISPRINT if outcome == "inconsistent" else "")
        first = self.facts[0]
        printed = "" if found.startswith(first.text) else f" ({first.text})"
        sentence = text("sentence", f"{first.quantity}{printed}: {found}.")
        places = dict.fromkeys(fact.where for fact in (*self.facts, *self.names.get("see", [])))
        return {
            "check": self.id,
            "rule": self.texts.get("question", RULES[self.rule][1]),
            "paper": " and ".join(dict.fromkeys(fact.paper for fact in self.facts if fact.paper != ELSEWHERE)),
            "where": "; ".join(places),
            "printed": ", ".join(dict.fromkeys(fact.text for fact in self.facts)),
            "numbers": " ".join(fact.id for fact in self.facts),
            "assumption": text("assumption", ""),
            "rounding": text("rounding", rounding) if outcome == "inconsistent" else "",
            "outcome": outcome,
            "found": found,
            "matters": int(self.texts["matters"]),
            "gap": float(answer.gap) if outcome == "inconsistent" else 0.0,
            "mend": text("mend", answer.mend) if outcome != "consistent" else "",
            "sentence": f"{sentence} {why}".strip(),
        }


def load_checks(folder: Path = PUBLISHED) -> list[Check]:
    """Every check of the file, entries for several (`each`, `every`) taken apart.

    Raises `ClaimError` where a fact is not there, and for two checks of one name.
    """
    facts = Facts(folder)
    entries = tomllib.loads((folder / "audit_checks.toml").read_text(encoding="utf-8"))
    sets = _scored_sets(entries.pop("sets"), facts)
    found: dict[str, Check] = {}
    for paper, several in entries.items():
        for entry in (one for each in several for one in _instances(each, facts)):
            check = _check(entry.pop("paper", paper), entry, facts, sets, folder)
            if check.id in found:
                raise ClaimError(f"two checks are called {check.id}")
            found[check.id] = check
    return list(found.values())


def _scored_sets(entries: Mapping[str, Mapping], facts: Facts) -> dict[str, ScoredSet]:
    sets: dict[str, ScoredSet] = {}
    for name, entry in entries.items():
        rows = {row: {value: facts[f"{where}.{value}"] for value in VALUES} for row, where in entry["rows"].items()}
        parts = tuple(sets[part] for part in entry.get("parts", ()))
        sets[name] = ScoredSet(entry["title"], facts[entry["size"]], rows, parts)
    return sets


def _instances(entry: dict[str, Any], facts: Facts) -> Iterator[dict[str, Any]]:
    """The entry for each choice of its `each`, or for each fact that `every` means, with $name replaced."""
    each = entry.pop("each", {})
    if query := entry.pop("every", ""):
        each = list(_every(query, facts))
    if isinstance(each, Mapping):
        each = [dict(zip(each, choice, strict=True)) for choice in product(*each.values())]
    for choice in each:
        yield json.loads(Template(json.dumps(entry)).safe_substitute(choice))


def _every(query: str, facts: Facts) -> Iterator[dict[str, str]]:
    """Paper, name and ids of every printed number that the query finds; those that repeat one another are one."""
    rows = facts.rows[(facts.rows["kind"] == "number") & (facts.rows["paper"] != ELSEWHERE)]
    rows = rows.reset_index(drop=True).query(query, engine="python")
    for first, others in rows.groupby(rows["repeats"].mask(rows["repeats"] == "", rows["id"]), sort=False)["id"]:
        paper, _, name = first.partition(".")
        yield {"paper": paper, "name": name, "ids": "{" + ",".join(dict.fromkeys([first, *others])) + "}"}


def _check(paper: str, entry: dict[str, Any], facts: Facts, sets: Mapping[str, ScoredSet], folder: Path) -> Check:
    def find(name: str | list[str]) -> Any:
        """A fact for an id, a list of facts for a list or a pattern, a test set, or a table."""
        if isinstance(name, list):
            return [fact for one in name for fact in facts.find(one, paper)]
        if name.startswith("sets."):
            return sets if name == "sets.*" else sets[name.removeprefix("sets.")]
        if name.endswith(".csv"):
            return pd.read_csv(folder / name, index_col=0)
        found = facts.find(name, paper)
        return found if set(name) & set("{*") else found[0]

    given = entry["facts"] if isinstance(entry["facts"], dict) else {"facts": entry["facts"]}
    given = {name: find(value) for name, value in given.items()}
    positional = [fact for value in given.values() for fact in (value if isinstance(value, list) else [value])]
    names = {**given, "facts": positional} | {name: find(value) for name, value in entry.get("given", {}).items()}
    for name, formula in entry.get("formulas", {}).items():  # the file is a part of this package, as its code is
        names[name] = eval(formula, {"__builtins__": FORMULA, **names})
    return Check(f"{paper}.{entry['id']}", tuple(positional), names, entry)


def run_audit(checks: Sequence[Check]) -> pd.DataFrame:
    """The answers, one row each (see `Check.row`), the gravest first.

    They are ordered by `matters` (4: a main result, which readers quote; 3: another result, or its interval; 2: how
    large the study was, or how it was done; 1: wording, naming, a version), then by `gap`, then by name.
    """
    table = pd.DataFrame([check.row() for check in checks])
    return table.sort_values(["matters", "gap", "check"], ascending=[False, False, True], ignore_index=True)


def findings(table: pd.DataFrame, outcome: str = "inconsistent") -> pd.DataFrame:
    """What the answers with one outcome come to, a row per finding, the gravest first.

    A check whose numbers all belong to a graver check is the same finding: its number and answer are added to `found`.
    """
    rows = table[table["outcome"] == outcome].reset_index(drop=True)
    numbers = rows["numbers"].str.split().map(set)
    first = [next(k for k, whole in enumerate(numbers) if mine <= whole) for mine in numbers]
    rows["found"] = rows["found"].where(rows.index == first, rows["printed"] + ": " + rows["found"])
    joined = {name: "; ".join if name in ("check", "found") else "first" for name in rows}
    found = rows.groupby(first).agg(joined).reset_index(drop=True)
    found.insert(0, "rank", found.index + 1)
    return found


def tally(table: pd.DataFrame, by: str = "paper") -> pd.DataFrame:
    """How many checks had which outcome, one row for each `by` (a paper, or a rule), with their sum."""
    counts = pd.crosstab(table[by], table["outcome"]).reindex(columns=list(OUTCOMES), fill_value=0)
    counts = counts if by == "paper" else counts.loc[table[by].value_counts().index]
    counts.loc["all"] = counts.sum()
    return counts.assign(checks=counts.sum(axis=1)).rename_axis(columns=None)


def derived(checks: Sequence[Check]) -> dict[str, float]:
    """The ids of printed numbers that other numbers of the same text determine, with the values that these imply."""
    return {check.facts[0].id: check.answer().value for check in checks if check.texts.get("derived")}


# --- the reviewers' checklists ------------------------------------------------------------------------------------
#
# The answers are data, data/published/probast_ai.csv and claim_2024.csv: a judgement, the words of the text that it
# rests on, their place, and what this project does about it.

APPRAISAL_COLUMNS = ("paper", "item", "question", "judgement", "quote", "place", "here")
JUDGEMENTS = {
    "probast_ai": ("yes", "probably yes", "probably no", "no", "no information", "not applicable"),
    "claim_2024": ("reported", "partly reported", "not stated", "not applicable"),
}
NOT_STATED = "not stated"  # in place of a quote, where the text has no words on an item
DOMAINS = ("participants", "predictors", "outcome", "analysis")


def load_appraisal(name: str, folder: Path = PUBLISHED) -> pd.DataFrame:
    """The answers to one checklist, a row for each paper and item.

    Raises `ClaimError` for an unknown judgement, and for one without the words that it rests on.
    """
    table = pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False)
    if tuple(table.columns) != APPRAISAL_COLUMNS:
        raise ClaimError(f"{name}.csv needs the columns {', '.join(APPRAISAL_COLUMNS)}")
    open_ones = table["judgement"].isin(JUDGEMENTS[name][-2:])
    wrong = {
        "an unknown judgement": ~table["judgement"].isin(JUDGEMENTS[name]),
        "a judgement without a quote": ~open_ones & table["quote"].isin(["", NOT_STATED]),
        f"a quote where there is none ('{NOT_STATED}')": open_ones & (table["quote"] != NOT_STATED),
        "a quote without its place": (table["quote"] != NOT_STATED) & (table["place"] == ""),
        "nothing on what is done here": table["here"] == "",
        "the same item twice": table.duplicated(["paper", "item"]),
    }
    for why, rows in wrong.items():
        if rows.any():
            first = table[rows].iloc[0]
            raise ClaimError(f"{name}.csv has {why}: {first['paper']}, item {first['item']}")
    return table


def rate_domains(probast: pd.DataFrame) -> pd.DataFrame:
    """The risk of bias in each domain of PROBAST+AI, one row for each part and domain, one column for each paper.

    'high' where an answer is no or probably no, 'low' where all are yes or probably yes, else 'unclear'.
    """

    def rate(answers: pd.Series) -> str:
        if answers.isin(["no", "probably no"]).any():
            return "high"
        return "unclear" if (answers == "no information").any() else "low"

    part = probast["item"].str[0].map({"D": "development", "E": "evaluation"})
    domain = probast["item"].str[1].astype(int).map(dict(enumerate(DOMAINS, 1)))
    rated = probast.assign(part=part, domain=domain).groupby(["part", "domain", "paper"], sort=False)["judgement"]
    return rated.agg(rate).unstack("paper").rename_axis(columns=None)


def tally_judgements(table: pd.DataFrame) -> pd.DataFrame:
    """How many items of a checklist got which judgement, one row for each paper."""
    return pd.crosstab(table["paper"], table["judgement"]).rename_axis(columns=None)
