"""A body before the beam: attenuation along the rays of a radiograph, and what findings add to it or take from it.

Large shapes are sampled on a coarse grid of rays, and their chords are exact for flat surfaces between samples; bones
and vessels are clouds of points with a mass, which fall on the detector at full size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from helpers.phantoms import chest_bones
from helpers.phantoms.chest_anatomy import SIDES, Ball, Body

COARSE = 72  # rays per side of the coarse grid
DEPTHS = 18  # samples along a ray
DISTANCE = {"PA": 180.0, "AP": 105.0, "lateral": 180.0}  # cm from the source to the middle of the chest
WATER = 0.205  # attenuation of soft tissue per cm
SHOWS = 0.05  # attenuation from which a change belongs to the lesion mask: about 3 grey levels
EVERYWHERE = slice(0, COARSE), slice(0, COARSE)
ALIKE = np.ones((COARSE, COARSE), np.float32)  # the pattern of what has none
Distance = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


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
        self.x, self.y, self.z = ((across * a + self.depth * b) + up * c for a, b, c in self.axes.T)

    def pixels(self, points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Column and row, fractional, of points (n, 3) in an image of `size` pixels per side."""
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
        ends = np.clip([(place - half, place + half + 1) for place in (row, column)], 0, COARSE).astype(int)
        return tuple(slice(*each) for each in ends.tolist())

    def at(self, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The body's coordinates in a window."""
        return self.x[window], self.y[window], self.z[window]

    def join(self, inside: np.ndarray, balls: Iterable[Ball], remove: bool = False) -> None:
        """Add balls to, or take them out of, a shape's distances, in place."""
        for ball in balls:
            window = self.window(ball.centre, ball.reach)
            distance = ball.inside(*self.at(window))
            inside[window] = np.minimum(inside[window], -distance) if remove else np.maximum(inside[window], distance)

    def shares(self, inside: np.ndarray) -> np.ndarray:
        """Share, 0 to 1, of each gap between samples that is inside, (..., DEPTHS - 1): exact for flat surfaces."""
        within, size = np.maximum(inside, 0), np.abs(inside)
        return (within[..., 1:] + within[..., :-1]) / (size[..., 1:] + size[..., :-1] + np.float32(1e-6))

    def depth_of(self, balls: Iterable[Ball]) -> np.ndarray:
        """Centimetres inside any of the balls, one value per ray."""
        inside = np.full_like(self.x, -9)
        self.join(inside, balls)
        return self.chord(self.shares(inside))

    def chord(self, shares: np.ndarray) -> np.ndarray:
        """Centimetres inside, one value per ray."""
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
    """A coarse picture at `size` pixels per side, by cubic interpolation."""
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


class Scene:
    """What the rays meet. `healthy` is attenuation, float32 (size, size); `coarse` and `fine` are the findings' part,
    at COARSE and at full size; `region` (COARSE, COARSE) is where the anatomy itself is the finding.
    """

    def __init__(self, body: Body, pose: Pose, size: int, texture: np.random.Generator) -> None:
        if pose.view == "lateral":  # arms are held up, out of the beam
            body = body.change(arms=1.0)
        self.body, self.size, self.texture = body, size, texture
        self.rays = rays = Rays(pose)
        self.branches = chest_bones.tree(body, texture.spawn(1)[0])
        inside = body.lung_distance(rays.x, rays.y, rays.z)
        rays.join(inside, body.heart_balls(), remove=True)
        self.lungs = rays.shares(inside)
        self.lung = rays.chord(self.lungs)
        self.coarse = np.zeros((COARSE, COARSE), np.float32)
        self.fine = np.zeros((size, size), np.float32)
        self.region = np.zeros((COARSE, COARSE), bool)
        self.healthy = self._healthy()

    def _healthy(self) -> np.ndarray:
        body, rays = self.body, self.rays
        lateral = rays.pose.view == "lateral"
        skin = body.tube_distance("skin", rays.x, rays.y, rays.z)
        rays.join(skin, _extras(body))
        if lateral or body.arms > 0.15:  # hanging, they are beside the image
            for side in SIDES:
                self._arm(skin, side, lateral)
        solid = rays.chord(rays.shares(skin))
        soft = solid - self.lung * np.float32(1 - body.air) - rays.depth_of(_bubble(body))
        # Muscles, fat and bowel are not water throughout.
        soft *= 1 + np.float32(0.02) * self.noise(16, self.texture)
        bones = splat(*chest_bones.skeleton(body, lateral, self.texture), rays, self.size)
        vessels = splat(*chest_bones.solid(self.branches, chest_bones.BLOOD, self.texture), rays, self.size)
        air = splat(*chest_bones.airway(body, self.texture), rays, COARSE)
        return enlarge(np.maximum(soft * np.float32(WATER) + air, 0), self.size) + bones + vessels

    def _arm(self, skin: np.ndarray, side: int, lateral: bool) -> None:
        rays, body = self.rays, self.body
        start = np.array([side * 16.6, -1.6, body.apex - 4.0 + 2 * body.arms], np.float32)
        way = chest_bones.arm_direction(body, side, lateral).astype(np.float32)
        window = rays.window(start + 11 * way, 20)
        x, y, z = (c - s for c, s in zip(rays.at(window), start, strict=True))
        t = np.clip(x * way[0] + y * way[1] + z * way[2], 0, 26)
        far = np.sqrt(np.maximum(x * x + y * y + z * z - t * (2 * (x * way[0] + y * way[1] + z * way[2]) - t), 0))
        np.maximum(skin[window], np.float32((5.6 if lateral else 3.4) + 0.55 * body.fat) - far, out=skin[window])

    def noise(self, cells: int, rng: np.random.Generator) -> np.ndarray:
        """Smooth noise of about unit variance on the coarse grid, `cells` of it across the image."""
        return enlarge(rng.standard_normal((cells + 3, cells + 3), np.float32) * np.float32(1.4), COARSE)

    def opacity(
        self, distance: Distance, density: float, soft: float, pattern: np.ndarray = ALIKE, window: tuple = EVERYWHERE
    ) -> None:
        """Fill the air of the lungs where `distance` (cm, positive inside) says so.

        `density`: of the air's missing attenuation, how much is added (1: solid); it is reached `soft` cm inside.
        `pattern` (COARSE, COARSE) modulates it.
        """
        x, y, z = (0.5 * (c[..., 1:] + c[..., :-1]) for c in self.rays.at(window))
        share = np.clip(distance(x, y, z) / np.float32(soft), 0, 1)
        added = (share * self.lungs[window]).sum(axis=-1) * np.float32(self.rays.step)
        added *= np.float32(density * WATER * (1 - self.body.air))
        self.coarse[window] += added * pattern[window]

    def fill(self, ball: Ball, density: float, soft: float, pattern: np.ndarray = ALIKE) -> None:
        """As `opacity`, in a ball."""
        self.opacity(ball.inside, density, soft, pattern, self.rays.window(ball.centre, ball.reach))

    def add(self, cloud: chest_bones.Cloud) -> None:
        """Add a cloud of points to the findings' part."""
        self.fine += splat(*cloud, self.rays, self.size)

    @cached_property
    def lung_mask(self) -> np.ndarray:
        """Where a ray crosses a good depth of lung, bool (size, size)."""
        high = np.percentile(self.lung, 97)
        return enlarge(self.lung, self.size) > 0.42 * high

    @cached_property
    def findings(self) -> tuple[np.ndarray, np.ndarray]:
        """The findings' attenuation, float32, and the lesion mask, bool, both (size, size)."""
        added = enlarge(self.coarse, self.size) + self.fine
        mask = enlarge(self.region.astype(np.float32), self.size) > 0.5
        if added.any():
            # Of a net of fine lines the mask takes the meshes too.
            strength = gaussian_filter(np.abs(added - self.fine), 1.2 * self.size / 256, truncate=2.5)
            strength += gaussian_filter(np.abs(self.fine), 4 * self.size / 256, truncate=2.5)
            mask |= strength > min(SHOWS, 0.4 * float(strength.max()))
        return added, mask


def _bubble(body: Body) -> tuple[Ball, ...]:
    """Air in the stomach."""
    r, centre = body.bubble, (6.2, 0.5, body.domes[1] - 1.3 - 0.75 * body.bubble)
    return (Ball(centre, (1.5 * r, 1.2 * r, 0.75 * r)),) if r > 0.4 else ()


def _extras(body: Body) -> tuple[Ball, ...]:
    """Shoulders, breasts and head: soft parts that are no tube."""
    high, shoulder = body.apex - 4.0 + 3 * body.arms, (7.0, 6.0 + 1.5 * body.arms, 5 + 0.3 * body.fat)
    balls = [Ball((side * 13.0, -1.0, high), shoulder, side * 0.2) for side in SIDES]
    front = float(body.at("front", np.float32(4.0)))
    if body.breast:
        size = 3.6 + 0.75 * body.breast
        balls += [Ball((side * 8.2, front + 0.5, 2.2), (size, 0.7 + body.breast, size)) for side in SIDES]
    balls.append(Ball((0, 1.8, body.apex + 14.5), (7.4, 9.0, 9.5 + 2.4 * body.child)))
    return tuple(balls)
