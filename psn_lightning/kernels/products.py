"""Products of a sparse layer on one tile: weights with activations, and activations with gradients.

A tile has shape ``(n_features, width)``, feature-major, so that a connection reads one contiguous row. Connections
are processed in blocks of inputs whose tile rows fit into a core's first-level cache. ``blocks``, shape
``(n_blocks + 1, n_rows)``, holds at ``[b, j]`` the index of the first connection of row j with an input in block b.
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
    """Compute ``out[j, :] = bias[j] + Σ_k values[order[k]] · x[indices[k], :]`` over the connections k of row j.

    ``x`` has shape ``(n_in, width)``, ``out`` has shape ``(n_rows, width)``. ``order`` is None where the values are
    in the order of the connections, ``bias`` is None without a bias.
    """
    n_blocks, n_rows = len(blocks) - 1, len(out)
    for j in range(n_rows):
        first = 0 if bias is None else bias[j]
        _multiply_row(width, values, order, indices, blocks[0, j], blocks[1, j], x, first, out[j])
    for b in range(1, n_blocks):
        for j in range(n_rows):
            start, stop = blocks[b, j], blocks[b + 1, j]
            if start < stop:
                _multiply_row(width, values, order, indices, start, stop, x, None, out[j])


@njit
def add_dot_products(width, blocks, indices, x, g, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Add the gradient to the values: ``out[k] += x[indices[k], :] · g[j, :]`` for every connection k of row j."""
    n_blocks, n_rows = len(blocks) - 1, len(g)
    for b in range(n_blocks):
        for j in range(n_rows):
            start, stop = blocks[b, j], blocks[b + 1, j]
            if start < stop:
                _add_row_dot_products(width, indices, start, stop, x, g[j], out)


@intrinsic
def _multiply_row(  # type: ignore[no-untyped-def]
    typingctx, width, values, order, indices, start, stop, x, first, out
):
    """Compute ``out[:] = first + Σ_k values[order[k]] · x[indices[k], :]`` for ``start ≤ k < stop``.

    ``x`` is a tile, ``out`` a row of a tile. ``order`` is None where the values are in the order of the connections;
    ``first`` is None where the sum starts from the present ``out``.
    """
    signature = types.void(width, values, order, indices, start, stop, x, first, out)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[1].dtype, len(signature.args[0]))
        value, index, source, target = (emit.get_pointer(signature.args[i], arguments[i]) for i in (1, 3, 6, 8))
        ordered = isinstance(signature.args[2], types.NoneType)
        place = None if ordered else emit.get_pointer(signature.args[2], arguments[2])

        def body(k: Any, sums: Vectors) -> Vectors:
            factor = emit.load_scalar(value, k if ordered else _load_index(builder, place, k))
            row = emit.load_row(emit.get_row(source, _load_index(builder, index, k)))
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
def _add_row_dot_products(  # type: ignore[no-untyped-def]
    typingctx, width, indices, start, stop, x, row, out
):
    """Add ``out[k] += x[indices[k], :] · row`` for ``start ≤ k < stop``; ``x`` is a tile, ``row`` a row of a tile."""
    signature = types.void(width, indices, start, stop, x, row, out)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[6].dtype, len(signature.args[0]))
        index, source, other, target = (emit.get_pointer(signature.args[i], arguments[i]) for i in (1, 4, 5, 6))
        row = emit.load_row(other)

        def product(k: Any) -> Any:
            return emit.multiply_rows(emit.load_row(emit.get_row(source, _load_index(builder, index, k))), row)

        def several(n: int) -> Callable[[Any, Vectors], Vectors]:
            def body(k: Any, nothing: Vectors) -> Vectors:
                sums = emit.sum_lanes_of_each([product(builder.add(k, _I64(i))) for i in range(n)])
                emit.add_lanes(target, k, sums, n)
                return nothing

            return body

        # One vector holds the lane sums of as many connections as it has lanes, so that is the step of the loop.
        k = arguments[2]
        for n in (emit.lanes, 4, 1):
            k, _ = emit.loop(k, builder.sub(arguments[3], _I64(n - 1)), [], several(n), step=n)
        return context.get_dummy_value()

    return signature, codegen


def _load_index(builder: Any, pointer: Any, k: Any) -> Any:
    """Load element ``k`` of an int32 array as int64."""
    return builder.sext(builder.load(builder.gep(pointer, [k])), _I64)
