"""What two checklists for reviewers ask of each paper: PROBAST+AI (risk of bias) and CLAIM 2024 (reporting).

The answers are data, data/published/probast_ai.csv and claim_2024.csv: a judgement, the words of the text that it
rests on, their place, and what this project does about it.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from helpers.run.claims import ClaimError
from helpers.run.paths import PUBLISHED

COLUMNS = ("paper", "item", "question", "judgement", "quote", "place", "here")
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
    if tuple(table.columns) != COLUMNS:
        raise ClaimError(f"{name}.csv needs the columns {', '.join(COLUMNS)}")
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
