"""Gradual magnitude pruning: drops, and never grows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from psn_lightning.dynamics.rules.rule import Rule
from psn_lightning.dynamics.rules.targets import check_each_starts_denser, count_final
from psn_lightning.dynamics.views import Block, Connections, LayerState, Update
from psn_lightning.topology import check_sparsity


class MagnitudePruningRule(Rule):
    """Gradual magnitude pruning (GMP): drop the smallest |weight|, grow none (Zhu & Gupta, 2018, arXiv 1710.01878).

    The schedule's fraction is the remaining share of the connections to prune. With :class:`CubicSchedule` the
    sparsity of every layer is s_t = s_f + (s_i − s_f)(1 − (t − t_0) / (n Δt))³ (Eq. 1).

    Args:
        final_sparsity: Sparsity of each layer after the last update (s_f), in [0, 1).

    Raises:
        SettingError: If ``final_sparsity`` is not in [0, 1).
    """

    needs_gradient = False
    keeps_count = False
    ends_at_target = True

    def __init__(self, final_sparsity: float = 0.9) -> None:
        check_sparsity(final_sparsity)
        self.final_sparsity = final_sparsity

    def check(self, layers: Mapping[str, LayerState]) -> None:
        """Check that at least one connection of each layer remains, and that it starts denser than it ends."""
        check_each_starts_denser(layers, self.final_sparsity)

    def counts(self, layer: LayerState, update: Update) -> tuple[int, int]:
        """Compute how many connections to drop to reach the sparsity of the schedule; none are grown."""
        final = count_final(layer, self.final_sparsity)
        target = round(final + (layer.n_initial - final) * update.fraction)
        return max(0, layer.n_active - target), 0

    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """Magnitude of the weights, shape ``(n_connections,)``."""
        return connections.weight.abs()

    def grow_scores(self, block: Block, generator: torch.Generator) -> Tensor:
        """Zeros, shape ``(neurons, n_in)``: no connection is grown."""
        return torch.zeros(block.mask.shape, device=block.mask.device)
