"""A GPU beside the CPU: features, fine-tuning and occlusion of the same networks, and the bare forward pass.

    python benchmarks/gpu.py [--networks MobileNetV2 InceptionV3] [--images 512] [--precision bfloat16]

Without a GPU that Keras can use it says so, and ends well. With one, each line is measured on it and, in a process that
cannot see it, on the CPU in the precision that is fastest there:

    forward     images a second of the network alone, on pixels that are ready, in batches of 64
    features    JPEG files to features (`helpers.model.features.extract`), decoding included
    fine-tuning images a second of an epoch in which all layers learn (`helpers.model.finetune`), mixed precision
    occlusion   positions of the box a second (`helpers.explain.occlusion`), float32

"of bare" is what features reach of the forward pass. `--here` measures this process's device alone, and prints JSON.
KERAS_BACKEND=jax or torch runs it on that backend, in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from features import make_images
from occlusion import block_of, classifier_of, pictures

from helpers.data.catalogue import Catalogue
from helpers.data.images import batches
from helpers.explain.occlusion import default_box, make_sweep
from helpers.model.backbones import Backbone, load_backbone
from helpers.model.engine import candidates, compile_backbone, usable_gpus
from helpers.model.features import extract
from helpers.model.finetune import FinetuneSettings, finetune
from helpers.run.provenance import cpu_model, driver_gpus

LINES = ("forward", "features", "fine-tuning", "occlusion")
HELD_OUT = 32  # images that the fine-tuned network is validated on


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of the second call: the first compiles."""
    work()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def time_features(backbone: Backbone, catalogue: Catalogue, options: argparse.Namespace) -> tuple[float, float]:
    """Images a second of the bare forward pass, and from files to features."""
    pixels = next(batches(catalogue, backbone.image_size, len(catalogue)))[1]
    run = compile_backbone(backbone, candidates("auto", options.precision)[0])
    forward = len(pixels) / seconds_of(lambda: run(pixels))
    with tempfile.TemporaryDirectory() as cache:
        made = extract(options, catalogue, backbone, Path(cache))
    return forward, len(catalogue) / made.seconds


def time_finetuning(backbone: Backbone, pixels: np.ndarray) -> float:
    """Images a second of an epoch, validation and all that an epoch ends with included."""
    labels, split = np.arange(len(pixels)) % 2, np.where(np.arange(len(pixels)) < HELD_OUT, "validation", "train")
    seeds = iter((1, 2))  # another seed's training is not found; the network that was compiled is

    def train() -> None:
        with tempfile.TemporaryDirectory() as folder:
            settings = FinetuneSettings(epochs=1, batch=32, learning_rate=1e-5, seed=next(seeds))
            finetune(backbone, pixels, pixels, labels, split, ("A", "B"), settings, Path(folder))

    return (len(pixels) - HELD_OUT) / seconds_of(train)


def time_occlusion(name: str, size: int) -> float:
    """Positions a second, of a whole block of them."""
    images, side = pictures(size), default_box(size)
    sweep = make_sweep(classifier_of(name, images, "none"), side, 1, images[0])
    corners = block_of(size, side, max(sweep.plan.stride, 16), np.random.default_rng(0))[:256]
    return len(corners) / seconds_of(lambda: sweep.at(0.0, corners))


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The rates of each network on this process's device."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        catalogue = make_images(Path(folder), options.images)
        for name in options.networks:
            backbone = load_backbone(name, "none")
            rates = time_features(backbone, catalogue, options)
            learnt = next(batches(catalogue, backbone.image_size, max(2 * HELD_OUT, options.images // 4)))[1]
            rates += time_finetuning(backbone, learnt), time_occlusion(name, backbone.image_size)
            found[name] = dict(zip(LINES, rates, strict=True))
    return found


def on_cpu(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The same in a process that sees no GPU."""
    images = str(max(2 * HELD_OUT, options.images // 8))
    words = [sys.executable, __file__, "--here", "--images", images, "--networks", *options.networks]
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(words, env=hidden, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["MobileNetV2", "InceptionV3"])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--precision", default="bfloat16", help="of the forward pass and of features, on the GPU")
    parser.add_argument("--here", action="store_true", help="measure this process's device alone")
    options = parser.parse_args()
    options.engine, options.workers = "auto", 0
    if options.here:
        options.precision = "auto"
        print(json.dumps(measure(options)))
        return
    gpus = usable_gpus()
    if not gpus:
        seen = f"the driver sees {', '.join(driver_gpus())}" if driver_gpus() else "the driver sees none"
        print(
            f"no GPU that Keras can use here ({seen}): nothing is measured. `make gpu` installs what TensorFlow needs"
        )
        return
    ours, theirs = measure(options), on_cpu(options)
    print(f"{gpus[0]} beside {cpu_model()}, {os.cpu_count()} cores; GPU in {options.precision}")
    print(f"{'':26}{'GPU':>10}{'CPU':>10}{'ratio':>8}{'of bare':>9}")
    for name, rates in ours.items():
        for line, rate in rates.items():
            bare = f"{rate / rates['forward']:9.2f}" if line == "features" else ""
            print(f"{name:13}{line:13}{rate:10.1f}{theirs[name][line]:10.1f}{rate / theirs[name][line]:8.1f}{bare}")


if __name__ == "__main__":
    main()
