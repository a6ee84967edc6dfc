"""What Kermany 2018 trained: heads on frozen features; and beyond the paper, a learning curve and fine-tuned networks.

STAR Methods, Transfer Learning Methods: the frozen layers' bottlenecks are "calculated and stored", and the new final
layer "takes the image bottlenecks as input and retrains to classify our specific categories".
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from helpers.data.augment import LightAugmentation, Mirrored, generator
from helpers.data.splits import SPLITS, binary, limited
from helpers.model import finetune
from helpers.model.backbones import load_backbone, with_depths
from helpers.model.engine import Function
from helpers.model.experiment import Experiment, Images, Inputs, Results, affordable, pixels_of, scores_of
from helpers.model.features import extract
from helpers.model.head import Head, HeadSettings, fit_head, train_head
from helpers.run.profile import Profile

CLASSES = {  # the classes of each head, in the order of its scores
    "multiclass": ("CNV", "DME", "DRUSEN", "NORMAL"),
    "limited": ("CNV", "DME", "DRUSEN", "NORMAL"),
    **{f"{disease.lower()}_normal": (disease, "NORMAL") for disease in ("CNV", "DME", "DRUSEN")},
    "pneumonia": ("PNEUMONIA", "NORMAL"),  # figures 6A, B and E
    "bacteria_virus": ("BACTERIA", "VIRUS"),  # figures 6C, D and F
}
SELECTIONS = {"validation": "head.npz", "test": "head_by_test.npz"}  # what chose the step, and its head's file
# Of fine-tuned networks; the first steps of one that turns to other images can be wild, hence the limit of the norm.
RECIPE = {"schedule": "cosine", "keep": "last", "optimizer": "adamw", "weight_decay": 0.05, "clip_norm": 1.0}
LOCAL_SIZE, LOCAL_DEPTHS, LOCAL_IMAGES = 96, 3, 1000  # of the network that sees locally: pixels, images of an epoch
BOXES = 4  # blank ones in each of its training images
LOCAL_MOST = 7200  # images of each part that it looks at: of the published ones a part, of the phantoms all
LOCAL = {"epochs": 8, "batch": 16, "learning_rate": 0.001, "label_smoothing": 0.05, "standardise": True}
PENALTIES = (0.001, 0.01, 0.1)  # of heads fitted to the end: the learning curve's, and a referral network's first


# --- heads --------------------------------------------------------------------------------------------------------


def train_named_head(inputs: Inputs) -> Results:
    """Train the head that `inputs.name` names, one of `CLASSES`; both choices of its step are kept and scored.

    Scores hold validation, test and, of radiographs, "held-out" images; `history` is that of the chosen penalty. Of
    radiographs that do not distinguish bacterial and viral pneumonia nothing is learnt to tell them apart.
    """
    name, frame = inputs.name, inputs.own.frame
    if name == "bacteria_virus" and not {*CLASSES[name]} <= {*inputs.own.catalogue.classes}:
        return Results((), {}, {"not available": "these images do not distinguish bacterial and viral pneumonia"})
    features, used = inputs.features(), rows_of(name, frame, inputs.settings)
    rows = used.set_index("image_id").reindex(frame["image_id"])  # all: a copy of the features may fill the memory
    trained = train_head(features, rows["label"], rows["split"], CLASSES[name], head_settings(inputs.settings))
    heads = {"validation": trained.by_validation, "test": trained.by_test}
    shown, scores = used[used["split"] != "train"], []
    held_out = features[frame["image_id"].isin(shown["image_id"]).to_numpy()]
    for selection, head in heads.items():
        head.save(inputs.fresh / SELECTIONS[selection])
        scores.append(scores_of(shown, head.predict(held_out), head.classes, selection))
    chosen = trained.by_validation
    history = trained.history[trained.history["l2"] == chosen.l2].reset_index(drop=True)
    tables = {"scores": pd.concat(scores, ignore_index=True), "history": history}
    return Results(CLASSES[name], tables, {"chosen step": chosen.step})


def load_head(experiment: Experiment, selection: str = "validation") -> Head:
    """The head of an experiment of `train_named_head` whose step validation chose, or the test set, as in the paper."""
    return Head.load(experiment.folder / SELECTIONS[selection])


def head_settings(profile: Profile) -> HeadSettings:
    """The head's recipe, as the profile has it."""
    keys = ("steps", "batch", "learning_rate", "evaluate_every", "l2", "standardise")
    return HeadSettings(**{key: getattr(profile, f"head_{key}") for key in keys}, seed=profile.seed)


