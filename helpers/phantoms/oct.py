"""Phantom OCT: made-up B-scans of the retina, from a seed, in the classes of two studies and from a scanner each.

Card. What: grey JPEG in folders as the published archives have them (`train|test/<CLASS>/<CLASS>-<patient>-<n>.jpeg`),
with a lesion mask each and a table of the truth, `phantom.csv`. No patient is in two folders, or in both sets.
    `OCT`: 256 x 248 or 384 x 248 pixels (half the published sides), CNV, DME, DRUSEN and NORMAL; training in the
    published proportions, test balanced. After Kermany et al. 2018 ('37,206 with choroidal neovascularization, 11,349
    with diabetic macular edema, 8,617 with drusen, and 51,140 normal'; figure 3: 'images with more noise and lower
    quality were also included in the training set'). Settings: `train` images, `test_per_class`, `seed`.
    `OCTID`: 375 x 250 pixels, one image per patient, NORMAL, MH (macular hole), DR (diabetic retinopathy) and CSR
    (central serous retinopathy), as many images in each. After Carr 2020 ("We limited our dataset to 50 samples per
    diagnosis") and OCTID (Gholami et al. 2020), which is from another scanner than Kermany's scans: the same eyes and
    field, but a haze, coarser speckle, another grey curve, stretched pixels and no white padding, so that a network
    that learnt on the bridge's scans has something to get used to. Settings: `per_class`, `test_per_class`, `seed`.
Licence: the project's. Made, not measured: no result on it is evidence about patients.
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from helpers.phantoms.oct_lesions import LESIONS
from helpers.phantoms.oct_retina import AXIAL_UM, LAYERS, Anatomy, Blob, BScan, Streak, add_vessels, healthy
from helpers.phantoms.store import PhantomSet, draw_truth, image_row, numbered, rng_of, share_out, sizes, vary

PUBLISHED = {"CNV": 37_206, "DME": 11_349, "DRUSEN": 8_617, "NORMAL": 51_140}  # training images, of 108,312
HEIGHT, NARROW, WIDE = 248, 256, 384  # half of what is published: networks here see 128 pixels
WIDE_SHARE = 0.22
GOLDEN = 0.618034  # its multiples spread evenly between 0 and 1, whatever part of the series is looked at
# Chance of 1, 2, 3 ... images per patient: 3.2 on average; in the test folder 1.6, as published (1,000 images of 633).
IMAGES = {"train": (0.20, 0.22, 0.20, 0.14, 0.10, 0.06, 0.05, 0.03), "test": (0.62, 0.22, 0.10, 0.06)}
NOISY = {"train": 0.35, "test": 0.05}  # share of the patients whose images are poor
RARE = ("NORMAL", "MH", "DR", "CSR")
STRETCHED = (375, 250)  # width and height of the other scanner's files
SOFT = (1.0, 2.0, 3.5, 2.2, 2.0, 2.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)  # pixels over which a layer's upper edge changes
TEXTURED = 75  # pixels below Bruch's membrane that show the choroid's vessels
POOL = (512, 640)  # pixels of the textures that images take their pieces from
SHOWS = 0.8  # pixels of thickness from which a space opened by a lesion belongs to its mask


def draw(seed: int, rows: list[dict]) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """The B-scan of one row, uint8 (height, width), and its lesion mask, bool, which is empty for NORMAL.

    `severity` from 0 (subtle) to 1 (plain), `quality` from 0 (noisy) to 1 (clean); of the width to which the other
    scanner stretches its scans, it is that scanner's. The eye and its disease follow from (seed, patient), where the
    scan passes and its noise from (seed, patient, image): both are in the name, `<label>-<patient>-<image>`.
    """
    (row,) = rows
    label, patient, image = row["image_id"].split("-")
    patient, image, other = int(patient), int(image), row["width"] == STRETCHED[0]
    eye, rng = _eye(seed, patient), rng_of(seed, patient, image, 2)
    scan = healthy(eye, width=NARROW if other else row["width"], height=HEIGHT, rng=rng)
    if other:
        scan.blend("nerve fibres", 0.72, np.full(scan.width, 0.6))
    LESIONS[label](scan, float(np.nan_to_num(row["severity"])), rng_of(seed, patient, 0, 1))
    add_vessels(scan, eye)
    scan.settle()
    tones, mask = paint(scan, eye, rng)
    if other:
        grey, mask = capture_hazy(tones, row["quality"], rng), mask.astype(np.uint8) * 255
        return [_stretched(grey)], {"mask": _stretched(mask) > 127}
    grey = capture(tones, row["quality"], rng)
    # The narrow scans are those that the archive straightened; of the wide ones it did so seldom.
    white = padding(scan.top["choroid"], grey.shape, 0.75 if scan.width < WIDE else 0.05, rng)
    grey[white] = 255
    return [grey], {"mask": mask & ~white}


@lru_cache(1)  # a patient's images follow each other
def _eye(seed: int, patient: int) -> Anatomy:
    return Anatomy(rng_of(seed, patient, 0, 0))


def _stretched(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(STRETCHED, Image.Resampling.BILINEAR))


def plan_oct(*, train: int, test_per_class: int, seed: int) -> pd.DataFrame:
    """Kermany's classes, one row per image, in the order of the table."""
    rng = rng_of(seed)
    wanted = [("train", label, count) for label, count in share_out(train, PUBLISHED, "NORMAL").items()]
    wanted += [("test", label, test_per_class) for label in PUBLISHED]
    groups = [(split, label, n) for split, label, count in wanted for n in sizes(count, IMAGES[split], rng)]
    groups = numbered(groups, rng)
    # One patient in 4.5 has wide scans, spread evenly over each class: even by chance, size is hardly linked to class.
    wide = (np.arange(len(groups)) * GOLDEN + rng.random()) % 1 < WIDE_SHARE
    rows: list[dict] = []
    for (split, label, images, number), is_wide in zip(groups, wide, strict=True):
        own, severity, quality = draw_truth(seed, number, NOISY[split])
        size = (WIDE if is_wide else NARROW, HEIGHT)
        for n in range(1, images + 1):
            rows.append(_row(split, label, number, n, size, vary(quality, own), vary(severity, own)))
    return pd.DataFrame(rows)


