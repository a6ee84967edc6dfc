"""Carr 2020's two targets, and how they are made larger: COVID-19 radiographs, and B-scans of rare retinal disease.

COVID-19, `load_covid`. Cohen et al. 2020 (see `cohen`) and Kermany et al. 2018 (see `kermany_images`), with their
    licences. COVID-19 from Cohen's collection; NORMAL, BACTERIA and VIRUS from Kermany's children, whose subjects are
    taken out of the bridge. "Our dataset was limited to 142 subjects, 102 of which were used in the target dataset";
    "102 subjects were removed from the bridge dataset for target training". 40 are held back, then. The poster has no
    validation set; its subjects are drawn beyond the 102 where there are enough, else from among them.
    Trap: the class goes with the source. COVID-19 comes from adults, other hospitals and other archives than the rest,
    and a network may read that. So Cohen's own images of the other classes are here too, for a comparison within one
    source: `aside` separates them from the rest, and they are neither learnt from nor part of the held-back set.
    Phantoms have site A for Kermany's place and B for Cohen's, and more rows aside: also COVID-19 at A. With those,
    `untied` makes a set of images in which the site predicts nothing.

Rare retinal disease, `load_octid`. Gholami et al., "OCTID: Optical Coherence Tomography Image Database", Computers and
    Electrical Engineering 81 (2020). Licence: the host's terms. NORMAL 206, MH 102 (macular hole), AMD 55 (age-related
    macular degeneration, left out as in the poster), DR 107 (diabetic retinopathy), CSR 102 (central serous
    retinopathy): JPEG from a Cirrus HD-OCT scanner, one chosen scan through the fovea each, in `octid/<CLASS>/`. One
    zip per class, downloaded by hand; `make data PROFILE=paper` says where to and unpacks them.
    Patients: none are named, so nobody knows whether two scans are of one patient. Exact and near copies (see
    `copies`) count as one patient, and near copies with two diagnoses are not used; beyond that a patient may be on
    both sides of the split, and an interval "by patient" is one by image: optimistic, as the poster's must have been.
    Split: none is published. The poster took 50 samples a diagnosis and assessed "against unseen data"; here those to
    learn and to choose from are the first in the order of a hash of their names, and all others are for assessment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import cohen, kermany_images
from helpers.data.augment import Children, child_rows, generator, light
from helpers.data.catalogue import Catalogue, CatalogueError, read_table, sizes_of
from helpers.data.copies import connected, linked_images
from helpers.data.scan import Place, catalogue_of, first_reason, matching, places_of, scan
from helpers.data.splits import Split, SplitError, shuffled, split
from helpers.run.paths import CACHE

COVID_CLASSES = ("NORMAL", "BACTERIA", "VIRUS", "COVID-19")
COVID = COVID_CLASSES[-1]
COVID_SITES = ("B", "cohen")  # where the target's COVID-19 comes from; everything else comes from the other site
SUBJECTS, HELD_BACK = 102, 40  # "142 subjects, 102 of which were used in the target dataset"
VALIDATION = 0.25  # of the target's training patients
CHILD_AGE = 3.0  # years: the middle of "pediatric patients of one to five years old", all that is known of any of them
SALT = "covid"

OCTID_CLASSES = ("NORMAL", "MH", "DR", "CSR")  # the poster's
OCTID_FOLDERS = ("NORMAL", "MH", "AMD", "DR", "CSR")
OCTID_COUNTS = {"NORMAL": 206, "MH": 102, "DR": 107, "CSR": 102}  # as published
OCTID_VALIDATION = 10  # B-scans per class, beside those to learn from, that choose penalties and epochs
OCTID = Place(
    "OCTID images",
    (tuple(f"{label.lower()}/" for label in OCTID_CLASSES),),
    tuple(f"{label.lower()}/" for label in OCTID_FOLDERS),
    f"folders {', '.join(OCTID_CLASSES)}",
    "Download one zip per class from dataverse.scholarsportal.info/dataverse/OCTID; unpack each into octid/<CLASS>/",
    part=("mh/", "csr/"),
    cards=("octid",),
)
OCTID_SALT = "octid/published_split"

CHILDREN = 10  # "10 augmentations per sample"


# --- COVID-19 ---


def load_covid(settings) -> Catalogue:
    """The COVID-19 target: NORMAL, BACTERIA, VIRUS and COVID-19; phantoms, or both collections (see `read_covid`)."""
    if settings.covid_source == "phantom_chest":
        from helpers.phantoms.chest_plans import COVID as PHANTOM_COVID

        how = {"train": settings.phantom_covid_train, "test": settings.phantom_covid_test, "seed": settings.seed}
        return PHANTOM_COVID.load(CACHE, settings.workers, **how)
    return read_covid(settings.data_dir, CACHE, settings.workers, settings.bridge_covid_subjects)


def read_covid(data_dir: Path, cache: Path, workers: int = 0, subjects: int = SUBJECTS) -> Catalogue:
    """The composite of both collections below `data_dir`, see the card above.

    `subjects` per class to learn from, with `VALIDATION` of them and the further ones to choose by, and 40 to
    102 of them held back ("test"). Of a class with fewer, all classes are drawn as small, in the same proportions.
    Raises FileNotFoundError where either collection is missing, `SplitError` where a class is too small to share out.
    """
    other = kermany_images.load_xray(data_dir, cache, workers).seen_from(data_dir)
    metadata = cohen.PLACE.find(data_dir) / "metadata.csv"
    own = cohen.load_findings(data_dir, cache, workers).seen_from(data_dir)
    adults, children = _adults(own, metadata), _children(other)
    pools = {COVID: adults[adults["label"] == COVID], **dict(list(children.groupby("label")))}
    with_validation = subjects / (1 - VALIDATION)
    wanted = round(with_validation) + round(subjects * HELD_BACK / SUBJECTS)
    count = min(wanted, *(rows["patient_id"].nunique() for rows in pools.values()))
    if count < 4:
        raise SplitError(f"{count} subjects of the smallest class: too few to learn from and to hold some back")
    whole = SUBJECTS / (1 - VALIDATION) if count == wanted else SUBJECTS
    main = pd.concat([_drawn(pools[label], count, HELD_BACK / (whole + HELD_BACK)) for label in COVID_CLASSES])
    beside = adults[(adults["label"] != COVID) & ~adults["patient_id"].isin(main["patient_id"])]
    frame = pd.concat([main, beside.assign(published_split="test")], ignore_index=True)
    excluded = pd.concat([other.excluded, own.excluded], ignore_index=True)
    return Catalogue("covid_xray", data_dir, frame, COVID_CLASSES, excluded)


def _children(catalogue: Catalogue) -> pd.DataFrame:
    """Kermany's training folder, without subjects whose images are of two kinds; patients named as there."""
    frame = catalogue.frame[catalogue.frame["published_split"] == "train"]
    single = frame.groupby("patient_id")["label"].transform("nunique") == 1
    return frame.assign(site="kermany", age=CHILD_AGE)[single]


