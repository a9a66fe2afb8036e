"""A stack of sparse layers on tiles, forwards and backwards: one kernel each.

A thread takes its tiles through all layers, so that they stay in its core's cache and threads meet only at
the end, where they add up their gradients. Activations are ``(n_tiles, n, width)``; the gradients of all
parameters are one flat array per thread, in which each has its place.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import carray, int32, int64, njit

from psn_lightning.kernels.floats import flush_subnormals, restore
from psn_lightning.kernels.layout import pack, unpack
from psn_lightning.kernels.normalization import normalize, normalize_backward, sum_rows
from psn_lightning.kernels.pool import REALS, at, compiled, own_share, team, wait_for_all
from psn_lightning.kernels.products import dots, multiply
from psn_lightning.kernels.vectors import lanes_of

LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("n_in", "n_out", "n_connections"),
            *("row_blocks", "row_starts", "row_indices"),  # number of blocks, and addresses
            *("column_blocks", "column_starts", "column_indices", "column_order"),
            *("values", "bias", "gain", "shift", "epsilon"),  # addresses; gain is 0 where nothing follows the product
            *("x", "z", "statistics", "y"),  # addresses: z = x Wᵀ + b, y = relu(LayerNorm(z))
            *("g", "to_x"),  # addresses: gradient to y that becomes that to z; gradient to x
            *("to_values", "to_bias", "to_gain", "to_shift"),  # places in the gradient
        )
    ]
)
"""What a layer consists of."""


@njit
def _half(n_blocks, n_rows, starts, indices, n_connections):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    return carray(at(starts, int64), (n_blocks + 1, n_rows)), carray(at(indices, int32), (n_connections,))


@functools.cache
def forward(itemsize: int, width: int) -> int:
    """Address of the forward kernel.

    Its arguments: n_tiles, n_rows, n_layers, and the addresses of the layers (:data:`LAYER`), of the batch
    ``(n_rows, n_in)`` and of the result ``(n_rows, n_out)`` of the last layer, which has no gain.

    Args:
        itemsize: 4 for float32, 8 for float64.
        width: Columns of a tile.
    """
    real = REALS[itemsize]
    vectors = (0,) * (width // lanes_of(itemsize))

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n_tiles, n_rows, n_layers = job[3], job[4], job[5]
        layers = carray(at(job[6], LAYER), (n_layers,))
        first, last = layers[0], layers[n_layers - 1]
        batch = carray(at(job[7], real), (n_rows, first.n_in))
        result = carray(at(job[8], real), (n_rows, last.n_out))
        begin, end = own_share(job, n_tiles)
        mode = flush_subnormals()
        for t in range(begin, end):
            pack(batch, t * width, carray(at(first.x, real), (n_tiles, first.n_in, width))[t])
            for i in range(n_layers):
                own = layers[i]
                starts, indices = _half(own.row_blocks, own.n_out, own.row_starts, own.row_indices, own.n_connections)
                values, bias = (
                    carray(at(own.values, real), (own.n_connections,)),
                    carray(at(own.bias, real), (own.n_out,)),
                )
                x = carray(at(own.x, real), (n_tiles, own.n_in, width))[t]
                z = carray(at(own.z, real), (n_tiles, own.n_out, width))[t]
                multiply(vectors, starts, indices, None, values, x, bias, z)
                if own.gain:
                    gain, shift = carray(at(own.gain, real), (own.n_out,)), carray(at(own.shift, real), (own.n_out,))
                    epsilon = carray(at(own.epsilon, real), (1,))[0]
                    statistics = carray(at(own.statistics, real), (n_tiles, 2, width))[t]
                    y = carray(at(own.y, real), (n_tiles, own.n_out, width))[t]
                    normalize(vectors, own.n_out, epsilon, z, gain, shift, statistics, y)
            unpack(carray(at(last.z, real), (n_tiles, last.n_out, width))[t], result, t * width)
        restore(mode)

    return compiled(kernel)


@functools.cache
def backward(itemsize: int, width: int) -> int:
    """Address of the backward kernel.

    Its arguments: n_tiles, n_rows, n_layers, and the addresses of the layers, of the gradient ``(n_rows, n_out)`` to
    the result, of that to the batch, or 0, of those to the parameters ``(n_parameters,)``, and of memory for the shares
    of all threads but the first, ``(n_threads - 1, n_parameters)``.
    """
    real = REALS[itemsize]
    vectors = (0,) * (width // lanes_of(itemsize))

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n_tiles, n_rows, n_layers = job[3], job[4], job[5]
        layers = carray(at(job[6], LAYER), (n_layers,))
        first, last = layers[0], layers[n_layers - 1]
        to_result = carray(at(job[7], real), (n_rows, last.n_out))
        to_batch = carray(at(job[8], real), (n_rows, first.n_in))
        n_parameters = last.to_bias + last.n_out  # its bias is what comes last
        begin, end = own_share(job, n_tiles)
        thread, n_threads = team(job)
        total = carray(at(job[9], real), (n_parameters,))
        shares = carray(at(job[10], real), (n_threads - 1, n_parameters))
        gradients = total if thread == 0 else shares[thread - 1]
        gradients[:] = 0
        mode = flush_subnormals()
        for t in range(begin, end):
            pack(to_result, t * width, carray(at(last.g, real), (n_tiles, last.n_out, width))[t])
            for i in range(n_layers - 1, -1, -1):
                own, n = layers[i], layers[i].n_out
                x = carray(at(own.x, real), (n_tiles, own.n_in, width))[t]
                g = carray(at(own.g, real), (n_tiles, n, width))[t]
                to_bias = gradients[own.to_bias : own.to_bias + n]
                if own.gain:
                    z = carray(at(own.z, real), (n_tiles, n, width))[t]
                    statistics = carray(at(own.statistics, real), (n_tiles, 2, width))[t]
                    y = carray(at(own.y, real), (n_tiles, n, width))[t]
                    to_gain = gradients[own.to_gain : own.to_gain + n]
                    to_shift = gradients[own.to_shift : own.to_shift + n]
                    gain = carray(at(own.gain, real), (n,))
                    normalize_backward(vectors, n, z, gain, statistics, y, g, to_bias, to_gain, to_shift)
                else:
                    sum_rows(vectors, n, g, to_bias)
                starts, indices = _half(own.row_blocks, n, own.row_starts, own.row_indices, own.n_connections)
                dots(vectors, starts, indices, x, g, gradients[own.to_values : own.to_values + own.n_connections])
                if i > 0 or job[8]:
                    starts, indices = _half(
                        own.column_blocks, own.n_in, own.column_starts, own.column_indices, own.n_connections
                    )
                    order = carray(at(own.column_order, int32), (own.n_connections,))
                    values = carray(at(own.values, real), (own.n_connections,))
                    to_x = carray(at(own.to_x, real), (n_tiles, own.n_in, width))[t]
                    multiply(vectors, starts, indices, order, values, g, None, to_x)
            if job[8]:
                unpack(carray(at(first.to_x, real), (n_tiles, first.n_in, width))[t], to_batch, t * width)
        wait_for_all(job)
        begin, end = own_share(job, n_parameters)
        for share in range(n_threads - 1):
            for k in range(begin, end):
                total[k] += shares[share, k]
        restore(mode)

    return compiled(kernel)
