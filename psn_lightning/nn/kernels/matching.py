"""Which connections stay."""

from __future__ import annotations

import functools

import numpy as np
from numba import carray, int64
from numpy.typing import NDArray

from psn_lightning.nn.kernels.pool import at, compiled, run


def places_in(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where ``before`` has each number of ``after``, or -1; both ascend."""
    places = np.empty(len(after), np.int64)
    run(_kernel(), 1, len(before), len(after), before.ctypes.data, after.ctypes.data, places.ctypes.data)
    return places


@functools.cache
def _kernel() -> int:
    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        before, after = carray(at(job[4], int64), (job[2],)), carray(at(job[5], int64), (job[3],))
        places = carray(at(job[6], int64), (job[3],))
        i = 0
        for j in range(len(after)):
            while i < len(before) and before[i] < after[j]:
                i += 1
            places[j] = i if i < len(before) and before[i] == after[j] else -1

    return compiled(kernel)
