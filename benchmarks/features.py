"""Images a second from files to bottlenecks: `helpers.model.features.extract` beside the obvious way and the limit.

    python benchmarks/features.py [--backbones InceptionV3 ...] [--weights none] [--images 64] [--rounds 2] [--png]

The obvious way decodes each file whole with Pillow and resizes it, then calls Keras `predict` in float32, batches of
32. Both ways start from the same files, in turn, with their networks compiled before the clock starts; the ratio is
the median of the rounds' own, rates are the best round's. "preparing" is what `extract` needs once before it starts:
compiling, and checking the engine against Keras.

The limit is the slower of decoding alone and the engine alone, on pixels that are ready; "of the limit" is what
`extract` reaches of it. Where decoding and the network share the cores, as on a CPU, both together cannot be as fast as
either alone: "of both" is the share of the rate at which the cores would do one and then the other.

The images are made up, in two classes that overlap, so that the AUROC of a logistic regression on either way's
bottlenecks is neither 0.5 nor 1 and can move. Weights are random, which costs the same time as any. But a random
network distinguishes images by a few per cent of its features' size, so that its cosines flatter a rounded engine:
judge bfloat16 with weights that mean something (`--weights imagenet`). One that then does not agree is not used.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from helpers.data.catalogue import Catalogue
from helpers.data.images import batches
from helpers.data.scan import examine
from helpers.model import features as features_module
from helpers.model.backbones import Backbone, load_backbone
from helpers.model.engine import Function, candidates, openvino_capabilities
from helpers.model.features import extract
from helpers.run import provenance

TARGET = 5  # times the obvious way, for InceptionV3 on a CPU with bfloat16 instructions
NEAR = 0.9  # of the limit: what is asked for
COMPILED: dict[tuple, Function] = {}  # one for all rounds: compiling is timed apart
compile_backbone = features_module.compile_backbone


def compile_once(backbone: Backbone, engine, *options) -> Function:
    """The engine's function of a backbone, compiled the first time it is asked for."""
    key = (backbone.name, backbone.image_size, engine)
    if key not in COMPILED:
        COMPILED[key] = compile_backbone(backbone, engine, *options)
    return COMPILED[key]


features_module.compile_backbone = compile_once  # as `extract` calls it


@dataclass
class Pass:
    """One way's pass over the files."""

    features: np.ndarray
    seconds: float
    preparing: float = 0.0  # seconds of compiling and checking, before the clock started
    engine: str = "keras float32"
    min_cosine: float = 1.0


def make_images(folder: Path, n: int, png: bool) -> Catalogue:
    """`n` grey JPEGs of 496 x 512 pixels, or PNGs of 1,024 x 1,024, as NIH's radiographs are: speckle over bands whose
    thickness differs, with overlap, in two classes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:496, 0:512].astype(np.float32)
    rows = []
    for i in range(n):
        label = "AB"[i % 2]
        thickness = rng.normal(38 if label == "A" else 50, 9)
        depth = 230 + 12 * np.sin(x / rng.uniform(18, 30)) + rng.normal(0, 10)
        scene = 40 + 150 * np.exp(-(((y - depth) / thickness) ** 2)) + 60 * np.exp(-(((y - depth - 120) / 20) ** 2))
        pixels = np.clip(scene * rng.gamma(4, 0.25, scene.shape), 0, 255).astype(np.uint8)
        path, image = folder / f"{i:05d}.{'png' if png else 'jpeg'}", Image.fromarray(pixels)
        (image.resize((1024, 1024)) if png else image).save(path, quality=90)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rows.append((path.stem, path.name, label, path.stem, "train", digest))
    columns = ["image_id", "path", "label", "patient_id", "published_split", "digest"]
    return Catalogue("benchmark", folder, pd.DataFrame(rows, columns=columns), ("A", "B"))


def read_plainly(catalogue: Catalogue, size: int, n: int | None = None) -> np.ndarray:
    """float32 (n, size, size, 1): each file decoded whole and resized, as anyone would write it."""
    images = []
    for path in catalogue.frame["path"][:n]:
        with Image.open(catalogue.file(path)) as image:
            images.append(np.asarray(image.convert("L").resize((size, size), Image.Resampling.BILINEAR)))
    return np.stack(images).astype(np.float32)[..., None]


def obvious(catalogue: Catalogue, backbone: Backbone) -> Pass:
    """Pillow, then Keras `predict`. It is warm: called before."""
    clock = time.perf_counter()
    images = read_plainly(catalogue, backbone.image_size)
    features = backbone.model.predict(images, batch_size=32, verbose=0)
    return Pass(features, time.perf_counter() - clock)


def ours(catalogue: Catalogue, backbone: Backbone, options: argparse.Namespace) -> Pass:
    """`extract` into an empty cache. It keeps compiling and checking apart from its own clock."""
    with tempfile.TemporaryDirectory() as cache:
        clock = time.perf_counter()
        made = extract(options, catalogue, backbone, Path(cache))
        preparing = time.perf_counter() - clock - made.seconds
        engine = f"{made.engine} {made.precision}"
        return Pass(np.array(made.features), made.seconds, preparing, engine, made.agreement["min_cosine"])


def auroc(features: np.ndarray, labels: np.ndarray) -> float:
    """Of a logistic regression trained on every other pair of images, on the rest."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    training = np.arange(len(labels)) // 2 % 2 == 0
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    features = features.astype(np.float64)
    model.fit(features[training], labels[training])
    return roc_auc_score(labels[~training], model.decision_function(features[~training]))


