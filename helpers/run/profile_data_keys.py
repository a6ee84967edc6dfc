"""A profile's keys on data: which data sets, how large the phantoms are, how images are shared out."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from helpers.run.paths import RAW


class DataKeys(BaseModel):
    """Where images come from. Each key's description is its line in `make keys`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

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
    phantom_covid_train: int = Field(
        136, ge=8, le=50_000, description="phantom subjects a class to learn from and to choose by; half as many untied"
    )
    phantom_covid_test: int = Field(40, ge=4, le=50_000, description="phantom subjects a class held back")
    octid_source: Literal["phantom_oct", "octid"] = Field(
        "phantom_oct", description="where the B-scans of rare retinal disease come from"
    )
    octid_validation: int = Field(
        10,
        ge=1,
        le=1000,
        description="rare B-scans a class, beside bridge_octid_images, that choose penalties and epochs",
    )
    phantom_octid_test_per_class: int = Field(
        60, ge=4, le=10_000, description="phantom B-scans of rare disease a class in the test folder"
    )
    nih_source: Literal["phantom_chest", "nih"] = Field(
        "phantom_chest", description="where the radiographs with fourteen labels come from"
    )
    phantom_nih_images: int = Field(1800, ge=40, le=200_000, description="phantom radiographs with fourteen labels")
    phantom_nih_label_noise: float = Field(
        0.05, ge=0, lt=0.5, description="share of the phantoms' findings that their fourteen labels miss"
    )
    nih_shares: tuple[float, float, float] = Field(
        (0.7, 0.1, 0.2), description="patients of NIH to train, to tune and, of phantoms, to test on (of 1)"
    )
    sites_source: Literal["phantom_chest", "real"] = Field(
        "phantom_chest", description="where the hospitals' radiographs come from; real: NIH, Kermany and Cohen"
    )
    phantom_sites_bodies: int = Field(
        1800, ge=60, le=200_000, description="phantom radiographs at the hospitals, each with and without its signature"
    )
    phantom_sites_regions: int = Field(
        420, ge=20, le=50_000, description="phantom radiographs with and without a small nodule, at twice the size"
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
