"""Compiled operations on connections in two-dimensional blocks; :class:`~.structure.Structure` states the order."""

from __future__ import annotations

import functools
from typing import Any

from numba import carray, int16, int32, int64, njit, types

from psn_lightning.kernels.pool import cast, compile_kernel, get_own_share, get_team, wait_for_all

INDICES: dict[int, Any] = {2: types.uint16, 4: int32}
"""Types of an index within a block, by size in bytes."""
NUMBERS: dict[int, Any] = {2: int16, 4: int32, 8: int64}
"""Types of numbers that are only copied, by size in bytes."""


@functools.cache
def compile_counting() -> int:
    """Compile the kernel that finds where each run begins.

    The kernel's arguments are n, n_out, n_in, n_out_blocks, n_in_blocks, and the addresses of the positions, of the
    edges of blocks of neurons and of inputs, and of the result ``starts``.
    """

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n, n_out, n_in, n_a, n_b = job[3], job[4], job[5], job[6], job[7]
        positions = carray(cast(job[8], int64), (n,))
        out_edges, in_edges = carray(cast(job[9], int64), (n_a + 1,)), carray(cast(job[10], int64), (n_b + 1,))
        starts = carray(cast(job[11], int64), (n_out * n_b + 1,))
        begin, end = get_own_share(job, n_a)
        k = find_first(positions, out_edges[begin] * n_in)
        for a in range(begin, end):
            size = out_edges[a + 1] - out_edges[a]
            for j in range(size):
                first = (out_edges[a] + j) * n_in
                for b in range(n_b):
                    before, limit = k, first + in_edges[b + 1]
                    while k < n and positions[k] < limit:
                        k += 1
                    starts[out_edges[a] * n_b + b * size + j + 1] = k - before
        wait_for_all(job)
        if get_team(job)[0] == 0:
            starts[0] = 0
            for run in range(1, len(starts)):
                starts[run] += starts[run - 1]

    return compile_kernel(kernel)


@njit
def find_first(positions, limit):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Find the first of ascending positions that is not below a limit."""
    low, high = 0, len(positions)
    while low < high:
        middle = (low + high) // 2
        if positions[middle] < limit:
            low = middle + 1
        else:
            high = middle
    return low


@functools.cache
def compile_filling(index_bytes: int) -> int:
    """Compile the kernel that writes the local inputs of all connections in the order of the blocks.

    The kernel's arguments are those of :func:`compile_counting` and the address of the result ``indices``.

    Args:
        index_bytes: Bytes of an index.
    """
    index = INDICES[index_bytes]

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n, n_out, n_in, n_a, n_b = job[3], job[4], job[5], job[6], job[7]
        positions = carray(cast(job[8], int64), (n,))
        out_edges, in_edges = carray(cast(job[9], int64), (n_a + 1,)), carray(cast(job[10], int64), (n_b + 1,))
        starts, indices = carray(cast(job[11], int64), (n_out * n_b + 1,)), carray(cast(job[12], index), (n,))
        begin, end = get_own_share(job, n_a)
        k = starts[out_edges[begin] * n_b]
        for a in range(begin, end):
            size = out_edges[a + 1] - out_edges[a]
            for j in range(size):
                for b in range(n_b):
                    run, first = out_edges[a] * n_b + b * size + j, (out_edges[a] + j) * n_in + in_edges[b]
                    for place in range(starts[run], starts[run + 1]):
                        indices[place] = positions[k] - first
                        k += 1

    return compile_kernel(kernel)


@functools.cache
def compile_transposition(index_bytes: int) -> int:
    """Compile the kernel that orders the connections by block of inputs, block of neurons, input and neuron.

    The kernel's arguments are n, n_out, n_in, n_out_blocks, n_in_blocks, and the addresses of the edges of blocks of
    neurons and of inputs, of ``starts`` and ``indices``, and of the results ``column_starts``,
    ``column_indices`` (local neurons) and ``order`` (places of the values within their block).

    Args:
        index_bytes: Bytes of an index.
    """
    index = INDICES[index_bytes]

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n, n_out, n_in, n_a, n_b = job[3], job[4], job[5], job[6], job[7]
        out_edges, in_edges = carray(cast(job[8], int64), (n_a + 1,)), carray(cast(job[9], int64), (n_b + 1,))
        starts, indices = carray(cast(job[10], int64), (n_out * n_b + 1,)), carray(cast(job[11], index), (n,))
        column_starts = carray(cast(job[12], int64), (n_in * n_a + 1,))
        column_indices, order = carray(cast(job[13], index), (n,)), carray(cast(job[14], index), (n,))
        begin, end = get_own_share(job, n_b)
        place = 0  # connections with an input before the own ones
        for a in range(n_a):
            runs, size = out_edges[a] * n_b, out_edges[a + 1] - out_edges[a]
            place += starts[runs + begin * size] - starts[runs]
        for b in range(begin, end):
            width = in_edges[b + 1] - in_edges[b]
            for a in range(n_a):
                size = out_edges[a + 1] - out_edges[a]
                runs = out_edges[a] * n_b + b * size
                first, last = starts[runs], starts[runs + size]
                own = column_starts[in_edges[b] * n_a + a * width : in_edges[b] * n_a + (a + 1) * width]
                own[:] = 0
                for k in range(first, last):
                    own[indices[k]] += 1
                for i in range(width):
                    own[i], place = place, place + own[i]
                for j in range(size):
                    for k in range(starts[runs + j], starts[runs + j + 1]):
                        target = own[indices[k]]
                        column_indices[target], order[target] = j, k - first
                        own[indices[k]] = target + 1
                for i in range(width - 1, 0, -1):  # each has moved to the start of the next input
                    own[i] = own[i - 1]
                if width > 0:
                    own[0] = place - (last - first)
        if get_team(job)[0] == 0:
            column_starts[n_in * n_a] = n

    return compile_kernel(kernel)


@functools.cache
def compile_conversion(itemsize: int, to_rows: bool) -> int:
    """Compile the kernel that copies one number for each connection between the order of blocks and that of positions.

    The kernel's arguments are n, n_out, n_out_blocks, n_in_blocks, and the addresses of the edges of blocks of neurons,
    of ``starts``, of the source and of the result.

    Args:
        itemsize: Bytes of a number, 2, 4 or 8.
        to_rows: Whether the result is in the order of the positions.
    """
    number = NUMBERS[itemsize]

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n, n_out, n_a, n_b = job[3], job[4], job[5], job[6]
        out_edges = carray(cast(job[7], int64), (n_a + 1,))
        starts = carray(cast(job[8], int64), (n_out * n_b + 1,))
        source, target = carray(cast(job[9], number), (n,)), carray(cast(job[10], number), (n,))
        begin, end = get_own_share(job, n_a)
        k = starts[out_edges[begin] * n_b]
        for a in range(begin, end):
            size = out_edges[a + 1] - out_edges[a]
            for j in range(size):
                for b in range(n_b):
                    run = out_edges[a] * n_b + b * size + j
                    for place in range(starts[run], starts[run + 1]):
                        if to_rows:
                            target[k] = source[place]
                        else:
                            target[place] = source[k]
                        k += 1

    return compile_kernel(kernel)
