"""How much faster `helpers.explain.occlusion` is than the obvious way, with the same probabilities, and the limit.

    python benchmarks/occlusion.py [--networks SmallNet MobileNetV2 InceptionV3] [--positions 24] [--weights FILE]

The obvious way builds every occluded image and calls `model.predict`. It is timed on a sample of positions, since all
of them would take hours; ours is timed on whole blocks of positions spread over the image. The two take turns, so that
whatever else the machine does hits both; the ratio of processor time stands beside the clock's, as other work on the
machine hardly changes it. Both compute in float32; the largest difference in probability must stay below `AGREEMENT`.

In a deep network the box soon reaches the whole map, and from there on every multiplication has to be done again,
whoever does it. The limit is the rate at which the engine takes whole images that are ready, divided by the share of an
image's multiplications that a position needs.

Each network has random weights, with batch normalisation's statistics taken from the images (else nothing of an image
reaches the last layer), or those of `--weights` (`imagenet`, what Keras has, or a file), and a random head under which
the box moves logits by about `STRENGTH`.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from helpers.explain.maps import Classifier, from_head
from helpers.explain.occlusion import Sweep, default_box, make_sweep, occluded
from helpers.model.backbones import Backbone, load_backbone
from helpers.model.head import Head
from helpers.run.provenance import cpu_model

NETWORKS = {"SmallNet": 256, "MobileNetV2": 224, "InceptionV3": 299}  # pixels a side
ASKED = {"SmallNet": 20, "MobileNetV2": 8}  # times the obvious way
AGREEMENT = 1e-4  # of the probabilities
ROUNDS = 3  # turns that the two ways take; the median counts
STRENGTH = 1.5  # deviation of a logit over the box's positions, so that probabilities span much of 0 to 1


def pictures(size: int, count: int = 8, seed: int = 1) -> np.ndarray:
    """uint8 (count, size, size): bright bands with blobs and speckle, so that places differ."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size
    images = []
    for _ in range(count):
        bend = 0.5 + 0.1 * np.sin(6 * columns + random.uniform(0, 6))
        image = 60 + 120 * np.exp(-(((rows - bend) / 0.12) ** 2))
        for y, x, r, v in random.uniform((0.2, 0.1, 0.02, -90), (0.8, 0.9, 0.1, 90), (8, 4)):
            image += v * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / r**2)
        images.append(image * random.gamma(8, 1 / 8, (size, size)))
    return np.clip(images, 0, 255).astype(np.uint8)


def classifier_of(name: str, images: np.ndarray, weights: str) -> Classifier:
    """The network, and a head under which the box moves the first image's logits by about `STRENGTH`."""
    backbone = load_backbone(name, weights if name != "SmallNet" else "none", images.shape[1])
    if backbone.weights == "none":
        adapt_normalisation(backbone, images)
    size, side = images.shape[1], default_box(images.shape[1])
    random = np.random.default_rng(0)
    corners = random.integers(0, size - side + 1, (16, 2))
    inputs = np.concatenate([images[:1, ..., None].astype(np.float32), occluded(images[0], side, 0.0, corners)])
    features = backbone.model.predict_on_batch(inputs)
    kernel = random.normal(size=(backbone.features, 4))
    kernel *= STRENGTH / ((features[1:] - features[0]) @ kernel).std(axis=0)
    bias = -features[0] @ kernel
    head = Head(("CNV", "DME", "DRUSEN", "NORMAL"), kernel.astype(np.float32), bias.astype(np.float32), 0, 0.0)
    return from_head(backbone, head)


def adapt_normalisation(backbone: Backbone, images: np.ndarray) -> None:
    """Batch normalisation's running statistics become those of `images`."""
    model = backbone.model
    model.trainable = True
    for layer in model.layers:
        if hasattr(layer, "moving_variance"):
            layer.momentum = 0.0
    model(images[..., None].astype(np.float32), training=True)
    model.trainable = False


def clocks() -> np.ndarray:
    """Seconds: by the clock, and of this process's processors."""
    return np.array([time.perf_counter(), time.process_time()])


