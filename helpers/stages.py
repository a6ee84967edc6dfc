"""The steps before any notebook, each kept on disk and made only once: data, split, bottlenecks, experiments.

A notebook and the Snakefile call the same functions, so a notebook opened alone finds what a run has made, or makes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.paths import CACHE
from helpers.profile import Profile

if TYPE_CHECKING:
    import pandas as pd

    from helpers.data.catalogue import Catalogue
    from helpers.model.bottlenecks import Bottlenecks


def catalogue_of(profile: Profile) -> Catalogue:
    """The profile's OCT images: phantoms made from the seed, or the real ones found under `data_dir`."""
    from helpers.data.sources import load_oct

    return load_oct(profile)


def split_of(profile: Profile, catalogue: Catalogue) -> pd.DataFrame:
    """The catalogue's rows with their `split`: train, validation or test."""
    from helpers.data.splits import split

    return split(catalogue, profile.split, profile.validation_fraction, profile.seed)


def bottlenecks_of(profile: Profile, catalogue: Catalogue, weights: str = "") -> Bottlenecks:
    """Features of every image of `catalogue`, from the profile's backbone, or from the same one with other `weights`."""
    from helpers.model.backbones import load_backbone
    from helpers.model.bottlenecks import extract

    backbone = load_backbone(profile.backbone, weights or profile.weights, profile.image_size, profile.seed)
    return extract(
        catalogue,
        backbone,
        cache=CACHE / "bottlenecks",
        engine=profile.engine,
        precision=profile.precision,
        batch_size=profile.batch_size,
        shard_size=profile.shard_size,
        workers=profile.workers,
    )


def experiment_of(profile: Profile, run: Run, name: str, parts: Parts | None = None) -> Experiment:
    """A named experiment of this run: loaded where it was trained from the same things before, else trained now.

    `parts` hands over a catalogue, split and bottlenecks that are already in memory.
    """
    from helpers.model.experiments import run_experiment

    parts = parts or parts_of(profile)
    return run_experiment(name, parts.split.frame, parts.features(), profile, run.experiments)


def learning_curve_of(profile: Profile, run: Run, parts: Parts | None = None) -> pd.DataFrame:
    """The learning curve's points, for the profile's weights and for the same backbone at random initialisation.

    Columns: initialisation, per_class, seed, accuracy, auroc (of urgent referral), both on the test images.
    """
    import pandas as pd

    from helpers.model.experiments import run_learning_curve

    parts = parts or parts_of(profile)
    frame = parts.split.frame
    curves = [run_learning_curve(frame, parts.features(), profile, run.experiments, "transfer")]
    drawn = parts.catalogue.subset(frame[frame["image_id"].isin(curve_images(profile, frame))])
    features = bottlenecks_of(profile, drawn, weights="none").features
    curves += [run_learning_curve(drawn.frame, features, profile, run.experiments, "random initialisation")]
    return pd.concat(curves, ignore_index=True)
