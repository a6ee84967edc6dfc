"""Rajkomar 2017's nine models: three pre-trainings by three ways of fine-tuning, and the one that validation chooses.

Model Creation and Selection: "We retrained each of the three pre-trained models - the color ImageNet model,
full-greyscale ImageNet, and subset-greyscale ImageNet model - using three different methods, resulting in nine
candidate models [...] fine-tuning only the fully connected layers of the model using only original radiograph images
(no augmentation); fine-tuning only the fully connected layers using the augmented image sets; and fine-tuning all
layers of the network using the augmented image sets." "From the nine fine-tuned models, we chose a final model based
primarily on validation accuracy and secondarily on the number of images used for pre-training."
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.model import finetune
from helpers.model.backbones import FORMULA_WEIGHTS, Backbone, formula_record, load_backbone
from helpers.model.engine import choose as choose_engine
from helpers.model.engine import compile_backbone
from helpers.model.experiment import Images, Inputs, Results, affordable, pixels_of, scores_of
from helpers.model.head import Head
from helpers.rajkomar.augmentation import Augmented, children_frame
from helpers.rajkomar.data import TRANSFORMS, transformed
from helpers.run.profile import Profile, ProfileError
from helpers.run.provenance import read_json

VIEWS = ("frontal", "lateral")
Trained = Sequence[finetune.FinetunedNetwork]  # one model, by the seeds of its trainings
# Pre-trainings by the images they saw, most first, and the profile key that holds their weights. Ties go to the first.
PRETRAININGS = {"colour": "view_colour", "full greyscale": "view_grey", "subset greyscale": "view_subset"}
METHODS = ("last layer, original", "last layer, augmented", "all layers, augmented")
IMAGENET_IMAGES = 1_281_167  # training images of ILSVRC 2012 (Russakovsky et al. 2015), which Keras's weights saw
CHOOSING = 200  # validation children that choose a network's epoch; all of them judge the network in the end
RATE_HEAD = 0.005  # "a learning rate of 0.005 was used to fine-tune only fully connected layers"
CLIP_NORM = {"SmallNet": 1.0}  # longest gradient; the paper has no limit, but SmallNet diverges at its rate without


@dataclass(frozen=True)
class Radiographs:
    """Images to learn from: `frame` (image_id, parent, label, split), and `batch` to get them by row number."""

    frame: pd.DataFrame
    batch: Callable[[int, np.ndarray], np.ndarray]

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero((self.frame["split"] == split).to_numpy())


def train_view_models(inputs: Inputs) -> Results:
    """Train the nine (fewer where a pre-training lacks weights), each several times, and score the chosen one.

    Tables, all with the `seed` of the training: `scores` (validation and test images, by the chosen model),
    `validation` (every model on the validation images, `on` originals and children: pretraining, method, image_id,
    parent, label, p_frontal), `robustness` (test images under each transform of figure 6: image_id, patient_id, label,
    transform, p_frontal), `history` (of every model).
    """
    profile, weights = inputs.settings, _pretrainings(inputs.settings)
    sources = _sources(inputs.own, next(iter(weights.values())), profile)
    models: dict[tuple[str, str], Trained] = {}
    for name, word in weights.items():
        backbone = _load(word, profile)
        for method in METHODS:
            source = sources["originals" if method == METHODS[0] else "children"]
            place = inputs.unfinished / f"{name}, {method}".replace(", ", "_").replace(" ", "_")
            models[name, method] = _train(backbone, source, method == METHODS[2], profile, place)
    table = pd.concat([_validated(models, source).assign(on=on) for on, source in sources.items()], ignore_index=True)
    chosen = choose(table)
    tables, summary = _final(models[chosen], sources["originals"], inputs.fresh)
    history = [finetune.history_of(some, pretraining=name, method=how) for (name, how), some in models.items()]
    tables |= {"validation": table, "history": pd.concat(history, ignore_index=True)}
    seen = {name: count for name, word in weights.items() if (count := pretraining_images(word))}
    summary |= {"pre-training images": seen, "pre-training": chosen[0], "fine-tuning": chosen[1]}
    return Results(VIEWS, tables, summary | {"models": len(models), "weights": weights})


def choose(validation: pd.DataFrame) -> tuple[str, str]:
    """The pre-training and way of fine-tuning with the highest validation accuracy, over all its trainings; of equals
    the most pre-trained one.

    Of models that are equal in both, the one that learnt from more: all layers, then augmented. All nine are judged on
    the same images here, the children of the validation radiographs; the paper compared models that were validated on
    originals with models that were validated on children.
    """
    validation = validation[validation["on"] == "children"]
    right = (validation["p_frontal"] >= 0.5) == (validation["label"] == "frontal")
    accuracy = right.groupby([validation["pretraining"], validation["method"]]).mean()
    order = {name: -place for place, name in enumerate(PRETRAININGS)}
    return max(accuracy.index, key=lambda model: (accuracy[model], order[model[0]], METHODS.index(model[1])))


def pretraining_images(weights: str) -> int:
    """How many images the network with these weights learnt from; 0 where that is not known."""
    if weights in FORMULA_WEIGHTS:
        return int(formula_record(weights)["training_images"])
    beside = Path(weights).with_suffix(".json")  # written by `tools.pretrain`
    if beside.is_file():
        return int(read_json(beside).get("images", 0))
    return IMAGENET_IMAGES if weights == "imagenet" else 0


def _pretrainings(profile: Profile) -> dict[str, str]:
    """The weights of each pre-training that has any; a warning names those that have none."""
    weights = {name: getattr(profile, key) for name, key in PRETRAININGS.items()}
    left = [name for name, word in weights.items() if not word]
    if len(left) == len(weights):
        raise ProfileError("no pre-training is given: set VIEW_COLOUR, VIEW_GREY or VIEW_SUBSET")
    if left:
        keys = ", ".join(PRETRAININGS[name].upper() for name in left)
        text = f"not run, for want of weights ({keys}): {', '.join(left)} pre-training"
        warnings.warn(text, UserWarning, stacklevel=3)
    return {name: word for name, word in weights.items() if word}


def _load(weights: str, profile: Profile) -> Backbone:
    return load_backbone(profile.view_backbone or profile.backbone, weights, profile.view_size, profile.seed)


def _sources(images: Images, weights: str, profile: Profile) -> dict[str, Radiographs]:
    """The split frame's images as they are, and the children of its training and validation images."""
    frame = images.frame.reset_index(drop=True)
    pixels = pixels_of(images.catalogue, frame, _load(weights, profile).image_size, profile.workers)
    rows = children_frame(frame, per_image=profile.view_children, seed=profile.seed)
    children = Augmented(rows, pixels, frame["image_id"], profile.seed)
    originals = Radiographs(frame.assign(parent=frame["image_id"]), lambda epoch, rows: pixels[rows])
    return {"originals": originals, "children": Radiographs(children.frame, children.batch)}


