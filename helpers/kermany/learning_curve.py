"""The learning curve: the same head on more and more training images, with and without pre-training below it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data.splits import limited
from helpers.metrics.auroc import auroc
from helpers.metrics.classification import accuracy, is_urgent, predicted_labels, urgent_score
from helpers.model.experiments import settings_of
from helpers.model.head import HeadSettings, train_head
from helpers.run.profile import Profile
from helpers.run.provenance import digest_of, read_json, write_atomically, write_json

VERSION = 1  # to be raised when the same settings would give other numbers


def draws(frame: pd.DataFrame, profile: Profile) -> list[tuple[int, int, pd.DataFrame]]:
    """(images a class, seed, rows) of every point: nested draws for one seed, other images for another.

    Sizes that the smallest class cannot give are left out, with a warning.
    """
    smallest = int(frame.loc[frame["split"] == "train", "label"].value_counts().min())
    sizes = [size for size in profile.curve_per_class if size <= smallest]
    if left := [f"{size:,}" for size in profile.curve_per_class if size > smallest]:
        text = f"the learning curve leaves out {', '.join(left)} images a class: the smallest class has {smallest:,}"
        warnings.warn(text, UserWarning, stacklevel=2)
    seeds = [profile.seed * 1000 + number for number in range(profile.curve_seeds)]
    return [(size, seed, limited(frame, size, seed)) for size in sizes for seed in seeds]


def learning_curve(
    points: list[tuple[int, int, pd.DataFrame]],
    features: Mapping[str, Callable[[], pd.DataFrame]],
    profile: Profile,
    folder: Path,
    made_from: str,
) -> pd.DataFrame:
    """Train a head a point and initialisation; test accuracy and AUROC of urgent referral, one row each.

    `features[initialisation]()` gives float32 features indexed by image id; it is called only where a point is
    missing. Each point is kept in folder/learning_curve under a key with `made_from` in it, so a killed curve goes on.
    """
    settings = replace(settings_of(profile), steps=profile.curve_steps, evaluate_every=10)
    rows = []
    for initialisation, get in features.items():
        loaded: list[pd.DataFrame] = []
        for size, seed, frame in points:
            key = digest_of(
                [VERSION, made_from, initialisation, size, seed, asdict(settings), sorted(frame["image_id"])]
            )
            kept = folder / "learning_curve" / f"{key}.json"
            if not kept.is_file():
                loaded = loaded or [get()]
                write_json(kept, _point(frame, loaded[0], replace(settings, seed=seed)))
            rows.append({"initialisation": initialisation, "per_class": size, "seed": seed, **read_json(kept)})
    table = pd.DataFrame(rows)
    write_atomically(folder / "learning_curve.csv", lambda file: table.to_csv(file, index=False))
    return table


def _point(frame: pd.DataFrame, features: pd.DataFrame, settings: HeadSettings) -> dict[str, float]:
    classes = tuple(c for c in ("CNV", "DME", "DRUSEN", "NORMAL") if c in set(frame["label"]))
    values = features.loc[frame["image_id"]].to_numpy(np.float32)
    head = train_head(values, frame["label"], frame["split"], classes, settings).by_validation
    test = (frame["split"] == "test").to_numpy()
    scores = pd.DataFrame(head.predict(values[test]), columns=[f"p_{label}" for label in classes])
    labels = frame.loc[test, "label"]
    return {
        "accuracy": accuracy(labels, predicted_labels(scores, classes)).value,
        "auroc": auroc(is_urgent(labels), urgent_score(scores)).value,
    }
