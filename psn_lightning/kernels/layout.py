"""Conversion of a batch ``(n_rows, n)`` to tiles ``(n, width)`` and back: a blockwise transpose."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from psn_lightning.kernels.vectors import Emitter

_I64 = ir.IntType(64)


@njit
def pack_tile(batch, row, tile):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Copy rows ``row`` to ``row + width`` of a batch into a tile; columns beyond the batch are set to 0."""
    _copy_tile(batch, row, tile, True)
    tile[:, max(0, len(batch) - row) :] = 0


@njit
def unpack_tile(tile, batch, row):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Copy a tile into rows ``row`` to ``row + width`` of a batch; the inverse of :func:`pack_tile`."""
    _copy_tile(batch, row, tile, False)


@njit
def _copy_tile(batch, row, tile, packing):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
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
        for i in range(whole, n):  # edges that do not fill a square block
            for k in range(column, min(column + lanes, count)):
                if packing:
                    tile[i, k] = batch[row + k, i]
                else:
                    batch[row + k, i] = tile[i, k]


@intrinsic
def _transpose_block(  # type: ignore[no-untyped-def]
    typingctx, source, source_offset, source_stride, target, target_offset, target_stride
):
    """Copy and transpose a square block with as many rows and columns as a vector has lanes; offsets in elements."""
    signature = types.void(source, source_offset, source_stride, target, target_offset, target_stride)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[0].dtype, 1)
        source, target = (emit.get_pointer(signature.args[i], arguments[i]) for i in (0, 3))
        start, stride = arguments[1], arguments[2]
        rows = [emit.load(source, builder.add(start, builder.mul(stride, _I64(i)))) for i in range(emit.lanes)]
        bit = 1
        while bit < emit.lanes:  # transpose in log2(lanes) passes, each exchanging one bit of row and lane index
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
