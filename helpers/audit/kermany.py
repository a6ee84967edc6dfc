"""The checks of Kermany 2018's results: tables of two by two, weighted errors, curves, occlusion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from helpers.audit import consistency, counts, points, repeats, weighted
from helpers.audit.facts import Fact, Facts
from helpers.audit.grim import RULE as GRIM
from helpers.audit.grim import counts_for
from helpers.audit.record import Check, checked
from helpers.run.paths import PUBLISHED

K = "kermany2018"
RESULTS = ("accuracy", "sensitivity", "specificity")
PENALTIES = ("urgent_as_normal", "urgent_as_drusen", "other_error")
BINARY = ("oct.cnv_normal", "oct.dme_normal", "oct.drusen_normal")
XRAY = ("xray.pneumonia", "xray.bacterial_viral")


def checks(facts: Facts) -> list[Check]:
    """The results' checks, but GRIM's and those of repeated numbers, which are the same for every paper."""
    return [*_tables(facts), *_weighted(facts), *_curves(facts), _negatives(facts), _occlusion(facts)]


def table_of(facts: Facts, name: str, positives: str, negatives: str) -> consistency.TwoByTwo:
    """What is printed of the classifier `name`; the sizes of its classes are the rows `positives` and `negatives`."""
    sizes = (int(facts[f"{K}.{size}"].value) for size in (positives, negatives))
    return consistency.TwoByTwo(*facts.get(f"{K}.{name}", *RESULTS), *sizes)


def weighted_of(facts: Facts, name: str, none_as_normal: bool) -> weighted.Weighted:
    """What is printed of the four-class model `name` (multiclass, limited)."""
    given = facts.get(f"{K}.oct.{name}", *RESULTS, "weighted_error")
    penalties = tuple(fact.value for fact in facts.get(f"{K}.oct.penalty", *PENALTIES))
    return weighted.Weighted(*given, given[1].n, given[0].n, penalties, none_as_normal)


def _tables(facts: Facts) -> list[Check]:
    """One table of two by two for each yes/no classifier; for bacterial against viral, either may be the positive."""
    each, size = "oct.data.test_per_class", "xray.data.test_{}".format
    found = [consistency.one_table(f"table.{name}", table_of(facts, name, each, each)) for name in BINARY]
    found.append(
        consistency.one_table("table.xray.pneumonia", table_of(facts, XRAY[0], size("pneumonia"), size("normal")))
    )
    for positive, negative, matters in (("bacterial", "viral", 4), ("viral", "bacterial", 3)):
        name, reading = f"table.xray.bacterial_viral.{positive}_positive", f"{positive} counts as positive"
        found.append(
            consistency.one_table(name, table_of(facts, XRAY[1], size(positive), size(negative)), matters, reading)
        )
    return found


def _weighted(facts: Facts) -> list[Check]:
    best = weighted.agrees("weighted.multiclass.as_said", weighted_of(facts, "multiclass", True))
    legend = facts[f"{K}.oct.multiclass.urgent_as_normal"]  # "scored all urgent referrals as higher than observation"
    experts = facts.get(f"{K}.oct.experts", *(f"weighted_error_{x}" for x in ("mean", "lowest", "highest")))
    return [
        replace(best, where=f"{best.where}; {legend.where}"),
        weighted.agrees("weighted.multiclass.any", weighted_of(facts, "multiclass", False), matters=3),
        weighted.agrees("weighted.limited", weighted_of(facts, "limited", False)),
        points.mean_in_range("weighted.experts", *experts, int(facts[f"{K}.oct.experts.count"].value)),
        _unit(facts, experts),
        *_penalties(facts),
    ]


def _unit(facts: Facts, experts: list[Fact]) -> Check:
    """Are weighted errors per image or per patient? The experts decided "on each test patient"; points are whole."""
    sizes = {what: int(facts[f"{K}.oct.data.test_{what}"].value) for what in ("images", "patients")}
    fits = [what for what, n in sizes.items() if all(counts_for(fact, n) for fact in experts[1:])]
    told = ", ".join(f"{'possible' if what in fits else 'impossible'} with {n:,} {what}" for what, n in sizes.items())
    most = 100 * facts[f"{K}.oct.penalty.urgent_as_normal"].value
    return checked(
        "weighted.unit",
        GRIM,
        experts[1:],
        bool(fits),
        assumption=f"points are whole numbers, of {' or '.join(f'{n:,} {what}' for what, n in sizes.items())}",
        found=told,
        matters=2,
        sentence=f"Experts decided 'on each test patient'; whole points make the printed errors {told}. They are "
        f"printed in per cent, though they are no shares: the scale ends at {most:.0f} %.",
        gap=1.0,
        mend="say what the weighted error is divided by",
    )


def _penalties(facts: Facts, folder: Path = PUBLISHED) -> list[Check]:
    """The sixteen cells of figure S4A beside its legend."""
    matrix = pd.read_csv(folder / f"{K}_penalties.csv", index_col="true")
    cells = {f"urgent_as_{to.lower()}": [(eye, to) for eye in ("CNV", "DME")] for to in ("NORMAL", "DRUSEN")}
    cells["correct"] = [(name, name) for name in matrix.index]
    used = {cell for group in cells.values() for cell in group}
    cells["other_error"] = [(i, j) for i in matrix.index for j in matrix.columns if (i, j) not in used]
    found = []
    for what, places in cells.items():
        fact = facts[f"{K}.oct.penalty.{what}"]
        values = [float(matrix.loc[place]) for place in places]
        furthest = max(values, key=lambda value: abs(value - fact.value))
        found.append(counts.equal(f"penalty.{what}", fact, furthest, f"each of {len(places)} cells of the matrix"))
    return found


def _curves(facts: Facts) -> list[Check]:
    names = ("oct.multiclass", "oct.limited", *BINARY, *XRAY)
    point = {name: facts.get(f"{K}.{name}", "auroc", "sensitivity", "specificity") for name in names}
    found = [points.auroc_fits(f"auroc.{name}", *given) for name, given in point.items()]
    found.append(points.ratios_printed("ratios.multiclass", *point["oct.multiclass"][1:]))
    for name in ("multiclass", "limited"):
        accuracy, *shares = facts.get(f"{K}.oct.{name}", *RESULTS)
        most = sum(max(counts_for(fact, fact.n)) for fact in shares) / accuracy.n
        how = f"the share of right referrals, {accuracy.show(most)} (a right label is a right referral)"
        found.append(counts.at_most(f"referral.{name}", accuracy, most, how, shares, matters=3))
    return found


def _negatives(facts: Facts) -> Check:
    """The main model's AUROC is "from drusen and normal exams", the limited one's "from normal images"."""
    both = [facts[f"{K}.oct.{name}.auroc"] for name in ("multiclass", "limited")]
    why = "Methods say 'urgent referral versus otherwise', which includes drusen."
    what = "What urgent referral is told apart from, in the two AUROCs"
    return repeats.two_names("wording.negatives", both, ["drusen and normal exams", "normal images"], what, 2, why)


def _occlusion(facts: Facts) -> Check:
    """Can three classes of 491 images have the three shares, and together the fourth?"""
    whole, cnv, dme, drusen = facts.get(f"{K}.oct.occlusion", "all", "cnv", "dme", "drusen")
    n, ways = whole.n, []
    right = {fact.id: {m: k for m in range(1, n) if (k := counts_for(fact, m))} for fact in (cnv, dme, drusen)}
    for a, of_a in right[cnv.id].items():
        for b, of_b in right[dme.id].items():
            rest = right[drusen.id].get(n - a - b)
            if rest and any(whole.holds((i + j + k) / n) for i in of_a for j in of_b for k in rest):
                ways.append((a, b, n - a - b))
    each = int(facts[f"{K}.oct.data.test_per_class"].value)
    ways = [way for way in ways if max(way) <= each] or ways  # the likelier ones: they are taken from the test set
    example = f", such as {', '.join(map(str, ways[len(ways) // 2]))} of CNV, DME and drusen" if ways else ""
    plain = sum(fact.value for fact in (cnv, dme, drusen)) / 3
    return checked(
        "occlusion",
        "shares of the classes make the share of all",
        [whole, cnv, dme, drusen],
        bool(ways),
        assumption=f"{n} images of CNV, DME and drusen; class sizes free, at most {each} where that is possible",
        found=f"{len(ways):,} ways to split {n}{example}",
        matters=2,
        sentence=f"{whole.text} of {n} images and the three shares fit {len(ways):,} class sizes{example}.",
        gap=whole.gap(plain),
        mend=whole.show(plain),
    )
