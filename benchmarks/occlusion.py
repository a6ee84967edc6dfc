"""How much faster `helpers.explain.occlusion` is than the obvious way, with the same map.

    python benchmarks/occlusion.py [--networks SmallNet MobileNetV2 InceptionV3] [--positions 64]

The obvious way builds every occluded image and calls `model.predict`. It is timed on a sample of positions, since all
of them would take hours, and extrapolated; ours is timed on whole blocks of positions spread over the image, and
extrapolated likewise. The two take turns, so that whatever else the machine does hits both; processor time is told
beside the clock's, as other work on the machine hardly changes it.

Ours is the exact mode: nothing is skipped or estimated, so the difference from the obvious way on the sample is
float32's rounding, here and at every other position. What it gains is the engine, and the multiplications that it
leaves out: their share is printed last. In a deep network the box soon reaches the whole map, and from there on every
multiplication has to be done again, whoever does it.

Each network has random weights, with batch normalisation's statistics taken from the images (else nothing of an image
reaches the last layer), and a head under which the box moves logits by about `STRENGTH`.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from scipy.stats import spearmanr

from helpers.explain.classifier import Classifier, from_head
from helpers.explain.occlusion import default_box, make_sweep, positions
from helpers.explain.occlusion_sweep import Box, Sweep, WindowSweep, occluded
from helpers.model.backbones import Backbone, load_backbone
from helpers.model.heads import Head

NETWORKS = {"SmallNet": 256, "MobileNetV2": 224, "InceptionV3": 299}  # pixels a side
ROUNDS = 3  # turns that the two ways take; the median counts
STRENGTH = 1.5  # deviation of a logit over the box's positions, so that probabilities span much of 0 to 1


def pictures(size: int, count: int = 8, seed: int = 1) -> np.ndarray:
    """uint8 (count, size, size): bright bands with blobs and speckle, so that places differ."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    made = []
    for _ in range(count):
        bend = 0.5 + 0.1 * np.sin(6 * columns + random.uniform(0, 6))
        image = 60 + 120 * np.exp(-(((rows - bend) / 0.12) ** 2))
        for y, x, r, v in random.uniform((0.2, 0.1, 0.02, -90), (0.8, 0.9, 0.1, 90), (8, 4)):
            image += v * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / r**2)
        made.append(image * random.gamma(8, 1 / 8, (size, size)))
    return np.clip(made, 0, 255).astype(np.uint8)


def classifier_of(name: str, images: np.ndarray) -> Classifier:
    """The network with live batch normalisation, and a head under which the box moves the first image's logits by about
    `STRENGTH`.
    """
    backbone = load_backbone(name, "none", images.shape[1])
    enliven(backbone, images)
    size, side = images.shape[1], default_box(images.shape[1])
    random = np.random.default_rng(0)
    corners = random.integers(0, size - side + 1, (16, 2))
    given = np.concatenate([images[:1, ..., None], occluded(images[0], Box(side, 0.0, corners[:, 0]), corners)])
    features = np.asarray(backbone.model(given.astype(np.float32), training=False))
    kernel = random.normal(size=(backbone.features, 4))
    kernel *= STRENGTH / ((features[1:] - features[0]) @ kernel).std(axis=0)
    bias = -features[0] @ kernel
    head = Head(("CNV", "DME", "DRUSEN", "NORMAL"), kernel.astype(np.float32), bias.astype(np.float32), 0, 0.0)
    return from_head(backbone, head)


def enliven(backbone: Backbone, images: np.ndarray) -> None:
    """Batch normalisation's running statistics become those of `images`."""
    model = backbone.model
    model.trainable = True
    for layer in model.layers:
        if hasattr(layer, "moving_variance"):
            layer.momentum = 0.0
    model(images[..., None].astype(np.float32), training=True)
    model.trainable = False


def obvious(classifier: Classifier, image: np.ndarray, box: Box, corners: np.ndarray) -> np.ndarray:
    """The baseline: all occluded images at once, then Keras."""
    return classifier.model.predict(occluded(image, box, corners), verbose=0)


