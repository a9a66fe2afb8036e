"""What the stages share: device, budget, record of figures, timing."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Session:
    """A call of the benchmark.

    Args:
        device: ``cuda`` or ``cpu``.
        quick: Whether sizes are tiny, to try the script itself.
        budget: Seconds of the whole call.
        folder: Folder of ``gpu.jsonl``.
    """

    device: str
    quick: bool
    budget: float
    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Figures so far."""
    stage: str = ""
    """Name of the present stage."""

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def accelerator(self) -> str:
        """Lightning's name of the device."""
        return "gpu" if self.device == "cuda" else "cpu"

    @property
    def seconds_left(self) -> float:
        """Seconds of the budget that are left."""
        return self.budget - (time.monotonic() - self._began)

    def note(self, what: str, **figures: object) -> None:
        """Print a figure, and write it at once: a call may be cut off."""
        row = {"stage": self.stage, "what": what, **figures}
        self.rows.append(row)
        passed = time.monotonic() - self._began
        print(f"[{passed:5.0f} s] {self.stage:10s} {what:58s}", *(f"{k} {v}" for k, v in figures.items()), flush=True)
        with (self.folder / "gpu.jsonl").open("a") as file:
            file.write(json.dumps(row, default=str) + "\n")

    @contextlib.contextmanager
    def tried(self, what: str) -> Iterator[None]:
        """Context of a measurement; its failure is a finding, and the others go on."""
        try:
            yield
        except Exception as error:
            places = traceback.extract_tb(error.__traceback__)[-3:]
            text = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            self.note(what, failed=text, at=[f"{Path(place.filename).name}:{place.lineno}" for place in places])

    def synchronize(self) -> None:
        """Wait until the device has done everything."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def time(self, call: Callable[[], object], n: int, warm: int = 10) -> tuple[float, float]:
        """Measure the microseconds of a call, medians of three bursts.

        Args:
            call: Function to measure.
            n: Calls in a burst.
            warm: Calls before.

        Returns:
            Time until the device is done, and time until the host is.
        """
        for _ in range(warm):
            call()
        whole, host = [], []
        for _ in range(3):
            self.synchronize()
            start = time.perf_counter()
            for _ in range(n):
                call()
            host.append((time.perf_counter() - start) / n * 1e6)
            self.synchronize()
            whole.append((time.perf_counter() - start) / n * 1e6)
        return round(statistics.median(whole), 1), round(statistics.median(host), 1)


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Context with another precision of float32 products."""
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")
