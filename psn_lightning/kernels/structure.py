"""The index arrays of one connectivity, as the csr kernels read them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from psn_lightning.kernels.connections import order_by_input

_CACHED_INPUTS = 256  # tile rows of so many inputs stay in a core's first-level cache
_MIN_RUN = 16  # connections that a row should have in a block, or taking it up costs more than the cache saves

IntVector = NDArray[np.int64]
IndexVector = NDArray[np.int32]


class Structure:
    """Rows, and the same connections again by column for the gradient to the input.

    Args:
        positions: Flat position ``neuron * n_in + input`` of each connection, ascending.
        n_out: Number of neurons.
        n_in: Number of inputs.
    """

    def __init__(self, positions: IntVector, n_out: int, n_in: int) -> None:
        self.positions = positions
        self.shape = (n_out, n_in)
        self.rows = Half(positions, n_out, n_in)
        self._columns: Half | None = None

    @property
    def neurons(self) -> IntVector:
        """Neuron of each connection."""
        return self.positions // self.shape[1]

    @property
    def fan_in(self) -> IntVector:
        """Connections of each neuron."""
        fan_in: IntVector = self.rows.blocks[-1] - self.rows.blocks[0]
        return fan_in

    def rows_as_integers(self) -> dict[str, int]:
        """Numbers and addresses for the kernels."""
        n_out, n_in = self.shape
        fields = {"n_in": n_in, "n_out": n_out, "n_connections": len(self.positions)}
        return fields | {f"row_{name}": value for name, value in self.rows.integers.items()}

    def columns_as_integers(self) -> dict[str, int]:
        """The connections by input, and which of ``positions`` each of them is; made on first use.

        The first layer of a network never needs them.
        """
        if self._columns is None:
            n_out, n_in = self.shape
            self._order: IndexVector = order_by_input(self.rows.indices, n_in)
            transposed = self.rows.indices[self._order].astype(np.int64) * n_out + self.neurons[self._order]
            self._columns = Half(transposed, n_in, n_out)
        fields = {f"column_{name}": value for name, value in self._columns.integers.items()}
        return fields | {"column_order": self._order.ctypes.data}


class Half:
    """Compressed sparse rows, cut into blocks of inputs.

    Args:
        positions: ``row * n_columns + column``, ascending.
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
        """``blocks[b, j]``: first connection of row j in block b; shape ``(n_blocks + 1, n_rows)``."""

    @property
    def integers(self) -> dict[str, int]:
        """Number of blocks, and addresses."""
        starts, indices = self.blocks.ctypes.data, self.indices.ctypes.data
        return {"blocks": len(self.blocks) - 1, "starts": starts, "indices": indices}
