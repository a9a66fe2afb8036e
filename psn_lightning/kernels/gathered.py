"""Compiled products of chosen rows of two matrices: the gradient to given positions of a weight."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import torch
from numba import carray, int64, njit
from numpy.typing import NDArray
from torch import Tensor

from psn_lightning.kernels.blocks import INDICES
from psn_lightning.kernels.floats import flush_subnormals, restore_mode
from psn_lightning.kernels.pool import REALS, cast, compile_kernel, get_own_share, run_kernel
from psn_lightning.kernels.products import add_dot_products
from psn_lightning.kernels.structure import Structure
from psn_lightning.kernels.vectors import count_lanes

_CACHE = 2**24  # bytes of inputs beyond which their rows come from memory, one by one, unless they come in blocks
_WIDEST = 128  # columns of a tile
_AT_ONCE = 2**23  # positions for which blocks are made at once, so that their memory stays small


def add_products_at(positions: NDArray[np.int64], x: Tensor, g: Tensor, out: Tensor) -> None:
    """Add the gradient to given positions: ``out[k] += g[neuron] · x[input]`` for position ``k``.

    Time grows with the number of positions times the number of rows of the batch. Inputs that do not fit in the cache
    are read block by block, see :class:`Structure`. An element depends on its own position and on the sizes alone,
    whatever the number of threads.

    Args:
        positions: Flat positions ``neuron * n_in + input``, ascending, shape ``(n,)``.
        x: Inputs by feature, shape ``(n_in, rows)``, contiguous.
        g: Gradients to the output by neuron, shape ``(n_out, rows)``, contiguous, dtype of ``x``.
        out: Sums, shape ``(n,)``, contiguous, dtype of ``x``.
    """
    width = _WIDEST if x.shape[1] % _WIDEST == 0 else count_lanes(x.dtype.itemsize)
    if x.nbytes > _CACHE and len(positions) > len(x) + len(g) and x.shape[1] % width == 0:
        for own, neurons in _split_at_neurons(positions, len(x)):
            relative = positions[own] - neurons.start * len(x)
            _add_products_in_blocks(relative, x, g[neurons], width, out[own])
        return
    sizes = (len(positions), len(x), len(g), x.shape[1])
    addresses = (positions.ctypes.data, x.data_ptr(), g.data_ptr(), out.data_ptr())
    run_kernel(_compile_products(x.dtype.itemsize), torch.get_num_threads(), *sizes, *addresses)


def _split_at_neurons(positions: NDArray[np.int64], n_in: int) -> Iterator[tuple[slice, slice]]:
    """Split positions into parts of some millions that have whole neurons; yields the part and its neurons."""
    begin = 0
    while begin < len(positions):
        last = min(begin + _AT_ONCE, len(positions)) - 1
        neurons = slice(int(positions[begin]) // n_in, int(positions[last]) // n_in + 1)
        end = int(np.searchsorted(positions, neurons.stop * n_in))
        yield slice(begin, end), neurons
        begin = end


def _add_products_in_blocks(positions: NDArray[np.int64], x: Tensor, g: Tensor, width: int, out: Tensor) -> None:
    structure = Structure(positions, len(g), len(x))
    products = torch.zeros_like(out)
    kernel = _compile_block_products(x.dtype.itemsize, width, structure.index_bytes)
    sizes = (len(positions), len(g), len(x), *structure.blocks)
    arrays = (*structure.edges, structure.starts, structure.indices)
    for first in range(0, x.shape[1], width):
        tensors = [*(rows[:, first : first + width].contiguous() for rows in (x, g)), products]
        addresses = [array.ctypes.data for array in arrays] + [tensor.data_ptr() for tensor in tensors]
        run_kernel(kernel, torch.get_num_threads(), *sizes, *addresses)
    out += structure.to_rows(products)


@njit(fastmath={"reassoc", "contract", "nsz"})  # a sum in any order, or there are no vectors; infinities and NaN stay
def _multiply_rows(a, b):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    total = a[0] * b[0]
    for k in range(1, len(a)):
        total += a[k] * b[k]
    return total


@functools.cache
def _compile_products(itemsize: int) -> int:
    real = REALS[itemsize]

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n, n_in, n_out, rows = job[3], job[4], job[5], job[6]
        positions = carray(cast(job[7], int64), (n,))
        x, g = carray(cast(job[8], real), (n_in, rows)), carray(cast(job[9], real), (n_out, rows))
        out = carray(cast(job[10], real), (n,))
        begin, end = get_own_share(job, n)
        mode = flush_subnormals()
        neuron, first = 0, 0
        for k in range(begin, end):
            position = positions[k]
            if k == begin or position >= first + n_in:  # a division takes longer than many products
                neuron = position // n_in
                first = neuron * n_in
            out[k] += _multiply_rows(g[neuron], x[position - first])
        restore_mode(mode)

    return compile_kernel(kernel)


@functools.cache
def _compile_block_products(itemsize: int, width: int, index_bytes: int) -> int:
    real, index = REALS[itemsize], INDICES[index_bytes]
    vectors = (0,) * (width // count_lanes(itemsize))

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n, n_out, n_in, n_a, n_b = job[3], job[4], job[5], job[6], job[7]
        edges = carray(cast(job[8], int64), (n_a + 1,)), carray(cast(job[9], int64), (n_b + 1,))
        starts, indices = carray(cast(job[10], int64), (n_out * n_b + 1,)), carray(cast(job[11], index), (n,))
        x, g = carray(cast(job[12], real), (n_in, width)), carray(cast(job[13], real), (n_out, width))
        begin, end = get_own_share(job, n_out)
        mode = flush_subnormals()
        add_dot_products(vectors, begin, end, edges, starts, indices, x, g, carray(cast(job[14], real), (n,)))
        restore_mode(mode)

    return compile_kernel(kernel)
