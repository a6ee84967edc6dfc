"""What is explained, a classifier of grey images, and what every explainer returns, one map for each image.

Every method has one signature, `method(classifier, images, target, **settings) -> Maps`: `images` are uint8
(n, size, size), `target` is one class name for all of them or a sequence of one name per image, and the maps lie on the
pixels of these images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter, median_filter, uniform_filter1d

from helpers.data.catalogue import Catalogue
from helpers.data.images import frame_of, read_grey, read_square
from helpers.data.masks import resize_mask
from helpers.model.backbones import Backbone, weights_digest
from helpers.model.engine import Function, choose, compile_model
from helpers.model.head import Head
from helpers.run.profile import nearest


@dataclass(frozen=True)
class Maps:
    """One map per image.

    `maps`: float32 (n, height, width), on the pixels of the explained images; higher means that the pixel is more
    important for the target. `units` names the unit: "probability" for occlusion's drop, for example. `seconds`:
    the time they took. `extra`: what else a method returns, such as occlusion's probabilities at every position.
    """

    maps: np.ndarray
    method: str
    units: str
    seconds: float
    extra: dict[str, Any] = field(default_factory=dict)

    def take(self, positions: np.ndarray) -> Maps:
        """The maps at these positions, with what `extra` keeps of them and their share of the time."""
        n = len(self.maps)
        per_image = {name for name, value in self.extra.items() if name != "starts" and len(value) == n}
        extra = {name: value[positions] if name in per_image else value for name, value in self.extra.items()}
        seconds = self.seconds * len(positions) / max(n, 1)
        return replace(self, maps=self.maps[positions], seconds=seconds, extra=extra)


@dataclass(frozen=True)
class Classifier:
    """A network and the names of its classes.

    `model` maps float32 (b, image_size, image_size, 1), grey 0..255, to probabilities (b, classes); `logits_model` to
    the logits. Both share layers and weights, and gradients flow through both. `key`: 16 hexadecimal digits over all
    weights, computed once: a model that is trained further needs a new Classifier.
    """

    model: Any  # keras.Model
    logits_model: Any  # likewise
    classes: tuple[str, ...]
    image_size: int
    key: str

    def predictor(self) -> Function:
        """uint8 or float32 (b, size, size), grey 0..255, to probabilities, float32 (b, classes), for any b, in float32
        on the fastest engine of this machine; see `helpers.model.engine`.
        """
        function = compile_model(self.model, choose("auto", "float32"))
        return lambda images: function(np.asarray(images, np.float32)[..., None])

    def codes(self, target: str | Sequence[str], count: int) -> np.ndarray:
        """int (count,) positions in `classes` of one class name for all images, or of one name per image.

        Raises `ValueError` for an unknown name.
        """
        names = [target] * count if isinstance(target, str) else [str(name) for name in target]
        for name in names:
            if name not in self.classes:
                raise ValueError(f"there is no class '{name}'{nearest(name, self.classes)}")
        return np.array([self.classes.index(name) for name in names], int)

    def check(self, images: np.ndarray) -> np.ndarray:
        """`images` unchanged if they are uint8 (n, size, size) of the classifier's size; else a `ValueError`."""
        images, size = np.asarray(images), self.image_size
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (size, size):
            raise ValueError(
                f"images are {images.dtype} {images.shape}; the classifier takes uint8 (n, {size}, {size})"
            )
        return images


def from_head(backbone: Backbone, head: Head) -> Classifier:
    """A frozen backbone with a softmax head trained on its bottleneck features, as one network."""
    import keras

    last = keras.layers.Dense(len(head.classes), dtype="float32", name="logits")
    model = keras.Model(backbone.model.input, last(backbone.model.output))
    last.set_weights([head.kernel, head.bias])
    return from_logits(model, head.classes)


