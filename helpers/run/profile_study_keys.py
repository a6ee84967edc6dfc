"""A profile's keys on the studies of notebooks 09 to 12: the bridge, fourteen labels, and hospitals."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from helpers.run.profile_data_keys import DataKeys


class StudyKeys(DataKeys):
    """How Carr's and Zech's networks learn. Each key's description is its line in `make keys`."""

    octid_shap_images: int = Field(12, ge=3, le=100_000, description="rare B-scans of the test explained by SHAP")
    octid_shap_samples: int = Field(200, ge=16, description="points between an image and others that a SHAP map takes")

    chexnet_backbone: str = Field("DenseNet121", description="network of the fourteen labels; empty: as backbone")
    chexnet_size: int = Field(224, ge=0, le=1024, description="pixels a side of that network; 0: its own")
    chexnet_depths: int = Field(
        0, ge=0, le=8, description="resolutions whose averages that network judges by; 0: the network's own features"
    )
    chexnet_epochs: int = Field(100, ge=1, le=1000, description="epochs of that network, at most")
    chexnet_batch: int = Field(16, ge=1, description="images a step of that network")
    chexnet_learning_rate: float = Field(0.01, gt=0, description="of its stochastic gradient descent, at first")
    chexnet_momentum: float = Field(0.9, ge=0, lt=1, description="momentum of that network")
    chexnet_weight_decay: float = Field(0.0001, ge=0, description="weight decay of that network")
    chexnet_patience: int = Field(3, ge=1, description="epochs without a better tuning loss before that network stops")
    chexnet_clip_norm: float = Field(0.0, ge=0, description="longest gradient of that network; 0: no limit")
    chexnet_augmentation: Literal["mirror", "light"] = Field(
        "mirror", description="of its training images: left and right exchanged, or turned, scaled and moved a little"
    )
    chexnet_layers: int = Field(0, ge=0, description="last layers of that network that learn; 0: all")
    chexnet_l2: tuple[float, ...] = Field(
        (0.1, 1.0, 10.0, 100.0, 1000.0),
        min_length=1,
        description="weight penalties of the head that network starts from; tuning patients choose",
    )
    chexnet_cpu_images: int = Field(
        2_000, ge=0, description="images that network learns from where there is no GPU; 0: no limit"
    )

    bridge_backbone: str = Field("", description="network of the bridge; empty: as backbone (poster: InceptionV4)")
    bridge_size: int = Field(0, ge=0, le=1024, description="pixels a side of the bridged network; 0: the network's own")
    bridge_depths: int = Field(1, ge=1, le=8, description="resolutions whose last maps the bridged network reads")
    bridge_epochs: int = Field(8, ge=1, le=1000, description="epochs on the bridge data set")
    bridge_epoch_images: int = Field(0, ge=0, description="images an epoch on the bridge data set; 0: all")
    bridge_batch: int = Field(32, ge=1, description="images a step, on the bridge and on the target")
    bridge_learning_rate: float = Field(0.0001, gt=0, description="of Adam on the bridge, after natural images")
    bridge_random_rate: float = Field(0.001, gt=0, description="of Adam on the bridge, from random weights")
    bridge_layers: int = Field(0, ge=0, description="last layers that learn on the bridge and the target; 0: all")
    bridge_cpu_images: int = Field(
        8_000, ge=0, description="images a network on the bridge learns from where there is no GPU; 0: no limit"
    )
    bridge_validation_fraction: float = Field(
        0.25, gt=0, lt=0.5, description="share of the target's training patients kept for validation"
    )
    bridge_covid_subjects: int = Field(102, ge=1, description="COVID-19 target: training subjects a class")
    bridge_octid_images: int = Field(50, ge=1, description="retinal target: training images a class")
    bridge_octid_epoch_images: int = Field(
        0, ge=0, description="images an epoch on the bridge of B-scans; 0: as bridge_epoch_images"
    )
    bridge_children: int = Field(10, ge=0, le=1000, description="augmentations of each target image")
    bridge_per_class: tuple[int, ...] = Field(
        (5, 10, 25, 50, 102), min_length=1, description="target images a class at which the four starts are compared"
    )
    bridge_seeds: int = Field(5, ge=2, le=100, description="draws of target images at each number")
    bridge_l2: tuple[float, ...] = Field(
        (0.001, 0.01, 0.1), min_length=1, description="weight penalties of target heads; validation chooses"
    )
    bridge_target_epochs: int = Field(8, ge=1, le=1000, description="epochs of the whole network on the target")
    bridge_target_rate: float = Field(0.00003, gt=0, description="of Adam on the target")
    bridge_target_cpu_images: int = Field(
        4_000, ge=0, description="images the network on the target learns from where there is no GPU; 0: no limit"
    )

    sites_backbone: str = Field(
        "", description="network of the hospitals' study; empty: as backbone (talk: DenseNet121)"
    )
    sites_size: int = Field(0, ge=0, le=1024, description="pixels a side of the hospitals' study; 0: as image_size")
    sites_validation_fraction: float = Field(
        0.3, gt=0, lt=0.5, description="share of each hospital's training patients kept for validation"
    )
    sites_penalties: tuple[float, ...] = Field(
        (0.003, 0.03, 0.3, 3.0), min_length=1, description="weight penalties tried by the hospitals' heads"
    )
    sites_low: int = Field(32, ge=8, le=1024, description="pixels a side of the low-resolution image")
    sites_high: int = Field(224, ge=8, le=1024, description="pixels a side of the image at full resolution")
    sites_prevalence: float = Field(
        0.2, gt=0, lt=0.5, description="pneumonia in the engineered sets, both hospitals together"
    )
    sites_ratios: tuple[float, ...] = Field(
        (1.0, 2.0, 4.0, 9.0, 19.0), min_length=1, description="prevalence of one hospital over the other's, engineered"
    )
    sites_draws: int = Field(20, ge=2, le=1000, description="engineered sets drawn a ratio")
    sites_maps: int = Field(24, ge=3, le=10_000, description="test images whose hospital is explained")
