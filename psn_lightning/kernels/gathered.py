"""Compiled products of chosen rows of two matrices: the gradient to given positions of a weight."""

from __future__ import annotations

import functools

import numpy as np
import torch
from numba import carray, int64, njit
from numpy.typing import NDArray
from torch import Tensor

from psn_lightning.kernels.floats import flush_subnormals, restore_mode
from psn_lightning.kernels.pool import REALS, cast, compile_kernel, get_own_share, run_kernel


def add_products_at(positions: NDArray[np.int64], x: Tensor, g: Tensor, out: Tensor) -> None:
    """Add the gradient to given positions: ``out[k] += g[neuron] · x[input]`` for position ``k``.

    Time grows with the number of positions times the number of rows of the batch; nothing is allocated. An element
    depends on its own position alone, whatever the number of threads.

    Args:
        positions: Flat positions ``neuron * n_in + input``, ascending, shape ``(n,)``.
        x: Inputs by feature, shape ``(n_in, rows)``, contiguous.
        g: Gradients to the output by neuron, shape ``(n_out, rows)``, contiguous, dtype of ``x``.
        out: Sums, shape ``(n,)``, contiguous, dtype of ``x``.
    """
    sizes = (len(positions), len(x), len(g), x.shape[1])
    addresses = (positions.ctypes.data, x.data_ptr(), g.data_ptr(), out.data_ptr())
    run_kernel(_compile_products(x.dtype.itemsize), torch.get_num_threads(), *sizes, *addresses)


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