def rows_of(name: str, frame: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """The rows of the split frame that a head uses."""
    if name == "pneumonia":
        return frame.assign(label=frame["label"].replace({"BACTERIA": "PNEUMONIA", "VIRUS": "PNEUMONIA"}))
    if name == "limited":
        return limited(frame, _available(frame, profile.limited_per_class), profile.seed)
    return binary(frame, *CLASSES[name]) if len(CLASSES[name]) == 2 else frame


def _available(frame: pd.DataFrame, per_class: int) -> int:
    """`per_class`, or what the smallest class has, with a warning: a small subset of the data has fewer."""
    smallest = _smallest_class(frame)
    if smallest < per_class:
        text = f"there are only {smallest:,} training images per class instead of {per_class:,} for the limited model"
        warnings.warn(text, UserWarning, stacklevel=3)
    return min(per_class, smallest)


def _smallest_class(frame: pd.DataFrame) -> int:
    return int(frame.loc[frame["split"] == "train", "label"].value_counts().min())


# --- the learning curve -------------------------------------------------------------------------------------------


def train_learning_curve(inputs: Inputs) -> Results:
    """A four-class head on more and more training images, on the profile's weights and on a random initialisation:
    softmax regression fitted to its end, since on a few hundred images that takes a tenth of the paper's recipe.

    Table `curve`: initialisation, per_class, seed, and the scores of the test images; `numbers.curve_points` judges
    them. Of the random network only the features of images that are drawn are computed.
    """
    profile, frame = inputs.settings, inputs.own.frame
    draws = draw_curve(frame, profile)
    needed = pd.concat([rows for _, _, rows in draws]).drop_duplicates("image_id")
    random = load_backbone(profile.backbone, "none", profile.image_size, profile.seed)
    features = {
        "pre-trained": (inputs.features(), pd.Index(frame["image_id"])),
        "random initialisation": _features_of(Images(inputs.own.catalogue, needed), random, profile),
    }
    scores = [
        _curve_scores(rows, *known).assign(initialisation=name, per_class=size, seed=seed)
        for name, known in features.items()
        for size, seed, rows in draws
    ]
    return Results(CLASSES["multiclass"], {"curve": pd.concat(scores, ignore_index=True)})


def draw_curve(frame: pd.DataFrame, profile: Profile) -> list[tuple[int, int, pd.DataFrame]]:
    """(images per class, seed, rows) of every point: nested draws for one seed, other images for another.

    Sizes that the smallest class cannot give are left out, with a warning.
    """
    smallest = _smallest_class(frame)
    sizes = [size for size in profile.curve_per_class if size <= smallest]
    if left := [f"{size:,}" for size in profile.curve_per_class if size > smallest]:
        text = f"the learning curve leaves out {', '.join(left)} images per class: the smallest class has {smallest:,}"
        warnings.warn(text, UserWarning, stacklevel=2)
    seeds = [profile.seed * 1000 + number for number in range(profile.curve_seeds)]
    return [(size, seed, limited(frame, size, seed)) for size in sizes for seed in seeds]


def _features_of(images: Images, backbone, profile: Profile) -> tuple[np.ndarray, pd.Index]:
    """A backbone's features of these images, and their image ids."""
    rows = images.catalogue.frame[images.catalogue.frame["image_id"].isin(images.frame["image_id"])]
    made = extract(profile, images.catalogue.subset(rows), backbone)
    return made.features, pd.Index(made.image_ids)


def _curve_scores(frame: pd.DataFrame, features: np.ndarray, names: pd.Index) -> pd.DataFrame:
    classes, test = CLASSES["multiclass"], (frame["split"] == "test").to_numpy()
    values = features[names.get_indexer(frame["image_id"])]
    head = fit_head(values, frame["label"], frame["split"], classes, PENALTIES).best
    return scores_of(frame[test], head.predict(values[test]), classes, "validation")


# --- the fine-tuned networks ---------------------------------------------------------------------------------------


def finetune_referral_networks(inputs: Inputs) -> Results:
    """Networks that distinguish NORMAL, BACTERIA and VIRUS, or NORMAL and PNEUMONIA where no more is known,
    fine-tuned from images, several times: a training is `finetune_networks` of them, whose probabilities are averaged,
    and no two trainings share one. Scores have the `seed` of a training's first network.

    Beyond the paper, which trained the last layer alone: pneumonia against normal, bacterial against viral, and the
    three decisions of the paper ("urgent referral", "supportive care", "observation only") come from the same
    probabilities. A softmax layer on the frozen features comes first, then the layers below it learn as well.
    """
    profile, frame = inputs.settings, inputs.own.frame.reset_index(drop=True)
    classes, each = inputs.own.catalogue.classes, inputs.settings.finetune_networks
    backbone = load_backbone(profile.backbone, profile.weights, profile.finetune_size, profile.seed)
    backbone = with_depths(backbone, profile.finetune_depths)
    pixels = pixels_of(inputs.own.catalogue, frame, backbone.image_size, profile.workers)
    learnt = np.flatnonzero(frame["split"].isin(SPLITS))
    labels, split = frame["label"].iloc[learnt], frame["split"].iloc[learnt]
    head = fit_head(finetune.features_of(backbone, pixels, learnt), labels, split, classes, PENALTIES).best
    codes = frame["label"].map(classes.index).to_numpy()
    settings = _network_settings(profile, int((split == "train").sum()))
    networks = finetune.finetune_ensemble(
        *(profile.trainings * each, backbone),
        *(lambda seed: LightAugmentation(pixels, seed, mirror=True, strength="strong"), pixels),
        *(codes, frame["split"], classes),
        **{"settings": settings, "folder": inputs.unfinished, "head": head},
    ).networks
    trainings = (networks[first : first + each] for first in range(0, len(networks), each))
    predictors = {training[0].settings.seed: finetune.Ensemble(training).predict for training in trainings}
    summary = finetune.keep_networks(networks, inputs.fresh, profile.finetune_depths)
    return Results(classes, _tables(networks, predictors, frame, pixels), summary)


def _tables(networks: Sequence, predictors: Mapping[int, Function], rows: pd.DataFrame, pixels: np.ndarray) -> dict:
    """The scores of what each training, by its seed, did not learn from, and the history of every network."""
    held_out, classes = (rows["split"] != "train").to_numpy(), networks[0].classes
    scores = [
        scores_of(rows[held_out], predict(pixels[held_out]), classes, "validation").assign(seed=seed)
        for seed, predict in predictors.items()
    ]
    return {"scores": pd.concat(scores, ignore_index=True), "history": finetune.history_of(networks)}


def _network_settings(profile: Profile, images: int) -> finetune.FinetuneSettings:
    """The recipe that did best on validation and held-out patients of the published training folder (MobileNetV2).

    The cosine's last epoch is kept: with few patients, validation says little about which epoch is best.
    """
    limit = (-(-profile.finetune_cpu_images // profile.finetune_networks), "finetune_cpu_images")
    epochs, images = affordable("each pneumonia network", profile.finetune_epochs, images, *limit)
    return finetune.FinetuneSettings(
        trainable=profile.finetune_layers or "all",
        epochs=epochs,
        batch=profile.finetune_batch,
        learning_rate=profile.finetune_learning_rate,
        **RECIPE,
        label_smoothing=0.1,
        dropout=0.3,
        standardise=profile.head_standardise,
        images_per_epoch=images,
        seed=profile.seed,
    )


class BlankBoxes(Mirrored):
    """Images, some reflected, with the occlusion test's black boxes: to a network that never saw one, a box is a sign.

    That of the white frame most of all, where there is nothing else to hide.
    """

    def batch(self, epoch: int, rows) -> np.ndarray:
        """These rows in this epoch, blank in `BOXES` places: uint8 (b, h, w)."""
        made = super().batch(epoch, rows)
        size = made.shape[1]
        side = max(1, round(20 * size / 299))  # the paper's box, in proportion
        for image, row in zip(made, rows, strict=True):
            for top, left in generator(self._seed, epoch, int(row), "boxes").integers(0, size - side + 1, (BOXES, 2)):
                image[top : top + side, left : left + side] = 0
        return made


def finetune_local_network(inputs: Inputs) -> Results:
    """SmallNet fine-tuned as a whole on the B-scans, several times; its last layer sees averages of local features.

    Beyond the paper, for the occlusion test: a head on frozen features judges by what was never meant for retinas, and
    a box that hides a lesion moves it little. Small enough for a processor, whatever network the profile names.
    """
    profile, classes = inputs.settings, inputs.own.catalogue.classes
    per_class = min(_smallest_class(inputs.own.frame), LOCAL_MOST // len(classes))
    even = limited(inputs.own.frame, per_class, profile.seed)  # else it hardly sees the rare classes in its few epochs
    mixed = even[even["split"].isin(SPLITS)].sample(frac=1, random_state=profile.seed)
    rows = mixed.groupby("split").head(LOCAL_MOST).sort_values("image_id").reset_index(drop=True)
    backbone = with_depths(load_backbone("SmallNet", "formula", LOCAL_SIZE, profile.seed), LOCAL_DEPTHS, True)
    pixels = pixels_of(inputs.own.catalogue, rows, LOCAL_SIZE)
    images = min(LOCAL_IMAGES, int((rows["split"] == "train").sum()))
    settings = finetune.FinetuneSettings(**LOCAL, **RECIPE, images_per_epoch=images, seed=profile.seed)
    codes = rows["label"].map(classes.index).to_numpy()
    networks = finetune.finetune_ensemble(
        *(profile.trainings, backbone, lambda seed: BlankBoxes(pixels, seed), pixels, codes, rows["split"], classes),
        **{"settings": settings, "folder": inputs.unfinished},
    ).networks
    tables = _tables(networks, {one.settings.seed: one.predict for one in networks}, rows, pixels)
    return Results(classes, tables, finetune.keep_networks(networks, inputs.fresh, LOCAL_DEPTHS, averages_only=True))
