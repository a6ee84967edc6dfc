"""What a phantom body holds, as clouds of points with a mass each: ribs, spine, clavicles, scapulae, sternum and arms;
the lungs' vessels and airways; in disease, thickened tissue between.

A cloud is an array (n, 5): x, y, z in the body's coordinates, mass (attenuation times cm^2 above that of the soft
tissue around) and radius of the ball over which it is spread. A long bone is a tube: a dense shell and a light core.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from helpers.phantoms.chest_anatomy import LUNG, SIDES, Body, join
from helpers.phantoms.store import rng_of

RIBS = 12
RIB_ENDS = np.radians([118, 140, 150, 152, 152, 150, 146, 138, 130, 120, 92, 68])  # where bone turns into cartilage
VERTEBRA = 2.62  # cm from one to the next
VERTEBRA_PARTS = (  # boxes: points, two corners in half sizes of the vertebra, and mass
    (160, (-1, -1, -1), (1, 1, 1), 1.2),  # its body
    (80, (-1, -1, 0.9), (1, 1, 1), 0.36),  # dense end plates
    (80, (-1, -1, -1), (1, 1, -0.9), 0.36),
    (40, (0.95, -1, -1), (1, 1, 1), 0.16),  # sides
    (40, (-1, -1, -1), (-0.95, 1, 1), 0.16),
    (50, (-1, 0.92, -1), (1, 1, 1), 0.2),  # the front
    (30, (0.45, -1.9, -0.1), (0.99, -0.8, 0.6), 0.2),  # pedicles
    (30, (-0.99, -1.9, -0.1), (-0.45, -0.8, 0.6), 0.2),
    (60, (-0.11, -3.6, -1.5), (0.11, -2.1, -0.4), 0.3),  # the spinous process
)
STEMS = (  # branches that leave a lung's root: degrees above the horizontal, forward, and radius in cm
    (-82, -0.5, 0.60), (-64, -0.2, 0.44), (-48, 0.5, 0.36), (-30, -0.7, 0.34), (-12, 0.6, 0.36), (8, -0.4, 0.28),
    (30, 0.4, 0.30), (48, -0.5, 0.30), (64, 0.3, 0.36), (80, -0.1, 0.34),
)  # fmt: skip
LEVELS = 5  # branchings
BONE_STEPS = 90  # places along a long bone
BLADE = 500  # points in the plate of a scapula
NET = 8  # places along a line of the net
BLOOD = 0.17  # attenuation per cm, above the lung's
MIRROR = np.float32((-1, 1, 1, 1, 1))


def skeleton(body: Body, lateral: bool, rng: np.random.Generator) -> np.ndarray:
    """Every bone that a chest radiograph shows."""
    long = [sternum(body, 0.5 if lateral else 0.15)]
    found = [ribs(body, 0.12 if lateral else 0.23, rng), spine(body, 0.9 if lateral else 0.32)]
    for side in SIDES:
        edges = scapula(body, side, lateral)
        long += [clavicle(body, side, rng), *edges] + ([] if lateral else [arm(body, side)])
        corners = edges[0][0][0], edges[0][0][-1], edges[1][0][0]  # the thin plate between the edges
        found.append(cloud(rng.dirichlet((1, 1, 1), BLADE) @ corners, 3.0 / BLADE, 0.35))
    found = np.concatenate([*found, bones(long)])
    found[:, 3] *= body.bone
    return found


def cloud(points: np.ndarray, mass: ArrayLike, radius: ArrayLike = 0.0) -> np.ndarray:
    """Points (..., 3), their mass and radius as a cloud (n, 5), float32."""
    found = np.empty((*points.shape[:-1], 5), np.float32)
    found[..., :3], found[..., 3], found[..., 4] = points, mass, radius
    return found.reshape(-1, 5)


def vertebra_height(body: Body, number: ArrayLike) -> ArrayLike:
    """Height of the middle of a thoracic vertebra: 1 is the first; 0 and less are those of the neck."""
    return body.apex - 1.2 - (VERTEBRA + 0.03 * (body.apex - 24)) * (number - 1)


def ribs(body: Body, density: float, rng: np.random.Generator) -> np.ndarray:
    """Twelve pairs of flat tubes on the chest wall, less dense towards their cartilage."""
    number, angle = np.arange(1, RIBS + 1)[:, None], np.linspace(0.2, RIB_ENDS, 140, axis=-1)
    fall = body.slope * np.clip(0.42 + 0.13 * number, 0, 1.08) + rng.normal(0, 0.15, (RIBS, 1))
    # From the spine a rib first rises a little, then falls ever faster, and levels where it meets its cartilage.
    z = vertebra_height(body, number) + 0.5 + 0.8 * np.sin(2 * angle) - fall * ((1 - np.cos(angle)) / 2) ** 0.95
    out = np.stack([np.sin(angle), -np.cos(angle), 0 * angle], axis=-1)
    wall = np.stack([body.at("wall", z), body.at("wall depth", z), 0 * z], axis=-1) + 0.25
    middle = np.stack([0 * z, body.at("middle", z), z], axis=-1)
    tall = (0.66 + 0.08 * np.sin(number / 3) - 0.04 * body.child) * (1 - 0.25 * (number > 10) - 0.1 * (number < 2))
    share = np.linspace(0, 1, angle.shape[1])
    dense = np.broadcast_to(density * np.interp(share, (0, 0.4, 1), (1.1, 1, 0.6)), angle.shape)
    found = tube(middle + wall * out, out, np.broadcast_to(tall, angle.shape), np.full_like(angle, 0.3), dense, 9)
    return np.concatenate([found, found * MIRROR])


@njit(cache=True)
def _cross(a, b):
    return np.array((a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]))


@njit(cache=True)
def tube(centre, out, across, along, density, around):
    """The shell and the core of tubes along `centre` (m, n, 3), as a cloud with `around` points at each place.

    Radii (m, n): `across`, square to the directions `out` (m, n, 3), and `along` them; `density` (m, n).
    """
    lines, places, _ = centre.shape
    found = np.zeros((lines * places * around, 5), np.float32)
    n = 0
    for m in range(lines):
        for k in range(places):
            first, last = max(k - 1, 0), min(k + 1, places - 1)
            way = (centre[m, last] - centre[m, first]) / (last - first)
            length = math.sqrt(way[0] ** 2 + way[1] ** 2 + way[2] ** 2)
            up = _cross(way, out[m, k])
            up /= math.sqrt(up[0] ** 2 + up[1] ** 2 + up[2] ** 2)
            front = _cross(way, up) / length
            for j in range(around):
                turn = 2 * math.pi * (j + (k * 0.618034) % 1) / around
                shell = (0.95, 0.7, 0.35)[j % 3]
                a, b = math.cos(turn) * shell * across[m, k], math.sin(turn) * shell * along[m, k]
                c = (j * 0.381966) % 1 - 0.5  # spread over the gap between two places
                for axis in range(3):
                    found[n, axis] = centre[m, k, axis] + a * up[axis] + b * front[axis] + c * way[axis]
                found[n, 3] = length * density[m, k] / around
                n += 1
    return found


@cache
def _weights(points: int, steps: int) -> np.ndarray:
    places = np.linspace(0, points - 1, steps)
    return np.vander(places, points) @ np.linalg.inv(np.vander(np.arange(points, dtype=float)))


def curve(path: ArrayLike, steps: int) -> np.ndarray:
    """Places (steps, 3) along a smooth curve (a polynomial) through the points `path`."""
    return _weights(len(path), steps) @ np.asarray(path, float)


def bones(long: list[tuple]) -> np.ndarray:
    """Long bones: of each a path, a radius at each of its points, and a density."""
    paths, radii, densities = zip(*long, strict=True)
    lines = np.stack([curve(path, BONE_STEPS) for path in paths])
    share = np.linspace(0, 1, BONE_STEPS)
    wide = np.stack([np.interp(share, np.arange(len(radius)) / (len(radius) - 1), radius) for radius in radii])
    dense = np.broadcast_to(np.array(densities)[:, None], wide.shape)
    return tube(lines, np.broadcast_to(np.array((0.3, 1.0, 0.1)), lines.shape), wide, wide, dense, 14)


@cache
def _spots() -> np.ndarray:
    """The points of one vertebra, in its half sizes, with their mass: the same in everybody."""
    rng = rng_of(7)
    return np.concatenate([cloud(rng.uniform(a, b, (n, 3)), mass / n) for n, a, b, mass in VERTEBRA_PARTS])


def spine(body: Body, density: float) -> np.ndarray:
    """Vertebrae from the neck to the loins, square to the spine's curve: bodies, end plates, pedicles and spines."""
    number = np.arange(-4, 14)
    z = vertebra_height(body, number)
    size = (0.9 + 0.022 * (number - 1)) * np.where(number < 1, 0.86, 1)
    middle = np.stack([body.at("lateral", z), body.at("spine", z), z], axis=-1)
    tall = np.full_like(size, 0.4 * VERTEBRA * (1 - 0.08 * body.child))
    spots, shape = _spots(), np.stack([1.55 * size, 1.45 * size, tall], axis=-1)
    places = spots[:, :3] * shape[:, None]
    lean = np.gradient(middle[:, 1], z)[:, None]
    y, up = places[..., 1].copy(), places[..., 2].copy()
    places[..., 1], places[..., 2] = y + lean * up, up - lean * y
    return cloud(places + middle[:, None], spots[:, 3] * density * np.where(number < 1, 1.3, 1)[:, None])


