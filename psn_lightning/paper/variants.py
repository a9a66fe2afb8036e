"""RigL as implementations differ in it, as a callback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch.optim import Optimizer

from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.callbacks.layers import seed_of_run
from psn_lightning.dynamics import CosineSchedule, TopologyUpdater
from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseLayer
from psn_lightning.paper.variant_updater import RigLVariantRule, VariantChoices, VariantUpdater


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
        layers: Glob patterns of the layers to rewrite; null: every sparse layer.
        seed: Seed of random growth; null: that of seed_everything.
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
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        rule = RigLVariantRule(may_return, sees_absent, drop_scope)
        super().__init__(rule, CosineSchedule(drop_fraction, period, begin, end), skip_step_on_update, layers, seed)
        if gradient_steps < 1:
            raise SettingError(f"gradient_steps {gradient_steps} must be at least 1: the gradient of the update's step")
        self.choices = VariantChoices(grown_value, moments, gradient_steps)

    def updater(self, layers: Mapping[str, SparseLayer], optimizer: Optimizer) -> TopologyUpdater:
        """An updater with these choices."""
        settings = (self.rule, self.schedule, optimizer, *self._lengths, seed_of_run(self.seed))
        return VariantUpdater(self.choices, layers, *settings, self.skip_step_on_update)
