"""Would 8-bit integers carry occlusion's late layers? How fast they are, and how far off the map would be.

    pip install nncf
    python benchmarks/occlusion_int8.py [--network InceptionV3] [--weights FILE] [--positions 96]

The layers after the windows (see `benchmarks/occlusion.py`), on differences, quantised by NNCF as it would a user's
network: weights by channel, activations by tensor, calibrated on half of the positions and measured on the others,
beside float32 and bfloat16 on the same positions, all on one core.

Seen on an EPYC with avx512_vnni, InceptionV3, windows not counted, positions a second of one core: with random weights
float32 36, bfloat16 64 and 0.05 off, int8 93 and 0.54 off (rank correlation 0.69); with weights trained on photographs
36, then 67 and 0.009 off, 105 and 0.23 off (0.93). So int8 is one and a half times as fast as bfloat16, not the twice
of the instructions, and gives another map: a difference of two images is small almost everywhere, and one step for a
whole tensor loses it.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from occlusion import NETWORKS, classifier_of, pictures
from scipy.stats import spearmanr

from helpers.explain.occlusion import default_box, positions
from helpers.explain.occlusion_difference import late
from helpers.explain.occlusion_rest import REQUEST
from helpers.explain.occlusion_sweep import Box, WindowSweep, occluded
from helpers.explain.runner import to_openvino
from helpers.run.hardware import cpu_model, instructions


def main() -> None:
    parser = argparse.ArgumentParser(description="Occlusion's late layers in 8-bit integers.")
    parser.add_argument("--network", default="InceptionV3", choices=[name for name in NETWORKS if name != "SmallNet"])
    parser.add_argument("--weights", default="none", help="none, imagenet, or a file: see load_backbone")
    parser.add_argument("--positions", type=int, default=96, help="rounded up to whole requests")
    given = parser.parse_args()
    try:
        import nncf
    except ImportError:
        print("NOT MEASURED: this needs NNCF, which the project does not: pip install nncf")
        return  # without an error, so that `make benchmarks` goes on
    print(f"{cpu_model()}: {' '.join(sorted(instructions()))}")
    size = NETWORKS[given.network]
    images = pictures(size)
    classifier, side = classifier_of(given.network, images, given.weights), default_box(size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # how far off each precision is, is what is measured
        sweep = WindowSweep(classifier, side, "openvino", "float32", trust=1.0)
        sweep.image(images[0])
    half = -(-given.positions // (2 * REQUEST)) * REQUEST  # of the positions, in whole requests
    corners = np.random.default_rng(5).integers(0, size - side + 1, (2 * half, 2))
    box = Box(side, 0.0, positions(size, side))
    exact = np.asarray(classifier.model(occluded(images[0], box, corners), training=False))
    parts = late(sweep._steps, sweep.plan.last)
    if parts is None:
        raise SystemExit(f"{given.network} has late layers whose differences are not known")
    base = sweep._base[sweep.plan.last].values
    changed = values_at(sweep, box, corners) - base
    *about, pooled = (np.asarray(one) for one in parts.known(base[None]))
    converted = to_openvino(parts.model, REQUEST)
    batches = [[changed[i : i + REQUEST], *about] for i in range(0, half, REQUEST)]
    integers = nncf.quantize(converted, nncf.Dataset(batches), subset_size=len(batches))
    rest, expected = changed[half:], exact[half:]
    print(f"{given.network}, {len(rest)} positions, probabilities span {np.ptp(expected, axis=0).max():.3f}")
    ways = {"float32": (converted, "f32"), "bfloat16": (converted, "bf16"), "int8": (integers, "f32")}
    for name, (model, precision) in ways.items():
        features, speed = timed(model, precision, rest, about)
        found = np.asarray(parts.tail(pooled + features))
        rank = min(float(spearmanr(found[:, k], expected[:, k])[0]) for k in range(found.shape[1]))
        off = np.abs(found - expected).max()
        print(f"{name}: {speed:.0f} positions a second of one core, max |dp| {off:.1e}, least rank {rank:.5f}")


def values_at(sweep: WindowSweep, box: Box, corners: np.ndarray) -> np.ndarray:
    """The last windowed layer's whole output at each position, float32 (n, rows, columns, channels)."""
    kept: list[np.ndarray] = []
    run = sweep._after._function

    def watched(whole: np.ndarray) -> np.ndarray:
        kept.append(whole.copy())
        return run(whole)

    sweep._after._function = watched
    for one in corners:
        sweep.at(box, one[None])
    sweep._after._function = run
    return np.concatenate(kept)


def timed(model, precision: str, changed: np.ndarray, about: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """Pooled features of these differences, in whole requests, and how many a second of one core's time gives."""
    import openvino as ov

    hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(model, "CPU", hints).create_infer_request()
    request.infer([changed[:REQUEST], *about])
    began, made = time.process_time(), []
    for i in range(0, len(changed), REQUEST):
        made.append(request.infer([changed[i : i + REQUEST], *about])[0].copy())
    return np.concatenate(made), len(changed) / (time.process_time() - began)


if __name__ == "__main__":
    main()
