"""Train, validation and test: as published, patient-disjoint, or limited, each from a seed.

Patients and images are drawn in the order of a hash of the seed and their name. So a draw depends neither on the order
of rows nor on what else was drawn, and a smaller draw lies inside a larger one.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue, phantoms_described
from helpers.run import paths
from helpers.run.cache import resolve, step_key
from helpers.run.profile import Settings
from helpers.run.provenance import collected_warnings, digest_of, write_atomically
from helpers.run.steps import data_function

SPLITS = ("train", "validation", "test")
ALL_SPLITS = (*SPLITS, "held-out")  # the last only where `hold_out` was asked for


class SplitError(ValueError):
    """A split that the data cannot give; the message says what is missing."""


def shuffled(names: Iterable[str], salt: str) -> list[str]:
    """The distinct names in a random order that depends on each name and the salt alone."""
    return sorted(set(names), key=lambda name: hashlib.blake2b(f"{salt}/{name}".encode()).digest())


def draw_share(kind: pd.Series, fraction: float, salt: str) -> set[str]:
    """Of the names (the index) of each kind, a `fraction` in the order of a hash: at least one, and never all."""
    chosen: set[str] = set()
    for _, names in kind.groupby(kind):
        order = shuffled(names.index, salt)
        chosen.update(order[: min(max(round(fraction * len(order)), 1), len(order) - 1)])
    return chosen


@dataclass(frozen=True)
class Split:
    """A catalogue, split. `frame`: the rows that are used, in the catalogue's order, with `split` (one of `SPLITS`);
    `dropped`: the training rows left out, with `reason`."""

    frame: pd.DataFrame
    dropped: pd.DataFrame
    kind: str
    seed: int


def split(catalogue: Catalogue, kind: str, validation_fraction: float, seed: int) -> Split:
    """Splits a catalogue. The test images are those of the published test folder, always.

    `kind` "published" keeps the train folder whole; "patient-disjoint" leaves out what `dropped` lists, for the paper
    means "images from patients independent of the patients represented in the training partition" (Method Details).
    Either way `validation_fraction` of the training patients of each class become validation, never a patient of train;
    where the publisher has validation images of its own (column `validation`), they are taken instead. Raises
    `SplitError`, also for a patient-disjoint split of images whose patients are not known.
    """
    if kind == "patient-disjoint" and not catalogue.patients_known:
        raise SplitError(f"{catalogue.name} names no patients, so that no split is patient-disjoint: SPLIT=published")
    left_out = dropped(catalogue, kind)
    frame = catalogue.frame[~catalogue.frame["image_id"].isin(left_out["image_id"])].reset_index(drop=True)
    test = frame["published_split"] == "test"
    why = " once patients of the test folder are dropped" if len(left_out) else ""
    _require(catalogue, frame[~test], "training", why)
    _require(catalogue, frame[test], "test")
    if "validation" in frame:
        in_validation = frame["validation"].to_numpy(bool)
    else:
        validation = _validation_patients(frame[~test], catalogue.classes, validation_fraction, seed)
        in_validation = frame["patient_id"].isin(validation)
    names = np.select([test, in_validation], ["test", "validation"], "train")
    return Split(frame.assign(split=names), left_out, kind, seed)


def dropped(catalogue: Catalogue, kind: str) -> pd.DataFrame:
    """The training rows that a split of this kind leaves out, with `reason`. None for "published".

    For "patient-disjoint" they are the images of patients who are also in the test folder, and files that are in both
    folders byte for byte, whatever patient they name.
    """
    train, test = (catalogue.frame[catalogue.frame["published_split"] == part] for part in ("train", "test"))
    if kind == "published":
        train = train.head(0)
    patient, file = (train[column].isin(test[column]) for column in ("patient_id", "digest"))
    reason = np.where(patient, "the patient is in the test folder", "the same file is in the test folder")
    return train.assign(reason=reason)[patient | file].reset_index(drop=True)


def _require(catalogue: Catalogue, rows: pd.DataFrame, what: str, why: str = "") -> None:
    missing = [label for label in catalogue.classes if label not in set(rows["label"])]
    if missing:
        raise SplitError(f"{catalogue.name}: no {what} images of {', '.join(missing)}{why} under {catalogue.root}")


def _validation_patients(train: pd.DataFrame, classes: tuple[str, ...], fraction: float, seed: int) -> set[str]:
    """Patients for validation: of each class, at least one and never all. A patient's class is the most frequent one of
    his images; of equally frequent ones the first in `classes`."""
    images = train.groupby(["patient_id", "label"]).size().unstack(fill_value=0).reindex(columns=list(classes))
    of_class = images.fillna(0).idxmax(axis=1)
    chosen = draw_share(of_class, fraction, f"{seed}/validation")
    if not chosen:
        raise SplitError("no class has two training patients, so none can be kept for validation")
    return chosen


def hold_out(frame: pd.DataFrame, fraction: float, seed: int) -> pd.DataFrame:
    """The split frame with `fraction` of the training patients of each class moved to a fourth split, "held-out".

    They are of the published training folder, but neither trained nor validated on: what a model scores on them and on
    the test folder shows how far the two folders differ. Raises `SplitError` where no class has two patients.
    """
    train = frame[frame["split"] == "train"]
    chosen = _validation_patients(train, tuple(sorted(set(frame["label"]))), fraction, seed + 1)
    moved = (frame["split"] == "train") & frame["patient_id"].isin(chosen)
    return frame.assign(split=frame["split"].mask(moved, "held-out"))


def limited(frame: pd.DataFrame, per_class: int, seed: int) -> pd.DataFrame:
    """The split frame with `per_class` training images of each class, drawn at random, as the paper's limited model:
    "1,000 images randomly selected from each class during training".

    For one seed the draw for fewer images lies inside the draw for more. Validation and test stay whole: the learning
    curve's points then differ in what was learnt from alone (so with few images per class, more are validated on than
    learnt from). Raises `SplitError` naming the classes that have fewer images.
    """
    train = frame[frame["split"] == "train"]
    have = train["label"].value_counts().reindex(sorted(set(frame["label"])), fill_value=0)
    if len(short := have[have < per_class]):
        text = ", ".join(f"{label} ({n:,})" for label, n in short.items())
        raise SplitError(f"{per_class:,} training images per class were asked for, but there are fewer of {text}")
    names = train.groupby("label")["image_id"]
    drawn = {name for _, rows in names for name in shuffled(rows, f"{seed}/limited")[:per_class]}
    return frame[(frame["split"] != "train") | frame["image_id"].isin(drawn)].reset_index(drop=True)


def binary(frame: pd.DataFrame, positive: str, negative: str = "NORMAL") -> pd.DataFrame:
    """The rows of two classes in every split, for the paper's binary models. Raises `SplitError` where one has none."""
    kept = frame[frame["label"].isin((positive, negative))].reset_index(drop=True)
    for name, rows in kept.groupby("split"):
        missing = {positive, negative} - set(rows["label"])
        if missing:
            raise SplitError(f"{positive} against {negative}: no {name} images of {', '.join(sorted(missing))}")
    return kept


