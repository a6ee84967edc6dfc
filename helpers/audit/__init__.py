"""Can the published numbers be true as printed? An audit from data/published/ alone, without an image.

`run_audit()` puts some hundreds of small questions to what four papers print: is a proportion attainable by any count
(`grim`), do accuracy, sensitivity and specificity come from one table (`consistency`), does a weighted error agree with
them (`weighted`), do intervals follow from n (`intervals`), do counts add up (`counts`), do PPV and NPV share one
prevalence (`predictive`), does an AUROC fit its operating point and its parts (`points`), do pooled accuracies and
their p values fit (`pooling`), can a spread be what it is said to be (`spread`), and does a text say one thing alike in
all places (`repeats`). The general questions know no paper; the modules
named after a paper put them.

Each answer is consistent, inconsistent or undecidable, under an assumption that it states. An inconsistent number is
most likely a misprint: nothing here says why it stands there. Undecidable means that the text tells too little, or
that the answer hangs on a reading.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from helpers.audit import carr, grim, kermany, kermany_design, rajkomar, rajkomar_design, repeats, zech, zech_quoted
from helpers.audit.facts import Facts
from helpers.audit.record import COLUMNS, MATTERS, OUTCOMES, as_frame, ranked, tally
from helpers.run.paths import PUBLISHED

__all__ = ["COLUMNS", "MATTERS", "OUTCOMES", "ranked", "run_audit", "tally"]

# Table 3 of the talk gives no positives: `predictive` asks of those shares what GRIM cannot.
NO_GRIM = tuple(f"zech2018.generalization.{train}." for train in zech.TRAINED)


def run_audit(folder: Path = PUBLISHED) -> pd.DataFrame:
    """Every check of every paper, one row each, with the columns of `COLUMNS` (see `record.Check`).

    `rank` numbers the inconsistent ones, 1 being the gravest, and is missing for the others. Takes seconds, needs only
    the CSV files of `folder`. Raises `ClaimError` where a fact that a check needs is not there.
    """
    facts = Facts.load(folder)
    papers = (kermany, kermany_design, rajkomar, rajkomar_design, zech, zech_quoted, carr)
    checks = [check for paper in papers for check in paper.checks(facts)]
    return as_frame([*grim.audit(facts, skip=NO_GRIM), *checks, *repeats.repeated(facts)])
