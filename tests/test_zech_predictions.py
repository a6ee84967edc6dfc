"""Zech's published predictions, beside NIH's labels."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from helpers.zech import numbers
from helpers.zech import predictions as zech_predictions
from helpers.zech.data import FINDINGS


def prediction_files(folder: Path, n: int = 30) -> Path:
    """Made-up predictions and NIH's table with their labels, as the two archives lie."""
    rng = np.random.default_rng(0)
    names = [f"{k:08d}_000.png" for k in range(n)]
    found = rng.random((n, len(FINDINGS))) < 0.3
    found[:2] = [[True], [False]]
    given = rng.random((n, len(FINDINGS)))
    preds = pd.DataFrame(given, columns=[f"prob_{label}" for label in FINDINGS])
    place = folder / zech_predictions.LAYOUT
    place.mkdir(parents=True)
    preds.assign(**{"Image Index": names}).to_csv(place / "preds.csv", index=False)
    aucs = [roc_auc_score(found[:, k], given[:, k]) for k in range(len(FINDINGS))]
    pd.DataFrame({"label": FINDINGS, "auc": aucs}).to_csv(place / "aucs.csv", index=False)
    (folder / "nih-chestxray14").mkdir()
    labels = ["|".join(np.array(FINDINGS)[row]) or "No Finding" for row in found]
    entries = {"Image Index": names, "Finding Labels": labels, "Patient ID": range(n), "View Position": "PA"}
    pd.DataFrame(entries).to_csv(folder / "nih-chestxray14" / "Data_Entry_2017_v2020.csv", index=False)
    return folder


def test_published_predictions_are_set_beside_their_labels_and_give_the_folders_areas(tmp_path):
    made = zech_predictions.load(prediction_files(tmp_path))
    table = numbers.rescored_table(numbers.label_aurocs(made.scores), made.aucs)
    assert made.entries == 30 and table["equal"].all()


@pytest.mark.parametrize("gone", ["preds.csv", "aucs.csv"])
def test_where_a_file_is_absent_the_error_names_it(tmp_path, gone):
    (prediction_files(tmp_path) / zech_predictions.LAYOUT / gone).unlink()
    with pytest.raises(FileNotFoundError, match=gone):
        zech_predictions.load(tmp_path)


def test_predictions_that_are_no_probabilities_or_of_unknown_images_are_refused(tmp_path):
    path = prediction_files(tmp_path) / zech_predictions.LAYOUT / "preds.csv"
    good = pd.read_csv(path)
    good.assign(prob_Mass=1.5).to_csv(path, index=False)
    with pytest.raises(zech_predictions.PredictionsError, match="no probability"):
        zech_predictions.load(tmp_path)
    good.assign(**{"Image Index": [f"x{k}" for k in range(len(good))]}).to_csv(path, index=False)
    with pytest.raises(zech_predictions.PredictionsError, match="not in NIH's table, first x0"):
        zech_predictions.load(tmp_path)
    good.drop(columns="prob_Hernia").to_csv(path, index=False)
    with pytest.raises(zech_predictions.PredictionsError, match="prob_Hernia"):
        zech_predictions.load(tmp_path)


@pytest.mark.real_data
@pytest.mark.skipif("REAL_DATA_DIR" not in os.environ, reason="REAL_DATA_DIR names no folder of real images")
def test_the_real_predictions_give_the_areas_that_their_folder_prints():
    made = zech_predictions.load(Path(os.environ["REAL_DATA_DIR"]))
    table = numbers.rescored_table(numbers.label_aurocs(made.scores), made.aucs)
    assert len(made.scores) == 22_433 and made.entries == 112_120 and table["equal"].all()
    assert (table["high"] - table["low"] > 0).all() and table["difference"].abs().max() < 0.02
