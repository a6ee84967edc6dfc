"""Diseases of the phantom eye: functions that each change a healthy B-scan, in the table `LESIONS`.

A lesion is drawn from the patient's own generator, so that all scans of an eye show the same disease; how much of it
one scan shows depends on where the scan passes. Every function makes the same number of draws whatever the severity.
CNV, DME and DRUSEN are Kermany's; Carr 2020 has "Normal, Macula Hole (MH), Diabetic Retinopathy (DR), or Central Serous
Retinopathy (CSR)". Sizes are in the range of clinical descriptions, in round numbers; nothing was measured on images.
To add a disease, write one function and name it in the table.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.phantoms.oct_retina import AXIAL_UM, LATERAL_MM, Blob, BScan, Fill, Streak

VITREOUS = 0.0  # tone of what is no tissue
# Spots scattered over a lesion: how many at most, over how much of its half width, the upper edges they lie between,
# half width in pixels, height relative to width, tones of rim and middle, and the shadow's gain. Hard exudates; plaques
# of them in the outer plexiform layer, 80 to 200 um wide; microaneurysms of 40 to 110 um, bright with a darker middle;
# hyperreflective foci, dots of some 30 um in all layers of the retina.
SPOTS = {
    "exudates": (8, 0.9, ("inner nuclear", "myoid"), (0.6, 1.7), (0.5, 0.9), (0.80, 0.80), -0.30),
    "plaques": (5, 0.8, ("outer plexiform", "outer nuclear"), (1.75, 4.25), (0.4, 0.7), (0.84, 0.84), -0.45),
    "foci": (14, 0.8, ("ganglion cells", "myoid"), (0.6, 0.95), (0.9, 1.4), (0.78, 0.78), -0.05),
    "microaneurysms": (6, 0.8, ("inner nuclear", "outer nuclear"), (1.05, 2.4), (1.25, 1.25), (0.58, 0.30), -0.16),
}


def drusen(scan: BScan, severity: float, rng: np.random.Generator) -> None:
    """Bumps of middling tone between the pigment epithelium and Bruch's membrane, and no fluid.

    From four of up to 28 um at severity 0 to 14 of up to 102 um at 1.
    """
    _drusen(scan, count=4 + 10 * severity, tallest_um=28 + 74 * severity, spread_mm=0.85, rng=rng)


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
    # Hyperreflective material on the epithelium, and fluid that fills what the lifted retina leaves beside it.
    own = seeds[1]
    heap = material * (0.75 + 0.25 * rough)
    heap = heap * plateau(scan.x_mm, centre + own.uniform(-0.6, 0.6) * half, half * own.uniform(0.5, 1.0))
    pool_at = centre + own.choice((-1, 1)) * half * own.uniform(0.2, 1.1)
    pool = fluid * lens(scan.x_mm, pool_at, half * own.uniform(0.6, 1.3))
    scan.open("subretinal", np.maximum(heap, pool))
    floor = scan.top["pigment epithelium"]
    scan.fills.append(Fill(floor - heap, floor, tone=0.36 + 0.22 * own.random(), grain=0.16))
    lost = np.clip(reach * (0.4 + 0.75 * severity), 0, 1) * cut
    for layer in ("myoid", "ellipsoid", "outer segments"):
        scan.blend(layer, 0.27, lost * (0.75 + 0.25 * broken))
    scan.tone["pigment epithelium"] *= 1 - 0.45 * reach * np.clip(broken, 0, 1) * (0.4 + 0.6 * severity)
    _windows(scan, centre, half, 0.3 * severity, rng)
    wet = rng.random() < 0.45
    cysts(scan, centre, half, count=8 * severity * wet, size=0.35 + 0.4 * severity, rng=seeds[2])


def diabetic_macular_edema(scan: BScan, severity: float, rng: np.random.Generator) -> None:
    """Fluid in the retina: it thickens, the pit fills, cysts open in the inner and outer nuclear layers; bright
    foci lie about, hard exudates shine and cast shadows; now and then fluid gathers under the fovea.
    """
    centre, half = rng.normal(0, 0.45), rng.uniform(0.55, 1.2)
    cut = float(scan.seen(rng.normal(0, 0.1), 1.0))
    swelling = np.exp(-0.5 * ((scan.x_mm - centre) / half) ** 2) * cut
    microns = (34 + 155 * severity**1.2) * rng.uniform(0.6, 1.2)
    shares = {"outer nuclear": 0.5, "outer plexiform": 0.1, "inner nuclear": 0.3, "inner plexiform": 0.1}
    _swell(scan, shares, microns, swelling, tone=0.32, amount=0.55 * severity)
    pool = rng.random()
    dome = lens(scan.x_mm, centre, 0.5 * half) * 100 * severity * cut / AXIAL_UM
    scan.open("subretinal", dome * (pool < 0.18))
    seeds = rng.spawn(4)
    _scatter(scan, "exudates", centre, half, count=7 * severity * rng.random(), rng=seeds[2])
    _scatter(scan, "foci", centre, half, count=(3 + 9 * severity) * rng.uniform(0.5, 1.2), rng=seeds[3])
    taken = ()
    if seeds[0].random() < 0.7 * severity:
        place = centre + seeds[0].normal(0, 0.1)
        upper, lower = scan.row("ganglion cells", place), scan.row("myoid", place)
        tall = 0.46 * (lower - upper) * (0.55 + 0.4 * severity)
        wide = tall * seeds[0].uniform(0.4, 0.85)
        taken = ((scan.column(place) - wide, scan.column(place) + wide),)
        _cavity(scan, scan.column(place), (upper + lower) / 2, wide, tall, 0.05, seeds[0].normal(0, 1, 3))
    count = 3 + 19 * severity * rng.uniform(0.4, 1.0)
    cysts(scan, centre, half, count=count, size=(0.42 + 0.5 * severity) * cut, rng=seeds[1], taken=taken)


def _swell(scan: BScan, shares: dict, microns: float, reach: np.ndarray, tone: float = 0, amount: float = 0) -> None:
    """Thicken layers by their shares of `microns` within `reach` (0 to 1 per column), and blend their tone."""
    for layer, share in shares.items():
        scan.open(layer, microns * share / AXIAL_UM * reach)
        scan.blend(layer, tone, amount * reach)


def _drusen(scan: BScan, *, count: float, tallest_um: float, spread_mm: float, rng: np.random.Generator) -> None:
    place, across = rng.normal(0, spread_mm, 14), np.abs(rng.normal(0, 0.25, 14))
    tall, wide = rng.beta(1.8, 1.8, 14), rng.uniform(0.7, 1.5, 14)
    across[0], tall[0], place[0] = 0.0, 1.0, place[0] * 0.6  # the tallest is always cut
    heights = tallest_um * tall * scan.seen(across, 0.45)
    heights[max(1, round(count)) :] = 0
    half_mm = (0.05 + 0.0013 * tallest_um * tall) * wide
    bumps = heights[:, None] * np.exp(-(np.abs((scan.x_mm - place[:, None]) / half_mm[:, None]) ** 2.4))
    rise = bumps.max(axis=0) / AXIAL_UM
    scan.open("sub-RPE", rise)
    scan.blend("ellipsoid", 0.42, np.clip(rise / 9, 0, 0.6))
    scan.blend("outer segments", 0.34, np.clip(rise / 5, 0, 0.6))


def cysts(
    scan: BScan, centre: float, half: float, *, count: float, size: float, rng: np.random.Generator, taken: tuple = ()
) -> None:
    """Dark cavities, taller than wide, in the inner or the outer nuclear layer; the first is near the centre.

    One that would overlap another of its layer, or columns that are `taken`, moves aside until a septum is between.
    """
    place = centre + half * rng.normal(0, 0.6, 24)
    place[0] = centre + half * rng.normal(0, 0.2)
    inner, share = rng.random(24) < 0.45, rng.uniform(0.5, 1.0, 24)
    slim, tone, shape = (rng.uniform(0.3, 0.95, 24), rng.uniform(0.05, 0.12, 24), rng.normal(0, 1, (24, 3)))
    full = {"inner nuclear": list(taken), "outer nuclear": list(taken)}
    for k in np.flatnonzero((place > scan.x_mm[0]) & (place < scan.x_mm[-1]))[: round(count)]:
        layer, below = ("inner nuclear", "outer plexiform") if inner[k] else ("outer nuclear", "myoid")
        upper, lower = scan.row(layer, place[k]), scan.row(below, place[k])
        away = 1 - 0.5 * min(1.0, abs(place[k] - centre) / (1.5 * half))
        tall = max(1.3, 0.5 * (lower - upper) * share[k] * away * (0.5 + 0.8 * size))
        wide = max(0.9, tall * slim[k])
        column = _beside(scan.column(place[k]), wide, full[layer], 1.0 if place[k] > centre else -1.0)
        full[layer].append((column - wide, column + wide))
        # The layer is found again: the cavity may have moved to where the retina is thinner or lies deeper.
        there = float(scan.x_mm[0]) + column * LATERAL_MM
        row = (scan.row(layer, there) + scan.row(below, there)) / 2
        _cavity(scan, column, row, wide, tall, tone[k], shape[k])


def _beside(column: float, wide: float, taken: list[tuple[float, float]], way: float) -> float:
    """The nearest place from `column` in direction `way` where a cavity clears the others by a septum of a pixel."""
    for left, right in sorted(taken, reverse=way < 0):
        if left - 1 < column + wide and column - wide < right + 1:
            column = right + 1 + wide if way > 0 else left - 1 - wide
    return column


def _cavity(scan: BScan, column: float, row: float, wide: float, tall: float, tone: float, shape: np.ndarray) -> None:
    lean, taper, bend = 0.1 * shape[0], 0.2 * np.tanh(shape[1]), 0.2 * np.tanh(shape[2])
    wall = Blob(column, row, wide + 0.75, tall + 0.75, 0.37, 0.5, lean, taper, bend, lesion=False)
    scan.blobs += [wall, Blob(column, row, wide, tall, tone, 0.97, lean, taper, bend)]


def _scatter(scan: BScan, kind: str, centre: float, half: float, *, count: float, rng: np.random.Generator) -> None:
    """Spots of a kind with their shadows, about `centre`."""
    most, spread, (upper, lower), wide, flat, (rim, middle), shadow = SPOTS[kind]
    places, depth = centre + half * rng.normal(0, spread, most), rng.random(most)
    wide, flat = rng.uniform(*wide, most), rng.uniform(*flat, most)
    for k, place in enumerate(places[: round(count)]):
        column, high = scan.column(place), scan.row(upper, place)
        row, tall = high + depth[k] * (scan.row(lower, place) - high), wide[k] * flat[k]
        scan.blobs.append(Blob(column, row, wide[k], tall, rim, 0.95))
        if middle != rim:
            scan.blobs.append(Blob(column, row, 0.5 * wide[k], 0.5 * tall, middle, 0.9))
        scan.streaks.append(Streak(column, 0.8 * wide[k], row + tall + 1, shadow))


def _windows(scan: BScan, centre: float, half: float, strength: float, rng: np.random.Generator) -> None:
    """Light through gaps in the pigment epithelium, and shadows of what lies thick on it."""
    place, wide, gain = (centre + half * rng.uniform(-1, 1, 9), rng.uniform(0.5, 4.5, 9), rng.normal(0.1, 1, 9))
    for x, half_width, factor in zip(place, wide, gain, strict=True):
        scan.streaks.append(Streak(scan.column(x), half_width, scan.row("choroid", x), strength * factor))


def plateau(x_mm: np.ndarray, centre: float, half: float) -> np.ndarray:
    return np.exp(-(np.abs((x_mm - centre) / half) ** 3))


def lens(x_mm: np.ndarray, centre: float, half: float) -> np.ndarray:
    """A lens of fluid: 1 at its centre, sharp at its edges."""
    return np.clip(1 - ((x_mm - centre) / half) ** 2, 0, 1) ** 0.8


def ripple(x_mm: np.ndarray, rng: np.random.Generator, scale_mm: float) -> np.ndarray:
    """A rough line between about -1 and 1, fixed to the tissue rather than to the image."""
    waves = 2 * np.pi / (scale_mm * rng.uniform(0.7, 4, 6))
    return np.sin(x_mm[:, None] * waves + rng.uniform(0, 2 * np.pi, 6)).sum(axis=1).astype(np.float32) / 2.6


def macular_hole(scan: BScan, severity: float, rng: np.random.Generator) -> None:
    """A full-thickness defect at the fovea: nothing between the vitreous and the pigment epithelium, edges that are
    swollen, round, lifted by a cuff of fluid and full of cysts, photoreceptors lost around it; at times the lid floats
    above.

    From 130 um across its narrowest part at severity 0 to 640 um at 1.
    """
    centre, shape = rng.normal(0, 0.04), rng.uniform(0.8, 1.2, 4)
    cut = float(scan.seen(rng.normal(0, 0.03), 0.62))
    half = (0.065 + 0.255 * severity) * shape[0] * cut
    away = np.abs(scan.x_mm - centre)
    # The retina thickens towards the hole, so that the pit's slope becomes a blunt edge.
    rim = np.exp(-0.5 * (np.clip(away - half - 0.12, 0, None) / 0.32) ** 2)
    shares = {"outer nuclear": 0.45, "outer plexiform": 0.1, "inner nuclear": 0.45}
    _swell(scan, shares, (60 + 95 * severity) * shape[1], rim)
    cuff = (20 + 62 * severity) * shape[2] / AXIAL_UM
    reach = half * 1.25 + 0.2 * shape[3]
    scan.open("subretinal", cuff * np.clip((reach - away) / 0.2, 0, 1) ** 0.8)
    lost = np.clip((1.5 * reach - away) / 0.12, 0, 1)
    for layer in ("myoid", "ellipsoid", "outer segments"):
        scan.blend(layer, 0.24, 0.9 * lost)
    seeds, side = rng.spawn(3), rng.choice((-1, 1))
    for k, way in enumerate((side, -side)):
        beside = centre + way * (half + 0.3)
        cysts(scan, beside, 0.18, count=(3 + 4 * severity) * (1 - 0.3 * k), size=0.4 + 0.4 * severity, rng=seeds[k])
    _gap(scan, away, half)
    if seeds[2].random() < 0.3:  # an operculum: the tissue that was torn out, in the vitreous above the hole
        row = scan.row("nerve fibres", centre) - seeds[2].uniform(8, 21)
        column, tall = scan.column(centre + seeds[2].normal(0, 0.05)), seeds[2].uniform(1.1, 2.0)
        scan.blobs.append(Blob(column, row, max(2.0, 0.6 * half / LATERAL_MM), tall, 0.42, 0.9))


def _gap(scan: BScan, away: np.ndarray, half: float) -> None:
    """The hole itself, open to the vitreous: `half` (mm) from its middle to its neck, round edges on both sides."""
    scan.settle()
    ceiling, floor = scan.top["nerve fibres"], scan.top["pigment epithelium"]
    for wide, start, end in ((0.14, floor, ceiling), (0.2, ceiling, floor)):
        u = np.clip(1 - (away - half) / wide, 0, 1)
        reached = start + np.where(away < half, 1, 0.5 * (1 - np.sqrt(1 - u**2))) * (end - start)
        over = 1.5 * (u > 0) * (start is ceiling)  # the vitreous begins above the retina's soft edge
        scan.fills.append(Fill(np.minimum(start, reached) - over, np.maximum(start, reached), VITREOUS))


def central_serous(scan: BScan, severity: float, rng: np.random.Generator) -> None:
    """Clear fluid lifts the whole retina off the pigment epithelium in a dome; the outer segments hang down from it,
    long and shaggy; more often than not a smaller dome of the epithelium itself lies beneath. No cysts.

    From 45 um high at severity 0 to 330 um at 1.
    """
    centre, half = rng.normal(0, 0.35), (0.55 + 0.75 * severity) * rng.uniform(0.75, 1.3)
    cut = max(0.5, float(scan.seen(rng.normal(0, 0.15), 1.1)))
    rise = lens(scan.x_mm, centre, half) * (45 + 285 * severity) * rng.uniform(0.75, 1.15) * cut / AXIAL_UM
    rough, under, detached = ripple(scan.x_mm, rng, 0.12), rng.uniform(-0.6, 0.6), rng.random() < 0.6
    lifted = np.clip(rise / 3, 0, 1)
    # Outer segments that nothing sheds any more: longer where the retina is lifted, uneven, middling bright.
    scan.open("outer segments", lifted * (10 + 22 * severity) * np.clip(0.75 + 0.35 * rough, 0, None) / AXIAL_UM)
    scan.blend("outer segments", 0.40, 0.7 * lifted)
    scan.blend("ellipsoid", 0.48, 0.55 * lifted)
    scan.open("subretinal", rise)
    bump = rng.uniform(0.16, 0.34) + 0.14 * severity
    blister = lens(scan.x_mm, centre + under * half, bump) * (24 + 66 * severity) * rng.uniform(0.6, 1.2) / AXIAL_UM
    scan.open("sub-RPE", blister * detached)
    scan.blend("sub-RPE", 0.14, detached * np.clip(blister, 0, 1))
    seeds = rng.spawn(1)[0]
    for place in centre + half * seeds.uniform(-0.8, 0.8, 6)[: round(1 + 4 * severity)]:
        dot = seeds.uniform(0.45, 0.9)  # precipitates on the underside of the retina
        scan.blobs.append(Blob(scan.column(place), scan.row("subretinal", place) + 0.5, dot, dot, 0.62, 0.8))


def diabetic_retinopathy(scan: BScan, severity: float, rng: np.random.Generator) -> None:
    """Small things scattered over the retina: microaneurysms, hard exudates, single and run together, with their
    shadows, small cysts and some swelling. More fluid would be macular oedema.

    From four spots and 10 um of swelling at severity 0 to some 18 and 70 um at 1.
    """
    centre, half = rng.normal(0, 0.5), rng.uniform(0.7, 1.3)
    seeds, swell, spots = rng.spawn(4), rng.uniform(0.5, 1.2), rng.uniform(0.6, 1.0)
    reach = np.exp(-0.5 * ((scan.x_mm - centre) / (0.6 * half)) ** 2)
    shares = {"outer plexiform": 0.3, "inner nuclear": 0.4, "inner plexiform": 0.3}
    _swell(scan, shares, (10 + 60 * severity) * swell, reach, tone=0.34, amount=0.4 * severity)
    _scatter(scan, "plaques", centre, 0.7 * half, count=1 + 4 * severity * spots, rng=seeds[3])
    _scatter(scan, "exudates", centre, 0.8 * half, count=2 + 5.5 * severity * spots, rng=seeds[0])
    _scatter(scan, "microaneurysms", centre, half, count=1 + 5 * severity * spots, rng=seeds[1])
    cysts(scan, centre, 0.8 * half, count=8 * severity * swell, size=-0.05 + 0.3 * severity, rng=seeds[2])


LESIONS: dict[str, Callable[[BScan, float, np.random.Generator], None]] = {
    "NORMAL": lambda scan, severity, rng: None,
    "DRUSEN": drusen,
    "CNV": choroidal_neovascularisation,
    "DME": diabetic_macular_edema,
    "MH": macular_hole,
    "CSR": central_serous,
    "DR": diabetic_retinopathy,
}
