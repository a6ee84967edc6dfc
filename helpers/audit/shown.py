"""What the figures of the audit show: the same questions as the checks put, with the values that answer them."""

from __future__ import annotations

import pandas as pd

from helpers.audit import kermany, predictive, rajkomar, zech
from helpers.audit.consistency import TwoByTwo
from helpers.audit.facts import Fact, Facts
from helpers.audit.intervals import interval
from helpers.run.published import hanley_mcneil

XRAY = tuple(f"xray.{what}" for what in ("pneumonia", "bacterial_viral"))
SITES = {"nih": "NIH", "msh": "MSH", "iu": "IU", "msh_nih": "MSH + NIH", "msh_nih_iu": "MSH + NIH + IU"}


def proportions(facts: Facts) -> list[tuple[str, Fact]]:
    """Kermany's binary results with their n, named, for the figure of attainable values."""
    names = (*(f"{name}" for name in kermany.BINARY[1:]), *XRAY)
    rows = [fact for name in names for fact in facts.get(f"{kermany.K}.{name}", *kermany.RESULTS)]
    return [(fact.quantity, fact) for fact in rows]


def tables(facts: Facts) -> dict[str, TwoByTwo]:
    """Kermany's yes/no classifiers with the sizes of their classes, by title."""
    each, size = "oct.data.test_per_class", "xray.data.test_{}".format
    return {
        "DME against normal": kermany.table_of(facts, "oct.dme_normal", each, each),
        "Drusen against normal": kermany.table_of(facts, "oct.drusen_normal", each, each),
        "Pneumonia against normal": kermany.table_of(facts, XRAY[0], size("pneumonia"), size("normal")),
        "Bacterial against viral": kermany.table_of(facts, XRAY[1], size("bacterial"), size("viral")),
    }


def weighted_errors(facts: Facts) -> dict[str, tuple[Fact, list[float]]]:
    """Each model's printed weighted error, and those that its other results allow, by title."""
    models = {
        "four-class model, no urgent image called normal, as said": ("multiclass", True),
        "four-class model, any number of them called normal": ("multiclass", False),
        "limited model, any number of them called normal": ("limited", False),
    }
    found = {}
    for title, (name, none_as_normal) in models.items():
        model = kermany.weighted_of(facts, name, none_as_normal)
        found[title] = model.weighted_error, sorted(total / model.n for total in model.totals())
    return found


def interval_widths(facts: Facts) -> pd.DataFrame:
    """Printed and recomputed widths of 95 % intervals; one row an interval.

    Columns: paper, what, printed, recomputed, method. Zech's AUROCs by Hanley and McNeil, with the middle of the
    numbers of positives that Table 3 allows; Rajkomar's accuracies by Clopper and Pearson.
    """
    rows = []
    for name in ("validation.accuracy", "test.accuracy"):
        fact = facts[f"{rajkomar.R}.view.{name}"]
        low, high = interval(round(fact.value * fact.n), fact.n, rajkomar.METHOD)
        rows.append((fact.paper, fact.quantity, fact.limits[1] - fact.limits[0], high - low, rajkomar.METHOD))
    allowed = positives(facts).query("what == 'shared'").set_index("site")
    for site in SITES:
        n, middle = int(allowed.loc[site, "n"]), int(allowed.loc[site, ["low", "high"]].mean())
        for train in zech.TRAINED:
            fact = facts[f"{zech.G}.{train}.{site}.auroc"]
            width = 2 * 1.959964 * hanley_mcneil(fact.value, middle, n - middle)
            rows.append(
                (fact.paper, f"{SITES[train]} to {SITES[site]}", fact.limits[1] - fact.limits[0], width, "Hanley")
            )
    return pd.DataFrame(rows, columns=["paper", "what", "printed", "recomputed", "method"])


def positives(facts: Facts) -> pd.DataFrame:
    """Table 3: the numbers of positives that each row allows, that a test set's rows share, and that parts add up to.

    Columns: site, n, what ('trained on NIH', ..., 'shared', 'parts'), low, high; NaN where no number is possible.
    """
    rows, shared = [], {}
    for site in SITES:
        n = int(facts[f"{zech.G}.data.{site}"].value)
        sets = {}
        for train in zech.TRAINED:
            names = predictive.NAMES
            row = dict(zip(names, facts.get(f"{zech.G}.{train}.{site}", *names), strict=True))
            sets[f"trained on {SITES[train]}"] = predictive.positives(row, n)
        shared[site] = predictive.common(list(sets.values()))
        sets["shared"] = shared[site]
        if site in zech.JOINT:
            sets["parts"] = predictive.sums([shared[part] for part in zech.JOINT[site]])
        rows += [(site, n, what, found.min(initial=n), found.max(initial=0)) for what, found in sets.items()]
    table = pd.DataFrame(rows, columns=["site", "n", "what", "low", "high"])
    return table.astype({"low": float, "high": float}).where(table["low"] <= table["high"])
