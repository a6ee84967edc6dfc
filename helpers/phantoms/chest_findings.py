"""Findings on phantom chest radiographs: what each changes in the body (`SHAPES`) and draws in the lungs (`FINDINGS`).

Every function makes the same draws whatever the severity, from the patient's own generator, so that all images of a
patient show the same disease. To add a finding, write a function of (scene, severity, rng) and name it in the table.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.phantoms import chest_bones
from helpers.phantoms.chest_anatomy import SIDES, WALL, Ball, Body, lobe_distance, union
from helpers.phantoms.chest_scene import WATER, Scene

LOBES = {  # a place in the middle of each lobe
    "RUL": (-6.5, -1.0, 14.0),
    "RML": (-7.0, 3.6, 5.2),
    "RLL": (-7.6, -3.0, 5.5),
    "LUL": (7.4, 1.5, 11.5),
    "LLL": (8.6, -3.4, 5.5),
}
LUNGS = (-12, -8, -1), (24, 14, 20)  # a box about them: a corner, and its extent in cm
APICAL_RADIUS = (0.4, 0.3)  # cm, the smallest apical nodule's, and what the largest has more
APEX = 0.22  # share of a lung's height, from its top, that is its apex
DENSITY = 2.2  # times water: a nodule that is partly calcified


def lobar(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Focal lobar consolidation: dense, in one lobe (seldom two), sharp at fissures, soft elsewhere, with air left in
    the bronchi. Kermany 2018, figure S6: 'Bacterial pneumonia ... typically exhibits a focal lobar consolidation'.
    """
    names = rng.permutation(list(LOBES))
    second = rng.random() < 0.2
    seeds = rng.spawn(3)
    consolidate(scene, str(names[0]), 5.6 + 3.6 * severity, 0.72 + 0.28 * severity, seeds[0])
    if second:
        consolidate(scene, str(names[1]), 2.0 + 2.2 * severity, 0.2 + 0.3 * severity, seeds[1])
    side = -1 if names[0].startswith("R") else 1  # the airways beside it are inflamed as well
    branches = scene.branches[side * scene.branches[:, 0] > 0]
    scene.clouds.append(chest_bones.cuffs(branches, 0.02 + 0.08 * severity, seeds[2]))


