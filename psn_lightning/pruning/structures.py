"""Structures that any saliency can be held to: N of M consecutive inputs, or units that are whole or absent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from psn_lightning.dynamics.rules.structures import check_group, check_unit, pool
from psn_lightning.dynamics.selection import select_top_per_row
from psn_lightning.errors import SettingError
from psn_lightning.pruning.saliency import Saliency
from psn_lightning.pruning.twin import Twin


class NMSaliency(Saliency):
    """Saliency held to N:M sparsity: of every M consecutive inputs of a neuron the N most important stay.

    Prune a dense network with it, to sparsity 1 − N/M. Of a convolution the groups run along the flattened kernel.

    Args:
        saliency: Importance of a connection.
        n: Number of connections of a group.
        m: Size of a group; it divides the number of inputs.

    Raises:
        SettingError: If the numbers do not fit.
    """

    scope = "layer"

    def __init__(self, saliency: Saliency, n: int = 2, m: int = 4) -> None:
        check_group(n, m)
        self.saliency, self.n, self.m = saliency, n, m
        self.batches = saliency.batches

    def scores(self, twin: Twin, batches: Sequence[Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Score 1 for the N most important of each group, 0 for the others.

        Raises:
            SettingError: If M does not divide the inputs of a layer, or it is not dense.
        """
        scores = self.saliency.scores(twin, batches, generator)
        marks = {}
        for name, mask in twin.masks.items():
            if mask.shape[1] % self.m or not mask.all():
                raise SettingError(
                    f"{name} cannot be pruned to {self.n}:{self.m}: it has {mask.shape[1]} inputs, which {self.m} must "
                    "divide, and must be dense"
                )
            groups = scores[name].reshape(-1, self.m)
            counts = torch.full((len(groups),), self.n)
            chosen = select_top_per_row(groups, torch.ones_like(groups, dtype=torch.bool), counts)
            marks[name] = chosen.view_as(mask).double()
        return marks

    def complete(self, masks: dict[str, Tensor]) -> dict[str, Tensor]:
        """Check that the sparsity is that of N:M.

        Raises:
            SettingError: If a group has more or fewer than N connections.
        """
        if any((mask.reshape(-1, self.m).sum(dim=1) != self.n).any() for mask in masks.values()):
            raise SettingError(f"{self.n}:{self.m} is sparsity {1 - self.n / self.m:g}: prune to that, in one round")
        return masks


class UnitSaliency(Saliency):
    """Saliency held to units: ``size`` consecutive inputs of a neuron stay or go together.

    By default a unit is a whole neuron, of a convolution a whole output channel. Its importance is the mean over its
    connections. Only whole units stay: up to one unit less than the sparsity asks for.

    Args:
        saliency: Importance of a connection.
        size: Number of inputs of a unit, a divisor of the number of inputs; None is all of them.

    Raises:
        SettingError: If the size is below 1.
    """

    def __init__(self, saliency: Saliency, size: int | None = None) -> None:
        check_unit(size)
        self.saliency, self.size = saliency, size
        self.rounds, self.batches, self.scope = saliency.rounds, saliency.batches, saliency.scope

    def scores(self, twin: Twin, batches: Sequence[Any], generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the mean importance of each position's unit.

        Raises:
            SettingError: If the units do not divide the inputs of a layer.
        """
        scores, pooled = self.saliency.scores(twin, batches, generator), {}
        for name, mask in twin.masks.items():
            size = self.size or mask.shape[1]
            if mask.shape[1] % size:
                raise SettingError(f"{name}: units of {size} do not divide its {mask.shape[1]} inputs")
            active = mask.reshape(-1, size)
            if (active.any(dim=1) != active.all(dim=1)).any():
                raise SettingError(f"{name} does not consist of whole units of {size} inputs: prune a dense network")
            pooled[name] = pool(scores[name], size)
        return pooled

    def complete(self, masks: dict[str, Tensor]) -> dict[str, Tensor]:
        """Remove the unit that the number of connections has cut in two."""
        whole = {}
        for name, mask in masks.items():
            units = mask.reshape(-1, self.size or mask.shape[1])
            whole[name] = (units & units.all(dim=1, keepdim=True)).view_as(mask)
        return whole
