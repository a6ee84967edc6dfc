"""A phantom body: the chest's shape in three dimensions, as functions of place.

Places are (x, y, z): x to the patient's left, y to the front, z up, 0 at the height of the right dome of the diaphragm
in full breath. Lengths are centimetres of an adult; a child is drawn at the adult's size with a child's proportions
(a beam is collimated to the chest, so size itself does not show), and attenuates as little as its thinner chest does.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import uniform_filter1d

ADULT = 16.0  # years from which proportions are an adult's
BOTTOM, TOP, STEP = -24.0, 46.0, 0.05  # heights over which profiles are tabulated
SIDES = (-1, 1)  # the patient's right, and left


@dataclass(frozen=True)
class Ball:
    """An ellipsoid: `tilt` turns it in the plane of x and z, in radians."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    tilt: float = 0.0

    def inside(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Roughly the distance from the surface in cm, positive inside."""
        across, up = x - self.centre[0], z - self.centre[2]
        c, s = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        a, b, d = self.radii
        p, q, r = (across * c + up * s) / a, (y - self.centre[1]) / b, (up * c - across * s) / d
        return (1 - np.sqrt(p * p + q * q + r * r)) * min(self.radii)

    @property
    def reach(self) -> float:
        return max(self.radii)


class Body:
    """A patient at random: how patients differ, and what diseases of the whole chest change. Lengths in adult cm."""

    flat = 0.0  # 0: arched domes of the diaphragm, 1: flat ones

    def __init__(self, rng: np.random.Generator, age: float, breath: float) -> None:
        """Healthy, of `age` years; `breath` from 0 (breathed out) to 1 (a full breath)."""
        self.child = child = float(np.clip(1 - age / ADULT, 0, 1))  # 1 for an infant, 0 for an adult
        n = rng.normal(size=16)
        dome = 4.2 * (1 - breath) + 0.5 * n[2]
        self.width = 13.2 + 0.8 * n[0] - 0.5 * child  # half, of the inner chest
        self.depth = float(np.clip(1 + 0.07 * n[1] + 0.08 * child, 0.8, 1.25))  # factor, from front to back
        self.apex = 24.0 + 0.7 * n[3] - 2.6 * child  # height of the lung's tip
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
        self.thick = 1 - 0.42 * child  # factor on attenuation: how thick this chest is, of a middling adult's

    def change(self, **values: object) -> Body:
        """The same body with these attributes."""
        other = copy.copy(self)
        other.__dict__ = {k: v for k, v in self.__dict__.items() if k != "profile"} | values
        return other

    @cached_property
    def profile(self) -> dict[str, np.ndarray]:
        """Sizes along the body, float32, one value per step of height; `at` reads them."""
        z, low = np.arange(BOTTOM, TOP, STEP), 1.5
        t = np.clip((z - low) / (self.apex - low), 0, 1)
        waist = 1 - 0.006 * np.clip(low - z, 0, 8) * (1 + self.child)
        wall = np.clip(1 - t**2.4, 1e-4, 1) ** 0.42 * self.width * waist
        front = np.interp(z, (-14, 0, 8, 16, self.apex - 2.5, self.apex), (7.6, 9.2, 8.4, 5.6, 2.0, -2.0))
        back = np.interp(z, (-14, 0, 8, 15, 20, self.apex), (-8.0, -9.0, -9.5, -8.8, -7.4, -5.0))
        front, back = _smooth(front) * self.depth, _smooth(back) * self.depth
        top = np.clip((z - self.apex + 5.5) / 5.5, 0, 1)
        shoulder = np.exp(-(((z - self.apex + 3.4) / 4.2) ** 2)) + 0.55 * np.exp(-(((z - self.apex + 8.5) / 4.5) ** 2))
        hila = np.exp(-(((z - 9.5) / 2.5) ** 2))
        trunk = np.maximum(wall, self.width * np.clip(1.0 - 0.35 * np.clip((z - 10) / 14, 0, 1), 0.5, 1))
        skin = np.where(z > self.apex + 1, 5.2, trunk + 0.9 + self.fat)
        profiles = {
            "wall": wall,
            "middle": (front + back) / 2,
            "wall depth": np.maximum((front - back) / 2, 0.5),
            "front": front,
            "mediastinum": 2.1 + 0.9 * np.clip((z - 10) / 4, 0, 1) + 1.9 * top**2 + 0.5 * hila,
            "skin": _smooth(skin + 4.2 * shoulder * (1 - 0.4 * self.child), 45),
            "skin depth": _smooth(np.where(z > self.apex + 1, 5.4, (front - back) / 2 + 1.6 + 0.75 * self.fat), 45),
            "spine": _smooth(np.interp(z, (-20, -8, 6, 16, 26, 40), (-3.6, -4.2, -6.4, -6.2, -3.6, -2.4))) * self.depth,
            "lateral": self.curve * np.sin((z + 4) / 9.0),
        }
        return {name: values.astype(np.float32) for name, values in profiles.items()}

    def at(self, name: str, z: np.ndarray) -> np.ndarray:
        """A profile's values at heights `z`."""
        index = ((z - np.float32(BOTTOM)) * np.float32(1 / STEP)).astype(np.int32)
        return self.profile[name].take(index, mode="clip")

    def place(self, side: int, far: ArrayLike, angle: ArrayLike, z: ArrayLike) -> tuple[ArrayLike, ...]:
        """A place at height `z`, at a share `far` of the way to the wall, `angle` from the back round the side."""
        x = side * far * self.at("wall", z) * np.sin(angle)
        return x, self.at("middle", z) - far * self.at("wall depth", z) * np.cos(angle), z

    def dome(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Height of the diaphragm: two arches, deep behind and at the sides."""
        arch = np.float32((1 - 0.75 * self.flat) / 49)
        behind, before = np.clip(np.float32(2) - y, 0, None), np.clip(y - np.float32(2), 0, None)
        fall = behind * behind * np.float32(0.085 * (1 - 0.6 * self.flat)) + before * before * np.float32(0.06)
        right = np.float32(self.domes[0]) - np.square(x + np.float32(6.0)) * np.float32(3.8) * arch
        left = np.float32(self.domes[1]) - np.square(x - np.float32(6.4)) * np.float32(3.8) * arch
        return np.maximum(right, left) - fall

    def heart_balls(self) -> tuple[Ball, ...]:
        """The heart, the pulmonary trunk and the arch of the aorta. The heart rests on the diaphragm."""
        f, low = self.heart, 0.5 * min(self.domes[0], 4.0)
        return (
            Ball((2.7 + 2.0 * (f - 1), 2.6, 4.2 + low), (7.6 * f, 6.0 * f, 5.4 * f), -0.62),
            Ball((-1.7 * f, 1.6, 4.8 + low), (3.4 * f, 5.0 * f, 5.2 * f)),
            Ball((2.4, 2.0, 10.4 + 0.5 * low), (2.7 * f, 2.8, 3.2)),
            Ball((1.9, -1.2, 14.6), (2.4 * self.knob, 3.4, 2.2 * self.knob)),
            Ball((-1.3, 1.8, 13.0), (2.1, 2.2, 6.0)),
        )

    def tube_distance(self, name: str, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Roughly the distance in cm from the inner chest wall ("wall") or the trunk's and neck's skin ("skin"),
        positive inside.
        """
        half = self.at(f"{name} depth", z)
        p, q = x / self.at(name, z), (y - self.at("middle", z)) / half
        p, q = p * p, q * q
        return (1 - 0.5 * (np.sqrt(p + q) + np.sqrt(np.sqrt(p * p + q * q)))) * half

    def lung_distance(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Roughly the distance in cm from the lungs' surface, positive inside: the wall, the diaphragm and what lies
        between the lungs, without the heart's balls (see `heart_balls`).
        """
        inside = np.minimum(self.tube_distance("wall", x, y, z), z - self.dome(x, y))
        # Before the heart and great vessels the lungs nearly meet; behind, they are apart by the spine and aorta.
        share = np.clip(np.float32(0.2) + (self.at("front", z) - y) * np.float32(0.16), 0.15, 1)
        return np.minimum(inside, np.abs(x - self.at("lateral", z)) - self.at("mediastinum", z) * share)


def _smooth(values: np.ndarray, width: int = 61) -> np.ndarray:
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
