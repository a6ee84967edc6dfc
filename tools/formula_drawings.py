"""More formulas: things drawn one by one (discs, polygons, strokes), and things grown by a rule (fractals).

The same kind of function as in `tools.formula_patterns`: a float field of (size, size) pixels from a generator.
"""

from __future__ import annotations

import numpy as np

from tools.formula_patterns import Field, Rng, axes, band_noise, bands, fractal_noise, grating


def spots(rng: Rng, size: int, count: int, radius: float, kind: str = "flat", flat: float = 1.0) -> Field:
    """Discs of about `radius` (of 1): flat, soft, rings, balls (lit), bubbles (merging) or dots on a lattice."""
    x, y = axes(rng, size)
    count = max(1, round(count * rng.uniform(0.7, 1.4)))
    centres = rng.uniform(-1.15, 1.15, (count, 2))
    if kind == "lattice":
        step = 2.6 * radius * rng.uniform(0.9, 1.3)
        a, b = np.mgrid[-1.8:1.8:step, -1.8:1.8:step]
        centres = np.stack([(a + (np.arange(a.shape[1]) % 2) * step / 2).ravel(), b.ravel()], 1)
    field = np.zeros((size, size), np.float32)
    for cx, cy in centres:
        r = radius * rng.uniform(0.65, 1.4) if kind != "lattice" else radius
        u, v = (x - cx) / r, (y - cy) / (r * flat)
        d = u * u + v * v
        if kind in ("flat", "lattice"):
            field = np.where(d < 1, rng.uniform(0.5, 1) if kind == "flat" else 1.0, field)
        elif kind == "rings":
            field = np.where(np.abs(np.sqrt(d) - 0.85) < 0.15, 1.0, field)
        elif kind == "balls":
            field = np.where(d < 1, 0.2 + np.sqrt(np.maximum(0, 1 - d)) * 0.5 + 0.25 * u, field)
        else:
            field = field + np.exp(-d)
    return np.tanh(4 * (field - 0.7)) if kind == "bubbles" else field.astype(np.float32)


def polygons(rng: Rng, size: int, count: int, corners: int) -> Field:
    """Filled regular polygons of `corners` corners, turned and overlapping."""
    x, y = axes(rng, size)
    field = np.zeros((size, size), np.float32)
    for _ in range(max(2, round(count * rng.uniform(0.7, 1.4)))):
        cx, cy = rng.uniform(-1, 1, 2)
        turn, r = rng.uniform(0, 2 * np.pi), rng.uniform(0.18, 0.4)
        angle = np.arctan2(y - cy, x - cx) + turn
        side = np.mod(angle, 2 * np.pi / corners) - np.pi / corners
        inside = np.hypot(x - cx, y - cy) * np.cos(side) < r * np.cos(np.pi / corners)
        field = np.where(inside, rng.uniform(0.3, 1), field)
    return field


def strokes(rng: Rng, size: int, kind: str, count: int = 10) -> Field:
    """Lines drawn at twice the size and brought down: straight, walks, arcs, trees, stars or hatching."""
    from PIL import Image, ImageDraw

    full = 2 * size
    picture = Image.new("L", (full, full))
    draw = ImageDraw.Draw(picture)
    for line in _lines(rng, kind, max(2, round(count * rng.uniform(0.75, 1.33)))):
        points = [(float(a), float(b)) for a, b in (line * 0.5 + 0.5) * full]
        draw.line(points, fill=int(rng.integers(150, 256)), width=int(rng.integers(2, 7)), joint="curve")
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX), np.float32)


