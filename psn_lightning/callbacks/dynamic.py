"""Dynamic sparse training: Lightning's hooks around the engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from psn_lightning.callbacks.ranks import check_equal_connectivity
from psn_lightning.callbacks.steps import total_steps
from psn_lightning.dynamics import Change, LayerState, Rule, Schedule, Window, update_layer
from psn_lightning.errors import SettingError
from psn_lightning.nn import SparseLinear
from psn_lightning.task import SparseClassifier


class DynamicTopology(pl.Callback):
    """Lets a rule rewrite the topology on a schedule.

    The gradient is read in ``on_before_optimizer_step``: accumulated over micro-batches, averaged over
    processes, unscaled and not yet clipped. Where it is not finite (a step that AMP's scaler will skip)
    the topology step is skipped too; the last one of a run is made up for at once. Every process computes
    the same update from the same gradient and the same generator; that their connections are equal is
    checked after each.

    Args:
        rule: How connections are scored.
        schedule: When, and how many.
        skip_step_on_update: Whether an update takes the place of the optimizer step, as in RigL's original.
    """

    def __init__(self, rule: Rule, schedule: Schedule, skip_step_on_update: bool = True) -> None:
        self.rule = rule
        self.schedule = schedule
        self.skip_step_on_update = skip_step_on_update
        self.window: Window | None = None
        """The updates of this run; known once the run is set up."""
        self.changes: dict[str, Change] = {}
        """What the update of the present batch did to each layer; empty without one."""
        self._generator = torch.Generator()
        self._initial: dict[str, int] = {}
        self._due = False
        self._owed = False  # the last update fell on a step that was skipped

    def setup(self, trainer: pl.Trainer, pl_module: SparseClassifier, stage: str) -> None:  # type: ignore[override]
        """Seed the generator alike on every process, and refuse what cannot work before anything is run."""
        if stage != "fit":
            return
        if sum(isinstance(callback, DynamicTopology) for callback in trainer.callbacks) > 1:  # type: ignore[attr-defined]
            raise SettingError("trainer.callbacks has two rules that would rewrite the same masks: keep one")
        # A checkpoint, loaded later, overwrites both.
        self._generator.manual_seed(pl_module.seed)
        layers = pl_module.network.sparse_layers()
        self._initial = {name: len(layer.active_positions()) for name, layer in layers.items()}
        n_steps = total_steps(trainer)
        per_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
        self.window = self.schedule.window(n_steps, per_epoch if math.isinf(per_epoch) else math.ceil(per_epoch))
        whole = trainer.limit_train_batches == 1.0  # else somebody only tries whether it runs
        if whole and self.window.period > n_steps:
            raise SettingError(
                f"period {self.schedule.period} is longer than the run, which has {n_steps:g} optimizer steps: "
                "shorten it, or train longer"
            )
        for name, layer in layers.items():
            n = self._initial[name]
            self.rule.check(LayerState(name, layer.out_features, layer.in_features, n, n))

    def on_train_start(self, trainer: pl.Trainer, pl_module: SparseClassifier) -> None:  # type: ignore[override]
        """All processes start from the same connections."""
        check_equal_connectivity(trainer, pl_module)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: SparseClassifier,  # type: ignore[override]
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Have the dense gradient recorded where the coming optimizer step is an update."""
        self.changes = {}
        self._due = self._owed or (self.window is not None and self.window.is_update(trainer.global_step))
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
        assert self.window is not None
        finite = all(_is_finite(parameter.grad) for parameter in pl_module.parameters())
        self._owed = not finite and trainer.global_step >= self.window.last
        if finite:
            self._update(trainer, pl_module, optimizer)
            if self.skip_step_on_update:
                optimizer.zero_grad(set_to_none=True)  # an optimizer passes over parameters without gradient
                return
        for layer in _layers(pl_module):
            layer.mask_gradient()

    def _update(self, trainer: pl.Trainer, pl_module: SparseClassifier, optimizer: Optimizer) -> None:
        assert self.window is not None
        step, layers = trainer.global_step, pl_module.network.sparse_layers()
        fraction = self.schedule.fraction(min(step, self.window.last), self.window)
        self.rule.prepare({name: layer.active_values() for name, layer in layers.items()}, fraction)
        self.changes = {name: self.update_layer(name, layer, fraction, optimizer) for name, layer in layers.items()}
        check_equal_connectivity(trainer, pl_module)
        if trainer.logger is not None:
            grown = {f"topology/grown/{name}": change.grown for name, change in self.changes.items()}
            trainer.logger.log_metrics({"topology/update_fraction": fraction, **grown}, step=step)

    def update_layer(self, name: str, layer: SparseLinear, fraction: float, optimizer: Optimizer) -> Change:
        """Update one layer; see :func:`psn_lightning.dynamics.update_layer`."""
        n_initial, gradient = self._initial[name], self.growth_gradient(name, layer)
        return update_layer(layer, self.rule, fraction, optimizer, self._generator, name, n_initial, gradient)

    def growth_gradient(self, name: str, layer: SparseLinear) -> Callable[[slice], Tensor]:
        """What growth looks at, by block of neurons: here the gradient of the update's own step."""
        return layer.dense_gradient

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on."""
        return {"generator": self._generator.get_state(), "initial": dict(self._initial), "owed": self._owed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint stopped."""
        self._generator.set_state(state_dict["generator"])
        self._initial = dict(state_dict["initial"])
        self._owed = state_dict["owed"]


def _layers(pl_module: SparseClassifier) -> list[SparseLinear]:
    return list(pl_module.network.sparse_layers().values())


def _is_finite(gradient: Tensor | None) -> bool:
    return gradient is None or bool(torch.isfinite(gradient).all())
