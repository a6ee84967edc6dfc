"""A phantom body: the chest's shape in three dimensions, as functions of place.

Places are (x, y, z): x to the patient's left, y to the front, z up, 0 at the height of the right dome of the diaphragm
in full breath. Lengths are centimetres of an adult; a child is drawn at the adult's size with a child's proportions
(a beam is collimated to the chest, so size itself does not show), and attenuates as little as its thinner chest does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import ArrayLike
from scipy.ndimage import uniform_filter1d

ADULT = 16.0  # years from which proportions are an adult's
BOTTOM, TOP, STEP = -24.0, 46.0, 0.1  # heights over which profiles are tabulated
SIDES = (-1, 1)  # the patient's right, and left
PROFILES = (
    "middle", "wall", "wall depth", "skin", "skin depth", "front", "mediastinum", "lateral", "spine",
)  # fmt: skip
WALL, SKIN, LUNG = 1, 3, 0  # what `distance` measures from: the inner chest wall, the skin, and the lungs' surface


@dataclass(frozen=True)
class Ball:
    """An ellipsoid: `tilt` turns it in the plane of x and z, in radians."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    tilt: float = 0.0


def union(balls: Iterable[Ball], places: tuple[np.ndarray, ...]) -> np.ndarray:
    """Roughly the distance from the surface of balls in cm at `places`, positive inside, and -9 far from them."""
    inside = np.full(places[0].shape, -9, np.float32)
    join(inside, places, balls)
    return inside


def join(inside: np.ndarray, places: tuple, balls: Iterable[Ball], remove: bool = False) -> None:
    """Add balls to, or take them out of, a shape's distances at `places` (x, y, z), in place, near the balls."""
    rows = [(*ball.centre, *ball.radii, np.cos(ball.tilt), np.sin(ball.tilt)) for ball in balls]
    _join(inside.reshape(-1), *(c.reshape(-1) for c in places), np.array(rows, np.float32), remove)


@njit(cache=True)
def _join(inside, x, y, z, balls, remove):
    for ball in balls:
        least, most = min(ball[3], ball[4], ball[5]), np.float32(2) * max(ball[3], ball[4], ball[5])
        for k in range(len(inside)):
            across, up = x[k] - ball[0], z[k] - ball[2]
            if abs(up) < most and abs(across) < most:
                p, q = (across * ball[6] + up * ball[7]) / ball[3], (y[k] - ball[1]) / ball[4]
                r = (up * ball[6] - across * ball[7]) / ball[5]
                depth = (np.float32(1) - np.sqrt(p * p + q * q + r * r)) * least
                inside[k] = min(inside[k], -depth) if remove else max(inside[k], depth)


@njit(cache=True)
def distance(what, x, y, z, table, domes, flat, apex):
    """Roughly the distance in cm from `what` (WALL, SKIN or LUNG) at places (n,), positive inside, float32. The lungs
    are within the wall, above the diaphragm and beside what lies between them, without the heart's balls.
    """
    found = np.empty(len(x), np.float32)
    column = SKIN if what == SKIN else WALL
    for k in range(len(x)):
        row = table[min(max(int((z[k] - BOTTOM) / STEP), 0), len(table) - 1)]
        half = row[column + 1]
        p, q = (x[k] / row[column]) ** 2, ((y[k] - row[0]) / half) ** 2
        box = 0.15 if what == SKIN else 0.5  # from an ellipse to a box with round edges
        found[k] = (1 - (1 - box) * np.sqrt(p + q) - box * np.sqrt(np.sqrt(p * p + q * q))) * half
        if what == LUNG:
            # The diaphragm: two arches, deep behind.
            arch, back = 0.078 * (1 - 0.75 * flat), y[k] - 2
            fall = back * back * (0.085 * (1 - 0.6 * flat) if back < 0 else 0.035)
            dome = max(domes[0] - arch * (x[k] + 6.0) ** 2, domes[1] - arch * (x[k] - 6.4) ** 2) - fall
            # Before the heart and great vessels the lungs nearly meet; behind, they are apart by the spine and aorta.
            share = min(max(0.1 + (max(row[5], 8.5) - y[k]) * 0.065, 0.12), 1.1)
            share += 0.12 * max(-2.0 - y[k], 0.0)  # so the spine's edge over the heart is soft
            side = abs(x[k] - row[7])
            # Each lung has a rounded tip of its own, away from the middle.
            tip = apex - 0.22 * max(4.6 - side, 0.0) ** 2
            found[k] = min(found[k], z[k] - dome, tip - z[k], side - share * row[6])
    return found


