"""What a phantom body holds, as clouds of points with a mass each: ribs, spine, clavicles, scapulae, sternum and arms;
the lungs' vessels and airways; in disease, thickened tissue between.

A long bone is a tube: a dense shell and a light core. All functions return points (n, 3) in the body's coordinates and
masses (n,), attenuation times cm^2 above that of the soft tissue around.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import BarycentricInterpolator

from helpers.phantoms.chest_anatomy import SIDES, Body

Cloud = tuple[np.ndarray, np.ndarray]
RIBS = 12
RIB_ENDS = np.radians([118, 140, 150, 152, 152, 150, 146, 138, 130, 120, 92, 68])  # where bone turns into cartilage
VERTEBRA = 2.62  # cm from one to the next
VERTEBRA_PARTS = (  # boxes: points, two corners in half sizes of the vertebra, and mass
    (800, (-1, -1, -1), (1, 1, 1), 1.5),  # its body
    (190, (-1, -1, 0.95), (1, 1, 1), 0.375),  # dense end plates
    (190, (-1, -1, -1), (1, 1, -0.95), 0.375),
    (90, (0.97, -1, -1), (0.97, 1, 1), 0.17),  # sides
    (90, (-0.97, -1, -1), (-0.97, 1, 1), 0.17),
    (60, (0.45, -1.9, -0.1), (0.99, -0.8, 0.6), 0.21),  # pedicles
    (60, (-0.99, -1.9, -0.1), (-0.45, -0.8, 0.6), 0.21),
    (150, (-0.11, -3.6, -1.5), (0.11, -2.1, -0.4), 0.34),  # the spinous process
)
LEVELS, STEMS = 5, 12  # branchings, and branches that leave a lung's root
SAMPLES = 13  # places along a branch
NET = 8  # places along a line of the net
BLOOD = 0.17  # attenuation per cm, above the lung's


def skeleton(body: Body, lateral: bool, rng: np.random.Generator) -> Cloud:
    """Every bone that a chest radiograph shows."""
    parts = [ribs(body, 0.14 if lateral else 0.25, rng), spine(body, rng), sternum(body, rng)]
    for side in SIDES:
        parts += [clavicle(body, side, rng), scapula(body, side, lateral, rng), arm(body, side, lateral, rng)]
    points, mass = join(parts)
    return points, mass * np.float32(body.bone)


def join(parts: list[Cloud]) -> Cloud:
    """Several clouds as one."""
    return tuple(np.concatenate(columns, dtype=np.float32) for columns in zip(*parts, strict=True))


def vertebra_height(body: Body, number: float) -> float:
    """Height of the middle of a thoracic vertebra: 1 is the first; 0 and less are those of the neck."""
    return body.apex - 1.2 - (VERTEBRA + 0.03 * (body.apex - 24)) * (number - 1)


def ribs(body: Body, density: float, rng: np.random.Generator) -> Cloud:
    """Twelve pairs of flat tubes on the chest wall."""
    number, angle = np.arange(1, RIBS + 1)[:, None], np.linspace(0.2, RIB_ENDS, 170, axis=-1, dtype=np.float32)
    fall = body.slope * np.clip(0.42 + 0.13 * number, 0, 1.08) + rng.normal(0, 0.12, (RIBS, 1))
    # From the spine a rib first rises a little, then falls ever faster, and levels where it meets its cartilage.
    z = vertebra_height(body, number) + 0.5 + 0.8 * np.sin(2 * angle) - fall * ((1 - np.cos(angle)) / 2) ** 0.95
    out = np.stack([np.sin(angle), -np.cos(angle), 0 * angle], axis=-1)
    wall = np.stack([body.at("wall", z), body.at("wall depth", z), 0 * z], axis=-1) + 0.25
    middle = np.stack([0 * z, body.at("middle", z), z], axis=-1)
    tall = (0.56 + 0.08 * np.sin(number / 3) - 0.08 * body.child) * (1 - 0.25 * (number > 10) - 0.1 * (number < 2))
    points, mass = tube(middle + wall * out, out, (tall, 0.3), density, rng, 10)
    return join([(points, mass), (points * np.float32((-1, 1, 1)), mass)])


def tube(
    centre: np.ndarray, out: ArrayLike, radii: tuple, density: float, rng: np.random.Generator, around: int
) -> Cloud:
    """The shell and the core of tubes along `centre` (..., n, 3), with `around` points at each place.

    `radii`: square to the directions `out` (..., n, 3) or (3,), and along them; numbers, or (..., n).
    """
    along = np.gradient(centre, axis=-2)
    length = np.linalg.norm(along, axis=-1, keepdims=True)
    up = np.cross(along, out)
    up /= np.linalg.norm(up, axis=-1, keepdims=True)
    out = np.cross(along / length, up)
    turn = np.arange(around, dtype=np.float32) + rng.random(length.shape, np.float32)
    shell = np.where(np.arange(around) % 3 < 2, 1.0, 0.55).astype(np.float32)  # two of three points
    points = np.repeat(centre.astype(np.float32)[..., None, :], around, axis=-2)
    for wave, radius, way in zip((np.cos, np.sin), radii, (up, out), strict=True):
        reach = (np.broadcast_to(radius, length.shape[:-1])[..., None] * way).astype(np.float32)
        points += (wave(turn * (2 * np.pi / around)) * shell)[..., None] * reach[..., None, :]
    mass = np.broadcast_to(length * density / around, turn.shape)
    return points.reshape(-1, 3), mass.reshape(-1).astype(np.float32)


def curve(path: ArrayLike, steps: int) -> np.ndarray:
    """Places (steps, 3) along a smooth curve through the points `path`."""
    return BarycentricInterpolator(np.arange(len(path)), path)(np.linspace(0, len(path) - 1, steps))


def bone(path: ArrayLike, radius: ArrayLike, density: float, rng: np.random.Generator, grid=(130, 24)) -> Cloud:
    """A long bone through `path`, with a radius at each of its points; `grid`: places along and around it."""
    wide = np.interp(np.linspace(0, len(path) - 1, grid[0]), np.arange(len(path)), np.broadcast_to(radius, len(path)))
    return tube(curve(path, grid[0]), (0.3, 1.0, 0.1), (wide, wide), density, rng, grid[1])


def spine(body: Body, rng: np.random.Generator) -> Cloud:
    """Vertebrae from the neck to the loins: bodies with dense end plates, pedicles and spines."""
    number = np.arange(-4, 14, dtype=np.float32)
    z = np.array([vertebra_height(body, n) for n in number], np.float32)
    size = (0.9 + 0.022 * (number - 1)) * np.where(number < 1, 0.86, 1)
    middle = np.stack([body.at("lateral", z), body.at("spine", z), z], axis=-1)
    tall = np.full_like(size, 0.4 * VERTEBRA * (1 - 0.08 * body.child))
    shape, parts = np.stack([1.55 * size, 1.45 * size, tall], axis=-1), []
    for count, low, high, total in VERTEBRA_PARTS:
        spots = middle[:, None] + rng.uniform(low, high, (count, 3)).astype(np.float32) * shape[:, None]
        parts.append((spots.reshape(-1, 3).astype(np.float32), np.full(spots.size // 3, 0.68 * total / count)))
    return join(parts)


def sternum(body: Body, rng: np.random.Generator) -> Cloud:
    """A plate behind the skin of the front, from the notch down."""
    top = body.apex - 6.5
    spot = rng.random((1500, 3))
    z = top - 15.5 * spot[:, 2]
    x = (spot[:, 0] * 2 - 1) * np.interp(z - top, (-16, -12, -5, -4, 0), (0.5, 1.5, 1.4, 2.2, 2.6))
    deep = np.where(spot[:, 1] < 0.3, 0.0, np.where(spot[:, 1] > 0.7, 0.9, spot[:, 1]))
    y = body.at("front", z.astype(np.float32)) + 0.5 + deep
    return np.stack([x, y, z], axis=-1).astype(np.float32), np.full(1500, 3.5 / 1500)


def clavicle(body: Body, side: int, rng: np.random.Generator) -> Cloud:
    """An S from the notch of the sternum to the shoulder."""
    low, lift = body.apex - 5.2 + rng.normal(0, 0.3), 3.0 + 1.8 * body.arms + 0.8 * body.child
    out = np.array([1.6, 6.0, 10.5, 16.0]) * (body.width / 13.2)
    up = low + lift * np.array([0.0, 0.45, 0.85, 0.9])
    path = np.stack([side * out, np.array([5.4, 5.6, 2.4, -0.4]), up], axis=-1)
    return bone(path, np.array([0.95, 0.52, 0.5, 0.72]) * (1 - 0.2 * body.child), 0.36, rng)


def scapula(body: Body, side: int, lateral: bool, rng: np.random.Generator) -> Cloud:
    """A thin blade with thick edges: angles above and below, the joint, and the ridge to the shoulder's tip."""
    far = 0.6 + 0.5 * body.arms + (0.4 if lateral else 0.0)
    top = body.apex
    upper = np.array([side * (7.2 + 2.6 * far), -9.6 * body.depth, top - 3.0])
    lower = np.array([side * (9.0 + 4.2 * far), -9.8 * body.depth + 1.5 * far, top - 15.0 + 2.5 * far])
    joint = np.array([side * (14.6 + 0.6 * far), -4.2, top - 4.9])
    tip = np.array([side * 16.4, -1.0, top - 1.7])
    spot = np.sort(rng.random((1300, 2)), axis=1)
    share = np.stack([spot[:, 0], spot[:, 1] - spot[:, 0], 1 - spot[:, 1]], axis=-1)
    blade = share @ np.stack([upper, lower, joint])
    parts = [(blade, np.full(1300, 3.0 / 1300))]
    ridge = 0.6 * upper + 0.4 * lower
    edges = ((lower, joint, 0.42, 0.24), (upper, lower, 0.22, 0.1), (ridge, tip, 0.4, 0.2))
    for start, end, radius, density in edges:
        bent = (start + end) / 2 + np.array([side * -0.5, 0, 0.2])
        parts.append(bone(np.stack([start, bent, end]), radius, density, rng, (70, 16)))
    return join(parts)