def _adults(catalogue: Catalogue, metadata: Path) -> pd.DataFrame:
    """Cohen's frontal images, with the metadata's age."""
    table = read_table(metadata, ["filename"])
    ages = pd.to_numeric(table["age"] if "age" in table else pd.Series("", table.index), errors="coerce")
    age = ages.groupby(table["filename"]).first()
    frame = catalogue.frame.assign(age=catalogue.frame["image_id"].map(age), site="cohen")
    return frame.assign(**{name: "cohen/" + frame[name] for name in ("patient_id", "image_id")})


def _drawn(rows: pd.DataFrame, count: int, share: float) -> pd.DataFrame:
    """All images of `count` subjects, of whom a `share` is held back, in the order of a hash of their names."""
    subjects = shuffled(rows["patient_id"], SALT)[:count]
    held_back = set(subjects[: min(max(1, round(share * count)), count - 2)])
    kept = rows[rows["patient_id"].isin(subjects)]
    return kept.assign(published_split=np.where(kept["patient_id"].isin(held_back), "test", "train"))


def aside(frame: pd.DataFrame) -> pd.Series:
    """True for images that the poster's target does not have: COVID-19 at the others' site, others at COVID-19's."""
    return (frame["label"] == COVID) != frame["site"].isin(COVID_SITES)