def plan_octid(*, per_class: int, test_per_class: int, seed: int) -> pd.DataFrame:
    """Carr's classes, one row per image and patient. Severity and quality are drawn alike for every class."""
    wanted = [(split, label) for split, n in (("train", per_class), ("test", test_per_class)) for label in RARE * n]
    rows: list[dict] = []
    for split, label, number in numbered(wanted, rng_of(seed, 7), least=20_000_000):  # no number of `plan_oct`
        rng = rng_of(seed, number, 0, 6)
        severity, quality = round(rng.beta(1.6, 1.5), 4), round(0.15 + 0.8 * rng.beta(2.2, 1.8), 4)
        rows.append(_row(split, label, number, 1, STRETCHED, quality, severity))
    return pd.DataFrame(rows)


def _row(split: str, label: str, number: int, image: int, size: tuple, quality: float, severity: float) -> dict:
    """Nothing but the names and folders depends on the label, and severity only in its absence."""
    truth = {"label": label, "severity": np.nan if label == "NORMAL" else severity, "quality": quality}
    place = f"{split}/{label}", f"{label}-{number}-{image}", number, split
    return image_row(*place, {"mask": "masks"}, **truth, width=size[0], height=size[1])


# --- from the anatomy to a picture ------------------------------------------------------------------------------------
# Every layer, lesion, vessel and shadow in its grey level, and what one of two scanners makes of them. Measured on
# published B-scans: the screen shows about the fourth root of power; background is noise whose grey level is roughly
# normal (mean 14 to 35, standard deviation 6 to 16) and cut off at 0, which leaves black pinholes; speckle, averaged
# over many frames, has a standard deviation of 6 to 14 % of the grey level; both are correlated over about two pixels,
# more down than across.


