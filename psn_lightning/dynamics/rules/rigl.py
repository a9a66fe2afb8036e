"""RigL: grows where the gradient is largest."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from psn_lightning.dynamics.rules.rule import Rule
from psn_lightning.dynamics.views import Block, Connections, LayerState
from psn_lightning.errors import SettingError


class RigLRule(Rule):
    """RigL: drop the smallest |weight|, grow the largest |gradient| (Evci et al., 2020, arXiv 1911.11134, section 3).

    As in the authors' code, a connection that has just been dropped is a candidate for growth; if it grows back, it
    keeps weight and moments.

    Args:
        candidates: Candidates for growth: ``all`` absent positions, or as many as a multiple of the connections, drawn
            uniformly at random. An update then costs time in proportion to the connections, not to the layer.

    Raises:
        SettingError: If ``candidates`` is not positive.
    """

    candidates: Literal["all"] | float = "all"

    def __init__(self, candidates: Literal["all"] | float = "all") -> None:
        if isinstance(candidates, str) and candidates != "all":
            raise SettingError(f"candidates {candidates!r} is neither all nor a multiple of the connections")
        if not isinstance(candidates, str) and not 0 < candidates < math.inf:
            raise SettingError(f"candidates {candidates} must be above 0: 2 draws two for each connection")
        self.candidates = candidates

    def drop_scores(self, connections: Connections, generator: torch.Generator) -> Tensor:
        """Magnitude of the weights, shape ``(n_connections,)``."""
        return connections.weight.abs()

    def grow_scores(self, block: Block, generator: torch.Generator) -> Tensor:
        """Magnitude of the gradient, shape ``(neurons, n_in)``."""
        return block.gradient.abs()

    def count_candidates(self, layer: LayerState) -> int | None:
        """Count the candidates to draw; None for all absent positions."""
        return None if isinstance(self.candidates, str) else round(self.candidates * layer.n_active)
