"""Gain of tiles in bfloat16: ``python -m benchmarks.half_tiles`` times the forward product of one tile, on one thread.

The engine's kernel reads a row of 64 float32 for each connection. Here the same loop reads 64 bfloat16, half of the
bytes, and widens them to float32 in registers, two instructions for a vector; sums stay in float32.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from psn_lightning.bench.timing import time_in_turn
from psn_lightning.kernels.products import multiply
from psn_lightning.kernels.structure import Structure
from psn_lightning.kernels.vectors import Emitter, Vectors, count_lanes
from psn_lightning.topology import LayerBudget, Uniform, spread

SHAPES = ((1024, 0.9), (4096, 0.9), (8192, 0.95), (16384, 0.95), (16384, 0.99))
WIDTH = 64
VECTORS = (0,) * (WIDTH // count_lanes(4))
_I64 = ir.IntType(64)


def widen_row(emit: Emitter, row: Any) -> Vectors:
    """Load a row of bfloat16 as vectors of float32: 16 bits, moved into the upper half of 32."""
    narrow, wide = (ir.VectorType(ir.IntType(bits), emit.lanes) for bits in (16, 32))
    shift = ir.Constant(wide, [16] * emit.lanes)
    vectors = []
    for v in range(emit.n_vectors):
        place = emit.builder.bitcast(emit.builder.gep(row, [_I64(v * emit.lanes)]), narrow.as_pointer())
        bits = emit.builder.zext(emit.builder.load(place, align=2), wide)
        vectors.append(emit.builder.bitcast(emit.builder.shl(bits, shift), emit.vector))
    return vectors


@intrinsic  # type: ignore[untyped-decorator]
def _multiply_row(typingctx, width, values, indices, start, stop, x, out) -> Any:  # type: ignore[no-untyped-def]
    """Add ``out[:] += Σ_k values[k] · x[indices[k], :]``; ``x`` has the bits of bfloat16."""
    signature = types.void(width, values, indices, start, stop, x, out)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = Emitter(context, builder, types.float32, len(signature.args[0]))
        value, index, source, target = (emit.get_pointer(signature.args[i], arguments[i]) for i in (1, 2, 5, 6))

        def body(k: Any, sums: Vectors) -> Vectors:
            row = widen_row(emit, emit.get_row(source, builder.zext(builder.load(builder.gep(index, [k])), _I64)))
            factor = emit.load_scalar(value, k)
            return [emit.fma(factor, x, total) for x, total in zip(row, sums, strict=True)]

        _, sums = emit.loop(arguments[3], arguments[4], emit.load_row(target), body)
        emit.store_row(sums, target)
        return context.get_dummy_value()

    return signature, codegen


@njit  # type: ignore[untyped-decorator]
def multiply_half(edges, starts, indices, values, x, out) -> None:  # type: ignore[no-untyped-def]
    """Compute the product of :func:`~psn_lightning.kernels.products.multiply` without bias, from bfloat16."""
    out_edges, in_edges = edges
    n_blocks = len(in_edges) - 1
    out[:] = 0
    for a in range(len(out_edges) - 1):
        first, size = out_edges[a], out_edges[a + 1] - out_edges[a]
        for b in range(n_blocks):
            runs, block = first * n_blocks + b * size - first, x[in_edges[b] :]
            for j in range(first, first + size):
                _multiply_row(VECTORS, values, indices, starts[runs + j], starts[runs + j + 1], block, out[j])


@njit  # type: ignore[untyped-decorator]
def multiply_single(edges, starts, indices, values, x, bias, out) -> None:  # type: ignore[no-untyped-def]
    """Call the engine's kernel."""
    multiply(VECTORS, 0, len(out), edges, starts, indices, values, x, bias, out)


def main() -> None:
    """Measure all shapes, and print a Markdown table."""
    print("| width | sparsity | float32, ms | bfloat16, ms | float32 / bfloat16 |\n|---|---|---|---|---|")
    for n, sparsity in SHAPES:
        rng = np.random.default_rng(0)
        connectivity = spread(Uniform().fan_in(LayerBudget(n, n, sparsity), rng), n, "random", rng)
        structure = Structure(connectivity.keys(), n, n)
        own = (structure.edges, structure.starts, structure.indices, rng.random(len(structure.positions), np.float32))
        x = rng.standard_normal((n, WIDTH), np.float32)
        half = (x.view(np.uint32) >> 16).astype(np.uint16)  # rounded towards zero
        bias, out, other = np.zeros(n, np.float32), np.empty_like(x), np.empty_like(x)
        calls = {
            "float32": partial(multiply_single, *own, x, bias, out),
            "bfloat16": partial(multiply_half, *own, half, other),
        }
        times = {name: statistics.median(taken) * 1e3 for name, taken in time_in_turn(calls, 2.0).items()}
        assert np.abs(out - other).max() < 0.05 * np.abs(out).max()
        ratio = times["float32"] / times["bfloat16"]
        print(f"| {n} | {sparsity:.0%} | {times['float32']:.3f} | {times['bfloat16']:.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
