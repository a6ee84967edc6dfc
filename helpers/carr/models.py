"""Carr 2020's transfer in three steps, natural images, bridge, target, and an experiment on what each is worth.

Method: "1. Initialised with parameters learned from a source dataset. 2. Fine-tune parameters on a large bridge dataset
of the same image domain as the target dataset. 3. Trained on the target dataset." The poster shows the winner alone.
Here three starts (nothing, natural images, natural images and then a bridge) are compared on the same draws of target
images, from few of them to many: small softmax regressions on frozen features, so that starts are compared in pairs.
The published recipe, all three steps with the target's images and ten augmentations of each, makes the networks of the
figures; validation chooses their epoch, the one before they learnt (a last layer on the bridge's features) included.

Everything is trained several times (`trainings`): a seed is a bridge training, a draw of target images and a random
start, so that the spread between seeds holds all that chance decides.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.carr.data import Expanded, expand
from helpers.data.augment import LightAugmentation, Mirrored
from helpers.model import finetune
from helpers.model.backbones import Backbone, load_backbone, weights_digest, with_depths
from helpers.model.engine import BATCH, choose, compile_backbone
from helpers.model.experiment import Images, Inputs, Results, affordable, pixels_of, scores_of
from helpers.model.head import Head, fit_head
from helpers.run.profile import Profile

STEPS = ("natural images", "bridge", "target")  # "the algorithm training over three steps"
STARTS = (NONE, NATURAL, BOTH) = ("none", "natural", "natural, then bridge")
PUBLISHED_BACKBONE = "InceptionV4"
# The poster gives none of these; phantoms' validation images chose them.
PENALTIES = (0.001, 0.01, 0.1)  # of the squared weights, tried by every head
IMAGES_PER_STEP = 32  # on the bridge and on the target
TARGET_RATE = 0.00003  # of Adam on the target
HEAD_IMAGES = 2000  # bridge images that the last layer is fitted to before the layers below it learn
LEARNT = 0.1  # of the way from guessing the commonest class to no error: below it, a bridge was hardly learnt


@dataclass(frozen=True)
class Plan:
    """A target: its bridge's data set, the published images per class, whether both name patients alike, whether a
    target image may be reflected, and whether images are of speckle.

    Augmentation would smooth speckle away, so that a speckled bridge is only mirrored; its learning rate follows a
    cosine.
    """

    bridge: str
    per_class: int
    same_names: bool
    mirror: bool
    speckled: bool = False


@dataclass(frozen=True)
class Target:
    """The target's images and what is learnt from them.

    `frame` and `pixels`, uint8 (n, size, size): the split frame and its images; `expanded`: the frame with the children
    of every drawn image, its column `published` the split of the published draw (other draws are in none); `draws`:
    (images per class, seed, image ids) of the comparison, a draw per training; `subjects`: the published draw's per
    class.
    """

    frame: pd.DataFrame
    pixels: np.ndarray
    expanded: pd.DataFrame
    draws: list[tuple[int, int, list[str]]]
    subjects: int


def train_retinal_bridge(inputs: Inputs) -> Results:
    """B-scans of rare retinal disease, from Kermany's B-scans: "We limited our dataset to 50 samples per diagnosis"."""
    per_class = inputs.settings.bridge_octid_images
    return train_bridge(inputs, Plan("oct", per_class, same_names=False, mirror=True, speckled=True))[0]


def train_bridge(inputs: Inputs, plan: Plan) -> tuple[Results, list[Backbone]]:
    """The whole experiment on the target `inputs.own`; and the frozen networks of natural images and then the bridge.

    Tables, all with the `seed` of the training: `scores` (every image not trained on, by the published recipe),
    `history` (epochs of every training, named in `training`), `grid` (test images by each start's head, see
    `compare_starts`); and `removed` (rows that left the bridge because the target has them). The networks of the
    published recipe are kept too.
    """
    settings, classes = inputs.settings, tuple(inputs.own.catalogue.classes)
    _warn_of_backbone(settings)
    bridge, removed = without_target(inputs.others[plan.bridge], inputs.own, plan.same_names)
    starts, history = train_starts(bridge, plan, settings, inputs.unfinished)
    target = draw_target(inputs.own, plan, starts[BOTH][0].image_size, settings)
    source = Expanded(target.expanded, target.pixels, target.frame["image_id"], settings.seed, plan.mirror)
    features = features_of_starts(starts, target, source)
    runs = [
        _train_on_target(target, source, body, values, settings.seed + k, inputs)
        for k, (body, values) in enumerate(zip(starts[BOTH], features[BOTH], strict=True))
    ]
    held_out = (target.frame["split"] != "train").to_numpy()
    scores = [
        scores_of(target.frame[held_out], run.predict(target.pixels[held_out]), classes, "validation").assign(seed=seed)
        for seed, run in enumerate(runs, settings.seed)
    ]
    tables = {
        "scores": pd.concat(scores, ignore_index=True),
        "history": pd.concat([history, finetune.history_of(runs, training="target")], ignore_index=True),
        "grid": compare_starts(features, target.expanded, target.draws, classes),
        "removed": removed[["image_id", "patient_id", "label", "split"]],
    }
    summary = finetune.keep_networks(runs, inputs.fresh, settings.bridge_depths) | {
        "steps": list(STEPS),
        "bridge classes": list(bridge.catalogue.classes),
        "bridge images": len(bridge.frame),
        "target subjects per class": target.subjects,
        "target images per class": int((target.expanded["published"] == "train").sum()) // len(classes),
        "held-back images": int((target.frame["split"] == "test").sum()),
    }
    return Results(classes, tables, summary), starts[BOTH]


