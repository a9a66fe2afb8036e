"""Callback for variants of RigL in which implementations differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch.optim import Optimizer

from psn_lightning.callbacks.dynamic import DynamicTopology
from psn_lightning.callbacks.layers import seed_of_run
from psn_lightning.dynamics import CosineSchedule, TopologyUpdater
from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseLayer
from psn_lightning.paper.variant_updater import RigLVariantRule, VariantUpdater


class RigLVariant(DynamicTopology):
    """RigL with the choices that the paper leaves open and that differ between implementations (Table 4).

    The defaults are :class:`~psn_lightning.callbacks.RigL`.

    Args:
        drop_fraction: Fraction of a layer's connections that the first update replaces (α).
        period: Optimizer steps between updates (int, ΔT), or epochs (float).
        begin: First update: a step (int), a share of the run (float), or null for one period after the start.
        end: End of the updates: a step (int), or a share of the run (float).
        skip_step_on_update: Whether an update replaces the optimizer step.
        may_return: Whether a connection that has just been dropped may grow back at once.
        sees_absent: Whether growth sees the gradient of absent connections; if False, all candidates are equal and the
            position decides, as in an implementation that multiplies weight and mask in the forward pass.
        drop_scope: Scope of the smallest magnitudes: each layer, or all layers together.
        grown_value: Weight of a grown connection: zero, or initial, drawn from N(0, 2 / mean fan-in) as at the start.
        moments: Optimizer moments after an update: kept for the connections that stay, or reset for the whole layer.
        gradient_steps: Number of optimizer steps, the update's included, over which the gradient for growth is summed.
        layers: Glob patterns of the names of the layers to update; every sparse layer by default.
        seed: Seed of random growth; the seed of seed_everything by default.

    Raises:
        SettingError: If ``gradient_steps`` is below 1.
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
        rule = RigLVariantRule(may_return, sees_absent, drop_scope, grown_value)
        super().__init__(rule, CosineSchedule(drop_fraction, period, begin, end), skip_step_on_update, layers, seed)
        if gradient_steps < 1:
            raise SettingError(
                f"gradient_steps {gradient_steps} must be at least 1: 1 is the gradient of the update's step alone"
            )
        self.moments: Literal["kept", "reset"] = moments
        self.gradient_steps = gradient_steps

    def updater(
        self, layers: Mapping[str, SparseLayer], optimizer: Optimizer, initial: Mapping[str, int] | None = None
    ) -> TopologyUpdater:
        """Make the updater of one optimizer.

        Args:
            layers: Sparse layers by name.
            optimizer: Optimizer whose moments move with the weights.
            initial: Connections at the start of the run, if it is resumed.
        """
        settings = (self.rule, self.schedule, optimizer, *self._lengths, seed_of_run(self.seed))
        return VariantUpdater(
            layers,
            *settings,
            self.skip_step_on_update,
            initial,
            moments=self.moments,
            gradient_steps=self.gradient_steps,
        )
