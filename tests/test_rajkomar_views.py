"""The view of each file of a folder: a row each, with its doubt or its reason, by a classifier that is there."""

import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_data_dicom import film, save

from helpers.__main__ import main
from helpers.model.backbones import load_backbone
from helpers.model.experiment import Experiment
from helpers.model.finetune import FinetunedNetwork, FinetuneSettings
from helpers.model.finetune_training import assemble
from helpers.rajkomar import views
from helpers.run import paths
from helpers.run.provenance import write_json

SCENE = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Radiographs as pictures and as DICOM, and what else lies in folders."""
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.jpeg", "c.tiff"):
        Image.fromarray(SCENE).save(tmp_path / "in" / name)
    save(film(SCENE.astype(int), 8), tmp_path / "in" / "sub" / "film")
    save(film(SCENE.astype(int), 8, Modality="CT"), tmp_path / "in" / "slice.dcm")
    save(film(NumberOfFrames=1, PhotometricInterpretation=""), tmp_path / "in" / "odd.dcm")
    hole = bytearray((tmp_path / "in" / "b.jpeg").read_bytes())
    hole[1500:2200] = bytes(700)
    (tmp_path / "in" / "hole.jpeg").write_bytes(hole)
    (tmp_path / "in" / "note.txt").write_text("seen")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    return tmp_path / "in"


def scores(probabilities, wrong=()):
    p = np.array(probabilities)
    label = np.where((p >= 0.5) == ~np.isin(np.arange(len(p)), wrong), "frontal", "lateral")
    return pd.DataFrame({"label": label, "split": "validation", "p_frontal": p, "p_lateral": 1 - p})


@pytest.mark.parametrize(
    ("given", "least"),
    [
        (scores(np.linspace(0.6, 1, 401), wrong=range(41)), 0.639),  # just above the wrong ones, but for 1 in 100
        (scores([0.9] * 200), 0.9),  # none is wrong: as sure as nearly all of them
        (scores([0.01] * 99 + [0.45]), 0.98),
        (scores([0.9, 0.8], wrong=(0, 1)), 1.0),
    ],
)
def test_what_is_doubtful_follows_from_the_validation_images(given, least):
    found, judged = views.doubt_threshold(pd.concat([given, given.assign(split="test", label="lateral")]))
    assert found == pytest.approx(least, abs=0.012) and judged == len(given)


def test_each_file_has_a_row_and_what_is_no_radiograph_a_reason(folder, monkeypatch):
    monkeypatch.setattr(views, "BATCH", 2)

    def predict(images):
        assert images.shape[1:] == (32, 32) and images.dtype == np.uint8
        return np.tile([[0.2, 0.8]], (len(images), 1))

    table, seconds = views.classify_folder(folder, predict, 32, ("frontal", "lateral"), 0.9)
    table = table.set_index("file")
    seen = table[table["view"] != ""]
    assert list(seen.index) == ["a.png", "b.jpeg", "c.tiff", "sub/film"] and seconds > 0
    assert set(seen["view"]) == {"lateral"} and set(seen["doubtful"]) == {"yes"} and set(seen["probability"]) == {0.8}
    reasons = table.drop(seen.index)["reason"]
    assert reasons["hole.jpeg"].startswith("damaged") and "photometric" in reasons["odd.dcm"]
    assert reasons.drop(["hole.jpeg", "odd.dcm"]).to_dict() == {
        "note.txt": "neither a picture nor a DICOM file",
        "pipe.png": "not a file but a pipe, socket or device",
        "slice.dcm": "modality CT: no radiograph",
    }


def test_the_command_classifies_with_the_trained_network_and_names_what_trains_one(
    folder, tmp_path, monkeypatch, capsys
):
    target = tmp_path / "out" / "views.csv"
    call = ["views", f"SOURCE={folder}", f"TARGET={target}", "RUN=none-yet"]
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    for _ in ("no such run", "one whose settings have a key that is gone"):
        assert main(call) == 2
        assert "make reproduce PROFILE=phantom ONLY=08_view_classification RUN=none-yet" in capsys.readouterr().err
        write_json(tmp_path / "runs" / "none-yet" / "profile.json", {"profile": {"gone": 1}})
    (tmp_path / "runs" / "none-yet" / "profile.json").unlink()
    body = load_backbone("SmallNet", "none", 32)
    weights = assemble(body, 2).get_weights()
    FinetunedNetwork(body, ("frontal", "lateral"), weights, 1, pd.DataFrame({"epoch": [1]}), FinetuneSettings()).save(
        tmp_path / "made" / "network_1"
    )
    scores([0.9, 0.2, 0.7]).assign(seed=1).to_parquet(tmp_path / "made" / "scores.parquet")
    summary = {"backbone": "SmallNet", "image size": 32}
    made = Experiment("view_models", "key", ("frontal", "lateral"), summary, tmp_path / "made")
    monkeypatch.setattr(views, "find_experiment", lambda *asked: made)
    assert main(call) == 0
    shown, warned = capsys.readouterr()
    assert all(words in shown for words in ("9 files", "images per second", "3 validation images"))
    assert "trained on phantoms" in warned
    table = pd.read_csv(target, keep_default_na=False)
    assert len(table) == 9 and set(table["view"]) <= {"frontal", "lateral", ""}


@pytest.mark.parametrize("words", [[], ["SOURCE=nowhere"], ["SOURCE=.", "TARGET=."], ["SOURCE=.", "SEED=2"]])
def test_wrong_calls_are_refused(words, capsys):
    assert main(["views", *words]) == 2 and "error: " in capsys.readouterr().err
