"""Variants of RigL in which implementations differ, for the study of the paper's Table 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from psn_lightning.dynamics.moments import moments_of
from psn_lightning.dynamics.rules import RigLRule
from psn_lightning.dynamics.selection import select_top
from psn_lightning.dynamics.updater import TopologyUpdater
from psn_lightning.dynamics.views import Block, Change, Connections, LayerState, Update
from psn_lightning.nn.layer import SparseLayer


class RigLVariantRule(RigLRule):
    """RigL with variants of drop and growth; the defaults are :class:`RigLRule`.

    Args:
        may_return: Whether a connection that has just been dropped may grow back at once.
        sees_absent: Whether growth sees the gradient of absent connections. False is an implementation that multiplies
            weight and mask in the forward pass: automatic differentiation gives 0 for absent connections, all scores
            are equal, and the position decides.
        drop_scope: Scope of the smallest magnitudes: each layer, or all layers together. Each layer grows as many
            connections as it drops.
        grown_value: Weight of a grown connection: zero, or initial, drawn from N(0, 2 / mean fan-in) as at the start.
    """

    def __init__(
        self,
        may_return: bool = True,
        sees_absent: bool = True,
        drop_scope: Literal["layer", "global"] = "layer",
        grown_value: Literal["zero", "initial"] = "zero",
    ) -> None:
        self.may_return = may_return
        self.sees_absent = sees_absent
        self.drop_scope = drop_scope
        self.grown_value = grown_value
        self._counts: dict[str, int] = {}

    def prepare(self, layers: Mapping[str, Connections], update: Update) -> None:
        """Count the connections of each layer among the smallest magnitudes of all layers.

        Args:
            layers: Active connections by layer name.
            update: Size and time of the update.
        """
        if self.drop_scope == "layer":
            return
        magnitudes = torch.cat([connections.weight.abs() for connections in layers.values()])
        lowest = torch.zeros(len(magnitudes), dtype=torch.bool, device=magnitudes.device)
        lowest[select_top(-magnitudes, int(update.fraction * len(magnitudes)))] = True
        parts = torch.split(lowest, [len(connections.weight) for connections in layers.values()])
        self._counts = {name: int(part.sum()) for name, part in zip(layers, parts, strict=True)}

    def counts(self, layer: LayerState, update: Update) -> tuple[int, int]:
        """Compute how many connections to drop and to grow, at most as many as there are candidates for growth.

        Args:
            layer: Sizes of the layer.
            update: Size and time of the update.

        Returns:
            Numbers of connections to drop and to grow.
        """
        n = super().counts(layer, update)[0] if self.drop_scope == "layer" else self._counts[layer.name]
        if not self.may_return:
            n = min(n, layer.n_positions - layer.n_active)  # dropped positions are not candidates
        return n, n

    def grow_scores(self, block: Block, generator: torch.Generator) -> Tensor:
        """Magnitude of the gradient, or zeros if growth does not see absent connections; shape ``(neurons, n_in)``."""
        return block.gradient.abs() if self.sees_absent else torch.zeros_like(block.gradient)

    def grown_values(self, positions: Tensor, layer: LayerState, generator: torch.Generator) -> Tensor | None:
        """Draw weights from the distribution of the initial weights, if grown connections start with such.

        Args:
            positions: Flat positions of the new connections, shape ``(n,)``.
            layer: Sizes of the layer.
            generator: Random generator.
        """
        if self.grown_value == "zero":
            return None
        std: float = (2 * layer.n_out / layer.n_active) ** 0.5
        return torch.randn(len(positions), generator=generator) * std


class VariantUpdater(TopologyUpdater):
    """Topology updater with choices that are not a rule's.

    Args:
        *arguments: Positional arguments of :class:`TopologyUpdater`.
        moments: Optimizer moments after an update: kept for the connections that stay, or reset for the whole layer.
        gradient_steps: Number of optimizer steps, the update's included, over which the gradient for growth is summed.
        **settings: Keyword arguments of :class:`TopologyUpdater`.
    """

    def __init__(
        self,
        *arguments: Any,
        moments: Literal["kept", "reset"] = "kept",
        gradient_steps: int = 1,
        **settings: Any,
    ) -> None:
        self.moments = moments
        self.gradient_steps = gradient_steps
        self._sums: dict[str, Tensor] = {}
        super().__init__(*arguments, **settings)

    def records_gradient(self) -> bool:
        """Return whether the next step needs the dense gradient, for an update or for the sum before one."""
        return super().records_gradient() or self._is_summed()

    def before_step(self) -> dict[str, Change]:
        """Add the gradient to the sum, and update the topology if an update is due.

        Returns:
            Changes by layer name; empty if there was no update.
        """
        if self._is_summed():
            for name, layer in self._find_ready_layers().items():
                gradient = layer.dense_gradient()
                self._sums[name] = self._sums[name] + gradient if name in self._sums else gradient.clone()
        return super().before_step()

    def _is_summed(self) -> bool:
        """Return whether the next update is fewer than ``gradient_steps`` steps ahead."""
        ahead = range(self.step, self.step + self.gradient_steps) if self.gradient_steps > 1 else ()
        return any(self.window.is_update(later) for later in ahead)

    def update_layers(self, layers: Mapping[str, SparseLayer]) -> dict[str, Change]:
        """Update layers, then reset the moments if they are to be.

        Args:
            layers: Layers to update by name.
        """
        changes = super().update_layers(layers)
        for layer in layers.values() if self.moments == "reset" else ():
            for moment in moments_of(layer, self.optimizer):
                moment.zero_()
        return changes

    def find_gradient(self, name: str, layer: SparseLayer) -> Callable[[slice], Tensor] | None:
        """Return the gradient that growth compares: the sum over the last steps if there is one.

        Args:
            name: Name of the layer.
            layer: Layer to update.
        """
        return self._sums.pop(name).__getitem__ if name in self._sums else super().find_gradient(name, layer)

    def state_dict(self) -> dict[str, Any]:
        """State of the updater and sums of the gradients, for :meth:`load_state_dict`."""
        return {**super().state_dict(), "sums": dict(self._sums)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore a state.

        Args:
            state_dict: State from :meth:`state_dict`.
        """
        sums: Mapping[str, Tensor] = state_dict["sums"]
        self._sums = {name: gradient.to(self.layers[name].parameter.device) for name, gradient in sums.items()}
        super().load_state_dict(state_dict)
