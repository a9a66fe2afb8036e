"""LayerNorm and ReLU on one tile, forwards and backwards.

A tile has the shape ``(n, width)``: LayerNorm's statistics run over the ``n`` features of each column. With
the normalised activation ``x = (z - mean) · scale``, ``y = relu(gain · x + shift)``.
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
    """Forwards; ``y`` may be ``z``.

    ``statistics``, shape ``(2, width)``, become mean and scale (1 / standard deviation).
    """
    signature = types.void(width, n, epsilon, z, gain, shift, statistics, y)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[3].dtype, len(signature.args[0]))
        n, epsilon = arguments[1], emit.splat(arguments[2])
        z, gain, shift, statistics, y = (emit.pointer(signature.args[i], arguments[i]) for i in range(3, 8))
        count = emit.splat(builder.sitofp(n, emit.scalar))

        def add(j: Any, sums: Vectors) -> Vectors:
            return [builder.fadd(total, v) for total, v in zip(sums, emit.load_row(emit.row_at(z, j)), strict=True)]

        def add_squares(j: Any, sums: Vectors) -> Vectors:
            centred = [builder.fsub(v, m) for v, m in zip(emit.load_row(emit.row_at(z, j)), mean, strict=True)]
            return [emit.fma(c, c, total) for c, total in zip(centred, sums, strict=True)]

        def write(j: Any, nothing: Vectors) -> Vectors:
            x = _normalized(emit, emit.load_row(emit.row_at(z, j)), mean, scale)
            factor, offset = emit.number(gain, j), emit.number(shift, j)
            h = [emit.fma(v, factor, offset) for v in x]
            zero = emit.zeros[0]
            emit.store_row(
                [builder.select(builder.fcmp_ordered("<", v, zero), zero, v) for v in h],  # NaN stays
                emit.row_at(y, j),
            )
            return nothing

        _, sums = emit.loop(_I64(0), n, emit.zeros, add)
        mean = [builder.fdiv(total, count) for total in sums]
        _, squares = emit.loop(_I64(0), n, emit.zeros, add_squares)
        deviation = [emit.sqrt(builder.fadd(builder.fdiv(total, count), epsilon)) for total in squares]
        one = emit.splat(emit.scalar(1))
        scale = [builder.fdiv(one, d) for d in deviation]
        emit.store_row(mean, statistics)
        emit.store_row(scale, emit.row_at(statistics, _I64(1)))
        emit.loop(_I64(0), n, [], write)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def normalize_backward(  # type: ignore[no-untyped-def]
    typingctx, width, n, z, gain, statistics, y, g, to_bias, to_gain, to_shift
):
    """Backwards; ``g`` is the gradient to ``y`` and becomes that to ``z``.

    ``to_bias``, the gradient to a bias in ``z``, grows by its sum over the tile, ``to_gain`` and ``to_shift`` by
    theirs.
    """
    signature = types.void(width, n, z, gain, statistics, y, g, to_bias, to_gain, to_shift)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[2].dtype, len(signature.args[0]))
        n = arguments[1]
        z, gain, statistics, y, g, to_bias, to_gain, to_shift = (
            emit.pointer(signature.args[i], arguments[i]) for i in range(2, 10)
        )
        mean, scale = emit.load_row(statistics), emit.load_row(emit.row_at(statistics, _I64(1)))
        count = emit.splat(builder.sitofp(n, emit.scalar))

        def through_relu(j: Any) -> tuple[Vectors, Vectors]:
            """Gradient to ``gain · x + shift``, and x."""
            results, gradients = emit.load_row(emit.row_at(y, j)), emit.load_row(emit.row_at(g, j))
            zero = emit.zeros[0]
            h = [
                builder.select(builder.fcmp_ordered(">", v, zero), d, zero)
                for v, d in zip(results, gradients, strict=True)
            ]
            return h, _normalized(emit, emit.load_row(emit.row_at(z, j)), mean, scale)

        def add(j: Any, sums: Vectors) -> Vectors:
            h, x = through_relu(j)
            factor = emit.number(gain, j)
            emit.add_number(to_gain, j, emit.lane_sum(emit.product(h, x)))
            emit.add_number(to_shift, j, emit.lane_sum(emit.sum(h)))
            scaled = [builder.fmul(v, factor) for v in h]
            plain = [builder.fadd(total, v) for total, v in zip(sums, scaled, strict=False)]
            others = zip(scaled, x, sums[emit.n_vectors :], strict=True)
            return plain + [emit.fma(v, position, total) for v, position, total in others]

        def write(j: Any, nothing: Vectors) -> Vectors:
            h, x = through_relu(j)
            factor, rows = emit.number(gain, j), []
            for v in range(emit.n_vectors):
                to_x = builder.fsub(builder.fmul(h[v], factor), builder.fadd(plain[v], builder.fmul(x[v], along[v])))
                rows.append(builder.fmul(to_x, scale[v]))
            emit.store_row(rows, emit.row_at(g, j))
            emit.add_number(to_bias, j, emit.lane_sum(emit.sum(rows)))
            return nothing

        _, sums = emit.loop(_I64(0), n, emit.zeros * 2, add)
        means = [builder.fdiv(total, count) for total in sums]
        plain, along = means[: emit.n_vectors], means[emit.n_vectors :]  # of h · gain, and of h · gain · x
        emit.loop(_I64(0), n, [], write)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def sum_rows(typingctx, width, n, tile, sums):  # type: ignore[no-untyped-def]
    """``sums[j] += Σ_c tile[j, c]``."""
    signature = types.void(width, n, tile, sums)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[2].dtype, len(signature.args[0]))
        tile, sums = (emit.pointer(signature.args[i], arguments[i]) for i in (2, 3))

        def write(j: Any, nothing: Vectors) -> Vectors:
            emit.add_number(sums, j, emit.lane_sum(emit.sum(emit.load_row(emit.row_at(tile, j)))))
            return nothing

        emit.loop(_I64(0), arguments[1], [], write)
        return context.get_dummy_value()

    return signature, codegen


def _normalized(emit: Emitter, z: Vectors, mean: Vectors, scale: Vectors) -> Vectors:
    parts = zip(z, mean, scale, strict=True)
    return [emit.builder.fmul(emit.builder.fsub(v, m), s) for v, m, s in parts]
