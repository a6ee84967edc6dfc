"""Rajkomar's frontal and lateral radiographs: phantoms, Open-i or Cohen's collection; figure 6's transformed versions.

Open-i (Indiana University): 7,470 chest radiographs, frontal and lateral, with reports: Rajkomar's second test set.

Citation: Demner-Fushman, Kohli, Rosenman et al., "Preparing a collection of radiology examinations for distribution and
    retrieval", JAMIA 23 (2016). Data: the National Library of Medicine's Open-i, NLMCXR_png.tgz and NLMCXR_reports.tgz.
Licence: as stated by the host; copies elsewhere name CC BY-NC-ND 4.0.
Size: 7,470 images (PNG) and 3,955 reports (XML).
How to get it: `make data PROFILE=paper`, or unpack both archives by hand into DATA_DIR/open-i/png and /reports.
Images: radiographs from the archives of two hospital systems in Indiana, converted from DICOM by the host.
Labels: the view is not published as such. A report's `parentImage` elements name its images, each with a caption; but
    it names the examination, not the image: "Xray Chest PA and Lateral" stands under both. Here a caption that names
    one view is believed. One that names both, or counts two views, is resolved only for two images numbered 1001 and
    2001 (the end of their names): the first is taken for frontal, the second for lateral. All else is excluded. So the
    labels are noisy, and few laterals come with a caption of their own: for numbers that are to mean something, set
    VIEW_LABELS_FILE to labels made by looking, as the paper's authors did: "We randomly selected 1000 of those images
    and manually annotated each as frontal or lateral".
Patients: none are published; the report stands for the patient.
Split: all images are "test", as in the paper: "To serve as an independent test set, we obtained a publicly available
    set of anonymized chest radiographs in PNG format". `splits.split` refuses a catalogue without training images:
    train on another one, and score this one whole.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from helpers.data import cohen
from helpers.data.catalogue import Catalogue, CatalogueError, read_table
from helpers.data.scan import Place, catalogue_of, first_reason, matching, scan
from helpers.data.splits import Split, split
from helpers.run.paths import CACHE

CLASSES = ("frontal", "lateral")
REPORTS = ("*reports/", "ecgen-radiology/")
PROJECTIONS = "indiana_projections.csv"
OPENI = Place(
    "Open-i images",
    # As `make data` and file managers unpack the archives, and a copy that has a table of views in place of reports
    (("*png/", "*reports/"), ("*png/", "ecgen-radiology/"), (PROJECTIONS, "images*/")),
    ("*png/", "*reports/", "ecgen-radiology/", "images*/", PROJECTIONS),
    f"png/ and reports/, or images/ and {PROJECTIONS}",
    part=("images_normalized/",),
    cards=("open-i",),
)
VALIDATION_FRACTION = 0.25  # of the training patients: the paper has 376 of 1,505 images
# Of a caption, in lower case
FRONTAL = r"\b(?:pa|ap|p\.a|a\.p|frontal|posteroanterior|anteroposterior|portable)\b"
LATERAL = r"\blat(?:eral)?s?\b"
BOTH = r"\b(?:2|two)[ -]?(?:v|view|views)\b"
NUMBERED = {"1001": "frontal", "2001": "lateral"}  # the end of a name, where a report has just these two images
VIEW_WORDS = {  # of a labels file, in lower case
    **dict.fromkeys(("frontal", "pa", "ap", "ap supine", "ap erect"), "frontal"),
    **dict.fromkeys(("lateral", "lat", "l", "ll", "rl"), "lateral"),
}
CSV_COLUMNS = {"filename": "image", "projection": "view"}  # of a table that circulates with the images

# Figure 6. What the paper does not say, and we chose: which words the labels carry (none that names a view) and where
# they stand, that the turn is anticlockwise, and that what is obscured is black.
LABELS = (  # words, and their left and upper edge in parts of the image
    ("L", 0.88, 0.04),
    ("PORTABLE", 0.04, 0.04),
    ("STANDING", 0.50, 0.48),
    ("10:42", 0.08, 0.62),
    ("CHEST", 0.36, 0.88),
)
LETTER = 0.085  # height of the letters in parts of the image
TURN, ZOOM = 45, 1.5  # degrees and factor: "rotated 45°, zoomed 1.5x"


def load_views(settings) -> Catalogue:
    """Frontal and lateral radiographs. 'real' is Open-i where it lies, else Cohen's collection."""
    if settings.view_source == "phantom_chest":
        from helpers.phantoms.chest_plans import VIEWS

        test = settings.phantom_view_test  # as many of another hospital, for test alone
        counts = {"train": settings.phantom_view_train, "test": test, "public": test}
        return VIEWS.load(CACHE, settings.workers, seed=settings.seed, **counts)
    where = settings.data_dir, CACHE, settings.workers
    if settings.view_source == "cohen":
        return cohen.load_views(*where)
    try:
        return read_openi(*where, labels_csv=settings.view_labels_file or None)
    except FileNotFoundError as missing:
        if settings.view_source == "openi":
            raise
        found = cohen.load_views(*where)
        warnings.warn(f"views are Cohen's collection, for Open-i is not there ({missing})", UserWarning, stacklevel=2)
        return found


