"""Compiled operations on lists of connections: matching two lists, sorting by input."""

from __future__ import annotations

import functools

import numpy as np
from numba import carray, int32, int64
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


def order_by_input(inputs: NDArray[np.int32], n_in: int) -> NDArray[np.int32]:
    """Sort connections by their input with a stable counting sort.

    Args:
        inputs: Input index of each connection, shape ``(n_connections,)``.
        n_in: Number of inputs.

    Returns:
        Indices that sort the connections, shape ``(n_connections,)``.
    """
    order, starts = np.empty(len(inputs), np.int32), np.empty(n_in + 1, np.int64)
    run_kernel(
        _compile_counting_sort(), 1, len(inputs), n_in, inputs.ctypes.data, starts.ctypes.data, order.ctypes.data
    )
    return order


@functools.cache
def _compile_counting_sort() -> int:
    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        inputs, starts = carray(cast(job[5], int32), (job[3],)), carray(cast(job[6], int64), (job[4] + 1,))
        order = carray(cast(job[7], int32), (job[3],))
        starts[:] = 0
        for k in range(len(inputs)):
            starts[inputs[k] + 1] += 1
        for i in range(1, len(starts)):
            starts[i] += starts[i - 1]
        for k in range(len(inputs)):
            order[starts[inputs[k]]] = k
            starts[inputs[k]] += 1

    return compile_kernel(kernel)


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
