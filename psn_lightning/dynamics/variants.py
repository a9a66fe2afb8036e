"""RigL as implementations differ in it: what the study of the paper's Table 4 varies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from psn_lightning.dynamics.rules import LayerState, RigLRule
from psn_lightning.dynamics.selection import top


class RigLVariantRule(RigLRule):
    """RigL with choices of its own; without arguments it is :class:`RigLRule`.

    Args:
        may_return: Whether a connection that has just been dropped may grow back at once.
        sees_absent: Whether growth sees the gradient of absent connections. False is what automatic differentiation
            gives where the forward pass multiplies weight and mask: 0 there, so that ties decide, and position by ties.
        drop_scope: Whether the smallest magnitudes are sought in each layer or in all at once; each layer grows as
            many as it lost.
    """

    def __init__(
        self, may_return: bool = True, sees_absent: bool = True, drop_scope: Literal["layer", "global"] = "layer"
    ) -> None:
        self.may_return = may_return
        self.sees_absent = sees_absent
        self.drop_scope = drop_scope
        self._counts: dict[str, int] = {}

    def prepare(self, weights: Mapping[str, Tensor], fraction: float) -> None:
        """Find how many of the smallest magnitudes each layer has."""
        if self.drop_scope == "layer":
            return
        magnitudes = torch.cat([weight.abs() for weight in weights.values()])
        lowest = torch.zeros(len(magnitudes), dtype=torch.bool, device=magnitudes.device)
        lowest[top(-magnitudes, int(fraction * len(magnitudes)))] = True
        parts = torch.split(lowest, [len(weight) for weight in weights.values()])
        self._counts = {name: int(part.sum()) for name, part in zip(weights, parts, strict=True)}

    def counts(self, fraction: float, layer: LayerState) -> tuple[int, int]:
        """The layer's own share, or what it has of the smallest of all; at most as many as may grow."""
        n = super().counts(fraction, layer)[0] if self.drop_scope == "layer" else self._counts[layer.name]
        if not self.may_return:
            n = min(n, layer.n_out * layer.n_in - layer.n_active)  # what is dropped leaves no room for growth
        return n, n

    def grow_scores(self, gradient: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """|gradient|, or nothing to go by."""
        return gradient.abs() if self.sees_absent else torch.zeros_like(gradient)
