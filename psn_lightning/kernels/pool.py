"""Runs kernels on torch's own threads.

A second pool (numba's) beside torch's would hold the same cores: while one works, the other's
threads still wait by spinning. Here ``GOMP_parallel`` of the OpenMP library that torch has loaded starts a
compiled kernel on torch's threads, as many as torch uses.

Each thread works on tiles of its own, by its number: from one kernel to the next a tile stays in the cache of the
core that made it.
"""

from __future__ import annotations

import ctypes
import functools
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from llvmlite import ir
from numba import cfunc, njit, types
from numba.extending import intrinsic

Job = types.CPointer(types.int64)
"""What a kernel is given: addresses of the team's functions (:func:`team`, :func:`wait_for_all`), and from element 3
on its own arguments."""

REALS: dict[int, Any] = {4: types.float32, 8: types.float64}
"""The number types that kernels are compiled for, by their size in bytes."""


@intrinsic
def _call(typingctx, address):  # type: ignore[no-untyped-def]
    """Call the function without arguments at this address, and return its number, if it has one."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(ir.IntType(32), []).as_pointer()
        return builder.sext(builder.call(builder.inttoptr(arguments[0], function), []), ir.IntType(64))

    return types.int64(address), codegen


@njit
def team(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Number of the calling thread, and how many there are: perhaps fewer than were asked for."""
    return _call(job[0]), _call(job[1])


@njit
def wait_for_all(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Go on when all threads are here: each of them then sees what the others have written."""
    _call(job[2])


@njit
def own_share(job, n):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """First and last + 1 of the ``n`` tiles, or whatever it is, that the calling thread owns."""
    thread, n_threads = team(job)
    return thread * n // n_threads, (thread + 1) * n // n_threads


@intrinsic
def at(typingctx, address, dtype):  # type: ignore[no-untyped-def]
    """An address as a pointer to numbers or records of a type, for ``carray``."""
    pointer = types.CPointer(dtype.dtype)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(address, dtype), codegen


def compiled(kernel: Callable[[Any], None]) -> int:
    """Address of a kernel, compiled now or taken from numba's cache on disk.

    numba looks only at the file that a function is in; here its cache depends on all files of this package.
    """
    kernel.__qualname__ += f"-{_sources():08x}"
    signature = types.void(Job)
    try:
        address: int = cfunc(signature, cache=True)(kernel).address
    except (RuntimeError, OSError, EOFError):  # no place to write to, or it is full, or was when it was written
        address = cfunc(signature)(kernel).address
    return address


@functools.cache
def _sources() -> int:
    """Checksum of what kernels are made from."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return functools.reduce(lambda total, file: zlib.crc32(file.read_bytes(), total), files, 0)


def run(kernel: int, n_threads: int, *arguments: int) -> None:
    """Run a kernel to its end.

    Args:
        kernel: Address of a function that takes a :data:`Job`.
        n_threads: How many threads share the work, at most.
        arguments: Integers; addresses are of memory that lives until this returns.
    """
    start, functions = _openmp()
    job = (ctypes.c_int64 * (len(functions) + len(arguments)))(*functions, *arguments)
    start(kernel, ctypes.addressof(job), n_threads, 0)


@functools.cache
def _openmp() -> tuple[Callable[[int, int, int, int], Any], tuple[int, ...]]:
    """``GOMP_parallel``, and the addresses of the functions that tell a thread about its team or wait for it.

    Where torch has another kind of pool: the calling thread, which does everything.
    """
    for path in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        library = ctypes.CDLL(str(path))  # loaded already; looked up through it, the symbols are those it calls itself
        if hasattr(library, "GOMP_parallel"):
            start: Any = library.GOMP_parallel
            start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            start.restype = None
            names = ("omp_get_thread_num", "omp_get_num_threads", "GOMP_barrier")
            return start, tuple(_address(getattr(library, name)) for name in names)
    warnings.warn("torch's OpenMP library was not found: storage csr runs on one thread", stacklevel=4)
    return _one_by_one()


def _one_by_one() -> tuple[Callable[[int, int, int, int], Any], tuple[int, ...]]:
    kind, signature = ctypes.CFUNCTYPE(ctypes.c_int), ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    functions = [kind(lambda: 0), kind(lambda: 1), kind(lambda: 0)]

    def start(kernel: int, job: int, n_threads: int, flags: int) -> None:
        signature(kernel)(job)

    start.keeps_alive = functions  # type: ignore[attr-defined]
    return start, tuple(_address(function) for function in functions)


def _address(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address
