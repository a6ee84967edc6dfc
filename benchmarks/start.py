"""A notebook's start: seconds until `open_study` has given a notebook its images, beside the obvious way and the limit.

    python benchmarks/start.py [--times 3]

Each line is timed in new processes, of which the quickest counts, by the clock and in processor time. The limit is what
no notebook can do without: Python with NumPy, pandas and Matplotlib. The obvious way also imports Keras, as a notebook
does whose helpers import it at their top. The kernel is what Jupyter takes to start and to run an empty cell.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from helpers.run.paths import ROOT

SMALL = "phantom_oct_train=120 phantom_oct_test_per_class=6"
LIBRARIES = "import numpy, pandas, matplotlib.pyplot"
STUDY = f"""from helpers.study import open_study
study = open_study("02_multiclass_roc", "phantom", "{SMALL}")
study.comparable, study.split"""
KERNEL = """import nbformat, nbclient
book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("pass")])
nbclient.NotebookClient(book, kernel_name="python3").execute()"""
WAYS = {
    "limit: Python and libraries": LIBRARIES,
    "a study is open": STUDY,
    "obvious: and Keras imported": f"import keras\n{STUDY}",
    "a kernel and an empty cell": KERNEL,
}


def seconds_of(code: str) -> tuple[float, float]:
    """Seconds of a new process that runs this code: by the clock, and of the processor, its children's with it."""
    before, began = os.times(), time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, stderr=subprocess.DEVNULL)
    took, after = time.perf_counter() - began, os.times()
    return took, sum(after[2:4]) - sum(before[2:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args().times
    seconds_of(STUDY)  # draws the images, and leaves the compiled files of modules
    found = {name: [min(each) for each in zip(*(seconds_of(code) for _ in range(times)), strict=True)]
             for name, code in WAYS.items()}  # fmt: skip
    print(f"{'seconds':30}{'clock':>8}{'processor':>11}")
    for name, (clock, busy) in found.items():
        print(f"{name:30}{clock:8.2f}{busy:11.2f}")
    limit, ours, obvious, _ = (clock for clock, _ in found.values())
    print(f"{obvious / ours:.1f} times as fast as the obvious way; {ours / limit:.1f} times the limit")


if __name__ == "__main__":
    main()
