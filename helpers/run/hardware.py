"""What the machine has that changes how fast and how precisely a run goes: engines choose by it, reports tell it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
# Those that decide how fast a network runs on a CPU, as the kernel spells them (x86, then 64-bit Arm).
INSTRUCTIONS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
)
INSTRUCTIONS += ("asimdhp", "bf16", "i8mm", "sve")
BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # any of them multiplies bfloat16 at more than float32's speed
UNLIMITED = 1 << 50  # bytes: version 1 of cgroups writes "no limit" as a number near 2 ** 63


def describe() -> dict[str, Any]:
    """The machine in a few words and numbers, for a report's table; cheap, and it imports nothing heavy.

    `cores` and `memory_gib` are what this process may use, not what the machine was sold with. `gpus` names what
    the driver sees; whether TensorFlow can use it is another question, see `gpus()`.
    """
    return {
        "cpu": cpu_model(),
        "cores": available_cores(),
        "memory_gib": round(available_memory() / 2**30, 1),
        "instructions": sorted(instructions()) or ["unknown"],
        "bfloat16_instructions": "yes" if has_bf16() else "no",
        "gpus": driver_gpus() or ["none"],
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_model() -> str:
    """The processor's name as it gives itself, or its architecture where it gives none."""
    for line in _lines(CPUINFO):
        if line.lower().startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine() or "unknown"


def instructions() -> frozenset[str]:
    """Which of `INSTRUCTIONS` the processor has; empty where the system does not tell (anything but Linux)."""
    for line in _lines(CPUINFO):
        if line.lower().startswith(("flags", "features")):
            return frozenset(line.split(":", 1)[1].split()) & frozenset(INSTRUCTIONS)
    return frozenset()


def has_bf16() -> bool:
    """True on a CPU that has instructions for bfloat16."""
    return bool(instructions() & BF16)


def available_cores() -> int:
    """Cores this process may use: its affinity, cut by the quota of its container or batch job; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _cgroup_folders():
        words = _first(folder / "cpu.max").split()  # "200000 100000": microseconds in each period
        if not words:
            words = [_first(folder / "cpu.cfs_quota_us"), _first(folder / "cpu.cfs_period_us")]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
            cores = min(cores, int(words[0]) // max(int(words[1]), 1))
    return max(cores, 1)


def available_memory() -> int:
    """Bytes of memory this process may use: the machine's, cut by its container's or batch job's limit; 0: unknown."""
    total = 0
    for line in _lines(MEMINFO):
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    for folder in _cgroup_folders():
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _first(folder / name)
            if limit.isdigit() and int(limit) < UNLIMITED:
                total = min(total or int(limit), int(limit))
    return total


def driver_gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the driver sees, without importing TensorFlow."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.splitlines() if line.strip()]


def gpus() -> list[str]:
    """Names of the GPUs that TensorFlow can use. Imports TensorFlow, which takes seconds."""
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    return [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in found]


def _cgroup_folders() -> list[Path]:
    """The folders of this process's control groups, each with its parents, since a parent's limit binds too."""
    folders: list[Path] = []
    for line in _lines(CGROUP):
        parts = line.split(":", 2)
        if len(parts) != 3 or (parts[1] and not {"cpu", "memory"} & set(parts[1].split(","))):
            continue
        bases = [CGROUPS / name for name in parts[1].split(",")] if parts[1] else [CGROUPS]
        inner = Path(parts[2].lstrip("/"))
        folders += [base / step for base in bases for step in (inner, *inner.parents)]
    return list(dict.fromkeys(folders))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _first(path: Path) -> str:
    return next(iter(_lines(path)), "").strip()
