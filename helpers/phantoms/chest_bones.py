"""What a phantom body holds, as clouds of points with a mass each: ribs, spine, clavicles, scapulae, sternum and arms;
the lungs' vessels and airways; in disease, thickened tissue between.

A long bone is a tube: a dense shell and a light core. All functions return points (n, 3) in the body's coordinates and
masses (n,), attenuation times cm^2 above that of the soft tissue around.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from helpers.phantoms.chest_anatomy import SIDES, Body

Cloud = tuple[np.ndarray, np.ndarray]
RIBS = 12
RIB_ENDS = np.radians([118, 140, 150, 152, 152, 150, 146, 138, 130, 120, 92, 68])  # where bone turns into cartilage
VERTEBRA = 2.62  # cm from one to the next
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
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def vertebra_height(body: Body, number: float) -> float:
    """Height of the middle of a thoracic vertebra: 1 is the first; 0 and less are those of the neck."""
    return body.apex - 1.2 - (VERTEBRA + 0.03 * (body.apex - 24)) * (number - 1)


def ribs(body: Body, density: float, rng: np.random.Generator) -> Cloud:
    """Twelve pairs of flat tubes on the chest wall."""
    steps, around, number = 170, 10, np.arange(1, RIBS + 1, dtype=np.float32)
    fall = body.slope * np.clip(0.42 + 0.13 * number, 0, 1.08) + rng.normal(0, 0.12, RIBS)
    start = np.array([vertebra_height(body, n) for n in number]) + 0.5
    t = np.linspace(0, 1, steps, dtype=np.float32)
    angle = (0.2 + (RIB_ENDS[:, None] - 0.2) * t).astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    # From the spine a rib first rises a little, then falls ever faster, and levels where it meets its cartilage.
    z = start[:, None] + 0.8 * np.sin(2.0 * angle) - fall[:, None] * ((1 - cos) / 2) ** 0.95
    z = z.astype(np.float32)
    x = (body.at("wall", z) + 0.25) * sin
    y = body.at("middle", z) - (body.at("wall depth", z) + 0.25) * cos
    centre = np.stack([x, y, z], axis=-1)
    radial = np.stack([sin, -cos, np.zeros_like(sin)], axis=-1)
    along = np.gradient(centre, axis=1)
    along /= np.linalg.norm(along, axis=-1, keepdims=True)
    upward = np.cross(along, radial)
    short = (1 - 0.25 * (number > 10)) * (1 - 0.1 * (number < 2))
    tall = (0.56 + 0.08 * np.sin(number / 3) - 0.08 * body.child) * short
    length = np.linalg.norm(np.diff(centre, axis=1), axis=-1).sum(axis=1) / steps
    points, mass = _tubes((centre, upward, radial), (tall, 0.3), length * density, around, rng)
    return join([(points, mass), (points * np.float32((-1, 1, 1)), mass)])


def _tubes(frame: tuple, radii: tuple, mass: np.ndarray, around: int, rng: np.random.Generator) -> Cloud:
    """Points on the shells and in the cores of curved tubes.

    `frame`: centres (tubes, steps, 3) and the directions of the two radii there; `radii`: one of each tube, and one of
    all; `mass` (tubes,) is a step's.
    """
    (centre, up, out), (tall, thick) = frame, radii
    shape = (*centre.shape[:2], around)
    phase = rng.random(shape[:2], np.float32)[..., None]
    turn = (np.arange(around, dtype=np.float32) + phase) * np.float32(2 * np.pi / around)
    radius = np.where(np.arange(around) % 3 < 2, 1.0, 0.55).astype(np.float32)
    a = np.cos(turn) * radius * np.asarray(tall, np.float32)[:, None, None]
    b = np.sin(turn) * radius * np.float32(thick)
    points = centre[:, :, None] + a[..., None] * up[:, :, None] + b[..., None] * out[:, :, None]
    mass = np.broadcast_to((mass / around)[:, None, None], shape).reshape(-1)
    return points.reshape(-1, 3).astype(np.float32), mass.astype(np.float32)


def tube(
    path: np.ndarray, radius: ArrayLike, density: float, rng: np.random.Generator, grid: tuple = (130, 24)
) -> Cloud:
    """A tube along a smooth curve through `path` (n, 3); `radius` at its points; `grid`: points along and around."""
    steps, around = grid
    t, knots = np.linspace(0, len(path) - 1, steps), np.arange(len(path))
    centre = np.vander(t, len(path)) @ np.linalg.inv(np.vander(knots)) @ path
    wide = np.interp(t, knots, np.broadcast_to(radius, len(path)))[:, None]
    along = np.gradient(centre, axis=0)
    length = np.linalg.norm(along, axis=-1)
    along /= length[:, None]
    up = np.cross(along, np.array([0.3, 1.0, 0.1]))
    up /= np.linalg.norm(up, axis=-1, keepdims=True)
    frame = centre[None], (up * wide)[None], (np.cross(along, up) * wide)[None]
    return _tubes(frame, (np.ones(1), 1.0), np.array([length.mean()]) * density, around, rng)


def spine(body: Body, rng: np.random.Generator) -> Cloud:
    """Vertebrae from the neck to the loins: bodies with dense end plates, pedicles and spines."""
    number = np.arange(-4, 14, dtype=np.float32)
    z = np.array([vertebra_height(body, n) for n in number], np.float32)
    size = (0.9 + 0.022 * (number - 1)) * np.where(number < 1, 0.86, 1)
    middle = np.stack([body.at("lateral", z), body.at("spine", z), z], axis=-1)
    wide, tall = 1.55 * size, 0.5 * VERTEBRA * 0.8 * np.ones_like(size) * (1 - 0.08 * body.child)
    solid = rng.random((800, 3), np.float32) * 2 - 1
    plate = rng.random((380, 3), np.float32) * 2 - 1
    plate[:, 2] = np.sign(plate[:, 2]) * (0.95 + 0.05 * np.abs(plate[:, 2]))
    edge = rng.random((180, 3), np.float32) * 2 - 1
    edge[:, 0] = np.sign(edge[:, 0]) * 0.97
    turn = rng.random(120) * 2 * np.pi
    ring = np.stack([np.cos(turn), rng.uniform(-1, 1, 120), np.sin(turn)], axis=-1).astype(np.float32)
    pedicle = ring * np.float32((0.3, 0.55, 0.38)) + np.float32((0.72, -1.35, 0.25))
    pedicle[::2, 0] *= -1
    process = rng.random((150, 3), np.float32) * np.float32((0.22, 1.5, 1.1)) + np.float32((-0.11, -3.6, -1.5))
    kinds = ((solid, 1.5), (plate, 0.75), (edge, 0.34), (pedicle, 0.42), (process, 0.34))
    shape = np.stack([wide, np.full_like(wide, 1.45) * size, tall], axis=-1)
    points = [middle[:, None] + part[None] * shape[:, None] for part, _ in kinds]
    mass = [np.full(len(number) * len(part), total / len(part)) for part, total in kinds]
    return np.concatenate([p.reshape(-1, 3) for p in points]).astype(np.float32), np.concatenate(mass) * 0.68


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
    return tube(path, np.array([0.95, 0.52, 0.5, 0.72]) * (1 - 0.2 * body.child), 0.36, rng)


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
        parts.append(tube(np.stack([start, bent, end]), radius, density, rng, (70, 16)))
    return join(parts)


def arm(body: Body, side: int, lateral: bool, rng: np.random.Generator) -> Cloud:
    """The humerus, hanging, raised, or, from the side, held before the head."""
    head = np.array([side * 17.0, -1.6, body.apex - 3.9 + 2 * body.arms])
    path = head + np.outer(np.array([0.0, 0.2, 0.5, 1.0]), 24 * arm_direction(body, side, lateral))
    return tube(path, np.array([2.1, 1.2, 1.0, 1.0]), 0.7, rng, (110, 30))


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
    inside = in_lung(body, points, -0.2)
    return points[inside], np.concatenate(radii)[inside], np.concatenate(lengths)[inside]


def in_lung(body: Body, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """Which points (n, 3) lie in a lung, by more than `margin` cm."""
    x, y, z = points.T
    distance = body.lung_distance(x, y, z)
    for ball in body.heart_balls():
        distance = np.minimum(distance, -ball.inside(x, y, z))
    return distance > margin


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
    points, mass = join(parts)
    points = points.astype(np.float32)
    points[:, 0] += body.at("lateral", points[:, 2])
    return points, mass * (0.95 - 0.3 * body.child)
