"""Zech's published predictions: what his reproduction of CheXNet said of the 22,433 NIH test images.

Citation: Zech J. reproduce-chexnet. GitHub repository, 2018, https://github.com/jrzech/reproduce-chexnet
Licence: BSD 3-Clause.
Size: `pretrained/preds.csv` has 22,433 rows, a probability each of the 14 labels; `pretrained/aucs.csv` 14 areas.
How to get it: clone the repository into DATA_DIR/reproduce-chexnet. The labels are NIH's own table, Data_Entry_2017
    (see `helpers.zech.data`), of which no image is needed.
Which network: not the talk's of 2018. The repository says that it was updated in 2022, when newer libraries and a
    newer table of labels made a retraining necessary, and that predictions vary from those of the model first posted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from helpers.zech import data as nih
from helpers.zech.data import FINDINGS

LAYOUT = "reproduce-chexnet/pretrained"
NAME = "Image Index"


class PredictionsError(ValueError):
    """Published predictions that cannot be used; the message names the file."""


@dataclass(frozen=True)
class Predictions:
    """`scores`: image_id, patient_id, `y_<label>` (bool) and `p_<label>`, a row an image; `aucs`: a label's area as
    the folder prints it; `entries`: how many images NIH's table lists in all.
    """

    scores: pd.DataFrame
    aucs: pd.Series
    entries: int


def load(data_dir: Path) -> Predictions:
    """The predictions beside NIH's labels, in the file's order.

    Raises `FileNotFoundError` where the predictions or NIH's table do not lie there, `PredictionsError` for a file
    without its columns, a value that is no probability, and an image that NIH's table does not list.
    """
    folder = _folder(Path(data_dir))
    given = _read(folder / "preds.csv", [NAME, *(f"prob_{label}" for label in FINDINGS)])
    aucs = _read(folder / "aucs.csv", ["label", "auc"]).set_index("label")["auc"].reindex(list(FINDINGS))
    renamed = {NAME: "image_id"} | {f"prob_{label}": f"p_{label}" for label in FINDINGS}
    given = given.rename(columns=renamed)[list(renamed.values())]
    inside = given.drop(columns="image_id").apply(lambda column: column.between(0, 1)).all(axis=None)
    if not inside or given["image_id"].duplicated().any():
        raise PredictionsError(f"{folder / 'preds.csv'}: a value is no probability, or an image is there twice")
    entries = nih.read_entries(nih.find_root(Path(data_dir)))
    known = entries.rename(columns={label: f"y_{label}" for label in FINDINGS}).drop(columns="view")
    scores = given.merge(known, on="image_id", how="left", validate="one_to_one")
    if lost := scores.loc[scores["patient_id"].isna(), "image_id"].tolist():
        raise PredictionsError(f"{folder / 'preds.csv'}: {len(lost)} images are not in NIH's table, first {lost[0]}")
    truth = [f"y_{label}" for label in FINDINGS]
    scores[truth] = scores[truth].astype(bool)
    columns = ["image_id", "patient_id", *truth, *(f"p_{label}" for label in FINDINGS)]
    return Predictions(scores[columns], aucs, len(entries))


def _folder(data_dir: Path) -> Path:
    for folder in (data_dir / LAYOUT, data_dir / "pretrained", data_dir):
        if (folder / "preds.csv").is_file():
            return folder
    raise FileNotFoundError(f"no published predictions in {data_dir}: looked for {LAYOUT}/preds.csv")


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}")
    table = pd.read_csv(path)
    if missing := [name for name in columns if name not in table]:
        raise PredictionsError(f"{path}: no column {', '.join(missing)}")
    return table
