"""Compiled move of weights and moments from the connections of one structure to those of another."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numba import carray, int32, int64, uint8
from numpy.typing import NDArray
from torch import Tensor

from psn_lightning.kernels.blocks import NUMBERS, find_first
from psn_lightning.kernels.pool import cast, compile_kernel, get_own_share, run_kernel
from psn_lightning.kernels.structure import Structure

_PLACES: dict[int, Any] = {4: int32, 8: int64}  # types of a place, by size in bytes
_LARGEST_INT32 = 2**31 - 1


def match_connections(before: Structure, after: Structure) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Find where each connection of a structure was in another structure of the same shape.

    Args:
        before: Structure with the places that are looked up.
        after: Structure whose connections are looked up.

    Returns:
        Place of each connection of ``after``, in its own order, among those of ``before``; their number for a
        connection that ``before`` lacks. And whether ``before`` lacks it, in the order of the positions.
    """
    n_before, n_after = len(before.positions), len(after.positions)
    itemsize = 4 if n_before < _LARGEST_INT32 else 8
    places, is_new = np.empty(n_after, np.int32 if itemsize == 4 else np.int64), np.empty(n_after, np.bool_)
    arrays = (before.positions, *before.edges, before.starts, after.positions, after.edges[0], after.starts)
    sizes = (*after.shape, n_before, *before.blocks, n_after, *after.blocks)
    addresses = [array.ctypes.data for array in (*arrays, places, is_new)]
    run_kernel(_compile_matching(itemsize), torch.get_num_threads(), *sizes, *addresses)
    return places, is_new


def take(values: Tensor, places: NDArray[Any]) -> Tensor:
    """Take one number for each connection from the places that :func:`match_connections` has found; 0 for a new one.

    Args:
        values: Numbers of 2, 4 or 8 bytes on the CPU, shape ``(n_before,)``.
        places: Place of each connection.
    """
    source, taken = values.detach().contiguous(), values.new_empty(len(places))
    kernel = _compile_taking(values.element_size(), places.itemsize)
    addresses = (source.data_ptr(), places.ctypes.data, taken.data_ptr())
    run_kernel(kernel, torch.get_num_threads(), len(values), len(places), *addresses)
    return taken


@functools.cache
def _compile_matching(itemsize: int) -> int:
    """Compile the kernel that walks through the rows of both structures side by side.

    Args:
        itemsize: Bytes of a place.
    """
    kind = _PLACES[itemsize]

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n_out, n_in = job[3], job[4]
        n_old, old_a, old_b, n_new, new_a, new_b = job[5], job[6], job[7], job[8], job[9], job[10]
        old, new = carray(cast(job[11], int64), (n_old,)), carray(cast(job[15], int64), (n_new,))
        old_rows, old_columns = carray(cast(job[12], int64), (old_a + 1,)), carray(cast(job[13], int64), (old_b + 1,))
        old_starts = carray(cast(job[14], int64), (n_out * old_b + 1,))
        new_rows, new_starts = (
            carray(cast(job[16], int64), (new_a + 1,)),
            carray(cast(job[17], int64), (n_out * new_b + 1,)),
        )
        places, is_new = carray(cast(job[18], kind), (n_new,)), carray(cast(job[19], uint8), (n_new,))
        begin, end = get_own_share(job, new_a)
        k, o, own = new_starts[new_rows[begin] * new_b], find_first(old, new_rows[begin] * n_in), 0
        for a in range(begin, end):
            size = new_rows[a + 1] - new_rows[a]
            for j in range(new_rows[a], new_rows[a + 1]):
                first = j * n_in
                while old_rows[own + 1] <= j:
                    own += 1
                while o < n_old and old[o] < first:
                    o += 1
                block, ahead = 0, o  # block of inputs in the old structure, and where its run begins in the old row
                run = old_rows[own] * old_b + j - old_rows[own]
                for b in range(new_b):
                    new_run = new_rows[a] * new_b + b * size + j - new_rows[a]
                    for place in range(new_starts[new_run], new_starts[new_run + 1]):
                        position = new[k]
                        while o < n_old and old[o] < position:
                            o += 1
                        found = o < n_old and old[o] == position
                        is_new[k] = not found
                        if found:
                            while first + old_columns[block + 1] <= position:
                                ahead += old_starts[run + 1] - old_starts[run]
                                run += old_rows[own + 1] - old_rows[own]
                                block += 1
                            places[place] = old_starts[run] + o - ahead
                        else:
                            places[place] = n_old
                        k += 1

    return compile_kernel(kernel)


@functools.cache
def _compile_taking(itemsize: int, place_itemsize: int) -> int:
    """Compile the kernel that takes numbers from their places.

    Args:
        itemsize: Bytes of a number.
        place_itemsize: Bytes of a place.
    """
    number, kind = NUMBERS[itemsize], _PLACES[place_itemsize]

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n, m = job[3], job[4]
        source, places = carray(cast(job[5], number), (n,)), carray(cast(job[6], kind), (m,))
        taken = carray(cast(job[7], number), (m,))
        begin, end = get_own_share(job, m)
        for k in range(begin, end):
            taken[k] = source[places[k]] if places[k] < n else 0

    return compile_kernel(kernel)