def _train(backbone: Backbone, source: Radiographs, all_layers: bool, profile: Profile, folder: Path) -> Trained:
    """A pre-trained network, its last layer or all layers fine-tuned by the paper's recipe, once per seed.

    Where all layers learn, at most `CHOOSING` of the validation images, drawn from the seed, choose the epoch.
    """
    split, rows = source.frame["split"].to_numpy().copy(), source.rows("train")
    images = source.batch
    if all_layers:
        split[np.random.default_rng(profile.seed).permutation(source.rows("validation"))[CHOOSING:]] = "not used"
    else:
        images = _features(backbone, source)
    settings = _settings(profile, backbone, len(rows), all_layers)
    codes = source.frame["label"].map(VIEWS.index).to_numpy()
    given = (images, codes, split, VIEWS)
    return finetune.finetune_ensemble(
        profile.trainings, backbone, lambda seed: images, *given, settings=settings, folder=folder
    ).networks


def _features(backbone: Backbone, source: Radiographs) -> np.ndarray:
    """The frozen network's features of the images to learn from and to choose by; of others zeros."""
    rows = np.flatnonzero(source.frame["split"].isin(("train", "validation")))
    found = np.zeros((len(source.frame), backbone.features), np.float32)
    found[rows] = finetune.features_of(backbone, source.batch, rows)
    return found


