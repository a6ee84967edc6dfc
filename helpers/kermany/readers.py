"""Human readers: a documented CSV of their reads, and simulated readers for phantoms.

The CSV has a header and one row a read, UTF-8, comma-separated, in any order; other columns are ignored:

    reader,image,label
    Dr A,CNV-1016042-1,CNV
    Dr A,NORMAL-1038998-1,DRUSEN

`reader` is any name, `image` an image_id of the catalogue, `label` a class as the data set spells it. A reader need not
have read every image, but may not have read one twice. Kermany 2018 asked six experts about 1,000 test images ("using
only the patient's OCT images"); their reads are not public, so none come with this project.

Both functions give the same frame: reader, image_id, label, simulated.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ("reader", "image", "label")  # of the CSV
URGENT = ("CNV", "DME")
# A label 'NA' is not a missing one, and blank lines are kept at first so that errors can tell the line.
AS_WRITTEN = {"keep_default_na": False, "skip_blank_lines": False}

# Simulated readers. How much an image of one class looks like another, from 0 (not at all) to 1 (the same): subretinal
# material passes for drusen or for cysts, a few cysts or small drusen are overlooked.
ALIKE = {
    "CNV": {"DRUSEN": 0.45, "DME": 0.40, "NORMAL": 0.15},
    "DME": {"NORMAL": 0.40, "CNV": 0.40, "DRUSEN": 0.15},
    "DRUSEN": {"NORMAL": 0.50, "CNV": 0.40, "DME": 0.10},
    "NORMAL": {"DRUSEN": 0.50, "DME": 0.40, "CNV": 0.20},
}
ALIKE_OTHERWISE = 0.3
NOISE = (0.08, 0.14)  # spread of the best and the worst reader's impression, where a plain image's evidence is 1
BIAS = 0.04  # evidence that the readiest reader adds to urgent classes, and the most reluctant takes away
SHARED = 0.3  # share of the impression's variance that all readers share, so that they err on the same images
SUBTLE = 0.45  # evidence left on the subtlest lesion, and
NOISY = 0.6  # on the noisiest image


class ReaderError(ValueError):
    """Reads that cannot be used; the message names the file, the line and the nearest right name."""


def load_readers(path: str | Path, catalogue_image_ids: Iterable[str], classes: Sequence[str]) -> pd.DataFrame:
    """The reads in the CSV at `path`: a frame of reader, image_id, label and simulated (False), in the file's order.

    Raises `ReaderError` for a missing file or column, an empty cell, an image that is not in `catalogue_image_ids`, a
    label that is not in `classes`, and an image read twice by one reader.
    """
    path, known = Path(path), {str(image) for image in catalogue_image_ids}
    frame = _read_csv(path)
    for column in COLUMNS:
        _refuse(path, frame, frame[column] == "", lambda row, column=column: f"{column} is empty")
    _refuse(
        path,
        frame,
        ~frame["image"].isin(known),
        lambda row: f"image '{row['image']}' is not in the data set{_nearest(row['image'], known)}",
    )
    _refuse(
        path,
        frame,
        ~frame["label"].isin(list(classes)),
        lambda row: f"label '{row['label']}' is not one of {', '.join(classes)}{_nearest(row['label'], classes)}",
    )
    twice = frame.duplicated(["reader", "image"])
    _refuse(path, frame, twice, lambda row: f"reader '{row['reader']}' has already read image '{row['image']}'")
    return frame.rename(columns={"image": "image_id"}).assign(simulated=False).reset_index(drop=True)


def simulate_readers(images: pd.DataFrame, classes: Sequence[str], readers: int = 6, seed: int = 1) -> pd.DataFrame:
    """Made-up reads of every image by `readers` readers, for phantoms only; each row carries simulated = True.

    `images` has image_id and label, and may have severity (0 subtle to 1 plain) and quality (0 noisy to 1 clean); a
    missing column or value counts as an image drawn at random from that range. A reader takes the class with the most
    evidence: the image's own, less on subtle and noisy images, plus that of look-alikes, plus noise, part of which all
    readers share. Readers differ in noise (skill) and in how readily they refer, so their sensitivities and
    specificities trade off along a curve. The reads depend on the images and the seed, not on the order of rows, and
    a reader's noise not on how many readers there are.

    The weighted errors come out at about those of Kermany's experts, 0.4 to 10.5 % (Results, Comparison of the Model
    with Human Experts), so that the figures look alike; they are evidence of nothing.
    """
    frame = _checked_images(images, classes, readers)
    streams = np.random.SeedSequence(seed).spawn(readers + 1)  # one for the images and traits, then one a reader
    rng = np.random.default_rng(streams[0])
    evidence = _evidence(frame, classes, rng)
    shared = rng.normal(size=evidence.shape)
    urgent = np.isin(classes, URGENT)
    reads = []
    for number, (noise, bias) in enumerate(_traits(readers, rng)):
        own = np.random.default_rng(streams[number + 1]).normal(size=evidence.shape)
        impression = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own
        chosen = (evidence + noise * impression + bias * urgent).argmax(axis=1)
        label = np.array(list(classes), dtype=object)[chosen]
        reads.append(pd.DataFrame({"reader": f"Reader {number + 1}", "image_id": frame["image_id"], "label": label}))
    return pd.concat(reads, ignore_index=True).assign(simulated=True)


def _evidence(frame: pd.DataFrame, classes: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Evidence for each class in each image, before any reader's noise: (images, classes), about 0 to 1."""
    severity = np.where(frame["label"] == "NORMAL", 1.0, _column(frame, "severity", rng))  # nothing to overlook
    strength = (SUBTLE + (1 - SUBTLE) * severity) * (NOISY + (1 - NOISY) * _column(frame, "quality", rng))
    alike = {
        true: [1.0 if true == c else ALIKE.get(true, {}).get(c, ALIKE_OTHERWISE) for c in classes] for true in classes
    }
    return strength[:, None] * np.array([alike[label] for label in frame["label"]])


