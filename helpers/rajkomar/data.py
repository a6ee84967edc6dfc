"""Open-i (Indiana University): 7,470 chest radiographs, frontal and lateral, with reports: Rajkomar's second test set.

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
    labels are noisy, and few laterals come with a caption of their own: for numbers that are to mean something, give
    `labels_csv`, labels made by looking, as the paper's authors did: "We randomly selected 1000 of those images and
    manually annotated each as frontal or lateral".
Patients: none are published; the report stands for the patient.
Split: all images are "test", as in the paper: "To serve as an independent test set, we obtained a publicly available
    set of anonymized chest radiographs in PNG format". `splits.split` refuses a catalogue without training images:
    train on another one, and score this one whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from helpers.data.catalogue import Catalogue, CatalogueError
from helpers.data.scan import scan

CLASSES = ("frontal", "lateral")
LAYOUT = "open-i"
SAMPLE = 1000  # images the paper drew
FRONTAL = re.compile(r"\b(pa|ap|p\.a|a\.p|frontal|posteroanterior|anteroposterior|portable)\b")
LATERAL = re.compile(r"\blat(eral)?s?\b")
BOTH = re.compile(r"\b(2|two)[ -]?(v|view|views)\b")
NUMBERED = {"1001": "frontal", "2001": "lateral"}  # the end of a name, where a report has just these two images
SAYS = {  # of a labels file, in lower case
    **dict.fromkeys(("frontal", "pa", "ap", "ap supine", "ap erect"), "frontal"),
    **dict.fromkeys(("lateral", "lat", "l", "ll", "rl"), "lateral"),
}
CSV_COLUMNS = (
    ("image", "view"),
    ("filename", "projection"),
)  # the second pair: a table that circulates with the images
COLUMNS = ["image_id", "path", "label", "patient_id", "published_split", "digest", "width", "height", "average_hash"]


def load(
    data_dir: Path,
    cache: Path,
    workers: int = 0,
    labels_csv: Path | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> Catalogue:
    """The images with a view, all of them "test".

    `labels_csv` (columns image, view, or filename, projection; frontal, PA, AP, lateral, L) replaces the metadata's
    labels: what it does not name is excluded. `sample` images are drawn at random (the paper: `SAMPLE`), the same for a
    `seed` whatever their order, before the labels are asked for, so that those without a label are no more than left
    out. `excluded` lists every image that is not used, and damaged reports. Raises FileNotFoundError where there is no
    such data, `CatalogueError` for labels that cannot be read or a `sample` larger than the collection.
    """
    root = find_root(data_dir)
    frame, excluded = scan(root, cache, workers, under=["png"])
    frame = frame.assign(image_id=[Path(path).stem for path in frame["path"]])
    frame = frame.drop_duplicates("image_id").reset_index(drop=True)
    if sample is not None:
        frame = _drawn(frame, sample, seed)
    images, damaged = read_reports(root / "reports")
    frame = frame.merge(images, on="image_id", how="left")
    frame["label"], frame["reason"] = _labelled(frame, labels_csv) if labels_csv else _from_metadata(frame)
    aside = frame.loc[frame["reason"] != "", ["path", "reason"]]
    excluded = pd.concat([excluded, damaged, aside]).sort_values("path", kind="stable", ignore_index=True)
    usable = frame[frame["reason"] == ""].reset_index(drop=True)
    if usable.empty:
        raise CatalogueError(f"open-i: no image with a view under {root}")
    usable["patient_id"] = usable["report"].fillna(usable["image_id"].str.split("_").str[0])
    usable["published_split"] = "test"
    present = tuple(label for label in CLASSES if label in set(usable["label"]))
    return Catalogue("openi", root, usable[COLUMNS].astype({"patient_id": str}), present, excluded)


def find_root(data_dir: Path) -> Path:
    """The folder that holds png/ and reports/: `data_dir` itself, or `LAYOUT` in it."""
    for root in (data_dir, data_dir / LAYOUT):
        if (root / "png").is_dir() and (root / "reports").is_dir():
            return root
    state = "" if data_dir.is_dir() else ", which does not exist"
    raise FileNotFoundError(
        f"no Open-i images in {data_dir}{state}: looked there and in {LAYOUT} for png/ and reports/. "
        "Get them with: make data PROFILE=paper"
    )


def read_reports(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(images, damaged). `images`: one row an image that a report names, with `report`, `caption` and `numbers` (the
    ends of all names in the report, with a space between); of two reports with one image the first counts. `damaged`:
    `path` and `reason` of reports that are no XML.
    """
    rows, damaged = [], []
    for path in sorted(folder.rglob("*.xml"), key=lambda p: (len(p.stem), p.stem)):
        try:
            root = ElementTree.parse(path).getroot()
        except ElementTree.ParseError:
            damaged.append((path.relative_to(folder.parent).as_posix(), "a report that is no XML"))
            continue
        uid = root.find(".//uId")
        report = uid.get("id", "") if uid is not None else ""
        found = list(_images(root))
        numbers = " ".join(_number(name) for name, _ in found)
        rows += [(name, report or f"report {path.stem}", caption, numbers) for name, caption in found]
    images = pd.DataFrame(rows, columns=["image_id", "report", "caption", "numbers"]).drop_duplicates("image_id")
    return images, pd.DataFrame(damaged, columns=["path", "reason"], dtype=str)


