"""The products of a sparse layer on tiles: with its input, and of two activations at its connections.

Activations are tiles of shape ``(n_tiles, n_features, width)``: feature-major, so that a connection reads one
contiguous row. Threads own rows of the result and share no accumulator: the result does not depend on
their number. Within a tile the inputs are taken in blocks that fit into a core's first-level cache.
"""

from __future__ import annotations

import functools

from numba import carray, cfunc, int32, int64, void

from psn_lightning.nn.kernels.pool import REALS, Job, next_piece, pointer_to
from psn_lightning.nn.kernels.vectors import accumulate_dots, accumulate_row, lanes_of


@functools.cache
def multiply(itemsize: int, width: int) -> int:
    """Address of the kernel ``out[t, j, :] = bias[j] + Σ_k values[order[k]] · x[t, indices[k], :]``, k over row j.

    Its arguments: n_tiles, n_rows, n_in, n_blocks, and the addresses of ``blocks`` (int64,
    ``(n_blocks + 1, n_rows)``: first connection of row j whose input is in block b), ``indices`` (int32, inputs
    of the connections), ``order`` (int32, or 0: in order), ``values``, ``x`` ``(n_tiles, n_in, width)``, ``bias``
    ``(n_rows,)`` or 0, and ``out`` ``(n_tiles, n_rows, width)``.

    Args:
        itemsize: 4 for float32, 8 for float64.
        width: Columns of a tile.
    """
    real = REALS[itemsize]
    vectors = (0,) * (width // lanes_of(itemsize))

    @cfunc(void(Job), cache=True)
    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n_pieces, n_tiles, n_rows, n_in, n_blocks = job[1], job[2], job[3], job[4], job[5]
        blocks = carray(pointer_to(job[6], int64), (n_blocks + 1, n_rows))
        n_connections = blocks[n_blocks, n_rows - 1]
        indices = carray(pointer_to(job[7], int32), (n_connections,))
        order = carray(pointer_to(job[8], int32), (n_connections,))
        values = carray(pointer_to(job[9], real), (n_connections,))
        x = carray(pointer_to(job[10], real), (n_tiles, n_in, width))
        bias = carray(pointer_to(job[11], real), (n_rows,))
        out = carray(pointer_to(job[12], real), (n_tiles, n_rows, width))
        piece = next_piece(job)
        while piece < n_pieces:
            first, last = piece * n_rows // n_pieces, (piece + 1) * n_rows // n_pieces
            for t in range(n_tiles):
                for j in range(first, last):
                    out[t, j, :] = bias[j] if job[11] else real(0)
                for b in range(n_blocks):
                    for j in range(first, last):
                        start, stop = blocks[b, j], blocks[b + 1, j]
                        if start < stop and job[8]:
                            accumulate_row(vectors, values, order, indices, start, stop, x[t], out[t, j])
                        elif start < stop:
                            accumulate_row(vectors, values, None, indices, start, stop, x[t], out[t, j])
            piece = next_piece(job)

    address: int = kernel.address
    return address


@functools.cache
def connection_dots(itemsize: int, width: int) -> int:
    """Address of the kernel ``out[k] = Σ_t x[t, indices[k], :] · g[t, j, :]`` for every connection k of row j.

    Its arguments: n_tiles, n_rows, n_in, n_blocks, and the addresses of ``blocks``, ``indices`` and ``x`` as for
    :func:`multiply`, of ``g`` ``(n_tiles, n_rows, width)``, and of ``out`` ``(n_connections,)``.
    """
    real = REALS[itemsize]
    vectors = (0,) * (width // lanes_of(itemsize))

    @cfunc(void(Job), cache=True)
    def kernel(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
        n_pieces, n_tiles, n_rows, n_in, n_blocks = job[1], job[2], job[3], job[4], job[5]
        blocks = carray(pointer_to(job[6], int64), (n_blocks + 1, n_rows))
        n_connections = blocks[n_blocks, n_rows - 1]
        indices = carray(pointer_to(job[7], int32), (n_connections,))
        x = carray(pointer_to(job[8], real), (n_tiles, n_in, width))
        g = carray(pointer_to(job[9], real), (n_tiles, n_rows, width))
        out = carray(pointer_to(job[10], real), (n_connections,))
        piece = next_piece(job)
        while piece < n_pieces:
            first, last = piece * n_rows // n_pieces, (piece + 1) * n_rows // n_pieces
            if first < last:
                out[blocks[0, first] : blocks[n_blocks, last - 1]] = 0
            for t in range(n_tiles):
                for b in range(n_blocks):
                    for j in range(first, last):
                        start, stop = blocks[b, j], blocks[b + 1, j]
                        if start < stop:
                            accumulate_dots(vectors, indices, start, stop, x[t], g[t, j], out)
            piece = next_piece(job)

    address: int = kernel.address
    return address
