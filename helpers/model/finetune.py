"""Fine-tuning: a pre-trained network learns on, as a whole or in its last layers, from images made as they are needed.

Rajkomar 2017, Model Creation and Selection: "The three methods were fine-tuning only the fully connected layers of the
model using only original radiograph images (no augmentation); fine-tuning only the fully connected layers using the
augmented image sets; and fine-tuning all layers of the network using the augmented image sets."

A last layer trained on bottlenecks (`helpers.model.head`) is the best place to start from: a random one would first
spoil what the layers below it know (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from filelock import FileLock
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked

from helpers.model.backbones import Backbone, load_backbone, with_depths
from helpers.model.engine import BATCH, Function, choose, compile_backbone, require_variation
from helpers.model.experiment import Experiment
from helpers.run.provenance import digest_of, read_json, write_json

if TYPE_CHECKING:
    import keras

Share = Annotated[float, Field(ge=0, lt=1)]
DROP = 0.1  # of the learning rate: "reduced tenfold" (Rajkomar 2017); Zech 2018's repository divides by ten as well
SCALED = 512  # training images that the features' means and deviations are taken over
RECORD = "finetuned.json"

# Where images come from: uint8 (n, size, size), the same in every epoch; or a function, or an object with a method
# `batch`, from (epoch, row numbers) to uint8 (b, size, size), always the same for the same epoch and row. Epochs count
# from 1; held-out images are asked for with epoch 0.
ImageSource = np.ndarray | Callable[[int, np.ndarray], np.ndarray] | Any


@checked(frozen=True)
class FinetuneSettings:
    """How a network is fine-tuned. The defaults are Rajkomar 2017's, whom the quotations are from."""

    MOMENTUM: ClassVar[float] = 0.9  # "momentum of 0.9"; Zech 2018's repository has the same
    trainable: Literal["all", "head"] | PositiveInt = "all"  # "We allowed all layers to be fine-tuned"; or the last n
    loss: Literal["softmax", "sigmoid"] = "softmax"  # one class per image, or several labels
    epochs: PositiveInt = 30  # "for 30 epochs"
    batch: PositiveInt = 24  # "a minibatch size of 24"
    learning_rate: PositiveFloat = 0.0005  # "0.0005 to fine-tune all layers"
    # "steps": divided by ten every `drop_every` epochs ("reduced tenfold every ten epochs"; 0: never); "plateau": after
    # each epoch whose validation loss is above the lowest yet; "cosine": one epoch of rise, then a cosine to nothing
    schedule: Literal["steps", "plateau", "cosine"] = "steps"
    drop_every: NonNegativeInt = 10
    # "Stochastic gradient descent was used"; the decay of adamw is the optimiser's own (Loshchilov and Hutter 2019)
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    nesterov: bool = False  # "a Nesterov solver" made the pre-trainings, plain momentum the fine-tuning
    weight_decay: NonNegativeFloat = 0.0005  # "weight decay of 0.0005": half of it times each kernel's squares
    dropout: Share = 0.0  # of the features before the last layer
    label_smoothing: Share = 0.0
    clip_norm: NonNegativeFloat = 0.0  # longest gradient over all that learns; 0: no limit
    standardise: bool = False  # features centred and divided by their deviation while the network learns
    # False: batch normalisation keeps the means and variances of the pre-training, though its scale and shift may
    # learn. A few radiographs are a poor sample of what a layer sees, and statistics that differ between training and
    # use are the commonest reason why a fine-tuned network fails on new images.
    train_batch_norm: bool = False
    images_per_epoch: NonNegativeInt = 0  # 0: every training image
    # "best": the epoch of lowest validation cross-entropy, 0 (nothing learnt yet) included; "best trained": 0 excluded;
    # "last": the one that a cosine ends in, whatever validation says, which with few patients says little
    keep: Literal["best", "best trained", "last"] = "best"
    patience: NonNegativeInt = 0  # epochs without a lower validation cross-entropy until training stops; 0: never
    seed: NonNegativeInt = 1

    def rate(self, epoch: int, losses: list[float]) -> float:
        """The learning rate of an epoch, from 1, after the validation losses of those before it (from epoch 0)."""
        drops = (epoch - 1) // self.drop_every if self.drop_every else 0
        if self.schedule == "plateau":
            drops = sum(loss >= min(losses[:i]) for i, loss in enumerate(losses) if i)
        return self.learning_rate * DROP**drops

    @property
    def penalty(self) -> float:
        """Times each kernel's squares, added to the loss: half of the decay, as in Caffe. Adam would scale a penalty's
        gradient up like any other, so with it there is none."""
        return self.weight_decay / 2 if self.optimizer == "sgd" else 0.0