def _settings(profile: Profile, backbone: Backbone, images: int, all_layers: bool) -> finetune.FinetuneSettings:
    """The paper's recipe, which `FinetuneSettings` has; limits on an epoch are for networks whose layers all learn."""
    epochs = profile.view_epochs
    if all_layers:
        images = min(images, profile.view_epoch_images or images)
        limit = (profile.view_cpu_images, "view_cpu_images")
        epochs, images = affordable("a view classifier", epochs, images, *limit)
    return finetune.FinetuneSettings(
        trainable="all" if all_layers else "head",
        epochs=epochs,
        learning_rate=profile.view_rate_all if all_layers else RATE_HEAD,
        drop_every=max(1, round(epochs / 3)),  # of 30 epochs: "reduced tenfold every ten epochs"
        clip_norm=CLIP_NORM.get(backbone.name, 0.0) if all_layers else 0.0,
        standardise=profile.head_standardise,
        images_per_epoch=images,
        seed=profile.seed,
    )


def _validated(models: Mapping[tuple[str, str], Trained], source: Radiographs) -> pd.DataFrame:
    """Every model's probabilities of a source's validation images, which are made once for all of them."""
    rows, predict = source.rows("validation"), [_predictor(some) for some in models.values()]
    found = finetune.over_rows(lambda images: np.hstack([one(images) for one in predict]), source.batch, rows)
    kept = source.frame.iloc[rows][["image_id", "parent", "label"]].reset_index(drop=True)
    names = [(*model, network.settings.seed) for model, some in models.items() for network in some]
    parts = [
        kept.assign(p_frontal=frontal, pretraining=name, method=method, seed=seed)
        for frontal, (name, method, seed) in zip(found.T, names, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def _predictor(trained: Trained) -> Callable[[np.ndarray], np.ndarray]:
    """Images to the probability of a frontal one, (n, trainings); where the last layer alone learnt, the network below
    it is run once for all trainings."""
    first = trained[0]
    if first.settings.trainable != "head":
        runs = [network.predictor() for network in trained]
        return lambda images: np.stack([run(images)[:, 0] for run in runs], axis=1)
    run = compile_backbone(first.backbone, choose_engine("auto", "float32"))
    heads = [Head(VIEWS, *network.weights[-2:], network.epoch, 0.0) for network in trained]

    def predict(images: np.ndarray) -> np.ndarray:
        features = run(images)
        return np.stack([head.predict(features)[:, 0] for head in heads], axis=1)

    return predict


def _final(trained: Trained, originals: Radiographs, fresh: Path) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The chosen model's trainings on validation and test images, on the transformed test images, and how fast it is.

    "We evaluated model speed based on time required to classify the 1377 test images."
    """
    rows, scores, robust = originals.rows("test"), [], []
    pixels, kept = originals.batch(0, rows), originals.frame[["image_id", "patient_id", "label"]].iloc[rows]
    kept, held_out = kept.reset_index(drop=True), np.r_[originals.rows("validation"), rows]
    changed = {name: transformed(pixels, name) for name in TRANSFORMS}
    for network in trained:
        predict, seed = network.predictor(), network.settings.seed
        found = predict(originals.batch(0, held_out))
        scores.append(scores_of(originals.frame.iloc[held_out], found, VIEWS, "validation").assign(seed=seed))
        for name, images in changed.items():
            robust.append(kept.assign(transform=name, p_frontal=predict(images)[:, 0], seed=seed))
    began = time.perf_counter()
    predict(pixels)
    rate = len(rows) / (time.perf_counter() - began)
    tables = {"scores": pd.concat(scores, ignore_index=True), "robustness": pd.concat(robust, ignore_index=True)}
    tables["speed"] = pd.DataFrame({"images": [len(rows)], "images_per_second": [rate]})
    return tables, finetune.keep_networks(trained, fresh) | {"epochs a rate": network.settings.drop_every}
