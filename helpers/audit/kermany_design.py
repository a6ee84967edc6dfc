"""The checks of Kermany 2018's design and wording: images, patients, epochs, definitions, names."""

from __future__ import annotations

import math

from helpers.audit import counts, repeats
from helpers.audit.facts import Fact, Facts
from helpers.audit.record import Check, checked

K = "kermany2018"
SAYS = "what the text says of its numbers"


def checks(facts: Facts) -> list[Check]:
    """The checks of counts, settings and words."""
    return [*_oct(facts), *_xray(facts), *_xray_patients(facts), *_settings(facts), *_words(facts), _acuity(facts)]


def _oct(facts: Facts) -> list[Check]:
    def data(*names: str) -> list[Fact]:
        return facts.get(f"{K}.oct.data", *names)

    collected, images, patients = data("collected", "train_images", "train_patients")
    tests, tested, each, kinds = data("test_images", "test_patients", "test_per_class", "classes")
    classes = data("train_cnv", "train_dme", "train_drusen", "train_normal")
    limited, plan = facts[f"{K}.oct.limited.images_per_class"], facts[f"{K}.oct.plan.patients"]
    smallest = min(classes, key=lambda fact: fact.value)
    used, twice = images.value + tests.value, facts[f"{K}.oct.grading.double_graded"]
    other = "The 'validation subset' that was graded twice need not be the 'validation set' of the experts."
    how = "the images that the experts graded, also called a validation set"
    return [
        counts.total("counts.oct.train_images", images, classes),
        counts.product("counts.oct.test_images", tests, [kinds, each]),
        counts.at_least("counts.oct.collected", collected, used, "training and test images", [images, tests]),
        counts.at_most("counts.oct.train_patients", patients, images.value, f"the {images.text} images", [images]),
        counts.at_most("counts.oct.test_patients", tested, tests.value, f"the {tests.text} images", [tests]),
        counts.at_least("counts.oct.plan", tested, plan.value, "the planned number of patients", [plan]),
        counts.at_most("counts.oct.limited", limited, smallest.value, f"the smallest class, {smallest.text}"),
        counts.equal("counts.oct.graded_twice", twice, tests.value, how, [tests], matters=1, undecided=other),
    ]


def _xray(facts: Facts) -> list[Check]:
    def data(name: str) -> Fact:
        return facts[f"{K}.xray.data.{name}"]

    return [
        counts.total(
            "counts.xray.train_pneumonia", data("train_pneumonia"), [data("train_bacterial"), data("train_viral")]
        ),
        counts.total("counts.xray.train_images", data("train_images"), [data("train_pneumonia"), data("train_normal")]),
        counts.total(
            "counts.xray.test_pneumonia", data("test_pneumonia"), [data("test_bacterial"), data("test_viral")]
        ),
    ]


def _xray_patients(facts: Facts) -> list[Check]:
    """ "5,232 chest X-ray images from children [...] from a total of 5,856 patients": more patients than images."""
    images, patients, normal, pneumonia, tested = facts.get(
        f"{K}.xray.data", "train_images", "train_patients", "test_normal", "test_pneumonia", "test_patients"
    )
    tests = normal.value + pneumonia.value
    together = f"{images.text} training and {tests:,.10g} test images are {images.value + tests:,.10g}"
    why = f"{together}, so " if patients.value == images.value + tests else ""
    why += "a count of images printed as one of patients is the likeliest cause."
    how = f"the {images.text} images that come from them"
    return [
        counts.at_most(
            "counts.xray.train_patients", patients, images.value, how, [images], matters=3, why=why.capitalize()
        ),
        checked(
            "counts.xray.test_patients",
            counts.RULE,
            [tested, normal, pneumonia],
            tested.value < tests or ("undecidable" if tested.value == tests else False),
            assumption="a patient has at least one image",
            found=f"{tested.text} patients, {tests:,.10g} images",
            matters=2,
            sentence=f"{tested.text} test patients are as many as test images: one image each, or, as with the "
            "training set, images counted as patients.",
            gap=1.0,
            mend="the number of patients",
        ),
    ]


