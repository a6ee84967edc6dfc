"""Make one step of a run, or find what was made before: a data set, its features, or an experiment.

Snakemake and the notebooks call the same functions, so a notebook opened alone finds what a run has made, or makes it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from helpers.data.splits import Source
from helpers.model.backbones import Backbone, load_backbone
from helpers.model.experiment import Experiment, Images, Inputs, find_experiment, run_experiment
from helpers.model.features import Features, FeatureStore, complete, extract
from helpers.run.cache import resolve, settings_of_step, step_key
from helpers.run.profile import Profile, Run, Settings
from helpers.run.provenance import collected_warnings, read_json, write_json
from helpers.run.steps import needed, step_named

UNFINISHED = "it was started and has not ended: it is at work now, or was killed, most often for want of memory"


def run_step(name: str, run: Run) -> None:
    """Make one step of a run, and leave its key, what it made, and its warnings for Snakemake and the report.

    A step that fails, or is killed, leaves why among the timings; the report repeats it.
    """
    profile, warnings = run.load_profile(), []
    key, began = step_key(name, profile), time.monotonic()
    write_json(run.timing(name), {"seconds": 0, "error": UNFINISHED})
    try:
        with collected_warnings(warnings):
            made = MAKERS[step_named(name).kind](name, run, profile)
        write_json(run.stage(name), made | {"key": key, "warnings": warnings})
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"
        write_json(run.timing(name), {"seconds": round(time.monotonic() - began, 1), "error": text})
        raise
    run.stage(name).touch()  # Snakemake goes by time
    write_json(run.timing(name), {"seconds": round(time.monotonic() - began, 1), "error": ""})


def compute_piece(name: str, number: str, pieces: str, run: Run) -> None:
    """Compute one piece of a step's features; the step itself then finds them all computed, and gathers them."""
    step = step_named(name)
    source = Source(step.data, settings_of_step(step, run.load_profile()))
    complete(source.settings, source.catalogue, _backbone(source.settings), piece=(int(number), int(pieces)))


def is_made(name: str, run: Run, key: str) -> bool:
    """Whether this step's result is kept under this key already."""
    if not run.stage(name).is_file():
        return False
    left = read_json(run.stage(name))
    return left.get("key") == key and Path(left["kept"]).exists()


def experiment_of(name: str, run: Run, profile: Profile) -> Experiment:
    """A named experiment of this run: found where all that it is made from is as it was, else trained now."""
    step, key = step_named(name), step_key(name, profile)
    if found := find_experiment(run.experiments, name, key):
        return found
    settings = settings_of_step(step, profile)
    read = {step_named(before).data for before in needed(step.after) if step_named(before).kind == "data"}
    sources = {data: Source(data, settings) for data in read | {step.data}}
    images = {data: Images(source.catalogue, source.frame) for data, source in sources.items()}
    inputs = Inputs(
        name=name,
        own=images.pop(step.data),
        others=images,
        settings=settings,
        features=lambda: features_of(sources[step.data], run, profile),
    )
    return run_experiment(resolve(step.maker), key, run.experiments, inputs)


def features_of(source: Source, run: Run, profile: Profile) -> np.ndarray:
    """float32 (n, features) of a data set's images, rows as its split frame: from the store, else computed now.

    Where the step has left its store, no network is loaded, which would take longer than to read the features.
    """
    step, digests = f"{source.name}_features", source.frame["digest"].tolist()
    if is_made(step, run, step_key(step, profile)):
        left = read_json(run.stage(step))
        return FeatureStore(Path(left["kept"]), left["store"]).gather(digests, left["width"])[0]
    own = settings_of_step(step_named(step), profile)  # who reads features need not name what they are made by
    return _extract(Source(source.name, own)).of(source.frame["image_id"])


def _extract(source: Source) -> Features:
    return extract(source.settings, source.catalogue, _backbone(source.settings))


def _backbone(settings: Settings) -> Backbone:
    return load_backbone(settings.backbone, settings.weights, settings.image_size, settings.seed)


def _data(name: str, run: Run, profile: Profile) -> dict[str, Any]:
    step = step_named(name)
    source = Source(step.data, settings_of_step(step, profile))
    catalogue, split = source.catalogue, source.split
    for row in catalogue.excluded_by_reason(named=3):
        print(f"{row['data']}: {row['files']:,} not used, {row['reason']}: {row['first']}", file=sys.stderr)
    return {
        "kept": str(catalogue.root),
        "source": catalogue.name,
        "images": len(catalogue),
        "set aside": len(catalogue.set_aside),
        "absent": len(catalogue.excluded) - len(catalogue.set_aside),
        "fingerprint": catalogue.fingerprint(),
        "split": split.kind,
        **{f"{part} images": int(n) for part, n in split.frame["split"].value_counts().items()},
        "dropped": len(split.dropped),
    }


def _features(name: str, run: Run, profile: Profile) -> dict[str, Any]:
    step = step_named(name)
    made = _extract(Source(step.data, settings_of_step(step, profile)))
    return {
        "kept": str(made.folder),
        "store": made.key,
        "width": made.features.shape[1],
        "engine": made.engine,
        "precision": made.precision,
        "agreement": made.agreement,
    }


def _experiment(name: str, run: Run, profile: Profile) -> dict[str, Any]:
    made = experiment_of(name, run, profile)
    return {"kept": str(made.folder), **made.summary}


MAKERS = {"data": _data, "features": _features, "experiment": _experiment}
