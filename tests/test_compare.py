"""A run beside the committed reference: what may differ and what may not."""

import pandas as pd
import pytest
from PIL import Image

from helpers.run.compare import differences, table_differences


@pytest.fixture
def folders(tmp_path):
    """A reference and a run that are alike: one table and one picture."""
    for name in ("reference", "run"):
        (tmp_path / name).mkdir()
        pd.DataFrame({"quantity": ["accuracy"], "value": [0.9], "n": [600]}).to_csv(
            tmp_path / name / "metrics.csv", index=False
        )
        picture = Image.new("L", (40, 30), 255)
        picture.putpixel((3, 3), 0)
        picture.save(tmp_path / name / "figure.png")
    return tmp_path / "reference", tmp_path / "run"


def change(folder, **values):
    pd.read_csv(folder / "metrics.csv").assign(**values).to_csv(folder / "metrics.csv", index=False)


def test_when_nothing_differs_then_there_is_no_difference(folders):
    assert differences(*folders) == []


def test_when_a_number_moves_within_the_tolerance_then_it_is_no_difference(folders):
    change(folders[1], value=0.89)
    assert differences(*folders) == []


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("0.92 (0.90 to 0.95), n = 298", True),
        ("0.62 (0.60 to 0.65), n = 300", False),
        ("0.93 by A2 (0.90 to 0.95), n = 300", False),
    ],
)
def test_numbers_in_a_text_are_compared_as_numbers_and_its_words_as_words(folders, text, same):
    change(folders[0], quantity="0.93 (0.90 to 0.95), n = 300")
    change(folders[1], quantity=text)
    assert (differences(*folders) == []) is same


@pytest.mark.parametrize("values", [{"value": 0.6}, {"value": None}, {"quantity": "recall"}, {"n": 60}])
def test_when_a_cell_differs_then_its_column_and_row_are_named(folders, values):
    change(folders[1], **values)
    (problem,) = differences(*folders)
    assert f"column {next(iter(values))}, row 1" in problem


def test_when_a_row_is_missing_then_that_is_said(folders):
    pd.read_csv(folders[1] / "metrics.csv")[:0].to_csv(folders[1] / "metrics.csv", index=False)
    assert "0 rows" in table_differences(folders[0] / "metrics.csv", folders[1] / "metrics.csv")[0]


def test_when_a_file_is_missing_or_blank_or_of_another_size_then_that_is_said(folders):
    reference, run = folders
    Image.new("L", (40, 30), 255).save(run / "figure.png")
    assert "blank" in differences(reference, run)[0]
    Image.new("L", (80, 30), 255).save(run / "figure.png")
    assert "pixels" in differences(reference, run)[0]
    (run / "figure.png").unlink()
    assert "was not made" in differences(reference, run)[0]
