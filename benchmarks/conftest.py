"""Everything here is timed in turn: the candidates of a comparison take turns within one run.

A machine's speed changes from minute to minute; what stands side by side must have been measured side by side.
pytest-benchmark, which measures one candidate after the other, is given the durations for its table and JSON.
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
    """Add what the figures depend on."""
    machine_info["threads"] = torch.get_num_threads()
    machine_info["versions"] = {name: importlib.metadata.version(name) for name in _VERSIONS if _has(name)}
    machine_info["vector_extensions"] = torch.backends.cpu.get_cpu_capability()


def _has(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def in_turn(candidates: Mapping[str, Callable[[], object]], seconds: float = 2.0) -> Durations:
    """Seconds of single calls; each candidate has some calls in a row, as in training, and then the next has its turn.

    Args:
        candidates: What is called, by name.
        seconds: For each candidate, in all; slow ones are called at least three times.
    """
    estimates, durations = {}, {name: [] for name in candidates}
    for name, call in candidates.items():
        call()
        estimates[name] = _timed(call)
    for _ in range(_TURNS):
        for name, call in candidates.items():
            if sum(durations[name]) + estimates[name] > seconds and len(durations[name]) >= 3:
                continue
            quick = estimates[name] * (_WARM + _BURST) * _TURNS < seconds
            for _ in range(_WARM if quick else 0):
                call()
            durations[name] += [_timed(call) for _ in range(_BURST if quick else 1)]
    return durations


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.fixture
def report(benchmark: Any) -> Callable[..., None]:
    """Hands durations that were measured already to pytest-benchmark."""

    def hand_over(durations: list[float], **extra: object) -> None:
        clock = iter(_ticks(durations))
        benchmark._timer = lambda: next(clock)
        benchmark.extra_info.update(extra)
        benchmark.pedantic(lambda: None, rounds=len(durations), iterations=1)

    return hand_over


def _ticks(durations: list[float]) -> Iterator[float]:
    now = 0.0
    for duration in durations:
        yield now
        now += duration
        yield now
