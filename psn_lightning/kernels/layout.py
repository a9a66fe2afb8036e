"""From a batch ``(n_rows, n)`` to tiles ``(n, width)`` and back."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from psn_lightning.kernels.vectors import Emitter

_I64 = ir.IntType(64)


@njit
def pack(batch, row, tile):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Fill a tile with the rows of a batch from ``row`` on; columns beyond the batch become 0."""
    _move(batch, row, tile, True)
    tile[:, max(0, len(batch) - row) :] = 0


@njit
def unpack(tile, batch, row):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """The opposite of :func:`pack`."""
    _move(batch, row, tile, False)


@njit
def _move(batch, row, tile, packing):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    (n_rows, n), width, lanes = batch.shape, tile.shape[1], 64 // batch.itemsize
    count = min(width, n_rows - row)
    for column in range(0, count, lanes):
        whole = n // lanes * lanes if count - column >= lanes else 0
        for first in range(0, whole, lanes):
            in_batch, in_tile = (row + column) * n + first, first * width + column
            if packing:
                _transpose_block(batch, in_batch, n, tile, in_tile, width)
            else:
                _transpose_block(tile, in_tile, width, batch, in_batch, n)
        for i in range(whole, n):  # what is left at the edges
            for k in range(column, min(column + lanes, count)):
                if packing:
                    tile[i, k] = batch[row + k, i]
                else:
                    batch[row + k, i] = tile[i, k]


@intrinsic
def _transpose_block(  # type: ignore[no-untyped-def]
    typingctx, source, source_offset, source_stride, target, target_offset, target_stride
):
    """Copy a square of as many rows and columns as a vector has lanes, transposed; offsets are in numbers."""
    signature = types.void(source, source_offset, source_stride, target, target_offset, target_stride)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[0].dtype, 1)
        source, target = (emit.pointer(signature.args[i], arguments[i]) for i in (0, 3))
        start, stride = arguments[1], arguments[2]
        rows = [emit.load(source, builder.add(start, builder.mul(stride, _I64(i)))) for i in range(emit.lanes)]
        bit = 1
        while bit < emit.lanes:  # exchange lanes and rows, one bit of their numbers at a time
            for i in (i for i in range(emit.lanes) if not i & bit):
                a, b = rows[i], rows[i | bit]
                lanes = range(emit.lanes)
                rows[i] = emit.shuffle(a, b, [n ^ bit | emit.lanes if n & bit else n for n in lanes])
                rows[i | bit] = emit.shuffle(a, b, [n | emit.lanes if n & bit else n | bit for n in lanes])
            bit *= 2
        start, stride = arguments[4], arguments[5]
        for i, row in enumerate(rows):
            emit.store(row, target, builder.add(start, builder.mul(stride, _I64(i))))
        return context.get_dummy_value()

    return signature, codegen
