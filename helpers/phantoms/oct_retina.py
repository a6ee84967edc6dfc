"""Anatomy of the phantom eye: where the layers of a healthy retina lie in a B-scan, and how bright each is.

Thicknesses follow measured macular profiles in round numbers: 230 um at the centre of the fovea, 345 um at its rim.
Nothing in this module knows a diagnosis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helpers.phantoms.scan import AXIAL_UM, LATERAL_MM, LAYERS, TONES, BScan


@dataclass(frozen=True)
class Anatomy:
    """What stays the same in every scan of one eye."""

    nasal: int  # +1: the optic disc is to the right
    pit_width: float  # of the foveal pit, relative
    thickness: np.ndarray  # a factor a layer, (13,)
    tones: np.ndarray  # a factor a layer, (13,)
    bowl: float  # pixels that the image's edges rise above its centre, at 2.9 mm
    wave: np.ndarray  # (4, 2) amplitude (px) and phase of slow undulations
    choroid_um: float  # thickness
    choroid_fade: float  # pixels over which the choroid's tone falls to 1/e
    choroid_grain: float  # how coarse its vessels are, relative
    vessels: np.ndarray  # (n, 3) retinal vessels: place (mm), half width (px), depth of the shadow (0 to 1)
    disc: float  # millimetres from the fovea to the edge of the optic disc
    hyaloid: float  # micrometres by which the vitreous has come off, 0: attached


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """One eye at random."""
    vessels = rng.integers(0, 8)
    side = rng.choice((-1, 1), vessels)
    tones = np.clip(rng.normal(1, 0.06, len(LAYERS)), 0.85, 1.15)
    tones[LAYERS.index("outer segments")] *= rng.uniform(0.85, 1.5)
    return Anatomy(
        nasal=int(rng.choice((-1, 1))),
        pit_width=float(np.clip(rng.normal(1, 0.18), 0.6, 1.5)),
        thickness=np.clip(rng.normal(1, 0.09, len(LAYERS)), 0.75, 1.3) * rng.normal(1, 0.05),
        tones=tones,
        bowl=float(np.clip(rng.normal(11, 12), -12, 45)),
        wave=np.stack([rng.normal(0, 1.2, 4), rng.uniform(0, 2 * np.pi, 4)], axis=1),
        choroid_um=float(rng.uniform(140, 420)),
        choroid_fade=float(rng.uniform(55, 130)),
        choroid_grain=float(rng.uniform(0.7, 1.5)),
        vessels=np.stack(
            [
                side * rng.uniform(0.5, 4.2, vessels),
                rng.uniform(1.0, 4.0, vessels),
                rng.uniform(0.04, 0.26, vessels),
            ],
            axis=1,
        ),
        disc=float(rng.normal(3.75, 0.2)),
        hyaloid=float(rng.uniform(40, 260)) if rng.random() < 0.22 else 0.0,
    )


def healthy(eye: Anatomy, *, width: int, height: int, rng: np.random.Generator) -> BScan:
    """A B-scan of the healthy eye; `rng` decides how the patient sat and moved for this image."""
    x_mm = ((np.arange(width) - width / 2) * LATERAL_MM + rng.normal(0, 0.28)).astype(np.float32)
    z_mm = float(np.clip(rng.normal(0, 0.14), -0.35, 0.35))
    wander = _wander(width, rng)
    fovea = np.hypot(x_mm, z_mm)
    microns = _thicknesses(eye, x_mm, fovea)
    bowl = eye.bowl * (x_mm / 2.9) ** 2
    waves = sum(a * np.sin(x_mm * (0.7 + 0.5 * k) + phase) for k, (a, phase) in enumerate(eye.wave))
    tilt = np.clip(rng.normal(0, 0.05), -0.14, 0.14) * (np.arange(width) - width / 2)
    row = height * np.clip(rng.normal(0.49, 0.07), 0.36, 0.64) - bowl + waves + tilt + wander
    top = {"choroid": row.astype(np.float32)}
    for k in range(len(LAYERS) - 2, -1, -1):
        top[LAYERS[k]] = (top[LAYERS[k + 1]] - microns[k] / AXIAL_UM).astype(np.float32)
    ones = np.ones(width, np.float32)
    tone = {name: np.float32(grey * f) * ones for name, grey, f in zip(LAYERS, TONES, eye.tones, strict=True)}
    nasal = np.clip(x_mm * eye.nasal / 3, 0, 1)
    tone["nerve fibres"] *= 0.9 + 0.42 * nasal
    tone["outer segments"] *= 1 - 0.12 * np.exp(-((fovea / 0.3) ** 2))
    scan = BScan(height, x_mm, z_mm, wander, top, tone)
    _disc(scan, eye)
    return scan


def _thicknesses(eye: Anatomy, x_mm: np.ndarray, fovea: np.ndarray) -> np.ndarray:
    """Micrometres of the 12 layers above Bruch's membrane, (12, width); `fovea` is the distance from it."""
    r = fovea / eye.pit_width

    def rise(scale: float) -> np.ndarray:
        return 1 - np.exp(-((r / scale) ** 2))

    nasal = np.clip(x_mm * eye.nasal, 0, 4)
    thin = np.exp(-((np.clip(fovea - 1, 0, None) / 2.6) ** 2))
    cone = np.exp(-((r / 0.28) ** 2))
    layers = [
        (4 + 8 * rise(0.6) + 13 * nasal * rise(1.2)),
        (3 + 58 * rise(0.62) * (0.3 + 0.7 * thin)),
        (3 + 44 * rise(0.52) * (0.5 + 0.5 * thin)),
        (1 + 39 * rise(0.46) * (0.6 + 0.4 * thin)),
        (10 + 25 * rise(0.40)),
        (66 + 34 * np.exp(-((r / 0.5) ** 2))),
        (22 + 7 * cone),
        (17 + 0 * r),
        (21 + 12 * cone),
        0 * r,
        (35 + 0 * r),
        0 * r,
    ]
    return np.stack(layers) * eye.thickness[: len(layers), None]


def _disc(scan: BScan, eye: Anatomy) -> None:
    """Where the scan is wide enough to reach the optic disc: nerve fibres heap up, the other layers end, and all
    plunges into the cup.
    """
    beyond = scan.x_mm * eye.nasal - eye.disc
    if beyond.max() < -0.4:
        return
    scan.open("nerve fibres", 70 / AXIAL_UM * np.exp(-((np.clip(beyond, -2, 0.1) / 0.5) ** 2)))
    ended = 0.5 + 0.5 * np.tanh(beyond / 0.08)
    cup = (520 / AXIAL_UM * np.clip(beyond - 0.12, 0, 0.4) ** 1.3).astype(np.float32)
    for layer in LAYERS:
        scan.top[layer] += cup
        scan.blend(layer, 0.16 if layer == "choroid" else 0.36, ended)


def _wander(width: int, rng: np.random.Generator) -> np.ndarray:
    """Pixels of axial eye movement a column: a slow drift, a tremor, and seldom a jump the tracker missed."""
    from scipy.ndimage import gaussian_filter1d

    drift = gaussian_filter1d(np.cumsum(rng.normal(0, 0.22, width)), 6)
    tremor = gaussian_filter1d(rng.normal(0, 1, width), 1.5) * rng.uniform(0.1, 0.7)
    jump = np.zeros(width)
    if rng.random() < 0.12:
        jump[rng.integers(width // 8, width - width // 8) :] = rng.normal(0, 4)
    return (drift - drift.mean() + tremor + jump).astype(np.float32)
