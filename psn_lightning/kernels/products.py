"""Products of a sparse layer on one tile: weights with activations, and activations with gradients.

A tile has shape ``(n_features, width)``, feature-major, so that a connection reads one contiguous row. Connections come
in two-dimensional blocks, see :class:`~psn_lightning.kernels.structure.Structure`. Threads that share a tile compute
ranges of its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from psn_lightning.kernels.vectors import Emitter, Vectors

_I64, _I32 = ir.IntType(64), ir.IntType(32)
_LINE = 64  # bytes that a cache loads at once


@njit
def multiply(width, begin, end, edges, starts, indices, values, x, bias, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Compute ``out[j, :] = bias[j] + Σ_k values[k] · x[input of k, :]`` for ``begin ≤ j < end``.

    ``x`` has shape ``(n_in, width)``, ``out`` has shape ``(n_out, width)``.
    """
    out_edges, in_edges = edges
    n_blocks = len(in_edges) - 1
    for a in range(len(out_edges) - 1):
        first, size = out_edges[a], out_edges[a + 1] - out_edges[a]
        low, high = max(begin, first), min(end, first + size)
        for b in range(n_blocks if low < high else 0):
            runs, block = first * n_blocks + b * size - first, x[in_edges[b] :]
            for j in range(low, high):
                start, stop = starts[runs + j], starts[runs + j + 1]
                if b == 0:
                    _multiply_row(width, values, None, indices, start, stop, block, bias[j], out[j])
                elif start < stop:
                    _multiply_row(width, values, None, indices, start, stop, block, None, out[j])


@njit
def multiply_transposed(width, begin, end, edges, starts, column_starts, column_indices, order, values, g, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Compute ``out[i, :] = Σ_k values[k] · g[neuron of k, :]`` over the connections of input i, ``begin ≤ i < end``.

    ``g`` has shape ``(n_out, width)``, ``out`` has shape ``(n_in, width)``.
    """
    out_edges, in_edges = edges
    n_a, n_b = len(out_edges) - 1, len(in_edges) - 1
    for b in range(n_b):
        first, size = in_edges[b], in_edges[b + 1] - in_edges[b]
        low, high = max(begin, first), min(end, first + size)
        for a in range(n_a if low < high else 0):
            runs, block = first * n_a + a * size - first, g[out_edges[a] :]
            rows = out_edges[a + 1] - out_edges[a]
            own = values[starts[out_edges[a] * n_b + b * rows] : starts[out_edges[a] * n_b + (b + 1) * rows]]
            _prefetch(own)
            for i in range(low, high):
                start, stop = column_starts[runs + i], column_starts[runs + i + 1]
                if a == 0:
                    _multiply_row(width, own, order, column_indices, start, stop, block, 0, out[i])
                elif start < stop:
                    _multiply_row(width, own, order, column_indices, start, stop, block, None, out[i])


@njit
def add_dot_products(width, begin, end, edges, starts, indices, x, g, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Add the gradient to the values of neurons j, ``begin ≤ j < end``: ``out[k] += x[input of k, :] · g[j, :]``."""
    out_edges, in_edges = edges
    n_blocks = len(in_edges) - 1
    for a in range(len(out_edges) - 1):
        first, size = out_edges[a], out_edges[a + 1] - out_edges[a]
        low, high = max(begin, first), min(end, first + size)
        for b in range(n_blocks if low < high else 0):
            runs, block = first * n_blocks + b * size - first, x[in_edges[b] :]
            for j in range(low, high):
                start, stop = starts[runs + j], starts[runs + j + 1]
                if start < stop:
                    _add_row_dot_products(width, indices, start, stop, block, g[j], out)


@intrinsic
def _prefetch(typingctx, array):  # type: ignore[no-untyped-def]
    """Ask for the cache lines of an array: they arrive while earlier ones are computed with."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        start = builder.bitcast(view.data, ir.IntType(8).as_pointer())
        size = builder.mul(builder.extract_value(view.shape, 0), view.itemsize)
        kind = ir.FunctionType(ir.VoidType(), [start.type, _I32, _I32, _I32])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        with cgutils.for_range_slice(builder, _I64(0), size, _I64(_LINE)) as (offset, _):
            builder.call(fetch, [builder.gep(start, [offset]), _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(array), codegen


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
    """Load element ``k`` of an array of indices, none of them negative, as int64."""
    return builder.zext(builder.load(builder.gep(pointer, [k])), _I64)
