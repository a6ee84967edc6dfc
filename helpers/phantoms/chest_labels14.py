"""The fourteen labels of ChestX-ray14 as simple drawings: what each does to a body and to its lungs.

Read after `chest_findings`, whose registry they join. Draws do not depend on severity.
"""

from __future__ import annotations

import numpy as np

from helpers.phantoms import chest_vessels
from helpers.phantoms.chest_anatomy import SIDES, Ball, Body, at, with_profile
from helpers.phantoms.chest_findings import FINDINGS, LOBES, consolidate, finding, patches, shape
from helpers.phantoms.chest_scene import WATER, Scene


@finding("Atelectasis")
def plates(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Airless plates across the bases."""
    n, u = rng.normal(size=(4, 6)), rng.random((4, 2))
    for k in range(2 + round(2 * severity)):
        side = SIDES[int(u[k, 0] < 0.5)]
        centre = (side * (6.8 + 0.8 * n[k, 0]), 0.5 + 2 * n[k, 1], scene.body.domes[0] + 2.0 + 3 * u[k, 1])
        plate = Ball(centre, (2.6 + 1.6 * severity, 3.2, 0.45 + 0.35 * severity), 0.25 * n[k, 2])
        scene.opacity(plate.inside, scene.rays.window(centre, plate.reach), 0.6 + 0.4 * severity, 0.3)


@shape("Cardiomegaly")
def large_heart(body: Body, severity: float, rng: np.random.Generator) -> Body:
    return with_profile(body, heart=body.heart * (1.1 + 0.26 * severity))


@finding("Cardiomegaly")
def heart_shadow(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """The heart itself is the finding."""
    scene.region |= scene.heart_region()


@finding("Effusion")
def effusion(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Fluid in one pleural space, or seldom both: it hides the angle of the diaphragm and climbs the wall."""
    sides = SIDES if rng.random() < 0.25 else (int(rng.choice(SIDES)),)
    for side in sides:
        level = np.float32(-3.2 + 9.5 * severity + 0.5 * min(scene.body.domes))

        def fluid(
            x: np.ndarray, y: np.ndarray, z: np.ndarray, side: int = side, level: np.float32 = level
        ) -> np.ndarray:
            climb = np.float32(3.2) * np.exp(-np.clip(scene.wall(x, y, z), 0, None) / np.float32(1.3))
            return np.minimum(side * x, level + climb - z)

        scene.opacity(fluid, scene.everywhere(), 1.0, 0.8)


@finding("Infiltration")
def infiltration(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Ill-defined haze in patches anywhere."""
    patches(scene, 3 + round(4 * severity), 2.4 + 1.2 * severity, 0.14 + 0.26 * severity, rng, outer=False)


def _place(scene: Scene, rng: np.random.Generator, margin: float) -> np.ndarray:
    """A place in a lung, at least `margin` cm from its surface."""
    spots = rng.random((200, 3)) * (24, 14, 20) - (12, 8, 1)
    inside = np.flatnonzero(chest_vessels.in_lung(scene.body, spots.astype(np.float32), margin))
    return spots[inside[0]] if len(inside) else np.array([-6.5, -3.0, 9.0])


@finding("Mass")
def mass(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """A solid lump more than 3 cm wide."""
    centre, radii = _place(scene, rng, 1.0), (1.7 + 2.0 * severity) * np.exp(0.1 * rng.normal(size=3))
    ball = Ball(tuple(centre), tuple(radii))
    scene.opacity(ball.inside, scene.rays.window(centre, ball.reach), 1.0, 0.35)


@finding("Nodule")
def nodule(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """One to three solid spots up to 3 cm wide."""
    count, seeds = 1 + int(rng.random() < 0.3) + int(rng.random() < 0.15), rng.spawn(3)
    for k in range(count):
        radius = (0.55 + 0.75 * severity) * (1 - 0.2 * k)
        scene.add(_lump(_place(scene, seeds[k], 0.8), radius, 0.9 * WATER, seeds[k]))


def _lump(centre: np.ndarray, radius: float, density: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A ball as a cloud, for what is too small for the coarse grid."""
    way = rng.normal(size=(2500, 3))
    way *= (radius * np.cbrt(rng.random(2500)) / np.linalg.norm(way, axis=1))[:, None]
    return (centre + way).astype(np.float32), np.full(2500, 4 / 3 * np.pi * radius**3 * density / 2500)


@finding("Pneumonia")
def pneumonia(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """A softer consolidation than BACTERIA."""
    lobe = str(rng.choice(list(LOBES)))
    consolidate(scene, lobe, 3.6 + 3.4 * severity, 0.3 + 0.4 * severity, rng.spawn(1)[0])


@finding("Consolidation")
def consolidation(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """As BACTERIA."""
    FINDINGS["BACTERIA"](scene, severity, rng)


@finding("Pneumothorax")
def pneumothorax(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Air between one lung and the wall, most of it above: no vessels there, and a thin line at the lung's edge."""
    side, body = int(rng.choice(SIDES)), scene.body
    widest = 1.0 + 3.4 * severity

    def gap(z: np.ndarray) -> np.ndarray:
        return np.float32(widest) * np.clip((z + 1) / np.float32(body.apex), 0.12, 1)

    def free(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.minimum(side * x, gap(z) - scene.wall(x, y, z))

    scene.opacity(free, scene.everywhere(), -0.95 * body.air / (1 - body.air), 0.3)
    points, radius, length = scene.branches
    bare = free(*points.T) > 0
    lost = points[bare], radius[bare], length[bare]
    scene.add(chest_vessels.solid(lost, -chest_vessels.BLOOD, rng.spawn(1)[0]))
    spot = rng.random((6000, 2)).astype(np.float32)
    z, angle = -1 + (body.apex - 0.5) * spot[:, 0], np.pi * (0.12 + 0.76 * spot[:, 1])
    half = at(body, "half", z)
    share = np.clip(1 - gap(z) / half, 0.2, 1)
    x = side * share * at(body, "wall", z) * np.sin(angle)
    line = np.stack([x, at(body, "middle", z) - share * half * np.cos(angle), z], axis=-1)
    scene.add((line[side * x > 2.5], np.full(int((side * x > 2.5).sum()), 10 / 6000)))


@finding("Edema")
def edema(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Water in both lungs, most about their roots, with thick bronchial walls."""
    seeds = rng.spawn(3)
    pattern = np.clip(0.9 + 0.25 * scene.noise(16, seeds[0]), 0.2, 1.6)
    for side in SIDES:
        ball = Ball((side * 5.0, -0.5, 8.0), (5.6, 6.0, 8.0))
        scene.opacity(ball.inside, scene.rays.window(ball.centre, ball.reach), 0.12 + 0.3 * severity, 4.0, pattern)
    scene.add(chest_vessels.cuffs(scene.branches, 0.05 + 0.12 * severity, seeds[1]))
    scene.add(chest_vessels.net(scene.body, 900, 0.004 + 0.012 * severity, seeds[2], low=0.7, outer=0.5))


@shape("Emphysema")
def overblown(body: Body, severity: float, rng: np.random.Generator) -> Body:
    down = 1.5 + 2.5 * severity
    return with_profile(
        body,
        domes=(body.domes[0] - down, body.domes[1] - down),
        flat=0.4 + 0.45 * severity,
        air=body.air * (1 - 0.4 * severity),
        heart=body.heart * (1 - 0.1 * severity),
        depth=body.depth * (1.03 + 0.09 * severity),
        vessels=body.vessels * (1 - 0.25 * severity),
    )


@finding("Emphysema")
def dark_lungs(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Large, dark lungs over flat domes: they are the finding."""
    scene.region |= scene.lung > 0.42 * np.percentile(scene.lung, 97)


@finding("Fibrosis")
def fibrosis(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """A coarse net, low and at the periphery."""
    scene.add(chest_vessels.net(scene.body, 3200, 0.03 + 0.07 * severity, rng, low=0.75, outer=0.85))


@finding("Pleural_Thickening")
def thick_pleura(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """A rind along one side's wall."""
    side, middle, half = int(rng.choice(SIDES)), rng.uniform(5, 16), rng.uniform(4.5, 8)
    deep = np.float32(0.5 + 1.1 * severity)

    def rind(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        taper = np.clip(1.3 - np.square((z - np.float32(middle)) / np.float32(half)), 0, 1)
        return np.minimum(side * x - 3, deep * taper - scene.wall(x, y, z))

    scene.opacity(rind, scene.everywhere(), 1.0, 0.25)


@finding("Hernia")
def hernia(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Stomach behind the heart: a round shadow with a bubble of air in its upper half."""
    radius = 2.6 + 2.0 * severity
    centre = np.array([rng.normal(1.0, 0.8), -3.6, max(scene.body.domes) + 0.6 * radius])
    ball = Ball(tuple(centre), (1.25 * radius, 0.9 * radius, radius))
    scene.opacity(ball.inside, scene.rays.window(centre, ball.reach), 1.0, 0.4)
    points, weights = _lump(centre, 0.8 * radius, -0.8 * WATER, rng)
    upper = points[:, 2] > centre[2] + 0.1 * radius
    scene.add((points[upper], weights[upper]))
