"""Dynamic sparse training in any training loop: a rule on a schedule, between backward pass and optimizer step."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from psn_lightning.dynamics.engine import update_network
from psn_lightning.dynamics.gradients import are_gradients_finite
from psn_lightning.dynamics.layer_checks import check_layers
from psn_lightning.dynamics.layer_views import view_sizes
from psn_lightning.dynamics.mixing import keep_masks
from psn_lightning.dynamics.rules import Rule
from psn_lightning.dynamics.schedules import Schedule, Window
from psn_lightning.dynamics.views import Change, Update
from psn_lightning.errors import SettingError
from psn_lightning.nn.layer import SparseLayer
from psn_lightning.nn.pair_view import at_group_grain


class TopologyUpdater:
    """Updates the topology of sparse layers by a rule on a schedule, in step with one optimizer.

    Call :meth:`before_step` between ``loss.backward()`` (with AMP: after ``scaler.unscale_(optimizer)``) and
    ``optimizer.step()``, before gradients are clipped. Each call counts as one optimizer step. If a gradient is not
    finite, which makes AMP skip the optimizer step, the update is skipped too; the last update of a run is then made at
    the next step with finite gradients.

    Processes with the same seed and the same gradients (averaged by DDP) compute the same connections.

    Args:
        layers: Sparse layers by name, see :func:`psn_lightning.sparse_layers`. Layers whose parameter the optimizer
            does not hold are not updated. Layers with groups of neurons are updated group by group.
        rule: Rule that scores the connections; copied.
        schedule: Schedule of the updates.
        optimizer: Optimizer whose moments move with the weights.
        total_steps: Optimizer steps of the run, needed if the schedule is given in shares of the run.
        steps_per_epoch: Optimizer steps of an epoch, needed if the schedule is given in epochs.
        seed: Seed of random growth.
        skip_step_on_update: Whether an update replaces the optimizer step, as in RigL (Evci et al., 2020): all
            gradients are set to None.
        initial_counts: Connections of each layer at the start of the run, if the layers have those of a later time: the
            entry ``initial`` of the state that is loaded next. Present ones by default.

    Raises:
        SettingError: If the rule cannot update a layer, no update fits into the run, or the optimizer is LBFGS.
    """

    def __init__(
        self,
        layers: Mapping[str, SparseLayer],
        rule: Rule,
        schedule: Schedule,
        optimizer: Optimizer,
        total_steps: float = math.inf,
        steps_per_epoch: float = math.inf,
        seed: int = 42,
        skip_step_on_update: bool = True,
        initial_counts: Mapping[str, int] | None = None,
    ) -> None:
        if isinstance(optimizer, LBFGS):
            raise SettingError(
                "LBFGS keeps one history for all parameters, which cannot move with the connections: use Adam, AdamW, "
                "SGD or Adafactor"
            )
        self.layers = {name: at_group_grain(layer) for name, layer in layers.items()}
        self.rule = copy.deepcopy(rule)  # what a rule remembers belongs to one optimizer and one fit
        self.schedule = schedule
        self.optimizer = optimizer
        self.window: Window = schedule.window(total_steps, steps_per_epoch)
        self.skip_step_on_update = skip_step_on_update
        self.step = 0
        """Number of the next optimizer step, from 0."""
        self.generator = torch.Generator().manual_seed(seed)
        self._initial_counts = check_layers(layers, self.rule, initial_counts)
        self._is_owed = False  # whether the last update is due again, because its step was skipped
        self._prepared: dict[str, SparseLayer] = {}  # layers that record a gradient or are updated in the next step
        self.prepare_step()
        keep_masks(optimizer, self.layers.values())

    @property
    def is_due(self) -> bool:
        """Whether the next step is an update."""
        return self._is_owed or self.window.is_update(self.step)

    def prepare_step(self) -> None:
        """Let the layers record the dense gradient if the next step needs it; called after every step."""
        for layer in self.layers.values():
            layer.attach()
        for layer in self._prepared.values():
            self._record(layer, False)
        records = self.records_gradient()
        self._prepared = self._find_own_layers() if records or self.is_due else {}
        for name, layer in self._prepared.items():
            self._record(layer, records)
            layer.n_candidates = self.rule.count_candidates(view_sizes(name, layer, self._initial_counts[name]))

    def _record(self, layer: SparseLayer, records: bool) -> None:
        """Let a layer keep what the rule reads, or no longer."""
        layer.record_dense_gradient = records
        if self.rule.needs_activity:
            layer.record_activity(records)

    def records_gradient(self) -> bool:
        """Return whether the next step needs the dense gradient."""
        return self.is_due and self.rule.needs_gradient

    def before_step(self) -> dict[str, Change]:
        """Update the topology if an update is due, and mask recorded gradients otherwise.

        Returns:
            Changes by layer name; empty if there was no update.

        Raises:
            SettingError: If the update would leave a layer without connections.
        """
        changes: dict[str, Change] = {}
        if self.is_due:
            layers = self._find_ready_layers()
            ready = bool(layers) and are_gradients_finite(self.optimizer)
            self._is_owed = not ready and self.step >= self.window.last
            if ready:
                changes = self.update_layers(layers)
        if changes and self.skip_step_on_update:
            self.optimizer.zero_grad(set_to_none=True)  # optimizers skip parameters without gradient
        else:
            for layer in self._prepared.values():  # their gradient is dense, or masked by the previous connections
                layer.mask_gradient()
        self.step += 1
        self.prepare_step()
        return changes

    def describe_update(self) -> Update:
        """Describe the update that the next step would be."""
        step = min(self.step, self.window.last)
        n_left = (self.window.last - step) // self.window.period
        return Update(self.schedule.fraction(step, self.window), self.window.progress(step), self.step, n_left)

    def _find_ready_layers(self) -> dict[str, SparseLayer]:
        """Return the layers that can be updated in this step: a layer without part in the loss has no gradient."""
        return {
            name: layer
            for name, layer in self._prepared.items()
            if layer.parameter.grad is not None or not self.rule.needs_gradient
        }

    def update_layers(self, layers: Mapping[str, SparseLayer]) -> dict[str, Change]:
        """Update layers, see :func:`psn_lightning.dynamics.update_network`.

        Args:
            layers: Layers to update by name.
        """
        settings = (self.rule, self.describe_update(), self.optimizer, self.generator)
        return update_network(layers, *settings, self._initial_counts, self.find_gradient)

    def find_gradient(self, name: str, layer: SparseLayer) -> Callable[[slice], Tensor] | None:
        """Return the gradient for growth scores, as a function from a block of neurons to ``(neurons, n_in)``.

        Args:
            name: Name of the layer.
            layer: Layer to update.

        Returns:
            Function; None for the gradient that the layer has recorded.
        """
        return None

    def _find_own_layers(self) -> dict[str, SparseLayer]:
        """Return the trainable layers whose parameters the optimizer holds; param groups may be added during a run."""
        held = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        return {
            name: layer
            for name, layer in self.layers.items()
            if id(layer.parameter) in held and layer.parameter.requires_grad
        }

    def stop(self) -> None:
        """Stop recording gradients, so that the layers can be trained without this object."""
        for layer in self.layers.values():
            self._record(layer, False)

    def state_dict(self) -> dict[str, Any]:
        """State of the updater and of its rule: step, random generator, initial counts; without model and optimizer."""
        return {
            "step": self.step,
            "generator": self.generator.get_state(),
            "initial": dict(self._initial_counts),
            "owed": self._is_owed,
            "rule": self.rule.state_dict(),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the state of the updater; load the states of model and optimizer before it.

        Args:
            state_dict: State from :meth:`state_dict`.
        """
        self.step = state_dict["step"]
        self.generator.set_state(state_dict["generator"])
        self._initial_counts = dict(state_dict["initial"])
        self._is_owed = state_dict["owed"]
        self.rule.load_state_dict(state_dict["rule"])
        self.prepare_step()
