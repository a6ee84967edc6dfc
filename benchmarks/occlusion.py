"""How much faster `helpers.explain.occlusion` is than the obvious way, with the same map.

    python benchmarks/occlusion.py [--networks SmallNet MobileNetV2 InceptionV3] [--positions 64] [--weights FILE]

The obvious way builds every occluded image and calls `model.predict`. It is timed on a sample of positions, since all
of them would take hours, and extrapolated; ours is timed on whole blocks of positions spread over the image, and
extrapolated likewise. The two take turns, so that whatever else the machine does hits both; processor time is told
beside the clock's, as other work on the machine hardly changes it.

For each network it prints

- ours as `occlusion` chooses it, and, where it refuses the machine's faster precision, what that would have given;
- where ten times is not reached, what the late layers alone would allow. In a deep network the box soon reaches the
  whole map, and from there on every multiplication has to be done again, whoever does it: if the windows cost nothing,
  the ratio would still be no more than this. Beyond it, only faster arithmetic helps;
- coarse to fine on a tile of neighbouring positions: what it skipped, and how far off it was.

Why InceptionV3 cannot reach ten on a processor without AMX: of 5.7 billion multiplications an image, 2.7 lie in the
layers after `mixed3`, which the box reaches whole. On an EPYC with avx512_bf16, a second of one core does 39 such late
parts in float32 and 78 in bfloat16, and Keras 17 whole images: 2.3 and 4.5 times at most; int8, whose instructions
multiply twice as many numbers as bfloat16's, does 93 to 105 and gives another map (`occlusion_int8.py`). Trimming the
windows to where changes are large, or predicting positions from gradients at their neighbours, was tried on trained
weights: errors of 0.01 to 0.6 in probability.

Each network has random weights, with batch normalisation's statistics taken from the images (else nothing of an image
reaches the last layer), or those of `--weights` (`imagenet`, what Keras has, or a file), and a random head under which
the box moves logits by about `STRENGTH`. Networks with random weights blow small changes up, rounding too: fidelity in
a reduced precision is worse with them than with trained ones.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from scipy.stats import spearmanr

from helpers.explain.classifier import Classifier, from_head
from helpers.explain.occlusion import default_box, make_sweep, positions
from helpers.explain.occlusion_coarse import coarse_to_fine
from helpers.explain.occlusion_sweep import Box, Sweep, WindowSweep, occluded
from helpers.explain.runner import compile_model
from helpers.model.backbones import Backbone, load_backbone
from helpers.model.engine import Engine, candidates
from helpers.model.head import Head
from helpers.run.hardware import cpu_model, has_bf16, instructions

NETWORKS = {"SmallNet": 256, "MobileNetV2": 224, "InceptionV3": 299}  # pixels a side
ROUNDS = 3  # turns that the two ways take; the median counts
ASKED = 10  # times the obvious way
TILE, STEP, TOLERANCE = 17, 2, 0.01  # coarse to fine: positions a side, its first step, and what is asked of it
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


def classifier_of(name: str, images: np.ndarray, weights: str = "none") -> Classifier:
    """The network, and a head under which the box moves the first image's logits by about `STRENGTH`. Without weights,
    batch normalisation is made live.
    """
    backbone = load_backbone(name, weights if name != "SmallNet" else "none", images.shape[1])
    if backbone.weights == "none":
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


def clocks() -> np.ndarray:
    """Seconds: by the clock, and of this process's processors."""
    return np.array([time.perf_counter(), time.process_time()])


