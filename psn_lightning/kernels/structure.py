"""Index arrays of one connectivity in the layout that the csr kernels read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from psn_lightning.kernels.connections import order_by_input

_CACHED_INPUTS = 256  # inputs whose tile rows stay in a core's first-level cache
_MIN_RUN = 16  # mean connections of a row in a block; with fewer, starting a run costs more than the cache saves

IntVector = NDArray[np.int64]
IndexVector = NDArray[np.int32]


class Structure:
    """Connections of a layer by neuron (CSR) and, for the gradient to the input, again by input.

    Args:
        positions: Flat position ``neuron * n_in + input`` of each connection, ascending, shape ``(n_connections,)``.
        n_out: Number of neurons.
        n_in: Number of inputs.
    """

    def __init__(self, positions: IntVector, n_out: int, n_in: int) -> None:
        self.positions = positions
        self.shape = (n_out, n_in)
        self.rows = BlockedRows(positions, n_out, n_in)
        self._columns: BlockedRows | None = None

    @property
    def neurons(self) -> IntVector:
        """Neuron of each connection, shape ``(n_connections,)``."""
        return self.positions // self.shape[1]

    @property
    def fan_in(self) -> IntVector:
        """Number of connections of each neuron, shape ``(n_out,)``."""
        fan_in: IntVector = self.rows.blocks[-1] - self.rows.blocks[0]
        return fan_in

    def describe_rows(self) -> dict[str, int]:
        """Return the fields of :data:`~psn_lightning.kernels.network.LAYER` for the connections by neuron."""
        n_out, n_in = self.shape
        fields = {"n_in": n_in, "n_out": n_out, "n_connections": len(self.positions)}
        return fields | {f"row_{name}": value for name, value in self.rows.fields.items()}

    def describe_columns(self) -> dict[str, int]:
        """Return the fields of :data:`~psn_lightning.kernels.network.LAYER` for the connections by input.

        The arrays are built on first use: the first layer of a network needs them only where the gradient to the
        batch is asked for.
        """
        if self._columns is None:
            n_out, n_in = self.shape
            self._order: IndexVector = order_by_input(self.rows.indices, n_in)
            transposed = self.rows.indices[self._order].astype(np.int64) * n_out + self.neurons[self._order]
            self._columns = BlockedRows(transposed, n_in, n_out)
        fields = {f"column_{name}": value for name, value in self._columns.fields.items()}
        return fields | {"column_order": self._order.ctypes.data}


class BlockedRows:
    """Compressed sparse rows (CSR), cut into blocks of columns.

    Args:
        positions: Flat positions ``row * n_columns + column``, ascending, shape ``(n_connections,)``.
        n_rows: Number of rows.
        n_columns: Number of columns.
    """

    def __init__(self, positions: IntVector, n_rows: int, n_columns: int) -> None:
        self.indices: IndexVector = (positions % n_columns).astype(np.int32)
        density = max(len(positions), 1) / max(n_rows * n_columns, 1)
        block = max(_CACHED_INPUTS, _MIN_RUN / density)
        edges = np.linspace(0, n_columns, max(1, round(n_columns / block)) + 1).astype(np.int64)
        grid: Any = np.arange(n_rows, dtype=np.int64) * n_columns + edges[:, None]
        self.blocks: IntVector = np.searchsorted(positions, grid)
        """Index of the first connection of row j in block b at ``[b, j]``, shape ``(n_blocks + 1, n_rows)``."""

    @property
    def fields(self) -> dict[str, int]:
        """Number of blocks, and addresses of the index arrays."""
        starts, indices = self.blocks.ctypes.data, self.indices.ctypes.data
        return {"blocks": len(self.blocks) - 1, "starts": starts, "indices": indices}
