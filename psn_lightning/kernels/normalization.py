"""LayerNorm and ReLU on one tile, forward and backward.

A tile has shape ``(n, width)``; LayerNorm's mean and variance are taken over the ``n`` features of each column. With
the normalised activation ``x = (z - mean) · scale``, the result is ``y = relu(gain · x + shift)``.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from psn_lightning.kernels.vectors import Emitter, Vectors

_I64 = ir.IntType(64)


@intrinsic
def normalize(typingctx, width, n, epsilon, z, gain, shift, statistics, y):  # type: ignore[no-untyped-def]
    """Compute ``y`` from ``z`` and write mean and scale (1 / standard deviation) to ``statistics``.

    ``z`` and ``y`` have shape ``(n, width)`` and may be the same tile; ``gain`` and ``shift`` have shape ``(n,)``,
    ``statistics`` has shape ``(2, width)``.
    """
    signature = types.void(width, n, epsilon, z, gain, shift, statistics, y)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[3].dtype, len(signature.args[0]))
        n, epsilon = arguments[1], emit.splat(arguments[2])
        z, gain, shift, statistics, y = (emit.get_pointer(signature.args[i], arguments[i]) for i in range(3, 8))
        count = emit.splat(builder.sitofp(n, emit.scalar))

        def add(j: Any, sums: Vectors) -> Vectors:
            return [builder.fadd(total, v) for total, v in zip(sums, emit.load_row(emit.get_row(z, j)), strict=True)]

        def add_squares(j: Any, sums: Vectors) -> Vectors:
            centred = [builder.fsub(v, m) for v, m in zip(emit.load_row(emit.get_row(z, j)), mean, strict=True)]
            return [emit.fma(c, c, total) for c, total in zip(centred, sums, strict=True)]

        def write(j: Any, nothing: Vectors) -> Vectors:
            x = _normalized(emit, emit.load_row(emit.get_row(z, j)), mean, scale)
            factor, offset = emit.load_scalar(gain, j), emit.load_scalar(shift, j)
            h = [emit.fma(v, factor, offset) for v in x]
            zero = emit.zeros[0]
            emit.store_row(
                [builder.select(builder.fcmp_ordered("<", v, zero), zero, v) for v in h],  # NaN stays NaN, as in torch
                emit.get_row(y, j),
            )
            return nothing

        _, sums = emit.loop(_I64(0), n, emit.zeros, add)
        mean = [builder.fdiv(total, count) for total in sums]
        _, squares = emit.loop(_I64(0), n, emit.zeros, add_squares)
        deviation = [emit.sqrt(builder.fadd(builder.fdiv(total, count), epsilon)) for total in squares]
        one = emit.splat(emit.scalar(1))
        scale = [builder.fdiv(one, d) for d in deviation]
        emit.store_row(mean, statistics)
        emit.store_row(scale, emit.get_row(statistics, _I64(1)))
        emit.loop(_I64(0), n, [], write)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def normalize_backward(  # type: ignore[no-untyped-def]
    typingctx, width, n, z, gain, statistics, y, g, to_bias, to_gain, to_shift
):
    """Replace the gradient to ``y`` in ``g`` by the gradient to ``z``, and accumulate the gradients to the parameters.

    ``z``, ``y`` and ``g`` have shape ``(n, width)``. The sums over the tile's columns are added to ``to_bias`` (the
    bias in ``z``), ``to_gain`` and ``to_shift``, each of shape ``(n,)``.
    """
    signature = types.void(width, n, z, gain, statistics, y, g, to_bias, to_gain, to_shift)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[2].dtype, len(signature.args[0]))
        n = arguments[1]
        z, gain, statistics, y, g, to_bias, to_gain, to_shift = (
            emit.get_pointer(signature.args[i], arguments[i]) for i in range(2, 10)
        )
        mean, scale = emit.load_row(statistics), emit.load_row(emit.get_row(statistics, _I64(1)))
        count = emit.splat(builder.sitofp(n, emit.scalar))

        def through_relu(j: Any) -> tuple[Vectors, Vectors]:
            """Gradient to ``gain · x + shift``, and ``x``."""
            results, gradients = emit.load_row(emit.get_row(y, j)), emit.load_row(emit.get_row(g, j))
            zero = emit.zeros[0]
            h = [
                builder.select(builder.fcmp_ordered(">", v, zero), d, zero)
                for v, d in zip(results, gradients, strict=True)
            ]
            return h, _normalized(emit, emit.load_row(emit.get_row(z, j)), mean, scale)

        def add(j: Any, sums: Vectors) -> Vectors:
            h, x = through_relu(j)
            factor = emit.load_scalar(gain, j)
            emit.add_scalar(to_gain, j, emit.sum_lanes(emit.multiply_rows(h, x)))
            emit.add_scalar(to_shift, j, emit.sum_lanes(emit.sum_vectors(h)))
            scaled = [builder.fmul(v, factor) for v in h]
            plain = [builder.fadd(total, v) for total, v in zip(sums, scaled, strict=False)]
            others = zip(scaled, x, sums[emit.n_vectors :], strict=True)
            return plain + [emit.fma(v, position, total) for v, position, total in others]

        def write(j: Any, nothing: Vectors) -> Vectors:
            h, x = through_relu(j)
            factor, rows = emit.load_scalar(gain, j), []
            for v in range(emit.n_vectors):
                to_x = builder.fsub(builder.fmul(h[v], factor), builder.fadd(plain[v], builder.fmul(x[v], along[v])))
                rows.append(builder.fmul(to_x, scale[v]))
            emit.store_row(rows, emit.get_row(g, j))
            emit.add_scalar(to_bias, j, emit.sum_lanes(emit.sum_vectors(rows)))
            return nothing

        _, sums = emit.loop(_I64(0), n, emit.zeros * 2, add)
        means = [builder.fdiv(total, count) for total in sums]
        plain, along = means[: emit.n_vectors], means[emit.n_vectors :]  # means of h · gain and of h · gain · x
        emit.loop(_I64(0), n, [], write)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def sum_rows(typingctx, width, n, tile, sums):  # type: ignore[no-untyped-def]
    """Add the sum of each row of a tile: ``sums[j] += Σ_c tile[j, c]``."""
    signature = types.void(width, n, tile, sums)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[2].dtype, len(signature.args[0]))
        tile, sums = (emit.get_pointer(signature.args[i], arguments[i]) for i in (2, 3))

        def write(j: Any, nothing: Vectors) -> Vectors:
            emit.add_scalar(sums, j, emit.sum_lanes(emit.sum_vectors(emit.load_row(emit.get_row(tile, j)))))
            return nothing

        emit.loop(_I64(0), arguments[1], [], write)
        return context.get_dummy_value()

    return signature, codegen


def _normalized(emit: Emitter, z: Vectors, mean: Vectors, scale: Vectors) -> Vectors:
    parts = zip(z, mean, scale, strict=True)
    return [emit.builder.fmul(emit.builder.fsub(v, m), s) for v, m, s in parts]
