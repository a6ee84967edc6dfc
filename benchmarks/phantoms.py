"""Drawing and storing each phantom set: all cores beside one process that draws image after image.

    python benchmarks/phantoms.py [oct octid xray ...] [--images 120] [--workers 0] [--profile phantom]

About `--images` of each set are drawn, planned in the proportions of the profile, each way into an empty folder: files,
masks, digests and table included. Images per second leave out what a few images take, which is mostly the start of the
processes; the whole set is that start and the rate. They are by the clock, which means something on an idle machine
only; the processor's milliseconds per image, of all processes together, do not depend so much on what else runs. The
limit of the ratio is the number of cores: images are drawn apart from each other.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from helpers.carr.data import OCTID_VALIDATION
from helpers.phantoms import chest_plans, oct
from helpers.phantoms.store import PhantomSet
from helpers.run.profile import Profile, load_profile
from helpers.run.provenance import available_cores
from helpers.zech.data import LABEL_NOISE, SHARES

FEW = 30  # images that are drawn to see what the start takes
TARGET = 20  # seconds for a whole set of the default profile on 2 cores
SETS: dict[str, tuple[PhantomSet, Callable[[Profile], dict]]] = {
    "oct": (oct.OCT, lambda p: {"train": p.phantom_oct_train, "test_per_class": p.phantom_oct_test_per_class}),
    "octid": (
        oct.OCTID,
        lambda p: {
            "per_class": p.bridge_octid_images + OCTID_VALIDATION,
            "test_per_class": p.phantom_octid_test_per_class,
        },
    ),
    "xray": (chest_plans.PNEUMONIA, lambda p: {"train": p.phantom_xray_train, "test": p.phantom_xray_test}),
    "views": (
        chest_plans.VIEWS,
        lambda p: {"train": p.phantom_view_train, "test": p.phantom_view_test, "public": p.phantom_view_test},
    ),
    "covid": (chest_plans.COVID, lambda p: {"train": p.phantom_covid_train, "test": p.phantom_covid_test}),
    "nih": (
        chest_plans.NIH,
        lambda p: {"images": p.phantom_nih_images, "test_share": SHARES[2], "label_noise": LABEL_NOISE},
    ),
    "sites": (chest_plans.SITES, lambda p: {"bodies": p.phantom_sites_bodies}),
    "regions": (chest_plans.REGIONS, lambda p: {"images": p.phantom_sites_regions}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", default=list(SETS), help=f"of {', '.join(SETS)}")
    parser.add_argument("--images", type=int, default=120, help="of each set, about")
    parser.add_argument("--workers", type=int, default=0, help="processes of the second way; 0: one per core")
    parser.add_argument("--profile", default="phantom")
    given = parser.parse_args()
    if unknown := sorted(set(given.sets) - set(SETS)):
        parser.error(f"no set {', '.join(unknown)}; there are {', '.join(SETS)}")
    cores, profile = given.workers or available_cores(), load_profile(given.profile)
    print("set      images     one     all  ratio  of limit  processor ms  start s  whole set   seconds")
    for name in given.sets:
        phantoms, settings_of = SETS[name]
        whole = settings_of(profile) | {"seed": profile.seed}
        total = len(phantoms.plan(**whole))
        few, many = (shrink(whole, min(1.0, images / total)) for images in (FEW, given.images))
        draw(phantoms, few, 1)  # compiles
        starts, ends = ([draw(phantoms, part, n) for n in (1, given.workers)] for part in (few, many))
        (images, alone, _), (_, every, busy) = np.subtract(ends, starts)
        drawn, start, _ = starts[1]
        seconds = start + (total - drawn) * every / images
        rates = f"{images / alone:8.1f}{images / every:8.1f}{alone / every:7.2f}{alone / every / cores:10.2f}"
        rates += f"{1000 * busy / images:14.1f}"
        over = " (over the target)" if seconds > TARGET else ""
        print(f"{name:8}{images:7.0f}{rates}{start:9.1f}{total:11}{seconds:10.1f}{over}", flush=True)


def shrink(settings: dict, share: float) -> dict:
    """The settings with every number of images, which are the whole numbers, at this share."""
    seed = {"seed": settings["seed"]}
    return {k: max(1, round(share * v)) if isinstance(v, int) else v for k, v in settings.items()} | seed


def draw(phantoms: PhantomSet, settings: dict, workers: int) -> tuple[int, float, float]:
    """Number of images, seconds by the clock, and of the processor in all processes."""
    with tempfile.TemporaryDirectory() as folder:
        began, busy = time.perf_counter(), sum(os.times()[:4])
        images = len(phantoms.load(Path(folder), workers, **settings).frame)
        return images, time.perf_counter() - began, sum(os.times()[:4]) - busy


if __name__ == "__main__":
    main()
