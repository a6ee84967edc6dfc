"""Training a head with an evaluation at every step: `train_head` beside a plain Keras `model.fit`, and the limit.

    python benchmarks/head.py [--images 108312] [--width 2048] [--steps 10000] [--timed 1000] [--fit-steps 60]

The features are random, as many as the paper's training images; 1,000 more are validated on and 1,000 tested on
after each step, as the paper did. The plain way is what Keras offers for it: epochs of one step, with
`validation_data`, into which both held-out sets go as one. Each way is timed on fewer steps, after a warm-up, and
extrapolated (`--timed 10000`: `train_head` to its end). The limit is memory: a step cannot take less than reading its
batch's features, rows anywhere in a matrix far larger than any cache, once.
By the clock, which means something on an idle machine only, and in processor time, which counts every core.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

TARGET = 120  # seconds for the default sizes on 2 cores
HELD_OUT = 1000  # images of validation, and as many of test
BATCH = 1000
CLASSES = ("CNV", "DME", "DRUSEN", "NORMAL")
WARM_UP = 96  # steps whose time is taken off
MATRIX: list[np.ndarray] = []  # the largest that was made: others are its first rows


def random_features(rows: int, width: int) -> np.ndarray:
    """float32 (rows, width) from 0 to 1."""
    if not MATRIX or len(MATRIX[0]) < rows or MATRIX[0].shape[1] != width:
        MATRIX[:] = [np.random.default_rng(0).random((rows, width), dtype=np.float32)]
    return MATRIX[0][:rows]


def examples(train: int, validation: int, test: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random features, class names and splits."""
    split = np.repeat(["train", "validation", "test"], [train, validation, test])
    return random_features(len(split), width), np.random.default_rng(0).choice(CLASSES, len(split)), split


def clocks() -> np.ndarray:
    """Seconds by the clock and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def time_train_head(data: tuple[np.ndarray, ...], steps: int, penalties: int, every: int = 1) -> np.ndarray:
    """Seconds of `train_head`, whole: by the clock and of the processor."""
    from helpers.model.head import HeadSettings, train_head

    l2 = tuple(0.001 * number for number in range(penalties))
    began = clocks()
    run = train_head(*data, CLASSES, HeadSettings(steps=steps, l2=l2, evaluate_every=every))
    seconds = clocks() - began
    if len(run.history) != 3 * -(-steps // every) * penalties:
        raise RuntimeError("train_head did not evaluate every step")
    return seconds


def seconds_a_step(train: int, validation: int, test: int, width: int, penalties: int, every: int) -> float:
    """Seconds by the clock of one step of `train_head` on so many images, evaluations included."""
    data, steps = examples(train, validation, test, width), max(192, 48 * every)
    first, last = (time_train_head(data, number, penalties, every)[0] for number in (16 * every, steps + 16 * every))
    return float(last - first) / steps


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
        model.fit(x, y, BATCH, epochs, steps_per_epoch=1, validation_data=check, validation_batch_size=1000, verbose=0)
        return clocks() - began

    fit(2)  # builds the graphs
    return (fit(steps + 2) - fit(2)) / steps  # without what each call takes, which is mostly copying all features


def time_reading(features: np.ndarray, images: int, steps: int) -> np.ndarray:
    """Seconds a step of reading its batch alone, in the pieces that `train_head` takes."""
    from helpers.model.head import BLOCK

    random, piece = np.random.default_rng(1), max(1, BLOCK // features.shape[1])
    block, batches = np.empty((piece, features.shape[1]), np.float32), random.integers(0, images, (steps, BATCH))
    began = clocks()
    for rows in batches:
        for first in range(0, BATCH, piece):
            some = rows[first : first + piece]
            np.take(features, some, axis=0, out=block[: len(some)], mode="clip")
    return (clocks() - began) / steps


def main() -> None:
    """Time all three and print them, with the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=108_312)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--timed", type=int, default=1000, help="steps of train_head that are timed")
    parser.add_argument("--fit-steps", type=int, default=60)
    parser.add_argument("--penalties", type=int, default=1)
    options = parser.parse_args()
    data, steps = examples(options.images, HELD_OUT, HELD_OUT, options.width), options.steps
    timed = min(options.timed, steps)
    if timed == steps:
        ours = time_train_head(data, steps, options.penalties)
    else:
        first, whole = (time_train_head(data, number, options.penalties) for number in (WARM_UP, WARM_UP + timed))
        ours = first + (whole - first) * (steps - WARM_UP) / timed
    limit = time_reading(data[0], options.images, 200) * steps
    plain = time_fit(*data, options.fit_steps) * steps
    bandwidth = steps * BATCH * options.width * 4 / limit[0] / 1e9
    print(f"{options.images:,} x {options.width:,} features, {steps:,} steps, each with {2 * HELD_OUT:,} evaluated")
    print(f"{'seconds':<30}{'clock':>10}{'processor':>12}")
    print(f"{'model.fit':<30}{plain[0]:10.1f}{plain[1]:12.1f}   extrapolated from {options.fit_steps} steps")
    print(f"{'train_head':<30}{ours[0]:10.1f}{ours[1]:12.1f}   {options.penalties} penalties, from {timed} steps")
    print(f"{'reading its features alone':<30}{limit[0]:10.1f}{limit[1]:12.1f}   {bandwidth:.1f} GB/s")
    print(f"{'ratio to model.fit':<30}{plain[0] / ours[0]:10.1f}{plain[1] / ours[1]:12.1f}   asked: 10")
    print(f"{'share of it that is reading':<30}{limit[0] / ours[0]:10.2f}{limit[1] / ours[1]:12.2f}")
    print(f"target on 2 idle cores: train_head under {TARGET} s: {'REACHED' if ours[0] < TARGET else 'NOT REACHED'}")


if __name__ == "__main__":
    main()
