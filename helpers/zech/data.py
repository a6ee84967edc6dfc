"""Zech 2018's data sets: ChestX-ray14, three hospitals, small nodules; and the predictions that he published.

ChestX-ray14, `load_nih`: 112,120 frontal radiographs of 30,805 patients, with up to 14 findings each.
    Citation: Wang, Peng, Lu, Lu, Bagheri, Summers, "ChestX-ray8: Hospital-scale Chest X-ray Database and Benchmarks",
    CVPR 2017. No restriction on use; link to the page, cite the paper, and acknowledge the NIH Clinical Center. 45 GB
    in 12 archives, 1024 x 1024 PNG, by hand; the images into DATA_DIR/nih-chestxray14/images (or images_001/images and
    so on), beside Data_Entry_2017_v2020.csv and the split lists.
    Labels: found in the reports by a program, several per image, with "|" between them. By its authors' account more
    than 90 % are right; radiologists who looked again were less sure.
    Split: two lists by patient circulate under one name. The publisher's has 86,524 images in train_val_list.txt and
    25,596 in test_list.txt; the one that Zech's reproduction published has train_list.txt, val_list.txt and
    test_list.txt (78,468, 11,219 and 22,433). Whatever lies there is read; validation counts as training here, since
    `splits.split` draws its own.

Three hospitals, `load_sites`: ChestX-ray14, Kermany's children (`kermany_images`) and Cohen's collection (`cohen`,
    frontal images), with one question, pneumonia or not, whatever the cause. NIH: the label Pneumonia (its other
    thirteen labels do not count as pneumonia, Consolidation and Infiltration included). Kermany: the folder. Cohen:
    COVID-19 and any other named bacterial or viral cause, against "No Finding". Mount Sinai's images, of the talk, are
    not public.
    Age, disease and processing are confounded with the hospital, as in the talk: Kermany's are children of one to five,
    Cohen's adults cut from publications with arrows and letters; NIH's negatives have other diseases, Kermany's and
    Cohen's have none; nearly all of Cohen's have pneumonia.

Published predictions, `load_predictions`: github.com/jrzech/reproduce-chexnet (BSD 3-Clause), cloned into
    DATA_DIR/reproduce-chexnet. Two folders have a probability for each of 14 labels of 22,433 images (preds.csv) and
    14 areas (aucs.csv): `pretrained-old/` is the talk's network of 2018, with the areas it prints (in a clone of before
    2022, `pretrained/` is that); `pretrained/` is of 2022, when newer libraries and a newer table of labels made a
    retraining necessary. The labels lie beside them: `nih_labels.csv` of 2020 and `nih_labels_2017.csv`.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import cohen, kermany_images
from helpers.data.catalogue import (
    ABSENT,
    FINDING_CLASSES,
    FINDINGS,
    Catalogue,
    CatalogueError,
    any_finding,
    join_findings,
    phantoms_described,
    read_table,
    split_findings,
)
from helpers.data.scan import Place, catalogue_of, first_reason, matching, places_of, scan
from helpers.data.splits import Split, split
from helpers.run.paths import CACHE

IMAGES = 112_120  # as published
SHARES = (0.7, 0.1, 0.2)  # of the patients: "70% train, 10% tune, 20% test"
LABEL_NOISE = 0.05  # share of the phantoms' findings that their fourteen labels miss
ENTRIES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
BOXES, ORIGINAL = "BBox_List_2017.csv", 1024  # boxes are in pixels of the images as published
LISTS = {"train_list.txt": "train", "val_list.txt": "train", "train_val_list.txt": "train", "test_list.txt": "test"}
NIH_PLACE = Place(
    "ChestX-ray14",
    tuple(name.lower() for name in ENTRIES),
    (*(name.lower() for name in (*ENTRIES, *LISTS)), "images*/"),
    ENTRIES[0],
    "See data/datasets.toml",
    cards=("nih-chestxray14",),
    patients="30,805 in all",
)

SITE_CLASSES = ("Pneumonia", "No pneumonia")
SITE_VALIDATION = 0.3  # of each hospital's training patients
REGION_VALIDATION = 0.25  # of the training patients of images with and without a small nodule

RESCORED, RESCORED_LATER = "re-scored", "re-scored, network of 2022"
LABELS = {"2017": "nih_labels_2017.csv", "2020": "nih_labels.csv"}  # of the clone, by the year of NIH's table
PREDICTED = 22_433  # images, as published
PREDICTIONS = Place(
    "published predictions",
    ("pretrained*/preds.csv", "preds.csv"),
    ("pretrained*/preds.csv", "pretrained*/aucs.csv", "preds.csv", "aucs.csv", *LABELS.values()),
    "pretrained/preds.csv",
    "Clone github.com/jrzech/reproduce-chexnet there",
)
NAME = "Image Index"  # the images' column in the tables of NIH and of the predictions


# --- ChestX-ray14 ---


def load_nih(settings) -> Catalogue:
    """Radiographs with fourteen labels: those of ChestX-ray14 that lie there, or phantoms of them."""
    if settings.nih_source == "phantom_chest":
        from helpers.phantoms.chest_plans import NIH

        how = {"images": settings.phantom_nih_images, "test_share": SHARES[2], "label_noise": LABEL_NOISE}
        return NIH.load(CACHE, settings.workers, seed=settings.seed, **how)
    return read_nih(settings.data_dir, CACHE, settings.workers)


def read_nih(data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """The images that lie there, labelled "Finding" where they have any of the 14; column `labels` has which.

    `excluded` lists images without an entry or a split, unreadable ones, and entries whose file is absent. Raises
    FileNotFoundError where there is no such data, `CatalogueError` for a table or lists that cannot be read.
    """
    root = NIH_PLACE.find(data_dir)
    entries = read_entries(root)
    frame, unreadable = scan(root, cache, workers, _image_folders(root))
    sizes = frame["width"].value_counts(normalize=True)
    size = sizes.index[0] if len(sizes) > 1 and sizes.iloc[0] >= 0.5 else 0  # of a copy as published, the only one
    frame = frame.assign(image_id=frame["path"].str.rsplit("/", n=1).str[-1], odd=(frame["width"] != size) & (size > 0))
    frame = frame.sort_values(["odd", "path"]).drop_duplicates("image_id").merge(entries, on="image_id", how="left")
    split = frame["image_id"].map(_read_lists(root))
    reason = first_reason(
        frame.index,
        (frame["patient_id"].isna(), f"not in {_table(root).name}"),
        (split.isna(), "in no split list"),
        (frame["odd"], f"another size than most, which are {size} pixels wide"),
    )
    here = [*frame["image_id"], *unreadable["path"].str.rsplit("/", n=1).str[-1]]
    absent = "images/" + entries.loc[~entries["image_id"].isin(here), ["image_id"]]
    absent = absent.set_axis(["path"], axis=1).assign(reason=ABSENT)
    labels = join_findings(frame[list(FINDINGS)].eq(True))
    frame = frame.assign(published_split=split, reason=reason, labels=labels, label=any_finding(labels))
    return catalogue_of("nih", root, frame.sort_values("path"), FINDING_CLASSES, unreadable, absent)


def _image_folders(root: Path) -> list[str]:
    """The folders to read: images, images_001 and so on are one set; images-224 and its like are one each, and hold
    the same images in another size. Of several sets the one with most files is read, of equal ones the shortest name.
    """
    sets: dict[str, list[str]] = {}
    for path in matching(root, "images*/"):
        sets.setdefault(re.sub(r"_0\d\d\s*$", "", path.name), []).append(path.name)
    if len(sets) > 1:
        files = {
            name: sum(len(names) for folder in sets[name] for *_, names in os.walk(root / folder)) for name in sets
        }
        order = sorted(sets, key=lambda name: (-files[name], len(name), name))
        sizes = ", ".join(f"{name} ({files[name]:,} files)" for name in order)
        text = f"{root} has {sizes}: only {order[0]} is read, so that images of two sizes are not mixed"
        warnings.warn(text, UserWarning, stacklevel=2)
        return sets[order[0]]
    return next(iter(sets.values()), [])


def split_nih(catalogue: Catalogue, settings) -> Split:
    """Of the training patients, the share that the talk tunes on is for validation."""
    train, tune, _ = SHARES
    return split(catalogue, settings.split, tune / (train + tune), settings.seed)


def describe_nih(catalogue: Catalogue) -> tuple[bool, str]:
    """Whether these are all of the talk's "112,120 NIH chest x-rays", and a sentence that says what they are."""
    test = int((catalogue.frame["published_split"] == "test").sum())
    sizes = f"{len(catalogue):,} of the {IMAGES:,} images of ChestX-ray14, {test:,} of them test images"
    whole = len(catalogue) == IMAGES
    return whole, f"{'The published images' if whole else 'A subset'}: {sizes}."


