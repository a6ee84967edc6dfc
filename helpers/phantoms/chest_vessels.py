"""What the lungs hold: vessels, airways and, in disease, thickened tissue between; clouds as in `chest_bones`."""

from __future__ import annotations

import numpy as np

from helpers.phantoms.chest_anatomy import SIDES, Body, at, heart_balls, lung_distance
from helpers.phantoms.chest_bones import Cloud

LEVELS, STEMS = 5, 12  # branchings, and branches that leave a lung's root
SAMPLES = 13  # places along a branch
NET = 8  # places along a line of the net
BLOOD = 0.17  # attenuation a cm, above the lung's


def tree(body: Body, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both lungs' vessels: centres (n, 3), radius (n,), and length that each stands for (n,), all in cm."""
    centres, radii, lengths = [], [], []
    for side in SIDES:
        root = np.array([side * 3.3, -0.6, 9.3 if side < 0 else 10.2])
        fan = (np.arange(STEMS) + rng.random(STEMS)) / STEMS * 2.75 - 1.5  # from straight down to nearly straight up
        way = np.stack([side * np.cos(fan), rng.normal(-0.1, 0.6, STEMS), np.sin(fan)], axis=-1)
        start = root + rng.normal(0, 0.5, (STEMS, 3))
        radius = 0.33 * np.exp(0.25 * rng.normal(size=STEMS)) * (1 - 0.2 * (way[:, 2] > 0)) * body.vessels
        for level in range(LEVELS):
            way /= np.linalg.norm(way, axis=1, keepdims=True)
            reach = 4.2 * 0.8**level * np.exp(0.2 * rng.normal(size=len(way)))
            t = np.linspace(0, 1, SAMPLES)[None, :, None]
            bend = rng.normal(0, 0.25, way.shape)
            line = start[:, None] + reach[:, None, None] * (t * way[:, None] + t * t * bend[:, None])
            centres.append(line.reshape(-1, 3))
            radii.append((radius[:, None] * np.linspace(1, 0.74, SAMPLES)).ravel())
            lengths.append(np.repeat(reach / SAMPLES, SAMPLES))
            start, radius = np.repeat(line[:, -1], 2, axis=0), np.repeat(radius * 0.72, 2)
            way = np.repeat(way + bend, 2, axis=0) + rng.normal(0, 0.42, (2 * len(way), 3))
    points = np.concatenate(centres).astype(np.float32)
    inside = in_lung(body, points, -0.2)
    return points[inside], np.concatenate(radii)[inside], np.concatenate(lengths)[inside]


def in_lung(body: Body, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Which points (n, 3) lie in a lung, by more than `margin` cm."""
    x, y, z = points.T
    distance = lung_distance(body, x, y, z)
    for ball in heart_balls(body):
        distance = np.minimum(distance, -ball.inside(x, y, z))
    return distance > margin


def solid(branches: tuple[np.ndarray, np.ndarray, np.ndarray], density: float, rng: np.random.Generator) -> Cloud:
    """Branches as filled tubes of this attenuation a cm."""
    parts = []
    for chosen, count in ((branches[1] > 0.16, 22), (branches[1] <= 0.16, 3)):
        points, radius, length = (part[chosen] for part in branches)
        spread = rng.normal(size=(count, len(points), 3)) * np.maximum(0.5 * radius, 0.25 * length)[:, None]
        parts.append(((points + spread).reshape(-1, 3), np.tile(np.pi * radius**2 * length * density / count, count)))
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def cuffs(branches: tuple[np.ndarray, np.ndarray, np.ndarray], density: float, rng: np.random.Generator) -> Cloud:
    """Thickened walls around the airways that go with the larger branches: rings end on, tram lines from the side."""
    points, radius, length = branches
    large = radius > 0.1
    points, radius, length = points[large], radius[large] + 0.12, length[large]
    way = rng.normal(size=(14, len(points), 3)).astype(np.float32)
    way /= np.linalg.norm(way, axis=-1, keepdims=True)
    points = points + rng.normal(0, 0.12, points.shape)
    mass = 2 * np.pi * radius * 0.1 * length * density / 14
    return (points + way * radius[:, None].astype(np.float32)).reshape(-1, 3), np.tile(mass, 14)


def net(
    body: Body, count: int, density: float, rng: np.random.Generator, *, low: float = 0.0, outer: float = 0.0
) -> Cloud:
    """A net of short lines in both lungs, `density` attenuation times cm a cm of line.

    `low` favours the bases and `outer` the periphery, both from 0 to 1. Draws do not depend on `density`.
    """
    spot = rng.random((count, 3)) * (2 * body.width, 18 * body.depth, body.apex + 6) - (body.width, 9.2 * body.depth, 6)
    way = rng.normal(size=(count, 3))
    way *= rng.uniform(0.5, 1.3, count)[:, None] / np.linalg.norm(way, axis=1, keepdims=True)
    chance = rng.random(count)
    keep = chance < 1 - low * np.clip(spot[:, 2] / 12, 0, 1)
    depth = lung_distance(body, *spot.astype(np.float32).T)
    keep &= chance > outer * np.clip(depth / 3.0, 0, 1)
    spot, way = spot[keep], way[keep]
    t = np.linspace(-0.5, 0.5, NET)[None, :, None]
    points = (spot[:, None] + t * way[:, None]).reshape(-1, 3).astype(np.float32)
    mass = np.repeat(np.linalg.norm(way, axis=1) * density / NET, NET)
    inside = in_lung(body, points)
    return points[inside], mass[inside]


def airway(body: Body, rng: np.random.Generator) -> Cloud:
    """The trachea and main bronchi: air, so masses below 0."""
    split = np.array([0.3, -1.8, 11.3])
    parts = []
    paths = [
        np.array([[0.0, 0.8, body.apex + 7], [0.1, -0.4, body.apex - 2], [0.25, -1.3, 15.0], split]),
        np.array([split, split + (-1.6, -0.1, -1.7), split + (-3.4, -0.2, -2.7)]),
        np.array([split, split + (2.1, -0.1, -1.3), split + (4.3, -0.4, -1.8)]),
    ]
    for path, radius in zip(paths, (0.95, 0.65, 0.55), strict=True):
        t = rng.random(2200)
        line = np.stack([np.interp(t * (len(path) - 1), np.arange(len(path)), path[:, k]) for k in range(3)], axis=-1)
        turn, far = rng.random(2200) * 2 * np.pi, radius * np.sqrt(rng.random(2200))
        line += np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=-1) * far[:, None]
        long = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
        parts.append((line, np.full(2200, -0.19 * np.pi * radius**2 * long / 2200)))
    points = np.concatenate([p for p, _ in parts]).astype(np.float32)
    points[:, 0] += at(body, "lateral", points[:, 2])
    return points, np.concatenate([m for _, m in parts]) * (0.95 - 0.3 * body.child)