def ours(sweep: Sweep, box: Box, corners: np.ndarray) -> np.ndarray:
    """Our way at the same positions."""
    return sweep.at(box, corners)


def clocks() -> np.ndarray:
    """Seconds: by the clock, and of this process's processors."""
    return np.array([time.perf_counter(), time.process_time()])


def measure(name: str, count: int) -> dict[str, float | str]:
    size = NETWORKS[name]
    images = pictures(size)
    classifier, side = classifier_of(name, images), default_box(size)
    box = Box(side, 0.0, positions(size, side))
    began = time.perf_counter()
    sweep = make_sweep(classifier, side, 1, "auto", "auto", "auto")
    ready = time.perf_counter() - began
    sweep.image(images[0])
    step = getattr(sweep.plan, "stride", 16) if isinstance(sweep, WindowSweep) else 16
    random = np.random.default_rng(2)
    times: dict[str, list[np.ndarray]] = {"obvious": [], "ours": []}
    expected, found = [], []
    obvious(classifier, images[0], box, np.zeros((32, 2), int))  # traces the graph, which a real run does once
    for _ in range(ROUNDS):
        block = random.integers(1, max((size - side) // step, 2), 2) * step
        corners = np.array([block + divmod(one, step) for one in range(step * step)])
        corners = corners[(corners <= size - side).all(axis=1)]
        sample = corners[random.permutation(len(corners))[:count]]
        began = clocks()
        expected.append(obvious(classifier, images[0], box, sample))
        times["obvious"].append((clocks() - began) / len(sample))
        given = corners if len(corners) <= 4 * count else sample
        began = clocks()
        ours(sweep, box, given)
        times["ours"].append((clocks() - began) / len(given))
        found.append(ours(sweep, box, sample))
    return summary(name, len(box.starts) ** 2, np.concatenate(expected), np.concatenate(found), times, ready, sweep)


def summary(name, total, expected, found, times, ready, sweep) -> dict[str, float | str]:
    medians = {way: np.median(values, axis=0) for way, values in times.items()}
    seconds = {way: float(value[0]) for way, value in medians.items()}
    return {
        "network": name,
        "positions": total,
        "obvious_per_s": 1 / seconds["obvious"],
        "ours_per_s": 1 / seconds["ours"],
        "ratio": seconds["obvious"] / seconds["ours"],
        "cpu_ratio": float(medians["obvious"][1] / medians["ours"][1]),
        "obvious_map_min": total * seconds["obvious"] / 60,
        "ours_map_min": total * seconds["ours"] / 60,
        "ready_s": ready,
        "max_dp": float(np.abs(expected - found).max()),
        "rank": float(spearmanr(expected[:, 0], found[:, 0])[0]),
        "span": float(np.ptp(expected[:, 0])),
        "sampled": len(expected),
        "engine": f"{sweep.engine}, {told(sweep)}",
    }


def told(sweep: Sweep) -> str:
    """What part of the network's multiplications each position costs."""
    if not isinstance(sweep, WindowSweep):
        return "every image in full"
    return f"{100 * sweep.plan.cost / sweep.plan.full:.0f} % of an image's multiplications a position"


def main() -> None:
    parser = argparse.ArgumentParser(description="Occlusion maps: ours against the obvious way.")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--positions", type=int, default=64, help="sampled for the obvious way, each round")
    given = parser.parse_args()
    for name in given.networks:
        got = measure(name, given.positions)
        print(
            f"{got['network']}: {got['positions']} positions; obvious {got['obvious_per_s']:.1f}/s (a map would take "
            f"{got['obvious_map_min']:.0f} min, extrapolated from {got['sampled']} positions), ours "
            f"{got['ours_per_s']:.1f}/s ({got['ours_map_min']:.1f} min after {got['ready_s']:.0f} s to compile), "
            f"ratio {got['ratio']:.1f}, in processor time {got['cpu_ratio']:.1f}; "
            f"max |dp| {got['max_dp']:.1e}, rank correlation {got['rank']:.5f} "
            f"(probabilities span {got['span']:.3f}); {got['engine']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
