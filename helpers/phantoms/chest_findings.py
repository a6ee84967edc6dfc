"""Findings on phantom chest radiographs: a registry of what each changes in the body and draws in the lungs.

Every function makes the same draws whatever the severity, from the patient's own generator, so that all images of a
patient show the same disease. To add a finding, decorate a function of (scene, severity, rng) with its label.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.phantoms import chest_vessels
from helpers.phantoms.chest_anatomy import SIDES, Ball, Body, at, with_profile
from helpers.phantoms.chest_scene import Scene

Draw = Callable[[Scene, float, np.random.Generator], None]
Shape = Callable[[Body, float, np.random.Generator], Body]
FINDINGS: dict[str, Draw] = {}  # filled below
SHAPES: dict[str, Shape] = {}  # findings that change the body itself
LOBES = {  # a place in the middle of each lobe
    "RUL": (-6.5, -1.0, 14.0),
    "RML": (-7.0, 3.6, 5.2),
    "RLL": (-7.6, -3.0, 5.5),
    "LUL": (7.4, 1.5, 11.5),
    "LLL": (8.6, -3.4, 5.5),
}


def finding(label: str) -> Callable[[Draw], Draw]:
    """Register what draws this finding."""

    def register(function: Draw) -> Draw:
        FINDINGS[label] = function
        return function

    return register


def shape(label: str) -> Callable[[Shape], Shape]:
    """Register how a patient with this finding is built."""

    def register(function: Shape) -> Shape:
        SHAPES[label] = function
        return function

    return register


@finding("NORMAL")
def normal(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Nothing to see."""


@finding("BACTERIA")
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
    near = side * scene.branches[0][:, 0] > 0
    branches = tuple(part[near] for part in scene.branches)
    scene.add(chest_vessels.cuffs(branches, 0.02 + 0.08 * severity, seeds[2]))


def consolidate(scene: Scene, lobe: str, radius: float, density: float, rng: np.random.Generator) -> None:
    """Fill a lobe's air within about `radius` cm of a place in it."""
    centre = np.array(LOBES[lobe]) + rng.normal(0, 1, 3) * (1.1, 1.3, 1.6)
    radii = radius * np.exp(0.16 * rng.normal(size=3))
    pattern = np.clip(0.9 + 0.16 * scene.noise(14, rng) + 0.08 * scene.noise(30, rng), 0.4, 1.3)
    ball, within = Ball(tuple(centre), tuple(radii)), scene.lobe(lobe)

    def place(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return np.minimum(ball.inside(x, y, z), 3 * within(x, y, z))

    scene.opacity(place, scene.rays.window(centre, max(radii)), density, 0.32 * radius, pattern)
    points, width, length = scene.branches
    airs = (place(*points.T) > 0.3 * radius) & (width > 0.07) & (rng.random(len(points)) < 0.8)
    branches = points[airs] + np.float32(0.3), 1.25 * width[airs], length[airs]
    scene.add(chest_vessels.solid(branches, -0.9 * density * chest_vessels.BLOOD, rng))


@shape("VIRUS")
def blown_up(body: Body, severity: float, rng: np.random.Generator) -> Body:
    """Small airways swollen shut trap air: the diaphragm is low and flat."""
    down = (0.4 + 1.4 * severity) * rng.uniform(0.2, 1)
    return with_profile(body, domes=(body.domes[0] - down, body.domes[1] - down), flat=0.3 * severity)


@finding("VIRUS")
def interstitial(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Both lungs, diffuse: thick bronchial walls, a net of lines, patchy haze. Kermany 2018, figure S6: viral pneumonia
    'manifests with a more diffuse "interstitial" pattern in both lungs'.
    """
    lead = rng.uniform(0.5, 1, 3)
    lead[rng.integers(3)] = 1.0
    focal, seeds = rng.random() < 0.35, rng.spawn(4)
    scene.add(chest_vessels.cuffs(scene.branches, (0.07 + 0.17 * severity) * lead[0], seeds[0]))
    scene.add(chest_vessels.net(scene.body, 1500, (0.008 + 0.024 * severity) * lead[1], seeds[1]))
    pattern = np.clip(0.35 + 0.6 * scene.noise(13, seeds[2]), 0, 1.8)
    depth = (0.05 + 0.14 * severity) * lead[2]
    scene.opacity(lambda x, y, z: np.ones_like(x), scene.everywhere(), depth, 1.0, pattern)
    if focal:  # a collapsed patch, easily taken for a consolidation
        lobe = str(seeds[3].choice(list(LOBES)))
        consolidate(scene, lobe, 2.4 + 1.6 * severity, 0.2 + 0.4 * severity, seeds[3])
    for side in SIDES:  # more of it about the lungs' roots
        ball = Ball((side * 4.6, -0.6, 8.5), (4.2, 4.5, 5.0))
        scene.opacity(ball.inside, scene.rays.window(ball.centre, 5), 0.04 + 0.15 * severity * lead[0], 3.0)


@finding("COVID-19")
def ground_glass(scene: Scene, severity: float, rng: np.random.Generator) -> None:
    """Peripheral, bilateral, basal: hazy patches along the outer wall, through which vessels still show."""
    patches(scene, 5 + round(7 * severity), 2.2 + 1.6 * severity, 0.12 + 0.26 * severity, rng, outer=True)
    scene.add(chest_vessels.net(scene.body, 1100, 0.004 + 0.016 * severity, rng.spawn(1)[0], low=0.6, outer=0.9))


def patches(
    scene: Scene, count: int, radius: float, density: float, rng: np.random.Generator, *, outer: bool, most: int = 12
) -> None:
    """Rounded hazy patches in both lungs, `outer` ones along the wall and low."""
    pattern = np.clip(0.85 + 0.35 * scene.noise(26, rng), 0.1, 1.7)
    n, u = rng.normal(size=(most, 3)), rng.random((most, 3))
    for k in range(min(count, most)):
        side = SIDES[k % 2]
        z = 1.0 + 9 * u[k, 0] ** 1.4 if outer else 1.5 + 15 * u[k, 0]
        angle = np.pi * (0.25 + 0.45 * u[k, 1])  # from the back round to the side
        far = 0.84 if outer else 0.55 * (0.5 + u[k, 2])
        height = np.float32(z)
        x = side * far * float(at(scene.body, "wall", height)) * np.sin(angle)
        y = float(at(scene.body, "middle", height)) - far * float(at(scene.body, "half", height)) * np.cos(angle)
        radii = radius * np.exp(0.2 * n[k])
        ball = Ball((x, y, z), tuple(radii))
        scene.opacity(ball.inside, scene.rays.window(ball.centre, ball.reach), density, 0.5 * radius, pattern)
