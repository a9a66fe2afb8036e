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
def compute_statistics(typingctx, width, n, epsilon, z, statistics):  # type: ignore[no-untyped-def]
    """Write mean and scale (1 / standard deviation) of each column of ``z`` to the first two rows of ``statistics``."""
    signature = types.void(width, n, epsilon, z, statistics)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[3].dtype, len(signature.args[0]))
        n, epsilon = arguments[1], emit.splat(arguments[2])
        z, statistics = (emit.get_pointer(signature.args[i], arguments[i]) for i in (3, 4))
        count = emit.splat(builder.sitofp(n, emit.scalar))

        def add(j: Any, sums: Vectors) -> Vectors:
            return [builder.fadd(total, v) for total, v in zip(sums, emit.load_row(emit.get_row(z, j)), strict=True)]

        def add_squares(j: Any, sums: Vectors) -> Vectors:
            centred = [builder.fsub(v, m) for v, m in zip(emit.load_row(emit.get_row(z, j)), mean, strict=True)]
            return [emit.fma(c, c, total) for c, total in zip(centred, sums, strict=True)]

        _, sums = emit.loop(_I64(0), n, emit.zeros, add)
        mean = [builder.fdiv(total, count) for total in sums]
        _, squares = emit.loop(_I64(0), n, emit.zeros, add_squares)
        deviation = [emit.sqrt(builder.fadd(builder.fdiv(total, count), epsilon)) for total in squares]
        one = emit.splat(emit.scalar(1))
        emit.store_row(mean, statistics)
        emit.store_row([builder.fdiv(one, d) for d in deviation], emit.get_row(statistics, _I64(1)))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def normalize(typingctx, width, begin, end, z, gain, shift, statistics, y):  # type: ignore[no-untyped-def]
    """Compute rows ``begin`` to ``end`` of ``y`` from ``z`` and its statistics.

    ``z`` and ``y`` have shape ``(n, width)`` and may be the same tile; ``gain`` and ``shift`` have shape ``(n,)``.
    """
    signature = types.void(width, begin, end, z, gain, shift, statistics, y)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[3].dtype, len(signature.args[0]))
        z, gain, shift, statistics, y = (emit.get_pointer(signature.args[i], arguments[i]) for i in range(3, 8))
        mean, scale = emit.load_row(statistics), emit.load_row(emit.get_row(statistics, _I64(1)))

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

        emit.loop(arguments[1], arguments[2], [], write)
        return context.get_dummy_value()

    return signature, codegen


class _Backward:
    """Values that both halves of the backward pass read."""

    def __init__(self, emit: Emitter, z: Any, statistics: Any, y: Any, g: Any) -> None:
        self.emit, self.z, self.y, self.g = emit, z, y, g
        self.rows = [emit.load_row(emit.get_row(statistics, _I64(i))) for i in range(4)]

    def pass_relu(self, j: Any) -> tuple[Vectors, Vectors]:
        """Emit row ``j`` of the gradient to ``gain · x + shift``, and of ``x``."""
        emit, zero = self.emit, self.emit.zeros[0]
        results, gradients = emit.load_row(emit.get_row(self.y, j)), emit.load_row(emit.get_row(self.g, j))
        h = [
            emit.builder.select(emit.builder.fcmp_ordered(">", v, zero), d, zero)
            for v, d in zip(results, gradients, strict=True)
        ]
        return h, _normalized(emit, emit.load_row(emit.get_row(self.z, j)), *self.rows[:2])


