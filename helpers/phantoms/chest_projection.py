"""From a body to attenuation along the rays of a radiograph.

Large shapes are sampled on a coarse grid of rays, and their chords are exact for flat surfaces between samples; bones
and vessels are clouds of points with a mass, which fall on the detector at full size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from helpers.phantoms.chest_anatomy import Ball

COARSE = 72  # rays a side of the coarse grid
DEPTHS = 18  # samples along a ray
DISTANCE = {"PA": 180.0, "AP": 105.0, "lateral": 180.0}  # cm from the source to the middle of the chest
VIEWS = tuple(DISTANCE)


@dataclass(frozen=True)
class Pose:
    """How the patient stands before the beam. Angles in radians.

    `turn` about the long axis, `pitch` forward, `tilt` in the image's plane; `centre` (cm, across and up) is where the
    beam points; `field` the width of the square image in cm at the middle of the chest; `facing` is 1 where a lateral
    patient looks to the image's right, else -1.
    """

    view: str
    turn: float
    pitch: float
    tilt: float
    centre: tuple[float, float]
    field: float
    facing: int = 1

    def axes(self) -> np.ndarray:
        """3 x 3: rows are the image's across, the ray's direction towards the detector, and up, in the body's axes."""
        turn = self.turn + (np.pi / 2 * self.facing if self.view == "lateral" else 0.0)
        c, s = np.cos(turn), np.sin(turn)
        across, along, up = np.array([c, s, 0.0]), np.array([-s, c, 0.0]), np.array([0.0, 0.0, 1.0])
        if self.view != "lateral":
            cp, sp = np.cos(self.pitch), np.sin(self.pitch)
            along, up = along * cp + up * sp, up * cp - along * sp
        if self.view == "AP" or (self.view == "lateral" and self.facing > 0):
            along = -along
        ct, st = np.cos(self.tilt), np.sin(self.tilt)
        across, up = across * ct + up * st, up * ct - across * st
        return np.stack([across, along, up]).astype(np.float32)


class Rays:
    """The coarse grid: `x`, `y`, `z`, float32 (COARSE, COARSE, DEPTHS), the body's coordinates of each sample."""

    def __init__(self, pose: Pose) -> None:
        self.pose, self.axes = pose, pose.axes()
        reach = 23.0 if pose.view == "lateral" else 16.0
        self.depth = np.linspace(-reach, reach, DEPTHS, dtype=np.float32)
        self.step = float(self.depth[1] - self.depth[0])
        self.spread = 1 + self.depth / np.float32(DISTANCE[pose.view])
        at = ((np.arange(COARSE, dtype=np.float32) + 0.5) / COARSE - 0.5) * pose.field
        u, v = at, -at
        across = (u + pose.centre[0])[None, :, None] * self.spread
        up = pose.centre[1] + v[:, None, None] * self.spread
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = self.axes
        self.x, self.y, self.z = (
            (across * a + self.depth * b) + up * c for a, b, c in ((ax, bx, cx), (ay, by, cy), (az, bz, cz))
        )

    def pixels(self, points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Column and row, fractional, of points (n, 3) in an image of `size` pixels a side."""
        across, along, up = self.axes @ np.asarray(points, np.float32).T
        shrink = 1 / (1 + along / np.float32(DISTANCE[self.pose.view]))
        scale = np.float32(size / self.pose.field)
        column = (across * shrink - self.pose.centre[0]) * scale + np.float32(size / 2 - 0.5)
        row = np.float32(size / 2 - 0.5) - (up - self.pose.centre[1]) * shrink * scale
        return column, row

    def window(self, centre: Iterable[float], reach: float) -> tuple[slice, slice]:
        """Rows and columns of the coarse grid that a thing of this radius in cm can touch."""
        (column,), (row,) = self.pixels(np.array([centre]), COARSE)
        half = reach * 1.2 * COARSE / self.pose.field + 2
        return tuple(
            slice(int(np.clip(place - half, 0, COARSE)), int(np.clip(place + half + 1, 0, COARSE)))
            for place in (row, column)
        )

    def at(self, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The body's coordinates in a window."""
        return self.x[window], self.y[window], self.z[window]

    def join(self, inside: np.ndarray, balls: Iterable[Ball], remove: bool = False) -> None:
        """Add balls to, or take them out of, a shape's distances, in place."""
        for ball in balls:
            window = self.window(ball.centre, ball.reach)
            distance = ball.inside(*self.at(window))
            if remove:
                np.minimum(inside[window], -distance, out=inside[window])
            else:
                np.maximum(inside[window], distance, out=inside[window])

    def shares(self, inside: np.ndarray) -> np.ndarray:
        """Share, 0 to 1, of each gap between samples that is inside, (..., DEPTHS - 1): exact for flat surfaces."""
        within, size = np.maximum(inside, 0), np.abs(inside)
        return (within[..., 1:] + within[..., :-1]) / (size[..., 1:] + size[..., :-1] + np.float32(1e-6))

    def chord(self, shares: np.ndarray) -> np.ndarray:
        """Centimetres inside, a value a ray."""
        return shares.sum(axis=-1) * np.float32(self.step)


def splat(points: np.ndarray, mass: np.ndarray, rays: Rays, size: int) -> np.ndarray:
    """Attenuation, float32 (size, size), of points (n, 3) with a mass each (attenuation times cm^2)."""
    # Onto a grid twice as fine and then summed: as smooth as sharing each point among four pixels, in half the time.
    fine = 2 * size
    column, row = rays.pixels(points, fine)
    i, j = (row + np.float32(0.5)).astype(np.intp), (column + np.float32(0.5)).astype(np.intp)
    place = np.where((column > 0) & (row > 0) & (j < fine) & (i < fine), i * fine + j, fine * fine)  # last: outside
    total = np.bincount(place, mass, fine * fine + 1)[:-1].astype(np.float32).reshape(fine, fine)
    total = (total[::2, ::2] + total[::2, 1::2]) + (total[1::2, ::2] + total[1::2, 1::2])  # 15 times as fast as sum()
    for axis in (0, 1):  # evens out the points' grain, as the detector does
        total = np.float32(0.5) * total + np.float32(0.25) * (np.roll(total, 1, axis) + np.roll(total, -1, axis))
    return total * np.float32((size / rays.pose.field) ** 2)


def enlarge(coarse: np.ndarray, size: int) -> np.ndarray:
    """A coarse picture at `size` pixels a side, by cubic interpolation."""
    weights = _cubic(coarse.shape[0], size)
    return weights @ coarse @ weights.T


@lru_cache(maxsize=16)
def _cubic(few: int, many: int) -> np.ndarray:
    """Catmull-Rom weights, (many, few); read-only, as they are kept."""
    place = (np.arange(many) + 0.5) * few / many - 0.5
    first = np.floor(place).astype(int)
    t = place - first
    weights = np.zeros((many, few), np.float32)
    factors = (
        -0.5 * t + t**2 - 0.5 * t**3,
        1 - 2.5 * t**2 + 1.5 * t**3,
        0.5 * t + 2 * t**2 - 1.5 * t**3,
        -0.5 * t**2 + 0.5 * t**3,
    )
    for k, factor in enumerate(factors):
        np.add.at(weights, (np.arange(many), np.clip(first + k - 1, 0, few - 1)), factor)
    weights.setflags(write=False)
    return weights
