"""Runs kernels on torch's own threads.

A second pool (numba's) beside torch's would hold the same cores: while one works, the other's
threads still wait by spinning. Here ``GOMP_parallel`` of the OpenMP library that torch has loaded starts a
compiled kernel on torch's threads, as many as torch uses.
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

Job = types.CPointer(types.int64)
"""What a kernel is given: a counter of the pieces taken, the number of pieces, and its own arguments."""

REALS: dict[int, Any] = {4: types.float32, 8: types.float64}
"""The number types that kernels are compiled for, by their size in bytes."""

PIECES_PER_THREAD = 4  # rows differ in length: several pieces for each thread even that out


@intrinsic
def next_piece(typingctx, job):  # type: ignore[no-untyped-def]
    """Take a piece of the work: its number; atomic over the threads."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", arguments[0], ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(job), codegen


@intrinsic
def pointer_to(typingctx, address, dtype):  # type: ignore[no-untyped-def]
    """An address as a pointer, for ``carray``."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(dtype.dtype)(address, dtype), codegen


def run(kernel: int, n_threads: int, *arguments: int) -> None:
    """Run a kernel to its end.

    Args:
        kernel: Address of a function that takes a :data:`Job`.
        n_threads: How many threads take pieces.
        arguments: Integers; addresses are of memory that lives until this returns.
    """
    values = (0, PIECES_PER_THREAD * n_threads, *arguments)
    job = (ctypes.c_int64 * len(values))(*values)
    _start()(kernel, ctypes.addressof(job), n_threads, 0)


@functools.cache
def _start() -> Callable[[int, int, int, int], Any]:
    """``GOMP_parallel``, or a loop on the calling thread where torch has another kind of pool."""
    for path in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        library = ctypes.CDLL(str(path))  # loaded already; looked up through it, the symbol is the one it calls itself
        if hasattr(library, "GOMP_parallel"):
            start: Any = library.GOMP_parallel
            start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            start.restype = None
            return start  # type: ignore[no-any-return]
    warnings.warn("torch's OpenMP library was not found: storage csr runs on one thread", stacklevel=3)
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    return lambda kernel, job, n_threads, flags: signature(kernel)(job)
