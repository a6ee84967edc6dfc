"""Several networks fine-tuned alike, from other seeds, and used as one: their probabilities are averaged.

Beyond the papers; after Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep
Ensembles". Whatever the order of images and the dropout did to one network alone averages out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.model.finetune import FinetuneSettings, ImageSource, finetune
from helpers.model.finetuned import FinetuneRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from helpers.model.backbones import Backbone
    from helpers.model.head import Head


@dataclass(frozen=True)
class Several:
    """Networks of one kind. With `mirror`, each looks at an image and at its mirror image."""

    runs: tuple[FinetuneRun, ...]
    mirror: bool = False

    @property
    def selections(self) -> tuple[str, ...]:
        """By what an epoch was chosen: "validation", and "test" where there were test rows."""
        return tuple(self.runs[0].weights)

    @property
    def history(self) -> pd.DataFrame:
        """The networks' histories, one below the other, with `network` counting from 1."""
        return pd.concat([run.history.assign(network=i) for i, run in enumerate(self.runs, 1)], ignore_index=True)

    def predict(self, images: np.ndarray, selection: str = "validation") -> np.ndarray:
        """Mean probabilities, float32 (n, classes), of uint8 (n, size, size)."""
        return np.mean([self._looks(run, images, selection) for run in self.runs], axis=0, dtype=np.float32)

    def _looks(self, run: FinetuneRun, images: np.ndarray, selection: str) -> np.ndarray:
        predict = run.predictor(selection)
        given = predict(images)
        return (given + predict(np.ascontiguousarray(images[:, :, ::-1]))) / 2 if self.mirror else given

    def save(self, folder: Path) -> None:
        """Each network in a folder of its own, network_1 and so on; see `FinetuneRun.save`."""
        for i, run in enumerate(self.runs, 1):
            run.save(folder / f"network_{i}")


def finetune_several(
    networks: int,
    backbone: Backbone,
    train_images: Callable[[int], ImageSource],
    held_out_images: ImageSource,
    labels: np.ndarray,
    split: Sequence[str] | pd.Series,
    classes: Sequence[str],
    settings: FinetuneSettings,
    head: Head | None = None,
    checkpoints: Path | None = None,
    mirror: bool = False,
) -> Several:
    """As `finetune`, for the seeds `settings.seed` and up; `train_images` makes the source of a seed's variants.

    Each has checkpoints of its own, so a killed run goes on in the network it was at.
    """
    runs = []
    for i in range(networks):
        mine = replace(settings, seed=settings.seed + i)
        place = None if checkpoints is None else Path(checkpoints) / f"network_{i + 1}"
        sources = (train_images(mine.seed), held_out_images)
        runs.append(finetune(backbone, *sources, labels, split, classes, mine, head, place))
    return Several(tuple(runs), mirror)
