"""Training a head with an evaluation at every step: `train_head` beside a plain Keras `model.fit`.

    python benchmarks/head.py [--images 108312] [--width 2048] [--steps 10000] [--fit-steps 200] [--penalties 1]

The features are random, as many as the paper's training images; 1,000 more are validated on and 1,000 tested on
after each step, as the paper did. The plain way is what Keras offers for it: epochs of one step, with
`validation_data`, into which both held-out sets go as one. It is timed on `--fit-steps` steps after a warm-up and
extrapolated, which the output says. `train_head` is timed whole, checks and the history table included.
Both are measured by the clock, which means something on an idle machine only, and in processor time, which counts every
core and does not depend so much on what else runs.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

TARGET = 120  # seconds for the default sizes on 2 cores
HELD_OUT = 1000  # images of validation, and as many of test
CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")


def random_features(images: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random float32 features, class names and splits: `images` to train on and two held-out sets."""
    random = np.random.default_rng(0)
    total = images + 2 * HELD_OUT
    split = np.repeat(["train", "validation", "test"], [images, HELD_OUT, HELD_OUT])
    return random.random((total, width), dtype=np.float32), random.choice(CLASSES, total), split


def clocks() -> np.ndarray:
    """Seconds by the clock and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def time_train_head(features: np.ndarray, labels: np.ndarray, split: np.ndarray, steps: int, penalties: int):
    """Seconds of `train_head`, whole: by the clock and of the processor."""
    from helpers.model.head import HeadSettings, train_head

    settings = HeadSettings(steps=steps, l2=tuple(0.001 * number for number in range(penalties)))
    began = clocks()
    run = train_head(features, labels, split, CLASSES, settings)
    seconds = clocks() - began
    if len(run.history) != 3 * steps * penalties:
        raise RuntimeError("train_head did not evaluate every step")
    return seconds


def time_fit(features: np.ndarray, labels: np.ndarray, split: np.ndarray, steps: int) -> np.ndarray:
    """Seconds a step of `model.fit`, each step an epoch with its validation: by the clock and of the processor."""
    import keras

    model = keras.Sequential([keras.Input((features.shape[1],)), keras.layers.Dense(len(CLASSES), "softmax")])
    model.compile(keras.optimizers.Adam(0.001), "sparse_categorical_crossentropy", metrics=["accuracy"])
    codes = np.searchsorted(CLASSES, labels)
    train, held_out = split == "train", split != "train"
    x, y, check = features[train], codes[train], (features[held_out], codes[held_out])

    def fit(epochs: int) -> np.ndarray:
        began = clocks()
        model.fit(x, y, 1000, epochs, steps_per_epoch=1, validation_data=check, validation_batch_size=1000, verbose=0)
        return clocks() - began

    fit(2)  # builds the graphs
    return fit(steps) / steps


def main() -> None:
    """Time both and print them, with the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=108_312)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--fit-steps", type=int, default=200)
    parser.add_argument("--penalties", type=int, default=1)
    options = parser.parse_args()
    data = random_features(options.images, options.width)
    sizes = f"{options.images:,} x {options.width:,} features, {options.steps:,} steps"
    print(f"{sizes}, each with {2 * HELD_OUT:,} evaluated")
    plain = time_fit(*data, options.fit_steps) * options.steps
    quick = time_train_head(*data, options.steps, options.penalties)
    print(f"{'seconds':<12}{'clock':>10}{'processor':>12}")
    print(f"{'model.fit':<12}{plain[0]:10.1f}{plain[1]:12.1f}   (extrapolated from {options.fit_steps} steps)")
    print(f"{'train_head':<12}{quick[0]:10.1f}{quick[1]:12.1f}   ({options.penalties} penalties)")
    print(f"{'ratio':<12}{plain[0] / quick[0]:10.1f}{plain[1] / quick[1]:12.1f}")
    print(f"target: ratios of 10 at least; on 2 idle cores train_head under {TARGET} s")


if __name__ == "__main__":
    main()
