"""A phantom B-scan under construction: its layers and what lesions add to them.

Lengths are in micrometres or millimetres of tissue; pixels have about the pitch of the published scans (Spectralis;
Kermany et al. 2018, 'Images from Human Subjects'). Brightness ('tone') is the grey level on the screen, 0 to 1, which
in these scans is about the fourth root of the reflected power.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

AXIAL_UM = 3.9  # micrometres a pixel, down
LATERAL_MM = 0.0115  # millimetres a pixel, across

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
TONES = (0.49, 0.385, 0.425, 0.285, 0.372, 0.225, 0.24, 0.70, 0.37, 0.09, 0.76, 0.40, 0.32)
SOFT = (
    1.5,
    4.0,
    7.0,
    4.5,
    4.0,
    5.0,
    2.0,
    1.6,
    2.0,
    1.2,
    1.6,
    1.5,
    2.0,
)  # pixels over which an upper edge changes


@dataclass
class BScan:
    """A cross-section being built: lesions move its surfaces, change its tones and add to its lists.

    `top` holds the row of each layer's upper edge, `tone` its grey level (0 to 1), one value a column.
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

    def seen(self, z_mm: np.ndarray | float, radius_mm: np.ndarray | float) -> np.ndarray:
        """How much (0 to 1) of the height of a rounded thing at `z_mm` this scan cuts."""
        return np.sqrt(np.clip(1 - ((self.z_mm - np.asarray(z_mm)) / radius_mm) ** 2, 0, 1))

    def open(self, layer: str, height_px: np.ndarray) -> None:
        """Make a layer thicker by `height_px` (a value a column), lifting its upper edge and all above.

        The retina bridges what is narrow: each edge follows the one under it more smoothly.
        """
        from scipy.ndimage import gaussian_filter1d

        rise = np.asarray(height_px, np.float32)
        for step, name in enumerate(reversed(LAYERS[: LAYERS.index(layer) + 1])):
            if step:
                rise = gaussian_filter1d(rise, 1.2 + 1.5 * step, mode="nearest")
            self.top[name] = self.top[name] - rise

    def blend(self, layer: str, tone: float, amount: np.ndarray) -> None:
        """Move a layer's tone towards `tone`, by 0 to 1 in each column."""
        self.tone[layer] = self.tone[layer] + (tone - self.tone[layer]) * np.asarray(amount, np.float32)

    def settle(self) -> None:
        """Keep the edges in order: none crosses the one below it."""
        for upper, lower in reversed(list(zip(LAYERS, LAYERS[1:], strict=False))):
            self.top[upper] = np.minimum(self.top[upper], self.top[lower])


@dataclass(frozen=True)
class Blob:
    """A rounded thing of one tone: a cyst, an exudate, a vessel's wall. Places in pixels."""

    column: float
    row: float
    half_width: float
    half_height: float
    tone: float
    opacity: float = 1.0
    lean: float = 0.0  # columns it leans a row
    taper: float = 0.0  # how much wider it is at its foot, relative
    bend: float = 0.0  # how much it bends sideways, relative
    lesion: bool = True


@dataclass(frozen=True)
class Fill:
    """Material between two rows of each column."""

    top: np.ndarray
    bottom: np.ndarray
    tone: float
    grain: float = 0.0  # strength of its texture
    lesion: bool = True


@dataclass(frozen=True)
class Streak:
    """A shadow (gain < 0) or a bright window (gain > 0) below a row, over a few columns."""

    column: float
    half_width: float
    row: float
    gain: float