def decoding(catalogue: Catalogue, size: int, workers: int) -> list[float]:
    """Images a second of decoding alone, plainly and as `extract` does, and of looking for damage, as a catalogue is
    made."""

    def look() -> None:
        with ThreadPoolExecutor(workers or provenance.available_cores()) as pool:
            list(pool.map(lambda path: examine(catalogue.file(path)), catalogue.frame["path"]))

    examine(catalogue.file(catalogue.frame["path"].iloc[0]))  # compiles
    rates = []
    for read in (lambda: read_plainly(catalogue, size), lambda: list(batches(catalogue, size, 64, workers)), look):
        clock = time.perf_counter()
        read()
        rates.append(len(catalogue) / (time.perf_counter() - clock))
    return rates


def engine_alone(catalogue: Catalogue, backbone: Backbone, used: str, options: argparse.Namespace) -> float:
    """Images a second of the engine that `extract` used, on pixels that are ready."""
    chosen = next(one for one in candidates(options.engine, options.precision) if f"{one.name} {one.precision}" == used)
    pixels = next(batches(catalogue, backbone.image_size, len(catalogue), options.workers))[1]
    run = compile_once(backbone, chosen)
    clock = time.perf_counter()
    run(pixels)
    return len(pixels) / (time.perf_counter() - clock)


def measure(backbone: Backbone, catalogue: Catalogue, rounds: int, options: argparse.Namespace) -> dict:
    """One row of the table: both ways in turn, `rounds` times, and what bounds them."""
    obvious(catalogue.subset(catalogue.frame[:32]), backbone)
    pairs = [(obvious(catalogue, backbone), ours(catalogue, backbone, options)) for _ in range(rounds)]
    plain, fast = pairs[-1]
    n, labels = len(catalogue), (catalogue.frame["label"] == "B").to_numpy()
    rates = decoding(catalogue, backbone.image_size, options.workers)
    engine = engine_alone(catalogue, backbone, fast.engine, options)
    reached = n / min(f.seconds for _, f in pairs)
    return {
        "backbone": f"{backbone.name} {backbone.image_size} px",
        "engine": fast.engine,
        "obvious img/s": n / min(p.seconds for p, _ in pairs),
        "extract img/s": reached,
        "ratio": np.median([p.seconds / f.seconds for p, f in pairs]),
        "decode plain img/s": rates[0],
        "decode img/s": rates[1],
        "catalogue files/s": rates[2],
        "engine alone img/s": engine,
        f"of the limit (asked: {NEAR})": reached / min(rates[1], engine),
        "of both": reached * (1 / rates[1] + 1 / engine),
        "preparing s": pairs[0][1].preparing,
        "min cosine": fast.min_cosine,
        "AUROC obvious": auroc(plain.features, labels),
        "AUROC change": auroc(fast.features, labels) - auroc(plain.features, labels),
    }


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--backbones", nargs="+", default=["MobileNetV2", "InceptionV3"])
    asked.add_argument("--weights", default="none", help="of every backbone: none, imagenet or a file")
    asked.add_argument("--images", type=int, default=64)
    asked.add_argument("--rounds", type=int, default=2)
    asked.add_argument("--png", action="store_true", help="files as NIH's radiographs are, of 1,024 x 1,024 pixels")
    asked.add_argument("--engine", default="auto")
    asked.add_argument("--precision", default="auto")
    asked.add_argument("--workers", type=int, default=0)
    chosen = asked.parse_args()
    print(f"{provenance.cpu_model()}, {provenance.available_cores()} cores")
    with tempfile.TemporaryDirectory() as folder:
        catalogue = make_images(Path(folder), chosen.images, chosen.png)
        rows = [
            measure(load_backbone(name, chosen.weights), catalogue, chosen.rounds, chosen) for name in chosen.backbones
        ]
    table = pd.DataFrame(rows).set_index("backbone").T
    print(table.to_string(float_format=lambda value: f"{value:.4g}"))
    has = "BF16" in openvino_capabilities()
    applies = "applies here" if has else "does not apply here: float32 is the fastest that is exact enough"
    print(f"\nbfloat16 instructions: {'yes' if has else 'no'}; the target of {TARGET} times, InceptionV3, {applies}.")


if __name__ == "__main__":
    main()
