"""The steps before any notebook, each kept on disk and made only once: data, split, bottlenecks, experiments.

A notebook and the Snakefile call the same functions, so a notebook opened alone finds what a run has made, or makes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from helpers.run.profile import Profile, ProfileError, nearest
from helpers.run.provenance import collected_warnings, digest_of, write_json
from helpers.run.runs import Run
from helpers.run.steps import STEPS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from helpers.data.catalogue import Catalogue
    from helpers.data.splits import Split
    from helpers.model.experiment import Experiment, Images, Inputs
    from helpers.model.features import Features

UNFINISHED = "it was started and did not end: it was killed, most often for want of memory"


def bottlenecks_of(profile: Profile, catalogue: Catalogue, weights: str = "") -> Features:
    """Features of every image, from the profile's backbone, or from the same one with other `weights`."""
    from helpers.model.backbones import load_backbone
    from helpers.model.features import extract_for

    backbone = load_backbone(profile.backbone, weights or profile.weights, profile.image_size, profile.seed)
    return extract_for(profile, catalogue, backbone)


@dataclass
class Parts:
    """What the experiments on one data set are made from. Each is made, or found on disk, when first asked for."""

    profile: Profile
    data: str = "oct"

    @cached_property
    def catalogue(self) -> Catalogue:
        from helpers.data.sources import LOADERS

        return LOADERS[self.data](self.profile)

    @cached_property
    def split(self) -> Split:
        from helpers.data import sources

        return sources.split(self.data, self.catalogue, self.profile)

    @cached_property
    def bottlenecks(self) -> Features:
        return bottlenecks_of(self.profile, self.catalogue)

    def features(self) -> np.ndarray:
        """float32 (n, features), rows as `split.frame`, which may lack images of the catalogue."""
        return self.bottlenecks.of(self.split.frame["image_id"])


HEADS = ("multiclass", "limited", "cnv_normal", "dme_normal", "drusen_normal")
HEADS += ("pneumonia", "bacteria_virus", "referral")
MAKERS = {  # who makes an experiment, and the beginnings of the profile's keys that it depends on
    **dict.fromkeys(HEADS, ("helpers.kermany.models:train_named_head", ("seed", "head_", "limited_per_class"))),
    "learning_curve": ("helpers.kermany.models:train_learning_curve", ("seed", "head_", "curve_")),
    "referral_finetuned": (
        "helpers.kermany.referral_network:referral_finetuned", ("seed", "backbone", "weights", "finetune_", "head_")
    ),
    "view_models": ("helpers.rajkomar.models:view_models", ("seed", "backbone", "view_")),
    "covid_bridge": (
        "helpers.carr.controls:train_covid_bridge", ("seed", "backbone", "weights", "bridge_", "head_standardise")
    ),
    "retinal_bridge": (
        "helpers.carr.models:train_retinal_bridge", ("seed", "backbone", "weights", "bridge_", "head_standardise")
    ),
    "site_models": (
        "helpers.zech.sites:train_site_models",
        ("seed", "backbone", "weights", "image_size", "engine", "precision", "sites_"),
    ),
    "region_models": (
        "helpers.zech.regions:train_region_models", ("seed", "backbone", "weights", "sites_backbone")
    ),
    "chexnet": ("helpers.zech.chexnet:train_chexnet", ("seed", "backbone", "weights", "chexnet_", "head_standardise")),
}  # fmt: skip


def experiment_of(parts: Parts, run: Run, name: str) -> Experiment:
    """A named experiment of this run: loaded where it was trained from the same things before, else trained now."""
    import importlib

    from helpers.model.experiment import Images, Inputs, run_experiment

    maker, keys = MAKERS[name]
    module, function = maker.split(":")
    data = {STEPS[step].data for step in STEPS[name].after if STEPS[step].kind == "data"} - {parts.data}
    beside = {other: Parts(parts.profile, other) for other in data}
    own, others = (
        Images(parts.catalogue, parts.split.frame),
        {other: Images(made.catalogue, made.split.frame) for other, made in beside.items()},
    )
    inputs = Inputs(name, own, others, parts.profile, features=parts.features)
    features = parts.bottlenecks.key if STEPS[name].kind == "experiment" else ""
    key = _experiment_key(keys, inputs, features)
    return run_experiment(getattr(importlib.import_module(module), function), key, run.experiments, inputs)


