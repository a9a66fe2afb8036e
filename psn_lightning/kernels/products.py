"""The products of a sparse layer on one tile: with its input, and of two activations at its connections.

A tile has the shape ``(n_features, width)``: feature-major, so that a connection reads one contiguous row.
Connections are taken in blocks of inputs that fit into a core's first-level cache: ``blocks[b, j]`` is the first
connection of row j whose input is in block b, shape ``(n_blocks + 1, n_rows)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from psn_lightning.kernels.vectors import Emitter, Vectors

_I64 = ir.IntType(64)


@njit
def multiply(width, blocks, indices, order, values, x, bias, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """``out[j, :] = bias[j] + Σ_k values[order[k]] · x[indices[k], :]`` over the connections k of row j.

    ``order`` or ``bias`` may be None: values in order, no bias.
    """
    n_blocks, n_rows = len(blocks) - 1, len(out)
    for j in range(n_rows):
        first = 0 if bias is None else bias[j]
        _add_row(width, values, order, indices, blocks[0, j], blocks[1, j], x, first, out[j])
    for b in range(1, n_blocks):
        for j in range(n_rows):
            start, stop = blocks[b, j], blocks[b + 1, j]
            if start < stop:
                _add_row(width, values, order, indices, start, stop, x, None, out[j])


@njit
def dots(width, blocks, indices, x, g, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """``out[k] += x[indices[k], :] · g[j, :]`` for every connection k of row j."""
    n_blocks, n_rows = len(blocks) - 1, len(g)
    for b in range(n_blocks):
        for j in range(n_rows):
            start, stop = blocks[b, j], blocks[b + 1, j]
            if start < stop:
                _row_dots(width, indices, start, stop, x, g[j], out)


@intrinsic
def _add_row(  # type: ignore[no-untyped-def]
    typingctx, width, values, order, indices, start, stop, x, first, out
):
    """``out[:] = first + Σ_k values[order[k]] · x[indices[k], :]`` for ``start ≤ k < stop``.

    ``x`` is a tile, ``out`` a row of one. None for ``order``: the values are in order; for ``first``: what ``out`` is.
    """
    signature = types.void(width, values, order, indices, start, stop, x, first, out)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[1].dtype, len(signature.args[0]))
        value, index, source, target = (emit.pointer(signature.args[i], arguments[i]) for i in (1, 3, 6, 8))
        ordered = isinstance(signature.args[2], types.NoneType)
        place = None if ordered else emit.pointer(signature.args[2], arguments[2])

        def body(k: Any, sums: Vectors) -> Vectors:
            factor = emit.number(value, k if ordered else _number(builder, place, k))
            row = emit.load_row(emit.row_at(source, _number(builder, index, k)))
            return [emit.fma(factor, x, total) for x, total in zip(row, sums, strict=True)]

        if isinstance(signature.args[7], types.NoneType):
            first = emit.load_row(target)
        else:
            number = context.cast(builder, arguments[7], signature.args[7], signature.args[8].dtype)
            first = [emit.splat(number)] * emit.n_vectors
        _, sums = emit.loop(arguments[4], arguments[5], first, body)
        emit.store_row(sums, target)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def _row_dots(  # type: ignore[no-untyped-def]
    typingctx, width, indices, start, stop, x, row, out
):
    """``out[k] += x[indices[k], :] · row`` for ``start ≤ k < stop``; ``x`` is a tile, ``row`` a row of one."""
    signature = types.void(width, indices, start, stop, x, row, out)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[6].dtype, len(signature.args[0]))
        index, source, other, target = (emit.pointer(signature.args[i], arguments[i]) for i in (1, 4, 5, 6))
        row = emit.load_row(other)

        def product(k: Any) -> Any:
            return emit.product(emit.load_row(emit.row_at(source, _number(builder, index, k))), row)

        def several(n: int) -> Callable[[Any, Vectors], Vectors]:
            def body(k: Any, nothing: Vectors) -> Vectors:
                sums = emit.lane_sums([product(builder.add(k, _I64(i))) for i in range(n)])
                emit.add_numbers(target, k, sums, n)
                return nothing

            return body

        # As many connections at a time as a vector has lanes: their sums over the lanes are one vector.
        k = arguments[2]
        for n in (emit.lanes, 4, 1):
            k, _ = emit.loop(k, builder.sub(arguments[3], _I64(n - 1)), [], several(n), step=n)
        return context.get_dummy_value()

    return signature, codegen


def _number(builder: Any, pointer: Any, k: Any) -> Any:
    """Element ``k`` of an array of int32."""
    return builder.sext(builder.load(builder.gep(pointer, [k])), _I64)
