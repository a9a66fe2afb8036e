"""Timing in turn: the candidates of a comparison alternate within one run.

The speed of a machine changes from minute to minute, so candidates that are compared have to be measured together.
pytest-benchmark measures one candidate after the other; it is given the finished durations for its table and JSON.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch

Durations = dict[str, list[float]]

_VERSIONS = ("psn_lightning", "torch", "numba", "lightning", "mlflow", "sparselab")
_WARM, _BURST, _TURNS = 2, 5, 8


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add the number of threads, versions and vector extensions to the machine info."""
    machine_info["threads"] = torch.get_num_threads()
    machine_info["versions"] = {name: importlib.metadata.version(name) for name in _VERSIONS if _is_installed(name)}
    machine_info["vector_extensions"] = torch.backends.cpu.get_cpu_capability()


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def in_turn(candidates: Mapping[str, Callable[[], object]], seconds: float = 2.0) -> Durations:
    """Measure candidates in turn; in each turn a candidate is called several times in a row, as in training.

    Args:
        candidates: Functions to call, by name.
        seconds: Total seconds for each candidate; slow candidates are called at least three times.

    Returns:
        Seconds of single calls, by name.
    """
    estimates, durations = {}, {name: [] for name in candidates}
    for name, call in candidates.items():
        call()
        estimates[name] = _time_call(call)
    for _ in range(_TURNS):
        for name, call in candidates.items():
            if sum(durations[name]) + estimates[name] > seconds and len(durations[name]) >= 3:
                continue
            quick = estimates[name] * (_WARM + _BURST) * _TURNS < seconds
            for _ in range(_WARM if quick else 0):
                call()
            durations[name] += [_time_call(call) for _ in range(_BURST if quick else 1)]
    return durations


def _time_call(call: Callable[[], object]) -> float:
    """Measure the seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.fixture
def report(benchmark: Any) -> Callable[..., None]:
    """Function that gives measured durations to pytest-benchmark."""

    def hand_over(durations: list[float], **extra: object) -> None:
        clock = iter(_make_ticks(durations))
        benchmark._timer = lambda: next(clock)
        benchmark.extra_info.update(extra)
        benchmark.pedantic(lambda: None, rounds=len(durations), iterations=1)

    return hand_over


def _make_ticks(durations: list[float]) -> Iterator[float]:
    """Readings of a clock that give these durations: start and end of each."""
    now = 0.0
    for duration in durations:
        yield now
        now += duration
        yield now
