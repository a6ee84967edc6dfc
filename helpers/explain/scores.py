"""How good are maps? Whether they point at the lesion, follow the network's answer, agree, and depend on the weights.

Kermany 2018, Occlusion Test: "The highest drop in the probability represents the region of interest that contributed
the highest importance". Here the lesion is a mask, and the peak counts as a hit where a box of the occluder's size,
centred on it, touches the mask: the pointing game of Zhang et al. 2016 with the box as its tolerance. By chance that
happens too, so the chance stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter, label, maximum_filter, uniform_filter
from scipy.stats import norm, spearmanr

from helpers.data.masks import Masks
from helpers.explain.maps import Cases, Classifier, Maps, from_logits
from helpers.metrics.by_patient import Clustered, by_training, clustered_mean
from helpers.metrics.comparison import holm
from helpers.metrics.estimate import FIELDS
from helpers.model.engine import Function

THRESHOLDS = 64  # of the map, tried for the best overlap
STEPS = 16  # of deletion and insertion
BLUR = 0.06  # standard deviation of the blur that stands for "no detail", as a share of the image's side
MEASURES = ("hit", "mass", "iou", "deletion", "insertion", "on retina")  # of `compare_methods`
# Of `against_baseline`, with the column of `localisation` that holds each one's chance: all of the image has its share
# of the finding as its overlap.
LOCATED = {"hit": "hit_by_chance", "mass": "mass_by_chance", "iou": "mass_by_chance"}
LOCATED |= {"mass within lungs": "mass within lungs_by_chance"}  # where the lungs are known, too
TOLERANCE = 15 / 224  # of the image's side: how far beside the finding a peak may lie, as in Zhang et al. 2016


def importance(maps: np.ndarray) -> np.ndarray:
    """What speaks for the class: the maps (n, h, w) with all below 0 set to 0."""
    return np.clip(np.asarray(maps, np.float32), 0, None)


def localisation(
    maps: Maps, masks: np.ndarray, box: int, window: int = 0, allowed: np.ndarray | None = None
) -> pd.DataFrame:
    """How well each map (n, h, w) points at its lesion, bool (n, h, w); one row per image, NaN where it has no lesion.

    `box` (pixels) is the side of the occluder. The peak is `extra["peak"]` where the maps carry it (occlusion: the
    centre of the box with the highest drop); else the map's own, averaged over a window of `window` pixels first, so
    that maps of single pixels, too, point at a region (0: as they are). A flat map hits nothing. `allowed`, bool
    (n, h, w), is where a guess would fall, such as the retina (everywhere where None). Columns:

    - `hit`: the box at the peak touches the lesion; `hit_by_chance`: share of the allowed places where it would;
    - `mass`: share of the map's positive part in the lesion; `mass_by_chance`: the lesion's share of the allowed area;
    - `iou`: intersection over union with the lesion at the best of `THRESHOLDS` thresholds, the best for each image;
    - `size_over_box`: the root of the area of the lesion's largest piece over `box`; `peak_row`, `peak_column`;
      `peak`: the map's highest value.
    """
    masks = np.asarray(masks, bool)
    places = np.ones(masks.shape, bool) if allowed is None else np.asarray(allowed, bool)
    values = importance(maps.maps)
    peaks = maps.extra.get("peak")
    peaks = [peak_of(one, window) for one in values] if peaks is None else peaks
    return pd.DataFrame([_localised(*parts, window, box) for parts in zip(values, masks, places, peaks, strict=True)])


def _localised(
    values: np.ndarray, mask: np.ndarray, allowed: np.ndarray, peak: Sequence[int], window: int, box: int
) -> dict[str, float]:
    row, column = (int(at) for at in peak)
    found = {"peak_row": row, "peak_column": column, "peak": float(values.max())}
    if not mask.any():
        return found | dict.fromkeys(("hit", "hit_by_chance", "mass", "mass_by_chance", "iou", "size_over_box"), np.nan)
    near, total = touched(mask, box), float(values.sum(dtype=float))
    allowed = allowed if allowed.any() else np.ones_like(allowed)
    return found | {
        "hit": float(np.ptp(values) > 0 and near[row, column]),
        "hit_by_chance": float(near[allowed].mean()),
        "mass": float(values[mask].sum(dtype=float) / total) if total > 0 else 0.0,
        "mass_by_chance": float(mask[allowed].mean()),
        "iou": best_overlap(smoothed(values, window), mask),
        "size_over_box": float(np.sqrt(np.bincount(label(mask)[0].ravel())[1:].max())) / box,
    }


def peak_of(values: np.ndarray, window: int = 0) -> tuple[int, int]:
    """Row and column of the highest value of a map (h, w), averaged over `window` pixels; of equals, their middle.

    A flat map has no peak; its middle is the image's.
    """
    smooth = smoothed(values, window)
    highest = smooth >= smooth.max() - 1e-9 * max(1.0, float(np.ptp(smooth)))
    pieces, count = label(highest)
    if count > 1:  # the largest plateau
        highest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    places = np.argwhere(highest)
    row, column = places[np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1))]
    return int(row), int(column)


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """The map (h, w) averaged over a window of `window` pixels; unchanged for 0."""
    return uniform_filter(np.asarray(values, np.float64), window, mode="constant") if window else values


def touched(mask: np.ndarray, box: int) -> np.ndarray:
    """Where the middle of a box of `box` pixels may lie so that it touches the mask: bool (h, w)."""
    return maximum_filter(np.asarray(mask, bool), box, mode="constant")


def best_overlap(values: np.ndarray, mask: np.ndarray) -> float:
    """The largest intersection over union of the mask with the map cut at one of `THRESHOLDS` of its quantiles."""
    cuts = np.unique(np.quantile(values, np.linspace(0, 1, THRESHOLDS, endpoint=False)))
    inside, outside = np.sort(values[mask]), np.sort(values[~mask])
    both = len(inside) - np.searchsorted(inside, cuts, side="right")
    false = len(outside) - np.searchsorted(outside, cuts, side="right")
    return float((both / (mask.sum() + false)).max())


def share_within(maps: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Share of each map's positive part, (n, h, w), in the region, bool (n, h, w): (n,), NaN where the map is flat."""
    kept = importance(maps)
    total = kept.sum(axis=(1, 2), dtype=float)
    inside = (kept * region).sum(axis=(1, 2), dtype=float)
    return np.divide(inside, total, out=np.full(len(kept), np.nan), where=total > 0)


