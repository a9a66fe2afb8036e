"""Emission of inner loops as LLVM vector code.

Plain numba loops do not keep the accumulators of a tile in vector registers over a whole row of connections;
intrinsics that emit their own code do. A row of a tile is ``width`` consecutive numbers. Intrinsics receive the width
as a tuple with one element per 64-byte vector: it is then part of the type, and code is compiled for each width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

_VECTOR_BYTES = 64
_I64 = ir.IntType(64)
_I32 = ir.IntType(32)

Vectors = list[Any]
"""LLVM values that together hold one row of a tile."""


def count_lanes(itemsize: int) -> int:
    """Return the number of elements (lanes) of a 64-byte vector."""
    return _VECTOR_BYTES // itemsize


class Emitter:
    """Emitter of vector operations and loops for float32 or float64.

    Args:
        context: numba context that the code generator of an intrinsic receives.
        builder: llvmlite IR builder.
        dtype: numba number type.
        n_vectors: Number of vectors in a row of a tile.
    """

    def __init__(self, context: Any, builder: Any, dtype: Any, n_vectors: int) -> None:
        self.context, self.builder = context, builder
        self.scalar = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
        self.itemsize = 4 if dtype == types.float32 else 8
        self.lanes = count_lanes(self.itemsize)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.n_vectors = n_vectors
        self.zeros = [ir.Constant(self.vector, [0.0] * self.lanes)] * n_vectors

    def get_pointer(self, array_type: Any, array: Any) -> Any:
        """Get the address of an array's first element."""
        return self.context.make_array(array_type)(self.context, self.builder, array).data

    def load(self, pointer: Any, offset: Any) -> Any:
        """Load an unaligned vector at an offset in elements."""
        address = self.builder.bitcast(self.builder.gep(pointer, [offset]), self.vector.as_pointer())
        return self.builder.load(address, align=self.itemsize)

    def store(self, vector: Any, pointer: Any, offset: Any) -> None:
        """Store a vector, unaligned, at an offset in elements."""
        address = self.builder.bitcast(self.builder.gep(pointer, [offset]), self.vector.as_pointer())
        self.builder.store(vector, address, align=self.itemsize)

    def load_scalar(self, pointer: Any, k: Any) -> Any:
        """Load element ``k`` into every lane of a vector."""
        return self.splat(self.builder.load(self.builder.gep(pointer, [k])))

    def add_scalar(self, pointer: Any, k: Any, number: Any) -> None:
        """Add a number to element ``k`` in memory."""
        place = self.builder.gep(pointer, [k])
        self.builder.store(self.builder.fadd(self.builder.load(place), number), place)

    def add_lanes(self, pointer: Any, k: Any, vector: Any, n: int) -> None:
        """Add the first ``n`` lanes of a vector to elements ``k`` to ``k + n`` in memory."""
        if n < self.lanes:
            vector = self.shuffle(vector, vector, list(range(n)))
        place = self.builder.bitcast(self.builder.gep(pointer, [k]), vector.type.as_pointer())
        total = self.builder.fadd(self.builder.load(place, align=self.itemsize), vector)
        self.builder.store(total, place, align=self.itemsize)

    def get_row(self, tile: Any, j: Any) -> Any:
        """Get the address of row ``j`` of a tile."""
        return self.builder.gep(tile, [self.builder.mul(j, _I64(self.n_vectors * self.lanes))])

    def load_row(self, row: Any) -> Vectors:
        """Load the row of a tile at an address."""
        return [self.load(row, _I64(v * self.lanes)) for v in range(self.n_vectors)]

    def store_row(self, vectors: Vectors, row: Any) -> None:
        """Store a row of a tile at an address."""
        for v, vector in enumerate(vectors):
            self.store(vector, row, _I64(v * self.lanes))

    def loop(
        self, start: Any, stop: Any, carried: Vectors, body: Callable[[Any, Vectors], Vectors], step: int = 1
    ) -> tuple[Any, Vectors]:
        """Emit ``for k in range(start, stop, step): carried = body(k, carried)``.

        Args:
            start: First value of ``k``.
            stop: Bound of ``k``.
            carried: Vectors that stay in registers from one iteration to the next.
            body: Function that emits one iteration.
            step: Increment of ``k``.

        Returns:
            ``k`` and the carried vectors after the loop.
        """
        builder, entry = self.builder, self.builder.block
        head, inside, done = (builder.append_basic_block(name) for name in ("head", "body", "done"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(_I64)
        k.add_incoming(start, entry)
        kept = [builder.phi(self.vector) for _ in carried]
        for phi, vector in zip(kept, carried, strict=True):
            phi.add_incoming(vector, entry)
        builder.cbranch(builder.icmp_signed("<", k, stop), inside, done)
        builder.position_at_end(inside)
        after = body(k, kept)
        k.add_incoming(builder.add(k, _I64(step)), builder.block)
        for phi, vector in zip(kept, after, strict=True):
            phi.add_incoming(vector, builder.block)
        builder.branch(head)
        builder.position_at_end(done)
        return k, kept

    def splat(self, scalar: Any) -> Any:
        """Copy a number into every lane of a vector."""
        empty = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(empty, scalar, _I32(0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes))

    def shuffle(self, a: Any, b: Any, picks: list[int]) -> Any:
        """Select lanes of two vectors; lanes of ``b`` are numbered after the lanes of ``a``."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(picks)), picks))

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """Emit the fused multiply-add ``a * b + c``."""
        return self._call("llvm.fma", a, b, c)

    def sqrt(self, a: Any) -> Any:
        """Emit the square root of each lane."""
        return self._call("llvm.sqrt", a)

    def _call(self, name: str, *arguments: Any) -> Any:
        kind = ir.FunctionType(self.vector, [self.vector] * len(arguments))
        whole_name = f"{name}.v{self.lanes}f{8 * self.itemsize}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, whole_name), arguments)

    def sum_vectors(self, vectors: Vectors) -> Any:
        """Sum vectors lane by lane."""
        total = vectors[0]
        for vector in vectors[1:]:
            total = self.builder.fadd(total, vector)
        return total

    def multiply_rows(self, a: Vectors, b: Vectors) -> Any:
        """Multiply two rows lane by lane and sum the products over the vectors."""
        total = self.builder.fmul(a[0], b[0])
        for mine, other in zip(a[1:], b[1:], strict=True):
            total = self.fma(mine, other, total)
        return total

    def sum_lanes_of_each(self, vectors: Vectors) -> Any:
        """Sum the lanes of each of 1, 2, 4 … vectors; the sums are the first lanes of the returned vector."""
        half = self.lanes // 2
        even = [2 * i for i in range(half)] + [self.lanes + 2 * i for i in range(half)]
        odd = [i + 1 for i in even]
        for _ in range(half.bit_length()):
            pairs = zip(vectors[0::2], vectors[1::2] or vectors, strict=True)
            vectors = [self.builder.fadd(self.shuffle(a, b, even), self.shuffle(a, b, odd)) for a, b in pairs]
        return vectors[0]

    def sum_lanes(self, vector: Any) -> Any:
        """Sum the lanes of one vector."""
        distance = self.lanes // 2
        while distance:
            rotated = [(i + distance) % self.lanes for i in range(self.lanes)]
            vector = self.builder.fadd(vector, self.shuffle(vector, vector, rotated))
            distance //= 2
        return self.builder.extract_element(vector, _I32(0))
