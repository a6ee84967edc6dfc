"""The checks of Rajkomar 2017's results: intervals, pooled accuracies and their p values, cut-off, figure 6."""

from __future__ import annotations

from dataclasses import replace

from helpers.audit import counts, intervals, pooling, repeats
from helpers.audit.facts import Fact, Facts
from helpers.audit.record import Check, checked

R = "rajkomar2017"
METHOD = "Clopper-Pearson"  # "calculated conservatively using the Clopper and Pearson method"
PRETRAINING = ("colour", "full grey", "subset grey")
FINETUNING = ("head", "head, augmented", "all layers, augmented")
GREY = PRETRAINING[1:]
POOLS = {  # the row: the pre-trainings and the ways of fine-tuning that it pools
    "view.pooled.grey": (GREY, FINETUNING),
    "view.pooled.color": (PRETRAINING[:1], FINETUNING),
    "view.pooled.full_grey": (PRETRAINING[1:2], FINETUNING),
    "view.pooled.subset_grey": (PRETRAINING[2:], FINETUNING),
    "view.pooled.head_augmented": (PRETRAINING, FINETUNING[1:2]),
    "view.pooled.head_original": (PRETRAINING, FINETUNING[:1]),
    "view.pooled.all_augmented": (PRETRAINING, FINETUNING[2:]),
    "view.pooled.grey_all": (GREY, FINETUNING[2:]),
    "view.pooled.grey_head": (GREY, FINETUNING[1:2]),
    "view.validation.accuracy": (PRETRAINING[1:2], FINETUNING[2:]),  # the chosen model
}
COMPARED = {  # the p value: the two pools it compares
    "grey_color": ("grey", "color"),
    "full_subset": ("full_grey", "subset_grey"),
    "augmentation": ("head_augmented", "head_original"),
    "layers": ("all_augmented", "head_augmented"),
    "grey_layers": ("grey_all", "grey_head"),
}
VERSIONS = ("original", "labeled", "rotated", "top_half", "crop")


def checks(facts: Facts) -> list[Check]:
    """The results' checks, but GRIM's and those of repeated numbers."""
    return [*_intervals(facts), *_pools(facts), *_cutoff(facts), *_transformed(facts)]


def _intervals(facts: Facts) -> list[Check]:
    validation, test, abstract = facts.get(
        f"{R}.view", "validation.accuracy", "test.accuracy", "test.accuracy.abstract"
    )
    parents, ucsf, public, both = facts.get(
        f"{R}.data", "validation_images", "test_images", "public_images", "all_test_images"
    )
    sizes = {int(both.value): "both test sets", int(ucsf.value): "UCSF alone", int(public.value): "public alone"}
    validated = {validation.n: "augmented images", int(parents.value): "radiographs before augmentation"}
    return [
        intervals.follows("interval.validation", validation, METHOD, validated),
        intervals.follows("interval.test", test, METHOD, sizes),
        intervals.follows("interval.test.abstract", abstract, METHOD, sizes),
        _each_alone(test, {n: whose for n, whose in sizes.items() if n != both.value}),
        intervals.independent("interval.validation.parents", validation, int(parents.value), "radiographs", METHOD, 3),
    ]


def _each_alone(test: Fact, sizes: dict[int, str]) -> Check:
    """'Correctly classified 100 % (95 % CI 99.73-100 %) of both': is it the interval of either?"""
    fits = [whose for n, whose in sizes.items() if intervals.fitting(test, n, METHOD)]
    limits = {whose: intervals.show_limits(test, intervals.interval(n, n, METHOD)) for n, whose in sizes.items()}
    shown = "; ".join(f"{whose} {text}" for whose, text in limits.items())
    return checked(
        "interval.test.each",
        intervals.RULE,
        [test],
        "consistent" if fits else "undecidable",
        assumption="'of both' read as 'of each of the two'",
        found=shown,
        matters=2,
        sentence=f"Read as the interval of each set, {intervals.show_limits(test, test.limits)} fits "
        f"{' and '.join(fits) or 'neither'}: {shown}.",
        mend="'of the two sets together'",
    )


