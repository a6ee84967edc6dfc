"""Rajkomar 2017: frontal or lateral, by networks pre-trained in colour and in grey (notebook 08)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from helpers.run.steps import FEATURES_KEYS, DataSet, Notebook, PaperStudy, Step, data_step

ViewSource = Literal["phantom_chest", "real", "cohen", "openi", "none"]


class RajkomarKeys(BaseModel):
    """Where frontal and lateral radiographs come from, and how the view classifiers learn."""

    view_source: ViewSource = Field("phantom_chest", description="where views come from; real: openi, else cohen")
    view_labels_file: str = Field("", description="CSV of your own view labels (image, view) for openi; empty: none")
    phantom_view_train: int = Field(300, ge=20, le=100_000, description="phantom views in train and validation")
    phantom_view_test: int = Field(150, ge=8, le=50_000, description="phantom views of the hospital's test")
    view_backbone: str = Field("", description="network of the view classifier; empty: as backbone (paper: GoogLeNet)")
    view_size: int = Field(0, ge=0, le=1024, description="pixels per side of the view classifier; 0: the network's own")
    view_colour: str = Field("imagenet", description="weights of the colour pre-training; empty: not run")
    view_grey: str = Field("", description="weights of the full-greyscale pre-training; empty: not run")
    view_subset: str = Field("", description="weights of the subset-greyscale pre-training; empty: not run")
    view_children: int = Field(106, ge=1, le=106, description="augmented children per image, of the published 106")
    view_epochs: int = Field(30, ge=1, le=1000, description="epochs of a view classifier")
    view_rate_all: float = Field(0.0005, gt=0, description="learning rate, all layers")
    view_epoch_images: int = Field(0, ge=0, description="images an epoch of a view classifier; 0: all")
    view_cpu_images: int = Field(4_000, ge=0, description="images of a training without a GPU; 0: no limit")


DATA, MODELS = "helpers.rajkomar.data", "helpers.rajkomar.models"
KEYS = (*FEATURES_KEYS, "view_", "head_standardise", "trainings")

STUDY = PaperStudy(
    paper="rajkomar2017",
    title="Rajkomar et al. 2017, High-Throughput Classification of Radiographs "
    "Using Deep Convolutional Neural Networks",
    keys=RajkomarKeys,
    data={"views": DataSet(DATA, ("seed", "split", "view_source", "view_labels_file", "phantom_view_"))},
    steps={
        "views_data": data_step("views"),
        "view_models": Step("experiment", "views", f"{MODELS}:train_view_models", KEYS, ("views_data",)),
    },
    notebooks={"08_view_classification": Notebook("views", ("view_models",))},
)