def _warn_of_backbone(settings: Profile) -> None:
    name = settings.bridge_backbone or settings.backbone
    if name not in (PUBLISHED_BACKBONE, "SmallNet"):
        text = (
            f"the backbone is {name}, not the poster's Inception-v4, of which there are no public Keras weights; with "
            f"a converted file: BRIDGE_BACKBONE={PUBLISHED_BACKBONE} WEIGHTS=path"
        )
        warnings.warn(text, UserWarning, stacklevel=3)


# --- the bridge ------------------------------------------------------------------------------------------------------


def without_target(bridge: Images, target: Images, same_names: bool) -> tuple[Images, pd.DataFrame]:
    """The bridge's train and validation images without any of the target's patients, and the rows taken out.

    "102 subjects were removed from the bridge dataset for target training": the rows of a patient of the target, in
    whatever split, where both name patients alike (`same_names`), and files that are in both byte for byte.
    """
    taken = bridge.frame["digest"].isin(target.catalogue.frame["digest"])
    if same_names:
        taken |= bridge.frame["patient_id"].isin(target.catalogue.frame["patient_id"])
    kept = bridge.frame[~taken & bridge.frame["split"].isin(("train", "validation"))]
    return Images(bridge.catalogue, kept.reset_index(drop=True)), bridge.frame[taken].reset_index(drop=True)


def train_starts(
    bridge: Images, plan: Plan, settings: Profile, unfinished: Path
) -> tuple[dict[str, list[Backbone]], pd.DataFrame]:
    """The frozen networks of each of `STARTS`, one per training, of natural images alone one for all; and the histories
    of the bridge trainings, named in `training`."""
    name, size = settings.bridge_backbone or settings.backbone, settings.bridge_size
    seeds = range(settings.seed, settings.seed + settings.trainings)

    def load(weights: str, seed: int) -> Backbone:
        return with_depths(load_backbone(name, weights, size, seed), settings.bridge_depths)

    natural = load(settings.weights, settings.seed)
    runs = _train_on_bridge(natural, bridge, plan, settings, unfinished)
    for run in runs:
        warn_of_failure(run.history, run.epoch, bridge.frame)
    bridged = [_with_weights(natural, run.weights[:-2], BOTH) for run in runs]  # without the last layer
    starts = {NONE: [load("none", seed) for seed in seeds], NATURAL: [natural], BOTH: bridged}
    return starts, finetune.history_of(runs, training=BOTH)


def _train_on_bridge(
    backbone: Backbone, bridge: Images, plan: Plan, settings: Profile, unfinished: Path
) -> Sequence[finetune.FinetunedNetwork]:
    """`backbone` fine-tuned to the bridge's classes, once per seed."""
    frame, classes = bridge.frame, tuple(bridge.catalogue.classes)
    pixels = pixels_of(bridge.catalogue, frame, backbone.image_size, settings.workers)
    augment = Mirrored if plan.speckled else LightAugmentation
    recipe, codes = bridge_recipe(settings, frame, plan.speckled), frame["label"].map(classes.index).to_numpy()
    return finetune.finetune_ensemble(
        settings.trainings,
        backbone,
        lambda seed: augment(pixels, seed),
        *(pixels, codes, frame["split"], classes),
        settings=recipe,
        folder=unfinished / "bridge",
        head=_first_head(backbone, bridge, pixels, settings.seed),
    ).networks


