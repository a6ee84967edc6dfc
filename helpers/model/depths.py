"""Features from several depths of a backbone: the last map at each of its last resolutions, averaged, side by side.

Beyond the papers, which take the deepest layer alone. That layer knows most about photographs' classes and least about
textures of a few pixels: among the published training radiographs (2,521 of them, 5 folds by patient, MobileNetV2 at
224 px, logistic regression) the deepest map gave an AUROC of 0.730 for bacterial against viral and 0.994 for pneumonia,
the last map of twice its resolution 0.756 and 0.997.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from helpers.run.provenance import digest_of

if TYPE_CHECKING:
    import keras

    from helpers.model.backbones import Backbone

MAPS = ("ReLU", "Activation", "Add", "Concatenate")  # layers that finish a map


def with_depths(backbone: Backbone, depths: int) -> Backbone:
    """The same layers and weights, with features of the last `depths` resolutions; 1: the backbone as it is.

    Raises `ValueError` where the backbone has fewer resolutions.
    """
    if depths == 1:
        return backbone
    import keras

    maps = last_maps(backbone.model)
    if not 1 <= depths <= len(maps):
        raise ValueError(f"depths = {depths}; {backbone.name} has maps of {len(maps)} resolutions")
    pooled = [keras.layers.GlobalAveragePooling2D(name=f"average_{x.shape[1]}")(x) for x in maps[-depths:-1]]
    features = keras.layers.Concatenate(name="depths")([*pooled, backbone.model.output])
    return _giving(backbone, features, backbone.weights_digest)


def averaged(backbone: Backbone, depths: int) -> Backbone:
    """The same layers and weights, whose features are averages alone: of the last map of each of the last `depths`
    resolutions. 0: the backbone as it is.

    So a class activation map shows all that the network judges by (`helpers.explain.activation`), as CheXNet's does,
    which ends in one average. SmallNet's own features are maxima and mean squares as well.
    """
    import keras

    if not depths:
        return backbone
    maps = last_maps(backbone.model)
    if not 1 <= depths <= len(maps):
        raise ValueError(f"depths = {depths}; {backbone.name} has maps of {len(maps)} resolutions")
    pooled = [keras.layers.GlobalAveragePooling2D(name=f"mean_{x.shape[1]}")(x) for x in maps[-depths:]]
    features = keras.layers.Concatenate(name="means")(pooled) if depths > 1 else pooled[0]
    return _giving(backbone, features, digest_of([backbone.weights_digest, "averaged", depths])[:16])


def with_deviations(backbone: Backbone, depths: int) -> tuple[Backbone, tuple[slice, ...]]:
    """The same layers and weights, whose features are the average and the standard deviation over the image of the last
    map of each of the last `depths` resolutions (all, where it has fewer); and which of them are whose, finest first.
    """
    import keras

    maps = last_maps(backbone.model)[-depths:]
    pooled, slices, first = [], [], 0
    for one in maps:
        pooled += [keras.ops.mean(one, (1, 2)), keras.ops.std(one, (1, 2))]
        slices.append(slice(first, first + 2 * int(one.shape[-1])))
        first = slices[-1].stop
    digest = digest_of([backbone.weights_digest, "deviations", len(maps)])[:16]
    return _giving(backbone, keras.ops.concatenate(pooled, axis=-1), digest), tuple(slices)


def _giving(backbone: Backbone, features: keras.KerasTensor, digest: str) -> Backbone:
    """The backbone with these features in the place of its own."""
    import keras

    model = keras.Model(backbone.model.input, features, name=backbone.model.name)
    model.trainable = False
    return replace(backbone, model=model, features=int(features.shape[-1]), weights_digest=digest)


def last_maps(model: keras.Model) -> list[keras.KerasTensor]:
    """The last finished map (batch, h, w, c) of each resolution, from the finest to the coarsest: what an activation, a
    sum or a concatenation gives, not what a padding or a convolution on its way there does."""
    found: dict[int, keras.KerasTensor] = {}
    for layer in model.layers:
        if type(layer).__name__ in MAPS and len(layer.output.shape) == 4 and layer.name != "three_channels":
            found[int(layer.output.shape[1])] = layer.output
    return [found[size] for size in sorted(found, reverse=True)]
