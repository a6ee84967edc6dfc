"""Carr 2020: COVID-19 and rare retinal disease through a bridge data set, explained with SHAP (notebooks 09 and 10)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from helpers.run.steps import FEATURES_KEYS, DataSet, Notebook, PaperStudy, Rising, Step, data_step


class CarrKeys(BaseModel):
    """Where the targets come from, and how networks learn on the bridge data set and on the target."""

    covid_source: Literal["phantom_chest", "cohen", "none"] = Field(
        "phantom_chest", description="where the COVID-19 radiographs come from; cohen: with Kermany's beside them"
    )
    phantom_covid_train: int = Field(
        136, ge=8, le=50_000, description="phantom subjects per class, half as many untied"
    )
    phantom_covid_test: int = Field(40, ge=4, le=50_000, description="phantom subjects per class held back")
    octid_source: Literal["phantom_oct", "octid", "none"] = Field(
        "phantom_oct", description="where rare retinal disease comes from"
    )
    phantom_octid_test_per_class: int = Field(60, ge=4, le=10_000, description="phantom test B-scans per class")
    octid_shap_images: int = Field(12, ge=3, le=100_000, description="rare B-scans of the test explained by SHAP")
    octid_shap_samples: int = Field(200, ge=16, description="points between an image and others that a SHAP map takes")
    bridge_backbone: str = Field("", description="network of the bridge; empty: as backbone (poster: InceptionV4)")
    bridge_size: int = Field(0, ge=0, le=1024, description="pixels per side of that network; 0: its own")
    bridge_depths: int = Field(1, ge=1, le=8, description="resolutions whose last maps the bridged network reads")
    bridge_epochs: int = Field(8, ge=1, le=1000, description="epochs on the bridge data set")
    bridge_epoch_images: int = Field(0, ge=0, description="images per epoch on bridge and target; 0: all")
    bridge_learning_rate: float = Field(0.0001, gt=0, description="of Adam on the bridge, after natural images")
    bridge_layers: int = Field(0, ge=0, description="last layers that learn on the bridge and the target; 0: all")
    bridge_cpu_images: int = Field(
        8_000, ge=0, description="images each training learns from without a GPU; 0: no limit"
    )
    bridge_covid_subjects: int = Field(102, ge=1, description="COVID-19 target: training subjects per class")
    bridge_octid_images: int = Field(50, ge=1, description="retinal target: training images per class")
    bridge_per_class: Rising = Field((5, 10, 25, 50, 102), min_length=1, description="target images per class")
    bridge_target_epochs: int = Field(8, ge=1, le=1000, description="epochs of the whole network on the target")


DATA = "helpers.carr.data"
BRIDGE = (*FEATURES_KEYS, "bridge_", "head_standardise", "trainings")

STUDY = PaperStudy(
    paper="carr2020",
    title="Carr et al. 2020, From Retinal Disease to COVID-19, Deep Learning CNNs for Biomedical Image Classification: "
    "Achieving Accuracy and Interpretability Despite Small Sample Sizes",
    keys=CarrKeys,
    data={
        "covid": DataSet(DATA, ("seed", "split", "covid_source", "phantom_covid_", "bridge_covid_subjects")),
        "octid": DataSet(DATA, ("seed", "split", "octid_source", "phantom_octid_", "bridge_octid_images")),
    },
    steps={
        "covid_data": data_step("covid"),
        "covid_bridge": Step(
            "experiment",
            "covid",
            "helpers.carr.controls:train_covid_bridge",
            BRIDGE,
            ("covid_data", "xray_data"),
            "helpers.carr.controls:folders_lungs",
        ),
        "octid_data": data_step("octid"),
        "retinal_bridge": Step(
            "experiment", "octid", "helpers.carr.models:train_retinal_bridge", BRIDGE, ("octid_data", "oct_data")
        ),
    },
    notebooks={
        "09_covid_bridge": Notebook("covid", ("covid_bridge",), folders="helpers.carr.controls:folders_masks"),
        "10_retinal_bridge": Notebook("octid", ("retinal_bridge",)),
    },
)
