"""Dynamic sparse training as a Lightning callback."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import Optimizer

from psn_lightning.callbacks.averages import follow_connections
from psn_lightning.callbacks.layers import log_now, seed_of_run, select_layers
from psn_lightning.callbacks.ranks import check_equal_connectivity, refuse_changing_counts, refuse_sharding
from psn_lightning.callbacks.sparsify import sparsify_first
from psn_lightning.callbacks.steps import count_steps_of_each, count_total_steps
from psn_lightning.dynamics import Change, Rule, Schedule, TopologyUpdater, Window, check_layers
from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseLayer
from psn_lightning.nn.torch_private import handles_amp_scaling


class DynamicTopology(pl.Callback):
    """Updates the topology of the sparse layers of a LightningModule by a rule on a schedule.

    The gradient is read in ``on_before_optimizer_step``: accumulated over micro-batches, averaged over processes,
    unscaled and not yet clipped. If it is not finite, so that the AMP scaler skips the step, the update is skipped too;
    the last update of a run is then made at the next step. All processes compute the same update from the same gradient
    and random generator; their connections are compared after each update. With several optimizers (manual
    optimization), each updates the layers whose parameters it holds, by its own count of steps.

    Args:
        rule: Rule that scores the connections.
        schedule: Schedule of the updates.
        skip_step_on_update: Whether an update replaces the optimizer step, as in RigL (Evci et al., 2020).
        layers: Glob patterns of the names of the layers to update; all sparse layers by default.
        seed: Seed of random growth; the seed of ``seed_everything`` by default.
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
        """Steps of the updates of the run; None before ``setup``."""
        self.changes: dict[str, Change] = {}
        """Changes of the present batch by layer name; empty if the batch had no update."""
        self._updaters: list[TopologyUpdater] = []
        self._restored: list[Mapping[str, Any]] = []
        self._lengths = (math.inf, math.inf)
        self._clip: float | None = None  # the trainer's clip value while clipping is off, see _restore_clipping

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check rule, schedule and layers before the run starts.

        Raises:
            SettingError: If there is a second DynamicTopology, the module has no sparse layer, the strategy shards
                weights, the rule cannot update a layer, or no update fits into the run.
        """
        if stage != "fit":
            return
        if sum(isinstance(callback, DynamicTopology) for callback in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            found = [type(c).__name__ for c in trainer.callbacks if isinstance(c, DynamicTopology)]  # type: ignore[attr-defined]
            raise SettingError(f"{' and '.join(found)} would change the same masks: keep one of these callbacks")
        refuse_sharding(type(trainer.strategy).__name__)
        sparsify_first(trainer, pl_module)
        layers = select_layers(pl_module, self.layers)
        check_layers(layers, self.rule)
        if not self.rule.keeps_count:
            refuse_changing_counts(trainer, layers, type(self.rule).__name__)
        n_steps = count_total_steps(trainer)
        per_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
        self._lengths = n_steps, per_epoch if math.isinf(per_epoch) else math.ceil(per_epoch)
        self.window = self.schedule.window(*self._lengths)
        if self.window.is_empty or self.window.period > n_steps:
            count = "no topology update" if self.window.is_empty else "a single topology update"
            rank_zero_warn(
                f"the run of {n_steps:g} optimizer steps has {count} (period {self.schedule.period}, begin "
                f"{self.schedule.begin}): lower the period or train longer"
            )

    @property
    def is_at_target(self) -> bool:
        """Whether the network has the density that the method ends at; read after an optimizer step."""
        return not self.rule.ends_at_target or all(updater.step > updater.window.last for updater in self._updaters)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make an updater for each optimizer, and check that all processes have the same connections."""
        check_equal_connectivity(trainer, pl_module)
        layers = select_layers(pl_module, self.layers)
        self._check_scaler(trainer)
        self._lengths = count_steps_of_each(trainer, pl_module, self._lengths[0]), self._lengths[1]
        self.window = self.schedule.window(*self._lengths)
        restored = itertools.chain((state["initial"] for state in self._restored), itertools.repeat(None))
        self._updaters = [self.updater(layers, *own) for own in zip(trainer.optimizers, restored, strict=False)]
        for updater in self._updaters:
            updater.step = trainer.global_step // len(self._updaters)
            updater.prepare_step()
        for updater, state in zip(self._updaters, self._restored, strict=False):
            updater.load_state_dict(state)
        self._restored = []

    def _check_scaler(self, trainer: pl.Trainer) -> None:
        """Check that the gradient scaler accepts steps without gradients, which an update leaves to the optimizer.

        Raises:
            SettingError: If an optimizer is fused, the precision is 16-mixed, and updates replace optimizer steps.
        """
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        for optimizer in trainer.optimizers if scaled and self.skip_step_on_update else ():
            if handles_amp_scaling(optimizer):
                raise SettingError(
                    f"fused {type(optimizer).__name__} under 16-mixed cannot skip the optimizer step of an update: use "
                    "fused=False, skip_step_on_update=False, or precision bf16-mixed"
                )

    def updater(
        self, layers: Mapping[str, SparseLayer], optimizer: Optimizer, initial: Mapping[str, int] | None = None
    ) -> TopologyUpdater:
        """Make the updater of one optimizer.

        Args:
            layers: Sparse layers by name.
            optimizer: Optimizer that holds the parameters of some or all of them.
            initial: Connections at the start of the run, if it is resumed; see :class:`TopologyUpdater`.
        """
        settings = (self.rule, self.schedule, optimizer, *self._lengths, seed_of_run(self.seed))
        return TopologyUpdater(layers, *settings, self.skip_step_on_update, initial)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Clear the changes of the previous batch."""
        self.changes = {}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Update the topology if an update is due, and log its counts."""
        updater = next(updater for updater in self._updaters if updater.optimizer is optimizer)
        fraction = updater.describe_update().fraction if updater.is_due else 0.0
        changes = updater.before_step()
        if not changes:
            return
        self.changes |= changes
        if self.skip_step_on_update:
            # The update has set all gradients to None, and torch's clipping by value fails without gradients.
            self._clip, trainer.gradient_clip_val = trainer.gradient_clip_val, None
        follow_connections(trainer, pl_module)
        check_equal_connectivity(trainer, pl_module)
        grown = {f"topology/grown/{name}": change.grown for name, change in changes.items()}
        log_now(trainer, {"topology/update_fraction": fraction, **grown}, step=trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Restore gradient clipping after an update."""
        self._restore_clipping(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop recording gradients, so that the layers can be trained without this callback."""
        for updater in self._updaters:
            updater.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restore gradient clipping and stop recording gradients."""
        self._restore_clipping(trainer)
        for updater in self._updaters:
            updater.stop()

    def _restore_clipping(self, trainer: pl.Trainer) -> None:
        """Give the trainer back the clip value that an update has switched off."""
        if self._clip is not None:
            self._clip, trainer.gradient_clip_val = None, self._clip

    def state_dict(self) -> dict[str, Any]:
        """States of the updaters, one for each optimizer."""
        return {"updaters": [updater.state_dict() for updater in self._updaters] or list(self._restored)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states of the updaters until training starts.

        Args:
            state_dict: State from :meth:`state_dict`.
        """
        self._restored = state_dict["updaters"]


def changes_of(trainer: pl.Trainer) -> dict[str, Change]:
    """Return the topology changes of the present batch by layer name; empty without an update."""
    return next((c.changes for c in trainer.callbacks if isinstance(c, DynamicTopology)), {})  # type: ignore[attr-defined]
