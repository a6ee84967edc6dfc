"""The steps of a run and what each notebook reads: said here once, for the Snakefile, the stages and the report.

data > bottlenecks > heads > notebooks          one such row a data set: OCT, pneumonia radiographs, views
data > fine-tuned networks > notebooks
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel


@dataclass(frozen=True)
class PaperStudy:
    """What a paper's wing offers the core."""

    name: str
    keys: type[BaseModel]


@dataclass(frozen=True)
class Step:
    """One step: its kind (a rule of the Snakefile), the data set it works on, and the steps it reads."""

    kind: str
    data: str
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reads:
    """What a notebook reads: a data set ('published' for the printed numbers alone) and the steps before it."""

    data: str = "oct"
    steps: tuple[str, ...] = ()


def _heads(data: str, *names: str) -> dict[str, Step]:
    return {name: Step("experiment", data, (f"{data}_bottlenecks",)) for name in names}


STEPS: dict[str, Step] = {
    "oct_data": Step("data", "oct"),
    "oct_bottlenecks": Step("bottlenecks", "oct", ("oct_data",)),
    **_heads("oct", "multiclass", "limited", "cnv_normal", "dme_normal", "drusen_normal", "learning_curve"),
    "xray_data": Step("data", "xray"),
    "xray_bottlenecks": Step("bottlenecks", "xray", ("xray_data",)),
    **_heads("xray", "pneumonia", "bacteria_virus", "referral"),
    "referral_finetuned": Step("network", "xray", ("xray_data",)),
    "views_data": Step("data", "views"),
    "view_models": Step("network", "views", ("views_data",)),
    "nih_data": Step("data", "nih"),
    "chexnet": Step("network", "nih", ("nih_data",)),
    "covid_data": Step("data", "covid"),
    "covid_bridge": Step("network", "covid", ("covid_data", "xray_data")),
    "octid_data": Step("data", "octid"),
    "retinal_bridge": Step("network", "octid", ("octid_data", "oct_data")),
    "sites_data": Step("data", "sites"),
    "regions_data": Step("data", "regions"),
    "site_models": Step("network", "sites", ("sites_data",)),
    "region_models": Step("network", "sites", ("sites_data", "regions_data")),
}

READS: dict[str, Reads] = {
    "00_data": Reads("oct", ("oct_bottlenecks",)),
    "01_training_curves": Reads("oct", ("multiclass", "cnv_normal", "dme_normal", "drusen_normal")),
    "02_multiclass_roc": Reads("oct", ("multiclass", "limited")),
    "03_binary_roc": Reads("oct", ("cnv_normal", "dme_normal", "drusen_normal")),
    "04_limited_data": Reads("oct", ("multiclass", "limited", "learning_curve")),
    "05_expert_comparison": Reads("oct", ("multiclass", "limited")),
    "06_occlusion": Reads("oct", ("multiclass",)),
    "07_pneumonia": Reads("xray", ("pneumonia", "bacteria_virus", "referral", "referral_finetuned")),
    "08_view_classification": Reads("views", ("view_models",)),
    "11_chexnet": Reads("nih", ("chexnet",)),
    "09_covid_bridge": Reads("covid", ("covid_bridge",)),
    "10_retinal_bridge": Reads("octid", ("retinal_bridge",)),
    "12_generalization": Reads("sites", ("site_models", "region_models")),
    "13_paper_audit": Reads("published"),
}


def reads(notebook: str) -> Reads:
    """What a notebook reads; one that is not listed (a user's own) reads the OCT images and their bottlenecks."""
    return READS.get(notebook, Reads("oct", ("oct_bottlenecks",)))


def of_kind(kind: str) -> tuple[str, ...]:
    return tuple(name for name, step in STEPS.items() if step.kind == kind)


def needed(names: tuple[str, ...]) -> tuple[str, ...]:
    """These steps and all before them, in the order of `STEPS`."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += STEPS[name].after
    return tuple(name for name in STEPS if name in found)
