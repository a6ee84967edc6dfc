"""What the instrument and the archive make of a phantom: blur, speckle, noise, contrast, and white padding.

Measured on published B-scans: the screen shows about the fourth root of power; background is noise whose grey level
is roughly normal (mean 14 to 35, standard deviation 6 to 16) and cut off at 0, which leaves black pinholes; speckle,
averaged over many frames, has a standard deviation of 6 to 14 % of the grey level; both are correlated over about
two pixels, more down than across.
"""

from __future__ import annotations

import numpy as np


def capture(tones: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    """The image that an instrument would give of `tones` (see `phantom_paint.paint`), uint8 of the same shape.

    `quality` from 0 (noisy, blurred, faint) to 1 (clean).
    """
    from scipy.ndimage import gaussian_filter

    poor = 1 - quality
    blur = 0.45 + 0.75 * poor * rng.uniform(0.5, 1)
    signal = gaussian_filter(tones, blur, truncate=2.5)
    signal *= np.float32(rng.uniform(0.86, 1.2) * (1 - 0.32 * poor * rng.uniform(0.4, 1)))
    signal *= _vignette(tones.shape[1], rng)
    across = rng.uniform(0.2, 0.7)
    speckle = np.float32(0.05 + 0.11 * poor**1.3)
    level = np.float32((13 + 9 * rng.random() + 24 * poor**1.6) / 255) * _depth_gain(tones.shape[0], rng)
    depth = np.float32(rng.uniform(0.38, 0.55) + 0.12 * poor)
    noise = _correlated(tones.shape, across, rng)
    # Powers of signal and background add, and the screen shows the fourth root; so the stronger the signal, the less
    # the background's noise shows. Products are many times faster than powers.
    squared, base = level * level, signal * signal
    base = np.sqrt(np.sqrt(base * base + squared * squared))
    noise -= np.float32(0.12) * (noise * noise - 1)  # the tail towards black is the longer one
    noise *= depth * level * squared / (base * base) + speckle * signal
    grey = base + noise
    return np.clip(grey * 255, 0, 248).astype(np.uint8)


def padding(floor: np.ndarray, shape: tuple[int, int], often: float, rng: np.random.Generator) -> np.ndarray:
    """Where the archive's straightening of a tilted scan left white: bool, of `shape` (height, width).

    With chance `often`: oblique wedges above and below, slivers at the sides. They stay 130 pixels above and 60 below
    `floor`, the row of Bruch's membrane a column, which no disease moves: padding tells nothing about the label.
    """
    height, width = shape
    draws, chance = rng.normal(size=6), rng.random(2)
    if chance[0] >= often:
        return np.zeros(shape, bool)
    across, down, columns = np.arange(width) - width / 2, np.arange(height)[:, None], np.arange(width)
    slope = 0.045 * draws[0]
    top = np.minimum(14 + 22 * draws[1] + slope * across, floor.min() - 130)
    bottom = height - 8 + 14 * draws[2] + (slope + 0.004 * draws[3]) * across
    if chance[1] < 0.2:
        bottom = bottom - abs(draws[4]) * 10 * (across / width * 2) ** 2
    bottom = np.maximum(bottom, floor.max() + 60)
    side = np.clip(1.2 * draws[5] - slope * (down - height / 2) * 0.25, -4, 4)
    return (down < np.round(top)) | (down >= np.round(bottom)) | (columns < side) | (columns >= width + side)


def _correlated(shape: tuple[int, int], across: float, rng: np.random.Generator) -> np.ndarray:
    """Normal noise of unit variance, float32: neighbours down correlate by 0.67, neighbours across by `across`."""
    height, width = shape
    fine = rng.standard_normal((height + 2, width + 2), np.float32)
    down = fine[1:-1] + np.float32(0.65) * (fine[:-2] + fine[2:])
    # The weight a of (a, 1, a) that correlates neighbours by about `across`.
    a = np.float32(across * 0.62)
    out = down[:, 1:-1] + a * (down[:, :-2] + down[:, 2:])
    out /= np.sqrt((1 + 2 * np.float32(0.65) ** 2) * (1 + 2 * a * a))
    return out


def _vignette(width: int, rng: np.random.Generator) -> np.ndarray:
    """Brightness a column: it falls a little at the sides, and more where the pupil cut the beam."""
    x = np.linspace(-1, 1, width, dtype=np.float32)
    dark = rng.uniform(0, 0.12) * x**4 + np.clip(rng.normal(0, 0.07), -0.16, 0.16) * x
    return (1 - dark).astype(np.float32)


def _depth_gain(height: int, rng: np.random.Generator) -> np.ndarray:
    """Noise level a row, (height, 1): it falls with depth, by an amount that differs from scan to scan."""
    return np.linspace(1.08, rng.uniform(0.4, 0.9), height)[:, None].astype(np.float32)