@dataclass(frozen=True)
class Scaling:
    """Features centred and divided by their deviation before the last layer: `mean` and `deviation`, (d,).

    Gradient descent at one rate for all layers needs features of one size. Those of a backbone that ends in batch
    normalisation have it; SmallNet's, which are averages, maxima and mean squares, differ a hundredfold.
    """

    mean: np.ndarray = field(repr=False)
    deviation: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, features: np.ndarray) -> Scaling:
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(features)
        return cls(scaler.mean_.astype(np.float32), scaler.scale_.astype(np.float32))

    def unfold(self, kernel: np.ndarray, bias: np.ndarray) -> list[np.ndarray]:
        """A layer on plain features as the same one on scaled features."""
        return [kernel * self.deviation[:, None], bias + self.mean @ kernel]

    def fold(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        """Weights that end in the scaling's and a layer on scaled features, as those of the network on plain ones."""
        kernel = weights[-2] / self.deviation[:, None]
        return [*weights[:-4], kernel, weights[-1] - self.mean @ kernel]


@dataclass(frozen=True)
class FinetunedNetwork:
    """A fine-tuned network.

    `weights` are those of `epoch` (0: before it learnt), the last layer's kernel and bias at their end. `history` has
    columns epoch, step, split, accuracy, cross_entropy, learning_rate; its train rows are means over an epoch's
    batches, each before its update. `backbone` is the architecture; its own weights are not the tuned ones.
    """

    backbone: Backbone
    classes: tuple[str, ...]
    weights: list[np.ndarray]
    epoch: int
    history: pd.DataFrame
    settings: FinetuneSettings

    @cached_property
    def logits(self) -> keras.Model:
        """float32 (b, size, size, 1), grey 0..255, to logits (b, classes); its last layer is named "logits"."""
        from helpers.model.finetune_training import assemble

        model = assemble(self.backbone, len(self.classes))
        model.set_weights(self.weights)
        model.trainable = False
        return model

    @cached_property
    def model(self) -> keras.Model:
        """As `logits`, to probabilities: by a softmax over the classes, or a sigmoid per label."""
        import keras

        logits, options = self.logits, {"dtype": "float32", "name": "probabilities"}
        softmax = self.settings.loss == "softmax"
        last = keras.layers.Softmax(**options) if softmax else keras.layers.Activation("sigmoid", **options)
        return keras.Model(logits.input, last(logits.output), name=f"{self.backbone.name}_classifier")

    def predictor(self) -> Function:
        """uint8 (b, size, size) to probabilities, float32 (b, classes), in float32 on this machine's engine.

        To be kept where several calls are made, since compiling takes seconds.
        """
        whole = replace(self.backbone, model=self.model, features=len(self.classes))
        return compile_backbone(whole, choose("auto", "float32"))

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (n, classes), of uint8 (n, size, size)."""
        return self.predictor()(images)

    def save(self, folder: Path) -> None:
        """Write finetuned.json, history.csv and network.weights.h5."""
        folder.mkdir(parents=True, exist_ok=True)
        self.logits.save_weights(folder / "network.weights.h5")
        self.history.to_csv(folder / "history.csv", index=False)
        record = {"classes": self.classes, "epoch": self.epoch, "settings": asdict(self.settings)}
        write_json(folder / RECORD, record)

    @classmethod
    def load(cls, folder: Path, backbone: Backbone) -> FinetunedNetwork:
        """What `save` wrote, of the architecture `backbone`. Raises `FileNotFoundError` where nothing was saved."""
        from helpers.model.finetune_training import assemble

        record = read_json(folder / RECORD)
        model = assemble(backbone, len(record["classes"]))
        model.load_weights(folder / "network.weights.h5")
        settings, history = FinetuneSettings(**record["settings"]), pd.read_csv(folder / "history.csv")
        return cls(backbone, tuple(record["classes"]), model.get_weights(), record["epoch"], history, settings)


def keep_networks(
    networks: Sequence[FinetunedNetwork], fresh: Path, depths: int = 1, averages_only: bool = False
) -> dict[str, Any]:
    """Save an experiment's trainings of one network; returns what `load_networks` needs, for the summary."""
    Ensemble(tuple(networks)).save(fresh)
    body = {"backbone": networks[0].backbone.name, "image size": networks[0].backbone.image_size}
    epochs = [network.epoch for network in networks]
    return body | {"depths": depths, "averages only": averages_only, "chosen epochs": epochs}


def load_networks(experiment: Experiment) -> list[FinetunedNetwork]:
    """The networks that `keep_networks` saved, in the order of their seeds."""
    summary, folder = experiment.summary, experiment.folder
    body = load_backbone(summary["backbone"], "none", summary["image size"])
    body = with_depths(body, summary["depths"], summary["averages only"])
    return [FinetunedNetwork.load(folder / f"network_{i + 1}", body) for i in range(len(summary["chosen epochs"]))]


def history_of(networks: Sequence[FinetunedNetwork], **names: Any) -> pd.DataFrame:
    """The histories of several trainings, with their `seed` and further columns."""
    found = [network.history.assign(seed=network.settings.seed, **names) for network in networks]
    return pd.concat(found, ignore_index=True)


def finetune(
    backbone: Backbone,
    train_images: ImageSource,
    held_out_images: ImageSource,
    labels: Sequence[int] | np.ndarray | pd.Series,
    split: Sequence[str] | np.ndarray | pd.Series,
    classes: Sequence[str],
    settings: FinetuneSettings,
    folder: Path,
    head: Any = None,
) -> FinetunedNetwork:
    """Train `backbone` and a layer over `classes` on the rows that `split` calls train; validation chooses the epoch.

    `labels` are positions in `classes`, (n,), for a softmax, and bool (n, classes) for a sigmoid; other splits than
    train and validation are not looked at. Augmentation is the affair of `train_images`. `head`, with `kernel` and
    `bias`: what the last layer starts from. The backbone itself stays as it is. Where only the head learns, images are
    given as the features that the layers below have of them (`features_of`), float32 (n, d): computed once, they serve
    every seed.

    A killed training goes on after its last epoch, from `folder`, to the same weights up to the order in which threads
    add; a folder belongs to one set of images. Raises `ValueError` for a split without images and for weights that
    diverge.
    """
    from helpers.model import finetune_training as training

    classes, labels, rows = tuple(classes), np.asarray(labels), _rows(split)
    words = [asdict(settings), classes, backbone.weights_digest, backbone.image_size, labels.tolist()]
    words += [{name: some.tolist() for name, some in rows.items()}, metadata.version("keras")]
    words += [] if head is None else [head.kernel.tolist(), head.bias.tolist()]
    place = folder / f"training-{digest_of(words)}"
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / ".lock"):
        sources = {"train": _source(train_images), "validation": _source(held_out_images)}
        scaling = _scaling(backbone, sources["train"], rows["train"], settings) if settings.standardise else None
        order = (settings.batch, settings.seed, settings.images_per_epoch)
        batches = training.Batches(sources["train"], rows["train"], labels, len(classes), *order)
        validation = training.Batches(sources["validation"], rows["validation"], labels, len(classes))
        logits = training.prepare(backbone, len(classes), settings, scaling, len(batches))
        training.set_last_layer(logits, head, settings.seed, scaling)
        progress = training.Progress(batches, validation, settings.keep, settings.patience, place / "checkpoint.npz")
        training.fit(logits, progress, settings.epochs, None if settings.schedule == "cosine" else settings.rate)
    weights = scaling.fold(progress.best) if scaling else progress.best
    if settings.trainable == "head":
        weights = [*backbone.model.get_weights(), *weights]
    return FinetunedNetwork(backbone, classes, weights, progress.best_epoch, pd.DataFrame(progress.history), settings)


