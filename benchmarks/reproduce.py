"""How long a new user waits: a cold run of the default profile, step by step, and what it takes.

    python benchmarks/reproduce.py [--record] [KEY=VALUE ...]

It runs in a copy of this checkout, without caches, and prints each step's and notebook's seconds, when the first figure
(4A of notebook 02) and the report were there, the total, the run again with nothing to do, the run after an edit of one
notebook, and the most memory that all processes held together (proportional set size, sampled every second; pages of
files, which the system takes back when it needs them, apart). Settings are those of `make reproduce`. `--record` keeps
the seconds of the default profile in data/expected_seconds.json, from whose proportions the time left is told while a
run is at work.
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
    """Notes when files appear, and the most memory that a process and its children hold together.

    `peak`: bytes in all, pages of files among them; `own_peak`: without these, and the steps that `ran` then.
    """

    def __init__(self, process: subprocess.Popen, files: dict[str, Path]) -> None:
        super().__init__(daemon=True)
        self.process, self.files, self.began = process, files, time.monotonic()
        self.seen: dict[str, float] = {}
        self.peak = self.own_peak = 0
        self.ran: list[str] = []

    def run(self) -> None:
        while self.process.poll() is None:
            total, of_files, steps = memory_of(self.process.pid)
            self.peak = max(self.peak, total)
            if total - of_files > self.own_peak:
                self.own_peak, self.ran = total - of_files, steps
            for name, path in self.files.items():
                if name not in self.seen and path.is_file():
                    self.seen[name] = time.monotonic() - self.began
            time.sleep(1)


def memory_of(pid: int) -> tuple[int, int, list[str]]:
    """Bytes that a process and all below it hold, pages that they share counted once; those among them that are pages
    of files (0 where the system does not tell); and the steps and notebooks that they make."""
    total, of_files, steps = 0, 0, []
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0, 0, []
    for one in family:
        try:
            words = one.cmdline()
            if words[1:3] == ["-m", "helpers"] and words[3:4] != ["reproduce"]:
                steps.append(words[4])
            detail = Path(f"/proc/{one.pid}/smaps_rollup")
            if detail.is_file():
                lines = [line.split() for line in detail.read_text().splitlines()[1:]]
                held = {words[0]: int(words[1]) * 1024 for words in lines}
                total, of_files = total + held["Pss:"], of_files + held.get("Pss_File:", 0)
            else:
                total += getattr(one.memory_full_info(), "pss", one.memory_info().rss)
        except (psutil.Error, OSError, IndexError):  # it has ended meanwhile
            continue
    return total, of_files, steps


def copy_checkout(place: Path) -> None:
    """What a run needs of this checkout, without caches and results."""
    for part in PARTS:
        (place / part).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, place / part, ignore=shutil.ignore_patterns("__pycache__", "cache", "raw"))
        else:
            shutil.copy2(ROOT / part, place / part)


def reproduce(place: Path, settings: list[str], files: dict[str, Path]) -> tuple[float, Watch]:
    """One run in `place`; its seconds, and what was seen meanwhile of `files` and of memory. Ends the benchmark where
    the run fails."""
    words = [sys.executable, "-m", "helpers", "reproduce", *settings]
    began, environment = time.monotonic(), os.environ | {"PYTHONPATH": str(place)}
    process = subprocess.Popen(words, cwd=place, env=environment, stdout=subprocess.DEVNULL)
    watch = Watch(process, files)
    watch.start()
    if process.wait():
        raise SystemExit("the run failed; what it says stands above")
    watch.join()
    return time.monotonic() - began, watch


def seconds_of(run: Path) -> dict[str, float]:
    """The seconds that each step and notebook of a run took."""
    return {path.stem: json.loads(path.read_text())["seconds"] for path in (run / "timings").glob("*.json")}


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
        copy_checkout(place)
        files = {"first figure": place / "figures/phantom" / FIRST, "report": place / "runs/phantom/report.html"}
        total, watch = reproduce(place, settings, files)
        timings = seconds_of(place / "runs/phantom")
        again, _ = reproduce(place, settings, {})
        edit(place / "notebooks/03_binary_roc.ipynb")
        edited, _ = reproduce(place, settings, {})
    for name, seconds in sorted(timings.items(), key=lambda item: -item[1]):
        print(f"{name:28} {seconds:8.1f} s")
    print(f"{'all, one after another':28} {sum(timings.values()):8.1f} s\n")
    for what, seconds in (watch.seen | {"total": total, "nothing to do": again, "one notebook edited": edited}).items():
        print(f"{what:28} {seconds:8.1f} s")
    print(f"{'most memory':28} {watch.peak / 2**30:8.1f} GiB")
    print(f"{'without pages of files':28} {watch.own_peak / 2**30:8.1f} GiB, by {', '.join(watch.ran) or 'no step'}")
    if "--record" in words and not settings:
        kept = json.dumps(dict(sorted(timings.items())), indent=2) + "\n"
        (ROOT / "data/expected_seconds.json").write_text(kept, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