def _images(root: ElementTree.Element) -> Iterator[tuple[str, str]]:
    for image in root.iter("parentImage"):
        if name := image.get("id", "").strip():
            yield name, " ".join((image.findtext("caption") or "").split())


def _number(name: str) -> str:
    return name.rsplit("-", 1)[-1]


def view_of(caption: str, number: str, numbers: set[str]) -> str:
    """frontal, lateral, or "" where the metadata cannot tell.

    `number` ends the image's name, `numbers` are those of all images of its report.
    """
    text = caption.lower()
    frontal, lateral, both = (bool(words.search(text)) for words in (FRONTAL, LATERAL, BOTH))
    if frontal != lateral and not both:
        return "frontal" if frontal else "lateral"
    return NUMBERED.get(number, "") if (both or frontal) and numbers == set(NUMBERED) else ""


def _from_metadata(frame: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """(label, reason) from the captions."""
    captions, numbers = frame["caption"].fillna(""), frame["numbers"].fillna("")
    rows = zip(captions, frame["image_id"], numbers, strict=True)
    label = [view_of(caption, _number(name), set(numbers.split())) for caption, name, numbers in rows]
    label = pd.Series(label, index=frame.index, dtype=object)
    reason = pd.Series("", index=frame.index)
    reason[label == ""] = "its caption does not tell the view: " + captions.replace("", "(none)")
    reason[frame["report"].isna()] = "no report names it"
    return label, reason


def _labelled(frame: pd.DataFrame, labels_csv: Path) -> tuple[pd.Series, pd.Series]:
    """(label, reason) from the user's table."""
    labels = _read_labels(labels_csv)
    label = frame["image_id"].map(_plain_name).map(labels).fillna("")
    reason = pd.Series("", index=frame.index)
    reason[label == ""] = f"not in {labels_csv.name}"
    return label, reason


def _read_labels(path: Path) -> dict[str, str]:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    names = next((pair for pair in CSV_COLUMNS if set(pair) <= set(table)), None)
    if names is None:
        raise CatalogueError(f"{path}: no columns image, view")
    view = table[names[1]].str.strip().str.lower().map(SAYS)
    if view.isna().any():
        bad = table.loc[view.isna(), names[1]].iloc[0]
        raise CatalogueError(f"{path}: '{bad}' is no view; known: {', '.join(SAYS)}")
    rows = pd.DataFrame({"image": table[names[0]].map(_plain_name), "view": view}).drop_duplicates()
    twice = rows["image"].duplicated()
    if twice.any():
        raise CatalogueError(f"{path}: two views for {rows.loc[twice, 'image'].iloc[0]}")
    return rows.set_index("image")["view"].to_dict()


def _plain_name(name: str) -> str:
    """CXR1_1_IM-0001-3001, CXR1_1_IM-0001-3001.png and 1_IM-0001-3001.dcm.png are one image."""
    stem = re.sub(r"(\.dcm)?(\.png)?$", "", Path(name.strip()).name)
    return re.sub(r"^CXR(\d+)(?:_\1)?_", r"\1_", stem)


def _drawn(frame: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """`n` rows in the order of a hash of the seed and the image, so a smaller draw lies inside a larger one."""
    if not 0 < n <= len(frame):
        raise CatalogueError(f"a sample of {n:,} of {len(frame):,} images")
    order = frame["image_id"].map(lambda name: hashlib.blake2b(f"{seed}/openi/{name}".encode()).hexdigest())
    return frame.loc[order.sort_values().index[:n]].sort_index().reset_index(drop=True)
