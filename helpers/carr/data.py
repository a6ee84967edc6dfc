"""COVID-19 among other pneumonias and none: the poster's target, put together from two collections.

Citations: Cohen et al. 2020 (see `cohen`) and Kermany et al. 2018 (see `kermany_xray`), with their licences.
Classes: COVID-19 from Cohen's collection; NORMAL, BACTERIA and VIRUS from Kermany's children, whose subjects are taken
    out of the bridge. Carr 2020: "Our dataset was limited to 142 subjects, 102 of which were used in the target
    dataset"; "102 subjects were removed from the bridge dataset for target training". 40 are held back, then. The
    poster has no validation set; its subjects are drawn beyond the 102 where there are enough, else from among them.
Trap: the class goes with the source. COVID-19 comes from adults, other hospitals and other archives than the rest,
    and a network may read that. So Cohen's own images of the other classes are here too, for a comparison within one
    source: `aside` tells them from the rest, and they are neither learnt from nor part of the held-back set.
Age: Cohen's metadata have it for many; of Kermany's children it is known that they are "one to five years old".
Phantoms: `phantoms.chest_plans.COVID` is the same table, site A for Kermany's place and B for Cohen's, and more rows
    aside: also COVID-19 at A. With those, `untied` makes a set of images in which the site says nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import cohen, kermany_xray
from helpers.data.catalogue import Catalogue
from helpers.data.splits import Split, SplitError, split

CLASSES = ("NORMAL", "BACTERIA", "VIRUS", "COVID-19")
COVID = CLASSES[-1]
COVID_SITES = ("B", "cohen")  # where the target's COVID-19 comes from; everything else comes from the other site
SUBJECTS, HELD_BACK = 102, 40  # "142 subjects, 102 of which were used in the target dataset"
VALIDATION = 0.25  # of the training subjects
CHILD_AGE = 3.0  # years: the middle of "pediatric patients of one to five years old", all that is known of any of them
SALT = "covid"


def load(
    data_dir: Path, cache: Path, workers: int = 0, subjects: int = SUBJECTS, validation: float = 0.25
) -> Catalogue:
    """The composite of both collections below `data_dir`, see the card above.

    `subjects` a class to learn from, with a share `validation` of them and the further ones to choose by, and 40 to 102
    of them held back ("test"). Of a class with fewer, all classes are drawn as small, in the same proportions. Raises
    FileNotFoundError where either collection is missing, `SplitError` where a class is too small to share out.
    """
    other = kermany_xray.load(data_dir, cache, workers)
    own = cohen.load_findings(data_dir, cache, workers)
    adults, children = _adults(own, data_dir), _children(other, data_dir)
    covid = adults[adults["label"] == COVID]
    pools = {COVID: covid, **{label: rows for label, rows in children.groupby("label")}}
    wanted = round(subjects / (1 - validation)) + round(subjects * HELD_BACK / SUBJECTS)
    count = min(wanted, *(rows["patient_id"].nunique() for rows in pools.values()))
    if count < 4:
        raise SplitError(f"{count} subjects of the smallest class: too few to learn from and to hold some back")
    share = HELD_BACK / (SUBJECTS / (1 - validation) + HELD_BACK) if count == wanted else HELD_BACK / 142
    main = pd.concat([_drawn(pools[label], count, share) for label in CLASSES])
    aside = adults[(adults["label"] != COVID) & ~adults["patient_id"].isin(main["patient_id"])]
    frame = pd.concat([main, aside.assign(published_split="test")], ignore_index=True)
    parts = [one.excluded.assign(path=_below(one, data_dir) + one.excluded["path"]) for one in (other, own)]
    return Catalogue("covid_xray", data_dir, frame, CLASSES, pd.concat(parts, ignore_index=True))


def _children(catalogue: Catalogue, data_dir: Path) -> pd.DataFrame:
    """Kermany's training folder, without subjects whose images are of two kinds; patients named as there."""
    frame = catalogue.frame[catalogue.frame["published_split"] == "train"]
    single = frame.groupby("patient_id")["label"].transform("nunique") == 1
    path = _below(catalogue, data_dir) + frame["path"]
    return frame.assign(path=path, site="kermany", age=CHILD_AGE)[single]


