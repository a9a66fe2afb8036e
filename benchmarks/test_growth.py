"""Time and memory over the number of connections: two decades of widths with constant fan-in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

WIDTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)


@pytest.mark.parametrize("width", WIDTHS)
def test_step(report, width: int) -> None:
    command = [sys.executable, "-m", "benchmarks.growth", str(width)]
    root = Path(__file__).parent.parent
    point = json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)
    report(point.pop("seconds"), part="growth", width=width, **point)
