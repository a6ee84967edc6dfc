"""Kermany 2018: retinal OCT and paediatric pneumonia by transfer learning (notebooks 00 to 07, 14 and 15)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from helpers.run.steps import FEATURES_KEYS, DataSet, Notebook, PaperStudy, Rising, Step, data_step, features_step

# Of MedMNIST's copies the one that is there, or that of so many pixels per side.
OctSource = Literal[
    "phantom_oct", "kermany_oct", "octmnist", "octmnist_28", "octmnist_64", "octmnist_128", "octmnist_224"
]
PneumoniaMnist = Literal["pneumoniamnist", "pneumoniamnist_28", "pneumoniamnist_64", "pneumoniamnist_128"]
XraySource = Literal["phantom_chest", "kermany_xray", "pneumoniamnist_224"] | PneumoniaMnist


class KermanyKeys(BaseModel):
    """Where the OCT B-scans and pneumonia radiographs come from, and how heads and networks learn."""

    oct_source: OctSource = Field("phantom_oct", description="where the B-scans are from")
    phantom_oct_train: int = Field(2400, ge=40, le=200_000, description="phantom B-scans in the train folder")
    phantom_oct_test_per_class: int = Field(150, ge=4, le=10_000, description="phantom B-scans per class in test")
    xray_source: XraySource = Field("phantom_chest", description="of the pneumonia set")
    phantom_xray_train: int = Field(1200, ge=40, le=200_000, description="phantom radiographs in the train folder")
    phantom_xray_test: int = Field(300, ge=12, le=50_000, description="phantom radiographs in the test folder")
    limited_per_class: int = Field(1000, ge=1, description="training images per class of the limited model")
    curve_per_class: Rising = Field((10, 30, 100, 300, 1000), min_length=1, description="training images per class")
    curve_seeds: int = Field(5, ge=2, le=100, description="repeats a point of the learning curve")
    finetune_size: int = Field(0, ge=0, le=1024, description="pixels per side of the pneumonia network; 0: its own")
    finetune_depths: int = Field(1, ge=1, le=8, description="resolutions whose last maps the pneumonia network reads")
    finetune_epochs: int = Field(8, ge=1, le=1000, description="epochs of the pneumonia network, at most")
    finetune_batch: int = Field(32, ge=1, description="images per step of the pneumonia network")
    finetune_learning_rate: float = Field(0.0001, gt=0, description="of Adam, for the pneumonia network")
    finetune_layers: int = Field(0, ge=0, description="last layers of the pneumonia network that learn; 0: all")
    finetune_cpu_images: int = Field(20_000, ge=0, description="images in all, where there is no GPU; 0: no limit")
    finetune_networks: int = Field(1, ge=1, le=20, description="pneumonia networks averaged in a training")
    occlusion_images: int = Field(491, ge=0, le=1_000_000, description="test images localised; 0: all diseased ones")
    occlusion_stride: int = Field(1, ge=1, le=1024, description="pixels between two places of the occluding box")
    marks_file: str = Field("", description="CSV of expert marks (image, x, y, or image, mask); empty: none")
    readers_file: str = Field("", description="CSV of expert reads (reader, image, label); empty: none")


DATA = "helpers.kermany.data"
SPLIT = ("seed", "split", "validation_fraction")
HEAD = ("seed", "head_")
BINARY = ("cnv_normal", "dme_normal", "drusen_normal")
CURVE = (*FEATURES_KEYS, "curve_")
NETWORKS = (*FEATURES_KEYS, "finetune_", "head_standardise", "trainings")


def _train(maker: str, data: str, keys: tuple[str, ...] = HEAD, after: str = "features") -> Step:
    return Step("experiment", data, f"helpers.kermany.models:{maker}", keys, (f"{data}_{after}",))


STUDY = PaperStudy(
    paper="kermany2018",
    title="Kermany et al. 2018, Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep Learning",
    keys=KermanyKeys,
    data={
        "oct": DataSet(DATA, ("oct_source", "phantom_oct_", *SPLIT)),
        "xray": DataSet(DATA, ("xray_source", "phantom_xray_", *SPLIT)),
    },
    steps={
        "oct_data": data_step("oct"),
        "oct_features": features_step("oct"),
        **{name: _train("train_named_head", "oct") for name in ("multiclass", *BINARY)},
        "local_finetuned": _train("finetune_local_network", "oct", ("seed", "trainings"), "data"),
        "limited": _train("train_named_head", "oct", (*HEAD, "limited_")),
        "learning_curve": _train("train_learning_curve", "oct", CURVE),
        "xray_data": data_step("xray"),
        "xray_features": features_step("xray"),
        **{name: _train("train_named_head", "xray") for name in ("pneumonia", "bacteria_virus")},
        "referral_finetuned": _train("finetune_referral_networks", "xray", NETWORKS, "data"),
    },
    notebooks={
        "00_data": Notebook("oct", ("oct_data",)),
        "01_training_curves": Notebook("oct", ("multiclass", *BINARY)),
        "02_multiclass_roc": Notebook("oct", ("multiclass", "limited"), first=True),
        "03_binary_roc": Notebook("oct", BINARY),
        "04_limited_data": Notebook("oct", ("multiclass", "limited", "learning_curve")),
        "05_expert_comparison": Notebook("oct", ("multiclass", "limited")),
        "06_occlusion": Notebook("oct", ("multiclass", "local_finetuned"), kind="network"),
        "07_pneumonia": Notebook(
            "xray",
            ("pneumonia", "bacteria_virus", "referral_finetuned"),
            folders="helpers.kermany.data:folders_lungs",
        ),
        "14_explanation_methods": Notebook("oct", ("local_finetuned",), kind="network"),
        "15_shift_and_cost": Notebook("xray", ("referral_finetuned",)),
    },
)
