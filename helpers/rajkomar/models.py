"""Rajkomar 2017's nine models: three pre-trainings by three ways of fine-tuning, and the one that validation chooses.

Model Creation and Selection: "We retrained each of the three pre-trained models - the color ImageNet model,
full-greyscale ImageNet, and subset-greyscale ImageNet model - using three different methods, resulting in nine
candidate models [...] fine-tuning only the fully connected layers of the model using only original radiograph images
(no augmentation); fine-tuning only the fully connected layers using the augmented image sets; and fine-tuning all
layers of the network using the augmented image sets." "From the nine fine-tuned models, we chose a final model based
primarily on validation accuracy and secondarily on the number of images used for pre-training."

Where only the last layer learns, the layers below it give every image the same features in every epoch: those are
computed once, which changes nothing but the time. Features and checkpoints are kept as they come: a killed run goes on.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from helpers.data.catalogue import Catalogue
from helpers.model.experiments import scores_of
from helpers.model.finetune import FinetuneRun, FinetuneSettings, finetune
from helpers.model.finetuned import over_rows
from helpers.model.last_layer import features_of, train_last_layer
from helpers.model.networks import Given, Made, affordable, pixels_of
from helpers.rajkomar.augmentation import Augmented, children_frame
from helpers.rajkomar.data import TRANSFORMS, transformed
from helpers.run.profile import Profile, ProfileError
from helpers.run.provenance import digest_of, read_json

if TYPE_CHECKING:
    from helpers.model.backbones import Backbone

VIEWS = ("frontal", "lateral")
# Pre-trainings by the images they saw, most first, and the profile key that holds their weights. Ties go to the first.
PRETRAININGS = {"colour": "view_colour", "full greyscale": "view_grey", "subset greyscale": "view_subset"}
METHODS = ("last layer, original", "last layer, augmented", "all layers, augmented")
IMAGENET_IMAGES = 1_281_167  # training images of ILSVRC 2012 (Russakovsky et al. 2015), which Keras's weights saw
LOOKED_AT = 1000  # validation children that choose a network's epoch; all of them judge the network in the end


@dataclass(frozen=True)
class Radiographs:
    """Images to learn from: `frame` (image_id, parent, label, split), `batch` to get them, `key` of what made them."""

    frame: pd.DataFrame
    batch: Callable[[int, np.ndarray], np.ndarray]
    key: str

    @property
    def codes(self) -> np.ndarray:
        return self.frame["label"].map(VIEWS.index).to_numpy()

    def rows(self, split: str) -> np.ndarray:
        return np.flatnonzero((self.frame["split"] == split).to_numpy())

    def looked_at(self, seed: int) -> Radiographs:
        """The same with at most `LOOKED_AT` of the validation images, drawn from the seed."""
        rows = self.rows("validation")
        drawn = np.random.default_rng(seed).permutation(rows)[:LOOKED_AT]
        kept = np.sort(np.concatenate([self.rows("train"), drawn]))
        frame = self.frame.iloc[kept].reset_index(drop=True)
        return Radiographs(frame, lambda epoch, rows: self.batch(epoch, kept[rows]), f"{self.key} {LOOKED_AT} {seed}")


def view_models(made_from: Given) -> Made:
    """Train the nine (fewer where a pre-training's weights are not given) and score the chosen one.

    Tables: `scores` (validation and test images, by the chosen model), `validation` (every model on the validation
    images, `on` originals and children: pretraining, method, image_id, parent, label, p_frontal), `robustness` (test
    images under each transform of figure 6: image_id, label, transform, p_frontal), `history` (of every model).
    """
    profile, unfinished = made_from.profile, made_from.unfinished
    weights = {name: getattr(profile, key) for name, key in PRETRAININGS.items()}
    given = {name: word for name, word in weights.items() if word}
    if not given:
        raise ProfileError("no pre-training is given: set VIEW_COLOUR, VIEW_GREY or VIEW_SUBSET")
    if left := [name for name in weights if name not in given]:
        keys = ", ".join(PRETRAININGS[name].upper() for name in left)
        warnings.warn(
            f"not run, for want of weights ({keys}): {', '.join(left)} pre-training", UserWarning, stacklevel=2
        )
    originals, children = _sources(made_from.own.catalogue, made_from.own.frame, next(iter(given.values())), profile)
    models: dict[tuple[str, str], FinetuneRun] = {}
    for name, word in given.items():
        three = _three(_load(word, profile), originals, children, profile, unfinished / name.replace(" ", "_"))
        models |= {(name, method): run for method, run in three.items()}
    sources = {"originals": originals, "children": children}
    table = pd.concat([_validated(run, sources, model) for model, run in models.items()], ignore_index=True)
    chosen = choose(table)
    tables, summary = _final(models[chosen], originals, made_from.fresh)
    history = [run.history.assign(pretraining=name, method=method) for (name, method), run in models.items()]
    seen = {name: count for name, word in given.items() if (count := pretraining_images(word))}
    told = {
        "pre-training images": seen,
        "pre-training": chosen[0],
        "fine-tuning": chosen[1],
        "models": len(models),
        "weights": given,
    }
    summary = told | summary
    return Made(VIEWS, tables | {"validation": table, "history": pd.concat(history, ignore_index=True)}, summary)


def choose(validation: pd.DataFrame) -> tuple[str, str]:
    """The pre-training and way of fine-tuning with the highest validation accuracy; of equals the most pre-trained one.

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
    from helpers.model.backbones import FORMULA_WEIGHTS, formula_record

    if weights in FORMULA_WEIGHTS:
        return int(formula_record(weights)["training_images"])
    beside = Path(weights).with_suffix(".json")  # written by `tools.pretrain`
    if beside.is_file():
        return int(read_json(beside).get("images", 0))
    return IMAGENET_IMAGES if weights == "imagenet" else 0


def _load(weights: str, profile: Profile) -> Backbone:
    from helpers.model.backbones import load_backbone

    return load_backbone(profile.view_backbone or profile.backbone, weights, profile.view_size, profile.seed)


def _sources(
    catalogue: Catalogue, frame: pd.DataFrame, weights: str, profile: Profile
) -> tuple[Radiographs, Radiographs]:
    """The split frame's images as they are, and the children of its training and validation images."""
    size = _load(weights, profile).image_size
    frame = frame.reset_index(drop=True)
    pixels = pixels_of(catalogue, frame, size, profile.workers)
    key = digest_of([catalogue.fingerprint(), size, profile.view_children, profile.seed])
    rows = children_frame(frame, per_image=profile.view_children, seed=profile.seed)
    children = Augmented(rows, pixels, frame["image_id"], profile.seed)
    return (
        Radiographs(frame.assign(parent=frame["image_id"]), lambda epoch, rows: pixels[rows], f"{key} originals"),
        Radiographs(children.frame, lambda epoch, rows: children.batch(rows), f"{key} children"),
    )


def _three(
    backbone: Backbone, originals: Radiographs, children: Radiographs, profile: Profile, unfinished: Path
) -> dict[str, FinetuneRun]:
    """One pre-trained network, fine-tuned in the three ways."""
    made = {}
    for method, source in ((METHODS[0], originals), (METHODS[1], children)):
        rows = np.flatnonzero(source.frame["split"].isin(["train", "validation"]).to_numpy())
        features = features_of(backbone, source, rows, unfinished)
        settings = _settings(profile, "head", len(source.rows("train")))
        told = (source.codes[rows], source.frame["split"].to_numpy()[rows])
        made[method] = train_last_layer(backbone, features, *told, VIEWS, settings)
    learnt = children.looked_at(profile.seed)
    settings = _settings(profile, "all", len(learnt.rows("train")))
    told = (learnt.codes, learnt.frame["split"])
    made[METHODS[2]] = finetune(backbone, learnt, learnt, *told, VIEWS, settings, checkpoints=unfinished)
    return made


def _settings(profile: Profile, trainable: str, images: int) -> FinetuneSettings:
    """The paper's recipe, as the profile has it. The limits on an epoch are for networks whose layers all learn."""
    epochs, epoch_images = profile.view_epochs, images
    if trainable == "all":
        epoch_images = min(images, profile.view_epoch_images or images)
        limit = (profile.view_cpu_images, "view_cpu_images")
        epochs, epoch_images = affordable("a view classifier", epochs, epoch_images, *limit)
    return FinetuneSettings(
        trainable=trainable,
        epochs=epochs,
        batch=profile.view_batch,
        learning_rate=profile.view_rate_all if trainable == "all" else profile.view_rate_head,
        drop_every=max(1, round(epochs / 3)),  # of 30 epochs: "reduced tenfold every ten epochs"
        momentum=profile.view_momentum,
        weight_decay=profile.view_weight_decay,
        clip_norm=profile.view_clip_norm,
        standardise=profile.head_standardise,
        images_per_epoch=epoch_images,
        seed=profile.seed,
    )


def _validated(run: FinetuneRun, sources: Mapping[str, Radiographs], model: tuple[str, str]) -> pd.DataFrame:
    """What a model says of the validation images of each source."""
    predict, parts = run.predictor(), []
    for on, source in sources.items():
        rows = source.rows("validation")
        given = over_rows(predict, source.batch, rows, run.backbone.image_size, len(VIEWS))[:, 0]
        kept = source.frame.iloc[rows][["image_id", "parent", "label"]].reset_index(drop=True)
        parts.append(kept.assign(p_frontal=given, pretraining=model[0], method=model[1], on=on))
    return pd.concat(parts, ignore_index=True)


def _final(run: FinetuneRun, originals: Radiographs, fresh: Path) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The chosen model on validation and test images, on the transformed test images, and how fast it is.

    "We evaluated model speed based on time required to classify the 1377 test images."
    """
    run.save(fresh / "network")
    predict = run.predictor()
    scores = []
    for split in ("validation", "test"):
        rows = originals.rows(split)
        began = time.perf_counter()
        given = predict(originals.batch(0, rows))
        rate = len(rows) / (time.perf_counter() - began)
        scores.append(scores_of(originals.frame.iloc[rows], given, VIEWS, "validation"))
    rows = originals.rows("test")
    kept, pixels = originals.frame.iloc[rows][["image_id", "label"]].reset_index(drop=True), originals.batch(0, rows)
    robust = [kept.assign(transform=name, p_frontal=predict(transformed(pixels, name))[:, 0]) for name in TRANSFORMS]
    tables = {"scores": pd.concat(scores, ignore_index=True), "robustness": pd.concat(robust, ignore_index=True)}
    tables["speed"] = pd.DataFrame({"images": [len(rows)], "images_per_second": [rate]})
    told = {"chosen epoch": run.best_epoch, "epochs a rate": run.settings["drop_every"]}
    return tables, told | {"image size": run.backbone.image_size, "backbone": run.backbone.name}
