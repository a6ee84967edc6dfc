"""Target heads on frozen features: small softmax regressions, one a start, number of target images and draw of them.

Beyond the poster, which shows the winner alone: how well the target's classes are told apart from how many images, with
and without what the network learnt before. Every start gets the same draws, so that starts are compared in pairs.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from helpers.model.head import Head

ITERATIONS = 200  # of L-BFGS, at most
LEAST = 1e-3  # a feature's deviation below which it says nothing


def subjects(frame: pd.DataFrame, per_class: int, seed: int) -> list[str]:
    """Image ids of `per_class` training subjects of each class, one image of each, drawn by a hash of their names.

    "102 subjects [...] expanding this to 1122 images per class": eleven for a subject, so one image of each. For one
    seed a smaller draw lies inside a larger one. Raises `ValueError` where a class has fewer subjects.
    """
    drawn: list[str] = []
    for label, rows in frame[frame["split"] == "train"].groupby("label", sort=True):
        named = rows.assign(
            subject=[_place(seed, name) for name in rows["patient_id"]],
            image=[_place(seed, name) for name in rows["image_id"]],
        )
        first = named.sort_values(["subject", "image"]).drop_duplicates("patient_id")
        if len(first) < per_class:
            raise ValueError(f"{per_class} subjects of {label} were asked for; there are {len(first)} to learn from")
        drawn += first["image_id"].head(per_class).tolist()
    return drawn


def _place(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}/bridge/{name}".encode(), digest_size=16).digest()


def available(frame: pd.DataFrame) -> int:
    """Subjects of the smallest class that can be learnt from."""
    train = frame[frame["split"] == "train"]
    return int(train.groupby("label")["patient_id"].nunique().min())


def sizes_of(frame: pd.DataFrame, wanted: Sequence[int]) -> list[int]:
    """The numbers of target images a class that the data can give; for those they cannot, all there are, and a
    warning."""
    most = available(frame)
    sizes = [size for size in wanted if size <= most]
    if left := [size for size in wanted if size > most]:
        text = f"the grid has {most} images a class in the place of {', '.join(map(str, left))}: there are no more"
        warnings.warn(text, UserWarning, stacklevel=2)
        sizes += [most] if most not in sizes else []
    return sizes


def regression(
    features: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    held_out: tuple[np.ndarray, Sequence[str] | np.ndarray],
    classes: Sequence[str],
    penalties: Sequence[float],
) -> Head:
    """A softmax regression on float32 (n, d), its penalty the one with the lowest cross-entropy on `held_out`
    (validation features and labels); of equal ones the largest.

    Features are centred and scaled by the training rows, which the kept weights undo. A penalty counts times the sum
    of squared weights, beside the mean cross-entropy, as in `heads`. Raises `ValueError` for a class without images.
    """
    from sklearn.linear_model import LogisticRegression

    classes = tuple(classes)
    codes = np.array([classes.index(label) for label in labels])
    if missing := [name for code, name in enumerate(classes) if code not in codes]:
        raise ValueError(f"no images of {', '.join(missing)} to learn from")
    mean, spread = features.mean(axis=0), features.std(axis=0)
    spread = np.where(spread < LEAST * max(float(spread.max()), 1e-12), np.inf, spread)
    given, known = (features - mean) / spread, np.array([classes.index(label) for label in held_out[1]])
    model = LogisticRegression(max_iter=ITERATIONS, tol=1e-3, warm_start=True)
    found: list[tuple[float, float, Head]] = []
    for penalty in sorted(penalties, reverse=True):
        model.C = 1 / (2 * len(given) * max(penalty, 1e-12))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a path that is cut short by ITERATIONS is judged by validation as any
            model.fit(given, codes)
        head = _head(model, classes, mean, spread, penalty)
        chance = head.predict(held_out[0])[np.arange(len(known)), known]
        found.append((float(-np.log(np.maximum(chance, 1e-30)).mean()), -penalty, head))
    return min(found, key=lambda one: one[:2])[2]


def _head(model, classes: tuple[str, ...], mean: np.ndarray, spread: np.ndarray, penalty: float) -> Head:
    kernel, bias = model.coef_.T, model.intercept_
    if len(classes) == 2:  # one set of weights stands for both
        kernel, bias = np.hstack([-kernel / 2, kernel / 2]), np.array([-bias[0] / 2, bias[0] / 2])
    kernel = kernel / spread[:, None]
    return Head(classes, kernel.astype(np.float32), (bias - mean @ kernel).astype(np.float32), 0, float(penalty))


def grid(
    features: Mapping[str, np.ndarray],
    expanded: pd.DataFrame,
    draws: Sequence[tuple[int, int, list[str]]],
    classes: Sequence[str],
    penalties: Sequence[float],
) -> pd.DataFrame:
    """What every start's head says of the test images, after each draw.

    `features[start]` has a row a row of `expanded` (from `expansion.expand`); `draws` are (images a class, seed, image
    ids). Columns start, per_class, seed, penalty, image_id, patient_id, label and p_<class>.
    """
    split, parts = expanded["split"].to_numpy(), []
    labels = expanded["label"].to_numpy()
    validation, test = split == "validation", split == "test"
    shown = expanded.loc[test, ["image_id", "patient_id", "label"]].reset_index(drop=True)
    for start, values in features.items():
        for per_class, seed, names in draws:
            drawn = (split == "train") & expanded["parent"].isin(names).to_numpy()
            held_out = (values[validation], labels[validation])
            head = regression(values[drawn], labels[drawn], held_out, classes, penalties)
            given = pd.DataFrame(head.predict(values[test]), columns=[f"p_{label}" for label in classes])
            told = {"start": start, "per_class": per_class, "seed": seed, "penalty": head.l2}
            parts.append(pd.concat([shown.assign(**told), given], axis=1))
    return pd.concat(parts, ignore_index=True)
