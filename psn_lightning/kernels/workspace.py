"""The memory that a stack of layers works in, described for the kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from psn_lightning.kernels.network import LAYER, backward, forward
from psn_lightning.kernels.pool import run
from psn_lightning.kernels.structure import Structure

_WIDTHS = (64, 32, 16)  # columns of a tile: the widest amortises best, the others serve small batches and many threads
_FIELDS = tuple(LAYER.names or ())


@dataclass(frozen=True)
class Stage:
    """A product with sparse weights, ``z = x Wᵀ + b``; but for the last of a stack, LayerNorm and ReLU follow.

    Its parameters are values in CSR order and bias and, with LayerNorm, that one's weight (gain) and bias (shift).
    """

    structure: Structure
    epsilon: float | None = None
    """LayerNorm's; None: nothing follows."""
    note: Callable[[Tensor, Tensor], None] | None = None
    """Shown the tiles of ``x`` and of the gradient to ``z`` after a backward pass; they are overwritten later."""

    @property
    def parameters(self) -> dict[str, int]:
        """How many numbers each of them has."""
        n_out = self.structure.shape[0]
        sizes = {"values": len(self.structure.positions), "bias": n_out}
        return sizes if self.epsilon is None else sizes | {"gain": n_out, "shift": n_out}


class Workspace:
    """Activations, their gradients, and the table of addresses that the kernels read.

    It serves many steps: its memory stays in the cache, and a step has little to do in Python.

    Args:
        stages: The layers.
        n_rows: Rows of a batch.
        dtype: float32 or float64.
        keeps: Whether a backward pass may follow.
    """

    def __init__(self, stages: Sequence[Stage], n_rows: int, dtype: torch.dtype, keeps: bool) -> None:
        n_threads, self._dtype, self._keeps = torch.get_num_threads(), dtype, keeps
        self._width = next((w for w in _WIDTHS if n_rows > w * (n_threads - 1)), _WIDTHS[-1])
        self._n_tiles = max(1, -(-n_rows // self._width))
        self._n_threads = min(n_threads, self._n_tiles)
        self._table = np.zeros(len(stages), LAYER)
        self._addresses = self._table.view(np.int64)
        self._shape = (self._n_tiles, n_rows, len(stages), self._table.ctypes.data)
        self._inputs = [self._tiles(stages[0].structure.shape[1])]
        self._gradients: list[Tensor] = []
        self._to_batch: Tensor | None = None
        self._epsilons = torch.zeros(len(stages), dtype=dtype)
        self._others: list[Tensor] = []  # the table has addresses in these as well
        for i, stage in enumerate(stages):
            self._provide(i, stage)
        self.connect(stages)

    def connect(self, stages: Sequence[Stage]) -> None:
        """Serve stages of the same widths with other connections."""
        self.stages = stages  # the table has addresses in their structures
        slots, self._n_gradients = [], 0
        for i, stage in enumerate(stages):
            self._fill(i, **stage.structure.rows_as_integers())
            if self._to_batch is not None if i == 0 else self._keeps:
                self._fill(i, **stage.structure.columns_as_integers())
            if stage.epsilon is not None:
                self._epsilons[i] = stage.epsilon
            for name, size in stage.parameters.items():
                slots.append(i * len(_FIELDS) + _FIELDS.index(name))
                self._fill(i, **{f"to_{name}": self._n_gradients})
                self._n_gradients += size
        self._slots = np.array(slots)
        if self._keeps:
            self._shares = torch.empty(self._n_threads - 1, self._n_gradients, dtype=self._dtype)

    def forward(self, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """``(n_rows, n_out)`` of the batch ``(n_rows, n_in)``."""
        result = x.new_empty(len(x), self.stages[-1].structure.shape[0])
        self._addresses[self._slots] = [parameter.data_ptr() for parameter in parameters]
        self._run(forward, x, result)
        return result

    def backward(self, gradient: Tensor, parameters: Sequence[Tensor], needs_x: bool) -> tuple[Tensor | None, Tensor]:
        """Gradients to the batch, if it needs one, and to the parameters, one behind the other.

        Raises:
            RuntimeError: If the parameters' memory is no longer that of the forward pass.
        """
        if self._addresses[self._slots].tolist() != [parameter.data_ptr() for parameter in parameters]:
            raise RuntimeError("the weights were replaced between the forward and the backward pass")
        to_x = None
        if needs_x:
            if self._to_batch is None:
                self._to_batch = torch.empty_like(self._inputs[0])
                self._fill(0, **self.stages[0].structure.columns_as_integers(), to_x=self._to_batch.data_ptr())
            to_x = gradient.new_empty(len(gradient), self._to_batch.shape[1])
        to_parameters = gradient.new_empty(self._n_gradients)
        self._run(backward, gradient, to_x, to_parameters, self._shares)
        return to_x, to_parameters

    def note(self) -> None:
        """Show every stage its tiles."""
        for stage, x, g in zip(self.stages, self._inputs, self._gradients, strict=True):
            if stage.note is not None:
                stage.note(x, g)

    def _provide(self, i: int, stage: Stage) -> None:
        """Make the stage's memory and note where it is."""
        z = self._tiles(stage.structure.shape[0])
        self._fill(i, x=self._inputs[-1].data_ptr(), z=z.data_ptr())
        self._others.append(z)
        if self._keeps:
            if i > 0:
                self._fill(i, to_x=self._gradients[-1].data_ptr())
            self._gradients.append(torch.empty_like(z))
            self._fill(i, g=self._gradients[-1].data_ptr())
        if stage.epsilon is not None:
            y, statistics = torch.empty_like(z) if self._keeps else z, self._tiles(2)
            self._fill(i, y=y.data_ptr(), statistics=statistics.data_ptr(), epsilon=self._epsilons[i].data_ptr())
            self._others.append(statistics)
            self._inputs.append(y)

    def _tiles(self, n: int) -> Tensor:
        return torch.empty(self._n_tiles, n, self._width, dtype=self._dtype)

    def _fill(self, i: int, **fields: int) -> None:
        for name, value in fields.items():
            self._table[name][i] = value

    def _run(self, kernel: Callable[[int, int], int], *tensors: Tensor | None) -> None:
        """Run a kernel on as many threads as torch used when this was made."""
        addresses = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
        run(kernel(self._dtype.itemsize, self._width), self._n_threads, *self._shape, *addresses)
