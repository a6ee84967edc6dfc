"""Several networks fine-tuned alike, from other seeds, and used as one: their probabilities are averaged.

Beyond the papers; after Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep
Ensembles". Whatever the order of images and the dropout did to one network alone averages out. The network as it was
before it learnt, a last layer on frozen features, may have a share in the mean, much as Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models", average a network before and after (they, its weights).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from helpers.model.finetune import FinetuneSettings, ImageSource, finetune
from helpers.model.finetune_loop import HISTORY
from helpers.model.finetune_network import assemble, set_head
from helpers.model.finetuned import FinetuneRun
from helpers.provenance import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from helpers.model.backbones import Backbone
    from helpers.model.heads import Head


@dataclass(frozen=True)
class Several:
    """Networks of one kind. With `mirror`, each looks at an image and at its mirror image.

    `start` is the network before it learnt, `share` its weight beside the mean of the others.
    """

    runs: tuple[FinetuneRun, ...]
    mirror: bool = False
    start: FinetuneRun | None = None
    share: float = 0.0

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
        tuned = np.mean([self._looks(run, images, selection) for run in self.runs], axis=0, dtype=np.float32)
        if self.start is None:
            return tuned
        return (1 - self.share) * tuned + self.share * self._looks(self.start, images, "validation")

    def _looks(self, run: FinetuneRun, images: np.ndarray, selection: str) -> np.ndarray:
        predict = run.predictor(selection)
        given = predict(images)
        return (given + predict(np.ascontiguousarray(images[:, :, ::-1]))) / 2 if self.mirror else given

    def save(self, folder: Path) -> None:
        """Each network in a folder of its own, network_1 and so on (the start: network_0); see `FinetuneRun.save`."""
        for i, run in enumerate((self.start, *self.runs)):
            if run is not None:
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
    start_share: float = 0.0,
) -> Several:
    """As `finetune`, for the seeds `settings.seed` and up; `train_images` makes the source of a seed's variants.

    Each has checkpoints of its own, so a killed run goes on in the network it was at. Raises `ValueError` where the
    start is to have a share and there is no head that it could be.
    """
    if start_share and head is None:
        raise ValueError(f"start_share = {start_share}; without a trained head the start knows nothing")
    runs = []
    for i in range(networks):
        mine = replace(settings, seed=settings.seed + i)
        place = None if checkpoints is None else Path(checkpoints) / f"network_{i + 1}"
        sources = (train_images(mine.seed), held_out_images)
        runs.append(finetune(backbone, *sources, labels, split, classes, mine, head, place))
    start = _untuned(backbone, head, settings) if start_share else None
    return Several(tuple(runs), mirror, start, start_share)


def _untuned(backbone: Backbone, head: Head, settings: FinetuneSettings) -> FinetuneRun:
    """The network as it is before the first step."""
    logits, _ = assemble(backbone, len(head.classes))
    set_head(logits, head, settings.seed)
    told = {"backbone": backbone.name, "weights": backbone.weights, "weights_digest": backbone.weights_digest}
    key = digest_of([told, head.kernel.tolist(), head.bias.tolist()])
    history = pd.DataFrame(columns=list(HISTORY))
    return FinetuneRun(
        backbone, head.classes, {"validation": logits.get_weights()}, {"validation": 0}, history, told, key
    )
