"""What a measurement was made with."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("psn_lightning", "torch", "numba", "lightning", "mlflow", "sparselab")


def describe_machine() -> dict[str, Any]:
    """Describe processor, threads, vector extensions and versions, with today's date."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _read_processor(),
        "threads": torch.get_num_threads(),
        "vector extensions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _read_version(name)) is not None},
    }


def _read_processor() -> str:
    """Return the processor's name; Python knows the architecture only on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _read_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
