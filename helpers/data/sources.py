"""Which data sets a profile asks for, and whether what is there is what the paper had."""

from __future__ import annotations

import warnings

from helpers.data.catalogue import Catalogue
from helpers.data.kermany_oct import ARCHIVE_TRAIN_IMAGES, PAPER_COUNTS
from helpers.run.paths import CACHE
from helpers.run.profile import Profile

TOLERANCE = 0.01  # of a class's training images: the archives lack one a class, and a few files may be unreadable


def load_oct(profile: Profile) -> Catalogue:
    """The profile's OCT B-scans: phantoms are made where they are not there yet, real ones are looked for."""
    if profile.oct_source == "phantom_oct":
        from helpers.phantoms.oct import OCT

        counts = {"train": profile.phantom_oct_train, "test_per_class": profile.phantom_oct_test_per_class}
        return OCT.load(CACHE, profile.workers, seed=profile.seed, **counts)
    from helpers.data import kermany_oct

    return kermany_oct.load(profile.data_dir, CACHE, profile.workers)


def load_xray(profile: Profile) -> Catalogue:
    """The profile's pneumonia radiographs, of three classes: NORMAL, BACTERIA, VIRUS."""
    if profile.xray_source == "phantom_chest":
        from helpers.phantoms.chest_plans import PNEUMONIA

        counts = {"train": profile.phantom_xray_train, "test": profile.phantom_xray_test}
        return PNEUMONIA.load(CACHE, profile.workers, seed=profile.seed, **counts)
    from helpers.data import kermany_xray

    return kermany_xray.load(profile.data_dir, CACHE, profile.workers)


def load_views(profile: Profile) -> Catalogue:
    """The profile's frontal and lateral radiographs. 'real' is Open-i where it lies, else Cohen's collection."""
    if profile.view_source == "phantom_chest":
        from helpers.phantoms.chest_plans import VIEWS

        counts = {"train": profile.phantom_view_train, "test": profile.phantom_view_test}
        return VIEWS.load(CACHE, profile.workers, seed=profile.seed, public=profile.phantom_view_test, **counts)
    from helpers.data import cohen

    if profile.view_source == "openi":
        return _openi(profile)
    if profile.view_source == "cohen":
        return cohen.load_views(profile.data_dir, CACHE, profile.workers)
    try:
        return _openi(profile)
    except FileNotFoundError as missing:
        found = cohen.load_views(profile.data_dir, CACHE, profile.workers)
        warnings.warn(f"views are Cohen's collection, for Open-i is not there ({missing})", UserWarning, stacklevel=2)
        return found


def _openi(profile: Profile) -> Catalogue:
    from helpers.rajkomar import data as openi

    return openi.load(profile.data_dir, CACHE, profile.workers, labels_csv=profile.view_labels_file or None)


def load_nih(profile: Profile) -> Catalogue:
    """The profile's radiographs with fourteen labels: those of ChestX-ray14 that lie there, or phantoms of them."""
    from helpers.zech import data as nih

    if profile.nih_source == "phantom_chest":
        from helpers.phantoms.chest_plans import NIH

        shares = {"test_share": nih.SHARES[2], "label_noise": nih.LABEL_NOISE}
        return NIH.load(CACHE, profile.workers, images=profile.phantom_nih_images, seed=profile.seed, **shares)
    return nih.load(profile.data_dir, CACHE, profile.workers)


def load_octid(profile: Profile) -> Catalogue:
    """The profile's B-scans of rare retinal disease: NORMAL, MH, DR, CSR; OCTID's, or phantoms from another scanner
    than those of `load_oct`. Training images are those to learn from and those to choose by.
    """
    from helpers.carr import octid

    drawn = profile.bridge_octid_images + octid.VALIDATION
    if profile.octid_source == "phantom_oct":
        from helpers.phantoms.oct import OCTID

        counts = {"per_class": drawn, "test_per_class": profile.phantom_octid_test_per_class}
        return OCTID.load(CACHE, profile.workers, seed=profile.seed, **counts)
    return octid.load(profile.data_dir, CACHE, profile.workers, drawn=drawn)


def load_covid(profile: Profile) -> Catalogue:
    """The profile's COVID-19 target: NORMAL, BACTERIA, VIRUS and COVID-19."""
    if profile.covid_source == "phantom_chest":
        from helpers.phantoms.chest_plans import COVID

        counts = {"train": profile.phantom_covid_train, "test": profile.phantom_covid_test}
        return COVID.load(CACHE, profile.workers, seed=profile.seed, **counts)
    from helpers.carr import data as covid

    return covid.load(profile.data_dir, CACHE, profile.workers, profile.bridge_covid_subjects, covid.VALIDATION)


def load_sites(profile: Profile) -> Catalogue:
    """The profile's hospitals, of two classes: Pneumonia, No pneumonia; column site."""
    if profile.sites_source == "phantom_chest":
        from helpers.phantoms.chest_plans import SITES

        return SITES.load(CACHE, profile.workers, bodies=profile.phantom_sites_bodies, seed=profile.seed)
    from helpers.zech import site_data as sites

    return sites.load(profile.data_dir, CACHE, profile.workers)


def load_regions(profile: Profile) -> Catalogue:
    """Radiographs whose lesion is small; phantoms in every profile, for nowhere else is the region known."""
    from helpers.phantoms.chest_plans import REGIONS

    return REGIONS.load(CACHE, profile.workers, images=profile.phantom_sites_regions, seed=profile.seed)


LOADERS = {
    "oct": load_oct,
    "xray": load_xray,
    "views": load_views,
    "covid": load_covid,
    "octid": load_octid,
    "nih": load_nih,
    "sites": load_sites,
    "regions": load_regions,
}


def describes_paper(catalogue: Catalogue) -> tuple[bool, str]:
    """Whether these images are the published ones, and a sentence for reports that says what they are.

    True for OCT images where the test folder has exactly the published images a class, and the train folder those of
    the paper or of a version of the archive, within `TOLERANCE` a class; of the pneumonia radiographs likewise. Never
    for views: the paper's hospital images are not public, and which 1,000 public ones it drew is not said.
    """
    if catalogue.classes == ("frontal", "lateral") and not catalogue.phantom:
        counts = catalogue.frame["label"].value_counts()
        return False, (
            f"Not the paper's images, which are not public, but {catalogue.name}: "
            f"{counts.get('frontal', 0):,} frontal and {counts.get('lateral', 0):,} lateral."
        )
    if catalogue.name == "sites":
        from helpers.zech import site_data as sites

        return sites.describes_paper(catalogue)
    if catalogue.name == "kermany_xray":
        from helpers.data import kermany_xray

        return kermany_xray.describes_paper(catalogue)
    if catalogue.name == "covid_xray":
        from helpers.carr import data as covid

        return covid.describes_paper(catalogue)
    if catalogue.name == "octid":
        from helpers.carr import octid

        return octid.describes_paper(catalogue)
    if catalogue.name == "nih":
        from helpers.zech import data as nih

        return nih.describes_paper(catalogue)
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
