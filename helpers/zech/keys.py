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
    chexnet_size: int = Field(224, ge=0, le=1024, description="pixels per side of that network; 0: its own")
    chexnet_depths: int = Field(
        0, ge=0, le=8, description="resolutions whose averages that network judges by; 0: the network's own features"
    )
    chexnet_epochs: int = Field(100, ge=1, le=1000, description="epochs of that network, at most")
    chexnet_learning_rate: float = Field(0.01, gt=0, description="of its stochastic gradient descent, at first")
    chexnet_layers: int = Field(0, ge=0, description="last layers of that network that learn; 0: all")
    chexnet_cpu_images: int = Field(
        2_000, ge=0, description="images that network learns from where there is no GPU; 0: no limit"
    )
    sites_backbone: str = Field(
        "", description="network of the hospitals' study; empty: as backbone (talk: DenseNet121)"
    )
    sites_size: int = Field(0, ge=0, le=1024, description="pixels per side of the hospitals' study; 0: as image_size")
    sites_draws: int = Field(20, ge=2, le=1000, description="engineered sets drawn per ratio")