def leaks(frame: pd.DataFrame, patients_known: bool = True) -> pd.DataFrame:
    """What splits share, one row a pair of splits (`first`, `second`); of unknown patients nothing.

    `patients` is the number of patients in both, `images_first_by_patients` and `images_second_by_patients` the images
    of theirs in each; `digests` likewise counts files that are identical. Zero where nothing leaks.
    """
    rows, shared = [], {"patient_id": "patients", "digest": "digests"}
    if not patients_known:
        del shared["patient_id"]
    names = [name for name in ALL_SPLITS if name in SPLITS or name in set(frame["split"])]
    for first, second in combinations(names, 2):
        row: dict[str, str | int] = {"first": first, "second": second}
        for column, name in shared.items():
            a, b = (frame.loc[frame["split"] == which, column] for which in (first, second))
            row[name] = len(set(a) & set(b))
            row[f"images_first_by_{name}"], row[f"images_second_by_{name}"] = int(a.isin(b).sum()), int(b.isin(a).sum())
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass
class Source:
    """One of the data sets that the papers' STUDYs declare, with the settings it is loaded and split by."""

    name: str
    settings: Settings

    @cached_property
    def catalogue(self) -> Catalogue:
        """The images: drawn where they are phantoms that are not there yet, else looked for in `data_dir`.

        A catalogue of images from outside is kept, so that not every step makes it anew; its key changes when a file's
        content does, which is read where size or time changed.
        """
        load = resolve(data_function("load", self.name))
        if not resolve(data_function("places", self.name))(self.settings):
            return load(self.settings)
        key = step_key.__wrapped__(f"{self.name}_data", self.settings.whole)  # anew: a process may outlive its files
        place = digest_of([key, str(self.settings.data_dir)])
        store, warned = paths.CACHE / "catalogues" / f"{place}.pickle", []
        if not store.is_file():
            with collected_warnings(warned):
                found = load(self.settings)
            write_atomically(store, lambda file: file.write_bytes(pickle.dumps((found, warned))))
            return found
        found, warned = pickle.loads(store.read_bytes())
        for text in warned:
            warnings.warn(text, UserWarning, stacklevel=2)
        return found

    @cached_property
    def split(self) -> Split:
        """The catalogue's rows with their `split`, and those dropped; see `helpers.data.splits`."""
        return resolve(data_function("split", self.name))(self.catalogue, self.settings)

    @property
    def frame(self) -> pd.DataFrame:
        """The rows that are used, with their `split`."""
        return self.split.frame

    @property
    def description(self) -> tuple[bool, str]:
        """Whether these are the images of the paper, and a sentence for reports that says what they are."""
        if self.catalogue.phantom:
            return phantoms_described(self.catalogue)
        return resolve(data_function("describe", self.name))(self.catalogue)
