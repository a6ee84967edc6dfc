"""Does a map point at the lesion? Scores of one image each, then their means with intervals, by class and lesion size.

Kermany 2018, Occlusion Test: "The highest drop in the probability represents the region of interest that contributed
the highest importance"; table S3 counts the images whose region experts found to be the lesion. Here the lesion is a
mask, and the peak counts as right where a box of the occluder's size, centred on it, touches the mask: the pointing
game of Zhang et al. 2016 with the box as its tolerance. By chance that happens too, so the chance stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.metrics.bootstrap import mean_by_patient
from helpers.metrics.estimate import Estimate

if TYPE_CHECKING:
    from helpers.explain.maps import Maps

THRESHOLDS = 64  # of the map, tried for the best overlap
MEASURES = {  # column of `localisation`: what it is, for tables
    "hit": "localisation accuracy",
    "inside": "peak pixel inside the lesion",
    "mass": "share of the map inside the lesion",
    "iou": "overlap at the best threshold",
}


def importance(maps: np.ndarray) -> np.ndarray:
    """What speaks for the class: the maps (n, h, w) with all below 0 set to 0."""
    return np.clip(np.asarray(maps, np.float32), 0, None)


def localisation(
    maps: Maps | np.ndarray, masks: np.ndarray, box: int, window: int = 0, allowed: np.ndarray | None = None
) -> pd.DataFrame:
    """How well each map (n, h, w) points at its lesion, bool (n, h, w); one row an image, NaN where it has no lesion.

    `box` (pixels) is the side of the occluder. The peak is `extra["peak"]` where the maps carry it (occlusion: the
    centre of the box with the highest drop); else the map's own, averaged over a window of `window` pixels first, so
    that maps of single pixels, too, point at a region (0: as they are). A flat map hits nothing. `allowed`, bool
    (n, h, w), is where a guess would fall, such as the retina (everywhere where None). Columns:

    - `hit`: the box at the peak touches the lesion; `hit_by_chance`: share of the allowed places where it would;
    - `inside`: the peak pixel itself is in the lesion; `inside_by_chance`: likewise;
    - `mass`: share of the map's positive part in the lesion; `mass_by_chance`: the lesion's share of the allowed area;
    - `iou`: intersection over union with the lesion at the best of `THRESHOLDS` thresholds, the best for each image;
    - `area`: the lesion's pixels; `parts`: its pieces; `side`: the root of its largest piece's area, in pixels;
      `size_over_box`: `side` over `box`; `peak_row`, `peak_column`; `peak`: the map's highest value.
    """
    given = np.asarray(getattr(maps, "maps", maps), np.float32)
    masks = np.asarray(masks, bool)
    if given.shape != masks.shape or given.ndim != 3:
        raise ValueError(f"maps are {given.shape} and masks {masks.shape}; both must be (n, height, width)")
    if box < 1:
        raise ValueError(f"box = {box}; it must be at least 1 pixel")
    places = np.ones(masks.shape, bool) if allowed is None else np.asarray(allowed, bool)
    values, known = importance(given), getattr(maps, "extra", {}).get("peak")
    peaks = [peak_of(one, window) for one in values] if known is None else known
    smooth = [smoothed(one, window) for one in values]
    return pd.DataFrame([_one(*parts, box) for parts in zip(values, smooth, masks, places, peaks, strict=True)])


def _one(
    values: np.ndarray, smooth: np.ndarray, mask: np.ndarray, allowed: np.ndarray, peak: tuple[int, int], box: int
) -> dict[str, float]:
    from scipy.ndimage import label

    row, column = (int(at) for at in peak)
    found = {"peak_row": row, "peak_column": column, "peak": float(values.max()), "area": int(mask.sum())}
    if not mask.any():
        chances = ("hit_by_chance", "inside_by_chance", "mass_by_chance")
        return found | dict.fromkeys((*MEASURES, *chances, "side", "size_over_box"), np.nan) | {"parts": 0}
    near = touched(mask, box)
    allowed = allowed if allowed.any() else np.ones_like(allowed)
    pieces, count = label(mask)
    side = float(np.sqrt(np.bincount(pieces.ravel())[1:].max()))
    total = float(values.sum(dtype=float))
    points = np.ptp(values) > 0
    return found | {
        "hit": float(points and near[row, column]),
        "hit_by_chance": float(near[allowed].mean()),
        "inside": float(points and mask[row, column]),
        "inside_by_chance": float(mask[allowed].mean()),
        "mass": float(values[mask].sum(dtype=float) / total) if total > 0 else 0.0,
        "mass_by_chance": float(mask[allowed].mean()),
        "iou": best_overlap(smooth, mask),
        "parts": count,
        "side": side,
        "size_over_box": side / box,
    }


def peak_of(values: np.ndarray, window: int = 0) -> tuple[int, int]:
    """Row and column of the highest value of a map (h, w), averaged over `window` pixels; of equals, their middle.

    A flat map has no peak; its middle is the image's.
    """
    from scipy.ndimage import label

    smooth = smoothed(values, window)
    highest = smooth >= smooth.max() - 1e-9 * max(1.0, float(np.ptp(smooth)))
    pieces, count = label(highest)
    if count > 1:  # the largest plateau
        highest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    rows, columns = np.nonzero(highest)
    middle = np.array([rows.mean(), columns.mean()])
    nearest = int(np.argmin((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2))
    return int(rows[nearest]), int(columns[nearest])


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """The map (h, w) averaged over a window of `window` pixels; as it is for 0."""
    from scipy.ndimage import uniform_filter

    return uniform_filter(np.asarray(values, np.float64), window, mode="constant") if window else values


def touched(mask: np.ndarray, box: int) -> np.ndarray:
    """Where the middle of a box of `box` pixels may lie so that it touches the mask: bool (h, w)."""
    from scipy.ndimage import maximum_filter

    return maximum_filter(np.asarray(mask, bool), box, mode="constant")


def best_overlap(values: np.ndarray, mask: np.ndarray) -> float:
    """The largest intersection over union of the mask with the map cut at one of `THRESHOLDS` of its quantiles."""
    cuts = np.unique(np.quantile(values, np.linspace(0, 1, THRESHOLDS, endpoint=False)))
    inside, outside = np.sort(values[mask]), np.sort(values[~mask])
    both = len(inside) - np.searchsorted(inside, cuts, side="right")
    false = len(outside) - np.searchsorted(outside, cuts, side="right")
    return float((both / (mask.sum() + false)).max())


def means(
    frame: pd.DataFrame,
    columns: Iterable[str],
    by: Sequence[str] = (),
    *,
    resamples: int = 2000,
    seed: int = 1,
    bounds: tuple[float, float] | None = (0.0, 1.0),
    total: str = "",
) -> pd.DataFrame:
    """The mean of each column, with its 95 % interval by patient, in each group: columns of `by`, measure, value, low,
    high, n, method, note.

    `frame` has one row an image and `patient_id`; rows where a column is NaN do not count for it. `total` names a last
    group of all rows ("all") where `by` is one column.
    """
    groups = [((), frame)] if not by else list(frame.groupby(list(by), sort=False, observed=True))
    if total and len(by) == 1:
        groups.append(((total,), frame))
    rows = []
    for names, part in groups:
        for column in columns:
            found = mean_of(part, column, resamples=resamples, seed=seed, bounds=bounds)
            rows.append(dict(zip(by, names, strict=True)) | {"measure": column} | found.as_dict())
    return pd.DataFrame(rows)


def mean_of(
    frame: pd.DataFrame,
    column: str,
    *,
    resamples: int = 2000,
    seed: int = 1,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> Estimate:
    """The mean of one column of an image each, with its 95 % interval by patient; NaN rows do not count."""
    known = frame[frame[column].notna()]
    values, patients = known[column].to_numpy(float), known["patient_id"].to_numpy()
    return mean_by_patient(values, patients, resamples, seed, bounds)


def size_bins(sizes: pd.Series, bins: int = 4) -> pd.Series:
    """Each size's quantile bin as text, '0.31 to 0.62', ordered; fewer bins where sizes are equal."""
    if sizes.notna().sum() < bins:
        bins = max(1, int(sizes.notna().sum()))
    cut, edges = pd.qcut(sizes, bins, retbins=True, duplicates="drop")
    names = [f"{low:.2g} to {high:.2g}" for low, high in zip(edges, edges[1:], strict=False)]
    return cut.cat.rename_categories(names)


def table_s3(frame: pd.DataFrame, order: Sequence[str], **options) -> tuple[pd.DataFrame, dict[str, Estimate]]:
    """Table S3: localisation accuracy of each class of `order` and of all, and the estimates by name ("all" the last).

    Beside it stands what a guess would get (`hit_by_chance`), so that easy targets are not taken for good maps.
    """
    found = {name: mean_of(frame[frame["label"] == name], "hit", **options) for name in order}
    found["all"] = mean_of(frame[frame["label"].isin(list(order))], "hit", **options)
    rows = []
    for name, estimate in found.items():
        part = frame[frame["label"].isin(list(order))] if name == "all" else frame[frame["label"] == name]
        rows.append(
            {
                "class": name,
                "images": estimate.n,
                "localisation accuracy": estimate.value,
                "low": estimate.low,
                "high": estimate.high,
                "by chance": part["hit_by_chance"].mean(),
                "lesion size over box (median)": part["size_over_box"].median(),
                "highest mean drop (median)": part["peak"].median(),
                "interval": estimate.method,
            }
        )
    return pd.DataFrame(rows), found
