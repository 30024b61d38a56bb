"""What a figure was measured on: the device's name and the commit. It imports no torch."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

CPU_INFO = Path("/proc/cpuinfo")


def result_head(benchmark: str, **more: Any) -> dict[str, Any]:
    """The first fields of a result. To be made before the run, as the checkout may change while it lasts."""
    return {"benchmark": benchmark, "device": cpu_name(), "commit": commit(), **more}


def cpu_name() -> str:
    """The CPU's name and the number of cores: "AMD EPYC, 2 cores"."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def gpu_name() -> str | None:
    """Name of the first GPU as the driver reports it; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return names.splitlines()[0] if names else None


def commit() -> str:
    """The commit's short hash, with "-dirty" when tracked files are changed; empty without git."""
    return "" if shutil.which("git") is None else _output("git", "describe", "--always", "--dirty", "--exclude=*")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