def _lines(rng: Rng, kind: str, count: int) -> list[Field]:
    """Polylines over -1..1, each (points, 2)."""
    if kind == "trees":
        return [line for _ in range(max(1, count // 6)) for line in _tree(rng)]
    lines, centre, common = [], rng.uniform(-0.5, 0.5, 2), rng.uniform(0, np.pi)
    for _ in range(count):
        start, angle = rng.uniform(-1, 1, 2), rng.uniform(0, 2 * np.pi)
        if kind == "walks":
            turns = angle + np.cumsum(rng.normal(0, 0.35, 28))
            lines.append(start + np.cumsum(0.07 * np.stack([np.cos(turns), np.sin(turns)], 1), 0))
            continue
        if kind == "arcs":
            sweep = angle + np.linspace(0, rng.uniform(1.5, 4), 24)
            lines.append(start + rng.uniform(0.15, 0.6) * np.stack([np.cos(sweep), np.sin(sweep)], 1))
            continue
        if kind == "hatching":
            angle = common + rng.choice([0, np.pi / 2]) + rng.normal(0, 0.03)
        reach = 2.5 if kind in ("straight", "hatching") else rng.uniform(0.4, 1.6)
        start = centre if kind == "stars" else start
        back = 0 if kind == "stars" else reach
        way = np.array([np.cos(angle), np.sin(angle)])
        lines.append(np.stack([start - back * way, start + reach * way]))
    return lines


def _tree(rng: Rng) -> list[Field]:
    """A branching tree of straight twigs, as Lindenmayer systems draw them."""
    lines, tips = [], [(rng.uniform(-0.5, 0.5, 2), rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.6))]
    fork = rng.uniform(0.35, 0.7)
    for _ in range(5):
        grown = []
        for place, angle, length in tips:
            end = place + length * np.array([np.cos(angle), np.sin(angle)])
            lines.append(np.stack([place, end]))
            grown += [(end, angle + side * fork + rng.normal(0, 0.1), length * 0.74) for side in (-1, 1)]
        tips = grown
    return lines


def defect(rng: Rng, size: int, carrier: str, kind: str) -> Field:
    """A regular carrier (bands, grating, noise, plain) with a few local things on it: discs, holes, bulge, cut or none.

    The class is in a small part of the image, so that an average over the image must not drown it.
    """
    if carrier == "bands":
        field = bands(rng, size, 7)
    elif carrier == "grating":
        field = grating(rng, size, 9)
    else:
        field = band_noise(rng, size, 12, np.pi) if carrier == "noise" else fractal_noise(rng, size, 2.5)
    field = (field - field.mean()) / (field.std() + 1e-6)
    for _ in range(int(rng.integers(1, 4)) if kind != "none" else 0):
        y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
        cx, cy = rng.uniform(-0.8, 0.8, 2)
        r = rng.uniform(0.1, 0.26)
        near = ((x - cx) / r) ** 2 + ((y - cy) / (r * rng.uniform(0.6, 1))) ** 2
        if kind == "bulge":  # the carrier itself is pushed aside
            push = 0.9 * r * np.exp(-near / 2.5)
            field = _moved(field, push * rng.choice([-1, 1]), size)
        elif kind == "cut":
            field = np.where(near < 1, np.roll(field, size // 3, rng.integers(2)), field)
        else:
            field = np.where(near < 1, 2.2 if kind == "discs" else -2.2, field)
    return field.astype(np.float32)


def _moved(field: Field, push: Field, size: int) -> Field:
    from scipy.ndimage import map_coordinates

    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    return map_coordinates(field, [rows + push * size / 2, columns + push * size / 2], order=1, mode="reflect")


def automaton(rng: Rng, size: int, rule: int) -> Field:
    """Wolfram's elementary cellular automaton `rule`, from a random row, two pixels a cell, turned by quarters."""
    half = size // 2 + 1
    table = np.array([rule >> k & 1 for k in range(8)], np.float32)
    row = rng.integers(0, 2, half)
    rows = np.empty((half, half), np.float32)
    for k in range(half):
        rows[k] = row
        row = table[4 * np.roll(row, 1) + 2 * row + np.roll(row, -1)].astype(int)
    return np.rot90(np.kron(rows, np.ones((2, 2), np.float32)), rng.integers(4))[:size, :size]


def julia(rng: Rng, size: int, real: float, imaginary: float) -> Field:
    """Escape time of z -> z^2 + c about a random view of the Julia set of c."""
    x, y = axes(rng, size)
    z = (x + 1j * y) * rng.uniform(0.7, 1.3)
    c = complex(real, imaginary) + complex(*rng.uniform(-0.012, 0.012, 2))
    escaped = np.zeros((size, size), np.float32)
    for _ in range(24):
        z = z * z + c
        inside = np.abs(z) < 4
        escaped += inside
        z = np.where(inside, z, 4)
    return np.log(escaped + 1)


def ifs(rng: Rng, size: int, code: int) -> Field:
    """An iterated function system: `code` fixes its affine maps, `rng` stretches them a little (FractalDB).

    Two thousand orbits run side by side, and the pixels they visit are counted.
    """
    maps = _ifs_maps(code) * rng.uniform(0.94, 1.06, (1, 2, 3)).astype(np.float32)
    chance = np.abs(np.linalg.det(maps[:, :, :2])) + 0.02
    points = np.zeros((2000, 2), np.float32)
    visited = []
    for step in range(22):
        chosen = maps[rng.choice(len(maps), len(points), p=chance / chance.sum())]
        points = np.einsum("nij,nj->ni", chosen[:, :, :2], points) + chosen[:, :, 2]
        if step >= 8:
            visited.append(points)
    cloud = np.concatenate(visited)
    low, high = np.percentile(cloud, [1, 99], axis=0)
    cloud = (cloud - (low + high) / 2) / (np.max(high - low) + 1e-6) * rng.uniform(1.5, 2.2)
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    cloud = cloud @ turn.T + rng.uniform(-0.15, 0.15, 2)
    counts, _, _ = np.histogram2d(cloud[:, 0], cloud[:, 1], bins=size, range=[[-1, 1], [-1, 1]])
    return np.sqrt(np.minimum(counts, 8)).astype(np.float32)


def _ifs_maps(code: int) -> Field:
    """The affine maps (n, 2, 3) of IFS number `code`: its first draw that is neither dust nor a blot."""
    rng = np.random.default_rng([code, 2020])
    while True:
        n = int(rng.integers(2, 6))
        maps = rng.uniform(-1, 1, (n, 2, 3)).astype(np.float32)
        gains = np.linalg.svd(maps[:, :, :2], compute_uv=False)
        maps[:, :, :2] *= (rng.uniform(0.5, 0.85, n) / gains[:, 0])[:, None, None]
        area = np.abs(np.linalg.det(maps[:, :, :2])).sum()
        if 0.45 < area < 1.1:
            return maps
