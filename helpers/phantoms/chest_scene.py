"""A body before the beam: attenuation along the rays of a radiograph, and what findings add to it or take from it.

Large shapes are sampled on a coarse grid of rays, and their chords are exact for flat surfaces between samples; bones
and vessels are clouds of points with a mass, which fall on the detector at full size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from helpers.phantoms import chest_bones
from helpers.phantoms.chest_anatomy import LUNG, SIDES, SKIN, Ball, Body, join, union

COARSE = 60  # rays per side of the coarse grid
DEPTHS = 14  # samples along a ray
DISTANCE = {"PA": 180.0, "AP": 105.0, "lateral": 180.0}  # cm from the source to the middle of the chest
WATER = 0.205  # attenuation of soft tissue per cm
SHOWS = 0.05  # attenuation from which a change belongs to the lesion mask: about 3 grey levels
ALIKE = np.ones((COARSE, COARSE), np.float32)  # the pattern of what has none


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
        lateral = self.view == "lateral"
        turn = self.turn + (np.pi / 2 * self.facing if lateral else 0.0)
        facing = Rotation.from_euler("zx", (-turn, 0.0 if lateral else -self.pitch)).as_matrix()
        if self.view == "AP" or (lateral and self.facing > 0):
            facing[1] *= -1
        return (Rotation.from_euler("y", self.tilt).as_matrix() @ facing).astype(np.float32)


@njit(cache=True)
def splat(cloud, axes, centre, distance, scale, size):
    """Attenuation, float32 (size, size), of a cloud (n, 5): each point's mass falls on the pixels about it, or, where
    its ball is wider than they are, on the ball's disc. `scale` is pixels per cm; see `Pose` for the others.
    """
    total = np.zeros((size + 2, size + 2), np.float32)  # a pixel more on each side
    for k in range(len(cloud)):
        x, y, z, mass, radius = cloud[k, 0], cloud[k, 1], cloud[k, 2], cloud[k, 3] * scale * scale, cloud[k, 4]
        shrink = 1 / (1 + (axes[1, 0] * x + axes[1, 1] * y + axes[1, 2] * z) / distance)
        across = (axes[0, 0] * x + axes[0, 1] * y + axes[0, 2] * z) * shrink - centre[0]
        up = (axes[2, 0] * x + axes[2, 1] * y + axes[2, 2] * z) * shrink - centre[1]
        column, row, wide = 0.5 * (size + 1) + across * scale, 0.5 * (size + 1) - up * scale, radius * shrink * scale
        if wide > 1.6:
            for i in range(max(math.ceil(row - wide), 0), min(int(row + wide), size + 1) + 1):
                for j in range(max(math.ceil(column - wide), 0), min(int(column + wide), size + 1) + 1):
                    far = ((i - row) ** 2 + (j - column) ** 2) / wide**2
                    total[i, j] += mass * max(1 - far, 0.0) * 2 / (np.pi * wide**2)
        elif 0.5 < column < size + 0.5 and 0.5 < row < size + 0.5:  # a quadratic spline over three pixels each way
            i, j = int(row + 0.5), int(column + 0.5)
            f, g = row - i, column - j
            left, middle, right = 0.5 * (0.5 - g) ** 2, 0.75 - g * g, 0.5 * (0.5 + g) ** 2
            for down, share in ((-1, 0.5 * (0.5 - f) ** 2), (0, 0.75 - f * f), (1, 0.5 * (0.5 + f) ** 2)):
                total[i + down, j - 1] += mass * share * left
                total[i + down, j] += mass * share * middle
                total[i + down, j + 1] += mass * share * right
    return total[1:-1, 1:-1]


def shares(inside: np.ndarray) -> np.ndarray:
    """Share, 0 to 1, of each gap between samples that is inside, (..., DEPTHS - 1): exact for flat surfaces."""
    within, size = np.maximum(inside, 0), np.abs(inside)
    return (within[..., 1:] + within[..., :-1]) / (size[..., 1:] + size[..., :-1] + np.float32(1e-6))


def enlarge(coarse: np.ndarray, size: int) -> np.ndarray:
    """A coarse picture at `size` pixels per side, by cubic interpolation."""
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


class Scene:
    """What the rays meet. `places`: the body's x, y and z of a coarse grid of rays, float32 (COARSE, COARSE, DEPTHS)
    each. `healthy` is attenuation, float32 (size, size); `coarse` and `clouds` are the findings' part,
    on the coarse grid and as points; `region` (COARSE, COARSE) is where the anatomy itself is the finding.
    """

    def __init__(self, body: Body, pose: Pose, size: int, texture: np.random.Generator) -> None:
        if pose.view == "lateral":  # arms are held up, out of the beam
            body = body.change(arms=1.0)
        self.body, self.pose, self.size, self.texture, self.axes = body, pose, size, texture, pose.axes()
        reach = 23.0 if pose.view == "lateral" else 16.0
        depth, self.step = np.linspace(-reach, reach, DEPTHS, dtype=np.float32, retstep=True)
        spread = 1 + depth / np.float32(DISTANCE[pose.view])
        at = ((np.arange(COARSE, dtype=np.float32) + 0.5) / COARSE - 0.5) * pose.field
        across = (at + pose.centre[0])[None, :, None] * spread
        up = pose.centre[1] - at[:, None, None] * spread
        self.places = tuple((across * a + depth * b) + up * c for a, b, c in self.axes.T)
        self.branches = chest_bones.tree(body, texture.spawn(1)[0])
        inside = body.distance(LUNG, *self.places)
        join(inside, self.places, body.heart_balls(), remove=True)
        self.lungs = shares(inside)
        self.lung = self.chord(self.lungs)
        self.coarse = np.zeros((COARSE, COARSE), np.float32)
        self.clouds: list[np.ndarray] = []
        self.region = np.zeros((COARSE, COARSE), bool)
        self.healthy = self._healthy()

    def _healthy(self) -> np.ndarray:
        body, lateral = self.body, self.pose.view == "lateral"
        skin = body.distance(SKIN, *self.places)
        join(skin, self.places, _extras(body, lateral))
        r = max(body.bubble, 0.3)  # of the air in the stomach
        bubble = Ball((6.2, 0.5, body.domes[1] - 1.3 - 0.75 * r), (1.5 * r, 1.2 * r, 0.75 * r))
        gas = [  # in the bowel
            Ball((16 * a - 8, 2 + 3 * b, min(body.domes) - 4 - 5 * c), (0.4 + 1.4 * d, 1.0, 0.4 + 0.9 * d), 3 * a)
            for a, b, c, d in self.texture.random((5, 4))
        ]
        soft = self.chord(shares(skin)) - self.lung * np.float32(1 - body.air) - self.depth_of([bubble, *gas])
        # Muscles, fat and bowel are not water throughout, and lungs are not even.
        soft *= 1 + np.float32(0.02) * self.noise(16, self.texture)
        soft += np.float32(0.012) * self.lung * self.noise(40, self.texture)
        bones = chest_bones.skeleton(body, lateral, self.texture)
        inner = chest_bones.solid(self.branches, chest_bones.BLOOD), chest_bones.airway(body)
        soft = enlarge(np.maximum(soft * np.float32(WATER), 0), self.size)
        return np.maximum(soft + self.splat(np.concatenate([bones, *inner])), 0)

    def splat(self, cloud: np.ndarray) -> np.ndarray:
        """What a cloud adds to the attenuation, float32 (size, size)."""
        pose = self.pose
        return splat(cloud, self.axes, pose.centre, DISTANCE[pose.view], self.size / pose.field, self.size)

    def depth_of(self, balls: Iterable[Ball]) -> np.ndarray:
        """Centimetres inside any of the balls, one value per ray."""
        return self.chord(shares(union(balls, self.places)))

    def chord(self, inside: np.ndarray) -> np.ndarray:
        """Centimetres inside, one value per ray, of the shares of its gaps that are."""
        return inside.sum(axis=-1) * np.float32(self.step)

    def noise(self, cells: int, rng: np.random.Generator) -> np.ndarray:
        """Smooth noise of about unit variance on the coarse grid, `cells` of it across the image."""
        return enlarge(rng.standard_normal((cells + 3, cells + 3), np.float32) * np.float32(1.4), COARSE)

    @cached_property
    def middle(self) -> tuple[np.ndarray, ...]:
        """The body's coordinates of the middles of the gaps between samples."""
        return tuple(0.5 * (c[..., 1:] + c[..., :-1]) for c in self.places)

    def opacity(self, inside: np.ndarray, density: float, soft: float, pattern: np.ndarray = ALIKE) -> None:
        """Fill the air of the lungs where `inside` (cm at `middle`, positive inside) says so.

        `density`: of the air's missing attenuation, how much is added (1: solid); it is reached `soft` cm inside.
        `pattern` (COARSE, COARSE) modulates it.
        """
        share = np.clip(inside / np.float32(soft), 0, 1)
        added = self.chord(share * self.lungs) * np.float32(density * WATER * (1 - self.body.air))
        self.coarse += added * pattern

    def fill(self, balls: list[Ball], density: float, soft: float, pattern: np.ndarray = ALIKE) -> None:
        """As `opacity`, in balls."""
        self.opacity(union(balls, self.middle), density, soft, pattern)

    @cached_property
    def lung_mask(self) -> np.ndarray:
        """Where a ray crosses a good depth of lung, bool (size, size)."""
        high = np.percentile(self.lung, 97)
        return enlarge(self.lung, self.size) > 0.42 * high

    @cached_property
    def findings(self) -> tuple[np.ndarray, np.ndarray]:
        """The findings' attenuation, float32, and the lesion mask, bool, both (size, size)."""
        added = enlarge(self.coarse, self.size)
        mask, scale = enlarge(self.region.astype(np.float32), self.size) > 0.5, self.size / 256
        strength = gaussian_filter(np.abs(added), 1.2 * scale, truncate=2.5) if added.any() else np.zeros_like(added)
        if self.clouds:
            fine = self.splat(np.concatenate(self.clouds))
            added = added + fine
            # Of a net of fine lines the mask takes the meshes too.
            half = np.abs(fine).reshape(self.size // 2, 2, self.size // 2, 2).mean(axis=(1, 3))
            strength += enlarge(gaussian_filter(half, 2 * scale, truncate=2.5), self.size)
        if strength.any():
            mask |= (strength > min(SHOWS, 0.4 * float(strength.max()))) | (np.abs(added) > 3 * SHOWS)
        return added, mask


def _extras(body: Body, lateral: bool) -> tuple[Ball, ...]:
    """Shoulders, breasts and head: soft parts that are no tube."""
    high, shoulder = body.apex - 4.0 + 3 * body.arms, (7.0, 6.0 + 1.5 * body.arms, 5 + 0.3 * body.fat)
    if lateral:
        high, shoulder = body.apex + 1.0, (3.6, 5.5 + 0.4 * body.fat, 5.5 + 0.3 * body.fat)
    balls = [Ball((side * 13.0, -1.0 - 1.5 * lateral, high), shoulder, side * 0.2) for side in SIDES]
    front = float(body.at("front", np.float32(4.0)))
    if body.breast:
        size = 3.6 + 0.75 * body.breast
        balls += [Ball((side * 8.2, front + 0.5, 2.2), (size, 0.7 + body.breast, size)) for side in SIDES]
    if not lateral:  # chin and arms up, and out of the beam
        for side in SIDES:
            lift, wide = side * chest_bones.lift(body), 3.4 + 0.55 * body.fat
            middle = (
                side * (16.6 + 11 * np.cos(lift)),
                -1.0,
                body.apex - 4.0 + 2 * body.arms + 11 * side * np.sin(lift),
            )
            balls.append(Ball(middle, (15.0, wide, wide), lift))
        balls.append(Ball((0, 1.8, body.apex + 14.5), (7.4, 9.0, 9.5 + 2.4 * body.child)))
    return tuple(balls)
