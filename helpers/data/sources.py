"""Which data set a profile asks for, and whether what is there is what the paper had."""

from __future__ import annotations

from helpers.data.catalogue import Catalogue
from helpers.data.kermany_oct import ARCHIVE_TRAIN_IMAGES, PAPER_COUNTS
from helpers.paths import CACHE
from helpers.profile import Profile

TOLERANCE = 0.01  # of a class's training images: the archives lack one a class, and a few files may be unreadable


def load_oct(profile: Profile) -> Catalogue:
    """The profile's OCT B-scans: phantoms are made where they are not there yet, real ones are looked for."""
    if profile.oct_source == "phantom_oct":
        from helpers.data import phantom_oct

        return phantom_oct.load(
            CACHE,
            train=profile.phantom_oct_train,
            test_per_class=profile.phantom_oct_test_per_class,
            seed=profile.seed,
            workers=profile.workers,
        )
    from helpers.data import kermany_oct

    return kermany_oct.load(profile.data_dir, CACHE, profile.workers)


def describes_paper(catalogue: Catalogue) -> tuple[bool, str]:
    """Whether these OCT images are the published ones, and a sentence for reports that says what they are.

    True where the test folder has exactly the published images a class, and the train folder those of the paper or of a
    version of the archive, within `TOLERANCE` a class.
    """
    here = {split: catalogue.frame.query("published_split == @split") for split in ("train", "test")}
    sizes = f"{len(here['train']):,} training and {len(here['test']):,} test images"
    if catalogue.phantom:
        return False, f"Phantoms: {sizes}, made from formulas; no evidence about the paper."
    paper = PAPER_COUNTS["images"]
    totals = f"{sum(paper['train'].values()):,} and {sum(paper['test'].values()):,}"
    train, test = (here[split]["label"].value_counts().to_dict() for split in ("train", "test"))
    if test == paper["test"]:
        for name, counts in {"the paper": paper["train"], **ARCHIVE_TRAIN_IMAGES}.items():
            if all(abs(train.get(label, 0) - n) <= TOLERANCE * n for label, n in counts.items()):
                return True, f"The published images ({name}): {sizes}; the paper prints {totals}."
    return False, f"A subset or variant: {sizes} of the published {totals}."
