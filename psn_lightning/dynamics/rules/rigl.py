"""RigL: grows where the gradient is largest."""

from __future__ import annotations

import torch
from torch import Tensor

from psn_lightning.dynamics.rules.rule import Rule
from psn_lightning.dynamics.views import Block, Connections


class RigLRule(Rule):
    """RigL: drop the smallest |weight|, grow the largest |gradient| (Evci et al., 2020, arXiv 1911.11134, section 3).

    As in the authors' code, a connection that has just been dropped is a candidate for growth; if it grows back, it
    keeps weight and moments.
    """

    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """Magnitude of the weights, shape ``(n_connections,)``."""
        return connections.weight.abs()

    def grow_scores(self, block: Block, generator: torch.Generator) -> Tensor:
        """Magnitude of the gradient, shape ``(neurons, n_in)``."""
        return block.gradient.abs()
