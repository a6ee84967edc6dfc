"""Three public collections as three hospitals, with one question: pneumonia or not.

Card. NIH ChestX-ray14 (`nih`), Kermany's children (`kermany_xray`) and Cohen's collection (`cohen`, frontal images);
each
    with its own citation, licence and traps. Mount Sinai's images, of Zech 2018, are not public.
Labels: Pneumonia or No pneumonia, whatever the cause. NIH: the label Pneumonia, which a program found in the report
(its
    other thirteen labels do not count as pneumonia, Consolidation and Infiltration included). Kermany: the folder, so
    bacterial and viral alike. Cohen: COVID-19 and any other named bacterial or viral cause, against "No Finding".
What differs beside the hospital: Kermany's are children of one to five, NIH's adults with few children, Cohen's
adults cut
    from publications with arrows and letters; NIH's negatives have other diseases, Kermany's and Cohen's have none;
    nearly all of Cohen's have pneumonia. Age, disease and processing are confounded with the hospital, as in the
    talk.
Patients: of one collection each, so no patient is in two; splits are each collection's own.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import cohen, kermany_xray
from helpers.data.catalogue import Catalogue
from helpers.data.splits import Split, split
from helpers.zech import data as nih

CLASSES = ("Pneumonia", "No pneumonia")
VALIDATION = 0.3  # of each site's training patients
KEPT = ["path", "label", "patient_id", "published_split", "digest", "view", "width", "height", "average_hash"]


def load(data_dir: Path, cache: Path, workers: int = 0) -> Catalogue:
    """All three collections below their common folder, column `site` NIH, Kermany or Cohen.

    Further columns: body (the image itself), markers ("on": nobody can take them away), cohort ("natural"), department
    (of NIH the projection, PA or AP: the bedside's is AP). `excluded` joins what each sets aside. Raises
    FileNotFoundError where one of them is missing.
    """
    loaders = {"NIH": nih.load, "Kermany": kermany_xray.load, "Cohen": cohen.load_findings}
    found = {site: loader(data_dir, cache, workers) for site, loader in loaders.items()}
    ours = {site: (_labelled(catalogue), catalogue) for site, catalogue in found.items()}
    root = Path(os.path.commonpath([catalogue.root.resolve() for _, catalogue in ours.values()]))
    frames, excluded = [], []
    for site, (frame, catalogue) in ours.items():
        below = catalogue.root.resolve().relative_to(root).as_posix()
        frame = frame[KEPT].assign(
            site=site, image_id=site + "/" + frame["image_id"], body=site + "/" + frame["image_id"]
        )
        frame["patient_id"] = site + "/" + frame["patient_id"]
        frame["department"] = frame["view"] if site == "NIH" else ""
        frames.append(frame.assign(path=(below + "/" if below != "." else "") + frame["path"]))
        excluded.append(catalogue.excluded.assign(path=below + "/" + catalogue.excluded["path"]))
    whole = pd.concat(frames, ignore_index=True).assign(markers="on", cohort="natural")
    return Catalogue("sites", root, whole, CLASSES, pd.concat(excluded, ignore_index=True))


def _labelled(catalogue: Catalogue) -> pd.DataFrame:
    """The catalogue's frame with the label that this study asks for."""
    if catalogue.name == "nih":
        ill = nih.labels(catalogue)["Pneumonia"].to_numpy()
    else:
        ill = (catalogue.frame["label"] != "NORMAL").to_numpy()
    return catalogue.frame.assign(label=np.where(ill, *CLASSES))


def split_by_site(catalogue: Catalogue, kind: str, fraction: float, seed: int) -> Split:
    """`splits.split` of each site by itself, so that each has validation patients of both labels.

    Raises `SplitError` naming the catalogue where a site lacks a label.
    """
    parts = []
    for site in dict.fromkeys(catalogue.frame["site"]):
        rows = catalogue.frame[catalogue.frame["site"] == site]
        parts.append(split(replace(catalogue.subset(rows), name=f"{catalogue.name}, {site}"), kind, fraction, seed))
    frame, dropped = (pd.concat([getattr(part, name) for part in parts]) for name in ("frame", "dropped"))
    order = catalogue.frame["image_id"]
    frame = frame.set_index("image_id", drop=False).loc[order[order.isin(frame["image_id"])]].reset_index(drop=True)
    return Split(frame, dropped.reset_index(drop=True), kind, seed)


def describes_paper(catalogue: Catalogue) -> tuple[bool, str]:
    """Never the talk's images, for Mount Sinai's are not public; and a sentence that says what there is."""
    told = []
    for site, rows in catalogue.frame.groupby("site", sort=False):
        told.append(f"{site} {len(rows):,} images ({int((rows['label'] == CLASSES[0]).sum()):,} with pneumonia)")
    return False, f"Not the talk's images, of which Mount Sinai's are not public, but {', '.join(told)}."
