"""Dynamic sparse training: Lightning's hooks around the engine."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch.optim import Optimizer

from psn_lightning.dynamics import CosineSchedule, RigLRule, Rule, update_layer
from psn_lightning.nn import SparseLinear
from psn_lightning.task import SparseClassifier


class DynamicTopology(pl.Callback):
    """Lets a rule rewrite the topology on a schedule.

    The gradient is read in ``on_before_optimizer_step``: accumulated over micro-batches, averaged over
    processes, unscaled and not yet clipped. Where it is not finite (a step that AMP's scaler will skip)
    the topology step is skipped too.

    Args:
        rule: How connections are scored.
        schedule: When, and how many.
        skip_step_on_update: Whether an update takes the place of the optimizer step, as in RigL's original.
    """

    def __init__(self, rule: Rule, schedule: CosineSchedule, skip_step_on_update: bool = True) -> None:
        self.rule = rule
        self.schedule = schedule
        self.skip_step_on_update = skip_step_on_update
        self._generator = torch.Generator()
        self._total_steps: float = 0
        self._due = False

    def setup(self, trainer: pl.Trainer, pl_module: SparseClassifier, stage: str) -> None:  # type: ignore[override]
        """Seed the generator alike on every process, and refuse a schedule that fits no update."""
        if stage != "fit":
            return
        self._generator.manual_seed(pl_module.seed)  # a checkpoint, loaded later, overwrites it
        self._total_steps = trainer.estimated_stepping_batches
        self.schedule.end_step(self._total_steps)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: SparseClassifier,  # type: ignore[override]
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Have the dense gradient recorded where the coming optimizer step is an update."""
        self._due = self.schedule.is_update(trainer.global_step, self._total_steps)
        for layer in _layers(pl_module):
            layer.record_dense_gradient = self._due and self.rule.needs_gradient

    def on_before_optimizer_step(
        self,
        trainer: pl.Trainer,
        pl_module: SparseClassifier,  # type: ignore[override]
        optimizer: Optimizer,
    ) -> None:
        """Update the topology when it is due."""
        if not self._due:
            return
        layers = _layers(pl_module)
        if all(_is_finite(parameter.grad) for parameter in pl_module.parameters()):
            fraction = self.schedule.fraction(trainer.global_step, self._total_steps)
            for layer in layers:
                update_layer(layer, self.rule, fraction, optimizer, self._generator)
            if trainer.logger is not None:
                trainer.logger.log_metrics({"topology/update_fraction": fraction}, step=trainer.global_step)
            if self.skip_step_on_update:
                optimizer.zero_grad(set_to_none=True)  # an optimizer passes over parameters without gradient
                return
        for layer in layers:
            layer.mask_gradient()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint stopped."""
        self._generator.set_state(state_dict["generator"])


class RigL(DynamicTopology):
    """RigL (Evci et al., 2020): drop the smallest weights, grow the largest gradients, on a cosine schedule.

    Args:
        drop_fraction: Share of a layer's connections that the first update replaces (α).
        period: Optimizer steps between updates (ΔT).
        begin: Step of the first update.
        end: Step before which the last update lies: share of the run (0.75), or an integer of steps.
        skip_step_on_update: Whether an update takes the place of the optimizer step, as in the original.
    """

    def __init__(
        self,
        drop_fraction: float = 0.3,
        period: int = 100,
        begin: int = 0,
        end: int | float = 0.75,
        skip_step_on_update: bool = True,
    ) -> None:
        super().__init__(RigLRule(), CosineSchedule(drop_fraction, period, begin, end), skip_step_on_update)


def _layers(pl_module: SparseClassifier) -> list[SparseLinear]:
    return list(pl_module.network.sparse_layers().values())


def _is_finite(gradient: torch.Tensor | None) -> bool:
    return gradient is None or bool(torch.isfinite(gradient).all())