def bridge_recipe(settings: Profile, frame: pd.DataFrame, speckled: bool) -> finetune.FinetuneSettings:
    """The recipe on the bridge, within what is affordable without a GPU."""
    images = int((frame["split"] == "train").sum())
    epoch_images = min(images, settings.bridge_epoch_images or images)
    limit = (settings.bridge_cpu_images, "bridge_cpu_images")
    epochs, epoch_images = affordable("a network on the bridge", settings.bridge_epochs, epoch_images, *limit)
    return replace(
        _recipe(settings, settings.bridge_learning_rate, epochs, epoch_images),
        schedule="cosine" if speckled else "steps",
        keep="best trained",  # a bridge that taught nothing would be no bridge
    )


def _recipe(settings: Profile, rate: float, epochs: int, epoch_images: int) -> finetune.FinetuneSettings:
    """What the trainings on the bridge and on the target share."""
    return finetune.FinetuneSettings(
        trainable=settings.bridge_layers or "all",
        epochs=epochs,
        batch=IMAGES_PER_STEP,
        learning_rate=rate,
        drop_every=max(1, round(epochs / 2)),
        optimizer="adam",
        clip_norm=1.0,  # the first steps of a network that is turned to other images can be wild
        standardise=settings.head_standardise,
        images_per_epoch=epoch_images,
        seed=settings.seed,
    )


def _first_head(backbone: Backbone, bridge: Images, pixels: np.ndarray, seed: int) -> Head:
    """A softmax layer on the features of up to `HEAD_IMAGES` images, which the network starts from on the bridge."""
    split = bridge.frame["split"].to_numpy()
    drawn = [
        np.random.default_rng((seed, 7)).permutation(np.flatnonzero(split == name))[:HEAD_IMAGES]
        for name in ("train", "validation")
    ]
    rows = np.concatenate(drawn)
    frame, features = bridge.frame.iloc[rows], finetune.features_of(backbone, pixels, rows)
    return fit_head(features, frame["label"], frame["split"], bridge.catalogue.classes, PENALTIES).best


def warn_of_failure(history: pd.DataFrame, epoch: int, frame: pd.DataFrame) -> None:
    """Warn of a bridge that was hardly learnt: what is transferred from it then says nothing of bridges."""
    row = history[(history["split"] == "validation") & (history["epoch"] == epoch)]
    reached = float(row["accuracy"].iloc[0])
    labels = frame.loc[frame["split"] == "validation", "label"]
    guess = float(labels.value_counts(normalize=True).max())
    if reached < guess + (1 - guess) * LEARNT:
        text = (
            f"the bridge was hardly learnt: the accuracy on its validation images is {100 * reached:.0f} %, and the "
            f"commonest class is {100 * guess:.0f} % of them"
        )
        warnings.warn(text, UserWarning, stacklevel=3)


def _with_weights(backbone: Backbone, values: list[np.ndarray], weights: str) -> Backbone:
    """The same layers, frozen, with other weights, which are named `weights`."""
    import keras

    model = keras.models.clone_model(backbone.model)
    model.set_weights(values)
    model.trainable = False
    return replace(backbone, model=model, weights=weights, weights_digest=weights_digest(model))


# --- the target ------------------------------------------------------------------------------------------------------


def draw_target(own: Images, plan: Plan, size: int, settings: Profile) -> Target:
    """Draw target images for the comparison and for the published recipe, and expand every drawn one."""
    frame, sizes = own.frame.reset_index(drop=True), drawable(own.frame, settings.bridge_per_class)
    seeds = range(settings.seed, settings.seed + settings.trainings)
    draws = [(n, seed, subjects(frame, n, seed)) for n in sizes for seed in seeds]
    per_class = drawable(frame, (plan.per_class,))[-1]
    published = subjects(frame, per_class, settings.seed)
    drawn = {name for _, _, names in draws for name in names}.union(published)
    used = frame[(frame["split"] != "train") | frame["image_id"].isin(drawn)].reset_index(drop=True)
    expanded = expand(used)
    kept = (expanded["split"] != "train") | expanded["parent"].isin(published)
    expanded = expanded.assign(published=expanded["split"].where(kept, ""))
    return Target(used, pixels_of(own.catalogue, used, size, settings.workers), expanded, draws, per_class)


def drawable(frame: pd.DataFrame, wanted: Sequence[int]) -> list[int]:
    """The numbers of training subjects per class that the data can give; for those it cannot, all there are, and a
    warning."""
    most = int(frame[frame["split"] == "train"].groupby("label")["patient_id"].nunique().min())
    if too_many := [str(number) for number in wanted if number > most]:
        text = f"the target has {most} training subjects per class instead of {', '.join(too_many)}: there are no more"
        warnings.warn(text, UserWarning, stacklevel=3)
    return sorted({min(number, most) for number in wanted})


