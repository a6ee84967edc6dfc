"""Does SmallNet's pre-training on formulas transfer? Frozen features against random ones where labels are few.

    python benchmarks/transfer_smallnet.py                        phantom OCT
    python benchmarks/transfer_smallnet.py --data-dir data/raw    Kermany's OCT, its train folder only

Each repeat draws a third of the patients for testing and n labelled images a class from the others, fits a logistic
regression on each backbone's features of the same images, and scores the same test images; the random backbone has
other weights every repeat. Intervals hold 95 % of the repeats: differences are paired, so the images cancel.
`--scratch` adds SmallNet trained end to end on the labelled images alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.data import images as pixels
from helpers.data import kermany_images
from helpers.data.catalogue import Catalogue
from helpers.metrics.estimate import Estimate
from helpers.model.backbones import Backbone, load_backbone
from helpers.phantoms.oct import OCT
from helpers.run.paths import CACHE

PENALTY = 0.1  # C of the logistic regression, for every backbone alike
RANDOM = 5  # random backbones, taken in turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="a folder with Kermany's OCT data; without it, phantoms are made")
    parser.add_argument("--phantoms", type=int, default=600, help="phantom training images")
    parser.add_argument("--labels", type=int, nargs="+", default=[5, 10, 20, 40], help="labelled images a class")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--image-size", type=int, default=0)
    parser.add_argument("--weights", nargs="+", default=["formula"])
    parser.add_argument("--scratch", type=int, default=0, help="repeats of training from scratch (slow)")
    parser.add_argument("--out", type=Path, help="a JSON file for the table")
    given = parser.parse_args()
    table = measure(load(given), given)
    print(table.to_string(index=False))
    if given.out:
        given.out.write_text(json.dumps(table.to_dict("records"), indent=1) + "\n", encoding="utf-8")


def load(given: argparse.Namespace) -> Catalogue:
    """The published train folder alone: the test folder is for results, not for choices."""
    if given.data_dir:
        whole = kermany_images.load_oct(given.data_dir, CACHE)
    else:
        whole = OCT.load(CACHE, train=given.phantoms, test_per_class=1, seed=11)
    return whole.subset(whole.frame[whole.frame["published_split"] == "train"])


def measure(catalogue: Catalogue, given: argparse.Namespace) -> pd.DataFrame:
    """One row a backbone and number of labels: macro AUROC, its interval, and the difference from random features."""
    backbones = {word: load_backbone("SmallNet", word, given.image_size) for word in given.weights}
    backbones |= {f"random {s}": load_backbone("SmallNet", "none", given.image_size, seed=s) for s in range(RANDOM)}
    images = read(catalogue, next(iter(backbones.values())).image_size)
    features = {name: pooled(backbone, images) for name, backbone in backbones.items()}
    labels = pd.Categorical(catalogue.frame["label"], categories=catalogue.classes).codes.astype(int)
    patients = catalogue.frame["patient_id"].to_numpy()
    rows = []
    for n in given.labels:
        scores: dict[str, list[float]] = {}
        for repeat in range(given.repeats):
            train, test = draw(labels, patients, n, repeat)
            for word in [*given.weights, "random"]:
                x = features[word if word != "random" else f"random {repeat % RANDOM}"]
                scores.setdefault(word, []).append(few_labels(x, labels, train, test))
            if repeat < given.scratch:
                scores.setdefault("scratch", []).append(from_scratch(images, labels, train, test, repeat))
        for word, values in scores.items():
            gain = np.subtract(values, scores["random"][: len(values)])
            rows.append({"weights": word, "labels_a_class": n, "auroc": str(spread(values)),
                         "above_random": str(spread(gain)) if word != "random" else ""})  # fmt: skip
    return pd.DataFrame(rows)


def read(catalogue: Catalogue, size: int) -> np.ndarray:
    return np.concatenate([block for _, block in pixels.batches(catalogue, size, 64)])


def pooled(backbone: Backbone, images: np.ndarray) -> np.ndarray:
    blocks = np.array_split(images.reshape(*images.shape[:3], 1), max(1, len(images) // 64))
    return np.concatenate([np.asarray(backbone.model(block.astype(np.float32), training=False)) for block in blocks])


def draw(labels: np.ndarray, patients: np.ndarray, n: int, repeat: int) -> tuple[np.ndarray, np.ndarray]:
    """n labelled images a class, and every image of a third of the patients, who share none with the first."""
    rng = np.random.default_rng(repeat)
    names = rng.permutation(np.unique(patients))
    tested = np.isin(patients, names[: len(names) // 3])
    chosen = [rng.permutation(np.flatnonzero(~tested & (labels == c)))[:n] for c in np.unique(labels)]
    return np.concatenate(chosen), np.flatnonzero(tested)


def few_labels(x: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=500)).fit(x[train], labels[train])
    return macro_auroc(labels[test], head.predict_proba(x[test]))


def macro_auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"))


def from_scratch(images: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> float:
    """SmallNet and a softmax trained together on the labelled images, with flips, 60 epochs of Adam."""
    import keras

    keras.utils.set_random_seed(seed)
    body = load_backbone("SmallNet", "none", images.shape[1], seed=seed).model
    body.trainable = True
    flip = keras.layers.RandomFlip("horizontal", seed=seed)(body.input)
    model = keras.Model(body.input, keras.layers.Dense(int(labels.max()) + 1, activation="softmax")(body(flip)))
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    x = images.reshape(*images.shape[:3], 1).astype(np.float32)
    model.fit(x[train], labels[train], batch_size=16, epochs=60, verbose=0)
    return macro_auroc(labels[test], model.predict(x[test], batch_size=64, verbose=0))


def spread(values: np.ndarray | list[float]) -> Estimate:
    """The mean of the repeats, and the range that 95 % of them lie in: wider than the mean's own interval."""
    low, high = np.quantile(values, [0.025, 0.975])
    mean = float(np.mean(values))
    return Estimate(mean, min(mean, float(low)), max(mean, float(high)), len(values), "95 % of repeats")


if __name__ == "__main__":
    main()
