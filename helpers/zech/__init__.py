"""Zech 2018: CheXNet reproduced, and why it does not generalise (notebooks 11 and 12)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from helpers.run.steps import FEATURES_KEYS, DataSet, Notebook, PaperStudy, Step, data_step

NihSource = Literal["phantom_chest", "nih", "none"]


class ZechKeys(BaseModel):
    """Where radiographs of several hospitals come from, and how their networks learn."""

    nih_source: NihSource = Field("phantom_chest", description="radiographs with fourteen labels")
    phantom_nih_images: int = Field(1800, ge=40, le=200_000, description="phantom radiographs with fourteen labels")
    sites_source: Literal["phantom_chest", "real", "none"] = Field(
        "phantom_chest", description="where the hospitals' radiographs come from; real: NIH, Kermany and Cohen"
    )
    phantom_sites_bodies: int = Field(1800, ge=60, le=200_000, description="phantom radiographs at the hospitals")
    phantom_sites_regions: int = Field(420, ge=20, le=50_000, description="phantom radiographs for small nodules")
    chexnet_backbone: str = Field("DenseNet121", description="network of the fourteen labels; empty: as backbone")
    chexnet_size: int = Field(224, ge=0, le=1024, description="pixels per side of that network; 0: its own")
    chexnet_depths: int = Field(0, ge=0, le=8, description="resolutions it judges by; 0: its own features")
    chexnet_epochs: int = Field(100, ge=1, le=1000, description="epochs of that network, at most")
    chexnet_learning_rate: float = Field(0.01, gt=0, description="its learning rate, at first")
    chexnet_layers: int = Field(0, ge=0, description="last layers of that network that learn; 0: all")
    chexnet_cpu_images: int = Field(2_000, ge=0, description="images of a training without a GPU; 0: no limit")
    sites_backbone: str = Field("", description="of the hospitals' study; empty: as backbone (talk: DenseNet121)")
    sites_size: int = Field(0, ge=0, le=1024, description="pixels per side of the hospitals' study; 0: as image_size")
    sites_draws: int = Field(20, ge=2, le=1000, description="engineered sets drawn per ratio")


DATA = "helpers.zech.data"
NETWORK = (*FEATURES_KEYS, "sites_")

STUDY = PaperStudy(
    paper="zech2018",
    title="Zech 2018, Deep Learning in Radiology: Promise and Caveats",
    keys=ZechKeys,
    data={
        "nih": DataSet(DATA, ("seed", "split", "nih_source", "phantom_nih_")),
        "sites": DataSet(DATA, ("seed", "split", "sites_source", "phantom_sites_bodies")),
        "regions": DataSet(DATA, ("seed", "split", "phantom_sites_regions")),
    },
    steps={
        "nih_data": data_step("nih"),
        "chexnet": Step(
            "experiment",
            "nih",
            "helpers.zech.chexnet:train_chexnet",
            (*FEATURES_KEYS, "chexnet_", "head_standardise", "trainings"),
            ("nih_data",),
        ),
        "sites_data": data_step("sites"),
        "site_models": Step("experiment", "sites", "helpers.zech.sites:train_site_models", NETWORK, ("sites_data",)),
        "regions_data": data_step("regions"),
        "region_models": Step(
            "experiment", "sites", "helpers.zech.regions:train_region_models", NETWORK, ("sites_data", "regions_data")
        ),
    },
    notebooks={
        "11_chexnet": Notebook("nih", ("chexnet",), folders="helpers.zech.data:folders_predictions"),
        "12_generalization": Notebook(
            "sites", ("site_models", "region_models"), files=("data/published/audit_facts.csv",)
        ),
    },
)
