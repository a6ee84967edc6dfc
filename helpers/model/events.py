"""TensorBoard: event files of a head's training, and the smoothing its web page draws curves with."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd


def smooth(values: np.ndarray | pd.Series, weight: float = 0.6) -> np.ndarray:
    """TensorBoard's debiased moving average of (n,) values, as float64 (n,).

    Kermany 2018, figures 3, S1 and 6: "Plots were normalized with a smoothing factor of 0.6". Each point is the mean of
    all values so far, each weighing `weight` times the one after it. NaN stays where it is and is left out of the mean;
    a curve that never changes is returned as it is. `weight` 0 changes nothing. Raises `ValueError` outside [0, 1).
    """
    if not 0 <= weight < 1:
        raise ValueError(f"a smoothing weight of {weight} is not in [0, 1)")
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"smoothing takes one curve, not an array of shape {values.shape}")
    return (
        pd.Series(values).ewm(alpha=1 - weight, adjust=True, ignore_na=True).mean().where(~np.isnan(values)).to_numpy()
    )


def write_events(history: pd.DataFrame, folder: Path) -> None:
    """Write one TensorBoard run a split, `folder`/train and so on, each with `accuracy` and `cross_entropy` by step.

    `history` has columns step, split, accuracy, cross_entropy. Event files that lie there from an earlier training are
    removed, since TensorBoard would draw both over each other.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    now = time.time()
    for split, rows in history.groupby("split", sort=False):
        run = folder / str(split)
        for old in run.glob("events.out.tfevents.*"):
            old.unlink()
        writer = EventFileWriter(str(run))
        for step, accuracy, entropy in rows[["step", "accuracy", "cross_entropy"]].itertuples(index=False):
            values = [
                Summary.Value(tag="accuracy", simple_value=accuracy),
                Summary.Value(tag="cross_entropy", simple_value=entropy),
            ]
            writer.add_event(Event(wall_time=now, step=step, summary=Summary(value=values)))
        writer.close()
