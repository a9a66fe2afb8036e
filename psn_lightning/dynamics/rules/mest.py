"""MEST: drops by weight and gradient, grows at random."""

from __future__ import annotations

import torch
from torch import Tensor

from psn_lightning.dynamics.rules.set import SETRule
from psn_lightning.dynamics.views import Connections, LayerState, Update
from psn_lightning.errors import SettingError


class MESTRule(SETRule):
    """MEST: elastic mutation, hard or soft (Yuan et al., 2021, arXiv 2110.14032, section 3).

    Drops the smallest |weight| + λ |gradient| and grows at random. Hard mutation (EM) replaces the schedule's fraction
    of the connections. Soft mutation (EM&S) drops down to the number of connections at the start, then grows that
    fraction of it: until the next update the network is denser than its target. The last update grows none.

    Args:
        gradient_weight: Weight λ of the gradient in the drop score, at least 0.
        soft: Whether the mutation is soft (EM&S).

    Raises:
        SettingError: If ``gradient_weight`` is negative.
    """

    def __init__(self, gradient_weight: float = 0.01, soft: bool = False) -> None:
        if not 0 <= gradient_weight < float("inf"):
            raise SettingError(f"gradient_weight {gradient_weight} must be a number ≥ 0: 0 drops by magnitude alone")
        self.gradient_weight = gradient_weight
        self.soft = soft
        self.keeps_count = not soft
        self.ends_at_target = soft

    def counts(self, layer: LayerState, update: Update) -> tuple[int, int]:
        """Compute how many connections to drop and to grow."""
        if not self.soft:
            return super().counts(layer, update)
        n_grow = int(update.fraction * layer.n_initial) if update.n_left else 0
        return layer.n_active - layer.n_initial, min(n_grow, layer.n_positions - layer.n_initial)

    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """Magnitude of the weights plus that of their gradients times λ, shape ``(n_connections,)``."""
        magnitude = connections.weight.abs()
        if self.gradient_weight == 0:
            return magnitude
        return magnitude + self.gradient_weight * connections.gradient().abs()
