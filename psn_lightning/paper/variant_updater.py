"""RigL as implementations differ in it: what the study of the paper's Table 4 varies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from psn_lightning.dynamics.engine import Change, moments_of
from psn_lightning.dynamics.rules import LayerState, RigLRule
from psn_lightning.dynamics.selection import top
from psn_lightning.dynamics.updater import TopologyUpdater
from psn_lightning.nn.layer import SparseLayer


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


@dataclass(frozen=True)
class VariantChoices:
    """What an update does besides drop and growth.

    Args:
        grown_value: Weight of a new connection: zero, or initial: N(0, 2 / mean fan-in) as at the start.
        moments: Whether an update keeps the optimizer's moments of what stays, or resets those of the whole layer.
        gradient_steps: Number of optimizer steps before an update whose gradients growth looks at, summed.
    """

    grown_value: Literal["zero", "initial"] = "zero"
    moments: Literal["kept", "reset"] = "kept"
    gradient_steps: int = 1


class VariantUpdater(TopologyUpdater):
    """A :class:`TopologyUpdater` that updates as chosen.

    Args:
        choices: What an update does besides drop and growth.
        *arguments: See :class:`TopologyUpdater`.
        **settings: Further arguments of it.
    """

    def __init__(self, choices: VariantChoices, *arguments: Any, **settings: Any) -> None:
        self.choices = choices
        self._sums: dict[str, Tensor] = {}
        super().__init__(*arguments, **settings)

    def records_gradient(self) -> bool:
        """The gradients of the steps before an update as well."""
        return super().records_gradient() or self._is_summed()

    def before_step(self) -> dict[str, Change]:
        """Add the gradients up; update if it is due."""
        if self._is_summed():
            for name, layer in self._ready_layers().items():
                gradient = layer.dense_gradient()
                self._sums[name] = self._sums[name] + gradient if name in self._sums else gradient.clone()
        return super().before_step()

    def _is_summed(self) -> bool:
        """Whether an update lies fewer than ``gradient_steps`` steps ahead."""
        ahead = range(self.step, self.step + self.choices.gradient_steps) if self.choices.gradient_steps > 1 else ()
        return any(self.window.is_update(later) for later in ahead)

    @torch.no_grad()
    def update_layer(self, name: str, layer: SparseLayer, fraction: float) -> Change:
        """Update one layer, then change the new connections' weights and the moments as chosen."""
        before = layer.active_positions().clone()
        change = super().update_layer(name, layer, fraction)
        if self.choices.grown_value == "initial":
            self._draw(layer, before)
        if self.choices.moments == "reset":
            for moment in moments_of(layer, self.optimizer):
                moment.zero_()
        return change

    def growth_gradient(self, name: str, layer: SparseLayer) -> Callable[[slice], Tensor]:
        """The sum, where there is one."""
        return self._sums.pop(name).__getitem__ if name in self._sums else super().growth_gradient(name, layer)

    def _draw(self, layer: SparseLayer, before: Tensor) -> None:
        """Give new connections a weight like one of the start."""
        after, values = layer.active_positions(), layer.active_values()
        new = ~torch.isin(after, before)
        std = (2 * layer.n_out / len(after)) ** 0.5
        drawn = torch.randn(int(new.sum()), generator=self.generator) * std
        layer.set_values(values.masked_scatter(new, drawn.to(values)))

    def state_dict(self) -> dict[str, Any]:
        """The sums, too."""
        return {**super().state_dict(), "sums": dict(self._sums)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self._sums = dict(state_dict["sums"])
        super().load_state_dict(state_dict)
