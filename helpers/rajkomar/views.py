"""The view of every radiograph in a folder, by the classifier that notebook 08 trained: `make views SOURCE=folder`.

Rajkomar 2017: "Classification was rapid, at 38 images per second", which makes it "a feasible, rapid method for
high-throughput annotation". The network knows two views and nothing else: of a photograph, or of a hand, it says
frontal or lateral as well, and only sometimes with doubt.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import ValidationError

from helpers.data.damage import find_damage
from helpers.data.dicom import MODALITIES, RADIOGRAPHS, picture_of, read_dicom
from helpers.data.images import UnreadableImage, read_square
from helpers.data.scan import listing
from helpers.metrics.by_patient import first_training
from helpers.model.backbones import load_backbone
from helpers.model.engine import BATCH
from helpers.model.experiment import Experiment, find_experiment
from helpers.model.finetune import FinetunedNetwork
from helpers.run.cache import step_key
from helpers.run.profile import ProfileError, Run, load_profile
from helpers.run.provenance import available_cores, write_atomically

STEP, NOTEBOOK = "view_models", "08_view_classification"
RIGHT = 0.99  # share of the validation images, as sure or surer, that must be right where an answer is not doubtful
RARE = 0.01  # share of the validation images that may be less sure than an answer that is not doubtful
NO_CHEST = MODALITIES - RADIOGRAPHS - {"DR", "OT", "SC"}
COLUMNS = ["file", "view", "probability", "doubtful", "reason"]


def classify_views(words: Sequence[str]) -> int:
    """What `make views` does with its settings; the exit status: 1 where no file could be read."""
    given = {"target": "views.csv", "profile": "phantom", "run": ""}
    given |= {name.lower(): value for name, _, value in (word.partition("=") for word in words)}
    if set(given) != {"source", "target", "profile", "run"} or not given["source"]:
        raise ProfileError("views takes SOURCE=folder, and TARGET=views.csv, PROFILE= and RUN= where they differ")
    source, target = Path(given["source"]), Path(given["target"])
    if not source.is_dir() or target.is_dir():
        raise ProfileError(f"SOURCE={source} is no folder" if not source.is_dir() else f"TARGET={target} is a folder")
    trained = _find_classifier(given["profile"], Run(given["run"] or Path(given["profile"]).stem))
    body = load_backbone(trained.summary["backbone"], "none", trained.summary["image size"])
    network = FinetunedNetwork.load(trained.folder / "network_1", body)
    least, judged = doubt_threshold(first_training(trained.scores))  # the network's own
    table, seconds = classify_folder(source, network.predictor(), body.image_size, network.classes, least, target)
    write_atomically(target, lambda file: table.to_csv(file, index=False, float_format="%.4f"))
    seen = table[table["view"] != ""]
    counts = ", ".join(f"{count:,} {view}" for view, count in seen["view"].value_counts().items())
    print(
        f"{len(table):,} files in {target}: {counts or 'none with a view'}; {int((seen['doubtful'] == 'yes').sum()):,} "
        f"doubtful, {len(table) - len(seen):,} not readable (each with its reason)\n"
        f"{len(seen) / max(seconds, 1e-9):.0f} images per second, reading included (Rajkomar 2017: 38)\n"
        f"doubtful: a probability below {least:.4f}, from {judged:,} validation images"
    )
    return 0 if len(seen) else 1


def _find_classifier(profile_name: str, run: Run) -> Experiment:
    try:
        profile = run.load_profile() if run.profile_file.is_file() else load_profile(profile_name)
        trained = find_experiment(run.experiments, STEP, step_key(STEP, profile))
    except ValidationError:  # a run that was started before a setting came or went
        trained = None
    if trained is None:
        command = f"make reproduce PROFILE={profile_name} ONLY={NOTEBOOK} RUN={run.name}"
        text = f"run '{run.name}' has no view classifier of these data, settings and code; train it with"
        raise ProfileError(f"{text}: {command}")
    if profile.view_source == "phantom_chest":
        text = "this classifier was trained on phantoms and knows nothing of real radiographs"
        print(f"warning: {text}; PROFILE=paper trains one that does", file=sys.stderr)
    return trained


def doubt_threshold(scores: pd.DataFrame) -> tuple[float, int]:
    """The least probability of an answer that is not doubtful, and how many validation images decided it.

    It is the least from which on `RIGHT` of the validation images are right, but no less than what all but `RARE` of
    them reach: where none is wrong, an answer less sure than nearly any of them is doubtful still.
    """
    scores = scores[scores["split"] == "validation"]
    columns = [name for name in scores if name.startswith("p_")]
    surest = scores[columns].to_numpy().max(axis=1)
    right = scores[columns].idxmax(axis=1).str.removeprefix("p_") == scores["label"]
    order = np.argsort(-surest, kind="stable")
    share = np.cumsum(right.to_numpy()[order]) / np.arange(1, len(order) + 1)
    enough = np.flatnonzero(share >= RIGHT)
    least = surest[order][enough[-1]] if len(enough) else 1.0
    return float(max(least, np.quantile(surest, RARE))), len(scores)


def classify_folder(
    source: Path,
    predict: Callable[[np.ndarray], np.ndarray],
    size: int,
    classes: Sequence[str],
    least: float,
    target: Path | None = None,
) -> tuple[pd.DataFrame, float]:
    """One row of `COLUMNS` per file below `source` (but `target`), and the seconds that it took.

    `predict` takes uint8 (b, size, size) to probabilities (b, classes). Files are read ahead by threads, `BATCH` at a
    time, so that memory stays flat. A file that is no radiograph has a `reason` and no view.
    """
    names = [
        name for name in listing(source)["path"] if target is None or (source / name).resolve() != target.resolve()
    ]
    parts = [names[i : i + BATCH] for i in range(0, len(names), BATCH)]
    predict(np.zeros((1, size, size), np.uint8))  # the first call is slow
    rows, began = [], time.perf_counter()
    with ThreadPoolExecutor(available_cores(), thread_name_prefix="views") as pool:
        ahead = [pool.map(lambda name: read_radiograph(source / name, size), part) for part in parts[:1]]
        for i, part in enumerate(parts):
            images = list(ahead.pop())
            ahead += [
                pool.map(lambda name: read_radiograph(source / name, size), more) for more in parts[i + 1 : i + 2]
            ]
            readable = [image for image in images if not isinstance(image, str)]
            found = iter(predict(np.stack(readable)) if readable else ())
            for name, image in zip(part, images, strict=True):
                rows.append(_row(name, image if isinstance(image, str) else next(found), classes, least))
    return pd.DataFrame(rows, columns=COLUMNS), time.perf_counter() - began


def _row(name: str, answer: str | np.ndarray, classes: Sequence[str], least: float) -> tuple:
    if isinstance(answer, str):
        return name, "", None, "", answer
    surest = float(answer.max())
    return name, classes[int(answer.argmax())], surest, "no" if surest >= least else "yes", ""


def read_radiograph(path: Path, size: int) -> np.ndarray | str:
    """A picture or DICOM file as uint8 (size, size), or why it is none."""
    try:
        try:
            square = read_square(path, size)
            damage = find_damage(path.read_bytes())
            return f"damaged: {damage}" if damage else square
        except UnreadableImage as error:
            if error.reason != "not an image":
                raise
        dataset = read_dicom(path)
        if (modality := str(dataset.get("Modality") or "").strip().upper()) in NO_CHEST:
            return f"modality {modality}: no radiograph"
        grey = Image.fromarray(picture_of(dataset))
        return np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))
    except UnreadableImage as error:
        return error.reason.replace("not a DICOM file", "neither a picture nor a DICOM file")
    except OSError as error:
        return f"cannot be opened: {error.strerror or type(error).__name__}"
    except Exception as error:  # parsers and decoders meet broken files with nearly any exception
        return f"damaged, or its pixels cannot be decoded: {type(error).__name__}"