class Body:
    """A patient at random: how patients differ, and what diseases of the whole chest change. Lengths in adult cm."""

    flat = 0.0  # 0: arched domes of the diaphragm, 1: flat ones

    def __init__(self, rng: np.random.Generator, age: float, breath: float) -> None:
        """Healthy, of `age` years; `breath` from 0 (breathed out) to 1 (a full breath)."""
        self.child = child = float(np.clip(1 - age / ADULT, 0, 1))  # 1 for an infant, 0 for an adult
        n = rng.normal(size=20)
        dome = 4.2 * (1 - breath) + 0.5 * n[2] + 0.3 + 0.4 * child
        self.width = 13.2 + 1.0 * n[0] - 0.5 * child  # half, of the inner chest
        self.depth = float(np.clip(1 + 0.07 * n[1] + 0.08 * child, 0.8, 1.25))  # factor, from front to back
        self.apex = 24.0 + 1.0 * n[3] - 0.4 * n[0] - 2.6 * child  # height of the lung's tip
        self.domes = (dome, dome - 1.2 + 0.5 * n[4])  # heights of the right and left dome
        # Outside the ribs.
        self.fat = float(np.clip((2.4 - 0.5 * child) * np.exp((0.42 - 0.15 * child) * n[5]), 1.2, 7))
        self.breast = float(0.5 * (age > 14) * (rng.random() < 0.5) * rng.uniform(2, 6))
        # Factors on the sizes of heart and aortic arch.
        self.heart = float(np.clip(1 + 0.055 * n[6] + 0.07 * child + 0.0012 * max(age - 40, 0), 0.86, 1.2))
        self.knob = float(np.clip(0.55 + 0.5 * min(age, 75) / 60 + 0.1 * n[7], 0.4, 1.35))
        self.slope = 9.2 - 3.0 * child + 0.7 * n[8]  # cm by which a rib falls from back to front
        self.bone = float((1.05 - 0.3 * child - 0.004 * max(age - 55, 0)) * np.exp(0.12 * n[9]))  # factor on density
        self.air = float(np.clip(0.25 + 0.02 * n[10] + 0.06 * (1 - breath) + 0.03 * child, 0.18, 0.4))  # of water's
        self.curve = float(0.5 * n[11])  # bend of the spine to the side, cm
        self.bubble = float(np.clip(1.6 + 1.1 * n[12], 0, 4))  # radius of the air in the stomach
        self.arms = float(np.clip(0.75 * child * (n[13] > -0.5) + 0.1 * n[14], 0, 1))  # 0: hanging, 1: beside the head
        self.vessels = float(np.exp(0.12 * n[15]))  # factor on the radius of the lung's vessels
        self.pedicle = float(np.clip(1 + 0.14 * n[16] + 0.004 * (age - 50), 0.75, 1.4))  # factor on what lies between
        self.axis = float(0.14 * n[17])  # turn of the heart's long axis
        self.thick = 1 - 0.42 * child  # factor on attenuation: how thick this chest is, of a middling adult's

    def change(self, **values: object) -> Body:
        """The same body with these attributes."""
        other = copy.copy(self)
        other.__dict__ = {k: v for k, v in self.__dict__.items() if k != "profile"} | values
        return other

    @cached_property
    def profile(self) -> np.ndarray:
        """Sizes along the body, float32, a row per step of height and a column for each of PROFILES."""
        z, low = np.arange(BOTTOM, TOP, STEP), 1.5
        t = np.clip((z - low) / (self.apex + 1.2 - low), 0, 1)
        waist = 1 - 0.006 * np.clip(low - z, 0, 8) * (1 + self.child)
        wall = np.clip(1 - t**2.4, 1e-4, 1) ** 0.42 * self.width * waist
        front = np.interp(z, (-14, 0, 8, 16, self.apex - 2.5, self.apex), (7.6, 9.2, 8.4, 5.6, 2.0, -2.0))
        back = np.interp(z, (-14, 0, 8, 15, 20, self.apex), (-8.0, -9.0, -9.5, -8.8, -7.4, -5.0))
        front, back = _smooth(front) * self.depth, _smooth(back) * self.depth
        top = np.clip((z - self.apex + 5.5) / 5.5, 0, 1)
        shoulder = np.exp(-(((z - self.apex + 3.4) / 4.2) ** 2)) + 0.55 * np.exp(-(((z - self.apex + 8.5) / 4.5) ** 2))
        hila = np.exp(-(((z - 9.5) / 2.5) ** 2))
        trunk = np.maximum(wall, self.width * np.clip(1.0 - 0.35 * np.clip((z - 10) / 14, 0, 1), 0.5, 1))
        skin = np.where(z > self.apex + 1, 6.6, trunk + 0.9 + self.fat)
        profiles = {
            "wall": wall,
            "middle": (front + back) / 2,
            "wall depth": np.maximum((front - back) / 2, 0.5),
            "front": front,
            "mediastinum": self.pedicle * (1.9 + 0.9 * np.clip((z - 8) / 5, 0, 1)) + 0.9 * top**2 + 0.7 * hila,
            "skin": _smooth(skin + 4.2 * shoulder * (1 - 0.4 * self.child), 23),
            "skin depth": _smooth(np.where(z > self.apex + 1, 7.4, (front - back) / 2 + 1.6 + 0.75 * self.fat), 23),
            "spine": _smooth(np.interp(z, (-20, -8, 6, 16, 26, 40), (-3.6, -4.2, -6.4, -6.2, -3.6, -2.4))) * self.depth,
            "lateral": self.curve * np.sin((z + 4) / 9.0),
        }
        return np.stack([profiles[name] for name in PROFILES], axis=-1).astype(np.float32)

    def at(self, name: str, z: np.ndarray) -> np.ndarray:
        """A profile's values at heights `z`."""
        index = ((z - BOTTOM) * (1 / STEP)).astype(np.int32)
        return self.profile[:, PROFILES.index(name)].take(index, mode="clip")

    def place(self, side: int, far: ArrayLike, angle: ArrayLike, z: ArrayLike) -> tuple[ArrayLike, ...]:
        """A place at height `z`, at a share `far` of the way to the wall, `angle` from the back round the side."""
        x = side * far * self.at("wall", z) * np.sin(angle)
        return x, self.at("middle", z) - far * self.at("wall depth", z) * np.cos(angle), z

    def heart_balls(self) -> tuple[Ball, ...]:
        """The heart, the pulmonary trunk and the arch of the aorta. The heart rests on the diaphragm."""
        f, low, k = self.heart, 0.5 * min(self.domes[0], 4.0), self.knob
        return (
            Ball((2.5 + 2.0 * (f - 1), 2.7, 3.5 + low), (7.4 * f, 6.2 * f, 4.9 * f), self.axis - 0.66),
            Ball((-1.5 * f, 1.6, 4.2 + low), (3.3 * f, 5.0 * f, 5.0 * f)),
            Ball((0.8, 2.0, 8.6 + 0.7 * low), (3.3 * f, 3.6 * f, 5.8), 0.16),
            Ball((2.5, 1.8, 10.6 + 0.5 * low), (2.3 * f, 2.6, 2.9), 0.3),
            Ball((1.7, -1.2, 14.4), (2.3 * k, 3.2, 2.0 * k)),
            Ball((-1.1, 1.4, 13.4), (1.9 * self.pedicle, 2.1, 5.6), -0.08),
        )

    def distance(self, what: int, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """See the function `distance`; of the places' shape."""
        flat = (np.ascontiguousarray(c, np.float32).reshape(-1) for c in (x, y, z))
        return distance(what, *flat, self.profile, self.domes, float(self.flat), self.apex).reshape(x.shape)


def _smooth(values: np.ndarray, width: int = 31) -> np.ndarray:
    """A moving average over `width` steps of height, twice."""
    return uniform_filter1d(uniform_filter1d(values, width, mode="nearest"), width, mode="nearest")


def lobe_distance(lobe: str, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Roughly the distance in cm from the fissures that bound a lobe ('RUL', 'RML', 'RLL', 'LUL', 'LLL'), positive
    inside it; where the other lung begins is bounded too.
    """
    side = x if lobe[0] == "L" else -x
    oblique = (z - (8.2 - y * np.float32(1.05))) * np.float32(0.69)  # in front of and above it
    if lobe.endswith("LL"):
        return np.minimum(side, -oblique)
    if lobe == "LUL":
        return np.minimum(side, oblique)
    level = z - np.float32(9.0)
    return np.minimum(np.minimum(side, oblique), level if lobe == "RUL" else -level)
