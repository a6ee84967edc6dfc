"""The experiment runner: what it keeps, when it makes an experiment again, and what limits a training."""

import threading
import time

import numpy as np
import pandas as pd
import pytest

from helpers.model import experiment as module
from helpers.model.experiment import (
    Images,
    Inputs,
    Results,
    affordable,
    find_experiment,
    pixels_of,
    run_experiment,
    scores_of,
)
from helpers.run.profile import load_profile

PROFILE = load_profile("phantom")


class Maker:
    """A maker that counts its calls, and leaves a file in both of its folders."""

    def __init__(self, fails=0, seconds=0.0):
        self.calls, self.found, self.fails, self.seconds = 0, [], fails, seconds

    def __call__(self, inputs):
        self.calls += 1
        self.found.append((inputs.unfinished / "epoch").is_file())
        (inputs.unfinished / "epoch").write_text("1")
        (inputs.fresh / "network.txt").write_text("weights")
        time.sleep(self.seconds)
        if self.calls <= self.fails:
            raise RuntimeError("killed")
        table = pd.DataFrame({"value": [self.calls]})
        return Results(("a", "b"), {"scores": table, "history": table, "grid": table}, {"chosen epoch": 3})


def run(maker, key, folder):
    return run_experiment(maker, key, folder, Inputs("made", Images(None, pd.DataFrame()), {}, PROFILE))


def test_when_made_then_tables_files_and_summary_are_kept(tmp_path):
    made = run(Maker(), "one", tmp_path)
    assert made.classes == ("a", "b") and made.summary == {"chosen epoch": 3}
    assert made.scores.equals(made.table("grid")) and (made.folder / "network.txt").is_file()
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"made"}  # nothing unfinished is left
    with pytest.raises(FileNotFoundError, match="other"):
        made.table("other")


def test_when_the_key_is_the_same_then_it_is_loaded_and_with_another_it_is_made_again(tmp_path):
    maker = Maker()
    for key, calls in (("one", 1), ("one", 1), ("two", 2)):
        assert run(maker, key, tmp_path).key == key and maker.calls == calls
    assert find_experiment(tmp_path, "made", "one") is None and find_experiment(tmp_path, "limited", "one") is None
    assert find_experiment(tmp_path, "made", "two").scores["value"].tolist() == [2]


def test_when_a_maker_fails_then_what_was_there_stays_and_the_next_call_finds_what_it_left(tmp_path):
    run(Maker(), "one", tmp_path)
    maker = Maker(fails=1)
    with pytest.raises(RuntimeError):
        run(maker, "two", tmp_path)
    assert find_experiment(tmp_path, "made", "one")
    assert run(maker, "two", tmp_path).key == "two" and maker.found == [False, True]
    maker = Maker(fails=1)
    with pytest.raises(RuntimeError):
        run(maker, "three", tmp_path)
    assert run(maker, "four", tmp_path).key == "four" and maker.found == [False, False]  # other settings begin anew


def test_when_two_ask_at_once_then_one_makes_it_and_both_get_it(tmp_path):
    maker, found = Maker(seconds=0.3), []
    threads = [threading.Thread(target=lambda: found.append(run(maker, "one", tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert maker.calls == 1 and [made.key for made in found] == ["one", "one"]


def test_scores_hold_the_rows_and_a_probability_per_class():
    rows = pd.DataFrame({"image_id": ["x", "y"], "patient_id": "p", "label": "a", "split": "test", "path": "?"}, [5, 3])
    scores = scores_of(rows, np.array([[0.9, 0.1], [0.3, 0.7]]), ("a", "b"), "validation")
    assert list(scores.columns) == ["image_id", "patient_id", "label", "split", "selection", "p_a", "p_b"]
    assert scores["image_id"].tolist() == ["x", "y"] and scores["p_b"].tolist() == [0.1, 0.7]


def test_pixels_come_in_the_order_of_the_rows(tmp_path):
    from tiny import tiny_images

    images = tiny_images(tmp_path, ("dark", "bright"), (2, 1, 1))
    pixels = pixels_of(images.catalogue, images.frame.iloc[::-1], 16, 1)
    assert pixels.shape == (8, 16, 16) and pixels.dtype == np.uint8
    assert (pixels[:4].mean(axis=(1, 2)) > pixels[4:].mean(axis=(1, 2))).all()


def test_without_a_gpu_training_is_cut_with_a_warning_and_with_one_it_is_not(monkeypatch):
    monkeypatch.setattr(module, "usable_gpus", lambda: [])
    with pytest.warns(UserWarning, match="4 epochs of 250 images instead of 30 of 5,000; LIMIT=0 lifts"):
        assert affordable("the network", 30, 5000, 1000, "limit") == (4, 250)
    with pytest.warns(UserWarning):
        assert affordable("the network", 30, 100, 1000, "limit") == (10, 100)
    assert affordable("the network", 2, 100, 1000, "limit") == (2, 100)
    assert affordable("the network", 30, 5000, 0, "limit") == (30, 5000)
    monkeypatch.setattr(module, "usable_gpus", lambda: ["GPU:0"])
    assert affordable("the network", 30, 5000, 1000, "limit") == (30, 5000)
