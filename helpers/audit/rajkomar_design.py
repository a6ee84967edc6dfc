"""The checks of Rajkomar 2017's design: studies, images, splits, augmentation, pre-training, words."""

from __future__ import annotations

from helpers.audit import counts, repeats
from helpers.audit.facts import Fact, Facts
from helpers.audit.record import Check, checked

R = "rajkomar2017"


def checks(facts: Facts) -> list[Check]:
    """The checks of counts, settings and words."""
    return [*_collection(facts), *_splits(facts), *_augmentation(facts), *_pretraining(facts), *_words(facts)]


def _collection(facts: Facts) -> list[Check]:
    studies, two, single, views = facts.get(
        f"{R}.data", "studies", "studies_two_view", "studies_single_view", "views.two_view"
    )
    images, patients = facts.get(f"{R}.data", "images", "patients")
    fewest = two.value * views.value + single.value
    how = f"{fewest:,.10g}, an image a view ('some studies contained multiple images of the same view')"
    return [
        counts.total("counts.studies", studies, [two, single]),
        counts.at_least("counts.images", images, fewest, how, [two, single]),
        counts.at_most("counts.patients", patients, studies.value, f"the {studies.text} studies", [studies]),
    ]


def _splits(facts: Facts) -> list[Check]:
    images, patients, excluded, *splits = facts.get(
        f"{R}.data", "images", "patients", "excluded", "train_images", "validation_images", "test_images"
    )
    test, public, both = splits[-1], *facts.get(f"{R}.data", "public_images", "all_test_images")
    made = sum(split.value for split in splits) + excluded.value
    how = " + ".join(fact.text for fact in splits) + f" and {excluded.value:g} excluded"
    each = images.value / patients.value
    return [
        counts.equal("counts.splits", images, made, how, [*splits, excluded]),
        counts.total("counts.test", both, [test, public]),
        checked(
            "design.patients_in_splits",
            "splits keep patients apart",
            [images, patients, *splits],
            "undecidable",
            assumption="'The images were then randomly split': by image",
            found=f"{each:.2f} images a patient",
            matters=3,
            sentence=f"Images were split, with {each:.2f} of them a patient, so patients may stand in training and "
            "test; the text does not say. The public test images are not concerned.",
            mend="say whether a patient's images stayed together",
        ),
    ]


def _augmentation(facts: Facts) -> list[Check]:
    children, train, validation, total = facts.get(
        f"{R}.augmentation", "children", "train_images", "validation_images", "total"
    )
    parents = facts.get(f"{R}.data", "train_images", "validation_images")
    both, apart = train.value + validation.value, "the parents are not among their children"
    models = facts.get(R, "pretraining.models", "finetuning.methods")
    return [
        counts.product("counts.augmented.train", train, [parents[0], children], assumption=apart),
        counts.product("counts.augmented.validation", validation, [parents[1], children], assumption=apart),
        counts.at_most("counts.augmented.total", total, both, f"the two sets, {both:,.10g}", [train, validation]),
        counts.product("counts.models", facts[f"{R}.finetuning.models"], models),
        _children(facts, children),
    ]


def _children(facts: Facts, children: Fact) -> Check:
    """What the named transforms make singly: far fewer than 106, so that combinations were used; which, is not told."""
    angles, shift, sizes = (("rotation", "rotation_quarter"), ("translation",), ("neighborhood", "neighborhood_large"))
    named = facts.get(f"{R}.augmentation", *angles, *shift, *sizes)
    # Two reflections; each angle either way; eight directions; a spread; before or after each median; a noise.
    single = 2 + 2 * len(angles) + 8 * len(shift) + 1 + 2 * len(sizes) + 1
    return checked(
        "design.children",
        counts.RULE,
        [children, *named],
        "consistent" if children.holds(single) else "undecidable",
        assumption="each transform alone: two reflections, two angles either way, eight translations, a spread, "
        "before or after the median of two neighbourhoods, a noise",
        found=f"{single} single transforms",
        matters=2,
        sentence=f"The transforms named make {single} taken singly; which combinations make {children.text} is not "
        "told.",
        mend="list the transforms that were combined",
    )


def _pretraining(facts: Facts) -> list[Check]:
    classes, train, validation = facts.get(
        f"{R}.pretraining", "subset_classes", "subset_train_images", "subset_validation_images"
    )
    all_classes, all_validation, all_train, most = facts.get(
        "elsewhere.imagenet", "classes", "validation_images", "train_images", "train_per_class"
    )
    each = all_validation.value / all_classes.value
    how = f"{classes.text} classes of {each:g} validation images"
    limit = f"{classes.text} classes of at most {most.text}"
    images = facts[f"{R}.pretraining.images"]
    return [
        counts.equal("pretraining.validation", validation, classes.value * each, how, [classes]),
        counts.at_most("pretraining.train", train, classes.value * most.value, limit, [classes]),
        counts.at_most("pretraining.images", images, all_train.value, f"ImageNet's {all_train.text}"),
    ]


def _words(facts: Facts) -> list[Check]:
    layers, modules = facts.get(f"{R}.backbone", "layers", "modules")
    stem, depth, connected = facts.get("elsewhere.googlenet", "stem_convolutions", "module_depth", "connected")
    made = stem.value + modules.value * depth.value
    how = f"{stem.text} convolutions and {modules.text} modules of {depth.text}"
    why = f"With the fully connected layer there are {made + connected.value:g}, as GoogLeNet's authors count."
    also = f"'{layers.text} layers, {made:g} of them convolutional'"
    studies, images = facts.get(f"{R}.data", "studies", "images.abstract")
    two = "The first counts studies, as the next sentence does, the second images."
    mend = "'studies' for the first"
    return [
        counts.equal(
            "wording.layers",
            layers,
            made,
            how,
            [modules],
            matters=1,
            assumption="layers along the longest way",
            why=why,
            mend=also,
        ),
        repeats.two_numbers(
            "wording.radiographs", studies, images, "'Chest radiographs'", matters=1, why=two, mend=mend
        ),
    ]