def sternum(body: Body, density: float) -> tuple:
    """Behind the skin of the front, from the notch down. From the front it hardly shows."""
    z = body.apex - 6.5 - np.array([0.0, 5.0, 10.0, 15.5])
    return np.stack([0 * z, body.at("front", z) + 0.9, z], axis=-1), (0.8, 0.6, 0.6, 0.4), density


def clavicle(body: Body, side: int, rng: np.random.Generator) -> tuple:
    """An S from the notch of the sternum to the shoulder."""
    low, lift = body.apex - 5.2 + rng.normal(0, 0.4), 3.0 + 1.8 * body.arms + 0.8 * body.child
    out = np.array([1.6, 6.0, 10.5, 16.0]) * (body.width / 13.2)
    up = low + lift * np.array([0.0, 0.45, 0.85, 0.9])
    path = np.stack([side * out, np.array([5.4, 5.6, 2.4, -0.4]), up], axis=-1)
    return path, np.array([0.95, 0.62, 0.6, 0.8]) * (1 - 0.2 * body.child), 0.4


def scapula(body: Body, side: int, lateral: bool) -> list[tuple]:
    """The thick edges of a thin blade: angles above and below, the joint, and the ridge to the shoulder's tip."""
    far = 0.6 + 0.5 * body.arms + (0.4 if lateral else 0.0)
    top = body.apex
    upper = np.array([side * (7.2 + 2.6 * far), -9.6 * body.depth, top - 3.0])
    lower = np.array([side * (9.0 + 4.2 * far), -9.8 * body.depth + 1.5 * far, top - 15.0 + 2.5 * far])
    joint = np.array([side * (14.6 + 0.6 * far), -4.2, top - 4.9])
    tip = np.array([side * 16.4, -1.0, top - 1.7])
    ridge = 0.6 * upper + 0.4 * lower
    edges = ((lower, joint, 0.42, 0.22), (upper, lower, 0.22, 0.1), (ridge, tip, 0.4, 0.18))
    bend = np.array([side * -0.5, 0, 0.2])
    return [
        (np.stack([start, (start + end) / 2 + bend, end]), (radius, radius), density)
        for start, end, radius, density in edges
    ]