def paint(scan: BScan, eye: Anatomy, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The tissue's tones, float32 (height, width) from 0 (no signal) to about 1, and the lesion mask, bool.

    `rng` decides the fine texture, which differs from scan to scan.
    """
    tones, mask = np.zeros((scan.height, scan.width), np.float32), np.zeros((scan.height, scan.width), bool)
    grain = _texture(tones.shape, (0.5, 0.7), rng)
    _retina(tones, scan, grain)
    _choroid(tones, scan, eye, rng)
    _membranes(tones, scan, eye, rng)
    _spaces(tones, mask, scan, grain)
    for blob in scan.blobs:
        _blob(tones, mask, scan, blob)
    for streak in scan.streaks:
        _streak(tones, scan, streak)
    return tones, mask


def _texture(shape: tuple[int, int], smooth: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Normal noise of unit variance, float32, that a Gaussian filter of so many pixels, down and across, has smoothed.

    A piece of one large texture, from anywhere in it and perhaps mirrored, which costs next to nothing.
    """
    pool = _pool(*smooth)
    spare = (pool.shape[0] - shape[0] + 1, pool.shape[1] - shape[1] + 1)
    top, left, upside, mirrored = rng.integers(0, (*spare, 2, 2)).tolist()
    piece = pool[top : top + shape[0], left : left + shape[1]]
    return piece[:: 1 - 2 * upside, :: 1 - 2 * mirrored]


@cache
def _pool(down: float, across: float) -> np.ndarray:
    noise = rng_of(int(100 * down), int(100 * across)).standard_normal(POOL, np.float32)
    noise = gaussian_filter(noise, (down, across), mode="wrap", truncate=3)
    return noise / noise.std()


def _retina(tones: np.ndarray, scan: BScan, grain: np.ndarray) -> None:
    first = max(int(scan.top[LAYERS[0]].min()) - 2, 0)
    last = min(int(scan.top["choroid"].max()) + 3, scan.height)
    rows = np.arange(first, last, dtype=np.float32)[:, None]
    band, above = tones[first:last], np.zeros(scan.width, np.float32)
    for layer, soft in zip(LAYERS[:-1], SOFT, strict=True):
        # A pixel that an edge cuts is covered in part: that is what keeps thin layers whole where they slope.
        step, top = scan.tone[layer] - above, scan.top[layer]
        begins, ends = (max(int(edge) - first, 0) for edge in (top.min() - soft, top.max() + soft + 1))
        band[begins:ends] += step * np.clip((rows[begins:ends] - top) * np.float32(1 / soft) + np.float32(0.5), 0, 1)
        band[ends:] += step
        above = scan.tone[layer]
    band -= np.clip(rows - (scan.top["choroid"] - np.float32(0.5)), 0, 1) * above
    band *= 1 + np.float32(0.08) * grain[first:last]


def _choroid(tones: np.ndarray, scan: BScan, eye: Anatomy, rng: np.random.Generator) -> None:
    """Below Bruch's membrane: a bright sheet of capillaries, then vessels, dark in a grey stroma, fading with depth."""
    first = max(int(scan.top["choroid"].min()) - 1, 0)
    depth = np.arange(first, scan.height, dtype=np.float32)[:, None] - scan.top["choroid"]
    covered = np.clip(depth + np.float32(0.5), 0, 1)
    d = np.arange(max(int(depth[-1].max()) + 1, 1), dtype=np.float32)[:, None]
    thick, fade, coarse = eye.choroid_um / AXIAL_UM, eye.choroid_fade, round(eye.choroid_grain * 4) / 4
    inside = 1 / (1 + np.exp((d - thick) / 3))
    tissue = np.exp(-d / fade) * (0.82 + 0.18 * inside) * (1 + 0.5 * np.exp(-d / 2.5))
    field = tissue * (1 + 0.045 * _texture((1, scan.width), (0, 1.3), rng) * np.clip(d / 20, 0, 1))
    deep = min(TEXTURED, len(d))
    small, middle, large = (
        _texture((deep, scan.width), (down * coarse, across * coarse), rng)
        for down, across in ((0.8, 1), (1.6, 2.2), (3.2, 5.5))
    )
    d = d[:deep]
    near = np.exp(-d / 13) * np.clip(d / 2, 0, 1)
    lumen = 0.22 * near * np.clip(middle, 0, 1.3)
    lumen += 0.26 * inside[:deep] * np.clip(d / 9 - 0.6, 0, 1) * np.clip(large - 0.2, 0, 1.2)
    field[:deep] *= np.clip(1 + (0.15 * near + 0.04 * inside[:deep]) * small - lumen, 0.3, None)
    field *= scan.tone["choroid"]
    np.clip(depth, 0, len(field) - 1, out=depth)
    covered *= field.ravel()[depth.astype(np.int32) * scan.width + np.arange(scan.width, dtype=np.int32)]
    tones[first:] += covered


def _membranes(tones: np.ndarray, scan: BScan, eye: Anatomy, rng: np.random.Generator) -> None:
    """Thin bright lines: the inner and the external limiting membrane, Bruch's where the epithelium has left it, and
    the back of the vitreous where that has come off the retina.
    """
    top, glint = scan.top, np.clip(_texture((1, scan.width), (0, 5.5), rng)[0], 0, 2)
    lines = [
        (top["nerve fibres"] + 0.5, 0.016 + 0.05 * glint),
        (top["myoid"], 0.045),
        (top["pigment epithelium"] + 0.5, 0.04),
        (top["choroid"], 0.1 * np.clip((top["choroid"] - top["sub-RPE"]) / 2 - 0.5, 0, 1)),
    ]
    if eye.hyaloid:
        off = eye.hyaloid / AXIAL_UM * np.clip(np.abs(scan.x_mm) / 1.6, 0.03, 1.6) ** 0.8
        row = np.round(top["nerve fibres"].mean() * 0.25 + top["nerve fibres"] * 0.75 - off)
        strength = np.clip(0.09 + 0.035 * _texture((1, scan.width), (0, 10), rng)[0], 0.03, 0.22)
        lines.append((row, strength * (row < top["nerve fibres"] - 2)))
    columns, steps = np.arange(scan.width), np.arange(-1, 3)[:, None]
    centres = np.stack([centre for centre, _ in lines])[:, None]
    rows = np.floor(centres).astype(int) + steps
    weights = np.exp(-0.9 * (rows - centres) ** 2) * ((rows >= 0) & (rows < scan.height))
    for row, weight, (_, strength) in zip(np.clip(rows, 0, scan.height - 1), weights, lines, strict=True):
        tones[row, columns] += weight * strength


def _spaces(tones: np.ndarray, mask: np.ndarray, scan: BScan, grain: np.ndarray) -> None:
    """Texture of what lies in opened spaces, heaps of material, and the mask of both."""
    for space, below in (("subretinal", "pigment epithelium"), ("sub-RPE", "choroid")):
        shown = scan.top[below] - scan.top[space] > SHOWS
        if not shown.any():
            continue
        # The epithelium that is lifted belongs to the lesion as well.
        upper = scan.top["pigment epithelium" if space == "sub-RPE" else space]
        area = (_between(scan, upper - 0.5, scan.top[below] + 0.5) > 0.5) & shown
        mask |= area
        if space == "sub-RPE":
            tones *= 1 + np.float32(0.08) * grain * area
    for fill in scan.fills:
        thick = fill.bottom - fill.top
        inside = _between(scan, fill.top, fill.bottom) * np.clip(thick, 0, 1)
        tones += inside * (fill.tone * (1 + fill.grain * grain) - tones)
        mask |= (inside > 0.5) & (thick > SHOWS)


def _between(scan: BScan, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """How much of each pixel lies between two edges."""
    row = np.arange(scan.height, dtype=np.float32)[:, None]
    return np.clip(row - top + 0.5, 0, 1) * np.clip(bottom - row + 0.5, 0, 1)


def _blob(tones: np.ndarray, mask: np.ndarray, scan: BScan, blob: Blob) -> None:
    reach = blob.half_width + abs(blob.lean) * blob.half_height + 2
    left, right = max(int(blob.column - reach), 0), min(int(blob.column + reach) + 2, scan.width)
    upper, lower = max(int(blob.row - blob.half_height) - 4, 0), min(int(blob.row + blob.half_height) + 5, scan.height)
    if left >= right or upper >= lower:
        return
    middle = min(max(round(blob.column), 0), scan.width - 1)
    y = np.arange(upper, lower, dtype=np.float32)[:, None] - blob.row - (scan.wander[left:right] - scan.wander[middle])
    x = np.arange(left, right, dtype=np.float32) - blob.column - blob.lean * y
    y /= blob.half_height
    x = (x / blob.half_width - blob.bend * (1.5 * y * y - 1)) / np.clip(1 + blob.taper * y, 0.5, 2)
    radius = np.sqrt(x * x + y * y)
    inside = np.clip((1 - radius) * min(blob.half_width, blob.half_height) + 0.5, 0, 1)
    window = tones[upper:lower, left:right]
    window += inside * blob.opacity * (blob.tone - window)
    if blob.lesion:
        mask[upper:lower, left:right] |= inside > 0.5


def _streak(tones: np.ndarray, scan: BScan, streak: Streak) -> None:
    column, half_width = streak.column, streak.half_width
    left, right = max(int(column - 3 * half_width), 0), min(int(column + 3 * half_width) + 2, scan.width)
    if left >= right:
        return
    place = (np.arange(left, right, dtype=np.float32) - column) / half_width
    across = np.float32(streak.gain) * np.exp(-0.5 * place**2)
    start = np.float32(streak.row[left:right] if np.ndim(streak.row) else streak.row)
    first = max(int(start.min()) - 1, 0)
    below = np.clip((np.arange(first, scan.height, dtype=np.float32)[:, None] - start) / 3, 0, 1)
    tones[first:, left:right] *= np.clip(1 + across * below, 0.1, 2)


def capture(tones: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """The image that an instrument would give of `tones` (see `paint`), uint8 of the same shape.

    `quality` from 0 (noisy, blurred, faint) to 1 (clean).
    """
    poor = 1 - quality
    signal = gaussian_filter(tones, 0.3 + 0.35 * poor * rng.uniform(0.5, 1), radius=1)
    signal *= np.float32(rng.uniform(0.86, 1.2) * (1 - 0.32 * poor * rng.uniform(0.4, 1)))
    # Brightness falls a little at the sides, and more where the pupil cut the beam.
    x = np.linspace(-1, 1, tones.shape[1], dtype=np.float32)
    dark = rng.uniform(0, 0.12) * x**4 + np.clip(rng.normal(0, 0.07), -0.16, 0.16) * x
    signal *= (1 - dark).astype(np.float32)
    speckle = np.float32(0.043 + 0.095 * poor**1.3)
    level = (13 + 9 * rng.random() + 24 * poor**1.6) / 255
    level = (level * np.linspace(1.08, rng.uniform(0.4, 0.9), tones.shape[0])[:, None]).astype(np.float32)
    depth = np.float32(rng.uniform(0.33, 0.48) + 0.1 * poor)
    noise = _texture(tones.shape, (0.5, (0.3, 0.38, 0.46)[rng.integers(3)]), rng)
    # Powers of signal and background add, and the screen shows the fourth root; so the stronger the signal, the less
    # the background's noise shows. Products are many times faster than powers.
    squared, base = level * level, signal * signal
    power = np.sqrt(base * base + squared * squared)
    noise = noise - np.float32(0.12) * (noise * noise - 1)  # the tail towards black is the longer one
    signal *= speckle
    signal += depth * level * squared / power
    noise *= signal
    noise += np.sqrt(power)
    return np.clip(noise * 255, 0, 248).astype(np.uint8)


def padding(floor: np.ndarray, shape: tuple[int, int], often: float, rng: np.random.Generator) -> np.ndarray:
    """Where the archive's straightening of a tilted scan left white: bool, of `shape` (height, width).

    With chance `often`: oblique wedges above and below, slivers at the sides. They stay 65 pixels above and 30 below
    `floor`, the row of Bruch's membrane per column, which no disease moves: padding does not depend on the label.
    """
    height, width = shape
    draws = rng.normal(size=6)
    if rng.random() >= often:
        return np.zeros(shape, bool)
    across, down, columns = np.arange(width) - width / 2, np.arange(height)[:, None], np.arange(width)
    slope = 0.045 * draws[0]
    top = np.minimum(7 + 11 * draws[1] + slope * across, floor.min() - 65)
    bottom = height - 4 + 7 * draws[2] + (slope + 0.004 * draws[3]) * across
    bottom = np.maximum(bottom, floor.max() + 30)
    side = np.clip(0.6 * draws[5] - slope * (down - height / 2) * 0.25, -2, 2)
    return (down < np.round(top)) | (down >= np.round(bottom)) | (columns < side) | (columns >= width + side)


def capture_hazy(tones: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """As `capture`, by the other scanner: fewer frames averaged, so coarser and stronger speckle; a flatter curve from
    power to grey that lets the nerve fibres saturate; a haze.
    """
    poor = 1 - quality
    haze = gaussian_filter(tones, (7, 4.5), truncate=2)
    signal = gaussian_filter(tones, 0.42 + 0.25 * poor, radius=1) * np.float32(0.9) + haze * np.float32(0.12)
    signal = np.clip(signal, 0, None) ** np.float32(rng.uniform(0.78, 0.92))
    signal *= np.float32(rng.uniform(0.95, 1.25) * (1 - 0.3 * poor))
    tilt = np.linspace(-1, 1, tones.shape[1], dtype=np.float32)
    signal *= 1 - np.float32(rng.uniform(0.05, 0.2)) * tilt * tilt
    floor = np.float32((20 + 14 * rng.random() + 26 * poor) / 255)
    grey = np.sqrt(signal * signal + floor * floor)
    grey *= 1 + np.float32(0.095 + 0.13 * poor) * _texture(tones.shape, (0.55, 0.55), rng)
    grey += floor * np.float32(0.4) * _texture(tones.shape, (0.55, 0.55), rng)
    return np.clip(grey * 255, 0, 255).astype(np.uint8)


OCT = PhantomSet("phantom_oct", tuple(PUBLISHED), plan_oct, draw, jpeg_quality=90)
OCTID = PhantomSet("phantom_octid", RARE, plan_octid, draw, jpeg_quality=90)
