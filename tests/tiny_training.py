"""Two small fine-tunings that tests start in processes of their own: python tiny_training.py NAME FOLDER.

"tiny" is to be killed: FOLDER gets `asked.txt`, a line per batch that training asked for. "smallnet" is for each of
Keras's backends. Both leave `result.npz` (weights, probabilities) and `history.csv`.
"""

import sys
import time
from pathlib import Path

import numpy as np

from helpers.model.backbones import Backbone, load_backbone, weights_digest
from helpers.model.finetune import FinetuneSettings, finetune

SIZE, CLASSES, PAUSE = 8, ("bright", "striped"), 0.02  # seconds per batch, so that a kill has something to hit
# Everything that has a state of its own: momenta, a cosine, dropout, statistics.
STATEFUL = {"optimizer": "adamw", "schedule": "cosine", "dropout": 0.3, "train_batch_norm": True}


def tiny_backbone():
    """Two convolutions, one normalisation, six features."""
    import keras

    keras.utils.set_random_seed(0)
    grey = keras.Input((SIZE, SIZE, 1), name="grey")
    x = keras.layers.Rescaling(1 / 127.5, -1, name="scaling")(grey)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(x)
    x = keras.layers.BatchNormalization(name="normalisation")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", activation="relu", name="second")(x)
    model = keras.Model(grey, keras.layers.GlobalAveragePooling2D()(x), name="Tiny")
    model.trainable = False
    return Backbone("Tiny", "none", weights_digest(model), SIZE, 6, model)


def striped_images(count=44, size=SIZE):
    """Noisy images, every second one striped, with their codes and split."""
    random, codes = np.random.default_rng(0), np.arange(count) % 2
    images = random.integers(60, 160, (count, size, size)).astype(np.float64)
    images[codes == 1, ::2] *= 0.6
    split = np.where(np.arange(count) % 11 < 7, "train", "validation")
    return images.astype(np.uint8), codes, split


def tiny(folder: Path, pause: float = 0.0):
    """28 images to learn from, in six batches an epoch."""
    images, codes, split = striped_images()

    def source(epoch, rows):
        with (folder / "asked.txt").open("a") as file:
            file.write(" ".join(map(str, (epoch, *rows))) + "\n")
        time.sleep(pause)
        return images[rows]

    settings = FinetuneSettings(epochs=4, batch=5, learning_rate=0.01, seed=3, **STATEFUL)
    return finetune(tiny_backbone(), source, images, codes, split, CLASSES, settings, folder)


def smallnet(folder: Path, pause: float = 0.0):
    images, codes, split = striped_images(110, 32)
    settings = FinetuneSettings(epochs=2, batch=8, learning_rate=0.0005, clip_norm=1.0, standardise=True)
    return finetune(load_backbone("SmallNet", "formula", 32), images, images, codes, split, CLASSES, settings, folder)


if __name__ == "__main__":
    place = Path(sys.argv[2])
    network = {"tiny": tiny, "smallnet": smallnet}[sys.argv[1]](place, PAUSE)
    size = network.backbone.image_size
    probabilities = network.predict(striped_images(110, size)[0])
    network.history.to_csv(place / "history.csv", index=False)
    np.savez(place / "result.npz", *network.weights, probabilities=probabilities)
