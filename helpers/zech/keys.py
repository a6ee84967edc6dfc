"""The profile's keys of Zech 2018. Each key's description is its line in `make keys`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class ZechKeys(BaseModel):
    """Where radiographs of several hospitals come from, and how their networks learn."""

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
