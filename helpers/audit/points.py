"""What one operating point says of the whole curve, and what curves of parts say of the curve of the whole."""

from __future__ import annotations

import numpy as np

from helpers.audit.facts import Fact
from helpers.audit.record import Check, checked

BOUNDS = "AUROC fits its operating point"
MIXTURE = "AUROC of a joint set fits those of its parts"
RATIOS = "likelihood ratios follow from sensitivity and specificity"


def auroc_bounds(sensitivity: float, specificity: float) -> tuple[float, float]:
    """The least and the greatest area under any rising curve through the point.

    At the least the curve is 0 before the point and `sensitivity` after it; at the most `sensitivity` before, 1 after.
    """
    return sensitivity * specificity, 1 - (1 - sensitivity) * (1 - specificity)


def auroc_fits(name: str, auroc: Fact, sensitivity: Fact, specificity: Fact, matters: int = 4) -> Check:
    """Is the AUROC within what a curve through the printed point can have?"""
    low = auroc_bounds(sensitivity.low, specificity.low)[0]
    high = auroc_bounds(min(1.0, sensitivity.high), min(1.0, specificity.high))[1]
    good = auroc.low <= high and auroc.high >= low
    nearest = high if auroc.value > high else low
    span = f"{auroc.show(low)} to {auroc.show(high)}"
    return checked(
        name,
        BOUNDS,
        [auroc, sensitivity, specificity],
        good,
        assumption="the point lies on the curve; its values as rounded",
        found=f"{span} possible",
        matters=matters,
        sentence=f"{auroc.quantity}: {auroc.text} lies {'within' if good else 'outside'} the {span} of curves through "
        f"sensitivity {sensitivity.text} and specificity {specificity.text}.",
        gap=auroc.gap(nearest),
        mend=auroc.show(nearest),
    )


def ratios(sensitivity: Fact, specificity: Fact) -> dict[str, tuple[float, float, float]]:
    """The positive and the negative likelihood ratio from the printed values, with what rounding allows."""
    s, c = sensitivity, specificity

    def over(top: float, bottom: float) -> float:
        return top / bottom if bottom > 0 else float("inf")

    positive = over(s.value, 1 - c.value), over(s.low, 1 - c.low), over(s.high, max(0.0, 1 - c.high))
    negative = over(1 - s.value, c.value), over(max(0.0, 1 - s.high), c.high), over(1 - s.low, c.low)
    return {"positive": positive, "negative": negative}


def ratios_printed(name: str, sensitivity: Fact, specificity: Fact, matters: int = 1) -> Check:
    """The likelihood ratios are only in a picture: what they should be, and so undecidable."""
    shown = "; ".join(
        f"{which} {value:.3g} ({low:.3g} to {high:.3g} by rounding)"
        for which, (value, low, high) in ratios(sensitivity, specificity).items()
    )
    return checked(
        name,
        RATIOS,
        [sensitivity, specificity],
        "undecidable",
        assumption="the definitions of figure S3",
        found=shown,
        matters=matters,
        sentence=f"The likelihood ratios are only in the picture; from the printed values they are {shown}.",
        mend="print the ratios",
    )


def between_groups(joint: Fact, parts: list[tuple[Fact, int, int]]) -> tuple[float, float]:
    """The mean AUROC that pairs from two different groups must have, so that `joint` comes out; lowest and highest.

    `parts` holds each group's AUROC, positives and negatives. Pairs within a group count by their number.
    """
    positives, negatives = sum(p for _, p, _ in parts), sum(n for _, _, n in parts)
    inside = sum(p * n for _, p, n in parts)
    across = positives * negatives - inside
    least = (joint.low * positives * negatives - sum(f.high * p * n for f, p, n in parts)) / across
    most = (joint.high * positives * negatives - sum(f.low * p * n for f, p, n in parts)) / across
    return least, most


def mixture(name: str, joint: Fact, parts: list[tuple[Fact, int, int]], matters: int = 3) -> Check:
    """Can the joint set's AUROC arise from its parts' AUROCs, whatever pairs across them do?"""
    least, most = between_groups(joint, parts)
    good = least <= 1 and most >= 0
    worst = max(0.0, least - 1, -most)
    found = f"pairs across hospitals: {100 * max(0, least):.1f} to {100 * min(1, most):.1f} % in the right order"
    return checked(
        name,
        MIXTURE,
        [joint, *(fact for fact, _, _ in parts)],
        bool(good),
        assumption=f"positives {', '.join(f'{p:,} of {p + n:,}' for _, p, n in parts)}, from the other columns",
        found=found,
        matters=matters,
        sentence=f"{joint.quantity}: {joint.text} {'needs' if good else 'would need'} {found}.",
        gap=worst,
        mend=f"a joint AUROC {'below' if least > 1 else 'above'} {joint.text}",
    )


def mean_of(name: str, mean: Fact, values: list[Fact], matters: int = 2) -> Check:
    """Is a printed mean that of the printed values, each anywhere within its rounding?"""
    low, high = np.mean([f.low for f in values]), np.mean([f.high for f in values])
    good = low <= mean.high and high >= mean.low
    made = float(np.mean([f.value for f in values]))
    return checked(
        name,
        "mean of the printed values",
        [mean, *values],
        bool(good),
        assumption="a plain mean; each value anywhere within its rounding",
        found=f"{made:.4f}",
        matters=matters,
        sentence=f"{mean.quantity}: {mean.text}; the mean of the printed values is {made:.4f}.",
        gap=mean.gap(made),
        mend=mean.show(made),
    )


def mean_in_range(name: str, mean: Fact, lowest: Fact, highest: Fact, count: int, matters: int = 3) -> Check:
    """Can `count` values have this lowest, highest and mean? The others lie between."""
    low = (highest.low + (count - 1) * lowest.low) / count
    high = (lowest.high + (count - 1) * highest.high) / count
    good = low <= mean.high and high >= mean.low
    rest = (count * mean.value - lowest.value - highest.value) / (count - 2)
    near = low if mean.value < low else high
    return checked(
        name,
        "mean between lowest and highest",
        [mean, lowest, highest],
        bool(good),
        assumption=f"{count} values, one of them the lowest, one the highest",
        found=f"possible means {mean.show(low)} to {mean.show(high)}; the other {count - 2} average {mean.show(rest)}",
        matters=matters,
        sentence=f"{mean.quantity}: {mean.text} {'can' if good else 'cannot'} be the mean of {count} values from "
        f"{lowest.text} to {highest.text}.",
        gap=mean.gap(near),
        mend=mean.show(near),
    )


def implied_share(name: str, accuracy: Fact, sensitivity: Fact, specificity: Fact, matters: int = 2) -> Check:
    """Is there any share of positives for which accuracy is the weighted mean of the other two?"""
    from helpers.audit.consistency import TwoByTwo
    from helpers.audit.consistency import implied_share as share

    low, high = share(TwoByTwo(accuracy, sensitivity, specificity, 1, 1))
    good = not np.isnan(low)
    found = f"{100 * low:.1f} to {100 * high:.1f} % positives" if good else "no share of positives"
    near = min((sensitivity.value, specificity.value), key=lambda x: abs(x - accuracy.value))
    return checked(
        name,
        "accuracy lies between sensitivity and specificity",
        [accuracy, sensitivity, specificity],
        good,
        assumption="the number of images is not told",
        found=found,
        matters=matters,
        sentence=f"{accuracy.quantity}: {accuracy.text} fits the other two with {found}.",
        gap=accuracy.gap(near),
        mend=accuracy.show(near),
    )
