"""What a run is made of: the data sets, steps, notebooks and settings that each paper's STUDY declares.

The core learns of a paper only here, by its wing's name. Functions are named as "package.module:function" and imported
when they are wanted, so that reading this list imports nothing heavy.
"""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, NonNegativeFloat, field_validator

from helpers.run import paths
from helpers.run.paths import RAW, ROOT

PAPERS = ("kermany", "rajkomar", "carr", "zech")  # the wings, in the order in which a run makes them
ROOMS = (*PAPERS, "audit")  # what declares a STUDY
FEATURES_KEYS = ("seed", "backbone", "weights", "image_size", "engine", "precision")


@dataclass(frozen=True)
class DataSet:
    """A data set: the module that holds its functions, and the profile's keys that they read.

    The functions of the data set "x": `load_x(settings)` gives a Catalogue, `split_x(catalogue, settings)` a Split,
    `describe_x(catalogue)` whether these are the paper's images, with a sentence, and `places_x(settings)` the places
    of images from outside the project (`helpers.data.scan.Place`), none for phantoms.
    """

    module: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One step of a run: who makes it, from which data set, after which steps, reading which of the profile's keys.

    `kind` is data, features or experiment. A key that ends in "_" stands for all that begin so. `folders` names a
    function of the settings that gives what the step reads from outside the project beside its data sets.
    """

    kind: str
    data: str
    maker: str = ""
    keys: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    folders: str = ""


@dataclass(frozen=True)
class Notebook:
    """What a notebook reads: a data set ('' for the printed numbers alone), steps, and what lies beside them.

    `keys` are those of the profile beyond its own paper's, `files` patterns below the project's root, `folders` names a
    function of the settings that gives what is read from outside the project, `kind` what it asks of the machine (see
    `kind_of`). A run makes the notebook that is `first`, and what it reads, before all others.
    """

    data: str = ""
    steps: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    folders: str = ""
    kind: str = "notebook"
    first: bool = False


@dataclass(frozen=True)
class PaperStudy:
    """A paper's wing, as the core sees it; of the audit of all papers, `paper` is empty."""

    paper: str  # as its file in data/published/ is called
    title: str
    keys: type[BaseModel] = BaseModel
    data: dict[str, DataSet] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    notebooks: dict[str, Notebook] = field(default_factory=dict)


def data_step(data: str) -> Step:
    """The step that draws or catalogues a data set."""
    return Step("data", data)


def features_step(data: str) -> Step:
    """The step that computes the frozen backbone's features of a data set."""
    return Step("features", data, "helpers.model.features:extract", FEATURES_KEYS, (f"{data}_data",))


def studies() -> dict[str, PaperStudy]:
    """The STUDY of each wing, by the wing's name."""
    return {name: importlib.import_module(f"helpers.{name}").STUDY for name in ROOMS}


@functools.cache
def all_steps() -> dict[str, Step]:
    """Every step of a run, in the order of the papers."""
    return {name: step for study in studies().values() for name, step in study.steps.items()}


@functools.cache
def all_notebooks() -> dict[str, Notebook]:
    """What each notebook reads, in the notebooks' order."""
    found = {name: reads for study in studies().values() for name, reads in study.notebooks.items()}
    return dict(sorted(found.items()))


