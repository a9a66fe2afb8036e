"""SET: grows at random."""

from __future__ import annotations

import torch
from torch import Tensor

from psn_lightning.dynamics.rules.rule import Rule
from psn_lightning.dynamics.selection import order_by_magnitude
from psn_lightning.dynamics.views import Block, Connections, LayerState

_SCORED_WHOLE = 2**22  # positions of the largest layer whose positions are numbered at random, one by one


class SETRule(Rule):
    """SET: drop the positive and the negative weights nearest zero, grow at random (Mocanu et al., 2018, Algorithm 1).

    The same share of the positive and of the negative weights is dropped. Unlike in the paper, grown connections start
    with weight 0, not with a random weight; all rules of this package have that in common.
    """

    needs_gradient = False

    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """Rank of |weight| among the weights of the same sign, divided by their number; NaN gets the lowest score."""
        weight = connections.weight
        scores = torch.zeros_like(weight, dtype=torch.float64)
        for sign in (weight >= 0, weight < 0):
            index = sign.nonzero().squeeze(1)
            order = order_by_magnitude(weight[index])
            rank = torch.arange(1, len(index) + 1, dtype=torch.float64, device=weight.device)
            scores[index[order]] = rank / max(1, len(index))
        return scores

    def grow_scores(self, block: Block, generator: torch.Generator) -> Tensor:
        """Uniform random numbers, shape ``(neurons, n_in)``."""
        return torch.rand(block.mask.shape, generator=generator, dtype=torch.float64).to(block.mask.device)

    def count_candidates(self, layer: LayerState) -> int | None:
        """Draw no more than what is grown, unless the layer is small."""
        return None if layer.n_positions <= _SCORED_WHOLE else 0