def _pools(facts: Facts) -> list[Check]:
    small = int(facts[f"{R}.data.validation_images"].value)
    large = int(facts[f"{R}.augmentation.validation_images"].value)
    sizes = {(p, t): small if t == FINETUNING[0] else large for p in PRETRAINING for t in FINETUNING}
    pools = [
        pooling.Pool(facts[f"{R}.{name}"], tuple((p, t) for p in ps for t in ts)) for name, (ps, ts) in POOLS.items()
    ]
    fit = pooling.pools_fit("pools", pools, sizes, "models weighed by their validation images")
    plain = pooling.solve(pools, dict.fromkeys(sizes, 1)) is not None
    found = [replace(fit, found=f"{fit.found}; a plain mean of models would {'fit too' if plain else 'not fit'}")]
    models = {pool.fact.id: len(pool.models) for pool in pools}
    whose = f"{small} radiographs, once for each model,"
    for name, which in COMPARED.items():
        limit, (a, b) = facts[f"{R}.view.pooled.{name}.p"], facts.get(f"{R}.view.pooled", *which)
        found.append(pooling.p_follows(f"p.{name}", a, b, limit))
        n_a, n_b = (small * models[fact.id] for fact in (a, b))
        found.append(pooling.p_by_parents(f"p.{name}.parents", a, n_a, b, n_b, limit, whose))
    return found


def _cutoff(facts: Facts) -> list[Check]:
    cutoff, low, high = facts.get(f"{R}.view", "cutoff", "cutoff_range.low", "cutoff_range.high")
    lateral, frontal, test = facts.get(f"{R}.view", "lateral_highest", "frontal_lowest", "test.accuracy")
    half = 0.5
    youden = 2 * test.value - 1  # every image right: sensitivity and specificity are the accuracy
    return [
        repeats.two_numbers("cutoff.upper", cutoff, high, "The cut-off, 'the higher end of the range'"),
        repeats.two_numbers("cutoff.lateral", low, lateral, "The range's lower end, and where lateral images end"),
        repeats.two_numbers("cutoff.frontal", high, frontal, "The range's upper end, and where frontal images begin"),
        checked(
            "cutoff.chosen_on_test",
            "what the text says of its numbers",
            [cutoff, low, high, test],
            "consistent" if low.value <= half <= high.value else "undecidable",
            assumption="figure 5 chooses the cut-off on the test images themselves",
            found=f"{100 * half:.0f} %, which needs no choice, lies between {low.text} and {high.text}",
            matters=2,
            sentence=f"The cut-off was chosen on the test images, which can flatter; here any from {low.text} to "
            f"{high.text} gives {test.text}, and so does {100 * half:.0f} %.",
            mend="a cut-off chosen on the validation images",
        ),
        checked(
            "wording.youden",
            repeats.NAMES,
            [cutoff, test],
            bool(cutoff.holds(youden)),
            assumption="J is sensitivity + specificity - 1, as the text defines it",
            found=f"the index is {youden:.3f} where every image is right; {cutoff.text} is a frontal probability",
            matters=1,
            sentence=f"'J = {cutoff.text.removesuffix(' %')}' is the cut-off; the Youden index J there is {youden:g}.",
            gap=cutoff.gap(youden),
            mend="another letter for the cut-off",
        ),
    ]


def _transformed(facts: Facts) -> list[Check]:
    """Figure 6: two probabilities make 100 %; and which image the chosen cut-off would call what."""
    whole, cutoff, found = facts[f"{R}.transformed.sum"], facts[f"{R}.view.cutoff"], []
    for image in ("frontal", "lateral"):
        pairs = {v: facts.get(f"{R}.transformed.{image}.{v}", "frontal", "lateral") for v in VERSIONS}
        for version, pair in pairs.items():
            made, name = sum(fact.value for fact in pair), f"transformed.{image}.{version}"
            found.append(counts.equal(name, whole, made, "the two probabilities", pair, matters=1))
        found.append(_called(image, cutoff, {version: pair[0] for version, pair in pairs.items()}))
    return found


def _called(image: str, cutoff: Fact, probability: dict[str, Fact]) -> Check:
    other = "lateral" if image == "frontal" else "frontal"
    wrong = [v for v, fact in probability.items() if (fact.value >= cutoff.value) != (image == "frontal")]
    shown = ", ".join(f"{version.replace('_', ' ')} {probability[version].text}" for version in wrong)
    plain = sum((fact.value >= 0.5) != (image == "frontal") for fact in probability.values())
    told = f"{len(wrong)} of {len(probability)} versions of the {image} image would be called {other}"
    return checked(
        f"transformed.{image}.by_cutoff",
        "what the text says of its numbers",
        [cutoff, *probability.values()],
        "undecidable" if wrong else "consistent",
        assumption=f"frontal where the probability is at least the cut-off, {cutoff.text}",
        found=told + (f": {shown}; with a cut-off of 50 %, {plain}" if wrong else ""),
        matters=3,
        sentence=f"By the chosen cut-off, {told}"
        + (f" ({shown}); the text gives probabilities, not calls." if wrong else "."),
        mend="say how the versions were called, or choose a cut-off nearer the middle of its range",
    )
