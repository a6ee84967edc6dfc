"""How long a new user waits: a cold run of the default profile, step by step, and what it takes.

    python benchmarks/reproduce.py [--record] [KEY=VALUE ...]

It runs in a copy of this checkout, without caches, and prints each step's and notebook's seconds, when the first figure
(4A of notebook 02) and the report were there, the total, the run again with nothing to do, the run after an edit of one
notebook, and the most memory that all processes held together (proportional set size, sampled every second). Settings
are those of `make reproduce`. `--record` keeps the seconds of the default profile in data/expected_seconds.json, from
whose proportions the time left is told while a run is at work.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("helpers", "notebooks", "profiles", "data", "Snakefile", "pyproject.toml", "figures/reference")
FIRST = "02_multiclass_roc/figure_4a.png"


class Watch(threading.Thread):
    """Notes when files appear, and the most memory that a process and its children hold together."""

    def __init__(self, process: subprocess.Popen, files: dict[str, Path]) -> None:
        super().__init__(daemon=True)
        self.process, self.files, self.began = process, files, time.monotonic()
        self.seen: dict[str, float] = {}
        self.peak = 0

    def run(self) -> None:
        while self.process.poll() is None:
            self.peak = max(self.peak, memory_of(self.process.pid))
            for name, path in self.files.items():
                if name not in self.seen and path.is_file():
                    self.seen[name] = time.monotonic() - self.began
            time.sleep(1)


def memory_of(pid: int) -> int:
    """Bytes that a process and all below it hold, pages that they share counted once."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0
    for one in family:
        try:
            total += getattr(one.memory_full_info(), "pss", one.memory_info().rss)
        except psutil.Error:  # it has ended meanwhile
            continue
    return total


def reproduce(place: Path, settings: list[str]) -> tuple[float, Watch]:
    """One run; its seconds, and what was seen meanwhile. Ends the benchmark where the run fails."""
    words = [sys.executable, "-m", "helpers", "reproduce", *settings]
    began, environment = time.monotonic(), os.environ | {"PYTHONPATH": str(place)}
    process = subprocess.Popen(words, cwd=place, env=environment, stdout=subprocess.DEVNULL)
    watch = Watch(
        process, {"first figure": place / "figures/phantom" / FIRST, "report": place / "runs/phantom/report.html"}
    )
    watch.start()
    if process.wait():
        raise SystemExit("the run failed; what it says stands above")
    watch.join()
    return time.monotonic() - began, watch


def edit(notebook: Path) -> None:
    """Add a sentence to the first text cell of a notebook."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    next(cell for cell in content["cells"] if cell["cell_type"] == "markdown")["source"].append(
        "\n\nOne sentence more."
    )
    notebook.write_text(json.dumps(content), encoding="utf-8")


def main(words: list[str]) -> None:
    settings = [word for word in words if word != "--record"]
    with tempfile.TemporaryDirectory(prefix="reproduce-") as folder:
        place = Path(folder) / "checkout"
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
            (place / part).parent.mkdir(parents=True, exist_ok=True)
            options = (
                {"ignore": shutil.ignore_patterns("__pycache__", "cache", "raw")} if copy is shutil.copytree else {}
            )
            copy(ROOT / part, place / part, **options)
        total, watch = reproduce(place, settings)
        timings = {path.stem: json.loads(path.read_text()) for path in (place / "runs/phantom/timings").glob("*.json")}
        again, _ = reproduce(place, settings)
        edit(place / "notebooks/03_binary_roc.ipynb")
        edited, _ = reproduce(place, settings)
    for name, took in sorted(timings.items(), key=lambda item: -item[1]["seconds"]):
        print(f"{name:28} {took['seconds']:8.1f} s")
    print(f"{'all, one after another':28} {sum(took['seconds'] for took in timings.values()):8.1f} s\n")
    for what, seconds in (watch.seen | {"total": total, "nothing to do": again, "one notebook edited": edited}).items():
        print(f"{what:28} {seconds:8.1f} s")
    print(f"{'most memory':28} {watch.peak / 2**30:8.1f} GiB")
    if "--record" in words and not settings:
        seconds = {name: took["seconds"] for name, took in sorted(timings.items())}
        (ROOT / "data/expected_seconds.json").write_text(json.dumps(seconds, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