@intrinsic
def sum_gradients(typingctx, width, n, z, gain, statistics, y, g, to_gain, to_shift):  # type: ignore[no-untyped-def]
    """Accumulate the gradients to gain and shift, and write the column means that :func:`normalize_backward` needs.

    With the gradient h to ``gain · x + shift``, the means of ``h · gain`` and of ``h · gain · x`` over the n features
    become rows 2 and 3 of ``statistics``. ``z``, ``y`` and ``g`` have shape ``(n, width)``; the sums over the tile's
    columns are added to ``to_gain`` and ``to_shift``, each of shape ``(n,)``.
    """
    signature = types.void(width, n, z, gain, statistics, y, g, to_gain, to_shift)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[2].dtype, len(signature.args[0]))
        n = arguments[1]
        z, gain, statistics, y, g, to_gain, to_shift = (
            emit.get_pointer(signature.args[i], arguments[i]) for i in range(2, 9)
        )
        backward = _Backward(emit, z, statistics, y, g)
        count = emit.splat(builder.sitofp(n, emit.scalar))

        def add(j: Any, sums: Vectors) -> Vectors:
            h, x = backward.pass_relu(j)
            factor = emit.load_scalar(gain, j)
            emit.add_scalar(to_gain, j, emit.sum_lanes(emit.multiply_rows(h, x)))
            emit.add_scalar(to_shift, j, emit.sum_lanes(emit.sum_vectors(h)))
            scaled = [builder.fmul(v, factor) for v in h]
            plain = [builder.fadd(total, v) for total, v in zip(sums, scaled, strict=False)]
            others = zip(scaled, x, sums[emit.n_vectors :], strict=True)
            return plain + [emit.fma(v, position, total) for v, position, total in others]

        _, sums = emit.loop(_I64(0), n, emit.zeros * 2, add)
        means = [builder.fdiv(total, count) for total in sums]
        for row in range(2):
            part = means[row * emit.n_vectors : (row + 1) * emit.n_vectors]
            emit.store_row(part, emit.get_row(statistics, _I64(row + 2)))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def normalize_backward(typingctx, width, begin, end, z, gain, statistics, y, g, to_bias):  # type: ignore[no-untyped-def]
    """Replace rows ``begin`` to ``end`` of the gradient to ``y`` in ``g`` by the gradient to ``z``.

    ``z``, ``y`` and ``g`` have shape ``(n, width)``, ``statistics`` is complete after :func:`sum_gradients`. The sums
    over the tile's columns are added to ``to_bias`` (the bias in ``z``), shape ``(n,)``.
    """
    signature = types.void(width, begin, end, z, gain, statistics, y, g, to_bias)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[3].dtype, len(signature.args[0]))
        z, gain, statistics, y, g, to_bias = (emit.get_pointer(signature.args[i], arguments[i]) for i in range(3, 9))
        backward = _Backward(emit, z, statistics, y, g)
        _, scale, plain, along = backward.rows

        def write(j: Any, nothing: Vectors) -> Vectors:
            h, x = backward.pass_relu(j)
            factor, rows = emit.load_scalar(gain, j), []
            for v in range(emit.n_vectors):
                to_x = builder.fsub(builder.fmul(h[v], factor), builder.fadd(plain[v], builder.fmul(x[v], along[v])))
                rows.append(builder.fmul(to_x, scale[v]))
            emit.store_row(rows, emit.get_row(g, j))
            emit.add_scalar(to_bias, j, emit.sum_lanes(emit.sum_vectors(rows)))
            return nothing

        emit.loop(arguments[1], arguments[2], [], write)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def sum_rows(typingctx, width, begin, end, tile, sums):  # type: ignore[no-untyped-def]
    """Add the sum of each row of a tile: ``sums[j] += Σ_c tile[j, c]`` for ``begin ≤ j < end``."""
    signature = types.void(width, begin, end, tile, sums)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, signature.args[3].dtype, len(signature.args[0]))
        tile, sums = (emit.get_pointer(signature.args[i], arguments[i]) for i in (3, 4))

        def write(j: Any, nothing: Vectors) -> Vectors:
            emit.add_scalar(sums, j, emit.sum_lanes(emit.sum_vectors(emit.load_row(emit.get_row(tile, j)))))
            return nothing

        emit.loop(arguments[1], arguments[2], [], write)
        return context.get_dummy_value()

    return signature, codegen


def _normalized(emit: Emitter, z: Vectors, mean: Vectors, scale: Vectors) -> Vectors:
    parts = zip(z, mean, scale, strict=True)
    return [emit.builder.fmul(emit.builder.fsub(v, m), s) for v, m, s in parts]