def _traits(readers: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Each reader's noise and bias: evenly spread, so that every seed has good and poor readers, then shuffled."""
    noise = np.linspace(*NOISE, readers) if readers > 1 else [np.mean(NOISE)]
    bias = np.linspace(-BIAS, BIAS, readers) if readers > 1 else [0.0]
    return [(float(a), float(b)) for a, b in zip(rng.permutation(noise), rng.permutation(bias), strict=True)]


def _column(frame: pd.DataFrame, name: str, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.random(len(frame))  # always drawn, so that a column more or less changes nothing else
    if name not in frame.columns:
        return drawn
    given = pd.to_numeric(frame[name]).to_numpy(dtype=float)
    if ((given < 0) | (given > 1)).any():
        raise ReaderError(f"{name}: expected 0 to 1, got {np.nanmin(given):g} to {np.nanmax(given):g}")
    return np.where(np.isnan(given), drawn, given)


def _checked_images(images: pd.DataFrame, classes: Sequence[str], readers: int) -> pd.DataFrame:
    if readers < 1:
        raise ReaderError(f"{readers} readers: expected 1 or more")
    missing = [column for column in ("image_id", "label") if column not in images.columns]
    if missing:
        raise ReaderError(f"the images have no column {', '.join(missing)}")
    unknown = sorted(set(images["label"].astype(str)) - set(classes))
    if unknown:
        raise ReaderError(f"label '{unknown[0]}' is not one of {', '.join(classes)}{_nearest(unknown[0], classes)}")
    if images.empty or images["image_id"].duplicated().any():
        raise ReaderError("expected at least one image, and each image_id once")
    return images.sort_values("image_id").reset_index(drop=True)


def _read_csv(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ReaderError(f"there is no reader file {path}")
    try:  # utf-8-sig also takes the mark that spreadsheets put first
        frame = pd.read_csv(path, dtype=str, encoding="utf-8-sig", index_col=False, **AS_WRITTEN).fillna("")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ReaderError(f"{path}: not a CSV file in UTF-8: {error}") from None
    frame.columns = [str(column).strip().lower() for column in frame.columns]
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        header = ",".join(frame.columns)
        raise ReaderError(
            f"{path}: no column {', '.join(missing)}; the header is '{header}', expected {','.join(COLUMNS)}"
        )
    frame = frame[list(COLUMNS)].apply(lambda column: column.str.strip())
    frame = frame[(frame != "").any(axis=1)]  # keeping the index, which is the line less 2
    if frame.empty:
        raise ReaderError(f"{path}: no reads")
    return frame


def _refuse(path: Path, frame: pd.DataFrame, bad: pd.Series, tell: Callable[[pd.Series], str]) -> None:
    if bad.any():
        first = frame.index[int(np.argmax(bad.to_numpy()))]
        more = f" (and {int(bad.sum()) - 1} more such rows)" if bad.sum() > 1 else ""
        raise ReaderError(f"{path}: line {first + 2}: {tell(frame.loc[first])}{more}")


def _nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the known name most like `word`, whatever its case; else nothing."""
    names = {name.casefold(): name for name in known}
    close = difflib.get_close_matches(word.casefold(), list(names), n=1, cutoff=0.5)
    return f"; did you mean {names[close[0]]}?" if close else ""
