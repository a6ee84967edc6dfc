"""What the machine has that changes how fast and how precisely a run goes: engines choose by it, reports name it."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
# Instructions that decide how fast a network runs on a CPU, as the kernel spells them (x86, then 64-bit Arm).
INSTRUCTIONS = {"avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"}
INSTRUCTIONS |= {"asimdhp", "bf16", "i8mm", "sve"}
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # any of them multiplies bfloat16 at more than float32's speed


def describe() -> dict[str, Any]:
    """The machine in a few words and numbers, for a report's table; cheap, and it imports nothing heavy."""
    import psutil

    return {
        "cpu": cpu_model(),
        "cores": available_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "instructions": sorted(instructions()) or ["unknown"],
        "bfloat16_instructions": "yes" if has_bf16() else "no",
        "gpus": driver_gpus() or ["none"],
        "system": f"{platform.system()} {platform.machine()}",
    }


def cpu_model() -> str:
    """The processor's name as it gives itself, or its architecture where it gives none."""
    return _cpuinfo("model name") or platform.processor() or platform.machine() or "unknown"


def instructions() -> set[str]:
    """Which of `INSTRUCTIONS` the processor has; empty where the system does not list them (anything but Linux)."""
    return set((_cpuinfo("flags") or _cpuinfo("features")).split()) & INSTRUCTIONS


def has_bf16() -> bool:
    """True on a CPU that has instructions for bfloat16."""
    return bool(instructions() & BF16)


def available_cores() -> int:
    """Cores this process may use: its affinity, cut by the quota of its container or batch job; at least 1."""
    import joblib

    return joblib.cpu_count()


def driver_gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the driver sees, without importing a network library."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.splitlines() if line.strip()]


def _cpuinfo(key: str) -> str:
    """The first value of this key in /proc/cpuinfo, '' where there is none."""
    lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines() if CPUINFO.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.lower().startswith(key)), "")