def lift(body: Body) -> float:
    """Angle of the upper arms above the horizontal, hanging or raised."""
    return -1.3 + 2.2 * body.arms


def arm(body: Body, side: int) -> tuple:
    """The humerus."""
    way = np.array([side * np.cos(lift(body)), 0.1, np.sin(lift(body))])
    path = np.array([side * 17.0, -1.6, body.apex - 3.9 + 2 * body.arms]) + np.outer((0.0, 4.8, 12.0, 24.0), way)
    return path, (2.1, 1.2, 1.0, 1.0), 0.6


def tree(body: Body, rng: np.random.Generator) -> np.ndarray:
    """Both lungs' vessels (n, 5): x, y, z, radius, and length that each place stands for, all in cm."""
    side = np.repeat(SIDES, len(STEMS))
    angle, forward, radius = np.tile(np.array(STEMS), (2, 1)).T
    fan, n = np.radians(angle + rng.normal(0, 8, len(side))), rng.normal(size=(4, len(side)))
    way = np.stack([side * np.cos(fan), forward + 0.35 * n[0], np.sin(fan)], axis=-1)
    root = np.stack([side * 3.2, -0.6 + 0 * side, np.where(side < 0, 9.2, 10.2)], axis=-1)
    start, radius, parts = root + 0.4 * n[1:].T, radius * np.exp(0.15 * n[0]) * body.vessels, []
    for level in range(LEVELS):
        way /= np.linalg.norm(way, axis=1, keepdims=True)
        reach = 3.5 * 0.84**level * np.exp(0.25 * rng.normal(size=len(way)))
        places = 16 - 2 * level
        t = np.linspace(0, 1, places)[:, None]
        bend = rng.normal(0, 0.3, way.shape)
        line = start[:, None] + reach[:, None, None] * (t * way[:, None] + t * t * bend[:, None])
        branch = cloud(line, radius[:, None] * np.linspace(1, 0.8, places))
        branch[:, 4] = np.repeat(reach / places, places)
        parts.append(branch)
        # One child goes on, the other turns off and is thinner.
        turn = rng.normal(0, 0.3, (2, *way.shape)) * np.array((0.8, 2.0))[:, None, None]
        way = np.concatenate((way + bend) + turn)
        start, radius = np.tile(line[:, -1], (2, 1)), np.concatenate([0.78 * radius, 0.58 * radius])
    found = np.concatenate(parts)
    return found[lung_depth(body, found[:, :3]) > np.where(found[:, 3] > 0.25, -1.2, 0.0)]


