"""Lists of connections: which of them stay, and in what order each input has them."""

from __future__ import annotations

import functools

import numpy as np
from numba import carray, int32, int64
from numpy.typing import NDArray

from psn_lightning.kernels.pool import at, compiled, run


def places_in(before: NDArray[np.int64], after: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where ``before`` has each number of ``after``, or its length; both ascend."""
    places = np.empty(len(after), np.int64)
    run(_matching(), 1, len(before), len(after), before.ctypes.data, after.ctypes.data, places.ctypes.data)
    return places


def order_by_input(inputs: NDArray[np.int32], n_in: int) -> NDArray[np.int32]:
    """Sorting order of the connections by their input, those of the same one as they were."""
    order, starts = np.empty(len(inputs), np.int32), np.empty(n_in + 1, np.int64)
    run(_counting_sort(), 1, len(inputs), n_in, inputs.ctypes.data, starts.ctypes.data, order.ctypes.data)
    return order


@functools.cache
def _counting_sort() -> int:
    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        inputs, starts = carray(at(job[5], int32), (job[3],)), carray(at(job[6], int64), (job[4] + 1,))
        order = carray(at(job[7], int32), (job[3],))
        starts[:] = 0
        for k in range(len(inputs)):
            starts[inputs[k] + 1] += 1
        for i in range(1, len(starts)):
            starts[i] += starts[i - 1]
        for k in range(len(inputs)):
            order[starts[inputs[k]]] = k
            starts[inputs[k]] += 1

    return compiled(kernel)


@functools.cache
def _matching() -> int:
    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        before, after = carray(at(job[5], int64), (job[3],)), carray(at(job[6], int64), (job[4],))
        places = carray(at(job[7], int64), (job[4],))
        i = 0
        for j in range(len(after)):
            while i < len(before) and before[i] < after[j]:
                i += 1
            places[j] = i if i < len(before) and before[i] == after[j] else len(before)

    return compiled(kernel)
