"""Execution of compiled kernels on torch's own threads.

A second thread pool (numba's) would compete with torch's for the same cores, because idle OpenMP threads wait by
spinning. Kernels are therefore started with ``GOMP_parallel`` of the OpenMP library that torch has loaded.

Work is divided by thread number: from one kernel to the next a tile stays in the cache of the core that wrote it.
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
"""Argument of a kernel: an int64 array. Elements 0 to 2 are addresses of functions of the thread team (see
:func:`get_team` and :func:`wait_for_all`); the kernel's own arguments start at element 3."""

REALS: dict[int, Any] = {4: types.float32, 8: types.float64}
"""Number types that kernels are compiled for, by size in bytes."""


@intrinsic
def _call(typingctx, address):  # type: ignore[no-untyped-def]
    """Call a function without arguments at an address and return its int32 result as int64."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(ir.IntType(32), []).as_pointer()
        return builder.sext(builder.call(builder.inttoptr(arguments[0], function), []), ir.IntType(64))

    return types.int64(address), codegen


@njit
def get_team(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Return the number of the calling thread and the size of its team, which may be smaller than requested."""
    return _call(job[0]), _call(job[1])


@njit
def wait_for_all(job):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Wait for all threads of the team; afterwards each thread sees the memory that the others have written."""
    _call(job[2])


@njit
def get_own_share(job, n):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Return the range ``(begin, end)`` of the ``n`` items that the calling thread works on."""
    thread, n_threads = get_team(job)
    return thread * n // n_threads, (thread + 1) * n // n_threads


@njit
def get_own_tiles(job, n_tiles):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Return the range of tiles that the calling thread works on, its group, its number in the group, and their number.

    Where there are at least two threads for each tile, a group of threads shares one tile, and all threads wait for
    each other between its parts; threads that are left over wait with them, as a member without a share.
    """
    thread, n_threads = get_team(job)
    n_members = max(1, n_threads // n_tiles)
    n_groups = min(n_threads // n_members, n_tiles)
    group, member = thread // n_members, thread % n_members
    begin, end = group * n_tiles // n_groups, (group + 1) * n_tiles // n_groups
    if group >= n_groups:
        group, member = n_groups - 1, n_members
        begin, end = (n_tiles - 1, n_tiles) if n_members > 1 else (n_tiles, n_tiles)
    return begin, end, group, member, n_members


@njit
def wait_for_members(job, n_members):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Wait for the other threads of the group; see :func:`get_own_tiles`."""
    if n_members > 1:
        wait_for_all(job)


@njit
def get_share(member, n_members, n):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Return the range ``(begin, end)`` of ``n`` items that a member of a group works on."""
    return min(member, n_members) * n // n_members, min(member + 1, n_members) * n // n_members


@intrinsic
def cast(typingctx, address, dtype):  # type: ignore[no-untyped-def]
    """Cast an address to a pointer to numbers or records of a type, for ``carray``."""
    pointer = types.CPointer(dtype.dtype)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(address, dtype), codegen


def compile_kernel(kernel: Callable[[Any], None]) -> int:
    """Compile a kernel, or load it from numba's cache on disk.

    numba invalidates a cached function when the function's own file changes. A checksum of all files of this package
    in the kernel's name extends that to the functions which the kernel calls.

    Args:
        kernel: Python function that takes a :data:`Job`.

    Returns:
        Address of the compiled kernel.
    """
    kernel.__qualname__ += f"-{_hash_sources():08x}"
    signature = types.void(Job)
    try:
        address: int = cfunc(signature, cache=True)(kernel).address
    except (RuntimeError, OSError, EOFError):  # cache directory missing, not writable or full; cached file truncated
        address = cfunc(signature)(kernel).address
    return address


@functools.cache
def _hash_sources() -> int:
    """Compute a checksum of the source files of this package."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return functools.reduce(lambda total, file: zlib.crc32(file.read_bytes(), total), files, 0)


def run_kernel(kernel: int, n_threads: int, *arguments: int) -> None:
    """Run a kernel and wait for its end.

    Args:
        kernel: Address of a compiled kernel, see :func:`compile_kernel`.
        n_threads: Largest number of threads.
        arguments: Integers and addresses for the kernel. The caller keeps the memory behind the addresses alive.
    """
    start, functions = _find_openmp()
    job = (ctypes.c_int64 * (len(functions) + len(arguments)))(*functions, *arguments)
    start(kernel, ctypes.addressof(job), n_threads, 0)


@functools.cache
def _find_openmp() -> tuple[Callable[[int, int, int, int], Any], tuple[int, ...]]:
    """Find ``GOMP_parallel`` and the addresses of the functions of a thread team in torch's OpenMP library.

    Where torch uses another kind of thread pool, kernels run on the calling thread, with a warning.
    """
    for path in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        library = ctypes.CDLL(str(path))  # already loaded: symbols found through it are the ones that torch calls
        if hasattr(library, "GOMP_parallel"):
            start: Any = library.GOMP_parallel
            start.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
            start.restype = None
            names = ("omp_get_thread_num", "omp_get_num_threads", "GOMP_barrier")
            return start, tuple(_get_address(getattr(library, name)) for name in names)
    warnings.warn("torch's OpenMP library not found: compiled kernels run on one thread", stacklevel=4)
    return _make_single_thread()


def _make_single_thread() -> tuple[Callable[[int, int, int, int], Any], tuple[int, ...]]:
    """Make a substitute for :func:`_find_openmp` that runs kernels on the calling thread."""
    kind, signature = ctypes.CFUNCTYPE(ctypes.c_int), ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    functions = [kind(lambda: 0), kind(lambda: 1), kind(lambda: 0)]

    def start(kernel: int, job: int, n_threads: int, flags: int) -> None:
        signature(kernel)(job)

    start.keeps_alive = functions  # type: ignore[attr-defined]
    return start, tuple(_get_address(function) for function in functions)


def _get_address(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address