def block_of(size: int, side: int, step: int, random: np.random.Generator) -> np.ndarray:
    """All positions (n, 2) of a random block that ours computes together."""
    block = random.integers(1, max((size - side) // step, 2), 2) * step
    corners = np.array([block + divmod(one, step) for one in range(step * step)])
    return corners[(corners <= size - side).all(axis=1)]


def compare(classifier: Classifier, image: np.ndarray, sweep: Sweep, count: int) -> dict[str, float]:
    """The obvious way and the sweep in turn, `ROUNDS` times: positions a second, ratios and the largest difference."""
    size, side = classifier.image_size, default_box(classifier.image_size)
    step = max(sweep.plan.stride, 16)
    random, times, off, span = np.random.default_rng(2), [], [], []
    classifier.model.predict(occluded(image, side, 0.0, np.zeros((32, 2), int)), verbose=0)  # traces, once for a map
    for _ in range(ROUNDS):
        corners = block_of(size, side, step, random)
        sample = corners[random.permutation(len(corners))[:count]]
        began = clocks()
        expected = classifier.model.predict(occluded(image, side, 0.0, sample), verbose=0)
        middle = clocks()
        sweep.at(0.0, corners[: 3 * count])
        end = clocks()
        times.append(((middle - began) / len(sample), (end - middle) / len(corners[: 3 * count])))
        off.append(np.abs(sweep.at(0.0, sample) - expected).max())
        span.append(np.ptp(expected[:, 0]))
    obvious, ours = np.median(times, axis=0)
    speeds = {"obvious_per_s": 1 / obvious[0], "ours_per_s": 1 / ours[0]}
    ratios = {"ratio": obvious[0] / ours[0], "cpu_ratio": obvious[1] / ours[1]}
    return speeds | ratios | {"off": float(max(off)), "span": float(max(span))}


def engine_alone(classifier: Classifier, images: np.ndarray, count: int) -> float:
    """Whole images a second of the engine, on pixels that are ready."""
    run, ready = classifier.predictor(), np.resize(images, (count, *images.shape[1:]))
    run(ready[:8])
    began = time.perf_counter()
    run(ready)
    return count / (time.perf_counter() - began)


def report(name: str, row: dict[str, float], sweep: Sweep, alone: float) -> str:
    share = sweep.plan.cost / sweep.plan.full
    positions = (NETWORKS[name] - default_box(NETWORKS[name]) + 1) ** 2
    asked, reached = ASKED.get(name, 1), row["ratio"] >= ASKED.get(name, 1) and row["off"] <= AGREEMENT
    return (
        f"{name}: {row['ratio']:.1f} times the obvious way ({row['cpu_ratio']:.1f} in processor time; asked: {asked}), "
        f"largest difference {row['off']:.1e} where probabilities span {row['span']:.2f}: "
        f"{'REACHED' if reached else 'NOT REACHED'}. {row['obvious_per_s']:.0f} and {row['ours_per_s']:.0f} positions "
        f"a second; all {positions} take {positions / row['ours_per_s'] / 60:.1f} min; "
        f"limit {alone / share:.0f} a second ({alone:.1f} whole images a second, {100 * share:.0f} % of the "
        f"multiplications a position), of which {row['ours_per_s'] * share / alone:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Occlusion maps: ours against the obvious way.")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--positions", type=int, default=24, help="sampled for the obvious way, each round")
    parser.add_argument("--weights", default="none", help="none, imagenet, or a file; of all but SmallNet")
    parsed = parser.parse_args()
    print(f"{cpu_model()}, {os.cpu_count()} cores")
    for name in parsed.networks:
        images = pictures(NETWORKS[name])
        classifier = classifier_of(name, images, parsed.weights)
        sweep = make_sweep(classifier, default_box(NETWORKS[name]), 1, images[0])
        row, alone = compare(classifier, images[0], sweep, parsed.positions), engine_alone(classifier, images, 32)
        print(report(name, row, sweep, alone), flush=True)


if __name__ == "__main__":
    main()
