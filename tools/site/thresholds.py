"""The scores behind the threshold page, as the browser reads them: probability, truth and patient of each image."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import t as student

from helpers.data.splits import Source
from helpers.metrics.auroc import auroc
from helpers.metrics.by_patient import first_training
from helpers.metrics.estimate import ALPHA
from helpers.run.cache import settings_of_step
from helpers.run.profile import Run
from helpers.run.provenance import read_json
from helpers.run.steps import step_named

DIGITS = 7  # of a probability
QUESTIONS = Path(__file__).with_name("questions.toml")


def questions_of(run: Run, records: dict[str, dict]) -> list[dict[str, Any]]:
    """The questions of questions.toml that this run's notebooks answered, with samples of the first training."""
    found = []
    for asked in tomllib.loads(QUESTIONS.read_text(encoding="utf-8"))["questions"]:
        path = run.experiments / asked["experiment"] / "scores.parquet"
        if asked["notebook"] in records and path.is_file():
            scores = pd.read_parquet(path)
            scores = first_training(scores[scores["selection"] == "validation"])
            for title, part in _parts(asked, scores):
                samples = [one for one in _samples(run, asked, title, part) if one]
                if len(samples) > 1:
                    found.append({"title": title, "call": asked["call"], "notebook": asked["notebook"]})
                    found[-1] |= {"data": records[asked["notebook"]]["data"], "samples": samples}
    return found


def _parts(asked: dict[str, Any], scores: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for column, value in asked.get("where", {}).items():
        scores = scores[scores[column] == value]
    if "one_per" not in asked:
        yield asked["title"], scores
        return
    for value, part in scores.groupby(asked["one_per"], sort=False):
        if value in set(scores["site"]):  # trained at one hospital, not at several together
            yield f"{asked['title']} {value}", part


def _samples(run: Run, asked: dict[str, Any], title: str, scores: pd.DataFrame) -> Iterator[dict[str, Any] | None]:
    home = title.removeprefix(asked["title"]).strip()
    site = scores["site"] if "site" in scores else _sites(run, asked, scores)
    for split, name in asked["samples"].items():
        mine = scores[scores["split"] == split]
        if site is None:
            yield sample(name, mine, asked["positive"])
            continue
        where = site[mine.index]
        if home:  # a threshold is chosen at home alone
            names = [home] if split == "validation" else sorted(set(where), key=lambda one: one != home)
        else:
            names = sorted(set(where), key=lambda one: one == "public")
        for one in names:
            yield sample(f"{one}: {name}", mine[where == one], asked["positive"])


def _sites(run: Run, asked: dict[str, Any], scores: pd.DataFrame) -> pd.Series | None:
    """The hospital of each image, where the data set's frame knows it and its images are still there."""
    step = f"{asked.get('sites', '')}_data"
    if "sites" not in asked or not run.stage(step).is_file() or not Path(read_json(run.stage(step))["kept"]).is_dir():
        return None
    frame = Source(asked["sites"], settings_of_step(step_named(step), run.load_profile())).frame
    return scores["image_id"].map(frame.set_index("image_id")["site"]) if "site" in frame else None


def sample(name: str, scores: pd.DataFrame, positive: list[str]) -> dict[str, Any] | None:
    """One sample for the browser; None where it lacks a class. `quantiles` are Student's, for the intervals by patient.

    Patients are numbered; `positive` and `negative` are lists of [score, patient].
    """
    score = scores[[f"p_{label}" for label in positive]].sum(axis=1)
    truth = scores["label"].isin(positive)
    if truth.all() or not truth.any():
        return None
    area = auroc(truth, score, scores["patient_id"])
    made = {"name": name, "auroc": area.plain(), "quantiles": {}}
    numbers = pd.Series(pd.factorize(scores["patient_id"])[0], scores.index)
    for kind, rows in {"positive": truth, "negative": ~truth}.items():
        patients = int(numbers[rows].nunique())
        made[kind] = [[round(float(p), DIGITS), int(who)] for p, who in zip(score[rows], numbers[rows], strict=True)]
        made["quantiles"][kind] = float(student.isf(ALPHA / 2, max(patients - 1, 1)))
    return made