def arm(body: Body, side: int, lateral: bool, rng: np.random.Generator) -> Cloud:
    """The humerus, hanging, raised, or, from the side, held before the head."""
    head = np.array([side * 17.0, -1.6, body.apex - 3.9 + 2 * body.arms])
    path = head + np.outer(np.array([0.0, 0.2, 0.5, 1.0]), 24 * arm_direction(body, side, lateral))
    return bone(path, np.array([2.1, 1.2, 1.0, 1.0]), 0.7, rng, (110, 30))


def arm_direction(body: Body, side: int, lateral: bool) -> np.ndarray:
    """Which way the upper arm points from the shoulder, a unit vector."""
    if lateral:
        way = np.array([0.0, 0.3, 0.95])
    else:
        lift = -1.3 + 2.2 * body.arms
        way = np.array([side * np.cos(lift), 0.1, np.sin(lift)])
    return way / np.linalg.norm(way)


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
    inside = lung_depth(body, points) > -0.2
    return points[inside], np.concatenate(radii)[inside], np.concatenate(lengths)[inside]


def lung_depth(body: Body, points: np.ndarray) -> np.ndarray:
    """By how many cm each of the points (n, 3) lies in a lung, roughly; negative outside."""
    x, y, z = points.astype(np.float32).T
    return reduce(np.minimum, (-ball.inside(x, y, z) for ball in body.heart_balls()), body.lung_distance(x, y, z))