def subjects(frame: pd.DataFrame, per_class: int, seed: int) -> list[str]:
    """Image ids of `per_class` training subjects of each class, one image of each, drawn by a hash of their names.

    "102 subjects [...] expanding this to 1122 images per class": eleven for a subject, so one image of each. For one
    seed a smaller draw lies inside a larger one.
    """

    def place(name: str) -> bytes:
        return hashlib.blake2b(f"{seed}/bridge/{name}".encode(), digest_size=16).digest()

    rows = frame[frame["split"] == "train"]
    rows = rows.assign(subject=rows["patient_id"].map(place), image=rows["image_id"].map(place))
    first = rows.sort_values(["label", "subject", "image"]).drop_duplicates(["label", "patient_id"])
    return first.groupby("label").head(per_class)["image_id"].tolist()


def features_of_starts(
    starts: Mapping[str, Sequence[Backbone]], target: Target, source: Expanded
) -> dict[str, list[np.ndarray]]:
    """Each frozen network's features of the images of `source` that its training learns from or is judged on (that of
    the bridge also from the published draw), of others zeros. Images are augmented once for all networks."""
    rows, drawn, jobs = target.expanded, {}, []
    for _, seed, names in target.draws:
        drawn.setdefault(seed, set()).update(names)
    for start, bodies in starts.items():
        shown = rows["split"].isin(("validation", "test")) | ((start == BOTH) & (rows["published"] == "train"))
        needed = [(shown | rows["parent"].isin(names)).to_numpy() for names in drawn.values()]
        for body, wanted in zip(bodies, needed if len(bodies) > 1 else [np.any(needed, axis=0)], strict=True):
            run = compile_backbone(body, choose("auto", "float32"))
            jobs.append((run, wanted, np.zeros((len(rows), body.features), np.float32)))
    for first in range(0, len(rows), BATCH):
        batch = np.arange(first, min(first + BATCH, len(rows)))
        images = source.batch(0, batch)
        for run, wanted, found in jobs:
            if (some := wanted[batch]).any():
                found[batch[some]] = run(images[some])
    parts = iter(found for _, _, found in jobs)
    return {start: [next(parts) for _ in bodies] for start, bodies in starts.items()}


def _train_on_target(
    target: Target, source: Expanded, body: Backbone, features: np.ndarray, seed: int, inputs: Inputs
) -> finetune.FinetunedNetwork:
    """The third step: "Trained on the target dataset", all its images and their augmentations, from the bridge on.

    A last layer on the bridge's features comes first, then the layers below it learn as well.
    """
    settings, classes = inputs.settings, tuple(inputs.own.catalogue.classes)
    labels, split = target.expanded["label"], target.expanded["published"]
    head = fit_head(features, labels, split, classes, PENALTIES).best
    images, limit = int((split == "train").sum()), (settings.bridge_cpu_images // 2, "bridge_cpu_images")
    images = min(images, settings.bridge_epoch_images or images)
    epochs, images = affordable("the target network", settings.bridge_target_epochs, images, *limit)
    recipe = replace(_recipe(settings, TARGET_RATE, epochs, images), seed=seed)
    codes = labels.map(classes.index).to_numpy()
    return finetune.finetune(
        body, source, source, codes, split, classes, recipe, inputs.unfinished / f"target-{seed}", head
    )


def compare_starts(
    features: Mapping[str, Sequence[np.ndarray]],
    expanded: pd.DataFrame,
    draws: Sequence[tuple[int, int, list[str]]],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Probabilities of the test images by every start's head, after each draw: `scores_of` with the columns start,
    per_class, seed and penalty. `features[start]` has a row per row of `expanded`, for each training or for all."""
    scores, first = [], min(seed for _, seed, _ in draws)
    test = expanded[expanded["split"] == "test"]
    for (start, trained), (per_class, seed, names) in product(features.items(), draws):
        values = trained[(seed - first) % len(trained)]
        learnt = expanded[(expanded["split"] == "validation") | expanded["parent"].isin(names)]
        head = fit_head(values[learnt.index], learnt["label"], learnt["split"], classes, PENALTIES).best
        shown = scores_of(test, head.predict(values[test.index]), classes, "validation")
        scores.append(shown.assign(start=start, per_class=per_class, seed=seed, penalty=head.l2))
    return pd.concat(scores, ignore_index=True)