def notebook_names() -> list[str]:
    """The numbered notebooks of the project, in order."""
    return sorted(path.stem for path in paths.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def notebook_reads(name: str) -> Notebook:
    """What a notebook reads; one that no STUDY lists (a user's own) reads the first paper's first data set."""
    first = next(iter(next(iter(studies().values())).data))
    return all_notebooks().get(name, Notebook(first, (f"{first}_features",)))


def step_named(name: str) -> Step:
    """The step of this name. Raises `ProfileError` with the nearest for an unknown one."""
    if name not in all_steps():
        raise ProfileError(f"there is no step '{name}'{nearest(name, all_steps())}")
    return all_steps()[name]


def data_set(name: str) -> DataSet:
    """The data set of this name."""
    return paper_of(name).data[name]


def data_function(verb: str, data: str) -> str:
    """The name of a data set's function: load, split, describe or places."""
    return f"{data_set(data).module}:{verb}_{data}"


def paper_of(data: str) -> PaperStudy:
    """The study that declares a data set."""
    return next(study for study in studies().values() if data in study.data)


def left_out(settings) -> dict[str, str]:
    """The notebooks that are no part of a profile, with the setting that leaves them out: a data set from "none"."""
    found = {}
    for name, reads in all_notebooks().items():
        data = {step_named(step).data for step in needed(reads.steps)} | ({reads.data} - {""})
        keys = {key for one in data for key in data_set(one).keys if key.endswith("_source")}
        if none := sorted(key for key in keys if getattr(settings, key) == "none"):
            found[name] = f"{none[0]}=none"
    return found


def needed(names: tuple[str, ...]) -> tuple[str, ...]:
    """These steps and all before them, in the order of a run."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += step_named(name).after
    return tuple(name for name in all_steps() if name in found)


@functools.cache
def made_in_order() -> tuple[str, ...]:
    """Steps and notebooks as a run makes them: what the next notebook reads, then that notebook."""
    names = sorted(notebook_names(), key=lambda name: (not notebook_reads(name).first, name))
    order = [one for name in names for one in (*needed(notebook_reads(name).steps), name)]
    return tuple(dict.fromkeys([*order, *all_steps()]))


def kind_of(name: str) -> str:
    """What a step or notebook is to the machine, for the Snakefile: data, features, head, network or notebook."""
    if name not in all_steps():
        return notebook_reads(name).kind
    step = all_steps()[name]
    on_features = any(all_steps()[before].kind == "features" for before in step.after)
    return step.kind if step.kind != "experiment" else "head" if on_features else "network"


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


Rising = Annotated[tuple[int, ...], AfterValidator(_rising)]
Penalties = tuple[NonNegativeFloat, ...]


class CoreKeys(BaseModel):
    """The machine, the frozen backbone, heads, and how images are split."""

    data_dir: Path = Field(RAW, description="where the real data sets lie, as their archives unpack")
    split: Literal["patient-disjoint", "published"] = Field(
        "patient-disjoint", description="patient-disjoint drops training patients who are also in the test folder"
    )
    lung_masks: str = Field("", description="folder of people's lung masks; empty: lung-masks in the data folder")
    validation_fraction: float = Field(0.1, gt=0, lt=0.5, description="share of training patients for validation")
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$", description="its folder under runs/ and figures/")
    seed: int = Field(1, ge=0, lt=2**31, description="every random number of a run follows from it")
    workers: int = Field(0, ge=0, le=256, description="processes and threads; 0: one per core")
    backbone: str = Field("InceptionV3", description="a name from the registry in helpers/model/backbones.py")
    weights: str = Field("imagenet", description="imagenet, formula (the small backbone's), none, or a file's path")
    image_size: int = Field(0, ge=0, le=1024, description="pixels per side; 0: the backbone's own")
    engine: Literal["auto", "keras", "openvino"] = Field("auto", description="what runs the frozen backbone")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="of the frozen backbone")
    head_steps: int = Field(10_000, ge=1, description="gradient steps of a head")
    head_batch: int = Field(1000, ge=1, description="bottleneck features per step")
    head_learning_rate: float = Field(0.001, gt=0, description="of Adam")
    head_evaluate_every: int = Field(1, ge=1, description="steps between held-out evaluations")
    head_l2: Penalties = Field((0.0,), min_length=1, description="weight penalties tried; validation chooses")
    trainings: int = Field(
        3, ge=1, le=100, description="of each fine-tuned network, by seed; 1: no interval is printed"
    )
    head_standardise: bool = Field(False, description="centre and scale bottlenecks by the training images")

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        """A relative folder is meant from the project's root, wherever the notebook's kernel happens to run."""
        return value if value.is_absolute() else (ROOT / value.expanduser()).resolve()