def split_covid(catalogue: Catalogue, settings) -> Split:
    """`splits.split` of the target's images; those `aside` become "held-out", unless their patient is learnt from."""
    apart = aside(catalogue.frame)
    made = split(catalogue.subset(catalogue.frame[~apart]), settings.split, VALIDATION, settings.seed)
    used = made.frame[made.frame["split"] != "test"]
    beside = catalogue.frame[apart].assign(split="held-out")
    shared = beside["patient_id"].isin(used["patient_id"]) | beside["digest"].isin(used["digest"])
    dropped = beside[shared].drop(columns="split").assign(reason="the patient is learnt from")
    frame = pd.concat([made.frame, beside[~shared]], ignore_index=True)
    return replace(made, frame=frame, dropped=pd.concat([made.dropped, dropped], ignore_index=True))


def can_be_untied(frame: pd.DataFrame) -> bool:
    """Whether every class has training and test images of both sites, as the phantoms do."""
    cells = frame.groupby(["label", frame["site"].isin(COVID_SITES), "published_split"]).size()
    return len(cells) == 2 * 2 * len(COVID_CLASSES)


def untied(catalogue: Catalogue, seed: int) -> pd.DataFrame:
    """A split frame in which every class comes from both sites alike, so that the site does not predict the class.

    As many images as the smallest pair of class and site has. Raises `SplitError` where a pair has none.
    """
    frame = catalogue.frame
    if not can_be_untied(frame):
        raise SplitError(f"{catalogue.name}: some class has no images of one of the sites, so the two cannot be untied")
    groups = frame.groupby(["published_split", "label", "site"])
    least = groups.size().groupby("published_split").min()
    kept = [
        rows[rows["image_id"].isin(shuffled(rows["image_id"], f"{SALT}/{seed}")[: least[part]])]
        for (part, _, _), rows in groups
    ]
    return split(catalogue.subset(pd.concat(kept)), "patient-disjoint", VALIDATION, seed).frame


def describe_covid(catalogue: Catalogue) -> tuple[bool, str]:
    """Whether results may be held against the poster, and a sentence that says what these images are.

    They may where each class has the poster's 142 subjects, of the collections that it names. Which subjects it drew,
    of a collection that has grown and lost images since, is not said.
    """
    frame = catalogue.frame[~aside(catalogue.frame)]
    counts = frame.groupby("label")["patient_id"].nunique()
    sizes = f"{int(counts.min())} subjects per class of Cohen's and Kermany's collections ({len(frame):,} images)"
    if (counts >= SUBJECTS + HELD_BACK).all():
        return True, f"As in the poster: {sizes}; it does not say which subjects it drew."
    return False, f"A subset: {sizes}, where the poster has {SUBJECTS + HELD_BACK}."


places_covid = places_of("covid_source", cohen.PLACE, kermany_images.XRAY)


# --- rare retinal disease ---


def load_octid(settings) -> Catalogue:
    """B-scans of rare retinal disease: NORMAL, MH, DR, CSR; OCTID's, or phantoms from another scanner than Kermany's.

    Training images are those to learn from and those to choose by.
    """
    drawn = settings.bridge_octid_images + OCTID_VALIDATION
    if settings.octid_source == "phantom_oct":
        from helpers.phantoms.oct import OCTID as PHANTOM_OCTID

        how = {"test_per_class": settings.phantom_octid_test_per_class, "seed": settings.seed}
        return PHANTOM_OCTID.load(CACHE, settings.workers, per_class=drawn, **how)
    return read_octid(settings.data_dir, CACHE, settings.workers, drawn=drawn)


def read_octid(data_dir: Path, cache: Path, workers: int = 0, *, drawn: int = 60) -> Catalogue:
    """The four classes of the poster; of each, `drawn` images are published_split train, to learn and choose from.

    `excluded` lists all that is not used, with the reason. Raises FileNotFoundError where there is no such data, and
    `CatalogueError` for a class that `drawn` images would leave without any to be assessed on.
    """
    root = OCTID.find(data_dir)
    here = {path.name: label for label in OCTID_FOLDERS for path in matching(root, f"{label.lower()}/")}
    frame, unreadable = scan(root, cache, workers, here)
    label, name = frame["path"].str.split("/").str[0].map(here), frame["path"].str.split("/").str[-1]
    says = name.str.extract(rf"^({'|'.join(OCTID_FOLDERS)})(?![A-Za-z])", expand=False).fillna(label)
    reason = first_reason(
        frame.index,
        (says != label, "its name says " + says + ", its folder " + label),
        (label == "AMD", "AMD: none of the poster's diagnoses"),
    )
    frame = _grouped(root, frame.assign(label=label, image_id=frame["path"], reason=reason), workers)
    usable = frame[frame["reason"] == ""]
    if missing := [label for label in OCTID_CLASSES if label not in set(usable["label"])]:
        raise CatalogueError(f"OCTID in {root}: no usable image of {', '.join(missing)}")
    train: set[str] = set()
    for label, rows in usable.groupby("label"):  # copies count as one
        names = shuffled(rows["patient_id"], OCTID_SALT)
        if len(names) <= drawn:
            raise CatalogueError(
                f"OCTID in {root}: {label} has {len(names)} images, and {drawn} were to be drawn to learn and choose "
                "from; with fewer, set BRIDGE_OCTID_IMAGES lower"
            )
        train.update(names[:drawn])
    frame["published_split"] = np.where(frame["patient_id"].isin(train), "train", "test")
    return catalogue_of("octid", root, frame, OCTID_CLASSES, unreadable)


