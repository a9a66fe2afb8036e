"""Forward and backward kernel of a stack of sparse layers.

A thread takes its tiles through all layers, so that activations stay in the cache of its core. Threads synchronize
once, at the end of the backward pass, to sum their gradients. Activations have shape ``(n_tiles, n, width)``. Each
thread accumulates the gradients of all parameters in one flat array.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import carray, int32, int64, njit

from psn_lightning.kernels.floats import flush_subnormals, restore_mode
from psn_lightning.kernels.layout import pack_tile, unpack_tile
from psn_lightning.kernels.normalization import normalize, normalize_backward, sum_rows
from psn_lightning.kernels.pool import REALS, cast, compile_kernel, get_own_share, get_team, wait_for_all
from psn_lightning.kernels.products import add_dot_products, multiply
from psn_lightning.kernels.vectors import count_lanes

LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("n_in", "n_out", "n_connections"),
            *("row_blocks", "row_starts", "row_indices"),  # number of blocks; addresses
            *("column_blocks", "column_starts", "column_indices", "column_order"),
            *("values", "bias", "gain", "shift", "epsilon"),  # addresses; gain is 0 without LayerNorm and ReLU
            *("x", "z", "statistics", "y"),  # addresses: z = x Wᵀ + b, y = relu(LayerNorm(z))
            *("g", "to_x"),  # addresses: gradient to y, overwritten by the gradient to z; gradient to x
            *("to_values", "to_bias", "to_gain", "to_shift"),  # offsets in the flat gradient
        )
    ]
)
"""Record of one layer: sizes, memory addresses, and offsets in the flat gradient."""


@njit
def _read_index(n_blocks, n_rows, starts, indices, n_connections):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    return carray(cast(starts, int64), (n_blocks + 1, n_rows)), carray(cast(indices, int32), (n_connections,))


@functools.cache
def compile_forward(itemsize: int, width: int) -> int:
    """Compile the forward kernel for one number type and tile width.

    The kernel's arguments are n_tiles, n_rows, n_layers, and the addresses of the layers (:data:`LAYER`), of the
    batch ``(n_rows, n_in)`` and of the result ``(n_rows, n_out)``. The last layer has no LayerNorm.

    Args:
        itemsize: Bytes of a number: 4 for float32, 8 for float64.
        width: Columns of a tile.

    Returns:
        Address of the kernel.
    """
    real = REALS[itemsize]
    vectors = (0,) * (width // count_lanes(itemsize))

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n_tiles, n_rows, n_layers = job[3], job[4], job[5]
        layers = carray(cast(job[6], LAYER), (n_layers,))
        first, last = layers[0], layers[n_layers - 1]
        batch = carray(cast(job[7], real), (n_rows, first.n_in))
        result = carray(cast(job[8], real), (n_rows, last.n_out))
        begin, end = get_own_share(job, n_tiles)
        mode = flush_subnormals()
        for t in range(begin, end):
            pack_tile(batch, t * width, carray(cast(first.x, real), (n_tiles, first.n_in, width))[t])
            for i in range(n_layers):
                own = layers[i]
                starts, indices = _read_index(
                    own.row_blocks, own.n_out, own.row_starts, own.row_indices, own.n_connections
                )
                values, bias = (
                    carray(cast(own.values, real), (own.n_connections,)),
                    carray(cast(own.bias, real), (own.n_out,)),
                )
                x = carray(cast(own.x, real), (n_tiles, own.n_in, width))[t]
                z = carray(cast(own.z, real), (n_tiles, own.n_out, width))[t]
                multiply(vectors, starts, indices, None, values, x, bias, z)
                if own.gain:
                    gain, shift = (
                        carray(cast(own.gain, real), (own.n_out,)),
                        carray(cast(own.shift, real), (own.n_out,)),
                    )
                    epsilon = carray(cast(own.epsilon, real), (1,))[0]
                    statistics = carray(cast(own.statistics, real), (n_tiles, 2, width))[t]
                    y = carray(cast(own.y, real), (n_tiles, own.n_out, width))[t]
                    normalize(vectors, own.n_out, epsilon, z, gain, shift, statistics, y)
            unpack_tile(carray(cast(last.z, real), (n_tiles, last.n_out, width))[t], result, t * width)
        restore_mode(mode)

    return compile_kernel(kernel)


@functools.cache
def compile_backward(itemsize: int, width: int) -> int:
    """Compile the backward kernel for one number type and tile width.

    The kernel's arguments are n_tiles, n_rows, n_layers, and the addresses of the layers, of the gradient to the
    result ``(n_rows, n_out)``, of the gradient to the batch ``(n_rows, n_in)`` or 0 where it is not needed, of the
    gradient to the parameters ``(n_parameters,)``, and of a buffer ``(n_threads - 1, n_parameters)`` for the gradients
    of all threads except the first.

    Args:
        itemsize: Bytes of a number: 4 for float32, 8 for float64.
        width: Columns of a tile.

    Returns:
        Address of the kernel.
    """
    real = REALS[itemsize]
    vectors = (0,) * (width // count_lanes(itemsize))

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n_tiles, n_rows, n_layers = job[3], job[4], job[5]
        layers = carray(cast(job[6], LAYER), (n_layers,))
        first, last = layers[0], layers[n_layers - 1]
        to_result = carray(cast(job[7], real), (n_rows, last.n_out))
        to_batch = carray(cast(job[8], real), (n_rows, first.n_in))
        n_parameters = last.to_bias + last.n_out  # the last layer's bias ends the flat gradient
        begin, end = get_own_share(job, n_tiles)
        thread, n_threads = get_team(job)
        total = carray(cast(job[9], real), (n_parameters,))
        shares = carray(cast(job[10], real), (n_threads - 1, n_parameters))
        gradients = total if thread == 0 else shares[thread - 1]
        gradients[:] = 0
        mode = flush_subnormals()
        for t in range(begin, end):
            pack_tile(to_result, t * width, carray(cast(last.g, real), (n_tiles, last.n_out, width))[t])
            for i in range(n_layers - 1, -1, -1):
                own, n = layers[i], layers[i].n_out
                x = carray(cast(own.x, real), (n_tiles, own.n_in, width))[t]
                g = carray(cast(own.g, real), (n_tiles, n, width))[t]
                to_bias = gradients[own.to_bias : own.to_bias + n]
                if own.gain:
                    z = carray(cast(own.z, real), (n_tiles, n, width))[t]
                    statistics = carray(cast(own.statistics, real), (n_tiles, 2, width))[t]
                    y = carray(cast(own.y, real), (n_tiles, n, width))[t]
                    to_gain = gradients[own.to_gain : own.to_gain + n]
                    to_shift = gradients[own.to_shift : own.to_shift + n]
                    gain = carray(cast(own.gain, real), (n,))
                    normalize_backward(vectors, n, z, gain, statistics, y, g, to_bias, to_gain, to_shift)
                else:
                    sum_rows(vectors, n, g, to_bias)
                starts, indices = _read_index(own.row_blocks, n, own.row_starts, own.row_indices, own.n_connections)
                add_dot_products(
                    vectors, starts, indices, x, g, gradients[own.to_values : own.to_values + own.n_connections]
                )
                if i > 0 or job[8]:
                    starts, indices = _read_index(
                        own.column_blocks, own.n_in, own.column_starts, own.column_indices, own.n_connections
                    )
                    order = carray(cast(own.column_order, int32), (own.n_connections,))
                    values = carray(cast(own.values, real), (own.n_connections,))
                    to_x = carray(cast(own.to_x, real), (n_tiles, own.n_in, width))[t]
                    multiply(vectors, starts, indices, order, values, g, None, to_x)
            if job[8]:
                unpack_tile(carray(cast(first.to_x, real), (n_tiles, first.n_in, width))[t], to_batch, t * width)
        wait_for_all(job)
        begin, end = get_own_share(job, n_parameters)
        for share in range(n_threads - 1):
            for k in range(begin, end):
                total[k] += shares[share, k]
        restore_mode(mode)

    return compile_kernel(kernel)
