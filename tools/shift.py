"""Which normalisation of a radiograph survives another source: `python -m tools.shift DATA_DIR=folder BACKBONE=name`.

A network that scores well on images held out of the folder it learnt from may fail on another folder: of Kermany's
radiographs, what looked best on held-out training images was worst on the official test folder. So nothing is chosen
here on a test folder, nor on images like those learnt from. The training folder is cut into halves that differ, a last
layer on frozen features learns from one and is judged on the other, and the normalisations are compared over all cuts:

- number: normal images named NORMAL2-IM and pneumonia of high patient numbers against the others, two acquisitions;
- brightness: dark normal and bright pneumonia images against bright normal and dark pneumonia images, the hardest case,
  since brightness then means the opposite in the other half.

The official test images take no part. The table, with an AUROC by patient for each cut, goes to figures/real/shift.csv.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from helpers.data.splits import shuffled
from helpers.kermany.data import load_xray
from helpers.metrics.auroc import auroc
from helpers.metrics.estimate import estimate_frame
from helpers.model.backbones import load_backbone, with_depths
from helpers.model.engine import choose, compile_backbone
from helpers.model.experiment import pixels_of
from helpers.run import paths
from helpers.run.profile import load_profile

PENALTY = 0.001  # C of scikit-learn's logistic regression, on standardised features: the same for every normalisation


def standardise(image: Image.Image) -> Image.Image:
    """Every image to one mean and one deviation of its grey levels."""
    grey = np.asarray(image, np.float32)
    return Image.fromarray(np.clip((grey - grey.mean()) / (grey.std() + 1e-3) * 56 + 120, 0, 255).astype(np.uint8))


NORMALISATIONS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda image: image,
    "grey levels stretched": lambda image: ImageOps.autocontrast(image, cutoff=1),
    "mean and deviation fixed": standardise,
    "histogram equalised": ImageOps.equalize,
}


def halves(frame: pd.DataFrame, brightness: np.ndarray) -> dict[str, np.ndarray]:
    """For each cut, which half (0 or 1) an image is in. A patient may be in both where a number occurs with NORMAL2 and
    without: `judge` leaves such out."""
    normal = (frame["label"] == "NORMAL").to_numpy()
    number = frame["patient_id"].str.extract(r"(\d+)$")[0].astype(int)
    second = frame["image_id"].str.contains("NORMAL2").to_numpy()
    late = np.where(normal, second, number > number[~normal].median())
    bright = pd.Series(brightness, frame.index).groupby([frame["patient_id"], normal]).transform("mean")
    above = bright > bright.groupby(normal).transform("median")
    return {"number": late.astype(int), "brightness": np.where(normal, above, ~above).astype(int)}


def judge(frame: pd.DataFrame, features: np.ndarray, learnt: np.ndarray, judged: np.ndarray, question: str):
    """The AUROC by patient of a last layer that learnt from some rows, on others."""
    if question == "bacterial or viral":
        learnt, judged = (rows & (frame["label"] != "NORMAL").to_numpy() for rows in (learnt, judged))
        truth = (frame["label"] == "BACTERIA").to_numpy()
    else:
        truth = (frame["label"] != "NORMAL").to_numpy()
    both = set(frame["patient_id"][learnt]) & set(frame["patient_id"][judged])
    judged = judged & ~frame["patient_id"].isin(both).to_numpy()
    layer = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=2000))
    score = layer.fit(features[learnt], truth[learnt]).decision_function(features[judged])
    return auroc(truth[judged], score, frame["patient_id"][judged])


def main() -> int:
    """Print and keep the table."""
    profile = load_profile("paper", sys.argv[1:])
    catalogue = load_xray(profile)
    frame = catalogue.frame[catalogue.frame["published_split"] == "train"].reset_index(drop=True)
    backbone = with_depths(load_backbone(profile.backbone, profile.weights, profile.finetune_size, profile.seed), 2)
    pixels = pixels_of(catalogue, frame, backbone.image_size, profile.workers)
    run, found = compile_backbone(backbone, choose(profile.engine, profile.precision)), {}
    cuts = halves(frame, pixels.mean((1, 2)))
    folds = shuffled(frame["patient_id"], f"shift/{profile.seed}")
    cuts["no shift, patients at random"] = frame["patient_id"].isin(folds[: len(folds) // 2]).to_numpy().astype(int)
    for name, normalise in NORMALISATIONS.items():
        features = run(np.stack([np.asarray(normalise(Image.fromarray(image))) for image in pixels]))
        for cut, half in cuts.items():
            for question in ("pneumonia", "bacterial or viral"):
                for first in (0, 1):
                    key = (question, cut, f"learnt from half {'AB'[first]}", name)
                    found[key] = judge(frame, features, half == first, half != first, question)
                    print(*key, found[key], sep=", ", flush=True)
    table = estimate_frame(found, "question", "cut", "direction", "normalisation")
    subset = f"{len(frame):,} images of the training folder, {backbone.name}"
    table.assign(subset=subset).to_csv(paths.FIGURES / "real" / "shift.csv", index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
