"""The published experiment at its full size: InceptionV3 at 299 pixels, heads of 10,000 steps, notebooks 00 to 05.

    python benchmarks/full_scale.py [--images 1500] [--height 496] [--folder FOLDER] [KEY=VALUE ...]

The stand-in of the published OCT data has their layout, names, proportions and numbers of patients. Its JPEGs are some
hundred phantom B-scans of 512 x 496 pixels, each time mirrored, moved, of another brightness and encoded anew, so that
no two files are the same and few look like copies. Then `make reproduce PROFILE=paper ONLY=00,01,02,03,04,05` runs on
it as a user would, with random weights, which take the time of any. (They are those of a file: with WEIGHTS=none the
learning curve's random network would be the same network, and its features would not be computed.)

`--images 109312` is the published number, for which all is measured. With fewer, every step's seconds are extrapolated,
and the table says by what: the images that go through the network, those that are decoded, the files that are listed,
or a head's training on so many features, which is measured beside on made-up ones. Memory is not extrapolated.
`--height 32` makes small files, with which a whole catalogue is tried in minutes: see to it that the network is small
too (BACKBONE=MobileNetV2 IMAGE_SIZE=32). `--folder` keeps the files, and uses those that are there.
Settings are those of `make reproduce`.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from head import random_features, seconds_a_step
from PIL import Image
from reproduce import copy_checkout, reproduce, seconds_of

from helpers.data.copies import BITS, BLOCK, THUMBNAIL
from helpers.data.images import read_square
from helpers.data.kermany_images import OCT_CLASSES, OCT_COUNTS
from helpers.data.scan import examine, listing
from helpers.kermany.models import CLASSES, PENALTIES
from helpers.model.head import fit_head
from helpers.phantoms import oct
from helpers.run.profile import Profile, load_profile
from helpers.run.provenance import available_cores, cpu_model, read_json
from helpers.run.steps import kind_of, made_in_order, needed, notebook_reads, step_named

TRAIN = OCT_COUNTS["images"]["train"]
WHOLE = sum(TRAIN.values()) + 1000
PATIENTS = OCT_COUNTS["patients"]
NOTEBOOKS = "00_data 01_training_curves 02_multiclass_roc 03_binary_roc 04_limited_data 05_expert_comparison".split()
FITTED = 200  # training images of each class of the one fit of a learning curve that is timed
BASES = 60  # phantom B-scans of each class that all others are made from
WIDTH, HEIGHT, QUALITY = 512, 496, 75
HOURS, MEMORY = 2.0, 6.0  # what is asked for: hours on two cores, and GB
RUN = "full"
SAMPLE = 400  # files whose looking at and decoding are timed
BAR = re.compile(r"features: 100%.*?(\d+)/\1 \[.*?, +([\d.]+)(img/s|s/img)\]")
SCENES: dict[str, list[Image.Image]] = {}


# --- the stand-in -----------------------------------------------------------------------------------------------------


def counts_of(images: int) -> dict[str, dict[str, int]]:
    """Images by folder and class: the published proportions to train, and up to 250 of each class to test, as many as
    there are from 1,500 images on: the notebooks' times hang on them."""
    test = min(250, max(8, images // 6))
    train = images - 4 * test
    shares = {label: max(12, round(train * n / sum(TRAIN.values()))) for label, n in TRAIN.items()}
    return {"train": shares, "test": dict.fromkeys(OCT_CLASSES, test)}


def names_of(counts: dict[str, dict[str, int]]) -> Iterator[tuple[str, int]]:
    """Paths as published, <folder>/<CLASS>/<CLASS>-<patient>-<number>.jpeg, and a number of each image's own."""
    image, patient = 0, 10_000
    for folder, classes in counts.items():
        most = max(1, round(sum(OCT_COUNTS["images"][folder].values()) / PATIENTS[folder]))  # 23 and 2
        for label, count in classes.items():
            for k in range(count):
                own = k % min(most, max(1, count // 4))
                patient += not own
                yield f"{folder}/{label}/{label}-{patient}-{own + 1}.jpeg", image
                image += 1


def draw_scenes(height: int) -> dict[str, list[Image.Image]]:
    """Phantom B-scans by class, at the published size or another `height`."""
    plan, size = oct.plan_oct(train=BASES * 20, test_per_class=1, seed=1), (round(WIDTH * height / HEIGHT), height)
    drawn = {}
    for label in OCT_CLASSES:
        rows = plan[plan["label"] == label].head(BASES).to_dict("records")
        drawn[label] = [Image.fromarray(oct.draw(1, [row])[0][0]).resize(size) for row in rows]
    return drawn


def make_files(root: Path, images: int, height: int) -> float:
    """The stand-in in `root`, unless it is there; the seconds that it took."""
    began, jobs = time.monotonic(), list(names_of(counts_of(images)))
    if root.exists():
        if (there := len(listing(root))) != len(jobs):
            raise SystemExit(f"{root} holds {there:,} files, not {len(jobs):,}: give another --images or --folder")
        return 0.0
    for folder in {Path(name).parent for name, _ in jobs}:
        (root / folder).mkdir(parents=True)
    parts = [(root, jobs[k : k + 500]) for k in range(0, len(jobs), 500)]
    with ProcessPoolExecutor(available_cores(), initializer=hold, initargs=(draw_scenes(height),)) as pool:
        list(pool.map(write_part, *zip(*parts, strict=True)))
    return time.monotonic() - began


def hold(scenes: dict[str, list[Image.Image]]) -> None:
    """Keep the scenes in a process that writes files."""
    SCENES.update(scenes)


def write_part(root: Path, jobs: list[tuple[str, int]]) -> None:
    """Some files, each from a scene of its class, changed as its number says."""
    for name, number in jobs:
        random = np.random.default_rng(number)
        scene = np.asarray(SCENES[name.split("/")[1]][random.integers(BASES)])
        turned = scene[:, :: random.choice((-1, 1))]
        down, across = random.integers(-scene.shape[0] // 8, scene.shape[0] // 8), random.integers(scene.shape[1])
        moved = np.roll(turned, (down, across), (0, 1))
        levels = np.clip(np.arange(256) * random.uniform(0.75, 1.15), 0, 255).astype(np.uint8)
        Image.fromarray(levels[moved]).save(root / name, quality=QUALITY, comment=name)


def save_weights(path: Path, profile: Profile) -> None:
    """Random weights of the backbone, as a file."""
    from helpers.model.backbones import load_backbone

    load_backbone(profile.backbone, "none", profile.image_size, profile.seed + 1).model.save_weights(path)


# --- what is measured, and what it would be at full size --------------------------------------------------------------


def computed(place: Path, step: str) -> tuple[int, float]:
    """Images whose features a step computed, and the seconds of that alone, by the rate in its log."""
    text = (place / f"runs/{RUN}/logs/{step}.stderr.log").read_text(encoding="utf-8", errors="replace")
    if not (bars := BAR.findall(text)):
        raise SystemExit(f"{step} computed no features")
    count, rate, unit = int(bars[-1][0]), float(bars[-1][1]), bars[-1][2]
    return count, count / rate if unit == "img/s" else count * rate


class Sizes:
    """Images by part of the split, for so many images: what heads are trained on."""

    def __init__(self, images: int, share: float) -> None:
        """`share`: of the training folder's images that are validated on."""
        counts = counts_of(images)
        self.train = {label: n * (1 - share) for label, n in counts["train"].items()}
        self.held_out = {label: (n * share, counts["test"][label]) for label, n in counts["train"].items()}

    def head(self, classes: tuple[str, ...], per_class: float = np.inf) -> tuple[int, int, int]:
        """Images to train, validate and test a head of these classes on."""
        train = sum(min(self.train[label], per_class) for label in classes)
        return round(train), *(round(sum(self.held_out[label][k] for label in classes)) for k in (0, 1))


def drawn_by_curve(sizes: Sizes, profile: Profile) -> float:
    """How many images the learning curve's random network sees: draws of one size overlap by chance."""
    size = max((one for one in profile.curve_per_class if one <= min(sizes.train.values())), default=0)
    drawn = sum(n * (1 - (1 - size / n) ** profile.curve_seeds) for n in sizes.train.values())
    return drawn + sum(sizes.head(OCT_CLASSES)[1:])


def head_seconds(name: str, sizes: Sizes, profile: Profile, width: int) -> float:
    """The seconds that training the head of a step takes, for so many images."""
    limit = min(profile.limited_per_class, *sizes.train.values()) if name == "limited" else np.inf
    rows = sizes.head(CLASSES[name], limit)
    return profile.head_steps * seconds_a_step(*rows, width, len(profile.head_l2), profile.head_evaluate_every)


def curve_seconds(here: Sizes, whole: Sizes, profile: Profile, width: int) -> float:
    """The seconds of the learning curve's fits that there are too few images for here, by one of `FITTED` a class."""
    most, least = (min(sizes.train.values()) for sizes in (whole, here))
    missing = [one for one in profile.curve_per_class if least < one <= most]
    rows = 4 * FITTED
    labels, split = np.resize(OCT_CLASSES, 2 * rows), np.repeat(["train", "validation"], rows)
    began = time.monotonic()
    if missing:
        fit_head(random_features(2 * rows, width), labels, split, OCT_CLASSES, PENALTIES)
    return 2 * profile.curve_seeds * (time.monotonic() - began) * sum(missing) / FITTED


def pairs_seconds() -> float:
    """Seconds of comparing all pairs of average hashes at full size, in a notebook's one thread, from a few blocks."""
    hashes, blocks = np.random.default_rng(0).integers(0, 2**63, WHOLE, np.uint64), range(0, WHOLE, WHOLE // 8)
    began = time.monotonic()
    for start in blocks:
        np.nonzero(np.triu(np.bitwise_count(hashes[start : start + BLOCK, None] ^ hashes[None, start:]) <= BITS, 1))
    return (time.monotonic() - began) / len(blocks) * WHOLE / BLOCK


def time_files(root: Path) -> dict[str, float]:
    """Seconds that a file takes: "listed" among all, "looked at" by the catalogue, "decoded" for the search of copies.
    The latter two are of a sample, on as many threads as there: all cores, and a notebook's one."""
    began = time.monotonic()
    found = [root / name for name in listing(root)["path"]]
    took, some = {"listed": (time.monotonic() - began) / len(found)}, found[:: max(1, len(found) // SAMPLE)]
    decode = partial(read_square, size=THUMBNAIL)
    for what, work, threads in (("looked at", examine, available_cores()), ("decoded", decode, 1)):
        work(some[0])  # compiles
        began = time.monotonic()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, some))
        took[what] = (time.monotonic() - began) / len(some)
    return took


def extrapolate(place: Path, seconds: dict[str, float], images: int, profile: Profile, files: dict) -> pd.DataFrame:
    """Of each step and notebook, in the order of a run: seconds, what they grow with, and seconds at full size.

    `files`: what `time_files` gives. A step lists all files once, a notebook's kernel twice.
    """
    stage = read_json(place / f"runs/{RUN}/stages/oct_data.json")
    share = stage["validation images"] / (stage["validation images"] + stage["train images"])
    here, whole = Sizes(images, share), Sizes(WHOLE, profile.validation_fraction)
    width, rows = read_json(place / f"runs/{RUN}/stages/oct_features.json")["width"], []
    for name in (one for one in made_in_order() if one in seconds):
        more, by = (1 + (name in NOTEBOOKS)) * files["listed"] * (WHOLE - images), ["files listed"]
        if name.endswith("_features") or name == "learning_curve":
            count, took = computed(place, name)
            wanted = WHOLE if name != "learning_curve" else drawn_by_curve(whole, profile)
            more, by = more + took * (wanted / max(count, 1) - 1), [*by, f"{wanted:,.0f} images through the network"]
        if name == "learning_curve":
            more, by = more + curve_seconds(here, whole, profile, width), [*by, "images a class"]
        elif kind_of(name) == "head":
            more += head_seconds(name, whole, profile, width) - head_seconds(name, here, profile, width)
            by += ["a head's features"]
        if name == "00_data":
            more += files["decoded"] * (WHOLE - images) + pairs_seconds()
            by += ["images decoded", "pairs compared"]
        rows.append((name, seconds[name], seconds[name] + more, "; ".join(by)))
    return pd.DataFrame(rows, columns=["step", "seconds", "at full size", "grows with"]).set_index("step")


def scheduled(seconds: dict[str, float], cores: int) -> float:
    """Seconds of a run whose steps take so long, begun as the Snakefile has them: one after what it reads, on one core
    or, of images, on all."""
    waiting, done, running, now = list(seconds), set(), {}, 0.0
    while waiting or running:
        for name in list(waiting):
            before = step_named(name).after if name not in NOTEBOOKS else needed(notebook_reads(name).steps)
            threads = 1 if kind_of(name) in ("head", "notebook") else cores
            if set(before) & seconds.keys() <= done and sum(t for _, t in running.values()) + threads <= cores:
                waiting.remove(name)
                running[name] = now + seconds[name], threads
        first = min(running, key=lambda name: running[name][0])
        now = running.pop(first)[0]
        done.add(first)
    return now


# --- the report -------------------------------------------------------------------------------------------------------


def measure(folder: Path, asked: argparse.Namespace) -> None:
    """Make the files, run, and print the table."""
    with tempfile.TemporaryDirectory(prefix="full-scale-") as temporary:
        place, root, weights = Path(temporary) / "checkout", folder / "OCT2017", Path(temporary) / "random.weights.h5"
        made, run = make_files(root, asked.images, asked.height), place / f"runs/{RUN}"
        profile = load_profile("paper", [word for word in asked.settings if word.split("=")[0].lower() != "jobs"])
        save_weights(weights, profile)
        copy_checkout(place)
        only = ",".join(name[:2] for name in NOTEBOOKS)
        words = ["PROFILE=paper", f"RUN={RUN}", f"ONLY={only}", f"DATA_DIR={folder}"]
        watched = {"started": run / "profile.json", "4A": place / f"figures/{RUN}/{NOTEBOOKS[2]}/figure_4a.png"}
        total, watch = reproduce(place, [*words, *asked.settings, f"WEIGHTS={weights}"], watched)
        seconds, files = seconds_of(run), time_files(root)
        table = pd.DataFrame({"seconds": seconds})
        if asked.images < WHOLE:
            table = extrapolate(place, seconds, asked.images, profile, files)
        rates = {name: computed(place, name) for name in ("oct_features", "learning_curve")}
    print(f"\n{cpu_model()}, {available_cores()} cores; {asked.images:,} files of {asked.height} pixels' height")
    network = f"{profile.backbone} at {profile.image_size} px"
    print(f"{network}; heads of {profile.head_steps:,} steps, {len(profile.head_l2)} penalties")
    print(table.to_string(float_format=lambda value: f"{value:.1f}"))
    for name, (count, took) in rates.items():
        print(f"{name}: {count:,} images in {took:.0f} s, {count / max(took, 1):.1f} images/s")
    catalogued = watch.seen["started"]
    print(f"making the stand-in {made:.0f} s; looking at every file, before the first step, {catalogued:.1f} s")
    print(f"figure 4A after {watch.seen['4A']:.0f} s, all after {total:.0f} s")
    print(f"most memory {watch.peak / 1e9:.2f} GB; without pages of files {watch.own_peak / 1e9:.2f} GB", end=" ")
    print(f"(while {', '.join(watch.ran)} ran); asked for: under {MEMORY:.0f} GB")
    if asked.images < WHOLE:
        cores, looked_at = available_cores(), catalogued + files["looked at"] * (WHOLE - asked.images)
        rest = total - catalogued - scheduled(table["seconds"].to_dict(), cores)
        total = looked_at + scheduled(table["at full size"].to_dict(), cores) + rest
        print(f"\nEXTRAPOLATED to {WHOLE:,} images, not measured:")
        print(f"looking at every file {looked_at:.0f} s, all after {total:,.0f} s")
    reached = "REACHED" if total < 3600 * HOURS else "NOT REACHED"
    print(f"{total / 3600:.2f} hours; asked for: {HOURS:.0f} on two cores: {reached}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1500, help=f"in all; as published: {WHOLE}")
    parser.add_argument("--height", type=int, default=HEIGHT, help="of the files, in pixels")
    parser.add_argument("--folder", type=Path, help="where the files are kept, or lie already")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="of `make reproduce`")
    asked = parser.parse_args()
    if not 96 <= asked.images <= WHOLE:
        parser.error(f"--images {asked.images}: from 96 to {WHOLE}")
    with tempfile.TemporaryDirectory(prefix="full-scale-data-") as temporary:
        folder = (asked.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        measure(folder, asked)


if __name__ == "__main__":
    main()
