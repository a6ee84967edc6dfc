"""Diseases of the phantom eye: a registry of functions, each of which changes a healthy B-scan.

A lesion is drawn from the patient's own generator, so that all scans of an eye show the same disease; how much of it
one scan shows depends on where the scan passes. Every function makes the same number of draws whatever the severity.
To add a disease (a macular hole, say), write one function and decorate it with its label.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.phantoms.scan import AXIAL_UM, Blob, BScan, Fill, Streak

Lesion = Callable[[BScan, float, np.random.Generator], None]
LESIONS: dict[str, Lesion] = {}  # filled below, when this module is read


def lesion(label: str) -> Callable[[Lesion], Lesion]:
    """Register a function of (scan, severity, rng) as what makes an eye of this label."""

    def register(function: Lesion) -> Lesion:
        LESIONS[label] = function
        return function

    return register


@lesion("NORMAL")
def normal(scan: BScan, severity: float, rng: np.random.Generator) -> None:
    """Nothing to see."""


@lesion("DRUSEN")
def drusen(scan: BScan, severity: float, rng: np.random.Generator) -> None:
    """Bumps of middling tone between the pigment epithelium and Bruch's membrane, and no fluid.

    From four of up to 28 um (7 pixels) at severity 0 to 14 of up to 102 um at 1.
    """
    _drusen(scan, count=4 + 10 * severity, tallest_um=28 + 74 * severity, spread_mm=0.85, rng=rng)


@lesion("CNV")
def choroidal_neovascularisation(scan: BScan, severity: float, rng: np.random.Generator) -> None:
    """New vessels under or through the pigment epithelium: it is raised, uneven and broken; hyperreflective material
    and fluid lie on it, fluid may enter the retina, the ellipsoid zone above is lost. Drusen often lie beside it.
    """
    centre, half = rng.normal(0, 0.5), rng.uniform(0.32, 0.95) * (0.6 + 0.7 * severity)
    parts = rng.uniform((0.1, 0.3, 0.2), 1)  # of raised epithelium, material, fluid; one of them leads
    parts[rng.integers(3)] = 1.0
    cut = float(scan.seen(rng.normal(0, 0.1), 0.9))
    microns = np.array([26, 24, 26]) + np.array([230, 130, 150]) * severity**1.2 * min(1.0, 0.3 + half)
    raised, material, fluid = cut * parts * microns / AXIAL_UM
    rough, broken, seeds = ripple(scan.x_mm, rng, 0.3), ripple(scan.x_mm, rng, 0.09), rng.spawn(3)
    reach = plateau(scan.x_mm, centre, half)

    if rng.random() < 0.4:
        _drusen(scan, count=1 + 3 * severity, tallest_um=10 + 35 * severity, spread_mm=1.3, rng=seeds[0])
    scan.open("sub-RPE", raised * reach * (0.8 + 0.2 * rough))
    scan.tone["sub-RPE"] *= 1 - reach * (0.25 * rng.random() + 0.1 * broken)
    _heap_and_pool(scan, centre, half, material * (0.75 + 0.25 * rough), fluid, seeds[1])
    lost = np.clip(reach * (0.4 + 0.75 * severity), 0, 1) * cut
    for layer in ("myoid", "ellipsoid", "outer segments"):
        scan.blend(layer, 0.27, lost * (0.75 + 0.25 * broken))
    scan.tone["pigment epithelium"] *= 1 - 0.45 * reach * np.clip(broken, 0, 1) * (0.4 + 0.6 * severity)
    _windows(scan, centre, half, 0.3 * severity, rng)
    wet = rng.random() < 0.45
    cysts(scan, centre, half, count=8 * severity * wet, size=0.35 + 0.4 * severity, rng=seeds[2])


def _heap_and_pool(
    scan: BScan, centre: float, half: float, material: np.ndarray, fluid: float, rng: np.random.Generator
) -> None:
    """Hyperreflective material on the epithelium, and fluid that fills what the lifted retina leaves beside it.

    `material` (a value a column) and `fluid` are the tallest they would be, in pixels.
    """
    heap = material * plateau(scan.x_mm, centre + rng.uniform(-0.6, 0.6) * half, half * rng.uniform(0.5, 1.0))
    pool_at = centre + rng.choice((-1, 1)) * half * rng.uniform(0.2, 1.1)
    pool = fluid * lens(scan.x_mm, pool_at, half * rng.uniform(0.6, 1.3))
    scan.open("subretinal", np.maximum(heap, pool))
    floor = scan.top["pigment epithelium"]
    scan.fills.append(Fill(floor - heap, floor, tone=0.36 + 0.22 * rng.random(), grain=0.16))


@lesion("DME")
def diabetic_macular_edema(scan: BScan, severity: float, rng: np.random.Generator) -> None:
    """Fluid in the retina: it thickens, the pit fills, cysts open in the inner and outer nuclear layers; hard exudates
    shine and cast shadows; now and then fluid gathers under the fovea.
    """
    centre, half = rng.normal(0, 0.45), rng.uniform(0.55, 1.2)
    cut = float(scan.seen(rng.normal(0, 0.1), 1.0))
    swelling = np.exp(-0.5 * ((scan.x_mm - centre) / half) ** 2) * cut
    microns = (34 + 155 * severity**1.2) * rng.uniform(0.6, 1.2)
    for layer, share in (
        ("outer nuclear", 0.5),
        ("outer plexiform", 0.1),
        ("inner nuclear", 0.3),
        ("inner plexiform", 0.1),
    ):
        scan.open(layer, microns * share / AXIAL_UM * swelling)
        scan.blend(layer, 0.32, 0.55 * severity * swelling)
    pool = rng.random()
    dome = lens(scan.x_mm, centre, 0.5 * half) * 100 * severity * cut / AXIAL_UM
    scan.open("subretinal", dome * (pool < 0.18))
    seeds = rng.spawn(3)
    exudates(scan, centre, half, count=7 * severity * rng.random(), rng=seeds[2])
    if seeds[0].random() < 0.7 * severity:
        _central_cyst(scan, centre, 0.55 + 0.4 * severity, seeds[0])
    count = 3 + 19 * severity * rng.uniform(0.4, 1.0)
    cysts(scan, centre, half, count=count, size=(0.42 + 0.5 * severity) * cut, rng=seeds[1])


def _drusen(
    scan: BScan,
    *,
    count: float,
    tallest_um: float,
    spread_mm: float,
    rng: np.random.Generator,
    most: int = 14,
) -> None:
    place, across = rng.normal(0, spread_mm, most), np.abs(rng.normal(0, 0.25, most))
    tall, wide = rng.beta(1.8, 1.8, most), rng.uniform(0.7, 1.5, most)
    across[0], tall[0], place[0] = 0.0, 1.0, place[0] * 0.6  # the tallest is always cut
    heights = tallest_um * tall * scan.seen(across, 0.45)
    heights[max(1, round(count)) :] = 0
    half_mm = (0.05 + 0.0013 * tallest_um * tall) * wide
    bumps = heights[:, None] * np.exp(-(np.abs((scan.x_mm - place[:, None]) / half_mm[:, None]) ** 2.4))
    rise = bumps.max(axis=0) / AXIAL_UM
    scan.open("sub-RPE", rise)
    scan.blend("ellipsoid", 0.42, np.clip(rise / 18, 0, 0.6))
    scan.blend("outer segments", 0.34, np.clip(rise / 10, 0, 0.6))


def cysts(
    scan: BScan,
    centre: float,
    half: float,
    *,
    count: float,
    size: float,
    rng: np.random.Generator,
    most: int = 24,
) -> None:
    """Dark cavities, taller than wide, in the inner or the outer nuclear layer; the first is near the centre.

    One that would overlap another of its layer moves aside until a thin septum is between them.
    """
    place = centre + half * rng.normal(0, 0.6, most)
    place[0] = centre + half * rng.normal(0, 0.2)
    inner, share = rng.random(most) < 0.45, rng.uniform(0.5, 1.0, most)
    slim, tone, shape = (
        rng.uniform(0.3, 0.95, most),
        rng.uniform(0.05, 0.12, most),
        rng.normal(0, 1, (most, 3)),
    )
    taken: dict[str, list[tuple[float, float]]] = {"inner nuclear": [], "outer nuclear": []}
    for k in np.flatnonzero((place > scan.x_mm[0]) & (place < scan.x_mm[-1]))[: round(count)]:
        layer, below = ("inner nuclear", "outer plexiform") if inner[k] else ("outer nuclear", "myoid")
        upper, lower = scan.row(layer, place[k]), scan.row(below, place[k])
        away = 1 - 0.5 * min(1.0, abs(place[k] - centre) / (1.5 * half))
        tall = max(2.6, 0.5 * (lower - upper) * share[k] * away * (0.5 + 0.8 * size))
        wide = max(1.8, tall * slim[k])
        column = _beside(scan.column(place[k]), wide, taken[layer], 1.0 if place[k] > centre else -1.0)
        taken[layer].append((column - wide, column + wide))
        # The layer is found again: the cavity may have moved to where the retina is thinner or lies deeper.
        there = float(np.interp(column, (0, scan.width - 1), (scan.x_mm[0], scan.x_mm[-1])))
        row = (scan.row(layer, there) + scan.row(below, there)) / 2
        _cavity(scan, column, row, wide, tall, tone[k], shape[k])


def _beside(column: float, wide: float, taken: list[tuple[float, float]], way: float) -> float:
    """The nearest place from `column` in direction `way` where a cavity clears the others by a septum of 2 pixels."""
    for left, right in sorted(taken, reverse=way < 0):
        if left - 2 < column + wide and column - wide < right + 2:
            column = right + 2 + wide if way > 0 else left - 2 - wide
    return column


def _central_cyst(scan: BScan, centre: float, size: float, rng: np.random.Generator) -> None:
    place = centre + rng.normal(0, 0.1)
    upper, lower = scan.row("ganglion cells", place), scan.row("myoid", place)
    tall = 0.46 * (lower - upper) * size
    _cavity(scan, scan.column(place), (upper + lower) / 2, tall * rng.uniform(0.4, 0.85), tall, 0.05, np.zeros(3))


def _cavity(scan: BScan, column: float, row: float, wide: float, tall: float, tone: float, shape: np.ndarray) -> None:
    lean, taper, bend = 0.1 * shape[0], 0.2 * np.tanh(shape[1]), 0.2 * np.tanh(shape[2])
    wall = Blob(column, row, wide + 1.5, tall + 1.5, 0.37, 0.5, lean, taper, bend, lesion=False)
    scan.blobs += [wall, Blob(column, row, wide, tall, tone, 0.97, lean, taper, bend)]


def exudates(scan: BScan, centre: float, half: float, *, count: float, rng: np.random.Generator, most: int = 8) -> None:
    place, depth = centre + half * rng.normal(0, 0.9, most), rng.uniform(0, 1, most)
    size, flat = rng.uniform(1.2, 3.4, most), rng.uniform(0.5, 0.9, most)
    for k in range(round(count)):
        column = scan.column(place[k])
        if 0 < column < scan.width:
            row = np.interp(depth[k], (0, 1), (scan.row("inner nuclear", place[k]), scan.row("myoid", place[k])))
            scan.blobs.append(Blob(column, row, size[k], size[k] * flat[k], 0.80, 0.9))
            scan.streaks.append(Streak(column, size[k] * 0.8, row + 4, -0.3))


def _windows(scan: BScan, centre: float, half: float, strength: float, rng: np.random.Generator, most: int = 9) -> None:
    """Light through gaps in the pigment epithelium, and shadows of what lies thick on it."""
    place, wide, gain = (
        centre + half * rng.uniform(-1, 1, most),
        rng.uniform(1, 9, most),
        rng.normal(0.1, 1, most),
    )
    for k in range(most):
        scan.streaks.append(Streak(scan.column(place[k]), wide[k], scan.row("choroid", place[k]), strength * gain[k]))


def plateau(x_mm: np.ndarray, centre: float, half: float) -> np.ndarray:
    return np.exp(-(np.abs((x_mm - centre) / half) ** 3))


def lens(x_mm: np.ndarray, centre: float, half: float) -> np.ndarray:
    """A lens of fluid: 1 at its centre, sharp at its edges."""
    return np.clip(1 - ((x_mm - centre) / half) ** 2, 0, 1) ** 0.8


def ripple(x_mm: np.ndarray, rng: np.random.Generator, scale_mm: float) -> np.ndarray:
    """A rough line between about -1 and 1, fixed to the tissue rather than to the image."""
    waves = 2 * np.pi / (scale_mm * rng.uniform(0.7, 4, 6))
    return np.sin(x_mm[:, None] * waves + rng.uniform(0, 2 * np.pi, 6)).sum(axis=1).astype(np.float32) / 2.6
