"""Images made from formulas: 112 classes of fractals, gratings, cells, noise, bands, discs and tilings.

A backbone learns to classify them, and with that features of edges, textures and shapes without a photograph:
the idea of formula-driven supervised learning (Kataoka et al. 2020, "Pre-training without Natural Images", FractalDB).
It stands in for ImageNet in the phantom profile. No formula draws an organ, a retina's layers or a chest.

Each image follows from (seed, class, number) alone, so a set is the same on any number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np

from tools import formula_patterns as patterns
from tools.formula_patterns import Field, Rng

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow turns colour to grey


def formula_classes() -> tuple[str, ...]:
    """The classes in order of their labels; a name is its family and what is particular to it."""
    return tuple(_CLASSES)


def classes_digest() -> str:
    """16 hex digits over the classes' names and settings: weights are recorded with it."""
    lines = [f"{name}: {p.func.__name__} {sorted(p.keywords.items())}" for name, p in _CLASSES.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def formula_image(label: int, number: int, seed: int = 0, size: int = 96, colour: bool = True) -> np.ndarray:
    """Image `number` of class `label`: uint8 (size, size, 3), or (size, size, 1) where not `colour`.

    The grey image is the colour image's luma, stretched to the same range.
    """
    pattern = list(_CLASSES.values())[label]
    rng = np.random.default_rng([seed, label, number])
    rgb = _render(rng, pattern(rng, size))
    if colour:
        return _bytes(rgb)
    luma = (rgb @ LUMA)[..., None]
    low, high = np.percentile(luma, [1, 99])
    return _bytes((luma - low) / max(float(high - low), 0.1) * rng.uniform(0.6, 1) + rng.uniform(0, 0.15))


def formula_images(
    per_class: int, seed: int = 0, size: int = 96, colour: bool = True, first: int = 0, workers: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """`per_class` images of every class, numbered from `first`: uint8 (n, size, size, 3 or 1), and labels int64 (n,).

    Disjoint ranges of numbers are disjoint images, so training and held-out sets come from one seed.
    """
    job = partial(_class_images, per_class=per_class, seed=seed, size=size, colour=colour, first=first)
    labels = range(len(_CLASSES))
    if workers > 1:
        # Spawned, not forked: a fork of a process whose TensorFlow has threads can hang.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            parts = list(pool.map(job, labels))
    else:
        parts = [job(label) for label in labels]
    return np.concatenate(parts), np.repeat(np.arange(len(_CLASSES)), per_class)


def _class_images(label: int, per_class: int, seed: int, size: int, colour: bool, first: int) -> np.ndarray:
    return np.stack([formula_image(label, first + k, seed, size, colour) for k in range(per_class)])


def _render(rng: Rng, field: Field) -> np.ndarray:
    """A field to colours in 0..1 (size, size, 3): two or three random colours along its values, and uneven light.

    Colours and light vary within every class, so that only the pattern says which it is.
    """
    low, high = np.percentile(field, [0.5, 99.5])
    if high - low < 1e-6:
        low, high = field.min(), field.max() + 1e-6
    value = np.clip((field - low) / (high - low), 0, 1) ** rng.uniform(0.6, 1.6)
    ends = rng.uniform(0, 1, (2, 3))
    while abs((ends[1] - ends[0]) @ LUMA) < 0.25:  # else the grey image would be empty
        ends = rng.uniform(0, 1, (2, 3))
    if rng.random() < 0.3:  # from and to black: much of medical imaging
        ends[0] *= 0.15
        ends[1] = ends[1].max()
    stops = np.stack([ends[0], (ends[0] + ends[1]) / 2 + rng.uniform(-0.15, 0.15, 3), ends[1]])
    rgb = np.stack([np.interp(value, [0, 0.5, 1], stops[:, c]) for c in range(3)], -1)
    if rng.random() < 0.4:
        x, _ = patterns.axes(rng, len(field))
        rgb = rgb * (1 + rng.uniform(0.1, 0.4) * x[..., None])
    return rgb.astype(np.float32)


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _make_classes() -> dict[str, partial[Field]]:
    """Every class by name. Order is part of the weights: append, never insert."""
    classes: dict[str, partial[Field]] = {}

    def add(name: str, pattern: Callable[..., Field], **settings: object) -> None:
        classes[name] = partial(pattern, **settings)

    for cycles in (5, 11, 22):
        add(f"grating sine {cycles}", patterns.grating, cycles=cycles)
        add(f"gabor noise {cycles}", patterns.band_noise, cycles=cycles, spread=np.pi)
        add(f"gabor grain {cycles}", patterns.band_noise, cycles=cycles, spread=0.25)
    waves = {"square": (6, 14), "chirp": (9,), "plaid": (6, 13), "rings": (6, 14), "rays": (9, 22), "spiral": (4, 12)}
    for kind, cycles in [(kind, cycles) for kind, several in waves.items() for cycles in several] + [("moire", 12)]:
        add(f"{kind} {cycles}", patterns.grating, cycles=cycles, kind=kind)
    for slope, stretch in ((0.5, 1), (1.0, 1), (1.5, 1), (2.2, 1), (1.2, 4), (1.8, 4)):
        add(f"noise {slope} x {stretch}", patterns.fractal_noise, slope=slope, stretch=stretch)
    for kind in ("ridges", "terraces", "islands", "marble", "relief"):
        add(f"noise {kind}", patterns.noise_with, kind=kind)
    for show, count, norm in (("flat", 12, 2), ("flat", 70, 2), ("walls", 12, 2), ("walls", 70, 2), ("cones", 12, 2),
                              ("cones", 70, 2), ("crystals", 30, 2), ("flat", 25, 1), ("cones", 25, 1)):  # fmt: skip
        add(f"cells {show} {count} norm {norm}", patterns.cells, count=count, show=show, norm=norm)
    for kind, count in (("straight", 5), ("straight", 14), ("wavy", 6), ("wavy", 14), ("folded", 7), ("folded", 14),
                        ("faulted", 8), ("soft", 6), ("soft", 14), ("thin", 12)):  # fmt: skip
        add(f"bands {kind} {count}", patterns.bands, count=count, kind=kind)
    for kind, count, radius in (("flat", 5, 0.3), ("flat", 30, 0.1), ("soft", 6, 0.3), ("soft", 40, 0.08),
                                ("rings", 8, 0.3), ("balls", 7, 0.3), ("balls", 30, 0.12), ("bubbles", 14, 0.22),
                                ("lattice", 1, 0.07), ("lattice", 1, 0.14)):  # fmt: skip
        add(f"spots {kind} {radius}", patterns.spots, count=count, radius=radius, kind=kind)
    add("spots oval", patterns.spots, count=12, radius=0.28, flat=0.35)
    for corners in (3, 4, 6):
        add(f"polygons {corners}", patterns.polygons, count=8, corners=corners)
    for kind, count in (("straight", 6), ("straight", 24), ("walks", 8), ("arcs", 10), ("trees", 10), ("stars", 20),
                        ("hatching", 22)):  # fmt: skip
        add(f"strokes {kind} {count}", patterns.strokes, kind=kind, count=count)
    for kind, tiles in (("arcs", 6), ("arcs", 13), ("maze", 7), ("maze", 14), ("wedges", 7), ("checks", 7)):
        add(f"truchet {kind} {tiles}", patterns.truchet, tiles=tiles, kind=kind)
    add("bricks", patterns.bricks, rows=9)
    for cycles, bias in ((7, 0.35), (7, 0.0), (14, 0.35), (14, 0.0)):
        add(f"turing {cycles} {bias}", patterns.turing, cycles=cycles, bias=bias)
    for rule in (30, 90, 110, 184):
        add(f"automaton {rule}", patterns.automaton, rule=rule)
    for real, imaginary in ((-0.8, 0.156), (0.285, 0.01), (-0.4, 0.6), (-0.70176, -0.3842)):
        add(f"julia {real} {imaginary}", patterns.julia, real=real, imaginary=imaginary)
    for code in range(10):
        add(f"fractal {code}", patterns.ifs, code=code)
    for carrier in ("bands", "grating", "noise", "plain"):
        for kind in ("discs", "cut") if carrier == "noise" else ("discs", "cut", "bulge"):
            add(f"{carrier} with {kind}", patterns.defect, carrier=carrier, kind=kind)
    return classes


_CLASSES = _make_classes()
