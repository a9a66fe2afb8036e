"""Variants of RigL in which implementations differ, for the study of the paper's Table 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from psn_lightning.dynamics.engine import Change, moments_of
from psn_lightning.dynamics.rules import LayerState, RigLRule
from psn_lightning.dynamics.selection import select_top
from psn_lightning.dynamics.updater import TopologyUpdater
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
    """

    def __init__(
        self, may_return: bool = True, sees_absent: bool = True, drop_scope: Literal["layer", "global"] = "layer"
    ) -> None:
        self.may_return = may_return
        self.sees_absent = sees_absent
        self.drop_scope = drop_scope
        self._counts: dict[str, int] = {}

    def prepare(self, weights: Mapping[str, Tensor], fraction: float) -> None:
        """Count the connections of each layer among the smallest magnitudes of all layers.

        Args:
            weights: Weights of the active connections, shape ``(n_connections,)``, by layer name.
            fraction: Fraction from the schedule, in [0, 1].
        """
        if self.drop_scope == "layer":
            return
        magnitudes = torch.cat([weight.abs() for weight in weights.values()])
        lowest = torch.zeros(len(magnitudes), dtype=torch.bool, device=magnitudes.device)
        lowest[select_top(-magnitudes, int(fraction * len(magnitudes)))] = True
        parts = torch.split(lowest, [len(weight) for weight in weights.values()])
        self._counts = {name: int(part.sum()) for name, part in zip(weights, parts, strict=True)}

    def counts(self, fraction: float, layer: LayerState) -> tuple[int, int]:
        """Compute how many connections to drop and to grow, at most as many as there are candidates for growth.

        Args:
            fraction: Fraction from the schedule, in [0, 1].
            layer: Sizes of the layer.

        Returns:
            Numbers of connections to drop and to grow.
        """
        n = super().counts(fraction, layer)[0] if self.drop_scope == "layer" else self._counts[layer.name]
        if not self.may_return:
            n = min(n, layer.n_out * layer.n_in - layer.n_active)  # dropped positions are not candidates
        return n, n

    def grow_scores(self, gradient: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Magnitude of the gradient, or zeros if growth does not see absent connections; shape ``(neurons, n_in)``."""
        return gradient.abs() if self.sees_absent else torch.zeros_like(gradient)


@dataclass(frozen=True)
class VariantChoices:
    """Choices of an update besides drop and growth.

    Args:
        grown_value: Weight of a grown connection: zero, or initial, drawn from N(0, 2 / mean fan-in) as at the start.
        moments: Optimizer moments after an update: kept for the connections that stay, or reset for the whole layer.
        gradient_steps: Number of optimizer steps, the update's included, over which the gradient for growth is summed.
    """

    grown_value: Literal["zero", "initial"] = "zero"
    moments: Literal["kept", "reset"] = "kept"
    gradient_steps: int = 1


class VariantUpdater(TopologyUpdater):
    """Topology updater with the choices of a variant.

    Args:
        choices: Choices besides drop and growth.
        *arguments: Positional arguments of :class:`TopologyUpdater`.
        **settings: Keyword arguments of :class:`TopologyUpdater`.
    """

    def __init__(self, choices: VariantChoices, *arguments: Any, **settings: Any) -> None:
        self.choices = choices
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
        ahead = range(self.step, self.step + self.choices.gradient_steps) if self.choices.gradient_steps > 1 else ()
        return any(self.window.is_update(later) for later in ahead)

    @torch.no_grad()
    def update_layer(self, name: str, layer: SparseLayer, fraction: float) -> Change:
        """Update one layer, then set the weights of grown connections and the moments as chosen.

        Args:
            name: Name of the layer.
            layer: Layer to update.
            fraction: Fraction from the schedule, in [0, 1].
        """
        before = layer.active_positions().clone()
        change = super().update_layer(name, layer, fraction)
        if self.choices.grown_value == "initial":
            self._draw_grown_values(layer, before)
        if self.choices.moments == "reset":
            for moment in moments_of(layer, self.optimizer):
                moment.zero_()
        return change

    def growth_gradient(self, name: str, layer: SparseLayer) -> Callable[[slice], Tensor]:
        """Return the gradient that growth compares: the sum over the last steps if there is one.

        Args:
            name: Name of the layer.
            layer: Layer to update.
        """
        return self._sums.pop(name).__getitem__ if name in self._sums else super().growth_gradient(name, layer)

    def _draw_grown_values(self, layer: SparseLayer, before: Tensor) -> None:
        """Draw the weights of grown connections from the distribution of the initial weights.

        Args:
            layer: Layer that was updated.
            before: Flat positions of the active connections before the update, shape ``(n_connections,)``.
        """
        after, values = layer.active_positions(), layer.active_values()
        new = ~torch.isin(after, before)
        std = (2 * layer.n_out / len(after)) ** 0.5
        drawn = torch.randn(int(new.sum()), generator=self.generator) * std
        layer.set_values(values.masked_scatter(new, drawn.to(values)))

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
