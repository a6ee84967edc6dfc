"""The formulas: each function draws one pattern, a float field of (size, size) pixels, any range, from a generator.

What a function is given by name (cycles, cells, corners ...) distinguishes the classes; what it draws from `rng`
(place, turn, scale, phase) must not. No pattern is meant to resemble an organ: a backbone that was shown phantoms
while it was pre-trained would make their transfer a foregone conclusion.
"""

from __future__ import annotations

import numpy as np

Rng = np.random.Generator
Field = np.ndarray


def axes(rng: Rng, size: int, turn: bool = True) -> tuple[Field, Field]:
    """x and y over -1..1, turned and shifted at random."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi) if turn else 0.0
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    dx, dy = rng.uniform(-0.3, 0.3, 2).astype(np.float32)
    return cos * x - sin * y + dx, sin * x + cos * y + dy


def spectrum(rng: Rng, size: int, weight: Field) -> Field:
    """White noise shaped by `weight`, (size, size // 2 + 1) gains of its frequencies; mean 0, deviation 1."""
    noise = np.fft.rfft2(rng.standard_normal((size, size), dtype=np.float32))
    noise[0, 0] = 0
    field = np.fft.irfft2(noise * weight, s=(size, size)).astype(np.float32)
    return field / (field.std() + 1e-6)


def frequencies(size: int) -> tuple[Field, Field]:
    """Vertical and horizontal frequency in cycles an image, as `spectrum` wants them."""
    fy = np.fft.fftfreq(size, 1 / size).astype(np.float32)[:, None]
    return fy, np.fft.rfftfreq(size, 1 / size).astype(np.float32)[None, :]


def fractal_noise(rng: Rng, size: int, slope: float, stretch: float = 1.0) -> Field:
    """Noise whose amplitude falls as frequency^-slope; `stretch` draws it out along a random direction."""
    fy, fx = frequencies(size)
    angle = rng.uniform(0, np.pi)
    along, across = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
    radius = np.sqrt((along * stretch) ** 2 + across**2)
    return spectrum(rng, size, np.maximum(radius, 1) ** -slope)


def noise_with(rng: Rng, size: int, kind: str, slope: float = 1.6) -> Field:
    """Fractal noise bent into ridges, terraces, islands, marble or a lit relief."""
    field = fractal_noise(rng, size, slope)
    if kind == "ridges":
        return -np.abs(field)
    if kind == "terraces":
        return np.floor(field * rng.uniform(1.5, 2.5))
    if kind == "islands":
        return (field > rng.uniform(0.3, 0.9)).astype(np.float32)
    if kind == "marble":
        x, _ = axes(rng, size)
        return np.sin(rng.uniform(6, 12) * x + rng.uniform(1.5, 3) * field)
    dy, dx = np.gradient(field)  # relief: light from one side
    angle = rng.uniform(0, 2 * np.pi)
    return dx * np.cos(angle) + dy * np.sin(angle)


def band_noise(rng: Rng, size: int, cycles: float, spread: float) -> Field:
    """Gabor noise about `cycles` cycles an image; `spread` is the range of directions in radians, pi for all."""
    fy, fx = frequencies(size)
    cycles = cycles * rng.uniform(0.85, 1.18)
    ring = np.exp(-((np.hypot(fy, fx) - cycles) ** 2) / (2 * (0.15 * cycles + 0.5) ** 2))
    if spread < np.pi:
        off = np.arctan2(fy, fx) - rng.uniform(0, np.pi)
        ring = ring * np.exp(-(np.sin(off) ** 2) / (2 * np.sin(spread) ** 2))
    return spectrum(rng, size, ring.astype(np.float32))


def grating(rng: Rng, size: int, cycles: float, kind: str = "sine") -> Field:
    """Waves across the image: sine, square, chirp, plaid, rings, rays, spiral or moire."""
    x, y = axes(rng, size)
    pulse, phase = np.pi * cycles * rng.uniform(0.85, 1.18), rng.uniform(0, 2 * np.pi)
    if kind == "chirp":
        return np.sin(pulse * (x + 0.45 * x**2) + phase)
    if kind == "plaid":
        return np.sin(pulse * x + phase) + np.sin(pulse * y * rng.uniform(0.8, 1.25))
    if kind == "rings":
        return np.sin(pulse * np.hypot(x, y) + phase)
    if kind == "rays":
        return np.sin(round(cycles) * np.arctan2(y, x) + phase)
    if kind == "spiral":
        return np.sin(round(cycles / 2) * np.arctan2(y, x) + pulse * np.hypot(x, y))
    if kind == "moire":
        shift = rng.uniform(0.2, 0.5)
        return np.sin(pulse * np.hypot(x - shift, y)) * np.sin(pulse * np.hypot(x + shift, y))
    wave = np.sin(pulse * x + phase)
    return np.sign(wave) if kind == "square" else wave


def cells(rng: Rng, size: int, count: int, show: str = "flat", norm: float = 2.0) -> Field:
    """Voronoi cells of about `count` points: flat, walls, cones or crystals (second distance less first)."""
    from scipy.spatial import cKDTree

    x, y = axes(rng, size)
    points = rng.uniform(-1.5, 1.5, (max(4, round(2.2 * count * rng.uniform(0.8, 1.25))), 2))
    distance, owner = cKDTree(points).query(np.stack([x.ravel(), y.ravel()], 1), k=2, p=norm)
    gap = (distance[:, 1] - distance[:, 0]).reshape(size, size).astype(np.float32)
    if show == "walls":
        return -np.minimum(gap, rng.uniform(0.04, 0.1))
    if show == "cones":
        return distance[:, 0].reshape(size, size).astype(np.float32)
    if show == "crystals":
        return gap
    return rng.uniform(0, 1, len(points)).astype(np.float32)[owner[:, 0]].reshape(size, size)


def bands(rng: Rng, size: int, count: int, kind: str = "straight") -> Field:
    """Parallel bands of uneven thickness and brightness: straight, wavy, folded, faulted, soft or thin."""
    x, y = axes(rng, size)
    if kind == "wavy":
        x = x + rng.uniform(0.06, 0.15) * np.sin(rng.uniform(4, 9) * y + rng.uniform(0, 6))
    elif kind == "folded":
        x = x + rng.uniform(0.15, 0.3) * fractal_noise(rng, size, 2.4)
    elif kind == "faulted":
        x = x + rng.uniform(0.15, 0.4) * (y > rng.uniform(-0.4, 0.4)) - 0.2 * (y < rng.uniform(-0.9, -0.4))
    edges = np.sort(rng.uniform(-1.8, 1.8, round(1.8 * count * rng.uniform(0.85, 1.18))))
    if kind == "soft":
        knots = np.linspace(-1.8, 1.8, len(edges))
        return np.interp(x, knots, rng.uniform(0, 1, len(edges))).astype(np.float32)
    if kind == "thin":
        width = rng.uniform(0.015, 0.035)
        return np.maximum(0, 1 - np.abs(x[..., None] - edges[::2]) / width).max(-1).astype(np.float32)
    return rng.uniform(0, 1, len(edges) + 1).astype(np.float32)[np.searchsorted(edges, x)]


def truchet(rng: Rng, size: int, tiles: int, kind: str = "arcs") -> Field:
    """Square tiles turned at random (Truchet 1704): arcs, maze (diagonals) or wedges; or checks."""
    x, y = axes(rng, size)
    u, v = (x + 2) * tiles / 2, (y + 2) * tiles / 2
    i, j = np.floor(u).astype(int) % 64, np.floor(v).astype(int) % 64
    u, v = u % 1, v % 1
    turned = rng.integers(0, 4, (64, 64))[i, j]
    if kind == "checks":
        return ((i + j) % 2).astype(np.float32)
    u, v = np.where(turned % 2 == 1, 1 - u, u), np.where(turned >= 2, 1 - v, v)
    if kind == "wedges":
        return (u > v).astype(np.float32)
    if kind == "maze":
        return (np.abs(u - v) < 0.16).astype(np.float32)
    near = np.minimum(np.abs(np.hypot(u, v) - 0.5), np.abs(np.hypot(1 - u, 1 - v) - 0.5))
    return (near < 0.14).astype(np.float32)


def bricks(rng: Rng, size: int, rows: float) -> Field:
    """A wall: rows of blocks, every second row shifted by half a block, with joints."""
    x, y = axes(rng, size)
    rows = rows * rng.uniform(0.85, 1.18)
    row = np.floor((y + 2) * rows / 2)
    u, v = ((x + 2) * rows / 4 + row % 2 / 2) % 1, ((y + 2) * rows / 2) % 1
    return ((u > 0.08) & (v > 0.16)).astype(np.float32)


def turing(rng: Rng, size: int, cycles: float, bias: float) -> Field:
    """Spots, labyrinths or holes, by the sign of `bias`: noise, filtered and squashed over and over (Turing 1952)."""
    fy, fx = frequencies(size)
    cycles = cycles * rng.uniform(0.85, 1.18)
    ring = np.exp(-((np.hypot(fy, fx) - cycles) ** 2) / (2 * (0.25 * cycles) ** 2))
    field = rng.standard_normal((size, size), dtype=np.float32)
    for _ in range(8):
        field = np.fft.irfft2(np.fft.rfft2(field) * ring, s=(size, size))
        field = np.tanh(3 * field / (field.std() + 1e-6) + 3 * bias)
    return field.astype(np.float32)


# --- drawn one by one (discs, polygons, strokes), and grown by a rule (fractals) ---


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
