"""Memory of a stack of layers, and its description for the kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from psn_lightning.kernels.network import LAYER, compile_backward, compile_forward
from psn_lightning.kernels.pool import run_kernel
from psn_lightning.kernels.structure import Structure

_TILE_WIDTHS = (64, 32, 16)  # columns; wide tiles reuse an index more often, narrow ones give every thread a tile
_FIELDS = tuple(LAYER.names or ())


@dataclass(frozen=True)
class Stage:
    """One layer of a stack: ``z = x Wᵀ + b`` with sparse ``W``, followed by LayerNorm and ReLU except in the last.

    Its parameters are the values in the order of the structure, the bias and, with LayerNorm, LayerNorm's weight (gain)
    and bias (shift).
    """

    structure: Structure
    """Index arrays of the connections."""
    epsilon: float | None = None
    """Epsilon of LayerNorm; None for a layer without LayerNorm and ReLU."""
    hook: Callable[[Tensor, Tensor, int], None] | None = None
    """Hook called after a backward pass with the tiles of ``x`` and of the gradient to ``z``, each of shape
    ``(n_tiles, n, width)``, and the number of rows of the batch. In columns beyond the batch the gradient is 0 and
    ``x`` is not: LayerNorm and ReLU were applied there too. Later passes overwrite the tiles."""

    @property
    def parameters(self) -> dict[str, int]:
        """Number of elements of each parameter, by name."""
        n_out = self.structure.shape[0]
        sizes = {"values": len(self.structure.positions), "bias": n_out}
        return sizes if self.epsilon is None else sizes | {"gain": n_out, "shift": n_out}


class Workspace:
    """Activations, their gradients, and the table of addresses that the kernels read.

    A workspace is reused over many steps: its memory stays in the cache, and a step executes little Python.

    Args:
        stages: Layers in the order of the forward pass.
        n_rows: Number of rows of a batch.
        dtype: Number type, float32 or float64.
        for_backward: Whether a backward pass may follow.
    """

    def __init__(self, stages: Sequence[Stage], n_rows: int, dtype: torch.dtype, for_backward: bool) -> None:
        n_threads, self._dtype, self._for_backward = torch.get_num_threads(), dtype, for_backward
        self._width = next((w for w in _TILE_WIDTHS if n_rows > w * (n_threads - 1)), _TILE_WIDTHS[-1])
        self._n_tiles = max(1, -(-n_rows // self._width))
        self._n_threads = self._n_tiles * (n_threads // self._n_tiles) or n_threads
        self._table = np.zeros(len(stages), LAYER)
        self._addresses = self._table.view(np.int64)
        self._shape = (self._n_tiles, n_rows, len(stages), self._table.ctypes.data)
        self._inputs = [self._allocate_tiles(stages[0].structure.shape[1])]
        self._gradients: list[Tensor] = []
        self._to_batch: Tensor | None = None
        self._epsilons = np.zeros(len(stages), np.float64 if dtype == torch.float64 else np.float32)
        self._kept_alive: list[Tensor] = []  # further tensors whose addresses the table holds: they must stay alive
        for i, stage in enumerate(stages):
            self._allocate_stage(i, stage)
        self.connect(stages)

    def connect(self, stages: Sequence[Stage]) -> None:
        """Replace the layers by layers of the same widths with other connections or another epsilon."""
        self.stages = stages  # the table holds addresses of their index arrays: they must stay alive
        slots, self._n_gradients = [], 0
        self._index_bytes = max(stage.structure.index_bytes for stage in stages)
        for i, stage in enumerate(stages):
            self._set_fields(i, **stage.structure.describe_rows(self._index_bytes))
            if self._to_batch is not None if i == 0 else self._for_backward:
                self._set_fields(i, **stage.structure.describe_columns(self._index_bytes))
            if stage.epsilon is not None:
                self._epsilons[i] = stage.epsilon
            for name, size in stage.parameters.items():
                slots.append(i * len(_FIELDS) + _FIELDS.index(name))
                self._set_fields(i, **{f"to_{name}": self._n_gradients})
                self._n_gradients += size
        self._slots = np.array(slots)
        if self._for_backward:
            n_groups = min(self._n_threads, self._n_tiles)
            self._shares = torch.empty(n_groups - 1, self._n_gradients, dtype=self._dtype)

    def forward(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """Run the forward kernel.

        Args:
            x: Batch, shape ``(n_rows, n_in)``, contiguous.
            parameters: Parameters of all layers in order, contiguous.

        Returns:
            Output of the last layer, shape ``(n_rows, n_out)``.
        """
        result = x.new_empty(len(x), self.stages[-1].structure.shape[0])
        self._addresses[self._slots] = [parameter.data_ptr() for parameter in parameters]
        self._launch(compile_forward, x, result)
        return result

    def backward(self, gradient: Tensor, parameters: Sequence[Tensor], needs_x: bool) -> tuple[Tensor | None, Tensor]:
        """Run the backward kernel for the latest forward pass.

        Args:
            gradient: Gradient to the output, shape ``(n_rows, n_out)``, contiguous.
            parameters: Parameters of the forward pass.
            needs_x: Whether to compute the gradient to the batch.

        Returns:
            Gradient to the batch, shape ``(n_rows, n_in)``, or None; gradients to all parameters in one flat tensor.

        Raises:
            RuntimeError: If connections changed since the forward pass, or the parameters are not at the addresses
                that it has read.
        """
        moved = self._addresses[self._slots].tolist() != [parameter.data_ptr() for parameter in parameters]
        if moved or any(stage.structure.is_released for stage in self.stages):
            raise RuntimeError(
                "weights were replaced between forward and backward pass (set_active, load_state_dict): "
                "change connections after the backward pass"
            )
        to_x = None
        if needs_x:
            if self._to_batch is None:
                self._to_batch = torch.empty_like(self._inputs[0])
                columns = self.stages[0].structure.describe_columns(self._index_bytes)
                self._set_fields(0, **columns, to_x=self._to_batch.data_ptr())
            to_x = gradient.new_empty(len(gradient), self._to_batch.shape[1])
        to_parameters = gradient.new_empty(self._n_gradients)
        self._launch(compile_backward, gradient, to_x, to_parameters, self._shares)
        return to_x, to_parameters

    def call_hooks(self) -> None:
        """Call the hooks of the layers, see :attr:`Stage.hook`."""
        for stage, x, g in zip(self.stages, self._inputs, self._gradients, strict=True):
            if stage.hook is not None:
                stage.hook(x, g, self._shape[1])

    def _allocate_stage(self, i: int, stage: Stage) -> None:
        """Allocate the memory of a layer and enter its addresses in the table."""
        z = self._allocate_tiles(stage.structure.shape[0])
        self._set_fields(i, x=self._inputs[-1].data_ptr(), z=z.data_ptr())
        self._kept_alive.append(z)
        if self._for_backward:
            if i > 0:
                self._set_fields(i, to_x=self._gradients[-1].data_ptr())
            self._gradients.append(torch.empty_like(z))
            self._set_fields(i, g=self._gradients[-1].data_ptr())
        if stage.epsilon is not None:
            y, statistics = torch.empty_like(z) if self._for_backward else z, self._allocate_tiles(4)
            self._set_fields(
                i, y=y.data_ptr(), statistics=statistics.data_ptr(), epsilon=self._epsilons[i:].ctypes.data
            )
            self._kept_alive.append(statistics)
            self._inputs.append(y)

    def _allocate_tiles(self, n: int) -> Tensor:
        return torch.empty(self._n_tiles, n, self._width, dtype=self._dtype)

    def _set_fields(self, i: int, **fields: int) -> None:
        for name, value in fields.items():
            self._table[name][i] = value

    def _launch(self, compile_kernel: Callable[[int, int, int], int], *tensors: Tensor | None) -> None:
        """Run a kernel on the threads that torch used when the workspace was made."""
        addresses = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
        kernel = compile_kernel(self._dtype.itemsize, self._width, self._index_bytes)
        run_kernel(kernel, self._n_threads, *self._shape, *addresses)
