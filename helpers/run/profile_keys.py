"""The keys of a profile: what a run is made of. Each key's description is its line in `make keys`.

Those on data and those of notebooks 09 to 12 have files of their own, `profile_data_keys` and `profile_study_keys`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from helpers.run.paths import ROOT
from helpers.run.profile_study_keys import StudyKeys


class Profile(StudyKeys):
    """All that a run may vary."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="the profile's name, and its folder under runs/ and figures/",
    )

    seed: int = Field(1, ge=0, lt=2**31, description="every random number of a run follows from it")

    workers: int = Field(0, ge=0, le=256, description="processes and threads; 0: one a core")

    backbone: str = Field("InceptionV3", description="a name from the registry in helpers/model/backbones.py")

    weights: str = Field("imagenet", description="imagenet, formula (the small backbone's), none, or a file's path")

    image_size: int = Field(0, ge=0, le=1024, description="pixels a side; 0: the backbone's own")

    engine: Literal["auto", "keras", "openvino"] = Field("auto", description="what runs the frozen backbone")

    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="of the frozen backbone")

    batch_size: int = Field(64, ge=1, le=4096, description="images a batch through the frozen backbone")

    shard_size: int = Field(512, ge=1, le=65_536, description="images a shard of stored bottlenecks")

    head_steps: int = Field(10_000, ge=1, description="gradient steps of a head")
    head_batch: int = Field(1000, ge=1, description="bottlenecks a step")
    head_learning_rate: float = Field(0.001, gt=0, description="of Adam")
    head_evaluate_every: int = Field(1, ge=1, description="steps between held-out evaluations")
    head_l2: tuple[float, ...] = Field((0.0,), min_length=1, description="weight penalties tried; validation chooses")
    head_standardise: bool = Field(False, description="centre and scale bottlenecks by the training images")

    smoothing: float = Field(0.6, ge=0, lt=1, description="TensorBoard smoothing of the drawn curves")

    curve_per_class: tuple[int, ...] = Field(
        (10, 30, 100, 300, 1000), min_length=1, description="training images a class"
    )
    curve_seeds: int = Field(5, ge=2, le=100, description="repeats a point of the learning curve")
    curve_steps: int = Field(1000, ge=1, description="gradient steps of each head of the learning curve")

    finetune_size: int = Field(0, ge=0, le=1024, description="pixels a side of the pneumonia network; 0: its own")
    finetune_depths: int = Field(1, ge=1, le=8, description="resolutions whose last maps the pneumonia network reads")
    finetune_epochs: int = Field(8, ge=1, le=1000, description="epochs of the pneumonia network, at most")
    finetune_batch: int = Field(32, ge=1, description="images a step of the pneumonia network")
    finetune_learning_rate: float = Field(0.0001, gt=0, description="of Adam, for the pneumonia network")
    finetune_layers: int = Field(0, ge=0, description="last layers of the pneumonia network that learn; 0: all")
    finetune_cpu_images: int = Field(
        20_000, ge=0, description="images all pneumonia networks learn from where there is no GPU; 0: no limit"
    )
    finetune_dropout: float = Field(0.0, ge=0, lt=1, description="share of features left out while learning")
    finetune_schedule: Literal["steps", "cosine"] = Field(
        "steps", description="rate of the pneumonia network: a tenth every third, or a cosine whose last epoch is kept"
    )
    finetune_weight_decay: float = Field(
        0.0, ge=0, description="weight decay of the pneumonia network, by AdamW; 0: plain Adam"
    )
    finetune_label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of a label spread over all classes, for the pneumonia network"
    )
    finetune_augmentation: Literal["light", "strong"] = Field(
        "light", description="how far the pneumonia network's variants of an image go"
    )
    finetune_mirror: bool = Field(
        False, description="the pneumonia network learns from mirror images too, and looks at both in use"
    )
    finetune_networks: int = Field(
        1, ge=1, le=20, description="pneumonia networks from other seeds, whose probabilities are averaged"
    )
    finetune_kernel_share: float = Field(
        0.0, ge=0, lt=1, description="share of support vector machines on frozen features beside the pneumonia networks"
    )
    finetune_kernel_size: int = Field(0, ge=0, le=1024, description="pixels a side of the machines' images; 0: its own")
    finetune_kernel_depths: int = Field(3, ge=1, le=8, description="resolutions with a machine each, the last ones")
    finetune_patience: int = Field(0, ge=0, description="epochs without a better validation before stopping; 0: never")

    view_backbone: str = Field("", description="network of the view classifier; empty: as backbone (paper: GoogLeNet)")
    view_size: int = Field(0, ge=0, le=1024, description="pixels a side of the view classifier; 0: the network's own")
    view_colour: str = Field("imagenet", description="weights of the colour pre-training; empty: not run")
    view_grey: str = Field("", description="weights of the full-greyscale pre-training; empty: not run")
    view_subset: str = Field("", description="weights of the subset-greyscale pre-training; empty: not run")
    view_validation_fraction: float = Field(
        0.25, gt=0, lt=0.5, description="share of the training patients kept for the view classifiers' validation"
    )
    view_children: int = Field(106, ge=1, le=106, description="augmented children an image, of the published 106")
    view_epochs: int = Field(30, ge=1, le=1000, description="epochs of a view classifier")
    view_batch: int = Field(24, ge=1, description="images a step of a view classifier")
    view_rate_head: float = Field(0.005, gt=0, description="learning rate, only the fully connected layers")
    view_rate_all: float = Field(0.0005, gt=0, description="learning rate, all layers")
    view_momentum: float = Field(0.9, ge=0, lt=1, description="momentum of the view classifiers")
    view_weight_decay: float = Field(0.0005, ge=0, description="weight decay of the view classifiers")
    view_clip_norm: float = Field(
        0.0, ge=0, description="longest gradient of a view classifier; 0: no limit, as published"
    )
    view_epoch_images: int = Field(0, ge=0, description="images an epoch of a view classifier; 0: all")
    view_cpu_images: int = Field(
        4_000, ge=0, description="images a view classifier learns from, all layers, where there is no GPU; 0: no limit"
    )

    occlusion_images: int = Field(491, ge=0, le=1_000_000, description="test images localised; 0: all diseased ones")
    occlusion_stride: int = Field(1, ge=1, le=1024, description="pixels between two places of the occluding box")

    marks_file: str = Field("", description="CSV of expert marks (image, x, y, or image, mask); empty: none")

    bootstrap: int = Field(2000, ge=100, description="resamples of patients for an interval")

    readers_file: str = Field("", description="CSV of expert reads (reader, image, label); empty: none")

    @field_validator("nih_shares")
    @classmethod
    def _whole(cls, values: tuple[float, float, float]) -> tuple[float, float, float]:
        if any(v <= 0 for v in values) or abs(sum(values) - 1) > 1e-9:
            raise ValueError("three shares above 0, which make 1 together")
        return values

    @field_validator("head_l2", "chexnet_l2", "bridge_l2")
    @classmethod
    def _penalties(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(v < 0 for v in values):
            raise ValueError("a weight penalty is 0 or more")
        return values

    @field_validator("curve_per_class", "bridge_per_class")
    @classmethod
    def _rising(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if any(v < 1 for v in values) or list(values) != sorted(set(values)):
            raise ValueError("images a class must be positive and rising")
        return values

    @field_validator("sites_penalties", "sites_ratios")
    @classmethod
    def _positive(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        least = 1.0 if info.field_name == "sites_ratios" else 1e-12
        if any(v < least for v in values) or list(values) != sorted(set(values)):
            raise ValueError(f"values must rise, from {least:g} or more")
        return values

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        """A relative folder is meant from the project's root, wherever the notebook's kernel happens to run."""
        return value if value.is_absolute() else (ROOT / value.expanduser()).resolve()

    @property
    def phantom(self) -> bool:
        """True where all images are made here, so that no result is evidence about a paper."""
        sources = [key for key in type(self).model_fields if key.endswith("_source")]
        return all(getattr(self, key).startswith("phantom") for key in sources)
