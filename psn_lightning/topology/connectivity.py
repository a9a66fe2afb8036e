"""Connectivity of a layer: which input feeds which neuron."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from psn_lightning.topology.array_files import open_arrays, write_arrays
from psn_lightning.topology.groups import list_neurons, number_groups, shares_inputs

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Connectivity:
    """Connections of a layer in compressed sparse rows (CSR), one row per neuron.

    Time and memory grow with the number of connections, not with ``n_out * n_in``, except for :meth:`mask`.

    Args:
        n_in: Number of inputs.
        n_out: Number of neurons.
        indptr: Row pointers, shape ``(n_out + 1,)``: the inputs of neuron ``i`` are
            ``indices[indptr[i]:indptr[i + 1]]``.
        indices: Inputs of all neurons, shape ``(n_connections,)``, strictly increasing within a neuron.
        groups: Group of each neuron, where neurons share their inputs in groups of equal size, shape ``(n_out,)``;
            numbered anew in the order of the first neurons. None where nothing is shared.

    Raises:
        ValueError: If the arrays are not a valid CSR structure, a neuron has an input twice, or the neurons of a group
            differ in their inputs.
    """

    n_in: int
    n_out: int
    indptr: IntArray = field(repr=False)
    indices: IntArray = field(repr=False)
    groups: IntArray | None = field(repr=False, default=None)

    def __post_init__(self) -> None:
        for name in ("indptr", "indices"):
            self._freeze(name, np.array(getattr(self, name), dtype=np.int64))  # a copy, which no other code can change
        self._validate()
        if self.groups is not None:
            self._freeze("groups", number_groups(np.asarray(self.groups, dtype=np.int64), self.n_out))
            if not shares_inputs(self.indptr, self.indices, self.groups):
                raise ValueError("neurons of one group have different inputs")

    def _freeze(self, name: str, array: IntArray) -> None:
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def _validate(self) -> None:
        _check_sizes(self.n_in, self.n_out)
        if self.indptr.shape != (self.n_out + 1,) or self.indptr[0] != 0 or self.indptr[-1] != self.indices.size:
            raise ValueError("indptr must have n_out + 1 entries, from 0 to the number of connections")
        if self.indices.ndim != 1 or (self.fan_in < 0).any():
            raise ValueError("indptr must not decrease and indices must be one-dimensional")
        if self.indices.size and not (self.indices.min() >= 0 and self.indices.max() < self.n_in):
            raise ValueError(f"indices must lie in 0 … {self.n_in - 1}, the inputs")
        falls = self.indices[1:] <= self.indices[:-1]
        starts = self.indptr[(self.indptr > 0) & (self.indptr < self.indices.size)]
        falls[starts - 1] = False  # from one neuron to the next
        if falls.any():
            raise ValueError("indices must be sorted and without duplicates within each neuron")

    @property
    def n_connections(self) -> int:
        """Number of connections."""
        return int(self.indices.size)

    @property
    def fan_in(self) -> IntArray:
        """Fan-in: number of inputs of each neuron, shape ``(n_out,)``."""
        return np.diff(self.indptr)

    @property
    def fan_out(self) -> IntArray:
        """Fan-out: number of neurons that each input feeds, shape ``(n_in,)``."""
        return np.bincount(self.indices, minlength=self.n_in).astype(np.int64, copy=False)

    @property
    def n_groups(self) -> int:
        """Number of groups of neurons that share their inputs; without groups that of the neurons."""
        return self.n_out if self.groups is None else int(self.groups.max()) + 1

    @property
    def group_size(self) -> int:
        """Number of neurons of a group; 1 without groups."""
        return self.n_out // self.n_groups

    def grid(self) -> Connectivity:
        """Connectivity of the groups: one row per group, the inputs that its neurons share."""
        if self.groups is None:
            return self
        first = list_neurons(self.groups)[:, 0]
        fan_in = self.fan_in[first]
        behind = np.repeat(self.indptr[first] - (np.cumsum(fan_in) - fan_in), fan_in)
        return Connectivity.from_fan_in(self.n_in, fan_in, self.indices[np.arange(behind.size) + behind])

    def with_groups(self, groups: ArrayLike | None) -> Connectivity:
        """Return the same connections with other groups.

        Args:
            groups: Group of each neuron, shape ``(n_out,)``; None for no groups.

        Raises:
            ValueError: If the neurons of a group differ in their inputs, or the groups in their size.
        """
        labels = None if groups is None else np.asarray(groups, dtype=np.int64)
        return Connectivity(self.n_in, self.n_out, self.indptr, self.indices, labels)

    def rows(self) -> IntArray:
        """Neuron of each connection, shape ``(n_connections,)``."""
        return np.repeat(np.arange(self.n_out, dtype=np.int64), self.fan_in)

    def keys(self) -> IntArray:
        """Index of each connection in the flattened dense matrix, shape ``(n_connections,)``, strictly increasing."""
        keys = self.rows()
        keys *= self.n_in
        keys += self.indices
        return keys

    def mask(self) -> NDArray[np.bool_]:
        """Dense boolean mask, shape ``(n_out, n_in)``."""
        dense = np.zeros(self.n_out * self.n_in, dtype=np.bool_)
        dense[self.keys()] = True
        return dense.reshape(self.n_out, self.n_in)

    def digest(self) -> str:
        """SHA-256 of the shape, the connections and the groups; equal connectivities have equal digests."""
        sha = hashlib.sha256(np.array([self.n_in, self.n_out], dtype="<i8").tobytes())
        sha.update(self.indptr.astype("<i8", copy=False).tobytes())
        sha.update(self.indices.astype("<i8", copy=False).tobytes())
        if self.groups is not None:
            sha.update(self.groups.astype("<i8", copy=False).tobytes())
        return sha.hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Connectivity):
            return NotImplemented
        return (
            (self.n_in, self.n_out) == (other.n_in, other.n_out)
            and np.array_equal(self.indptr, other.indptr)
            and np.array_equal(self.indices, other.indices)
            and (self.groups is None) == (other.groups is None)
            and (self.groups is None or np.array_equal(self.groups, other.groups))  # type: ignore[arg-type]
        )

    def __hash__(self) -> int:
        return int(self.digest()[:15], 16)

    @classmethod
    def from_fan_in(cls, n_in: int, fan_in: ArrayLike, indices: ArrayLike) -> Connectivity:
        """Build a connectivity from the fan-in of each neuron.

        Args:
            n_in: Number of inputs.
            fan_in: Fan-in of each neuron, shape ``(n_out,)``.
            indices: Inputs of all neurons, concatenated, shape ``(n_connections,)``, sorted within a neuron.

        Raises:
            ValueError: If the arrays are not a valid CSR structure, or a neuron has an input twice.
        """
        counts = np.asarray(fan_in, dtype=np.int64)
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return cls(n_in, counts.size, indptr, np.asarray(indices, dtype=np.int64))

    @classmethod
    def from_grid(cls, grid: Connectivity, groups: ArrayLike) -> Connectivity:
        """Build a connectivity of groups of neurons that share their inputs.

        Args:
            grid: Inputs of each group, one row per group.
            groups: Row of the grid for each neuron, shape ``(n_out,)``; every row has equally many neurons.

        Raises:
            ValueError: If the groups differ in size.
        """
        rows = np.asarray(groups, dtype=np.int64)
        fan_in = grid.fan_in[rows]
        behind = np.repeat(grid.indptr[:-1][rows] - (np.cumsum(fan_in) - fan_in), fan_in)
        return cls.from_fan_in(grid.n_in, fan_in, grid.indices[np.arange(behind.size) + behind]).with_groups(rows)

    @classmethod
    def from_mask(cls, mask: ArrayLike) -> Connectivity:
        """Build a connectivity from a dense boolean mask.

        Args:
            mask: Mask, shape ``(n_out, n_in)``.

        Raises:
            ValueError: If the mask is not two-dimensional.
        """
        dense = np.asarray(mask, dtype=np.bool_)
        if dense.ndim != 2:
            raise ValueError(f"a mask must have two dimensions (n_out, n_in), got shape {dense.shape}")
        return cls.from_fan_in(dense.shape[1], np.count_nonzero(dense, axis=1), np.nonzero(dense)[1])

    @classmethod
    def full(cls, n_in: int, n_out: int) -> Connectivity:
        """Build the dense connectivity: every input feeds every neuron."""
        return cls.from_fan_in(n_in, np.full(n_out, n_in), np.tile(np.arange(n_in), n_out))

    def save(self, path: str | Path) -> None:
        """Write a compressed ``.npz`` file of plain arrays, without pickle; the file appears whole or not at all.

        Args:
            path: File to write. :meth:`load` reads up to 67 million connections.

        Raises:
            OSError: If the file cannot be written.
        """
        arrays = {"shape": np.array([self.n_out, self.n_in]), "indptr": self.indptr, "indices": self.indices}
        if self.groups is not None:
            arrays["groups"] = self.groups
        write_arrays(path, arrays)

    @classmethod
    def load(cls, path: str | Path) -> Connectivity:
        """Read a file that :meth:`save` wrote; nothing is unpickled.

        The stated size of each array is compared with the arrays before it. An array is unpacked only if the size
        agrees and is 512 MiB at most. Checking takes up to 1.6 GiB of memory.

        Args:
            path: File to read.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If the file is not a connectivity file, is damaged or is too large.
        """
        with open_arrays(path, "connectivity") as file:
            n_out, n_in = map(int, file.read("shape", 2))
            _check_sizes(n_in, n_out)
            indptr = file.read("indptr", n_out + 1)
            indices = file.read("indices", int(indptr[-1]))
            groups = file.read("groups", n_out) if "groups" in file else None
            return cls(n_in, n_out, indptr, indices, groups)


def _check_sizes(n_in: int, n_out: int) -> None:
    if n_in < 1 or n_out < 1:
        raise ValueError(f"a layer needs at least one input and one neuron, got {n_in} inputs and {n_out} neurons")
    if n_in * n_out > np.iinfo(np.int64).max:
        raise ValueError(f"{n_out} neurons × {n_in} inputs are too many: 64-bit integers cannot number the pairs")
