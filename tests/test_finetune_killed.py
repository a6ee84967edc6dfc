"""A training whose process is killed (SIGKILL) in the middle of an epoch goes on to the same result in a new one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("keras")
pytest.importorskip("tensorflow")

import killed_training

TOLERANCE = 1e-5  # of a weight and of a probability, as `helpers.model.finetune` states; threads may add in any order
LONGEST = 240  # seconds to wait for a process on a busy machine


def start(folder: Path) -> subprocess.Popen:
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen([sys.executable, killed_training.__file__, str(folder)], env=environment, cwd=root)


def asked(folder: Path) -> list[str]:
    """The batches that training has asked for, but not those of four rows that the checkpoints' key looks at."""
    file = folder / "asked.txt"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [line for line in lines if line.split()[1:] != ["0", "1", "2", "3"]]


def killed(folder: Path, batches: int) -> None:
    """Start the training and kill it as soon as it has asked for so many batches, wherever it is by then."""
    process, until = start(folder), time.monotonic() + LONGEST
    while len(asked(folder)) < batches:
        assert process.poll() is None and time.monotonic() < until, "the training never came that far"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(LONGEST) == -signal.SIGKILL and not (folder / "result.npz").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process so")
def test_when_the_process_is_killed_in_an_epoch_then_another_goes_on_to_the_same_result(tmp_path):
    folder, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    folder.mkdir()
    undisturbed.mkdir()
    killed(folder, batches=11)  # of the second epoch's six, the fifth
    before = len(asked(folder))
    assert start(folder).wait(LONGEST) == 0
    again = asked(folder)[before:]
    assert min(int(line.split()[0]) for line in again) >= 2 and len(again) < 24  # it did not begin anew
    whole = killed_training.train(undisturbed)
    history = pd.read_csv(folder / "history.csv")
    pd.testing.assert_frame_equal(history, whole.history, rtol=TOLERANCE, atol=TOLERANCE, check_dtype=False)
    with np.load(folder / "result.npz") as found:
        weights = [found[name] for name in found.files]
    for mine, other in zip(weights, whole.by_validation + whole.by_test, strict=True):
        np.testing.assert_allclose(mine, other, atol=TOLERANCE)
