"""Rules: how connections are scored. A new method is a new rule, never a new callback."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Rule(ABC):
    """How a dynamic method scores connections; the engine does the rest.

    Scores are compared within one layer. Ties are broken by position, so equal inputs give equal masks.
    """

    needs_gradient: bool = True
    """Whether :meth:`grow_scores` reads the dense gradient."""

    @abstractmethod
    def drop_scores(self, weight: Tensor, mask: Tensor) -> Tensor:
        """Score the active connections; the lowest are dropped.

        Args:
            weight: Dense weights, shape ``(n_out, n_in)``.
            mask: Active connections, boolean, same shape.

        Returns:
            Same shape; values at inactive positions are ignored.
        """

    @abstractmethod
    def grow_scores(self, gradient: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Score the candidates; the highest are grown.

        Args:
            gradient: Dense gradient of the loss, shape ``(n_out, n_in)``.
            mask: Connections that were active before the update, boolean, same shape.
            generator: Source of randomness, in the same state on every process.

        Returns:
            Same shape; values at positions that stay active are ignored.
        """


class RigLRule(Rule):
    """Drop the smallest magnitudes, grow the largest gradients (Evci et al., 2020, section 3).

    A connection that has just been dropped is a candidate too, as in the authors' code; if it grows back
    it keeps its weight and moments.
    """

    def drop_scores(self, weight: Tensor, mask: Tensor) -> Tensor:
        """|weight|."""
        return weight.abs()

    def grow_scores(self, gradient: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """|gradient|."""
        return gradient.abs()
