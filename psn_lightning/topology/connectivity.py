"""The value that leaves this floor: which input feeds which neuron."""

from __future__ import annotations

import hashlib
import tokenize
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from psn_lightning.files import atomically

IntArray = NDArray[np.int64]

_MOST = 1 << 29  # bytes of one array in memory: 67 million connections; 65,536 neurons and inputs at 99% have 43
_OF_NUMPY = (ValueError, TypeError, MemoryError, tokenize.TokenError)
_OF_ZIP = (OSError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Connectivity:
    """The connections of one layer in compressed sparse rows (CSR), one row per neuron.

    Everything costs time and memory in proportion to the number of connections, never to
    ``n_out * n_in``; only :meth:`mask` builds the dense matrix, for those who ask.

    Args:
        n_in: Number of inputs.
        n_out: Number of neurons.
        indptr: Shape ``(n_out + 1,)``; neuron ``i`` owns ``indices[indptr[i]:indptr[i + 1]]``.
        indices: Shape ``(n_connections,)``; the inputs of each neuron, strictly increasing.

    Raises:
        ValueError: If the arrays are not a valid CSR structure without duplicates.
    """

    n_in: int
    n_out: int
    indptr: IntArray = field(repr=False)
    indices: IntArray = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("indptr", "indices"):
            array = np.array(getattr(self, name), dtype=np.int64)  # a copy: nobody else can write it
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        self._validate()

    def _validate(self) -> None:
        _check_sizes(self.n_in, self.n_out)
        if self.indptr.shape != (self.n_out + 1,) or self.indptr[0] != 0 or self.indptr[-1] != self.indices.size:
            raise ValueError("indptr must have n_out + 1 entries, from 0 to the number of connections")
        if self.indices.ndim != 1 or (self.fan_in < 0).any():
            raise ValueError("indptr must not decrease and indices must be one-dimensional")
        if self.indices.size and not (self.indices.min() >= 0 and self.indices.max() < self.n_in):
            raise ValueError(f"indices must lie in 0 … {self.n_in - 1}")
        falls = self.indices[1:] <= self.indices[:-1]
        starts = self.indptr[(self.indptr > 0) & (self.indptr < self.indices.size)]
        falls[starts - 1] = False  # from one neuron to the next
        if falls.any():
            raise ValueError("the inputs of each neuron must be sorted and without duplicates")

    @property
    def n_connections(self) -> int:
        """Number of connections."""
        return int(self.indices.size)

    @property
    def fan_in(self) -> IntArray:
        """Number of inputs of each neuron, shape ``(n_out,)``."""
        return np.diff(self.indptr)

    @property
    def fan_out(self) -> IntArray:
        """Number of neurons that each input feeds, shape ``(n_in,)``."""
        return np.bincount(self.indices, minlength=self.n_in).astype(np.int64, copy=False)

    def rows(self) -> IntArray:
        """Neuron of each connection, shape ``(n_connections,)``."""
        return np.repeat(np.arange(self.n_out, dtype=np.int64), self.fan_in)

    def keys(self) -> IntArray:
        """Position of each connection in the flattened dense matrix, strictly increasing."""
        return self.rows() * self.n_in + self.indices

    def mask(self) -> NDArray[np.bool_]:
        """The dense boolean matrix, shape ``(n_out, n_in)``."""
        dense = np.zeros(self.n_out * self.n_in, dtype=np.bool_)
        dense[self.keys()] = True
        return dense.reshape(self.n_out, self.n_in)

    def digest(self) -> str:
        """SHA-256 of the shape and the connections: equal exactly when the connectivities are."""
        sha = hashlib.sha256(np.array([self.n_in, self.n_out], dtype="<i8").tobytes())
        sha.update(self.indptr.astype("<i8", copy=False).tobytes())
        sha.update(self.indices.astype("<i8", copy=False).tobytes())
        return sha.hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Connectivity):
            return NotImplemented
        return (
            (self.n_in, self.n_out) == (other.n_in, other.n_out)
            and np.array_equal(self.indptr, other.indptr)
            and np.array_equal(self.indices, other.indices)
        )

    def __hash__(self) -> int:
        return int(self.digest()[:15], 16)

    @classmethod
    def from_fan_in(cls, n_in: int, fan_in: ArrayLike, indices: ArrayLike) -> Connectivity:
        """Build from the fan-in of each neuron and the concatenated (sorted) inputs."""
        counts = np.asarray(fan_in, dtype=np.int64)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return cls(n_in, counts.size, indptr, np.asarray(indices, dtype=np.int64))

    @classmethod
    def from_mask(cls, mask: ArrayLike) -> Connectivity:
        """Build from a dense boolean matrix, shape ``(n_out, n_in)``."""
        dense = np.asarray(mask, dtype=np.bool_)
        if dense.ndim != 2:
            raise ValueError(f"a mask has two dimensions (n_out, n_in), got shape {dense.shape}")
        return cls.from_fan_in(dense.shape[1], np.count_nonzero(dense, axis=1), np.nonzero(dense)[1])

    @classmethod
    def full(cls, n_in: int, n_out: int) -> Connectivity:
        """Every input feeds every neuron."""
        return cls.from_fan_in(n_in, np.full(n_out, n_in), np.tile(np.arange(n_in), n_out))

    def save(self, path: str | Path) -> None:
        """Write a compressed ``.npz`` file (plain arrays, no pickle), whole or not at all; :meth:`load` has a bound."""
        shape = np.array([self.n_out, self.n_in])
        with atomically(path) as scratch, scratch.open("wb") as file:  # numpy would rename a path
            np.savez_compressed(file, shape=shape, indptr=self.indptr, indices=self.indices)

    @classmethod
    def load(cls, path: str | Path) -> Connectivity:
        """Read what :meth:`save` wrote; never unpickles.

        What the file claims of the size of an array is held against the arrays before it, and unpacked if that is right
        and 512 MiB at most; while it is checked, all takes some 1.6 GiB at most.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is not such a file, is damaged, or holds more.
        """
        with Path(path).open("rb") as file:
            try:
                with zipfile.ZipFile(file) as archive:
                    n_out, n_in = map(int, _array(archive, "shape", 2))
                    _check_sizes(n_in, n_out)
                    indptr = _array(archive, "indptr", n_out + 1)
                    indices = _array(archive, "indices", int(indptr[-1]))
                return cls(n_in, n_out, indptr, indices)
            except (*_OF_NUMPY, *_OF_ZIP) as error:
                raise ValueError(f"{path} is no connectivity file, or damaged: {error}") from error


