"""Timing in turn: the candidates of a comparison alternate within one run.

The speed of a machine changes from minute to minute, so candidates that are compared have to be measured together.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Row = dict[str, Any]
"""One measurement: ``part``, what was measured, ``median`` and ``quartiles`` in seconds, and ``n``, how many times."""

_WARM, _BURST, _TURNS, _AT_LEAST = 2, 5, 8, 3


def time_in_turn(candidates: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Measure candidates in turn; in each turn a candidate is called several times in a row, as in training.

    Args:
        candidates: Functions to call, by name.
        seconds: Total seconds for each candidate; slow candidates are called at least three times.

    Returns:
        Seconds of single calls, by name.
    """
    estimates, durations = {}, {name: list[float]() for name in candidates}
    for name, call in candidates.items():
        call()
        estimates[name] = time_call(call)
    for _ in range(_TURNS):
        for name, call in candidates.items():
            own = durations[name]
            if sum(own) + estimates[name] > seconds and len(own) >= _AT_LEAST:
                continue
            is_quick = estimates[name] * (_WARM + _BURST) * _TURNS < seconds
            for _ in range(_WARM if is_quick else 0):
                call()
            own += [time_call(call) for _ in range(_BURST if is_quick else 1)]
    return durations


def time_call(call: Callable[[], object]) -> float:
    """Measure the seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def summarise(durations: list[float], **fields: Any) -> Row:
    """Make a row of measured seconds.

    Args:
        durations: Seconds of single calls.
        fields: What was measured.
    """
    quartiles = statistics.quantiles(durations, n=4) if len(durations) > 1 else durations * 3
    rounded = [float(f"{seconds:.4g}") for seconds in (statistics.median(durations), quartiles[0], quartiles[2])]
    return {**fields, "median": rounded[0], "quartiles": rounded[1:], "n": len(durations)}
