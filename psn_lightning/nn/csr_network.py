"""A whole network of csr layers, computed by two kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from psn_lightning.kernels.structure import Structure
from psn_lightning.kernels.tiled import Stack
from psn_lightning.kernels.workspace import Stage
from psn_lightning.nn.csr import CSRLinear

_LARGEST_BLOCK = 2**16  # connections, whose places in a block two bytes can hold


class CSRNetwork:
    """Forward and backward pass of a whole network in two kernels instead of two per module.

    Args:
        blocks: Hidden layers: each sparse layer with the LayerNorm that follows; a ReLU follows each LayerNorm.
        output: Dense output layer, computed as a sparse layer with all connections active.
    """

    def __init__(self, blocks: Sequence[tuple[CSRLinear, nn.LayerNorm]], output: nn.Linear) -> None:
        self._blocks, self._output = blocks, output
        n_out, n_in = output.out_features, output.in_features
        self._whole = Structure(np.arange(n_out * n_in), n_out, n_in, _choose_row_major_blocks(n_out, n_in))
        self._known = self._get_connections()
        self._stack = Stack(self._make_stages(), self._reconnect)

    def __call__(self, x: Tensor) -> Tensor:
        """Compute logits of shape ``(batch, n_classes)`` from an input of shape ``(batch, n_in)``."""
        parameters = [p for layer, norm in self._blocks for p in (layer.weight, layer.bias, norm.weight, norm.bias)]
        logits: Tensor = self._stack(x, [*parameters, self._output.weight, self._output.bias])
        return logits

    def _reconnect(self) -> None:
        known = self._get_connections()
        if known != self._known:  # after a topology update
            self._known = known
            self._stack.connect(self._make_stages())

    def _get_connections(self) -> list[tuple[Structure, float]]:
        return [(layer.structure, norm.eps) for layer, norm in self._blocks]

    def _make_stages(self) -> list[Stage]:
        return [*(layer.stage(norm) for layer, norm in self._blocks), Stage(self._whole)]


def _choose_row_major_blocks(n_out: int, n_in: int) -> tuple[int, int]:
    """Choose blocks in which the values are in the order of a dense matrix: one of all inputs, or one neuron each."""
    if n_in > _LARGEST_BLOCK:
        return n_out, -(-n_in // _LARGEST_BLOCK)
    return -(-n_out * n_in // _LARGEST_BLOCK), 1
