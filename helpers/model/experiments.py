"""Kermany's named experiments on bottlenecks: rows, head and scores, each kept under a key of all that made it."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from helpers.data.splits import SPLITS, binary, limited
from helpers.model.head import Head, HeadRun, HeadSettings, train_head
from helpers.run.profile import Profile, ProfileError, nearest
from helpers.run.provenance import digest_of, read_json, write_json

DISEASES = {"cnv_normal": "CNV", "dme_normal": "DME", "drusen_normal": "DRUSEN"}
CLASSES = {  # experiments that train one head, and what each tells apart, in the order of its scores
    "multiclass": ("CNV", "DME", "DRUSEN", "NORMAL"),
    "limited": ("CNV", "DME", "DRUSEN", "NORMAL"),
    **{name: (disease, "NORMAL") for name, disease in DISEASES.items()},
    "pneumonia": ("PNEUMONIA", "NORMAL"),  # Kermany 2018, figures 6A, B and E
    "bacteria_virus": ("BACTERIA", "VIRUS"),  # figures 6C, D and F
    "referral": ("NORMAL", "BACTERIA", "VIRUS"),  # beyond the paper: urgent, supportive and observation in one
}
HEADS = tuple(CLASSES)
VERSION = 1  # to be raised when the same settings would give other numbers


@dataclass(frozen=True)
class Experiment:
    """A trained head with what it was trained from and what it says.

    `scores` has a row an image not trained on (validation, test and, of radiographs, "held-out") and selection:
    image_id, patient_id, label, split, selection ("validation": the head chosen on validation patients; "test":
    chosen on the test set, as the paper did), and p_<class> in the order of `classes`. `history`: step, split,
    accuracy, cross_entropy, of the chosen penalty.
    """

    name: str
    key: str
    classes: tuple[str, ...]
    scores: pd.DataFrame
    history: pd.DataFrame
    head: Head
    head_by_test: Head

    @property
    def chosen_step(self) -> int:
        """The step whose head validation chose."""
        return self.head.step

    def step_of(self, selection: str) -> int:
        return {"validation": self.head, "test": self.head_by_test}[selection].step

    def told(self) -> dict[str, Any]:
        """What the report says of it."""
        return {"key": self.key, "chosen step": self.head.step, "weight penalty": self.head.l2}


def settings_of(profile: Profile) -> HeadSettings:
    """The head's recipe, as the profile has it."""
    return HeadSettings(
        steps=profile.head_steps,
        batch=profile.head_batch,
        learning_rate=profile.head_learning_rate,
        evaluate_every=profile.head_evaluate_every,
        l2=profile.head_l2,
        standardise=profile.head_standardise,
        seed=profile.seed,
    )


def rows_of(name: str, frame: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """The rows of the split frame that an experiment uses. Raises `ProfileError` for an unknown name."""
    if name in ("multiclass", "referral"):
        return frame
    if name == "pneumonia":
        return frame.assign(label=frame["label"].replace({"BACTERIA": "PNEUMONIA", "VIRUS": "PNEUMONIA"}))
    if name == "bacteria_virus":
        return binary(frame, "BACTERIA", "VIRUS")
    if name == "limited":
        return limited(frame, _affordable(frame, profile.limited_per_class), profile.seed)
    if name in DISEASES:
        return binary(frame, DISEASES[name])
    raise ProfileError(f"there is no experiment '{name}'{nearest(name, HEADS)}")


def run_experiment(name: str, frame: pd.DataFrame, features: np.ndarray, profile: Profile, folder: Path) -> Experiment:
    """The experiment in folder/name: loaded where its key is the same, else trained and put there whole.

    `features` are float32 (n, d), row by row as `frame`, which has `split`.
    """
    rows = rows_of(name, frame, profile)
    used = features[frame["image_id"].isin(rows["image_id"]).to_numpy()]
    classes = CLASSES[name]
    settings = settings_of(profile)
    key = digest_of([VERSION, name, classes, asdict(settings), _content(rows, used)])
    place = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):  # a notebook opened alone may ask for what a run is just training
        if not (place / "experiment.json").is_file() or read_json(place / "experiment.json")["key"] != key:
            with whole_folder(place) as fresh:
                learnt = rows["split"].isin(SPLITS).to_numpy()
                learnt_from = (used[learnt], rows.loc[learnt, "label"], rows.loc[learnt, "split"])
                trained = train_head(*learnt_from, classes, settings, fresh / "tensorboard")
                _save(fresh, name, key, rows, used, trained)
        return load_experiment(folder, name)


def load_experiment(folder: Path, name: str) -> Experiment:
    """An experiment kept in folder/name. Raises `FileNotFoundError` where it has not been run."""
    place = folder / name
    said = read_json(place / "experiment.json")
    heads = [Head.load(place / f"{file}.npz") for file in ("head", "head_by_test")]
    tables = [pd.read_parquet(place / f"{file}.parquet") for file in ("scores", "history")]
    return Experiment(name, said["key"], tuple(said["classes"]), *tables, *heads)


def _affordable(frame: pd.DataFrame, per_class: int) -> int:
    """`per_class`, or what the smallest class has, with a warning: a small subset of the data has fewer."""
    smallest = int(frame.loc[frame["split"] == "train", "label"].value_counts().min())
    if smallest < per_class:
        text = f"the limited model has {smallest:,} training images a class instead of {per_class:,}: there are no more"
        warnings.warn(text, UserWarning, stacklevel=3)
    return min(per_class, smallest)


def _content(rows: pd.DataFrame, features: np.ndarray) -> str:
    """A digest of what is learnt from: names, labels and splits, and the features' bytes."""
    digest = hashlib.blake2b(rows[["image_id", "patient_id", "label", "split"]].to_csv(index=False).encode())
    for first in range(0, len(features), 8192):  # in blocks, so that a memory-mapped array stays on disk
        digest.update(np.ascontiguousarray(features[first : first + 8192]))
    return digest.hexdigest()[:32]


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """A fresh folder that takes `place` at the end, or leaves nothing when something fails before it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-", ignore_cleanup_errors=True) as name:
        fresh = Path(name) / place.name
        fresh.mkdir()
        yield fresh
        if place.exists():
            shutil.rmtree(place)
        fresh.replace(place)


def scores_of(rows: pd.DataFrame, given: np.ndarray, classes: Sequence[str], selection: str) -> pd.DataFrame:
    """The scores frame (see `Experiment`) of these rows, for probabilities (n, k) in the order of `classes`."""
    kept = rows[["image_id", "patient_id", "label", "split"]].reset_index(drop=True).assign(selection=selection)
    return pd.concat([kept, pd.DataFrame(given, columns=[f"p_{label}" for label in classes])], axis=1)


def _save(place: Path, name: str, key: str, rows: pd.DataFrame, features: np.ndarray, trained: HeadRun) -> None:
    held_out = (rows["split"] != "train").to_numpy()
    parts = [
        scores_of(rows[held_out], head.predict(features[held_out]), head.classes, selection)
        for selection, head in (("validation", trained.by_validation), ("test", trained.by_test))
    ]
    pd.concat(parts, ignore_index=True).to_parquet(place / "scores.parquet", index=False)
    history = trained.history[trained.history["l2"] == trained.by_validation.l2]
    history.reset_index(drop=True).to_parquet(place / "history.parquet", index=False)
    trained.by_validation.save(place / "head.npz")
    trained.by_test.save(place / "head_by_test.npz")
    write_json(place / "experiment.json", {"name": name, "key": key, "classes": trained.by_validation.classes})