def _adults(catalogue: Catalogue, data_dir: Path) -> pd.DataFrame:
    """Cohen's frontal images, with the metadata's age."""
    told = pd.read_csv(catalogue.root / "metadata.csv", dtype=str, keep_default_na=False)
    ages = pd.to_numeric(told["age"] if "age" in told else pd.Series("", told.index), errors="coerce")
    age = ages.groupby(told["filename"].str.strip()).first()
    frame = catalogue.frame
    return frame.assign(
        age=frame["image_id"].map(age),
        path=_below(catalogue, data_dir) + frame["path"],
        patient_id="cohen/" + frame["patient_id"],
        image_id="cohen/" + frame["image_id"],
        site="cohen",
    )


def _below(catalogue: Catalogue, data_dir: Path) -> str:
    inner = catalogue.root.relative_to(data_dir).as_posix()
    return "" if inner == "." else f"{inner}/"


def _drawn(rows: pd.DataFrame, count: int, share: float) -> pd.DataFrame:
    """All images of `count` subjects, of whom a `share` is held back, in the order of a hash of their names."""
    subjects = _shuffled(rows["patient_id"])[:count]
    held_back = set(subjects[: min(max(1, round(share * count)), count - 2)])
    kept = rows[rows["patient_id"].isin(subjects)]
    return kept.assign(published_split=np.where(kept["patient_id"].isin(held_back), "test", "train"))


def _shuffled(names: Iterable[str], salt: str = SALT) -> list[str]:
    return sorted(set(names), key=lambda name: hashlib.blake2b(f"{salt}/{name}".encode()).digest())


def aside(frame: pd.DataFrame) -> pd.Series:
    """True for images that the poster's target does not have: COVID-19 at the others' site, others at COVID-19's."""
    return (frame["label"] == COVID) != frame["site"].isin(COVID_SITES)


def split_of(catalogue: Catalogue, kind: str, validation_fraction: float, seed: int) -> Split:
    """`splits.split` of the target's images; those `aside` become "held-out", unless their patient is learnt from."""
    apart = aside(catalogue.frame)
    made = split(catalogue.subset(catalogue.frame[~apart]), kind, validation_fraction, seed)
    used = made.frame[made.frame["split"] != "test"]
    beside = catalogue.frame[apart].assign(split="held-out")
    shared = beside["patient_id"].isin(used["patient_id"]) | beside["digest"].isin(used["digest"])
    dropped = beside[shared].drop(columns="split").assign(reason="the patient is learnt from")
    frame = pd.concat([made.frame, beside[~shared]], ignore_index=True)
    return replace(made, frame=frame, dropped=pd.concat([made.dropped, dropped], ignore_index=True))


def can_be_untied(frame: pd.DataFrame) -> bool:
    """Whether every class has training and test images of both sites, as the phantoms do."""
    cells = frame.groupby(["label", frame["site"].isin(COVID_SITES), "published_split"]).size()
    return len(cells) == 2 * 2 * len(CLASSES)


def untied(catalogue: Catalogue, validation_fraction: float, seed: int) -> pd.DataFrame:
    """A split frame in which every class comes from both sites alike, so that the site says nothing of the class.

    As many images as the smallest pair of class and site has. Raises `SplitError` where a pair has none.
    """
    frame = catalogue.frame
    if not can_be_untied(frame):
        raise SplitError(f"{catalogue.name}: some class has no images of one of the sites, so the two cannot be untied")
    groups = frame.groupby(["published_split", "label", "site"])
    least = groups.size().groupby("published_split").min()
    kept = [
        rows[rows["image_id"].isin(_shuffled(rows["image_id"], f"{SALT}/{seed}")[: least[part]])]
        for (part, _, _), rows in groups
    ]
    return split(catalogue.subset(pd.concat(kept)), "patient-disjoint", validation_fraction, seed).frame


def describes_paper(catalogue: Catalogue) -> tuple[bool, str]:
    """Whether results may be held against the poster, and a sentence that says what these images are.

    They may where each class has the poster's 142 subjects, of the collections that it names. Which subjects it drew,
    of a collection that has grown and lost images since, is not said.
    """
    frame = catalogue.frame[~aside(catalogue.frame)]
    counts = frame.groupby("label")["patient_id"].nunique()
    told = f"{int(counts.min())} subjects a class of Cohen's and Kermany's collections ({len(frame):,} images)"
    if (counts >= SUBJECTS + HELD_BACK).all():
        return True, f"As in the poster: {told}; it does not say which subjects it drew."
    return False, f"A subset: {told}, where the poster has {SUBJECTS + HELD_BACK}."
