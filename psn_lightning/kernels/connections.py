"""Compiled matching of two lists of connections."""

from __future__ import annotations

import functools

import numpy as np
from numba import carray, int64
from numpy.typing import NDArray

from psn_lightning.kernels.pool import cast, compile_kernel, run_kernel


def locate_positions(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """Locate the positions of one list of connections in another.

    Args:
        before: Flat positions, ascending, shape ``(n_before,)``.
        after: Flat positions, ascending, shape ``(n_after,)``.

    Returns:
        Index in ``before`` of each element of ``after``, shape ``(n_after,)``; ``n_before`` for an element that
        ``before`` does not contain.
    """
    places = np.empty(len(after), np.int64)
    run_kernel(
        _compile_matching(), 1, len(before), len(after), before.ctypes.data, after.ctypes.data, places.ctypes.data
    )
    return places


@functools.cache
def _compile_matching() -> int:
    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        before, after = carray(cast(job[5], int64), (job[3],)), carray(cast(job[6], int64), (job[4],))
        places = carray(cast(job[7], int64), (job[4],))
        i = 0
        for j in range(len(after)):
            while i < len(before) and before[i] < after[j]:
                i += 1
            places[j] = i if i < len(before) and before[i] == after[j] else len(before)

    return compile_kernel(kernel)
