"""What a result came from: versions, hardware, warnings, and files written whole or not at all."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from helpers.run.paths import ROOT

MADE = "made"  # the key of an output's metadata that names the figure or table it shows
PACKAGES = "keras tensorflow openvino numpy pandas scikit-learn seaborn papermill snakemake shap".split()


def digest_of(value: Any) -> str:
    """16 hex digits of anything JSON can hold, the same whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Have `write` fill a temporary file beside `path`, then put it in place at once: nobody reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> bool:
    """Write `value` unless the file says it already, so that its time changes only with its content."""
    text = json.dumps(value, indent=2, sort_keys=True, default=str) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))
    return True


def read_json(path: Path) -> Any:
    """The file's content; a `ValueError` that names the file where it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and run again") from None


@functools.cache
def versions() -> dict[str, str]:
    """Of Python and the packages that can change a number."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """The checkout's commit, with '+' where files differ from it; 'no git' outside a checkout."""
    try:
        return _git("rev-parse", "--short=12", "HEAD") + ("+" if _git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "no git"


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def collected_warnings(into: list[str]) -> Iterator[None]:
    """Collect the text of the project's own warnings in `into`, each once, while still showing them.

    Only `UserWarning`s are, which is what `helpers` raises; a library's deprecations are shown, not collected.
    """
    shown = warnings.showwarning

    def show(message, category, filename, lineno, file=None, line=None):
        if issubclass(category, UserWarning) and str(message) not in into:
            into.append(str(message))
        shown(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


CPUINFO = Path("/proc/cpuinfo")
# Instructions that decide how fast a network runs on a CPU, as the kernel spells them (x86, then 64-bit Arm).
INSTRUCTIONS = {"avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"}
INSTRUCTIONS |= {"asimdhp", "bf16", "i8mm", "sve"}


def describe() -> dict[str, Any]:
    """The machine in a few words and numbers, for a report's table; cheap, and it imports nothing heavy."""
    import psutil

    return {
        "cpu": cpu_model(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "instructions": sorted(instructions()) or ["unknown"],
        "gpus": driver_gpus() or ["none"],
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_model() -> str:
    """The processor's name as it gives itself, or its architecture where it gives none."""
    return _cpuinfo("model name") or platform.processor() or platform.machine() or "unknown"


def instructions() -> set[str]:
    """Which of `INSTRUCTIONS` the processor has; empty where the system does not list them (anything but Linux)."""
    return set((_cpuinfo("flags") or _cpuinfo("features")).split()) & INSTRUCTIONS


def available_cores() -> int:
    """Cores this process may use: its affinity, cut by the quota of its container or batch job; at least 1."""
    import joblib

    return joblib.cpu_count()


def asks_for_gpu() -> bool:
    """Whether this run computes on GPUs: where the driver sees one, but for a cluster as the run was started (GPUS=),
    since the machine that plans a run need not be one that makes it."""
    return os.environ["RUN_GPUS"] == "1" if "RUN_GPUS" in os.environ else bool(driver_gpus())


@functools.cache
def driver_gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the driver sees, without importing a network library."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.splitlines() if line.strip()]


def _cpuinfo(key: str) -> str:
    """The first value of this key in /proc/cpuinfo, '' where there is none."""
    lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines() if CPUINFO.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.lower().startswith(key)), "")
