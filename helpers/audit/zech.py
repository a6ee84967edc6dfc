"""The checks of Zech 2018's Table 3: images, positives, predictive values, AUROCs and their intervals."""

from __future__ import annotations

import math

import numpy as np

from helpers.audit import counts, intervals, points, predictive
from helpers.audit.facts import Fact, Facts
from helpers.audit.record import Check, checked

Z = "zech2018"
G = f"{Z}.generalization"
TRAINED = ("nih", "msh", "msh_nih")
SITES = ("nih", "msh", "iu")
JOINT = {"msh_nih": ("nih", "msh"), "msh_nih_iu": ("msh_nih", "iu")}
AWAY = (("nih", "nih", "msh"), ("nih", "nih", "iu"), ("msh", "msh", "nih"), ("msh", "msh", "iu"))
AWAY += (("msh_nih", "msh_nih", "iu"),)  # trained on, at home, elsewhere
SAYS = "what the text says of its numbers"
Positives = dict[str, np.ndarray]


def checks(facts: Facts) -> list[Check]:
    """The checks of Table 3, but GRIM's and those of repeated numbers."""
    found, positives = _positives(facts)
    return [*_sizes(facts), *found, *_curves(facts, positives), _symmetric(facts), *_claims(facts, positives)]


def _size(facts: Facts, site: str) -> Fact:
    return facts[f"{G}.data.{site}"]


def _sizes(facts: Facts) -> list[Check]:
    nih, msh, iu, two, three = (_size(facts, site) for site in (*SITES, *JOINT))
    share, all_nih, files = facts.get(Z, "setting.test_share", "data.nih_images", "data.msh_files")
    perhaps = "Perhaps patients were split, or not every file was used."
    options = {"matters": 2, "undecided": perhaps}
    return [
        counts.total("counts.msh_nih", two, [msh, nih]),
        counts.total("counts.msh_nih_iu", three, [msh, nih, iu]),
        counts.part("counts.nih_test", share, nih, all_nih, assumption="20 % of the NIH images", **options),
        counts.part("counts.msh_test", share, msh, files, assumption="the same 20 %, of the exported files", **options),
    ]


def _positives(facts: Facts) -> tuple[list[Check], Positives]:
    """The numbers of positives that each row, each test set and their sums allow."""
    found, allowed = [], {}
    for site in (*SITES, *JOINT):
        size, names = _size(facts, site), predictive.NAMES
        rows = [dict(zip(names, facts.get(f"{G}.{train}.{site}", *names), strict=True)) for train in TRAINED]
        for train, row in zip(TRAINED, rows, strict=True):
            found.append(predictive.one_row(f"positives.{train}.{site}", row, int(size.value)))
        check, allowed[site] = predictive.one_test_set(f"positives.{site}", rows, int(size.value), size)
        found.append(check)
    for joint, parts in JOINT.items():
        sizes, sets = [_size(facts, part) for part in parts], [allowed[part] for part in parts]
        name = f"positives.{joint}.sum"
        check, allowed[joint] = predictive.sum_of_parts(name, allowed[joint], sets, _size(facts, joint), sizes)
        found.append(check)
    return found, allowed


def _curves(facts: Facts, positives: Positives) -> list[Check]:
    found = []
    for train in TRAINED:
        for site in (*SITES, *JOINT):
            auroc, *point = facts.get(f"{G}.{train}.{site}", "auroc", "sensitivity", "specificity")
            found.append(points.auroc_fits(f"auroc.{train}.{site}", auroc, *point, matters=3))
            if len(positives[site]):
                n, name = int(_size(facts, site).value), f"interval.{train}.{site}"
                found.append(intervals.auroc_width(name, auroc, positives[site].tolist(), n))
        for joint, sites in JOINT.items():
            if all(len(positives[part]) for part in sites):
                parts = [_part(facts, train, part, positives) for part in sites]
                name = f"mixture.{train}.{joint}"
                found.append(points.mixture(name, facts[f"{G}.{train}.{joint}.auroc"], parts))
    return found


def _part(facts: Facts, train: str, site: str, positives: Positives) -> tuple[Fact, int, int]:
    p, n = int(np.median(positives[site])), int(_size(facts, site).value)
    return facts[f"{G}.{train}.{site}.auroc"], p, n - p


def _symmetric(facts: Facts) -> Check:
    """DeLong's interval is symmetric, so its middle is the value, within the rounding of all three."""
    aurocs = [facts[f"{G}.{train}.{site}.auroc"] for train in TRAINED for site in (*SITES, *JOINT)]
    good = sum(abs(sum(fact.limits) / 2 - fact.value) <= 2 * fact.half + 1e-9 for fact in aurocs)
    told = f"{good} of {len(aurocs)} AUROC intervals have their value in the middle, within rounding"
    return checked(
        "interval.symmetric",
        intervals.RULE,
        aurocs,
        "consistent" if good == len(aurocs) else "undecidable",
        assumption="intervals symmetric about the value, as DeLong's are",
        found=told,
        matters=2,
        sentence=f"{told}.",
        mend="name the method",
    )


def _claims(facts: Facts, positives: Positives) -> list[Check]:
    """What the talk says in words: Mount Sinai has "much higher pneumonia rate"; the joint set scores better."""
    sizes = {site: _size(facts, site) for site in ("nih", "msh")}
    rates = {site: 100 * float(np.mean(positives[site])) / sizes[site].value for site in sizes if len(positives[site])}
    told = ", ".join(f"{site.upper()} {rate:.1f} %" for site, rate in rates.items())
    joint, *parts = (facts[f"{G}.msh_nih.{site}.auroc"] for site in ("msh_nih", "nih", "msh"))
    beside = f"{joint.text} against {' and '.join(fact.text for fact in parts)} of its parts"
    return [
        checked(
            "claim.prevalence",
            SAYS,
            list(sizes.values()),
            len(rates) == 2 and rates["msh"] > 2 * rates["nih"],
            assumption="the positives that Table 3 allows",
            found=told,
            matters=2,
            sentence=f"'Mount Sinai has much higher pneumonia rate': {told}.",
            gap=1.0,
            mend="another sentence",
        ),
        checked(
            "claim.joint",
            SAYS,
            [joint, *parts],
            joint.value > max(part.value for part in parts),
            assumption="'better performance on joint NIH+Mount Sinai dataset' is about AUROC",
            found=beside,
            matters=3,
            sentence=f"The joint set scores {beside}, as the talk says.",
            gap=1.0,
            mend="another sentence",
        ),
        _external(facts),
    ]


def _external(facts: Facts) -> Check:
    """Is each network worse elsewhere, and by more than chance? Differences from the printed intervals."""
    pairs = [[facts[f"{G}.{train}.{site}.auroc"] for site in (home, away)] for train, home, away in AWAY]
    lower = sum(away.value < home.value for home, away in pairs)
    half = [math.hypot(*((fact.limits[1] - fact.limits[0]) / 2 for fact in pair)) for pair in pairs]
    sure = sum(home.value - away.value > width for (home, away), width in zip(pairs, half, strict=True))
    told = f"lower in {lower} of {len(pairs)} external comparisons, by more than chance in {sure}"
    return checked(
        "claim.external",
        SAYS,
        [fact for pair in pairs for fact in pair],
        "consistent" if lower == len(pairs) else "undecidable",
        assumption="test sets independent; 95 % intervals as printed",
        found=told,
        matters=3,
        sentence=f"AUROC is {told}.",
        mend="another sentence",
    )
