"""Diseases of the second OCT study among the phantoms: macular hole, central serous and diabetic retinopathy.

Carr 2020, Retinal Disease: "Normal, Macula Hole (MH), Diabetic Retinopathy (DR), or Central Serous Retinopathy (CSR)".
Importing this module adds them to the registry of `phantom_lesions`; they are drawn as the lesions there are, from the
patient's own generator and with the same number of draws whatever the severity. Sizes are in the range of clinical
descriptions, in round numbers; nothing here was measured on images.
"""

from __future__ import annotations

import numpy as np

from helpers.phantoms.oct_lesions import cysts, exudates, lens, lesion, plateau, ripple
from helpers.phantoms.scan import AXIAL_UM, LATERAL_MM, Blob, BScan, Fill, Streak

VITREOUS = 0.0  # tone of what is no tissue


@lesion("MH")
def macular_hole(scan: BScan, severity: float, rng: np.random.Generator) -> None:
    """A full-thickness defect at the fovea: nothing between the vitreous and the pigment epithelium, edges that are
    swollen, lifted by a cuff of fluid and full of cysts, photoreceptors lost around it; at times the lid floats above.

    From 130 um across its narrowest part at severity 0 to 640 um at 1.
    """
    centre, shape = rng.normal(0, 0.04), rng.uniform(0.8, 1.2, 4)
    cut = float(scan.seen(rng.normal(0, 0.03), 0.62))
    half = (0.065 + 0.255 * severity) * shape[0] * cut
    away = np.abs(scan.x_mm - centre)
    _swollen_edges(scan, away, half, (45 + 95 * severity) * shape[1])
    cuff = (14 + 62 * severity) * shape[2] / AXIAL_UM
    reach = half * 1.25 + 0.13 * shape[3]
    scan.open("subretinal", cuff * np.clip((reach - away) / 0.16, 0, 1))
    lost = np.clip((1.5 * reach - away) / 0.12, 0, 1)
    for layer in ("myoid", "ellipsoid", "outer segments"):
        scan.blend(layer, 0.24, 0.9 * lost)
    seeds, side = rng.spawn(3), rng.choice((-1, 1))
    for k, way in enumerate((side, -side)):
        beside = centre + way * (half + 0.24)
        cysts(scan, beside, 0.17, count=(2.5 + 4 * severity) * (1 - 0.35 * k), size=0.25 + 0.3 * severity, rng=seeds[k])
    _gap(scan, away, half)
    if seeds[2].random() < 0.3:
        _lid(scan, centre, half, seeds[2])


def _swollen_edges(scan: BScan, away: np.ndarray, half: float, microns: float) -> None:
    """The retina thickens towards the hole, so that the pit's slope becomes a blunt edge."""
    rim = np.exp(-0.5 * (np.clip(away - half - 0.06, 0, None) / 0.3) ** 2)
    for layer, share in (("outer nuclear", 0.45), ("outer plexiform", 0.1), ("inner nuclear", 0.45)):
        scan.open(layer, microns * share / AXIAL_UM * rim)


def _gap(scan: BScan, away: np.ndarray, half: float) -> None:
    """The hole itself, open to the vitreous: as wide as `half` (mm) says at its neck, with rounded upper shoulders."""
    scan.settle()
    ceiling, floor = scan.top["nerve fibres"], scan.top["pigment epithelium"]
    shoulder = 0.11
    u = np.clip((away - half) / shoulder, 0, 1)
    deep = 0.42 * (floor - ceiling) * (1 - np.sqrt(1 - (1 - u) ** 2))
    bottom = np.where(away < half, floor, ceiling + deep)
    upper = np.where(u < 1, ceiling - 3, bottom)
    scan.fills.append(Fill(upper, np.where(u < 1, bottom, upper), VITREOUS))


def _lid(scan: BScan, centre: float, half: float, rng: np.random.Generator) -> None:
    """An operculum: the tissue that was torn out, in the vitreous above the hole."""
    wide = max(4.0, 0.6 * half / LATERAL_MM)
    row = scan.row("nerve fibres", centre) - rng.uniform(16, 42)
    scan.blobs.append(Blob(scan.column(centre + rng.normal(0, 0.05)), row, wide, rng.uniform(2.2, 4.0), 0.42, 0.9))


@lesion("CSR")
def central_serous(scan: BScan, severity: float, rng: np.random.Generator) -> None:
    """Clear fluid lifts the whole retina off the pigment epithelium in a dome; the outer segments hang down from it,
    long and shaggy; more often than not a smaller dome of the epithelium itself lies beneath. No cysts.

    From 45 um high at severity 0 to 330 um at 1.
    """
    centre, half = rng.normal(0, 0.35), (0.55 + 0.75 * severity) * rng.uniform(0.75, 1.3)
    cut = max(0.5, float(scan.seen(rng.normal(0, 0.15), 1.1)))
    rise = lens(scan.x_mm, centre, half) * (45 + 285 * severity) * rng.uniform(0.75, 1.15) * cut / AXIAL_UM
    rough, under, detached = ripple(scan.x_mm, rng, 0.12), rng.uniform(-0.6, 0.6), rng.random() < 0.6
    lifted = np.clip(rise / 6, 0, 1)
    _shaggy(scan, lifted, rough, severity)
    scan.open("subretinal", rise)
    bump = rng.uniform(0.16, 0.34) + 0.14 * severity
    blister = lens(scan.x_mm, centre + under * half, bump) * (24 + 66 * severity) * rng.uniform(0.6, 1.2) / AXIAL_UM
    scan.open("sub-RPE", blister * detached)
    scan.blend("sub-RPE", 0.14, detached * np.clip(blister, 0, 1))
    seeds = rng.spawn(1)[0]
    for place in centre + half * seeds.uniform(-0.8, 0.8, 6)[: round(1 + 4 * severity)]:
        dot = seeds.uniform(0.9, 1.8)  # precipitates on the underside of the retina
        scan.blobs.append(Blob(scan.column(place), scan.row("subretinal", place) + 1, dot, dot, 0.62, 0.8))


