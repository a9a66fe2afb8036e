"""AC/DC: compressed and decompressed phases in turn."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from psn_lightning.dynamics.rules.rule import Rule
from psn_lightning.dynamics.rules.targets import check_starts_denser, count_largest
from psn_lightning.dynamics.views import Block, Connections, LayerState, Update
from psn_lightning.errors import SettingError
from psn_lightning.topology import check_sparsity


class ACDCRule(Rule):
    """AC/DC: alternating compressed and decompressed training (Peste et al., 2021, arXiv 2106.12379, Algorithm 1).

    The updates are the ends of the phases: one keeps the largest |weight| of all layers together, the next activates
    all positions, those that return with weight 0. The last update always compresses, so with an even number of
    updates the first one leaves the network as it is. Accuracy in a decompressed phase is that of a dense network.

    Args:
        final_sparsity: Sparsity of all layers together in compressed phases, in [0, 1).

    Raises:
        SettingError: If ``final_sparsity`` is not in [0, 1).
    """

    needs_gradient = False
    keeps_count = False
    ends_at_target = True

    def __init__(self, final_sparsity: float = 0.9) -> None:
        check_sparsity(final_sparsity)
        self.final_sparsity = final_sparsity
        self._remaining: dict[str, int] = {}

    def check(self, layers: Mapping[str, LayerState]) -> None:
        """Check that the network starts dense, and keeps a connection for each layer."""
        check_starts_denser(layers, self.final_sparsity)
        for name, layer in layers.items():
            if layer.n_initial < layer.n_positions:
                raise SettingError(f"{name} has sparsity {1 - layer.n_initial / layer.n_positions:.4f}: start dense")

    def prepare(self, layers: Mapping[str, Connections], update: Update) -> None:
        """Count the connections of each layer after the update."""
        if update.n_left % 2:
            self._remaining = {name: connections.layer.n_positions for name, connections in layers.items()}
        else:
            positions = sum(connections.layer.n_positions for connections in layers.values())
            self._remaining = count_largest(layers, round((1 - self.final_sparsity) * positions))

    def counts(self, layer: LayerState, update: Update) -> tuple[int, int]:
        """Compute how many connections to drop to compress the layer, or to grow to decompress it."""
        surplus = layer.n_active - self._remaining[layer.name]
        return max(0, surplus), max(0, -surplus)

    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """Magnitude of the weights, shape ``(n_connections,)``."""
        return connections.weight.abs()

    def grow_scores(self, block: Block, generator: torch.Generator) -> Tensor:
        """Zeros, shape ``(neurons, n_in)``: all absent connections are grown."""
        return torch.zeros(block.mask.shape, device=block.mask.device)
