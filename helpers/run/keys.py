"""The profile's keys that every paper shares. Each key's description is its line in `make keys`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, field_validator

from helpers.run.paths import RAW, ROOT


class ProfileError(ValueError):
    """A profile, or an override of one, that cannot be used; the message says what to write instead."""


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the known name most like `word`, whatever its case; else the list of names."""
    spelt = {str(name).lower(): str(name) for name in known}
    close = difflib.get_close_matches(word.lower(), spelt, n=1, cutoff=0.5)
    return f"; did you mean {spelt[close[0]]}?" if close else f"; known: {', '.join(sorted(spelt.values()))}"


def _rising(values: tuple[int, ...]) -> tuple[int, ...]:
    if any(v < 1 for v in values) or list(values) != sorted(set(values)):
        raise ValueError("images per class must be positive and rising")
    return values


def _penalties(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(v < 0 for v in values):
        raise ValueError("a weight penalty is 0 or more")
    return values


Rising = Annotated[tuple[int, ...], AfterValidator(_rising)]
Penalties = Annotated[tuple[float, ...], AfterValidator(_penalties)]


class CoreKeys(BaseModel):
    """The machine, the frozen backbone, heads, and how images are split."""

    data_dir: Path = Field(RAW, description="where the real data sets lie, as their archives unpack")
    split: Literal["patient-disjoint", "published"] = Field(
        "patient-disjoint",
        description="patient-disjoint drops training patients who are also in the test folder",
    )
    validation_fraction: float = Field(
        0.1, gt=0, lt=0.5, description="share of the training patients kept for validation"
    )
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
    head_steps: int = Field(10_000, ge=1, description="gradient steps of a head")
    head_batch: int = Field(1000, ge=1, description="bottlenecks a step")
    head_learning_rate: float = Field(0.001, gt=0, description="of Adam")
    head_evaluate_every: int = Field(1, ge=1, description="steps between held-out evaluations")
    head_l2: Penalties = Field((0.0,), min_length=1, description="weight penalties tried; validation chooses")
    head_standardise: bool = Field(False, description="centre and scale bottlenecks by the training images")
    bootstrap: int = Field(2000, ge=100, description="resamples of patients for an interval")

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        """A relative folder is meant from the project's root, wherever the notebook's kernel happens to run."""
        return value if value.is_absolute() else (ROOT / value.expanduser()).resolve()