def sample_of(size: int, side: int, step: int, random: np.random.Generator) -> np.ndarray:
    """All positions (n, 2) of a random block that ours computes together."""
    block = random.integers(1, max((size - side) // step, 2), 2) * step
    corners = np.array([block + divmod(one, step) for one in range(step * step)])
    return corners[(corners <= size - side).all(axis=1)]


def compare(classifier: Classifier, image: np.ndarray, sweeps: dict[str, Sweep], count: int) -> list[dict]:
    """The obvious way and each sweep in turn, `ROUNDS` times: one dictionary a sweep."""
    size, side = classifier.image_size, default_box(classifier.image_size)
    box, random = Box(side, 0.0, positions(size, side)), np.random.default_rng(2)
    step = next((sweep.plan.stride for sweep in sweeps.values() if isinstance(sweep, WindowSweep)), 16)
    times = {name: [] for name in ("obvious", *sweeps)}
    found = {name: [] for name in ("obvious", *sweeps)}
    obvious(classifier, image, box, np.zeros((32, 2), int))  # traces the graph, which a real run does once
    for _ in range(ROUNDS):
        corners = sample_of(size, side, step, random)
        sample = corners[random.permutation(len(corners))[:count]]
        began = clocks()
        found["obvious"].append(obvious(classifier, image, box, sample))
        times["obvious"].append((clocks() - began) / len(sample))
        given = corners if len(corners) <= 4 * count else corners[: 4 * count]
        for name, sweep in sweeps.items():
            began = clocks()
            sweep.at(box, given)
            times[name].append((clocks() - began) / len(given))
            found[name].append(sweep.at(box, sample))
    medians = {name: np.median(values, axis=0) for name, values in times.items()}
    values = {name: np.concatenate(parts) for name, parts in found.items()}
    return [{"name": name, "positions": len(box.starts) ** 2} | _row(name, medians, values) for name in sweeps]


def _row(name: str, medians: dict, values: dict) -> dict[str, float]:
    base, mine = medians["obvious"], medians[name]
    expected, got = values["obvious"], values[name]
    return {
        "obvious_per_s": 1 / base[0],
        "ours_per_s": 1 / mine[0],
        "ratio": base[0] / mine[0],
        "cpu_ratio": base[1] / mine[1],
        "max_dp": float(np.abs(expected - got).max()),
        "rank": min(float(spearmanr(expected[:, k], got[:, k])[0]) for k in range(expected.shape[1])),
        "span": float(np.ptp(expected[:, 0])),
        "sampled": len(expected),
        "obvious_cpu": 1 / base[1],
    }


def refused(classifier: Classifier, chosen: Sweep) -> Sweep | None:
    """The same sweep in the machine's faster precision, where `chosen` came to do without it."""
    fast = candidates()[0]
    plain = not isinstance(chosen, WindowSweep) or chosen._after is None  # all of it in windows: nothing is late
    if fast.precision == "float32" or chosen.engine.precision != "float32" or plain:
        return None
    return WindowSweep(classifier, default_box(classifier.image_size), fast.name, fast.precision, trust=1.0)


def late_alone(classifier: Classifier, sweep: WindowSweep, count: int = 64) -> dict[str, float]:
    """Images a second of processor time of the layers after the windows, by OpenVINO in each precision it has here."""
    import keras

    start = sweep._steps[sweep.plan.last].tensor
    late, speeds = keras.Model(start, classifier.model.outputs[0]), {}
    given = np.random.default_rng(0).normal(size=(count, *start.shape[1:])).astype(np.float32)
    for precision in ("float32", "bfloat16") if has_bf16() else ("float32",):
        run = compile_model(late, Engine("openvino", precision, "measured"))
        run(given[:4])
        times = []
        for _ in range(ROUNDS):
            began = clocks()
            run(given)
            times.append((clocks() - began)[1] / len(given))
        speeds[precision] = 1 / float(np.median(times))
    return speeds


def coarse(classifier: Classifier, sweep: Sweep, base: float) -> str:
    """Coarse to fine on a tile in the image's middle, against every position of it by the same sweep. `base`: seconds
    a position of the obvious way.
    """
    side = default_box(classifier.image_size)
    box = Box(side, 0.0, (classifier.image_size - side - TILE) // 2 + np.arange(TILE))
    exact = sweep.band(box, box.starts)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it would say is printed
        found, told = coarse_to_fine(sweep, box, STEP, TOLERANCE)
    ratio = TILE**2 * base / (time.perf_counter() - began)
    off = np.abs(found - exact).max()
    return (
        f"coarse to fine (step {STEP}, tolerance {TOLERANCE}) on {TILE} x {TILE} positions: skipped "
        f"{100 * told['skipped']:.0f} %, ended at step {told['step']}, max |dp| {off:.1e}, ratio {ratio:.1f}"
    )


def told(sweep: Sweep) -> str:
    """The engine, and what part of the network's multiplications each position costs."""
    if not isinstance(sweep, WindowSweep):
        return f"{sweep.engine}, every image in full"
    how = "all in windows" if sweep._after is None else "late layers on "
    how += "" if sweep._after is None else "differences" if sweep._after.differences else "values"
    return f"{sweep.engine}, {how}, {100 * share(sweep):.0f} % of an image's multiplications a position"


def share(sweep: Sweep) -> float:
    return sweep.plan.cost / sweep.plan.full if isinstance(sweep, WindowSweep) else 1.0


def said(name: str, row: dict, sweep: Sweep) -> str:
    faithful = row["max_dp"] < 0.01 and row["rank"] > 0.999
    minutes = {way: row["positions"] / row[f"{way}_per_s"] / 60 for way in ("obvious", "ours")}
    return (
        f"{name}, {row['name']}: {row['positions']} positions; obvious {row['obvious_per_s']:.1f}/s (a map would take "
        f"{minutes['obvious']:.0f} min, extrapolated from {row['sampled']} positions), ours {row['ours_per_s']:.1f}/s "
        f"({minutes['ours']:.1f} min), ratio {row['ratio']:.1f}, in processor time {row['cpu_ratio']:.1f}; "
        f"max |dp| {row['max_dp']:.1e}, least rank correlation {row['rank']:.5f} (probabilities span "
        f"{row['span']:.3f}): {'the same map' if faithful else 'NOT the same map'}; {told(sweep)}"
    )


def case(name: str, classifier: Classifier, row: dict, sweep: Sweep) -> str:
    """Whether `ASKED` was reached; if not, whether it could be: the late layers alone against the obvious way."""
    if row["ratio"] >= ASKED and row["cpu_ratio"] >= ASKED:
        return f"{name}: {ASKED} times or more: REACHED"
    if not isinstance(sweep, WindowSweep) or sweep._after is None:
        return f"{name}: {ASKED} times or more: NOT REACHED"
    speeds = late_alone(classifier, sweep)
    most = {precision: speed / row["obvious_cpu"] for precision, speed in speeds.items()}
    ends = ", ".join(f"{most[one]:.1f} in {one} ({speed:.0f}/s)" for one, speed in speeds.items())
    reach = "so that this processor cannot" if max(most.values()) < ASKED else "so that the windows decide"
    return (
        f"{name}: {ASKED} times or more: NOT REACHED in both the clock's and processor time. If windows cost nothing, "
        f"the late layers alone would give, a second of one core, {ends} times the obvious {row['obvious_cpu']:.0f}/s: "
        f"{reach}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Occlusion maps: ours against the obvious way.")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--positions", type=int, default=64, help="sampled for the obvious way, each round")
    parser.add_argument("--weights", default="none", help="none, imagenet, or a file; of all but SmallNet")
    given = parser.parse_args()
    print(f"{cpu_model()}, {os.cpu_count()} cores: {' '.join(sorted(instructions()))}")
    for name in given.networks:
        images = pictures(NETWORKS[name])
        classifier, side = classifier_of(name, images, given.weights), default_box(NETWORKS[name])
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a refused precision has a line of its own
            chosen = make_sweep(classifier, side, 1, "auto", "auto", "auto")
            chosen.image(images[0])
            ready = time.perf_counter() - began
            sweeps = {"as chosen": chosen}
            if extra := refused(classifier, chosen):
                extra.image(images[0])
                sweeps["refused"] = extra
        rows = compare(classifier, images[0], sweeps, given.positions)
        for row in rows:
            print(said(name, row, sweeps[row["name"]]), flush=True)
        print(case(name, classifier, rows[0], chosen), flush=True)
        print(
            f"{name}: {ready:.0f} s to compile; {coarse(classifier, chosen, 1 / rows[0]['obvious_per_s'])}", flush=True
        )


if __name__ == "__main__":
    main()
