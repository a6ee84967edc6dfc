"""The keys of a profile: what a run is made of. Each key's description is its line in `make keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from helpers.paths import RAW, ROOT


class Profile(BaseModel):
    """All that a run may vary."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]*$",
        description="the profile's name, and its folder under runs/ and figures/",
    )
    seed: int = Field(1, ge=0, lt=2**31, description="every random number of a run follows from it")
    workers: int = Field(0, ge=0, le=256, description="processes and threads; 0: one a core")

    data_dir: Path = Field(RAW, description="where the real data sets lie, as their archives unpack")
    oct_source: Literal["phantom_oct", "kermany_oct"] = Field(
        "phantom_oct", description="where the OCT B-scans come from"
    )
    phantom_oct_train: int = Field(2400, ge=40, le=200_000, description="phantom B-scans in the train folder")
    phantom_oct_test_per_class: int = Field(
        150, ge=4, le=10_000, description="phantom B-scans a class in the test folder"
    )
    xray_source: Literal["phantom_chest", "kermany_xray"] = Field(
        "phantom_chest", description="where the pneumonia radiographs come from"
    )
    phantom_xray_train: int = Field(1200, ge=40, le=200_000, description="phantom radiographs in the train folder")
    phantom_xray_test: int = Field(300, ge=12, le=50_000, description="phantom radiographs in the test folder")
    view_source: Literal["phantom_chest", "real", "cohen", "openi"] = Field(
        "phantom_chest", description="where the frontal and lateral radiographs come from; real: openi, else cohen"
    )
    view_labels_file: str = Field("", description="CSV of your own view labels (image, view) for openi; empty: none")
    phantom_view_train: int = Field(
        300, ge=20, le=100_000, description="phantom views of the hospital's train and validation"
    )
    phantom_view_test: int = Field(150, ge=8, le=50_000, description="phantom views of the hospital's test")
    phantom_view_public: int = Field(150, ge=8, le=50_000, description="phantom views of another hospital's test")
    covid_source: Literal["phantom_chest", "cohen"] = Field(
        "phantom_chest",
        description="where the COVID-19 radiographs come from; cohen: with Kermany's beside them",
    )
    octid_source: Literal["phantom_oct", "octid"] = Field(
        "phantom_oct", description="where the B-scans of rare retinal disease come from"
    )
    nih_source: Literal["phantom_chest", "nih"] = Field(
        "phantom_chest", description="where the radiographs with fourteen labels come from"
    )
    sites_source: Literal["phantom_chest", "real"] = Field(
        "phantom_chest", description="where the hospitals' radiographs come from; real: NIH, Kermany and Cohen"
    )
    split: Literal["patient-disjoint", "published"] = Field(
        "patient-disjoint",
        description="patient-disjoint drops training patients who are also in the test folder",
    )
    validation_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="share of the training patients kept for validation"
    )
    held_out_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="share of the X-ray training patients held out, to compare with the test folder"
    )
    limited_per_class: int = Field(1000, ge=1, description="training images a class of the limited model")

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
        20_000, ge=0, description="images the pneumonia network learns from where there is no GPU; 0: no limit"
    )
    finetune_dropout: float = Field(0.0, ge=0, lt=1, description="share of features left out while learning")
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

    @field_validator("head_l2")
    @classmethod
    def _penalties(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(v < 0 for v in values):
            raise ValueError("a weight penalty is 0 or more")
        return values

    @field_validator("curve_per_class")
    @classmethod
    def _rising(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if any(v < 1 for v in values) or list(values) != sorted(set(values)):
            raise ValueError("images a class must be positive and rising")
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
