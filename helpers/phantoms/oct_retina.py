"""The phantom eye: where the layers of a healthy retina lie in a B-scan and how bright each is, and what lesions add.

Thicknesses follow measured macular profiles in round numbers: 230 um at the centre of the fovea, 345 um at its rim.
Pixels have twice the pitch of the published scans (Spectralis; Kermany et al. 2018, 'Images from Human Subjects').
Brightness ('tone') is the grey level on the screen, 0 to 1, which in these scans is about the fourth root of the
reflected power. Nothing in this module knows a diagnosis.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from scipy.fft import dct, idct
from scipy.ndimage import gaussian_filter1d

AXIAL_UM = 7.8  # micrometres per pixel, down
LATERAL_MM = 0.023  # millimetres per pixel, across

LAYERS = (  # from the vitreous down
    "nerve fibres",
    "ganglion cells",
    "inner plexiform",
    "inner nuclear",
    "outer plexiform",
    "outer nuclear",
    "myoid",  # its upper edge is the external limiting membrane
    "ellipsoid",
    "outer segments",
    "subretinal",  # a potential space: no thickness until a lesion opens it
    "pigment epithelium",
    "sub-RPE",  # likewise
    "choroid",  # its upper edge is Bruch's membrane
)
TONES = (0.46, 0.35, 0.39, 0.26, 0.345, 0.205, 0.22, 0.70, 0.35, 0.09, 0.76, 0.40, 0.31)


@dataclass(frozen=True)
class Blob:
    """A rounded thing of one tone: a cyst, an exudate, a vessel's wall. Places in pixels."""

    column: float
    row: float
    half_width: float
    half_height: float
    tone: float
    opacity: float = 1.0
    lean: float = 0.0  # columns it leans per row
    taper: float = 0.0  # how much wider it is at its foot, relative
    bend: float = 0.0  # how much it bends sideways, relative
    lesion: bool = True


@dataclass(frozen=True)
class Fill:
    """Lesion material between two rows of each column."""

    top: np.ndarray
    bottom: np.ndarray
    tone: float
    grain: float = 0.0  # strength of its texture


@dataclass(frozen=True)
class Streak:
    """A shadow (gain < 0) or a bright window (gain > 0) below a row, over a few columns."""

    column: float
    half_width: float
    row: float | np.ndarray
    gain: float


@dataclass
class BScan:
    """A cross-section being built: lesions move its surfaces, change its tones and add to its lists.

    `top` holds the row of each layer's upper edge, `tone` its grey level (0 to 1), one value per column.
    """

    height: int
    x_mm: np.ndarray  # place of each column from the fovea
    z_mm: float  # how far above or below the fovea the scan passes
    wander: np.ndarray  # pixels by which eye movement shifted each column
    top: dict[str, np.ndarray]
    tone: dict[str, np.ndarray]
    blobs: list[Blob] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)
    streaks: list[Streak] = field(default_factory=list)

    @property
    def width(self) -> int:
        return len(self.x_mm)

    def column(self, x_mm: float) -> float:
        """The column (fractional, perhaps outside the image) of a place."""
        return (x_mm - float(self.x_mm[0])) / LATERAL_MM

    def row(self, layer: str, x_mm: float) -> float:
        """The row of a layer's upper edge at a place, as it is now."""
        return float(np.interp(x_mm, self.x_mm, self.top[layer]))

    def seen(self, z_mm: np.ndarray | float, radius_mm: float) -> np.ndarray:
        """How much (0 to 1) of the height of a rounded thing at `z_mm` this scan cuts."""
        return np.sqrt(np.clip(1 - ((self.z_mm - np.asarray(z_mm)) / radius_mm) ** 2, 0, 1))

    def open(self, layer: str, height_px: np.ndarray) -> None:
        """Make a layer thicker by `height_px` (a value per column), lifting its upper edge and all above.

        The retina bridges what is narrow: each edge follows the one under it more smoothly.
        """
        lifted = LAYERS[LAYERS.index(layer) :: -1]
        rises = idct(dct(np.asarray(height_px, float)) * _smoothing(self.width)[: len(lifted)]).astype(np.float32)
        for name, rise in zip(lifted, rises, strict=True):
            self.top[name] = self.top[name] - rise

    def blend(self, layer: str, tone: float, amount: np.ndarray) -> None:
        """Move a layer's tone towards `tone`, by 0 to 1 in each column."""
        self.tone[layer] = self.tone[layer] + (tone - self.tone[layer]) * np.asarray(amount, np.float32)

    def settle(self) -> None:
        """Keep the edges in order: none crosses the one below it."""
        for upper, lower in reversed(list(zip(LAYERS, LAYERS[1:], strict=False))):
            self.top[upper] = np.minimum(self.top[upper], self.top[lower])


@cache
def _smoothing(width: int) -> np.ndarray:
    """What is left of each cosine after 0, 1, 2 ... Gaussian filters, each wider than the one before; variances add."""
    variance = np.cumsum(np.append(0, (0.6 + 0.75 * np.arange(1, len(LAYERS))) ** 2))
    return np.exp(-0.5 * variance[:, None] * (np.pi / width * np.arange(width)) ** 2)


