"""Floating-point mode of a thread: subnormal numbers, on which some processors are a hundred times slower."""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FLUSH_BITS = ir.Constant(ir.IntType(32), 0x8040)  # MXCSR bits FTZ (subnormal results) and DAZ (subnormal operands)
_IS_X86 = binding.get_default_triple().startswith("x86_64")


@intrinsic
def flush_subnormals(typingctx):  # type: ignore[no-untyped-def]
    """Set the calling thread to treat subnormal numbers as 0 and return the previous mode; a no-op except on x86-64."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not _IS_X86:
            return ir.Constant(ir.IntType(32), 0)
        place = cgutils.alloca_once(builder, ir.IntType(32))
        _call(builder, "stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.or_(before, _FLUSH_BITS), place)
        _call(builder, "ldmxcsr", place)
        return before

    return types.int32(), codegen


@intrinsic
def restore_mode(typingctx, mode):  # type: ignore[no-untyped-def]
    """Restore the floating-point mode that :func:`flush_subnormals` returned."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if _IS_X86:
            place = cgutils.alloca_once_value(builder, arguments[0])
            _call(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), codegen


def _call(builder: Any, name: str, place: Any) -> None:
    pointer = ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [pointer]), f"llvm.x86.sse.{name}"
    )
    builder.call(function, [builder.bitcast(place, pointer)])