def from_logits(logits: Any, classes: Sequence[str], activation: str = "softmax") -> Classifier:
    """A network from float32 (b, size, size, 1), grey 0..255, to logits (b, classes); its probabilities are their
    softmax, or, for a network of several labels, their "sigmoid"."""
    import keras

    last = keras.layers.Activation(activation, dtype="float32", name="probabilities")
    model = keras.Model(logits.inputs[0], last(logits.outputs[0]), name="classifier")
    return Classifier(model, logits, tuple(classes), int(logits.input_shape[1]), weights_digest(model))


BLUR = 0.012  # of the image's side: speckle is smoothed away
JUMP = 1.5  # columns: how steeply (rows per column) the bright layer may climb
BELOW = 0.03  # of the height: the pigment epithelium's lower edge lies this far under its brightest row
MARGIN = 0.02  # of the height added above and below, so that maps of a coarse grid do not miss by a cell


@dataclass(frozen=True)
class Cases:
    """Images to explain, class by class in turn.

    `rows` has image_id, patient_id and label; `images` uint8, `masks` and `retina` bool, all (n, size, size). Where no
    lesion is known the mask is empty; `lesions` names the source of the masks, "" for none.
    """

    rows: pd.DataFrame
    images: np.ndarray
    masks: np.ndarray
    retina: np.ndarray
    lesions: str

    @property
    def labels(self) -> list[str]:
        return self.rows["label"].tolist()

    @property
    def patients(self) -> np.ndarray:
        return self.rows["patient_id"].to_numpy()

    def first(self, per_class: int, order: Sequence[str]) -> np.ndarray:
        """Positions of the first `per_class` images of each class of `order`, class after class."""
        labels = self.rows["label"].to_numpy()
        return np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in order])

    def take(self, positions: np.ndarray) -> Cases:
        """Only the images at these positions."""
        kept = {name: getattr(self, name)[positions] for name in ("images", "masks", "retina")}
        return replace(self, rows=self.rows.iloc[positions].reset_index(drop=True), **kept)


def choose_cases(
    catalogue: Catalogue, labels: Sequence[str], size: int, count: int = 0, seed: int = 1, marked: Sequence[str] = ()
) -> Cases:
    """`count` images of the test folder (0: all), as many of each label as there are, in the order of a hash of
    seed and name, so that none is picked by hand. Images named in `marked` come first. Lesions are the phantoms' masks.
    """
    frame = catalogue.frame
    test = frame[(frame["published_split"] == "test") & frame["label"].isin(list(labels))]
    drawn = test["image_id"].map(lambda name: hashlib.blake2b(f"{seed}/{name}".encode()).hexdigest())
    unmarked = ~test["image_id"].isin(set(marked))
    ordered = test.assign(unmarked=unmarked, drawn=drawn).sort_values(["unmarked", "drawn"])
    turn = ordered.groupby("label").cumcount()
    place = ordered["label"].map({label: k for k, label in enumerate(labels)})
    rows = ordered.assign(turn=turn, place=place).sort_values(["turn", "place"])
    rows = rows.head(count or len(rows)).drop(columns=["unmarked", "drawn", "turn", "place"]).reset_index(drop=True)
    images = np.stack([read_square(catalogue.file(path), size) for path in rows["path"]])
    known = "mask" in rows
    masks = lesion_masks(catalogue, rows, size) if known else np.zeros(images.shape, bool)
    return Cases(rows, images, masks, retina_mask(images), "the phantoms' own masks" if known else "")


def lesion_masks(catalogue: Catalogue, rows: pd.DataFrame, size: int) -> np.ndarray:
    """The phantoms' own lesion masks of these rows of the catalogue's frame: bool (n, size, size)."""
    return np.stack([resize_mask(read_grey(catalogue.file(path)) > 127, size) for path in rows["mask"]])


