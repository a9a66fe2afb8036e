"""Dynamic sparse training: Lightning's hooks around the updater."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import Optimizer

from psn_lightning.callbacks.averages import follow_connections
from psn_lightning.callbacks.layers import chosen_layers, log_now, seed_of_run
from psn_lightning.callbacks.ranks import check_equal_connectivity, refuse_sharding
from psn_lightning.callbacks.sparsify import sparsify_first
from psn_lightning.callbacks.steps import total_steps
from psn_lightning.dynamics import Change, Rule, Schedule, TopologyUpdater, Window, check_layers
from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseLayer


class DynamicTopology(pl.Callback):
    """Lets a rule rewrite the topology of any LightningModule's sparse layers on a schedule.

    The gradient is read in ``on_before_optimizer_step``: accumulated over micro-batches, averaged over
    processes, unscaled and not yet clipped. Where it is not finite (a step that AMP's scaler will skip)
    the topology step is skipped too; the last one of a run is made up for at once. Every process computes
    the same update from the same gradient and the same generator; that their connections are equal is
    checked after each. Of several optimizers (manual optimization) each updates the layers whose weights it holds,
    by its own count of steps.

    Args:
        rule: How connections are scored.
        schedule: When, and how many.
        skip_step_on_update: Whether an update takes the place of the optimizer step, as in RigL's original.
        layers: Glob patterns of the layers to rewrite; None: every sparse layer.
        seed: Seed of random growth; None: that of ``seed_everything``.
    """

    def __init__(
        self,
        rule: Rule,
        schedule: Schedule,
        skip_step_on_update: bool = True,
        layers: list[str] | None = None,
        seed: int | None = None,
    ) -> None:
        self.rule = rule
        self.schedule = schedule
        self.skip_step_on_update = skip_step_on_update
        self.layers = layers
        self.seed = seed
        self.window: Window | None = None
        """The updates of this run; known once the run is set up."""
        self.changes: dict[str, Change] = {}
        """What the update of the present batch did to each layer; empty without one."""
        self._updaters: list[TopologyUpdater] = []
        self._restored: list[Mapping[str, Any]] = []
        self._lengths = (math.inf, math.inf)
        self._clip: float | None = None  # the trainer's, while nothing is to be clipped

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse what cannot work before anything is run.

        Raises:
            SettingError: If another rule is there, the module has no sparse layer, or the rule cannot work on one.
        """
        if stage != "fit":
            return
        if sum(isinstance(callback, DynamicTopology) for callback in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise SettingError("two callbacks would rewrite the same masks: keep one")
        refuse_sharding(type(trainer.strategy).__name__)
        sparsify_first(trainer, pl_module)
        check_layers(chosen_layers(pl_module, self.layers), self.rule)
        n_steps = total_steps(trainer)
        per_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
        self._lengths = n_steps, per_epoch if math.isinf(per_epoch) else math.ceil(per_epoch)
        self.window = self.schedule.window(*self._lengths)
        if self.window.is_empty or self.window.period > n_steps:
            rank_zero_warn(
                f"period {self.schedule.period} is longer than the run, which has {n_steps:g} optimizer steps: the "
                f"topology {'never changes' if self.window.is_empty else 'changes once'}"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """All processes start from the same connections."""
        check_equal_connectivity(trainer, pl_module)
        layers = chosen_layers(pl_module, self.layers)
        self._check_scaler(trainer)
        n = len(trainer.optimizers)
        if not pl_module.automatic_optimization and n > 1 and trainer.max_steps > 0:
            self._lengths = min(self._lengths[0], math.ceil(trainer.max_steps / n)), self._lengths[1]
            self.window = self.schedule.window(*self._lengths)
        self._updaters = [self.updater(layers, optimizer) for optimizer in trainer.optimizers]
        for updater in self._updaters:
            updater.step = trainer.global_step // len(self._updaters)
            updater.prepare_step()
        for updater, state in zip(self._updaters, self._restored, strict=False):
            updater.load_state_dict(state)
        self._restored = []

    def _check_scaler(self, trainer: pl.Trainer) -> None:
        """Refuse optimizers that ask the gradient scaler for what it found in gradients that an update has taken away.

        Raises:
            SettingError: If one is fused under 16-mixed.
        """
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        for optimizer in trainer.optimizers if scaled and self.skip_step_on_update else ():
            if getattr(optimizer, "_step_supports_amp_scaling", False):
                raise SettingError(
                    f"{type(optimizer).__name__} is fused, and under 16-mixed cannot pass over the steps that are "
                    "updates: give fused=False, skip_step_on_update=False, or precision bf16-mixed"
                )

    def updater(self, layers: Mapping[str, SparseLayer], optimizer: Optimizer) -> TopologyUpdater:
        """What updates the layers of one optimizer."""
        settings = (self.rule, self.schedule, optimizer, *self._lengths, seed_of_run(self.seed))
        return TopologyUpdater(layers, *settings, self.skip_step_on_update)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Nothing has changed yet."""
        self.changes = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Update the topology when it is due."""
        updater = next(updater for updater in self._updaters if updater.optimizer is optimizer)
        fraction = updater.fraction if updater.is_due else 0.0
        changes = updater.before_step()
        if not changes:
            return
        self.changes |= changes
        if self.skip_step_on_update:
            # There is no gradient left, and torch cannot clip the values of none.
            self._clip, trainer.gradient_clip_val = trainer.gradient_clip_val, None
        follow_connections(trainer, pl_module)
        check_equal_connectivity(trainer, pl_module)
        grown = {f"topology/grown/{name}": change.grown for name, change in changes.items()}
        log_now(trainer, {"topology/update_fraction": fraction, **grown}, step=trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Clip again after a step that was an update."""
        if self._clip is not None:
            self._clip, trainer.gradient_clip_val = None, self._clip

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave layers that can be trained on without this callback."""
        for updater in self._updaters:
            updater.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave layers, and a Trainer, that can be used without this callback."""
        if self._clip is not None:
            self._clip, trainer.gradient_clip_val = None, self._clip
        for updater in self._updaters:
            updater.stop()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on."""
        return {"updaters": [updater.state_dict() for updater in self._updaters] or list(self._restored)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint stopped."""
        self._restored = state_dict["updaters"]
