"""A small fine-tuning for `test_finetune_killed` to start, kill and start again: python killed_training.py FOLDER.

FOLDER gets the checkpoints; `asked.txt`, a line "epoch image ..." for each batch that training asked for; and at the
end `result.npz` (weights, validation's and test's one after the other) and `history.csv`.
"""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

SIZE, CLASSES, PAUSE = 8, ("bright", "striped"), 0.02  # seconds a batch, so that a kill has something to hit


def settings():
    """Everything that has a state of its own: momenta, a cosine, dropout, statistics, a checkpoint after each step."""
    from helpers.model.finetune import FinetuneSettings

    plain = FinetuneSettings(epochs=4, batch=5, learning_rate=0.01, seed=3, checkpoint_every=1)
    return replace(plain, optimizer="adamw", schedule="cosine", warm_up=1, dropout=0.3, train_batch_norm=True)


def backbone():
    """Two convolutions, one normalisation, six features."""
    import keras

    from helpers.model.backbones import Backbone, weights_digest

    keras.utils.set_random_seed(0)
    grey = keras.Input((SIZE, SIZE, 1), name="grey")
    x = keras.layers.Rescaling(1 / 127.5, -1, name="scaling")(grey)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(x)
    x = keras.layers.BatchNormalization(name="normalisation")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="second")(x)
    model = keras.Model(grey, keras.layers.GlobalAveragePooling2D()(x), name="Tiny")
    model.trainable = False
    return Backbone("Tiny", "none", weights_digest(model), SIZE, 6, model)


def train(folder: Path, pause: float = 0.0):
    """44 noisy images, every second one striped: 28 to learn from, in six batches an epoch."""
    from helpers.model.finetune import ArraySource, finetune

    random, codes = np.random.default_rng(0), np.arange(44) % 2
    images = random.integers(60, 160, (44, SIZE, SIZE)).astype(np.float64)
    images[codes == 1, ::2] *= 0.6
    images = images.astype(np.uint8)
    split = ["train"] * 28 + ["validation"] * 8 + ["test"] * 8

    def source(epoch, rows):
        with (folder / "asked.txt").open("a") as file:
            file.write(" ".join(map(str, (epoch, *rows))) + "\n")
        time.sleep(pause)
        return images[rows]

    return finetune(backbone(), source, ArraySource(images), codes, split, CLASSES, settings(), checkpoints=folder)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    run = train(place, PAUSE)
    run.history.to_csv(place / "history.csv", index=False)
    np.savez(place / "result.npz", *run.by_validation, *run.by_test)
