"""Forward and backward kernel of a stack of sparse layers.

A thread takes its tiles through all layers, so that activations stay in the cache of its core. Threads synchronize
once, at the end of the backward pass, to sum their gradients. Where there are fewer tiles than threads, a group of
threads shares the rows of one tile, and waits between the parts of a layer. Activations have shape
``(n_tiles, n, width)``. Each group accumulates the gradients of all parameters in one flat array.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import carray, int64, njit

from psn_lightning.kernels.blocks import INDICES
from psn_lightning.kernels.floats import flush_subnormals, restore_mode
from psn_lightning.kernels.layout import pack_tile, unpack_tile
from psn_lightning.kernels.normalization import (
    compute_statistics,
    normalize,
    normalize_backward,
    sum_gradients,
    sum_rows,
)
from psn_lightning.kernels.pool import (
    REALS,
    cast,
    compile_kernel,
    get_own_share,
    get_own_tiles,
    get_share,
    get_team,
    wait_for_all,
    wait_for_members,
)
from psn_lightning.kernels.products import add_dot_products, multiply, multiply_transposed
from psn_lightning.kernels.vectors import count_lanes

LAYER = np.dtype(
    [
        (name, np.int64)
        for name in (
            *("n_in", "n_out", "n_connections", "out_blocks", "in_blocks"),
            *("out_edges", "in_edges"),  # addresses, also of what follows; see Structure
            *("row_starts", "row_indices", "column_starts", "column_indices", "column_order"),
            *("values", "bias", "gain", "shift", "epsilon"),  # gain is 0 without LayerNorm and ReLU
            *("x", "z", "statistics", "y"),  # z = x Wᵀ + b, y = relu(LayerNorm(z))
            *("g", "to_x"),  # gradient to y, overwritten by the gradient to z; gradient to x
            *("to_values", "to_bias", "to_gain", "to_shift"),  # offsets in the flat gradient
        )
    ]
)
"""Record of one layer: sizes, memory addresses, and offsets in the flat gradient."""


@njit
def _get_edges(own):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    out_edges = carray(cast(own.out_edges, int64), (own.out_blocks + 1,))
    return out_edges, carray(cast(own.in_edges, int64), (own.in_blocks + 1,))


@functools.cache
def compile_forward(itemsize: int, width: int, index_bytes: int) -> int:
    """Compile the forward kernel for one number type, tile width and index type.

    The kernel's arguments are n_tiles, n_rows, n_layers, and the addresses of the layers (:data:`LAYER`), of the
    batch ``(n_rows, n_in)`` and of the result ``(n_rows, n_out)``. The last layer has no LayerNorm.

    Args:
        itemsize: Bytes of a number: 4 for float32, 8 for float64.
        width: Columns of a tile.
        index_bytes: Bytes of an index within a block.

    Returns:
        Address of the kernel.
    """
    real, index = REALS[itemsize], INDICES[index_bytes]
    vectors = (0,) * (width // count_lanes(itemsize))

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n_tiles, n_rows, n_layers = job[3], job[4], job[5]
        layers = carray(cast(job[6], LAYER), (n_layers,))
        first, last = layers[0], layers[n_layers - 1]
        batch = carray(cast(job[7], real), (n_rows, first.n_in))
        result = carray(cast(job[8], real), (n_rows, last.n_out))
        begin, end, _, member, n_members = get_own_tiles(job, n_tiles)
        mode = flush_subnormals()
        for t in range(begin, end):
            if member == 0:
                pack_tile(batch, t * width, carray(cast(first.x, real), (n_tiles, first.n_in, width))[t])
            for i in range(n_layers):
                own, n, m = layers[i], layers[i].n_out, layers[i].n_connections
                low, high = get_share(member, n_members, n)
                starts = carray(cast(own.row_starts, int64), (n * own.in_blocks + 1,))
                indices = carray(cast(own.row_indices, index), (m,))
                values, bias = carray(cast(own.values, real), (m,)), carray(cast(own.bias, real), (n,))
                x = carray(cast(own.x, real), (n_tiles, own.n_in, width))[t]
                z = carray(cast(own.z, real), (n_tiles, n, width))[t]
                wait_for_members(job, n_members)
                multiply(vectors, low, high, _get_edges(own), starts, indices, values, x, bias, z)
                if own.gain:
                    gain, shift = carray(cast(own.gain, real), (n,)), carray(cast(own.shift, real), (n,))
                    statistics = carray(cast(own.statistics, real), (n_tiles, 4, width))[t]
                    y = carray(cast(own.y, real), (n_tiles, n, width))[t]
                    wait_for_members(job, n_members)
                    if member == 0:
                        epsilon = carray(cast(own.epsilon, real), (1,))[0]
                        compute_statistics(vectors, n, epsilon, z, statistics)
                        for c in range(n_rows - t * width, width):  # without a row: an epsilon of 0 would give infinity
                            statistics[0, c] = statistics[1, c] = 0
                    wait_for_members(job, n_members)
                    normalize(vectors, low, high, z, gain, shift, statistics, y)
            wait_for_members(job, n_members)
            if member == 0:
                unpack_tile(carray(cast(last.z, real), (n_tiles, last.n_out, width))[t], result, t * width)
        restore_mode(mode)

    return compile_kernel(kernel)


@functools.cache
def compile_backward(itemsize: int, width: int, index_bytes: int) -> int:
    """Compile the backward kernel for one number type, tile width and index type.

    The kernel's arguments are n_tiles, n_rows, n_layers, and the addresses of the layers, of the gradient to the
    result ``(n_rows, n_out)``, of the gradient to the batch ``(n_rows, n_in)`` or 0 where it is not needed, of the
    gradient to the parameters ``(n_parameters,)``, and of a buffer ``(n_groups - 1, n_parameters)`` for the gradients
    of all groups of threads except the first, see :func:`~psn_lightning.kernels.pool.get_own_tiles`.

    Args:
        itemsize: Bytes of a number: 4 for float32, 8 for float64.
        width: Columns of a tile.
        index_bytes: Bytes of an index within a block.

    Returns:
        Address of the kernel.
    """
    real, index = REALS[itemsize], INDICES[index_bytes]
    vectors = (0,) * (width // count_lanes(itemsize))

    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n_tiles, n_rows, n_layers = job[3], job[4], job[5]
        layers = carray(cast(job[6], LAYER), (n_layers,))
        first, last = layers[0], layers[n_layers - 1]
        to_result = carray(cast(job[7], real), (n_rows, last.n_out))
        to_batch = carray(cast(job[8], real), (n_rows, first.n_in))
        n_parameters = last.to_bias + last.n_out  # the last layer's bias ends the flat gradient
        begin, end, group, member, n_members = get_own_tiles(job, n_tiles)
        n_groups = min(max(1, get_team(job)[1] // n_members), n_tiles)
        total = carray(cast(job[9], real), (n_parameters,))
        shares = carray(cast(job[10], real), (n_groups - 1, n_parameters))
        gradients = total if group == 0 else shares[group - 1]
        low, high = get_share(member, n_members, n_parameters)
        gradients[low:high] = 0
        mode = flush_subnormals()
        for t in range(begin, end):
            if member == 0:
                pack_tile(to_result, t * width, carray(cast(last.g, real), (n_tiles, last.n_out, width))[t])
            for i in range(n_layers - 1, -1, -1):
                own, n, m = layers[i], layers[i].n_out, layers[i].n_connections
                low, high = get_share(member, n_members, n)
                x = carray(cast(own.x, real), (n_tiles, own.n_in, width))[t]
                g = carray(cast(own.g, real), (n_tiles, n, width))[t]
                to_bias = gradients[own.to_bias : own.to_bias + n]
                wait_for_members(job, n_members)
                if own.gain:
                    z = carray(cast(own.z, real), (n_tiles, n, width))[t]
                    statistics = carray(cast(own.statistics, real), (n_tiles, 4, width))[t]
                    y = carray(cast(own.y, real), (n_tiles, n, width))[t]
                    gain = carray(cast(own.gain, real), (n,))
                    if member == 0:
                        to_gain = gradients[own.to_gain : own.to_gain + n]
                        to_shift = gradients[own.to_shift : own.to_shift + n]
                        sum_gradients(vectors, n, z, gain, statistics, y, g, to_gain, to_shift)
                    wait_for_members(job, n_members)
                    normalize_backward(vectors, low, high, z, gain, statistics, y, g, to_bias)
                    wait_for_members(job, n_members)
                else:
                    sum_rows(vectors, low, high, g, to_bias)
                starts = carray(cast(own.row_starts, int64), (n * own.in_blocks + 1,))
                indices = carray(cast(own.row_indices, index), (m,))
                edges, to_values = _get_edges(own), gradients[own.to_values : own.to_values + m]
                add_dot_products(vectors, low, high, edges, starts, indices, x, g, to_values)
                if i > 0 or job[8]:
                    low, high = get_share(member, n_members, own.n_in)
                    column_starts = carray(cast(own.column_starts, int64), (own.n_in * own.out_blocks + 1,))
                    column_indices = carray(cast(own.column_indices, index), (m,))
                    order, values = carray(cast(own.column_order, index), (m,)), carray(cast(own.values, real), (m,))
                    to_x = carray(cast(own.to_x, real), (n_tiles, own.n_in, width))[t]
                    multiply_transposed(
                        vectors, low, high, edges, starts, column_starts, column_indices, order, values, g, to_x
                    )
            wait_for_members(job, n_members)
            if job[8] and member == 0:
                unpack_tile(carray(cast(first.to_x, real), (n_tiles, first.n_in, width))[t], to_batch, t * width)
        wait_for_all(job)
        begin, end = get_own_share(job, n_parameters)
        for share in range(n_groups - 1):
            for k in range(begin, end):
                total[k] += shares[share, k]
        restore_mode(mode)

    return compile_kernel(kernel)