def split_views(catalogue: Catalogue, settings) -> Split:
    """`VALIDATION_FRACTION` of the training patients of each class are for validation."""
    return split(catalogue, settings.split, VALIDATION_FRACTION, settings.seed)


def describe_views(catalogue: Catalogue) -> tuple[bool, str]:
    """Never the paper's: its hospital images are not public, and which 1,000 public ones it drew is not said."""
    counts = catalogue.frame["label"].value_counts()
    return False, (
        f"Not the paper's images, which are not public, but {catalogue.name}: "
        f"{counts.get('frontal', 0):,} frontal and {counts.get('lateral', 0):,} lateral."
    )


def places_views(settings) -> tuple[Place, ...]:
    """Where the views are read from: of 'real', Open-i unless Cohen's collection alone lies there."""
    data_dir = settings.data_dir
    only_cohen = settings.view_source == "real" and not OPENI.all_in(data_dir) and cohen.PLACE.all_in(data_dir)
    place = cohen.PLACE if settings.view_source == "cohen" or only_cohen else OPENI
    return () if settings.view_source in ("phantom_chest", "none") else (place,)


# --- Open-i ---


def read_openi(data_dir: Path, cache: Path, workers: int = 0, labels_csv: Path | str | None = None) -> Catalogue:
    """The images with a view, all of them "test".

    `labels_csv` (columns image, view, or filename, projection; frontal, PA, AP, lateral, L) replaces the metadata's
    labels: what it does not name is excluded. Without one, a copy's own table of views does, where it has one.
    `excluded` lists every image that is not used, and damaged reports. Raises FileNotFoundError where there is no such
    data, `CatalogueError` for labels that cannot be read.
    """
    root = OPENI.find(data_dir)
    folders = [path for pattern in ("*png/", "images*/") for path in matching(root, pattern)]
    frame, unreadable = scan(root, cache, workers, under=[path.name for path in folders])
    image_id = frame["path"].str.extract(r"([^/]+?)(?:\.dcm)?(?:\.[^./]*)?$", expand=False)
    images, damaged = read_reports(root)
    frame = frame.assign(image_id=image_id).merge(images, on="image_id", how="left")
    if labels_csv or (own := matching(root, PROJECTIONS)):
        label, reason = _labelled(frame, Path(labels_csv or own[0]))
    else:
        label = views_of(frame)
        captions = frame["caption"].fillna("").replace("", "(none)")
        unnamed = (frame["report"].isna(), "no report names it")
        reason = first_reason(frame.index, unnamed, (label == "", "its caption does not name the view: " + captions))
    reason = reason.mask(frame["image_id"].duplicated(), "a second file of this name")
    number = frame["image_id"].str.split("_").str[0].str.replace(r"^(?=\d)", "CXR", regex=True)
    patient = frame["report"].fillna(number).astype(str)
    frame = frame.assign(label=label, reason=reason, patient_id=patient, published_split="test")
    return catalogue_of("openi", root, frame, CLASSES, unreadable, damaged)