places_nih = places_of("nih_source", NIH_PLACE)


def read_entries(root: Path) -> pd.DataFrame:
    """All entries, with or without a file: image_id, patient_id, view (PA or AP), and one bool column per finding.

    Raises `CatalogueError` for a table without its columns, or a finding that is none of the 14.
    """
    path = _table(root)
    names = {NAME: "image_id", "Patient ID": "patient_id", "View Position": "view", "Finding Labels": "found"}
    table = read_table(path, names)[list(names)].rename(columns=names)
    try:
        found = split_findings(table.pop("found"))
    except CatalogueError as error:
        raise CatalogueError(f"{path}: {error}") from None
    return pd.concat([table, found], axis=1)


def read_boxes(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Radiologists' boxes around findings: image_id, label, and left, top, width, height as shares of the image's side.

    As shares they hold for images of any size. The second table lists the boxes that are set aside, with the reason:
    path (the file's line), reason. Both are empty where BBox_List_2017.csv does not lie there. Raises `CatalogueError`
    for a table that is none of boxes.
    """
    names = ["image_id", "label", "left", "top", "width", "height"]
    if not (root / BOXES).is_file():
        return pd.DataFrame(columns=names), pd.DataFrame(columns=["path", "reason"])
    # Its header, "Image Index,Finding Label,Bbox [x,y,w,h],,,", names six columns by place.
    table = read_table(root / BOXES, [NAME, "Finding Label"])
    if table.shape[1] < len(names):
        raise CatalogueError(f"{root / BOXES}: expected an image, a finding and four numbers in each line")
    table = table.iloc[:, :6].set_axis(names, axis=1)
    table["label"] = table["label"].replace("Infiltrate", "Infiltration")
    table[names[2:]] = table[names[2:]].apply(pd.to_numeric, errors="coerce") / ORIGINAL
    corners = table[["left", "top"]].to_numpy(), table[["width", "height"]].to_numpy()
    reason = first_reason(
        table.index,
        (~table["label"].isin(FINDINGS), "finding " + table["label"]),
        (table[names[2:]].isna().any(axis=1), "its box is not four numbers"),
        ((table[["width", "height"]] <= 0).any(axis=1), "its box is empty"),
        (((corners[0] < 0) | (sum(corners) > 1)).any(axis=1), f"its box leaves the image of {ORIGINAL} pixels"),
    )
    lines = [f"{BOXES}, line {number}: {image}" for number, image in enumerate(table["image_id"], 2)]
    aside = pd.DataFrame({"path": lines, "reason": reason})
    return table[reason == ""].reset_index(drop=True), aside[reason != ""].reset_index(drop=True)


def _read_lists(root: Path) -> dict[str, str]:
    """image_id: train or test. Raises `CatalogueError` where a list is missing or an image is in both."""
    of: dict[str, str] = {}
    for name, part in LISTS.items():
        for path in matching(root, name):
            for image in read_table(path, [], names=["image"])["image"] if path.stat().st_size else ():
                if of.setdefault(image, part) != part:
                    raise CatalogueError(f"{root}: {image} is in a training list and in a test list")
    if set(of.values()) != {"train", "test"}:
        raise CatalogueError(f"{root}: needs test_list.txt, and train_val_list.txt or train_list.txt")
    return of


def _table(root: Path) -> Path:
    return next(path for name in ENTRIES for path in matching(root, name.lower()))


# --- hospitals, and small nodules ---


def load_sites(settings) -> Catalogue:
    """The hospitals, of two classes: Pneumonia, No pneumonia; column site."""
    if settings.sites_source == "phantom_chest":
        from helpers.phantoms.chest_plans import SITES

        return SITES.load(CACHE, settings.workers, seed=settings.seed, bodies=settings.phantom_sites_bodies)
    return read_sites(settings.data_dir, CACHE, settings.workers)


def read_sites(data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """All three collections below their common folder, column `site` NIH, Kermany or Cohen.

    Further columns: body (the image itself), markers ("on": nobody can take them away), cohort ("natural"), department
    (of NIH the projection, PA or AP: the bedside's is AP). `excluded` joins what each sets aside. Raises
    FileNotFoundError where one of them is missing.
    """
    loaders = {"NIH": read_nih, "Kermany": kermany_images.load_xray, "Cohen": cohen.load_findings}
    found = {site: loader(data_dir, cache, workers) for site, loader in loaders.items()}
    root = Path(os.path.commonpath([catalogue.root.resolve() for catalogue in found.values()]))
    found = {site: catalogue.seen_from(root) for site, catalogue in found.items()}
    frames = [_of_site(catalogue, site) for site, catalogue in found.items()]
    whole = pd.concat(frames, ignore_index=True).assign(markers="on", cohort="natural")
    excluded = pd.concat([catalogue.excluded for catalogue in found.values()], ignore_index=True)
    return Catalogue("sites", root, whole, SITE_CLASSES, excluded)


def _of_site(catalogue: Catalogue, site: str) -> pd.DataFrame:
    """One collection's frame with the label that this study asks for, its names beginning with the site's."""
    frame = catalogue.frame
    ill = split_findings(frame["labels"])["Pneumonia"] if site == "NIH" else frame["label"] != "NORMAL"
    name = site + "/" + frame["image_id"]
    return frame.drop(columns="labels", errors="ignore").assign(
        label=np.where(ill, *SITE_CLASSES),
        site=site,
        image_id=name,
        body=name,
        patient_id=site + "/" + frame["patient_id"],
        department=frame["view"] if site == "NIH" else "",
    )


def split_sites(catalogue: Catalogue, settings) -> Split:
    """`splits.split` of each site by itself, so that each has validation patients of both labels.

    Raises `SplitError` naming the catalogue where a site lacks a label.
    """
    parts = []
    for site, rows in catalogue.frame.groupby("site", sort=False):
        one = replace(catalogue.subset(rows), name=f"{catalogue.name}, {site}")
        parts.append(split(one, settings.split, SITE_VALIDATION, settings.seed))
    frame, dropped = (pd.concat([getattr(part, name) for part in parts]) for name in ("frame", "dropped"))
    order = catalogue.frame["image_id"]
    frame = frame.set_index("image_id", drop=False).loc[order[order.isin(frame["image_id"])]].reset_index(drop=True)
    return Split(frame, dropped.reset_index(drop=True), settings.split, settings.seed)


def describe_sites(catalogue: Catalogue) -> tuple[bool, str]:
    """Never the talk's images, for Mount Sinai's are not public; and a sentence that names what there is."""
    counts = [
        f"{site} {len(rows):,} images ({int((rows['label'] == SITE_CLASSES[0]).sum()):,} with pneumonia)"
        for site, rows in catalogue.frame.groupby("site", sort=False)
    ]
    return False, f"Not the talk's images, of which Mount Sinai's are not public, but {', '.join(counts)}."


places_sites = places_of("sites_source", NIH_PLACE, kermany_images.XRAY, cohen.PLACE)


def load_regions(settings) -> Catalogue:
    """Radiographs whose lesion is small; phantoms in every profile, for nowhere else is the region known."""
    from helpers.phantoms.chest_plans import REGIONS

    return REGIONS.load(CACHE, settings.workers, seed=settings.seed, images=settings.phantom_sites_regions)


def split_regions(catalogue: Catalogue, settings) -> Split:
    """No patient is in two splits."""
    return split(catalogue, "patient-disjoint", REGION_VALIDATION, settings.seed)


def places_regions(settings) -> tuple[Place, ...]:
    """Nothing is read from outside the project."""
    return ()


describe_regions = phantoms_described


# --- published predictions ---


@dataclass(frozen=True)
class Predictions:
    """Published predictions beside their labels, by network: `RESCORED` is the talk's own, `RESCORED_LATER` of 2022.

    `scores[network][version]`, the labels of its own time first: image_id, patient_id, `y_<label>` (bool) and
    `p_<label>`, one row per image that the labels know. `aucs[network]`: each label's area as the folder prints it, NaN
    where it does not. `entries`: images in the tables of labels. `notes`: what lies there and was not used, or lacks.
    """

    scores: dict[str, dict[str, pd.DataFrame]]
    aucs: dict[str, pd.Series]
    entries: int
    notes: list[str]

    def own(self) -> dict[str, pd.DataFrame]:
        """Each network's scores with the labels of its own time, or with those there are."""
        return {network: next(iter(found.values())) for network, found in self.scores.items()}


def folders_predictions(settings) -> list[Path]:
    """What notebook 11 reads beside its images, where it lies: published predictions, labels, radiologists' boxes."""
    roots, names = NIH_PLACE.all_in(settings.data_dir), (*ENTRIES, BOXES)
    tables = [path for root in roots for name in names for path in matching(root, name.lower())]
    return [*PREDICTIONS.read_from(settings.data_dir), *tables]


def load_predictions(data_dir: Path) -> Predictions:
    """The predictions of either network beside the labels of either year, as far as they lie there.

    Labels are the clone's, else NIH's own table. A table that cannot be used is left out with a note. Raises
    `FileNotFoundError` where no predictions or no labels lie there, `CatalogueError` where none can be used.
    """
    root, notes = PREDICTIONS.find(Path(data_dir)), []
    labels = _read_labels(root, Path(data_dir), notes)
    scores, aucs = {}, {}
    files = [*root.glob("preds.csv"), *root.glob("pretrained*/preds.csv")]
    for folder in sorted((path.parent for path in files), reverse=True):  # pretrained-old first
        try:
            chances = _read_chances(folder / "preds.csv", notes)
            areas, of_talk = _read_areas(folder / "aucs.csv", notes)
            of_talk = of_talk and RESCORED not in scores or folder.name == "pretrained-old"
            network = RESCORED if of_talk else RESCORED_LATER
            versions = sorted(labels, reverse=network == RESCORED_LATER)
            scores[network] = {one: _beside(chances, labels[one], f"{folder.name}, {one}", notes) for one in versions}
            aucs[network] = areas
        except CatalogueError as error:
            notes.append(str(error))
    if not scores:
        raise CatalogueError("; ".join(notes))
    return Predictions(scores, aucs, max(map(len, labels.values())), notes)


def _read_labels(root: Path, data_dir: Path, notes: list[str]) -> dict[str, pd.DataFrame]:
    """image_id, patient_id and `y_<label>` of each version of the labels that is there."""
    found, names = {}, {NAME: "image_id", "Patient ID": "patient_id"}
    for version, name in LABELS.items():
        try:
            table = read_table(root / name, [*names, *FINDINGS]).rename(columns=names)
            known = table[list(FINDINGS)].apply(pd.to_numeric, errors="coerce").gt(0)
            found[version] = pd.concat([table[["image_id", "patient_id"]], known.add_prefix("y_")], axis=1)
        except (FileNotFoundError, CatalogueError) as error:
            notes.append(str(error))
    try:
        nih = NIH_PLACE.find(data_dir)
        own = read_entries(nih).drop(columns="view").rename(columns={label: f"y_{label}" for label in FINDINGS})
        found.setdefault("2020" if _table(nih).name == ENTRIES[0] else "2017", own)
    except (FileNotFoundError, CatalogueError) as error:
        if not found:
            names = " nor ".join(LABELS.values())
            raise FileNotFoundError(f"no labels: neither {names} in {root}; and {error}") from None
    return {version: table.drop_duplicates("image_id") for version, table in found.items()}


def _read_chances(path: Path, notes: list[str]) -> pd.DataFrame:
    """image_id and a probability of each label. Raises `CatalogueError` for a value that is none."""
    renamed = {NAME: "image_id"} | {f"prob_{label}": f"p_{label}" for label in FINDINGS}
    table = read_table(path, renamed, dtype=None).rename(columns=renamed)[list(renamed.values())]
    chances = table.drop(columns="image_id").apply(pd.to_numeric, errors="coerce")
    if not chances.apply(lambda column: column.between(0, 1)).all(axis=None) or table["image_id"].duplicated().any():
        raise CatalogueError(f"{path}: a value is no probability, or an image is there twice")
    if len(table) < PREDICTED:
        notes.append(f"{path.parent.name}: {len(table):,} of the {PREDICTED:,} predictions, so not the published areas")
    return pd.concat([table["image_id"], chances], axis=1)


def _read_areas(path: Path, notes: list[str]) -> tuple[pd.Series, bool]:
    """Each label's area as the folder prints it, and whether its header is the talk's."""
    try:
        table = read_table(path, ["label"], dtype=None).set_index("label")
        of_talk = "retrained auc" in table
        areas = pd.to_numeric(table["retrained auc" if of_talk else "auc"], errors="coerce")
        return areas[~areas.index.duplicated()].reindex(list(FINDINGS)), of_talk
    except (FileNotFoundError, CatalogueError, KeyError) as error:
        notes.append(f"{path.parent.name}: the areas printed in {path.name} are not shown: {error}")
        return pd.Series(np.nan, list(FINDINGS)), False


def _beside(chances: pd.DataFrame, labels: pd.DataFrame, where: str, notes: list[str]) -> pd.DataFrame:
    scores = chances.merge(labels, on="image_id")
    if scores.empty:
        raise CatalogueError(f"{where}: no image of the predictions is in the table of labels")
    if lost := len(chances) - len(scores):
        notes.append(f"{where}: {lost:,} images without labels are not scored")
    return scores[["image_id", "patient_id", *(f"{kind}_{label}" for kind in "yp" for label in FINDINGS)]]
