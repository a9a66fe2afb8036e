"""Compiled draw of pairs of a neuron and an input, sorted by counting, without those that are taken."""

from __future__ import annotations

import functools

import numpy as np
from numba import carray, float64, int32, int64, uint16
from numpy.typing import NDArray

from psn_lightning.kernels.pool import cast, compile_kernel, run_kernel

Integers = NDArray[np.int64]
Reals = NDArray[np.float64]


def draw_new_pairs(
    counts: Integers, table: tuple[Reals, NDArray[np.uint16]], numbers: Reals, taken: Integers
) -> Integers:
    """Give each draw of an input a neuron, and keep the distinct pairs that are not taken.

    Args:
        counts: How often each input is drawn, shape ``(n_in,)``.
        table: Alias table of the neurons: share of its cell that each owns, shape ``(n,)``, and neurons of the rest and
            of that share, shape ``(n, 2)``.
        numbers: One uniform number in [0, 1) for each draw, float64, shape ``(counts.sum(),)``.
        taken: Positions ``neuron * n_in + input`` that are taken, ascending, contiguous; neurons count from the first.

    Returns:
        Positions, ascending.
    """
    n, n_in, out, n_new = len(table[0]), len(counts), np.empty(len(numbers), np.int64), np.zeros(1, np.int64)
    neurons, starts, stamps = np.empty(len(numbers), np.uint16), np.zeros(n + 1, np.int64), np.zeros(n_in, np.int32)
    arrays = (counts, *table, numbers, taken, neurons, starts, stamps, out, n_new)
    sizes = (n, n_in, len(numbers), len(taken))
    run_kernel(_compile_draw(), 1, *sizes, *(array.ctypes.data for array in arrays))
    return out[: int(n_new[0])]


@functools.cache
def _compile_draw() -> int:
    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n, n_in, n_drawn, n_taken = job[3], job[4], job[5], job[6]
        counts = carray(cast(job[7], int64), (n_in,))
        share, owners = carray(cast(job[8], float64), (n,)), carray(cast(job[9], uint16), (n, 2))
        numbers, taken = carray(cast(job[10], float64), (n_drawn,)), carray(cast(job[11], int64), (n_taken,))
        neurons, starts = carray(cast(job[12], uint16), (n_drawn,)), carray(cast(job[13], int64), (n + 1,))
        stamps, out = carray(cast(job[14], int32), (n_in,)), carray(cast(job[15], int64), (n_drawn,))
        for k in range(n_drawn):
            place = numbers[k] * n
            cell = int64(place)
            neuron = int64(owners[cell, int64(place - cell < share[cell])])  # a branch would be guessed wrong too often
            neurons[k] = neuron
            starts[neuron + 1] += 1
        for i in range(n):
            starts[i + 1] += starts[i]
        k = 0
        for j in range(n_in):  # inputs in ascending order: so they stay within each neuron
            for _ in range(counts[j]):
                neuron = int64(neurons[k])
                out[starts[neuron]] = j
                starts[neuron] += 1
                k += 1
        n_new, begin, i = 0, 0, 0
        for neuron in range(n):
            first, stamp = neuron * n_in, neuron + 1
            while i < n_taken and taken[i] < first + n_in:
                stamps[taken[i] - first] = stamp
                i += 1
            for k in range(begin, starts[neuron]):
                j = out[k]
                out[n_new] = first + j
                n_new += stamps[j] != stamp
                stamps[j] = stamp
            begin = starts[neuron]
        carray(cast(job[16], int64), (1,))[0] = n_new

    return compile_kernel(kernel)