def localised(maps: Maps, cases: Cases, box: int) -> pd.DataFrame:
    """`localisation` of these maps, with label, patient_id and image_id; chance is a guess on the retina.

    Maps of single pixels are averaged over the box first, since the question is which region they point at.
    """
    found = localisation(maps, cases.masks, box, 0 if "peak" in maps.extra else box, cases.retina)
    return found.assign(label=cases.labels, patient_id=cases.patients, image_id=cases.rows["image_id"].to_numpy())


def means(
    frame: pd.DataFrame,
    columns: Iterable[str],
    by: Sequence[str] = (),
    *,
    total: str = "",
    beside: Mapping[str, tuple[str, str]] | None = None,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> pd.DataFrame:
    """The mean of each column, with its 95 % interval by patient, in each group: columns of `by`, measure, value, low,
    high, n, method, note, and those of `beside`.

    `frame` has one row per image and `patient_id`, and where several networks are asked one per `seed` (see
    `by_training`); NaN rows do not count. `total` names a last group of all rows
    ("all") where `by` is one column. `beside[name]` is a column and how pandas sums it up within the group ("median").
    """
    beside, rows = beside or {}, []
    groups = list(frame.groupby(list(by), sort=False, observed=True)) if by else [((), frame)]
    if total:
        groups.append(((total,), frame))
    for names, part in groups:
        summary = {name: part[column].agg(how) for name, (column, how) in beside.items()}
        for column in columns:
            found = _mean(part, column, bounds).estimate()
            rows.append({**dict(zip(by, names, strict=True)), "measure": column, **found.as_dict(), **summary})
    return pd.DataFrame(rows, columns=[*by, "measure", *FIELDS, *beside])


def _mean(frame: pd.DataFrame, column: str, bounds: tuple[float, float] | None) -> Clustered:
    def of_training(part: pd.DataFrame) -> dict[str, Clustered]:
        return {column: clustered_mean(part[column].to_numpy(float), part["patient_id"], bounds)}

    return by_training(frame[frame[column].notna()], of_training)[column]


def share_in_lungs(maps: Sequence[np.ndarray], lungs: Masks) -> pd.DataFrame:
    """Share of the positive part of each training's maps, (n, h, w), that lies in the lungs of `lungs`, whose rows they
    are of; the lungs' share of the image, which even attention would give; and the difference. By label, and for "all".

    Columns label, measure ("inside", "area", "difference") and those of `means`; flat maps have no share.
    """
    rows = lungs.rows[["label", "patient_id"]].assign(area=lungs.pixels.mean(axis=(1, 2)))
    each = pd.concat([rows.assign(inside=share_within(one, lungs.pixels), seed=k) for k, one in enumerate(maps)])
    each = each.assign(difference=each["inside"] - each["area"]).dropna()
    shares = means(each, ["inside", "area"], ["label"], total="all")
    differences = means(each, ["difference"], ["label"], total="all", bounds=(-1.0, 1.0))
    return pd.concat([shares, differences], ignore_index=True)


def point(maps: Maps, masks: np.ndarray, lungs: np.ndarray | None = None) -> pd.DataFrame:
    """`localisation` where a peak may lie beside the finding by `TOLERANCE`. With `lungs`, bool like the masks (empty
    where they are not known), also of what the map shows in the lungs alone: "mass within lungs", and its chance.
    """
    window = max(1, round(TOLERANCE * masks.shape[1]))
    found = localisation(maps, masks, 2 * window + 1, window)
    if lungs is None:
        return found
    inside = {"mass within lungs": maps.maps, "mass within lungs_by_chance": np.ones(maps.maps.shape, np.float32)}
    return found.assign(**{name: share_within(values * lungs, masks) for name, values in inside.items()})


def middle_of(regions: np.ndarray) -> Maps:
    """A guess that looks at no image: a bell over the middle of each region, bool (n, h, w), as wide as it is."""
    bells = []
    for region in regions:
        places = np.argwhere(region)
        sides = zip(region.shape, places.mean(axis=0), places.std(axis=0), strict=True)
        bells.append(np.outer(*(norm.pdf(np.arange(side), middle, wide) for side, middle, wide in sides)))
    return Maps(np.array(bells, np.float32), "the middle", "share", 0.0)


def against_baseline(found: Mapping[str, pd.DataFrame], baseline: str) -> pd.DataFrame:
    """How well maps of the same images point at what people marked, beside chance and a baseline that is one of them.

    `found[name]` is the table of `localisation` with label and patient_id, the same rows for every name. Columns: map,
    label ("all" the last), measure (`LOCATED`), value, low, high, n, method, note, chance, and the mean difference from
    the baseline on the same images with its interval: difference, difference_low, difference_high; and its p, the
    labels and measures of a map being one family of tests (`p_holm`, without "all").
    """
    tables = []
    for (name, each), (measure, chance) in product(found.items(), LOCATED.items()):
        if measure not in each:
            continue
        gained = each.assign(gain=each[measure] - found[baseline][measure])
        table = means(each, [measure], ["label"], total="all", beside={"chance": (chance, "mean")})
        gain = means(gained, ["gain"], ["label"], total="all", bounds=(-1.0, 1.0))
        columns = {"value": "difference", "low": "difference_low", "high": "difference_high"}
        parts = [*(part for _, part in gained.groupby("label", sort=False, observed=True)), gained]
        gain = (
            gain[list(columns)].rename(columns=columns).assign(p=[_mean(part, "gain", (-1.0, 1.0)).p for part in parts])
        )
        tables.append(table.join(gain if name != baseline else np.nan * gain).assign(map=name))
    table = pd.concat(tables, ignore_index=True)
    single = table["p"].where(table["label"] != "all")
    return table.assign(p_holm=single.groupby(table["map"]).transform(holm))


def deletion_insertion(
    images: np.ndarray, codes: np.ndarray, maps: np.ndarray, predict: Function, random_order: int | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Deletion and insertion (Petsiuk et al. 2018): the areas of each image, and the curves.

    From the most important pixel on, 1/`STEPS` of the pixels at a time are replaced by the blurred image (`deletion`),
    or brought back into the blurred image (`insertion`), and the probability of class `codes`, int (n,), is asked.
    The areas, `deletion` (low is good) and `insertion` (high is good), are means of the probability over the path, one
    row per image; the curves have image (its position), share (of pixels changed), deletion, insertion. No mask is
    needed, but an image with holes is unlike any training image: with `random_order`, a seed, pixels go in random
    order instead, which shows what the holes alone do.
    """
    shares, parts = np.linspace(0, 1, STEPS + 1), []
    for i, image in enumerate(images):
        order = _order(maps[i], None if random_order is None else random_order + i)
        chance = predict(_paths(image, order, shares))[:, codes[i]].reshape(2, -1)
        parts.append(pd.DataFrame({"image": i, "share": shares, "deletion": chance[0], "insertion": chance[1]}))
    areas = {
        name: [float(np.trapezoid(part[name], part["share"])) for part in parts] for name in ("deletion", "insertion")
    }
    return pd.DataFrame(areas), pd.concat(parts, ignore_index=True)


def _order(values: np.ndarray, seed: int | None) -> np.ndarray:
    """Rank of each pixel (h, w), 0 for the most important; equals in a fixed random order, all with a `seed`."""
    random = np.random.default_rng(seed or 0).random(values.size)
    important = np.zeros(values.size) if seed is not None else -values.ravel().astype(np.float64)
    return np.lexsort((random, important)).argsort().reshape(values.shape)


def _paths(image: np.ndarray, order: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The images along both ways, deletion first, uint8 (2 (steps + 1), h, w)."""
    blank = np.round(gaussian_filter(image.astype(np.float32), BLUR * len(image))).astype(np.uint8)
    changed = order < np.round(shares * order.size)[:, None, None]
    return np.concatenate([np.where(changed, blank, image), np.where(changed, image, blank)])


def compare_methods(
    trained: Sequence[Mapping[str, Maps]], cases: Cases, classifiers: Sequence[Classifier], box: int
) -> tuple[pd.DataFrame, dict[str, pd.DataFrame]]:
    """Scores of each method on the same images, by patient and over the trainings (`trained` has the maps of each of
    the `classifiers`), and the deletion and insertion curves of all of them.

    The table has explainer, measure (`MEASURES`), value, low, high, n, method, note, seconds (per image). A last row of
    each measure, "a guess", is chance: a place on the retina for `hit`, the lesion's share of the retina for `mass`,
    pixels in random order for deletion and insertion, the retina's share of the image for `on retina`.
    """
    asked = (cases.images, classifiers[0].codes(cases.labels, len(cases.images)))
    frames, curves = [], []
    for seed, (methods, classifier) in enumerate(zip(trained, classifiers, strict=True)):
        predict = classifier.predictor()
        for name, maps in methods.items():
            areas, curve = deletion_insertion(*asked, maps.maps, predict)
            scored = {"on retina": share_within(maps.maps, cases.retina), "seconds": maps.seconds / len(maps.maps)}
            frames.append(localised(maps, cases, box).assign(explainer=name, seed=seed, **scored, **areas))
            curves.append(curve.assign(method=name))
        areas, curve = deletion_insertion(*asked, maps.maps, predict, 1)
        curves.append(curve.assign(method="random order"))
        guess = frames[-1].assign(explainer="a guess", seconds=0.0, iou=np.nan, **areas)
        guess = guess.assign(hit=guess["hit_by_chance"], mass=guess["mass_by_chance"])
        frames.append(guess.assign(**{"on retina": cases.retina.mean(axis=(1, 2))}))
    seconds = {"seconds": ("seconds", "max")}
    table = means(pd.concat(frames), MEASURES, ["explainer"], beside=seconds)
    every = pd.concat(curves).set_index("method")
    return table, {name: every.loc[name].reset_index(drop=True) for name in every.index.unique()}


def randomised(classifier: Classifier, seed: int = 1) -> Classifier:
    """The same network with its weights shuffled within each array, from `seed`.

    Adebayo et al. 2018, "Sanity checks for saliency maps": a method whose map stays the same shows the image's edges,
    not the network's reasons. Shuffled, not drawn anew: each array keeps its mean, spread and signs, so that
    activations stay in range and nothing but what was learnt is lost.
    """
    import keras

    copy, random = keras.models.clone_model(classifier.logits_model), np.random.default_rng(seed)
    weights = classifier.logits_model.get_weights()
    copy.set_weights([random.permutation(one.ravel()).reshape(one.shape) for one in weights])
    return from_logits(copy, classifier.classes)


def rank_correlation(first: np.ndarray, second: np.ndarray, cell: int) -> np.ndarray:
    """Spearman's correlation of two maps' positive parts, averaged over cells of `cell` pixels: (n,), -1 to 1.

    Maps (n, h, w) of single pixels are too grainy to compare one by one, hence the cells. NaN where a map is flat.
    """
    found = np.full(len(first), np.nan)
    for i, (one, other) in enumerate(zip(_cells(first, cell), _cells(second, cell), strict=True)):
        if np.ptp(one) > 0 and np.ptp(other) > 0:
            found[i] = spearmanr(one, other).statistic
    return found


def _cells(maps: np.ndarray, cell: int) -> np.ndarray:
    """(n, cells): the mean of each whole cell of the maps' positive parts."""
    n, rows, columns = len(maps), maps.shape[1] // cell, maps.shape[2] // cell
    kept = importance(maps)[:, : rows * cell, : columns * cell]
    return kept.reshape(n, rows, cell, columns, cell).mean(axis=(2, 4)).reshape(n, -1)


def agreement(trained: Sequence[Mapping[str, Maps]], patients: np.ndarray, *, cell: int) -> pd.DataFrame:
    """The mean rank correlation of each pair of methods' maps of the same images, by patient and over the trainings,
    each with its maps by method.

    Columns: a, b, value, low, high, n, method, note. `patients` names the patient of each image.
    """
    pairs = [
        {"a": a, "b": b, "seed": seed, "correlation": rank_correlation(methods[a].maps, methods[b].maps, cell)}
        for seed, methods in enumerate(trained)
        for a, b in combinations(methods, 2)
    ]
    return _mean_correlations(pairs, ["a", "b"], patients)


def sanity_check(
    trained: Sequence[Mapping[str, Maps]], shuffled: Sequence[Mapping[str, Maps]], patients: np.ndarray, *, cell: int
) -> pd.DataFrame:
    """Mean rank correlation of each method's maps with those of its network with shuffled weights: near 0 is sound.

    Columns: explainer, value, low, high, n, method, note; by patient and over the trainings.
    """
    pairs = [
        {"explainer": name, "seed": seed, "correlation": rank_correlation(maps.maps, others[name].maps, cell)}
        for seed, (methods, others) in enumerate(zip(trained, shuffled, strict=True))
        for name, maps in methods.items()
    ]
    return _mean_correlations(pairs, ["explainer"], patients)


def _mean_correlations(pairs: Iterable[dict], by: list[str], patients: np.ndarray) -> pd.DataFrame:
    every = pd.concat([pd.DataFrame({**pair, "patient_id": patients}) for pair in pairs])
    return means(every, ["correlation"], by, bounds=(-1.0, 1.0)).drop(columns="measure")