def consolidate(scene: Scene, lobe: str, radius: float, density: float, rng: np.random.Generator) -> None:
    """Fill a lobe's air within about `radius` cm of a place in it."""
    centre = np.array(LOBES[lobe]) + rng.normal(0, 1, 3) * (1.1, 1.3, 1.6)
    radii = radius * np.exp(0.16 * rng.normal(size=3))
    pattern = np.clip(0.9 + 0.16 * scene.noise(14, rng) + 0.08 * scene.noise(30, rng), 0.4, 1.3)
    ball = Ball(tuple(centre), tuple(radii))

    def place(places: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.minimum(union([ball], places), 3 * lobe_distance(lobe, *places))

    scene.opacity(place(scene.middle), density, 0.32 * radius, pattern)
    branches = scene.branches[
        (place(tuple(scene.branches[:, :3].T.copy())) > 0.3 * radius) & (scene.branches[:, 3] > 0.07)
    ]
    branches = branches[rng.random(len(branches)) < 0.8] * np.float32((1, 1, 1, 1.25, 1))
    branches[:, :3] += np.float32(0.3)
    scene.clouds.append(chest_bones.solid(branches, -0.9 * density * chest_bones.BLOOD))


def blown_up(body: Body, severity: float, rng: np.random.Generator) -> Body:
    """Small airways swollen shut trap air: the diaphragm is low and flat."""
    down = (0.4 + 1.4 * severity) * rng.uniform(0.2, 1)
    return body.change(domes=tuple(dome - down for dome in body.domes), flat=0.3 * severity)


def interstitial(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Both lungs, diffuse: thick bronchial walls, a net of lines, patchy haze. Kermany 2018, figure S6: viral pneumonia
    'manifests with a more diffuse "interstitial" pattern in both lungs'.
    """
    lead = rng.uniform(0.5, 1, 3)
    lead[rng.integers(3)] = 1.0
    focal, seeds = rng.random() < 0.35, rng.spawn(4)
    scene.clouds.append(chest_bones.cuffs(scene.branches, (0.07 + 0.17 * severity) * lead[0], seeds[0]))
    scene.clouds.append(chest_bones.net(scene.body, 1500, (0.008 + 0.024 * severity) * lead[1], seeds[1]))
    pattern = np.clip(0.35 + 0.6 * scene.noise(13, seeds[2]), 0, 1.8)
    depth = (0.05 + 0.14 * severity) * lead[2]
    scene.opacity(np.ones_like(scene.lungs), depth, 1.0, pattern)
    if focal:  # a collapsed patch, easily taken for a consolidation
        lobe = str(seeds[3].choice(list(LOBES)))
        consolidate(scene, lobe, 2.4 + 1.6 * severity, 0.2 + 0.4 * severity, seeds[3])
    roots = [Ball((side * 4.6, -0.6, 8.5), (4.2, 4.5, 5.0)) for side in SIDES]  # more of it about them
    scene.fill(roots, 0.04 + 0.15 * severity * lead[0], 3.0)


def ground_glass(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Peripheral, bilateral, basal: hazy patches along the outer wall, through which vessels still show."""
    patches(scene, 5 + round(7 * severity), 2.2 + 1.6 * severity, 0.12 + 0.26 * severity, rng, outer=True)
    scene.clouds.append(
        chest_bones.net(scene.body, 1100, 0.004 + 0.016 * severity, rng.spawn(1)[0], low=0.6, outer=0.9)
    )


def patches(scene: Scene, count: int, radius: float, density: float, rng: np.random.Generator, *, outer: bool) -> None:
    """Rounded hazy patches in both lungs, `outer` ones along the wall and low."""
    pattern = np.clip(0.85 + 0.35 * scene.noise(26, rng), 0.1, 1.7)
    n, u = rng.normal(size=(12, 3)), rng.random((12, 3))
    balls = []
    for k in range(min(count, 12)):
        side = SIDES[k % 2]
        z = 1.0 + 9 * u[k, 0] ** 1.4 if outer else 1.5 + 15 * u[k, 0]
        angle = np.pi * (0.25 + 0.45 * u[k, 1])  # from the back round to the side
        far = 0.84 if outer else 0.55 * (0.5 + u[k, 2])
        balls.append(Ball(scene.body.place(side, far, angle, z), tuple(radius * np.exp(0.2 * n[k]))))
    scene.fill(balls, density, 0.5 * radius, pattern)


def plates(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Airless plates across the bases."""
    n, u = rng.normal(size=(4, 6)), rng.random((4, 2))
    balls = []
    for k in range(2 + round(2 * severity)):
        side = SIDES[int(u[k, 0] < 0.5)]
        centre = (side * (6.8 + 0.8 * n[k, 0]), 0.5 + 2 * n[k, 1], scene.body.domes[0] + 2.0 + 3 * u[k, 1])
        balls.append(Ball(centre, (2.6 + 1.6 * severity, 3.2, 0.45 + 0.35 * severity), 0.25 * n[k, 2]))
    scene.fill(balls, 0.6 + 0.4 * severity, 0.3)


def heart_shadow(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """The heart itself is the finding, where its shadow is at least 3 cm deep."""
    scene.region |= scene.depth_of(scene.body.heart_balls()[:2]) > 3


def effusion(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Fluid in one pleural space, or seldom both: it hides the angle of the diaphragm and climbs the wall."""
    sides = SIDES if rng.random() < 0.25 else (int(rng.choice(SIDES)),)
    level = -2.9 + 9.5 * severity + 0.5 * min(scene.body.domes)
    x, _, z = scene.middle
    climb = 3.2 * np.exp(-np.clip(scene.body.distance(WALL, *scene.middle), 0, None) / np.float32(1.3))
    for side in sides:
        scene.opacity(np.minimum(side * x, np.float32(level) + climb - z), 1.0, 0.8)


def infiltration(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Ill-defined haze in patches anywhere."""
    patches(scene, 3 + round(4 * severity), 2.4 + 1.2 * severity, 0.14 + 0.26 * severity, rng, outer=False)


def _place(scene: Scene, rng: np.random.Generator, margin: float, corner: tuple, extent: tuple) -> np.ndarray:
    """A place in a lung, at least `margin` cm from its surface, within a box; the deepest where there is none."""
    spots = corner + rng.random((400, 3)) * extent
    return spots[np.argmax(np.minimum(chest_bones.lung_depth(scene.body, spots), margin))]


def mass(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """A solid lump more than 3 cm wide."""
    centre, radii = _place(scene, rng, 1.0, *LUNGS), (1.7 + 2.0 * severity) * np.exp(0.1 * rng.normal(size=3))
    scene.fill([Ball(tuple(centre), tuple(radii))], 1.0, 0.35)


def nodule(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """One to three solid spots up to 3 cm wide."""
    count, seeds = 1 + int(rng.random() < 0.3) + int(rng.random() < 0.15), rng.spawn(3)
    for k in range(count):
        radius = (0.55 + 0.75 * severity) * (1 - 0.2 * k)
        scene.clouds.append(_lump(_place(scene, seeds[k], 0.8, *LUNGS), radius, 0.9 * WATER))


def _lump(centre: np.ndarray, radius: float, density: float) -> np.ndarray:
    """A ball as a cloud, for what is too small for the coarse grid."""
    return chest_bones.cloud(np.array([centre]), 4 / 3 * np.pi * radius**3 * density, radius)


def pneumonia(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """A softer consolidation than BACTERIA."""
    lobe = str(rng.choice(list(LOBES)))
    consolidate(scene, lobe, 3.6 + 3.4 * severity, 0.3 + 0.4 * severity, rng.spawn(1)[0])


def pneumothorax(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Air between one lung and the wall, most of it above: no vessels there, and a thin line at the lung's edge."""
    side, body = int(rng.choice(SIDES)), scene.body
    widest = 1.0 + 3.4 * severity

    def gap(z: np.ndarray) -> np.ndarray:
        return np.float32(widest) * np.clip((z + 1) / np.float32(body.apex), 0.12, 1)

    def free(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.minimum(side * x, gap(z) - body.distance(WALL, x, y, z))

    scene.opacity(free(*scene.middle), -0.95 * body.air / (1 - body.air), 0.3)
    lost = scene.branches[free(*scene.branches[:, :3].T) > 0]
    scene.clouds.append(chest_bones.solid(lost, -chest_bones.BLOOD))
    spot = rng.random((6000, 2)).astype(np.float32)
    z, angle = -1 + (body.apex - 0.5) * spot[:, 0], np.pi * (0.12 + 0.76 * spot[:, 1])
    share = np.clip(1 - gap(z) / body.at("wall depth", z), 0.2, 1)
    line = np.stack(body.place(side, share, angle, z), axis=-1)
    line = line[side * line[:, 0] > 2.5]
    scene.clouds.append(chest_bones.cloud(line, 10 / 6000))


def edema(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Water in both lungs, most about their roots, with thick bronchial walls."""
    seeds = rng.spawn(3)
    pattern = np.clip(0.9 + 0.25 * scene.noise(16, seeds[0]), 0.2, 1.6)
    roots = [Ball((side * 5.0, -0.5, 8.0), (5.6, 6.0, 8.0)) for side in SIDES]
    scene.fill(roots, 0.12 + 0.3 * severity, 4.0, pattern)
    scene.clouds.append(chest_bones.cuffs(scene.branches, 0.05 + 0.12 * severity, seeds[1]))
    scene.clouds.append(chest_bones.net(scene.body, 900, 0.004 + 0.012 * severity, seeds[2], low=0.7, outer=0.5))


def overblown(body: Body, severity: float, rng: np.random.Generator) -> Body:
    down = 1.5 + 2.5 * severity
    return body.change(
        domes=tuple(dome - down for dome in body.domes),
        flat=0.4 + 0.45 * severity,
        air=body.air * (1 - 0.4 * severity),
        heart=body.heart * (1 - 0.1 * severity),
        depth=body.depth * (1.03 + 0.09 * severity),
        vessels=body.vessels * (1 - 0.25 * severity),
    )


def dark_lungs(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Large, dark lungs over flat domes: they are the finding."""
    scene.region |= scene.lung > 0.42 * np.percentile(scene.lung, 97)


def fibrosis(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """A coarse net, low and at the periphery."""
    scene.clouds.append(chest_bones.net(scene.body, 3200, 0.03 + 0.07 * severity, rng, low=0.75, outer=0.85))


def thick_pleura(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """A rind along one side's wall."""
    side, middle, half = int(rng.choice(SIDES)), rng.uniform(5, 16), rng.uniform(4.5, 8)
    x, _, z = scene.middle
    rind = (0.5 + 1.1 * severity) * np.clip(1.3 - np.square((z - middle) / half), 0, 1)
    scene.opacity(np.minimum(side * x - 3, rind - scene.body.distance(WALL, *scene.middle)), 1.0, 0.25)


def hernia(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Stomach behind the heart: a round shadow with a bubble of air in its upper half."""
    radius = 2.6 + 2.0 * severity
    centre = np.array([rng.normal(1.0, 0.8), -3.6, max(scene.body.domes) + 0.6 * radius])
    scene.fill([Ball(tuple(centre), (1.25 * radius, 0.9 * radius, radius))], 1.0, 0.4)
    scene.clouds.append(_lump(centre + (0, 0, 0.42 * radius), 0.58 * radius, -0.8 * WATER))


def apical_nodule(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """A solid ball in the upper third of the right lung, too small for the coarse grid of rays."""
    centre = _place(scene, rng, 0.8, (-10, -4, scene.body.apex - 6), (9, 8, 5.5))
    scene.clouds.append(_lump(centre, APICAL_RADIUS[0] + APICAL_RADIUS[1] * severity, DENSITY * WATER))


def right_apex(lung: np.ndarray) -> tuple[float, float]:
    """Row and column of the middle of the right lung's apex, which lies on the image's left, of a lung mask (h, w)."""
    rows, columns = np.nonzero(lung)
    right = columns < (columns.min() + columns.max()) / 2
    rows, columns = rows[right], columns[right]
    top = rows < rows.min() + APEX * (rows.max() - rows.min())
    return float(rows[top].mean()), float(columns[top].mean())


SHAPES: dict[str, Callable[[Body, float, np.random.Generator], Body]] = {
    "VIRUS": blown_up,
    "Cardiomegaly": lambda body, severity, rng: body.change(heart=body.heart * (1.1 + 0.26 * severity)),
    "Emphysema": overblown,
}
FINDINGS: dict[str, Callable[[Scene, float, np.random.Generator], None]] = {
    "NORMAL": lambda scene, severity, rng: None, "BACTERIA": lobar, "VIRUS": interstitial, "COVID-19": ground_glass,
    "Atelectasis": plates, "Cardiomegaly": heart_shadow, "Effusion": effusion, "Infiltration": infiltration,
    "Mass": mass, "Nodule": nodule, "Pneumonia": pneumonia, "Pneumothorax": pneumothorax, "Consolidation": lobar,
    "Edema": edema, "Emphysema": dark_lungs, "Fibrosis": fibrosis, "Pleural_Thickening": thick_pleura,
    "Hernia": hernia, "Apical nodule": apical_nodule,
}  # fmt: skip
