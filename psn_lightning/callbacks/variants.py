"""RigL as implementations differ in it, as a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.dynamics import Change, CosineSchedule, RigLVariantRule, moments_of
from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseLinear
from psn_lightning.task import SparseClassifier


class RigLVariant(DynamicTopology):
    """RigL with the choices that the paper leaves open and implementations make differently (its Table 4).

    With the defaults it is :class:`~psn_lightning.callbacks.RigL`.

    Args:
        drop_fraction: Share of a layer's connections that the first update replaces (α).
        period: Optimizer steps between updates (int, ΔT), or epochs (float).
        begin: First update: a step (int), a share of the run (float), or null: one period after the start.
        end: End of the updates: a step (int), or a share of the run (float).
        skip_step_on_update: Whether an update takes the place of the optimizer step.
        may_return: Whether a connection that has just been dropped may grow back at once.
        sees_absent: Whether growth sees the gradient of absent connections; where the forward pass multiplies weight
            and mask it does not: all ties, decided by position.
        drop_scope: Whether the smallest magnitudes are sought in each layer or in all at once.
        grown_value: Weight of a new connection: zero, or initial: N(0, 2 / mean fan-in) as at the start.
        moments: Whether an update keeps the optimizer's moments of what stays, or resets those of the whole layer.
        gradient_steps: Number of optimizer steps before an update whose gradients growth looks at, summed.
    """

    def __init__(
        self,
        drop_fraction: float = 0.3,
        period: int | float = 100,
        begin: int | float | None = 0,
        end: int | float = 0.75,
        skip_step_on_update: bool = True,
        may_return: bool = True,
        sees_absent: bool = True,
        drop_scope: Literal["layer", "global"] = "layer",
        grown_value: Literal["zero", "initial"] = "zero",
        moments: Literal["kept", "reset"] = "kept",
        gradient_steps: int = 1,
    ) -> None:
        rule = RigLVariantRule(may_return, sees_absent, drop_scope)
        super().__init__(rule, CosineSchedule(drop_fraction, period, begin, end), skip_step_on_update)
        if gradient_steps < 1:
            raise SettingError(f"gradient_steps {gradient_steps} must be at least 1: the gradient of the update's step")
        self.grown_value = grown_value
        self.moments = moments
        self.gradient_steps = gradient_steps
        self._sums: dict[str, Tensor] = {}

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: SparseClassifier,  # type: ignore[override]
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Have the gradients of the steps before an update recorded as well."""
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        for layer in pl_module.network.sparse_layers().values():
            layer.record_dense_gradient |= self._is_summed(trainer.global_step)

    def on_before_optimizer_step(
        self,
        trainer: pl.Trainer,
        pl_module: SparseClassifier,  # type: ignore[override]
        optimizer: Optimizer,
    ) -> None:
        """Add the gradients up."""
        if self._is_summed(trainer.global_step):
            for name, layer in pl_module.network.sparse_layers().items():
                gradient = layer.dense_gradient()
                self._sums[name] = self._sums[name] + gradient if name in self._sums else gradient.clone()
        super().on_before_optimizer_step(trainer, pl_module, optimizer)
        for layer in pl_module.network.sparse_layers().values():
            if layer.record_dense_gradient and not self.changes:
                layer.mask_gradient()

    def _is_summed(self, step: int) -> bool:
        """Whether an update lies fewer than ``gradient_steps`` steps ahead."""
        assert self.window is not None
        ahead = range(step, step + self.gradient_steps) if self.gradient_steps > 1 else ()
        return any(self.window.is_update(later) for later in ahead)

    @torch.no_grad()
    def update_layer(self, name: str, layer: SparseLinear, fraction: float, optimizer: Optimizer) -> Change:
        """Update one layer, then change the new connections' weights and the moments as chosen."""
        before = layer.active_positions().clone()
        change = super().update_layer(name, layer, fraction, optimizer)
        if self.grown_value == "initial":
            self._draw(layer, before)
        if self.moments == "reset":
            for moment in moments_of(layer, optimizer):
                moment.zero_()
        return change

    def growth_gradient(self, name: str, layer: SparseLinear) -> Callable[[slice], Tensor]:
        """The sum, where there is one."""
        return self._sums.pop(name).__getitem__ if name in self._sums else super().growth_gradient(name, layer)

    def _draw(self, layer: SparseLinear, before: Tensor) -> None:
        """Give new connections a weight like one of the start."""
        after, state = layer.active_positions(), layer.state_dict()
        new = ~torch.isin(after, before)
        std = (2 * layer.out_features / len(after)) ** 0.5
        drawn = torch.randn(int(new.sum()), generator=self._generator) * std
        state["values"] = state["values"].masked_scatter(new, drawn.to(state["values"]))
        layer.load_state_dict(state)

    def state_dict(self) -> dict[str, Any]:
        """The sums, too."""
        return {**super().state_dict(), "sums": dict(self._sums)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        self._sums = dict(state_dict["sums"])
