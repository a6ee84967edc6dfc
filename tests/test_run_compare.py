"""A run beside the committed reference: what may differ and what may not."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.run.compare import compare_folders, make_reference
from helpers.run.profile import ProfileError, Run

ROW = {"quantity": "accuracy", "step": 970, "value": 0.9, "low": 0.88, "high": 0.92, "n": 600, "note": ""}
COMPARED = {"counts": "exactly", "metrics": "by interval", "texts": "by interval", "one": "by shape"}
COUNT = {"split": "train", "images": 2400, "share": 1 / 3}
TEXT = {"quantity": "AUROC", "obtained": "0.93 (0.90 to 0.95), n = 298", "verdict": "reproduced"}


@pytest.fixture
def folders(tmp_path):
    """A reference and a run that agree: a deterministic table, two trained ones, a picture, and facts of the data."""
    for name in ("reference", "run"):
        folder = tmp_path / name / "02_multiclass_roc"
        folder.mkdir(parents=True)
        for file, row in {"counts": COUNT, "metrics": ROW, "texts": TEXT, "one": ROW}.items():
            pd.DataFrame([row]).to_csv(folder / f"{file}.csv", index=False)
        picture = Image.new("L", (40, 30), 255)
        picture.putpixel((3, 3), 0)
        picture.save(folder / "figure.png")
        data = {"rows": "abc", "train images": 2400, "mean grey level, CNV": 61.2}
        (folder / "tables.json").write_text(json.dumps({"data": data, "compared": COMPARED}))
    return tmp_path / "reference", tmp_path / "run"


def differences(folders, file="", **values):
    """The differences after a change of one table, or of the facts of the data, in the run."""
    path = folders[1] / "02_multiclass_roc" / file
    if file.endswith(".csv"):
        pd.read_csv(path).assign(**values).to_csv(path, index=False)
    elif file:
        facts = json.loads(path.read_text())
        path.write_text(json.dumps(facts | {"data": facts["data"] | values}))
    return compare_folders(*folders).differences


def test_equal_folders_have_no_difference_and_it_is_said_what_was_compared(folders):
    found = compare_folders(*folders)
    assert (found.differences, found.tables, found.pictures) == ([], 4, 1)
    assert (found.exact, len(found.distances)) == (3, 2)
    assert found.without_interval == ["02_multiclass_roc/metrics (step)"] and found.by_shape == [
        "02_multiclass_roc/one"
    ]


@pytest.mark.parametrize(
    ("file", "values", "agree"),
    [
        ("counts.csv", {"images": 2401}, False),  # deterministic: exactly
        ("counts.csv", {"share": 1 / 3 + 1e-12}, True),
        ("counts.csv", {"split": "test"}, False),
        ("metrics.csv", {"value": 0.93, "low": 0.91, "high": 0.95}, True),  # 2.1 standard errors of the difference
        ("metrics.csv", {"value": 0.96, "low": 0.94, "high": 0.98}, False),  # 4.2: too many for one of two numbers
        ("metrics.csv", {"value": 0.94, "low": 0.85, "high": 0.96}, True),  # a wide arm towards the other
        ("metrics.csv", {"low": float("nan"), "high": float("nan")}, True),  # no interval, so nothing to compare
        ("metrics.csv", {"step": 20, "note": "another"}, True),  # without an interval
        ("metrics.csv", {"quantity": "recall"}, False),
        ("one.csv", {"value": 0.3, "low": 0.2, "high": 0.4}, True),  # one training decides it
        ("one.csv", {"more": 1}, False),
        ("texts.csv", {"obtained": "0.97 (0.94 to 0.99), n = 300"}, True),
        ("texts.csv", {"obtained": "0.62 (0.60 to 0.65), n = 298"}, False),
        ("texts.csv", {"verdict": "not reproduced"}, True),  # follows from the numbers
        ("tables.json", {"train images": 2399}, False),
        ("tables.json", {"rows": "abd"}, False),
        ("tables.json", {"mean grey level, CNV": 61.21}, True),  # processors round single pixels differently
        ("tables.json", {"mean grey level, CNV": 61.3}, False),
    ],
)
def test_what_is_deterministic_must_be_equal_and_intervals_must_allow_one_value(folders, file, values, agree):
    assert (differences(folders, file, **values) == []) is agree


def estimates(values):
    return pd.DataFrame({"value": values, "low": np.asarray(values) - 0.02, "high": np.asarray(values) + 0.02})


@pytest.mark.parametrize("seed", range(5))
def test_runs_that_differ_by_chance_agree_and_a_shift_of_many_numbers_does_not(folders, seed):
    """500 numbers whose runs differ by the error that their intervals state: a few are far apart, as they should be."""
    rng, error, path = np.random.default_rng(seed), 0.02 / 1.96, "02_multiclass_roc/metrics.csv"
    true = rng.uniform(0.4, 0.6, 500)
    estimates(true + rng.normal(0, error, 500)).to_csv(folders[0] / path, index=False)
    made = true + rng.normal(0, error, 500)
    estimates(made).to_csv(folders[1] / path, index=False)
    assert compare_folders(*folders).differences == []
    estimates(made + 0.02).to_csv(folders[1] / path, index=False)  # each alone could be chance
    assert len(compare_folders(*folders).differences) > 5
    made[7] = true[7] + 0.1
    estimates(made).to_csv(folders[1] / path, index=False)
    found = compare_folders(*folders).differences
    assert len(found) == 1 and "row 8" in found[0] and "standard errors" in found[0]


def test_a_missing_row_column_or_file_is_a_difference(folders):
    folder = folders[1] / "02_multiclass_roc"
    pd.DataFrame([ROW])[:0].to_csv(folder / "metrics.csv", index=False)
    (folder / "texts.csv").unlink()
    found = "\n".join(differences(folders))
    assert "metrics.csv: 0 rows" in found and "texts.csv was not made" in found


@pytest.mark.parametrize(("size", "word"), [((40, 30), "blank"), ((80, 30), "pixels")])
def test_a_picture_must_be_of_about_the_same_size_and_not_blank(folders, size, word):
    Image.new("L", size, 255).save(folders[1] / "02_multiclass_roc/figure.png")
    assert word in differences(folders)[0]


def test_a_reference_is_made_of_a_finished_run_only(folders, tmp_path, monkeypatch):
    from helpers.run import paths

    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    make_reference(Run("run"), tmp_path / "made")
    assert compare_folders(tmp_path / "made", folders[1]).differences == []
    with pytest.raises(ProfileError, match="make reproduce"):
        make_reference(Run("empty"), tmp_path / "made")
