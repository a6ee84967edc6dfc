"""Tiny data sets for tests, and a maker run on them."""

import hashlib

import numpy as np
import pandas as pd
from PIL import Image

from helpers.data.catalogue import Catalogue
from helpers.model.experiment import Images, Inputs, run_experiment


def tiny_images(folder, labels, per_split=(8, 4, 4), size=32, seed=0):
    """Small pictures whose brightness follows their label, in `folder`, with their split."""
    rng, rows = np.random.default_rng(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    for place, label in enumerate(labels):
        for split, count in zip(("train", "validation", "test"), per_split, strict=True):
            for number in range(count):
                name = f"{label}-{split}-{number}"
                grey = rng.normal(60 + 60 * place, 20, (size, size)).clip(0, 255).astype(np.uint8)
                Image.fromarray(grey).save(folder / f"{name}.png")
                digest = hashlib.sha256((folder / f"{name}.png").read_bytes()).hexdigest()
                rows.append({"image_id": name, "path": f"{name}.png", "label": label, "patient_id": name})
                published = "test" if split == "test" else "train"
                rows[-1] |= {"published_split": published, "digest": digest, "split": split}
    frame = pd.DataFrame(rows)
    return Images(Catalogue("tiny", folder, frame.drop(columns="split"), tuple(labels), phantom=True), frame)


def run_maker(maker, own, profile, folder, others=None, features=None, name="made", key="key"):
    """A maker's experiment, kept in `folder`."""
    inputs = Inputs(name, own, others or {}, profile, **({} if features is None else {"features": lambda: features}))
    return run_experiment(maker, key, folder, inputs)