def retina_mask(images: np.ndarray) -> np.ndarray:
    """Between the borders, with a margin and without the white frame: bool, like the images, uint8 (n, h, w)."""
    found = np.zeros(images.shape, bool)
    rows = np.arange(images.shape[1])[:, None]
    margin = MARGIN * images.shape[1]
    for i, image in enumerate(images):
        upper, lower = retina_borders(image)
        found[i] = (rows >= upper - margin) & (rows <= lower + margin) & ~frame_of(image)
    return found


def retina_borders(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper and lower border of the retina in each column of a grey uint8 (h, w): rows as float (w,).

    The lower border follows the bright layer (pigment epithelium and ellipsoid zone): the brightest path from left to
    right with bright tissue above and darker below. The upper border is the first row of tissue above it, tissue being
    what is brighter than halfway between the vitreous and the retina. Both are smoothed over columns.
    """
    grey, frame = image.astype(np.float32), frame_of(image)
    height, width = grey.shape
    dark = np.percentile(grey[~frame], 10) if (~frame).any() else 0.0
    smooth = gaussian_filter(np.where(frame, dark, grey), (BLUR * height, 2 * BLUR * width))
    wide = max(3, int(0.08 * width)) | 1
    line = median_filter(_brightest_path(_layer_score(smooth)), wide, mode="nearest")
    upper = median_filter(_first_tissue(smooth, frame, line), wide, mode="nearest")
    return np.clip(upper, 0, height - 1), np.clip(line + BELOW * height, 0, height - 1)


def _layer_score(smooth: np.ndarray) -> np.ndarray:
    """High on a bright layer with tissue above it and less below: (h, w)."""
    reach = max(3, int(0.18 * len(smooth)))
    mean, shift = uniform_filter1d(smooth, reach, axis=0, mode="nearest"), reach // 2 + 1
    above, below = np.roll(mean, shift, axis=0), np.roll(mean, -shift, axis=0)
    above[:shift], below[-shift:] = mean[0], mean[-1]
    return smooth + 0.5 * above - 0.5 * below


def _brightest_path(score: np.ndarray) -> np.ndarray:
    """The row in each column of the path of the highest sum that climbs at most `JUMP` rows per column: float (w,)."""
    height, width = score.shape
    reach = max(1, round(JUMP * height / width))
    best, steps = score[:, 0].astype(np.float64), np.zeros((width, height), np.int64)
    for column in range(1, width):
        padded = np.pad(best, reach, constant_values=-np.inf)
        options = np.stack([padded[k : k + height] for k in range(2 * reach + 1)])
        options -= 0.5 * np.abs(np.arange(-reach, reach + 1))[:, None]  # a straight path, where it costs nothing
        step = options.argmax(axis=0)
        steps[column] = step - reach
        best = options[step, np.arange(height)] + score[:, column]
    path = np.empty(width, np.int64)
    path[-1] = int(best.argmax())
    for column in range(width - 1, 0, -1):
        path[column - 1] = path[column] + steps[column][path[column]]
    return path.astype(float)


def _first_tissue(smooth: np.ndarray, frame: np.ndarray, line: np.ndarray) -> np.ndarray:
    """The uppermost row of the tissue that reaches down to the line, gaps of fluid included: float (w,)."""
    rows = np.arange(len(smooth))[:, None]
    above = rows < line
    vitreous = np.percentile(smooth[above & ~frame], 15) if (above & ~frame).any() else 0.0
    tissue_level = np.median(smooth[np.abs(rows - line + 0.08 * len(smooth)) < 0.06 * len(smooth)])
    tissue = (smooth > vitreous + 0.5 * (tissue_level - vitreous)) & above & ~frame
    # A row counts where tissue goes on under it: a floater or noise in the vitreous does not.
    deep = max(2, int(0.035 * len(smooth)))
    thick = np.cumsum(tissue, axis=0)
    ahead = np.vstack([thick[deep:], np.repeat(thick[-1:], deep, axis=0)]) - thick + tissue
    solid = tissue & (ahead >= 0.8 * deep)
    return np.where(solid.any(axis=0), solid.argmax(axis=0), line - 0.2 * len(smooth))