def read_reports(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(images, damaged). `images`: one row per image that a report below `root` names, with `report` and `caption`; of
    two reports with one image the first counts. `damaged`: `path` and `reason` of reports that are no XML.
    """
    rows, damaged, places = [], [], ("{}*.xml", "{}*/*.xml")
    reports = [path for place in REPORTS for inside in places for path in matching(root, inside.format(place))]
    for path in sorted(reports, key=lambda p: (len(p.stem), p.stem)):
        try:
            report = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, OSError, ValueError):
            damaged.append((path.relative_to(root).as_posix(), "a report that is no XML"))
            continue
        uid = report.find(".//uId")
        name = ("" if uid is None else uid.get("id")) or f"report {path.stem}"
        captions = {image.get("id", "").strip(): image.findtext("caption") for image in report.iter("parentImage")}
        found = [(image, " ".join((text or "").split())) for image, text in captions.items() if image]
        numbers = {image.rsplit("-", 1)[-1] for image, _ in found}
        rows += [(image, name, caption, numbers == set(NUMBERED)) for image, caption in found]
    images = pd.DataFrame(rows, columns=["image_id", "report", "caption", "pair"]).drop_duplicates("image_id")
    return images, pd.DataFrame(damaged, columns=["path", "reason"], dtype=str)


def views_of(images: pd.DataFrame) -> pd.Series:
    """frontal, lateral, or "" where the metadata leave it open.

    `images`: image_id, caption, and `pair`, whether its report's images are just two, numbered as `NUMBERED`.
    """
    captions = images["caption"].fillna("").str.lower()
    frontal, lateral, both = (captions.str.contains(words) for words in (FRONTAL, LATERAL, BOTH))
    plain = (frontal != lateral) & ~both
    by_number = images["image_id"].str.rsplit("-", n=1).str[-1].map(NUMBERED)
    resolved = ~plain & (both | frontal) & images["pair"].eq(True)
    named = pd.Series(np.where(frontal, "frontal", "lateral"), images.index)
    return named.where(plain, by_number.where(resolved)).fillna("")


def _labelled(frame: pd.DataFrame, labels_csv: Path) -> tuple[pd.Series, pd.Series]:
    """(label, reason) from the user's table."""
    labels = _read_labels(labels_csv)
    label = _plain_names(frame["image_id"]).map(labels).fillna("")
    return label, first_reason(frame.index, (label == "", f"not in {labels_csv.name}"))


def _read_labels(path: Path) -> pd.Series:
    table = read_table(path, []).rename(columns=CSV_COLUMNS)
    if not {"image", "view"} <= set(table):
        raise CatalogueError(f"{path}: no columns image, view")
    view = table["view"].str.lower().map(VIEW_WORDS)
    if view.isna().any():
        bad = table.loc[view.isna(), "view"].iloc[0]
        raise CatalogueError(f"{path}: '{bad}' is no view; known: {', '.join(VIEW_WORDS)}")
    views = view.set_axis(_plain_names(table["image"]))
    views = views[~views.reset_index().duplicated().to_numpy()]
    if (twice := views.index[views.index.duplicated()]).size:
        raise CatalogueError(f"{path}: two views for {twice[0]}")
    return views


def _plain_names(names: pd.Series) -> pd.Series:
    """CXR1_1_IM-0001-3001, CXR1_1_IM-0001-3001.png and 1_IM-0001-3001.dcm.png are one image."""
    stems = names.str.split("/").str[-1].str.replace(r"(\.dcm)?(\.png)?$", "", regex=True)
    return stems.str.replace(r"^CXR(\d+)(?:_\1)?_", r"\1_", regex=True)


# --- figure 6: "We also tested the robustness of the network on transformed versions" ---


def labelled(image: np.ndarray) -> np.ndarray:
    """White words burnt into the image, as a technologist or a viewer puts them there."""
    height, width = image.shape
    marked = Image.fromarray(image)
    pen, font = ImageDraw.Draw(marked), ImageFont.load_default(size=max(6, round(LETTER * height)))
    for word, left, top in LABELS:
        pen.text((left * width, top * height), word, fill=255, font=font)
    return np.array(marked)


def rotated_and_zoomed(image: np.ndarray) -> np.ndarray:
    """Turned by 45 degrees about the centre and enlarged 1.5 times; of a square, the new corners are still inside the
    old image, so nothing black comes in."""
    height, width = image.shape
    cos, sin = math.cos(math.radians(TURN)) / ZOOM, math.sin(math.radians(TURN)) / ZOOM
    x, y = width / 2, height / 2
    to_old = (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)
    turned = Image.fromarray(image).transform(
        (width, height), Image.Transform.AFFINE, to_old, Image.Resampling.BILINEAR, fillcolor=0
    )
    return np.array(turned)


def top_half_obscured(image: np.ndarray) -> np.ndarray:
    """The upper half black."""
    covered = image.copy()
    covered[: len(image) // 2] = 0
    return covered


def top_left_crop(image: np.ndarray) -> np.ndarray:
    """The upper left quarter, enlarged to the size of the whole."""
    height, width = image.shape
    quarter = Image.fromarray(image[: (height + 1) // 2, : (width + 1) // 2])
    return np.array(quarter.resize((width, height), Image.Resampling.BILINEAR))


# The columns of figure 6, in its order and words.
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Original": np.copy,
    "Labeled": labelled,
    "Rotated 45°, zoomed 1.5x": rotated_and_zoomed,
    "Top half obscured": top_half_obscured,
    "Top left crop": top_left_crop,
}


def transformed(pixels: np.ndarray, name: str) -> np.ndarray:
    """Every image of uint8 (n, h, w) under one of `TRANSFORMS`, by the figure's heading."""
    return np.stack([TRANSFORMS[name](np.ascontiguousarray(image)) for image in pixels])
