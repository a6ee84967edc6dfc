"""A body before the beam: its healthy attenuation, and what findings add to it or take from it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.phantoms import chest_vessels
from helpers.phantoms.chest_anatomy import (
    SIDES,
    Ball,
    Body,
    at,
    heart_balls,
    lobe_distance,
    lung_distance,
    skin_distance,
    wall_distance,
    with_profile,
)
from helpers.phantoms.chest_bones import Cloud, arm_direction, skeleton
from helpers.phantoms.chest_projection import COARSE, Pose, Rays, enlarge, splat

WATER = 0.205  # attenuation of soft tissue a cm
SHOWS = 0.05  # attenuation from which a change belongs to the lesion mask: about 3 grey levels
Distance = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Scene:
    """What the rays meet. `healthy` is attenuation, float32 (size, size); `coarse` and `fine` are the findings' part,
    at COARSE and at full size; `region` (COARSE, COARSE) is where the anatomy itself is the finding.
    """

    def __init__(self, body: Body, pose: Pose, size: int, texture: np.random.Generator) -> None:
        if pose.view == "lateral":  # arms are held up, out of the beam
            body = with_profile(body, arms=1.0)
        self.body, self.size, self.texture = body, size, texture
        self.rays = rays = Rays(pose)
        self.branches = chest_vessels.tree(body, texture.spawn(1)[0])
        inside = lung_distance(body, rays.x, rays.y, rays.z)
        rays.join(inside, heart_balls(body), remove=True)
        self.lungs = rays.shares(inside)
        self.lung = rays.chord(self.lungs)
        self.coarse = np.zeros((COARSE, COARSE), np.float32)
        self.fine = np.zeros((size, size), np.float32)
        self.region = np.zeros((COARSE, COARSE), bool)
        self.healthy = self._healthy()

    def _healthy(self) -> np.ndarray:
        body, rays = self.body, self.rays
        lateral = rays.pose.view == "lateral"
        skin = skin_distance(body, rays.x, rays.y, rays.z)
        rays.join(skin, _extras(body))
        if lateral or body.arms > 0.15:  # hanging, they are beside the image
            for side in SIDES:
                self._arm(skin, side, lateral)
        solid = rays.chord(rays.shares(skin))
        soft = solid - self.lung * np.float32(1 - body.air) - self._bubble()
        # Muscles, fat and bowel are not water throughout.
        soft *= 1 + np.float32(0.02) * self.noise(16, self.texture)
        bones = splat(*skeleton(body, lateral, self.texture), rays, self.size)
        vessels = splat(*chest_vessels.solid(self.branches, chest_vessels.BLOOD, self.texture), rays, self.size)
        air = splat(*chest_vessels.airway(body, self.texture), rays, COARSE)
        return enlarge(np.maximum(soft * np.float32(WATER) + air, 0), self.size) + bones + vessels

    def _arm(self, skin: np.ndarray, side: int, lateral: bool) -> None:
        rays, body = self.rays, self.body
        start = np.array([side * 16.6, -1.6, body.apex - 4.0 + 2 * body.arms], np.float32)
        way = arm_direction(body, side, lateral).astype(np.float32)
        window = rays.window(start + 11 * way, 20)
        x, y, z = (c - s for c, s in zip(rays.at(window), start, strict=True))
        t = np.clip(x * way[0] + y * way[1] + z * way[2], 0, 26)
        far = np.sqrt(np.maximum(x * x + y * y + z * z - t * (2 * (x * way[0] + y * way[1] + z * way[2]) - t), 0))
        np.maximum(skin[window], np.float32((5.6 if lateral else 3.4) + 0.55 * body.fat) - far, out=skin[window])

    def _bubble(self) -> np.ndarray:
        """Air in the stomach, cm a ray."""
        body = self.body
        radius = body.bubble
        if radius < 0.4:
            return np.zeros((COARSE, COARSE), np.float32)
        ball = Ball((6.2, 0.5, body.domes[1] - 1.3 - 0.75 * radius), (1.5 * radius, 1.2 * radius, 0.75 * radius))
        out, window = np.zeros((COARSE, COARSE), np.float32), self.rays.window(ball.centre, ball.reach)
        out[window] = self.rays.chord(self.rays.shares(ball.inside(*self.rays.at(window))))
        return out

    def noise(self, cells: float, rng: np.random.Generator) -> np.ndarray:
        """Smooth noise of about unit variance on the coarse grid, `cells` of it across the image."""
        few = int(cells) + 3
        return enlarge(rng.standard_normal((few, few), np.float32) * np.float32(1.4), COARSE)

    # What findings call

    def opacity(
        self, distance: Distance, window: tuple, density: float, soft: float, pattern: np.ndarray | float = 1.0
    ) -> np.ndarray:
        """Fill the air of the lungs where `distance` (cm, positive inside) says so.

        `density`: of the air's missing attenuation, how much is added (1: solid); it is reached `soft` cm inside.
        `pattern` (COARSE, COARSE) modulates it. Returns the added attenuation of the window.
        """
        x, y, z = (0.5 * (c[..., 1:] + c[..., :-1]) for c in self.rays.at(window))
        share = np.clip(distance(x, y, z) / np.float32(soft), 0, 1)
        added = (share * self.lungs[window]).sum(axis=-1) * np.float32(self.rays.step)
        added *= np.float32(density * WATER * (1 - self.body.air))
        if not np.isscalar(pattern):
            added *= pattern[window]
        self.coarse[window] += added
        return added

    def everywhere(self) -> tuple[slice, slice]:
        return slice(0, COARSE), slice(0, COARSE)

    def add(self, cloud: Cloud) -> None:
        """Add a cloud of points to the findings' part."""
        self.fine += splat(*cloud, self.rays, self.size)

    def lobe(self, name: str) -> Distance:
        return lambda x, y, z: lobe_distance(name, x, y, z)

    def wall(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Distance from the inner chest wall, cm."""
        return wall_distance(self.body, x, y, z)

    def heart_region(self) -> np.ndarray:
        """Where the heart's shadow is at least 3 cm deep, bool (COARSE, COARSE)."""
        inside = np.full_like(self.rays.x, -9)
        self.rays.join(inside, heart_balls(self.body)[:2])
        return self.rays.chord(self.rays.shares(inside)) > 3

    # What comes out

    def lung_mask(self) -> np.ndarray:
        """Where a ray crosses a good depth of lung, bool (size, size)."""
        high = np.percentile(self.lung, 97)
        return enlarge(self.lung, self.size) > 0.42 * high

    def findings(self) -> tuple[np.ndarray, np.ndarray]:
        """The findings' attenuation, float32, and the lesion mask, bool, both (size, size)."""
        from scipy.ndimage import gaussian_filter

        added = enlarge(self.coarse, self.size) + self.fine
        mask = enlarge(self.region.astype(np.float32), self.size) > 0.5
        if added.any():
            # Of a net of fine lines the mask takes the meshes too.
            strength = gaussian_filter(np.abs(added - self.fine), 1.2 * self.size / 256, truncate=2.5)
            strength += gaussian_filter(np.abs(self.fine), 4 * self.size / 256, truncate=2.5)
            mask |= strength > min(SHOWS, 0.4 * float(strength.max()))
        return added, mask


def _extras(body: Body) -> tuple[Ball, ...]:
    """Shoulders, breasts and head: soft parts that are no tube."""
    balls = [
        Ball(
            (side * 13.0, -1.0, body.apex - 4.0 + 3 * body.arms),
            (7.0, 6.0 + 1.5 * body.arms, 5 + 0.3 * body.fat),
            side * 0.2,
        )
        for side in SIDES
    ]
    front = float(at(body, "front", np.float32(4.0)))
    if body.breast:
        size = 3.6 + 0.75 * body.breast
        balls += [Ball((side * 8.2, front + 0.5, 2.2), (size, 0.7 + body.breast, size)) for side in SIDES]
    balls.append(Ball((0, 1.8, body.apex + 14.5), (7.4, 9.0, 9.5 + 2.4 * body.child)))
    return tuple(balls)
