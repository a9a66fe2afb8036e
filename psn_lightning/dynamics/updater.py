"""Dynamic sparse training in any loop: a rule on a schedule, between the backward pass and the optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from psn_lightning.dynamics.engine import Change, update_layer
from psn_lightning.dynamics.rules import LayerState, Rule
from psn_lightning.dynamics.schedules import Schedule, Window
from psn_lightning.errors import SettingError
from psn_lightning.nn.layer import SparseLayer


class TopologyUpdater:
    """Lets a rule rewrite the connections of sparse layers, in step with one optimizer.

    Call :meth:`before_step` between ``loss.backward()`` (with AMP: ``scaler.unscale_(optimizer)``) and
    ``optimizer.step()``, before gradients are clipped. Steps are counted by these calls. Where a gradient is not
    finite (AMP skips the step) the topology stays as well; the last update of a run is then made in a later step.

    Several processes must use the same seed, and the same gradients (DDP's); they then compute the same connections.

    Args:
        layers: The layers, as :func:`psn_lightning.sparse_layers` returns them. Those whose weight the optimizer does
            not hold are left alone.
        rule: How connections are scored.
        schedule: When, and how many.
        optimizer: Its moments move with the weights.
        total_steps: Optimizer steps of the whole run, for schedules in shares of it.
        steps_per_epoch: Optimizer steps of an epoch, for schedules in epochs.
        seed: Seed of random growth.
        skip_step_on_update: Whether an update takes the place of the optimizer step, as in RigL's original: the
            gradients are set to None.

    Raises:
        SettingError: If the rule cannot work on a layer, the schedule has no update, or the optimizer is LBFGS, whose
            history belongs to no single parameter.
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
    ) -> None:
        if isinstance(optimizer, LBFGS):
            raise SettingError("LBFGS keeps one history for all parameters, which cannot move with the connections")
        self.layers = dict(layers)
        self.rule = rule
        self.schedule = schedule
        self.optimizer = optimizer
        self.window: Window = schedule.window(total_steps, steps_per_epoch)
        self.skip_step_on_update = skip_step_on_update
        self.step = 0
        """Number of the optimizer step that comes next."""
        self.generator = torch.Generator().manual_seed(seed)
        self._initial = check_layers(layers, rule)
        self._owed = False  # the last update fell on a step that was skipped
        self._prepared: dict[str, SparseLayer] = {}  # of the coming step, if that does anything
        self.prepare_step()
        if isinstance(optimizer, torch.optim.Muon):  # its steps are dense whatever the gradient is
            optimizer.register_step_post_hook(self._apply_masks)

    def _apply_masks(self, *_: Any) -> None:
        for layer in self.layers.values():
            layer.apply_mask()

    @property
    def is_due(self) -> bool:
        """Whether the coming step is an update."""
        return self._owed or self.window.is_update(self.step)

    def prepare_step(self) -> None:
        """Have the coming backward passes record what the step needs; called by itself after every step."""
        for layer in self.layers.values():
            layer.attach()
        for layer in self._prepared.values():
            layer.record_dense_gradient = False
        records = self.records_gradient()
        self._prepared = self._own_layers() if records or self.is_due else {}
        for layer in self._prepared.values():
            layer.record_dense_gradient = records

    def records_gradient(self) -> bool:
        """Whether the coming step needs the dense gradient."""
        return self.is_due and self.rule.needs_gradient

    def before_step(self) -> dict[str, Change]:
        """Update the topology if it is due.

        Returns:
            What changed in each layer; empty without an update.

        Raises:
            SettingError: If a layer would be left without connections.
        """
        changes: dict[str, Change] = {}
        if self.is_due:
            layers = self._ready_layers()
            ready = bool(layers) and self._gradients_are_finite()
            self._owed = not ready and self.step >= self.window.last
            if ready:
                changes = self._update(layers)
        if changes and self.skip_step_on_update:
            self.optimizer.zero_grad(set_to_none=True)  # an optimizer passes over parameters without gradient
        else:
            for layer in self._prepared.values():  # the gradient was recorded dense, or masked as the layer was before
                layer.mask_gradient()
        self.step += 1
        self.prepare_step()
        return changes

    @property
    def fraction(self) -> float:
        """Share of the connections that an update at the present step changes."""
        return self.schedule.fraction(min(self.step, self.window.last), self.window)

    def _ready_layers(self) -> dict[str, SparseLayer]:
        """The layers of this step that the rule can work on; one that took no part in the loss has no gradient."""
        return {
            name: layer
            for name, layer in self._prepared.items()
            if layer.parameter.grad is not None or not self.rule.needs_gradient
        }

    def _update(self, layers: Mapping[str, SparseLayer]) -> dict[str, Change]:
        fraction = self.fraction
        self.rule.prepare({name: layer.active_values() for name, layer in layers.items()}, fraction)
        return {name: self.update_layer(name, layer, fraction) for name, layer in layers.items()}

    def update_layer(self, name: str, layer: SparseLayer, fraction: float) -> Change:
        """Update one layer; see :func:`psn_lightning.dynamics.update_layer`."""
        n_initial, gradient = self._initial[name], self.growth_gradient(name, layer)
        return update_layer(layer, self.rule, fraction, self.optimizer, self.generator, name, n_initial, gradient)

    def growth_gradient(self, name: str, layer: SparseLayer) -> Callable[[slice], Tensor]:
        """What growth looks at, by block of neurons: here the gradient of the update's own step."""
        return layer.dense_gradient

    def _own_layers(self) -> dict[str, SparseLayer]:
        """The layers whose weights the optimizer holds; it may be given further ones during the run."""
        held = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        return {
            name: layer
            for name, layer in self.layers.items()
            if id(layer.parameter) in held and layer.parameter.requires_grad
        }

    def _gradients_are_finite(self) -> bool:
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"] if p.grad is not None]
        return all(bool(torch.isfinite(gradient).all()) for gradient in gradients)

    def stop(self) -> None:
        """Have no further gradient recorded; the layers can be trained on without this object."""
        for layer in self.layers.values():
            layer.record_dense_gradient = False

    def state_dict(self) -> dict[str, Any]:
        """Everything that the coming updates depend on; connections and moments are the model's and the optimizer's."""
        return {
            "step": self.step,
            "generator": self.generator.get_state(),
            "initial": dict(self._initial),
            "owed": self._owed,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the checkpoint stopped; load model and optimizer as well."""
        self.step = state_dict["step"]
        self.generator.set_state(state_dict["generator"])
        self._initial = dict(state_dict["initial"])
        self._owed = state_dict["owed"]
        self.prepare_step()


def check_layers(layers: Mapping[str, SparseLayer], rule: Rule) -> dict[str, int]:
    """Refuse layers that a rule cannot work on; returns the connections of each.

    Raises:
        SettingError: With the layer's name.
    """
    counts = {name: len(layer.active_positions()) for name, layer in layers.items()}
    for name, layer in layers.items():
        rule.check(LayerState(name, layer.n_out, layer.n_in, counts[name], counts[name]))
    return counts
