"""Index arrays of one connectivity in the layout that the csr kernels read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from psn_lightning.kernels.blocks import compile_conversion, compile_counting, compile_filling, compile_transposition
from psn_lightning.kernels.pool import run_kernel

_SIDES = (256, 1024)  # rows of a tile; those of input and output together stay in half of a core's second-level cache
_MEAN_RUN = 12  # connections of a run that sides between these bounds aim at; starting a run costs as much as some
_SHORTEST_RUN = 4  # with fewer on average sides are larger, whatever the cache: there would be too many runs
_DTYPES: dict[int, Any] = {2: np.uint16, 4: np.int32}

IntVector = NDArray[np.int64]
IndexVector = NDArray[Any]


class Structure:
    """Connections of a layer in two-dimensional blocks.

    Neurons and inputs are cut into blocks, so that the rows of tiles that a block of connections reads and writes
    stay in the cache. The connections of one neuron in one block are a run. Connections, and with them the values, are
    in the order (block of neurons, block of inputs, neuron, input). For the gradient to the input the same connections
    are listed in the order (block of inputs, block of neurons, input, neuron).

    Args:
        positions: Flat position ``neuron * n_in + input`` of each connection, ascending, shape ``(n_connections,)``.
        n_out: Number of neurons.
        n_in: Number of inputs.
        blocks: Numbers of blocks of neurons and of inputs; chosen by the density if None. With one block of inputs
            the connections are in the order of their positions.
    """

    def __init__(self, positions: IntVector, n_out: int, n_in: int, blocks: tuple[int, int] | None = None) -> None:
        self.positions = positions
        self.shape = (n_out, n_in)
        self.blocks = blocks or choose_blocks(n_out, n_in, len(positions))
        self.edges = (_cut(n_out, self.blocks[0]), _cut(n_in, self.blocks[1]))
        """First neuron and end of each block of neurons; first input and end of each block of inputs."""
        self.starts: IntVector = np.empty(n_out * self.blocks[1] + 1, np.int64)
        """Place of the first connection of each run, in the order of the connections, and the end of the last."""
        self._sizes = (len(positions), n_out, n_in, *self.blocks)
        self._run(compile_counting(), positions, *self.edges, self.starts)
        sides = (np.diff(edges).max(initial=0) for edges in self.edges)
        self.index_bytes = 2 if max(*sides, self._count_largest_block()) <= 2**16 else 4
        """Bytes of an index within a block."""
        self.indices: IndexVector = np.empty(len(positions), _DTYPES[self.index_bytes])
        """Input of each connection, from the first of its block."""
        self._run(compile_filling(self.index_bytes), positions, *self.edges, self.starts, self.indices)
        self._columns: tuple[IntVector, IndexVector, IndexVector] | None = None
        self._wide: dict[str, IndexVector] = {}
        self.is_released = False
        """Whether :meth:`release` was called: its addresses must not be read any more."""

    def release(self) -> None:
        """Give up all arrays, some 20 bytes a connection: workspaces keep a structure until they learn of the next."""
        self.positions, self.starts, self.indices = (
            np.empty(0, array.dtype) for array in (self.positions, self.starts, self.indices)
        )
        self._columns, self._wide, self.is_released = None, {}, True

    def _run(self, kernel: int, *arrays: NDArray[Any]) -> None:
        run_kernel(kernel, torch.get_num_threads(), *self._sizes, *(array.ctypes.data for array in arrays))

    def _count_largest_block(self) -> int:
        """Count the connections of the block that has most."""
        n_in_blocks = len(self.edges[1]) - 1
        sizes = np.diff(self.edges[0])
        firsts = np.repeat(self.edges[0][:-1] * n_in_blocks, n_in_blocks) + np.repeat(sizes, n_in_blocks) * np.tile(
            np.arange(n_in_blocks), len(sizes)
        )
        return int(np.diff(self.starts[[*firsts, -1]]).max(initial=0))

    @property
    def indptr(self) -> IntVector:
        """Index of the first position of each neuron, and their number, shape ``(n_out + 1,)``."""
        n_out, n_in = self.shape
        indptr: IntVector = np.searchsorted(self.positions, np.arange(n_out + 1, dtype=np.int64) * n_in)
        return indptr

    @property
    def ordered_positions(self) -> IntVector:
        """Flat position of each connection, in the order of the connections, shape ``(n_connections,)``."""
        result = np.empty_like(self.positions)
        self._convert(result.itemsize, False, self.positions.ctypes.data, result.ctypes.data)
        return result

    @property
    def columns(self) -> tuple[IntVector, IndexVector, IndexVector]:
        """Connections by input: place of the first of each run; neuron, and place of the value, of each.

        Neurons and places count from the first of the block. The arrays are built on first use: the first layer of a
        network needs them only where the gradient to the batch is asked for.
        """
        if self._columns is None:
            n, _, n_in, n_out_blocks, _ = self._sizes
            neurons, places = (np.empty(n, self.indices.dtype) for _ in range(2))
            self._columns = np.empty(n_in * n_out_blocks + 1, np.int64), neurons, places
            kernel = compile_transposition(self.index_bytes)
            self._run(kernel, *self.edges, self.starts, self.indices, *self._columns)
        return self._columns

    def to_rows(self, values: Tensor) -> Tensor:
        """Copy one number for each connection from the order of the connections into the order of the positions.

        Args:
            values: Numbers of 2, 4 or 8 bytes, shape ``(n_connections,)``.
        """
        return self._reorder(values, True)

    def from_rows(self, values: Tensor) -> Tensor:
        """Copy one number for each connection into the order of the connections; the inverse of :meth:`to_rows`."""
        return self._reorder(values, False)

    def _reorder(self, values: Tensor, to_rows: bool) -> Tensor:
        source = values.detach().cpu().contiguous()  # kernels read addresses of the CPU
        target = torch.empty_like(source)
        self._convert(source.element_size(), to_rows, source.data_ptr(), target.data_ptr())
        return target.to(values.device)

    def _convert(self, itemsize: int, to_rows: bool, source: int, target: int) -> None:
        n, n_out, _, *n_blocks = self._sizes
        arrays = (self.edges[0].ctypes.data, self.starts.ctypes.data, source, target)
        run_kernel(compile_conversion(itemsize, to_rows), torch.get_num_threads(), n, n_out, *n_blocks, *arrays)

    def describe_rows(self, index_bytes: int) -> dict[str, int]:
        """Return the fields of :data:`~psn_lightning.kernels.network.LAYER` for the connections by neuron.

        Args:
            index_bytes: Bytes of an index, at least :attr:`index_bytes`.
        """
        names = ("n_connections", "n_out", "n_in", "out_blocks", "in_blocks")
        arrays = {"out_edges": self.edges[0], "in_edges": self.edges[1], "row_starts": self.starts}
        arrays |= {"row_indices": self._widen("row_indices", self.indices, index_bytes)}
        return dict(zip(names, self._sizes, strict=True)) | {name: a.ctypes.data for name, a in arrays.items()}

    def describe_columns(self, index_bytes: int) -> dict[str, int]:
        """Return the fields of :data:`~psn_lightning.kernels.network.LAYER` for the connections by input.

        Args:
            index_bytes: Bytes of an index, at least :attr:`index_bytes`.
        """
        starts, neurons, places = self.columns
        arrays = {
            "column_starts": starts,
            "column_indices": self._widen("column_indices", neurons, index_bytes),
            "column_order": self._widen("column_order", places, index_bytes),
        }
        return {name: array.ctypes.data for name, array in arrays.items()}

    def _widen(self, name: str, array: IndexVector, index_bytes: int) -> IndexVector:
        """Convert indices for the kernels of a stack with a layer that needs larger ones, and keep them alive."""
        if index_bytes == self.index_bytes:
            return array
        if name not in self._wide:
            self._wide[name] = array.astype(_DTYPES[index_bytes])
        return self._wide[name]


def choose_blocks(n_out: int, n_in: int, n_connections: int) -> tuple[int, int]:
    """Choose the numbers of blocks of neurons and of inputs."""
    density = max(n_connections, 1) / max(n_out * n_in, 1)
    low, high = _SIDES
    side = max(min(max(low, _MEAN_RUN / density), high), _SHORTEST_RUN / density)
    return max(1, round(n_out / side)), max(1, round(n_in / side))


def _cut(n: int, n_blocks: int) -> IntVector:
    """Cut a range into blocks of sizes that differ by one at most; returns their edges, shape ``(n_blocks + 1,)``."""
    return np.arange(n_blocks + 1, dtype=np.int64) * n // n_blocks
