"""Files of integer arrays, read without trust: nothing is unpickled, and no size is believed before it is checked."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from psn_lightning.files import atomically

_MAX_BYTES = 1 << 29  # of an array in memory: 67 million connections; 65,536 × 65,536 at 99% sparsity has 43 million
_NUMPY_ERRORS = (ValueError, TypeError, MemoryError, tokenize.TokenError)
_ZIP_ERRORS = (OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)


def write_arrays(path: str | Path, arrays: Mapping[str, NDArray[np.int64]]) -> None:
    """Write a compressed ``.npz`` file of plain arrays, without pickle; the file appears whole or not at all.

    Args:
        path: File to write.
        arrays: Arrays by name.

    Raises:
        OSError: If the file cannot be written.
    """
    with atomically(path) as scratch, scratch.open("wb") as file:  # numpy would rename a path
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


class ArrayFile:
    """Open file of arrays.

    Args:
        archive: Archive that :func:`write_arrays` wrote, or any other.
    """

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def __contains__(self, name: str) -> bool:
        return f"{name}.npy" in self._archive.namelist()

    def read(self, name: str, size: int) -> NDArray[np.int64]:
        """Read a one-dimensional integer array; its stated size is checked before it is unpacked.

        Args:
            name: Name of the array.
            size: Number of integers that it must have.

        Raises:
            ValueError: If the array is missing, is of another kind or size, or takes more than 512 MiB.
        """
        try:
            entry = self._archive.getinfo(f"{name}.npy")
        except KeyError:
            raise ValueError(f"the array {name} is missing") from None
        if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise ValueError(f"the array {name} has a compression that numpy does not use")
        with self._archive.open(entry) as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"the array {name} does not have version 1.0 of numpy's format")
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            if dtype.kind not in "iu" or len(shape) != 1:
                raise ValueError(f"the array {name} holds {dtype} in {len(shape)} dimensions, expected integers in one")
            if file.tell() + shape[0] * dtype.itemsize != entry.file_size:
                raise ValueError(f"the array {name} states {shape[0]} numbers, which does not fit its size in bytes")
            if shape[0] != size:
                raise ValueError(f"the array {name} has {shape[0]} numbers, expected {size}")
            if size * np.dtype(np.int64).itemsize > _MAX_BYTES:
                raise ValueError(f"the array {name} has {size} numbers, above the limit of {_MAX_BYTES} bytes")
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False).astype(np.int64, copy=False)


@contextmanager
def open_arrays(path: str | Path, kind: str) -> Iterator[ArrayFile]:
    """Open a file of arrays, and name it in the errors of whatever its arrays are used for.

    Args:
        path: File to read.
        kind: Kind of the file, for messages.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the file is not of that kind, is damaged or is too large.
    """
    with Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield ArrayFile(archive)
        except (*_NUMPY_ERRORS, *_ZIP_ERRORS) as error:
            raise ValueError(f"{path} is not a {kind} file, or is damaged: {error}") from error
