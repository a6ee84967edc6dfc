"""F1 and AUROCs of several labels, the talk's numbers beside ours, and Zech's published predictions."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from helpers.metrics.estimate import Estimate
from helpers.run.claims import compare, load_published
from helpers.zech import chexnet_claims, multilabel
from helpers.zech import predictions as zech_predictions
from helpers.zech.data import FINDINGS


def scores(n=400, patients=100, seed=0, labels=("Mass", "Nodule")):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"image_id": [f"i{k}" for k in range(n)], "patient_id": rng.integers(0, patients, n).astype(str)}
    )
    for k, label in enumerate(labels):
        truth = rng.random(n) < 0.2 + 0.04 * k
        frame[f"y_{label}"] = truth
        frame[f"p_{label}"] = 1 / (1 + np.exp(-rng.normal(1.5 * truth - 1, 1)))
    return frame


def test_areas_are_those_of_scikit_learn_label_by_label():
    frame = scores()
    found = multilabel.aurocs(frame)
    for label, estimate in found.items():
        assert estimate.value == pytest.approx(roc_auc_score(frame[f"y_{label}"], frame[f"p_{label}"]))
        assert estimate.low < estimate.value < estimate.high and estimate.n == len(frame)


def test_a_label_that_nobody_has_is_undefined_not_left_out():
    found = multilabel.aurocs(scores().assign(y_Mass=False))
    assert not found["Mass"].defined and found["Nodule"].defined


def test_f1_is_that_of_scikit_learn_and_its_threshold_the_best_there_is():
    frame = scores()
    truth, score = frame["y_Mass"].to_numpy(), frame["p_Mass"].to_numpy()
    best = multilabel.best_f1_threshold(truth, score)
    assert multilabel.f1(truth, score >= best) == pytest.approx(f1_score(truth, score >= best))
    assert multilabel.f1(truth, score >= best) == pytest.approx(max(f1_score(truth, score >= cut) for cut in score))
    assert multilabel.best_f1_threshold(np.zeros(3, bool), [0.1, 0.2, 0.3]) == np.inf


def test_the_threshold_comes_from_validation_and_the_interval_from_the_test_patients():
    validation, test = scores(seed=1), scores(seed=2)
    found = multilabel.f1_elsewhere(validation, test, 200, 1)["Mass"]
    cut = multilabel.best_f1_threshold(validation["y_Mass"], validation["p_Mass"])
    assert found.value == pytest.approx(f1_score(test["y_Mass"], test["p_Mass"] >= cut))
    assert found.low < found.value < found.high and "by patient" in found.method


def test_when_halves_are_crossed_then_no_image_is_judged_at_a_threshold_of_its_own_half():
    frame = scores()
    half = frame["patient_id"].map(lambda patient: multilabel._half(patient, 1)).to_numpy()
    called = np.zeros(len(frame), bool)
    for side in (False, True):
        cut = multilabel.best_f1_threshold(frame["y_Mass"][half != side], frame["p_Mass"][half != side])
        called[half == side] = frame["p_Mass"][half == side] >= cut
    assert multilabel.f1_crossed(frame, "Mass", 200, 1).value == pytest.approx(f1_score(frame["y_Mass"], called))
    assert 0.3 < half.mean() < 0.7


def test_two_networks_are_compared_on_the_same_images_only():
    frame = scores()
    same = multilabel.compared(frame, frame)
    assert same["Mass"].difference.value == 0 and same["Mass"].p == 1
    with pytest.raises(ValueError, match="same images"):
        multilabel.compared(frame, frame[::-1].reset_index(drop=True))


# --- the talk --------------------------------------------------------------------------------------------------------


def test_the_talks_numbers_are_read_from_the_published_facts():
    table = chexnet_claims.published_aurocs()
    assert list(table.index) == sorted(FINDINGS) and table.loc["Pneumonia"].tolist() == [0.7651, 0.7680]
    assert chexnet_claims.published_f1()["CheXNet"].value == 0.435 and len(chexnet_claims.published_f1()) == 6


def areas(value=0.7651):
    return {label: Estimate(value, value - 0.03, value + 0.03, 100, "DeLong, logit") for label in FINDINGS}


def test_rescored_areas_are_held_against_the_talk_and_phantoms_are_not():
    published = zech_predictions.Predictions(scores(), pd.Series(dtype=float), 112_120)
    levels = {"re-scored": areas(), "phantom": areas(0.6)}
    given = chexnet_claims.claims(levels, "phantom", False, published, 50)
    obtained = {
        name: value if isinstance(value, Estimate) else Estimate(value, value, value, 0, "")
        for name, (value, _) in given.items()
    }
    grounds = {name: told for name, (_, told) in given.items() if told}
    table = compare(load_published("zech2018"), obtained, False, "Phantoms.", grounds).set_index("id")
    row = table.loc["zech2018.auroc.retrained.pneumonia"]
    assert row["verdict"] == "reproduced" and "retrained in 2022" in row["explanation"]
    assert table.loc["zech2018.data.nih_images", "verdict"] == "reproduced"
    alone = chexnet_claims.claims({"phantom": areas()}, "phantom", False, None, 50)
    assert alone["zech2018.auroc.retrained.pneumonia"][1] is None and alone["zech2018.data.nih_images"][0] == 50


def test_a_network_trained_on_all_images_goes_before_the_rescored_predictions():
    published = zech_predictions.Predictions(scores(), pd.Series(dtype=float), 112_120)
    given = chexnet_claims.claims(
        {"re-scored": areas(), "retrained here": areas(0.8)}, "retrained here", True, published, 112_120
    )
    assert given["zech2018.auroc.retrained.mass"][0].value == 0.8 and given["zech2018.auroc.retrained.mass"][1] is None


def test_the_table_names_the_level_of_every_number():
    table = chexnet_claims.auroc_table({"phantom": areas()}, {"phantom": {"Mass": 3}})
    assert table.set_index("label").loc["Mass", ["talk: retrained", "phantom", "phantom: positives"]].tolist() == [
        0.8308,
        0.7651,
        3,
    ]


def test_readers_stand_as_printed_and_ours_with_their_prevalence():
    frame = scores(labels=("Pneumonia",))
    table = chexnet_claims.f1_table(chexnet_claims.published_f1(), {"phantom": (None, frame)}, "Pneumonia")
    assert table["where from"].value_counts().to_dict() == {"printed in the talk": 6, "this run": 1}
    last = table.iloc[-1]
    assert np.isnan(last["value"]) and last["prevalence"] == pytest.approx(frame["y_Pneumonia"].mean())


# --- the published predictions ---------------------------------------------------------------------------------------


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
    table = chexnet_claims.beside_published(multilabel.aurocs(made.scores), made.aucs)
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
    table = chexnet_claims.beside_published(multilabel.aurocs(made.scores), made.aucs)
    assert len(made.scores) == 22_433 and made.entries == 112_120 and table["equal"].all()
    assert (table["high"] - table["low"] > 0).all() and table["difference"].abs().max() < 0.02