def _shaggy(scan: BScan, lifted: np.ndarray, rough: np.ndarray, severity: float) -> None:
    """Outer segments that nothing sheds any more: longer where the retina is lifted, uneven, middling bright."""
    longer = lifted * (10 + 22 * severity) * np.clip(0.75 + 0.35 * rough, 0, None) / AXIAL_UM
    scan.open("outer segments", longer)
    scan.blend("outer segments", 0.40, 0.7 * lifted)
    scan.blend("ellipsoid", 0.48, 0.55 * lifted)


@lesion("DR")
def diabetic_retinopathy(scan: BScan, severity: float, rng: np.random.Generator) -> None:
    """Small things scattered over the retina: microaneurysms, hard exudates, single and run together, with their
    shadows, small cysts, some swelling, and at times a cotton-wool spot in the nerve fibres. More fluid would be
    macular oedema.

    From four spots and 10 um of swelling at severity 0 to some 18 and 70 um at 1.
    """
    centre, half = rng.normal(0, 0.5), rng.uniform(0.7, 1.3)
    seeds, swell, spots = rng.spawn(5), rng.uniform(0.5, 1.2), rng.uniform(0.6, 1.0)
    reach = np.exp(-0.5 * ((scan.x_mm - centre) / (0.6 * half)) ** 2)
    for layer, share in (("outer plexiform", 0.3), ("inner nuclear", 0.4), ("inner plexiform", 0.3)):
        scan.open(layer, (10 + 60 * severity) * swell * share / AXIAL_UM * reach)
        scan.blend(layer, 0.34, 0.4 * severity * reach)
    _run_together(scan, centre, 0.7 * half, count=1 + 4 * severity * spots, rng=seeds[4])
    exudates(scan, centre, 0.8 * half, count=2 + 5.5 * severity * spots, rng=seeds[0])
    _microaneurysms(scan, centre, half, count=1 + 5 * severity * spots, rng=seeds[1])
    cysts(scan, centre, 0.8 * half, count=8 * severity * swell, size=-0.05 + 0.3 * severity, rng=seeds[2])
    if seeds[3].random() < 0.15 + 0.4 * severity:
        _cotton_wool(scan, seeds[3], severity)


def _run_together(
    scan: BScan, centre: float, half: float, *, count: float, rng: np.random.Generator, most: int = 5
) -> None:
    """Hard exudates that have become plaques in the outer plexiform layer, 80 to 200 um wide, with dark shadows."""
    place, wide = centre + half * rng.normal(0, 0.8, most), rng.uniform(3.5, 8.5, most)
    flat, depth = rng.uniform(0.4, 0.7, most), rng.uniform(0, 4, most)
    for k in range(round(count)):
        column = scan.column(place[k])
        if 0 < column < scan.width:
            row = scan.row("outer plexiform", place[k]) + depth[k]
            scan.blobs.append(Blob(column, row, wide[k], wide[k] * flat[k], 0.84, 0.95))
            scan.streaks.append(Streak(column, wide[k] * 0.8, row + 4, -0.45))


def _microaneurysms(
    scan: BScan, centre: float, half: float, *, count: float, rng: np.random.Generator, most: int = 6
) -> None:
    """Round outpouchings of capillaries, 40 to 110 um: a bright wall, a darker middle, a faint shadow."""
    place, depth = centre + half * rng.normal(0, 0.8, most), rng.uniform(0.1, 1, most)
    size = rng.uniform(2.6, 6.0, most)
    for k in range(round(count)):
        column = scan.column(place[k])
        if 0 < column < scan.width:
            row = np.interp(
                depth[k], (0, 1), (scan.row("inner nuclear", place[k]), scan.row("outer nuclear", place[k]))
            )
            scan.blobs += [
                Blob(column, row, size[k] * 0.8, size[k], 0.58, 0.95),
                Blob(column, row, size[k] * 0.4, size[k] * 0.5, 0.30, 0.9),
            ]
            scan.streaks.append(Streak(column, size[k] * 0.7, row + size[k] + 2, -0.16))


def _cotton_wool(scan: BScan, rng: np.random.Generator, severity: float) -> None:
    """Swollen nerve fibres where a small vessel has closed: a bright lens at the top of the retina, with a shadow."""
    place, half = rng.choice((-1, 1)) * rng.uniform(0.8, 1.9), rng.uniform(0.2, 0.36)
    tall = (24 + 26 * severity) / AXIAL_UM * plateau(scan.x_mm, place, half)
    scan.open("nerve fibres", tall)
    top = scan.top["nerve fibres"]
    scan.fills.append(Fill(top, top + 1.1 * tall, tone=0.66, grain=0.12))
    column, half_width = scan.column(place), half / LATERAL_MM
    scan.streaks.append(Streak(column, 0.7 * half_width, scan.row("ganglion cells", place) + 4, -0.22))
