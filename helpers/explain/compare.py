"""Methods beside each other on the same images: one table of scores, and localisation against the lesion's size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.explain.curves import deletion_insertion
from helpers.explain.retina import frame_of, share_within
from helpers.explain.scores import localisation, mean_of, means, touched

if TYPE_CHECKING:
    from helpers.explain.cases import Cases
    from helpers.explain.classifier import Classifier, Predictor
    from helpers.explain.maps import Maps

MEASURES = ("hit", "mass", "iou", "deletion", "insertion", "on retina")


def localised(maps: Maps, cases: Cases, box: int) -> pd.DataFrame:
    """`scores.localisation` of these maps, with label and patient_id; chance is a guess on the retina.

    Maps of single pixels are averaged over the box first, since the question is which region they point at.
    """
    window = 0 if "peak" in maps.extra else box
    found = localisation(maps, cases.masks, box, window, cases.retina)
    return found.assign(label=cases.labels, patient_id=cases.patients, image_id=cases.rows["image_id"].to_numpy())


def compare_methods(
    methods: Mapping[str, Maps],
    cases: Cases,
    classifier: Classifier,
    box: int,
    *,
    predict: Predictor | None = None,
    steps: int = 16,
    resamples: int = 2000,
    seed: int = 1,
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Scores of each method on the same images, with intervals by patient, and the deletion and insertion curves.

    The table has explainer, measure (`MEASURES`), value, low, high, n, method, note, seconds (an image). A last row of
    each measure, "a guess", is chance: a place on the retina for `hit`, the lesion's share of the retina for `mass`,
    pixels in random order for deletion and insertion, the retina's share of the image for `on retina`.
    """
    run = predict or classifier.predictor()
    tables, curves = [], {}
    for name, maps in methods.items():
        frame = localised(maps, cases, box)
        areas, curves[name] = deletion_insertion(classifier, cases.images, maps, steps=steps, predict=run)
        frame = pd.concat([frame, areas], axis=1).assign(**{"on retina": share_within(maps.maps, cases.retina)})
        seconds = maps.seconds / len(maps.maps)
        tables.append(means(frame, MEASURES, resamples=resamples, seed=seed).assign(explainer=name, seconds=seconds))
    areas, curves["random order"] = deletion_insertion(
        classifier, cases.images, maps, steps=steps, predict=run, random_order=seed
    )
    guess = frame.assign(hit=frame["hit_by_chance"], mass=frame["mass_by_chance"], iou=np.nan, **areas)
    guess["on retina"] = cases.retina.mean(axis=(1, 2))
    tables.append(means(guess, MEASURES, resamples=resamples, seed=seed).assign(explainer="a guess", seconds=0.0))
    columns = ["explainer", "measure", "value", "low", "high", "n", "method", "note", "seconds"]
    return pd.concat(tables, ignore_index=True)[columns], curves


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """The table for reading: a row an explainer, a column a measure, '0.83 (0.67 to 0.96)'."""

    def words(row: pd.Series) -> str:
        return "" if np.isnan(row["value"]) else f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"

    said = table.assign(words=table.apply(words, axis=1))
    read = said.pivot(index="explainer", columns="measure", values="words").reindex(columns=list(MEASURES))
    seconds = table.groupby("explainer")["seconds"].first()
    return read.loc[table["explainer"].unique()].assign(**{"seconds an image": seconds.round(3)})


def size_curve(
    frames: Mapping[int, pd.DataFrame], bins: int = 5, *, resamples: int = 2000, seed: int = 1
) -> pd.DataFrame:
    """Localisation accuracy against the lesion's size over the box's: one curve a box, in quantile bins of that ratio.

    `frames[box]` is what `localised` gives for that box. Columns: box, centre (the bin's median), value, low, high, n,
    method, note, chance (a guess on the retina), drop (the bin's median of the map's highest value).
    """
    rows = []
    for box, frame in frames.items():
        known = frame[frame["size_over_box"].notna()]
        if known.empty:
            continue
        bin_of = pd.qcut(known["size_over_box"].rank(method="first"), min(bins, len(known)), labels=False)
        for _, part in known.groupby(bin_of):
            found = mean_of(part, "hit", resamples=resamples, seed=seed)
            middle = {"box": box, "centre": part["size_over_box"].median()}
            beside = {"chance": part["hit_by_chance"].mean(), "drop": part["peak"].median()}
            rows.append(middle | found.as_dict() | beside)
    columns = ["box", "centre", "value", "low", "high", "n", "method", "note", "chance", "drop"]
    return pd.DataFrame(rows, columns=columns)


def by_class(frame: pd.DataFrame, *, resamples: int = 2000, seed: int = 1) -> pd.DataFrame:
    """Each class's localisation accuracy beside its median lesion size over the box: label, size_over_box, value, low,
    high, n.
    """
    rows = []
    for label, part in frame[frame["hit"].notna()].groupby("label"):
        found = mean_of(part, "hit", resamples=resamples, seed=seed)
        rows.append({"label": label, "size_over_box": part["size_over_box"].median()} | found.as_dict())
    return pd.DataFrame(rows, columns=["label", "size_over_box", "value", "low", "high", "n", "method", "note"])


def reasons(
    frame: pd.DataFrame, cases: Cases, box: int, *, resamples: int = 2000, seed: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a lesion is to the box, by class: (a row an image, a row a class and measure with its interval).

    `frame` is what `localised` gives for these cases. Measures: `size_over_box`; `hidden`, the largest share of the
    lesion that one box can cover; `contrast`, how much brighter the lesion is than the tissue around it, in grey
    levels (negative: darker, as a black box is); `drop`, the map's highest value; `on_retina` and `on_frame`, whether
    the box with the highest drop is centred between the retina's borders or touches the white frame; and `hit` itself.
    Images without a lesion are left out.
    """
    pairs = zip(cases.images, cases.masks, strict=True)
    told = [_lesion(image, mask, box) for image, mask in pairs]
    known = frame.assign(
        hidden=[one[0] for one in told], contrast=[one[1] for one in told], drop=frame["peak"].to_numpy(float)
    )
    peaks = list(zip(frame["peak_row"].astype(int), frame["peak_column"].astype(int), strict=True))
    known["on_retina"] = [float(one[peak]) for one, peak in zip(cases.retina, peaks, strict=True)]
    known["on_frame"] = [float(_near_frame(one, peak, box)) for one, peak in zip(cases.images, peaks, strict=True)]
    known = known[known["hit"].notna()].reset_index(drop=True)
    names = ["size_over_box", "hidden", "contrast", "drop", "on_retina", "on_frame", "hit"]
    if known.empty:
        return known, pd.DataFrame(columns=["label", "measure", "value", "low", "high", "n", "method", "note"])
    return known, means(known, names, ["label"], resamples=resamples, seed=seed, bounds=None)


def _near_frame(image: np.ndarray, peak: tuple[int, int], box: int) -> bool:
    return bool(touched(frame_of(image), box)[peak])


def _lesion(image: np.ndarray, mask: np.ndarray, box: int) -> tuple[float, float]:
    """The largest share of the lesion (h, w) that a box covers, and its grey level less that of the rim around it."""
    from scipy.ndimage import binary_dilation, uniform_filter

    if not mask.any():
        return np.nan, np.nan
    covered = uniform_filter(mask.astype(np.float64), box, mode="constant") * box**2
    rim = binary_dilation(mask, iterations=max(2, box // 2)) & ~binary_dilation(mask, iterations=1)
    contrast = float(image[mask].mean()) - float(image[rim].mean()) if rim.any() else np.nan
    return min(1.0, float(covered.max() / mask.sum())), contrast