def _rows(split) -> dict[str, np.ndarray]:
    names = np.asarray(split).astype(str)
    rows = {name: np.flatnonzero(names == name) for name in ("train", "validation")}
    if empty := [name for name, found in rows.items() if not len(found)]:
        raise ValueError(f"no {' and no '.join(empty)} images")
    return rows


def _source(images: ImageSource) -> Callable[[int, np.ndarray], np.ndarray]:
    if isinstance(images, np.ndarray):
        return lambda epoch, rows: images[rows]
    return getattr(images, "batch", images)


def _scaling(backbone: Backbone, source, rows: np.ndarray, settings: FinetuneSettings) -> Scaling:
    """Of the features of up to `SCALED` training images, as the first epoch shows them."""
    drawn = np.random.default_rng((settings.seed, 4)).permutation(rows)[:SCALED]
    return Scaling.of(source(1, drawn) if settings.trainable == "head" else features_of(backbone, source, drawn, 1))


def features_of(backbone: Backbone, images: ImageSource, rows: np.ndarray, epoch: int = 0) -> np.ndarray:
    """The frozen backbone's features of these rows, float32 (n, d), on this machine's float32 engine.

    Raises `EngineError` where they do not differ between rows.
    """
    features = over_rows(_compiled(backbone), images, rows, epoch)
    require_variation(features, backbone.name)
    return features