def solid(branches: tuple[np.ndarray, np.ndarray, np.ndarray], density: float, rng: np.random.Generator) -> Cloud:
    """Branches as filled tubes of this attenuation per cm."""
    parts = []
    for chosen, count in ((branches[1] > 0.16, 22), (branches[1] <= 0.16, 3)):
        points, radius, length = (part[chosen] for part in branches)
        spread = rng.normal(size=(count, len(points), 3)) * np.maximum(0.5 * radius, 0.25 * length)[:, None]
        parts.append(((points + spread).reshape(-1, 3), np.tile(np.pi * radius**2 * length * density / count, count)))
    return join(parts)


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


def net(body: Body, count: int, density: float, rng: np.random.Generator, low: float = 0, outer: float = 0) -> Cloud:
    """A net of short lines in both lungs, `density` attenuation times cm per cm of line.

    `low` favours the bases and `outer` the periphery, both from 0 to 1. Draws do not depend on `density`.
    """
    spot = rng.random((count, 3)) * (2 * body.width, 18 * body.depth, body.apex + 6) - (body.width, 9.2 * body.depth, 6)
    way = rng.normal(size=(count, 3))
    way *= rng.uniform(0.5, 1.3, count)[:, None] / np.linalg.norm(way, axis=1, keepdims=True)
    chance = rng.random(count)
    keep = chance < 1 - low * np.clip(spot[:, 2] / 12, 0, 1)
    depth = body.lung_distance(*spot.astype(np.float32).T)
    keep &= chance > outer * np.clip(depth / 3.0, 0, 1)
    spot, way = spot[keep], way[keep]
    t = np.linspace(-0.5, 0.5, NET)[None, :, None]
    points = (spot[:, None] + t * way[:, None]).reshape(-1, 3).astype(np.float32)
    mass = np.repeat(np.linalg.norm(way, axis=1) * density / NET, NET)
    inside = lung_depth(body, points) > 0
    return points[inside], mass[inside]


def airway(body: Body, rng: np.random.Generator) -> Cloud:
    """The trachea and main bronchi: air, so masses below 0."""
    split, parts = np.array([0.3, -1.8, 11.3]), []
    paths = {
        0.95: [(0.0, 0.8, body.apex + 7), (0.1, -0.4, body.apex - 2), (0.25, -1.3, 15.0), split],
        0.65: [split, split + (-1.6, -0.1, -1.7), split + (-3.4, -0.2, -2.7)],
        0.55: [split, split + (2.1, -0.1, -1.3), split + (4.3, -0.4, -1.8)],
    }
    for radius, path in paths.items():
        line = curve(np.array(path), 100)
        parts.append((line, np.full(100, radius), np.linalg.norm(np.gradient(line, axis=0), axis=1)))
    points, mass = solid(join(parts), -0.19 * (0.95 - 0.3 * body.child), rng)
    return points + body.at("lateral", points[:, 2])[:, None] * np.float32((1, 0, 0)), mass