def _check_sizes(n_in: int, n_out: int) -> None:
    if n_in < 1 or n_out < 1:
        raise ValueError(f"a layer needs at least one input and one neuron, got {n_in} and {n_out}")
    if n_in * n_out > np.iinfo(np.int64).max:
        raise ValueError(f"{n_out} neurons and {n_in} inputs are too many: 64 bits cannot number the pairs")


def _array(archive: zipfile.ZipFile, name: str, size: int) -> IntArray:
    """One array of integers, its claims about its size checked before any of it is unpacked."""
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise ValueError(f"the array {name} is missing") from None
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ValueError(f"the array {name} is packed as numpy never does")
    with archive.open(entry) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"the array {name} has another version of numpy's format")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.kind not in "iu" or len(shape) != 1:
            raise ValueError(f"the array {name} holds {dtype} in {len(shape)} dimensions, not integers in one")
        if file.tell() + shape[0] * dtype.itemsize != entry.file_size:
            raise ValueError(f"the array {name} says that it has {shape[0]} numbers, but has not")
        if shape[0] != size:
            raise ValueError(f"the array {name} has {shape[0]} numbers, not {size}")
        if size * np.dtype(np.int64).itemsize > _MOST:
            raise ValueError(f"the array {name} unpacks to {size} numbers, more than {_MOST} bytes")
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False).astype(np.int64, copy=False)
