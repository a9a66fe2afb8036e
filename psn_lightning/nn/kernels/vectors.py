"""Inner loops as LLVM vector code.

Plain numba loops do not keep a tile's accumulators in vector registers over a whole row of connections;
these intrinsics emit code that does. A tile is ``width`` columns of the batch, stored next to each other
for each feature. ``width`` is passed as a tuple of that many 64-byte vectors, so that it is part of the type
and a kernel is compiled once for each.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_VECTOR_BYTES = 64
_I64 = ir.IntType(64)
_I32 = ir.IntType(32)


def lanes_of(itemsize: int) -> int:
    """Numbers in a vector."""
    return _VECTOR_BYTES // itemsize


class _Emitter:
    """Emits the few operations that the loops are made of, for float32 or float64."""

    def __init__(self, context: Any, builder: Any, dtype: Any, n_vectors: int) -> None:
        self.context, self.builder = context, builder
        scalar = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
        self.itemsize = 4 if dtype == types.float32 else 8
        self.lanes = lanes_of(self.itemsize)
        self.vector = ir.VectorType(scalar, self.lanes)
        self.n_vectors = n_vectors
        name = f"llvm.fma.v{self.lanes}f{8 * self.itemsize}"
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        self._fma = cgutils.get_or_insert_function(builder.module, kind, name)

    def pointer(self, array_type: Any, array: Any) -> Any:
        """Address of an array's first element."""
        return self.context.make_array(array_type)(self.context, self.builder, array).data

    def load(self, pointer: Any, offset: Any) -> Any:
        """Unaligned vector at an element offset."""
        address = self.builder.bitcast(self.builder.gep(pointer, [offset]), self.vector.as_pointer())
        return self.builder.load(address, align=self.itemsize)

    def store(self, vector: Any, pointer: Any, offset: Any) -> None:
        """The opposite of :meth:`load`."""
        address = self.builder.bitcast(self.builder.gep(pointer, [offset]), self.vector.as_pointer())
        self.builder.store(vector, address, align=self.itemsize)

    def tile(self, pointer: Any) -> list[Any]:
        """All vectors of a tile."""
        return [self.load(pointer, _I64(v * self.lanes)) for v in range(self.n_vectors)]

    def row(self, x: Any, indices: Any, k: Any) -> Any:
        """Address of the tile row that connection ``k`` reads."""
        feature = self.builder.sext(self.builder.load(self.builder.gep(indices, [k])), _I64)
        return self.builder.gep(x, [self.builder.mul(feature, _I64(self.n_vectors * self.lanes))])

    def splat(self, scalar: Any) -> Any:
        """A number in every lane."""
        empty = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(empty, scalar, _I32(0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(_I32, self.lanes), [0] * self.lanes))

    def shuffle(self, a: Any, b: Any, picks: list[int]) -> Any:
        """Lanes of two vectors, by number."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, self.lanes), picks))

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """A · b + c."""
        return self.builder.call(self._fma, [a, b, c])

    def product(self, x_row: Any, tile: list[Any]) -> Any:
        """Lane-wise products of two tile rows, summed over the vectors."""
        total = None
        for v, other in enumerate(tile):
            mine = self.load(x_row, _I64(v * self.lanes))
            total = self.builder.fmul(mine, other) if total is None else self.fma(mine, other, total)
        return total

    def lane_sums(self, vectors: list[Any]) -> Any:
        """One vector whose lane ``i`` is the sum over the lanes of ``vectors[i]``."""
        half = self.lanes // 2
        even = [2 * i for i in range(half)] + [self.lanes + 2 * i for i in range(half)]
        odd = [i + 1 for i in even]
        while len(vectors) > 1:
            pairs = zip(vectors[0::2], vectors[1::2], strict=True)
            vectors = [self.builder.fadd(self.shuffle(a, b, even), self.shuffle(a, b, odd)) for a, b in pairs]
        return vectors[0]

    def lane_sum(self, vector: Any) -> Any:
        """The sum over the lanes of one vector."""
        distance = self.lanes // 2
        while distance:
            rotated = [(i + distance) % self.lanes for i in range(self.lanes)]
            vector = self.builder.fadd(vector, self.shuffle(vector, vector, rotated))
            distance //= 2
        return self.builder.extract_element(vector, _I32(0))


@intrinsic
def accumulate_row(  # type: ignore[no-untyped-def]
    typingctx, width, values, order, indices, start, stop, x, out
):
    """``out[:] += Σ_k values[order[k]] · x[indices[k], :]`` for ``start ≤ k < stop``.

    ``x`` is a tile, ``out`` a row of one; with None for ``order`` the values are in order.
    """
    signature = types.void(width, values, order, indices, start, stop, x, out)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = _Emitter(context, builder, signature.args[1].dtype, len(signature.args[0]))
        value, index, source, target = (emit.pointer(signature.args[i], arguments[i]) for i in (1, 3, 6, 7))
        ordered = isinstance(signature.args[2], types.NoneType)
        place = None if ordered else emit.pointer(signature.args[2], arguments[2])
        start, stop = arguments[4], arguments[5]
        before = emit.tile(target)
        entry = builder.block
        head, body, done = (builder.append_basic_block(name) for name in ("head", "body", "done"))
        builder.branch(head)
        builder.position_at_end(head)
        k = builder.phi(_I64)
        k.add_incoming(start, entry)
        sums = [builder.phi(emit.vector) for _ in before]
        for phi, vector in zip(sums, before, strict=True):
            phi.add_incoming(vector, entry)
        builder.cbranch(builder.icmp_signed("<", k, stop), body, done)
        builder.position_at_end(body)
        own = k if ordered else builder.sext(builder.load(builder.gep(place, [k])), _I64)
        factor = emit.splat(builder.load(builder.gep(value, [own])))
        row = emit.row(source, index, k)
        after = [emit.fma(factor, emit.load(row, _I64(v * emit.lanes)), phi) for v, phi in enumerate(sums)]
        k.add_incoming(builder.add(k, _I64(1)), builder.block)
        for phi, vector in zip(sums, after, strict=True):
            phi.add_incoming(vector, builder.block)
        builder.branch(head)
        builder.position_at_end(done)
        for v, phi in enumerate(sums):
            emit.store(phi, target, _I64(v * emit.lanes))
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def accumulate_dots(  # type: ignore[no-untyped-def]
    typingctx, width, indices, start, stop, x, row, out
):
    """``out[k] += x[indices[k], :] · row`` for ``start ≤ k < stop``; ``x`` is a tile, ``row`` a row of one."""
    signature = types.void(width, indices, start, stop, x, row, out)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = _Emitter(context, builder, signature.args[6].dtype, len(signature.args[0]))
        index, source, other, target = (emit.pointer(signature.args[i], arguments[i]) for i in (1, 4, 5, 6))
        start, stop = arguments[2], arguments[3]
        tile = emit.tile(other)
        entry = builder.block
        head, many, rest, one, done = (builder.append_basic_block(n) for n in ("head", "many", "rest", "one", "done"))
        last = builder.sub(stop, _I64(emit.lanes - 1))
        builder.branch(head)

        # As many connections at a time as a vector has lanes: their sums over the lanes are one vector.
        builder.position_at_end(head)
        k = builder.phi(_I64)
        k.add_incoming(start, entry)
        builder.cbranch(builder.icmp_signed("<", k, last), many, rest)
        builder.position_at_end(many)
        rows = [emit.row(source, index, builder.add(k, _I64(i))) for i in range(emit.lanes)]
        sums = emit.lane_sums([emit.product(row, tile) for row in rows])
        emit.store(builder.fadd(emit.load(target, k), sums), target, k)
        k.add_incoming(builder.add(k, _I64(emit.lanes)), builder.block)
        builder.branch(head)

        # What is left of the row, one by one.
        builder.position_at_end(rest)
        k_rest = builder.phi(_I64)
        k_rest.add_incoming(k, head)
        builder.cbranch(builder.icmp_signed("<", k_rest, stop), one, done)
        builder.position_at_end(one)
        total = emit.lane_sum(emit.product(emit.row(source, index, k_rest), tile))
        place = builder.gep(target, [k_rest])
        builder.store(builder.fadd(builder.load(place), total), place)
        k_rest.add_incoming(builder.add(k_rest, _I64(1)), builder.block)
        builder.branch(rest)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def transpose_block(  # type: ignore[no-untyped-def]
    typingctx, source, source_offset, source_stride, target, target_offset, target_stride
):
    """Copy a square of as many rows and columns as a vector has lanes, transposed; offsets are in numbers."""
    signature = types.void(source, source_offset, source_stride, target, target_offset, target_stride)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = _Emitter(context, builder, signature.args[0].dtype, 1)
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