def _settings(facts: Facts) -> list[Check]:
    steps, epochs = facts[f"{K}.oct.setting.steps"], facts[f"{K}.oct.setting.epochs"]
    batch, images = facts[f"{K}.setting.batch"], facts[f"{K}.oct.data.train_images"]
    urgent, n = facts[f"{K}.oct.multiclass.sensitivity"], facts[f"{K}.oct.data.test_images"]
    passes = round(steps.value * batch.value / images.value, 1)
    needed = math.ceil(epochs.value * images.value / batch.value)
    cap = urgent.n / n.value
    how = f"{urgent.show(cap)}, the greatest share 'of the total number of test images'"
    return [
        counts.equal(
            "design.epochs",
            epochs,
            passes,
            f"{steps.text} steps of {batch.text} images over {images.text} images",
            [steps, batch, images],
            assumption="an epoch is an 'iteration through the entire dataset'",
            why=f"{epochs.text} would take {needed:,} steps; a rounded number is the likeliest cause.",
            mend=f"{passes:g} epochs; or {needed:,} steps",
        ),
        counts.at_most(
            "design.sensitivity_definition",
            urgent,
            cap,
            how,
            [n],
            matters=1,
            assumption="Methods taken at their word: divided by all test images",
            why="By the images of the class was meant, as everywhere else.",
            mend="'by the number of urgent (non-urgent) test images' in Methods",
        ),
        _sample_size(facts),
    ]


def _sample_size(facts: Facts) -> Check:
    plan, margin = facts[f"{K}.oct.plan.patients"], facts[f"{K}.oct.plan.margin"]
    most = (1.959964 / margin.value) ** 2 / 4
    share = 100 * most / plan.value
    return checked(
        "design.sample_size",
        "sample size follows from its margin",
        [plan, margin],
        "consistent" if plan.holds(math.ceil(most)) else "undecidable",
        assumption="n = z^2 p (1 - p) / d^2, which is greatest at p = 0.5",
        found=f"at most {most:.0f} for one proportion, {share:.0f} % of {plan.text}",
        matters=1,
        sentence=f"A margin of {margin.text} needs at most {most:.0f} patients of a class; what makes {plan.text} of "
        "it (an assumed sensitivity and prevalence) is not told.",
        mend="print the assumed sensitivity and prevalence",
    )


def _words(facts: Facts) -> list[Check]:
    sets = [facts[f"{K}.oct.data.test_images{end}"] for end in ("", ".experts", ".methods", ".quantification")]
    why = "Methods keep 'the best performing model' of a 'test partition': what chooses a model is no independent test."
    versions = facts.get(f"{K}.data.version", "key_resources", "availability")
    found = [
        repeats.two_names("wording.test_set", sets, ["test", "validation"], "The 1,000 images", 2, why),
        repeats.two_numbers("wording.data_version", *versions, "The version of the deposited data", matters=1),
    ]
    rows = facts.rows.loc[facts.rows["paper"] == K, "id"]
    for kind in ("figure", "table"):
        made = rows.str.extract(rf"{kind}\.(S\d)")[0].nunique()
        fact = facts[f"{K}.supplement.{kind}s"]
        found.append(
            counts.equal(f"counts.supplement.{kind}s", fact, made, f"{kind}s S1 and on in the text", matters=1)
        )
    return found


def _acuity(facts: Facts) -> Check:
    """Figure 5: "All visual acuity (VA) was improved"."""
    pairs = [facts.get(f"{K}.followup.patient_{i}", "acuity_before", "acuity_after") for i in range(1, 7)]
    better = sum(after.value > before.value for before, after in pairs)
    return checked(
        "claim.acuity",
        SAYS,
        [fact for pair in pairs for fact in pair],
        better == len(pairs),
        assumption="20/x is an acuity of 20 / x",
        found=f"{better} of {len(pairs)} improved",
        matters=1,
        sentence=f"'All visual acuity (VA) was improved': in {better} of {len(pairs)} patients.",
        gap=1 - better / len(pairs),
        mend="another word for 'all'",
    )
