"""The formulas: each function draws one pattern, a float field of (size, size) pixels, any range, from a generator.

What a function is given by name (cycles, cells, corners ...) tells one class from another; what it draws from `rng`
(place, turn, scale, phase) must not. Nothing here looks like an organ on purpose: a backbone that was shown phantoms
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
