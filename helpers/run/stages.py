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
    from helpers.model.experiments import Experiment
    from helpers.model.features import Features
    from helpers.model.networks import NetworkExperiment

UNFINISHED = "it was started and did not end: it was killed, most often for want of memory"


def split_of(profile: Profile, catalogue: Catalogue, data: str = "oct") -> Split:
    """The catalogue's rows with their `split`, and those dropped; see `helpers.data.splits`.

    Of the pneumonia radiographs a part of the training patients is "held-out", to be compared with the test folder.
    """
    from dataclasses import replace

    from helpers.data.splits import hold_out, split

    if data == "covid":
        from helpers.carr import data as covid

        return covid.split_of(catalogue, profile.split, profile.bridge_validation_fraction, profile.seed)
    if data == "sites":
        from helpers.zech import site_data as sites

        return sites.split_by_site(catalogue, profile.split, profile.sites_validation_fraction, profile.seed)
    train, tune, _ = profile.nih_shares
    fractions = {"views": profile.view_validation_fraction, "nih": tune / (train + tune)}
    fractions["octid"] = profile.octid_validation / (profile.bridge_octid_images + profile.octid_validation)
    fraction = fractions.get(data, profile.validation_fraction)
    made = split(catalogue, profile.split, fraction, profile.seed)
    if data == "xray":
        made = replace(made, frame=hold_out(made.frame, profile.held_out_fraction, profile.seed))
    return made


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
        return split_of(self.profile, self.catalogue, self.data)

    @cached_property
    def bottlenecks(self) -> Features:
        return bottlenecks_of(self.profile, self.catalogue)

    def features(self) -> np.ndarray:
        """float32 (n, features), rows as `split.frame`, which may lack images of the catalogue."""
        return self.bottlenecks.of(self.split.frame["image_id"])


def experiment_of(parts: Parts, run: Run, name: str) -> Experiment | NetworkExperiment:
    """A named experiment of this run: loaded where it was trained from the same things before, else trained now."""
    if STEPS[name].kind == "network":
        from helpers.model.networks import Images, run_network

        data = {STEPS[step].data for step in STEPS[name].after if STEPS[step].kind == "data"} - {parts.data}
        beside = {other: Parts(parts.profile, other) for other in data}
        others = {other: Images(made.catalogue, made.split.frame) for other, made in beside.items()}
        own = Images(parts.catalogue, parts.split.frame)
        return run_network(name, own, parts.profile, run.experiments, others)
    from helpers.model.experiments import run_experiment

    return run_experiment(name, parts.split.frame, parts.features(), parts.profile, run.experiments)


def learning_curve_of(parts: Parts, run: Run) -> pd.DataFrame:
    """The learning curve's points, for the profile's weights and for the same backbone as initialised at random.

    Columns initialisation, per_class, seed, accuracy, auroc (of urgent referral), both on the test images. Of the
    random network only the features of images that are drawn are computed.
    """
    import pandas as pd

    from helpers.kermany.learning_curve import draws, learning_curve

    points = draws(parts.split.frame, parts.profile)
    needed = pd.concat([frame for _, _, frame in points]).drop_duplicates("image_id")
    drawn = parts.catalogue.subset(parts.catalogue.frame[parts.catalogue.frame["image_id"].isin(needed["image_id"])])

    def features(weights: str) -> pd.DataFrame:
        made = parts.bottlenecks if not weights else bottlenecks_of(parts.profile, drawn, weights)
        return pd.DataFrame(made.features, index=made.image_ids)

    made_from = [parts.catalogue.fingerprint(), parts.bottlenecks.key]
    ways = {"pre-trained": lambda: features(""), "random initialisation": lambda: features("none")}
    return learning_curve(points, ways, parts.profile, run.experiments, str(made_from))


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
    if name == "learning_curve":
        return _curve
    if STEPS[name].kind in ("experiment", "network"):
        return lambda parts, run: experiment_of(parts, run, name).told()
    return {"data": _data, "bottlenecks": _bottlenecks}[STEPS[name].kind]


def _curve(parts: Parts, run: Run) -> dict[str, Any]:
    points = learning_curve_of(parts, run)
    return {"points": len(points), "digest": digest_of(points.to_csv(index=False))}


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