def _grouped(root: Path, frame: pd.DataFrame, workers: int) -> pd.DataFrame:
    """With `patient_id`, the first of an image's exact and near copies; copies of two labels are set aside."""
    pairs = linked_images(root, frame[frame["reason"] == ""], workers)
    frame = frame.assign(patient_id=frame["image_id"].map(connected(frame["image_id"], pairs)))
    labels = frame[frame["reason"] == ""].groupby("patient_id")["label"].nunique()
    torn = (frame["reason"] == "") & (frame["patient_id"].map(labels) > 1)
    return frame.assign(reason=frame["reason"].mask(torn, "copies of it have another diagnosis"))


def split_octid(catalogue: Catalogue, settings) -> Split:
    """Of the training images, `OCTID_VALIDATION` per class are for validation."""
    fraction = OCTID_VALIDATION / (settings.bridge_octid_images + OCTID_VALIDATION)
    return split(catalogue, settings.split, fraction, settings.seed)


def describe_octid(catalogue: Catalogue) -> tuple[bool, str]:
    """Whether all published images are there, and a sentence for reports. The draw is our own either way."""
    here = catalogue.frame["label"].value_counts().to_dict()
    sizes = sizes_of(catalogue)
    # A few may have been set aside: copies with two diagnoses, files that cannot be read.
    if all(abs(here[label] - n) <= 0.03 * n for label, n in OCTID_COUNTS.items()):
        return True, f"OCTID as published: {sizes}, in a draw of our own, for the poster's is not published."
    return False, f"A subset or variant of OCTID: {sizes}, of the published {sum(OCTID_COUNTS.values())}."


places_octid = places_of("octid_source", OCTID)


# --- a target made larger ---


def expand(frame: pd.DataFrame, per_image: int = CHILDREN) -> pd.DataFrame:
    """The frame's rows, and after them `per_image` children of each training image, which inherit its label, patient
    and split: image_id ("<parent>#003"), parent, child (0: the image itself), label, patient_id, split.

    "We artificially boosted the size of the target dataset through data augmentation": COVID-19 has 102 subjects, "with
    augmentation expanding this to 1122 images per class", which is 102 and ten augmentations of each. Which transforms
    were used is not said; here they are those of `augment.light`.

    Raises `ValueError` where a training image's file or patient is in another split too: its
    children would be there under another name.
    """
    train = frame["split"] == "train"
    for column in ("patient_id", "digest"):
        shared = set(frame.loc[train, column]) & set(frame.loc[~train, column]) if column in frame else ()
        if shared:
            raise ValueError(f"{column}: {len(shared)} are in train and in another split too, first {min(shared)}")
    own = child_rows(frame, [[0]] * len(frame)).assign(image_id=frame["image_id"].to_numpy())
    children = child_rows(frame[train], [range(1, per_image + 1)] * int(train.sum()))
    return pd.concat([own, children], ignore_index=True)


class Expanded(Children):
    """The images of an expanded frame, by row number and on demand: the published set is of a fixed number of images.

    `mirror`: half of the children are reflected (eyes have no side that an image must keep; chests do).
    """

    def __init__(
        self, frame: pd.DataFrame, pixels: np.ndarray, image_ids: Sequence[str], seed: int, mirror: bool = False
    ) -> None:
        super().__init__(frame, pixels, image_ids, seed)
        self._mirror = mirror

    def make(self, image: np.ndarray, parent: str, child: int) -> np.ndarray:
        return light(image, generator(self._seed, parent, child, "light"), self._mirror) if child else image
