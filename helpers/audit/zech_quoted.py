"""The checks of what Zech 2018 shows and quotes beside Table 3: F1 of radiologists, fourteen AUROCs, other studies."""

from __future__ import annotations

import math

from helpers.audit import counts, intervals, points, repeats
from helpers.audit.facts import Fact, Facts
from helpers.audit.record import Check, checked

Z = "zech2018"
RAJPURKAR = f"{Z}.quoted.rajpurkar"
READERS = tuple(f"radiologist_{i}" for i in range(1, 5))


def checks(facts: Facts) -> list[Check]:
    """The checks of CheXNet, its comparison with radiologists, and the quoted studies."""
    return [*_f1(facts), *_aurocs(facts), *_data(facts), *_studies(facts)]


def _f1(facts: Facts) -> list[Check]:
    mean, network, *values = facts.get(f"{RAJPURKAR}.f1", "radiologists", "chexnet", *READERS)
    above = sum(fact.value > network.value for fact in values)
    level = network.value >= mean.value or network.limits[0] <= mean.value <= network.limits[1]
    told = f"{network.text} against a mean of {mean.text}; {above} of {len(values)} radiologists above it"
    return [
        points.mean_of("f1.mean", mean, values),
        counts.equal(
            "f1.readers", facts[f"{RAJPURKAR}.readers"], len(values), "rows of radiologists", values, matters=1
        ),
        checked(
            "f1.level",
            "what the text says of its numbers",
            [network, mean, *values],
            "consistent" if level else "undecidable",
            assumption="'radiologist-level': not below the radiologists' mean beyond chance",
            found=told,
            matters=2,
            sentence=f"CheXNet's F1: {told}.",
            mend="another word",
        ),
        _widths([*values, network]),
    ]


def _widths(values: list[Fact]) -> Check:
    width = {fact.quantity.rpartition(", ")[2]: fact.limits[1] - fact.limits[0] for fact in values}
    low, high = min(width, key=width.get), max(width, key=width.get)
    told = f"{width[low]:.3f} ({low}) to {width[high]:.3f} ({high}) wide, {width[high] / width[low]:.2f} times"
    return checked(
        "f1.widths",
        intervals.RULE,
        values,
        "consistent" if width[high] / width[low] <= 1.25 else "undecidable",
        assumption=f"the same {values[0].n} images; the counts behind F1 are not told",
        found=told,
        matters=1,
        sentence=f"On the same images the F1 intervals are {told}; what each reader called is not told, so they may be "
        "right.",
        mend="print the counts",
    )


def _aurocs(facts: Facts) -> list[Check]:
    labels, found = facts[f"{Z}.data.diagnoses"], []
    for column in ("retrained", "chexnet"):
        pattern = rf"{Z}\.auroc\.{column}\.\w+"
        rows = facts.where(lambda table, pattern=pattern: table["id"].str.fullmatch(pattern))
        found.append(
            counts.equal(f"auroc.labels.{column}", labels, len(rows), f"rows of '{column} auc'", rows, matters=1)
        )
    pneumonia = facts[f"{RAJPURKAR}.pneumonia.auroc"], facts[f"{Z}.auroc.chexnet.pneumonia"]
    return [*found, repeats.two_numbers("auroc.pneumonia", *pneumonia, "CheXNet's AUROC for pneumonia")]


def _data(facts: Facts) -> list[Check]:
    images, least, parameters = facts.get(Z, "data.nih_images", "data.nih_images.repository", "setting.parameters")
    parts = facts.get(f"{Z}.setting", "train_share", "tune_share", "test_share")
    network = facts["elsewhere.densenet121.parameters"]
    return [
        _whole("counts.shares", parts),
        counts.at_least("counts.nih", images, least.value, "'over 100,000'", [least], matters=1),
        counts.at_most("counts.parameters", parameters, network.value, f"DenseNet-121's {network.text}", matters=1),
    ]


def _whole(name: str, parts: list[Fact]) -> Check:
    """Do shares make 100 %?"""
    total = sum(part.value for part in parts)
    shown = f"{' + '.join(part.text for part in parts)} = {100 * total:g} %"
    return checked(
        name,
        counts.RULE,
        parts,
        math.isclose(total, 1),
        assumption=counts.EXACT,
        found=shown,
        matters=1,
        sentence=f"{shown}.",
        gap=abs(1 - total),
        mend="shares that make 100 %",
    )


def _studies(facts: Facts) -> list[Check]:
    auroc, *chang = facts.get(f"{Z}.quoted.chang", "auroc", "accuracy", "sensitivity", "specificity")
    digits = facts[f"{Z}.context.mnist_pixels"], facts["elsewhere.mnist.pixels"]
    why = "LeNet-5 pads the digits to 32 x 32, which is the likeliest cause."
    return [
        points.implied_share("quoted.chang.share", *chang),
        points.auroc_fits("quoted.chang.auroc", auroc, *chang[1:], matters=2),
        _whole("quoted.esteva.drawing", facts.get(f"{Z}.quoted.esteva", "malignant", "benign")),
        repeats.two_numbers("wording.mnist", *digits, "The side of an MNIST image", matters=1, why=why, mend="28 x 28"),
    ]