def _experiment_key(keys: tuple[str, ...], inputs: Inputs, features: str) -> str:
    from helpers.run.hardware import gpus

    values = inputs.settings.model_dump(mode="json")
    kept = {key: value for key, value in values.items() if key.startswith(keys)}
    content = {"": inputs.own, **inputs.others}
    return digest_of(
        [inputs.name, kept, {data: _content(images) for data, images in content.items()}, features, bool(gpus())]
    )


def _content(images: Images) -> list[str]:
    columns = [name for name in ("image_id", "label", "labels", "split", "site") if name in images.frame]
    return [images.catalogue.fingerprint(), digest_of(images.frame[columns].to_csv(index=False))]


def readers_of(profile: Profile, catalogue: Catalogue) -> pd.DataFrame:
    """Reads of the test images: from `readers_file`; without one simulated on phantoms, and none on real images.

    Columns reader, image_id, label, simulated.
    """
    import pandas as pd

    from helpers.kermany.readers import load_readers, simulate_readers

    test = catalogue.frame[catalogue.frame["published_split"] == "test"]
    if profile.readers_file:
        return load_readers(profile.readers_file, test["image_id"], catalogue.classes)
    if not catalogue.phantom:
        return pd.DataFrame(columns=["reader", "image_id", "label", "simulated"])
    return simulate_readers(test, catalogue.classes, seed=profile.seed)


def run_stage(name: str, run: Run) -> None:
    """Make one step of a run and leave what it made, in keys and fingerprints, for Snakemake and the report.

    A step that fails, or is killed, leaves why among the timings; the report tells of it.
    """
    if name not in STEPS:
        raise ProfileError(f"there is no step '{name}'{nearest(name, STEPS)}")
    told: list[str] = []
    began = time.monotonic()
    write_json(run.timing(name), {"seconds": 0, "error": UNFINISHED})
    try:
        with collected_warnings(told):
            parts = Parts(run.load_profile(), STEPS[name].data)
            made = _maker(name)(parts, run)
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"
        write_json(run.timing(name), {"seconds": round(time.monotonic() - began, 1), "error": text})
        raise
    write_json(run.stage(name), made | {"warnings": told})
    run.stage(name).touch()  # Snakemake goes by time; unchanged content is then found unchanged by its digest
    write_json(run.timing(name), {"seconds": round(time.monotonic() - began, 1), "error": ""})


def _maker(name: str) -> Callable[[Parts, Run], dict[str, Any]]:
    if STEPS[name].kind in ("experiment", "network"):
        return _experiment(name)
    return {"data": _data, "bottlenecks": _bottlenecks}[STEPS[name].kind]


def _experiment(name: str) -> Callable[[Parts, Run], dict[str, Any]]:
    def make(parts: Parts, run: Run) -> dict[str, Any]:
        made = experiment_of(parts, run, name)
        return {"key": made.key, **made.summary}

    return make


def _data(parts: Parts, run: Run) -> dict[str, Any]:
    return {
        "source": parts.catalogue.name,
        "images": len(parts.catalogue),
        "set aside": len(parts.catalogue.excluded),
        "fingerprint": parts.catalogue.fingerprint(),
        "split": parts.split.kind,
        **{f"{name} images": int(n) for name, n in parts.split.frame["split"].value_counts().items()},
        "dropped": len(parts.split.dropped),
    }


def _bottlenecks(parts: Parts, run: Run) -> dict[str, Any]:
    made = parts.bottlenecks
    return {"key": made.key, "engine": made.engine, "precision": made.precision, "agreement": made.agreement}