@lru_cache(maxsize=4)
def _compiled(backbone: Backbone) -> Function:
    """Kept, since the trainings of an experiment ask for the same frozen network's features again and again."""
    return compile_backbone(backbone, choose("auto", "float32"))


def over_rows(run: Function, images: ImageSource, rows: np.ndarray, epoch: int = 0) -> np.ndarray:
    """What `run` (a predictor, say) gives for the images of these rows, which a source makes `BATCH` at a time."""
    source = _source(images)
    return np.concatenate([run(source(epoch, rows[i : i + BATCH])) for i in range(0, max(len(rows), 1), BATCH)])


@dataclass(frozen=True)
class Ensemble:
    """Networks whose probabilities are averaged; each looks at an image and at its mirror image."""

    networks: tuple[FinetunedNetwork, ...]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Mean probabilities, float32 (n, classes), of uint8 (n, size, size)."""
        found = []
        for network in self.networks:
            predict = network.predictor()
            found += [predict(images), predict(np.ascontiguousarray(images[:, :, ::-1]))]
        return np.mean(found, axis=0, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Each network in a folder of its own, network_1 and so on."""
        for i, network in enumerate(self.networks, 1):
            network.save(folder / f"network_{i}")


def finetune_ensemble(
    count: int,
    backbone: Backbone,
    train_images: Callable[[int], ImageSource],
    *given: Any,
    settings: FinetuneSettings,
    folder: Path,
    head: Any = None,
) -> Ensemble:
    """`count` networks as `finetune` makes them, for the seeds `settings.seed` and up, used as one.

    Beyond the papers; after Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using
    Deep Ensembles". `train_images` makes the images of a seed; `given` are `finetune`'s held-out images, labels, split
    and classes. A killed run goes on in the network it was at.
    """
    networks = []
    for seed in range(settings.seed, settings.seed + count):
        mine = replace(settings, seed=seed)
        networks.append(finetune(backbone, train_images(seed), *given, mine, folder / f"seed_{seed}", head))
    return Ensemble(tuple(networks))
