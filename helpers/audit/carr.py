"""The checks of Carr 2020, and of what this poster takes over from Kermany 2018."""

from __future__ import annotations

from helpers.audit import counts, repeats, spread
from helpers.audit.facts import Fact, Facts
from helpers.audit.grim import RULE as GRIM
from helpers.audit.grim import counts_for
from helpers.audit.record import Check, checked

C = "carr2020"
CLASSES = 4  # COVID-19, bacterial, viral, none; normal, macular hole, diabetic retinopathy, CSR
TELL = "print how many images of each class were held back"
OCTID = ("normal", "macular_hole", "diabetic_retinopathy", "csr")


def checks(facts: Facts) -> list[Check]:
    """All checks of this poster but GRIM's and those of repeated numbers."""
    return [*_counts(facts), *_spreads(facts), *_averages(facts), *_held_back(facts), _octid(facts)]


def _counts(facts: Facts) -> list[Check]:
    covid, retina = facts.get(C, "covid.augmentation.images", "retina.augmentation.images")
    images, children, kinds = facts.get(f"{C}.retina", "data.target_images", "augmentation.children", "data.classes")
    subjects, target, removed = facts.get(f"{C}.covid.data", "subjects", "target_subjects", "bridge_removed")
    bridge, kermany = facts[f"{C}.retina.data.bridge_images"], facts["kermany2018.oct.data.train_images"]
    why = "A few images may have been unreadable, or missing from the version of the data that was used."
    whole = "an image and its augmentations; one image a subject"
    ten = f"{whole}; {children.text} of each, as is said for the retina"
    both = "Subjects for the target, and subjects taken out of the bridge"
    return [
        counts.product("counts.covid.augmented", covid, [target, children], plus=1, assumption=ten),
        counts.product("counts.retina.augmented", retina, [images, children], plus=1, assumption=whole),
        counts.at_most("counts.covid.target", target, subjects.value, f"the {subjects.text} subjects", [subjects]),
        counts.equal("counts.retina.classes", kinds, CLASSES, "diagnoses in the list", matters=1),
        repeats.two_numbers("counts.covid.removed", target, removed, both),
        repeats.two_numbers("counts.bridge", bridge, kermany, "Kermany's OCT images for training", why=why),
    ]


def _spreads(facts: Facts) -> list[Check]:
    found = []
    for what in ("covid", "retina"):
        for value in ("sensitivity", "f1"):
            mean, around = facts.get(f"{C}.{what}", value, f"{value}.spread")
            found.append(spread.spread_fits(f"spread.{what}.{value}", mean, around, CLASSES))
            found.append(spread.finer_than_mean(f"digits.{what}.{value}", mean, around))
    return found


def _averages(facts: Facts) -> list[Check]:
    where = "as many held-back images of each class"
    pairs = {what: facts.get(f"{C}.{what}", "accuracy", "sensitivity") for what in ("covid", "retina")}
    return [spread.balanced(f"balanced.{what}", *pair, where) for what, pair in pairs.items()]


def _held_back(facts: Facts) -> list[Check]:
    """142 subjects less 102: 40 of each class, or 40 in all. Do accuracy and class-averaged sensitivity fit either?"""
    given = facts.get(f"{C}.covid", "data.subjects", "data.target_subjects", "accuracy", "sensitivity")
    left, (accuracy, sensitivity) = round(given[0].value - given[1].value), given[2:]
    # With as many of each class both are right answers of all; without the class sizes an average has no count.
    each = {"accuracy": counts_for(accuracy, CLASSES * left), "sensitivity": counts_for(sensitivity, CLASSES * left)}
    return [
        _reading("held_back.per_class", given, f"{left} of each of {CLASSES} classes", each, CLASSES * left),
        _reading("held_back.in_all", given, f"{left} in all", {"accuracy": counts_for(accuracy, left)}, left),
    ]


def _reading(name: str, given: list[Fact], reading: str, fits: dict[str, range], n: int) -> Check:
    shown = "; ".join(f"{what}: {f'{k[0]} of {n}' if k else f'no count of {n}'}" for what, k in fits.items())
    good = bool(set.intersection(*(set(k) for k in fits.values())))
    told = f"accuracy {given[2].text} and class-averaged sensitivity {given[3].text}"
    return checked(
        name,
        GRIM,
        given,
        "consistent" if good else "undecidable",
        assumption=f"held back: {given[0].text} less {given[1].text} subjects, {reading}, one image each",
        found=shown,
        matters=3,
        sentence=f"Were {reading} held back, {told} would "
        + (f"fit ({shown})." if good else f"not both be possible ({shown}); so another set was held back."),
        mend=TELL,
    )


def _octid(facts: Facts) -> Check:
    """Are accuracy and class-averaged sensitivity possible on what is left of OCTID when 50 a class are taken?"""
    taken, accuracy, average = facts.get(f"{C}.retina", "data.target_images", "accuracy", "sensitivity")
    sizes = [round(fact.value - taken.value) for fact in facts.get("elsewhere.octid", *OCTID)]
    total, shown = sum(sizes), ", ".join(map(str, sizes))
    # The average of the classes is highest when all errors fall on the largest class, lowest on the smallest.
    spans = {
        total - k: tuple(sum(_after(sizes, total - k, order)) / CLASSES for order in (False, True))
        for k in counts_for(accuracy, total)
    }
    low, high = min(span[0] for span in spans.values()), max(span[1] for span in spans.values())
    good = low <= average.high and high >= average.low
    told = f"{min(spans)} to {max(spans)} errors leave a class average of {low:.3f} to {high:.3f}"
    return checked(
        "held_back.octid",
        spread.BALANCED,
        [accuracy, average, taken],
        "consistent" if good else "undecidable",
        assumption=f"all other OCTID images held back: {shown} a class",
        found=told,
        matters=2,
        sentence=f"On the other OCTID images ({shown} a class), {told}; {average.text} is printed.",
        mend=TELL,
    )


def _after(sizes: list[int], errors: int, largest_first: bool) -> list[float]:
    """Each class's sensitivity when the errors fill the largest (or smallest) class first, then the next."""
    shares = []
    for size in sorted(sizes, reverse=largest_first):
        here = min(errors, size)
        shares.append(1 - here / size)
        errors -= here
    return shares