def lung_depth(body: Body, points: np.ndarray) -> np.ndarray:
    """By how many cm each of the points (n, 3) lies in a lung, roughly; negative outside."""
    places = tuple(np.ascontiguousarray(points.T, np.float32))
    inside = body.distance(LUNG, *places)
    join(inside, places, body.heart_balls(), remove=True)
    return inside


def solid(branches: np.ndarray, density: float) -> np.ndarray:
    """Branches as filled tubes of this attenuation per cm."""
    radius, length = branches[:, 3], branches[:, 4]
    return cloud(branches[:, :3], np.float32(np.pi * density) * radius**2 * length, radius)


def cuffs(branches: np.ndarray, density: float, rng: np.random.Generator) -> np.ndarray:
    """Thickened walls around the airways that go with the larger branches: rings end on, tram lines from the side."""
    large = branches[branches[:, 3] > 0.1]
    radius, length = large[:, 3] + np.float32(0.12), large[:, 4]
    way = rng.standard_normal((14, len(large), 3), np.float32)
    way /= np.linalg.norm(way, axis=-1, keepdims=True)
    points = large[:, :3] + rng.normal(0, 0.12, (len(large), 3))
    return cloud(points + way * radius[:, None], 2 * np.pi * radius * 0.1 * length * density / 14)


def net(body: Body, count: int, density: float, rng: np.random.Generator, low: float = 0, outer: float = 0):
    """A net of short lines in both lungs, `density` attenuation times cm per cm of line, as a cloud.

    `low` favours the bases and `outer` the periphery, both from 0 to 1. Draws do not depend on `density`.
    """
    spot = rng.random((count, 3)) * (2 * body.width, 18 * body.depth, body.apex + 6) - (body.width, 9.2 * body.depth, 6)
    way = rng.normal(size=(count, 3))
    way *= rng.uniform(0.5, 1.3, count)[:, None] / np.linalg.norm(way, axis=1, keepdims=True)
    chance = rng.random(count)
    keep = chance < 1 - low * np.clip(spot[:, 2] / 12, 0, 1)
    depth = body.distance(LUNG, *spot.T)
    keep &= chance > outer * np.clip(depth / 3.0, 0, 1)
    spot, way = spot[keep], way[keep]
    points = spot[:, None] + np.linspace(-0.5, 0.5, NET)[:, None] * way[:, None]
    found = cloud(points, np.linalg.norm(way, axis=1)[:, None] * density / NET)
    return found[lung_depth(body, found[:, :3]) > 0]


def airway(body: Body) -> np.ndarray:
    """The trachea and main bronchi: air, so masses below 0."""
    split, parts = np.array([0.3, -1.8, 11.3]), []
    for radius, path in (
        (1.0, [(0.0, 0.8, body.apex + 7), (0.1, -0.4, body.apex - 2), (0.25, -1.3, 15.0), split]),
        (0.65, [split, split + (-1.6, -0.1, -1.7), split + (-3.4, -0.2, -2.7)]),
        (0.55, [split, split + (2.1, -0.1, -1.3), split + (4.3, -0.4, -1.8)]),
    ):
        line = cloud(curve(path, 60), radius)
        line[:, 4] = np.linalg.norm(np.gradient(line[:, :3], axis=0), axis=1)
        parts.append(line)
    found = np.concatenate(parts)
    found[:, 0] += body.at("lateral", found[:, 2])
    return solid(found, -0.17 * (0.95 - 0.3 * body.child))