class Anatomy:
    """One eye at random: what stays the same in every scan of it."""

    def __init__(self, rng: np.random.Generator) -> None:
        vessels = rng.integers(0, 8)
        side = rng.choice((-1, 1), vessels)
        self.tones = np.clip(rng.normal(1, 0.06, len(LAYERS)), 0.85, 1.15)  # a factor per layer
        self.tones[LAYERS.index("outer segments")] *= rng.uniform(0.85, 1.5)
        self.nasal = int(rng.choice((-1, 1)))  # +1: the optic disc is to the right
        self.pit_width = float(np.clip(rng.normal(1, 0.18), 0.6, 1.5))  # of the foveal pit, relative
        self.thickness = np.clip(rng.normal(1, 0.09, len(LAYERS)), 0.75, 1.3) * rng.normal(1, 0.05)  # likewise a factor
        # Pixels that the image's edges rise above its centre, at 2.9 mm; amplitude (px) and phase of slow undulations.
        self.bowl = float(np.clip(rng.normal(7.5, 8.5), -7, 30))
        self.wave = np.stack([rng.normal(0, 0.6, 4), rng.uniform(0, 2 * np.pi, 4)], axis=1)
        self.choroid_um = float(rng.uniform(140, 420))  # thickness
        self.choroid_fade = float(rng.uniform(27, 65))  # pixels over which the choroid's tone falls to 1/e
        self.choroid_grain = float(rng.uniform(0.7, 1.5))  # how coarse its vessels are, relative
        # Retinal vessels (n, 3): place in mm, half width in pixels, depth of the shadow from 0 to 1.
        place = side * rng.uniform(0.5, 4.2, vessels)
        self.vessels = np.stack([place, rng.uniform(0.5, 2.0, vessels), rng.uniform(0.04, 0.26, vessels)], axis=1)
        self.disc = float(rng.normal(3.75, 0.2))  # millimetres from the fovea to the edge of the optic disc
        # Micrometres by which the vitreous has come off; 0: attached.
        self.hyaloid = float(rng.uniform(40, 260)) if rng.random() < 0.22 else 0.0


def healthy(eye: Anatomy, *, width: int, height: int, rng: np.random.Generator) -> BScan:
    """A B-scan of the healthy eye; `rng` decides how the patient sat and moved for this image."""
    across = np.arange(width) - width / 2
    x_mm = (across * LATERAL_MM + rng.normal(0, 0.28)).astype(np.float32)
    z_mm = float(np.clip(rng.normal(0, 0.14), -0.35, 0.35))
    wander = _wander(width, rng)
    fovea = np.hypot(x_mm, z_mm)
    microns = _thicknesses(eye, x_mm, fovea)
    bowl = eye.bowl * (x_mm / 2.9) ** 2
    waves = sum(a * np.sin(x_mm * (0.7 + 0.5 * k) + phase) for k, (a, phase) in enumerate(eye.wave))
    tilt = np.clip(rng.normal(0, 0.05), -0.14, 0.14) * across
    row = height * np.clip(rng.normal(0.49, 0.07), 0.36, 0.64) - bowl + waves + tilt + wander
    above = np.cumsum(microns[::-1], axis=0)[::-1] / AXIAL_UM
    top = dict(zip(LAYERS, np.vstack([row - above, row]).astype(np.float32), strict=True))
    tone = dict(zip(LAYERS, np.outer(TONES * eye.tones, np.ones(width)).astype(np.float32), strict=True))
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
        4 + 8 * rise(0.6) + 13 * nasal * rise(1.2),
        3 + 58 * rise(0.62) * (0.3 + 0.7 * thin),
        3 + 44 * rise(0.52) * (0.5 + 0.5 * thin),
        1 + 39 * rise(0.46) * (0.6 + 0.4 * thin),
        10 + 25 * rise(0.40),
        66 + 34 * np.exp(-((r / 0.5) ** 2)),
        22 + 7 * cone,
        17 + 0 * r,
        21 + 12 * cone,
        0 * r,
        30 + 0 * r,
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
    """Pixels of axial eye movement per column: a slow drift and a tremor."""
    drift = gaussian_filter1d(np.cumsum(rng.normal(0, 0.16, width)), 3)
    tremor = gaussian_filter1d(rng.normal(0, 0.35, width), 0.75) * rng.uniform(0.1, 0.7)
    return (drift - drift.mean() + tremor).astype(np.float32)


def add_vessels(scan: BScan, eye: Anatomy) -> None:
    """Retinal vessels: a bright spot in the nerve fibres or ganglion cells, and the shadow under it."""
    for place, half_width, shade in eye.vessels.tolist():
        column, row = scan.column(place), scan.row("ganglion cells", place) + half_width
        scan.blobs.append(Blob(column, row, half_width, half_width * 1.2, 0.56, shade * 1.6, lesion=False))
        scan.streaks.append(Streak(column, half_width, scan.top["ganglion cells"] + 3 * half_width, -shade))
